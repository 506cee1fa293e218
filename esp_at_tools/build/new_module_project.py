"""A new module as files of an esp-at checkout, in its own layout, ready for build.py."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.build.at_defaults import with_known_defaults
from esp_at_tools.build.flash_settings import flash_of, table_offset
from esp_at_tools.build.new_module import Base, Decision, Wanted, checked_name, decide
from esp_at_tools.build.new_module_files import NewFiles, is_written, read_table_file, table_csv, with_row
from esp_at_tools.build.new_module_ota import HEADER, SOURCE, with_entry
from esp_at_tools.build.new_module_sdkconfig import edited, options_of
from esp_at_tools.build.tree import MODULES, RAW_DATA, SourceTree, open_tree, read_layers
from esp_at_tools.catalog.chips import chips
from esp_at_tools.catalog.factory_params import DATA_FILE, ModuleRow
from esp_at_tools.catalog.features import OFF, ON, Feature
from esp_at_tools.catalog.modules import features
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.files import is_temporary, read_file
from esp_at_tools.formats.partition_table import AT_CUSTOMIZE
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.numbers import format_size
from esp_at_tools.settings.names import FACTORY_PARAM

TABLE = RAW_DATA / FACTORY_PARAM / DATA_FILE
DEFAULTS = ("sdkconfig.defaults", "sdkconfig_silence.defaults")
PRIMARY, SECONDARY = "partitions_at.csv", "at_customize.csv"
_PATHS = {
    "PARTITION_TABLE_CUSTOM_FILENAME": PRIMARY,
    "PARTITION_TABLE_FILENAME": PRIMARY,
    "AT_CUSTOMIZED_PARTITION_TABLE_FILE": SECONDARY,
}
_MAX_FILE = 16 << 20
_MAX_FILES = 1000
_CONFIG = re.compile(r"^\s*(?:menu)?config\s+(\w+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class _Parent:
    """The module of the checkout that a new one is made from."""

    tree: SourceTree
    row: ModuleRow
    folder: Path
    config: Sdkconfig
    paths: Mapping[str, str]


def new_in_project(like: str, wanted: Wanted, checkout: Path) -> tuple[Decision, NewFiles]:
    """Return what a new module comes to, and the files that add it to a checkout of esp-at.

    Args:
        like: the module of that checkout that it is made from.
        wanted: what is asked for.
        checkout: the top folder of the checkout.

    Raises:
        InputError: see :func:`esp_at_tools.build.new_module.decide`; the name exists already for any chip,
            since a module's folder does not tell the chip.
        FormatError: a file of the checkout is wrong.
    """
    tree = open_tree(checkout)
    parent = _parent(tree, like)
    base = _base(parent)
    name = checked_name(wanted.name, base.chip)
    if name != name.upper():
        raise InputError(
            f"{name}: has small letters, and esp-at's build.py looks for modules in capitals",
            f"call it {name.upper()}",
        )
    twin = next((row for row in tree.modules() if row.module_name.casefold() == name.casefold()), None)
    if twin is not None:
        raise InputError(
            f"{twin.full_name} exists already in {checkout}",
            "give another name, one that no chip has: a module's folder does not tell the chip",
        )
    folder = MODULES / f"module_{name.lower()}"
    if name.lower() in {f"{each.name}_default" for each in chips()}:
        raise InputError(f"{checkout / folder}: exists already, for a whole chip", "give another name")
    decision = decide(base, wanted)
    changes = _option_changes(parent, base, decision, folder)
    _check_options(parent, changes, decision)
    made = _files(parent, base, decision, folder, changes)
    _check_folder(checkout, folder, made)
    return decision, made


def _check_folder(checkout: Path, folder: Path, made: NewFiles) -> None:
    """Refuse a folder that is there already, unless all in it is what a killed run has left of this one."""
    home = checkout / folder
    if os.path.lexists(home) and not home.is_dir():
        raise InputError(f"{home}: exists already", "give the module another name")
    for name in _copied(home) if home.is_dir() else ():
        path = (folder / name).as_posix()
        if path not in made.new or not is_written(checkout / path, made.new[path]):
            raise InputError(f"{home}: exists already", "give the module another name")


# --- what is there ------------------------------------------------------------------------------------


def _parent(tree: SourceTree, like: str) -> _Parent:
    row = tree.module(like)
    layers = [config for _, config in read_layers(tree.defaults(row, silence=False))]
    options = [option for feature in features().values() for option in _deciding(feature)]
    config = with_known_defaults(layers, row.chip, options)
    folder = tree.module_folder(row)
    paths = {}
    for option, file in _PATHS.items():
        if not (path := config.string(option)):
            raise FormatError(f"{folder / DEFAULTS[0]}: CONFIG_{option} is missing", f"it names the {file}")
        paths[file] = path
    return _Parent(tree, row, folder, config, paths)


def _deciding(feature: Feature) -> Iterator[str]:
    """Yield the options that tell whether a feature is in the firmware."""
    yield from filter(None, (feature.option, *feature.suboptions))


def _base(parent: _Parent) -> Base:
    config, row, tree = parent.config, parent.row, parent.tree
    name = str(parent.folder / DEFAULTS[0])
    offset = table_offset(config, name)
    primary = tree.primary_table(
        parent.paths[PRIMARY], offset=offset, md5=config.is_on("PARTITION_TABLE_MD5")
    )
    home = primary.find(AT_CUSTOMIZE)
    if home is None:
        raise FormatError(f"{parent.paths[PRIMARY]}: has no partition {AT_CUSTOMIZE}", "add it")
    known = {name: each for name, each in features().items() if each.exists_on(row.chip.name)}
    return Base(
        full_name=row.full_name,
        chip=row.chip,
        description=row.description,
        parameters=row.parameters,
        types=tree.types(),
        features=known,
        states={name: _state(each, config, row.chip.name) for name, each in known.items()},
        flash_size=flash_of(config, row.chip, name).size,
        table_offset=offset,
        primary=primary,
        secondary=tree.secondary_table(parent.paths[SECONDARY], offset=home.offset),
    )


def _state(feature: Feature, config: Sdkconfig, chip: str) -> str:
    """Return the state in which an sdkconfig has a feature: the one most of whose options it sets."""
    if feature.option and config.get(feature.option) is not None and set(feature.states) <= {ON, OFF}:
        return ON if config.is_on(feature.option) else OFF
    best = ""
    for state in feature.states:
        options = feature.options(state, chip)
        same = all(
            config.get(name) == value or (value == "n" and config.get(name) is None)
            for name, value in options.items()
        )
        if same and options and len(options) > len(feature.options(best, chip)):
            best = state
    return best or feature.default_on(chip)


# --- what becomes of it -------------------------------------------------------------------------------


def _option_changes(parent: _Parent, base: Base, decision: Decision, folder: Path) -> dict[str, str | None]:
    changes: dict[str, str | None] = {
        option: f'"{(folder / file).as_posix()}"' for option, file in _PATHS.items()
    }
    if decision.flash_size != base.flash_size:
        size = f"{decision.flash_size >> 20}MB"
        stated = [name for name in parent.config.options if name.startswith("ESPTOOLPY_FLASHSIZE_")]
        changes |= dict.fromkeys(stated)
        changes[f"ESPTOOLPY_FLASHSIZE_{size}"] = "y"
        stated_text = (parent.folder / DEFAULTS[0]).read_text("utf-8", "replace")
        if "CONFIG_ESPTOOLPY_FLASHSIZE=" in stated_text:
            changes["ESPTOOLPY_FLASHSIZE"] = f'"{size}"'
    changes |= options_of(base.features, decision.features, base.chip.name)
    changes |= decision.options
    return changes


def _check_options(parent: _Parent, changes: Mapping[str, str | None], decision: Decision) -> None:
    """Refuse options of ESP-AT that this version does not have."""
    path = parent.tree.folder / "main" / "Kconfig"
    if not path.is_file():
        return
    known = set(_CONFIG.findall(read_file(path, "Kconfig", _MAX_FILE).decode("utf-8", "replace")))
    for name, value in changes.items():
        if value is None or not name.startswith("AT_") or name.startswith("AT_CUSTOMIZED_") or name in known:
            continue
        of = [each for each, state in decision.features.items() if state]
        raise InputError(
            f"{path}: this version of esp-at has no CONFIG_{name}",
            f"leave out --set CONFIG_{name}"
            if name in decision.options
            else f"leave out one of {', '.join(of)}",
        )


def _files(
    parent: _Parent, base: Base, decision: Decision, folder: Path, changes: Mapping[str, str | None]
) -> NewFiles:
    tree = parent.tree
    new = {(folder / path).as_posix(): content for path, content in _copied(parent.folder).items()}
    heading = f"{decision.name}: what differs from {base.name}"
    for name in DEFAULTS:
        path = (folder / name).as_posix()
        if path in new:
            text = _text(new[path], parent.folder / name)
            new[path] = edited(text, changes, heading).encode()
    tables = {change.table for change in decision.plan.changes} if decision.plan else set()
    for role, file in (("primary", PRIMARY), ("secondary", SECONDARY)):
        path = (folder / file).as_posix()
        if decision.plan and role in tables:
            table = decision.plan.primary if role == "primary" else decision.plan.secondary
            what = format_size(decision.flash_size) if role == "primary" else "inside at_customize"
            new[path] = table_csv(table, f"{what}, {decision.name}")
        else:
            new[path] = read_file(tree.folder / parent.paths[file], "partition table", _MAX_FILE)
    changed, notes, warnings = _ota(tree, base, decision)
    row = {
        "platform": decision.platform,
        "module_name": decision.name,
        "description": decision.description,
        **{k: v for k, v in base.parameters.items() if k not in ("platform", "module_name", "description")},
        **decision.parameters,
    }
    # The row comes last: it is what makes the module known.
    table_path = tree.folder / TABLE
    changed[TABLE.as_posix()] = with_row(read_table_file(table_path), table_path, row)
    return NewFiles(tree.folder, new, changed, notes, warnings)


def _copied(folder: Path) -> dict[str, bytes]:
    """Return the files of a module's folder, those in folders below it included."""
    found: dict[str, bytes] = {}
    for home, inner, names in os.walk(folder):
        inner.sort()
        for name in sorted(names):
            path = Path(home, name)
            if is_temporary(name):
                continue
            if not path.is_file():
                raise InputError(f"{path}: is no regular file", "remove it")
            if len(found) == _MAX_FILES:
                raise InputError(
                    f"{folder}: holds more than {_MAX_FILES} files", "remove what is not its own"
                )
            found[path.relative_to(folder).as_posix()] = read_file(path, "file of a module", _MAX_FILE)
    return found


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8 at byte {error.start}", "save it as UTF-8") from error


def _ota(
    tree: SourceTree, base: Base, decision: Decision
) -> tuple[dict[str, bytes], tuple[str, ...], tuple[str, ...]]:
    """Return the sources with the module's OTA entry, and what is to be said about it."""
    ota = {**base.states, **decision.features}.get("ota", OFF) != OFF
    paths = tree.folder / SOURCE, tree.folder / HEADER
    if not paths[0].is_file() or (ota and not paths[1].is_file()):
        missing = next(path for path in paths if not path.is_file())
        return {}, (), (f"{missing}: no such file, so the module has no OTA token of its own",)
    source = _text(read_file(paths[0], "source", _MAX_FILE), paths[0])
    header = _text(read_file(paths[1], "source", _MAX_FILE), paths[1]) if paths[1].is_file() else ""
    found = with_entry(source, header, module=decision.name, chip=base.chip.name, ota=ota)
    if found is None:
        message = f"{SOURCE} has no list of modules for {base.chip.title}: add {decision.name} to it by hand"
        return {}, (), (message,)
    pairs = ((HEADER, header, found.header), (SOURCE, source, found.source))
    changed = {name: new.encode() for name, old, new in pairs if new != old}
    token = "the default OTA token" if ota else "no OTA token, since OTA is off"
    return changed, (f"{SOURCE} lists {decision.name} with {token}",), ()

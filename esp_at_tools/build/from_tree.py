"""A build's configuration from an esp-at source tree, without a compiler, cmake or an installed ESP-IDF."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from esp_at_tools.build.at_defaults import with_known_defaults
from esp_at_tools.build.flash_settings import check_tables, check_target, flash_of, table_offset
from esp_at_tools.build.from_definitions import mfg_nvs_size, read_sdkconfig, writable
from esp_at_tools.build.fs_options import FILE_SYSTEMS
from esp_at_tools.build.mfg_nvs import Contents, item_keys, mfg_nvs
from esp_at_tools.build.options import Options
from esp_at_tools.build.recipe import Recipe, UserPartition
from esp_at_tools.build.tree import RAW_DATA, SourceTree
from esp_at_tools.catalog.factory_params import ModuleRow
from esp_at_tools.errors import InputError
from esp_at_tools.formats.partition_table import AT_CUSTOMIZE, PartitionTable
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.names import BLE_DATA

FROM_DEFAULTS = (
    "the sdkconfig is not resolved: it is taken from the defaults of the module and the known defaults of the"
    " AT options; --sdkconfig FILE or --idf DIR gives the whole one"
)
NO_APP = "no application is in it: the tree has to be compiled for one"


@dataclass(frozen=True)
class _Decided:
    """The sdkconfig of a build.

    Attributes:
        config: its options.
        name: what messages call it.
        resolved: its text where it is a resolved one.
        defaults: the text of its defaults otherwise.
        notes: where it comes from.
        warnings: what was questionable about it.
    """

    config: Sdkconfig
    name: str
    resolved: str = ""
    defaults: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def recipe_from_tree(tree: SourceTree | Path, name: str, options: Options) -> Recipe:
    """Return the configuration of a module of a source tree.

    Its sdkconfig is the one that ``options`` gives, else the one that the Kconfig files of the tree and of
    an ESP-IDF resolve to, else what its defaults and the known defaults of the AT options come to.

    Args:
        tree: the tree, or its folder; then the external module configuration is the ``module_folder`` of the
            options, or what ``AT_EXT_MODULE_CFG`` in the environment names, as for build.py.
        name: as for :meth:`esp_at_tools.build.tree.SourceTree.module`.
        options: ``silence``, ``sdkconfig``, ``idf``, ``module_folder`` and the size of ``mfg_nvs`` count.

    Raises:
        InputError: there is no such tree or module, a file is missing, what the sdkconfig says does not
            agree with the tables, or ``mfg_nvs`` is too small.
        FormatError: a file of the tree is wrong; the message names it and the line.
    """
    if isinstance(tree, Path):
        from esp_at_tools.build.tree_kconfig import open_extended

        tree = open_extended(tree, options.module_folder, os.environ)
    row = tree.module(name)
    decided = _decided(tree, row, options)
    config = decided.config
    check_target(config, row.chip, decided.name)
    primary, secondary, offset = _tables(tree, decided)
    namespaces = [each.name for each in tree.dependencies() if each.holds(config)]
    file_systems = [name for name in FILE_SYSTEMS if name in namespaces]
    _check_file_systems(file_systems, secondary, decided.name)
    contents = _contents(tree, row, namespaces)
    size = options.partition_sizes.get(MFG_NVS, 0)
    if not writable(size):  # which the plan of the partitions refuses, if asked
        size = mfg_nvs_size(secondary, row.full_name)
    partitions = {MFG_NVS: mfg_nvs(contents, size)}
    if options.fs_image is None:
        partitions |= _file_systems(tree, config, secondary, file_systems)
    return Recipe(
        platform=row.platform,
        module=row.module_name.upper(),
        description=row.description,
        silence=options.silence,
        chip=row.chip,
        flash=flash_of(config, row.chip, decided.name),
        table_offset=offset,
        primary=primary,
        secondary=secondary,
        partitions=partitions,
        sdkconfig=decided.resolved,
        sdkconfig_defaults=decided.defaults,
        notes=(*decided.notes, *_pki_note(contents, options), NO_APP),
        warnings=decided.warnings,
    )


def _decided(tree: SourceTree, row: ModuleRow, options: Options) -> _Decided:
    if options.sdkconfig is not None:
        text, config = read_sdkconfig(options)
        return _Decided(config, str(options.sdkconfig), resolved=text)
    from esp_at_tools.build.tree_kconfig import find_idf, module_kconfig
    from esp_at_tools.kconfig.overlay import overlay_path

    overlay = overlay_path(tree.folder, row.chip.name, row.module_name)
    idf = find_idf(tree, options.idf, os.environ)
    if idf is None:
        decided = _from_defaults(tree, row, tree.defaults(row, silence=options.silence), overlay)
    else:
        found = module_kconfig(tree, row, idf, silence=options.silence, environment=os.environ)
        resolved = found.resolved()
        decided = _Decided(
            resolved.config,
            "the resolved sdkconfig",
            resolved=resolved.text,
            warnings=(*found.warnings, *resolved.warnings),
        )
    if not overlay.exists():
        return decided
    return replace(decided, notes=(*decided.notes, f"with the options of {overlay.relative_to(tree.folder)}"))


def _from_defaults(tree: SourceTree, row: ModuleRow, paths: tuple[Path, ...], overlay: Path) -> _Decided:
    from esp_at_tools.kconfig.resolve import read_defaults, with_overlay

    layers = read_defaults(with_overlay(paths, overlay), row.chip.name)
    configs = [Sdkconfig.from_text(text, name) for name, text in layers]
    dependencies = {each.option for each in tree.dependencies()}
    config = with_known_defaults(configs, row.chip, sorted(dependencies))
    defaults = "\n".join(text for _, text in layers)
    return _Decided(config, layers[-1][0], defaults=defaults, notes=(FROM_DEFAULTS,))


def _tables(tree: SourceTree, decided: _Decided) -> tuple[PartitionTable, PartitionTable, int]:
    config, name = decided.config, decided.name
    offset = table_offset(config, name)
    path = config.string("PARTITION_TABLE_CUSTOM_FILENAME") or config.string("PARTITION_TABLE_FILENAME")
    if not path:
        raise InputError(
            f"{name}: CONFIG_PARTITION_TABLE_CUSTOM_FILENAME is missing",
            "it names the CSV of the primary partition table",
        )
    primary = tree.primary_table(path, offset=offset, md5=config.is_on("PARTITION_TABLE_MD5"))
    check_tables(config, primary, name)
    home = primary.find(AT_CUSTOMIZE)
    if home is None:
        raise InputError(
            f"{path}: has no partition {AT_CUSTOMIZE}",
            "AT firmware finds its settings through that partition: type 0x40, sub-type 0",
        )
    path = config.string("AT_CUSTOMIZED_PARTITION_TABLE_FILE")
    if not path:
        raise InputError(
            f"{name}: CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_FILE is missing",
            "it names the CSV of the secondary partition table",
        )
    return primary, tree.secondary_table(path, offset=home.offset), offset


def _check_file_systems(names: list[str], secondary: PartitionTable, config: str) -> None:
    """Refuse a firmware that looks for a file system of which the secondary table knows nothing."""
    for name in names:
        if secondary.find(name) is None:
            raise InputError(
                f"{config}: the file system is on (CONFIG_AT_FS_COMMAND_SUPPORT), and the secondary partition"
                f" table has no {name}",
                f"add {name} to at_customize.csv, or switch the option off",
            )


def _file_systems(
    tree: SourceTree, config: Sdkconfig, secondary: PartitionTable, names: list[str]
) -> dict[str, UserPartition]:
    """Return the file system with the files of the tree, as esp-at's own build fills it."""
    if tree.fs_image is None or not names:
        return {}
    from esp_at_tools.build.file_system import file_system_image

    found = {}
    for name in names:
        place = secondary.find(name)
        if place is not None:
            data = file_system_image(tree.fs_image, place.size, config.options, partition=name)
            found[name] = UserPartition(data)
    return found


def _pki_note(contents: Contents, options: Options) -> list[str]:
    """Say how many certificates and keys are in it that nobody asked for: those of the tree."""
    names = {key for name, files in contents.pki.items() for key in item_keys(name, len(files))}
    count = len(names - {*options.request.pki, *options.request.unset})
    if count:
        return [f"{count} certificates and keys are those of the tree: {RAW_DATA.as_posix()}"]
    return [] if options.request.pki else ["no certificates or keys are in it"]


def _contents(tree: SourceTree, row: ModuleRow, namespaces: list[str]) -> Contents:
    """Return what goes into ``mfg_nvs``, in the official order: certificates and keys as they are listed."""
    pki = {name: tree.pki(name) for name in dict.fromkeys(namespaces)}
    gatts = tree.gatt_rows() if BLE_DATA in namespaces else ()
    return Contents(pki, row.parameters, tree.types(), gatts)

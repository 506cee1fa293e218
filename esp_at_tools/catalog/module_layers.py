"""Puts the layers of a module together: which value holds, and which layer says so."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from esp_at_tools.catalog.chips import Chip
from esp_at_tools.catalog.factory_params import ModuleRow
from esp_at_tools.catalog.features import OFF, ON, Feature
from esp_at_tools.catalog.module_folder import BASE, Definitions
from esp_at_tools.catalog.module_model import KCONFIG, FeatureState, Flash, Module, Option
from esp_at_tools.catalog.module_yaml import Layer, Problem, Report, Statements, raise_errors, unknown_hint
from esp_at_tools.catalog.overlay import Overlay
from esp_at_tools.catalog.releases import releases_of
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.files import read_file
from esp_at_tools.formats.partition_table import AT_CUSTOMIZE, DEFAULT_OFFSET, PartitionTable
from esp_at_tools.numbers import parse_number

SILENCE = "silence"
"""The highest layer, and the feature that it switches on."""
MD5_OPTION = "PARTITION_TABLE_MD5"
_SIZES = ("1MB", "2MB", "4MB", "8MB", "16MB", "32MB")
_MAX_CSV = 1 << 16

T = TypeVar("T")


@dataclass(frozen=True)
class Said:
    """One layer's statements, in their place among those of a module."""

    layer: str
    source: Layer | None
    statements: Statements


def layers_of(definitions: Definitions, row: ModuleRow, report: Report) -> tuple[Layer, ...]:
    """Return the layers of a module, the lowest first."""
    chip = row.chip.name
    found = list(definitions.files.get(BASE, ()))
    for key, prefix in ((chip, ""), (row.full_name.casefold(), f"{chip}/")):
        found += _chain(definitions, key, prefix, report, ())
    return tuple(found)


def _chain(
    definitions: Definitions, key: str, prefix: str, report: Report, above: tuple[str, ...]
) -> tuple[Layer, ...]:
    """Return the layers of a name, those that it is like below them."""
    own = definitions.files.get(key, ())
    layer = next((layer for layer in reversed(own) if layer.like), None)
    if layer is None:
        return own
    target = f"{prefix}{layer.like.rpartition('/')[2].casefold()}"
    known = [name for name in (*definitions.rows, *definitions.files) if _is_beside(name, key)]
    if target not in known:
        hint = unknown_hint(target, [*dict.fromkeys(known)], "names")
        report(Problem("error", _place(layer, "like"), f"like: {layer.like[:60]!r} is unknown", hint))
        return own
    if target in (*above, key):
        report(
            Problem("error", _place(layer, "like"), f"like: {layer.like!r} leads back here", "leave it out")
        )
        return own
    return _chain(definitions, target, prefix, report, (*above, key)) + own


def _is_beside(name: str, key: str) -> bool:
    return name != BASE and name.rpartition("/")[0] == key.rpartition("/")[0]


def _place(layer: Layer, key: str) -> str:
    return f"{layer.path}: line {layer.lines[key]}" if key in layer.lines else str(layer.path)


def check_names(definitions: Definitions, layer: Layer, chip: str, report: Report) -> None:
    """Report features that do not exist, not on that chip, or not in that state.

    Args:
        definitions: the files.
        layer: the layer that names the features.
        chip: the chip, ``""`` for any.
        report: is told of every problem.
    """
    for statements in (layer.normal, layer.silence):
        for name, state in statements.features.items():
            feature = definitions.features.get(name)
            if feature is None:
                message = f"{name[:60]!r} is not a feature"
                hint = unknown_hint(name, definitions.features, "features")
            elif chip and not feature.exists_on(chip):
                message = f"{name}: is not a feature of {chip}"
                hint = f"it is one of {', '.join(feature.chips)}"
            elif state is not None and state not in feature.state_names():
                message = f"{name}: {state[:60]!r} is not a state"
                hint = unknown_hint(state, feature.state_names(), "states")
            else:
                continue
            report(Problem("error", f"{layer.path}: line {statements.lines[name]}", message, hint))


def said_by(layers: tuple[Layer, ...], *, silence: bool) -> tuple[Said, ...]:
    """Return what the layers say about features and options, in order, silence last."""
    said = [Said(layer.name, layer, layer.normal) for layer in layers]
    if silence:
        said.append(Said(SILENCE, None, Statements(features={SILENCE: ON})))
        quiet = [layer for layer in layers if layer.silence.features or layer.silence.options]
        said += [Said(f"{layer.name} {SILENCE}", layer, layer.silence) for layer in quiet]
    return tuple(said)


def deciding(said: tuple[Said, ...]) -> dict[str, tuple[str | None, int]]:
    """Return the state of each feature that a layer decides, and the number of that layer."""
    return {
        name: (state, number)
        for number, each in enumerate(said)
        for name, state in each.statements.features.items()
    }


def options_in_order(
    definitions: Definitions, said: tuple[Said, ...], chip: str
) -> list[tuple[int, str, str, str | None]]:
    """Return every statement about an option that counts: number of the layer, feature, name, value.

    A feature's options stand in the layer that has the last word about the feature, before that
    layer's own options; what lower layers said about the same feature does not count.
    """
    words = deciding(said)
    found: list[tuple[int, str, str, str | None]] = []
    for number, each in enumerate(said):
        for name in each.statements.features:
            state, last = words[name]
            feature = definitions.features.get(name)
            if last == number and state is not None and feature is not None and feature.exists_on(chip):
                found += [(number, name, *item) for item in feature.options(state, chip).items()]
        found += [(number, "", *item) for item in each.statements.options.items()]
    return found


def resolve(
    definitions: Definitions,
    row: ModuleRow,
    *,
    silence: bool = False,
    report: Report = raise_errors,
    overlay: Overlay | None = None,
) -> Module:
    """Return what the layers of a module come to.

    Args:
        definitions: the files.
        row: the module.
        silence: the variant without log.
        report: is told of every problem. What cannot do without an answer raises all the same.
        overlay: changes that no file holds yet; the names in them have been checked.

    Raises:
        FormatError: something that is needed is missing or wrong.
    """
    layers = layers_of(definitions, row, report)
    for layer in layers:
        check_names(definitions, layer, row.chip.name, report)
    if overlay is not None:
        layers, row = (*layers, overlay.layer()), overlay.row(row)
    said = said_by(layers, silence=silence)
    values, sources = _values(layers)
    flash = _flash(row, values, sources)
    offset = _number(row, values.get("partitions.offset", hex(DEFAULT_OFFSET)), "partitions: offset")
    ordered = options_in_order(definitions, said, row.chip.name)
    said_options = _last_words(said, ordered)
    md5 = MD5_OPTION not in said_options or said_options[MD5_OPTION].value == "y"
    primary, secondary, home = _tables(definitions, row, values, overlay or Overlay(), offset=offset, md5=md5)
    options = {**_derived(row, flash, offset, home, sources), **said_options}
    features = _features(definitions, row.chip, said, options)
    on = [definitions.features[name] for name, state in features.items() if state.is_on]
    return Module(
        platform=row.platform,
        name=row.module_name,
        chip=row.chip,
        description=row.description,
        silence=silence,
        flash=flash,
        parameters=_fixed(row.parameters),
        parameter_types=_fixed(definitions.types),
        options=_fixed(options),
        partition_table_offset=offset,
        primary=primary,
        primary_name=values["partitions.primary"],
        secondary=secondary,
        secondary_name=values["partitions.secondary"],
        mfg_nvs=tuple(name for feature in on for name in _namespaces(feature, options)),
        features=_fixed(features),
        submodules=tuple(feature.submodule for feature in on if feature.submodule),
        releases=releases_of(row.platform, row.module_name),
        idf=_named(row, definitions.pins, values.get("idf", ""), "idf"),
        layers=tuple(each.layer for each in said),
        sources=_fixed(sources),
    )


def _tables(
    definitions: Definitions,
    row: ModuleRow,
    values: Mapping[str, str],
    planned: Overlay,
    *,
    offset: int,
    md5: bool,
) -> tuple[PartitionTable, PartitionTable, int]:
    """Return the primary and the secondary table, and the address of ``at_customize``."""
    primary = planned.primary or _table(definitions, row, values, "primary", offset=offset, md5=md5)
    home = primary.find(AT_CUSTOMIZE)
    if home is None:
        raise FormatError(
            f"{row.full_name}: {values['partitions.primary']} has no partition {AT_CUSTOMIZE}", "give it one"
        )
    secondary = planned.secondary or _table(
        definitions, row, values, "secondary", offset=home.offset, md5=True
    )
    return primary, secondary, home.offset


def _fixed(mapping: Mapping[str, T]) -> Mapping[str, T]:
    return MappingProxyType(dict(mapping))


def _values(layers: tuple[Layer, ...]) -> tuple[dict[str, str], dict[str, str]]:
    values: dict[str, str] = {}
    sources: dict[str, str] = {}
    for layer in layers:
        values |= layer.values
        sources |= dict.fromkeys(layer.values, layer.name)
    return values, sources


def _last_words(said: tuple[Said, ...], ordered: list[tuple[int, str, str, str | None]]) -> dict[str, Option]:
    options: dict[str, Option] = {}
    for number, feature, name, value in ordered:
        options.pop(name, None)  # so that it stands where its last word was said
        if value is not None:
            options[name] = Option(value, said[number].layer, feature)
    return options


def _named(row: ModuleRow, known: Mapping[str, T], name: str, what: str) -> T:
    if name in known:
        return known[name]
    if not name:
        raise FormatError(f"{row.full_name}: no layer says {what}", f"one of {', '.join(known)}")
    raise FormatError(
        f"{row.full_name}: {what}: {name[:60]!r} is unknown", unknown_hint(name, known, "names")
    )


def _number(row: ModuleRow, text: str, what: str) -> int:
    try:
        return parse_number(text, what)
    except InputError as error:
        raise FormatError(f"{row.full_name}: {error.message}", error.hint) from error


def _flash(row: ModuleRow, values: Mapping[str, str], sources: Mapping[str, str]) -> Flash:
    allowed = {"size": _SIZES, "mode": row.chip.flash_modes, "freq": row.chip.flash_freqs}
    for key, known in allowed.items():
        text = values.get(f"flash.{key}", "")
        if text not in known:
            what = f"flash: {key}: {text[:60]!r} is unknown" if text else f"no layer says flash: {key}"
            where = f" ({sources[f'flash.{key}']})" if text else ""
            raise FormatError(f"{row.full_name}: {what}{where}", unknown_hint(text, known, "values"))
    size = int(values["flash.size"].removesuffix("MB")) << 20
    return Flash(size, values["flash.mode"], values["flash.freq"])


def _table(
    definitions: Definitions, row: ModuleRow, values: Mapping[str, str], role: str, *, offset: int, md5: bool
) -> PartitionTable:
    path = _named(row, definitions.tables, values.get(f"partitions.{role}", ""), f"partitions: {role}")
    try:
        text = read_file(path, "partition table", _MAX_CSV).decode("utf-8-sig")
        return _parse_table(text, offset, role, md5)
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8 at byte {error.start}", "save it as UTF-8") from error
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", error.hint) from error


@functools.lru_cache(maxsize=64)
def _parse_table(text: str, offset: int, role: str, md5: bool) -> PartitionTable:
    return PartitionTable.from_csv(text, offset_part_table=offset, primary=role == "primary", md5=md5)


def _derived(
    row: ModuleRow, flash: Flash, offset: int, home: int, sources: Mapping[str, str]
) -> dict[str, Option]:
    """Return the options that follow from what is said elsewhere."""
    folder = f"module_config/module_{row.module_name.lower()}"
    primary = sources["partitions.primary"]
    return {
        f"IDF_TARGET_{row.chip.name.upper()}": Option("y", row.chip.name),
        f"ESPTOOLPY_FLASHMODE_{flash.mode.upper()}": Option("y", sources["flash.mode"]),
        f"ESPTOOLPY_FLASHFREQ_{flash.freq.upper()}": Option("y", sources["flash.freq"]),
        f"ESPTOOLPY_FLASHSIZE_{flash.size_name}": Option("y", sources["flash.size"]),
        "PARTITION_TABLE_OFFSET": Option(hex(offset), sources.get("partitions.offset", KCONFIG)),
        "PARTITION_TABLE_CUSTOM_FILENAME": Option(f'"{folder}/partitions_at.csv"', primary),
        "PARTITION_TABLE_FILENAME": Option(f'"{folder}/partitions_at.csv"', primary),
        "AT_CUSTOMIZED_PARTITION_TABLE_FILE": Option(
            f'"{folder}/at_customize.csv"', sources["partitions.secondary"]
        ),
        "AT_CUSTOMIZED_PARTITION_TABLE_OFFSET": Option(hex(home), primary),
    }


# --- features -----------------------------------------------------------------------------------------


def _features(
    definitions: Definitions, chip: Chip, said: tuple[Said, ...], options: Mapping[str, Option]
) -> dict[str, FeatureState]:
    words = deciding(said)
    states: dict[str, FeatureState] = {}
    for name, feature in definitions.features.items():
        if feature.exists_on(chip.name):
            word, number = words.get(name, (None, -1))
            layer = said[number].layer if word is not None else KCONFIG
            states[name] = _state(feature, chip, word, layer, options.get(feature.option))
    for name in states:
        states[name] = _with_requirements(definitions, states, name, ())
    return states


def _state(feature: Feature, chip: Chip, word: str | None, layer: str, option: Option | None) -> FeatureState:
    """Return the state of a feature by itself: its option has the last word, where it has one."""
    state = word if word is not None else feature.default_on(chip.name)
    if feature.option:
        default = feature.default_on(chip.name) != OFF
        is_on = option.value == "y" if option else default
        if is_on != (state != OFF):
            state = ON if is_on else OFF
            layer = option.layer if option else KCONFIG
        elif option and word is None:
            layer = option.layer
    return FeatureState(state, layer, "", feature.about)


def _with_requirements(
    definitions: Definitions, states: dict[str, FeatureState], name: str, above: tuple[str, ...]
) -> FeatureState:
    """Return the state of a feature, off where something that it requires is missing."""
    own = states[name]
    if not own.is_on or own.missing or name in above:
        return own
    for required in definitions.features[name].requires:
        other, _, wanted = required.partition("=")
        known = states.get(other)
        if known is not None:
            known = _with_requirements(definitions, states, other, (*above, name))
        if known is None or not known.is_on or (wanted and known.state != wanted):
            return FeatureState(OFF, own.layer, required, own.about)
    return own


def _namespaces(feature: Feature, options: Mapping[str, Option]) -> list[str]:
    """Return the namespaces of ``mfg_nvs`` that a feature which is on fills."""
    return [
        namespace
        for namespace, option in feature.mfg_nvs.items()
        if option == feature.option
        or (options[option].value if option in options else feature.suboptions.get(option)) == "y"
    ]

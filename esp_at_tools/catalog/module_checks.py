"""What can be wrong with module definitions, beyond what makes them unreadable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.catalog.at_options import unknown_at_option
from esp_at_tools.catalog.data import data_folder
from esp_at_tools.catalog.factory_params import DATA_FILE, ModuleRow
from esp_at_tools.catalog.features import OFF, Feature, missing_partitions
from esp_at_tools.catalog.module_folder import BASE, Definitions, load_definitions
from esp_at_tools.catalog.module_layers import (
    Said,
    check_names,
    layers_of,
    options_in_order,
    resolve,
    said_by,
)
from esp_at_tools.catalog.module_model import Module
from esp_at_tools.catalog.module_yaml import Layer, Problem, Report, nearest
from esp_at_tools.errors import InputError
from esp_at_tools.formats.partition_checks import check_secondary
from esp_at_tools.formats.partition_table import PartitionTable, TableProblem

_TYPING_ERROR = 0.93
"""How alike an unknown option is to a known one where it is probably a slip."""


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes:
        problems: in the order of the files and modules, none of them twice.
        rows: the modules that were checked.
    """

    problems: tuple[Problem, ...]
    rows: tuple[ModuleRow, ...]


def check_definitions(folder: Path | None = None) -> CheckResult:
    """Check every definition, those of a user's own folder included if one is given.

    Raises:
        InputError: the folder does not exist or holds no definitions.
    """
    found: dict[Problem, None] = {}

    def report(problem: Problem) -> None:
        found[problem] = None

    folders = (data_folder(),) if folder is None else (data_folder(), folder)
    definitions = load_definitions(folders, report)
    rows = tuple(definitions.rows.values())
    used = {layer.path for row in rows for layer in layers_of(definitions, row, lambda _: None)}
    for key, layers in definitions.files.items():
        for layer in layers:
            check_names(definitions, layer, key.partition("/")[0] if "/" in key else "", report)
            _check_options(definitions, layer, report)
            if layer.path not in used and key != BASE:
                hint = f"name it in {DATA_FILE}, or as 'like' in another"
                report(Problem("warning", str(layer.path), "no module uses this file", hint))
    for row in rows:
        _check_module(definitions, row, report)
    _check_repeats(definitions, rows, report)
    return CheckResult(tuple(found), rows)


def _check_options(definitions: Definitions, layer: Layer, report: Report) -> None:
    """Report options of a user's own folder that are probably misspelt.

    There is no list of all options, but one of those that are esp-at's own.
    """
    known = _known_options(definitions)
    if layer.path.is_relative_to(definitions.folders[0]):
        return
    for statements in (layer.normal, layer.silence):
        for name in statements.options:
            place = f"{layer.path}: line {statements.lines.get(name, 1)}"
            near = nearest(name, known, cutoff=_TYPING_ERROR) if name not in known else ""
            if name not in known and (unknown := unknown_at_option(name)):
                report(Problem("warning", place, *unknown))
            elif near and not name.startswith("AT_"):
                report(Problem("warning", place, f"{name} is not known here", f"did you mean {near}?"))


def _known_options(definitions: Definitions) -> set[str]:
    known: set[str] = set()
    for feature in definitions.features.values():
        known |= {feature.option, *feature.suboptions}
        for options in (
            *feature.states.values(),
            *(o for of in feature.states_of.values() for o in of.values()),
        ):
            known |= options.keys()
    for layers in definitions.files.values():
        for layer in layers:
            if layer.path.is_relative_to(definitions.folders[0]):
                known |= layer.normal.options.keys() | layer.silence.options.keys()
    return known - {""}


# --- one module -----------------------------------------------------------------------------------------


def _check_module(definitions: Definitions, row: ModuleRow, report: Report) -> None:
    for silence in (False, True):
        try:
            module = resolve(definitions, row, silence=silence, report=report)
        except InputError as error:
            report(
                Problem("error", row.full_name, error.message.removeprefix(f"{row.full_name}: "), error.hint)
            )
            continue
        for name, feature in definitions.features.items():
            if name in module.features:
                _check_feature(module, feature, report)
        if not silence:
            _check_tables(module, report)


def _check_feature(module: Module, feature: Feature, report: Report) -> None:
    state = module.features[feature.name]
    if state.missing and state.layer in module.layers:
        name, _, wanted = state.missing.partition("=")
        message = f"feature {feature.name} is asked for by {state.layer}, but {name} is not {wanted or 'on'}"
        report(Problem("warning", module.full_name, message, f"switch {feature.name} off, or {name} on"))
    for role, names in missing_partitions(feature, state.state, module.primary, module.secondary):
        message = f"feature {feature.name} needs a partition {' or '.join(names)} in the {role} table"
        file = module.primary_name if role == "primary" else module.secondary_name
        hint = f"add it to a table like {file}, or switch {feature.name} {OFF}"
        report(Problem("error", module.full_name, message, hint))


def _check_tables(module: Module, report: Report) -> None:
    where = f"{module.full_name}: table {module.primary_name}"
    offset, size = module.partition_table_offset, module.flash.size
    for problem in module.primary.validate(offset_part_table=offset, flash_size=size):
        report(Problem(problem.level, where, problem.message))
    where = f"{module.full_name}: table {module.secondary_name}"
    for problem in _secondary_problems(module.primary, module.secondary, size):
        report(Problem(problem.level, where, problem.message))


def _secondary_problems(
    primary: PartitionTable, secondary: PartitionTable, size: int
) -> Iterator[TableProblem]:
    yield from secondary.validate(offset_part_table=0, flash_size=size, primary=False)
    yield from check_secondary(primary, secondary)


# --- repetitions -------------------------------------------------------------------------------------------

_Key = tuple[Path, int, str]


def _check_repeats(definitions: Definitions, rows: tuple[ModuleRow, ...], report: Report) -> None:
    """Report what a layer says although, for every module that uses it, lower layers say the same."""
    repeats: dict[_Key, str] = {}
    needed: set[_Key] = set()
    for row in rows:
        layers = layers_of(definitions, row, lambda _: None)
        for silence in (False, True):
            said = said_by(layers, silence=silence)
            for key, lower in (
                *_repeated_options(definitions, row, said),
                *_repeated_features(said),
                *_repeated_values(layers),
            ):
                if lower:
                    repeats.setdefault(key, lower)
                else:
                    needed.add(key)
    for key, lower in repeats.items():
        if key not in needed:
            path, line, name = key
            message = f"{name} is repeated: {lower} says the same already"
            report(Problem("warning", f"{path}: line {line}", message, "leave it out: a fact stands once"))


def _repeated_options(
    definitions: Definitions, row: ModuleRow, said: tuple[Said, ...]
) -> Iterator[tuple[_Key, str]]:
    beneath: dict[str, tuple[str | None, str]] = {}
    for number, feature, name, value in options_in_order(definitions, said, row.chip.name):
        layer = said[number]
        lower, source = beneath.get(name, (None, "Kconfig"))
        if not feature and layer.source is not None:
            key = (layer.source.path, layer.statements.lines.get(name, 1), name)
            yield key, source if lower == value else ""
        beneath[name] = (value, f"{layer.layer}: {feature}" if feature else layer.layer)


def _repeated_features(said: tuple[Said, ...]) -> Iterator[tuple[_Key, str]]:
    beneath: dict[str, tuple[str | None, str]] = {}
    for layer in said:
        for name, state in layer.statements.features.items():
            lower, source = beneath.get(name, (None, "Kconfig"))
            if layer.source is not None:
                key = (layer.source.path, layer.statements.lines[name], name)
                yield key, source if lower == state else ""
            beneath[name] = (state, layer.layer)


def _repeated_values(layers: tuple[Layer, ...]) -> Iterator[tuple[_Key, str]]:
    beneath: dict[str, tuple[str, str]] = {}
    for layer in layers:
        for name, value in layer.values.items():
            lower, source = beneath.get(name, ("", ""))
            key = (layer.path, layer.lines.get(name, 1), name)
            yield key, source if lower == value else ""
            beneath[name] = (value, layer.name)

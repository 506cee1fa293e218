"""Named switches of the firmware, from ``features.yaml``: what each state means for a build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.catalog.chips import chips
from esp_at_tools.catalog.module_yaml import (
    Problem,
    Reader,
    Report,
    Table,
    read_options,
    read_yaml,
    unknown_hint,
)
from esp_at_tools.errors import InputError
from esp_at_tools.formats.partition_table import PartitionTable

OFF = "off"
"""The state in which a feature is not in the firmware."""
ON = "on"

Options = Mapping[str, str | None]
Needs = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Submodule:
    """A Git repository that a feature needs in the source tree."""

    name: str
    path: str
    repository: str
    branch: str
    commit: str


@dataclass(frozen=True)
class Feature:
    """One switch.

    Attributes:
        name: ``mqtt``.
        about: what it is, in a few words.
        states: state → the options that it sets; ``on`` and ``off``, or names of alternatives.
        states_of: chip → state → the options that differ on that chip.
        option: the option that says whether it is in the firmware, ``""`` where none alone does.
        default: the state that no definition asks for: what its Kconfig says; may be ``""``.
        default_of: chip → default, where it is another.
        requires: features that must not be off (``bluetooth``), or in a state (``bluetooth_host=nimble``).
        chips: the chips that have it; empty for all.
        partitions: state, or ``""`` for every one but ``off`` → ``primary`` or ``secondary`` → what that
            table must have: each the names (``ota_1``) or kinds (``data/0x22``) of which one is enough.
        mfg_nvs: namespace in ``mfg_nvs`` → the option on which it depends.
        suboptions: those options of which another than ``option`` decides → their value in Kconfig.
        submodule: what must be cloned beside ESP-IDF, or None.
    """

    name: str
    about: str
    states: Mapping[str, Options]
    states_of: Mapping[str, Mapping[str, Options]]
    option: str
    default: str
    default_of: Mapping[str, str]
    requires: tuple[str, ...]
    chips: tuple[str, ...]
    partitions: Mapping[str, Mapping[str, Needs]]
    mfg_nvs: Mapping[str, str]
    suboptions: Mapping[str, str]
    submodule: Submodule | None

    def exists_on(self, chip: str) -> bool:
        """Whether a chip has it at all."""
        return not self.chips or chip in self.chips

    def state_names(self) -> tuple[str, ...]:
        """The states that a definition may ask for."""
        return tuple(dict.fromkeys((*self.states, *([self.default] if self.default else ()))))

    def options(self, state: str, chip: str) -> dict[str, str | None]:
        """Return the options that a state sets on a chip."""
        return {**self.states.get(state, {}), **self.states_of.get(chip, {}).get(state, {})}

    def needs(self, state: str, table: str) -> Needs:
        """Return what the table ``primary`` or ``secondary`` must have for a state."""
        if state == OFF:
            return ()
        return tuple(need for key in ("", state) for need in self.partitions.get(key, {}).get(table, ()))

    def default_on(self, chip: str) -> str:
        """Return the state on a chip when no definition asks for one."""
        return self.default_of.get(chip, self.default)


def missing_partitions(
    feature: Feature, state: str, primary: PartitionTable, secondary: PartitionTable
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what a feature needs in a state and the tables lack: role, and names of which one is enough."""
    if state in (OFF, ""):
        return
    for role, table in (("primary", primary), ("secondary", secondary)):
        present = {name for each in table for name in (each.name, f"{each.type_name}/{each.subtype_name}")}
        for names in feature.needs(state, role):
            if present.isdisjoint(names):
                yield role, names


_KEYS = (
    "about", "states", "states_of", "option", "default", "default_of", "requires", "chips", "partitions",
    "partitions_of", "mfg_nvs", "suboptions", "submodule",
)  # fmt: skip
_SUBMODULE_KEYS = ("name", "path", "repository", "branch", "commit")


def read_features(path: Path, report: Report) -> dict[str, Feature]:
    """Read a file of features, in its order.

    Args:
        path: a ``features.yaml``.
        report: is told of every problem; what a problem concerns is left out.
    """
    try:
        root = read_yaml(path)
    except InputError as error:
        report(Problem("error", str(path), error.message.removeprefix(f"{path}: "), error.hint))
        return {}
    reader = Reader(path, report)
    return {name: _read_feature(reader, name, reader.table(root, name)) for name in root.entries}


def _read_feature(reader: Reader, name: str, table: Table) -> Feature:
    reader.check_keys(table, _KEYS)
    states = reader.table(table, "states")
    states_of = reader.table(table, "states_of")
    default_of = reader.table(table, "default_of")
    chip_names = tuple(chip.name for chip in chips())
    reader.check_keys(states_of, chip_names, "chips")
    reader.check_keys(default_of, chip_names, "chips")
    feature = Feature(
        name=name,
        about=reader.text(table, "about"),
        states={state: read_options(reader, reader.table(states, state)) for state in states.entries},
        states_of={chip: _read_states(reader, reader.table(states_of, chip)) for chip in states_of.entries},
        option=reader.text(table, "option"),
        default=reader.text(table, "default"),
        default_of={chip: value.text for chip, value in reader.scalars(default_of)},
        requires=reader.texts(table, "requires") if "requires" in table.entries else (),
        chips=reader.texts(table, "chips") if "chips" in table.entries else (),
        partitions=_read_partitions(reader, table, tuple(states.entries)),
        mfg_nvs={key: value.text for key, value in reader.scalars(reader.table(table, "mfg_nvs"))},
        suboptions={key: value.text for key, value in reader.scalars(reader.table(table, "suboptions"))},
        submodule=_read_submodule(reader, table),
    )
    _check(reader, feature, table, chip_names)
    return feature


def _read_states(reader: Reader, table: Table) -> dict[str, Options]:
    return {state: read_options(reader, reader.table(table, state)) for state in table.entries}


def _read_partitions(reader: Reader, table: Table, states: tuple[str, ...]) -> dict[str, dict[str, Needs]]:
    of = reader.table(table, "partitions_of")
    reader.check_keys(of, states, "states")
    found = {
        "": reader.table(table, "partitions"),
        **{state: reader.table(of, state) for state in of.entries},
    }
    needs: dict[str, dict[str, Needs]] = {}
    for state, tables in found.items():
        reader.check_keys(tables, ("primary", "secondary"))
        needs[state] = {
            role: tuple(tuple(text.split()) for text in reader.texts(tables, role)) for role in tables.entries
        }
    return needs


def _read_submodule(reader: Reader, table: Table) -> Submodule | None:
    if "submodule" not in table.entries:
        return None
    entry = reader.table(table, "submodule")
    reader.check_keys(entry, _SUBMODULE_KEYS)
    missing = [key for key in _SUBMODULE_KEYS if not reader.text(entry, key)]
    if missing:
        reader.problem(table.lines["submodule"], f"submodule lacks {', '.join(missing)}", "give each")
    return Submodule(*(reader.text(entry, key) for key in _SUBMODULE_KEYS))


def _check(reader: Reader, feature: Feature, table: Table, chip_names: tuple[str, ...]) -> None:
    if not feature.states:
        reader.problem(
            table.line, f"feature {feature.name} has no states", "give at least one under 'states:'"
        )
    for chip in feature.chips:
        if chip not in chip_names:
            hint = unknown_hint(chip, chip_names, "chips")
            reader.problem(table.lines["chips"], f"{chip[:60]!r} is not a chip", hint)
    for chip, states in feature.states_of.items():
        for state in states:
            if state not in feature.state_names():
                hint = unknown_hint(state, feature.state_names(), "states")
                reader.problem(table.lines["states_of"], f"{chip}: {state[:60]!r} is not a state", hint)

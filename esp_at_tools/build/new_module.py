"""A new module made from one that exists: what is asked for, and what that comes to.

The same decisions serve a folder of the user's own definitions (:mod:`new_module_folder`) and a checkout
of esp-at (:mod:`new_module_project`); neither writes anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from esp_at_tools.build.plan_wishes import SECOND_SLOT
from esp_at_tools.build.planner import Plan, plan
from esp_at_tools.catalog.at_options import unknown_at_option
from esp_at_tools.catalog.chips import Chip, chip
from esp_at_tools.catalog.factory_params import Value
from esp_at_tools.catalog.features import OFF, Feature, missing_partitions
from esp_at_tools.catalog.module_yaml import checked_option, unknown_hint
from esp_at_tools.catalog.overlay import parse_features
from esp_at_tools.errors import InputError, RiskyValueError
from esp_at_tools.formats.partition_table import PartitionTable
from esp_at_tools.settings.names import SETTINGS
from esp_at_tools.settings.rules import check_settings, parse_value

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_OPTION = "CONFIG_"
_FILE_SYSTEM = "fatfs"
_FILE_SYSTEM_SIZES = (512 << 10, 256 << 10, 128 << 10, 100 << 10)
"""Bytes that a file system gets which is not in the tables yet: the largest that costs nothing else."""


@dataclass(frozen=True)
class Wanted:
    """What a user asks of a new module.

    Attributes:
        name: its name, with or without the platform: ``ESP32C3/MY-BOARD``, ``MY-BOARD``.
        settings: ``NAME=VALUE``: parameters, and options of the sdkconfig where NAME begins with CONFIG_.
        features: ``+fs``, ``-mdns``, ``bluetooth_host=nimble``.
        flash_size: bytes of its flash, None for the same.
        partitions: name → bytes that the partition shall have, 0 for none.
        app_size: bytes of the application that shall fit, None if unknown.
        description: what to say about it, None to derive it.
        force: risky values are allowed.
    """

    name: str
    settings: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    flash_size: int | None = None
    partitions: Mapping[str, int] = field(default_factory=dict)
    app_size: int | None = None
    description: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Base:
    """The module that a new one is made from, wherever its definition stands.

    Attributes:
        full_name: ``ESP32C3/MINI-1``.
        chip: its chip.
        description: what is said about it.
        parameters: name → value.
        types: the parameters that exist → their NVS types.
        features: the features that exist.
        states: feature → state.
        flash_size: bytes.
        table_offset: where the primary table is in flash.
        primary: the primary table.
        secondary: the secondary table.
    """

    full_name: str
    chip: Chip
    description: str
    parameters: Mapping[str, Value]
    types: Mapping[str, str]
    features: Mapping[str, Feature]
    states: Mapping[str, str]
    flash_size: int
    table_offset: int
    primary: PartitionTable
    secondary: PartitionTable

    @property
    def name(self) -> str:
        """``MINI-1``."""
        return self.full_name.partition("/")[2]


@dataclass(frozen=True)
class Decision:
    """What a new module comes to.

    Attributes:
        name: ``MY-BOARD``.
        platform: ``PLATFORM_ESP32C3``.
        description: what is said about it.
        parameters: those that differ from the base, the name apart.
        features: those that differ.
        options: those that were asked for.
        flash_size: bytes.
        plan: the tables, None where those of the base stay.
        unchanged: what was asked for and is so already.
        notes: what the user should know.
        warnings: what is questionable.
    """

    name: str
    platform: str
    description: str
    parameters: Mapping[str, Value]
    features: Mapping[str, str]
    options: Mapping[str, str]
    flash_size: int
    plan: Plan | None
    unchanged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """``ESP32C3/MY-BOARD``."""
        return f"{self.platform.removeprefix('PLATFORM_')}/{self.name}"


def checked_name(text: str, base: Chip) -> str:
    """Return the name of a new module without its platform.

    Args:
        text: ``ESP32C3/MY-BOARD`` or ``MY-BOARD``.
        base: the chip of the module that it is made from.

    Raises:
        InputError: it cannot be a name, or its platform is another chip's.
    """
    platform, slash, name = text.strip().rpartition("/")
    if slash and chip(platform) != base:
        raise InputError(
            f"{text[:60]} is to be an {chip(platform).title}, and the module of --from has the {base.title}",
            "--from takes a module of the same chip",
        )
    if not _NAME.match(name) or name.endswith("."):
        raise InputError(
            f"{name[:70]!r} cannot be the name of a module",
            "use up to 63 letters, digits, '-', '_' and '.', the first a letter or digit",
        )
    return name


def decide(base: Base, wanted: Wanted) -> Decision:
    """Return what a new module comes to.

    Raises:
        InputError: something that is asked for does not exist, contradicts itself or does not fit.
        RiskyValueError: a value that is probably a mistake, without ``force``.
    """
    name = checked_name(wanted.name, base.chip)
    asked = parse_features(wanted.features, base.features, base.states, base.chip.name)
    parameters, options, warnings = _asked_settings(base, wanted, name)
    states = {**base.states, **asked}
    layout = _planned(base, wanted, states)
    lost = dict(_lost_features(base, asked, states, layout))
    notes = [f"{each} is off: {why}" for each, why in lost.items()]
    features = {**asked, **dict.fromkeys(lost, OFF)}
    changed = {each: state for each, state in features.items() if base.states.get(each) != state}
    unchanged = [f"{each}={state}" for each, state in asked.items() if each not in changed]
    unchanged += [
        f"{each}={value}" for each, value in parameters.items() if base.parameters.get(each) == value
    ]
    if layout is not None:
        for note in layout.notes:
            meant = bool(note.lost) and states.get(note.lost) == OFF  # it is to be without that
            told = note.lost in lost or meant or not note.hint or note.level == "info"
            text = note.message if told else f"{note.message} ({note.hint})"
            (warnings if note.level == "warning" and not meant else notes).append(text)
        if not layout.changes:
            layout = None
    flash_size = wanted.flash_size or base.flash_size
    different = {each: value for each, value in parameters.items() if base.parameters.get(each) != value}
    return Decision(
        name=name,
        platform=base.chip.platform,
        description=_description(base, wanted, {**base.parameters, **different}, {**states, **changed}),
        parameters=different,
        features=changed,
        options=options,
        flash_size=flash_size,
        plan=layout,
        unchanged=tuple(unchanged),
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


# --- features and settings ----------------------------------------------------------------------------


def _asked_settings(
    base: Base, wanted: Wanted, name: str
) -> tuple[dict[str, Value], dict[str, str], list[str]]:
    """Return the parameters and the options that are asked for, and what is questionable about them."""
    parameters: dict[str, Value] = {}
    options: dict[str, str] = {}
    for text in wanted.settings:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise InputError(f"--set {text[:60]!r} is not NAME=VALUE", "write --set uart_tx_pin=17")
        if key.startswith(_OPTION):
            option, content = checked_option(key, value.strip())
            _put(options, option, content, key)
        else:
            _put(parameters, _checked_parameter(base, key), parse_value(key, value, f"--set {key}"), key)
    findings = check_settings(
        {**parameters, "module_name": name},
        {key: value for key, value in base.parameters.items() if key != "module_name"},
        base.chip,
        layout="modern",
    )
    warnings = []
    for found in findings:
        if found.level == "impossible":
            raise InputError(found.message, found.hint)
        if found.level == "risky" and not wanted.force:
            raise RiskyValueError(found.message, f"{found.hint}; --force allows it" if found.hint else "")
        if found.setting in parameters:
            warnings.append(f"{found.message} ({found.hint})" if found.hint else found.message)
    unknown = [each for each in map(unknown_at_option, options) if each is not None]
    return parameters, options, [*warnings, *(f"{message} ({hint})" for message, hint in unknown)]


def _put(known: dict[str, Value] | dict[str, str], key: str, value: Value, shown: str) -> None:
    """Keep a value, unless another one was given before."""
    values: dict[str, Value] = known  # type: ignore[assignment]  # a dict of text takes the text put in
    if values.setdefault(key, value) != value:
        raise InputError(f"--set {shown}: given twice, with different values", "give it once")


def _checked_parameter(base: Base, key: str) -> str:
    if key == "module_name":
        raise InputError("--set module_name: is the name of the module", "give that name instead")
    if key not in base.types or key not in SETTINGS:
        known = [each for each in base.types if each in SETTINGS]
        raise InputError(
            f"--set {key[:60]}: is not a parameter of a module", unknown_hint(key, known, "parameters")
        )
    if key not in base.parameters:
        raise InputError(
            f"--set {key}: the table of modules has no column {key}", "this version of esp-at lacks it"
        )
    return key


# --- partitions ---------------------------------------------------------------------------------------


def _planned(base: Base, wanted: Wanted, states: Mapping[str, str]) -> Plan | None:
    wishes = dict(wanted.partitions)
    needs_fs = any(_FILE_SYSTEM in names for _, names in _missing(base, "fs", states, None))
    needs_slot = any(SECOND_SLOT in names for _, names in _missing(base, "ota", states, None))
    if needs_fs and _FILE_SYSTEM not in wishes:
        return _with_file_system(base, wanted, wishes, second_slot=needs_slot)
    if (
        not needs_slot
        and not wishes
        and wanted.app_size is None
        and (wanted.flash_size or base.flash_size) == base.flash_size
    ):
        return None
    unused = () if states.get("fs") not in (OFF, "", None) else (_FILE_SYSTEM,)
    return _plan(base, wanted, wishes, unused, second_slot=needs_slot)


def _with_file_system(base: Base, wanted: Wanted, wishes: dict[str, int], *, second_slot: bool) -> Plan:
    """Return the plan with the largest file system that costs nothing else, else with the smallest one."""
    without = _plan(base, wanted, wishes, (), second_slot=second_slot)
    for size in _FILE_SYSTEM_SIZES[:-1]:
        try:
            found = _plan(base, wanted, {**wishes, _FILE_SYSTEM: size}, (), second_slot=second_slot)
        except InputError:
            continue
        if found.app_room >= without.app_room and found.removed == without.removed:
            return found
    smallest = {**wishes, _FILE_SYSTEM: _FILE_SYSTEM_SIZES[-1]}
    return _plan(base, wanted, smallest, (), second_slot=second_slot)


def _plan(
    base: Base, wanted: Wanted, wishes: Mapping[str, int], unused: tuple[str, ...], *, second_slot: bool
) -> Plan:
    return plan(
        base.primary,
        base.secondary,
        table_offset=base.table_offset,
        flash_size=wanted.flash_size or base.flash_size,
        old_flash_size=base.flash_size,
        app_size=wanted.app_size,
        wishes=wishes,
        unused=unused,
        second_slot=second_slot,
    )


def _missing(
    base: Base, name: str, states: Mapping[str, str], layout: Plan | None
) -> Iterator[tuple[str, tuple[str, ...]]]:
    feature = base.features.get(name)
    if feature is not None:
        primary = layout.primary if layout else base.primary
        secondary = layout.secondary if layout else base.secondary
        yield from missing_partitions(feature, states.get(name, ""), primary, secondary)


def _lost_features(
    base: Base, asked: Mapping[str, str], states: Mapping[str, str], layout: Plan | None
) -> Iterator[tuple[str, str]]:
    """Yield the features that the tables have no place for any more, with the reason.

    Raises:
        InputError: one of them was asked for, or cannot be off.
    """
    for name in states:
        for role, names in _missing(base, name, states, layout):
            why = f"there is no partition {' or '.join(names)} in the {role} table"
            if asked.get(name, OFF) != OFF or OFF not in base.features[name].state_names():
                raise InputError(
                    f"feature {name}: {why}",
                    "start from a module that has it, take a larger flash, or make others smaller; "
                    f"or --feature -{name}",
                )
            if layout is not None:  # what a base lacks already is its own affair
                yield name, why
            break


# --- description --------------------------------------------------------------------------------------

_PINS = {"TX": "uart_tx_pin", "RX": "uart_rx_pin"}


def _description(
    base: Base, wanted: Wanted, parameters: Mapping[str, Value], states: Mapping[str, str]
) -> str:
    """Return the description: that of the base, with the facts in it brought up to date."""
    if wanted.description is not None:
        if not wanted.description.isprintable():
            raise InputError("--description: has line breaks or control characters", "write plain text")
        return wanted.description.strip()
    text = base.description
    if wanted.flash_size is not None:
        text = re.sub(r"\b\d+\s?MB\b", f"{wanted.flash_size >> 20}MB", text, count=1)
    for signal, key in _PINS.items():
        if (pin := parameters.get(key)) is not None:
            text = re.sub(rf"\b{signal}:-?\d+", f"{signal}:{pin}", text)
    if states.get("ota") == OFF:
        text = re.sub(r"(?<!no )(?<!non-)\bOTA,\s*|,\s*(?<!no )OTA$", "", text, flags=re.IGNORECASE)
    return text

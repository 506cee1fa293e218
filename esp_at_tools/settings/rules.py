"""Which values of the settings are right, risky or impossible.

Only what is being changed can be refused: what a firmware already has gives at most a warning.
A changed pin is checked against the unchanged ones all the same, because two signals on one GPIO
leave the module mute whichever of them came first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from esp_at_tools.catalog.chips import Chip, chips, find_chip
from esp_at_tools.catalog.countries import find_country, nearest_code
from esp_at_tools.errors import InputError
from esp_at_tools.numbers import parse_number
from esp_at_tools.settings.findings import Context, Level, RuleFinding
from esp_at_tools.settings.layout import LayoutName, Value
from esp_at_tools.settings.names import SETTINGS, check_name
from esp_at_tools.settings.uart_rules import check_baud, check_pins, check_port

__all__ = ["Level", "RuleFinding", "check_settings", "check_value", "parse_value"]

_INTEGER_RANGE = {"i8": (-0x80, 0x7F), "u8": (0, 0xFF), "i32": (-0x80000000, 0x7FFFFFFF)}
_LEGACY_ONLY_RANGE = _INTEGER_RANGE["i8"]

LAST_CHANNEL = 14
"""Highest 2.4 GHz channel."""

LEGACY_TEXT_SIZE = 31
"""Most bytes in a text field of the legacy record: 32 with the NUL (``factory_param_type.csv``)."""

NVS_TEXT_SIZE = 3999
"""Most bytes in a string in NVS: 4000 with the NUL."""

_FIRMWARE_TEXT_SIZE = 127
"""Most bytes of the module's name that the firmware reads: AT_BUFFER_ON_STACK_SIZE of esp_at.h, 128."""

_TX_POWER_USUAL = (40, 84)
_LEGACY_VERSIONS = (1, 3)


def parse_value(name: str, text: str, option: str = "") -> Value:
    """Return the value of a setting that a command line or a profile spells.

    Args:
        name: official name of the setting.
        text: a number (``4096``, ``0x1000``, ``4K``, ``-1``), or a string as it is.
        option: how the user named it (``--tx-pin``), for the error.

    Raises:
        InputError: the name is not a setting, or a number does not read as one.
    """
    setting = SETTINGS.get(check_name(name))
    if setting is None:
        raise InputError(f"{name} is not a setting but a PKI item or a GATT row", "give a setting")
    return text if setting.is_text else parse_number(text, option or name)


def check_value(name: str, value: object) -> list[RuleFinding]:
    """Judge one value by itself: its type, and its range where that depends on nothing else.

    Args:
        name: official name of a setting.
        value: an int or a str.

    Raises:
        InputError: the name is not a setting.
    """
    setting = SETTINGS.get(check_name(name))
    if setting is None:
        raise InputError(f"{name} is not a setting but a PKI item or a GATT row", "give a setting")
    if setting.is_text:
        if isinstance(value, str):
            return []
        return [RuleFinding(name, "impossible", f"{name}: {value!r} is not text", "write it in quotes")]
    if not isinstance(value, int) or isinstance(value, bool):
        return [RuleFinding(name, "impossible", f"{name}: {value!r} is not a whole number")]
    low, high = _INTEGER_RANGE.get(setting.nvs_type, _LEGACY_ONLY_RANGE)
    if not low <= value <= high:
        kind = setting.nvs_type or "i8"
        message = f"{name}: {value} does not fit its type {kind}"
        return [RuleFinding(name, "impossible", message, f"it holds {low} to {high}")]
    return []


def check_settings(
    changes: Mapping[str, Value],
    current: Mapping[str, Value],
    chip: Chip | None,
    *,
    layout: LayoutName,
) -> list[RuleFinding]:
    """Judge changes of settings together with what stays as it is.

    A change to the value that is already there is none. Without a chip the pins cannot be checked
    against its GPIOs; a finding of level ``warning`` says so.

    Args:
        changes: the settings that are asked for, by official name.
        current: the settings as they are.
        chip: the chip, None if unknown.
        layout: how the firmware stores them.

    Returns:
        The findings, in the official order of the settings; those about what is not being changed
        are of level ``warning``.

    Raises:
        InputError: a name in ``changes`` is not a setting.
    """
    findings = [finding for name, value in changes.items() for finding in check_value(name, value)]
    wrong = {finding.setting for finding in findings}
    changed = frozenset(name for name, value in changes.items() if current.get(name) != value)
    known = {name: value for name, value in current.items() if name in SETTINGS}
    values = {name: value for name, value in {**known, **changes}.items() if name not in wrong}
    context = Context(values, changed, chip, layout, frozenset(changes))
    for rule in _RULES:
        findings += rule(context)
    findings = [item if item.setting in changed else replace(item, level="warning") for item in findings]
    return sorted(findings, key=lambda finding: _ORDER[finding.setting])


_ORDER = {name: index for index, name in enumerate(SETTINGS)}


def _check_version(context: Context) -> Iterator[RuleFinding]:
    version = context.number("version")
    low, high = _LEGACY_VERSIONS
    if context.layout == "legacy" and version is not None and not low <= version <= high:
        message = f"version: {version} is not a version of the legacy record"
        yield RuleFinding("version", "impossible", message, f"{low} to {high}")


def _check_module_name(context: Context) -> Iterator[RuleFinding]:
    name = "module_name"
    if name not in context.values:
        return
    text = context.text(name)
    limit = LEGACY_TEXT_SIZE if context.layout == "legacy" else NVS_TEXT_SIZE
    yield from _check_text(name, text, limit)
    if not text:
        yield RuleFinding(name, "warning", f"{name}: is empty", "AT+GMR will show no name")
    elif _FIRMWARE_TEXT_SIZE < len(text.encode(errors="replace")) <= limit:
        message = f"{name}: longer than the {_FIRMWARE_TEXT_SIZE} bytes that the AT firmware reads"
        yield RuleFinding(name, "warning", message, "shorten it")


def _check_text(name: str, text: str, limit: int) -> Iterator[RuleFinding]:
    """Judge the length of a string in bytes, as it will be stored."""
    try:
        size = len(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        yield RuleFinding(
            name, "impossible", f"{name}: {text!r} cannot be written as UTF-8", "use plain text"
        )
        return
    if "\0" in text:
        yield RuleFinding(
            name, "impossible", f"{name}: {text!r} has a NUL, which ends a string", "leave it out"
        )
    if size > limit:
        message = f"{name}: has {size} bytes, and the firmware's layout holds {limit}"
        yield RuleFinding(name, "impossible", message, f"shorten it to {limit} bytes")


def _check_platform(context: Context) -> Iterator[RuleFinding]:
    name = "platform"
    if name not in context.values:
        return
    text = context.text(name)
    yield from _check_text(name, text, LEGACY_TEXT_SIZE)
    known = [each.platform for each in chips()]
    if text not in known:
        meant = find_chip(text)
        hint = f"did you mean {meant.platform}?" if meant else f"one of {', '.join(known)}"
        yield RuleFinding(name, "risky", f"{name}: {text!r} is not a platform of ESP-AT", hint)
    elif context.chip and text != context.chip.platform:
        message = f"{name}: {text} is not the platform of this firmware's chip, {context.chip.title}"
        yield RuleFinding(name, "risky", message, f"write {context.chip.platform}")


def _check_tx_power(context: Context) -> Iterator[RuleFinding]:
    power = context.number("max_tx_power")
    low, high = _TX_POWER_USUAL
    if power is not None and not low <= power <= high:
        message = f"max_tx_power: {power} is outside {low} to {high}"
        yield RuleFinding("max_tx_power", "risky", message, "the unit is 0.25 dBm: 78 is 19.5 dBm")


def _check_country(context: Context) -> Iterator[RuleFinding]:
    name = "country_code"
    if name not in context.values:
        return
    code = context.text(name)
    meant = nearest_code(code)
    hint = f"did you mean {meant}?" if meant else "two letters of ISO 3166-1, such as CN or US, or 01"
    if not (len(code) == 2 and code.isascii() and code.isalnum()):
        yield RuleFinding(name, "impossible", f"{name}: {code!r} is not two letters or digits", hint)
    elif find_country(code) is None:
        yield RuleFinding(name, "risky", f"{name}: {code!r} is not a known code", hint)


def _check_channels(context: Context) -> Iterator[RuleFinding]:
    names = ("start_channel", "channel_num")
    wrong = False
    for name in names:
        value = context.number(name)
        if value is not None and not 1 <= value <= LAST_CHANNEL:
            wrong = True
            message = f"{name}: {value} is outside 1 to {LAST_CHANNEL}"
            usual = "13 channels from channel 1 are usual, 11 in the US"
            yield RuleFinding(name, "impossible", message, usual)
    start, number = (context.number(name) for name in names)
    if wrong or start is None or number is None:
        return
    last = start + number - 1
    blamed = context.blamed(*names)
    if last > LAST_CHANNEL:
        message = f"{blamed}: {number} channels from channel {start} end at {last}, past {LAST_CHANNEL}"
        fix = f"with start_channel {start}, channel_num is at most {LAST_CHANNEL + 1 - start}"
        yield RuleFinding(blamed, "impossible", message, fix)
        return
    yield from _check_regulations(context, start, last)
    if context.layout == "legacy" and start > 1 and not context.changed.isdisjoint(names):
        effect = f"channels {start} to {number}" if number >= start else "no channels at all"
        message = (
            f"{blamed}: the firmware takes channel_num of the legacy layout for the last channel: {effect}"
        )
        yield RuleFinding(blamed, "warning", message, "start_channel 1 has the same meaning everywhere")


def _check_regulations(context: Context, start: int, last: int) -> Iterator[RuleFinding]:
    country = find_country(context.text("country_code"))
    if country is None or country.channels is None or last <= country.channels:
        return
    channels = ("start_channel", "channel_num")
    channels_change = not context.changed.isdisjoint(channels)
    if (
        "country_code" in context.changed
    ):  # then channels that are asked for count, though they are so already
        channels_change = channels_change or not context.asked.isdisjoint(channels)
    blamed = context.blamed("country_code", "start_channel", "channel_num")
    # Channels that a firmware already has must not stand in the way of a right country code, and
    # channels 12 to 14 differ from country to country more often than the tables do.
    level: Level = "risky" if channels_change and country.channels == 11 else "warning"
    message = f"{blamed}: channel {last} is past {country.channels}, the last one of {country.code}"
    right = country.channels + 1 - start
    yield RuleFinding(blamed, level, message, f"set channel_num to {right}" if right > 0 else "")


def _check_sys_store(context: Context) -> Iterator[RuleFinding]:
    value = context.number("sys_store")
    if value is not None and value not in (0, 1):
        yield RuleFinding(
            "sys_store", "impossible", f"sys_store: {value} is neither 0 nor 1", "as AT+SYSSTORE"
        )


_RULES: tuple[Callable[[Context], Iterator[RuleFinding]], ...] = (
    _check_version,
    _check_module_name,
    _check_platform,
    _check_tx_power,
    _check_country,
    _check_channels,
    _check_sys_store,
    check_port,
    check_baud,
    check_pins,
)

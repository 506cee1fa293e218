"""The chips that ESP-AT runs on, and what is true of each.

The facts are the rows of ``module_config/chips.csv`` and ``module_config/uarts.csv``, each with its
source; ``module_config/README.md`` explains the columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from esp_at_tools.catalog.data import data_folder, read_table
from esp_at_tools.errors import FormatError, InputError

UNUSED_PIN = -1
"""Stands for "no pin" in the parameters and in the tables."""

_CHIP_COLUMNS = ("chip", "fact", "value", "source")
_UART_COLUMNS = ("chip", "module", "role", "uart", "tx", "rx", "cts", "rts", "source")
_PLATFORM_PREFIX = "platform"
_MAX_RANGE = 256


@dataclass(frozen=True)
class UartPins:
    """A UART and the GPIOs of its four signals; -1 is none.

    Attributes:
        uart: number of the UART, -1 for none.
        tx: GPIO of TX.
        rx: GPIO of RX.
        cts: GPIO of CTS.
        rts: GPIO of RTS.
    """

    uart: int
    tx: int
    rx: int
    cts: int = UNUSED_PIN
    rts: int = UNUSED_PIN


@dataclass(frozen=True)
class Chip:
    """The facts of one chip.

    Attributes:
        name: as esptool and the contract write it: ``esp32c3``.
        title: as Espressif writes it: ``ESP32-C3``.
        platform: as the AT firmware's parameters write it: ``PLATFORM_ESP32C3``.
        image_chip_id: chip id in the header of its images, None where the header has none (ESP8266).
        bootloader_offset: where in the flash the bootloader starts, in bytes.
        flash_modes: flash modes that an image header can name.
        flash_freqs: flash frequencies that an image header can name.
        gpios: numbers of the GPIOs that exist.
        input_only: those that cannot be outputs.
        flash_pins: those of the in-package or usual SPI flash, its supply included.
        psram_pins: those of the in-package or usual PSRAM.
        strapping_pins: those sampled at reset.
        usb_pins: those of USB-Serial-JTAG or USB-OTG.
        unbonded_pins: those that all but a rare package lack.
        package_pins: those that some common package lacks.
        uarts: numbers of the UARTs that can be the AT port.
        baud_max: highest baud rate that the AT firmware accepts for this chip.
        uart_pin_sets: the only pins that the AT UART can be on; empty where the GPIO matrix leads any
            signal to any pin.
        log: the log port and its pins, unless the module says otherwise.
        notes: what else is worth knowing.
        module_logs: (module, log port) of the modules whose log port is elsewhere.
        module_pins: (module, AT port) of the official modules.
    """

    name: str
    title: str
    platform: str
    image_chip_id: int | None
    bootloader_offset: int
    flash_modes: tuple[str, ...]
    flash_freqs: tuple[str, ...]
    gpios: frozenset[int]
    input_only: frozenset[int]
    flash_pins: frozenset[int]
    psram_pins: frozenset[int]
    strapping_pins: frozenset[int]
    usb_pins: frozenset[int]
    unbonded_pins: frozenset[int]
    package_pins: frozenset[int]
    uarts: tuple[int, ...]
    baud_max: int
    uart_pin_sets: tuple[UartPins, ...]
    log: UartPins
    notes: tuple[str, ...] = ()
    module_logs: tuple[tuple[str, UartPins], ...] = ()
    module_pins: tuple[tuple[str, UartPins], ...] = ()

    def log_port(self, module: str) -> UartPins:
        """Return the log port of an official module, the chip's default for any other name."""
        return _of_module(self.module_logs, module) or self.log

    def official_pins(self, module: str) -> UartPins | None:
        """Return the AT port that Espressif's firmware for ``module`` has, None for any other name."""
        return _of_module(self.module_pins, module)


def _of_module(ports: tuple[tuple[str, UartPins], ...], module: str) -> UartPins | None:
    wanted = module.casefold()
    return next((port for name, port in ports if name.casefold() == wanted), None)


def chips() -> tuple[Chip, ...]:
    """Return the chips that ESP-AT supports, in the order of the table."""
    return tuple(_catalog().chips.values())


def chip(name: str) -> Chip:
    """Return the chip called ``name``; ``esp32c3``, ``ESP32-C3`` and ``PLATFORM_ESP32C3`` are the same.

    Raises:
        InputError: no chip that ESP-AT supports; the hint has the nearest name.
    """
    key = _chip_key(name)
    found = _catalog().chips.get(key)
    return found if found is not None else _unknown(name, key)


def find_chip(name: str) -> Chip | None:
    """Return the chip called ``name``, None where ESP-AT supports no such chip; see :func:`chip`."""
    return _catalog().chips.get(_chip_key(name))


def _chip_key(name: str) -> str:
    key = name.strip().casefold().replace("-", "").replace("_", "")
    return key.removeprefix(_PLATFORM_PREFIX)


def _supported() -> str:
    return f"the chips are {', '.join(known.name for known in chips())}"


def _unsupported(title: str) -> NoReturn:
    raise InputError(f"{title} is not a chip that ESP-AT supports", _supported())


def _unknown(name: str, key: str) -> NoReturn:
    import difflib

    title = _catalog().other_titles.get(key)
    if title is not None:
        _unsupported(title)
    near = difflib.get_close_matches(key[:40], [known.name for known in chips()], n=1)
    hint = f"did you mean {near[0]}? {_supported()}" if near else _supported()
    raise InputError(f"{name!r} is not the name of a chip", hint)


@dataclass(frozen=True)
class _Catalog:
    chips: Mapping[str, Chip]
    other_titles: Mapping[str, str]


def _number(text: str) -> int:
    """Return the number of ``5``, ``-1`` or ``0x1000`` (faster than parse_number, for some 400 of them)."""
    try:
        return int(text, 0)
    except ValueError as error:
        raise InputError(f"{text!r} is not a number", "write 4096 or 0x1000") from error


def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of ``0-3 7``, in order."""
    numbers: list[int] = []
    for part in text.split():
        first, _, last = part.partition("-")
        low, high = _number(first), _number(last or first)
        if not 0 <= low <= high < low + _MAX_RANGE:
            raise InputError(f"{part!r} is not a range", "write 0-3")
        numbers += range(low, high + 1)
    return tuple(numbers)


def _pins(text: str) -> frozenset[int]:
    return frozenset(_numbers(text))


def _pin_sets(text: str) -> tuple[UartPins, ...]:
    """Return the sets of ``15/13/3/1 1/3/13/15``: TX, RX, CTS and RTS of UART 0."""
    sets = []
    for part in text.split():
        pins = [_number(pin) for pin in part.split("/")]
        if len(pins) != 4:
            raise InputError(f"{part!r} is not a set of pins", "write TX/RX/CTS/RTS")
        sets.append(UartPins(0, *pins))
    return tuple(sets)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_FACTS: dict[str, Callable[[str], Any]] = {
    "title": str,
    "platform": str,
    "image_chip_id": _number,
    "bootloader_offset": _number,
    "flash_modes": _words,
    "flash_freqs": _words,
    "gpios": _pins,
    "input_only": _pins,
    "flash_pins": _pins,
    "psram_pins": _pins,
    "strapping_pins": _pins,
    "usb_pins": _pins,
    "unbonded_pins": _pins,
    "package_pins": _pins,
    "uarts": _numbers,
    "baud_max": _number,
    "uart_pin_sets": _pin_sets,
}
_OPTIONAL_FACTS: dict[str, Any] = {
    "image_chip_id": None,
    "unbonded_pins": frozenset(),
    "package_pins": frozenset(),
    "uart_pin_sets": (),
}


@functools.lru_cache(maxsize=1)
def _catalog() -> _Catalog:
    return load(data_folder())


def load(folder: Path) -> _Catalog:
    """Read ``chips.csv`` and ``uarts.csv`` of a ``module_config`` folder.

    Raises:
        InputError: a table is missing.
        FormatError: a table is wrong; the message names the line or the chip.
    """
    facts = _read_facts(folder / "chips.csv")
    ports = _read_ports(folder / "uarts.csv", facts)
    supported: dict[str, Chip] = {}
    titles: dict[str, str] = {}
    for name, known in facts.items():
        if "platform" in known:
            supported[name] = _build(folder, name, known, ports.get(name, {}))
        else:
            titles[name] = known["title"]
    return _Catalog(supported, titles)


def _read_facts(path: Path) -> dict[str, dict[str, Any]]:
    chips: dict[str, dict[str, Any]] = {}
    for line, (name, fact, value, source) in read_table(path, _CHIP_COLUMNS):
        known = chips.setdefault(name, {})
        if fact == "note":
            known["notes"] = (*known.get("notes", ()), value)
            continue
        if fact not in _FACTS or fact in known or not source:
            why = "without a source" if not source else "twice" if fact in known else "unknown"
            raise FormatError(f"{path}: line {line}: fact {fact!r} is {why}", f"one of {', '.join(_FACTS)}")
        try:
            known[fact] = _FACTS[fact](value)
        except InputError as error:
            raise FormatError(f"{path}: line {line}: {error.message}", error.hint) from error
    return chips


_Ports = dict[str, dict[str, list[tuple[str, UartPins]]]]


def _read_ports(path: Path, facts: Mapping[str, object]) -> _Ports:
    ports: _Ports = {}
    for line, (name, module, role, *numbers, _source) in read_table(path, _UART_COLUMNS):
        if name not in facts or role not in ("at", "log"):
            raise FormatError(f"{path}: line {line}: unknown chip or role", "the roles are at and log")
        try:
            port = UartPins(*(_number(number) for number in numbers))
        except InputError as error:
            raise FormatError(f"{path}: line {line}: {error.message}", error.hint) from error
        ports.setdefault(name, {}).setdefault(role, []).append((module, port))
    return ports


def _build(
    folder: Path, name: str, facts: dict[str, Any], ports: dict[str, list[tuple[str, UartPins]]]
) -> Chip:
    logs = ports.get("log", [])
    default_log = next((port for module, port in logs if not module), None)
    missing = [fact for fact in _FACTS if fact not in facts and fact not in _OPTIONAL_FACTS]
    if missing or default_log is None:
        absent = ", ".join(missing) or "its log port in uarts.csv"
        raise FormatError(f"{folder / 'chips.csv'}: chip {name} lacks {absent}", "add a row for each")
    return Chip(
        name=name,
        log=default_log,
        module_logs=tuple((module, port) for module, port in logs if module),
        module_pins=tuple(ports.get("at", [])),
        **{**_OPTIONAL_FACTS, **facts},
    )

"""Rules for the AT UART: its number, baud rate and pins.

What the AT firmware does with the values: ``main/interface/uart/at_uart_task.c`` of esp-at
v2.2.1.0_esp8266 (legacy layout) and v5.0.1.0 (modern layout, ``at_uart_api.c`` beside it).
"""

from __future__ import annotations

from collections.abc import Iterator

from esp_at_tools.catalog.chips import UNUSED_PIN, Chip, UartPins, chips
from esp_at_tools.settings.findings import Context, Level, RuleFinding, listed
from esp_at_tools.settings.names import PIN_SETTINGS

NO_UART = -1
"""Value of ``uart_port`` and ``uart_baudrate`` in a firmware whose AT port is SDIO or SPI.

The official ESP32-SDIO, ESP32C3-SPI and ESP32C5-SDIO have both and the four pins at -1, the
ESP32C5-SPI has ``uart_port`` 1 and the others at -1.
"""

BAUD_MIN = 80
BAUD_MAX = 5000000

CONTROL_PINS = ("tx_control_pin", "rx_control_pin")
"""Legacy layout only; the firmware drives both high when it starts."""

_SIGNAL = dict(zip(PIN_SETTINGS, ("TX", "RX", "CTS", "RTS"), strict=True))
_OUTPUTS = frozenset({"uart_tx_pin", "uart_rts_pin", *CONTROL_PINS})


def check_port(context: Context) -> Iterator[RuleFinding]:
    """Judge ``uart_port``: a UART that the chip has, and not the log port."""
    name = "uart_port"
    port = context.number(name)
    if port is None:
        return
    if port == NO_UART:
        used = [pin for pin in PIN_SETTINGS if context.number(pin) not in (None, UNUSED_PIN)]
        if used and name in context.changed:
            yield RuleFinding(
                name,
                "impossible",
                f"{name}: -1 means that the AT port is no UART, but GPIOs are set for {', '.join(used)}",
                "give the number of a UART, or set the four pins to -1 too",
            )
        return
    known = context.chip.uarts if context.chip else tuple({uart for chip in chips() for uart in chip.uarts})
    if port not in known:
        owner = context.chip.title if context.chip else "any chip"
        allowed = f"choose {' or '.join(str(uart) for uart in sorted(known))}"
        yield RuleFinding(
            name, "impossible", f"{name}: UART {port} cannot be the AT port of {owner}", allowed
        )
    elif context.chip:
        log = context.chip.log_port(context.text("module_name"))
        if port == log.uart:
            free = [uart for uart in known if uart != port]
            yield RuleFinding(
                name,
                "risky",
                f"{name}: UART {port} of {context.chip.title} is the log port",
                f"choose {listed(free)}" if free else "",
            )


def check_baud(context: Context) -> Iterator[RuleFinding]:
    """Judge ``uart_baudrate``: 80 to 5000000, or -1 where ``uart_port`` or all four pins are -1."""
    name = "uart_baudrate"
    baud = context.number(name)
    pins = [context.number(pin) for pin in PIN_SETTINGS]
    no_uart = context.number("uart_port") == NO_UART or pins == [UNUSED_PIN] * len(pins)
    if baud is None or (baud == NO_UART and no_uart):
        return
    if not BAUD_MIN <= baud <= BAUD_MAX:
        hint = (
            "-1 is for a firmware whose AT port is no UART" if baud == NO_UART else "115200 is the usual rate"
        )
        message = f"{name}: {baud} is outside {BAUD_MIN} to {BAUD_MAX}"
        yield RuleFinding(name, "impossible", message, hint)
    elif context.chip and baud > context.chip.baud_max:
        message = f"{name}: {baud} is more than the AT firmware for {context.chip.title} accepts from AT+UART"
        yield RuleFinding(name, "warning", message, f"at most {context.chip.baud_max}")


def check_pins(context: Context) -> Iterator[RuleFinding]:
    """Judge the four pins of the UART, with each other and against the chip, and the control pins."""
    yield from _same_pins(context)
    if context.chip and context.chip.uart_pin_sets:
        yield from _fixed_pins(context, context.chip)
    for name in (*PIN_SETTINGS, *CONTROL_PINS):
        pin = context.number(name)
        if pin == UNUSED_PIN:
            yield from _without_pin(context, name)
        elif pin is not None:
            yield from _one_pin(context, name, pin)
    touched = [name for name in (*PIN_SETTINGS, *CONTROL_PINS) if name in context.changed]
    if context.chip is None and any(context.number(name) != UNUSED_PIN for name in touched):
        yield RuleFinding(
            touched[0],
            "warning",
            f"{', '.join(touched)}: not checked against the GPIOs of the chip, which is not known",
            "--chip or --module tells it",
        )


def _same_pins(context: Context) -> Iterator[RuleFinding]:
    for index, second in enumerate(PIN_SETTINGS):
        pin = context.number(second)
        if pin is None or pin == UNUSED_PIN:
            continue
        for first in PIN_SETTINGS[:index]:
            if context.number(first) == pin:
                blamed = context.blamed(first, second)
                other = first if blamed == second else second
                state = "" if other in context.changed else ", which stays as it is,"
                message = f"{blamed}: {other}{state} is GPIO {pin} too, and two signals cannot share a pin"
                fixed = context.chip is not None and context.chip.uart_pin_sets
                free = [] if fixed else _free_pins(context, blamed)
                move = f"set {other} too, to -1 if it is not used"
                hint = f"choose one of {listed(free)}, or {move}" if free else move
                yield RuleFinding(blamed, "impossible", message, hint)


def _fixed_pins(context: Context, chip: Chip) -> Iterator[RuleFinding]:
    """Judge the pins of a chip whose UART has few places; the firmware stops at an assertion."""
    tx, rx = context.number("uart_tx_pin"), context.number("uart_rx_pin")
    if tx is None or rx is None or UNUSED_PIN in (tx, rx):  # the firmware takes its built-in pins then
        return
    choices = " or ".join(f"TX {place.tx} with RX {place.rx}" for place in chip.uart_pin_sets)
    place = _place(context, chip)
    if place is None:
        message = f"the AT UART of {chip.title} is {choices}, not TX {tx} with RX {rx}"
        blamed = context.blamed("uart_rx_pin", "uart_tx_pin")
        yield RuleFinding(blamed, "impossible", f"{blamed}: {message}", "change both pins together")
        return
    for name, right in (("uart_cts_pin", place.cts), ("uart_rts_pin", place.rts)):
        if context.number(name) not in (None, UNUSED_PIN, right, tx, rx):  # tx and rx: told already
            blamed = context.blamed("uart_rx_pin", "uart_tx_pin", name)
            signal = _SIGNAL[name]
            message = f"with TX {tx} and RX {rx}, {signal} of {chip.title} can only be GPIO {right}"
            yield RuleFinding(
                blamed, "impossible", f"{blamed}: {message}", f"set {name} to {right}, or to -1 for none"
            )


def _place(context: Context, chip: Chip) -> UartPins | None:
    pins = (context.number("uart_tx_pin"), context.number("uart_rx_pin"))
    return next((place for place in chip.uart_pin_sets if (place.tx, place.rx) == pins), None)


def _without_pin(context: Context, name: str) -> Iterator[RuleFinding]:
    signal = _SIGNAL.get(name, "")
    no_uart = NO_UART in (context.number("uart_port"), context.number("uart_baudrate"))
    if signal in ("TX", "RX") and name in context.changed and not no_uart:
        effect = "answer" if signal == "TX" else "hear"
        message = f"{name}: without {signal} the module cannot {effect} AT commands on its UART"
        if context.layout == "legacy":
            message = f"{name}: -1 makes a firmware of the legacy layout use its built-in TX and RX"
        yield RuleFinding(name, "warning", message, "-1 is meant for CTS and RTS")


def _one_pin(context: Context, name: str, pin: int) -> Iterator[RuleFinding]:
    chip = context.chip
    if pin < UNUSED_PIN:
        yield RuleFinding(name, "impossible", f"{name}: {pin} is not a GPIO", "-1 means unused")
        return
    known = chip.gpios if chip else frozenset().union(*(each.gpios for each in chips()))
    if pin not in known:
        owner = f"{chip.title} has no" if chip else "no chip that ESP-AT supports has"
        yield RuleFinding(name, "impossible", f"{name}: {owner} GPIO {pin}", _choice(context, name))
    elif chip and name in _OUTPUTS and pin in chip.input_only:
        use = f"be {_SIGNAL[name]}" if name in _SIGNAL else "be driven"
        message = f"{name}: GPIO {pin} of {chip.title} is input-only and cannot {use}"
        yield RuleFinding(name, "impossible", message, _choice(context, name))
    elif chip:
        yield from _hazards(context, chip, name, pin)
    if name in PIN_SETTINGS and name in context.changed and context.number("uart_port") == NO_UART:
        message = f"{name}: uart_port is -1, so the AT port is no UART and the pin has no effect"
        yield RuleFinding(name, "warning", message, "set uart_port too, if the firmware was built for a UART")


def _is_free_on(context: Context, chip: Chip, name: str, pin: int, *, any_signal: bool) -> bool:
    """Tell whether Espressif's own firmware for this module has the signal (or any) on this pin."""
    official = chip.official_pins(context.text("module_name"))
    for place in (official, _place(context, chip)):
        if place is None:
            continue
        if any_signal and pin in (place.tx, place.rx, place.cts, place.rts):
            return True
        if name in _SIGNAL and getattr(place, _SIGNAL[name].lower()) == pin:
            return True
    return False


def _objections(context: Context, chip: Chip, name: str, pin: int) -> list[tuple[Level, str]]:
    """Return what the pin is needed for besides, each with how bad a clash is."""
    found: list[tuple[Level, str]] = []
    if not _is_free_on(context, chip, name, pin, any_signal=True):
        log = chip.log_port(context.text("module_name"))
        uses: tuple[tuple[Level, frozenset[int], str], ...] = (
            ("risky", chip.flash_pins, "a pin of the flash"),
            ("risky", chip.psram_pins, "a pin of the PSRAM"),
            ("risky", frozenset({log.tx, log.rx}), "a pin of the log UART"),
            ("risky", chip.usb_pins, "a pin of USB"),
            ("risky", chip.unbonded_pins, "led out by hardly any package"),
            ("warning", chip.package_pins, "not led out by every package"),
        )
        found += [(level, text) for level, pins, text in uses if pin in pins]
    if pin in chip.strapping_pins and not _is_free_on(context, chip, name, pin, any_signal=False):
        found.append(("risky", "a strapping pin"))
    if name in CONTROL_PINS:
        found += [("risky", f"{other} too") for other in PIN_SETTINGS if context.number(other) == pin]
    return found


def _hazards(context: Context, chip: Chip, name: str, pin: int) -> Iterator[RuleFinding]:
    found = _objections(context, chip, name, pin)
    if found:
        level: Level = "risky" if any(level == "risky" for level, _ in found) else "warning"
        what = " and ".join(text for _, text in found)
        message = f"{name}: GPIO {pin} of {chip.title} is {what}"
        yield RuleFinding(name, level, message, _choice(context, name))


def _free_pins(context: Context, name: str) -> list[int]:
    """Return the GPIOs to which nothing can be objected for this signal."""
    chip = context.chip
    if chip is None:
        return []
    if chip.uart_pin_sets and name in _SIGNAL:
        return sorted({getattr(place, _SIGNAL[name].lower()) for place in chip.uart_pin_sets})
    taken = {context.number(other) for other in PIN_SETTINGS if other != name}
    if name in _OUTPUTS:
        taken |= chip.input_only
    return [pin for pin in sorted(chip.gpios - taken) if not _objections(context, chip, name, pin)]


def _choice(context: Context, name: str) -> str:
    free = _free_pins(context, name)
    if not free:
        return "choose a GPIO that is free on the board"
    return f"choose one of {listed(free)}" if len(free) > 1 else f"choose {free[0]}"

"""``ports``: the serial ports of this computer, and which module is behind which."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from esp_at_tools.cli.common import Output, current_output, json_option, talk_options
from esp_at_tools.device.ports import SerialPort, serial_ports
from esp_at_tools.errors import DeviceError, InputError

_ROLES = {
    "at": "AT port: for 'esp-at-tool at'",
    "download": "download and log port: for 'esp-at-tool flash'",
    "unknown": "nothing answers",
}


@click.command("ports", short_help="List the serial ports, and what is behind them.")
@click.option("--probe", is_flag=True, help="Ask what is behind each port: AT firmware at the usual rates.")
@click.option(
    "--reset",
    is_flag=True,
    help="With --probe: where no AT firmware answers, reset into the boot loader to ask.",
)
@click.option("--all", "every", is_flag=True, help="Ports that are not on USB too.")
@json_option
@talk_options
def command(probe: bool, reset: bool, every: bool) -> None:
    """List the serial ports, which of them may be a module, and what keeps you from using one.

    A board has two: the download and log port (UART 0, or the chip's own USB), which flash uses, and the
    AT port (UART 1 on most modules), which needs an adapter of its own. --probe tells which is which.
    """
    talk = current_output()
    if reset and not probe:
        raise InputError("--reset goes with --probe", "add --probe, or leave it out")
    found = [port for port in serial_ports() if every or port.usb_vendor is not None]
    rows = [_row(talk, port, reset=reset) if probe else _described(port) for port in found]
    if talk.json:
        talk.document({"schema": 1, "ports": rows})
        return
    if not rows:
        talk.result("No serial port on USB is connected; --all lists the others.")
    for row in rows:
        _print(talk, row)


def _described(port: SerialPort) -> dict[str, Any]:
    adapter = port.adapter
    return {
        "port": port.name,
        "description": port.description,
        "usb_vendor": port.usb_vendor,
        "usb_product": port.usb_product,
        "serial_number": port.serial_number,
        "location": port.location,
        "adapter": adapter.name if adapter else None,
        "may_be_module": port.may_be_module,
        "problem": port.problem or None,
    }


def _row(talk: Output, port: SerialPort, *, reset: bool) -> dict[str, Any]:
    from esp_at_tools.at_port.probe import Probe, probe

    talk.note(f"{port.name}: asking")

    def said(line: str) -> None:
        if talk.verbose:
            talk.note(f"{port.name}: esptool: {line}")

    try:
        found = probe(port.name, reset=reset, said=said)
    except DeviceError as error:
        found = Probe("unknown", detail=f"{error.message.removeprefix(f'{port.name}: ')} ({error.hint})")
    return {**_described(port), "probe": asdict(found)}


def _print(talk: Output, row: dict[str, Any]) -> None:
    what = row["adapter"] or ("not on USB" if row["usb_vendor"] is None else "an adapter that is not known")
    ids = "" if row["usb_vendor"] is None else f" ({row['usb_vendor']:04x}:{row['usb_product']:04x})"
    talk.result(f"{row['port']}  {what}{ids}  {row['description']}".rstrip())
    if row["problem"]:
        talk.result(f"    {row['problem']}")
    found = row.get("probe")
    if found:
        chip = " ".join(part for part in (found["chip"], found["mac"]) if part)
        facts = ", ".join(part for part in (found["detail"], chip, _rate(found["baud"])) if part)
        talk.result(f"    {_ROLES[found['role']]}{f'; {facts}' if facts else ''}")


def _rate(baud: int) -> str:
    return f"{baud} baud" if baud else ""

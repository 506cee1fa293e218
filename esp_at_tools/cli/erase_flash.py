"""``erase-flash``: erase the flash of modules, or some of their partitions."""

from __future__ import annotations

from typing import Any

import click

from esp_at_tools.cli.common import current_output, json_option, say, talk_options
from esp_at_tools.cli.device_options import baud_option, ports_option, stub_option, table_option
from esp_at_tools.cli.device_steps import watched
from esp_at_tools.device.esptool_device import Link
from esp_at_tools.device.memory import erase_memory
from esp_at_tools.device.ports import choose_ports
from esp_at_tools.errors import DeviceError
from esp_at_tools.formats.partition_table import DEFAULT_OFFSET
from esp_at_tools.numbers import format_size

DEVICE_FAILED = 3


@click.command("erase-flash", short_help="Erase the flash of modules, or some of their partitions.")
@ports_option
@baud_option
@click.option(
    "--only",
    multiple=True,
    metavar="PARTITION",
    help="Erase this partition of the module's own tables and nothing else; may be repeated.",
)
@table_option
@stub_option
@json_option
@talk_options
def command(
    ports: tuple[str, ...],
    baud: int,
    only: tuple[str, ...],
    partition_table_offset: int | None,
    no_stub: bool,
) -> None:
    """Erase the whole flash of modules: firmware, settings, certificates, all that is stored.

    With --only nvs the module forgets what it has stored itself (its Wi-Fi network, AT+SYSSTORE) and
    keeps its firmware. Several modules are erased one after the other.
    """
    talk = current_output()
    table = DEFAULT_OFFSET if partition_table_offset is None else partition_table_offset
    links = [Link(port, baud, stub=not no_stub) for port in choose_ports(ports)]
    boards: list[dict[str, Any]] = []
    for link in links:
        try:
            with watched(talk, [link]) as report:
                erased = erase_memory(link, only, table, report)
        except DeviceError as error:
            boards.append(_board(link.port, error=error))
            say(f"error: {error.message}" + (f"\n  {error.hint}" if error.hint else ""), err=True)
            continue
        whole = not only
        ranges = [{"offset": each.offset, "size": each.size} for each in erased]
        boards.append(_board(link.port, chip=erased[0].chip, mac=erased[0].mac, erased=ranges))
        what = "the whole flash" if whole else ", ".join(only)
        total = format_size(sum(each.size for each in erased))
        talk.result(f"{link.port}: erased {what}, {total}, of {erased[0].chip} {erased[0].mac}")
    if talk.json:
        talk.document({"schema": 1, "only": list(only), "boards": boards})
    if any(board["error"] for board in boards):
        raise click.exceptions.Exit(DEVICE_FAILED)


def _board(
    port: str,
    chip: str = "",
    mac: str = "",
    erased: list[dict[str, int]] | None = None,
    error: DeviceError | None = None,
) -> dict[str, Any]:
    said = None if error is None else {"message": error.message, "hint": error.hint}
    result = "done" if error is None else "failed"
    return {
        "port": port, "result": result, "chip": chip, "mac": mac, "erased": erased or [], "error": said,
    }  # fmt: skip

"""``read-flash``: copy the flash of a module, or a part of it, into a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import click

from esp_at_tools import files
from esp_at_tools.cli.common import NUMBER, PATH, current_output, json_option, talk_options
from esp_at_tools.cli.device_options import baud_option, port_option, stub_option, table_option
from esp_at_tools.cli.device_steps import watched
from esp_at_tools.device.esptool_device import Link
from esp_at_tools.device.memory import Memory, Stretch, read_memory
from esp_at_tools.device.ports import choose_ports
from esp_at_tools.formats.partition_table import DEFAULT_OFFSET
from esp_at_tools.numbers import format_size


@click.command("read-flash", short_help="Copy the flash of a module, or a part of it, into a file.")
@click.argument("output", type=PATH, metavar="OUT")
@port_option
@baud_option
@click.option(
    "--only", default="", metavar="PARTITION", help="Read this partition of the module's own tables."
)
@click.option("--offset", type=NUMBER, default=0, metavar="N", help="First address.  [default: 0]")
@click.option("--size", type=NUMBER, metavar="N", help="Bytes.  [default: up to the end of the flash]")
@table_option
@stub_option
@json_option
@talk_options
def command(
    output: Path,
    port: str,
    baud: int,
    only: str,
    offset: int,
    size: int | None,
    partition_table_offset: int | None,
    no_stub: bool,
) -> None:
    """Copy the flash of a module into the file OUT.

    The whole flash is an INPUT for every other command: inspect it, compare it with the release that it
    came from, migrate it to a newer one. The file is for its owner only: it holds what the module has
    stored, its private keys and Wi-Fi password included.
    """
    talk = current_output()
    table = DEFAULT_OFFSET if partition_table_offset is None else partition_table_offset
    stretch = Stretch(only, offset, size, table)
    files.check_output(output)
    link = Link(choose_ports([port] if port else [])[0], baud, stub=not no_stub)
    with watched(talk, [link]) as report:
        memory = read_memory(link, stretch, report)
    if memory.data.count(0xFF) == len(memory.data):
        talk.warn("all that was read is blank (0xFF)")
    files.write_file(output, memory.data, private=True)
    if talk.json:
        talk.document(_document(memory, output))
    else:
        size_text = format_size(memory.size)
        talk.result(f"{output}: {size_text} from {memory.offset:#x} of {memory.chip} {memory.mac}")


def _document(memory: Memory, output: Path) -> dict[str, Any]:
    return {
        "schema": 1,
        "port": memory.port,
        "chip": memory.chip,
        "mac": memory.mac,
        "flash_size": memory.flash_size,
        "offset": memory.offset,
        "size": memory.size,
        "output": str(output),
        "sha256": hashlib.sha256(memory.data).hexdigest(),
    }

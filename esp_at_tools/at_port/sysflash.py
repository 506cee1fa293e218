"""AT+SYSFLASH: user partitions, read, erased and written.

Source: "AT+SYSFLASH" in the ESP-AT user guide v5.0. A write is accepted although it is longer than the
partition, and the module then hears nothing else until it has all of those bytes: so every stretch is
checked against AT+SYSFLASH? first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from esp_at_tools.at_port.client import FLASH_TIMEOUT, AtClient, GarbledError, repeated
from esp_at_tools.errors import CheckFailedError, InputError
from esp_at_tools.formats.partition_table import Partition

READ_SIZE = 4096
"""Bytes that are read at once."""
WRITE_SIZE = 4096
"""Bytes that are written at once: the module holds all of them in memory before it writes."""
ATTEMPTS = 3
"""How often a partition is written that does not read back as it should."""

Progress = Callable[[int], None]


def read_partition(client: AtClient, place: Partition, progress: Progress | None = None) -> bytes:
    """Read a partition.

    Args:
        client: the module.
        place: the partition, as AT+SYSFLASH? gives it.
        progress: told how many bytes are there.
    """
    data = b""
    while len(data) < place.size:
        start, length = len(data), min(READ_SIZE, place.size - len(data))
        data += repeated(partial(_read_piece, client, place, start, length))
        if progress is not None:
            progress(len(data))
    return data


def _read_piece(client: AtClient, place: Partition, start: int, length: int) -> bytes:
    reply = client.command(f'AT+SYSFLASH=2,"{place.name}",{start},{length}')
    values = [value for head, value in reply.values if head.startswith("+SYSFLASH:")]
    if len(values) != 1 or len(values[0]) != length or not reply.whole:
        raise GarbledError(client.port, f"{place.name} at {start:#x}")
    return values[0]


def replace_partition(
    client: AtClient, place: Partition, data: bytes, progress: Progress | None = None
) -> None:
    """Erase a partition, write it, and compare what can be read with what was to be written.

    Args:
        client: the module.
        place: the partition, as AT+SYSFLASH? gives it.
        data: its new contents; what follows them stays erased.
        progress: told how many bytes are written and compared.

    Raises:
        CheckFailedError: it does not read back as it should, although it was tried several times.
    """
    _check(place, len(data))
    used = data.rstrip(b"\xff")
    for _ in range(ATTEMPTS):
        client.command(f'AT+SYSFLASH=0,"{place.name}"', timeout=FLASH_TIMEOUT)
        if _written(client, place, used, progress):
            return
    raise CheckFailedError(
        f"{client.port}: {place.name} does not read back as it was written",
        "bytes are lost on the way: a lower rate, or flow control (--flow), may help; then run it again",
    )


def _written(client: AtClient, place: Partition, data: bytes, progress: Progress | None) -> bool:
    """Write an erased partition piece by piece; tell whether all of it reads back."""
    for at in range(0, len(data), WRITE_SIZE):
        piece = data[at : at + WRITE_SIZE]
        if piece.count(0xFF) < len(piece):
            command = f'AT+SYSFLASH=1,"{place.name}",{at},{len(piece)}'
            client.command(command, piece, timeout=FLASH_TIMEOUT)
        if progress is not None:
            progress(at + len(piece))
    return read_partition(client, place) == data.ljust(place.size, b"\xff")


def _check(place: Partition, size: int) -> None:
    if size > place.size:
        raise InputError(
            f"{place.name}: {size} bytes, and the module's partition has {place.size}",
            "give contents that are made for this module's partition table",
        )

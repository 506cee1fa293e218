"""The flash of a connected device as a whole: read into memory, or erased."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from esp_at_tools.device.esptool_device import Device, Link, open_device
from esp_at_tools.device.flashing import BLOCK_SIZE, Report, Step
from esp_at_tools.device.own_partitions import own_partition
from esp_at_tools.errors import DeviceError, InputError
from esp_at_tools.formats.partition_table import DEFAULT_OFFSET, SECTOR_SIZE, Partition
from esp_at_tools.numbers import format_size

_Result = TypeVar("_Result")

MAX_FLASH_SIZE = 16 << 20
"""Bytes: the largest flash that an ESP module has and that a stretch may lie in."""


@dataclass(frozen=True)
class Stretch:
    """Which part of the flash; all of it where nothing is said.

    Attributes:
        partition: name of a partition of the device's own tables, ``""`` for none.
        offset: address in bytes, of a stretch that is no partition.
        size: bytes, None for up to the end of the flash.
        table_offset: where the device's primary table is.
    """

    partition: str = ""
    offset: int = 0
    size: int | None = None
    table_offset: int = DEFAULT_OFFSET

    def __post_init__(self) -> None:
        """Refuse what no flash has.

        Raises:
            InputError: a negative or absurd number, or a partition together with numbers.
        """
        if self.partition and (self.offset or self.size is not None):
            raise InputError("--only and --offset/--size both say what to take", "give one of them")
        if not 0 <= self.offset < MAX_FLASH_SIZE:
            raise InputError(f"--offset {self.offset:#x}: is past every flash", "0 to 0xFFFFFF")
        if self.size is not None and not 0 < self.size <= MAX_FLASH_SIZE - self.offset:
            raise InputError(f"--size {self.size}: is no size of a stretch of flash", "1 byte to 16 MB")

    def on(self, device: Device) -> tuple[int, int]:
        """Return address and size on a device.

        Raises:
            DeviceError: it has no such partition, a smaller flash, or does not tell its size.
        """
        if self.partition:
            found = own_partition(device, self.table_offset, self.partition)
            return found.offset, found.size
        size = self.size
        if size is None:
            if not device.flash_size:
                raise DeviceError(
                    f"{device.port}: does not tell the size of its flash", "give it with --size"
                )
            size = device.flash_size - self.offset
        if size <= 0 or 0 < device.flash_size < self.offset + size:
            raise DeviceError(
                f"{device.port}: has {format_size(device.flash_size)} of flash, and"
                f" {self.offset:#x} to {self.offset + size:#x} was asked for",
                "give a smaller --offset or --size",
            )
        return self.offset, size


@dataclass(frozen=True)
class Memory:
    """What was read from, or erased on, a device.

    Attributes:
        port: its port.
        chip: ``esp32c3``.
        mac: its MAC address.
        flash_size: bytes of its flash, 0 if unknown.
        offset: address of the stretch.
        size: bytes of the stretch.
        data: what was read, ``b""`` for an erased one.
    """

    port: str
    chip: str
    mac: str
    flash_size: int
    offset: int
    size: int
    data: bytes = b""


def read_memory(link: Link, stretch: Stretch, report: Report) -> Memory:
    """Read the flash of the device on a port, or a stretch of it; what is blank is not transferred.

    Raises:
        DeviceError: it does not answer, the stretch is not there, flash encryption hides it, …
    """

    def use(device: Device) -> Memory:
        if not device.can_compare:
            raise DeviceError(f"{link.port}: the ROM of an ESP8266 cannot read", "leave out --no-stub")
        if device.encrypted:
            report(Step(link.port, "note", "flash encryption is on: what is read is encrypted"))
        offset, size = stretch.on(device)
        data = _read(device, offset, size, report)
        return Memory(link.port, device.chip, device.mac, device.flash_size, offset, size, data)

    return _with_device(link, report, use)


def _read(device: Device, offset: int, size: int, report: Report) -> bytes:
    text = f"reading {format_size(size)}"
    parts: list[bytes] = []
    done = 0
    for run, is_blank in _runs(device, offset, size, report):
        if is_blank:
            parts.append(b"\xff" * run)
        else:
            start = done

            def told(count: int, start: int = start) -> None:
                report(Step(device.port, "read", text, start + count, size))

            parts.append(device.read(offset + done, run, told))
        done += run
        report(Step(device.port, "read", text, done, size))
    return b"".join(parts)


def _runs(device: Device, offset: int, size: int, report: Report) -> list[tuple[int, bool]]:
    """Return the lengths of blank and other stretches, told by the MD5 of every 64 KB."""
    runs: list[tuple[int, bool]] = []
    for at in range(0, size, BLOCK_SIZE):
        report(Step(device.port, "compare", "looking for blank flash", at, size))
        length = min(BLOCK_SIZE, size - at)
        blank = hashlib.md5(b"\xff" * length, usedforsecurity=False).hexdigest()
        is_blank = device.md5(offset + at, length) == blank
        if runs and runs[-1][1] == is_blank:
            runs[-1] = (runs[-1][0] + length, is_blank)
        else:
            runs.append((length, is_blank))
    return runs


def erase_memory(link: Link, partitions: Sequence[str], table_offset: int, report: Report) -> list[Memory]:
    """Erase the flash of the device on a port, or some of its partitions.

    Raises:
        DeviceError: it does not answer, has no such partition, or would never start again: secure boot
            or flash encryption is on.
    """

    def use(device: Device) -> list[Memory]:
        _check_erasable(device, whole=not partitions)
        if not partitions:
            report(Step(link.port, "erase", "erasing the whole flash"))
            device.erase_all()
            return [Memory(link.port, device.chip, device.mac, device.flash_size, 0, device.flash_size)]
        places = [(name, own_partition(device, table_offset, name)) for name in partitions]
        for name, place in places:
            _check_sectors(device, place)
            report(
                Step(link.port, "erase", f"erasing {name}, {format_size(place.size)} at {place.offset:#x}")
            )
            device.erase(place.offset, place.size)
        return [
            Memory(link.port, device.chip, device.mac, device.flash_size, place.offset, place.size)
            for _, place in places
        ]

    return _with_device(link, report, use)


def _check_erasable(device: Device, *, whole: bool) -> None:
    if not whole:
        return
    for is_on, what in ((device.secure_boot, "secure boot"), (device.encrypted, "flash encryption")):
        if is_on:
            raise DeviceError(
                f"{device.port}: the chip has {what} on: erased, it would never start again",
                "erase single partitions: --only nvs",
            )


def _check_sectors(device: Device, place: Partition) -> None:
    if place.offset % SECTOR_SIZE or place.size % SECTOR_SIZE:
        raise DeviceError(
            f"{device.port}: {place.name} at {place.offset:#x} is not made of whole 4 KB sectors, which alone"
            " can be erased",
            "mend the module's partition table",
        )


def _with_device(link: Link, report: Report, use: Callable[[Device], _Result]) -> _Result:
    """Connect, let ``use`` do its work, and let the module start its firmware again."""
    report(Step(link.port, "connect", "connecting"))
    with open_device(link, lambda line: report(Step(link.port, "said", line))) as device:
        if device.secure_download:
            raise DeviceError(
                f"{link.port}: the chip is in Secure Download Mode: nobody can read or erase its flash",
                "nothing can be done through this port",
            )
        device.prepare()
        size = f", {format_size(device.flash_size)} of flash" if device.flash_size else ""
        report(Step(link.port, "found", f"{device.title}{size}, MAC {device.mac}"))
        try:
            return use(device)
        finally:
            device.restart()

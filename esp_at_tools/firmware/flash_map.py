"""What lies where in a flash: located through the partition tables, never by searching for contents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.firmware.source import Source
from esp_at_tools.formats import partition_checks
from esp_at_tools.formats.partition_table import (
    AT_CUSTOMIZE,
    DEFAULT_OFFSET,
    TABLE_SIZE,
    Partition,
    PartitionTable,
    TableProblem,
    has_table_rows,
    locate_primary,
    locate_secondary,
)

TableName = Literal["primary", "secondary"]


@dataclass(frozen=True)
class Place:
    """A partition and the table that lists it."""

    table: TableName
    partition: Partition


@dataclass(frozen=True)
class FlashMap:
    """The two tables of an AT firmware.

    Attributes:
        offset: address of the primary table.
        primary: the table that the bootloader reads.
        secondary: the table at the beginning of ``at_customize``, which only the AT firmware reads.
        problem: why there is no secondary table although there should be one.
    """

    offset: int
    primary: PartitionTable
    secondary: PartitionTable | None
    problem: str = ""

    def places(self) -> Iterator[Place]:
        """Yield every partition of both tables, the primary one first."""
        for partition in self.primary:
            yield Place("primary", partition)
        for partition in self.secondary or ():
            yield Place("secondary", partition)

    def contradictions(self, flash_size: int) -> list[TableProblem]:
        """Return what makes the tables impossible to trust: overlaps, and partitions past the flash.

        Args:
            flash_size: bytes of flash; 0 where it is not known.
        """
        found = [
            *partition_checks.check_below_table(self.primary, self.offset),
            *partition_checks.check_overlaps(self.primary),
            *partition_checks.check_flash_size(self.primary, flash_size or None),
        ]
        if self.secondary is not None:
            found += partition_checks.check_overlaps(self.secondary)
            found += partition_checks.check_flash_size(self.secondary, flash_size or None)
            found += partition_checks.check_secondary(self.primary, self.secondary)
        return [problem for problem in found if problem.level == "error"]


def locate(source: Source, offset: int | None) -> FlashMap | None:
    """Find and read the tables.

    Args:
        source: the flash.
        offset: where the primary table is; None for 0x8000 or, where no table is there, the first
            valid table with an application partition on a 4 KB boundary (the ESP32-C5's and
            ESP32-C61's is at 0xC000, and their bootloader may reach past 0x8000).

    Returns:
        None where there is no table.

    Raises:
        InputError: the table at the asked place, at 0x8000 or in ``at_customize`` is damaged.
    """
    image = source.read(0, source.end)
    try:
        at, primary = locate_primary(image, offset)
    except FormatError as error:
        if offset is None and not has_table_rows(_sector(image)):
            return None
        where = "" if offset is None else f"--partition-table-offset {offset:#x}: "
        hint = "download it again; --partition-table-offset tells where the table is if it is elsewhere"
        raise InputError(f"{where}{source.path}: no sound partition table {error.message}", hint) from error
    if at == 0 and offset is None:
        return None  # a table alone, before which no bootloader has room
    home = primary.find(AT_CUSTOMIZE)
    try:
        found = locate_secondary(image, primary)
    except FormatError as error:
        return FlashMap(at, primary, None, error.message)
    if found is not None:
        return FlashMap(at, primary, found[1])
    return FlashMap(at, primary, None, f"nothing is at {home.offset:#x}" if home else "")


def _sector(image: bytes) -> bytes:
    return image[DEFAULT_OFFSET : DEFAULT_OFFSET + TABLE_SIZE]

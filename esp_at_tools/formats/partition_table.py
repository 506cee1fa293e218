"""The partition table: 32-byte rows at 0x8000, and in ``at_customize`` the secondary table.

Source of the format: ``esp_partition_info_t`` of ``esp_flash_partitions.h`` and
``flash_partitions.c`` (what the bootloader accepts), and ``gen_esp32part.py`` (what is written),
ESP-IDF v5.4.4. The CSV form is in :mod:`esp_at_tools.formats.partition_csv`, the checks are in
:mod:`esp_at_tools.formats.partition_checks`. All integers are little-endian.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from esp_at_tools.errors import FormatError

ROW_SIZE = 32
"""Bytes in a row."""
TABLE_SIZE = 0xC00
"""Bytes of a table: 96 rows, of which the last can only be the end marker or the checksum's neighbour."""
SECTOR_SIZE = 0x1000
"""Bytes that a table occupies in flash; what lies past ``TABLE_SIZE`` may hold a signature."""
MAX_PARTITIONS = 95
"""Partitions in a table without checksum; 94 fit beside one."""
DEFAULT_OFFSET = 0x8000
"""Where the primary table is unless the firmware was configured otherwise."""
MAX_NAME = 16
"""Bytes in a name; a name of exactly 16 bytes has no closing NUL."""

MAGIC = b"\xaa\x50"
"""``ESP_PARTITION_MAGIC``."""
MD5_MAGIC = b"\xeb\xeb"
"""``ESP_PARTITION_MAGIC_MD5``; 14 bytes of 0xFF and the MD5 of all rows before follow."""
END_ROW = b"\xff" * ROW_SIZE

ROW = struct.Struct("<2sBBII16sI")
"""``esp_partition_info_t``: magic, type, subtype, offset, size, label, flags."""
assert ROW.size == ROW_SIZE  # noqa: S101 - a mistake here must not get past the import

APP, DATA, BOOTLOADER, TABLE = 0x00, 0x01, 0x02, 0x03
AT_CUSTOMIZE = "at_customize"
"""Name of the partition whose first sector holds the secondary table."""
AT_CUSTOMIZE_TYPE = 0x40
"""The type of ESP-AT's own partitions, the first that ESP-IDF leaves to applications."""

OTA_APP_MIN, OTA_APP_MAX = 0x10, 0x1F
"""Subtypes of ``ota_0`` to ``ota_15``."""
OTA_DATA = 0x00
NVS_DATA = 0x02
COREDUMP_DATA = 0x03
TEE_OTA_DATA = 0x90

TYPES = {"app": APP, "data": DATA, "bootloader": BOOTLOADER, "partition_table": TABLE}
"""Name of a type → its number."""

SUBTYPES: dict[int, dict[str, int]] = {
    APP: {
        "factory": 0x00,
        "test": 0x20,
        **{f"ota_{slot}": OTA_APP_MIN + slot for slot in range(16)},
        "tee_0": 0x30,
        "tee_1": 0x31,
    },
    DATA: {
        "ota": OTA_DATA, "phy": 0x01, "nvs": NVS_DATA, "coredump": COREDUMP_DATA, "nvs_keys": 0x04,
        "efuse": 0x05, "undefined": 0x06, "esphttpd": 0x80, "fat": 0x81, "spiffs": 0x82,
        "littlefs": 0x83, "tee_ota": TEE_OTA_DATA,
    },
    BOOTLOADER: {"primary": 0x00, "ota": 0x01, "recovery": 0x02},
    TABLE: {"primary": 0x00, "ota": 0x01},
}  # fmt: skip
"""Type → name of a subtype → its number (``esp_partition_subtype_t``)."""

FLAGS = {"encrypted": 1, "readonly": 2}
"""Name of a flag → its bit."""

Bytes = bytes | bytearray | memoryview
Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Partition:
    """One partition.

    Attributes:
        name: 1 to 16 bytes of UTF-8 (0 are possible and useless).
        type: 0 to 255.
        subtype: 0 to 255.
        offset: address in flash, in bytes.
        size: in bytes, at least 1.
        flags: bit 0 encrypted, bit 1 read-only.
    """

    name: str
    type: int
    subtype: int
    offset: int
    size: int
    flags: int = 0

    @property
    def end(self) -> int:
        """Address of the first byte after the partition."""
        return self.offset + self.size

    @property
    def encrypted(self) -> bool:
        """Whether the partition is encrypted where flash encryption is on."""
        return bool(self.flags & FLAGS["encrypted"])

    @property
    def readonly(self) -> bool:
        """Whether the firmware may not write to it."""
        return bool(self.flags & FLAGS["readonly"])

    @property
    def type_name(self) -> str:
        """The type as people know it: ``app``, ``data``, ``0x40``."""
        return next((name for name, number in TYPES.items() if number == self.type), f"0x{self.type:02x}")

    @property
    def subtype_name(self) -> str:
        """The subtype as people know it: ``ota_0``, ``nvs``, ``0x08``."""
        names = SUBTYPES.get(self.type, {})
        return next(
            (name for name, number in names.items() if number == self.subtype), f"0x{self.subtype:02x}"
        )

    @property
    def flag_names(self) -> tuple[str, ...]:
        """The flags that are set, by name; a bit without a name as ``0x80``."""
        names = tuple(name for name, bit in FLAGS.items() if self.flags & bit)
        unknown = self.flags & ~sum(FLAGS.values())
        return (*names, f"0x{unknown:x}") if unknown else names

    @property
    def is_ota_app(self) -> bool:
        """Whether it is one of ``ota_0`` to ``ota_15``."""
        return self.type == APP and OTA_APP_MIN <= self.subtype <= OTA_APP_MAX

    @property
    def is_fixed(self) -> bool:
        """Whether it describes the bootloader or the table itself, which may stand below the table's end."""
        return self.type in (BOOTLOADER, TABLE) and self.subtype == 0

    def overlaps(self, other: Partition) -> bool:
        """Whether the two share a byte."""
        return self.offset < other.end and other.offset < self.end

    def contains(self, other: Partition) -> bool:
        """Whether the other lies wholly inside this one."""
        return self.offset <= other.offset and other.end <= self.end

    def to_bytes(self) -> bytes:
        """Return its row of 32 bytes.

        Raises:
            FormatError: a name that does not fit, a number out of range, or a size of 0.
        """
        name = encode_name(self.name)
        for what, value, top in (
            ("type", self.type, 0xFF),
            ("subtype", self.subtype, 0xFF),
            ("offset", self.offset, 0xFFFF_FFFF),
            ("size", self.size, 0xFFFF_FFFF),
            ("flags", self.flags, 0xFFFF_FFFF),
        ):
            if not 0 <= value <= top:
                raise FormatError(
                    f"partition {self.name!r}: {what} {value:#x} is out of range",
                    f"a {what} is 0 to {top:#x}",
                )
        if self.size == 0:
            raise FormatError(f"partition {self.name!r} has no size", "give it at least 4 KB")
        return ROW.pack(MAGIC, self.type, self.subtype, self.offset, self.size, name, self.flags)


def alignment_of(type_: int) -> int:
    """Return what the offset of a partition must be a multiple of: 64 KB for an application, else 4 KB."""
    return 0x10000 if type_ == APP else SECTOR_SIZE


def encode_name(name: str) -> bytes:
    """Return a partition's name as bytes.

    Raises:
        FormatError: more than 16 bytes, a NUL, or text that UTF-8 cannot hold.
    """
    try:
        raw = name.encode()
    except UnicodeEncodeError as error:
        raise FormatError(f"partition name {name!r} is not text", "use letters, digits and _") from error
    if len(raw) > MAX_NAME:
        raise FormatError(
            f"partition name {name!r} has {len(raw)} bytes, and the table has room for {MAX_NAME}",
            f"shorten it to at most {MAX_NAME} bytes",
        )
    if b"\0" in raw:
        raise FormatError(
            f"partition name {name!r} holds a NUL, where the firmware would cut it", "remove it"
        )
    return raw


@dataclass(frozen=True)
class TableProblem:
    """Something that is wrong with a table.

    Attributes:
        level: ``error`` where the firmware or ESP-IDF's tools would fail, ``warning`` where it is odd.
        message: what is wrong.
        partition: name of the partition that it is about, ``""`` for the table as a whole.
    """

    level: Level
    message: str
    partition: str = ""


@dataclass(frozen=True)
class PartitionTable:
    """A partition table, primary or secondary.

    Attributes:
        partitions: in the order of the rows.
        md5: whether a row with the MD5 of the others follows them.
    """

    partitions: tuple[Partition, ...]
    md5: bool = True

    def __iter__(self) -> Iterator[Partition]:
        """Iterate over the partitions in the order of the rows."""
        return iter(self.partitions)

    def __len__(self) -> int:
        """Return the number of partitions."""
        return len(self.partitions)

    def find(self, name: str) -> Partition | None:
        """Return the first partition of that name, or None."""
        return next((partition for partition in self.partitions if partition.name == name), None)

    def of_type(self, type_: int, subtype: int | None = None) -> tuple[Partition, ...]:
        """Return the partitions of a type, and of a subtype if one is given."""
        return tuple(p for p in self.partitions if p.type == type_ and subtype in (None, p.subtype))

    @property
    def apps(self) -> tuple[Partition, ...]:
        """The application partitions."""
        return self.of_type(APP)

    @property
    def end(self) -> int:
        """Address of the first byte after the last partition, 0 without any."""
        return max((partition.end for partition in self.partitions), default=0)

    @classmethod
    def from_bytes(cls, data: Bytes) -> PartitionTable:
        """Read a table.

        Args:
            data: the table from its first byte on; what follows its end marker, and everything past
                ``TABLE_SIZE``, is not looked at.

        Raises:
            FormatError: no row at all, a row that is none, a wrong MD5, a name that is not UTF-8, a
                partition without size, or no end marker.
        """
        view = memoryview(data)[:TABLE_SIZE]
        partitions: list[Partition] = []
        md5 = False
        for start in range(0, len(view), ROW_SIZE):
            row = bytes(view[start : start + ROW_SIZE])
            where = f"row {start // ROW_SIZE} of the partition table"
            if len(row) < ROW_SIZE:
                raise FormatError(f"{where} is cut short after {len(row)} bytes", "give the whole table")
            if row == END_ROW:
                return cls(_at_least_one(partitions), md5)
            if md5:
                raise FormatError(f"{where} follows the checksum, where the table must end", _HINT)
            if row[:2] == MD5_MAGIC:
                _check_md5(view[:start], row, where)
                md5 = True
            else:
                partitions.append(_read_row(row, where))
        _at_least_one(partitions)
        raise FormatError(f"the partition table has no end marker within {len(view)} bytes", _HINT)

    def to_bytes(self) -> bytes:
        """Return the table as ``TABLE_SIZE`` bytes: rows, checksum row if there is one, 0xFF.

        Raises:
            FormatError: no or too many partitions, or one that does not fit its row.
        """
        rows = b"".join(partition.to_bytes() for partition in _at_least_one(list(self.partitions)))
        room = MAX_PARTITIONS - self.md5
        if len(self.partitions) > room:
            raise FormatError(
                f"{len(self.partitions)} partitions are too many for a partition table",
                f"it has room for {room}",
            )
        if self.md5:
            rows += MD5_MAGIC + b"\xff" * 14 + _md5(rows)
        return rows.ljust(TABLE_SIZE, b"\xff")

    @classmethod
    def from_csv(
        cls,
        text: str,
        *,
        offset_part_table: int = DEFAULT_OFFSET,
        primary: bool = True,
        md5: bool = True,
        bootloader_offset: int | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> PartitionTable:
        """Read a CSV table; see :func:`esp_at_tools.formats.partition_csv.parse_csv` for what it takes.

        Args:
            text: the CSV.
            offset_part_table: address of the table; partitions without an offset begin a sector later.
            primary: whether it is the primary table; only errors are worded by it.
            md5: whether :meth:`to_bytes` shall write a checksum. The primary table of AT firmware has
                none, the secondary one has.
            bootloader_offset: where the bootloader is, for a table that lists it.
            variables: values for ``$NAME`` and ``${NAME}``.

        Raises:
            FormatError: a line that cannot be read, or no partition at all.
        """
        from esp_at_tools.formats.partition_csv import parse_csv

        partitions = parse_csv(
            text,
            offset_part_table=offset_part_table,
            primary=primary,
            bootloader_offset=bootloader_offset,
            variables=variables or {},
        )
        return cls(_at_least_one(partitions), md5)

    def to_csv(self) -> str:
        """Return the table as CSV, as ``gen_esp32part.py`` writes it.

        Raises:
            FormatError: a name or a flag that CSV cannot hold.
        """
        from esp_at_tools.formats.partition_csv import render_csv

        return render_csv(self.partitions)

    def validate(
        self, *, offset_part_table: int = DEFAULT_OFFSET, flash_size: int | None = None, primary: bool = True
    ) -> list[TableProblem]:
        """Check the table; see :func:`esp_at_tools.formats.partition_checks.check_table`."""
        from esp_at_tools.formats.partition_checks import check_table

        return check_table(self, offset_part_table=offset_part_table, flash_size=flash_size, primary=primary)


_HINT = "give an intact partition table: rows of 32 bytes that begin with AA 50, closed by 32 bytes of FF"


def _md5(rows: Bytes) -> bytes:
    return hashlib.md5(rows, usedforsecurity=False).digest()


def _at_least_one(partitions: list[Partition]) -> tuple[Partition, ...]:
    if not partitions:
        raise FormatError("the partition table holds no partition", "give a table with at least one")
    return tuple(partitions)


def _check_md5(rows: Bytes, row: bytes, where: str) -> None:
    actual = _md5(rows)
    if row[16:] != actual:
        raise FormatError(
            f"{where} is a checksum that does not match: {row[16:].hex()} instead of {actual.hex()}",
            "the table is damaged or was changed without its checksum; give an intact one",
        )


def _read_row(row: bytes, where: str) -> Partition:
    magic, type_, subtype, offset, size, raw_name, flags = ROW.unpack(row)
    if magic != MAGIC:
        raise FormatError(f"{where} begins with {magic.hex(' ').upper()}, not AA 50", _HINT)
    label = raw_name.partition(b"\0")[0]
    try:
        name = label.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{where} has a name that is not UTF-8: {label.hex(' ')}", _HINT) from error
    if size == 0:
        raise FormatError(f"{where}, partition {name!r}, has no size", _HINT)
    return Partition(name, type_, subtype, offset, size, flags)


def has_table_rows(data: Bytes) -> bool:
    """Tell whether a sector holds a partition table, be it damaged: a row or a checksum row is there."""
    view = memoryview(data)[:TABLE_SIZE]
    rows = (bytes(view[start : start + ROW_SIZE]) for start in range(0, len(view), ROW_SIZE))
    return any(_plausible(row) for row in rows)


_READABLE = re.compile(rb"[\x20-\x7e\x80-\xff]{1,16}\0*", re.DOTALL)


def _plausible(row: bytes) -> bool:
    if row[:16] == MD5_MAGIC + b"\xff" * 14:
        return True
    if len(row) < ROW_SIZE or row[:2] != MAGIC:
        return False
    _, _, _, offset, size, name, _ = ROW.unpack(row)
    # Code or data may hold AA 50 by chance; a partition also begins on a sector and has a readable name.
    return offset % SECTOR_SIZE == 0 and size > 0 and bool(_READABLE.fullmatch(name))


def locate_primary(image: Bytes, offset: int | None = None) -> tuple[int, PartitionTable]:
    """Find the primary table of a flash image.

    Args:
        image: the flash from address 0 on; it may be shorter than the flash.
        offset: where the table is; without it 0x8000, and only where nothing of a table stands
            there the first 4 KB boundary with a valid table that has an application partition.

    Returns:
        The table's address and the table.

    Raises:
        FormatError: there is none, or the one that is there is damaged or has no application.
    """
    view = memoryview(image)
    at = DEFAULT_OFFSET if offset is None else offset
    if offset is not None or has_table_rows(view[at : at + TABLE_SIZE]):
        try:
            table = PartitionTable.from_bytes(view[at : at + TABLE_SIZE])
        except FormatError as error:
            raise FormatError(f"at {at:#x}: {error.message}", error.hint) from error
        if not table.apps:
            raise FormatError(
                f"at {at:#x}: the partition table has no application partition",
                "give the address of the primary table",
            )
        return at, table
    for start in range(0, len(view), SECTOR_SIZE):
        if view[start : start + 2] == MAGIC:
            try:
                table = PartitionTable.from_bytes(view[start : start + TABLE_SIZE])
            except FormatError:
                continue
            if table.apps:
                return start, table
    raise FormatError(
        f"no partition table at {DEFAULT_OFFSET:#x} nor on any other 4 KB boundary",
        "give a whole flash image, from address 0 on",
    )


def locate_secondary(image: Bytes, primary: PartitionTable) -> tuple[int, PartitionTable] | None:
    """Find the secondary table in the partition ``at_customize``.

    Returns:
        Its address and the table; None without such a partition, or where its first sector is blank
        or past the end of the image.

    Raises:
        FormatError: what stands there is not a partition table.
    """
    home = primary.find(AT_CUSTOMIZE)
    sector = (
        memoryview(image)[home.offset : home.offset + min(TABLE_SIZE, home.size)] if home else memoryview(b"")
    )
    if home is None or bytes(sector).count(0xFF) == len(sector):
        return None
    try:
        return home.offset, PartitionTable.from_bytes(sector)
    except FormatError as error:
        raise FormatError(f"at {home.offset:#x}, in {AT_CUSTOMIZE}: {error.message}", error.hint) from error

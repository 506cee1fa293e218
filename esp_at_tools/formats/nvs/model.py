"""The vocabulary of NVS: types, entries, problems, and the layout of a page.

Source of the format: ESP-IDF, "Non-Volatile Storage Library", and ``nvs_types.hpp`` and
``nvs_page.hpp`` of ESP-IDF v5.4.4. All integers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Literal

PAGE_SIZE = 4096
"""Bytes in a page, which is one flash sector."""
ENTRY_SIZE = 32
"""Bytes in an entry."""
ENTRY_COUNT = 126
"""Entries in a page, after the header and the state bitmap of one entry's size each."""
FIRST_ENTRY_OFFSET = 64
"""Offset of entry 0 in its page."""

PAGE_EMPTY = 0xFFFF_FFFF
PAGE_ACTIVE = 0xFFFF_FFFE
PAGE_FULL = 0xFFFF_FFFC
PAGE_FREEING = 0xFFFF_FFF8
PAGE_CORRUPT = 0xFFFF_FFF0
"""Page states: each is reached from the one before by clearing bits."""

ENTRY_EMPTY = 0b11
ENTRY_WRITTEN = 0b10
ENTRY_ERASED = 0b00
"""Two bits per entry in the state bitmap."""

VERSION_BYTE = {1: 0xFF, 2: 0xFE}
"""Format version → byte in the page header; version 2 has blobs of several pages."""

CHUNK_ANY = 0xFF
"""Chunk index of everything that is not a chunk of a blob."""

MAX_KEY_LENGTH = 15
"""Bytes in a key or a namespace's name, without the NUL that follows."""

PAGE_HEADER = struct.Struct("<IIB19sI")
"""``Page::Header``: state, sequence number, version, reserved, CRC-32 of bytes 4 to 27."""
ENTRY_HEADER = struct.Struct("<BBBBI16s8s")
"""``Item``: namespace index, type, span, chunk index, CRC-32, key, data."""
assert PAGE_HEADER.size == ENTRY_SIZE  # noqa: S101 - a mistake here must not get past the import
assert ENTRY_HEADER.size == ENTRY_SIZE  # noqa: S101

NvsType = Literal["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "string", "blob"]
Level = Literal["error", "warning", "info"]

INTEGER_CODE: dict[str, int] = {
    "u8": 0x01, "i8": 0x11, "u16": 0x02, "i16": 0x12, "u32": 0x04, "i32": 0x14, "u64": 0x08, "i64": 0x18,
}  # fmt: skip
"""Name of an integer type → its code: the low half is the size in bytes, 0x10 marks a sign."""
CODE_STRING = 0x21
CODE_BLOB_V1 = 0x41
"""A blob in one piece, as format version 1 writes it."""
CODE_BLOB_DATA = 0x42
CODE_BLOB_INDEX = 0x48


def crc32(data: bytes | memoryview) -> int:
    """Return the CRC that NVS uses: CRC-32 started with 0xFFFFFFFF (``esp_rom_crc32_le``)."""
    return zlib.crc32(data, 0xFFFF_FFFF)


@dataclass(frozen=True)
class NvsEntry:
    """One key and its value.

    Attributes:
        namespace: name of its namespace.
        key: at most 15 bytes; bytes that are not UTF-8 stand as U+DC80 to U+DCFF (surrogateescape).
        type: ``u8`` to ``i64``, ``string`` or ``blob``.
        value: an int, a str (without the closing NUL, surrogateescape) or bytes, as the type says.
    """

    namespace: str
    key: str
    type: NvsType
    value: int | str | bytes


@dataclass(frozen=True)
class NvsProblem:
    """Something that is wrong with an image.

    Attributes:
        level: ``error`` where the firmware loses or cannot read something, ``warning`` where it copes.
        page: index of the page in the image, from 0; None for the image as a whole.
        entry: index of the entry in the page, 0 to 125; None for the page as a whole.
        message: what is wrong and what the firmware does about it.
    """

    level: Level
    page: int | None
    entry: int | None
    message: str

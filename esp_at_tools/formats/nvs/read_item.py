"""Items: the entries of a page that head something, and how the firmware searches for them.

Source: ``Item`` and ``Item::checkHeaderConsistency`` of ``nvs_types.cpp``, ``Page::findItem`` of
``nvs_page.cpp`` and ``HashList`` of ``nvs_item_hash_list.cpp``, ESP-IDF v5.4.4.
"""

from __future__ import annotations

import zlib
from enum import Enum, auto
from typing import NamedTuple

from esp_at_tools.formats.nvs.model import (
    CHUNK_ANY,
    CODE_BLOB_DATA,
    CODE_BLOB_INDEX,
    CODE_BLOB_V1,
    CODE_STRING,
    ENTRY_COUNT,
    ENTRY_HEADER,
    ENTRY_SIZE,
    INTEGER_CODE,
    MAX_KEY_LENGTH,
)

NAMESPACE_ANY = 255
"""In a search: every namespace. The firmware uses the number without asking whether it is real."""
CODE_ANY = 0xFF
"""In a search: every type."""
START_ANY = 0xFF
"""In a search for a blob's index: both ranges of chunk indexes."""

INTEGER_SIZE = {code: code & 0x0F for code in INTEGER_CODE.values()}
"""Type code of an integer → its size in bytes."""
VARIABLE_LENGTH = frozenset({CODE_STRING, CODE_BLOB_V1, CODE_BLOB_DATA})
"""Type codes of what is followed by entries of data."""
MAX_BLOB_SIZE = 127 * (ENTRY_COUNT - 1) * ENTRY_SIZE
"""Bytes that the index of a blob may announce: 127 chunks of a page each."""

_SEED = 0xFFFF_FFFF
_BYTE = [bytes((value,)) for value in range(256)]
_KEY_FIELD = MAX_KEY_LENGTH + 1


class Item(NamedTuple):
    """``Item``: an entry whose header is consistent.

    Attributes:
        entry: its index in the page, 0 to 125.
        namespace_index: 0 for the definition of a namespace.
        type: its type code.
        span: entries that it occupies, itself included.
        chunk_index: of a chunk of a blob; 0xFF of everything else.
        key: the bytes before the first NUL, 16 where there is none.
        data: the eight bytes of the value, or the size and CRC-32 of the data that follow.
        hash: the 24 bits by which the firmware looks it up.
        offset: of the entry in the image.
    """

    entry: int
    namespace_index: int
    type: int
    span: int
    chunk_index: int
    key: bytes
    data: bytes
    hash: int
    offset: int

    @property
    def name(self) -> bytes:
        """As much of the key as the firmware compares: 15 bytes."""
        return self.key[:MAX_KEY_LENGTH]

    def is_same_as(self, other: Item) -> bool:
        """Whether both are values of one key, or parts of one blob."""
        return self.namespace_index == other.namespace_index and self.key == other.key

    @property
    def data_size(self) -> int:
        """Bytes of data in the entries that follow (strings, old blobs and chunks)."""
        return int.from_bytes(self.data[:2], "little")

    @property
    def data_crc(self) -> int:
        """CRC-32 of these data."""
        return int.from_bytes(self.data[4:], "little")

    @property
    def blob_size(self) -> int:
        """Bytes in all chunks together (indexes of blobs)."""
        return int.from_bytes(self.data[:4], "little")

    @property
    def chunk_count(self) -> int:
        """Chunks (indexes of blobs)."""
        return self.data[4]

    @property
    def chunk_start(self) -> int:
        """Index of the first chunk (indexes of blobs): 0 and 0x80 alternate from write to write."""
        return self.data[5]


def lookup_hash(namespace_index: int, key_field: bytes, chunk_index: int) -> int:
    """Return the hash of an item (``calculateCrc32WithoutValue``): the type is not part of it."""
    return zlib.crc32(_BYTE[namespace_index] + key_field + _BYTE[chunk_index], _SEED) & 0xFF_FFFF


def parse_item(image: bytes, offset: int, index: int) -> Item | None:
    """Return the item whose header is at ``offset``; None where the firmware would reject it."""
    header = image[offset : offset + ENTRY_SIZE]
    namespace_index, code, span, chunk_index, crc, key, data = ENTRY_HEADER.unpack(header)
    if zlib.crc32(header[8:], zlib.crc32(header[:4], _SEED)) != crc:
        return None
    if code in INTEGER_SIZE:
        if span != 1:
            return None
    elif _structure_fault(code, span, chunk_index, data, index):
        return None
    bare = key.partition(b"\0")[0]
    checked = lookup_hash(namespace_index, key, chunk_index)
    return Item(index, namespace_index, code, span, chunk_index, bare, data, checked, offset)


def _structure_fault(code: int, span: int, chunk_index: int, data: bytes, index: int) -> str:
    """Return what the firmware would not accept in a header whose CRC-32 is right, or nothing."""
    if code in INTEGER_SIZE or code == CODE_BLOB_INDEX:
        if span != 1:
            return f"spans {span} entries instead of 1"
        if code == CODE_BLOB_INDEX:
            return _index_fault(chunk_index, int.from_bytes(data[:4], "little"))
        return ""
    if code not in VARIABLE_LENGTH:
        return "unknown type"
    if code == CODE_BLOB_DATA and chunk_index == CHUNK_ANY:
        return "has the chunk index 255, which no chunk may have"
    size = int.from_bytes(data[:2], "little")
    if size > (ENTRY_COUNT - index - 1) * ENTRY_SIZE:
        return f"reaches past the end of the page with its {size} bytes"
    if span != 1 + (size + ENTRY_SIZE - 1) // ENTRY_SIZE:
        return f"spans {span} entries, which does not match its {size} bytes"
    return ""


def _index_fault(chunk_index: int, size: int) -> str:
    if chunk_index != CHUNK_ANY:
        return f"has the chunk index {chunk_index} instead of 255"
    return f"announces {size} bytes, more than a blob can have" if size > MAX_BLOB_SIZE else ""


class Rejected(NamedTuple):
    """An entry that is marked as written but whose header the firmware does not accept.

    Attributes:
        fault: what is wrong, empty where the CRC-32 is: then nothing else in it can be trusted.
        unknown: whether its only fault is a type that this version of the firmware does not know.
        item: what its fields say.
    """

    fault: str
    unknown: bool
    item: Item


def reject_item(image: bytes, offset: int, index: int) -> Rejected:
    """Return why :func:`parse_item` gave None for this entry."""
    header = image[offset : offset + ENTRY_SIZE]
    namespace_index, code, span, chunk_index, crc, key, data = ENTRY_HEADER.unpack(header)
    item = Item(index, namespace_index, code, span, chunk_index, key.partition(b"\0")[0], data, 0, offset)
    if zlib.crc32(header[8:], zlib.crc32(header[:4], _SEED)) != crc:
        return Rejected("", unknown=False, item=item)
    fault = _structure_fault(code, span, chunk_index, data, index)
    return Rejected(fault, unknown=fault == "unknown type", item=item)


class Query(NamedTuple):
    """What is searched for, in the terms of ``Page::findItem``.

    Attributes:
        namespace_index: or NAMESPACE_ANY.
        type: or CODE_ANY.
        name: at most 15 bytes of a key.
        chunk_index: or CHUNK_ANY.
        chunk_start: of the index of a blob, or START_ANY.
        hash: where the firmware starts from its hash list, else None: it walks the page.
    """

    namespace_index: int
    type: int
    name: bytes
    chunk_index: int
    chunk_start: int
    hash: int | None


def make_query(
    namespace_index: int,
    code: int,
    key: bytes,
    chunk_index: int = CHUNK_ANY,
    chunk_start: int = START_ANY,
) -> Query:
    """Return the search for an item; a key of 16 bytes is cut, as the firmware cuts it."""
    name = key[:MAX_KEY_LENGTH]
    walk = namespace_index == NAMESPACE_ANY or (code == CODE_BLOB_DATA and chunk_index == CHUNK_ANY)
    hashed = None if walk else lookup_hash(namespace_index, name.ljust(_KEY_FIELD, b"\0"), chunk_index)
    return Query(namespace_index, code, name, chunk_index, chunk_start, hashed)


class Verdict(Enum):
    """What an item is to a search: passed over, the thing itself, or the end of it on this page."""

    SKIPPED = auto()
    FOUND = auto()
    MISMATCH = auto()


def judge(item: Item, query: Query) -> Verdict:
    """Return what ``Page::findItem`` makes of an item that it comes across."""
    if query.namespace_index not in (item.namespace_index, NAMESPACE_ANY):
        return Verdict.SKIPPED
    if query.name not in (item.key, item.name):
        return Verdict.SKIPPED
    if query.type == CODE_BLOB_DATA:
        if query.chunk_index == CHUNK_ANY:
            return Verdict.FOUND if item.type == CODE_BLOB_DATA else Verdict.SKIPPED
        if item.chunk_index != query.chunk_index:
            return Verdict.SKIPPED
    elif query.type == CODE_BLOB_V1:
        if query.chunk_index == CHUNK_ANY and item.type == CODE_BLOB_DATA:
            return Verdict.SKIPPED
    elif query.type == CODE_BLOB_INDEX:
        if item.chunk_index != CHUNK_ANY:
            return Verdict.SKIPPED
        if query.chunk_start not in (item.chunk_start, START_ANY):
            return Verdict.SKIPPED
    return Verdict.FOUND if query.type in (item.type, CODE_ANY) else Verdict.MISMATCH


_TYPE_NAME = {code: name for name, code in INTEGER_CODE.items()} | {
    CODE_STRING: "string",
    CODE_BLOB_V1: "blob",
    CODE_BLOB_INDEX: "blob",
}


def printable(name: bytes) -> str:
    """Return a key or a name for people: what cannot be printed is escaped."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def describe(item: Item, namespaces: dict[int, bytes]) -> str:
    """Return an item's name for people: ``factory_param/uart_tx_pin (i32)``. Values are not in it."""
    if item.namespace_index == 0:
        return f"namespace {printable(item.key)}"
    namespace = namespaces.get(item.namespace_index)
    place = f"#{item.namespace_index}" if namespace is None else printable(namespace)
    kind = _TYPE_NAME.get(item.type, f"type {item.type:#04x}")
    if item.type == CODE_BLOB_DATA:
        kind = f"blob, chunk {item.chunk_index}"
    return f"{place}/{printable(item.key)} ({kind})"

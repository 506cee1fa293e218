"""The list of certificates or keys in a PKI partition of the legacy layout: magic 0xF1F1.

Source: ``AtPKI.py`` and the ``generation_tools`` of esp-at v1.1.3.0 to v2.4.2.0, and the document
"How to Generate PKI Files" of the same. All integers are little-endian; each item starts on a
4-byte boundary, and 0xFF fills up to it.

What the firmware makes of it: it finds an item by its place in the list, from 0, and looks at
neither type nor id; it stops at a wrong magic, or where the length exceeds the partition. An item
is handed to mbedTLS with a NUL appended, so it is stored without one (official PEM files end in a
line end, DER files in their last byte). An item of length 0 is "not there", which is how a place
in the middle of the list is kept free.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from esp_at_tools.errors import FormatError, InputError

MAGIC = 0xF1F1

HEADER = struct.Struct("<HHI")
"""Magic code, number of items, bytes of all items with their headers and padding."""
ITEM_HEADER = struct.Struct("<BBH")
"""Type, id, bytes of content."""
assert HEADER.size == 8  # noqa: S101 - a mistake here must not get past the import
assert ITEM_HEADER.size == 4  # noqa: S101

TYPE_CA = 1
TYPE_CERTIFICATE = 2
TYPE_KEY = 3
"""Item types; the scripts of v2.x write 2 whatever the partition holds."""

MAX_ITEMS = 127
"""Most items: the firmware counts them in a signed byte."""
MAX_ITEM_SIZE = 0xFFFF
"""Most bytes of content in an item."""

_ALIGNMENT = 4
_SOURCE = "make one with esp-at's AtPKI.py, or erase the partition"


def _gap(size: int) -> int:
    """Return the number of bytes that fill up to the next item."""
    return -size % _ALIGNMENT


@dataclass(frozen=True)
class PkiListItem:
    """One certificate or key.

    Attributes:
        type: see ``TYPE_CERTIFICATE``.
        id: its number among the items of its type, from 0.
        data: what the file held, PEM or DER; empty for a place that is kept free.
        padding: the 0 to 3 bytes that follow; 0xFF in official files.
    """

    type: int
    id: int
    data: bytes
    padding: bytes

    @classmethod
    def new(cls, type_: int, id_: int, data: bytes) -> PkiListItem:
        """Return an item with the padding that official files have."""
        return cls(type_, id_, data, b"\xff" * _gap(len(data)))

    def to_bytes(self) -> bytes:
        """Return header, content and padding."""
        return ITEM_HEADER.pack(self.type, self.id, len(self.data)) + self.data + self.padding


@dataclass(frozen=True)
class PkiList:
    """The items of one partition, in their order.

    Attributes:
        items: the items; none for a blank partition.
    """

    items: tuple[PkiListItem, ...] = ()

    @classmethod
    def from_bytes(cls, data: bytes) -> PkiList:
        """Read a list, or the whole partition that starts with it; bytes after the list are ignored.

        An erased partition (nothing but 0xFF) and no bytes at all are an empty list.

        Raises:
            FormatError: neither a list nor erased, or a length in it does not fit.
        """
        if data.count(b"\xff") == len(data):
            return cls()
        if len(data) < HEADER.size:
            raise FormatError(
                f"PKI list: {len(data)} bytes", f"it starts with a header of {HEADER.size} bytes"
            )
        magic, count, length = HEADER.unpack_from(data)
        if magic != MAGIC:
            raise FormatError(f"PKI list: starts with 0x{magic:04x}, not 0x{MAGIC:04x}", _SOURCE)
        if length > len(data) - HEADER.size:
            raise FormatError(
                f"PKI list: announces {length} bytes of items where there are {len(data) - HEADER.size}",
                _SOURCE,
            )
        return cls(_read_items(data[HEADER.size : HEADER.size + length], count))

    def to_bytes(self) -> bytes:
        """Return the list as an official file holds it, without filling up to the partition.

        An empty list is no bytes: the firmware expects an erased partition then.
        """
        if not self.items:
            return b""
        body = b"".join(item.to_bytes() for item in self.items)
        return HEADER.pack(MAGIC, len(self.items), len(body)) + body

    def get(self, index: int) -> bytes | None:
        """Return the content of an item, None where the list has none in that place."""
        if 0 <= index < len(self.items):
            return self.items[index].data or None
        return None

    def set(self, index: int, data: bytes, type_: int = TYPE_CERTIFICATE) -> PkiList:
        """Return the list with ``data`` in the place ``index``.

        An item that is there keeps its type and id; a new one gets the type of its neighbours, and
        ``type_`` only in an empty list. Places before it that do not exist yet are kept free.

        Raises:
            InputError: no such place, nothing to store, or more than an item can hold.
        """
        if not 0 <= index < MAX_ITEMS:
            raise InputError(f"PKI item {index}: there is no such place", f"a list has 0 to {MAX_ITEMS - 1}")
        if not 0 < len(data) <= MAX_ITEM_SIZE:
            raise InputError(f"PKI item of {len(data)} bytes", f"an item holds 1 to {MAX_ITEM_SIZE} bytes")
        items = list(self.items)
        if items:
            type_ = items[min(index, len(items) - 1)].type
        while len(items) <= index:
            same = sum(item.type == type_ for item in items)
            items.append(PkiListItem.new(type_, same, b""))
        if items[index].data != data:
            items[index] = PkiListItem.new(items[index].type, items[index].id, data)
        return PkiList(_aligned(items))

    def remove(self, index: int) -> PkiList:
        """Return the list without the item in the place ``index``; the others keep their places.

        Raises:
            InputError: there is none.
        """
        if self.get(index) is None:
            raise InputError(f"PKI item {index}: there is none", "nothing needs to be removed")
        items = list(self.items)
        items[index] = PkiListItem.new(items[index].type, items[index].id, b"")
        while items and not items[-1].data:
            items.pop()
        return PkiList(tuple(items))


def _aligned(items: list[PkiListItem]) -> tuple[PkiListItem, ...]:
    """Return the items with the padding of all but the last made complete."""
    whole = [
        item if len(item.padding) == _gap(len(item.data)) else PkiListItem.new(item.type, item.id, item.data)
        for item in items[:-1]
    ]
    return (*whole, *items[-1:])


def _read_items(body: bytes, count: int) -> tuple[PkiListItem, ...]:
    items = []
    offset = 0
    for index in range(count):
        if offset + ITEM_HEADER.size > len(body):
            raise FormatError(f"PKI list: announces {count} items and ends after {index}", _SOURCE)
        type_, id_, size = ITEM_HEADER.unpack_from(body, offset)
        start = offset + ITEM_HEADER.size
        end = start + size
        if end > len(body):
            raise FormatError(f"PKI list: item {index} of {size} bytes goes past the list's end", _SOURCE)
        offset = end + _gap(size)
        items.append(PkiListItem(type_, id_, body[start:end], body[end:offset]))
    if offset < len(body):
        raise FormatError(f"PKI list: {len(body) - offset} bytes follow its {count} items", _SOURCE)
    return tuple(items)

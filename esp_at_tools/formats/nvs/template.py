"""An NVS partition as a template: laid out once, then written many times with other values.

Where a value takes as many entries as the one before it, every other byte of the partition stays where
it is: the headers of the pages, their bitmaps, all other entries. So a batch of partitions that differ
in a few values needs only those values' entries anew, with their CRCs.

Source of the format: see :mod:`esp_at_tools.formats.nvs.model`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from esp_at_tools.formats.nvs.model import (
    CODE_BLOB_DATA,
    CODE_BLOB_INDEX,
    CODE_BLOB_V1,
    CODE_STRING,
    ENTRY_COUNT,
    ENTRY_HEADER,
    ENTRY_SIZE,
    FIRST_ENTRY_OFFSET,
    INTEGER_CODE,
    PAGE_SIZE,
)

_INTEGER_CODES = frozenset(INTEGER_CODE.values())
_CRC_START = 0xFFFF_FFFF
_INFO = struct.Struct("<H2sI")
_U32 = struct.Struct("<I")


def spans(value: int | bytes, *, text: bool = False) -> int:
    """Return how many entries a value takes after its first; a text's closing NUL is not in ``value``."""
    if isinstance(value, int):
        return 0
    return (len(value) + text + ENTRY_SIZE - 1) // ENTRY_SIZE


@dataclass(frozen=True)
class _Piece:
    """One item of a value: an integer, a string, a chunk of a blob, or a blob's index.

    Attributes:
        offset: where its first entry is.
        end: where its last entry ends.
        code: its type.
        start: namespace, type, span and chunk: the four bytes before the CRC.
        key: the key's 16 bytes.
        info: the last 8 bytes of its first entry as they are in the template.
        state: CRC over ``start`` and ``key``, to be continued over the 8 bytes.
        first: of a chunk, where its part of the value begins.
        last: whether the value ends in it.
    """

    offset: int
    end: int
    code: int
    start: bytes
    key: bytes
    info: bytes
    state: int
    first: int = 0
    last: bool = True

    def encode(self, value: int | bytes) -> bytes:
        """Return the item's entries with another value."""
        if isinstance(value, int):
            size = self.code & 0x0F
            info = value.to_bytes(size, "little", signed=bool(self.code & 0x10)) + self.info[size:]
        elif self.code == CODE_BLOB_INDEX:
            info = _U32.pack(len(value)) + self.info[4:]
        else:
            return self._data(value)
        return self.start + _U32.pack(zlib.crc32(info, self.state)) + self.key + info

    def _data(self, value: bytes) -> bytes:
        room = self.end - self.offset - ENTRY_SIZE
        if self.code == CODE_STRING:
            value += b"\0"
        part = value[self.first :] if self.last else value[self.first : self.first + room]
        if not room - ENTRY_SIZE < len(part) <= room:
            raise ValueError("a value of another number of entries than the template has room for")
        info = _INFO.pack(len(part), self.info[2:4], zlib.crc32(part, _CRC_START))
        crc = zlib.crc32(info, self.state)
        return b"".join((self.start, _U32.pack(crc), self.key, info, part.ljust(room, b"\xff")))


class NvsTemplate:
    """A fresh partition in which the values of some keys can be replaced.

    Args:
        image: a partition as a generator writes it, not encrypted.
        keys: namespace and key of the values, in the order in which :meth:`render` takes them.

    Raises:
        ValueError: a key is not there exactly once, or the image is no fresh one.
    """

    def __init__(self, image: bytes, keys: Sequence[tuple[str, str]]) -> None:
        """Find the places of the values."""
        wanted = {(namespace.encode(), key.encode()): place for place, (namespace, key) in enumerate(keys)}
        found: list[list[_Piece]] = [[] for _ in keys]
        names: dict[int, bytes] = {}
        for piece in _items(image):
            key = piece.key.rstrip(b"\0")
            if not piece.start[0]:
                names.setdefault(piece.info[0], key)
                continue
            place = wanted.get((names.get(piece.start[0], b""), key))
            if place is not None:
                found[place].append(piece)
        placed = [
            (piece, place)
            for place, pieces in enumerate(found)
            for piece in _in_one_value(keys[place], pieces)
        ]
        placed.sort(key=lambda each: each[0].offset)
        self._holes = [(2 * number + 1, piece, place) for number, (piece, place) in enumerate(placed)]
        self._parts: list[bytes] = []
        position = 0
        for piece, _ in placed:
            self._parts += [image[position : piece.offset], b""]
            position = piece.end
        used = max(len(image.rstrip(b"\xff")), position)
        self._parts += [image[position:used], _blank(len(image) - used)]

    def render(self, values: Sequence[int | bytes]) -> bytes:
        """Return the partition with these values, of texts without the closing NUL.

        Raises:
            ValueError: one takes another number of entries than the template's; see :func:`spans`.
        """
        parts = self._parts.copy()
        for hole, piece, place in self._holes:
            parts[hole] = piece.encode(values[place])
        return b"".join(parts)


@lru_cache(maxsize=32)
def _blank(size: int) -> bytes:
    """Return blank flash; most templates of a batch end in as much of it, and share it."""
    return b"\xff" * size


def _items(image: bytes) -> Iterable[_Piece]:
    """Return the items of a fresh image, page by page; a page's end is its first blank entry."""
    for page in range(0, len(image) - PAGE_SIZE + 1, PAGE_SIZE):
        position, stop = page + FIRST_ENTRY_OFFSET, page + FIRST_ENTRY_OFFSET + ENTRY_COUNT * ENTRY_SIZE
        while position < stop and image[position] != 0xFF:
            _, code, span, _, _, key, info = ENTRY_HEADER.unpack_from(image, position)
            start = image[position : position + 4]
            end = position + span * ENTRY_SIZE
            if not span or end > stop:
                raise ValueError("not a fresh NVS partition")
            state = zlib.crc32(key, zlib.crc32(start, _CRC_START))
            yield _Piece(position, end, code, start, key, info, state)
            position = end


def _in_one_value(name: tuple[str, str], pieces: list[_Piece]) -> list[_Piece]:
    """Return the items of one value with what each holds of it."""
    codes = [piece.code for piece in pieces]
    if len(pieces) == 1 and codes[0] in (*_INTEGER_CODES, CODE_STRING, CODE_BLOB_V1):
        return pieces
    if codes[-1:] != [CODE_BLOB_INDEX] or set(codes[:-1]) != {CODE_BLOB_DATA}:
        raise ValueError(f"{name[0]} {name[1]} is not there exactly once")
    chunks: list[_Piece] = []
    first = 0
    for piece in pieces[:-1]:
        chunks.append(replace(piece, first=first, last=piece is pieces[-2]))
        first += _INFO.unpack(piece.info)[0]
    return [*chunks, pieces[-1]]

"""Lay NVS records out in pages, byte for byte as esp-idf-nvs-partition-gen 0.3.0 does.

Source: the behaviour of that generator, and of the older ones in ESP-IDF v4.0 to v5.4 and in
ESP-AT's at.py, which differ in the spare pages only (see :class:`NvsStyle`). What the firmware
accepts: ``nvs_page.cpp`` and ``nvs_storage.cpp`` of ESP-IDF v5.4.4.

The generator's rules that are not obvious:

* The last page of a partition stays free, for the firmware's garbage collection. Partitions of one
  or two pages are read-only ones: every page is used, and pages without entries are not written.
* Integers and namespaces may take the last entry of a page. A string, and a blob in one piece, moves
  to the next page rather than take it. A blob of several pages fills every page to its last entry,
  and starts with an empty chunk where there is only one entry left.
* A key with characters outside ASCII pushes zero bytes, one for each byte that it has more than
  characters, into the padding of the value, and past the entry's end. The firmware does not mind.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from esp_at_tools.errors import InputError
from esp_at_tools.formats.nvs.crypto import NvsKeys, encrypt_partition
from esp_at_tools.formats.nvs.model import (
    CHUNK_ANY,
    CODE_BLOB_DATA,
    CODE_BLOB_INDEX,
    CODE_BLOB_V1,
    CODE_STRING,
    ENTRY_COUNT,
    ENTRY_SIZE,
    INTEGER_CODE,
    MAX_KEY_LENGTH,
    PAGE_ACTIVE,
    PAGE_FULL,
    PAGE_HEADER,
    PAGE_SIZE,
    VERSION_BYTE,
    crc32,
)
from esp_at_tools.formats.nvs.reader import NvsRecord

MAX_PARTITION_SIZE = 64 << 20
"""Bytes: no ESP module has a flash that is larger."""
MAX_SINGLE_SIZE = 4000
"""Bytes of a value that lies in one page: a string with its closing NUL, a blob in one piece."""
MAX_CHUNKS = 127
"""Chunks of a blob: the firmware tells the old value from the new by the upper half of the index."""
MAX_NAMESPACES = 254
"""Namespace indexes are 1 to 254: 0 marks the namespaces themselves, 255 means "any"."""
_READ_ONLY_PAGES = 2
_KEY_FIELD = 16
_Meta = tuple[int, int, int, int]
"""Namespace, type, span, chunk."""
_Padding = Literal["blank", "shifted", "spilled"]
"""How values of keys outside ASCII are padded: with 0xFF; with zeros first; and past the entry too."""

INTEGER_LAYOUT: dict[str, tuple[int, int, bool]] = {
    name: (code, code & 0x0F, bool(code & 0x10)) for name, code in INTEGER_CODE.items()
}
"""Integer type → its code, its size in bytes, whether it has a sign."""

_START = struct.Struct("<BBBB")
"""How an entry begins: namespace, type, span, chunk. The CRC that follows covers all but itself."""
_CRC = struct.Struct("<I")
_CRC_START = 0xFFFF_FFFF
_DATA_INFO = struct.Struct("<H2sI")
"""``Item::varLength``: size of the value, reserved, CRC-32 of the value."""
_INDEX_INFO = struct.Struct("<IBBH")
"""``Item::blobIndex``: size of the blob, number of chunks, index of the first, and padding."""

# Two bits per entry, the first entry in the lowest bits; 0b10 is written, 0b11 is empty.
_BITMAPS = tuple(
    ((1 << 256) - 1 - sum(1 << (2 * entry) for entry in range(used))).to_bytes(32, "little")
    for used in range(ENTRY_COUNT + 1)
)


@dataclass(frozen=True)
class NvsStyle:
    """What the generators do differently.

    Attributes:
        spare_pages_blank: pages without entries stay blank and the last page with entries stays
            active, as esp-idf-nvs-partition-gen 0.1.7 and later write them. Otherwise every page but
            the reserved one has a header and is full: ESP-IDF v4.0 to v5.4.0, ESP-AT's at.py.
        wide_keys_shift: keys with characters outside ASCII push zeros into the padding (all generators;
            the firmware itself pads with 0xFF).
    """

    spare_pages_blank: bool = True
    wide_keys_shift: bool = True


CURRENT_STYLE = NvsStyle()
OLD_STYLE = NvsStyle(spare_pages_blank=False)
FIRMWARE_STYLE = NvsStyle(wide_keys_shift=False)
STYLES = (CURRENT_STYLE, OLD_STYLE, FIRMWARE_STYLE, NvsStyle(spare_pages_blank=False, wide_keys_shift=False))


@lru_cache(maxsize=4096)
def _page_header(state: int, sequence: int, version: int) -> bytes:
    header = PAGE_HEADER.pack(state, sequence, VERSION_BYTE[version], b"\xff" * 19, 0)
    return header[:-4] + crc32(header[4:-4]).to_bytes(4, "little")


class _Block(NamedTuple):
    """Whole entries in their final form, which does not depend on where they come to lie.

    ``span`` is how many entries they are, ``room`` how many must be left in the page for them, and
    ``spill`` what the generator writes past the last one (see the module's text on keys outside ASCII).
    """

    data: bytes
    span: int
    room: int
    spill: bytes


class _KeyField(NamedTuple):
    """A key's 16 bytes, the 8 bytes that pad its value, and what spills past its entry."""

    name: bytes
    padding: bytes
    spill: bytes


class _Pages:
    """Pages being filled in order; they go on past the partition's end, so that errors can give numbers."""

    def __init__(self, version: int, *, leave_last: bool) -> None:
        self.version = version
        self.leave_last = leave_last  # to strings, as the generator does
        self.done: list[bytes] = []
        self.room = ENTRY_COUNT  # entries left in the current page
        self._parts: list[bytes] = []
        self._spill = b""

    @property
    def used(self) -> int:
        """Entries used in the current page."""
        return ENTRY_COUNT - self.room

    def put(self, block: _Block) -> None:
        """Write entries for which there is room; they cover what the ones before spilled."""
        data, span, _, self._spill = block
        self._parts.append(data)
        self.room -= span

    def next_page(self, state: int = PAGE_FULL) -> None:
        """Close the current page and begin another."""
        if self.room:
            self._parts.append(self._spill)
        head = _page_header(state, len(self.done), self.version) + _BITMAPS[self.used]
        self.done.append((head + b"".join(self._parts)).ljust(PAGE_SIZE, b"\xff"))
        self.room, self._parts, self._spill = ENTRY_COUNT, [], b""


@lru_cache(maxsize=1024)
def _key_field(key: bytes, padding: _Padding) -> _KeyField:
    name = key.ljust(_KEY_FIELD, b"\0")
    if len(name) > _KEY_FIELD:
        raise InputError(f"a key of {len(key)} bytes is too long", f"at most {MAX_KEY_LENGTH} bytes fit")
    if padding == "blank" or key.isascii():
        return _KeyField(name, b"\xff" * 8, b"")
    zeros = len(key) - len(key.decode("utf-8", "surrogateescape"))
    shifted = b"\0" * zeros + b"\xff" * 8
    return _KeyField(name, shifted[:8], shifted[8:] if padding == "spilled" else b"")


def _header(meta: _Meta, key: _KeyField, data: bytes) -> bytes:
    """Return an entry; ``data`` is its last 8 bytes, or fewer, which the key's padding fills up."""
    start = _START.pack(*meta)
    end = key.name + data + key.padding[len(data) :]
    return start + _CRC.pack(zlib.crc32(end, zlib.crc32(start, _CRC_START))) + end


def _spans(size: int) -> int:
    """Return how many entries a value of ``size`` bytes takes, without its header."""
    return (size + ENTRY_SIZE - 1) // ENTRY_SIZE


def _with_data(namespace: int, code: int, chunk: int, key: _KeyField, data: bytes) -> bytes:
    """Return a header and the entries of its value."""
    span = _spans(len(data)) + 1
    info = _DATA_INFO.pack(len(data), key.padding[2:4], zlib.crc32(data, _CRC_START))
    covered = data + key.spill[len(data) :] if data and key.spill else data
    return _header((namespace, code, span, chunk), key, info) + covered.ljust(
        ENTRY_SIZE * (span - 1), b"\xff"
    )


def _integer(record: NvsRecord, key: _KeyField) -> _Block:
    if record.kind == "namespace":
        namespace, type_name, value = 0, "u8", record.namespace_index
    else:
        assert isinstance(record.value, int)  # noqa: S101 - NvsRecord's promise; tells mypy
        namespace, type_name, value = record.namespace_index, record.type, record.value
    code, size, signed = INTEGER_LAYOUT[type_name]
    try:
        data = value.to_bytes(size, "little", signed=signed)
    except OverflowError:
        hint = f"give {integer_range(type_name)}"
        raise InputError(f"{_name(record)}: {value} does not fit in {type_name}", hint) from None
    return _Block(_header((namespace, code, 1, CHUNK_ANY), key, data), 1, 1, key.spill)


def _single(record: NvsRecord, key: _KeyField, code: int, data: bytes) -> _Block:
    """A value in one piece: a header, then the bytes."""
    if len(data) > MAX_SINGLE_SIZE:
        nul = ", the closing NUL included" if code == CODE_STRING else ""
        raise InputError(
            f"{_name(record)}: {len(data)} bytes are too many for a {record.type} in one page",
            f"at most {MAX_SINGLE_SIZE} bytes fit{nul}",
        )
    entries = _with_data(record.namespace_index, code, CHUNK_ANY, key, data)
    span = len(entries) // ENTRY_SIZE
    return _Block(entries, span, span + 1, b"" if data else key.spill)


def _index(record: NvsRecord, key: _KeyField, size: int, chunks: int) -> _Block:
    """The entry that ends a blob: its size and its number of chunks, which count from 0."""
    data = _INDEX_INFO.pack(size, chunks, 0, 0xFFFF)
    entry = _header((record.namespace_index, CODE_BLOB_INDEX, 1, CHUNK_ANY), key, data)
    return _Block(entry, 1, 1, key.spill)


def _chunk(record: NvsRecord, key: _KeyField, number: int, data: bytes) -> _Block:
    entries = _with_data(record.namespace_index, CODE_BLOB_DATA, number, key, data)
    span = len(entries) // ENTRY_SIZE
    return _Block(entries, span, span, b"" if data else key.spill)


def _raw(record: NvsRecord, data: bytes) -> _Block:
    """Entries of an unknown type as they are."""
    span, rest = divmod(len(data), ENTRY_SIZE)
    if rest or not 0 < span <= ENTRY_COUNT:
        raise InputError(
            f"{_name(record)}: {len(data)} bytes are not whole entries of one page",
            f"give 1 to {ENTRY_COUNT} entries of {ENTRY_SIZE} bytes",
        )
    return _Block(data, span, span, b"")


def _block(record: NvsRecord, version: int, padding: _Padding) -> _Block | None:
    """Return a record's entries; None for a blob that never fits in one page with its index."""
    if record.kind == "unknown":
        return _raw(record, _bytes(record))
    key = _key_field(record.key, padding)
    if record.kind == "namespace" or record.type in INTEGER_LAYOUT:
        return _integer(record, key)
    data = _bytes(record)
    if record.type == "string":
        return _single(record, key, CODE_STRING, data + b"\0" if record.terminated else data)
    if record.legacy_blob or version == 1:
        return _single(record, key, CODE_BLOB_V1, data)
    if _spans(len(data)) + 2 > ENTRY_COUNT:
        return None
    chunk, index = _chunk(record, key, 0, data), _index(record, key, len(data), 1)
    return _Block(chunk.data + index.data, chunk.span + 1, chunk.span + 1, index.spill)


def _split(record: NvsRecord, room: int, padding: _Padding) -> list[_Block]:
    """Return a blob's chunks, each as large as its page lets it be, and its index.

    The first chunk lies in a page with ``room`` entries left, and a full page is followed by a new one.
    """
    data, key = _bytes(record), _key_field(record.key, padding)
    blocks: list[_Block] = []
    offset = 0
    while not blocks or offset < len(data):
        if len(blocks) == MAX_CHUNKS:
            raise InputError(
                f"{_name(record)}: a blob of {len(data)} bytes needs more than {MAX_CHUNKS} chunks",
                f"the firmware reads blobs of at most {MAX_CHUNKS} chunks of up to 4000 bytes",
            )
        room = room or ENTRY_COUNT
        part = data[offset : offset + ENTRY_SIZE * (room - 1)]
        blocks.append(_chunk(record, key, len(blocks), part))
        offset += len(part)
        room -= blocks[-1].span
    return [*blocks, _index(record, key, len(data), len(blocks))]


class _Remembered:
    """The blocks of records that were written before, for one version and padding.

    The partitions of a batch share most of their records, and comparing identities is much cheaper
    than hashing values. As a record is kept beside its blocks, its identity is not given to another.
    """

    def __init__(self) -> None:
        self.whole: dict[int, tuple[NvsRecord, _Block | None]] = {}
        self.split: dict[tuple[int, int], tuple[NvsRecord, list[_Block]]] = {}


_MAX_REMEMBERED = 2048
_MAX_REMEMBERED_PAGES = 256
"""Records and pages (1 MB) above which nothing is kept."""
_remembered: dict[tuple[int, _Padding], _Remembered] = {}


def _fill(pages: _Pages, records: Iterable[NvsRecord], padding: _Padding, usable: int) -> NvsRecord | None:
    """Write all records; return the first that reaches past the usable pages."""
    remembered = _remembered.setdefault((pages.version, padding), _Remembered())
    whole, split, first_over = remembered.whole, remembered.split, None
    for record in records:
        known = whole.get(id(record))
        if known is None:
            known = whole[id(record)] = (record, _block(record, pages.version, padding))
        block = known[1]
        if block is not None and (block[2] if pages.leave_last else block[1]) <= pages.room:
            pages.put(block)
            continue
        if block is None or (record.type == "blob" and block.room == block.span):
            place = (id(record), pages.room)
            if place not in split:
                split[place] = (record, _split(record, pages.room, padding))
            for part in split[place][1]:
                if not pages.room:
                    pages.next_page()
                pages.put(part)
        else:
            if pages.used:
                pages.next_page()
            pages.put(block)
        if first_over is None and len(pages.done) >= usable:
            first_over = record
    if usable > _MAX_REMEMBERED_PAGES or len(whole) + len(split) > _MAX_REMEMBERED:
        remembered.whole, remembered.split = {}, {}
    return first_over


def _bytes(record: NvsRecord) -> bytes:
    assert isinstance(record.value, bytes)  # noqa: S101 - NvsRecord's promise; tells mypy
    return record.value


def _name(record: NvsRecord) -> str:
    return f"key {record.key.decode('utf-8', 'backslashreplace')!r}"


def integer_range(type_name: str) -> str:
    """Return the values that an integer type holds, for people: ``-128 to 127``."""
    _, size, signed = INTEGER_LAYOUT[type_name]
    bits = 8 * size
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return f"{low} to {high}"


def check_version(version: int) -> int:
    """Return an NVS version that can be written.

    Raises:
        InputError: it is neither 1 nor 2.
    """
    if version not in VERSION_BYTE:
        raise InputError(f"there is no NVS version {version}", "give 1 or 2")
    return version


def usable_pages(size: int) -> int:
    """Return how many pages of a partition of ``size`` bytes take entries.

    Raises:
        InputError: ``size`` is not a positive multiple of 4096, or over 64 MB.
    """
    pages, rest = divmod(size, PAGE_SIZE)
    if rest or pages < 1:
        raise InputError(
            f"a partition of {size} bytes is not a positive multiple of {PAGE_SIZE} bytes",
            "give at least 0x3000; 0x1000 and 0x2000 are for partitions marked readonly",
        )
    if size > MAX_PARTITION_SIZE:
        raise InputError(f"a partition of {size} bytes is too large", f"at most {MAX_PARTITION_SIZE} bytes")
    return pages if pages <= _READ_ONLY_PAGES else pages - 1


def write_partition(
    records: Iterable[NvsRecord],
    size: int,
    *,
    version: int = 2,
    style: NvsStyle = CURRENT_STYLE,
    keys: NvsKeys | None = None,
    spill: bool = True,
    tight: bool = False,
) -> bytes:
    """Return the image of a fresh partition that holds ``records`` in this order.

    Args:
        records: namespaces, entries, and raw entries of unknown types.
        size: of the partition in bytes. From 0x3000 on the image has that size. At 0x1000 and 0x2000
            (partitions that the firmware opens read-only) it ends with the last page in use.
        version: 2, or 1 for blobs in one piece of at most 1984 bytes each.
        style: which generator's spare pages.
        keys: encrypt the entries with these.
        spill: False for a plain image that will be encrypted: what keys outside ASCII push past their
            entries stays out, as it does with ``keys``.
        tight: strings may take the last entry of a page, as in the firmware and unlike the generator.

    Raises:
        InputError: the records do not fit, a value is out of its type's range, or ``size`` is impossible.
    """
    usable = usable_pages(size)
    padding: _Padding = (
        "blank" if not style.wide_keys_shift else "spilled" if spill and not keys else "shifted"
    )
    pages = _Pages(check_version(version), leave_last=not tight)
    first_over = _fill(pages, records, padding, usable)
    if first_over is not None:
        raise _does_not_fit(first_over, pages, usable)
    image = _finish(pages, usable, size, style)
    return encrypt_partition(image, keys) if keys else image


def _finish(pages: _Pages, usable: int, size: int, style: NvsStyle) -> bytes:
    pages.next_page(PAGE_ACTIVE if style.spare_pages_blank else PAGE_FULL)
    if not style.spare_pages_blank:
        while len(pages.done) < usable:
            pages.next_page()
    image = b"".join(pages.done)
    return image if size <= _READ_ONLY_PAGES * PAGE_SIZE else image.ljust(size, b"\xff")


def _does_not_fit(record: NvsRecord, pages: _Pages, usable: int) -> InputError:
    needed, available = len(pages.done) * ENTRY_COUNT + pages.used, usable * ENTRY_COUNT
    enough = max(len(pages.done) + 2, _READ_ONLY_PAGES + 1) * PAGE_SIZE
    over = max(needed - available, 1) * ENTRY_SIZE
    return InputError(
        f"{_name(record)} does not fit: {needed} entries of {ENTRY_SIZE} bytes are needed and "
        f"{available} are available, {over} bytes too many",
        f"remove something, or make the partition 0x{enough:x} bytes large",
    )

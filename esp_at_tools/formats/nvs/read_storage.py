"""An NVS partition as a whole: what the firmware repairs when it opens it, and how it reads values.

Source: ``PageManager::load`` of ``nvs_pagemanager.cpp``, ``Storage::init``, ``Storage::findItem``
and ``Storage::readMultiPageBlob`` of ``nvs_storage.cpp``, ESP-IDF v5.4.4.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from esp_at_tools.formats.nvs.model import (
    CODE_BLOB_DATA,
    CODE_BLOB_INDEX,
    CODE_BLOB_V1,
    CODE_STRING,
    ENTRY_SIZE,
    INTEGER_CODE,
    MAX_KEY_LENGTH,
    PAGE_ACTIVE,
    PAGE_FREEING,
    PAGE_SIZE,
    Level,
    crc32,
)
from esp_at_tools.formats.nvs.read_findings import Findings, Work
from esp_at_tools.formats.nvs.read_item import (
    INTEGER_SIZE,
    NAMESPACE_ANY,
    Item,
    Query,
    make_query,
)
from esp_at_tools.formats.nvs.read_page import Page, RefusedError, load_page

_SIGNED = 0x10
_SECOND_RANGE = 0x80
_RANGE_STARTS = (0, _SECOND_RANGE)
_LAST_SEQUENCE = 0xFFFF_FFFF
_WORK_OF_SEARCH = 4
_WORK_OF_CHUNK = 12


class Found(NamedTuple):
    """An item and the position of its page among the pages in use."""

    position: int
    item: Item


class Value(NamedTuple):
    """What reading a key gave.

    Attributes:
        value: None where it cannot be read.
        sources: the items that it came from.
        damage: why it cannot be read, empty where nothing was found under the key.
        legacy: whether it came from a blob of format version 1.
        terminated: whether a string ended in NUL, which ``value`` lacks.
    """

    value: int | bytes | None
    sources: tuple[Found, ...] = ()
    damage: str = ""
    legacy: bool = False
    terminated: bool = True


_MISSING = Value(None)


@dataclass(eq=False)
class _BlobIndex:
    """``BlobIndexNode``: the index of a blob, and what of it has been seen."""

    item: Item
    seen_size: int = 0
    seen_chunks: int = 0

    def is_complete(self) -> bool:
        return self.seen_size == self.item.blob_size and self.seen_chunks == self.item.chunk_count

    def covers_range(self, chunk: Item) -> bool:
        start = self.item.chunk_start
        return start <= chunk.chunk_index < (_SECOND_RANGE if start == 0 else 0xFF)

    def covers_chunk(self, chunk: Item) -> bool:
        start = self.item.chunk_start
        return start <= chunk.chunk_index < start + self.item.chunk_count


_Family = tuple[int, bytes]
"""Namespace index and key of a blob."""


def open_pages(image: bytes, findings: Findings, work: Work) -> list[Page]:
    """Return the pages in use in their order, repaired as ``PageManager::load`` repairs them.

    Raises:
        RefusedError: the firmware would not open the partition.
    """
    count = len(image) // PAGE_SIZE
    loaded = [load_page(image, number, findings, work) for number in range(count)]
    pages = sorted((page for page in loaded if page is not None), key=lambda page: page.sequence)
    if not pages:
        return pages
    _report_order(pages, findings)
    _erase_older_than_last(pages, findings, work)
    if not _finish_freeing(pages, count - len(pages), findings) and len(pages) == count:
        text = "no page is free, and at least one has to be"
        raise RefusedError("ESP_ERR_NVS_NO_FREE_PAGES", None, text)
    return pages


def _report_order(pages: list[Page], findings: Findings) -> None:
    for earlier, page in itertools.pairwise(pages):
        if earlier.sequence == page.sequence:
            text = f"has the sequence number {page.sequence} of page {earlier.number} too; the firmware reads"
            findings.add("warning", page.number, None, f"{text} them in the order in which they stand")
        if earlier.state == PAGE_ACTIVE:
            text = "is active but not the last one; the firmware writes to the last and reads this one too"
            findings.add("warning", earlier.number, None, text)
    if pages[-1].sequence == _LAST_SEQUENCE:
        text = "has the last sequence number there is; the next page will count as the oldest"
        findings.add("warning", pages[-1].number, None, text)


def _erase_older_than_last(pages: list[Page], findings: Findings, work: Work) -> None:
    """Erase what the very last item replaces: power may have failed before that was done."""
    *earlier, last_page = pages
    if not last_page.items:
        return
    last = next(reversed(last_page.items.values()))
    query = make_query(last.namespace_index, last.type, last.key, last.chunk_index)
    if _erase_first(earlier, query, last, findings, work) or last.type != CODE_BLOB_INDEX:
        return
    query = make_query(last.namespace_index, CODE_BLOB_V1, last.key, last.chunk_index)
    _erase_first(earlier, query, last, findings, work)


def _erase_first(pages: Iterable[Page], query: Query, newer: Item, findings: Findings, work: Work) -> bool:
    for page in pages:
        found = None if page.state == PAGE_FREEING else page.find(query, work)
        if found is not None:
            page.erase(found)
            text = (
                "{item}: stands again on page %d, as when a change was interrupted; the firmware erases this"
            )
            level: Level = "warning" if found.is_same_as(newer) else "error"
            findings.at(level, found, f"{text % (newer.offset // PAGE_SIZE)} one and keeps the later")
            return True
    return False


def _finish_freeing(pages: list[Page], free: int, findings: Findings) -> bool:
    """Move the items of the first page that was being freed to a new one; return whether one was.

    The active page that stands last is what the interrupted move had filled so far: it goes.
    """
    freeing = next((page for page in pages if page.state == PAGE_FREEING), None)
    if freeing is None:
        return False
    target = pages[-1]
    if target.state == PAGE_ACTIVE:
        pages.pop()
        _report_undone(target, freeing, findings)
    elif not free:
        text = "was being freed, but there is no free page to take over its entries"
        raise RefusedError("ESP_ERR_NVS_NOT_ENOUGH_SPACE", freeing.number, text)
    pages.remove(freeing)
    pages.append(freeing.moved())
    text = "was being freed when the power failed; the firmware moves what is on it to a new page"
    findings.add("warning", freeing.number, None, text)
    for other in pages:
        if other.state == PAGE_FREEING:
            text = "was being freed as well; the firmware reads it now and frees it the next time"
            findings.add("warning", other.number, None, text)
    return True


def _report_undone(target: Page, freeing: Page, findings: Findings) -> None:
    copied = {_identity(item) for item in freeing.items.values()}
    for item in target.items.values():
        if _identity(item) not in copied:
            text = "{item}: the firmware erases this page, taking it for an unfinished copy of page %d"
            findings.at("error", item, text % freeing.number)


def _identity(item: Item) -> tuple[int, int, int, bytes, bytes]:
    return item.namespace_index, item.type, item.chunk_index, item.key, item.data


class Storage:
    """An opened partition.

    Attributes:
        pages: the pages in use, in the order in which the firmware searches them.
        definitions: the definitions of namespaces that the firmware knows.
        names: index of a namespace → its name: the first where there are several.
        removed: indexes of blobs that were deleted because the blob is not complete, and why.
    """

    def __init__(self, pages: list[Page], image: bytes, findings: Findings, work: Work) -> None:
        """Do what ``Storage::init`` does with the pages."""
        self.pages = pages
        self.definitions: list[Found] = []
        self.names: dict[int, bytes] = {}
        self.removed: list[tuple[Item, str]] = []
        self._indexes: dict[bytes, int] = {}
        self._image = image
        self._findings = findings
        self._work = work
        self._by_hash: dict[int, list[int]] = {}
        self._by_name: dict[bytes, list[int]] | None = None
        self._chunks: dict[_Family, list[Found]] = {}
        self._blobs: dict[_Family, list[_BlobIndex]] = {}
        self._indexed: list[_BlobIndex] = []
        self._sound: dict[int, bool] = {}
        self._erased = 0
        self._read: dict[tuple[int, int, bytes], Value] = {}
        self._take_inventory()
        self._erase_mismatched_indexes()
        self._erase_orphans()

    def namespace(self, name: bytes) -> int:
        """Return the index that opening a namespace by its name gives; it has to exist."""
        return self._indexes[name]

    def find(self, query: Query) -> Found | None:
        """Return what the firmware finds first, page by page."""
        if query.hash is not None:
            positions = self._by_hash.get(query.hash, ())
        else:
            positions = self._positions_of_name(query.name)
        self._work.spend(_WORK_OF_SEARCH)
        for position in positions:
            item = self.pages[position].find(query, self._work)
            if item is not None:
                return Found(position, item)
            self._work.spend(1)
        return None

    def read(self, namespace_index: int, code: int, key: bytes) -> Value:
        """Return what ``nvs_get_…`` gives for a key as a value of this type.

        As in the firmware, data whose CRC-32 is wrong and blobs that lack a chunk are erased by
        being read, which can bring to light what they hid.
        """
        kind = CODE_BLOB_V1 if code in (CODE_BLOB_DATA, CODE_BLOB_INDEX) else code
        known = self._read.get((namespace_index, kind, key))
        if known is not None:
            return known
        erased = self._erased
        if kind in INTEGER_SIZE:
            value = self._read_integer(namespace_index, kind, key)
        elif kind == CODE_STRING:
            value = self._read_string(namespace_index, key)
        else:
            value = self._read_blob(namespace_index, key)
        if erased == self._erased:
            self._read[namespace_index, kind, key] = value
        return value

    def _take_inventory(self) -> None:
        for position, page in enumerate(self.pages):
            defining = True
            for item in page.items.values():
                positions = self._by_hash.setdefault(item.hash, [])
                if not positions or positions[-1] != position:
                    positions.append(position)
                if item.namespace_index == 0:
                    defining = defining and item.type == INTEGER_CODE["u8"]
                    if defining:
                        self._define(Found(position, item))
                if item.type == CODE_BLOB_DATA:
                    self._chunks.setdefault(_family(item), []).append(Found(position, item))
                elif item.type == CODE_BLOB_INDEX:
                    self._indexed.append(_BlobIndex(item))
                    self._blobs.setdefault(_family(item), []).append(self._indexed[-1])

    def _define(self, found: Found) -> None:
        self.definitions.append(found)
        self.names.setdefault(found.item.data[0], found.item.name)
        self._indexes.setdefault(found.item.name, found.item.data[0])

    def _positions_of_name(self, name: bytes) -> list[int]:
        if self._by_name is None:
            self._by_name = {}
            for position, page in enumerate(self.pages):
                for item_name in {item.name for item in page.items.values()}:
                    self._by_name.setdefault(item_name, []).append(position)
        return self._by_name.get(name, [])

    def _erase(self, found: Found) -> None:
        self.pages[found.position].erase(found.item)
        self._erased += 1
        self._read.clear()

    def _is_there(self, found: Found) -> bool:
        return self.pages[found.position].items.get(found.item.entry) is found.item

    def _parent(self, chunk: Item, *, exact: bool) -> _BlobIndex | None:
        """Return the first index that a chunk belongs to: by its announced chunks, or by the range."""
        for blob in self._blobs.get(_family(chunk), ()):
            self._work.spend(1)
            if blob.covers_chunk(chunk) if exact else blob.covers_range(chunk):
                return blob
        return None

    def _erase_mismatched_indexes(self) -> None:
        for chunks in self._chunks.values():
            for found in chunks:
                parent = self._parent(found.item, exact=False)
                if parent is not None:
                    parent.seen_size += found.item.data_size
                    parent.seen_chunks += 1
        broken = [blob for blob in self._indexed if not blob.is_complete()]
        for blob in broken:
            self._erase_index(blob)
        for family in {_family(blob.item) for blob in broken}:
            self._blobs[family] = [blob for blob in self._blobs[family] if blob.is_complete()]

    def _erase_index(self, blob: _BlobIndex) -> None:
        item = blob.item
        query = make_query(item.namespace_index, CODE_BLOB_INDEX, item.key, chunk_start=item.chunk_start)
        found = self.find(query)
        if found is not None:
            self._erase(found)
        text = f"its index announces {_amount(item.blob_size, item.chunk_count)}"
        text = f"{text}, but there are {_amount(blob.seen_size, blob.seen_chunks)}"
        self.removed.append((item, text))

    def _erase_orphans(self) -> None:
        explained = {_family(item) for item, _ in self.removed}
        for position, page in enumerate(self.pages):
            for item in [item for item in page.items.values() if item.type == CODE_BLOB_DATA]:
                if page.items.get(item.entry) is not item or self._parent(item, exact=True) is not None:
                    continue
                query = make_query(item.namespace_index, CODE_BLOB_DATA, item.key, item.chunk_index)
                erased = page.find(query, self._work)
                if erased is not None:
                    self._erase(Found(position, erased))
                if _family(item) not in explained:
                    text = "{item}: has no index, as when writing or erasing the blob was interrupted"
                    self._findings.at("warning", item, f"{text}; the firmware erases it")

    def _read_integer(self, namespace_index: int, code: int, key: bytes) -> Value:
        found = self.find(make_query(namespace_index, code, key))
        if found is None:
            return _MISSING
        data = found.item.data[: INTEGER_SIZE[code]]
        return Value(int.from_bytes(data, "little", signed=bool(code & _SIGNED)), (found,))

    def _read_string(self, namespace_index: int, key: bytes) -> Value:
        found = self.find(make_query(namespace_index, CODE_STRING, key))
        if found is None:
            return _MISSING
        if not self._check_data(found):
            return Value(None, damage=_crc_fault(found.item))
        data = self._data(found.item)
        if data[-1:] == b"\0":
            return Value(data[:-1], (found,))
        return Value(data, (found,), terminated=False)

    def _data(self, item: Item) -> bytes:
        start = item.offset + ENTRY_SIZE
        return self._image[start : start + item.data_size]

    def _check_data(self, found: Found) -> bool:
        """Check the CRC-32 of an item's data; as in the firmware, the item is erased if it is wrong."""
        item = found.item
        sound = self._sound.get(item.offset)
        if sound is None:
            sound = self._sound[item.offset] = crc32(self._data(item)) == item.data_crc
        if not sound:
            self._erase(found)
        return sound

    def _read_blob(self, namespace_index: int, key: bytes) -> Value:
        index = self.find(make_query(namespace_index, CODE_BLOB_INDEX, key))
        if index is None:
            return self._read_legacy(namespace_index, key, None)
        chunks: list[Found] = []
        missing = damage = ""
        left = index.item.blob_size
        self._work.spend(_WORK_OF_CHUNK * index.item.chunk_count)
        for number in range(index.item.chunk_count):
            chunk_index = (index.item.chunk_start + number) & 0xFF
            query = make_query(namespace_index, CODE_BLOB_DATA, key, chunk_index)
            found = self.find(query)
            if found is None or found.item.data_size > left:
                missing = f"chunk {number + 1} of {index.item.chunk_count} is missing or too large"
                break
            chunks.append(found)
            if not self._check_data(found):
                damage = _crc_fault(found.item)
                break
            if found.item.chunk_index != index.item.chunk_start + number:
                return Value(None, damage="its chunks are numbered past 254")
            left -= found.item.data_size
        if missing:
            self._erase_family(namespace_index, key)
        if not damage and (left or (missing and found is not None)):
            return Value(None, damage=missing or "its chunks are shorter than its index announces")
        data = b"".join([self._data(found.item) for found in chunks])
        if not damage and not missing:
            return Value(data, (index, *chunks))
        legacy = self._read_legacy(namespace_index, key, data.ljust(index.item.blob_size, b"\0"))
        return Value(None, damage=damage or missing) if legacy is _MISSING else legacy

    def _read_legacy(self, namespace_index: int, key: bytes, buffer: bytes | None) -> Value:
        """Return a blob of format version 1; given a buffer, read into that, over what is in it."""
        found = self.find(make_query(namespace_index, CODE_BLOB_V1, key))
        if found is None:
            return _MISSING
        if buffer is not None and len(buffer) < found.item.data_size:
            return Value(
                None, damage="its chunks are damaged, and it stands in the old format too, but larger"
            )
        if not self._check_data(found):
            return Value(None, damage=_crc_fault(found.item))
        data = self._data(found.item)
        return Value(data if buffer is None else data + buffer[len(data) :], (found,), legacy=True)

    def _erase_family(self, namespace_index: int, key: bytes) -> None:
        """Erase a blob of which a chunk is missing (``eraseMultiPageBlob`` of any version)."""
        query = make_query(namespace_index, CODE_BLOB_INDEX, key)
        for _ in range(2):
            index = self.find(query)
            if index is not None:
                self._erase(index)
        name = key[:MAX_KEY_LENGTH]
        if namespace_index == NAMESPACE_ANY:
            self._work.spend(len(self._chunks))
            families = [family for family in self._chunks if family[1] == name]
        else:
            families = [(namespace_index, name)]
        for family in families:
            chunks = self._chunks.pop(family, [])
            for found in chunks:
                if self._is_there(found):
                    self._erase(found)


def is_listed(item: Item) -> bool:
    """Whether an item stands for an entry: definitions and the further parts of a blob do not.

    A blob is listed where its first chunk is, as ``nvs_entry_find`` does; one without chunks, or with
    a numbering of its own, which that function does not show although it can be read, at its index.
    """
    if item.namespace_index == 0:
        return False
    if item.type == CODE_BLOB_DATA:
        return item.chunk_index in _RANGE_STARTS
    if item.type == CODE_BLOB_INDEX:
        return item.chunk_count == 0 or item.chunk_start not in _RANGE_STARTS
    return True


def _family(item: Item) -> _Family:
    return item.namespace_index, item.name


def _amount(size: int, chunks: int) -> str:
    return f"{size} bytes in {chunks} chunk{'' if chunks == 1 else 's'}"


def _crc_fault(item: Item) -> str:
    part = f"of the data of chunk {item.chunk_index}" if item.type == CODE_BLOB_DATA else "of its data"
    return f"the CRC-32 {part} ({item.data_size} bytes) is wrong"

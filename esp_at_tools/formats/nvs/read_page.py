"""One page of an NVS partition, as the firmware has it in memory after loading it.

Source: ``Page::load``, ``Page::mLoadEntryTable``, ``Page::eraseEntryAndSpan`` and
``Page::findItem`` of ``nvs_page.cpp``, ESP-IDF v5.4.4.
"""

from __future__ import annotations

from collections.abc import Iterator

from esp_at_tools.formats.nvs.model import (
    ENTRY_COUNT,
    ENTRY_EMPTY,
    ENTRY_ERASED,
    ENTRY_SIZE,
    ENTRY_WRITTEN,
    FIRST_ENTRY_OFFSET,
    PAGE_ACTIVE,
    PAGE_CORRUPT,
    PAGE_EMPTY,
    PAGE_FREEING,
    PAGE_FULL,
    PAGE_HEADER,
    PAGE_SIZE,
    VERSION_BYTE,
    Level,
    crc32,
)
from esp_at_tools.formats.nvs.read_findings import Findings, Work
from esp_at_tools.formats.nvs.read_item import (
    VARIABLE_LENGTH,
    Item,
    Query,
    Verdict,
    judge,
    make_query,
    parse_item,
    reject_item,
)

ENTRY_ILLEGAL = 0b01
"""An entry's state that no order of writing and erasing can leave."""

_BLANK_PAGE = b"\xff" * PAGE_SIZE
_BLANK_ENTRY = b"\xff" * ENTRY_SIZE
_BLANK_WORD = b"\xff" * 4
_STATES = [bytes((byte & 3, byte >> 2 & 3, byte >> 4 & 3, byte >> 6)) for byte in range(256)]
_CRC_START, _CRC_END = 4, 28
_IN_USE = frozenset({PAGE_ACTIVE, PAGE_FULL, PAGE_FREEING})


class RefusedError(Exception):
    """The firmware would not open the partition; never leaves the reader.

    Args:
        code: the error code of the firmware.
        page: the page that is to blame, or None.
        text: what is wrong.
    """

    def __init__(self, code: str, page: int | None, text: str) -> None:
        """Keep what a problem needs."""
        super().__init__(code)
        self.code = code
        self.page = page
        self.text = text


class Page:
    """A page that is in use, with the items that the firmware sees on it.

    Attributes:
        number: index of the page in the image; of a page that the firmware starts while it repairs,
            that of the page whose entries it takes over.
        state: PAGE_ACTIVE, PAGE_FULL or PAGE_FREEING.
        sequence: the number by which pages are ordered.
        version: the byte in its header.
        items: index of the entry → item, in ascending order.
        unknown: items of unknown types, which the firmware deletes and an edit has to keep.
    """

    __slots__ = ("_by_hash", "items", "number", "sequence", "state", "unknown", "version")

    def __init__(self, number: int, state: int, sequence: int, version: int) -> None:
        """Make a page without items."""
        self.number = number
        self.state = state
        self.sequence = sequence
        self.version = version
        self.items: dict[int, Item] = {}
        self.unknown: list[Item] = []
        self._by_hash: dict[int, list[int]] = {}

    def add(self, item: Item) -> None:
        """Append an item; it has to stand after those that are there."""
        self.items[item.entry] = item
        self._by_hash.setdefault(item.hash, []).append(item.entry)

    def erase(self, item: Item) -> None:
        """Remove an item."""
        del self.items[item.entry]
        self._by_hash[item.hash].remove(item.entry)

    def first_of_hash(self, wanted: int) -> Item | None:
        """Return the first item that has this hash."""
        indexes = self._by_hash.get(wanted)
        return self.items[indexes[0]] if indexes else None

    def find(self, query: Query, work: Work) -> Item | None:
        """Return what the firmware finds on this page, or None."""
        first = -1
        if query.hash is not None:
            indexes = self._by_hash.get(query.hash)
            if not indexes:
                return None
            first = indexes[0]
            verdict = judge(self.items[first], query)
            if verdict is not Verdict.SKIPPED:
                return self.items[first] if verdict is Verdict.FOUND else None
        work.spend(len(self.items))
        for index, item in self.items.items():
            verdict = judge(item, query) if index > first else Verdict.SKIPPED
            if verdict is not Verdict.SKIPPED:
                return item if verdict is Verdict.FOUND else None
        return None

    def moved(self) -> Page:
        """Return the page that ``Page::copyItems`` fills with the items of this one."""
        copy = Page(self.number, PAGE_ACTIVE, self.sequence, self.version)
        copy.unknown = self.unknown
        index = 0
        for item in self.items.values():
            copy.add(item._replace(entry=index))
            index += item.span
        return copy


def load_page(image: bytes, number: int, findings: Findings, work: Work) -> Page | None:
    """Return a page as the firmware loads it; None where it counts the page as free.

    Raises:
        RefusedError: a newer version of the library wrote it.
    """
    start = number * PAGE_SIZE
    raw = image[start : start + PAGE_SIZE]
    if raw == _BLANK_PAGE:
        return None
    state, sequence, version, _, crc = PAGE_HEADER.unpack_from(raw)
    if state == PAGE_EMPTY:
        _report_unusable(raw, number, "it is not blank, although its state says so", findings)
        return None
    if crc32(raw[_CRC_START:_CRC_END]) != crc:
        _report_unusable(raw, number, "the CRC-32 of its header is wrong", findings)
        return None
    if version < VERSION_BYTE[2]:
        raise RefusedError(
            "ESP_ERR_NVS_NEW_VERSION_FOUND",
            number,
            f"has the version byte {version:#04x}, of a format later than 2",
        )
    if state not in _IN_USE:
        corrupt = "corrupt" if state == PAGE_CORRUPT else "unknown"
        _report_unusable(raw, number, f"its state {state:#010x} is {corrupt}", findings)
        return None
    page = Page(number, state, sequence, version)
    _Loader(page, image, raw, findings, work).load()
    return page


def _report_unusable(raw: bytes, number: int, reason: str, findings: Findings) -> None:
    """Report a page that the firmware counts as free: without loss only where nothing can be on it."""
    if raw[ENTRY_SIZE:] == _BLANK_PAGE[ENTRY_SIZE:]:
        text = f"{reason}, and nothing else is on it: starting the page was interrupted"
        findings.add("warning", number, None, f"{text}; the firmware counts it as free")
    elif raw[:FIRST_ENTRY_OFFSET] == _BLANK_PAGE[:FIRST_ENTRY_OFFSET]:
        text = "header and states are blank but not the rest: erasing the page was interrupted"
        findings.add("warning", number, None, f"{text}; the firmware counts it as free")
    else:
        findings.add(
            "error", number, None, f"{reason}; the firmware counts it as free and ignores its entries"
        )


class _Loader:
    """Loads the entries of a page in use, repairing it in memory as the firmware does in flash."""

    def __init__(self, page: Page, image: bytes, raw: bytes, findings: Findings, work: Work) -> None:
        self._page = page
        self._image = image
        self._findings = findings
        self._work = work
        self._base = page.number * PAGE_SIZE + FIRST_ENTRY_OFFSET
        states = b"".join(map(_STATES.__getitem__, raw[ENTRY_SIZE:FIRST_ENTRY_OFFSET]))
        self._original = states[:ENTRY_COUNT]
        self._states = bytearray(self._original)
        self._damaged: list[int] = []
        self._half_written = range(0)
        self._incomplete: set[int] = set()
        self._explained = 0  # entries before this one belong to one that is reported

    def load(self) -> None:
        if self._page.state == PAGE_ACTIVE:
            end = self._load_active()
        else:
            self._load_full()
            end = ENTRY_COUNT
        self._report_half_written()
        self._report_damaged()
        self._report_hidden(end)

    def _offset(self, index: int) -> int:
        return self._base + index * ENTRY_SIZE

    def _entry(self, index: int) -> bytes:
        return self._image[self._offset(index) : self._offset(index + 1)]

    def _report(self, level: Level, index: int, text: str) -> None:
        self._findings.add(level, self._page.number, index, text)

    def _load_full(self) -> None:
        """Take the written items of a full page, or of one that is being freed; holes are passed over."""
        states = self._states
        index = states.find(ENTRY_WRITTEN)
        while index >= 0:
            item = parse_item(self._image, self._offset(index), index)
            if item is None:
                self._reject(index)
                index = states.find(ENTRY_WRITTEN, index + 1)
                continue
            if self._is_whole(item):
                self._page.add(item)
            else:
                self._erase_incomplete(item)
            index = states.find(ENTRY_WRITTEN, index + item.span)

    def _load_active(self) -> int:
        """Take the items of the page that is being written, up to the first empty entry.

        Returns where that is. An item of the same key as an earlier one is what an interrupted
        change left: the earlier one goes.
        """
        page, states = self._page, self._states
        end = states.find(ENTRY_EMPTY)
        end = ENTRY_COUNT if end < 0 else self._erase_half_written(end)
        index = 0
        last: Item | None = None
        while index < end:
            if states[index] != ENTRY_WRITTEN:
                states[index] = ENTRY_ERASED
                last = None
                index += 1
                continue
            item = parse_item(self._image, self._offset(index), index)
            if item is None:
                last = self._reject(index)
                index += 1
                continue
            index += item.span
            if not self._is_whole(item):
                self._erase_incomplete(item)
                last = None
                continue
            earlier = page.first_of_hash(item.hash)
            page.add(item)
            if earlier is not None:
                self._erase_replaced(earlier, item)
            last = item
        if last is not None:
            self._erase_same_as_last(last)
        return max(end, index)

    def _is_whole(self, item: Item) -> bool:
        if item.type not in VARIABLE_LENGTH:
            return True
        return self._states.count(ENTRY_WRITTEN, item.entry, item.entry + item.span) == item.span

    def _mark_erased(self, item: Item) -> None:
        span = item.span if item.type in VARIABLE_LENGTH else 1
        self._states[item.entry : item.entry + span] = bytes((ENTRY_ERASED,)) * span

    def _erase_half_written(self, first: int) -> int:
        """Give up entries that hold something although their state is empty; return where they end.

        The firmware looks at the first word only, and goes on into entries that are written.
        """
        index = first
        while index < ENTRY_COUNT and self._entry(index)[:4] != _BLANK_WORD:
            self._states[index] = ENTRY_ERASED
            index += 1
        self._half_written = range(first, index)
        return index

    def _erase_incomplete(self, item: Item) -> None:
        self._mark_erased(item)
        self._incomplete.update(range(item.entry, item.entry + item.span))
        text = "{item}: not all of its %d entries are written, as when writing or erasing was interrupted"
        self._findings.at("warning", item, f"{text % item.span}; the firmware erases it")

    def _erase_replaced(self, earlier: Item, later: Item) -> None:
        self._page.erase(earlier)
        self._mark_erased(earlier)
        if earlier.is_same_as(later):
            text = "{item}: stands again at entry %d, as when a change was interrupted; the firmware erases"
            self._findings.at("warning", earlier, f"{text % later.entry} this one and keeps the later")
        else:
            text = "{item}: happens to have the hash of entry %d; the firmware erases it as the same"
            self._findings.at("error", earlier, text % later.entry)

    def _erase_same_as_last(self, last: Item) -> None:
        """Check the last item for an earlier one of its key once more, by key and type.

        Here the firmware takes any earlier chunk of a blob for the same thing, and compares with
        what a damaged last entry says.
        """
        query = make_query(last.namespace_index, last.type, last.key)
        found = self._page.find(query, self._work)
        if found is None or found.entry >= last.entry:
            return
        self._page.erase(found)
        self._mark_erased(found)
        replaced = last.entry in self._page.items and found.is_same_as(last)
        text = "{item}: the last entry of the page, %d, bears the same key; the firmware erases this one"
        self._findings.at("warning" if replaced else "error", found, text % last.entry)

    def _reject(self, index: int) -> Item:
        """Drop an entry whose header is wrong, and only that; return what it says."""
        self._states[index] = ENTRY_ERASED
        rejected = reject_item(self._image, self._offset(index), index)
        if index < self._explained:
            return rejected.item
        if rejected.unknown:
            self._keep_unknown(rejected.item)
        elif rejected.fault:
            self._findings.at(
                "error", rejected.item, "{item}: " + rejected.fault + "; the firmware deletes it"
            )
        else:
            self._damaged.append(index)
        return rejected.item

    def _keep_unknown(self, item: Item) -> None:
        span = item.span if 0 < item.span <= ENTRY_COUNT - item.entry else 1
        if self._original.count(ENTRY_WRITTEN, item.entry, item.entry + span) != span:
            span = 1
        inner = range(item.entry + 1, item.entry + span)
        if any(parse_item(self._image, self._offset(index), index) for index in inner):
            span = 1
        self._page.unknown.append(item._replace(span=span))
        self._explained = item.entry + span
        text = "{item}: its type is unknown; ESP-IDF 5.4 deletes it, other versions leave it alone"
        self._findings.at("warning", item, text)

    def _report_half_written(self) -> None:
        """Report the entries that were given up, unless they belong to an item that is reported.

        The states of an item's data are written from the last to the first, so that a later one can
        be written before an earlier one; anywhere else this is damage.
        """
        rest = [index for index in self._half_written if index not in self._incomplete]
        if not rest:
            return
        entries = _entries(rest[0], rest[-1] + 1)
        if any(self._original[index] == ENTRY_WRITTEN for index in rest):
            text = f"its state reads empty but those of later ones written: the firmware erases {entries}"
            self._report("error", rest[0], text)
        else:
            text = f"writing was interrupted before it was marked as written: the firmware erases {entries}"
            self._report("warning", rest[0], text)

    def _report_damaged(self) -> None:
        """Report the entries with a wrong CRC-32, neighbours together."""
        if not self._damaged:
            return
        remains = self._remains()
        for first, last in _runs(self._damaged):
            entries = _entries(first, last + 1)
            if remains.issuperset(range(first, last + 1)):
                text = (
                    f"data of an erased entry, left by an interrupted erasure: the firmware erases {entries}"
                )
                self._report("warning", first, text)
            else:
                text = f"the CRC-32 of {entries} is wrong; the firmware deletes what it was"
                self._report("error", first, text)

    def _remains(self) -> set[int]:
        """Return the entries that belong to an item whose header has been erased before them."""
        remains: set[int] = set()
        for index in range(ENTRY_COUNT):
            if self._original[index] == ENTRY_ERASED and index not in remains:
                item = parse_item(self._image, self._offset(index), index)
                if item is not None:
                    remains.update(range(index + 1, index + item.span))
        return remains

    def _report_hidden(self, end: int) -> None:
        """Report entries that hold something and that the firmware does not look at or gives up."""
        written = list(_positions(self._original, ENTRY_WRITTEN, end))
        if written:
            blank = all(self._entry(index) == _BLANK_ENTRY for index in written)
            count = f"{len(written)} written {'one' if len(written) == 1 else 'ones'}"
            text = f"entry {end} is empty: the firmware does not see {count} after it"
            self._report("warning" if blank else "error", written[0], text)
        for index in _positions(self._original, ENTRY_ILLEGAL):
            lost = parse_item(self._image, self._offset(index), index) is not None
            text = "its state is 01, which only damage can leave; the firmware takes it for erased"
            self._report("error" if lost else "warning", index, text)
        first = self._states.find(ENTRY_EMPTY)
        if first >= 0 and self._image[self._offset(first) : self._offset(ENTRY_COUNT)].strip(b"\xff"):
            self._report_unmarked(first)

    def _report_unmarked(self, first: int) -> None:
        """Report items that stand in entries which are still empty by their state."""
        for index in _positions(self._states, ENTRY_EMPTY, first):
            item = parse_item(self._image, self._offset(index), index)
            if item is not None:
                self._findings.at(
                    "error", item, "{item}: its state reads empty; the firmware does not see it"
                )


def _positions(states: bytes | bytearray, state: int, start: int = 0) -> Iterator[int]:
    """Yield the indexes, from ``start`` on, of the entries that are in a state."""
    index = states.find(state, start)
    while index >= 0:
        yield index
        index = states.find(state, index + 1)


def _entries(first: int, end: int) -> str:
    return f"entry {first}" if end - first == 1 else f"entries {first} to {end - 1}"


def _runs(indexes: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of neighbours in an ascending list."""
    first = last = indexes[0]
    for index in indexes[1:]:
        if index != last + 1:
            yield first, last
            first = index
        last = index
    yield first, last

"""Read an NVS partition exactly as the firmware does.

The library ``nvs_flash`` of ESP-IDF v5.4.4 is followed step by step, its oddities included: what it
repairs when it opens a partition, in which order it lists entries, and what it finds under a key.
Nothing is written; the repairs are made in memory.

When does the firmware lose something? Every problem of level ``error`` is a loss: a page that is
counted as free although it holds something, an entry whose header is wrong, data whose CRC-32 is
wrong, a blob that lacks a part, an entry that cannot be reached by its namespace and key, a
partition that cannot be opened at all. What power failures leave behind by design is no loss: half
of the newest entry, the rest of an erased one, the older of two values of a key, chunks of a blob
that has no index yet or no longer, a page that was being started or freed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.nvs.model import (
    CHUNK_ANY,
    CODE_BLOB_DATA,
    CODE_BLOB_INDEX,
    CODE_BLOB_V1,
    CODE_STRING,
    ENTRY_SIZE,
    FIRST_ENTRY_OFFSET,
    INTEGER_CODE,
    MAX_KEY_LENGTH,
    PAGE_SIZE,
    VERSION_BYTE,
    Level,
    NvsEntry,
    NvsProblem,
    NvsType,
)
from esp_at_tools.formats.nvs.read_findings import Findings, TooContortedError, Work
from esp_at_tools.formats.nvs.read_item import Item, describe, make_query, printable
from esp_at_tools.formats.nvs.read_page import RefusedError
from esp_at_tools.formats.nvs.read_storage import Found, Storage, Value, is_listed, open_pages

_UNUSUAL_INDEXES = (0, 255)


@dataclass(frozen=True, slots=True)
class NvsRecord:
    """One thing that the firmware keeps, for rebuilding a partition.

    Attributes:
        kind: ``namespace`` for a definition; ``entry`` for a value that can be read by its key;
            ``unknown`` for what can not but is kept as it is, one item each. An index that only
            ``unknown`` records use must not be given to another namespace.
        namespace_index: of a namespace record the index that it defines, else the one it lies in.
        key: without padding; of a namespace record its name.
        type: of entries their NvsType, ``blob`` for every blob; else empty.
        value: of entries an int or the bytes, of strings without the closing NUL; of ``unknown`` the
            raw ``span * 32`` bytes; of namespaces 0.
        legacy_blob: a blob of one piece, as format version 1 writes it.
        terminated: whether a string ends in NUL.
    """

    kind: Literal["namespace", "entry", "unknown"]
    namespace_index: int
    key: bytes
    type: str
    value: int | bytes
    legacy_blob: bool = False
    terminated: bool = True


@dataclass(frozen=True)
class NvsReading:
    """What the firmware makes of a partition.

    Attributes:
        entries: what it would read, in the order in which it lists it. Duplicates stand as often as
            it shows them, each time with the value that reading the key gives.
        records: each thing once, in physical order: by the sequence of the pages, then by the entry
            in which its first part is. Of duplicates there is the one that is read.
        problems: what is wrong, in the order of the image.
        opened: False where ``nvs_flash_init`` refuses; there are no entries and records then.
        version: 2 if any page in use, or none at all, is of format version 2, else 1.
        loses_entries: whether there is a problem of level ``error``.
    """

    entries: tuple[NvsEntry, ...]
    records: tuple[NvsRecord, ...]
    problems: tuple[NvsProblem, ...]
    opened: bool
    version: int
    loses_entries: bool


def read_partition(data: bytes) -> NvsReading:
    """Return what the firmware reads from the image of a partition that is not encrypted.

    A trailing part of a sector is ignored, as the firmware ignores it, and reported.

    Args:
        data: the image, 4096 bytes for each page.

    Raises:
        FormatError: there is not even one page.
    """
    image = bytes(data)
    page_count, rest = divmod(len(image), PAGE_SIZE)
    if not page_count:
        hint = f"an NVS partition is a multiple of {PAGE_SIZE} bytes"
        raise FormatError(f"an NVS partition cannot have {len(image)} bytes", hint)
    findings = Findings()
    if rest:
        text = f"the last {rest} bytes are no whole page; the firmware ignores them"
        findings.add("warning", None, None, text)
    work = Work(page_count)
    try:
        pages = open_pages(image[: page_count * PAGE_SIZE], findings, work)
        version = 2 if not pages or any(page.version == VERSION_BYTE[2] for page in pages) else 1
        reader = _Reader(Storage(pages, image, findings, work), image, findings)
    except RefusedError as refused:
        text = f"{refused.text}; the firmware does not open the partition ({refused.code})"
        findings.add("error", refused.page, None, text)
        return NvsReading((), (), findings.problems(_bare), opened=False, version=2, loses_entries=True)
    except TooContortedError:
        findings.add("error", None, None, _CONTORTED)
        return NvsReading((), (), findings.problems(_bare), opened=True, version=2, loses_entries=True)
    reader.read_all()
    return reader.result(version)


_CONTORTED = "so many entries hide one another that reading was given up; this image was not made by a device"


def _bare(item: Item) -> str:
    return describe(item, {})


class _Line(NamedTuple):
    """A line of the listing: the item that it stands for, and what reading its key gave."""

    found: Found
    opened: int
    value: Value


_RecordKey = tuple[int, bytes, NvsType]


class _Reader:
    """Reads all entries of an opened partition and takes stock of what is left."""

    def __init__(self, storage: Storage, image: bytes, findings: Findings) -> None:
        self._storage = storage
        self._image = image
        self._findings = findings
        self._lines: list[_Line] = []
        self._unnamed: dict[int, list[Item]] = {}
        self._readable: dict[_RecordKey, _Line] = {}

    def read_all(self) -> None:
        """Read every entry by its key, in the order of the listing."""
        storage = self._storage
        listed = [
            Found(position, item)
            for position, page in enumerate(storage.pages)
            for item in page.items.values()
            if is_listed(item)
        ]
        try:
            for found in listed:
                name = storage.names.get(found.item.namespace_index)
                if name is None:
                    self._unnamed.setdefault(found.item.namespace_index, []).append(found.item)
                else:
                    self._read_line(found, storage.namespace(name))
        except TooContortedError:
            self._findings.add("error", None, None, _CONTORTED)

    def _read_line(self, found: Found, opened: int) -> None:
        item = found.item
        if len(item.key) > MAX_KEY_LENGTH:
            value = Value(None)
        else:
            value = self._storage.read(opened, item.type, item.key)
        line = _Line(found, opened, value)
        self._lines.append(line)
        if value.value is not None:
            self._readable.setdefault((opened, item.key, _TYPE[item.type]), line)

    def result(self, version: int) -> NvsReading:
        """Return the reading; afterwards nothing more can be read."""
        self._report_namespaces()
        self._report_lines()
        self._report_removed_blobs()
        records = self._records()
        names = self._storage.names
        return NvsReading(
            entries=tuple(self._entries()),
            records=records,
            problems=self._findings.problems(lambda item: describe(item, names)),
            opened=True,
            version=version,
            loses_entries=self._findings.lost,
        )

    def _entries(self) -> Iterator[NvsEntry]:
        for line in self._lines:
            item, value = line.found.item, line.value.value
            if value is None:
                continue
            shown = _text(value) if item.type == CODE_STRING and isinstance(value, bytes) else value
            namespace = self._storage.names[item.namespace_index]
            yield NvsEntry(_text(namespace), _text(item.key), _TYPE[item.type], shown)

    def _report_namespaces(self) -> None:
        """Report definitions that the firmware does not see, or that contradict each other."""
        storage, known = self._storage, set()
        for found in storage.definitions:
            item, index = found.item, found.item.data[0]
            known.add(item.offset)
            if storage.namespace(item.name) != index:
                text = "{item}: is defined again, with the index %d; the firmware uses the index %d"
                self._findings.at("warning", item, text % (index, storage.namespace(item.name)))
            elif storage.names[index] != item.name:
                text = "{item}: has the index %d of namespace %s too; they have their entries in common"
                self._findings.at("warning", item, text % (index, printable(storage.names[index])))
            elif index in _UNUSUAL_INDEXES:
                text = "{item}: has the index %d, which the firmware itself never gives"
                self._findings.at("warning", item, text % index)
        for page in storage.pages:
            for item in page.items.values():
                if item.namespace_index == 0 and item.offset not in known:
                    self._report_hidden_definition(item)
        for index, items in self._unnamed.items():
            text = (
                f"namespace #{index} has no name; the firmware cannot read its {_count(len(items), 'entry')}"
            )
            self._findings.at("error", items[0], text)

    def _report_hidden_definition(self, item: Item) -> None:
        if item.type == INTEGER_CODE["u8"]:
            text = "{item}: stands after an entry that is no definition; the firmware does not read it"
            self._findings.at("error", item, text)
        else:
            text = "{item}: is no definition of a namespace, yet among them; the firmware does not read"
            self._findings.at("warning", item, f"{text} definitions after it on this page")

    def _report_lines(self) -> None:
        for line in self._lines:
            item, value = line.found.item, line.value
            if value.damage:
                self._findings.at("error", item, "{item}: " + value.damage + "; the firmware cannot read it")
            elif value.value is None:
                reason = self._unreachable(line)
                self._findings.at("error", item, "{item}: cannot be read by its key: " + reason)
            else:
                self._report_oddities(line)
        types: dict[tuple[int, bytes], Item] = {}
        for (opened, key, _), line in self._readable.items():
            other = types.setdefault((opened, key), line.found.item)
            if other is not line.found.item:
                text = "{item}: stands as %s as well; the firmware reads both, each by its type"
                self._findings.at("warning", line.found.item, text % _TYPE[other.type])

    def _unreachable(self, line: _Line) -> str:
        """Return why an item is not found under its key."""
        item = line.found.item
        if len(item.key) > MAX_KEY_LENGTH:
            return "it has no closing NUL"
        if item.namespace_index != line.opened:
            return f"its namespace is defined twice, and the firmware uses the index {line.opened}"
        if item.type not in (CODE_BLOB_DATA, CODE_BLOB_INDEX) and item.chunk_index != CHUNK_ANY:
            return f"its chunk index is {item.chunk_index} instead of {CHUNK_ANY}"
        if make_query(item.namespace_index, item.type, item.key, item.chunk_index).hash not in (
            item.hash,
            None,
        ):
            return "the bytes after its closing NUL are not NUL"
        return "another type or part under the same key comes first"

    def _report_oddities(self, line: _Line) -> None:
        item, value = line.found.item, line.value
        if all(source.item.offset != item.offset for source in value.sources):
            place = value.sources[0].item.offset
            page, entry = place // PAGE_SIZE, (place % PAGE_SIZE - FIRST_ENTRY_OFFSET) // ENTRY_SIZE
            text = "{item}: stands at entry %d of page %d as well; the firmware reads that one"
            self._findings.at("warning", item, text % (entry, page))
        elif value.legacy:
            text = "{item}: in the format of version 1; nvs_entry_find() does not show it"
            self._findings.at("info", item, text)
        elif item.type == CODE_BLOB_INDEX:
            text = "{item}: has no chunk of the usual number; nvs_entry_find() does not show it"
            self._findings.at("info", item, text)
        elif not value.terminated:
            text = "{item}: does not end in NUL; the firmware returns it as it is"
            self._findings.at("warning", item, text)

    def _report_removed_blobs(self) -> None:
        for item, text in self._storage.removed:
            readable = (item.namespace_index, item.name, "blob") in self._readable
            level: Level = "warning" if readable else "error"
            self._findings.at(level, item, "{item}: " + text + "; the firmware deletes it")

    def _records(self) -> tuple[NvsRecord, ...]:
        placed: list[tuple[int, int, NvsRecord]] = []
        used: set[int] = set()
        self._place_namespaces(placed, used)
        for (opened, key, kind), line in self._readable.items():
            value = line.value
            if value.value is None:
                continue
            places = [(source.position, source.item.offset) for source in value.sources]
            position, offset = min(places)
            used.update([source.item.offset for source in value.sources])
            record = NvsRecord("entry", opened, key, kind, value.value, value.legacy, value.terminated)
            placed.append((position, offset, record))
        self._place_unknown(placed, used)
        placed.sort(key=lambda place: place[:2])
        return tuple(record for _, _, record in placed)

    def _place_namespaces(self, placed: list[tuple[int, int, NvsRecord]], used: set[int]) -> None:
        seen: set[bytes] = set()
        for position, item in self._storage.definitions:
            index = item.data[0]
            if self._storage.namespace(item.name) != index:
                continue
            used.add(item.offset)
            if item.name not in seen:
                seen.add(item.name)
                placed.append((position, item.offset, NvsRecord("namespace", index, item.name, "", 0)))

    def _place_unknown(self, placed: list[tuple[int, int, NvsRecord]], used: set[int]) -> None:
        """Add what is neither a value nor hidden by one nor the rest of a damaged one."""
        settled = {(opened, key) for opened, key, _ in self._readable}
        for line in self._lines:
            if line.value.value is not None or line.value.damage:
                settled.add((line.found.item.namespace_index, line.found.item.key))
        for position, page in enumerate(self._storage.pages):
            left = [
                item
                for item in page.items.values()
                if item.offset not in used and (item.namespace_index, item.key) not in settled
            ]
            placed.extend((position, item.offset, self._raw(item)) for item in (*left, *page.unknown))

    def _raw(self, item: Item) -> NvsRecord:
        raw = self._image[item.offset : item.offset + item.span * ENTRY_SIZE]
        return NvsRecord("unknown", item.namespace_index, item.key, "", raw)


_TYPE: dict[int, NvsType] = {
    CODE_STRING: "string",
    CODE_BLOB_V1: "blob",
    CODE_BLOB_DATA: "blob",
    CODE_BLOB_INDEX: "blob",
    **{code: cast("NvsType", name) for name, code in INTEGER_CODE.items()},
}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what[:-1]}ies"

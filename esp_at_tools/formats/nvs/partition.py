"""An NVS partition as a whole: read, change, write.

Laws, which the tests hold it to: what was not changed, or was changed and put back, gives the bytes
that were read, in every generator's style; a key that is removed and set again in its order comes back
to its place; entries of unknown types survive.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from esp_at_tools.errors import InputError
from esp_at_tools.formats.nvs.crypto import NvsKeys, decrypt_checked, encrypt_partition
from esp_at_tools.formats.nvs.model import (
    ENTRY_COUNT,
    ENTRY_SIZE,
    FIRST_ENTRY_OFFSET,
    PAGE_SIZE,
    NvsEntry,
    NvsProblem,
    NvsType,
    crc32,
)
from esp_at_tools.formats.nvs.reader import NvsReading, NvsRecord, read_partition
from esp_at_tools.formats.nvs.values import checked_name, checked_value, encoded
from esp_at_tools.formats.nvs.writer import (
    FIRMWARE_STYLE,
    MAX_NAMESPACES,
    STYLES,
    NvsStyle,
    usable_pages,
    write_partition,
)

_READ_WRITE_SIZE = 3 * PAGE_SIZE
"""Bytes of the smallest partition that the firmware can write to."""


@dataclass(frozen=True)
class NvsUsage:
    """How full a partition is.

    Attributes:
        entries_used: entries of 32 bytes that hold something.
        entries_total: entries in all pages but the one that stays free for the firmware.
    """

    entries_used: int
    entries_total: int

    @property
    def free_bytes(self) -> int:
        """Bytes left, headers of new entries included; a large value may need a little more."""
        return max(self.entries_total - self.entries_used, 0) * ENTRY_SIZE


class _Lookup:
    """Where things are in a list of records; built once and never changed."""

    def __init__(self, records: Sequence[NvsRecord]) -> None:
        self.namespaces: dict[bytes, int] = {}
        self.entries: dict[tuple[int, bytes], int] = {}
        self.has_twins = False  # two entries under one key, of two types
        for position, record in enumerate(records):
            if record.kind == "namespace":
                self.namespaces.setdefault(record.key, record.namespace_index)
            elif record.kind == "entry":
                name = (record.namespace_index, record.key)
                self.has_twins |= self.entries.setdefault(name, position) != position


class NvsPartition:
    """The entries of a partition, in their order, and the bytes that they came from.

    Attributes:
        size: of the partition in bytes.
        version: NVS format version, 1 or 2.
        problems: what was wrong when it was read.
        opened: False where the firmware would not open what was read.
        loses_entries: whether the firmware would have lost something of what was read.
    """

    def __init__(
        self, data: bytes, plain: bytes, reading: NvsReading, keys: NvsKeys | None, size: int | None = None
    ) -> None:
        """Use :meth:`from_bytes`, :meth:`from_csv` or :meth:`empty`."""
        self.size = len(data) if size is None else size
        self.version = reading.version
        self.problems: tuple[NvsProblem, ...] = reading.problems
        self.opened = reading.opened
        self.loses_entries = reading.loses_entries
        self._data = data
        self._plain = plain
        self._reading = reading
        self._keys = keys
        self._records = list(reading.records)
        self._style: NvsStyle | None = None
        self._generated = False
        self._built: tuple[list[NvsRecord], bytes] | None = None
        self._read = _Lookup(self._records)
        self._known: _Lookup | None = self._read

    @classmethod
    def from_bytes(cls, data: bytes, *, keys: NvsKeys | None = None) -> NvsPartition:
        """Read the image of a partition; with ``keys`` an encrypted one.

        Raises:
            FormatError: less than a page; keys that do not fit; keys for an image that is not encrypted.
        """
        data = bytes(data)
        plain = decrypt_checked(data, keys) if keys else data
        return cls(data, plain, read_partition(plain), keys)

    @classmethod
    def from_csv(
        cls,
        text: str,
        size: int,
        *,
        version: int = 2,
        read_file: Callable[[str], bytes] | None = None,
        keys: NvsKeys | None = None,
        name: str = "CSV",
    ) -> NvsPartition:
        """Make the partition that the generator makes of a CSV.

        Args:
            text: the CSV.
            size: of the partition in bytes.
            version: NVS format version, 1 or 2.
            read_file: returns the contents of the file that a ``file`` row names.
            keys: :meth:`to_bytes` encrypts with these.
            name: of the CSV, for messages.

        Raises:
            FormatError: see :func:`esp_at_tools.formats.nvs.csv.parse_csv`.
            InputError: it does not fit in ``size``, or that is impossible.
        """
        from esp_at_tools.formats.nvs.csv import parse_csv  # not needed to patch a firmware

        content = parse_csv(text, version=version, read_file=read_file, name=name)
        partition = cls._made(content.records, size, version, keys)
        partition.problems += tuple(NvsProblem("warning", None, None, text) for text in content.warnings)
        return partition

    @classmethod
    def empty(cls, size: int, *, version: int = 2, keys: NvsKeys | None = None) -> NvsPartition:
        """Make a partition without entries.

        Raises:
            InputError: ``size`` is impossible.
        """
        return cls._made((), size, version, keys)

    @classmethod
    def _made(
        cls, records: Iterable[NvsRecord], size: int, version: int, keys: NvsKeys | None
    ) -> NvsPartition:
        plain = write_partition(records, size, version=version, spill=keys is None)
        data = encrypt_partition(plain, keys) if keys else plain
        # A read-only partition has no free page; the firmware opens it all the same.
        spare = b"\xff" * PAGE_SIZE if size < _READ_WRITE_SIZE else b""
        return cls(data, plain, read_partition(plain + spare), keys, size)

    def copy(self) -> NvsPartition:
        """Return a partition of its own with the same entries.

        Far cheaper than reading the bytes again, for a batch that is made from one template.
        """
        if self._style is None:
            self._style = self._detect_style()
        twin = copy.copy(self)
        twin._records = list(self._records)  # noqa: SLF001 - it is one of us
        return twin

    @property
    def encrypted(self) -> bool:
        """Whether :meth:`to_bytes` encrypts."""
        return self._keys is not None

    @property
    def entries(self) -> tuple[NvsEntry, ...]:
        """What the firmware reads, in order."""
        if not self._changed():
            return self._reading.entries
        names = self._names()
        return tuple(
            _entry(names[record.namespace_index], record)
            for record in self._records
            if record.kind == "entry" and record.namespace_index in names
        )

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The names of all namespaces in order, those without entries included."""
        return tuple(_text(record.key) for record in self._records if record.kind == "namespace")

    def get(self, namespace: str, key: str) -> NvsEntry | None:
        """Return an entry, None where there is none."""
        known = self._lookup()
        position = known.entries.get((known.namespaces.get(encoded(namespace), 0), encoded(key)))
        return None if position is None else _entry(namespace, self._records[position])

    def set(
        self,
        namespace: str,
        key: str,
        type: NvsType,  # noqa: A002 - the field's name everywhere
        value: int | str | bytes,
        *,
        order: Sequence[str] = (),
    ) -> None:
        """Set an entry.

        One that exists is replaced where it stands. A new key comes at the end of its namespace's
        entries, or, where ``order`` names it, before the first of them that ``order`` names later. A
        new namespace comes at the end.

        Args:
            namespace: 1 to 15 bytes.
            key: 1 to 15 bytes.
            type: ``u8`` to ``i64``, ``string`` or ``blob``.
            value: an int in the type's range; a str without NUL of at most 3999 bytes; bytes.
            order: the canonical order of the keys in this namespace.

        Raises:
            InputError: a name or value is impossible, there are too many namespaces, or the firmware
                would not open the partition.
        """
        self._check_changeable()
        name, stored = checked_name(namespace, "namespace"), checked_name(key, "key")
        data = checked_value(namespace, key, type, value)
        index = self._lookup().namespaces.get(name)
        position = None if index is None else self._lookup().entries.get((index, stored))
        if position is not None:
            old = self._records[position]
            if (old.type, old.value) != (type, data):
                self._records[position] = self._record(old.namespace_index, stored, type, data)
                self._drop_twins(position)
            return
        if index is None:
            index = self._free_index()
            self._records.append(NvsRecord("namespace", index, name, "", 0))
        self._records.insert(self._place(index, key, order), self._record(index, stored, type, data))
        self._known = None

    def _record(self, index: int, key: bytes, type_name: str, value: int | bytes) -> NvsRecord:
        """Return the record of a value: the one that was read, where it comes back to that."""
        position = self._read.entries.get((index, key))
        if position is not None:
            old = self._reading.records[position]
            if (old.type, old.value) == (type_name, value):
                return old
        return NvsRecord("entry", index, key, type_name, value, type_name == "blob" and self.version == 1)

    def remove(self, namespace: str, key: str) -> bool:
        """Remove an entry and tell whether there was one.

        The namespace stays, so that the key can come back to its place; only where nothing stands
        after it, and it was not empty before, it goes too: set again, it comes back there anyway.

        Raises:
            InputError: the firmware would not open the partition.
        """
        self._check_changeable()
        index, stored = self._lookup().namespaces.get(encoded(namespace)), encoded(key)
        if index is None or (index, stored) not in self._lookup().entries:
            return False
        self._records = [record for record in self._records if not _is_entry(record, index, stored)]
        self._drop_last_namespaces()
        self._known = None
        return True

    def to_bytes(self) -> bytes:
        """Return the image: the bytes that were read where nothing differs, else a clean partition.

        Raises:
            InputError: it does not fit; the message has the numbers.
        """
        if not self._changed():
            return self._data
        plain = self._plain_bytes()
        return encrypt_partition(plain, self._keys) if self._keys else plain

    def usage(self) -> NvsUsage:
        """Return how full the partition is, as it would be written now.

        Raises:
            InputError: it does not fit.
        """
        plain = self._plain_bytes() if self._changed() else self._plain
        pages = range(0, len(plain) - PAGE_SIZE + 1, PAGE_SIZE)
        used = sum(_written(plain[page : page + FIRST_ENTRY_OFFSET]) for page in pages)
        total = usable_pages(max(self.size // PAGE_SIZE, 1) * PAGE_SIZE) * ENTRY_COUNT
        return NvsUsage(used, total)

    def _changed(self) -> bool:
        return self._records != list(self._reading.records)

    def _check_changeable(self) -> None:
        if not self.opened:
            raise InputError(
                "the NVS partition cannot be changed: the firmware does not open it",
                "generate it anew, or see what 'nvs check' says of it",
            )

    def _plain_bytes(self) -> bytes:
        """Return the changed partition before encryption."""
        if self._built is None or self._built[0] != self._records:
            if self._style is None:
                self._style = self._detect_style()
            self._built = (list(self._records), self._rebuilt(self._style))
        return self._built[1]

    def _rebuilt(self, style: NvsStyle) -> bytes:
        """Return the image of the records as they are now."""
        records = self._records
        if not self._generated:
            # Definitions of a name that is defined already count for nothing, until a fresh page
            # makes them count as the newer ones.
            names = {record.key for record in records if record.kind == "namespace"}
            records = [r for r in records if r.kind != "unknown" or r.namespace_index or r.key not in names]
        try:
            return self._build(records, style)
        except InputError:
            with contextlib.suppress(InputError):
                return self._build(records, style, tight=True)
            raise

    def _build(self, records: Sequence[NvsRecord], style: NvsStyle, *, tight: bool = False) -> bytes:
        """Lay records out in a partition of this size, with this image's length and loose end."""
        # Blobs in chunks need version 2; a partition of version 1 has none unless a device wrote to it.
        chunked = any(record.type == "blob" and not record.legacy_blob for record in records)
        image = write_partition(
            records,
            self.size // PAGE_SIZE * PAGE_SIZE,
            version=2 if chunked else self.version,
            style=style,
            spill=self._keys is None,
            tight=tight,
        )
        whole = len(self._data) // PAGE_SIZE * PAGE_SIZE
        return image.ljust(whole, b"\xff") + self._data[whole:]

    def _detect_style(self) -> NvsStyle:
        """Return the style of the generator that made what was read.

        What a device has written to is no generator's; it is rebuilt as the current one would.
        """
        with contextlib.suppress(InputError):  # it does not fit, so a device has packed it
            for style in STYLES:
                if self._build(self._reading.records, style) == self._plain:
                    self._generated = True
                    return style
        return FIRMWARE_STYLE

    def _names(self) -> dict[int, str]:
        names: dict[int, str] = {}
        for record in self._records:
            if record.kind == "namespace":
                names.setdefault(record.namespace_index, _text(record.key))
        return names

    def _lookup(self) -> _Lookup:
        if self._known is None:
            self._known = _Lookup(self._records)
        return self._known

    def _drop_twins(self, position: int) -> None:
        """Remove other entries under the key of the one at ``position``, as the firmware does."""
        if self._lookup().has_twins:
            kept = self._records[position]
            self._records = [
                record
                for record in self._records
                if record is kept or not _is_entry(record, kept.namespace_index, kept.key)
            ]
            self._known = None

    def _free_index(self) -> int:
        used = {record.namespace_index for record in self._records}
        for index in range(1, MAX_NAMESPACES + 1):
            if index not in used:
                return index
        raise InputError(
            f"there are already {MAX_NAMESPACES} namespaces, and the firmware knows no more",
            "use one that exists",
        )

    def _place(self, index: int, key: str, order: Sequence[str]) -> int:
        """Return where a new record of a namespace belongs."""
        places = [
            position
            for position, record in enumerate(self._records)
            if record.namespace_index == index and record.kind != "unknown"
        ]
        later = {encoded(name) for name in order[order.index(key) + 1 :]} if key in order else set()
        for position in places:
            if self._records[position].kind == "entry" and self._records[position].key in later:
                return position
        return places[-1] + 1

    def _drop_last_namespaces(self) -> None:
        in_use = {record.namespace_index for record in self._records if record.kind != "namespace"}
        was_in_use = {r.namespace_index for r in self._reading.records if r.kind != "namespace"}
        was_there = {r.namespace_index for r in self._reading.records if r.kind == "namespace"}
        while self._records:
            last = self._records[-1]
            index = last.namespace_index
            if last.kind != "namespace" or index in in_use or index in was_there - was_in_use:
                return
            self._records.pop()


def _is_entry(record: NvsRecord, index: int | None, key: bytes) -> bool:
    return record.key == key and record.namespace_index == index and record.kind == "entry"


def _written(head: bytes) -> int:
    """Return how many entries a page calls written: 0b10 in its bitmap, if its header is sound."""
    if crc32(head[4:28]).to_bytes(4, "little") != head[28:ENTRY_SIZE]:
        return 0
    bits = int.from_bytes(head[ENTRY_SIZE:], "little") & ((1 << 2 * ENTRY_COUNT) - 1)
    lower = ((1 << 2 * ENTRY_COUNT) - 1) // 3
    return ((bits >> 1) & ~bits & lower).bit_count()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _entry(namespace: str, record: NvsRecord) -> NvsEntry:
    value: int | str | bytes = record.value
    if record.type == "string" and isinstance(value, bytes):
        value = _text(value)
    return NvsEntry(namespace, _text(record.key), cast("NvsType", record.type), value)

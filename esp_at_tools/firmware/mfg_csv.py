"""The ``mfg_nvs.csv`` of a release, kept in step with its ``mfg_nvs.bin``.

Only rows of changed entries change. The official CSV names a file on the machine that built the
release where the entry is a certificate or a key; such a row is replaced by one that holds the
bytes (base64), and is kept in front of it as a comment with the SHA-256 of what it stood for. When
the entry gets those bytes again, the row comes back.

A row takes several lines where a quoted cell holds line ends; it is replaced whole, with the comments
between its lines, which are none for a reader of the file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.nvs import NvsEntry, NvsPartition
from esp_at_tools.formats.nvs.csv import entry_row, parse_csv, split_rows
from esp_at_tools.formats.nvs.csv_values import RowError, key_bytes

Name = tuple[str, str]
"""Namespace and key."""

_KEPT = re.compile(
    r"# replaced by esp-at-tool: (?P<namespace>[^,]*), sha256 (?P<digest>[0-9a-f]{64}): (?P<row>.*)",
    re.DOTALL,
)
_MEND = "mend it, so that 'nvs generate' makes the partition of it, or remove it from the release"
_QUOTED_TEXT = re.compile(r',string,"')


@dataclass(frozen=True)
class _Row:
    """One row of the CSV.

    Attributes:
        kind: ``kept`` is a comment that keeps the row which named a file.
        text: its lines with their line ends.
        namespace: the namespace that it opens or belongs to.
        key: the key of an entry or of a kept row.
        digest: SHA-256 of what a kept row stood for.
        original: the row that is kept.
        names_a_file: whether an entry's value is the contents of a file.
    """

    kind: Literal["namespace", "entry", "kept", "other"]
    text: str
    namespace: str = ""
    key: str = ""
    digest: str = ""
    original: str = ""
    names_a_file: bool = False

    @property
    def name(self) -> Name:
        """Namespace and key."""
        return self.namespace, self.key


def _rows(text: str) -> Iterator[_Row]:
    namespace = ""
    for lines, cells in _grouped(text):
        kind = cells[1] if len(cells) >= 2 else ""
        kept = None if cells else _KEPT.match(lines)
        if kept:
            key = _stored_key(_fields(kept["row"])[0])
            yield _Row("kept", lines, kept["namespace"], key, digest=kept["digest"], original=kept["row"])
        elif kind == "namespace":
            namespace = _stored_key(cells[0])
            yield _Row("namespace", lines, namespace)
        elif kind in ("data", "file") and namespace:
            yield _Row("entry", lines, namespace, _stored_key(cells[0]), names_a_file=kind == "file")
        else:
            yield _Row("other", lines)


def _grouped(text: str) -> Iterator[tuple[str, list[str]]]:
    """Return the lines of each row with its cells, and each line between rows without any."""
    lines = list(io.StringIO(text, newline=""))
    try:
        rows, _ = split_rows(text)
    except FormatError:  # nothing can read it: each line is taken for what it looks like
        for line in lines:
            yield line, [] if line.startswith("#") else _fields(line)
        return
    done = 0
    for row in rows:
        if row.first > len(lines):  # the empty line after the last line end
            break
        for line in lines[done : row.first - 1]:
            yield line, []
        yield "".join(lines[row.first - 1 : row.last]), row.cells
        done = row.last
    for line in lines[done:]:
        yield line, []


def _stored_key(cell: str) -> str:
    try:
        return _decoded(key_bytes(cell))
    except RowError:  # no reader takes it, so it is nobody's key
        return cell


def _fields(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [""]) or [""]
    except csv.Error:  # a value too long for the reader; what stands before it is all that is needed
        return line.split(",", 3)


def _is_one_line(text: str) -> bool:
    """Tell whether a row can be kept as a comment."""
    return len(text.splitlines()) == 1


def _digest(entry: NvsEntry) -> str:
    value = (
        entry.value if isinstance(entry.value, bytes) else str(entry.value).encode("utf-8", "surrogateescape")
    )
    return hashlib.sha256(value).hexdigest()


class _Edit:
    """The rows of a CSV while they are edited."""

    def __init__(self, text: str, old: NvsPartition, new: NvsPartition) -> None:
        self._end = "\r\n" if "\r\n" in text else "\n" if "\n" in text or "\r" not in text else "\r"
        self._quoted = bool(_QUOTED_TEXT.search(text))
        self._before = {(entry.namespace, entry.key): entry for entry in old.entries}
        self._after = {(entry.namespace, entry.key): entry for entry in new.entries}
        self._gone = set(old.namespaces) - set(new.namespaces)
        self._given = list(_rows(text if not text or text.endswith(("\n", "\r")) else text + self._end))
        self._kept = {row.name: row for row in self._given if row.kind == "kept"}
        self._active = {row.name for row in self._given if row.kind == "entry"}
        self.rows: list[_Row] = []

    def run(self) -> str:
        """Return the edited text."""
        for row in self._given:
            self.rows += self._edited(row)
        written = {row.name for row in self.rows if row.kind == "entry"}
        for name in self._after:
            if name not in self._before and name not in written:
                self._insert(name)
        self._open_namespaces()
        return "".join(row.text for row in self.rows)

    def _edited(self, row: _Row) -> list[_Row]:
        """Return what stands in the place of a row."""
        if row.kind == "namespace":
            return [] if row.namespace in self._gone else [row]
        if row.kind == "other":
            return [row]
        was, now = self._before.get(row.name), self._after.get(row.name)
        back = now is not None and row.name in self._kept and self._kept[row.name].digest == _digest(now)
        if row.kind == "kept":
            if row.name in self._active or now is None:
                return [] if back else [row]
            return [self._restored(row)] if back else [row, self._entry(now)]
        if was == now:
            return [row]
        if back:
            return [self._restored(self._kept[row.name])]
        keep = row.names_a_file and was and row.name not in self._kept and _is_one_line(row.text)
        return [*([self._keeping(row, was)] if keep and was else []), *([self._entry(now)] if now else [])]

    def _restored(self, row: _Row) -> _Row:
        return _Row("entry", row.original, row.namespace, row.key)

    def _keeping(self, row: _Row, was: NvsEntry) -> _Row:
        text = f"# replaced by esp-at-tool: {row.namespace}, sha256 {_digest(was)}: {row.text}"
        return _Row("kept", text, row.namespace, row.key)

    def _entry(self, entry: NvsEntry) -> _Row:
        text = entry_row(entry)
        head, mark, value = text.partition(",data,string,")
        if mark and self._quoted and not value.startswith('"'):  # as the rest of the file has it
            text = f'{head}{mark}"{value}"'
        return _Row("entry", text + self._end, entry.namespace, entry.key)

    def _insert(self, name: Name) -> None:
        """Insert a row where the partition has the entry: after the one that comes before it."""
        order = [known for known in self._after if known[0] == name[0]]
        position = order.index(name)
        before = {order[position - 1]} if position else {(name[0], "")}
        places = [place for place, row in enumerate(self.rows) if row.kind != "other" and row.name in before]
        place = places[-1] + 1 if places else len(self.rows)
        self.rows.insert(place, self._entry(self._after[name]))

    def _open_namespaces(self) -> None:
        """Insert the row of a namespace before the first entry that lacks it."""
        opened = {row.namespace for row in self.rows if row.kind == "namespace"}
        rows: list[_Row] = []
        for row in self.rows:
            if row.kind == "entry" and row.namespace not in opened:
                opened.add(row.namespace)
                place = len(rows)
                while place and rows[place - 1].kind == "kept" and rows[place - 1].namespace == row.namespace:
                    place -= 1
                rows.insert(
                    place, _Row("namespace", f"{row.namespace},namespace,,{self._end}", row.namespace)
                )
            rows.append(row)
        self.rows = rows


def edit_mfg_csv(text: str, old: NvsPartition, new: NvsPartition) -> str:
    """Return the CSV of a release after its partition has changed.

    Args:
        text: the CSV as it is.
        old: the partition that it describes.
        new: the partition that it shall describe.

    Raises:
        FormatError: a CSV that described what has changed would not do so afterwards, since rows of it
            mean something else than they seem to.
    """
    edited = _Edit(text, old, new).run()
    _check(text, edited, old, new)
    return edited


# --- reading it back -------------------------------------------------------------------------------

_STAND_INS = (b"0000", b"0001")
"""What the files that rows name could hold: each is a text, a number, hex and base64."""
_FROM_FILE = ("file", b"")
"""Stands for a value that only the file which a row names could tell."""

_Values = dict[Name, tuple[str, "int | bytes"]]
"""Type and value by name, of strings their bytes."""


def _check(text: str, edited: str, old: NvsPartition, new: NvsPartition) -> None:
    """Refuse an edited CSV that describes less than it did."""
    before = _described(text)
    if before is None:
        return  # nobody could use it before either
    after, was, now = _described(edited), _values(old), _values(new)
    if after is None:
        raise FormatError("a change of its rows would spoil it", _MEND)
    for name in sorted({*was, *now, *before, *after}):
        said, expected = before.get(name), now.get(name)
        if was.get(name) == expected:
            expected = said
        elif said not in (was.get(name), expected, _FROM_FILE):
            continue  # it described something else
        restored = after.get(name) == _FROM_FILE != said and expected is not None
        if after.get(name) != expected and not restored:
            raise FormatError(f"its rows of {name[0]} {name[1]} are not what they seem", _MEND)


def _described(text: str) -> _Values | None:
    """Return what a CSV describes, as far as it tells without the files it names; None if nothing."""
    try:
        one, other = (_parsed(text, content) for content in _STAND_INS)
    except FormatError:
        return None
    return {name: value if value == other.get(name) else _FROM_FILE for name, value in one.items()}


def _parsed(text: str, content: bytes) -> _Values:
    records = parse_csv(text, read_file=lambda _: content).records
    namespaces = {record.namespace_index: record.key for record in records if record.kind == "namespace"}
    return {
        (_decoded(namespaces[record.namespace_index]), _decoded(record.key)): (record.type, record.value)
        for record in records
        if record.kind == "entry"
    }


def _values(partition: NvsPartition) -> _Values:
    return {(entry.namespace, entry.key): (entry.type, _raw(entry.value)) for entry in partition.entries}


def _raw(value: int | str | bytes) -> int | bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")

"""The ``mfg_nvs.csv`` of a release, kept in step with its ``mfg_nvs.bin``.

Only rows of changed entries change. The official CSV names a file on the machine that built the
release where the entry is a certificate or a key; such a row is replaced by one that holds the
bytes (base64), and is kept in front of it as a comment with the SHA-256 of what it stood for. When
the entry gets those bytes again, the row comes back.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from esp_at_tools.formats.nvs import NvsEntry, NvsPartition
from esp_at_tools.formats.nvs.csv import entry_row

Name = tuple[str, str]
"""Namespace and key."""

_KEPT = re.compile(
    r"# replaced by esp-at-tool: (?P<namespace>[^,]*), sha256 (?P<digest>[0-9a-f]{64}): (?P<row>.*)",
    re.DOTALL,
)
_QUOTED_TEXT = re.compile(r',string,"')


@dataclass(frozen=True)
class _Row:
    """One line of the CSV.

    Attributes:
        kind: ``kept`` is a comment that keeps the row which named a file.
        text: the line with its line end.
        namespace: the namespace that it opens or belongs to.
        key: the key of an entry or of a kept row.
        digest: SHA-256 of what a kept row stood for.
        original: the row that is kept.
    """

    kind: Literal["namespace", "entry", "kept", "other"]
    text: str
    namespace: str = ""
    key: str = ""
    digest: str = ""
    original: str = ""

    @property
    def name(self) -> Name:
        """Namespace and key."""
        return self.namespace, self.key

    @property
    def names_a_file(self) -> bool:
        """Whether an entry's value is the contents of a file."""
        return _fields(self.text)[1] == "file"


def _rows(text: str) -> Iterator[_Row]:
    namespace = ""
    for line in io.StringIO(text, newline=""):
        fields = [] if line.startswith("#") else _fields(line)
        kept = _KEPT.match(line)
        if kept:
            row = kept["row"]
            key = _fields(row)[0]
            yield _Row("kept", line, kept["namespace"], key, digest=kept["digest"], original=row)
        elif len(fields) >= 2 and fields[1] == "namespace":
            namespace = fields[0]
            yield _Row("namespace", line, namespace)
        elif len(fields) >= 2 and fields[1] in ("data", "file") and namespace:
            yield _Row("entry", line, namespace, fields[0])
        else:
            yield _Row("other", line)


def _fields(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [""])
    except csv.Error:  # a value too long for the reader; what stands before it is all that is needed
        return line.split(",", 3)


def _digest(entry: NvsEntry) -> str:
    value = (
        entry.value if isinstance(entry.value, bytes) else str(entry.value).encode("utf-8", "surrogateescape")
    )
    return hashlib.sha256(value).hexdigest()


class _Edit:
    """The rows of a CSV while they are edited."""

    def __init__(self, text: str, old: NvsPartition, new: NvsPartition) -> None:
        self._end = "\r\n" if "\r\n" in text else "\n"
        self._quoted = bool(_QUOTED_TEXT.search(text))
        self._before = {(entry.namespace, entry.key): entry for entry in old.entries}
        self._after = {(entry.namespace, entry.key): entry for entry in new.entries}
        self._gone = set(old.namespaces) - set(new.namespaces)
        self._given = list(_rows(text if not text or text.endswith("\n") else text + self._end))
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
        keep = [self._keeping(row, was)] if row.names_a_file and was and row.name not in self._kept else []
        return [*keep, *([self._entry(now)] if now else [])]

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
    """
    return _Edit(text, old, new).run()

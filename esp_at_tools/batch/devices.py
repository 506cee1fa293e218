"""The list of devices: CSV or JSON lines of any length, read line by line.

A row is one line: a cell cannot hold a line end, so that one bad row, an open quote for instance, is
one bad row and does not swallow those after it. Blank lines are no rows, and neither is a first line
``sep=;``, which tells spreadsheet programs the delimiter. A column whose name begins with ``_`` or ``#``
is ignored, unless a profile uses it.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from esp_at_tools import files
from esp_at_tools.errors import EspAtError, InputError
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.names import SETTINGS, check_name, gatt_row_index

ID, MAC = "id", "mac"
MAX_LINE = 1 << 20
"""Bytes of a row."""

_BOM = b"\xef\xbb\xbf"
_DELIMITERS = ",;\t"
_SEPARATOR = re.compile(rb'"?sep=([,;\t|])"?[,;\t|\r\n]*\Z', re.IGNORECASE)
_IGNORED = ("_", "#")
_IGNORE = "begin its name with _ to have it ignored"
_WORKBOOKS = {b"PK\x03\x04": "an Excel workbook", b"\xd0\xcf\x11\xe0": "an Excel workbook"}
"""What files begin with that a spreadsheet program saves unless told otherwise."""
_MAX_ID_LINE = 4096
_BLANK = b' \t\r\n,;"'
_WHAT = "list of devices (CSV or JSON lines)"
_ORDER = {name: place for place, name in enumerate((ID, MAC, *SETTINGS, *PKI_ITEMS))}
_MAX_SHOWN = 40
_MIN_PART = 3
"""Letters of a column from which on it can be a part of a name: ``baud``, ``country``."""


@dataclass(frozen=True)
class Row:
    """One device.

    Attributes:
        number: of its row, from 1; a CSV's header is none.
        line: its line in the file, from 1.
        values: the texts by column: first what can be set, in the official order. Blank ones are left
            out, but for PKI items: a device without its certificate is a mistake.
    """

    number: int
    line: int
    values: dict[str, str]


@dataclass(frozen=True)
class BadRow:
    """A line that is no device.

    Attributes:
        number: as in :class:`Row`.
        line: as in :class:`Row`.
        error: what is wrong with it.
        key: what tells it from others, for the choice of its shard.
        id: its id, as far as that can be told.
    """

    number: int
    line: int
    error: EspAtError
    key: bytes
    id: str = ""


def row_digest(values: dict[str, str]) -> str:
    """Return a digest of what a row says (BLAKE2b of 16 bytes, in hex), however its file writes it."""
    text = "\0".join(f"{name}\1{values[name]}" for name in sorted(values))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def is_name(column: str) -> bool:
    """Tell whether a column is a setting, a PKI item or a GATT row."""
    return column in SETTINGS or column in PKI_ITEMS or gatt_row_index(column) is not None


def _place(column: str) -> tuple[int, str]:
    """Sort columns: names in their official order, then GATT rows, then others."""
    row = gatt_row_index(column)
    return (_ORDER.get(column, 1000 if row is None else 500 + row), column)


@dataclass(frozen=True)
class Devices:
    """A list of devices that has been looked at.

    Attributes:
        path: the file.
        form: how it is written.
        sha256: of the file, lower-case hex.
        rows: how many devices it lists, bad rows included.
        columns: of a CSV, in its order; of JSON lines, those of the first.
        delimiter: of a CSV.
        used: columns that may be there although they are no names, for the profile uses them.
    """

    path: Path
    form: Literal["csv", "jsonl"]
    sha256: str
    rows: int
    columns: tuple[str, ...]
    delimiter: str = ","
    used: frozenset[str] = frozenset()

    @classmethod
    def open(cls, path: Path, used: frozenset[str] = frozenset(), profile: Path | None = None) -> Devices:
        """Look through a list once: its digest, its number of rows, its columns.

        Args:
            path: the file.
            used: the columns that a profile's values name in braces.
            profile: that profile.

        Raises:
            InputError: it cannot be read, has no column ``id``, a column twice, one that means nothing,
                lacks one that the profile uses, or has no rows.
        """
        if path.exists() and not path.is_file():
            raise InputError(
                f"{path}: is not a regular file",
                "give a file: it is read twice, and again to resume",
            )
        try:
            with path.open("rb") as stream:
                _refuse_workbook(path, stream.read(_MAX_ID_LINE))
                stream.seek(0)
                digest, rows, first, separator = _survey(stream)
        except OSError as error:
            raise files.unreadable(path, error, _WHAT) from error
        form: Literal["csv", "jsonl"] = "jsonl" if first.lstrip()[:1] == b"{" else "csv"
        if form == "csv":
            columns, delimiter = _header(path, first, separator or _DELIMITERS)
            rows -= 1
        else:
            columns, delimiter = _keys(path, first), ""
        if rows < 1:
            raise InputError(f"{path}: lists no devices", "a row for each: the id, and what is its own")
        devices = cls(path, form, digest, rows, columns, delimiter, used)
        devices._check_used(profile)
        devices._check_columns()
        return devices

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are settings, PKI items or GATT rows."""
        return tuple(column for column in self.columns if is_name(column))

    def _check_columns(self) -> None:
        if ID not in self.columns:
            meant = next((column for column in self.columns if column.lower() == ID), "")
            hint = f"rename {meant} to id; " if meant else ""
            raise InputError(f"{self.path}: there is no column 'id'", f"{hint}{self._told_columns()}")
        twice = next(
            (name for name in self.columns if self.columns.count(name) > 1 and self._counts(name)), ""
        )
        if twice:
            raise InputError(f"{self.path}: there are two columns {twice[:_MAX_SHOWN]!r}", "give each once")
        for column in self.columns:
            self._check_column(column)

    def _check_used(self, profile: Path | None) -> None:
        """Refuse a list without a column that the profile uses: the profile may have its name wrong."""
        missing = sorted(self.used - set(self.columns))
        strange = [column for column in self.columns if not self._is_known(column)]
        if not missing or (self.form == "jsonl" and not strange):  # another row may have it
            return
        import difflib

        near = difflib.get_close_matches(missing[0], [*strange, *self.columns], n=1)
        hint = f"did you mean {near[0]}?" if near else self._told_columns()
        name = missing[0][:_MAX_SHOWN]
        raise InputError(f"{profile} uses {{{name}}}, which is no column of {self.path}", hint)

    def _told_columns(self) -> str:
        return f"the columns are {', '.join(self.columns)[:200]}"

    def _counts(self, column: str) -> bool:
        """Tell whether a column means something: others are order numbers and the like."""
        return not column.startswith(_IGNORED) or column in self.used

    def _is_known(self, column: str) -> bool:
        return column in (ID, MAC) or column in self.used or is_name(column) or not self._counts(column)

    def _check_column(self, column: str) -> None:
        if self._is_known(column):
            return
        if not column:
            place = self.columns.index(column) + 1
            raise InputError(f"{self.path}: column {place} has no name", f"remove it, or {_IGNORE}")
        try:
            check_name(column)
        except InputError as error:
            short = error.hint.startswith(("did you mean", "the rows are"))
            near = error.hint if short else self._nearest(column)
            hint = f"{near} (or {_IGNORE})" if near else _IGNORE
            raise InputError(f"{self.path}: column {column[:_MAX_SHOWN]!r} means nothing", hint) from error

    def _nearest(self, column: str) -> str:
        import difflib

        meant = column.replace("-", "_").lower()
        parts = [name for name in SETTINGS if len(meant) >= _MIN_PART and meant in name]
        near = difflib.get_close_matches(meant, [ID, MAC, *self.used], n=1) or parts
        return f"did you mean {' or '.join(near)}?" if near else ""

    def __iter__(self) -> Iterator[Row | BadRow]:
        """Read the rows in their order.

        Raises:
            InputError: the file cannot be read any more.
        """
        try:
            with self.path.open("rb") as stream:
                yield from self._read(stream)
        except OSError as error:
            raise files.unreadable(self.path, error, _WHAT) from error

    def _read(self, stream: IO[bytes]) -> Iterator[Row | BadRow]:
        parse = self._parser()
        number, header = 0, self.form == "csv"
        for count, read in enumerate(_lines(stream), 1):
            if not read.strip(_BLANK):
                continue
            line = read.removeprefix(_BOM) if count == 1 else read
            if header or not number:
                if _SEPARATOR.match(line):
                    continue
                if header:
                    header = False
                    continue
            number += 1
            try:
                if len(line) > MAX_LINE:
                    raise InputError(
                        f"the row has more than {MAX_LINE} bytes", "cells hold paths, not contents"
                    )
                yield Row(number, count, parse(line))
            except EspAtError as error:
                key = hashlib.sha256(line).digest()
                yield BadRow(number, count, error, key, self._id_of(line))

    def _id_of(self, line: bytes) -> str:
        """Return the id of a row that is wrong, where its cell is there; it is for messages only."""
        text = line[:_MAX_ID_LINE].decode("utf-8", "replace").rstrip("\r\n")
        found: object = ""
        if self.form == "jsonl":
            with contextlib.suppress(EspAtError):
                found = _json_object(line).get(ID, "")
        else:
            whole, quote, _ = text.partition('"')
            cells = whole.split(self.delimiter)
            if quote or len(line) > _MAX_ID_LINE:
                cells.pop()  # the rest of it is not there
            with contextlib.suppress(EspAtError):
                cells = _cells(line, self.delimiter) if quote else cells
            place = self.columns.index(ID)
            found = cells[place] if place < len(cells) else ""
        if not isinstance(found, str) or not found.isprintable() or "-----" in found or "\ufffd" in found:
            return ""
        return found[:_MAX_SHOWN]

    def _parser(self) -> Any:
        if self.form == "jsonl":
            return self._object
        places = sorted(range(len(self.columns)), key=lambda place: _place(self.columns[place]))
        names = [(self.columns[place], place) for place in places if self._counts(self.columns[place])]
        width, delimiter = len(self.columns), self.delimiter

        def parse(line: bytes) -> dict[str, str]:
            cells = _cells(line, delimiter)
            if len(cells) != width:
                hint = "quote a cell that holds the delimiter" if len(cells) > width else "fill the row up"
                has = f"{len(cells)} cell{'s' * (len(cells) != 1)}"
                raise InputError(f"the row has {has}, and there are {width} columns", hint)
            return {name: cells[place] for name, place in names if cells[place] or name in PKI_ITEMS}

        return parse

    def _object(self, line: bytes) -> dict[str, str]:
        found = _json_object(line)
        counted = {name: value for name, value in found.items() if value is not None and self._counts(name)}
        values = {name: _json_text(name, value) for name, value in counted.items()}
        values = {name: text for name, text in values.items() if text or name in PKI_ITEMS}
        for column in values:
            self._check_column(column)
        return {name: values[name] for name in sorted(values, key=_place)}


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Return the lines of a file; of one that is too long, its beginning."""
    while line := stream.readline(MAX_LINE + 2):
        if len(line) > MAX_LINE and not line.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
        yield line


def _refuse_workbook(path: Path, head: bytes) -> None:
    what = next((name for start, name in _WORKBOOKS.items() if head.startswith(start)), "")
    if what:
        what = "an OpenDocument spreadsheet" if b"opendocument" in head else what
        raise InputError(f"{path}: is {what}", "save it as CSV UTF-8")


def _survey(stream: IO[bytes]) -> tuple[str, int, bytes, str]:
    """Return a file's SHA-256, how many lines it has, the first of them, and the delimiter if it is told.

    Lines that are blank, or tell the delimiter, are not counted.
    """
    digest, count, first, separator = hashlib.sha256(), 0, b"", ""
    while line := stream.readline(MAX_LINE + 2):
        digest.update(line)
        whole = line
        while not line.endswith(b"\n") and (line := stream.readline(MAX_LINE)):
            digest.update(line)
        if not whole.strip(_BLANK):
            continue
        if not first and (match := _SEPARATOR.match(whole.removeprefix(_BOM))):
            separator = match[1].decode()
            continue
        first = first or whole
        count += 1
    return digest.hexdigest(), count, first.removeprefix(_BOM), separator


def _text(line: bytes) -> str:
    try:
        return line.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"the row is not UTF-8: {error.reason} at byte {error.start}", "save it as UTF-8"
        ) from None


def _cells(line: bytes, delimiter: str) -> list[str]:
    """Return the cells of a line."""
    text = _text(line)
    if "\0" in text:
        raise InputError("the row holds a NUL", "give text without NULs")
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise InputError(
            f"the row is not CSV: {error}", "close every quote, and double those inside"
        ) from None


def _header(path: Path, line: bytes, delimiters: str) -> tuple[tuple[str, ...], str]:
    """Return the columns of a CSV and its delimiter: the one with which there is a column ``id``."""
    if line[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in line:
        raise InputError(f"{path}: is not text in UTF-8", "save the spreadsheet as CSV UTF-8")
    try:
        candidates = [
            (tuple(cell.strip() for cell in _cells(line, delimiter)), delimiter) for delimiter in delimiters
        ]
    except InputError as error:
        raise InputError(f"{path}: the first line: {error.message}", error.hint) from error
    return max(candidates, key=lambda each: (ID in each[0], len(each[0])))


def _keys(path: Path, line: bytes) -> tuple[str, ...]:
    try:
        return tuple(_json_object(line))
    except InputError as error:
        raise InputError(f"{path}: the first row: {error.message}", error.hint) from error


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(_text(line), object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        raise InputError("the row is not JSON", 'write {"id": "…", …} on one line') from None
    if not isinstance(found, dict):
        raise InputError("the row is no JSON object", 'write {"id": "…", …} on one line')
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InputError("the row has a key twice", "give each once")
    return found


_SURROGATE = re.compile("[\ud800-\udfff\0]")


def _json_text(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InputError(f"{name[:_MAX_SHOWN]!r} is neither text nor a whole number", "write it in quotes")
    if _SURROGATE.search(value):
        raise InputError(f"{name[:_MAX_SHOWN]!r} holds a character that is none", "give plain text")
    return value

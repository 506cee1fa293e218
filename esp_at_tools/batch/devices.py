"""The list of devices: CSV or JSON lines of any length, read line by line.

A row is one line: a cell cannot hold a line end, so that one bad row, an open quote for instance, is
one bad row and does not swallow those after it. Blank lines are no rows.
"""

from __future__ import annotations

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
    def open(cls, path: Path, used: frozenset[str] = frozenset()) -> Devices:
        """Look through a list once: its digest, its number of rows, its columns.

        Args:
            path: the file.
            used: the columns that a profile's values name in braces.

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
                digest, rows, first = _survey(stream)
        except OSError as error:
            raise files.unreadable(path, error, _WHAT) from error
        form: Literal["csv", "jsonl"] = "jsonl" if first.lstrip()[:1] == b"{" else "csv"
        if form == "csv":
            columns, delimiter = _header(path, first)
            rows -= 1
        else:
            columns, delimiter = _keys(path, first), ""
        if rows < 1:
            raise InputError(f"{path}: lists no devices", "a row for each: the id, and what is its own")
        devices = cls(path, form, digest, rows, columns, delimiter, used)
        devices._check_columns()
        return devices

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are settings, PKI items or GATT rows."""
        return tuple(column for column in self.columns if is_name(column))

    def _check_columns(self) -> None:
        if ID not in self.columns:
            raise InputError(
                f"{self.path}: there is no column 'id'", f"the columns are {', '.join(self.columns)[:200]}"
            )
        for column in self.columns:
            self._check_column(column)
        missing = sorted(self.used - set(self.columns)) if self.form == "csv" else []
        if missing:
            import difflib

            near = difflib.get_close_matches(missing[0], self.columns, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the columns are {', '.join(self.columns)[:200]}"
            raise InputError(f"{self.path}: has no column {missing[0]!r}, which the profile uses", hint)

    def _check_column(self, column: str) -> None:
        if column in (ID, MAC) or column in self.used or is_name(column):
            return
        try:
            check_name(column)
        except InputError as error:
            hint = error.hint if error.hint.startswith("did you mean") else self._nearest(column)
            message = f"{self.path}: column {column[:_MAX_SHOWN]!r} means nothing"
            raise InputError(message, hint or f"{error.hint}; or use it in the profile") from error

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
        for count, line in enumerate(_lines(stream), 1):
            if not line.strip(_BLANK):
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
                yield Row(number, count, parse(line.removeprefix(_BOM) if count == 1 else line))
            except EspAtError as error:
                key = hashlib.sha256(line).digest()
                yield BadRow(number, count, error, key)

    def _parser(self) -> Any:
        if self.form == "jsonl":
            return self._object
        places = sorted(range(len(self.columns)), key=lambda place: _place(self.columns[place]))
        names = [(self.columns[place], place) for place in places]
        width, delimiter = len(self.columns), self.delimiter

        def parse(line: bytes) -> dict[str, str]:
            cells = _cells(line, delimiter)
            if len(cells) != width:
                hint = "quote a cell that holds the delimiter" if len(cells) > width else "fill the row up"
                raise InputError(f"the row has {len(cells)} cells, and there are {width} columns", hint)
            return {name: cells[place] for name, place in names if cells[place] or name in PKI_ITEMS}

        return parse

    def _object(self, line: bytes) -> dict[str, str]:
        found = _json_object(line)
        values = {name: _json_text(name, value) for name, value in found.items() if value is not None}
        values = {name: text for name, text in values.items() if text or name in PKI_ITEMS}
        for column in values:
            if not (column in (ID, MAC) or column in self.used or is_name(column)):
                self._check_column(column)
        return {name: values[name] for name in sorted(values, key=_place)}


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Return the lines of a file; of one that is too long, its beginning."""
    while line := stream.readline(MAX_LINE + 2):
        if len(line) > MAX_LINE and not line.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
        yield line


def _survey(stream: IO[bytes]) -> tuple[str, int, bytes]:
    """Return a file's SHA-256, how many lines are not blank, and the first of them."""
    digest, count, first = hashlib.sha256(), 0, b""
    while line := stream.readline(MAX_LINE + 2):
        digest.update(line)
        whole = line
        while not line.endswith(b"\n") and (line := stream.readline(MAX_LINE)):
            digest.update(line)
        if whole.strip(_BLANK):
            first = first or whole
            count += 1
    return digest.hexdigest(), count, first.removeprefix(_BOM)


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


def _header(path: Path, line: bytes) -> tuple[tuple[str, ...], str]:
    """Return the columns of a CSV and its delimiter: the one with which there is a column ``id``."""
    if line[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in line:
        raise InputError(f"{path}: is not text in UTF-8", "save the spreadsheet as CSV UTF-8")
    try:
        candidates = [
            (tuple(cell.strip() for cell in _cells(line, delimiter)), delimiter) for delimiter in _DELIMITERS
        ]
    except InputError as error:
        raise InputError(f"{path}: the first line: {error.message}", error.hint) from error
    columns, delimiter = next((each for each in candidates if ID in each[0]), candidates[0])
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: there are two columns {twice[:_MAX_SHOWN]!r}", "give each once")
    return columns, delimiter


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

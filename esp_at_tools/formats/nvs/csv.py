"""The CSV of esp-idf-nvs-partition-gen 0.3.0: in, as that tool parses it, and out.

Whatever that tool refuses is refused here, and so is what it writes although the firmware could not
read it back: entries before a namespace, keys over 15 bytes, inline ``binary`` outside ASCII, unknown
types, a key twice with different values, strings without their NUL (``STRING`` in capitals), a
namespace after the 254th, an unclosed quote. Where the firmware reads something back, but not what the
CSV seems to say, the bytes are that tool's and a warning tells it: a namespace selected again (its rows
go to the newest namespace), ``HEX2BIN`` and ``BASE64`` in capitals (stored as text), surplus cells,
lines that start with ``#`` inside a quoted cell, ``file`` rows of the Wi-Fi keys.

Ours in addition, for what the official CSV cannot carry; that tool refuses each of them:

* ``string_base64``, ``blob_base64``: the value's bytes in base64. Also for values of any size.
* a key cell ``key_in_base64:…``: the key's bytes in base64. Beside a key like ``sta.ssid`` that is
  written so, none of the entries appear that the generator adds of its own accord.
"""

from __future__ import annotations

import base64
import csv
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from esp_at_tools.errors import EspAtError, FormatError
from esp_at_tools.formats.not_text import not_text
from esp_at_tools.formats.nvs.csv_values import (
    BLOB_BASE64,
    KEY_ESCAPE,
    MAX_OFFICIAL_STRING,
    STRING_BASE64,
    RowError,
    Value,
    decode,
    is_ours,
    key_bytes,
    shown,
)
from esp_at_tools.formats.nvs.model import NvsEntry
from esp_at_tools.formats.nvs.reader import NvsRecord
from esp_at_tools.formats.nvs.writer import MAX_NAMESPACES, check_version

COLUMNS = ("key", "type", "encoding", "value")
MAX_CELL = 131072
"""Characters in a cell that Python's csv module, and so the public generator, accepts."""

_STATION_KEYS = ("sta.ssid", "sta.pswd")
_ACCESS_POINT_KEYS = ("ap.ssid", "ap.passwd", "ap.authmode")
_STATION_EXTRAS = (("sta.apinfo", b"\xff" * 140), ("sta.pmk", bytes(32)), ("sta.apsw", bytes(2)))
"""What the generator adds after the first station key of a partition."""
_PMK_INFO_PREFIX = bytes(100)
_TYPES = ("data", "file", "namespace")
_LINE_END_OR_NUL = re.compile(r"[\r\n\0]")
_FIELD_LIMIT_LOCK = threading.Lock()


@dataclass(frozen=True)
class CsvContent:
    """What a CSV holds.

    Attributes:
        records: in the order in which the generator writes them.
        warnings: what is written otherwise than the CSV seems to say.
    """

    records: tuple[NvsRecord, ...]
    warnings: tuple[str, ...]


def decode_csv(data: bytes, name: str = "CSV") -> str:
    """Return the text of a CSV file.

    Raises:
        FormatError: it is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if kind := not_text(data):
            hint = "give a CSV; 'esp-at-tool nvs dump --format csv' makes one of an mfg_nvs.bin"
            raise FormatError(f"{name}: is {kind}, no CSV", hint) from None
        line = data.count(b"\n", 0, error.start) + 1
        raise FormatError(f"{name}, line {line}: is not UTF-8", "save the CSV as UTF-8") from None


def parse_csv(
    text: str,
    *,
    version: int = 2,
    read_file: Callable[[str], bytes] | None = None,
    name: str = "CSV",
) -> CsvContent:
    """Return the records that the CSV makes the generator write.

    Args:
        text: the CSV.
        version: NVS version that will be written: 1 or 2.
        read_file: returns the contents of the file that a ``file`` row names.
        name: of the CSV, for messages.

    Raises:
        FormatError: anything that the generator refuses or the firmware could not read back, with the
            line and the key. Values, which may be secrets, are not repeated.
    """
    parser = _Parser(check_version(version), read_file, name)
    header: list[str] | None = None
    rows, warnings = split_rows(text, name)
    parser.warnings += warnings
    for row in rows:
        if header is None:
            header = row.cells
        elif row.cells:
            parser.row(row.first, header, row.cells)
    return CsvContent(tuple(parser.records), tuple(parser.warnings))


class _Lines:
    """The lines of a CSV without its comments, and where the csv module has got to."""

    def __init__(self, text: str, name: str, warnings: list[str]) -> None:
        self._lines = enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1)
        self._name = name
        self._warnings = warnings
        self.first: int | None = None
        """The line on which the current row began; None between rows."""
        self.last = 0
        """The line that the csv module had last."""
        self.unclosed = False

    def __iter__(self) -> Iterator[str]:
        for number, line in self._lines:
            if line.startswith("#"):
                if self.first is not None:
                    self._warnings.append(
                        f"{self._name}, line {number}: a line that starts with '#' is left out, "
                        "inside a quoted value too"
                    )
                continue
            if "\0" in line:
                raise FormatError(f"{self._name}, line {number}: holds a NUL", "give text without NULs")
            if self.first is None:
                self.first = number
            self.last = number
            yield line + "\n"
        # The csv module asks for another line inside a row only where a quote is open.
        self.unclosed = self.first is not None


@dataclass(frozen=True)
class CsvRow:
    """One row, which may take several lines of the text where a quoted cell does.

    Attributes:
        first: number of its first line, from 1; lines end with LF, CR LF or CR.
        last: number of its last line; between the two there may be comments, which belong to no cell.
        cells: what it holds.
    """

    first: int
    last: int
    cells: list[str]


def split_rows(text: str, name: str = "CSV") -> tuple[list[CsvRow], list[str]]:
    """Return the rows of a CSV, header and blank lines included, comments not; and warnings.

    Raises:
        FormatError: a NUL, or a quote that is not closed.
    """
    warnings: list[str] = []
    lines = _Lines(text, name, warnings)
    rows = []
    with _FIELD_LIMIT_LOCK:
        # Long blobs come back in cells larger than the module's limit, which is one for the process.
        limit = csv.field_size_limit(max(len(text), MAX_CELL))
        try:
            for cells in csv.reader(lines):
                first, lines.first = lines.first or 0, None
                rows.append(CsvRow(first, lines.last, cells))
        except csv.Error as error:
            hint = f"give rows of {','.join(COLUMNS)}"
            raise FormatError(f"{name}: is not a CSV: {error}", hint) from error
        finally:
            csv.field_size_limit(limit)
    if lines.unclosed:
        raise FormatError(f"{name}, line {rows[-1].first}: a quote is not closed", "close it, or double it")
    return rows, warnings


class _Parser:
    """The generator's state: namespaces, and what it remembers for the Wi-Fi keys."""

    def __init__(self, version: int, read_file: Callable[[str], bytes] | None, name: str) -> None:
        self.version = version
        self.read_file = read_file
        self.name = name
        self.records: list[NvsRecord] = []
        self.warnings: list[str] = []
        self._namespaces: dict[bytes, int] = {}
        self._reselected = False  # an earlier namespace, which the generator does not go back to
        self._seen: dict[tuple[int, bytes], tuple[int, NvsRecord]] = {}
        self._station_extras = False
        self._access_point: dict[str, str | None] = dict.fromkeys(_ACCESS_POINT_KEYS)
        self._line = 0

    def row(self, line: int, header: list[str], row: list[str]) -> None:
        """Take one row."""
        self._line = line
        cells: dict[str, str | None] = dict(zip(header, row, strict=False))
        cells.update(dict.fromkeys(header[len(row) :]))
        missing = [column for column in COLUMNS if column not in cells]
        if missing:
            hint = f"the first line that is no comment must name the columns: {','.join(COLUMNS)}"
            if header and header[0].startswith("\ufeff"):
                hint = "the file begins with a byte order mark: save it as UTF-8 without one"
            raise FormatError(f"{self.name}: there is no column {', '.join(missing)}", hint)
        try:
            self._take(cells["key"], cells["type"], cells["encoding"], cells["value"])
            self._check_size_of_cells(row, cells["encoding"])
        except RowError as error:
            key = cells["key"]
            where = f"{self.name}, line {line}" + (f", key {shown(key)}" if key else "")
            raise FormatError(f"{where}: {error.message}", error.hint) from error.__cause__
        if len(row) > len(header):
            key = shown(cells["key"])
            self._warn(f"key {key}: more cells than columns; quote a value that holds commas")

    def _check_size_of_cells(self, row: list[str], encoding: str | None) -> None:
        if max(map(len, row)) > MAX_CELL and encoding not in (STRING_BASE64, BLOB_BASE64):
            raise RowError(
                f"a cell has more than {MAX_CELL} characters",
                f"put the value in a file and use the type 'file', or the encoding {BLOB_BASE64!r}",
            )

    def _warn(self, text: str) -> None:
        self.warnings.append(f"{self.name}, line {self._line}: {text}")

    def _take(self, key: str | None, kind: str | None, encoding: str | None, value: str | None) -> None:
        if key is None or kind is None:
            raise RowError("the row ends too early", f"give {','.join(COLUMNS)}")
        stored = key_bytes(key)
        if kind not in _TYPES:
            raise RowError(f"unknown type {shown(kind)}", f"the types are {', '.join(_TYPES)}")
        if encoding is not None and is_ours(encoding):
            if kind == "namespace":
                raise RowError("a namespace has no encoding", "leave the cells after 'namespace' empty")
            self._entry(stored, decode(encoding, self._content(kind, value), self.version, self._warn))
            return
        if key in _ACCESS_POINT_KEYS:
            self._access_point_key(key, kind, value)
        if key in _STATION_KEYS:
            if kind != "data":
                self._warn(
                    f"key {key!r}: the cell itself is stored, whatever the type, as the generator does"
                )
            self._entry(stored, decode(encoding, value, self.version, self._warn))
            self._add_station_extras()
        elif kind == "namespace":
            self._namespace(stored)
        else:
            self._entry(stored, decode(encoding, self._content(kind, value), self.version, self._warn))

    def _content(self, kind: str, value: str | None) -> str | bytes | None:
        """Return the value cell, or the contents of the file that it names."""
        if kind != "file":
            return value
        if not value:
            raise RowError("the value names no file", "give the path of a file")
        if self.read_file is None:
            raise RowError("files are not read here", "give the value itself, with the type 'data'")
        try:
            return self.read_file(value)
        except EspAtError as error:
            raise RowError(error.message, error.hint) from error

    def _namespace(self, name: bytes) -> None:
        if name in self._namespaces:
            self._reselected = self._namespaces[name] != len(self._namespaces)
            return
        if len(self._namespaces) >= MAX_NAMESPACES:
            raise RowError(
                f"this is namespace {MAX_NAMESPACES + 1}", f"the firmware knows at most {MAX_NAMESPACES}"
            )
        self._reselected = False
        self._namespaces[name] = index = len(self._namespaces) + 1
        self.records.append(NvsRecord("namespace", index, name, "", 0))

    def _entry(self, key: bytes, value: Value) -> None:
        index = len(self._namespaces)
        if not index:
            raise RowError("there is no namespace before this row", "begin with a row NAME,namespace,,")
        if self._reselected:
            newest = list(self._namespaces)[-1].decode("utf-8", "backslashreplace")
            self._warn(
                f"this and the next rows go to the namespace {newest!r}: the generator does not go back "
                "to an earlier one; put the rows of a namespace together"
            )
            self._reselected = False
        legacy = value.type == "blob" and self.version == 1
        record = NvsRecord("entry", index, key, value.type, value.value, legacy)
        line, before = self._seen.setdefault((index, key), (self._line, record))
        if before is not record and (before != record or (value.type == "blob" and not legacy)):
            raise RowError(
                f"the key {shown(key.decode('utf-8', 'backslashreplace'))} is already set by line {line}",
                "the firmware would keep one of the two: remove the other",
            )
        self.records.append(record)

    def _add_station_extras(self) -> None:
        if not self._station_extras:
            for key, data in _STATION_EXTRAS:
                self._entry(key.encode(), Value("blob", data))
            self._station_extras = True

    def _access_point_key(self, key: str, kind: str, value: str | None) -> None:
        """Remember an access point's key; with all three known the generator adds the PMK."""
        if kind == "file":
            self._warn(f"key {key!r}: 'ap.pmk_info' is made from the file's name, not from what it holds")
        if key != "ap.authmode" or value != "0":
            self._access_point[key] = value
        if all(self._access_point.values()):
            import hashlib

            ssid, password, _ = (cell.encode() for cell in self._access_point.values() if cell)
            pmk = hashlib.pbkdf2_hmac("sha1", password, ssid, 4096, 32)
            self._entry(b"ap.pmk_info", Value("blob", _PMK_INFO_PREFIX + pmk))


def dump_csv(entries: Iterable[NvsEntry], namespaces: Iterable[str] = ()) -> str:
    """Return a CSV from which the generator, and this package, make the same entries again.

    Entries of one namespace come together, in the order given. A key that stands twice with one type is
    given once. (With two types it is given twice; no generator takes that.)
    Official encodings are used wherever the public generator makes the same entry of them, and ours,
    which it refuses, elsewhere.

    Args:
        entries: what the partition holds.
        namespaces: all namespaces in their order, where those without entries shall be kept.
    """
    groups: dict[str, dict[tuple[str, str], NvsEntry]] = {name: {} for name in namespaces}
    for entry in entries:
        groups.setdefault(entry.namespace, {}).setdefault((entry.key, entry.type), entry)
    rows = [",".join(COLUMNS)]
    for namespace, keys in groups.items():
        rows.append(f"{_key_cell(namespace)},namespace,,")
        rows += [entry_row(entry) for entry in keys.values()]
    return "\n".join(rows) + "\n"


def entry_row(entry: NvsEntry) -> str:
    """Return the row of an entry, without a line end; it is always one line."""
    encoding, cell = _encode(entry)
    return f"{_key_cell(entry.key)},data,{encoding},{cell}"


def _encode(entry: NvsEntry) -> tuple[str, str]:
    """Return the encoding and the value cell of an entry."""
    if isinstance(entry.value, int):
        return entry.type, str(entry.value)
    if isinstance(entry.value, bytes):
        cell = base64.b64encode(entry.value).decode()
        return ("base64" if len(cell) <= MAX_CELL else BLOB_BASE64), cell
    data = entry.value.encode("utf-8", "surrogateescape")
    if len(data) >= MAX_OFFICIAL_STRING[2] or not _is_carried(entry.value):
        return STRING_BASE64, base64.b64encode(data).decode()
    return "string", _quoted(entry.value)


def _is_carried(text: str) -> bool:
    """Tell whether the official CSV gives a string back as it is: one line, UTF-8, no NUL."""
    if _LINE_END_OR_NUL.search(text):
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _key_cell(key: str) -> str:
    # The generator accepts keys outside ASCII, but spoils a page whose last entry has one.
    special = key in _STATION_KEYS or key in _ACCESS_POINT_KEYS
    if key.isascii() and not special and not _LINE_END_OR_NUL.search(key):
        return _quoted(key)
    return KEY_ESCAPE + base64.b64encode(key.encode("utf-8", "surrogateescape")).decode()


def _quoted(cell: str) -> str:
    """Return a cell, quoted where a comma or quote needs it, or a ``#`` that would begin a comment."""
    if cell.startswith("#") or "," in cell or '"' in cell:
        return '"' + cell.replace('"', '""') + '"'
    return cell

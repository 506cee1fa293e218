"""The parameters of each module: ``factory_param_data.csv`` and ``factory_param_type.csv``.

Both have the format of esp-at (``components/customized_partitions/raw_data/factory_param``): people edit
them in a spreadsheet, so a byte order mark, blank lines and lines of commas alone do no harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.catalog.chips import Chip, find_chip
from esp_at_tools.catalog.module_yaml import Problem, Report, unknown_hint
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.files import read_file

DATA_FILE = "factory_param_data.csv"
TYPE_FILE = "factory_param_type.csv"

_MAX_SIZE = 1 << 20
_NAMES = ("platform", "module_name", "description")
_RANGES = {f"{sign}{bits}": bits for sign in "iu" for bits in (8, 16, 32, 64)}

Value = int | str


@dataclass(frozen=True)
class ModuleRow:
    """One row: a module and its parameters.

    Attributes:
        platform: ``PLATFORM_ESP32C3``.
        module_name: ``MINI-1``.
        description: what the official tools show for it.
        chip: the chip of the platform.
        parameters: name → value, in the order of the types.
        place: file and line.
    """

    platform: str
    module_name: str
    description: str
    chip: Chip
    parameters: Mapping[str, Value]
    place: str

    @property
    def full_name(self) -> str:
        """``ESP32C3/MINI-1``."""
        return f"{self.platform.removeprefix('PLATFORM_')}/{self.module_name}"


def read_types(path: Path) -> dict[str, str]:
    """Return the NVS type of each parameter, in the order in which they are written.

    Raises:
        InputError: the file cannot be read.
        FormatError: a line is not ``name,data,type``, or its type is not one of NVS.
    """
    types: dict[str, str] = {}
    for line, cells in _rows(path):
        if cells[0].startswith("#"):
            continue
        name, kind, type_ = cells if len(cells) == 3 else ("", "", "")
        if kind != "data" or (type_ not in _RANGES and type_ != "string") or name in types:
            raise FormatError(
                f"{path}: line {line}: {','.join(cells)[:60]!r} is not the type of a parameter",
                f"write name,data,type once for each; the types are {', '.join(_RANGES)} and string",
            )
        types[name] = type_
    return types


def read_rows(path: Path, types: Mapping[str, str], report: Report) -> dict[str, ModuleRow]:
    """Return the modules of a table by their name in lower case, in its order.

    Args:
        path: a ``factory_param_data.csv``.
        types: NVS type of each parameter.
        report: is told of every row that is wrong, which is left out.

    Raises:
        InputError: the file cannot be read.
        FormatError: it is not a table of modules at all.
    """
    rows = _rows(path)
    line, header = next(rows, (1, [""]))
    unknown = [name for name in header if name not in (*_NAMES, *types)]
    missing = [name for name in _NAMES if name not in header]
    if missing or unknown or len(set(header)) < len(header):
        what = (
            f"lacks the column {missing[0]}" if missing else f"has the column {(unknown or ['twice'])[0]!r}"
        )
        hint = "separate the columns by commas" if ";" in header[0] else ""
        hint = hint or (
            unknown_hint(unknown[0], types, "parameters")
            if unknown
            else f"the first three are {', '.join(_NAMES)}"
        )
        raise FormatError(f"{path}: line {line}: {what}", hint)
    found: dict[str, ModuleRow] = {}
    for line, cells in rows:
        place = f"{path}: line {line}"
        try:
            row = _row(
                place, dict(zip(header, cells, strict=False)), types, complete=len(cells) == len(header)
            )
        except InputError as error:
            report(Problem("error", place, error.message, error.hint))
            continue
        if row.full_name.casefold() in found:
            report(Problem("error", place, f"{row.full_name} again", "give each module one row"))
        found[row.full_name.casefold()] = row
    return found


def _row(place: str, cells: Mapping[str, str], types: Mapping[str, str], *, complete: bool) -> ModuleRow:
    if not complete:
        raise InputError("another number of columns than the first line", "give each row as many")
    chip = find_chip(cells["platform"])
    if chip is None or cells["platform"] != chip.platform:
        hint = f"write {chip.platform}" if chip else "a platform is PLATFORM_ESP32C3, for instance"
        raise InputError(f"{cells['platform'][:60]!r} is not a platform", hint)
    name = cells["module_name"]
    if not name or not name.isascii() or not name.isprintable() or set(name) & set('/\\" '):
        raise InputError(f"{name[:60]!r} cannot be the name of a module", "use letters, digits, - and _")
    if not all(cell.isprintable() for cell in cells.values()):
        raise InputError("a cell with a line break or control characters", "write plain text")
    parameters = {
        key: _value(key, type_, cells) for key, type_ in types.items() if key in cells or key == "module_name"
    }
    return ModuleRow(cells["platform"], name, cells["description"], chip, parameters, place)


def _value(name: str, type_: str, cells: Mapping[str, str]) -> Value:
    text = cells[name]
    if type_ == "string":
        return text
    bits = _RANGES[type_]
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if type_[0] == "i" else (0, (1 << bits) - 1)
    try:
        value = int(text, 0)
    except ValueError:
        value = high + 1
    if not low <= value <= high:
        raise InputError(f"{name}: {text[:60]!r} is not a value of type {type_}", f"{low} to {high}")
    return value


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, with their lines; cells without blanks at their ends."""
    import csv
    import io

    try:
        text = read_file(path, "table of modules", _MAX_SIZE).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8 at byte {error.start}", "save it as UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise FormatError(f"{path}: line {reader.line_num}: {error}", "write it as CSV") from error

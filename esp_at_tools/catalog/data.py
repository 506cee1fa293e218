"""Where the data that comes with the program stands, and how its tables are read.

``module_config/`` and ``templates/`` stand at the top level of the repository, where people edit
them, and beside the code in an installed package.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.files import read_file

_PACKAGE = Path(__file__).resolve().parent.parent
_MAX_TABLE_SIZE = 1 << 20


def data_folder() -> Path:
    """Return the folder ``module_config``: chips, countries, modules and partition layouts.

    Raises:
        InputError: the installation lacks it.
    """
    return _folder("module_config")


def templates_folder() -> Path:
    """Return the folder ``templates``: the text outputs.

    Raises:
        InputError: the installation lacks it.
    """
    return _folder("templates")


def _folder(name: str) -> Path:
    for parent in (_PACKAGE, _PACKAGE.parent):
        if (parent / name).is_dir():
            return parent / name
    raise InputError(f"{_PACKAGE / name}: no such folder", "install esp-at-tool again: its data is missing")


def read_table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV table with the number of the line on which each ends.

    Args:
        path: a UTF-8 file whose first line names the columns.
        columns: what that line must be.

    Raises:
        InputError: it cannot be read.
        FormatError: it is not UTF-8, not CSV, or its columns are others.
    """
    import csv
    import io

    try:
        text = read_file(path, "table", _MAX_TABLE_SIZE).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8: {error}", "save it as UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        if tuple(next(reader, [])) != columns:
            raise FormatError(f"{path}: wrong columns", f"the first line must be {','.join(columns)}")
        for row in reader:
            if len(row) != len(columns):
                raise FormatError(
                    f"{path}: line {reader.line_num} has {len(row)} columns", f"give {len(columns)} columns"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise FormatError(f"{path}: line {reader.line_num}: {error}", "write it as CSV") from error

"""The files of a new module, and writing all of them or none."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from esp_at_tools import files
from esp_at_tools.catalog.factory_params import Value
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.firmware.source import StagedFile
from esp_at_tools.formats.partition_table import PartitionTable

_BOM = b"\xef\xbb\xbf"
_MAX_TABLE = 1 << 20


@dataclass(frozen=True)
class NewFiles:
    """What is to be written.

    Attributes:
        root: the folder that the paths are in.
        new: path below it → contents of a file that is not there yet.
        changed: path → contents of a file that something is added to.
        notes: what the user should know.
        warnings: what is left to do by hand.
    """

    root: Path
    new: Mapping[str, bytes]
    changed: Mapping[str, bytes]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def write_files(made: NewFiles) -> None:
    """Write new files, then the changed ones in their order: all of them, or none.

    Folders that are missing are made, the root too if its parent exists. New files that a run which was
    killed has left with the same contents are taken as they are: what makes them count is written last.

    Raises:
        InputError: a new file exists by now, or one cannot be written; nothing new stays then.
    """
    if not made.root.parent.is_dir():
        raise InputError(f"{made.root}: its folder does not exist", f"create {made.root.parent} first")
    missing = {name: data for name, data in made.new.items() if not is_written(made.root / name, data)}
    with files.made_folders(_folders(made)), files.written_together() as pending:
        for name, content in (*missing.items(), *made.changed.items()):
            target = files.check_output(made.root / name)
            pending.append(StagedFile(target, files.stage_file(target, [content], private=False)))


def is_written(path: Path, content: bytes) -> bool:
    """Tell whether a new file is there already, with the same contents.

    Raises:
        InputError: something else is there, or a file whose name differs in case alone.
    """
    for other in path.parent.iterdir() if path.parent.is_dir() else ():
        if other.name.casefold() == path.name.casefold():
            same = other.name == path.name and other.is_file()
            if same and files.read_head(other, len(content) + 1) == content:
                return True
            raise InputError(f"{other}: exists already", "give the module another name, or remove that")
    return False


def _folders(made: NewFiles) -> Iterator[Path]:
    """Yield the folders in which new files stand, outer ones first."""
    yield made.root
    for name in made.new:
        yield from (made.root / parent for parent in reversed([*PurePath(name).parents][:-1]))


def table_csv(table: PartitionTable, heading: str) -> bytes:
    """Return a partition table as the official files write it, which the official scripts read too.

    They look for ``data`` and ``0x22`` as text, and for offset and size in every row.
    """
    lines = [f"# {heading}", "# Name, Type, SubType, Offset, Size, Flags"]
    for each in table:
        subtype = "0" if not each.subtype and each.subtype_name.startswith("0x") else each.subtype_name
        size = f"{each.size >> 10}K" if each.size % 1024 == 0 else f"{each.size:#x}"
        cells = [each.name, each.type_name, subtype, f"{each.offset:#x}", size]
        flags = ":".join(each.flag_names)
        lines.append(", ".join([*cells, flags] if flags else cells))
    return ("\n".join(lines) + "\n").encode()


def table_header(data: bytes, path: Path) -> list[str]:
    """Return the columns of a table of modules.

    Raises:
        FormatError: it is not UTF-8, or empty.
    """
    return next(iter(_rows(data, path)))


def _rows(data: bytes, path: Path) -> list[list[str]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8 at byte {error.start}", "save it as UTF-8") from error
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline="")) if any(row)]
    if not rows:
        raise FormatError(f"{path}: is empty", "its first line names the columns")
    return rows


def with_row(data: bytes, path: Path, cells: Mapping[str, Value]) -> bytes:
    """Return a table of modules with one more row, and every other byte as it is.

    Args:
        data: the table.
        path: its file, for messages.
        cells: column → value.

    Raises:
        FormatError: the table cannot be read, or lacks a column.
    """
    header = table_header(data, path)
    missing = [name for name in cells if name not in header]
    if missing:
        raise FormatError(f"{path}: has no column {missing[0]}", f"add it: {','.join(cells)}")
    end = "\r\n" if b"\r\n" in data else "\n"
    out = io.StringIO()
    csv.writer(out, lineterminator=end).writerow([cells.get(name, "") for name in header])
    gap = b"" if data.endswith(b"\n") else end.encode()
    return data + gap + out.getvalue().encode()


def read_table_file(path: Path) -> bytes:
    """Return the contents of a table of modules.

    Raises:
        InputError: it cannot be read.
    """
    return files.read_file(path, "table of modules", _MAX_TABLE)

"""``partition``: show, check and convert partition tables."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click

from esp_at_tools import files
from esp_at_tools.cli.common import (
    NUMBER,
    PATH,
    TABLE_HELP,
    NumberType,
    current_output,
    json_option,
    talk_options,
)
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.firmware.identify import BOOTLOADER_OFFSETS, MIN_IMAGE_SIZE
from esp_at_tools.firmware.source import FileSource
from esp_at_tools.formats.partition_checks import check_secondary
from esp_at_tools.formats.partition_csv import MAX_TEXT, decode_csv
from esp_at_tools.formats.partition_table import (
    AT_CUSTOMIZE,
    DATA,
    DEFAULT_OFFSET,
    MAGIC,
    MD5_MAGIC,
    OTA_DATA,
    SECTOR_SIZE,
    TABLE_SIZE,
    Partition,
    PartitionTable,
    TableProblem,
    has_table_rows,
    locate_primary,
    locate_secondary,
)
from esp_at_tools.numbers import format_size

Format = Literal["csv", "table", "image"]
Role = Literal["primary", "secondary"]

_MIN_FLASH = 256 << 10
"""Bytes of the smallest flash that esptool knows."""
_FREE = "(free)"
_GIVE = "give a CSV, a partition table as a binary, or a flash image"
_FORMATS = {"csv": "CSV", "table": "partition table", "image": "flash image"}


@dataclass(frozen=True)
class _Found:
    """One table of the input."""

    role: Role
    offset: int | None
    table: PartitionTable


@dataclass(frozen=True)
class _Input:
    """What was given: one table, or the one or two of a flash image."""

    path: Path
    format: Format
    tables: tuple[_Found, ...]
    flash_size: int | None

    def of(self, role: Role) -> PartitionTable | None:
        """Return the table of that role, or None."""
        return next((found.table for found in self.tables if found.role == role), None)


_offset_option = click.option(
    "--partition-table-offset",
    type=NUMBER,
    metavar="N",
    help=TABLE_HELP,
)


class _FlashSizeType(NumberType):
    """A size as a number, or as esptool writes it: 4MB, 512KB."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes, or fail with a usage error."""
        text = str(value)
        return super().convert(text[:-1] if text[-2:].lower() in ("kb", "mb") else value, param, ctx)


_flash_size_option = click.option(
    "--flash-size",
    type=_FlashSizeType(),
    metavar="N",
    help="Size of the flash, e.g. 4MB, which the partitions must not exceed.",
)


@click.group("partition", short_help="Convert and check partition tables.")
@talk_options
def command() -> None:
    """Show, check and convert partition tables.

    FILE is a CSV, a binary table, or a flash image, whose primary and secondary tables are meant.
    """


@command.command("show", short_help="Show the partitions and the gaps between them.")
@click.argument("file", type=PATH)
@_offset_option
@_flash_size_option
@json_option
@talk_options
def show(file: Path, partition_table_offset: int | None, flash_size: int | None) -> None:
    """Show the partitions in FILE with the gaps between them."""
    talk = current_output()
    source = _load(file, partition_table_offset, flash_size)
    problems = _problems(source, partition_table_offset)
    if talk.json:
        talk.document(_document(source, problems))
        return
    talk.result(_title(source))
    for found in source.tables:
        talk.result(_heading(source, found))
        talk.result("\n".join(_rows(source, found)))
    for problem in problems:
        talk.warn(_shown(problem.message))


@command.command("check", short_help="Check tables: overlaps, alignment, names, sizes.")
@click.argument("file", type=PATH)
@click.option(
    "--primary", type=PATH, metavar="FILE", help="The primary table, for the check of a secondary one."
)
@_offset_option
@_flash_size_option
@json_option
@talk_options
def check(
    file: Path, primary: Path | None, partition_table_offset: int | None, flash_size: int | None
) -> None:
    """Check the tables in FILE: overlaps, alignment, names, sizes, the flash's end.

    The exit status is 1 if there is an error; warnings alone leave it 0.
    """
    talk = current_output()
    try:
        source = _load(file, partition_table_offset, flash_size)
        problems = _problems(source, partition_table_offset)
        if primary is not None:
            problems += _against(source, _load(primary, partition_table_offset, flash_size))
    except FormatError as error:
        # It is meant to be a table and cannot be read as one: that is what the check has found.
        source, problems = None, [TableProblem("error", str(error))]
    if talk.json:
        talk.document(
            _document(source, problems) if source else {"schema": 1, "file": str(file), **_listed(problems)}
        )
    else:
        _print_problems(file, source, problems)
    if any(problem.level == "error" for problem in problems):
        click.get_current_context().exit(1)


@command.command("to-bin", short_help="Convert a CSV to a binary table.")
@click.argument("csv", type=PATH)
@click.argument("out", type=PATH)
@click.option(
    "--no-md5", is_flag=True, help="Leave out the checksum row, as the primary table of AT firmware does."
)
@_offset_option
@_flash_size_option
@json_option
@talk_options
def to_bin(
    csv: Path, out: Path, no_md5: bool, partition_table_offset: int | None, flash_size: int | None
) -> None:
    """Convert a CSV to a binary table, as gen_esp32part.py of ESP-IDF does.

    A table with an error is refused. at_customize.csv has its place in flash like any other: give its
    offsets, or the address of at_customize as --partition-table-offset.
    """
    talk = current_output()
    source = _load(csv, partition_table_offset, flash_size, md5=not no_md5)
    if source.format != "csv":
        raise InputError(f"{csv}: is a {_FORMATS[source.format]}, not a CSV", "it needs no conversion")
    table = source.tables[0].table
    data = table.to_bytes()
    # A missing application is no error here: the tool of ESP-IDF does not ask for one.
    problems = table.validate(
        offset_part_table=_table_offset(partition_table_offset), flash_size=flash_size, primary=False
    )
    errors = [problem.message for problem in problems if problem.level == "error"]
    if errors:
        raise FormatError(
            f"{csv}: {_shown('; '.join(errors))}", "mend the table; see 'esp-at-tool partition check'"
        )
    _write(csv, out, data)
    for problem in problems:
        talk.warn(_shown(problem.message))
    if talk.json:
        talk.document(
            {"schema": 1, "output": str(out), "size": len(data), "md5": table.md5, **_listed(problems)}
        )
    else:
        talk.result(f"{out}: {_count(table)}, {len(data)} bytes, {_checksum(table)}")


@command.command("to-csv", short_help="Convert a binary table, or a flash image's, to CSV.")
@click.argument("bin", type=PATH)
@click.argument("out", type=PATH, required=False)
@click.option(
    "--secondary", is_flag=True, help="Of a flash image, take the secondary table, in at_customize."
)
@_offset_option
@json_option
@talk_options
def to_csv(bin: Path, out: Path | None, secondary: bool, partition_table_offset: int | None) -> None:  # noqa: A002 - its name
    """Convert a binary table, or that of a flash image, to CSV: to OUT, or to stdout."""
    talk = current_output()
    source = _load(bin, partition_table_offset, None)
    if source.format == "csv":
        raise InputError(f"{bin}: is a CSV already", "give a partition table as a binary, or a flash image")
    if secondary and source.format != "image":
        raise InputError(
            f"{bin}: is one table alone", "leave out --secondary, which chooses one of a flash image's"
        )
    table = source.of("secondary") if secondary else source.tables[0].table
    if table is None:
        raise InputError(
            f"{bin}: has no secondary partition table", "leave out --secondary for the primary one"
        )
    try:
        text = table.to_csv()
    except FormatError as error:
        raise FormatError(f"{bin}: {error.message}", error.hint) from error
    if out is not None:
        _write(bin, out, text.encode())
    for problem in _problems(source, partition_table_offset):
        talk.warn(_shown(problem.message))
    if talk.json:
        talk.document({"schema": 1, "output": None if out is None else str(out), "csv": text})
    elif out is None:
        click.echo(text.encode(), nl=False)
    else:
        talk.result(f"{out}: {_count(table)}")


# --- reading -----------------------------------------------------------------------------------------


def _table_offset(given: int | None) -> int:
    return DEFAULT_OFFSET if given is None else given


def _load(path: Path, offset: int | None, flash_size: int | None, *, md5: bool = True) -> _Input:
    """Read a file, whatever form it has.

    Raises:
        FormatError: it is meant to be a table and cannot be read as one.
        InputError: it cannot be read, or is something else.
    """
    _check_sizes(offset, flash_size)
    data = files.read_file(path, "partition table")
    try:
        if data[:2] in (MAGIC, MD5_MAGIC):
            return _one(path, "table", PartitionTable.from_bytes(data), offset, flash_size)
        if _is_text(data):
            table = PartitionTable.from_csv(
                decode_csv(data), offset_part_table=_table_offset(offset), md5=md5, variables=os.environ
            )
            return _one(path, "csv", table, offset, flash_size)
        if len(data) < MIN_IMAGE_SIZE:
            raise InputError(f"{path}: is neither a CSV nor a partition table nor a flash image", _GIVE)
        return _load_image(path, data, offset, flash_size)
    except FormatError as error:
        raise FormatError(f"{path}: {_shown(error.message)}", error.hint) from error


def _check_sizes(offset: int | None, flash_size: int | None) -> None:
    if offset is not None and (offset < 0 or offset % SECTOR_SIZE or offset >= 1 << 32):
        raise InputError(
            f"--partition-table-offset {offset:#x} is no sector of a flash", "give a multiple of 0x1000"
        )
    if flash_size is not None and (not _MIN_FLASH <= flash_size <= 1 << 32 or flash_size % SECTOR_SIZE):
        raise InputError(f"--flash-size {flash_size}: no flash has that many bytes", "give it as 4MB")


def _is_text(data: bytes) -> bool:
    if len(data) > MAX_TEXT:
        return False
    try:
        decode_csv(data)
    except FormatError:
        return False
    return True


def _one(
    path: Path, form: Format, table: PartitionTable, offset: int | None, flash_size: int | None
) -> _Input:
    return _Input(path, form, (_Found(_role(table), offset, table),), flash_size)


def _role(table: PartitionTable) -> Role:
    """Tell which a lone table is: a secondary one has nothing that the bootloader looks for."""
    sign_of_primary = table.apps or table.of_type(DATA, OTA_DATA) or table.find(AT_CUSTOMIZE)
    return "primary" if sign_of_primary else "secondary"


def _load_image(path: Path, data: bytes, offset: int | None, flash_size: int | None) -> _Input:
    try:
        at, primary = locate_primary(data, offset)
    except FormatError as error:
        start = _table_offset(offset)
        if has_table_rows(memoryview(data)[start : start + TABLE_SIZE]):
            raise
        raise InputError(f"{path}: {error.message}", _GIVE) from error
    secondary = locate_secondary(data, primary)
    tables = [_Found("primary", at, primary)]
    if secondary:
        tables.append(_Found("secondary", *secondary))
    return _Input(path, "image", tuple(tables), flash_size or _image_flash_size(path, data, at))


def _image_flash_size(path: Path, data: bytes, at: int) -> int | None:
    """Return the flash size of an image, None if nothing in it tells."""
    from esp_at_tools.firmware.opening import flash_size, read_image

    source = FileSource(path, data, "image")
    images = (read_image(source, offset, at - offset) for offset in BOOTLOADER_OFFSETS)
    return flash_size(source, next(filter(None, images), None)) or None


def _write(source: Path, out: Path, data: bytes) -> None:
    if out.exists() and out.samefile(source):
        raise InputError(f"{out}: is the input", "give another path for the output")
    files.write_file(out, data)


# --- problems ------------------------------------------------------------------------------------------


def _problems(source: _Input, offset: int | None) -> list[TableProblem]:
    problems = []
    for found in source.tables:
        start = (
            found.offset if source.format == "image" and found.offset is not None else _table_offset(offset)
        )
        problems += found.table.validate(
            offset_part_table=start, flash_size=source.flash_size, primary=found.role == "primary"
        )
    return problems + _against(source, source) if len(source.tables) > 1 else problems


def _against(source: _Input, other: _Input) -> list[TableProblem]:
    """Check the secondary table of one input against the primary one of another."""
    secondary, primary = source.of("secondary"), other.of("primary")
    if secondary is None:
        raise InputError(f"{source.path}: is not a secondary table", "leave out --primary for a primary one")
    if primary is None:
        raise InputError(
            f"{other.path}: is not a primary table", "give the table with the applications as --primary"
        )
    return check_secondary(primary, secondary)


def _listed(problems: Iterable[TableProblem]) -> dict[str, Any]:
    return {"problems": [asdict(problem) for problem in problems]}


def _document(source: _Input, problems: list[TableProblem]) -> dict[str, Any]:
    return {
        "schema": 1,
        "file": str(source.path),
        "format": source.format,
        "flash_size": source.flash_size,
        "tables": [
            {
                "table": found.role,
                "offset": found.offset,
                "md5": found.table.md5,
                "partitions": len(found.table),
            }
            for found in source.tables
        ],
        "partitions": [
            {
                "table": found.role,
                **asdict(partition),
                "type_name": partition.type_name,
                "subtype_name": partition.subtype_name,
                "flags": list(partition.flag_names),
            }
            for found in source.tables
            for partition in found.table
        ],
        **_listed(problems),
    }


def _print_problems(file: Path, source: _Input | None, problems: list[TableProblem]) -> None:
    talk = current_output()
    for problem in problems:
        click.echo(f"{problem.level}: {_shown(problem.message)}")
    if source and not problems:
        tables = ", ".join(f"{found.role} table of {_count(found.table)}" for found in source.tables)
        talk.result(f"{file}: no problems ({_FORMATS[source.format]}; {tables})")


# --- for people ------------------------------------------------------------------------------------------


def _shown(text: str) -> str:
    """Return a text from a file without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _count(table: PartitionTable) -> str:
    return f"{len(table)} partition{'s' if len(table) != 1 else ''}"


def _checksum(table: PartitionTable) -> str:
    return "with checksum" if table.md5 else "without checksum"


def _title(source: _Input) -> str:
    flash = f", flash of {format_size(source.flash_size)}" if source.flash_size else ""
    return f"{source.path}: {_FORMATS[source.format]}{flash}"


def _heading(source: _Input, found: _Found) -> str:
    where = f" at {found.offset:#x}" if found.offset is not None else ""
    checksum = "" if source.format == "csv" else f", {_checksum(found.table)}"
    return f"\n{found.role.capitalize()} table{where}: {_count(found.table)}{checksum}"


def _rows(source: _Input, found: _Found) -> list[str]:
    """Return the table of a partition table, in the order of the addresses, gaps included."""
    rows: list[tuple[str, ...]] = [("Name", "Type", "Subtype", "Offset", "End", "Size", "Flags")]
    first, last = _bounds(source, found)
    end = first
    for partition in sorted(found.table, key=lambda p: p.offset):
        rows += _gap(end, partition.offset)
        rows.append(_row(partition))
        end = max(end, partition.end)
    rows += _gap(end, last)
    widths = [max(_cells(row[column]) for row in rows) for column in range(7)]
    return [
        "  ".join(_padded(row[i], widths[i], right=3 <= i <= 5) for i in range(7)).rstrip() for row in rows
    ]


def _bounds(source: _Input, found: _Found) -> tuple[int, int]:
    """Return between which addresses a table has room: behind itself, up to the end of its home."""
    home = (source.of("primary") or found.table).find(AT_CUSTOMIZE)
    if found.role == "secondary":
        if home is not None and found.offset is not None:
            return home.offset + SECTOR_SIZE, home.end
        first = min(partition.offset for partition in found.table)
        return first, first
    return _table_offset(found.offset) + SECTOR_SIZE, source.flash_size or 0


def _gap(start: int, end: int) -> list[tuple[str, ...]]:
    if end <= start:
        return []
    return [(_FREE, "", "", f"{start:#x}", f"{end - 1:#x}", format_size(end - start), "")]


def _row(partition: Partition) -> tuple[str, ...]:
    flags = "enc+ro" if partition.encrypted and partition.readonly else "+".join(partition.flag_names)
    return (
        _shown(partition.name),
        partition.type_name.removeprefix("partition_"),
        partition.subtype_name,
        f"{partition.offset:#x}",
        f"{partition.end - 1:#x}",
        format_size(partition.size),
        flags,
    )


def _cells(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - _cells(text))
    return space + text if right else text + space

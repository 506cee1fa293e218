"""Partition tables as CSV text, read and written as ESP-IDF's ``gen_esp32part.py`` does (v5.4.4).

A line is ``name, type, subtype, offset, size, flags``. An empty offset is filled in, a negative
size reaches up to that address, numbers take ``K`` and ``M``, flags are joined by ``:``, lines that
begin with ``#`` are comments. The names that only later versions know (``tee_0``, ``tee_ota``,
``primary``, …) are read too, but written as numbers, so that every version reads what we write.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.partition_table import (
    APP,
    BOOTLOADER,
    DATA,
    FLAGS,
    MAX_PARTITIONS,
    SECTOR_SIZE,
    SUBTYPES,
    TABLE,
    TYPES,
    Partition,
    alignment_of,
    encode_name,
)

HEADER = "# ESP-IDF Partition Table\n# Name, Type, SubType, Offset, Size, Flags\n"
"""The two lines that every CSV written by ESP-IDF begins with."""

MAX_TEXT = 1 << 20
"""Most characters in a CSV; a full table has a few thousand."""

_COLUMNS = 6
_MAX_NUMBER_LENGTH = 64  # longer than any number that fits; Python itself takes very long ones slowly
_MAX_NUMBER = 1 << 32
_UNITS = {"k": 1 << 10, "m": 1 << 20}
_NUMERIC = re.compile(r"[-+]?[0-9]")  # what begins so was meant as a number
_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)
_LEADING_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_NEWER_SUBTYPES = {
    (APP, 0x30),
    (APP, 0x31),
    (DATA, 0x90),
    (BOOTLOADER, 0x00),
    (BOOTLOADER, 0x02),
    (TABLE, 0x00),
}
_SEPARATORS = set(",\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")  # of fields and, for str.splitlines, of lines

# Longest first: the mark of UTF-16 is the beginning of UTF-32's.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


def decode_csv(data: bytes) -> str:
    """Return the text of a CSV file: UTF-8, or what its byte order mark says.

    Raises:
        FormatError: it is not text.
    """
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise FormatError(
            f"not {encoding} text: {error.reason} at byte {error.start}", "give a CSV file"
        ) from error
    if "\0" in text:
        raise FormatError("not text: it holds NUL characters", "give a CSV file")
    return text


@dataclass(frozen=True)
class _Line:
    """One line before its offset is known."""

    number: int
    name: str
    type: int
    subtype: int
    offset: int | None
    size: int
    flags: int


def parse_csv(
    text: str,
    *,
    offset_part_table: int,
    primary: bool,
    bootloader_offset: int | None,
    variables: Mapping[str, str],
) -> list[Partition]:
    """Read a CSV table and fill in what it leaves open.

    Args:
        text: the CSV.
        offset_part_table: address of the table itself; partitions without an offset begin in the
            sector after it. ``gen_esp32part.py`` takes 0x8000, for ``at_customize.csv`` too.
        primary: whether it is the primary table; names it in the errors.
        bootloader_offset: where the primary bootloader is, for a table that lists it.
        variables: values for ``$NAME`` and ``${NAME}``; others stay as they are, except that a line
            may not begin with one.

    Raises:
        FormatError: with the number of the line that cannot be read.
    """
    if len(text) > MAX_TEXT:
        raise FormatError(f"{len(text)} characters are no partition table", f"a CSV has at most {MAX_TEXT}")
    lines: list[_Line] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = _expand(raw, number, variables).strip()
        if line and not line.startswith("#"):
            if len(lines) == MAX_PARTITIONS:
                raise FormatError(
                    f"line {number}: more than {MAX_PARTITIONS} partitions", "a table has room for 95"
                )
            try:
                lines.append(_parse_line(line, number, offset_part_table, bootloader_offset))
            except FormatError as error:
                raise FormatError(f"line {number}: {error.message}", error.hint) from error
    return _place(lines, offset_part_table, "primary" if primary else "secondary")


def _expand(line: str, number: int, variables: Mapping[str, str]) -> str:
    """Replace the variables that are known; ``os.path.expandvars`` with a mapping of its own."""

    def value(match: re.Match[str]) -> str:
        return variables.get(match[1] or match[2] or "", match[0])

    line = _VARIABLE.sub(value, line)
    unknown = _LEADING_VARIABLE.match(line)
    if unknown:
        raise FormatError(f"line {number}: ${unknown[1]} is not set", "set that environment variable")
    return line


def _parse_line(line: str, number: int, offset_part_table: int, bootloader_offset: int | None) -> _Line:
    fields = [field.strip() for field in line.split(",")] + [""] * _COLUMNS
    name, type_text, subtype_text, offset_text, size_text, flags_text = fields[:_COLUMNS]
    encode_name(name)
    type_ = _parse_keyword(type_text, TYPES, "type")
    if subtype_text:
        subtype = _parse_keyword(subtype_text, SUBTYPES.get(type_, {}), "subtype")
    elif type_ == APP:
        raise FormatError(
            f"partition {name!r} has no subtype", "an app's is factory, test or ota_0 to ota_15"
        )
    else:
        subtype = SUBTYPES[DATA]["undefined"]
    offset = _parse_number(offset_text, "offset") if offset_text else None
    size = _parse_number(size_text, "size") if size_text else None
    places = {TABLE: (offset_part_table, SECTOR_SIZE)}
    if bootloader_offset is not None:
        places[BOOTLOADER] = (bootloader_offset, offset_part_table - bootloader_offset)
    if type_ in places:
        # As ESP-IDF does from v5.5 on; v5.4.4 has no name for the primary ones, and demands a size.
        place, room = places[type_]
        offset = place if offset is None and subtype_text.lower() == "primary" else offset
        size = room if size is None else size
    if size is None:
        raise FormatError(f"partition {name!r} has no size", "give one, for instance 4K")
    return _Line(number, name, type_, subtype, offset, size, _parse_flags(flags_text))


def _parse_keyword(text: str, keywords: Mapping[str, int], what: str) -> int:
    if not text:
        raise FormatError(f"no {what}", f"give one of {', '.join(keywords)}, or a number")
    value = keywords.get(text.lower())
    if value is None:
        try:
            value = _parse_number(text, what)
        except FormatError as error:
            if not keywords:
                raise FormatError(error.message, "it is a number, 0 to 255, in this type") from error
            if _NUMERIC.match(text):
                raise FormatError(error.message, _known("", keywords)) from error
            message = f"{what} {text[:_MAX_NUMBER_LENGTH]!r} is not known"
            raise FormatError(message, _known(text, keywords)) from error
    if not 0 <= value <= 0xFF:
        raise FormatError(f"{what} {text} is out of range", f"a {what} is 0 to 255")
    return value


def _known(text: str, keywords: Mapping[str, int]) -> str:
    """Return what may stand there, the name that is nearest to ``text`` first."""
    from difflib import get_close_matches

    near = get_close_matches(text[:_MAX_NUMBER_LENGTH].lower(), keywords, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{guess}known are {', '.join(keywords)}, and numbers 0 to 255"


def _parse_number(text: str, what: str) -> int:
    """Return a number as ``int(text, 0)`` takes it, with any number of K and M behind it."""
    digits, scale = text, 1
    if len(text) <= _MAX_NUMBER_LENGTH:
        while digits[-1:].lower() in _UNITS:
            scale *= _UNITS[digits[-1].lower()]
            digits = digits[:-1]
        try:
            value = int(digits, 0) * scale
        except ValueError:
            pass
        else:
            if abs(value) <= _MAX_NUMBER:
                return value
            raise FormatError(f"{what} {text} is too large", "flash addresses and sizes have 32 bits")
    raise FormatError(f"{what} {text[:_MAX_NUMBER_LENGTH]!r} is not a number", "write 4096, 0x1000, 4K or 1M")


def _parse_flags(text: str) -> int:
    flags = 0
    for flag in filter(None, text.split(":")):
        if flag not in FLAGS:
            raise FormatError(f"unknown flag {flag!r}", f"flags are {' and '.join(FLAGS)}, joined by ':'")
        flags |= FLAGS[flag]
    return flags


def _place(lines: Iterable[_Line], offset_part_table: int, kind: str) -> list[Partition]:
    """Give every partition its offset and size; explicit offsets must ascend."""
    table_end = end = offset_part_table + SECTOR_SIZE
    partitions: list[Partition] = []
    for line in lines:
        offset = line.offset if line.offset is not None else end + -end % alignment_of(line.type)
        size = line.size if line.size >= 0 else -line.size - offset
        partition = Partition(line.name, line.type, line.subtype, offset, size, line.flags)
        if _is_below(partition, offset_part_table):
            partitions.append(_checked(partition, line.number))
            continue
        if offset < end:
            before = (
                f"the {kind} table occupies {offset_part_table:#x} to {end - 1:#x}"
                if end == table_end
                else f"the partition before it ends at {end - 1:#x}"
            )
            raise FormatError(
                f"line {line.number}: partition {line.name!r} at {offset:#x} overlaps: {before}",
                f"give an offset of {end:#x} or more, or leave it empty; offsets ascend from line to line",
            )
        partitions.append(_checked(partition, line.number))
        end = partition.end
    return partitions


def _is_below(partition: Partition, offset_part_table: int) -> bool:
    """Tell whether a line lists the bootloader before the table, or the table itself where it is."""
    if partition.type == TABLE:
        return partition.is_fixed and (partition.offset, partition.size) == (offset_part_table, SECTOR_SIZE)
    return partition.is_fixed and partition.end <= offset_part_table


def _checked(partition: Partition, number: int) -> Partition:
    """Return the partition if a row can hold it."""
    try:
        partition.to_bytes()
    except FormatError as error:
        raise FormatError(f"line {number}: {error.message}", error.hint) from error
    return partition


def render_csv(partitions: Iterable[Partition]) -> str:
    """Return partitions as CSV.

    Raises:
        FormatError: a name or a flag that CSV cannot hold.
    """
    return HEADER + "".join(f"{_render_line(partition)}\n" for partition in partitions)


def _render_line(partition: Partition) -> str:
    name = partition.name
    if name != name.strip() or name.startswith("#") or _VARIABLE.search(name) or set(name) & _SEPARATORS:
        raise FormatError(
            f"partition name {name!r} cannot stand in a CSV",
            "keep the table as a binary, or rename the partition",
        )
    if partition.flags & ~sum(FLAGS.values()):
        raise FormatError(
            f"partition {name!r} has flags {partition.flags:#x}, of which CSV has no name for all",
            "keep the table as a binary",
        )
    known = (partition.type, partition.subtype) not in _NEWER_SUBTYPES
    type_ = partition.type_name if partition.type in TYPES.values() else str(partition.type)
    named = known and partition.subtype in SUBTYPES.get(partition.type, {}).values()
    subtype = partition.subtype_name if named else str(partition.subtype)
    return ",".join(
        (
            name,
            type_,
            subtype,
            f"{partition.offset:#x}",
            _render_size(partition.size),
            ":".join(partition.flag_names),
        )
    )


def _render_size(size: int) -> str:
    for unit, suffix in ((1 << 20, "M"), (1 << 10, "K")):
        if size % unit == 0:
            return f"{size // unit}{suffix}"
    return f"{size:#x}"

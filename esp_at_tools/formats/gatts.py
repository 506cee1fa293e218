"""The rows of a GATT service table, and what the firmware makes of them.

A row is text, ``index,uuid_len,uuid,perm,val_max_len,val_cur_len,value``; both layouts show it so.
The modern one stores it as the NVS string ``cfgN``, the legacy one as a JSON object (``ble_data``).

Source: "How to customize Bluetooth LE services", ``gatts_data.csv`` and ``mfg_nvs.py`` of esp-at
v5.0.1.0, and how the firmware of v2.3.0.0, v3.1.0.0 and v5.0.1.0 reads a table:

- It never looks at ``index``; the rows count in their order, modern ones until a ``cfgN`` is missing.
- A modern row is copied into 100 bytes without a check, its value into 40 and only where
  ``val_cur_len`` is at most 20; the contents of longer values are undefined until they are written.
- ``val_cur_len`` bytes are taken from the value, whether or not it has as many.
- The hexadecimal digits A to F in a modern ``perm`` are misread.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from esp_at_tools.errors import FormatError, InputError

Layout = Literal["modern", "legacy"]
Level = Literal["error", "warning", "info"]

FIELD_NAMES = ("index", "uuid_len", "uuid", "perm", "val_max_len", "val_cur_len", "value")
"""The fields of a row, in their order."""

MAX_ROW_SIZE = 99
"""Bytes in a row of the modern layout that the firmware has room for."""
MAX_READ_VALUE = 20
"""Bytes of a value that the firmware reads from a row of the modern layout."""
MAX_ROWS = 255
"""Most rows that the firmware can count."""
MAX_ATTRIBUTE = 512
"""Bytes in an attribute (Bluetooth Core Specification, volume 3, part F, 3.2.9)."""

UUID_PRIMARY, UUID_SECONDARY, UUID_CHARACTERISTIC = 0x2800, 0x2801, 0x2803
KNOWN_PERMISSIONS = 0x7F7
"""The bits of ``ESP_GATT_PERM_*``: read and write, each plain, encrypted or authenticated."""

_MAX_CSV = 1 << 20
_HINT = f"a row is {','.join(FIELD_NAMES)}, such as 2,16,0xC300,0x01,1,1,30"


@dataclass(frozen=True)
class GattRow:
    """One attribute.

    Attributes:
        index: its number in the table, from 0; the firmware goes by the order instead.
        uuid_len: bits in the UUID.
        uuid: the UUID's hexadecimal digits, in capitals, most significant first.
        perm: ``ESP_GATT_PERM_*`` bits.
        val_max_len: most bytes that the value may have; None where the row leaves it blank.
        val_cur_len: bytes that the value has at first; None where the row leaves it blank.
        value: the first value's hexadecimal digits, in capitals, may be empty.
    """

    index: int
    uuid_len: int
    uuid: str
    perm: int
    val_max_len: int | None
    val_cur_len: int | None
    value: str

    def to_text(self) -> str:
        """Return the row as the official tables spell it."""
        lengths = ("" if number is None else str(number) for number in (self.val_max_len, self.val_cur_len))
        numbers = (str(self.index), str(self.uuid_len), f"0x{self.uuid}", f"0x{self.perm:02x}")
        return ",".join((*numbers, *lengths, self.value))

    @property
    def short_uuid(self) -> int | None:
        """The UUID where it is one of 16 bits."""
        return int(self.uuid, 16) if self.uuid_len == 16 else None


@dataclass(frozen=True)
class GattFinding:
    """Something about a table that the firmware or its user will stumble over.

    Attributes:
        id: which check it comes from; stable.
        level: ``error`` where the firmware cannot build the table from it.
        row: number of the row, from 0.
        message: what is wrong.
        hint: what would be right.
    """

    id: str
    level: Level
    row: int
    message: str
    hint: str


_DECIMAL = re.compile(r"[0-9]{1,5}\Z")
_HEX = re.compile(r"(?:0x)?([0-9A-Fa-f]*)\Z")


def _decimal(name: str, text: str) -> int:
    if not _DECIMAL.match(text):
        raise InputError(f"GATT row: {name} {text!r} is not a decimal number of up to 5 digits", _HINT)
    return int(text)


def _hex_digits(name: str, text: str, most: int) -> str:
    match = _HEX.match(text)
    if match is None or len(match[1]) > most:
        raise InputError(f"GATT row: {name} {text[:40]!r} is not hexadecimal of up to {most} digits", _HINT)
    return match[1].upper()


def parse_row(text: str) -> GattRow:
    """Read a row.

    Raises:
        InputError: it does not have seven fields, or one of them is not the number that it should be.
    """
    fields = text.split(",", len(FIELD_NAMES))
    if len(fields) != len(FIELD_NAMES):
        raise InputError(f"GATT row: {text.count(',') + 1} fields, not {len(FIELD_NAMES)}", _HINT)
    cell = dict(zip(FIELD_NAMES, fields, strict=True))
    uuid = _hex_digits("uuid", cell["uuid"], 32)
    perm = _hex_digits("perm", cell["perm"], 4)
    if not uuid or not perm:
        raise InputError("GATT row: uuid or perm is blank", _HINT)
    value = _hex_digits("value", cell["value"], 2 * MAX_ATTRIBUTE)
    if len(value) % 2:
        raise InputError(f"GATT row: value of {len(value)} hexadecimal digits", "two digits make a byte")
    return GattRow(
        index=_decimal("index", cell["index"]),
        uuid_len=_decimal("uuid_len", cell["uuid_len"]),
        uuid=uuid,
        perm=int(perm, 16),
        val_max_len=_decimal("val_max_len", cell["val_max_len"]) if cell["val_max_len"] else None,
        val_cur_len=_decimal("val_cur_len", cell["val_cur_len"]) if cell["val_cur_len"] else None,
        value=value,
    )


_Check = Iterator[tuple[str, Level, str, str]]
"""Id, level, message and hint of what a check finds."""


def _check_uuid(row: GattRow, layout: Layout) -> _Check:
    del layout
    if row.uuid_len not in (16, 32, 128):
        yield "gatt-uuid-length", "error", f"uuid_len {row.uuid_len}", "a UUID has 16 or 128 bits"
    elif len(row.uuid) * 4 != row.uuid_len:
        digits = row.uuid_len // 4
        yield (
            "gatt-uuid-digits",
            "error",
            f"uuid 0x{row.uuid} has not {row.uuid_len} bits",
            f"write {digits} digits",
        )
    elif row.uuid_len == 32:
        yield "gatt-uuid-32", "warning", "a UUID of 32 bits", "chips with NimBLE take 16 or 128 bits only"


def _check_permissions(row: GattRow, layout: Layout) -> _Check:
    if row.perm & ~KNOWN_PERMISSIONS:
        unknown = row.perm & ~KNOWN_PERMISSIONS
        yield "gatt-perm-bits", "warning", f"perm 0x{row.perm:02x} has unknown bits 0x{unknown:x}", _PERM_HINT
    if layout == "modern" and re.search("[A-F]", f"{row.perm:X}"):
        message = f"perm 0x{row.perm:02x} has a digit from A to F, which the firmware misreads"
        yield "gatt-perm-digit", "warning", message, "choose permissions whose digits are 0 to 7"


_PERM_HINT = "0x01 read, 0x10 write, 0x11 both; see ESP_GATT_PERM_* in ESP-AT's documentation"


def _lengths(row: GattRow, layout: Layout) -> tuple[int, int]:
    """Return val_max_len and val_cur_len with what a blank one counts as."""
    most = (MAX_ATTRIBUTE if layout == "legacy" else 0) if row.val_max_len is None else row.val_max_len
    return most, row.val_cur_len or 0


def _check_lengths(row: GattRow, layout: Layout) -> _Check:
    most, current = _lengths(row, layout)
    if layout == "modern" and None in (row.val_max_len, row.val_cur_len):
        yield (
            "gatt-blank-length",
            "warning",
            "a blank length counts as 0",
            "write val_max_len and val_cur_len",
        )
    if most > MAX_ATTRIBUTE:
        yield (
            "gatt-max-length",
            "warning",
            f"val_max_len {most}",
            f"an attribute has at most {MAX_ATTRIBUTE} bytes",
        )
    if current > most:
        message = f"val_cur_len {current} is more than val_max_len {most}"
        yield "gatt-current-length", "error", message, "raise val_max_len or shorten the value"


def _check_value(row: GattRow, layout: Layout) -> _Check:
    _, current = _lengths(row, layout)
    size = len(row.value) // 2
    if layout == "modern" and current > MAX_READ_VALUE:
        if size:
            message = f"a value of val_cur_len {current} is not read; its contents are undefined at first"
            yield (
                "gatt-value-ignored",
                "warning",
                message,
                f"the firmware reads values of at most {MAX_READ_VALUE} bytes",
            )
    elif layout == "modern" and size > MAX_READ_VALUE:
        message = f"a value of {size} bytes overruns the firmware's memory"
        yield (
            "gatt-value-size",
            "error",
            message,
            f"give at most {MAX_READ_VALUE} bytes and write the rest at run time",
        )
    elif size < current:
        message = f"val_cur_len {current}, but the value has {size} bytes"
        yield "gatt-value-short", "error", message, "the firmware would read past the value; make them agree"
    elif size > current:
        message = f"val_cur_len {current}, but the value has {size} bytes"
        yield "gatt-value-long", "warning", message, "the firmware leaves the rest out; make them agree"


def _check_declarations(row: GattRow, layout: Layout) -> _Check:
    _, current = _lengths(row, layout)
    if row.short_uuid in (UUID_PRIMARY, UUID_SECONDARY) and current not in (2, 4, 16):
        message = f"the value of a service declaration is a UUID, not {current} bytes"
        yield "gatt-service-value", "error", message, "give the service's UUID, such as A002 with lengths 2,2"
    if row.short_uuid == UUID_CHARACTERISTIC and current != 1:
        message = f"the value of a characteristic declaration is 1 byte of properties, not {current}"
        yield "gatt-characteristic-value", "warning", message, "02 read, 08 write, 10 notify, 20 indicate"


_ROW_CHECKS: tuple[Callable[[GattRow, Layout], _Check], ...] = (
    _check_uuid,
    _check_permissions,
    _check_lengths,
    _check_value,
    _check_declarations,
)


def check_row(text: str, number: int, layout: Layout = "modern") -> list[GattFinding]:
    """Return what is wrong with a row by itself, worst or not.

    Args:
        text: the row.
        number: its place in the table, from 0.
        layout: the layout that it is for; the modern firmware is stricter.
    """
    if layout == "modern" and len(text.encode("utf-8", "replace")) > MAX_ROW_SIZE:
        message = (
            f"GATT row {number} has more than {MAX_ROW_SIZE} bytes, which overruns the firmware's memory"
        )
        hint = "shorten the value; longer ones are written at run time"
        return [GattFinding("gatt-row-size", "error", number, message, hint)]
    try:
        row = parse_row(text)
    except InputError as error:
        message = error.message.replace("GATT row", f"GATT row {number}", 1)
        return [GattFinding("gatt-row", "error", number, message, error.hint)]
    findings = [
        GattFinding(id_, level, number, f"GATT row {number}: {message}", hint)
        for check in _ROW_CHECKS
        for id_, level, message, hint in check(row, layout)
    ]
    if row.index != number:
        message = f"GATT row {number}: its index is {row.index}"
        hint = "the firmware goes by the order; number the rows from 0"
        findings.append(GattFinding("gatt-index", "warning", number, message, hint))
    return findings


def check_table(rows: Sequence[str], layout: Layout = "modern") -> list[GattFinding]:
    """Return what is wrong with a table: its rows, and the order of the attributes in it.

    No finding is of level error for any official table.
    """
    findings = [finding for number, text in enumerate(rows) for finding in check_row(text, number, layout)]
    try:
        kinds = [_kind(parse_row(text)) for text in rows]
    except InputError:  # check_row has said so, and the order cannot be judged
        return findings
    findings += (
        GattFinding(id_, level, number, f"GATT row {number}: {message}", hint)
        for number, id_, level, message, hint in _check_order(kinds)
    )
    return sorted(findings, key=lambda finding: finding.row)


def _kind(row: GattRow) -> str:
    """Return ``service``, ``include``, ``characteristic``, ``descriptor`` or ``value``."""
    uuid = row.short_uuid
    names = {
        UUID_PRIMARY: "service",
        UUID_SECONDARY: "service",
        0x2802: "include",
        UUID_CHARACTERISTIC: "characteristic",
    }
    if uuid is None:
        return "value"
    return names.get(uuid, "descriptor" if uuid >> 8 == 0x29 else "value")


def _check_order(kinds: Sequence[str]) -> Iterator[tuple[int, str, Level, str, str]]:
    declare = "a characteristic is its declaration 0x2803, then its value, then its descriptors"
    if kinds and kinds[0] != "service":
        yield (
            0,
            "gatt-no-service",
            "error",
            "the table does not begin with a service",
            "begin with a row of uuid 0x2800",
        )
    for number, kind in enumerate(kinds):
        before = kinds[number - 1] if number else "start"
        after = kinds[number + 1] if number + 1 < len(kinds) else "end"
        if kind == "characteristic" and after not in ("value", "descriptor"):
            yield number, "gatt-no-value", "error", "a characteristic declaration without a value", declare
        if kind == "value" and before != "characteristic":
            yield number, "gatt-no-declaration", "warning", "a value that no 0x2803 row declares", declare
        if kind == "descriptor" and before in ("service", "start"):
            yield number, "gatt-stray-descriptor", "warning", "a descriptor of no characteristic", declare


def read_gatts_csv(text: str) -> list[str]:
    """Return the rows of a ``gatts_data.csv``, as the official ``mfg_nvs.py`` puts them into NVS.

    Blank lines, lines that begin with ``#`` and a header without ``#`` (as in tables before v3.1)
    are left out.

    Raises:
        FormatError: the text is not CSV, has more than 255 rows, or is larger than 1 MiB.
    """
    if len(text) > _MAX_CSV:
        raise FormatError(f"GATT table: {len(text)} characters", "a table of 255 rows has far fewer")
    rows: list[str] = []
    try:
        for cells in csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")):
            if cells and not cells[0].startswith("#") and cells[0] != "index":
                rows.append(",".join(cells))
            if len(rows) > MAX_ROWS:
                raise FormatError(
                    f"GATT table: more than {MAX_ROWS} rows", "the firmware counts them in a byte"
                )
    except csv.Error as error:
        raise FormatError(
            f"GATT table: not CSV: {error}", "see gatts_data.csv of esp-at for the form"
        ) from error
    return rows

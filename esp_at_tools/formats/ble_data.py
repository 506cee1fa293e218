"""The ``ble_data`` partition of the legacy layout: GATT services as JSON.

Source: ``BLEService.py`` and ``ATBleService.yml`` of esp-at v2.3.0.0_esp32c3, and how the firmware
of that version reads the partition: two bytes of length (little-endian), 0x27, 0x95, then so many
bytes of JSON, ``{"Service": [{…}, …]}``, each object one row of the table. The order of the keys is
that of the Python which made the file.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.formats.gatts import FIELD_NAMES, MAX_ATTRIBUTE, GattRow, parse_row

HEADER = struct.Struct("<HBB")
"""Bytes of JSON that follow, 0x27, 0x95."""
assert HEADER.size == 4  # noqa: S101 - a mistake here must not get past the import
MAGIC = (0x27, 0x95)
_MAX_JSON = 0xFFFF

_BLE_HINT = "make one with esp-at's BLEService.py, or erase the partition"
_HEAD, _SEPARATOR, _TAIL = '{"Service": [', ", ", "]}"
_HEAD_FORM = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*"Service"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*')
_OBJECT_FORM = re.compile(r"\{[^{}\[\]]*\}")  # values are numbers and texts, so an object holds no other
_SEPARATOR_FORM = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_TAIL_FORM = re.compile(r"[ \t\r\n]*\][ \t\r\n]*\}[ \t\r\n\0]*\Z")
_INTEGERS = ("index", "uuid_len", "perm", "val_max_len", "val_cur_len")


def _row_of(text: str, number: int) -> GattRow:
    """Read one JSON object.

    Raises:
        FormatError: it is none, or lacks a field, or a field is of the wrong type.
    """
    where = f"ble_data: row {number}"
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except ValueError as error:
        raise FormatError(f"{where} is not JSON: {error}", _BLE_HINT) from None
    values = dict(pairs)
    if len(values) != len(pairs) or not set(FIELD_NAMES) <= set(values):
        raise FormatError(f"{where} has not each of {', '.join(FIELD_NAMES)} once", _BLE_HINT)
    for name in _INTEGERS:
        if type(values[name]) is not int or not 0 <= values[name] <= _MAX_JSON:
            raise FormatError(f"{where}: {name} is not a number from 0 to {_MAX_JSON}", _BLE_HINT)
    for name in ("uuid", "value"):
        if type(values[name]) is not str or not re.fullmatch("[0-9A-Fa-f]*", values[name]):
            raise FormatError(f"{where}: {name} is not hexadecimal", _BLE_HINT)
    values["uuid"], values["value"] = values["uuid"].upper(), values["value"].upper()
    return GattRow(**{name: values[name] for name in FIELD_NAMES})


def _with_defaults(row: GattRow) -> GattRow:
    """Return the row with what BLEService.py puts into blank lengths."""
    most = MAX_ATTRIBUTE if row.val_max_len is None else row.val_max_len
    return replace(row, val_max_len=most, val_cur_len=row.val_cur_len or 0)


def _object_of(row: GattRow, like: str) -> str:
    """Return a row as a JSON object, spelt as Python's json does, with the keys in the order of ``like``."""
    return json.dumps({**json.loads(like), **{name: getattr(row, name) for name in FIELD_NAMES}})


@dataclass(frozen=True)
class BleData:
    """The ``ble_data`` partition: a header and ``{"Service": [{…}, …]}``, kept as the text that it is.

    Attributes:
        objects: the text of each row's JSON object.
        separators: what stands between them.
        head: what stands before the first; empty for an erased partition.
        tail: what stands after the last.
    """

    objects: tuple[str, ...] = ()
    separators: tuple[str, ...] = ()
    head: str = field(default="", repr=False)
    tail: str = field(default="", repr=False)

    @classmethod
    def from_bytes(cls, data: bytes) -> BleData:
        """Read a table, or the whole partition that starts with it; bytes after the table are ignored.

        An erased partition (nothing but 0xFF) and no bytes at all are an empty table.

        Raises:
            FormatError: neither a table nor erased, or its JSON is not what the firmware reads.
        """
        if data.count(b"\xff") == len(data):
            return cls()
        if len(data) < HEADER.size:
            raise FormatError(f"ble_data: {len(data)} bytes", f"it starts with {HEADER.size} bytes of header")
        length, *magic = HEADER.unpack_from(data)
        if tuple(magic) != MAGIC:
            raise FormatError(f"ble_data: has {bytes(magic).hex()} where 2795 marks a table", _BLE_HINT)
        text = data[HEADER.size : HEADER.size + length].decode("latin-1")
        if len(text) < length:
            raise FormatError(
                f"ble_data: announces {length} bytes of JSON where there are {len(text)}", _BLE_HINT
            )
        return _split(text)

    def to_bytes(self) -> bytes:
        """Return header and JSON as an official file holds them; nothing for an erased partition.

        Raises:
            InputError: the JSON has more bytes than the header can say.
        """
        if not self.head:
            return b""
        between = zip(self.objects, (*self.separators, ""), strict=True) if self.objects else ()
        text = self.head + "".join(part for pair in between for part in pair) + self.tail
        if len(text) > _MAX_JSON:
            raise InputError(
                f"the GATT table takes {len(text)} bytes of JSON, more than {_MAX_JSON}", "remove rows"
            )
        return HEADER.pack(len(text), *MAGIC) + text.encode("latin-1")

    @property
    def rows(self) -> list[str]:
        """The rows as text, as the modern layout has them."""
        return [_row_of(text, number).to_text() for number, text in enumerate(self.objects)]

    def set_row(self, number: int, text: str) -> BleData:
        """Return the table with one row changed, or added after the last.

        Raises:
            InputError: a row that is none, or a place past the end.
        """
        if not 0 <= number <= len(self.objects):
            raise InputError(
                f"cfg{number}: the table ends with row {len(self.objects) - 1}", "add rows in their order"
            )
        row = _with_defaults(parse_row(text))
        if number < len(self.objects) and row == _row_of(self.objects[number], number):
            return self
        like = self.objects[min(number, len(self.objects) - 1)] if self.objects else "{}"
        objects = (*self.objects[:number], _object_of(row, like), *self.objects[number + 1 :])
        return self._with_objects(objects)

    def remove_row(self, number: int) -> BleData:
        """Return the table without its last row.

        Raises:
            InputError: the row is not the last: the rows after it would take other names.
        """
        if number != len(self.objects) - 1:
            last = len(self.objects) - 1
            raise InputError(
                f"cfg{number}: only the last row of a GATT table can be removed",
                f"remove cfg{last} first, or give the whole table" if self.objects else "the table is empty",
            )
        return self._with_objects(self.objects[:-1])

    def _with_objects(self, objects: Sequence[str]) -> BleData:
        wanted = max(len(objects) - 1, 0)
        separators = (*self.separators, *[_SEPARATOR] * wanted)[:wanted]
        return BleData(tuple(objects), separators, self.head or _HEAD, self.tail or _TAIL)


def _split(text: str) -> BleData:
    head = _HEAD_FORM.match(text)
    if head is None:
        raise FormatError('ble_data: its JSON does not start with {"Service": [', _BLE_HINT)
    objects: list[str] = []
    separators: list[str] = []
    at = head.end()
    while (found := _OBJECT_FORM.match(text, at)) is not None:
        _row_of(found[0], len(objects))
        objects.append(found[0])
        at = found.end()
        between = _SEPARATOR_FORM.match(text, at)
        if between is None:
            break
        separators.append(between[0])
        at = between.end()
    tail = _TAIL_FORM.match(text, at)
    if tail is None or (objects and len(separators) == len(objects)):
        raise FormatError(f"ble_data: its JSON goes wrong after {len(objects)} rows", _BLE_HINT)
    return BleData(tuple(objects), tuple(separators), head[0], tail[0])

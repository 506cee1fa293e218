"""The 4 KB ``factory_param`` record of AT firmware v1.1.3 to v2.4: magic 0xFCFC, versions 1 to 3.

Source: ``factory_param_type.csv`` and ``factory_param_generate.py`` of esp-at v1.1.3.0,
v2.0.0.0_esp8266, v2.1.0.0_esp32, v2.2.1.0_esp8266 and v2.3.0.0_esp32c3, and the reading side in
``at_default_config.c`` and ``at_uart_task.c`` of the same. All integers are little-endian.

What the firmware makes of it: 0xFF in a byte means "not given" (-1 for a signed field), and a baud
rate of -1 likewise; TX and RX count only when both are given. It takes the byte called
``channel_num`` for the *last* channel (channels = ``channel_num`` - ``start_channel`` + 1), which
agrees with the name only where ``start_channel`` is 1, as in every official record.
"""

from __future__ import annotations

import dataclasses
import struct
from dataclasses import dataclass

from esp_at_tools.errors import FormatError, InputError

RECORD_SIZE = 4096
"""Bytes in the record: one flash sector, which the partition fills."""

MAGIC = 0xFCFC

RECORD = struct.Struct("<HBBbbBB4sibbbbbb2x32s32s")
"""The beginning of the record: magic_flag, version, module_id (reserved1 in version 3), tx_max_power,
uart_port (a gap in version 1), start_channel, channel_num, country_code, uart_baudrate, the tx, rx,
cts, rts, tx control and rx control pins, reserved2, and in version 3 platform and module_name.
0xFF follows up to 4 KB."""
assert RECORD.size == 88  # noqa: S101 - a mistake here must not get past the import


@dataclass(frozen=True)
class Field:
    """One value of the record.

    Attributes:
        name: the official NVS key of the modern layout, where there is one.
        offset: where it stands, in bytes.
        code: its ``struct`` format.
        versions: the record versions that hold it.
        absent: why the other versions do not hold it, and what to do instead.
    """

    name: str
    offset: int
    code: str
    versions: tuple[int, ...] = (1, 2, 3)
    absent: str = ""

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return struct.calcsize("<" + self.code)

    @property
    def is_text(self) -> bool:
        """Whether it is a NUL-padded text."""
        return self.code.endswith("s")

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer that it can hold."""
        bits = 8 * self.size
        return (0, (1 << bits) - 1) if self.code.isupper() else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


_BY_ID = "firmware with such a record knows its module by module_id"
_BY_NAME = "firmware with such a record knows its module by platform and module_name"
_FIXED_PORT = "the AT UART of firmware with such a record is fixed when it is compiled"

FIELDS = {
    field.name: field
    for field in (
        Field("version", 2, "B"),
        Field("module_id", 3, "B", (1, 2), _BY_NAME),
        Field("max_tx_power", 4, "b"),
        Field("uart_port", 5, "b", (2, 3), _FIXED_PORT),
        Field("start_channel", 6, "B"),
        Field("channel_num", 7, "B"),
        Field("country_code", 8, "4s"),
        Field("uart_baudrate", 12, "i"),
        Field("uart_tx_pin", 16, "b"),
        Field("uart_rx_pin", 17, "b"),
        Field("uart_cts_pin", 18, "b"),
        Field("uart_rts_pin", 19, "b"),
        Field("tx_control_pin", 20, "b"),
        Field("rx_control_pin", 21, "b"),
        Field("platform", 24, "32s", (3,), _BY_ID),
        Field("module_name", 56, "32s", (3,), _BY_ID),
    )
}
"""Every field by name, in the order of the record. Version 1 of firmware before v2.0 ends before
the control pins; the padding there reads as -1, unused."""

VERSIONS = (1, 2, 3)


def fields_of(version: int) -> tuple[str, ...]:
    """Return the names of the fields that a record of this version holds, in the record's order.

    Raises:
        FormatError: there is no such version.
    """
    if version not in VERSIONS:
        raise FormatError(f"factory_param: version {version} is not known", "versions 1, 2 and 3 are")
    return tuple(name for name, field in FIELDS.items() if version in field.versions)


@dataclass(frozen=True)
class FactoryParam:
    """The record, as it was read, and what its fields say.

    The record is the truth: bytes that belong to no field, and those after the NUL of a text, stay
    as they are. A field is None where this version of the record does not hold it; a text of erased
    flash reads as empty.

    Attributes:
        record: all 4096 bytes.
        version: version of the record, 1 to 3.
        module_id: number of the module in the firmware's own list (versions 1 and 2).
        max_tx_power: Wi-Fi transmit power in units of 0.25 dBm, -1 for the firmware's default.
        uart_port: number of the AT UART, -1 for none (versions 2 and 3).
        start_channel: first Wi-Fi channel.
        channel_num: see the module's description.
        country_code: Wi-Fi country code.
        uart_baudrate: baud rate of the AT UART, -1 for the firmware's default.
        uart_tx_pin: GPIO of TX; as with all pins, -1 for none.
        uart_rx_pin: GPIO of RX.
        uart_cts_pin: GPIO of CTS.
        uart_rts_pin: GPIO of RTS.
        tx_control_pin: GPIO that is driven high when the UART starts.
        rx_control_pin: another such GPIO.
        platform: name of the chip series, e.g. ``PLATFORM_ESP32`` (version 3).
        module_name: name of the module (version 3).
    """

    record: bytes = dataclasses.field(repr=False)
    version: int = dataclasses.field(init=False)
    module_id: int | None = dataclasses.field(init=False)
    max_tx_power: int = dataclasses.field(init=False)
    uart_port: int | None = dataclasses.field(init=False)
    start_channel: int = dataclasses.field(init=False)
    channel_num: int = dataclasses.field(init=False)
    country_code: str = dataclasses.field(init=False)
    uart_baudrate: int = dataclasses.field(init=False)
    uart_tx_pin: int = dataclasses.field(init=False)
    uart_rx_pin: int = dataclasses.field(init=False)
    uart_cts_pin: int = dataclasses.field(init=False)
    uart_rts_pin: int = dataclasses.field(init=False)
    tx_control_pin: int = dataclasses.field(init=False)
    rx_control_pin: int = dataclasses.field(init=False)
    platform: str | None = dataclasses.field(init=False)
    module_name: str | None = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Check the record and read its fields.

        Raises:
            FormatError: see :meth:`from_bytes`.
        """
        _check_record(self.record)
        version = self.record[FIELDS["version"].offset]
        held = fields_of(version)
        for name, value in zip(FIELDS, RECORD.unpack_from(self.record)[1:], strict=True):
            object.__setattr__(self, name, _decoded(value) if name in held else None)

    @classmethod
    def from_bytes(cls, data: bytes) -> FactoryParam:
        """Read a record of exactly 4096 bytes.

        Raises:
            FormatError: another size, a blank sector, no magic 0xFCFC, or an unknown version.
        """
        return cls(bytes(data))

    def to_bytes(self) -> bytes:
        """Return the 4096 bytes."""
        return self.record

    def values(self) -> dict[str, int | str]:
        """Return the fields that this version holds, by name."""
        return {name: getattr(self, name) for name in fields_of(self.version)}

    def replace(self, **changes: int | str) -> FactoryParam:
        """Return the record with some fields changed; no other byte changes.

        A field that already has its new value keeps its bytes.

        Raises:
            InputError: no such field, one that this version does not hold, the version itself, or a
                value that is not of the field's type or does not fit.
        """
        record = bytearray(self.record)
        for name, value in changes.items():
            field = _field_for(name, self.version)
            if value == getattr(self, name) and not isinstance(value, bool):
                continue
            packed = _pack(field, value)
            if name == "version":
                raise InputError(
                    f"version: cannot become {value}, the record is of version {self.version}",
                    "the firmware reads the record by its version, so leave it as it is",
                )
            record[field.offset : field.offset + field.size] = packed
        return FactoryParam(bytes(record))


def _check_record(record: bytes) -> None:
    if len(record) != RECORD_SIZE:
        raise FormatError(f"factory_param: {len(record)} bytes", f"the record has {RECORD_SIZE} bytes")
    if record == b"\xff" * RECORD_SIZE:
        raise FormatError(
            "factory_param: blank, so the firmware uses the defaults it was compiled with",
            "flash the factory_param.bin of the module's release first",
        )
    (magic,) = struct.unpack_from("<H", record)
    if magic != MAGIC:
        raise FormatError(
            f"factory_param: starts with 0x{magic:04x}", f"the record starts with 0x{MAGIC:04x}"
        )


def _decoded(value: int | bytes) -> int | str:
    if isinstance(value, int):
        return value
    if value.startswith(b"\xff"):  # erased flash: not given
        return ""
    return value.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _field_for(name: str, version: int) -> Field:
    field = FIELDS.get(name)
    if field is None:
        raise InputError(
            f"{name}: the legacy factory_param record has no such value",
            f"a record of version {version} holds {', '.join(fields_of(version))}",
        )
    if version not in field.versions:
        raise InputError(
            f"{name}: a factory_param record of version {version} does not hold it", field.absent
        )
    return field


def _pack(field: Field, value: int | str) -> bytes:
    if field.is_text:
        return _pack_text(field, value)
    low, high = field.limits
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{field.name}: {value!r} is not a number", f"give {low} to {high}")
    if not low <= value <= high:
        raise InputError(
            f"{field.name}: {value} does not fit", f"it is stored in {field.size} bytes: {low} to {high}"
        )
    return struct.pack("<" + field.code, value)


def _pack_text(field: Field, value: int | str) -> bytes:
    limit = field.size - 1
    if not isinstance(value, str):
        raise InputError(f"{field.name}: {value!r} is not a text", f"give a text of at most {limit} bytes")
    try:
        encoded = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InputError(f"{field.name}: {value!r} cannot be written as UTF-8", "give plain text") from None
    if b"\0" in encoded:
        raise InputError(
            f"{field.name}: {value!r} has a NUL, where the firmware would stop", "give plain text"
        )
    if len(encoded) > limit:
        raise InputError(
            f"{field.name}: {value!r} has {len(encoded)} bytes", f"the record holds at most {limit} and a NUL"
        )
    return encoded.ljust(field.size, b"\0")

"""What the cells of an NVS CSV stand for: keys, and values in their encodings.

See :mod:`esp_at_tools.formats.nvs.csv` for the rules. Errors say what is wrong without repeating a
value, which may be a secret.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from esp_at_tools.formats.nvs.model import MAX_KEY_LENGTH
from esp_at_tools.formats.nvs.writer import (
    INTEGER_LAYOUT,
    MAX_PARTITION_SIZE,
    MAX_SINGLE_SIZE,
    integer_range,
)

KEY_ESCAPE = "key_in_base64:"
"""With what follows, longer than any key, so that the public generator refuses every key behind it."""
STRING_BASE64 = "string_base64"
BLOB_BASE64 = "blob_base64"

OFFICIAL_ENCODINGS = (
    *INTEGER_LAYOUT, "string", "binary", "hex2bin", "base64", "blob_fill(N;0xNN)", "blob_sz_fill(N;0xNN)",
)  # fmt: skip
MAX_OFFICIAL_STRING = {1: 1984, 2: 3968}
"""Version → bytes of a string with its NUL. The generator says 4000, and fails above 3968."""
MAX_OFFICIAL_BLOB_V1 = 1984

_FILL = re.compile(r"(blob_fill|blob_sz_fill)\((\d+);(0x[0-9a-fA-F]{2})\)")
_BASE64_TEXT = re.compile(r"[A-Za-z0-9+/=\s]*\Z")
_MAX_SHOWN = 40


class RowError(Exception):
    """What is wrong with a row, before it is known which row that is."""

    def __init__(self, message: str, hint: str) -> None:
        """Keep the two parts apart, as :class:`esp_at_tools.errors.EspAtError` does."""
        super().__init__(message, hint)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Value:
    """A decoded value: the type of its record, and the value as a record holds it."""

    type: str
    value: int | bytes


def shown(text: str | None) -> str:
    """Return a key, type or encoding for a message: quoted, cut where it is long."""
    text = text or ""
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…")


def key_bytes(cell: str) -> bytes:
    """Return the bytes of a key.

    Raises:
        RowError: over 15 bytes, not UTF-8, or bad base64 after ``key_in_base64:``.
    """
    try:
        if cell.startswith(KEY_ESCAPE):
            key = base64.b64decode(cell[len(KEY_ESCAPE) :], validate=True)
        else:
            key = cell.encode()
    except UnicodeEncodeError:
        raise RowError("the key is not UTF-8", f"write it as {KEY_ESCAPE}…") from None
    except ValueError:
        raise RowError("the key is not base64", f"give base64 after {KEY_ESCAPE}") from None
    if b"\0" in key:
        raise RowError("the key holds a NUL", "leave it out")
    if len(key) > MAX_KEY_LENGTH:
        raise RowError(f"the key is {len(key)} bytes long", f"at most {MAX_KEY_LENGTH} bytes fit")
    return key


def is_ours(encoding: str) -> bool:
    """Tell whether an encoding is one that the public generator does not know."""
    return encoding in (STRING_BASE64, BLOB_BASE64)


def decode(
    encoding: str | None, value: str | bytes | None, version: int, warn: Callable[[str], None]
) -> Value:
    """Return the value that a cell (text) or a file (bytes) stands for.

    Args:
        encoding: the encoding's cell; None where the row ends before it.
        value: None where the row ends before it.
        version: NVS version, for the limits of the official encodings.
        warn: takes what is stored otherwise than it seems.

    Raises:
        RowError: what the generator refuses, or the firmware could not read back.
    """
    if encoding is None:
        raise RowError("there is no encoding", f"give one of {', '.join(OFFICIAL_ENCODINGS)}")
    if encoding.startswith(("blob_fill", "blob_sz_fill")):
        return _checked(Value("blob", _fill(encoding, value)), version)
    if value is None:
        raise RowError("there is no value", "give key,type,encoding,value")
    if encoding in _DECODERS:
        type_name, decoder = _DECODERS[encoding]
        decoded = Value(type_name, decoder(value, type_name))
        _warn_of_surprises(encoding, value, warn)
        return decoded if is_ours(encoding) else _checked(decoded, version)
    lower = encoding.lower()
    if lower not in _DECODERS or is_ours(lower):
        hint = f"the encodings are {', '.join(OFFICIAL_ENCODINGS)}"
        raise RowError(f"unknown encoding {shown(encoding)}", hint)
    if lower == "string":
        message = f"with the encoding {shown(encoding)} the string would have no closing NUL"
        raise RowError(message, "write 'string'")
    if lower in ("hex2bin", "base64"):
        warn(f"with the encoding {shown(encoding)} the text is stored as it stands; write {lower!r}")
        lower = "binary"
    type_name, decoder = _DECODERS[lower]
    return _checked(Value(type_name, decoder(value, type_name)), version)


def _warn_of_surprises(encoding: str, value: str | bytes, warn: Callable[[str], None]) -> None:
    if encoding == "base64" and isinstance(value, str) and not _BASE64_TEXT.match(value):
        warn("characters that are not base64 are left out of the value")
    if encoding == "string" and isinstance(value, bytes) and b"\0" in value:
        warn("the string holds a NUL: programs in C will read it up to there")


def _checked(decoded: Value, version: int) -> Value:
    """Refuse what the generator finds too long."""
    if isinstance(decoded.value, int):
        return decoded
    nul = 1 if decoded.type == "string" else 0
    if nul:
        limit = MAX_OFFICIAL_STRING[version]
    elif version == 1:
        limit = MAX_OFFICIAL_BLOB_V1
    else:
        return decoded
    if len(decoded.value) + nul > limit:
        raise RowError(
            f"the {decoded.type} is {len(decoded.value)} bytes long",
            f"at most {limit - nul} bytes fit" + (" in version 1" if version == 1 else ""),
        )
    return decoded


def _integer(value: str | bytes, type_name: str) -> int:
    try:
        number = int(value)
    except ValueError:
        hint = _as_decimal(value) or f"give a decimal number: {integer_range(type_name)}"
        raise RowError(f"the value is not a decimal number, which {type_name} needs", hint) from None
    _, size, signed = INTEGER_LAYOUT[type_name]
    low = -(1 << (8 * size - 1)) if signed else 0
    if not low <= number < low + (1 << 8 * size):
        raise RowError(f"the value does not fit in {type_name}", f"give {integer_range(type_name)}")
    return number


def _as_decimal(value: str | bytes) -> str:
    """Return the hint for a number in another base, which the generator does not take."""
    text = value.strip() if isinstance(value, str) else ""
    if not re.match(r"[+-]?0[xXoObB]", text):
        return ""
    try:
        return f"write {int(text, 0)}"
    except ValueError:
        return ""


def _string(value: str | bytes, _type: str) -> bytes:
    try:
        return value.encode() if isinstance(value, str) else value.decode().encode()
    except UnicodeError:
        raise RowError("the string is not UTF-8", f"use {STRING_BASE64!r}, or 'binary'") from None


def _binary(value: str | bytes, _type: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if not value.isascii():
        message = "inline binary is not ASCII, so that its size would be wrong"
        raise RowError(message, "use 'base64', 'hex2bin' or a file")
    return value.encode()


def _hex(value: str | bytes, _type: str) -> bytes:
    value = value.strip()
    if len(value) % 2:
        raise RowError("an odd number of hexadecimal digits", "give two digits for each byte")
    try:
        return binascii.a2b_hex(value)
    except ValueError:
        raise RowError("the value is not hexadecimal", "give digits and A to F only") from None


def _base64(value: str | bytes, _type: str) -> bytes:
    try:
        return binascii.a2b_base64(value)
    except ValueError:
        raise RowError("the value is not base64", "give base64 with its padding") from None


def _fill(encoding: str, value: str | bytes | None) -> bytes:
    match = _FILL.match(encoding)
    if match is None:
        hint = "write blob_fill(16;0xFF) or blob_sz_fill(16;0xFF)"
        raise RowError(f"bad encoding {shown(encoding)}", hint)
    if value and isinstance(value, bytes):
        raise RowError(f"{match[1]} takes no file", "give the value itself, with the type 'data'")
    data = _string(value or "", "string")
    try:
        length = int(match[2])
    except ValueError:  # thousands of digits
        length = MAX_PARTITION_SIZE + 1
    if length > MAX_PARTITION_SIZE:
        raise RowError("the fill is longer than any partition", f"at most {MAX_PARTITION_SIZE} bytes")
    if len(data) > length:
        message = f"the value is {len(data)} bytes long, more than the {length} to fill"
        raise RowError(message, "fill more bytes, or shorten the value")
    prefix = struct.pack("<I", len(data)) if match[1] == "blob_sz_fill" else b""
    return prefix + data.ljust(length, bytes((int(match[3], 16),)))


def _our_string(value: str | bytes, type_name: str) -> bytes:
    data = _our_blob(value, type_name)
    if len(data) >= MAX_SINGLE_SIZE:
        raise RowError(f"the string is {len(data)} bytes long", f"at most {MAX_SINGLE_SIZE - 1} bytes fit")
    return data


def _our_blob(value: str | bytes, _type: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise RowError("the value is not base64", "give base64 with its padding") from None


_Decoder = tuple[str, Callable[[str | bytes, str], int | bytes]]
_DECODERS: dict[str, _Decoder] = {
    **{name: (name, _integer) for name in INTEGER_LAYOUT},
    "string": ("string", _string),
    "binary": ("blob", _binary),
    "hex2bin": ("blob", _hex),
    "base64": ("blob", _base64),
    STRING_BASE64: ("string", _our_string),
    BLOB_BASE64: ("blob", _our_blob),
}

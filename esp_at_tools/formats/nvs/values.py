"""What an NVS entry that is set by hand may be: names, types, ranges, lengths."""

from __future__ import annotations

from esp_at_tools.errors import InputError
from esp_at_tools.formats.nvs.model import MAX_KEY_LENGTH
from esp_at_tools.formats.nvs.writer import INTEGER_LAYOUT, MAX_SINGLE_SIZE, integer_range


def encoded(text: str) -> bytes:
    """Return the bytes of a name; of text that has none, bytes that no name has."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return b"\0"


def checked_name(name: str, what: str) -> bytes:
    """Return the bytes of a key or a namespace's name, ``what`` of the two.

    Raises:
        InputError: it has not 1 to 15 bytes, or a NUL among them.
    """
    data = encoded(name)
    if b"\0" in data:
        raise InputError(f"the {what} {name!r} cannot be stored", "give text without NULs")
    if not 0 < len(data) <= MAX_KEY_LENGTH:
        raise InputError(
            f"the {what} {name!r} has {len(data)} bytes", f"a {what} has 1 to {MAX_KEY_LENGTH} bytes"
        )
    return data


def checked_value(namespace: str, key: str, type_name: str, value: int | str | bytes) -> int | bytes:
    """Return a value as a record holds it.

    Raises:
        InputError: an unknown type, a value of another Python type, out of its range, or too long.
    """
    where = f"{namespace}/{key}"
    if type_name in INTEGER_LAYOUT:
        return _checked_integer(where, type_name, value)
    if type_name == "string":
        return _checked_string(where, value)
    if type_name != "blob":
        known = ", ".join((*INTEGER_LAYOUT, "string", "blob"))
        raise InputError(f"{where}: there is no NVS type {type_name!r}", f"the types are {known}")
    if not isinstance(value, bytes):
        raise InputError(f"{where}: a blob takes bytes, not {type(value).__name__}", "give bytes")
    return bytes(value)


def _checked_integer(where: str, type_name: str, value: int | str | bytes) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(
            f"{where}: {type_name} takes a number, not {type(value).__name__}",
            f"give {integer_range(type_name)}",
        )
    _, size, signed = INTEGER_LAYOUT[type_name]
    low = -(1 << (8 * size - 1)) if signed else 0
    if not low <= value < low + (1 << 8 * size):
        raise InputError(f"{where}: {value} does not fit in {type_name}", f"give {integer_range(type_name)}")
    return value


def _checked_string(where: str, value: int | str | bytes) -> bytes:
    if not isinstance(value, str):
        raise InputError(f"{where}: a string takes text, not {type(value).__name__}", "give text")
    try:
        data = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InputError(
            f"{where}: the text has no UTF-8 form", "give text without lone surrogates"
        ) from None
    if b"\0" in data:
        raise InputError(f"{where}: the text holds a NUL, which ends a string", "leave it out")
    if len(data) >= MAX_SINGLE_SIZE:
        raise InputError(
            f"{where}: a string of {len(data)} bytes is too long",
            f"a string has at most {MAX_SINGLE_SIZE - 1} bytes; a blob can be larger",
        )
    return data

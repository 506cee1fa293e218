"""Numbers as people write them on a command line, in a profile or in a partition CSV."""

from __future__ import annotations

import re

from esp_at_tools.errors import InputError

_NUMBER = re.compile(r"(?P<sign>-?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|(?P<dec>[0-9]+))(?P<unit>[kKmM]?)\Z")
_UNIT = {"": 1, "k": 1 << 10, "m": 1 << 20}
_MAX_DIGITS = 20  # 2**64 has 20 decimal digits; Python itself refuses very long ones


def parse_number(text: str, what: str = "number") -> int:
    """Return the integer that ``text`` spells: ``4096``, ``0x1000``, ``4K``, ``4M``, ``-1``.

    Args:
        text: decimal or ``0x`` hexadecimal, an optional minus sign, an optional ``K`` (1024) or
            ``M`` (1048576).
        what: how to name the value in the error.

    Raises:
        InputError: ``text`` is none of these.
    """
    match = _NUMBER.match(text.strip())
    if match is None or len(text.strip()) > _MAX_DIGITS + 4:
        raise InputError(f"{what}: {text!r} is not a number", "write 4096, 0x1000, 4K or 4M")
    value = int(match["hex"], 16) if match["hex"] else int(match["dec"])
    value *= _UNIT[match["unit"].lower()]
    return -value if match["sign"] else value


def format_size(size: int) -> str:
    """Return a number of bytes for people: ``4 MB``, ``112 KB``, ``4095 B`` (K and M are binary)."""
    for unit, name in ((1 << 20, "MB"), (1 << 10, "KB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    if size >= 1 << 20:
        return f"{size / (1 << 20):.2f} MB"
    return f"{size / 1024:.1f} KB" if size >= 1 << 10 else f"{size} B"

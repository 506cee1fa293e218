"""What a file is that is no text, for the message that it cannot be read as such."""

from __future__ import annotations

_MARKS = (
    (b"PK\x03\x04", "a .zip archive"),
    (b"\x1f\x8b", "a .gz archive"),
    (b"\x7fELF", "an ELF file"),
    (b"\xfe\xff\xff\xff", "an NVS partition"),  # the state of its first page: in use
    (b"\xfc\xff\xff\xff", "an NVS partition"),  # full
    (b"\xe9", "an application, bootloader or flash image"),
)


def not_text(data: bytes) -> str:
    """Return what binary file begins with these bytes, ``""`` where it may be a text in another encoding.

    Args:
        data: the file's bytes, or as many of its first as there are.
    """
    known = next((what for mark, what in _MARKS if data.startswith(mark)), "")
    if known and b"\0" in data:
        return known
    return "a binary file" if b"\0" in data and not data.startswith((b"\xff\xfe", b"\xfe\xff")) else ""

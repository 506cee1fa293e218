"""The names of devices: which ids make safe file names, which MAC addresses are any, who takes which."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from esp_at_tools.errors import InputError

MAX_ID_SIZE = 200
"""Bytes of an id: with a suffix and what a temporary file adds, a file's name has at most 255."""

_PLAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,99}[A-Za-z0-9_-])?\Z")
"""What most ids are, and nothing can be wrong with but being reserved."""
_PUNCTUATION = frozenset(" ._-+@#=()")
_RESERVED = re.compile(
    r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?:\..*)?\Z", re.IGNORECASE
)
"""What Windows takes for a device, with any suffix."""
_MAC = re.compile(
    r"(?:[0-9a-f]{12}|[0-9a-f]{2}([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4})\Z"
)
_PLAIN_MAC = re.compile(r"[0-9a-f][02468ace](?::[0-9a-f]{2}){5}\Z")
_MAX_SHOWN = 64


def check_id(text: str) -> str:
    """Return an id that can be a file's name on every system.

    Raises:
        InputError: it is empty or too long, begins with something else than a letter, a digit or ``_``
            (a spreadsheet would take the others for a formula, a system for a hidden file or an option),
            holds a path separator or another character that a file's name cannot have everywhere, ends
            in a dot or a space, or is a name that Windows keeps to itself.
    """
    if _PLAIN.match(text) and not _RESERVED.match(text):
        return text
    if not text:
        raise InputError("the id is empty", "give every device a name of its own")
    if len(text.encode("utf-8", "replace")) > MAX_ID_SIZE:
        raise InputError(
            f"the id {shown(text)} is too long for a file's name", f"at most {MAX_ID_SIZE} bytes"
        )
    first = text[0]
    if not (first.isalnum() or first == "_"):
        raise InputError(f"the id {shown(text)} begins with {first!r}", "begin it with a letter or a digit")
    strange = next((letter for letter in text if not _is_plain(letter)), "")
    if strange:
        raise InputError(
            f"the id {shown(text)} holds {strange!r}, and ids become names of files",
            f"use letters and digits of any script, the space, and {' '.join(sorted(_PUNCTUATION - {' '}))}",
        )
    if text[-1] in " .":
        raise InputError(f"the id {shown(text)} ends in {text[-1]!r}", "leave that out")
    if _RESERVED.match(text):
        raise InputError(f"the id {shown(text)} is a name that Windows keeps to itself", "choose another one")
    return text


def _is_plain(letter: str) -> bool:
    return letter.isalnum() or letter in _PUNCTUATION or unicodedata.combining(letter) > 0


def same_name(text: str) -> str:
    """Return what two ids share that some system takes for one name: case and composition do not count."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def id_digest(text: str) -> bytes:
    """Return 16 bytes that stand for an id."""
    return hashlib.blake2b(same_name(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def shard_of(digest: bytes, count: int) -> int:
    """Return which of ``count`` shards a device belongs to, from 1, by its id alone."""
    return int.from_bytes(digest[:8], "big") % count + 1


def check_mac(text: str) -> str:
    """Return a MAC address as ``aa:bb:cc:dd:ee:ff``.

    Raises:
        InputError: it is none, or one that no module has: all zeros, or the address of a group.
    """
    if _PLAIN_MAC.match(text) and text != "00:00:00:00:00:00":
        return text
    if not _MAC.match(text.lower()):
        raise InputError(f"{shown(text)} is not a MAC address", "write it as c4:0a:24:fe:10:01")
    digits = re.sub("[^0-9a-f]", "", text.lower())
    if not int(digits, 16):
        raise InputError(f"the MAC address {text} is no module's: all zeros", "read it from the module")
    if int(digits[1], 16) & 1:
        raise InputError(
            f"the MAC address {text} is that of a group, not of a module", "read it from the module"
        )
    return ":".join(digits[place : place + 2] for place in range(0, 12, 2))


def mac_digest(mac: str) -> bytes:
    """Return 16 bytes that stand for a MAC address in its checked form."""
    return bytes.fromhex(mac.replace(":", "")).rjust(16, b"\1")


def shown(text: str) -> str:
    """Return a text from a list of devices for a message: quoted, on one line, cut where it is long."""
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…")

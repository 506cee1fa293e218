"""The files that a row names: their contents tell whether an output is still that of its row."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from esp_at_tools.firmware.request import MAX_PKI_FILE
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.profile import ProfileTemplate

GATTS = "gatts"


def read_small(path: str) -> bytes:
    """Return a small file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than any certificate, key or table, or its path holds a NUL.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        data = os.read(descriptor, MAX_PKI_FILE + 1)
        while data and (more := os.read(descriptor, MAX_PKI_FILE + 1)) and len(data) <= MAX_PKI_FILE:
            data += more
    finally:
        os.close(descriptor)
    if len(data) > MAX_PKI_FILE:
        raise ValueError("too large")
    return data


def contents_digest(contents: Mapping[str, bytes]) -> str:
    """Return a digest of the contents of a row's files (32 hexadecimal digits), ``""`` for none.

    Args:
        contents: of each file, by the name of the item that it becomes.
    """
    if not contents:
        return ""
    parts: list[bytes] = []
    for name in sorted(contents):
        data = contents[name]
        parts += (b"%s %d\n" % (name.encode(), len(data)), data)
    return hashlib.sha256(b"".join(parts)).hexdigest()[:32]


class OwnFiles:
    """Which files are a row's own: those of its cells, and those that it makes of the profile.

    Args:
        folder: where relative paths of cells begin.
        template: the profile.
    """

    def __init__(self, folder: Path, template: ProfileTemplate | None) -> None:
        """Nothing is read yet."""
        self._folder = folder
        varying = template.split()[1] if template is not None else None
        self._varying = varying if varying is not None and varying.columns else None

    def paths(self, row: Mapping[str, str]) -> dict[str, Path]:
        """Return the files by what they become: an item, or the GATT table.

        Raises:
            InputError: the profile cannot be filled in.
        """
        found = {name: self._folder / text for name, text in row.items() if name in PKI_ITEMS and text}
        if self._varying is not None:
            profile = self._varying.fill(row)
            found = {**profile.pki, **found}
            if profile.gatts is not None:
                found[GATTS] = profile.gatts
        return found

    def digest(self, row: Mapping[str, str]) -> str:
        """Return the digest of the files as they are now.

        Raises:
            OSError: one of them cannot be read; its name is in the error.
            ValueError: one is too large.
            InputError: the profile cannot be filled in.
        """
        return contents_digest({name: read_small(str(path)) for name, path in self.paths(row).items()})

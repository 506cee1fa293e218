"""The files of a release, in a folder or in a .zip, behind one interface.

Names are relative, with forward slashes. A changed tree is written beside its target first and
takes its place in one step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from esp_at_tools.firmware.source import PendingOutput

MAX_MEMBERS = 20_000
"""Most files in an archive; a full build folder has about 5000."""
MAX_TOTAL_SIZE = 1 << 30
"""Most bytes in an archive, unpacked: a release has about 30 MB, with its .elf."""


class Tree(Protocol):
    """The files of a release."""

    path: Path

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""

    def has(self, name: str) -> bool:
        """Tell whether there is a file of this name."""

    def listed(self, folder: str) -> list[str]:
        """Return the names of the files right in a folder (``""`` or ending in ``/``), sorted."""

    def read(self, name: str) -> bytes:
        """Return the contents of one file."""

    def file_size(self, name: str) -> int:
        """Return the bytes of one file."""

    def size(self) -> int:
        """Return the bytes of all files together, or of the archive."""

    def sha256(self) -> str | None:
        """Return the SHA-256 of the archive, None for a folder."""

    def output(self, path: Path, changes: Mapping[str, bytes], *, secret: Collection[str]) -> PendingOutput:
        """Prepare a copy with some files changed or added.

        Args:
            path: where it goes.
            changes: name → contents; in place, the files are replaced in this order.
            secret: names of the files that hold private keys.
        """

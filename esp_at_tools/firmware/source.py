"""Where the bytes of a firmware come from and go to: flash images and lone partitions.

A source shows its input as flash: :meth:`Source.read` gives the bytes at an address, 0xFF where
the input has none. The release folders and archives are in :mod:`esp_at_tools.firmware.release`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from esp_at_tools import files

Kind = Literal["image", "mfg_nvs", "factory_param", "release"]


@dataclass(frozen=True)
class Patch:
    """New contents of one partition.

    Attributes:
        name: name of the partition.
        offset: its address in flash, in bytes.
        size: its size, in bytes.
        data: the new contents, at most ``size`` bytes; the rest of the partition becomes 0xFF.
    """

    name: str
    offset: int
    size: int
    data: bytes

    @property
    def padded(self) -> bytes:
        """The contents of the whole partition."""
        return self.data.ljust(self.size, b"\xff")


class Flash(Protocol):
    """Bytes of flash by their address."""

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes of flash from ``offset``; 0xFF where nothing is held."""


class Source(Flash, Protocol):
    """An input, seen as flash."""

    kind: Kind
    path: Path

    @property
    def size(self) -> int:
        """Bytes of the input: of the file, or of all files of a release."""

    @property
    def end(self) -> int:
        """First address after everything that the input holds."""

    def sha256(self) -> str:
        """Return the SHA-256 of the input, lower-case hex."""

    def stated_flash_size(self) -> str:
        """Return the flash size that the input states beside its contents (``4MB``), ``""`` for none."""

    def contradictions(self) -> list[str]:
        """Return what in the input's own form contradicts itself, so that it cannot be changed safely."""

    def output(self, path: Path, patches: Iterable[Patch], *, secret: Collection[int]) -> PendingOutput:
        """Prepare the changed firmware beside ``path``; it stands there after ``commit``.

        Args:
            path: where it goes.
            patches: what changes.
            secret: addresses of the partitions that hold private keys: new files with them are for
                their owner only.
        """

    def reread(self, pending: PendingOutput) -> Flash:
        """Return what an output of this source holds on disk."""

    def remarks(self, patches: list[Patch]) -> list[str]:
        """Return what a user should know of the input's other files when these partitions change."""


class PendingOutput(files.Staged, Protocol):
    """A changed firmware that is complete on disk but does not stand in its place yet."""

    staged: Path
    overrides: Mapping[str, Path]
    """Files that are not in ``staged`` yet but beside their targets, by name."""


class StagedFile:
    """One file, complete on disk beside its target.

    Args:
        target: the path that it will take.
        staged: where it is now.
    """

    def __init__(self, target: Path, staged: Path) -> None:
        """Hold the two paths."""
        self.target = target
        self.staged = staged
        self.overrides: Mapping[str, Path] = {}

    def commit(self) -> None:
        """Rename it over its target."""
        files.replace_files([(self.staged, self.target)])

    def discard(self) -> None:
        """Remove it."""
        self.staged.unlink(missing_ok=True)


class FileSource:
    """A flash image, or a partition alone, in one file.

    Args:
        path: the file.
        data: its contents.
        kind: what it is.
    """

    def __init__(self, path: Path, data: bytes, kind: Kind) -> None:
        """Hold the contents."""
        self.path = path
        self.data = data
        self.kind: Kind = kind

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.data)

    @property
    def end(self) -> int:
        """First address after the contents."""
        return len(self.data)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of flash, 0xFF after the end of the file."""
        return self.data[offset : offset + size].ljust(size, b"\xff")

    def stated_flash_size(self) -> str:
        """Return ``""``: a file states nothing beside its contents."""
        return ""

    def sha256(self) -> str:
        """Return the SHA-256 of the file."""
        import hashlib

        return hashlib.sha256(self.data).hexdigest()

    def contradictions(self) -> list[str]:
        """Return nothing: one file cannot contradict itself."""
        return []

    def output(self, path: Path, patches: Iterable[Patch], *, secret: Collection[int]) -> StagedFile:
        """Write the patched file beside ``path``."""
        target = files.check_output(path)
        return StagedFile(
            target, files.stage_file(target, patched_chunks(self.data, patches), private=bool(secret))
        )

    def remarks(self, patches: list[Patch]) -> list[str]:
        """Return nothing: a file has no other files."""
        del patches
        return []

    def reread(self, pending: PendingOutput) -> Flash:
        """Return the file that was written."""
        return _StoredFile(pending.staged)


class _StoredFile:
    """A flash image that is read piece by piece."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, offset: int, size: int) -> bytes:
        with self._path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(size).ljust(size, b"\xff")


def patched_chunks(data: bytes, patches: Iterable[Patch]) -> list[bytes | memoryview]:
    """Return ``data`` with the patches laid over it, in pieces that are written one after another.

    Where the file ends inside or before a patched partition (an unfilled image), it grows just
    enough for the partition's contents: trailing 0xFF past the old end is left out.
    """
    view = memoryview(data)
    chunks: list[bytes | memoryview] = []
    position = 0
    for patch in sorted(patches, key=lambda patch: patch.offset):
        contents = patch.padded
        if patch.offset + patch.size > len(data):
            kept = max(len(contents.rstrip(b"\xff")), len(data) - patch.offset)
            contents = contents[:kept]
        if not contents:
            continue
        chunks.append(view[position : patch.offset])
        if patch.offset > len(data):
            chunks.append(b"\xff" * (patch.offset - max(len(data), position)))
        chunks.append(contents)
        position = patch.offset + len(contents)
    chunks.append(view[position:])
    return chunks

"""Reading a folder whose files go into a file-system image."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from esp_at_tools import files
from esp_at_tools.errors import InputError
from esp_at_tools.formats.fat import Tree

_MAX_DEPTH = 32
_MAX_FILES = 10_000


def read_tree(folder: Path, limit: int) -> dict[str, bytes | Tree]:
    """Return the files of a folder, sorted by name.

    Args:
        folder: the folder.
        limit: bytes that all files together may have.

    Raises:
        InputError: it cannot be read, holds devices, pipes or links that lead out of it, or is too large.
    """
    try:
        root = folder.resolve(strict=True)
        if not root.is_dir():
            raise InputError(f"{folder}: is not a folder", "give the folder that the files are in")
        reader = _Reader(root, folder, limit)
        return reader.read(folder, (root,))
    except FileNotFoundError as error:
        raise InputError(f"{error.filename or folder}: no such folder", "give an existing folder") from error
    except (OSError, ValueError, RuntimeError) as error:  # before Python 3.13 a loop of links is the last
        reason = getattr(error, "strerror", None) or str(error)
        where = getattr(error, "filename", None) or folder
        raise InputError(f"{where}: cannot be read: {reason}", "give a folder that can be read") from error


class _Reader:
    """Reads a folder's files, and refuses what is not to be in an image."""

    def __init__(self, root: Path, shown: Path, limit: int) -> None:
        self._root = root
        self._shown = shown
        self._limit = limit
        self._files = 0
        self._size = 0

    def read(self, folder: Path, above: tuple[Path, ...]) -> dict[str, bytes | Tree]:
        found: dict[str, bytes | Tree] = {}
        for path in sorted(folder.iterdir(), key=os.fsencode):
            name = path.name
            real = self._checked(path)
            mode = real.stat().st_mode
            if stat.S_ISDIR(mode):
                if real in above or len(above) >= _MAX_DEPTH:
                    raise InputError(
                        f"{path}: leads back to itself, or is over {_MAX_DEPTH} folders deep",
                        "leave it out",
                    )
                found[name] = self.read(path, (*above, real))
            elif stat.S_ISREG(mode):
                found[name] = self._contents(path)
            else:
                raise InputError(f"{path}: is a pipe, socket or device", "leave it out")
        return found

    def _checked(self, path: Path) -> Path:
        self._files += 1
        if self._files > _MAX_FILES:
            raise InputError(
                f"{self._shown}: holds more than {_MAX_FILES} files", "give the folder that is meant"
            )
        try:
            real = path.resolve(strict=True)
        except FileNotFoundError as error:
            raise InputError(f"{path}: is a link to nothing", "leave it out") from error
        if real != self._root and self._root not in real.parents:
            raise InputError(f"{path}: is a link that leads out of the folder", "put a copy in its place")
        return real

    def _contents(self, path: Path) -> bytes:
        self._size += path.stat().st_size
        if self._size > self._limit:
            whole = sum(each.stat().st_size for each in _files_of(self._root))
            raise InputError(
                f"{self._shown}: does not fit: {whole} bytes of files for {self._limit} bytes of partition",
                "leave files out, or make the partition larger",
            )
        return files.read_file(path, limit=self._limit)


def _files_of(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                yield path


def flat(tree: Tree, above: str = "") -> dict[str, bytes | None]:
    """Return path → contents for everything in a tree, None for a folder."""
    found: dict[str, bytes | None] = {}
    for name, node in tree.items():
        path = f"{above}/{name}"
        found[path] = node if isinstance(node, bytes) else None
        if not isinstance(node, bytes):
            found |= flat(node, path)
    return found

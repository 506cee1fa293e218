"""The files of a release in a folder; symbolic links in it are followed."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from esp_at_tools import files
from esp_at_tools.errors import InputError
from esp_at_tools.firmware.source import PendingOutput
from esp_at_tools.firmware.tree import MAX_MEMBERS

MAX_FILES = 10 * MAX_MEMBERS
"""Most files in a folder that is looked through or copied."""
MAX_DEPTH = 100
"""Most folders inside of each other."""
_CHUNK = 1 << 20


class FolderTree:
    """A release folder.

    Args:
        path: the folder.
        overrides: files that are read from elsewhere, by name: staged ones, before they are in place.
    """

    def __init__(self, path: Path, overrides: Mapping[str, Path] | None = None) -> None:
        """Look at the folder."""
        self.path = path
        self._overrides = dict(overrides or {})

    def _place(self, name: str) -> Path:
        return self._overrides.get(name, self.path / name)

    def names(self) -> list[str]:
        """Return the names of all files."""
        found = {name for name, is_folder in walk(self.path) if not is_folder}
        return sorted(found.union(self._overrides))

    def has(self, name: str) -> bool:
        """Tell whether there is a file of this name."""
        return self._place(name).is_file()

    def listed(self, folder: str) -> list[str]:
        """Return the names of the files right in a folder."""
        found = {
            name for name in self._overrides if name.startswith(folder) and "/" not in name[len(folder) :]
        }
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(self.path / folder) as entries,
        ):
            found.update(folder + entry.name for entry in entries if entry.is_file())
        return sorted(found)

    def read(self, name: str) -> bytes:
        """Return the contents of one file."""
        return files.read_file(self._place(name))

    def file_size(self, name: str) -> int:
        """Return the bytes of one file."""
        place = self._place(name)
        try:
            return place.stat().st_size
        except OSError as error:
            raise files.unreadable(place, error) from error

    def size(self) -> int:
        """Return the bytes of all files together."""
        total = 0
        for name in self.names():
            with contextlib.suppress(OSError):
                total += (self.path / name).stat().st_size
        return total

    def sha256(self) -> None:
        """Return None: a folder has no SHA-256 of its own."""

    def output(self, path: Path, changes: Mapping[str, bytes], *, secret: Collection[str]) -> PendingOutput:
        """Prepare a changed copy, or the changed files alone when ``path`` is this very folder."""
        if path.exists() and path.samefile(self.path):
            return _StagedFiles(self.path, changes, secret)
        return _StagedFolder(self.path, path, changes, secret)


def walk(root: Path) -> Iterator[tuple[str, bool]]:
    """Yield the name of everything in a folder, with whether it is a folder; a folder before its contents.

    Links are followed, except one that leads nowhere. Temporary files of a run that was killed are
    left out.

    Raises:
        InputError: there is too much in it, or a link leads to a folder that holds the link.
    """
    waiting: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(root),))]
    count = 0
    while waiting:
        prefix, above = waiting.pop()
        with os.scandir(root / prefix) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
        count += len(entries)
        if count > MAX_FILES or len(above) > MAX_DEPTH:
            raise InputError(f"{root}: holds too many files for a release", "give the release's folder")
        for entry in entries:
            name = prefix + entry.name
            if files.is_temporary(entry.name):
                continue
            is_folder = _leads_to_folder(entry)
            yield name, is_folder
            if is_folder:
                real = os.path.realpath(entry.path)
                if entry.is_symlink() and real in above:
                    raise InputError(f"{entry.path}: is a link to a folder that holds it", "remove the link")
                waiting.append((f"{name}/", (*above, real)))


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder or a link to one; a link to itself leads nowhere."""
    try:
        return entry.is_dir()
    except OSError:
        return False


class _StagedFiles:
    """Changed files of a folder, each staged beside the one that it will replace."""

    def __init__(self, folder: Path, changes: Mapping[str, bytes], secret: Collection[str]) -> None:
        self._pairs: dict[str, tuple[Path, Path]] = {}
        self._made: list[Path] = []
        self.staged = self.target = folder
        try:
            for name, data in changes.items():
                target = folder / name
                self._make(target.parent)
                target = files.check_output(target)
                self._pairs[name] = (files.stage_file(target, [data], private=name in secret), target)
        except OSError as error:
            self.discard()
            raise InputError(f"{target}: cannot be written: {error.strerror or error}", "") from error
        except BaseException:
            self.discard()
            raise
        self.overrides: Mapping[str, Path] = {name: staged for name, (staged, _) in self._pairs.items()}

    def _make(self, folder: Path) -> None:
        if not folder.exists():
            folder.mkdir()
            self._made.append(folder)

    def commit(self) -> None:
        files.replace_files(self._pairs.values())

    def discard(self) -> None:
        for staged, _ in self._pairs.values():
            staged.unlink(missing_ok=True)
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()


class _StagedFolder:
    """A whole folder, staged beside its target."""

    def __init__(
        self, source: Path, target: Path, changes: Mapping[str, bytes], secret: Collection[str]
    ) -> None:
        self.overrides: Mapping[str, Path] = {}
        self.target = files.check_new_folder(target)
        if Path(os.path.realpath(source)) in self.target.parents:
            raise InputError(f"{target}: lies inside the input {source}", "give an output outside of it")
        self.staged = files.temporary_beside(self.target)
        try:
            self._copy(source, changes, secret)
        except OSError as error:
            self.discard()
            reason = error.strerror or str(error)
            raise InputError(f"{target}: cannot be written: {reason}", "nothing was changed") from error
        except BaseException:
            self.discard()
            raise

    def _copy(self, source: Path, changes: Mapping[str, bytes], secret: Collection[str]) -> None:
        self.staged.mkdir()
        folders = [self.staged]
        left = dict(changes)
        for name, is_folder in walk(source):
            if is_folder:
                folders.append(self.staged / name)
                folders[-1].mkdir()
            else:
                _copy_one(source / name, self.staged / name, left.pop(name, None), secret=name in secret)
        for name, data in left.items():
            added = self.staged / name
            if not added.parent.exists():
                added.parent.mkdir()
                folders.append(added.parent)
            with _created(added, files.SECRET_MODE if name in secret else files.PUBLIC_MODE) as descriptor:
                _write_all(descriptor, data)
        for folder in reversed(folders):
            files.sync_folder(folder)

    def commit(self) -> None:
        try:
            self.staged.rename(self.target)  # fails where a file or a folder with contents stands there now
            files.sync_folder(self.target.parent)
        except OSError as error:
            self.discard()
            reason = error.strerror or str(error)
            raise InputError(f"{self.target}: cannot be written: {reason}", "give another path") from error

    def discard(self) -> None:
        shutil.rmtree(self.staged, ignore_errors=True)


@contextlib.contextmanager
def _created(path: Path, mode: int) -> Iterator[int]:
    """Create a file that is on disk, complete, when the block ends."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, mode)
    try:
        yield descriptor
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _copy_one(source: Path, target: Path, data: bytes | None, *, secret: bool) -> None:
    """Copy a file, or write ``data`` in its place; its owner may write to it, and others not read secrets."""
    try:
        status = source.stat()
    except OSError:
        if not source.is_symlink():
            raise
        target.symlink_to(source.readlink())  # leads nowhere, here as there
        return
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{source}: is a pipe, socket or device", "a release holds files only")
    mode = files.SECRET_MODE if secret else stat.S_IMODE(status.st_mode) | stat.S_IWUSR
    with _created(target, mode & 0o777) as descriptor:
        if data is not None:
            _write_all(descriptor, data)
            return
        with source.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                _write_all(descriptor, chunk)

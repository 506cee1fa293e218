"""The files of a release, in a folder or in a .zip, behind one interface.

Names are relative, with forward slashes. A changed tree is written beside its target first and
takes its place in one step.
"""

from __future__ import annotations

import contextlib
import os
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from esp_at_tools import files
from esp_at_tools.errors import InputError
from esp_at_tools.firmware.source import PendingOutput, StagedFile

MAX_MEMBERS = 20_000
"""Most files in an archive; a full build folder has about 5000."""
MAX_TOTAL_SIZE = 1 << 30
"""Most bytes in an archive, unpacked: a release has about 30 MB, with its .elf."""

PRIVATE_KEY_MARK = b"PRIVATE KEY-----"
"""Stands in every private key in PEM form; a copied file that holds one is for its owner only."""
_ENCRYPTED_FLAG = 0x1


class Tree(Protocol):
    """The files of a release."""

    path: Path

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""

    def read(self, name: str) -> bytes:
        """Return the contents of one file."""

    def size(self) -> int:
        """Return the bytes of all files together."""

    def output(self, path: Path, changes: Mapping[str, bytes], *, private: bool) -> PendingOutput:
        """Prepare a copy with some files changed or added."""


def check_member(name: str, where: str) -> str:
    """Return the name of an archive's member if it stays inside the archive.

    Raises:
        InputError: it is absolute, has a drive, a ``..`` or a backslash.
    """
    parts = PurePosixPath(name).parts
    if not name or name.startswith("/") or "\\" in name or "\0" in name or ":" in name or ".." in parts:
        raise InputError(
            f"{where}: holds the file {name!r}, which would lie outside of it",
            "this is no official release; download it again from its source",
        )
    return name


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

    def names(self) -> list[str]:
        """Return the names of all files."""
        found = set(self._overrides)
        for folder, folders, names in os.walk(self.path):
            folders.sort()
            relative = Path(folder).relative_to(self.path)
            found.update((relative / name).as_posix() for name in names)
            if len(found) > MAX_MEMBERS * 10:
                raise InputError(
                    f"{self.path}: holds too many files for a release", "give the release's folder"
                )
        return sorted(found)

    def read(self, name: str) -> bytes:
        """Return the contents of one file."""
        return files.read_file(self._overrides.get(name, self.path / name))

    def size(self) -> int:
        """Return the bytes of all files together."""
        total = 0
        for name in self.names():
            with contextlib.suppress(OSError):
                total += (self.path / name).stat().st_size
        return total

    def output(self, path: Path, changes: Mapping[str, bytes], *, private: bool) -> PendingOutput:
        """Prepare a changed copy, or the changed files alone when ``path`` is this very folder."""
        if path.exists() and path.samefile(self.path):
            return _StagedFiles(self.path, changes, private=private)
        return _StagedFolder(self.path, path, changes, private=private)


class _StagedFiles:
    """Changed files of a folder, each staged beside the one that it will replace."""

    def __init__(self, folder: Path, changes: Mapping[str, bytes], *, private: bool) -> None:
        self._pairs: dict[str, tuple[Path, Path]] = {}
        try:
            for name, data in changes.items():
                target = folder / name
                target.parent.mkdir(exist_ok=True)
                target = files.check_output(target)
                self._pairs[name] = (files.stage_file(target, [data], private=private), target)
        except BaseException:
            self.discard()
            raise
        self.staged = folder
        self.overrides: Mapping[str, Path] = {name: staged for name, (staged, _) in self._pairs.items()}

    def commit(self) -> None:
        files.replace_files(self._pairs.values())

    def discard(self) -> None:
        for staged, _ in self._pairs.values():
            staged.unlink(missing_ok=True)


class _StagedFolder:
    """A whole folder, staged beside its target."""

    def __init__(self, source: Path, target: Path, changes: Mapping[str, bytes], *, private: bool) -> None:
        self.overrides: Mapping[str, Path] = {}
        self._target = files.check_new_folder(target)
        _check_apart(source, self._target)
        self.staged = self._target.parent / f".{self._target.name[:100]}.{os.urandom(6).hex()}.tmp"
        try:
            self._copy(source, changes, private=private)
        except OSError as error:
            self.discard()
            raise InputError(f"{target}: cannot be written: {error.strerror or error}") from error
        except BaseException:
            self.discard()
            raise

    def _copy(self, source: Path, changes: Mapping[str, bytes], *, private: bool) -> None:
        self.staged.mkdir(mode=0o777)
        left = dict(changes)
        for folder, folders, names in os.walk(source):
            folders.sort()
            here = Path(folder)
            there = self.staged / here.relative_to(source)
            there.mkdir(exist_ok=True)
            links = [name for name in folders if (here / name).is_symlink()]
            for name in sorted([*names, *links]):
                relative = (here / name).relative_to(source).as_posix()
                data = left.pop(relative, None)
                _copy_one(here / name, there / name, data, private=private)
        for relative, data in left.items():
            added = self.staged / relative
            added.parent.mkdir(exist_ok=True, parents=True)
            _write_new(added, data, files.SECRET_MODE if private else files.PUBLIC_MODE)
        for folder, _, _ in os.walk(self.staged, topdown=False):
            files.sync_folder(Path(folder))

    def commit(self) -> None:
        try:
            self.staged.rename(self._target)  # fails where a file or a folder with contents stands there now
            files.sync_folder(self._target.parent)
        except OSError as error:
            self.discard()
            raise InputError(f"{self._target}: cannot be written: {error.strerror or error}") from error

    def discard(self) -> None:
        import shutil

        shutil.rmtree(self.staged, ignore_errors=True)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _copy_one(source: Path, target: Path, data: bytes | None, *, private: bool) -> None:
    if data is None and source.is_symlink():
        target.symlink_to(source.readlink())
        return
    status = source.stat()
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{source}: is a pipe, socket or device", "a release holds files only")
    contents = files.read_file(source, limit=MAX_TOTAL_SIZE) if data is None else data
    secret = (private and data is not None) or PRIVATE_KEY_MARK in contents
    mode = files.SECRET_MODE if secret else stat.S_IMODE(status.st_mode) | stat.S_IWUSR
    _write_new(target, contents, mode)


def _check_apart(source: Path, target: Path) -> None:
    if source.resolve() in target.parents:
        raise InputError(f"{target}: lies inside the input {source}", "give an output outside of it")


class ZipTree:
    """A release as a .zip.

    Args:
        path: the archive.

    Raises:
        InputError: it is damaged, cut off, encrypted, too large or holds names that lead out of it.
    """

    def __init__(self, path: Path) -> None:
        """Read the list of files and check every name; nothing is unpacked to disk."""
        self.path = path
        with self._opened() as archive:
            self._members = {info.filename: info for info in self._checked(archive)}

    @contextlib.contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
            raise InputError(
                f"{self.path}: is a damaged or cut off .zip: {error}", "download it again"
            ) from error
        except OSError as error:
            raise files.unreadable(self.path, error, ".zip") from error

    def _checked(self, archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        where = str(self.path)
        if len(infos) > MAX_MEMBERS or sum(info.file_size for info in infos) > MAX_TOTAL_SIZE:
            raise InputError(
                f"{where}: is too large for a release", f"at most {MAX_TOTAL_SIZE >> 20} MB unpacked"
            )
        seen = set()
        for info in infos:
            name = check_member(info.filename, where)
            if info.flag_bits & _ENCRYPTED_FLAG:
                raise InputError(
                    f"{where}: {name} is encrypted with a password", "give an archive without one"
                )
            if stat.S_ISLNK(info.external_attr >> 16):
                raise InputError(f"{where}: {name} is a symbolic link", "a release holds files only")
            if name in seen:
                raise InputError(f"{where}: holds {name} twice", "download it again")
            seen.add(name)
            yield info

    def names(self) -> list[str]:
        """Return the names of all files."""
        return sorted(self._members)

    def size(self) -> int:
        """Return the bytes of the archive."""
        return self.path.stat().st_size

    def read(self, name: str) -> bytes:
        """Return the contents of one file, its CRC checked.

        Raises:
            InputError: it is damaged or unpacks to more than it says.
        """
        with self._opened() as archive:
            return self._read(archive, name)

    def _read(self, archive: zipfile.ZipFile, name: str) -> bytes:
        import zlib

        limit = self._members[name].file_size
        try:
            with archive.open(self._members[name]) as stream:
                data = stream.read(limit + 1)
        except (zlib.error, RuntimeError) as error:
            raise InputError(f"{self.path}: {name} is damaged: {error}", "download it again") from error
        if len(data) > limit:
            raise InputError(f"{self.path}: {name} is larger than the archive says", "download it again")
        return data

    def output(self, path: Path, changes: Mapping[str, bytes], *, private: bool) -> PendingOutput:
        """Prepare a changed copy of the archive; names, order, dates and permissions stay."""
        target = files.check_output(path)
        return StagedFile(
            target, files.stage(target, lambda stream: self._rewrite(stream, changes), private=private)
        )

    def _rewrite(self, stream: IO[bytes], changes: Mapping[str, bytes]) -> None:
        """Write the changed archive; one member at a time is in memory."""
        left = dict(changes)
        date = max((info.date_time for info in self._members.values()), default=(1980, 1, 1, 0, 0, 0))
        with self._opened() as archive, zipfile.ZipFile(stream, "w") as rewritten:
            rewritten.comment = archive.comment
            for info in archive.infolist():
                data = b"" if info.is_dir() else left.pop(info.filename, None)
                rewritten.writestr(
                    _same_member(info), self._read(archive, info.filename) if data is None else data
                )
            for name, data in left.items():
                added = zipfile.ZipInfo(name, date)
                added.compress_type = zipfile.ZIP_DEFLATED
                added.external_attr = (stat.S_IFREG | 0o644) << 16
                rewritten.writestr(added, data)


def _same_member(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """Return a fresh description of a member: its name, date, permissions and compression."""
    copied = zipfile.ZipInfo(info.filename, info.date_time)
    copied.compress_type = info.compress_type
    copied.external_attr = info.external_attr
    copied.create_system = info.create_system
    copied.comment = info.comment
    return copied

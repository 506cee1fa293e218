"""The files of a release in a .zip; nothing is unpacked to disk."""

from __future__ import annotations

import contextlib
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from esp_at_tools import files
from esp_at_tools.errors import EspAtError, InputError
from esp_at_tools.firmware.source import PendingOutput, StagedFile
from esp_at_tools.firmware.tree import MAX_MEMBERS, MAX_TOTAL_SIZE

_ENCRYPTED_FLAG = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK = 1 << 20
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, IndexError, OverflowError, RuntimeError, ValueError),
)
"""What zipfile raises for archives that are not as they should be."""


def check_member(name: str, where: str) -> str:
    """Return the name of an archive's member if it stays inside the archive.

    Raises:
        InputError: it is absolute, has a drive, a ``..`` or a backslash.
    """
    if "\\" in name:
        raise InputError(
            f"{where}: holds the file {name!r}, with a backslash in its name",
            "pack it again with a program that writes forward slashes, or unpack it and give the folder",
        )
    if not name or name.startswith("/") or "\0" in name or ":" in name or ".." in PurePosixPath(name).parts:
        raise InputError(
            f"{where}: holds the file {name!r}, which would lie outside of it",
            "this is no official release; download it again from its source",
        )
    return name


class ZipTree:
    """A release as a .zip.

    Args:
        path: the archive.

    Raises:
        InputError: it is damaged, cut off, encrypted, too large or holds names that lead out of it.
    """

    def __init__(self, path: Path) -> None:
        """Read the list of files and check every name."""
        self.path = path
        with self._opened() as archive:
            self._members = {info.filename: info for info in self._checked(archive)}

    @contextlib.contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except EspAtError:
            raise
        except OSError as error:
            raise files.unreadable(self.path, error, ".zip") from error
        except _DAMAGE as error:
            reason = str(error) or "it ends too early"
            raise InputError(
                f"{self.path}: is a damaged or cut off .zip: {reason}", "download it again"
            ) from error

    def _checked(self, archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
        where = str(self.path)
        for info in archive.infolist():
            check_member(info.filename, where)
        infos = [info for info in archive.infolist() if not info.is_dir()]
        if len(infos) > MAX_MEMBERS or sum(info.file_size for info in infos) > MAX_TOTAL_SIZE:
            raise InputError(
                f"{where}: is too large for a release",
                f"at most {MAX_MEMBERS} files and {MAX_TOTAL_SIZE >> 20} MB unpacked",
            )
        seen = set()
        for info in infos:
            name = check_member(info.filename, where)
            if info.flag_bits & _ENCRYPTED_FLAG:
                raise InputError(
                    f"{where}: {name} is encrypted with a password", "give an archive without one"
                )
            if info.compress_type not in _METHODS:
                raise InputError(
                    f"{where}: {name} is compressed by method {info.compress_type}",
                    "pack it again with the usual method (deflate), or unpack it and give the folder",
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

    def has(self, name: str) -> bool:
        """Tell whether there is a file of this name."""
        return name in self._members

    def listed(self, folder: str) -> list[str]:
        """Return the names of the files right in a folder."""
        return sorted(
            name for name in self._members if name.startswith(folder) and "/" not in name[len(folder) :]
        )

    def file_size(self, name: str) -> int:
        """Return the bytes of one file, as the archive says."""
        return self._members[name].file_size

    def size(self) -> int:
        """Return the bytes of the archive."""
        return self.path.stat().st_size

    def sha256(self) -> str:
        """Return the SHA-256 of the archive."""
        import hashlib

        digest = hashlib.sha256()
        with self.path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def read(self, name: str) -> bytes:
        """Return the contents of one file, its CRC checked.

        Raises:
            InputError: it is damaged, too large, or not as large as the archive says.
        """
        size = self._members[name].file_size
        if size > files.MAX_INPUT_SIZE:
            raise InputError(
                f"{self.path}: {name} has {size} bytes", f"at most {files.MAX_INPUT_SIZE} are read of a file"
            )
        with self._opened() as archive, self._damage(name), archive.open(self._members[name]) as stream:
            data = stream.read(size + 1)
        if len(data) != size:
            raise InputError(f"{self.path}: {name} is not as large as the archive says", "download it again")
        return data

    @contextlib.contextmanager
    def _damage(self, name: str) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            reason = str(error) or "it ends too early"
            raise InputError(f"{self.path}: {name} is damaged: {reason}", "download it again") from error

    def output(self, path: Path, changes: Mapping[str, bytes], *, secret: Collection[str]) -> PendingOutput:
        """Prepare a changed copy of the archive; names, order, dates and permissions stay."""
        target = files.check_output(path)
        return StagedFile(
            target, files.stage(target, lambda stream: self._rewrite(stream, changes), private=bool(secret))
        )

    def _rewrite(self, stream: IO[bytes], changes: Mapping[str, bytes]) -> None:
        """Write the changed archive, piece by piece."""
        left = dict(changes)
        date = max((info.date_time for info in self._members.values()), default=(1980, 1, 1, 0, 0, 0))
        with self._opened() as archive, zipfile.ZipFile(stream, "w") as rewritten:
            rewritten.comment = archive.comment
            for info in archive.infolist():
                data = b"" if info.is_dir() else left.pop(info.filename, None)
                if data is not None:
                    rewritten.writestr(_same_member(info), data)
                    continue
                copied = _same_member(info)
                copied.file_size = info.file_size
                with (
                    self._damage(info.filename),
                    archive.open(info) as old,
                    rewritten.open(copied, "w") as new,
                ):
                    shutil.copyfileobj(old, new, _CHUNK)
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

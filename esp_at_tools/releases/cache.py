"""Where downloaded releases are kept, and how it is told that they are what was downloaded first."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools import files
from esp_at_tools.catalog.releases import Release
from esp_at_tools.errors import InputError

CACHE_VARIABLE = "ESP_AT_CACHE"
"""The environment variable that names another folder."""

Progress = Callable[[int, int], None]
"""Told how many bytes of a download there are, and how many there will be (0: not known)."""

_NAME = "esp-at-tool"
_RECORD = re.compile(r"([0-9a-f]{64})  .+\n?")
_MAX_RECORD = 1024


def cache_folder() -> Path:
    """Return the folder that releases are kept in: ``ESP_AT_CACHE``, else the platform's cache folder.

    Raises:
        InputError: nothing says where that is.
    """
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(os.path.abspath(Path(own).expanduser()))  # noqa: PTH100 - it may not exist yet
    try:
        if sys.platform == "win32":
            local = os.environ.get("LOCALAPPDATA")
            return (Path(local) if local else Path.home() / "AppData" / "Local") / _NAME / "Cache"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / _NAME
        base = os.environ.get("XDG_CACHE_HOME", "")
        return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / _NAME  # noqa: PTH117 - a text
    except RuntimeError as error:  # no home folder
        raise InputError(
            f"there is no folder to keep releases in: {error}", f"set {CACHE_VARIABLE} to one"
        ) from error


@dataclass(frozen=True)
class Slot:
    """The place of one release in the cache.

    Attributes:
        path: where its ``.zip`` is, or will be; a file that is put there by hand is taken as well.
    """

    path: Path

    @property
    def is_filled(self) -> bool:
        """Whether the file is there, as far as one may look."""
        try:
            return self.path.is_file()
        except OSError:
            return False

    @property
    def part(self) -> Path:
        """What has been downloaded so far."""
        return self._beside(".part")

    @property
    def state(self) -> Path:
        """Where that came from, so that it can be continued."""
        return self._beside(".part.json")

    @property
    def record(self) -> Path:
        """The SHA-256 of what was downloaded first, as sha256sum writes it."""
        return self._beside(".sha256")

    @property
    def lock(self) -> Path:
        """Held by the process that downloads."""
        return self._beside(".lock")

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def recorded(self) -> str:
        """Return the SHA-256 that was recorded, ``""`` if there is none.

        Raises:
            InputError: the record cannot be read, or is none.
        """
        if not self.record.exists():
            return ""
        text = files.read_file(self.record, "record", _MAX_RECORD).decode("utf-8", "replace")
        match = _RECORD.fullmatch(text)
        if match is None:
            raise InputError(f"{self.record}: holds no SHA-256", "delete it, and run this again")
        return match[1]

    def remember(self, sha256: str) -> None:
        """Record the SHA-256 of the file."""
        files.write_file(self.record, f"{sha256}  {self.path.name}\n".encode())

    def make_folder(self) -> None:
        """Make the folder that the file is in.

        Raises:
            InputError: it cannot be made.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{error.filename or self.path.parent}: cannot be made: {error.strerror or error}",
                f"set {CACHE_VARIABLE} to a folder that releases can be kept in",
            ) from error

    def discard_part(self) -> None:
        """Forget what has been downloaded so far."""
        for path in (self.state, self.part):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other process downloads this release; the system frees the lock of a killed one."""
        with self.lock.open("a+b") as stream:
            _lock(stream.fileno())
            yield  # closing the file frees it


if sys.platform == "win32":

    def _lock(descriptor: int) -> None:
        import msvcrt
        import time

        def is_mine() -> bool:
            try:
                os.lseek(descriptor, 0, os.SEEK_SET)
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            except OSError:
                return False
            return True

        while not is_mine():
            time.sleep(0.1)

else:

    def _lock(descriptor: int) -> None:
        import fcntl

        # Without locks (some network file systems) two processes may write into one .part; what comes of
        # that fails the check of the archive.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def slot(release: Release) -> Slot:
    """Return the place of a release in the cache.

    Raises:
        InputError: see :func:`cache_folder`.
    """
    folder = cache_folder() / release.full_name / release.version
    return Slot(folder / release.file_name)

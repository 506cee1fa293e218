"""Reading inputs and writing outputs: whole files or none, never anything between."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Protocol

from esp_at_tools.errors import InputError

MAX_INPUT_SIZE = 64 << 20
"""Largest file that is read into memory, in bytes: no ESP module has a flash that is larger."""

SECRET_MODE = 0o600
"""Permissions of a new file that holds private keys."""
PUBLIC_MODE = 0o666
"""Permissions of any other new file, less the umask."""

_TEMPORARY = re.compile(r"\.(.{0,50})\.[0-9a-f]{12}\.tmp", re.DOTALL)


def read_file(path: Path, what: str = "file", limit: int = MAX_INPUT_SIZE) -> bytes:
    """Return the contents of a file of at most ``limit`` bytes; of a pipe, what its other end writes.

    Raises:
        InputError: it does not exist, is a folder, cannot be read, or is larger.
    """
    data = read_head(path, limit + 1, what)
    if len(data) > limit:
        raise InputError(f"{path}: larger than {limit} bytes", f"give a {what} of at most that size")
    return data


def read_head(path: Path, size: int, what: str = "file") -> bytes:
    """Return the first ``size`` bytes of a file.

    Raises:
        InputError: it does not exist, is a folder, or cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(size)
    except OSError as error:
        raise unreadable(path, error, what) from error
    except ValueError as error:  # a NUL in the path
        raise InputError(f"{str(path)!r}: is no path: {error}", f"give the path of a {what}") from error


def unreadable(path: Path, error: OSError, what: str = "file") -> InputError:
    """Return the error that says why ``path`` cannot be read."""
    if error.errno == errno.ENOENT:
        return InputError(f"{path}: no such file", f"give the path of an existing {what}")
    if error.errno == errno.EISDIR:
        return InputError(f"{path}: is a folder", f"give the path of a {what}")
    reason = error.strerror or str(error)
    return InputError(f"{path}: cannot be read: {reason}", f"give a {what} that can be read")


def check_output(path: Path) -> Path:
    """Return the real path that an output will replace, after checking that a file can stand there.

    A symbolic link is followed, so that the link stays and its target is replaced.

    Raises:
        InputError: the parent folder is missing, or a folder, pipe, socket or device stands there.
    """
    if str(path) == "-":
        raise InputError("-: there is no output to a pipe", "give the path of a file")
    try:
        target = Path(os.path.realpath(path))
        if not target.parent.is_dir():
            raise InputError(f"{path}: its folder does not exist", f"create {path.parent} first")
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            return target
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be written: {reason}", "give another output path") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: is an existing folder", "give the path of a file")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: is a pipe, socket or device", "give the path of a regular file")
    return target


def check_new_folder(path: Path) -> Path:
    """Return the real path of an output folder that must not exist yet.

    Raises:
        InputError: something stands there, or its parent folder is missing.
    """
    if str(path) == "-":
        raise InputError("-: there is no output to a pipe", "give the path of a new folder")
    target = Path(os.path.realpath(path))
    if os.path.lexists(path):
        what = "is an existing folder" if target.is_dir() else "exists already and is not a folder"
        raise InputError(f"{path}: {what}", "give the path of a new folder")
    if not target.parent.is_dir():
        raise InputError(f"{path}: its folder does not exist", f"create {path.parent} first")
    return target


def temporary_beside(target: Path) -> Path:
    """Return a hidden path beside ``target`` that nobody uses; its name stays below 255 bytes."""
    return target.parent / f".{target.name[:50]}.{os.urandom(6).hex()}.tmp"


def is_temporary(name: str) -> bool:
    """Tell whether a file or folder of this name is what a killed run has left: see above."""
    return _TEMPORARY.fullmatch(name) is not None


def as_known(target: Path) -> Path:
    """Return a path as people know it: relative within the current folder, without names of ours."""
    parts = [match[1] if (match := _TEMPORARY.fullmatch(part)) else part for part in target.parts]
    path = Path(*parts)
    with contextlib.suppress(OSError, ValueError):
        return path.relative_to(os.path.realpath("."))
    return path


@contextlib.contextmanager
def _deleted_on_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def stage(target: Path, write: Callable[[IO[bytes]], None], *, private: bool) -> Path:
    """Let ``write`` fill a temporary file beside ``target``, flush it to disk and return its path.

    A file that replaces another keeps that one's permissions. A new one gets 0600 when it is
    ``private`` (it holds private keys), else what the umask leaves of 0666.

    Raises:
        InputError: it cannot be written (no permission, disk full, …); nothing is left behind.
    """
    staged = temporary_beside(target)
    try:
        descriptor = os.open(
            staged,
            os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0),
            SECRET_MODE if private or target.exists() else PUBLIC_MODE,
        )
        with _deleted_on_error(staged):
            with os.fdopen(descriptor, "w+b") as stream:
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
            if target.exists():
                staged.chmod(stat.S_IMODE(target.stat().st_mode))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{as_known(target)}: cannot be written: {reason}", "nothing was changed") from error
    return staged


def stage_file(target: Path, chunks: Iterable[bytes | memoryview], *, private: bool) -> Path:
    """Write ``chunks`` to a temporary file beside ``target``; see :func:`stage`."""
    return stage(target, lambda stream: stream.writelines(chunks), private=private)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the system can do that."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that can be written to but not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without folder sync
            raise
    finally:
        os.close(descriptor)


def write_file(path: Path, chunks: bytes | Iterable[bytes | memoryview], *, private: bool = False) -> None:
    """Write a file whole: to a temporary one in the same folder, flushed to disk, then renamed.

    Args:
        path: where it shall stand; its folder must exist.
        chunks: the contents.
        private: it holds private keys, so a new file gets mode 0600.

    Raises:
        InputError: see :func:`check_output` and :func:`stage_file`; what stood there is unchanged.
    """
    target = check_output(path)
    staged = stage_file(target, [chunks] if isinstance(chunks, bytes) else chunks, private=private)
    replace_files([(staged, target)])


def replace_files(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Rename staged files over their targets, in the order given, and flush the folders.

    When one fails, those before it are taken back as far as they can be: a new file is removed again,
    unless one that stood there before was replaced after it, since that may depend on it.

    Raises:
        InputError: one cannot be replaced; no staged file is left behind.
    """
    pairs = list(pairs)
    progress = _Progress()
    try:
        with progress:
            for staged, target in pairs:
                with progress.step(target):
                    staged.replace(target)
            for folder in {target.parent for _, target in pairs}:
                sync_folder(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{as_known(target)}: cannot be replaced: {reason}", progress.hint) from error
    finally:
        for staged, _ in pairs:
            with contextlib.suppress(OSError):
                staged.unlink()


class Staged(Protocol):
    """An output that is complete on disk but does not stand in its place yet."""

    @property
    def target(self) -> Path:
        """Where it will stand."""

    def commit(self) -> None:
        """Put it in its place, in one step."""

    def discard(self) -> None:
        """Remove it; nothing has changed."""


class _Progress:
    """Which new outputs stand in their places and can still be removed."""

    def __init__(self) -> None:
        self._new: list[Path] = []
        self.hint = "nothing was changed"

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """On an error, remove what is new."""
        if error is not None:
            for path in reversed(self._new):
                _remove(path)

    @contextlib.contextmanager
    def step(self, target: Path) -> Iterator[None]:
        """Do one step, which puts something at ``target``."""
        existed = os.path.lexists(target)
        yield
        if existed:
            self._new.clear()
            self.hint = "what was asked for may be done in part: run the same command again"
        else:
            self._new.append(target)


def _remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if that can be done."""
    if path.is_dir() and not path.is_symlink():
        import shutil

        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


@contextlib.contextmanager
def written_together(new_folder: Path | None = None, *, private: bool = False) -> Iterator[list[Staged]]:
    """Give a list for staged outputs, which take their places when the block ends: all of them, or none.

    The new ones come first, then those that replace something, each in the order of the list: until the
    first of the latter stands, everything can be taken back. When a later one of them fails, what stands
    stays; there is no way to replace several files at once. On any error in the block nothing stays.

    Args:
        new_folder: a folder that is made for some of them, and removed again on an error.
        private: that folder is for its owner only.

    Raises:
        InputError: the folder cannot be made, or an output cannot take its place.
    """
    outputs: list[Staged] = []
    if new_folder is not None:
        try:
            new_folder.mkdir(mode=0o700 if private else 0o777)
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(
                f"{as_known(new_folder)}: cannot be made: {reason}", "nothing was changed"
            ) from error
    try:
        yield outputs
        _commit_all(outputs)
    except BaseException:
        for output in outputs:
            with contextlib.suppress(OSError):
                output.discard()
        if new_folder is not None:
            with contextlib.suppress(OSError):  # what could not be taken back may be in it
                new_folder.rmdir()
        raise


def _commit_all(outputs: Iterable[Staged]) -> None:
    progress = _Progress()
    try:
        with progress:
            for output in sorted(outputs, key=lambda output: os.path.lexists(output.target)):
                with progress.step(output.target):
                    output.commit()
    except InputError as error:
        raise InputError(error.message, progress.hint) from error


@contextlib.contextmanager
def made_folders(folders: Iterable[Path]) -> Iterator[None]:
    """Make the folders that are missing, outer ones first; on an error in the block they are removed again.

    Raises:
        InputError: one cannot be made.
    """
    made: list[Path] = []
    try:
        for folder in folders:
            if not folder.is_dir():
                folder.mkdir()
                made.append(folder)
        yield
    except BaseException as error:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise InputError(f"{error.filename}: cannot be made: {reason}", "nothing was written") from error
        raise

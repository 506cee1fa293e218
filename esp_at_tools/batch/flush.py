"""Flushing many new files to disk at once, while the next ones are being made.

To flush them one after the other makes a journalling file system commit its journal for each; to flush
the file system takes one commit for all of them, and a third of the time. Most of it is waiting, so it
happens in a thread: where the disk is slower than the devices are made, more of them are flushed together.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from esp_at_tools.batch.folder import is_work
from esp_at_tools.errors import EspAtError, InputError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_SLOW = 5.0
"""Seconds after which somebody else must have written a lot, for which there is no need to wait again."""
_TELLS_ERRORS = (5, 8)
"""The first Linux whose ``syncfs`` tells that something could not be written."""
_TRUSTED = (0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x01021994)
"""The file systems that tell it: ext4, XFS, Btrfs, F2FS, tmpfs, by their numbers in ``linux/magic.h``.

An overlayfs does not pass on what its upper one tells, and FUSE does not pass on the wish to flush.
"""
_MOST_WAITING = 8
"""Groups that may wait until those before them are flushed."""

_Made = TypeVar("_Made")
_Begun = TypeVar("_Begun")


class Flusher:
    """Flushes files of one folder and those below it, in the way that suits the system.

    Args:
        folder: it must exist.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        """Find out what there is."""
        self._path = folder
        self._folder = -1
        self._all_at_once = _syncfs()
        if self._all_at_once is not None:
            # Opened before anything is written: what fails from now on is told to this descriptor.
            self._folder = os.open(folder, os.O_RDONLY)
            if _file_system(self._folder) not in _TRUSTED:
                self._all_at_once = None
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None

    def close(self) -> None:
        """Wait for what is under way, be it of no use any more."""
        if self._thread is not None:
            self._thread.shutdown()
        if self._folder >= 0:
            os.close(self._folder)

    @property
    def busy(self) -> bool:
        """Whether files are being flushed."""
        return self._under_way is not None and not self._under_way.done()

    def start(self, paths: Sequence[str]) -> None:
        """Begin to flush files; the ones before must be finished.

        Raises:
            InputError: the system allows no more threads.
        """
        if self._thread is None:
            from concurrent.futures import ThreadPoolExecutor

            self._thread = ThreadPoolExecutor(1)
        thread = self._thread
        self._under_way = begun(lambda: thread.submit(self.flush, paths))

    def finish(self) -> None:
        """Wait until the files are safe on disk.

        Raises:
            InputError: something could not be written.
        """
        try:
            if self._under_way is not None:
                self._under_way.result()
        except OSError as error:
            raise unwritable(error, self._path) from error
        finally:
            self._under_way = None

    def flush(self, paths: Sequence[str]) -> None:
        """Flush files to disk; all that was written to them is safe afterwards.

        Raises:
            OSError: something could not be written.
        """
        one_by_one = len(paths) < 2 or self._all_at_once is None
        if self._all_at_once is not None and not one_by_one:
            began = time.monotonic()
            self._all_at_once(self._folder)
            if time.monotonic() - began > _SLOW:
                self._all_at_once = None
        for path in paths:
            _settle(path, flush=one_by_one)


def _settle(path: str, *, flush: bool) -> None:
    """Flush a file if that is not done yet, and tell the system that it need not stay in memory.

    There are more of them than memory has room for, and on a virtual machine it takes longer to get new
    memory from the host than to write a file.
    """
    if not (flush or hasattr(os, "posix_fadvise")):
        return
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        if flush:
            os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):  # a system or file system that takes no advice
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def flushed(
    made: Iterable[_Made], paths: Callable[[_Made], Sequence[str]], folder: Path
) -> Generator[list[_Made], None, None]:
    """Return groups in their order, those together that are safe on disk together.

    What is safe is returned before an error that ended ``made`` is raised.

    Args:
        made: the groups, whose files are complete and closed.
        paths: tells a group's files.
        folder: where they are, or below it.

    Raises:
        EspAtError: what ``made`` raises; or something could not be written.
    """
    source = iter(made)
    under_way: list[_Made] = []
    waiting: list[_Made] = []
    failure: EspAtError | None = None
    with contextlib.closing(Flusher(folder)) as flusher:

        def turn() -> list[_Made]:
            """Return what was under way, and begin with what waits."""
            nonlocal under_way, waiting
            flusher.finish()
            safe, under_way, waiting = under_way, waiting, []
            flusher.start([path for each in under_way for path in paths(each)])
            return safe

        while failure is None:
            try:
                waiting.append(next(source))
            except StopIteration:
                break
            except EspAtError as error:
                failure = error
                break
            if (not flusher.busy or len(waiting) >= _MOST_WAITING) and (safe := turn()):
                yield safe
        while under_way or waiting:
            if safe := turn():
                yield safe
        flusher.finish()
    if failure is not None:
        raise failure


def begun(start: Callable[[], _Begun]) -> _Begun:
    """Return what starts a thread.

    Raises:
        InputError: the system allows no more of them.
    """
    try:
        return start()
    except RuntimeError as error:
        raise unstartable(error) from error


def unstartable(error: Exception) -> InputError:
    """Return what to tell of a system that allows no more processes or threads."""
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(
        f"the system allows no more processes or threads: {reason}",
        "go on with --resume and fewer processes (-j), or raise the limit (ulimit -u)",
    )


def unwritable(error: OSError, work: Path) -> InputError:
    """Return what to tell of a disk that takes no more.

    Args:
        error: what the system said.
        work: the folder for outputs that do not stand in their places yet.
    """
    reason = error.strerror or str(error)
    folder = work.parent.parent if is_work(work.parent.name) else work
    return InputError(
        f"{folder}: an output cannot be written: {reason}", "mend that, then go on with --resume"
    )


def _file_system(descriptor: int) -> int:
    """Return the number of the kind of file system that something is on, 0 where that cannot be told."""
    import ctypes

    answer = (ctypes.c_long * 64)()  # more than a statfs has, which begins with that number
    try:
        failed = ctypes.CDLL(None).fstatfs(descriptor, answer)
    except (OSError, AttributeError):
        return 0
    return 0 if failed else answer[0] & 0xFFFF_FFFF


def _syncfs() -> Callable[[int], None] | None:
    """Return what flushes a file system, where the system has that and it can be trusted."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release) if hasattr(os, "uname") else None
    if release is None or os.uname().sysname != "Linux" or (int(release[1]), int(release[2])) < _TELLS_ERRORS:
        return None
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        call = library.syncfs

        def flush(descriptor: int) -> None:
            if call(descriptor):
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error))

        return flush
    return None

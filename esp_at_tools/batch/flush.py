"""Flushing many new files to disk at once.

To flush them one after the other makes a journalling file system commit its journal for each; to flush
the file system takes one commit for all of them, and a third of the time.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Sequence

_SLOW = 5.0
"""Seconds after which somebody else must have written a lot, for which there is no need to wait again."""
_TELLS_ERRORS = (5, 8)
"""The first Linux whose ``syncfs`` tells that something could not be written."""


class Flusher:
    """Flushes groups of files, in the way that suits the system."""

    def __init__(self) -> None:
        """Find out what there is."""
        self._all_at_once = _syncfs()

    def flush(self, descriptors: Sequence[int]) -> None:
        """Flush files of one file system to disk; all that was written to them is safe afterwards.

        Raises:
            OSError: something could not be written.
        """
        if len(descriptors) > 1 and self._all_at_once is not None:
            began = time.monotonic()
            self._all_at_once(descriptors[0])
            if time.monotonic() - began > _SLOW:
                self._all_at_once = None
            return
        for descriptor in descriptors:
            os.fsync(descriptor)


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

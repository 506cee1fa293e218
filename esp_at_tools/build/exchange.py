"""Two folders change places: in one system call on Linux and macOS, elsewhere in two renames.

Source: ``renameat2(2)`` with ``RENAME_EXCHANGE`` of Linux (``include/uapi/linux/fs.h``), and
``renamex_np(2)`` with ``RENAME_SWAP`` of macOS (``sys/stdio.h``).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path

from esp_at_tools import files

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux
_RENAME_SWAP = 2  # macOS
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
"""What the system or a file system without this operation answers."""


def put_in_place(staged: Path, target: Path) -> None:
    """Let a complete folder take the place of another, which is removed; or of nothing.

    Args:
        staged: the complete folder, beside ``target``.
        target: where it shall stand; a folder, or nothing.

    Raises:
        OSError: it cannot be; ``target`` is as it was.
    """
    if not target.is_dir():
        staged.rename(target)
    elif _exchanged(staged, target):
        files.sync_folder(target.parent)
        shutil.rmtree(staged, ignore_errors=True)
    else:
        _replace(staged, target)
    files.sync_folder(target.parent)


def _exchanged(first: Path, second: Path) -> bool:
    """Exchange two folders in one step, and tell whether the system can do that.

    Raises:
        OSError: it can, but not with these.
    """
    call = _CALLS.get(sys.platform)
    number = call(os.fsencode(first), os.fsencode(second)) if call else errno.ENOSYS
    if number in _UNSUPPORTED:
        return False
    if number:
        raise OSError(number, os.strerror(number), str(second))
    return True


def _linux(first: bytes, second: bytes) -> int:
    """Return 0, or the number of the error."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):  # a C library older than 2018
        return errno.ENOSYS
    failed = library.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, ctypes.c_uint(_RENAME_EXCHANGE))
    return ctypes.get_errno() if failed else 0


def _macos(first: bytes, second: bytes) -> int:
    """Return 0, or the number of the error."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renamex_np"):
        return errno.ENOSYS
    failed = library.renamex_np(first, second, ctypes.c_uint(_RENAME_SWAP))
    return ctypes.get_errno() if failed else 0


_CALLS = {"linux": _linux, "darwin": _macos}


def _aside(target: Path) -> Path:
    """Return where a folder stands while another takes its place; always the same, so that it is found."""
    import hashlib

    mark = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]
    return target.parent / f".{target.name[:50]}.{mark}.tmp"


def _replace(staged: Path, target: Path) -> None:
    aside = _aside(target)
    shutil.rmtree(aside, ignore_errors=True)
    target.rename(aside)
    try:
        staged.rename(target)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def recover(target: Path) -> None:
    """Complete a replacement in two renames that was interrupted between them: the old folder comes back."""
    aside = _aside(target)
    if aside.is_dir() and not os.path.lexists(target):
        aside.rename(target)
        files.sync_folder(target.parent)

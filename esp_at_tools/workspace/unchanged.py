"""Files that come back as they were when what is done to them fails.

git writes the files of a patch one after the other, each over the one that was there. Where the disk fills up
meanwhile, some are changed, one is cut off, and what the user had changed in it would be lost.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from esp_at_tools.errors import InputError
from esp_at_tools.files import temporary_beside


@contextlib.contextmanager
def unchanged_on_error(paths: Iterable[Path]) -> Iterator[None]:
    """Put files back as they were when the block is left by an error; those that were not there go again.

    They are copied before the block begins, each beside itself: coming back is a rename, which takes no room.

    Raises:
        InputError: one cannot be copied; nothing was changed.
    """
    with contextlib.ExitStack() as always, contextlib.ExitStack() as on_error:
        for path in dict.fromkeys(paths):
            if path.is_symlink() or path.is_file():
                copy = temporary_beside(path)
                always.callback(_remove, copy)
                _copy(path, copy)
                on_error.callback(_put_back, copy, path)
            elif not os.path.lexists(path):
                absent = [each for each in path.parents if not os.path.lexists(each)]
                on_error.callback(_remove, path, absent)
        yield
        on_error.pop_all()


def _copy(path: Path, copy: Path) -> None:
    try:
        shutil.copy2(path, copy, follow_symlinks=False)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"{path}: no copy of it can be made, without which it is not changed: {reason}",
            "make room on that disk, or its folder writable; nothing was changed",
        ) from error


def _put_back(copy: Path, path: Path) -> None:
    with contextlib.suppress(OSError):  # the others come back all the same
        copy.replace(path)


def _remove(path: Path, folders: Iterable[Path] = ()) -> None:
    """Remove a file, and folders that are empty then, the innermost first."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        for folder in folders:
            folder.rmdir()

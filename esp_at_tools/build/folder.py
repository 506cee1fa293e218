"""Writing a build folder: whole and in one step, so that an interrupted build leaves the one before it.

A complete folder is made beside the old one, flushed to disk, and the two change places in one system
call where there is one (:mod:`esp_at_tools.build.exchange`). Files in the old folder that no build of ours
has made come along; those of an earlier build that this one does not make are gone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from esp_at_tools import files as outputs
from esp_at_tools.build.artefacts import (
    DOWNLOAD_CONFIG,
    FACTORY,
    FIXED_NAMES,
    FLASHER_ARGS,
    MODULE_INFO,
    BuiltFile,
)
from esp_at_tools.build.exchange import put_in_place, recover
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.formats.flash_args import FlashArgs, check_path

_CMAKE = "CMakeCache.txt"
_MARKS = (MODULE_INFO, FLASHER_ARGS)
_MAX_TEXT = 1 << 20


def check_build_folder(path: Path) -> Path:
    """Return the real path of a build folder that may be written: a new, an empty or an earlier one.

    A symbolic link is followed, so that the link stays and the folder that it leads to is replaced.

    Raises:
        InputError: its parent is missing; it is a file, the current folder, another program's build tree,
            or a folder that holds something else.
    """
    try:
        target = Path(os.path.realpath(path))
        recover(target)
        if not target.parent.is_dir():
            raise InputError(f"{path}: its folder does not exist", f"create {path.parent} first")
        if not os.path.lexists(target):
            return target
        if not target.is_dir():
            raise InputError(f"{path}: exists already and is not a folder", "give another --output")
        if target == Path.cwd() or target in Path.cwd().parents:
            raise InputError(f"{path}: is the current folder or holds it", "give a folder in it")
        _check_contents(path, {entry.name for entry in target.iterdir()})
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be written: {reason}", "give another --output") from error
    return target


def _check_contents(path: Path, names: set[str]) -> None:
    if _CMAKE in names:
        raise InputError(
            f"{path}: is the build tree of a compiler ({_CMAKE} is in it)",
            "give another --output, so that both stay usable",
        )
    if names and not any(mark in names for mark in _MARKS):
        raise InputError(
            f"{path}: is not empty and no build folder: it has neither {' nor '.join(_MARKS)}",
            "give a new folder, or an earlier build",
        )


def write_build_folder(path: Path, files: Mapping[str, BuiltFile]) -> None:
    """Write a build folder, whole or not at all.

    Args:
        path: the folder; see :func:`check_build_folder`. Its parent must exist.
        files: what is in it, by relative path with ``/`` between its parts.

    Raises:
        InputError: it cannot be written there; what stood there is unchanged.
    """
    target = check_build_folder(path)
    names = [check_path(name) for name in files]
    staged = outputs.temporary_beside(target)
    try:
        with _removed_on_error(staged):
            staged.mkdir(mode=_mode(target))
            made = {staged}
            for name in names:
                _write(staged / name, files[name], made)
            if target.is_dir():
                _keep(target, staged, ours(target).union(names), made)
            for folder in sorted(made, key=lambda folder: len(folder.parts), reverse=True):
                outputs.sync_folder(folder)
            put_in_place(staged, target)
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "nothing was changed"
        if error.errno in (errno.EBUSY, errno.EXDEV):
            hint += "; a file system that is mounted there cannot be replaced: give a folder in it"
        raise InputError(f"{path}: cannot be written: {reason}", hint) from error


def _mode(target: Path) -> int:
    return target.stat().st_mode & 0o777 if target.is_dir() else 0o777


@contextlib.contextmanager
def _removed_on_error(staged: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def _write(path: Path, file: BuiltFile, made: set[Path]) -> None:
    _make(path.parent, made)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    mode = outputs.SECRET_MODE if file.private else outputs.PUBLIC_MODE
    with os.fdopen(os.open(path, flags, mode), "wb") as stream:
        stream.write(file.data)
        stream.flush()
        os.fsync(stream.fileno())


def _make(folder: Path, made: set[Path]) -> None:
    """Make a folder and those above it, down from the staged one."""
    if folder not in made:
        _make(folder.parent, made)
        folder.mkdir()
        made.add(folder)


def ours(folder: Path) -> set[str]:
    """Return the names of the files in a build folder that a build has made, as far as it tells."""
    found = set(FIXED_NAMES)
    readers = ((FLASHER_ARGS, FlashArgs.from_json), (DOWNLOAD_CONFIG, FlashArgs.from_download_config))
    for name, read in readers:
        with contextlib.suppress(FormatError):
            listed = read(_text(folder / name)).files.values()
            found.update(listed, (str(PurePosixPath(part).with_suffix(".csv")) for part in listed))
    module = _module(folder)
    if module:
        found.update(f"{FACTORY}/factory_{module}{end}.bin" for end in ("", "_unfilled"))
    return found


def _module(folder: Path) -> str:
    import json

    try:
        info = json.loads(_text(folder / MODULE_INFO))
    except (ValueError, RecursionError):
        return ""
    return str(info.get("module", "")) if isinstance(info, dict) else ""


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(_MAX_TEXT).decode("utf-8", "replace")
    except OSError:
        return ""


def _keep(old: Path, new: Path, own: set[str], made: set[Path], prefix: str = "") -> None:
    """Take along what is in a build folder and not of a build: files linked, links and folders made anew."""
    with os.scandir(old / prefix) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        name = prefix + entry.name
        place = new / name
        if outputs.is_temporary(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            _keep_folder(old, new, own, made, name)
        elif name in own:
            continue
        elif os.path.lexists(place):  # a folder of this build stands where a file was
            raise InputError(f"{old / name}: is in the way of a folder of the build", "move it elsewhere")
        else:
            _make(place.parent, made)
            _link(Path(entry.path), place)


def _keep_folder(old: Path, new: Path, own: set[str], made: set[Path], name: str) -> None:
    place = new / name
    if os.path.lexists(place) and not place.is_dir():
        raise InputError(f"{old / name}: is in the way of a file of the build", "move it elsewhere")
    held = {part for part in own if part.startswith(f"{name}/")}
    if not held:  # an empty folder of the user's; one of ours that has become empty goes
        _make(place, made)
    _keep(old, new, own, made, f"{name}/")
    if place in made:
        place.chmod((old / name).stat().st_mode & 0o777 | 0o700)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, which becomes its only one when the old folder goes; else copy it."""
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target, follow_symlinks=False)

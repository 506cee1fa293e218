"""The folder of a batch: its outputs, its manifests, and what tells that a run goes on with the same.

``batch.json`` holds digests of everything that the outputs are made of. It is the same for all shards,
so that shards made on several machines can be put together in one folder.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from esp_at_tools import files
from esp_at_tools.batch.manifest import MANIFEST, manifest_name, shard_of_name
from esp_at_tools.errors import FormatError, InputError

STATE = "batch.json"
LEDGER = "flash-ledger.jsonl"
"""Name of the file that tells which module got which output, see :mod:`esp_at_tools.batch.ledger`."""
FOLDER_MODE = 0o700
_SCHEMA = 1
_MAX_STATE = 1 << 16
_WORK = re.compile(r"\.manifest[-a-z0-9]*\.work\Z")


@dataclass(frozen=True)
class State:
    """What the outputs of a batch depend on.

    Attributes:
        input: SHA-256 of the firmware.
        devices: SHA-256 of the list.
        profile: SHA-256 of the profile and the files that it names for all devices, blank for none.
        options: what else changes the outputs.
        rows: how many devices the list has.
        emit: what is written for each.
        unique_certificates: whether a repeated certificate is refused.
        shards: into how many parts the list is divided, 1 for none.
    """

    input: str
    devices: str
    profile: str
    options: str
    rows: int
    emit: str
    unique_certificates: bool
    shards: int

    def to_bytes(self) -> bytes:
        """Return the file."""
        return (json.dumps({"schema": _SCHEMA, **asdict(self)}, indent=2) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> State:
        """Read the file.

        Raises:
            FormatError: it is something else.
        """
        kinds = {"str": str, "int": int, "bool": bool}
        try:
            found: Any = json.loads(data)
            values = {field.name: found[field.name] for field in fields(cls)}
            sound = found["schema"] == _SCHEMA and all(
                type(values[field.name]) is kinds[str(field.type)] for field in fields(cls)
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            sound = False
        if not sound:
            raise FormatError(
                f"{name}: is not what 'batch' has written", "restore it from a copy, or begin anew"
            )
        return cls(**values)

    def is_corrected(self, other: State) -> bool:
        """Tell whether ``other`` differs in nothing but its list of devices."""
        return self != other and replace(self, devices=other.devices, rows=other.rows) == other

    def differences(self, other: State) -> list[str]:
        """Return what differs in ``other``, for people."""
        return [_NAMES[name] for name, value in asdict(self).items() if value != asdict(other)[name]]


_NAMES = {
    "input": "--input",
    "devices": "--devices",
    "profile": "--profile or a file that it names",
    "options": "an option that changes the outputs",
    "rows": "--devices",
    "emit": "--emit",
    "unique_certificates": "--unique-certificates",
    "shards": "the number of shards",
}


def read_state(folder: Path) -> State | None:
    """Return what a folder's outputs were made of, None where it does not tell.

    Raises:
        InputError: the file cannot be read.
        FormatError: it is damaged.
    """
    path = folder / STATE
    if not path.exists():
        return None
    return State.from_bytes(files.read_file(path, "state of a batch", _MAX_STATE), str(path))


def prepare(folder: Path, state: State, shard: tuple[int, int] | None, *, resume: bool) -> list[str]:
    """Make a folder ready for a run, or find that it goes on with what is there.

    Args:
        folder: the folder; it is made if it does not exist.
        state: what this run's outputs are made of.
        shard: which part this run makes, None for all.
        resume: whether an interrupted run may be there.

    Returns:
        Warnings.

    Raises:
        InputError: it holds something else, or this batch and ``resume`` is not given, or another batch:
            with ``resume``, the list alone may differ.
    """
    if not os.path.lexists(folder):
        if not folder.absolute().parent.is_dir():
            raise InputError(f"{folder}: its folder does not exist", f"create {folder.parent} first")
        try:
            folder.mkdir(mode=FOLDER_MODE)
        except FileExistsError:  # another shard was quicker
            pass
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"{folder}: cannot be made: {reason}", "give another folder") from error
    if not folder.is_dir():
        raise InputError(f"{folder}: exists already and is not a folder", "give the path of a new folder")
    found = read_state(folder)
    if found is None:
        _check_empty(folder)
        found = read_state(folder)  # another shard may have been quicker
    if found is None:
        files.write_file(folder / STATE, state.to_bytes(), private=True)
        found = read_state(folder) or state
    if found != state:
        corrected = found.is_corrected(state)
        if not (corrected and resume):
            other = ", ".join(dict.fromkeys(found.differences(state)))
            hint = "give what it was begun with, or a new folder"
            raise InputError(
                f"{folder}: holds a batch that was made with something else: {other}",
                f"{hint}; --resume accepts a list whose failed rows were corrected" if corrected else hint,
            )
    path = folder / manifest_name(shard)
    if path.exists() and not resume:
        raise InputError(f"{path}: exists already", "--resume goes on with it; or give a new folder")
    return _open_to_others(folder)


def note_list(folder: Path, state: State) -> None:
    """Note that the outputs go on with a corrected list; see :meth:`State.is_corrected`.

    Raises:
        InputError: that cannot be written.
    """
    if read_state(folder) != state:
        files.write_file(folder / STATE, state.to_bytes(), private=True)


def _check_empty(folder: Path) -> None:
    """Refuse a folder that holds anything but what a run may have left that was killed at its very start."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not _may_be_left(entry.name)]
    if names:
        raise InputError(
            f"{folder}: holds {min(names)}, which is no batch's", "give a new or an empty folder"
        )


def _may_be_left(name: str) -> bool:
    return is_work(name) or files.is_temporary(name) or name == STATE


def _open_to_others(folder: Path) -> list[str]:
    if os.name == "posix" and folder.stat().st_mode & 0o077:
        return [f"{folder}: others may look into it (its files are for their owner only): chmod 700 {folder}"]
    return []


def manifests(folder: Path) -> list[Path]:
    """Return the manifests in a folder, by shard."""
    found = [(shard_of_name(path.name), path) for path in folder.glob("manifest*.csv")]
    return [path for _, path in sorted((shard, path) for shard, path in found if shard is not None)]


def is_own(name: str) -> bool:
    """Tell whether a file is the batch's own and no output."""
    return name in (STATE, MANIFEST, LEDGER) or shard_of_name(name) is not None


def is_work(name: str) -> bool:
    """Tell whether a folder is one for outputs that do not stand in their places yet."""
    return _WORK.match(name) is not None


@contextlib.contextmanager
def work_folder(folder: Path, shard: tuple[int, int] | None) -> Iterator[Path]:
    """Make the folder for outputs under way, for one run at a time; it is gone at the end.

    What a killed run has left in it is removed.

    Raises:
        InputError: another run is at work on the same manifest, or it cannot be made.
    """
    base = folder / f".{manifest_name(shard).removesuffix('.csv')}.work"
    try:
        base.mkdir(mode=FOLDER_MODE, exist_ok=True)
        lock = _locked(base)
        try:
            for left in base.iterdir():
                shutil.rmtree(left, ignore_errors=True)
            work = base / os.urandom(6).hex()
            work.mkdir(mode=FOLDER_MODE)
            yield work
        finally:
            shutil.rmtree(base, ignore_errors=True)
            if lock is not None:
                _LOCKS.discard(lock)
                os.close(lock)
    except OSError as error:
        reason = error.strerror or str(error)
        place = error.filename2 or error.filename  # the output, if it could not take its place
        if place is None or base.name in str(place):
            place = folder  # nobody knows ours
        raise InputError(
            f"{place}: cannot be written: {reason}", "mend that, then go on with --resume"
        ) from error


def _locked(base: Path) -> int | None:
    """Lock a folder until its descriptor is closed, where the system can do that."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    descriptor = os.open(base, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = _is_still(base, descriptor)
    except OSError as error:
        # Other errors are those of a file system without locks.
        ours = error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    if not ours:
        os.close(descriptor)
        raise InputError(
            f"{base.parent}: another run is at work on it", "wait for it, or give each shard its own number"
        )
    _LOCKS.add(descriptor)
    return descriptor


def _is_still(path: Path, descriptor: int) -> bool:
    """Tell whether a folder is the one that was opened: a run that ends removes its own."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


_LOCKS: set[int] = set()
"""Locks that this process holds. A forked one would hold them after this one was killed."""


def _drop_locks() -> None:
    for descriptor in _LOCKS:
        os.close(descriptor)
    _LOCKS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_locks)

"""Proving a batch: that its files are those that its manifests name, and that no device is there twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from esp_at_tools import files
from esp_at_tools.batch import folder as folders
from esp_at_tools.batch.digests import DigestTable
from esp_at_tools.batch.ids import id_digest, mac_digest
from esp_at_tools.batch.ledger import given, read_lines
from esp_at_tools.batch.manifest import Entry, manifest_name, read_manifest, shard_of_name
from esp_at_tools.errors import FormatError, InputError

MAX_PROBLEMS = 1000
"""Problems that are told one by one."""
_PIECE = 1 << 20
_RESTORE = "restore the manifest from a copy"
_RESUME = "go on with --resume"
_AGAIN = "delete it and go on with --resume, which makes it again"
_MAX_LEDGER = 1 << 30


@dataclass(frozen=True)
class Problem:
    """Something that is not as the manifests say.

    Attributes:
        id: which check found it; stable.
        message: what is wrong, with the file or device.
    """

    id: str
    message: str


@dataclass
class Proof:
    """What was found.

    Attributes:
        manifests: those that were read.
        devices: how many of their devices have outputs.
        failed: how many have none.
        files: how many files were compared.
        written: how many outputs were written to modules, as the ledgers say; None without any.
        missing_shards: shards whose manifests were not given, each with how many there are.
        problems: the first of them.
        problem_count: how many there are.
    """

    manifests: list[Path] = field(default_factory=list)
    devices: int = 0
    failed: int = 0
    files: int = 0
    written: int | None = None
    missing_shards: list[tuple[int, int]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be."""
        return not self.problem_count

    def add(self, kind: str, message: str) -> None:
        """Note a problem."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(kind, message))


Watch = Callable[[int], None]
"""Takes how many devices were looked at."""


def verify(
    paths: Iterable[Path],
    *,
    unique_certificates: bool = False,
    allow_failed: bool = False,
    watch: Watch = lambda _count: None,
) -> Proof:
    """Compare folders with their manifests, and all devices of all manifests with each other.

    Args:
        paths: manifests, or folders, which stand for all manifests in them.
        unique_certificates: a certificate of two devices is a problem even where the batch allowed it.
        allow_failed: a device that failed when the batch was made, and so has no output, is no problem.
        watch: told how far it is, every now and then.

    Raises:
        InputError: a path is wrong, or a folder holds no manifest.
        FormatError: a manifest is damaged.
    """
    proof = Proof()
    given = _given(paths)
    unique = unique_certificates
    for folder in {path.parent: None for path in given}:
        state = folders.read_state(folder)
        unique |= state is not None and state.unique_certificates
    devices = _Devices(proof, unique=unique, allow_failed=allow_failed)
    for path in given:
        proof.manifests.append(path)
        for _, entry in read_manifest(path):
            devices.take(path, entry)
            if not (proof.devices + proof.failed) % 64:
                watch(proof.devices + proof.failed)
        _check_end(proof, path)
    for folder in {path.parent: None for path in given}:
        _check_folder(proof, folder)
        _read_ledger(proof, folder / folders.LEDGER)
    _check_whole(proof, given)
    return proof


def _given(paths: Iterable[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = folders.manifests(path)
            if not inside:
                raise InputError(
                    f"{path}: holds no manifest", "give the --output of a batch, or its manifest.csv"
                )
            found.update(dict.fromkeys(inside))
        else:
            found[path] = None
    return list(found)


class _Devices:
    """What was seen of devices, to find what is there twice."""

    def __init__(self, proof: Proof, *, unique: bool, allow_failed: bool) -> None:
        self._proof = proof
        self._unique = unique
        self._allow_failed = allow_failed
        self._ids, self._macs, self._certificates = DigestTable(), DigestTable(), DigestTable()
        self._count = 0

    def take(self, path: Path, entry: Entry) -> None:
        """Compare one device with its files and with the others."""
        if not entry.ok:
            self._proof.failed += 1
            if not self._allow_failed:
                message = f"{path}: {entry.id or '(no id)'} has no output: {entry.error}"
                self._proof.add("batch-device-failed", message)
            return
        self._proof.devices += 1
        self._count += 1
        where = f"{path}: row {entry.row}, {entry.id}"
        if self._ids.add(id_digest(entry.id), self._count):
            self._proof.add("batch-repeated-id", f"{where}: another device has this id")
        if entry.mac and self._macs.add(_mac_digest(path, entry), self._count):
            self._proof.add("batch-repeated-mac", f"{where}: another device has its MAC address {entry.mac}")
        for fingerprint in entry.certificate_sha256.split() if self._unique else ():
            if self._certificates.add(_fingerprint_digest(path, entry, fingerprint), self._count):
                message = f"{where}: another device has its certificate {fingerprint[:16]}…"
                self._proof.add("batch-repeated-certificate", message)
        for name, digest in entry.outputs:
            self._compare(path, name, digest, where)

    def _compare(self, path: Path, name: str, digest: str, where: str) -> None:
        if not _is_inside(name):
            self._proof.add("batch-file-outside", f"{where}: its file {name!r} lies outside of the folder")
            return
        self._proof.files += 1
        try:
            found = _sha256(path.parent / name)
        except FileNotFoundError:
            self._proof.add("batch-file-missing", f"{where}: {name} is missing")
        except OSError as error:
            reason = error.strerror or str(error)
            self._proof.add("batch-file-unreadable", f"{where}: {name} cannot be read: {reason}")
        else:
            if found != digest:
                self._proof.add("batch-file-differs", f"{where}: {name} has another SHA-256; {_AGAIN}")


def _mac_digest(path: Path, entry: Entry) -> bytes:
    try:
        return mac_digest(entry.mac)
    except ValueError:
        raise FormatError(f"{path}: row {entry.row}: {entry.mac!r} is not a MAC address", _RESTORE) from None


def _fingerprint_digest(path: Path, entry: Entry, fingerprint: str) -> bytes:
    try:
        return bytes.fromhex(fingerprint[:32]).ljust(16, b"\1")
    except ValueError:
        raise FormatError(f"{path}: row {entry.row}: {fingerprint!r} is no fingerprint", _RESTORE) from None


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return not Path(name).is_absolute() and ".." not in parts and "\\" not in name and "\0" not in name


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _check_end(proof: Proof, path: Path) -> None:
    """Find a last line that was cut off."""
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        if stream.read(1) != b"\n":
            proof.add("batch-incomplete", f"{path}: its last line is cut off; {_RESUME}")


def _check_folder(proof: Proof, folder: Path) -> None:
    """Find what no manifest of a folder names."""
    named = DigestTable()
    for path in folders.manifests(folder):
        for _, entry in read_manifest(path):
            for name, _ in entry.outputs:
                named.add(_name_digest(name), 1)
    for name, is_folder in _found(folder, ""):
        if is_folder and folders.is_work(name):
            message = (
                f"{folder / name}: an interrupted run has left it, or one is at work; go on with --resume"
            )
            proof.add("batch-incomplete", message)
        elif not named.get(_name_digest(name)):
            proof.add("batch-file-extra", f"{folder / name}: no manifest names it")


def _read_ledger(proof: Proof, path: Path) -> None:
    """Count the outputs that were written to modules."""
    if not path.exists():
        return
    try:
        lines = given(read_lines(path, files.read_file(path, "ledger", _MAX_LEDGER)))
    except FormatError as error:
        proof.add("batch-ledger-damaged", f"{error.message}; {error.hint}")
        return
    proof.written = (proof.written or 0) + sum(line.state == "done" for line in lines.values())


def _name_digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _found(folder: Path, prefix: str) -> Iterator[tuple[str, bool]]:
    """Return everything in a folder but the batch's own files; of the folders of outputs, what is in them."""
    with os.scandir(folder / prefix) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if not prefix and folders.is_own(entry.name):
                continue
            if not prefix and entry.name in ("image", "mfg_nvs") and entry.is_dir(follow_symlinks=False):
                yield from _found(folder, f"{name}/")
            else:
                yield name, entry.is_dir(follow_symlinks=False)


def _check_whole(proof: Proof, given: list[Path]) -> None:
    """Find shards that are missing, differ in what they were made of, or are not complete."""
    states = {path: folders.read_state(path.parent) for path in given}
    known = [state for state in states.values() if state is not None]
    if len(known) < len(states):
        without = next(path for path, state in states.items() if state is None)
        proof.add(
            "batch-no-state",
            f"{without.parent / folders.STATE}: is missing, so it cannot be told what is complete",
        )
        return
    if any(state != known[0] for state in known):
        proof.add("batch-differs", "the manifests are of different batches: their batch.json differ")
        return
    count = known[0].shards
    shards = [shard_of_name(path.name) for path in given]
    for number in range(1, count + 1):
        times = shards.count((number, count))
        if not times:
            proof.missing_shards.append((number, count))
        if times != 1:
            name = manifest_name((number, count) if count > 1 else None)
            proof.add(
                "batch-incomplete", f"{name}: {'is missing' if not times else 'was given more than once'}"
            )
    missing = known[0].rows - proof.devices - proof.failed
    if missing > 0 and len(shards) == count:
        proof.add(
            "batch-incomplete",
            f"{missing} of {known[0].rows} devices {'has' if missing == 1 else 'have'} no line; {_RESUME}",
        )

"""A batch from beginning to end: rows in, files and manifest out, whatever interrupts it.

The order that makes an interruption harmless: outputs are complete on disk under temporary names, then
they take their places, then the manifest names them. So every line of the manifest is true at any
moment, and the lines are a beginning of the list, where ``--resume`` goes on.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from esp_at_tools import files
from esp_at_tools.batch import folder as folders
from esp_at_tools.batch.devices import ID, MAC, BadRow, Row, row_digest
from esp_at_tools.batch.digests import DigestTable
from esp_at_tools.batch.flush import flushed
from esp_at_tools.batch.ids import check_id, check_mac, id_digest, mac_digest, shard_of, shown
from esp_at_tools.batch.job import Emit, Job, output_name
from esp_at_tools.batch.log import ManifestLog
from esp_at_tools.batch.manifest import Entry, encode, header, manifest_name, printable, told, told_warnings
from esp_at_tools.batch.own_files import OwnFiles
from esp_at_tools.batch.plan import Options, Plan
from esp_at_tools.batch.worker import Result, results_in_turn
from esp_at_tools.errors import EspAtError, InputError

__all__ = ["Failure", "Options", "Progress", "Summary", "run_batch"]

MAX_FAILURES = 1000
"""Failures that are told one by one; the manifest has all."""
MAX_WARNINGS = 1000
"""Warnings of devices that are told one by one; the manifest has all."""

_GROUP_ROWS = 64
_MIN_GROUPS = 8
"""Below that, starting processes takes longer than doing it."""
_GROUP_LINES = 8 * _GROUP_ROWS
_GROUP_BYTES = 32 << 20
"""What is flushed to disk together: at most so many devices, and so many bytes of outputs."""


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        rows: devices in the list.
        row: number of the row up to which everything is done.
        first: number of the row before which an earlier run had done everything.
        done: devices whose outputs were written.
        kept: devices whose outputs an earlier run has written.
        failed: devices that failed.
        seconds: since this run began with the devices.
    """

    rows: int
    row: int = 0
    first: int = 0
    done: int = 0
    kept: int = 0
    failed: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Devices per second."""
        return (self.done + self.failed) / self.seconds if self.seconds > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds until the end, as it looks; None while that cannot be told."""
        passed = self.row - self.first
        return self.seconds * (self.rows - self.row) / passed if passed > 0 else None


@dataclass(frozen=True)
class Failure:
    """A device that failed."""

    id: str
    row: int
    error: str


@dataclass(frozen=True)
class Warned:
    """A device with warnings."""

    id: str
    row: int
    warnings: tuple[str, ...]


@dataclass
class Summary:
    """What a run did.

    Attributes:
        manifest: where it is told row by row.
        emit: what was written for each device.
        progress: the numbers.
        failures: the first of them.
        warnings: of what all devices share.
        warned: how many devices have warnings.
        device_warnings: the first of them.
    """

    manifest: Path
    emit: Emit
    progress: Progress
    failures: list[Failure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    warned: int = 0
    device_warnings: list[Warned] = field(default_factory=list)


Watch = Callable[[Progress], None]


def run_batch(options: Options, watch: Watch = lambda _progress: None) -> Summary:
    """Make the outputs of a list of devices, or of one shard of it, or go on with that.

    With several processes, a script must call this below ``if __name__ == "__main__":``, as
    :mod:`multiprocessing` says: unless they can be forked, they import it.

    Args:
        options: what to do.
        watch: told how far it is, every now and then.

    Raises:
        InputError: the firmware, the profile, the list as a whole or the folder is wrong. A row that is
            wrong is no error here; it fails alone and stands in the manifest and in the summary.
    """
    plan = Plan.of(options)
    told_before = folders.prepare(options.output, plan.state, options.shard, resume=options.resume)
    with folders.work_folder(options.output, options.shard) as work:
        run = _Run(options, plan, work, watch)
        run.check_list()
        folders.note_list(options.output, plan.state)
        run.summary.warnings += [*plan.warnings, *told_before]
        run.all()
    return run.summary


@dataclass
class _Group:
    """Devices that are flushed to disk together.

    Attributes:
        rows: those that must be made.
        devices: all, as their lines are known before.
        made: which of them must be made.
        last: number of the last row that is in it, or was passed over before it.
    """

    rows: list[Row] = field(default_factory=list)
    devices: list[Entry] = field(default_factory=list)
    made: list[bool] = field(default_factory=list)
    last: int = 0

    def add(self, device: Entry, row: Row | None = None) -> None:
        """Add a device, with its row if it must be made."""
        self.devices.append(device)
        self.made.append(row is not None)
        if row is not None:
            self.rows.append(row)


def _cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Run:
    """A run under way."""

    def __init__(self, options: Options, plan: Plan, work: Path, watch: Watch) -> None:
        self._options = options
        self._plan = plan
        self._work = work
        self._watch = watch
        self._folder = options.output
        self._kinds = plan.kinds
        self._ids, self._macs = self._nobody()
        self._certificates = DigestTable()
        self._began = time.monotonic()
        path = self._folder / manifest_name(options.shard)
        self.summary = Summary(path, plan.emit, Progress(plan.devices.rows))
        self._log = ManifestLog(path, header(self._kinds), parted=options.shard is not None)
        self._log.survey(self._note_certificates)

    def check_list(self) -> None:
        """Compare a list that may have been corrected, and its files, with the manifest.

        Nothing has been written then.

        Raises:
            InputError: something else differs than rows that failed, or were not made yet; or a file is
                another than when the output of its row was made.
        """
        state = folders.read_state(self._folder)
        is_same = state == self._plan.state and self._options.shard is None
        if is_same and not self._log.has_files:
            return
        if not is_same:
            self._log.check_length(self._plan.devices.rows)
        own = OwnFiles(self._options.devices.absolute().parent, self._plan.template)
        for row in self._plan.devices:
            if not self._log.is_ahead(row.number):
                break
            entry, error, mine = self._judged(row)
            old = self._kept(entry, error) if mine else None
            if old is not None and old.files_digest and isinstance(row, Row):
                self._check_files(old, row, own)
        self._log.rewind()
        self._ids, self._macs = self._nobody()

    def _check_files(self, old: Entry, row: Row, own: OwnFiles) -> None:
        """Refuse files that are others than those that an output was made of.

        A file that is gone is no reason: keys need not stay on disk once their outputs are made.
        """
        try:
            why = "" if own.digest(row.values) == old.files_digest else "has changed since"
        except FileNotFoundError:
            return
        except OSError as error:
            why = f"cannot be read any more: {error.strerror}"
        except ValueError:
            why = "has changed since"
        if not why:
            return
        names = [
            os.path.relpath(path, self._options.devices.absolute().parent)
            for path in own.paths(row.values).values()
        ]
        which = names[0] if len(names) == 1 else f"one of its files ({', '.join(names)})"
        raise InputError(
            f"{self.summary.manifest}: row {old.row}, {old.id}: has its output, and {which} {why}",
            "delete its output to have it made again, or restore the file",
        )

    def _nobody(self) -> tuple[DigestTable, DigestTable]:
        """Return tables of ids and MAC addresses with room for those of the list."""
        devices, shard = self._plan.devices, self._options.shard
        ids = devices.rows // (shard[1] if shard else 1)
        return DigestTable(ids), DigestTable(devices.rows if MAC in devices.columns else 0)

    def all(self) -> None:
        """Make all devices."""
        if len(self._kinds) > 1:
            for kind in self._kinds:
                (self._folder / kind).mkdir(mode=folders.FOLDER_MODE, exist_ok=True)
        options = self._options
        job = Job(
            options.input.absolute(), options.devices.absolute().parent, self._work.absolute(),
            datetime.now(timezone.utc), self._kinds, options.profile and options.profile.absolute(),
            options.force, options.chip, options.partition_table_offset, options.parameter_offset,
        )  # fmt: skip
        with self._log.opened(self._work):
            self._began = time.monotonic()
            with (
                contextlib.closing(results_in_turn(job, self._groups(), self._processes())) as made,
                contextlib.closing(flushed(made, self._staged, self._work)) as safe,
            ):
                for groups in safe:
                    self._commit(groups)

    def _processes(self) -> int:
        """Return how many processes work; unless told to, none is started for a few devices."""
        groups = -(-self._plan.devices.rows // self._group_rows())
        wanted = self._options.processes or (1 if groups < _MIN_GROUPS else _cpus())
        return max(1, min(wanted, groups))

    def _group_rows(self) -> int:
        return max(1, min(_GROUP_ROWS, _GROUP_BYTES // max(self._plan.output_size, 1)))

    def _note_certificates(self, entry: Entry) -> None:
        if self._options.unique_certificates:
            for fingerprint in entry.certificate_sha256.split():
                self._certificates.add(bytes.fromhex(fingerprint[:32]), int(entry.row))

    # --- rows in -------------------------------------------------------------------------------

    def _groups(self) -> Iterator[_Group]:
        """Return the devices of this shard that have no line yet, or must be made again."""
        group, most = _Group(), self._group_rows()
        for row in self._plan.devices:
            entry, error, mine = self._judged(row)
            group.last = row.number
            if not mine:
                continue
            old = self._kept(entry, error)
            if old is not None:
                self.summary.progress.kept += 1
                if self._log.aside:
                    group.add(old)
            elif error is not None:
                message = told(error, row.number, row.line)
                group.add(entry._replace(status="failed", error=message, row_digest=""))
            elif isinstance(row, Row):
                group.add(entry, row)
            if not group.devices:
                self.summary.progress.first = row.number
            if len(group.rows) >= most or len(group.devices) >= _GROUP_LINES:
                yield group
                group = _Group(last=row.number)
        yield group

    def _kept(self, entry: Entry, error: EspAtError | None) -> Entry | None:
        """Return an earlier run's line of a device if it stays."""
        old = self._log.next(entry)
        if old is not None and error is not None:
            where = f"{self._options.devices}: row {entry.row}, {old.id}"
            raise InputError(f"{where}: has its output already: {error.message}", "correct the other row")
        return old

    def _judged(self, row: Row | BadRow) -> tuple[Entry, EspAtError | None, bool]:
        """Return a row's line as far as it is known, what stands against it, and whether it is ours."""
        if isinstance(row, BadRow):
            entry = Entry(row.id, "", "", "failed", "", str(row.number))
            return entry, row.error, self._is_mine(row.key)
        identifier = row.values.get(ID, "")
        digest = id_digest(identifier)
        mine = self._is_mine(digest)
        error = self._id_error(identifier, digest, row.number if mine else 0)
        mac = ""
        try:
            mac = check_mac(row.values[MAC]) if row.values.get(MAC) else ""
            before = self._macs.add(mac_digest(mac), row.number) if mac else 0
            if before:
                error = error or InputError(
                    f"the MAC address {mac} was already in row {before}", "every device has its own"
                )
        except InputError as found:
            error = error or found
        name = identifier if error is None else "" if "-----" in identifier else printable(identifier)
        line = Entry(name, "", "", "", "", str(row.number), mac, row_digest=row_digest(row.values))
        return line, error, mine

    def _id_error(self, identifier: str, digest: bytes, number: int) -> EspAtError | None:
        """Return what is wrong with an id; it is noted under a number, if that is not 0."""
        try:
            check_id(identifier)
        except InputError as error:
            return error
        before = self._ids.add(digest, number) if number else 0
        if not before:
            return None
        return InputError(
            f"the id {shown(identifier)} was already in row {before}",
            "every device has its own; capitals make no difference",
        )

    def _is_mine(self, digest: bytes) -> bool:
        shard = self._options.shard
        return shard is None or shard_of(digest, shard[1]) == shard[0]

    # --- files and lines out -------------------------------------------------------------------

    def _staged(self, made: tuple[_Group, list[Result]]) -> list[str]:
        """Return where a group's outputs are before they take their places."""
        return [f"{self._work}/{output.staged}" for result in made[1] for output in result.outputs]

    def _commit(self, groups: list[tuple[_Group, list[Result]]]) -> None:
        """Give outputs that are safe on disk their names, then tell the manifest."""
        lines = []
        for group, results in groups:
            made = iter(results)
            for device, is_made in zip(group.devices, group.made, strict=True):
                entry = self._placed(device, next(made)) if is_made else device
                self.summary.progress.done += is_made and entry.ok
                if not entry.ok:
                    self._note_failure(entry)
                lines.append(encode(entry, self._kinds))
        if any(results for _, results in groups):
            self._sync_folders()
        last = groups[-1][0].last
        self._log.append(b"".join(lines), last)
        progress = self.summary.progress
        progress.row, progress.seconds = last, time.monotonic() - self._began
        self._watch(progress)

    def _placed(self, device: Entry, result: Result) -> Entry:
        """Give one device's outputs their names and return its line."""
        if result.warnings:
            self.summary.warned += 1
            if len(self.summary.device_warnings) < MAX_WARNINGS:
                warned = Warned(device.id, int(device.row), result.warnings)
                self.summary.device_warnings.append(warned)
            device = device._replace(warnings=told_warnings(result.warnings))
        error = result.error or self._repeated(device, result)
        if error:
            for output in result.outputs:
                (self._work / output.staged).unlink()
            return device._replace(status="failed", error=error, row_digest="")
        told_files: dict[str, str] = {}
        for output in result.outputs:
            name = output_name(device.id, output.kind, self._kinds)
            os.replace(f"{self._work}/{output.staged}", f"{self._folder}/{name}")  # noqa: PTH105 - quicker
            prefix = "" if output.kind == self._kinds[0] else f"{output.kind}_"
            told_files |= {f"{prefix}file": name, f"{prefix}sha256": output.sha256}
        return device._replace(
            status="ok",
            certificate_sha256=" ".join(result.certificates),
            certificate_not_after=result.not_after,
            files_digest=result.files_digest,
            **told_files,
        )

    def _repeated(self, device: Entry, result: Result) -> str:
        """Return what is wrong if another device has a certificate of this one."""
        if not self._options.unique_certificates:
            return ""
        number = int(device.row)
        digests = [bytes.fromhex(fingerprint[:32]) for fingerprint in result.certificates]
        for digest, (fingerprint, name) in zip(digests, result.certificates.items(), strict=True):
            before = self._certificates.get(digest)
            if before not in (0, number):
                what = f"{name}, its certificate {fingerprint[:16]}…,"
                return f"row {number}: {what} is already that of row {before}"
        for digest in digests:
            self._certificates.add(digest, number)
        return ""

    def _note_failure(self, entry: Entry) -> None:
        self.summary.progress.failed += 1
        if len(self.summary.failures) < MAX_FAILURES:
            self.summary.failures.append(Failure(entry.id, int(entry.row), entry.error))

    def _sync_folders(self) -> None:
        for kind in self._kinds if len(self._kinds) > 1 else ("",):
            files.sync_folder(self._folder / kind)

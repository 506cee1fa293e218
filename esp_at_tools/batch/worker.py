"""Making a group of devices in one process, and several groups in several.

A worker writes outputs to temporary names and hashes them; flushing them to disk, giving them their
names, and telling the manifest, is for the process that began the run.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from esp_at_tools import files
from esp_at_tools.batch.devices import Row
from esp_at_tools.batch.flush import begun, unstartable, unwritable
from esp_at_tools.batch.job import Job, Kind
from esp_at_tools.batch.maker import Chunks, Made, Maker
from esp_at_tools.batch.manifest import told
from esp_at_tools.errors import EspAtError, InputError
from esp_at_tools.interrupts import deaf_to_interrupts

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_AT_ONCE = 2
"""Groups that a process has at hand, so that it does not wait for the next one."""
_AHEAD = 3
"""Groups for each process that may be ready before their turn."""
_END_TIMEOUT = 10.0


@dataclass(frozen=True)
class Output:
    """A file that is complete but neither flushed nor in its place yet.

    Attributes:
        kind: what it is.
        staged: its name in the folder for such files.
        sha256: lower-case hex.
    """

    kind: Kind
    staged: str
    sha256: str


@dataclass(frozen=True)
class Result:
    """What became of one row.

    Attributes:
        error: why it failed, blank where it did not.
        outputs: its files.
        certificates: see :class:`esp_at_tools.batch.maker.Made`, as the last.
        not_after: when the first of them expires, as a manifest has it.
        warnings: what is questionable.
        files_digest: of the contents of its own files.
    """

    error: str = ""
    outputs: tuple[Output, ...] = ()
    certificates: dict[str, str] = field(default_factory=dict)
    not_after: str = ""
    warnings: tuple[str, ...] = ()
    files_digest: str = ""


class Worker:
    """Makes devices.

    Args:
        job: what they have in common.

    Raises:
        InputError: see :class:`esp_at_tools.batch.maker.Maker`; or a folder cannot be made.
    """

    def __init__(self, job: Job) -> None:
        """Open the firmware."""
        self._maker = Maker(job)
        # A folder of its own: two processes that make files in one folder wait for each other.
        self._own = f"{os.getpid()}"
        self._job_work = job.work
        self._work = f"{job.work}{os.sep}{self._own}{os.sep}"
        try:
            Path(self._work).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise unwritable(error, job.work) from error

    def run(self, rows: Iterable[Row]) -> list[Result]:
        """Make a group of devices.

        Raises:
            InputError: an output cannot be written, or there is no memory; that is no row's fault.
        """
        try:
            return [self._one(row) for row in rows]
        except OSError as error:
            raise unwritable(error, self._job_work) from error
        except MemoryError as error:
            hint = "go on with --resume and fewer processes (-j)"
            raise InputError("there is not enough memory", hint) from error

    def _one(self, row: Row) -> Result:
        try:
            made = self._maker.make(row.values, thorough=row.number == 1)
        except EspAtError as error:
            return Result(error=told(error, row.number, row.line))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a bug; it is one row's, and its text may hold secrets
            bug = InputError(f"internal error: {type(error).__name__}", "this is a bug: please report it")
            return Result(error=told(bug, row.number, row.line))
        return self._write(row, made)

    def _write(self, row: Row, made: Made) -> Result:
        outputs = []
        for kind, chunks in made.outputs.items():
            name = f"{row.number}.{kind}"
            digest = _write_all(self._work + name, chunks)
            outputs.append(Output(kind, f"{self._own}{os.sep}{name}", digest))
        end = f"{made.not_after.replace(tzinfo=None).isoformat()}Z" if made.not_after else ""
        return Result("", tuple(outputs), made.certificates, end, made.warnings, made.files_digest)


def _write_all(path: str, chunks: Chunks) -> str:
    """Write a new file and return its SHA-256."""
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, files.SECRET_MODE)
    try:
        for chunk in chunks:
            digest.update(chunk)
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)
    return digest.hexdigest()


# --- groups, in their order -----------------------------------------------------------------------


class Group(Protocol):
    """Something with rows to be made."""

    rows: list[Row]


_Group = TypeVar("_Group", bound=Group)


def results_in_turn(
    job: Job, groups: Iterable[_Group], processes: int
) -> Generator[tuple[_Group, list[Result]], None, None]:
    """Return every group with the results of its rows, in the order of the groups.

    Args:
        job: what all devices have in common.
        groups: taken as they are needed.
        processes: how many work at once; 1 is this one.

    Raises:
        InputError: the firmware or the profile is wrong, an output cannot be written, or a process ended.
    """
    if processes == 1 or _may_not_start_any():
        worker = Worker(job)
        for group in groups:
            yield group, worker.run(group.rows)
        return
    with _started(job, processes) as pool:
        yield from pool.run(groups)


class _Pool:
    """Processes with pipes to them."""

    def __init__(self, workers: list[tuple[Connection, BaseProcess]]) -> None:
        self._at_work: dict[Connection, deque[int]] = {pipe: deque() for pipe, _ in workers}
        self._done: dict[int, list[Result]] = {}

    def run(self, groups: Iterable[_Group]) -> Iterator[tuple[_Group, list[Result]]]:
        source = enumerate(groups)
        waiting: deque[tuple[int, _Group]] = deque()
        self._fill(source, waiting)
        while waiting:
            while waiting[0][0] not in self._done:
                self._take()
                self._fill(source, waiting)
            ticket, group = waiting.popleft()
            yield group, self._done.pop(ticket)
            self._fill(source, waiting)

    def _fill(self, source: Iterator[tuple[int, _Group]], waiting: deque[tuple[int, _Group]]) -> None:
        """Give the processes groups while they can take them, and few are ready before their turn."""
        while len(waiting) < _AHEAD * len(self._at_work) and self._has_room():
            taken = next(source, None)
            if taken is None:
                return
            waiting.append(taken)
            self._give(taken[0], taken[1].rows)

    def _has_room(self) -> bool:
        return any(len(tickets) < _AT_ONCE for tickets in self._at_work.values())

    def _give(self, ticket: int, rows: list[Row]) -> None:
        if not rows:
            self._done[ticket] = []
            return
        pipe = min(self._at_work, key=lambda each: len(self._at_work[each]))
        try:
            pipe.send(rows)
        except OSError as error:
            raise _why_it_ended(pipe) from error
        self._at_work[pipe].append(ticket)

    def _take(self) -> None:
        from multiprocessing.connection import wait

        busy = [pipe for pipe, tickets in self._at_work.items() if tickets]
        for pipe in cast("list[Connection]", wait(busy)):
            try:
                answer = pipe.recv()
            except (EOFError, OSError) as error:
                raise _ended() from error
            if isinstance(answer, EspAtError):
                raise answer
            self._done[self._at_work[pipe].popleft()] = answer


def _why_it_ended(pipe: Connection) -> EspAtError:
    """Return what a process has told before it ended, and nobody has taken yet."""
    with contextlib.suppress(EOFError, OSError):
        while pipe.poll():
            answer = pipe.recv()
            if isinstance(answer, EspAtError):
                return answer
    return _ended()


def _ended() -> InputError:
    return InputError(
        "a process of this run ended unexpectedly",
        "go on with --resume; with fewer processes (-j) if memory is short",
    )


@contextlib.contextmanager
def _started(job: Job, processes: int) -> Iterator[_Pool]:
    import multiprocessing

    method = _start_method()
    context: Any = multiprocessing.get_context(method)
    workers: list[tuple[Connection, BaseProcess]] = []
    try:
        for _ in range(processes):
            try:
                ours, theirs = context.Pipe()
                # A forked process has this one's ends of the pipes too, which would keep them open.
                inherited = [pipe for pipe, _ in workers] + [ours] if method == "fork" else []
                process = context.Process(target=_work, args=(theirs, job, inherited), daemon=True)
                workers.append((ours, process))
                with deaf_to_interrupts():  # who began the run hears it for all
                    process.start()
            except OSError as error:
                raise unstartable(error) from error
            theirs.close()
        yield _Pool(workers)
    except BaseException:
        for _, process in workers:
            if process.pid is not None:
                # What it works on is not needed. A signal that can be handled would run the handlers of
                # this process in a forked one, and wake the event loop that they share.
                process.kill()
        raise
    finally:
        for pipe, _ in workers:
            pipe.close()
        for _, process in workers:
            if process.pid is not None:
                process.join(_END_TIMEOUT)
                process.kill()
                process.join()


def _start_method() -> str:
    """Return the quickest way to start a process that is safe: a fork takes none of the threads along.

    Libraries may have threads that Python does not know of.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return "spawn"
    try:
        return "fork" if len(os.listdir("/proc/self/task")) == 1 else "spawn"  # noqa: PTH208 - quicker
    except OSError:  # no /proc
        return "spawn"


def _may_not_start_any() -> bool:
    """Tell whether this process may have no processes of its own, as one of a pool may not."""
    import multiprocessing

    return multiprocessing.current_process().daemon


def _work(pipe: Connection, job: Job, inherited: Iterable[Connection]) -> None:
    """Make groups until the other end of the pipe is closed, be it because its process was killed."""
    for each in inherited:
        each.close()
    gc.set_threshold(100_000)  # as in the process that began the run; there are next to no cycles
    groups: SimpleQueue[list[Row] | None] = SimpleQueue()
    with contextlib.suppress(OSError):  # nobody listens any more
        try:
            begun(threading.Thread(target=_receive, args=(pipe, groups), daemon=True).start)
            worker = Worker(job)
            while (rows := groups.get()) is not None:
                pipe.send(worker.run(rows))
        except EspAtError as error:
            pipe.send(type(error)(error.message, error.hint))  # without what caused it


def _receive(pipe: Connection, groups: SimpleQueue[list[Row] | None]) -> None:
    """Take groups as they come, so that whoever sends them never waits for this process."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            groups.put(pipe.recv())
    groups.put(None)

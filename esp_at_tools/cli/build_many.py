"""Several builds side by side, in processes; one that fails does not stop the others."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from pathlib import Path

from esp_at_tools.build.job import Built, Failure, Job
from esp_at_tools.cli.build_tree import run_job
from esp_at_tools.errors import EspAtError


def run_all(jobs: list[Job | Failure], processes: int) -> list[Built | Failure]:
    """Build several modules and return what became of each, in their order.

    Args:
        jobs: each with an output of its own; what has failed already stays so.
        processes: how many at a time; with 1, in this process.
    """
    if processes == 1:
        return [_outcome(job) for job in jobs]
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context(_start_method()), _ignore_interrupts
    ) as pool:
        futures = [pool.submit(_outcome, job) for job in jobs]
        try:
            return [_result(job, future) for job, future in zip(jobs, futures, strict=True)]
        finally:
            pool.shutdown(cancel_futures=True)


def _start_method() -> str:
    """Return how processes are started: a fork has the definitions already, others read them again.

    A process with several threads must not be forked: a lock that another thread holds stays locked.
    """
    try:
        threads = sum(1 for _ in Path("/proc/self/task").iterdir()) if sys.platform == "linux" else 0
    except OSError:
        threads = 0
    return "fork" if threads == 1 else "spawn"


def _result(job: Job | Failure, future: Future[Built | Failure]) -> Built | Failure:
    try:
        return future.result()
    except BrokenExecutor:
        error = EspAtError("its process, or one beside it, was killed", "-j 1 needs the least memory")
        return Failure(job.module or "", error)


def _ignore_interrupts() -> None:
    """Let Ctrl-C end the parent alone, which ends its children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _outcome(job: Job | Failure) -> Built | Failure:
    if isinstance(job, Failure):
        return job
    try:
        return run_job(job)
    except EspAtError as error:
        return Failure(job.module or "", error)

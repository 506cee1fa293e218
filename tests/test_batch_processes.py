"""The processes of a batch: how they are started and ended, and what is told when one cannot go on."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import threading
from datetime import datetime, timezone

import batches
import pytest

from esp_at_tools.batch import worker
from esp_at_tools.batch.devices import Row
from esp_at_tools.batch.job import Job
from esp_at_tools.batch.run import Options, run_batch
from esp_at_tools.errors import InputError

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="only there are processes forked")


@pytest.fixture
def job(tmp_path) -> Job:
    """A job for one device, whose outputs go to a folder of their own."""
    batches.make(tmp_path, 1)
    (tmp_path / "work").mkdir()
    return Job(tmp_path / "in.bin", tmp_path, tmp_path / "work", datetime.now(timezone.utc), ("mfg_nvs",))


def row() -> Row:
    return Row(1, 2, batches.device(1, mac=False))


def test_a_process_that_cannot_go_on_is_believed_although_it_is_given_more():
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process()
    pool = worker._Pool([(ours, process)])
    theirs.send(["a group that was made before"])
    theirs.send(InputError("the disk is full", "make room"))
    theirs.close()
    with pytest.raises(InputError, match="the disk is full"):
        pool._give(0, [row()])
    with pytest.raises(InputError, match="ended unexpectedly"):
        pool._give(1, [row()])
    ours.close()


def test_a_process_that_cannot_make_its_folder_tells_that(job):
    job.work.rmdir()
    with pytest.raises(InputError, match="cannot be written: No such file"):
        worker.Worker(job)
    with (
        pytest.raises(InputError, match="cannot be written: No such file"),
        worker._started(job, 1) as pool,
    ):
        list(pool.run([Rows([row()])]))


@pytest.mark.parametrize("place", ["make", "write"])
def test_memory_that_is_short_is_no_fault_of_a_row(job, monkeypatch, place):
    def short(*_args: object, **_options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(worker.Maker, "make", short) if place == "make" else None
    monkeypatch.setattr(worker, "_write_all", short) if place == "write" else None
    with pytest.raises(InputError, match="not enough memory") as caught:
        worker.Worker(job).run([row()])
    assert "--resume" in caught.value.hint


@LINUX_ONLY
def test_a_process_that_cannot_be_started(job, monkeypatch):
    fork, count = os.fork, 0

    def refused() -> int:
        nonlocal count
        count += 1
        if count == 2:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", refused)
    monkeypatch.setattr(worker, "_start_method", lambda: "fork")
    with pytest.raises(InputError, match="no more processes or threads: Resource"), worker._started(job, 3):
        pass
    assert not multiprocessing.active_children()


@LINUX_ONLY
def test_a_process_without_a_thread_to_listen_tells_that(job, monkeypatch):
    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(worker, "_start_method", lambda: "fork")
    monkeypatch.setattr(threading.Thread, "start", refused)
    with (
        pytest.raises(InputError, match="no more processes or threads: can't start"),
        worker._started(job, 1) as pool,
    ):
        list(pool.run([Rows([row()])]))


class Rows:
    """A group."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows


@LINUX_ONLY
def test_processes_that_are_not_needed_any_more_run_no_handlers_of_the_one_that_began(job, monkeypatch):
    """A signal would wake an event loop that they were forked from: it is told to end itself then."""
    monkeypatch.setattr(worker, "_start_method", lambda: "fork")
    told, children = [], []
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    handler = signal.signal(signal.SIGTERM, lambda *_: told.append("here"))
    wakeup = signal.set_wakeup_fd(theirs)

    def ended() -> None:
        with worker._started(job, 2):
            children.extend(multiprocessing.active_children())
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            ended()
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, handler)
        os.close(theirs)
    with os.fdopen(ours, "rb") as stream:
        assert stream.read() == b""
    assert not told
    assert [child.exitcode for child in children] == [-signal.SIGKILL] * 2


@LINUX_ONLY
def test_a_thread_that_python_does_not_know_of_counts(monkeypatch):
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    listdir = os.listdir
    for threads, method in ((["1"], "fork"), (["1", "2"], "spawn")):
        monkeypatch.setattr(
            os, "listdir", lambda path, now=threads: now if "task" in str(path) else listdir(path)
        )
        assert worker._start_method() == method


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_may_have_no_children_does_it_alone(tmp_path):
    """As those of a pool are."""
    batches.make(tmp_path, 130)
    options = Options(tmp_path / "in.bin", tmp_path / "devices.csv", tmp_path / "out", processes=2)

    process = multiprocessing.get_context("fork").Process(target=run_batch, args=(options,), daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert len(batches.manifest(tmp_path / "out")) == 130


def test_a_run_that_is_begun_in_a_thread_and_others_go_on(tmp_path, monkeypatch):
    batches.make(tmp_path, 130)
    methods: list[str] = []
    start_method = worker._start_method
    monkeypatch.setattr(worker, "_start_method", lambda: methods.append(start_method()) or methods[-1])
    options = Options(tmp_path / "in.bin", tmp_path / "devices.csv", tmp_path / "out", processes=2)
    thread = threading.Thread(target=run_batch, args=(options,))
    thread.start()
    thread.join()
    assert methods == ["spawn"]
    assert {line["status"] for line in batches.manifest(tmp_path / "out")} == {"ok"}
    assert len(batches.manifest(tmp_path / "out")) == 130

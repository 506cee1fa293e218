"""Flushing groups of files to disk while the next ones are made."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from esp_at_tools.batch import flush
from esp_at_tools.batch.flush import Flusher
from esp_at_tools.errors import InputError


def test_flushing_with_and_without_the_system_call(tmp_path, monkeypatch):
    monkeypatch.setattr(flush, "_file_system", lambda _descriptor: 0xEF53)
    paths = [str(tmp_path / f"{number}") for number in range(3)]
    for path in paths:
        Path(path).write_bytes(b"x")
    flushed_one_by_one: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (flushed_one_by_one.append(number), fsync(number)))
    with contextlib.closing(Flusher(tmp_path)) as flusher:
        flusher.flush([])
        flusher.flush(paths[:1])
        assert len(flushed_one_by_one) == 1
        flusher._all_at_once = None
        flusher.flush(paths)
        assert len(flushed_one_by_one) == 4
        flusher.start([*paths, str(tmp_path / "absent")])
        with pytest.raises(InputError, match="cannot be written: No such file"):
            flusher.finish()
        flusher.finish()  # told once
        seconds = iter([0.0, 9.0])
        monkeypatch.setattr("time.monotonic", lambda: next(seconds))
        at_once: list[int] = []
        flusher._all_at_once = at_once.append
        flusher.flush(paths)
        assert flusher._all_at_once is None  # somebody else writes a lot: not again
        assert (len(at_once), len(flushed_one_by_one)) == (1, 7)


@pytest.mark.parametrize(
    ("kind", "at_once"),
    [
        (0xEF53, True),
        (0x58465342, True),
        (0x794C7630, False),
        (0x65735546, False),
        (0x6969, False),
        (0, False),
    ],
    ids=["ext4", "xfs", "overlayfs", "fuse", "nfs", "unknown"],
)
def test_only_file_systems_that_tell_of_errors_are_flushed_at_once(tmp_path, monkeypatch, two, kind, at_once):
    disk, one_by_one = SlowDisk(), []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (one_by_one.append(number), fsync(number)))
    use(monkeypatch, disk)
    monkeypatch.setattr(flush, "_file_system", lambda _descriptor: kind)
    with contextlib.closing(Flusher(tmp_path)) as flusher:
        flusher.flush(two(0))
    assert (disk.count, len(one_by_one)) == ((1, 0) if at_once else (0, 2))


@pytest.mark.skipif(sys.platform != "linux", reason="needs statfs and /proc")
def test_the_kind_of_a_file_system():
    descriptor = os.open("/proc", os.O_RDONLY)
    try:
        assert flush._file_system(descriptor) == 0x9FA0
    finally:
        os.close(descriptor)
    assert flush._file_system(descriptor) == 0  # closed


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="there is no such advice")
def test_a_system_that_takes_no_advice(tmp_path, monkeypatch):
    def refused(*_args: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "posix_fadvise", refused)
    (tmp_path / "a").write_bytes(b"x")
    with contextlib.closing(Flusher(tmp_path)) as flusher:
        flusher.flush([str(tmp_path / "a")] * 2)


def test_a_system_that_allows_no_more_threads(tmp_path, monkeypatch, two):
    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(InputError, match="no more processes or threads: can't start"):
        list(flush.flushed(groups(3), two, tmp_path))


@pytest.fixture
def two(tmp_path):
    """Two files, which each group has."""
    paths = [str(tmp_path / name) for name in "ab"]
    for path in paths:
        Path(path).write_bytes(b"x")
    return lambda _group: paths


class SlowDisk:
    """Stands in for the system call; each flush takes until it is let go, unless it fails."""

    def __init__(self, *, fails: int = 0) -> None:
        self.count, self.fails = 0, fails

    def __call__(self, _descriptor: int) -> None:
        self.count += 1
        time.sleep(0.02)
        if self.count == self.fails:
            raise OSError(5, "Input/output error")


def use(monkeypatch: pytest.MonkeyPatch, disk: Callable[[int], None]) -> None:
    """Flush with this, on whatever file system the tests run."""
    monkeypatch.setattr(flush, "_syncfs", lambda: disk)
    monkeypatch.setattr(flush, "_file_system", lambda _descriptor: 0xEF53)


def groups(count: int, error: Exception | None = None) -> Iterator[int]:
    yield from range(count)
    if error is not None:
        raise error


@pytest.mark.parametrize("count", [0, 1, 2, 3, 40])
def test_groups_are_flushed_in_their_order_and_several_together(tmp_path, monkeypatch, two, count):
    disk = SlowDisk()
    use(monkeypatch, disk)
    safe = list(flush.flushed(groups(count), two, tmp_path))
    assert [each for some in safe for each in some] == list(range(count))
    assert all(safe)
    if count == 40:
        assert disk.count <= 2 + 40 / 4  # else they were flushed one by one
        assert max(map(len, safe)) <= flush._MOST_WAITING + 1


def test_what_was_made_before_an_error_is_flushed_and_told(tmp_path, monkeypatch, two):
    disk = SlowDisk()
    use(monkeypatch, disk)
    safe: list[list[int]] = []
    with pytest.raises(InputError, match="a row"):
        safe.extend(flush.flushed(groups(5, InputError("a row", "")), two, tmp_path))
    assert [each for some in safe for each in some] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("fails", [1, 2, 3])
def test_what_could_not_be_flushed_is_not_told_as_safe(tmp_path, monkeypatch, two, fails):
    disk = SlowDisk(fails=fails)
    use(monkeypatch, disk)
    safe: list[list[int]] = []
    with pytest.raises(InputError, match="cannot be written: Input/output error"):
        safe.extend(flush.flushed(groups(30), two, tmp_path))
    assert len(safe) == fails - 1
    told = [each for some in safe for each in some]
    assert told == list(range(len(told)))

"""``kill -9`` and Ctrl-C at any moment: ``--resume`` ends where an undisturbed run does."""

from __future__ import annotations

import contextlib
import csv
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import batches
import pytest

from esp_at_tools.batch import folder, worker
from esp_at_tools.batch.job import Job
from esp_at_tools.errors import InputError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")

ROWS = int(os.environ.get("ESP_AT_BATCH_ROWS", "300"))
KILLS = int(os.environ.get("ESP_AT_BATCH_KILLS", "3"))
"""The two variables make it more, by hand."""


def start(folder: Path, output: Path, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "esp_at_tools", "batch", "--input", "in.bin", "--devices", "devices.csv",
               "--output", str(output), "--resume", *args]  # fmt: skip
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_true(output: Path) -> int:
    """Every whole line of the manifest is true; returns how many there are."""
    path = output / "manifest.csv"
    if not path.exists():
        return 0
    data = path.read_bytes()
    lines = list(csv.DictReader(data[: data.rfind(b"\n") + 1].decode().splitlines()))
    made = batches.tree(output)
    for line in lines:
        assert line["status"] == "failed" or made[line["file"]] == line["sha256"]
    return len(lines)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A folder with a list in which some rows are bad, and what an undisturbed run makes of it."""
    folder = tmp_path_factory.mktemp("kill")
    batches.make(folder, 1)
    rows = [batches.device(number) for number in range(ROWS)]
    for number in range(5, ROWS, 100):
        rows[number]["client_key.0"] = "keys/none"
    batches.write_list(folder / "devices.csv", rows)
    with start(folder, folder / "whole", "-j", "1") as running:
        _, told = running.communicate()
    assert running.returncode == 1, told
    return folder, batches.tree(folder / "whole")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_killed_at_random_moments(whole, tmp_path, jobs):
    folder, expected = whole
    rng = random.Random(int(jobs))
    output = tmp_path / "out"
    reached, kills = 0, 0
    delay = 0.05
    while kills < KILLS:
        with start(folder, output, "-j", jobs) as running:
            state = output / "manifest.csv"
            before = state.stat().st_size if state.exists() else 0
            deadline = time.monotonic() + 60
            while running.poll() is None and time.monotonic() < deadline:
                if state.exists() and state.stat().st_size > before:
                    break  # it is past its start
                time.sleep(0.002)
            time.sleep(rng.uniform(0, delay))
            running.send_signal(signal.SIGKILL)
            running.communicate()
        if running.returncode != -signal.SIGKILL:
            assert running.returncode == 1
            break
        kills += 1
        now = check_true(output)
        assert now >= reached
        reached = now
    assert kills
    with start(folder, output, "-j", jobs) as running:
        _, told = running.communicate()
    assert running.returncode == 1, told
    assert batches.tree(output) == expected


KILL_AT = """
import os, signal, sys
from esp_at_tools.cli.main import run

count, deadline = 0, int(sys.argv[1])

def hook(event, args):
    global count
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.scandir"):
        count += 1
        if count == deadline:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
status = run(sys.argv[2:])
print(count)
sys.exit(status)
"""
"""Runs the program and kills itself before the n-th access to a file; tells their number at its end."""


def test_killed_before_an_access_to_a_file(cli, tmp_path):
    batches.make(tmp_path, 66)
    args = ["batch", "-q", "--input", f"{tmp_path}/in.bin", "--devices", f"{tmp_path}/devices.csv", "-j", "1"]
    assert cli(*args, "-o", tmp_path / "whole").status == 0
    expected = batches.tree(tmp_path / "whole")

    def killed(point: int, output: Path) -> int | None:
        command = [sys.executable, "-c", KILL_AT, str(point), *args, "-o", str(output), "--resume"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode == -signal.SIGKILL:
            return None
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    count = killed(0, tmp_path / "count")
    assert count is not None
    for point in (count, count - 2, count - 9, count - 250):
        output = tmp_path / str(point)
        assert killed(point, output) is None
        check_true(output)
        assert cli(*args, "-o", output, "--resume").status == 0
        assert batches.tree(output) == expected
        assert cli("batch", "verify", output).status == 0


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_interrupted(whole, tmp_path, jobs):
    folder, expected = whole
    output = tmp_path / "out"
    with start(folder, output, "-j", jobs) as running:
        deadline = time.monotonic() + 60
        while not (output / "manifest.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(0.03)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=60)
    assert "Traceback" not in told
    if running.returncode not in (1, -signal.SIGINT):  # it was not over yet
        assert running.returncode == 130
        assert "--resume goes on" in told
        assert {path.name for path in output.iterdir() if path.name.startswith(".")} == set()
    check_true(output)
    with start(folder, output, "-j", jobs) as running:
        running.communicate()
    assert batches.tree(output) == expected


def test_an_interruption_does_not_wait_for_what_is_under_way(tmp_path):
    batches.make(tmp_path, 1)
    job = Job(tmp_path / "in.bin", tmp_path, tmp_path, datetime.now(timezone.utc), ("mfg_nvs",))
    children = []

    def interrupted() -> None:
        with worker._started(job, 2):
            children.extend(multiprocessing.active_children())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [child.exitcode for child in children] == [-signal.SIGKILL] * 2


def test_processes_end_with_the_one_that_began_the_run(tmp_path):
    """Forked ones have its ends of their pipes, and its lock of the folder, until they let go of them."""
    script = """
import os, signal, sys, threading
from datetime import datetime, timezone
from pathlib import Path
from esp_at_tools.batch import folder, worker
from esp_at_tools.batch.job import Job
from esp_at_tools.errors import InputError
here = Path(sys.argv[1])
with folder.work_folder(here / "out", None):
    job = Job(here / "in.bin", here, here, datetime.now(timezone.utc), ("mfg_nvs",))
    with worker._started(job, 2) as pool:
        print(worker._start_method(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""
    batches.make(tmp_path, 1)
    (tmp_path / "out").mkdir()
    # Its output ends when the last process that has it does.
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE) as running:
        told, _ = running.communicate(timeout=60)
    assert running.returncode == -signal.SIGKILL
    assert told.decode().strip() == ("fork" if sys.platform == "linux" else "spawn")
    with folder.work_folder(tmp_path / "out", None):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_no_lock(tmp_path):
    with folder.work_folder(tmp_path, None):
        (lock,) = folder._LOCKS
        child = os.fork()
        if not child:
            with contextlib.suppress(OSError):
                os.fstat(lock)
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(InputError, match="another run"), folder.work_folder(tmp_path, None):
            pass  # this one still has it
    assert not folder._LOCKS


def test_a_lock_of_a_folder_that_is_gone_is_none(tmp_path, monkeypatch):
    """The run before may have removed it after this one opened it, and a third one made it anew."""
    import fcntl

    lock = fcntl.flock

    def removed(descriptor: int, how: int) -> None:
        (tmp_path / ".manifest.work").rmdir()
        (tmp_path / ".manifest.work").mkdir()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", removed)
    with pytest.raises(InputError, match="another run"), folder.work_folder(tmp_path, None):
        pass
    assert not folder._LOCKS
    assert (tmp_path / ".manifest.work").is_dir()


def test_a_process_with_threads_is_not_forked():
    going_on = threading.Event()
    thread = threading.Thread(target=going_on.wait)
    thread.start()
    assert worker._start_method() == "spawn"
    going_on.set()
    thread.join()


def test_a_full_disk_is_told_and_can_be_gone_on_from(cli, tmp_path, monkeypatch):
    batches.make(tmp_path, 66)
    args = ("batch", "-q", "--input", tmp_path / "in.bin", "--devices", tmp_path / "devices.csv", "-j", "1")
    write, count = os.write, 0

    def full(descriptor: int, data: bytes) -> int:
        nonlocal count
        count += 1
        if count == 65:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    done = cli(*args, "-o", tmp_path / "out")
    assert done.status == 2
    assert f"error: {tmp_path}/out: an output cannot be written: No space left" in done.err
    assert "--resume" in done.err
    assert len(batches.manifest(tmp_path / "out")) == 64
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    assert cli(*args, "-o", tmp_path / "out", "--resume").status == 0
    assert cli("batch", "verify", tmp_path / "out").status == 0


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_output_that_cannot_take_its_place_ends_the_run_and_its_processes(
    cli, tmp_path, monkeypatch, jobs
):
    batches.make(tmp_path, 600)
    args = ("batch", "-q", "--input", tmp_path / "in.bin", "--devices", tmp_path / "devices.csv", "-j", jobs)
    replace, count = os.replace, 0

    def full(source: str, target: str) -> None:
        nonlocal count
        count += 1
        if count > 70:
            raise OSError(28, "No space left on device", source, None, target)
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        done = cli(*args, "-o", tmp_path / "out")
        assert not multiprocessing.active_children()
    assert done.status == 2
    assert re.search(r"out/dev-00\d+.bin: cannot be written: No space left", done.err)
    assert ".manifest" not in done.err
    assert "--resume" in done.err
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".manifest")]
    check_true(tmp_path / "out")
    assert cli(*args, "-o", tmp_path / "out", "--resume").status == 0
    assert cli("batch", "verify", tmp_path / "out").status == 0

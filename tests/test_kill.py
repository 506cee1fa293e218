"""``kill -9`` while ``modify-bin`` writes: what is there is old or new, and asking again completes it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import builders
import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")

AT_EVENT = """
import os, signal, sys
from esp_at_tools.cli.main import run

FILES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.listdir", "os.scandir"}
count, deadline = 0, int(sys.argv[1])

def hook(event, args):
    global count
    if event in FILES:
        count += 1
        if count == deadline:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
status = run(sys.argv[2:])
print(count)
sys.exit(status)
"""
"""Runs the program and kills itself before the n-th access to a file; tells their number at its end."""

FOREVER = """
import itertools, sys
from esp_at_tools.cli.main import run

for baud in itertools.cycle(("9600", "19200")):
    print(baud, flush=True)
    assert run(["modify-bin", "-q", "-in", sys.argv[1], "--in-place", "-b", baud]) == 0
"""
"""Changes an input in place again and again, and says before each time to what."""

POINTS = 6


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> list[str]:
    """Changes that touch several partitions and add a file."""
    folder = tmp_path_factory.mktemp("pki")
    (folder / "ca.pem").write_bytes(builders.certificate(3, ca=True))
    return ["-b", "9600", "--server-ca", f"{folder}/ca.pem", "--wpa2-ca", f"{folder}/ca.pem", "--force"]


def make_image(path: Path) -> None:
    path.write_bytes(builders.legacy_image())


def make_zip(path: Path) -> None:
    folder = builders.legacy_release(path.with_name("unzipped"))
    builders.zipped(folder, path)
    shutil.rmtree(folder)


def make_folder(path: Path) -> None:
    builders.legacy_release(path)
    (path / "factory").mkdir()
    (path / "factory" / "factory_MINI-1.bin").write_bytes(builders.legacy_image())


def make_modern_folder(path: Path) -> None:
    builders.release(path)


def contents(path: Path) -> dict[str, bytes]:
    """The contents of a file or folder; what an interrupted run has left aside does not count."""
    if not path.is_dir():
        return {"": path.read_bytes()} if path.exists() else {}
    return {name: data for name, data in builders.tree(path).items() if not name.endswith(".tmp")}


def killed_at(point: int, folder: Path, args: list[str]) -> int | None:
    """Run and kill; the number of accesses to files where the run was over before."""
    done = subprocess.run(
        [sys.executable, "-c", AT_EVENT, str(point), *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def clear(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copy(source: Path, target: Path) -> None:
    clear(target)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


@pytest.mark.parametrize("in_place", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize("make", [make_image, make_zip, make_folder, make_modern_folder])
def test_killed_before_an_access_to_a_file(cli, tmp_path, monkeypatch, pki, make, in_place):
    monkeypatch.chdir(tmp_path)
    pristine, source = tmp_path / "pristine", tmp_path / "in"
    make(pristine)
    copy(pristine, source)
    args = ["modify-bin", "-q", "-in", "in", *pki, *(["--in-place"] if in_place else ["-o", "out"])]
    target = source if in_place else tmp_path / "out"
    events = killed_at(0, tmp_path, args)
    old, new = contents(pristine), contents(target)
    assert new != old
    for point in sorted({events - n * n for n in range(POINTS)}):
        clear(target)
        copy(pristine, source)
        assert killed_at(point, tmp_path, args) is None
        left = contents(target)
        if in_place and target.is_dir():
            assert set(old) <= set(left) <= set(new)
            assert all(data in (old.get(name), new[name]) for name, data in left.items())
        else:
            assert left in (old if in_place else {}, new)
        assert in_place or contents(source) == old

        if in_place or not left:
            assert cli(*args).status == 0
        assert contents(target) == new
        for aside in list(tmp_path.rglob("*.tmp")):
            assert aside.name.startswith(".")
            clear(aside)


def random_moments(path: Path, times: int) -> Iterator[str]:
    """Let something change an input in place and kill it; give what it was about to change it to."""
    rng = random.Random(11)
    for _ in range(times):
        with subprocess.Popen(
            [sys.executable, "-c", FOREVER, str(path)], stdout=subprocess.PIPE, text=True, cwd=path.parent
        ) as writer:
            assert writer.stdout is not None
            baud = writer.stdout.readline().strip()
            time.sleep(rng.uniform(0, 0.4))
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout:
                baud = line.strip() or baud
        assert writer.returncode == -signal.SIGKILL
        yield baud


@pytest.mark.parametrize("make", [make_image, make_modern_folder])
def test_killed_at_random_moments(cli, tmp_path, make):
    path = tmp_path / "in"
    make(path)
    states = {}
    for baud in ("9600", "19200"):
        assert cli("modify-bin", "-q", "-in", path, "--in-place", "-b", baud).status == 0
        states[baud] = contents(path)
    for baud in random_moments(path, 4):
        left = contents(path)
        if path.is_dir():
            assert all(data in (states["9600"][name], states["19200"][name]) for name, data in left.items())
            assert set(left) == set(states[baud])
        else:
            assert left in states.values()
        assert cli("modify-bin", "-q", "-in", path, "--in-place", "-b", baud).status == 0
        assert contents(path) == states[baud]

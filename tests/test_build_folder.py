"""A build folder takes its place in one step, keeps what is the user's, and is never half of two builds."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import builders
import pytest

from esp_at_tools.build import exchange
from esp_at_tools.build.artefacts import BuiltFile
from esp_at_tools.build.folder import check_build_folder, write_build_folder
from esp_at_tools.errors import FormatError, InputError

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


def build(module: str = "A", **more: bytes) -> dict[str, BuiltFile]:
    """The files of a small build; of ``more``, two underscores stand for a dot."""
    parts = {
        "customized_partitions/mfg_nvs.bin": b"nvs",
        **{name.replace("__", "."): data for name, data in more.items()},
    }
    listed = ", ".join(f'"{number:#x}": "{name}"' for number, name in enumerate(parts))
    files = {
        **parts,
        "customized_partitions/mfg_nvs.csv": b"csv",
        f"factory/factory_{module}.bin": module.encode(),
        "module_info.json": f'{{"module": "{module}"}}'.encode(),
        "flasher_args.json": f'{{"flash_files": {{{listed}}}}}'.encode(),
    }
    return {name: BuiltFile(data, private=name.endswith("mfg_nvs.bin")) for name, data in files.items()}


def contents(files: dict[str, BuiltFile]) -> dict[str, bytes]:
    return {name: file.data for name, file in files.items()}


@pytest.fixture(params=["exchange", "renames"])
def way(request, monkeypatch) -> str:
    """In one system call where there is one, and as on a system without it."""
    if request.param == "renames":
        monkeypatch.setattr(exchange, "_CALLS", {})
    return request.param


def test_a_new_folder(tmp_path):
    write_build_folder(tmp_path / "out", build())
    assert builders.tree(tmp_path / "out") == contents(build())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@posix
def test_files_with_keys_are_for_their_owner_only(tmp_path):
    write_build_folder(tmp_path / "out", build())
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "out" / "customized_partitions").iterdir()
    }
    assert modes["mfg_nvs.bin"] == 0o600
    assert modes["mfg_nvs.csv"] & 0o400


@pytest.mark.usefixtures("way")
def test_what_an_earlier_build_made_and_this_one_does_not_is_gone(tmp_path):
    out = tmp_path / "out"
    write_build_folder(out, build("A", esp_at__bin=b"app", extra__bin=b"x"))
    write_build_folder(out, build("B"))
    assert builders.tree(out) == contents(build("B"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("way")
def test_what_is_the_users_stays(tmp_path):
    out = tmp_path / "out"
    write_build_folder(out, build("A"))
    (out / "notes.txt").write_text("mine")
    (out / "factory" / "factory_of_mine.bin").write_bytes(b"mine")
    (out / "customized_partitions" / "mine.bin").write_bytes(b"mine")
    (out / "empty" / "folder").mkdir(parents=True)
    write_build_folder(out, build("B"))
    mine = {
        "notes.txt": b"mine",
        "factory/factory_of_mine.bin": b"mine",
        "customized_partitions/mine.bin": b"mine",
    }
    assert builders.tree(out) == {**contents(build("B")), **mine}
    assert (out / "empty" / "folder").is_dir()


def test_a_folder_of_a_build_that_has_become_empty_goes(tmp_path):
    out = tmp_path / "out"
    write_build_folder(out, build("A", **{"bootloader/bootloader__bin": b"boot"}))
    write_build_folder(out, build("B"))
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"customized_partitions", "factory"}


def test_what_a_killed_run_has_left_in_it_goes(tmp_path):
    out = tmp_path / "out"
    write_build_folder(out, build())
    (out / ".mfg_nvs.bin.0123456789ab.tmp").write_bytes(b"half a key")
    write_build_folder(out, build())
    assert builders.tree(out) == contents(build())


@posix
@pytest.mark.usefixtures("way")
def test_links_stay_links(tmp_path):
    write_build_folder(tmp_path / "real", build("A"))
    (tmp_path / "real" / "nowhere").symlink_to("/nowhere at all")
    (tmp_path / "out").symlink_to("real")
    write_build_folder(tmp_path / "out", build("B"))
    assert (tmp_path / "out").readlink() == Path("real")
    assert (tmp_path / "real" / "nowhere").readlink() == Path("/nowhere at all")
    assert (tmp_path / "real" / "module_info.json").read_text() == '{"module": "B"}'


@posix
@pytest.mark.usefixtures("way")
def test_the_folders_permissions_stay(tmp_path):
    write_build_folder(tmp_path / "out", build("A"))
    (tmp_path / "out").chmod(0o750)
    write_build_folder(tmp_path / "out", build("B"))
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750


@pytest.mark.usefixtures("way")
def test_the_same_build_again_gives_the_same_bytes(tmp_path):
    write_build_folder(tmp_path / "out", build())
    before = builders.tree(tmp_path / "out")
    write_build_folder(tmp_path / "out", build())
    assert builders.tree(tmp_path / "out") == before


def make_full(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("unrelated")


def make_file(path: Path) -> None:
    path.write_text("a file")


def make_cmake(path: Path) -> None:
    write_build_folder(path, build())
    (path / "CMakeCache.txt").write_text("")


@pytest.mark.parametrize(
    ("make", "why"), [(make_full, "no build folder"), (make_file, "not a folder"), (make_cmake, "CMakeCache")]
)
def test_what_is_no_build_folder_is_left_alone(tmp_path, make, why):
    out = tmp_path / "out"
    make(out)
    before = builders.tree(out) if out.is_dir() else out.read_bytes()
    with pytest.raises(InputError, match=why):
        write_build_folder(out, build())
    assert (builders.tree(out) if out.is_dir() else out.read_bytes()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_its_parent_must_exist(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        write_build_folder(tmp_path / "no" / "out", build())


def test_the_current_folder_is_refused(tmp_path, monkeypatch):
    write_build_folder(tmp_path / "out", build())
    (tmp_path / "out" / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "out" / "deep")
    for path in ("..", tmp_path / "out", "."):
        with pytest.raises(InputError, match="current folder"):
            write_build_folder(Path(path), build())


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    write_build_folder(tmp_path / "out", build())
    assert builders.tree(tmp_path / "out") == contents(build())


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a//b", "", "a\0b"])
def test_a_path_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(FormatError):
        write_build_folder(tmp_path / "out", {name: BuiltFile(b"")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_in_the_way_is_not_lost(tmp_path, kind):
    out = tmp_path / "out"
    write_build_folder(out, {"module_info.json": BuiltFile(b"{}")})
    if kind == "file":
        (out / "factory").write_text("mine")
    else:
        (out / "esp-at.bin" / "mine").mkdir(parents=True)
    before = sorted(path.name for path in out.rglob("*"))
    with pytest.raises(InputError, match="in the way"):
        write_build_folder(out, build("A", **{"esp-at__bin": b"app"}))
    assert sorted(path.name for path in out.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("way")
def test_a_full_disk_changes_nothing(tmp_path, monkeypatch):
    write_build_folder(tmp_path / "out", build("A"))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space"):
        write_build_folder(tmp_path / "out", build("B"))
    assert builders.tree(tmp_path / "out") == contents(build("A"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "_CALLS", {})
    out = tmp_path / "out"
    write_build_folder(out, build("A"))
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.startswith(".out.") and (self / "module_info.json").read_text() == '{"module": "B"}':
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(InputError):
        write_build_folder(out, build("B"))
    assert builders.tree(out) == contents(build("A"))


def test_a_swap_that_was_interrupted_between_its_renames_is_taken_back(tmp_path):
    out = tmp_path / "out"
    write_build_folder(out, build("A"))
    aside = exchange._aside(out)
    out.rename(aside)
    assert check_build_folder(out) == out
    assert builders.tree(out) == contents(build("A"))
    assert not aside.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="tells of Linux")
def test_this_system_exchanges_folders_in_one_step(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchange._exchanged(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()


# --- kill -9 -------------------------------------------------------------------------------------

BUILDS = """
import itertools, json, os, signal, sys
from pathlib import Path
from esp_at_tools.build import exchange
from esp_at_tools.build.artefacts import BuiltFile
from esp_at_tools.build.folder import write_build_folder

given = json.loads(sys.argv[1])
builds = [{name: BuiltFile(text.encode()) for name, text in files.items()} for files in given]
"""
"""Reads the files of two builds from the command line."""

AT_EVENT = (
    BUILDS
    + """
EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.chmod", "os.scandir",
          "ctypes.call_function", "ctypes.dlsym"}
count, deadline = 0, int(sys.argv[2])
if sys.argv[3] == "renames":
    exchange._CALLS = {}

def hook(event, args):
    global count
    if event in EVENTS:
        count += 1
        if count == deadline:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
write_build_folder(Path("out"), builds[1])
print(count)
"""
)
"""Writes the second build, kills itself before the n-th access to a file, and tells their number."""

FOREVER = (
    BUILDS
    + """
for files in itertools.cycle(builds):
    write_build_folder(Path("out"), files)
    print(len(files), flush=True)
"""
)
"""Writes one build over the other again and again."""


def python(script: str, folder: Path, *args: object) -> subprocess.Popen[str]:
    """Run a script on two builds."""
    builds = [
        {name: data.decode() for name, data in contents(build(module)).items()} for module in ("A", "B")
    ]
    return subprocess.Popen(
        [sys.executable, "-c", script, json.dumps(builds), *map(str, args)],
        cwd=folder, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip


@posix
def test_killed_before_any_access_to_a_file(tmp_path, way):
    old, new = {**contents(build("A")), "mine": b"mine"}, {**contents(build("B")), "mine": b"mine"}
    out = tmp_path / "out"

    def prepare() -> None:
        for path in tmp_path.iterdir():
            shutil.rmtree(path)
        write_build_folder(out, build("A"))
        (out / "mine").write_bytes(b"mine")

    for _ in range(2):  # the first one may have to compile modules
        prepare()
        with python(AT_EVENT, tmp_path, 0, way) as run:
            assert run.stdout is not None
            events = int(run.stdout.read())
    assert builders.tree(out) == new
    seen = set()
    for point in sorted({max(events - n * n // 2, 1) for n in range(10)}):
        prepare()
        with python(AT_EVENT, tmp_path, point, way) as run:
            pass
        assert run.returncode == -signal.SIGKILL
        if way == "renames" and not out.exists():
            seen.add("between")
            check_build_folder(out)  # what any next build does first
        assert builders.tree(out) in (old, new)
        seen.add("old" if builders.tree(out) == old else "new")
        write_build_folder(out, build("B"))
        assert builders.tree(out) == new
    assert seen >= {"old", "new"}


@posix
def test_killed_at_random_moments(tmp_path):
    rng = random.Random(3)
    out = tmp_path / "out"
    write_build_folder(out, build("A"))
    for _ in range(8):
        with python(FOREVER, tmp_path) as run:
            assert run.stdout is not None
            run.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            run.send_signal(signal.SIGKILL)
        assert builders.tree(out) in (contents(build("A")), contents(build("B")))
        for left in tmp_path.glob(".out.*.tmp"):
            shutil.rmtree(left)

"""Outputs stand whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esp_at_tools import files
from esp_at_tools.errors import EspAtError, InputError

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions, links and signals")


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]


def test_writes_a_new_file(tmp_path: Path) -> None:
    files.write_file(tmp_path / "a", [b"one", memoryview(b"two")])
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert left_behind(tmp_path) == []


@posix
def test_a_new_private_file_is_for_its_owner_only(tmp_path: Path) -> None:
    files.write_file(tmp_path / "key", b"secret", private=True)
    files.write_file(tmp_path / "plain", b"open")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@posix
def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(0o640)
    files.write_file(tmp_path / "a", b"new", private=True)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@posix
def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    files.write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_failing_writer_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def chunks():
        yield b"half"
        raise InputError("no more")

    with pytest.raises(InputError, match="no more"):
        files.write_file(tmp_path / "a", chunks())
    assert (tmp_path / "a").read_bytes() == b"old"
    assert left_behind(tmp_path) == []


@posix
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_refuses_what_is_no_regular_file(tmp_path: Path, make) -> None:
    make(tmp_path / "there")
    with pytest.raises(InputError, match=r"existing folder|pipe, socket or device"):
        files.write_file(tmp_path / "there", b"x")


def test_refuses_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its folder does not exist"):
        files.write_file(tmp_path / "no" / "file", b"x")
    assert not (tmp_path / "no").exists()


def test_a_name_with_a_nul_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(EspAtError):
        files.write_file(tmp_path / "a\0b", b"x")
    with pytest.raises(EspAtError):
        files.read_file(tmp_path / "a\0b")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda _path: None, "no such file"),
        (Path.mkdir, "is a folder"),
        (lambda path: path.write_bytes(b"12345"), "larger than 4 bytes"),
    ],
)
def test_reading_says_what_is_wrong(tmp_path: Path, prepare, message: str) -> None:
    prepare(tmp_path / "input")
    with pytest.raises(InputError, match=message):
        files.read_file(tmp_path / "input", limit=4)


WRITER = """
import sys
from pathlib import Path
from esp_at_tools import files
target = Path(sys.argv[1])
print("ready", flush=True)
number = 0
while True:
    number ^= 1
    files.write_file(target, (bytes([number]) * 65536 for _ in range(32)))
"""


@posix
def test_killed_at_any_moment_the_file_is_old_or_new(tmp_path: Path) -> None:
    target = tmp_path / "image.bin"
    target.write_bytes(b"\0" * (32 * 65536))
    rng = random.Random(5)
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE, cwd=tmp_path
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        data = target.read_bytes()
        assert len(data) == 32 * 65536
        assert data.count(data[0]) == len(data)


def test_errors_name_the_path_that_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def full(_stream) -> None:
        raise OSError(28, "No space left on device")

    folder = files.temporary_beside(tmp_path / "out")
    folder.mkdir()
    for target in (folder / "ca.pem", Path(os.path.realpath("out/ca.pem"))):
        with pytest.raises(InputError) as caught:
            files.stage(target, full, private=False)
        assert caught.value.message.startswith(f"{Path('out/ca.pem')}: cannot be written: ")
    with pytest.raises(InputError, match=r"^out: cannot be made"), files.written_together(folder):
        pass

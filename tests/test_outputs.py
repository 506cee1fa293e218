"""Several outputs of one command take their places together; when one fails, none stays."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import builders
import pytest

from esp_at_tools import files
from esp_at_tools.errors import InputError
from esp_at_tools.firmware.source import StagedFile

Fail = Callable[[int], None]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Let the rename with this number fail, as on a file system that has become read-only."""

    def install(number: int) -> None:
        rename, count = Path.replace, 0

        def replace(self: Path, target: Path) -> Path:
            nonlocal count
            count += 1
            if count == number:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return rename(self, target)

        monkeypatch.setattr(Path, "replace", replace)

    return install


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, hidden files too; None for a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def staged(folder: Path, *names: str) -> list[StagedFile]:
    return [
        StagedFile(folder / name, files.stage_file(folder / name, [b"new " + name.encode()], private=False))
        for name in names
    ]


def test_all_stand_when_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"before")
    with files.written_together(tmp_path / "made") as outputs:
        outputs.extend(staged(tmp_path, "old", "made/a", "b"))
        assert contents(tmp_path)["old"] == b"before"
    assert contents(tmp_path) == {"old": b"new old", "made": None, "made/a": b"new made/a", "b": b"new b"}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_nothing_stays_when_one_fails(tmp_path: Path, fail: Fail, number: int) -> None:
    (tmp_path / "old").write_bytes(b"before")
    fail(number)
    with (
        pytest.raises(InputError, match="cannot be replaced: Read-only") as caught,
        files.written_together(tmp_path / "made") as outputs,
    ):
        outputs.extend(staged(tmp_path, "old", "made/a", "b"))
    assert caught.value.hint == "nothing was changed"
    assert contents(tmp_path) == {"old": b"before"}


def test_what_was_replaced_stays_and_the_error_says_so(tmp_path: Path, fail: Fail) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"before")
    fail(3)
    with pytest.raises(InputError) as caught, files.written_together() as outputs:
        outputs.extend(staged(tmp_path, "one", "two", "keys"))
    assert "run the same command again" in caught.value.hint
    # What replaced the first may be of no use without the new file.
    assert contents(tmp_path) == {"one": b"new one", "two": b"before", "keys": b"new keys"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError("full", ""), OSError("disk")])
def test_an_error_before_the_end_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def write() -> None:
        with files.written_together(tmp_path / "made") as outputs:
            outputs.extend(staged(tmp_path, "made/a", "b"))
            raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        write()
    assert contents(tmp_path) == {}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="made: cannot be made"),
        files.written_together(tmp_path / "no/made"),
    ):
        pytest.fail("the folder is not there")


def test_files_in_a_given_order_are_taken_back_to_the_last_that_cannot(tmp_path: Path, fail: Fail) -> None:
    """A list that names a new file has been replaced: the file must stay."""
    for name in ("list", "last"):
        (tmp_path / name).write_bytes(b"before")
    outputs = staged(tmp_path, "named", "list", "extra", "last")
    fail(4)
    with pytest.raises(InputError, match="last: cannot be replaced"):
        files.replace_files((output.staged, output.target) for output in outputs)
    assert contents(tmp_path) == {"named": b"new named", "list": b"new list", "last": b"before"}


# --- through the commands -------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with inputs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text(
        "key,type,encoding,value\nn,namespace,,\na,data,u8,1\n", encoding="utf-8"
    )
    builders.release(tmp_path / "release", builders.generate(builders.mfg_csv()), builders.mfg_csv())
    (tmp_path / "image.bin").write_bytes(builders.image(builders.generate(builders.mfg_csv())))
    return tmp_path


COMMANDS = {
    "nvs": (2, "nvs generate in.csv out.bin 0x4000 --encrypt --new-keys keys.bin"),
    "parts": (3, "flash image.bin --dry-run --parts-output parts"),
    "image": (2, "modify-bin -in image.bin -o out.bin --baud 9600 --mfg-nvs-output mfg.bin"),
    "folder": (3, "modify-bin -in image.bin -o out.bin --baud 9600 --mfg-nvs-output m --partitions-output d"),
    "in place": (2, "modify-bin -in image.bin --in-place --baud 9600 --partitions-output d"),
    "release": (1, "modify-bin -in release -o out --baud 9600 --partitions-output d"),
}


@pytest.mark.parametrize(("renames", "command"), COMMANDS.values(), ids=COMMANDS)
def test_a_command_that_fails_leaves_nothing(
    folder: Path, cli, fail: Fail, renames: int, command: str
) -> None:
    before = contents(folder)
    for number in range(1, renames + 1):
        fail(number)
        result = cli(*command.split())
        assert (result.status, result.out) == (2, ""), number
        assert "cannot be replaced: Read-only file system" in result.err
        assert "nothing was changed" in result.err
        assert contents(folder) == before


def test_a_release_folder_is_removed_again_with_the_files_beside_it(
    folder: Path, cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(_self: Path, _target: Path) -> Path:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "rename", rename)
    before = contents(folder)
    result = cli("modify-bin", "-in", "release", "-o", "out", "--baud", "9600", "--partitions-output", "d")
    assert (result.status, contents(folder)) == (2, before)


def test_an_output_that_one_may_not_read_is_replaced(cli, tmp_path, monkeypatch):
    """Whether a path can be read is asked of what is read, and of it when it is opened."""
    (tmp_path / "in.bin").write_bytes(builders.image())
    (tmp_path / "out.bin").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda *_args, **_options: False)
    done = cli("modify-bin", "--input", tmp_path / "in.bin", "-o", tmp_path / "out.bin", "-b", "9600")
    assert done.status == 0, done.err


def test_no_error_names_a_temporary_file(cli, tmp_path, monkeypatch):
    def refused(*_args):
        raise PermissionError(13, "Permission denied", f"{tmp_path}/.out.bin.0123456789ab.tmp")

    (tmp_path / "in.bin").write_bytes(builders.image())
    monkeypatch.setattr(files, "check_output", refused)
    done = cli("modify-bin", "--input", tmp_path / "in.bin", "-o", tmp_path / "out.bin", "-b", "9600")
    assert done.status == 2
    assert done.err.startswith(f"error: {tmp_path}/out.bin: Permission denied\n")

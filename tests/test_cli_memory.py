"""``read-flash`` and ``erase-flash`` against simulated boards."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import builders
import pytest
from rom_simulator import Loader, PtyBoard

fcntl = pytest.importorskip("fcntl", reason="Windows has no pseudo-terminals")


@pytest.fixture
def board() -> Iterator[Callable[..., PtyBoard]]:
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(PtyBoard(Loader(*args, **options)))


@pytest.fixture(scope="module")
def image() -> bytes:
    return builders.image()


@pytest.mark.parametrize("options", [[], ["--no-stub", "--offset", "0x1f000", "--size", "8K"]])
def test_what_is_read_is_what_is_there(cli, board, image, tmp_path, options):
    module = board(flash=bytearray(image))
    output = tmp_path / "dump.bin"
    done = cli("read-flash", output, "-p", module.port, *options)
    assert done.status == 0, done.err
    assert output.read_bytes() == (image[0x1F000:0x21000] if options else image)
    assert module.loader.flash == image
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def test_a_dump_is_an_input(cli, board, image, tmp_path):
    module = board(flash=bytearray(image))
    output = tmp_path / "dump.bin"
    assert cli("read-flash", output, "-p", module.port).status == 0
    assert json.loads(cli("inspect", output, "--json").out)["layout"] == "modern"


def test_a_partition_by_its_name(cli, board, image, tmp_path):
    module = board(flash=bytearray(image))
    output = tmp_path / "mfg.bin"
    done = cli("read-flash", output, "-p", module.port, "--only", "mfg_nvs", "--json")
    assert done.status == 0, done.err
    document = json.loads(done.out)
    data = output.read_bytes()
    assert data == image[document["offset"] : document["offset"] + document["size"]]
    assert document["sha256"] == hashlib.sha256(data).hexdigest()
    assert document["chip"] == "esp32c3"
    assert document["mac"]


def test_blank_flash_is_not_transferred(cli, board, tmp_path):
    module = board()
    done = cli("read-flash", tmp_path / "dump.bin", "-p", module.port)
    assert done.status == 0, done.err
    assert (tmp_path / "dump.bin").read_bytes() == b"\xff" * builders.FLASH_SIZE
    assert "blank" in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "mfg_nvs", "--size", "4K"], "give one of them"),
        (["--offset", "0x2000000"], "past every flash"),
        (["--size", "0"], "no size of a stretch"),
        (["--offset", "-1"], "past every flash"),
        (["--offset", "0x3ff000", "--size", "8K"], "was asked for"),
        (["--only", "nothing"], "has no partition nothing: its tables list"),
    ],
)
def test_what_is_not_there_cannot_be_read(cli, board, image, tmp_path, options, said):
    module = board(flash=bytearray(image))
    done = cli("read-flash", tmp_path / "dump.bin", "-p", module.port, *options)
    assert done.status in (2, 3)
    assert said in done.err
    assert not list(tmp_path.iterdir())


def test_the_output_is_checked_before_the_module_is_asked(cli, tmp_path):
    done = cli("read-flash", tmp_path / "no" / "dump.bin", "-p", "/dev/no-such-port")
    assert done.status == 2
    assert "create" in done.err


@pytest.mark.parametrize("options", [[], ["--no-stub"]])
def test_the_whole_flash_is_erased(cli, board, image, options):
    module = board(flash=bytearray(image))
    done = cli("erase-flash", "-p", module.port, *options)
    assert done.status == 0, done.err
    assert module.loader.flash == b"\xff" * len(image)


def test_only_a_partition_is_erased(cli, board, image):
    used = bytearray(image)
    used[0x12345] = 0x5A
    module = board(flash=used)
    done = cli("erase-flash", "-p", module.port, "--only", "nvs", "--json")
    assert done.status == 0, done.err
    assert module.loader.flash == image
    assert json.loads(done.out)["boards"][0]["erased"] == [{"offset": 0x10000, "size": 0xE000}]


def test_one_that_fails_does_not_stop_the_others(cli, board, image):
    module = board(flash=bytearray(image))
    done = cli("erase-flash", "-p", "/dev/no-such-port", "-p", module.port, "--json")
    assert done.status == 3
    first, second = json.loads(done.out)["boards"]
    assert (first["result"], second["result"]) == ("failed", "done")
    assert "no such port" in first["error"]["message"]
    assert module.loader.flash == b"\xff" * len(image)


def test_an_unknown_partition_erases_nothing(cli, board, image):
    module = board(flash=bytearray(image))
    done = cli("erase-flash", "-p", module.port, "--only", "nvs", "--only", "nothing")
    assert done.status == 3
    assert module.loader.flash == image


def test_a_chip_that_is_protected_is_not_erased(cli, board, image):
    module = board(flash=bytearray(image), encryption=True)
    done = cli("erase-flash", "-p", module.port)
    assert done.status == 3
    assert "never start again" in done.err
    assert module.loader.flash == image

"""``flash --each``: every module gets an image of its own, whatever happens."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import builders
import pytest
from rom_simulator import Faults, Loader, PtyBoard

import esp_at_tools
from esp_at_tools.device.allotment import LEDGER, Allotment, device_images
from esp_at_tools.errors import DeviceError, FormatError, InputError


@pytest.fixture
def board() -> Iterator[Callable[..., PtyBoard]]:
    with ExitStack() as stack:
        yield lambda mac, **options: stack.enter_context(
            PtyBoard(Loader("esp32c3", mac=bytes.fromhex(mac.replace(":", "")), **options))
        )


@pytest.fixture
def folder(tmp_path) -> Path:
    """Five images, each with a module name of its own."""
    home = tmp_path / "devices"
    home.mkdir()
    for number in range(5):
        image = builders.image(builders.generate(builders.mfg_csv().replace("MINI-1", f"DEV-{number}")))
        (home / f"dev-{number}.bin").write_bytes(image)
    return home


def lines(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / LEDGER).read_text().splitlines()]


def manifest(folder: Path, macs: dict[str, str]) -> None:
    rows = ["id,file,sha256,status,error,row,mac,certificate_sha256,certificate_not_after"]
    for number, path in enumerate(sorted(folder.glob("*.bin")), start=1):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append(f"{path.stem},{path.name},{digest},ok,,{number},{macs.get(path.name, '')},,")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def test_each_module_gets_its_own(cli, board, folder):
    boards = [board(mac=f"02:00:00:00:00:{number:02x}") for number in range(3)]
    ports = [word for each in boards for word in ("-p", each.port)]
    done = cli("flash", "--each", folder, *ports, "--json")
    assert done.status == 0, done.err
    images = {path.name: path.read_bytes() for path in folder.glob("*.bin")}
    got = [next(name for name, data in images.items() if data == each.loader.flash) for each in boards]
    assert sorted(got) == ["dev-0.bin", "dev-1.bin", "dev-2.bin"]
    document = json.loads(done.out)
    assert document["count"] == {"images": 5, "given": 3, "done": 3, "left": 2}
    for each, name in zip(document["boards"], got, strict=True):
        assert Path(each["image"]).name == name
        assert each["image_sha256"] == hashlib.sha256(images[name]).hexdigest()
    assert [line["state"] for line in lines(folder)].count("done") == 3


def test_the_same_module_gets_the_same_again(cli, board, folder):
    module = board(mac="02:00:00:00:00:aa")
    for _ in range(2):
        assert cli("flash", "--each", folder, "-p", module.port).status == 0
        assert module.loader.flash == (folder / "dev-0.bin").read_bytes()
    other = board(mac="02:00:00:00:00:bb")
    assert cli("flash", "--each", folder, "-p", other.port).status == 0
    assert other.loader.flash == (folder / "dev-1.bin").read_bytes()


def test_a_manifest_names_the_module(cli, board, folder):
    manifest(folder, {"dev-3.bin": "02:00:00:00:00:33", "dev-0.bin": "02:00:00:00:00:44"})
    module = board(mac="02:00:00:00:00:33")
    assert cli("flash", "--each", folder, "-p", module.port).status == 0
    assert module.loader.flash == (folder / "dev-3.bin").read_bytes()
    other = board(mac="02:00:00:00:00:55")
    assert cli("flash", "--each", folder, "-p", other.port).status == 0
    assert other.loader.flash == (folder / "dev-1.bin").read_bytes()  # dev-0 is for another


def test_an_image_that_is_not_the_manifests_is_not_flashed(cli, board, folder):
    manifest(folder, {})
    data = bytearray((folder / "dev-0.bin").read_bytes())
    data[-1] ^= 1
    (folder / "dev-0.bin").write_bytes(data)
    module = board(mac="02:00:00:00:00:33")
    done = cli("flash", "--each", folder, "-p", module.port)
    assert done.status == 3
    assert "its SHA-256 is another" in done.err
    assert module.loader.flash.count(0xFF) == len(module.loader.flash)


def test_none_is_left(cli, board, folder):
    for path in sorted(folder.glob("*.bin"))[1:]:
        path.unlink()
    first, second = board(mac="02:00:00:00:00:01"), board(mac="02:00:00:00:00:02")
    assert cli("flash", "--each", folder, "-p", first.port).status == 0
    done = cli("flash", "--each", folder, "-p", second.port)
    assert done.status == 3
    assert "has no image for module 02:00:00:00:00:02: all 1 are used" in done.err


def test_what_failed_half_way_stays_with_its_module(cli, board, folder):
    broken = board(mac="02:00:00:00:00:01", faults=Faults(hang_up_from=2))
    done = cli("flash", "--each", folder, "-p", broken.port, "--no-stub")
    assert done.status == 3
    assert lines(folder)[-1]["state"] == "failed"
    other = board(mac="02:00:00:00:00:02")
    assert cli("flash", "--each", folder, "-p", other.port).status == 0
    assert other.loader.flash == (folder / "dev-1.bin").read_bytes()
    mended = board(mac="02:00:00:00:00:01")
    assert cli("flash", "--each", folder, "-p", mended.port).status == 0
    assert mended.loader.flash == (folder / "dev-0.bin").read_bytes()


def test_what_was_not_written_is_given_to_another(cli, board, folder):
    small = board(mac="02:00:00:00:00:01", flash_size=1 << 20)
    assert cli("flash", "--each", folder, "-p", small.port).status == 3
    assert [line["state"] for line in lines(folder)] == ["given", "returned"]
    other = board(mac="02:00:00:00:00:02")
    assert cli("flash", "--each", folder, "-p", other.port).status == 0
    assert other.loader.flash == (folder / "dev-0.bin").read_bytes()


@pytest.mark.parametrize("delay", [0.8, 1.4, 2.0])
def test_a_crash_in_the_middle(board, cli, folder, delay):
    first = board(mac="02:00:00:00:00:01")
    home = Path(esp_at_tools.__file__).parent.parent
    program = subprocess.Popen(
        [sys.executable, "-m", "esp_at_tools", "flash", "--each", str(folder), "-p", first.port, "--no-stub"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(home)},
    )  # fmt: skip
    time.sleep(delay)
    program.send_signal(signal.SIGKILL)
    program.wait()
    given = (folder / LEDGER).exists() and any(line["file"] == "dev-0.bin" for line in lines(folder))
    second = board(mac="02:00:00:00:00:02")
    assert cli("flash", "--each", folder, "-p", second.port).status == 0
    assert second.loader.flash == (folder / ("dev-1.bin" if given else "dev-0.bin")).read_bytes()
    again = board(mac="02:00:00:00:00:01", flash=bytearray(first.loader.flash))
    assert cli("flash", "--each", folder, "-p", again.port).status == 0
    assert again.loader.flash != second.loader.flash


def test_a_torn_last_line_counts_for_nothing(folder):
    order = Allotment(folder)
    plan = order.plan_for("02:00:00:00:00:01", "p")
    ledger = folder / LEDGER
    with ledger.open("ab") as stream:
        stream.write(b'{"mac": "02:00:00:00:00:02", "fi')
    assert order.plan_for("02:00:00:00:00:02", "p").path.name == "dev-1.bin"
    assert order.plan_for("02:00:00:00:00:01", "p").path == plan.path
    assert order.count()["given"] == 2


def test_damaged_ledgers_and_empty_folders(folder, tmp_path):
    (folder / LEDGER).write_text("what\n")
    with pytest.raises(FormatError, match="line 1 is no line of a ledger"):
        Allotment(folder).count()
    with pytest.raises(InputError, match="holds no image"):
        device_images(tmp_path / "devices" / ".." / ".." / tmp_path.name)
    with pytest.raises(InputError, match="no such folder"):
        device_images(tmp_path / "none")
    with pytest.raises(DeviceError, match="does not tell its MAC"):
        Allotment(folder).plan_for("", "p")


@pytest.mark.parametrize(
    ("options", "said"),
    [(["image.bin"], "both say what to flash"), (["--dry-run"], "does not go with --each")],
)
def test_wrong_usage(cli, folder, options, said):
    done = cli("flash", "--each", folder, *options)
    assert done.status == 2
    assert said in done.err

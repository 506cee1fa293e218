"""A batch that is being flashed: its ledger is its own, and an output that is missing is told at once."""

from __future__ import annotations

import json
from pathlib import Path

import batches
import pytest

from esp_at_tools.batch.folder import LEDGER
from esp_at_tools.device.allotment import Allotment


@pytest.fixture
def folder(cli, tmp_path) -> Path:
    """Three outputs."""
    batches.make(tmp_path, 3)
    done = cli(
        "batch", "-in", tmp_path / "in.bin", "--devices", tmp_path / "devices.csv", "-o", tmp_path / "out"
    )
    assert done.status == 0, done
    return tmp_path / "out"


def flashed(folder: Path, number: int, state: str) -> None:
    order = Allotment(folder)
    mac = batches.device(number)["mac"]
    order.finished(mac, order.plan_for(mac, "p"), "p", state)


def test_verify_counts_what_was_written(cli, folder):
    assert json.loads(cli("batch", "verify", folder, "--json").out)["written"] is None
    for number, state in enumerate(("done", "failed", "returned")):
        flashed(folder, number, state)
    done = cli("batch", "verify", folder)
    assert done.status == 0, done
    assert f"1 of 3 written to modules ({LEDGER})" in done.out
    flashed(folder, 2, "done")
    told = json.loads(cli("batch", "verify", folder, "--json").out)
    assert (told["ok"], told["written"]) == (True, 2)
    with (folder / LEDGER).open("ab") as stream:
        stream.write(b'{"mac": "02')  # cut off
    assert cli("batch", "verify", folder).status == 0


@pytest.mark.parametrize("line", ["what\n", "[1]\n", '{"mac": 1}\n', "[" * 100_000 + "\n"])
def test_a_ledger_that_is_damaged(cli, folder, line):
    (folder / LEDGER).write_text(line)
    done = cli("batch", "verify", folder)
    assert done.status == 1
    assert "line 1 is no line of a ledger" in done.out
    assert "[batch-ledger-damaged]" in done.out


def test_no_module_no_ledger(cli, folder):
    done = cli("flash", "--each", folder, "-p", folder / "no-port")
    assert done.status in (2, 3)
    assert not (folder / LEDGER).exists()
    assert cli("batch", "verify", folder).status == 0


def test_outputs_that_are_missing_are_told_before_a_module_is_touched(cli, folder):
    (folder / "dev-00001.bin").unlink()
    done = cli("flash", "--each", folder, "-p", folder / "no-port")
    assert f"{folder}: 1 image of the manifest is missing, dev-00001.bin: " in done.err
    (folder / "dev-00002.bin").unlink()
    done = cli("flash", "--each", folder, "-p", folder / "no-port")
    assert "2 images of the manifest are missing, dev-00001.bin first" in done.err


def test_an_image_that_was_written_is_needed_no_more(folder):
    flashed(folder, 1, "done")
    (folder / "dev-00001.bin").unlink()
    assert Allotment(folder).missing() == []


def test_one_image_is_one(cli, folder):
    for name in ("manifest.csv", "batch.json", "dev-00001.bin", "dev-00002.bin"):
        (folder / name).unlink()
    assert ": 1 image, 0 written, 1 left" in cli("flash", "--each", folder, "-p", folder / "no-port").out

"""``flash --check``: whether the firmware runs, by AT+GMR or by the log of its start."""

from __future__ import annotations

import json

import builders
import pytest
from at_simulator import AtModule, PtyModule
from rom_simulator import Loader, PtyBoard

from esp_at_tools.at_port import check
from esp_at_tools.device.boot_log import judge_boot_log


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "factory.bin"
    path.write_bytes(builders.image())
    return path


@pytest.mark.parametrize("name", ["boot-esp32c3-v2.3.0.0.txt", "boot-esp32-v2.2.0.0.txt"])
def test_recorded_starts(shared, name):
    text = (shared / "serial" / name).read_text(encoding="utf-8", errors="replace")
    boot = judge_boot_log(text[: text.index("max tx power") + 40])
    assert boot.started
    assert boot.module in ("MINI-1", "WROOM-32")


@pytest.mark.parametrize(
    ("text", "started", "said"),
    [
        ("rst:0x1 (POWERON),boot:0x4 (DOWNLOAD(USB/UART0/1))\nwaiting for download\n", False, "boot loader"),
        ("rst:0x7 (TG0WDT_SYS_RST)\ninvalid header: 0xffffffff\n" * 3, False, "no bootloader"),
        (
            "\x1b[0;31mE (59) boot: No bootable app partitions in the partition table\x1b[0m\n",
            False,
            "no app",
        ),
        ("Brownout detector was triggered\n", False, "supply"),
        ("I boot: Loaded app from partition\nGuru Meditation Error: Core 0 panic'ed\n", False, "crashes"),
        ("rst:0xc (RTC_SW_CPU_RST)\n" * 4, False, "again and again"),
        ("I (143) boot: Loaded app from partition at offset 0x60000\nmodule_name:MINI-1\n", True, "started"),
        ("", None, "nothing was said"),
        ("what\n", None, "does not tell"),
    ],
)
def test_logs(text, started, said):
    boot = judge_boot_log(text)
    assert boot.started is started
    assert said in boot.reason


def test_at_port(cli, image):
    with PtyBoard(Loader()) as board, PtyModule(AtModule(bytearray(image.read_bytes()))) as module:
        done = cli("flash", image, "-p", board.port, "--at-port", module.port, "--json")
        assert done.status == 0, done.err
        (found,) = json.loads(done.out)["boards"]
        assert found["check"]["ok"] is True
        assert "Bin version:v5.0.1.0-dev(MINI-1)" in found["check"]["text"]
        text = cli("flash", image, "-p", board.port, "--check", "--at-port", module.port)
        assert f"{module.port}: firmware runs: AT version:5.0.1.0" in text.out


def test_a_module_that_says_nothing_fails_the_check(cli, image, monkeypatch):
    monkeypatch.setattr(check, "LOG_SECONDS", 0.2)
    with PtyBoard(Loader()) as board:
        done = cli("flash", image, "-p", board.port, "--check")
        assert done.status == 1
        assert board.loader.flash == image.read_bytes()
    assert "firmware cannot be told" in done.out
    assert "give --at-port" in done.err


def test_the_log_of_a_start(cli, image, monkeypatch):
    log = b"rst:0x1 (POWERON)\r\nI (143) boot: Loaded app\r\nmodule_name:MINI-1\r\n"
    monkeypatch.setattr(check, "_listened", lambda *_: log.decode())
    with PtyBoard(Loader()) as board:
        done = cli("flash", image, "-p", board.port, "--check")
    assert done.status == 0, done.err
    assert "firmware runs: the firmware has started (MINI-1)" in done.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--at-port", "/dev/a", "--at-port", "/dev/b"], "2 --at-port for 1 -p"),
        (["--at-port", "/dev/x"], "is the download port"),
        (["--check", "--dry-run"], "goes without --dry-run"),
        (["--ledger", "x"], "goes with --each"),
    ],
)
def test_wrong_usage(cli, image, options, said):
    done = cli("flash", image, "-p", "/dev/x", *options)
    assert done.status == 2
    assert said in done.err

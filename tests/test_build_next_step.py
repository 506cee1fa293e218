"""What ``build`` suggests after a configuration without an application."""

from __future__ import annotations

import shlex
from pathlib import Path

import builders
import pytest

from esp_at_tools.firmware.firmware import Firmware

MODULE = ("-m", "ESP32C3/MINI-1")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def suggested(out: str) -> list[str]:
    lines = [line.strip() for line in out.splitlines()]
    return next((shlex.split(line) for line in lines if line.endswith("--source RELEASE")), [])


def test_it_is_the_same_command_with_a_release(cli):
    release = builders.release(Path("release"))
    Path("my files").mkdir()
    cli("modules", "add", "MY", "--from", "ESP32C3/MINI-1", "--dir", "mine")
    args = ["-m", "MY", "--dir", "mine", "--set", "uart_baudrate=9600", "--flash", "8MB"]
    done = cli("build", *args, "--partition", "foo=64K", "--fs-image", "my files", "--config-only")
    again = suggested(done.out)
    assert again == [
        *("esp-at-tool", "build", *args, "--partition", "foo=64K", "--fs-image", "my files"),
        *("--source", "RELEASE"),
    ]
    assert cli(*again[1:-1], release).status == 0
    firmware = Firmware.open(Path("build"))
    assert firmware.settings()["uart_baudrate"] == 9600
    assert firmware.flash_size == 8 << 20


@pytest.mark.parametrize(
    "args",
    [("--feature", "-mdns"), ("--silence",), ("--set", "CONFIG_LWIP_IPV6=y"), ("--set=CONFIG_LWIP_IPV6=y",)],
)
def test_what_no_release_can_have_is_not_suggested(cli, args):
    done = cli("build", *MODULE, *args)
    assert done.status == 0
    assert suggested(done.out) == []


def test_the_module_is_named_where_the_command_left_it_to_the_checkout(cli, shared):
    source = shared / "esp-at" / "v5.0.1.0"
    done = cli("build", "--source", source, *MODULE, "--config-only", "-o", "out")
    assert done.status == 0
    assert suggested(done.out) == ["esp-at-tool", "build", *MODULE, "-o", "out", "--source", "RELEASE"]

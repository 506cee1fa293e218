"""Actions that are idf.py's: they go there as they are; elsewhere an unknown command is an error."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import idf_standin
import pytest
from idf_standin import StandIn

from esp_at_tools.cli.idf_action import compiles, known_actions, project_of
from esp_at_tools.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script in part")


def test_options_before_and_behind_the_action(cli, checkout: Path, standin: StandIn) -> None:
    for args, given in (
        (["monitor"], ["monitor"]),
        (
            ["-p", "/dev/ttyUSB0", "-b", "921600", "monitor"],
            ["-p", "/dev/ttyUSB0", "-b", "921600", "monitor"],
        ),
        (["fullclean", "--project", str(checkout), "monitor"], ["fullclean", "monitor"]),
        (["--project", str(checkout), "monitor", "--print-filter=*:W"], ["monitor", "--print-filter=*:W"]),
        (["monitor", "-h"], ["monitor", "-h"]),
    ):
        shutil.rmtree(checkout / "build", ignore_errors=True)
        (checkout / "build").mkdir()
        (checkout / "build/module_info.json").write_text(
            json.dumps({"platform": "PLATFORM_ESP32C3", "module": "MINI-1", "silence": 0})
        )
        done = cli(*args)
        assert done.status == 0, (args, done.err)
        assert standin.records()[-1]["args"] == ["-DIDF_TARGET=esp32c3", *given]
    assert standin.records()[-1]["env"]["ESP_AT_MODULE_NAME"] == "MINI-1"


def test_a_build_by_an_action_leaves_download_config(cli, checkout: Path) -> None:
    assert cli("app").status == 0
    words = (checkout / "build/flash_project_args").read_text().split()
    assert (checkout / "build/download.config").read_text().split() == words


def test_tokens_are_there_while_an_action_compiles(
    cli, checkout: Path, standin: StandIn, monkeypatch
) -> None:
    header = idf_standin.add_tokens(checkout)
    before = header.read_text()
    monkeypatch.setenv("AT_OTA_TOKEN_MINI1", "abcdef0123456789")
    for args, has_token in ((("app",), True), (("reconfigure", "build"), True), (("monitor",), False)):
        done = cli(*args)
        assert done.status == 0, done.err
        assert ('TOKEN_MINI1 "abcdef0123456789"' in standin.records()[-1]["header"]) == has_token, args
        assert ("OTA tokens of AT_OTA_TOKEN_MINI1" in done.err) == has_token
        assert "abcdef" not in done.out + done.err
        assert header.read_text() == before
    assert cli("app", "unheard-of").status == 4
    assert header.read_text() == before


def test_tokens_are_taken_out_when_an_action_is_ended(checkout: Path, monkeypatch) -> None:
    header = idf_standin.add_tokens(checkout)
    before = header.read_text()
    monkeypatch.setenv("AT_OTA_TOKEN_MINI1", "abcdef0123456789")
    process = idf_standin.start_slow(checkout, "app")
    assert "abcdef" in header.read_text()
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert header.read_text() == before


def test_which_actions_compile() -> None:
    known = known_actions()
    assert {"app", "all", "size", "app-flash"} <= {action for action, compiles in known.items() if compiles}
    assert not any(known[action] for action in ("monitor", "bootloader", "partition-table", "fullclean"))
    assert compiles(["app_flash"])
    assert not compiles(["monitor", "--print-filter", "x"])


def test_an_action_that_fails(cli, checkout: Path) -> None:
    assert (checkout / "esp-idf").is_dir()
    done = cli("unheard-of", "--fast")
    assert done.status == 4
    assert "idf.py unheard-of --fast: exit status 1" in done.err


@pytest.mark.usefixtures("checkout")
def test_a_slip_of_the_fingers_is_no_action(cli, standin: StandIn, monkeypatch) -> None:
    before = len(standin.records())
    for slip, meant in (("instal", "install"), ("inspct", "inspect"), ("modify-bn", "modify-bin")):
        done = cli(slip)
        assert done.status == 2
        assert f"did you mean {meant!r}?" in done.err
    assert len(standin.records()) == before
    monkeypatch.setattr("esp_at_tools.cli.idf_action.Path.is_file", lambda *_: False)  # no ESP-IDF yet
    assert cli("what-is-this").status == 2


def test_a_checkout_that_is_prepared_for_no_module(cli, standin: StandIn, tmp_path: Path) -> None:
    checkout = idf_standin.make_checkout(tmp_path / "esp-at", standin)
    done = cli("size", "--project", checkout)
    assert (done.status, "is not prepared for a module yet" in done.err) == (2, True)
    assert "NAME is one of ESP32C3/MINI-1, ESP32C3/MINI-2" in done.err
    assert not (checkout / "esp-idf").exists()


def test_outside_of_a_checkout(cli, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("instal")
    assert (done.status, "there is no command 'instal'; did you mean 'install'?" in done.err) == (2, True)
    done = cli("monitor", "--project", tmp_path)
    assert (done.status, "there is no command 'monitor'" in done.err) == (2, True)


def test_options_before_a_command_of_this_program_are_its_own(cli, checkout: Path, tmp_path: Path) -> None:
    done = cli("-p", "X", "ports")
    assert (done.status, "-p" in done.err) == (2, True)
    done = cli("--project", checkout, "build", "--config-only", "--output", tmp_path / "out", "-m", "MINI-1")
    assert done.status == 0, done.err
    assert (tmp_path / "out/at_customize.bin").is_file()


def test_where_the_project_is_named() -> None:
    assert project_of(["size", "--project", "a b", "-v"], None) == (Path("a b"), ["size", "-v"])
    assert project_of(["size", "--project=x"], Path("y")) == (Path("x"), ["size"])
    assert project_of(["size"], Path("y")) == (Path("y"), ["size"])
    with pytest.raises(InputError, match="path is missing"):
        project_of(["size", "--project"], None)

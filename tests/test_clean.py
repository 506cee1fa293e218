"""``clean``: what builds have left is taken back, and nothing that is the user's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from idf_standin import add_patch, apply_patch, write

from esp_at_tools.workspace.ota_tokens import _MARK, HEADER

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script in part")
INFO = '{"platform":"PLATFORM_ESP32C3","module":"MINI-1","silence":0}'


@pytest.fixture
def patched(checkout: Path) -> Path:
    """A checkout that lists a patch, which is not applied."""
    add_patch(checkout)
    return checkout


def test_clean_takes_back_what_builds_left_and_nothing_else(cli, patched):
    write(patched / "build/module_info.json", INFO)
    write(patched / "build/esp-at.bin", b"x" * 3000)
    write(patched / "build/bootloader/bootloader.bin", b"x")
    write(patched / "build.ESP32-MINI-1/CMakeCache.txt", "")
    write(patched / "build.notes/mine.txt", "mine")
    write(patched / "sdkconfig", "CONFIG_X=y\n")
    write(patched / "sdkconfig.overlay/esp32c3-mini-1.defaults", "CONFIG_X=y\n")
    write(patched / "esp-idf/mine.txt", "mine")
    apply_patch(patched)
    dry = cli("clean", "--dry-run")
    assert dry.status == 0
    assert "would be taken back" in dry.out
    assert (patched / "build/esp-at.bin").exists()
    result = cli("clean")
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines() == [
        "readme.patch  taken back  (esp-idf)",
        f"{patched}/build  emptied, but for the choice of the module  (2.9 KiB)",
    ]
    assert (patched / "esp-idf/README.md").read_text() == "a stand-in\n"
    assert not (patched / "esp-idf/readme.patch").exists()
    assert [path.name for path in (patched / "build").iterdir()] == ["module_info.json"]
    kept = ("sdkconfig", "sdkconfig.overlay/esp32c3-mini-1.defaults", "esp-idf/mine.txt")
    for name in (*kept, "build.notes/mine.txt", "build.ESP32-MINI-1/CMakeCache.txt"):
        assert (patched / name).exists()
    assert cli("clean").out == "Nothing to clean.\n"
    assert "build.ESP32-MINI-1" in cli("clean", "--all").out
    assert not (patched / "build.ESP32-MINI-1").exists()
    assert (patched / "build.notes/mine.txt").exists()


def test_clean_does_not_have_an_overlay_applied_twice(cli, patched):
    for name, sdkconfig in (("ESP32C3-MINI-1", True), ("ESP32C3-MINI-2", False)):
        write(patched / f"build.{name}/module_info.json", INFO)
        write(patched / f"build.{name}/sdkconfig.overlay.applied", "CONFIG_NEW=3\n")
        write(patched / f"build.{name}/.gitignore", "*\n")
        write(patched / f"build.{name}/esp-at.bin", b"x" * 2048)
        if sdkconfig:
            write(patched / f"sdkconfig.{name}", "CONFIG_NEW=4\n")
    one, two = cli("clean", "--all").out.splitlines()
    assert "build.ESP32C3-MINI-1  emptied, but for the list of what menuconfig has put into its" in one
    assert two == f"{patched}/build.ESP32C3-MINI-2  removed  (2.1 KiB)"
    assert sorted(path.name for path in (patched / "build.ESP32C3-MINI-1").iterdir()) == [
        ".gitignore",
        "module_info.json",
        "sdkconfig.overlay.applied",
    ]
    assert cli("clean", "--all").out == "Nothing to clean.\n"


def test_clean_one_of_the_two(cli, patched):
    write(patched / "build/module_info.json", "{}")
    write(patched / "build/x.bin", b"x")
    apply_patch(patched)
    document = json.loads(cli("clean", "--patches", "--json").out)
    assert document["patches"] == [{"name": "readme.patch", "path": "esp-idf", "result": "taken back"}]
    assert document["removed"] == []
    apply_patch(patched)
    assert json.loads(cli("clean", "--build", "--json").out)["removed"][0]["size"] == 1
    assert (patched / "esp-idf/readme.patch").exists()


def test_clean_leaves_what_it_does_not_know(cli, patched):
    (patched / "build/module_info.json").unlink()
    write(patched / "build/thesis.tex", "mine")
    result = cli("clean")
    assert result.status == 2
    assert "is no build folder" in result.err
    assert (patched / "build/thesis.tex").exists()
    assert cli("clean", "--project", patched.parent).status == 2


def test_clean_says_what_it_cannot_take_back(cli, patched):
    apply_patch(patched)
    (patched / "esp-idf/README.md").write_text("my own stand-in\n")
    dry = cli("clean", "--patches", "--dry-run")
    result = cli("clean", "--patches")
    assert dry.status == result.status == 1
    assert dry.out == result.out == "readme.patch  stays  (esp-idf)\n"
    assert "README.md: hunk 1 of 1" in result.err
    assert (patched / "esp-idf/README.md").read_text() == "my own stand-in\n"
    assert (patched / "esp-idf/readme.patch").exists()


def test_clean_removes_the_copy_of_a_patch_that_never_was_in(cli, patched):
    text = (patched / "patches/readme.patch").read_text().replace("-a stand-in", "-another file")
    write(patched / "patches/readme.patch", text)
    write(patched / "esp-idf/readme.patch", text)
    assert cli("clean").out == "readme.patch  copy removed  (esp-idf)\n"
    assert not (patched / "esp-idf/readme.patch").exists()


def test_tokens_that_a_killed_build_has_left(cli, checkout):
    header = write(checkout / HEADER, "#pragma once\n")
    assert "OTA tokens" not in cli("doctor", "-m", "MINI-1").out
    header.write_bytes(header.read_bytes() + _MARK + b'#define TOKEN "abc123"\n')
    done = cli("doctor", "-m", "MINI-1")
    assert "git would commit them" in done.out
    assert "→ esp-at-tool clean --patches\n" in done.out
    dry = cli("clean", "--dry-run")
    assert dry.out == f"OTA tokens  would be taken out  ({HEADER.as_posix()})\n"
    assert cli("clean", "--build").out == "Nothing to clean.\n"
    assert b"abc123" in header.read_bytes()
    result = cli("clean", "--json")
    assert json.loads(result.out)["tokens"] is True
    assert header.read_text() == "#pragma once\n"
    assert "abc123" not in done.out + done.err + dry.out + result.out + result.err
    assert cli("clean").out == "Nothing to clean.\n"

"""``modules check --app``: whether an application fits the partition that a module has for it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from builders import esp_image, image, release, zipped

from esp_at_tools.build.plan_app import AppFile, app_partition, fits, read_app
from esp_at_tools.catalog.modules import module
from esp_at_tools.catalog.overlay import Overlay
from esp_at_tools.errors import EspAtError
from esp_at_tools.formats.app_image import AppImage
from esp_at_tools.formats.partition_table import PartitionTable

SLOT = 1856 << 10  # of ESP32C3/MINI-1


def app(folder: Path, size: int, chip: str = "esp32c3") -> Path:
    """Write an application that takes about so many bytes, and return its file."""
    path = folder / f"app-{size}.bin"
    path.write_bytes(esp_image(chip, size=size))
    return path


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch) -> Path:
    """An empty cache of releases."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ESP_AT_CACHE", str(folder))
    return folder


def test_the_size_is_that_of_the_image(tmp_path: Path) -> None:
    path = app(tmp_path, 100_000)
    size = AppImage.from_bytes(path.read_bytes()).size
    path.write_bytes(path.read_bytes() + b"\xff" * 5000)  # what aligns it
    assert read_app(path) == AppFile(path, size, "esp32c3")


def test_every_form_of_a_firmware(tmp_path: Path) -> None:
    folder = release(tmp_path / "release")
    archive = zipped(folder, tmp_path / "release.zip")
    full = tmp_path / "full.bin"
    full.write_bytes(image())
    found = [read_app(path) for path in (folder, archive, full)]
    assert len({(each.size, each.chip, each.module) for each in found}) == 1
    assert (found[0].chip, found[0].module) == ("esp32c3", "MINI-1")


@pytest.mark.parametrize(
    ("size", "status", "word"),
    [(1 << 20, 0, "leaves"), (SLOT - (64 << 10), 0, "warning"), (SLOT + 4096, 1, "does not fit")],
)
def test_levels(cli, tmp_path: Path, size: int, status: int, word: str) -> None:
    result = cli("modules", "check", "ESP32C3/MINI-1", "--app", app(tmp_path, size))
    assert (result.status, word in result.out) == (status, True)
    assert "ota_0 of 1856 KB" in result.out


def test_the_numbers(cli, tmp_path: Path) -> None:
    path = app(tmp_path, SLOT + 4096)
    over = AppImage.from_bytes(path.read_bytes()).size - SLOT
    result = cli("modules", "check", "ESP32C3/MINI-1", "--app", path, "--json")
    (found,) = json.loads(result.out)["applications"]
    assert (found["left"], found["level"], found["module"]) == (-over, "error", "ESP32C3/MINI-1")
    (problem,) = json.loads(result.out)["problems"]
    assert f"{over} bytes too many" in problem["message"]
    assert "a larger flash" in problem["hint"]


def test_five_percent_are_the_limit() -> None:
    mini = module("ESP32C3/MINI-1")
    for left, level in ((SLOT // 20 + 1, None), (SLOT // 20, "warning"), (0, "warning"), (-1, "error")):
        (fit,) = fits(AppFile(Path("x"), SLOT - left, "esp32c3"), (mini,))
        assert fit.level == level, left


def test_which_modules_are_compared(cli, tmp_path: Path) -> None:
    """Those that are named, else the one that the firmware names and one's own, else all of the chip."""
    lone, whole = app(tmp_path, 1 << 20), release(tmp_path / "release")
    mine = tmp_path / "mine"
    assert cli("modules", "add", "MY", "--from", "ESP32C3/MINI-1", "--dir", mine).status == 0

    def compared(*args: object) -> list[str]:
        result = cli("modules", "check", "--json", *args)
        assert result.status == 0
        return [each["module"] for each in json.loads(result.out)["applications"]]

    all_c3 = ["ESP32C3/MINI-1", "ESP32C3/ESP32C3-SPI", "ESP32C3/ESP32C3_RAINMAKER"]
    assert compared("--app", lone) == all_c3
    assert compared("--app", whole) == ["ESP32C3/MINI-1"]
    assert compared("--app", whole, "--dir", mine) == ["ESP32C3/MINI-1", "ESP32C3/MY"]
    assert compared("--app", lone, "--dir", mine) == ["ESP32C3/MY"]
    assert compared("--app", lone, "--app", whole, "ESP32C3-SPI") == ["ESP32C3/ESP32C3-SPI"] * 2
    assert compared() == []


def test_the_smaller_slot_counts_unless_updates_are_compressed() -> None:
    assert app_partition(module("ESP32C5/ESP32C5-4MB")).name == "ota_0"  # ota_1 is smaller: compressed
    assert app_partition(module("ESP32C2/ESP32C2-2MB")).size == 1216 << 10
    rows = {each.name: each for each in module("ESP32C3/MINI-1").primary}
    rows["ota_1"] = replace(rows["ota_1"], size=1 << 20)
    uneven = Overlay(primary=PartitionTable(tuple(rows.values()), md5=False))
    assert app_partition(module("ESP32C3/MINI-1", overlay=uneven)).name == "ota_1"


def test_a_larger_flash_is_the_remedy(cli, tmp_path: Path) -> None:
    big, mine = app(tmp_path, SLOT + 4096), tmp_path / "mine"
    add = ("modules", "add", "BIG", "--from", "ESP32C3/MINI-1", "--dir", mine)
    assert cli(*add, "--flash", "8MB", "--app", big).status == 0
    assert cli("modules", "check", "BIG", "--dir", mine, "--app", big).status == 0
    small = cli(*add[:2], "SMALL", *add[3:], "--flash", "2MB", "--app", big)
    assert small.status == 2
    assert "an application of 1904976 bytes does not fit" in small.err
    assert "a flash of 4 MB has the room" in small.err


def test_what_an_application_costs(cli, tmp_path: Path) -> None:
    """In 4 MB: the place of a file system that is off, else the second slot."""
    big, mine = app(tmp_path, SLOT + 4096), tmp_path / "mine"
    args = ("--from", "ESP32C3/MINI-1", "--dir", mine, "--app", big)
    assert "fatfs is gone, which nothing uses" in cli("modules", "add", "A", *args).out
    assert "ota_1 is gone" in cli("modules", "add", "B", *args, "--feature", "+fs").err
    assert module("A", folder=mine).features["ota"].is_on
    assert not module("B", folder=mine).features["ota"].is_on
    assert cli("modules", "check", "A", "B", "--dir", mine).status == 0


def test_downloaded_releases_are_compared(cli, tmp_path: Path, no_cache: Path) -> None:
    from esp_at_tools.releases.cache import slot

    known = module("ESP32C3/MINI-1").releases
    archive = zipped(release(tmp_path / "release"), tmp_path / "release.zip")
    for each in known[-2:]:
        path = slot(each).path
        path.parent.mkdir(parents=True)
        shutil.copy(archive, path)
    assert path.is_relative_to(no_cache)
    result = cli("modules", "check", "--json")
    (found,) = json.loads(result.out)["applications"]
    assert found["file"] == str(slot(known[-2]).path)  # the newest of them
    slot(known[-2]).path.write_bytes(b"broken")
    result = cli("modules", "check")
    assert (result.status, "not compared" in result.err) == (0, True)


REFUSED = {
    "no file": (lambda folder: folder / "none.bin", "no such file"),
    "another chip": (lambda folder: app(folder, 5000, "esp32c6"), "which ESP32C3/MINI-1 has not"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_compared(cli, tmp_path: Path, why: str) -> None:
    make, message = REFUSED[why]
    result = cli("modules", "check", "ESP32C3/MINI-1", "--app", make(tmp_path))
    assert (result.status, message in result.err) == (2, True)


@pytest.mark.parametrize("data", [b"", b"\xe9", b"\xe9" * 5000, b"\xea" + bytes(100), b"text"])
def test_damaged_applications(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(data)
    with pytest.raises(EspAtError):
        read_app(path)


def test_a_bootloader_is_no_application(tmp_path: Path) -> None:
    path = tmp_path / "bootloader.bin"
    path.write_bytes(esp_image(app=False))
    with pytest.raises(EspAtError):
        read_app(path)


def test_real_firmware(cli, shared: Path) -> None:
    folder = shared / "firmware" / "ESP32-C3-MINI-1-V5.0.1.0-assembled"
    result = cli("modules", "check", "--app", folder, "--app", folder / "esp-at.bin", "--json")
    found = json.loads(result.out)["applications"]
    assert {each["size"] for each in found} == {(folder / "esp-at.bin").stat().st_size}
    assert [each["module"] for each in found][:2] == ["ESP32C3/MINI-1"] * 2


def test_broken_definitions_come_first(cli, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    assert cli("modules", "add", "MY", "--from", "ESP32C3/MINI-1", "--dir", mine).status == 0
    (mine / "modules" / "esp32c3" / "MY.yaml").write_text("flash: {size: 5MB}\n")
    result = cli("modules", "check", "MY", "--dir", mine, "--app", app(tmp_path, 5000))
    assert result.status == 1
    assert "5MB" in result.out
    assert "no application" in result.err

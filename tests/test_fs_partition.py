"""``build --fs-image``: what is said of the file system that a folder becomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from esp_at_tools.build.customise import customise
from esp_at_tools.build.from_definitions import recipe_from_definitions
from esp_at_tools.build.options import Options
from esp_at_tools.build.recipe import Recipe
from esp_at_tools.errors import InputError

WITH_FS = "CONFIG_AT_FS_COMMAND_SUPPORT=y\n"


def recipe(text: str = WITH_FS) -> Recipe:
    return replace(recipe_from_definitions("ESP32C3/MINI-1", Options()), sdkconfig_defaults=text)


def files(folder: Path, **sizes: int) -> Options:
    folder.mkdir()
    for name, size in sizes.items():
        (folder / name).write_bytes(bytes(size))
    return Options(fs_image=folder)


@pytest.mark.parametrize(("text", "kind"), [("", "FAT"), ("CONFIG_AT_FS_LITTLEFS=y\n", "LittleFS")])
def test_type_files_and_room_are_told(tmp_path, text, kind):
    small = customise(recipe(WITH_FS + text), files(tmp_path / "a", x=3000))
    large = customise(recipe(WITH_FS + text), files(tmp_path / "b", x=3000, y=20 << 10))
    assert small.warnings == ()
    assert small.notes[-1].startswith(f"fatfs: {kind} with 1 file of 2.9 KB, ")
    assert large.notes[-1].startswith(f"fatfs: {kind} with 2 files of 22.9 KB, ")
    room = [float(each.notes[-1].partition("KB, ")[2].partition(" KB")[0]) for each in (small, large)]
    assert 20 <= room[0] - room[1] < 28
    assert 0 < room[1] < 80
    assert small.notes[-1].endswith(" of 100 KB free")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("CONFIG_AT_FS_COMMAND_SUPPORT=n\n", True),
        ("CONFIG_LWIP_IPV6=y\n", True),
        (WITH_FS, False),
        ("CONFIG_AT_WEB_USE_FATFS=y\n", False),
        ("", False),
    ],
)
def test_a_firmware_without_file_system_is_named(tmp_path, text, told):
    warnings = customise(recipe(text), files(tmp_path / "a", x=10)).warnings
    assert any("does not use fatfs: CONFIG_AT_FS_COMMAND_SUPPORT" in each for each in warnings) is told


def test_an_empty_folder_is_named(tmp_path):
    (warning,) = customise(recipe(), files(tmp_path / "a")).warnings
    assert "no file is in it" in warning


@pytest.mark.parametrize("text", ["", "CONFIG_AT_FS_LITTLEFS=y\n"])
@pytest.mark.parametrize("size", [95 << 10, 300 << 10])
def test_a_folder_that_does_not_fit_names_the_size_that_would_do(tmp_path, text, size):
    asked = files(tmp_path / "a", x=size, y=size // 10)
    with pytest.raises(InputError, match=r"^--fs-image ") as caught:
        customise(recipe(WITH_FS + text), asked)
    hint = caught.value.hint
    wish = hint.partition("--partition fatfs=")[2]
    assert customise(
        recipe(WITH_FS + text), replace(asked, partition_sizes={"fatfs": int(wish.removesuffix("K")) << 10})
    ).partitions["fatfs"]


def test_a_folder_that_is_missing_names_the_option(tmp_path):
    missing = tmp_path / "nope"
    with pytest.raises(InputError) as caught:
        customise(recipe(), Options(fs_image=missing))
    assert caught.value.message == f"--fs-image {missing}: no such folder"

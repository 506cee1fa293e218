"""Configurations from official source trees: the bytes of the official scripts."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import pytest
from conftest import SHARED
from source_trees import (
    files_of,
)

from esp_at_tools.build.at_defaults import with_known_defaults
from esp_at_tools.build.from_tree import FROM_DEFAULTS, recipe_from_tree
from esp_at_tools.build.options import Options
from esp_at_tools.build.tree import open_tree
from esp_at_tools.formats.flash_args import FlashArgs
from esp_at_tools.formats.sdkconfig import Sdkconfig

OFFICIAL = SHARED / "esp-at"
VERSIONS = ("v3.4.0.0", "v5.0.1.0")
FILES = {
    "partition-table.bin": "partition_table/partition-table.bin",
    "at_customize.bin": "at_customize.bin",
    "mfg_nvs.csv": "customized_partitions/mfg_nvs.csv",
    "mfg_nvs.bin": "customized_partitions/mfg_nvs.bin",
}


@functools.lru_cache
def index(version: str) -> dict[str, dict[str, str]]:
    """What the official scripts resolve for each module."""
    path = OFFICIAL / version / "expected" / "index.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


MODULES = [(version, name) for version in VERSIONS for name in index(version)] or [("v5.0.1.0", "absent")]
every_module = pytest.mark.parametrize(("version", "name"), MODULES)


def test_all_modules_are_compared(shared: Path) -> None:
    assert shared == SHARED
    assert len(MODULES) == 37


@pytest.mark.usefixtures("shared")
@every_module
@pytest.mark.parametrize("resolved", [True, False], ids=["sdkconfig", "defaults"])
def test_the_bytes_of_the_official_scripts(version: str, name: str, resolved: bool) -> None:
    tree, wanted = OFFICIAL / version, OFFICIAL / version / "expected" / name
    sdkconfig = wanted / "sdkconfig" if resolved else None
    recipe = recipe_from_tree(open_tree(tree), name, Options(config_only=True, sdkconfig=sdkconfig))
    files = files_of(recipe)
    for official, ours in FILES.items():
        assert files[ours] == (wanted / official).read_bytes(), official
    assert (FROM_DEFAULTS in recipe.notes) is not resolved
    if sdkconfig:
        assert files["sdkconfig"] == sdkconfig.read_bytes()
    else:
        folder = tree / index(version)[name]["module_config"]
        assert files["sdkconfig.defaults"] == (folder / "sdkconfig.defaults").read_bytes()
    check_lists(files, index(version)[name])


def check_lists(files: dict[str, bytes], wanted: dict[str, str]) -> None:
    """Compare the lists of a configuration with what the official scripts resolve."""
    args = FlashArgs.from_json(files["flasher_args.json"].decode())
    assert FlashArgs.from_download_config(files["download.config"].decode()).files == args.files
    assert (args.flash_mode, args.flash_freq, args.flash_size) == (
        wanted["flash_mode"], wanted["flash_freq"], wanted["flash_size"],
    )  # fmt: skip
    places = {part.name: hex(part.offset) for part in args.parts}
    assert places["partition-table"] == wanted["partition_table_offset"]
    assert places["at_customize"] == wanted["at_customize_offset"]
    assert places["mfg_nvs"] == wanted["mfg_nvs_offset"]


@pytest.mark.usefixtures("shared")
@every_module
def test_the_silent_variant_differs_in_its_sdkconfig_alone(version: str, name: str) -> None:
    tree = open_tree(OFFICIAL / version)
    loud = files_of(recipe_from_tree(tree, name, Options()))
    silent = files_of(recipe_from_tree(tree, name, Options(silence=True)))
    assert {path for path in loud if loud[path] != silent[path]} == {"sdkconfig.defaults", "module_info.json"}


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_bytes_from_a_folder_of_another_name(version: str, tmp_path: Path) -> None:
    name = "ESP32C3/MINI-1"
    for copy in ("one", "another folder"):
        shutil.copytree(OFFICIAL / version, tmp_path / copy, ignore=lambda _folder, _names: ["expected"])
    one, other = (
        files_of(recipe_from_tree(tmp_path / copy, name, Options())) for copy in ("one", "another folder")
    )
    assert one == other == files_of(recipe_from_tree(OFFICIAL / version, name, Options()))
    assert not [path for path, data in one.items() if str(tmp_path).encode() in data]


@pytest.mark.usefixtures("shared")
@every_module
def test_known_defaults_are_what_kconfig_makes_of_them(version: str, name: str) -> None:
    tree = open_tree(OFFICIAL / version)
    row = tree.module(name)
    options = sorted({each.option for each in tree.dependencies()})
    layer = Sdkconfig.from_bytes(tree.defaults(row, silence=False)[0].read_bytes())
    official = Sdkconfig.from_bytes((OFFICIAL / version / "expected" / name / "sdkconfig").read_bytes())
    found = with_known_defaults([layer], row.chip, options)
    flash = [f"ESPTOOLPY_FLASH{each}" for each in ("MODE", "FREQ", "SIZE")]
    for option in (*options, *flash, "PARTITION_TABLE_OFFSET", "AT_CUSTOMIZED_PARTITION_TABLE_OFFSET"):
        assert (found.get(option) or "n") == (official.get(option) or "n"), option


@pytest.mark.usefixtures("shared")
def test_the_esp_idf_of_each_module() -> None:
    tree = open_tree(OFFICIAL / "v5.0.1.0")
    for row in tree.modules():
        pin = tree.idf_version(row)
        assert pin.branch.startswith(("release/v5.", "v5."))
        assert len(pin.commit) == 40
        assert pin.repository.endswith("/esp-idf.git")

"""Configurations from an esp-at source tree: the bytes of the official scripts, and errors for bad trees."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import builders
import kconfig_trees
import pytest
from conftest import SHARED

from esp_at_tools.build.artefacts import built_files
from esp_at_tools.build.at_defaults import with_known_defaults
from esp_at_tools.build.from_tree import FROM_DEFAULTS, extension_folder, recipe_from_tree
from esp_at_tools.build.options import Options
from esp_at_tools.build.recipe import Recipe
from esp_at_tools.build.tree import is_source_tree, open_tree
from esp_at_tools.catalog.chips import chip
from esp_at_tools.errors import EspAtError, FormatError, InputError
from esp_at_tools.formats.flash_args import FlashArgs
from esp_at_tools.formats.nvs import NvsPartition
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


def files_of(recipe: Recipe) -> dict[str, bytes]:
    return {path: file.data for path, file in built_files(recipe).items()}


# --- against the official scripts ---------------------------------------------------------------------


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


# --- a tree made in code ------------------------------------------------------------------------------

DEFAULTS = """CONFIG_IDF_TARGET_ESP32C3=y
CONFIG_ESPTOOLPY_FLASHMODE_QIO=y
CONFIG_ESPTOOLPY_FLASHFREQ_40M=y
CONFIG_ESPTOOLPY_FLASHSIZE_4MB=y
CONFIG_PARTITION_TABLE_CUSTOM=y
CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="module_config/module_esp32c3_default/partitions_at.csv"
CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_FILE="module_config/module_esp32c3_default/at_customize.csv"
CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_OFFSET=0x1e000
CONFIG_BT_ENABLED=y
"""
PRIMARY = """otadata, data, ota, 0xd000, 0x2000
at_customize, 0x40, 0, 0x1E000, 0x42000
ota_0, app, ota_0, 0x60000, 0x1d0000
ota_1, app, ota_1, 0x230000, 0x1d0000
"""
SECONDARY = "mfg_nvs, data, nvs, 0x1f000, 124K\nfatfs, data, fat, 0x47000, 100K\n"
DATA = """platform,module_name,description,version,uart_tx_pin
PLATFORM_ESP32C3,MY-BOARD,"mine, and no other's",4,7
PLATFORM_ESP32C3,MY-SPI,,4,-1
"""
CSV = "components/customized_partitions/raw_data/factory_param/factory_param_data.csv"
TYPES = "components/customized_partitions/raw_data/factory_param/factory_param_type.csv"
LIST = "components/customized_partitions/at_customized_config_dependency.txt"
GATTS = "components/customized_partitions/raw_data/ble_data/gatts_data.csv"
HOME = "module_config/module_esp32c3_default"
TREE = {
    CSV: DATA,
    TYPES: "# types\nversion,data,i8\n\nmodule_name,data,string\nuart_tx_pin,data,i32\n",
    LIST: "# a comment\nAT_BLE_COMMAND_SUPPORT=y   ble_data\nAT_FS_COMMAND_SUPPORT=y fatfs\n"
    "AT_SSL_CLIENT_SERVER_AUTH_CLIENT=y client_cert\nAT_SSL_CLIENT_SERVER_AUTH_CLIENT=y client_key\n"
    "AT_MQTT_CLIENT_AUTH_BROKER=y mqtt_ca\nAT_CUSTOMIZED_PARTITION_TABLE_SUPPORT=y factory_param\n"
    "AT_CUSTOMIZED_PARTITION_TABLE_SUPPORT=y mfg_nvs\n",
    GATTS: "# index,…\n0,16,0x2800,0x01,2,2,A002\n",
    "components/customized_partitions/raw_data/client_cert/b.crt": "second",
    "components/customized_partitions/raw_data/client_cert/a.pem": "first",
    "components/customized_partitions/raw_data/client_cert/notes.txt": "no certificate",
    "components/customized_partitions/raw_data/client_key/device, mine.key": "secret",
    "components/customized_partitions/raw_data/mqtt_ca/ca.crt": "mqtt",
    f"{HOME}/sdkconfig.defaults": DEFAULTS,
    f"{HOME}/sdkconfig_silence.defaults": f"{DEFAULTS}CONFIG_LOG_DEFAULT_LEVEL_NONE=y\n",
    f"{HOME}/partitions_at.csv": PRIMARY,
    f"{HOME}/at_customize.csv": SECONDARY,
    f"{HOME}/IDF_VERSION": "branch:release/v5.4\ncommit:0123456789abcdef\nrepository:https://host/idf.git\n",
}


@dataclass(frozen=True)
class Made:
    """A tree in a folder of its own."""

    folder: Path

    def write(self, path: str, text: str | bytes) -> Path:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        return target

    def add(self, path: str, text: str) -> None:
        self.write(path, f"{(self.folder / path).read_text('utf-8')}{text}")

    def recipe(self, name: str = "ESP32C3/MY-BOARD", **options: object) -> Recipe:
        return recipe_from_tree(open_tree(self.folder), name, Options(**options))


@pytest.fixture
def tree(tmp_path: Path) -> Made:
    made = Made(tmp_path / "tree")
    for path, text in TREE.items():
        made.write(path, text)
    return made


def test_what_a_tree_of_ones_own_comes_to(tree: Made) -> None:
    recipe = tree.recipe()
    raw = "components/customized_partitions/raw_data"
    contents = recipe.partitions["mfg_nvs"]
    assert contents.csv == (
        "key,type,encoding,value\n"
        "client_cert,namespace,,\n"
        f"client_cert.0,file,binary,{raw}/client_cert/a.pem\n"
        f"client_cert.1,file,binary,{raw}/client_cert/b.crt\n"
        "client_key,namespace,,\n"
        f'client_key,file,binary,"{raw}/client_key/device, mine.key"\n'
        "factory_param,namespace,,\n"
        "version,data,i8,4\n"
        'module_name,data,string,"MY-BOARD"\n'
        "uart_tx_pin,data,i32,7\n"
        "ble_data,namespace,,\n"
        'cfg0,data,string,"0,16,0x2800,0x01,2,2,A002"\n'
    )  # mqtt is off unless it is asked for
    assert contents.private
    assert contents.data == builders.generate(contents.csv, 124 << 10, tree.folder)
    assert (recipe.platform, recipe.module) == ("PLATFORM_ESP32C3", "MY-BOARD")
    assert recipe.description == "mine, and no other's"
    assert (recipe.flash.mode, recipe.flash.freq, recipe.flash.size) == ("dio", "40m", 4 << 20)
    assert recipe.table_offset == 0x8000
    assert recipe.primary.md5
    assert recipe.sdkconfig_defaults == DEFAULTS
    assert not recipe.has_app
    assert tree.recipe(silence=True).sdkconfig_defaults.endswith("CONFIG_LOG_DEFAULT_LEVEL_NONE=y\n")


def test_names_are_taken_in_any_case(tree: Made) -> None:
    tree.add(CSV, "PLATFORM_ESP32C3,my-other,,4,1\n")
    for name in ("esp32c3/my-other", "PLATFORM_ESP32C3/MY-OTHER", " my-OTHER "):
        recipe = tree.recipe(name)
        assert recipe.module == "MY-OTHER"
        assert 'module_name,data,string,"my-other"\n' in recipe.partitions["mfg_nvs"].csv
    assert [row.full_name for row in open_tree(tree.folder).modules()] == [
        "ESP32C3/MY-BOARD", "ESP32C3/MY-SPI", "ESP32C3/my-other",
    ]  # fmt: skip


def test_a_module_has_its_own_folder_or_that_of_its_chip(tree: Made) -> None:
    for name in ("sdkconfig.defaults", "partitions_at.csv", "at_customize.csv", "IDF_VERSION"):
        text = TREE[f"{HOME}/{name}"].replace("module_esp32c3_default", "module_my-spi")
        tree.write(f"module_config/module_my-spi/{name}", text.replace("124K", "100K"))
    assert len(tree.recipe().partitions["mfg_nvs"].data) == 124 << 10
    assert len(tree.recipe("MY-SPI").partitions["mfg_nvs"].data) == 100 << 10


@pytest.mark.parametrize(
    ("lines", "namespaces"),
    [
        ("", {"client_cert", "client_key", "factory_param", "ble_data"}),
        ("CONFIG_AT_BLE_COMMAND_SUPPORT=n", {"client_cert", "client_key", "factory_param"}),
        ("# CONFIG_BT_ENABLED is not set", {"client_cert", "client_key", "factory_param"}),
        ("CONFIG_AT_NET_COMMAND_SUPPORT=n", {"factory_param", "ble_data"}),
        ("CONFIG_AT_SSL_CLIENT_SERVER_AUTH_CLIENT=n", {"factory_param", "ble_data"}),
        (
            "CONFIG_AT_MQTT_COMMAND_SUPPORT=y",
            {"client_cert", "client_key", "mqtt_ca", "factory_param", "ble_data"},
        ),
        ("CONFIG_AT_MQTT_CLIENT_AUTH_BROKER=y", {"client_cert", "client_key", "factory_param", "ble_data"}),
    ],
)
def test_options_and_what_they_depend_on_decide(tree: Made, lines: str, namespaces: set[str]) -> None:
    tree.add(f"{HOME}/sdkconfig.defaults", f"{lines}\n")
    data = tree.recipe().partitions["mfg_nvs"].data
    assert set(NvsPartition.from_bytes(data).namespaces) == namespaces


def test_the_default_of_a_choice_and_of_a_chip() -> None:
    def flash(name: str, *layers: str) -> list[str]:
        config = with_known_defaults([Sdkconfig.from_text(text) for text in layers], chip(name), ())
        return [config.string(f"ESPTOOLPY_FLASH{each}") for each in ("MODE", "FREQ", "SIZE")]

    prefix = "CONFIG_ESPTOOLPY_FLASH"
    assert flash("esp32c3") == ["dio", "80m", "2MB"]
    assert flash("esp32") == ["dio", "40m", "2MB"]
    assert flash("esp32c2") == ["dio", "60m", "2MB"]
    assert flash("esp32", f"{prefix}MODE_DOUT=y\n{prefix}SIZE_8MB=y") == ["dout", "40m", "8MB"]
    both = f"{prefix}FREQ_40M=y\n{prefix}FREQ_80M=y"
    assert flash("esp32", both)[1] == "80m"
    assert flash("esp32", both, f"{prefix}FREQ_20M=y")[1] == "20m"
    assert flash("esp32", both, f"{prefix}FREQ_80M=n")[1] == "40m"
    assert with_known_defaults([], chip("esp32"), ()).is_on("PARTITION_TABLE_MD5")


def test_the_file_system_holds_the_files_of_the_tree(tree: Made) -> None:
    tree.add(f"{HOME}/sdkconfig.defaults", "CONFIG_AT_FS_COMMAND_SUPPORT=y\nCONFIG_FATFS_LFN_HEAP=y\n")
    assert "fatfs" not in tree.recipe().partitions
    tree.write("components/fs_image/index.html", "<p>hello")
    recipe = tree.recipe()
    assert len(recipe.partitions["fatfs"].data) == 100 << 10
    assert b"<p>hello" in recipe.partitions["fatfs"].data
    assert files_of(recipe)["customized_partitions/fatfs.bin"] == recipe.partitions["fatfs"].data
    assert "fatfs" not in tree.recipe(fs_image=tree.folder).partitions  # which takes its place later


def test_mfg_nvs_too_small_for_the_certificates(tree: Made) -> None:
    tree.write("components/customized_partitions/raw_data/client_key/device, mine.key", b"k" * 120_000)
    with pytest.raises(InputError, match=r"mfg_nvs: needs 32 pages .* and has 31 \(126976 bytes\)") as caught:
        tree.recipe()
    assert "--partition mfg_nvs=128K" in caught.value.hint
    assert len(tree.recipe(partition_sizes={"mfg_nvs": 128 << 10}).partitions["mfg_nvs"].data) == 128 << 10


# --- AT_EXT_MODULE_CFG ---------------------------------------------------------------------------------


def test_an_extension_takes_the_place_of_files(tree: Made, tmp_path: Path) -> None:
    more = Made(tmp_path / "extension")
    more.write("IDF_VERSION", "branch:v5.5\ncommit:fedcba9876543210\nrepository:git@host:idf.git\n")
    extended = open_tree(tree.folder, more.folder)
    row = extended.module("MY-BOARD")
    assert extended.idf_version(row).branch == "v5.5"
    assert recipe_from_tree(extended, "MY-BOARD", Options()) == tree.recipe()
    more.write("sdkconfig.defaults", "CONFIG_ESPTOOLPY_FLASHFREQ_80M=y\n")
    recipe = recipe_from_tree(extended, "MY-BOARD", Options())
    assert recipe.flash.freq == "80m"
    assert recipe.sdkconfig_defaults == f"{DEFAULTS}\nCONFIG_ESPTOOLPY_FLASHFREQ_80M=y\n"
    more.write("partitions_at.csv", PRIMARY.replace("0x42000", "0x41000"))
    with pytest.raises(InputError, match=r"extension/module_config.*: no such file"):
        recipe_from_tree(extended, "MY-BOARD", Options())
    more.write("at_customize.csv", SECONDARY.replace("124K", "120K"))
    more.write(
        "sdkconfig.defaults",
        'CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="partitions_at.csv"\n'
        'CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_FILE="at_customize.csv"\n',
    )
    recipe = recipe_from_tree(extended, "MY-BOARD", Options())
    assert [part.size for part in recipe.primary if part.name == "at_customize"] == [0x41000]
    assert len(recipe.partitions["mfg_nvs"].data) == 120 << 10


def test_an_extension_in_older_trees(tree: Made, tmp_path: Path) -> None:
    more = Made(tmp_path / "extension")
    more.write("sdkconfig.defaults", f"{DEFAULTS}CONFIG_ESPTOOLPY_FLASHSIZE_8MB=y\n")
    variable = "$ENV{AT_EXT_MODULE_CFG}/sdkconfig.defaults"
    tree.write("CMakeLists.txt", f"set(SDKCONFIG_DEFAULTS {variable})\n")
    recipe = recipe_from_tree(open_tree(tree.folder, more.folder), "MY-BOARD", Options())
    assert recipe.sdkconfig_defaults == f"{DEFAULTS}CONFIG_ESPTOOLPY_FLASHSIZE_8MB=y\n"
    assert recipe.flash.size == 8 << 20
    tree.write("CMakeLists.txt", f"list(APPEND SDKCONFIG_DEFAULTS {variable})\n")
    recipe = recipe_from_tree(open_tree(tree.folder, more.folder), "MY-BOARD", Options())
    assert recipe.sdkconfig_defaults.count("CONFIG_BT_ENABLED") == 2
    tree.write("CMakeLists.txt", "project(esp-at)\n")
    with pytest.raises(InputError, match="this version of esp-at knows no AT_EXT_MODULE_CFG"):
        open_tree(tree.folder, more.folder)
    with pytest.raises(InputError, match="no such folder"):
        open_tree(tree.folder, tmp_path / "nowhere")


def test_the_variable_of_the_environment_counts(
    tree: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert extension_folder({}) is None
    assert extension_folder({"AT_EXT_MODULE_CFG": ""}) is None
    monkeypatch.setenv("AT_EXT_MODULE_CFG", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="nowhere: no such folder"):
        recipe_from_tree(tree.folder, "MY-BOARD", Options())


# --- an ESP-IDF resolves the sdkconfig -------------------------------------------------------------------


KCONFIG = """menu "Flash and tables"
    config ESPTOOLPY_FLASHMODE
        string
        default "dio"
    config ESPTOOLPY_FLASHFREQ
        string
        default "20m" if AT_MQTT_COMMAND_SUPPORT
        default "40m"
    config ESPTOOLPY_FLASHSIZE
        string
        default "4MB"
    config PARTITION_TABLE_CUSTOM_FILENAME
        string "Primary table"
        default ""
    config PARTITION_TABLE_OFFSET
        hex "Offset"
        default 0x8000
    config AT_CUSTOMIZED_PARTITION_TABLE_SUPPORT
        bool "Secondary table"
        default y
    config AT_CUSTOMIZED_PARTITION_TABLE_FILE
        string "Secondary table"
        default ""
    config AT_CUSTOMIZED_PARTITION_TABLE_OFFSET
        hex "Offset"
        default 0x20000
    config AT_MQTT_COMMAND_SUPPORT
        bool "MQTT"
        default n
    config AT_MQTT_CLIENT_AUTH_BROKER
        bool "CA"
        default y
        depends on AT_MQTT_COMMAND_SUPPORT
endmenu
"""


def test_an_esp_idf_resolves_the_sdkconfig(tree: Made, tmp_path: Path) -> None:
    idf = kconfig_trees.make_trees(tmp_path / "kconfig").idf
    tree.write("main/Kconfig.projbuild", KCONFIG)
    tree.write("main/CMakeLists.txt", "")
    recipe = tree.recipe(idf=idf)
    assert recipe.flash.freq == "40m"
    assert "CONFIG_PARTITION_TABLE_OFFSET=0x8000\n" in recipe.sdkconfig
    assert not recipe.sdkconfig_defaults
    assert FROM_DEFAULTS not in recipe.notes
    csv = recipe.partitions["mfg_nvs"].csv
    assert [line for line in csv.splitlines() if ",namespace," in line] == ["factory_param,namespace,,"]
    assert any("no Kconfig file has" in warning for warning in recipe.warnings)
    assert "and ESP32C3/MY-BOARD is built with release/v9.8" not in " ".join(recipe.warnings)
    tree.write(f"{HOME}/IDF_VERSION", TREE[f"{HOME}/IDF_VERSION"].replace("v5.4", "v9.8"))
    assert "and ESP32C3/MY-BOARD is built with release/v9.8" in tree.recipe(idf=idf).warnings[0]
    (tree.folder / HOME / "IDF_VERSION").unlink()
    shutil.copytree(idf, tree.folder / "esp-idf")  # which is taken without being asked for
    tree.write("sdkconfig.overlay/esp32c3-my-board.defaults", "CONFIG_AT_MQTT_COMMAND_SUPPORT=y\n")
    recipe = tree.recipe()
    assert recipe.flash.freq == "20m"
    assert "mqtt_ca,namespace,,\n" in recipe.partitions["mfg_nvs"].csv
    assert "with the options of sdkconfig.overlay/esp32c3-my-board.defaults" in recipe.notes
    assert not [warning for warning in recipe.warnings if "is built with" in warning]


def test_the_users_overlay_counts_without_an_esp_idf_too(tree: Made) -> None:
    tree.write("sdkconfig.overlay/esp32c3-my-board.defaults", "CONFIG_AT_MQTT_COMMAND_SUPPORT=y\n")
    recipe = tree.recipe()
    assert "mqtt_ca,namespace,,\n" in recipe.partitions["mfg_nvs"].csv
    assert recipe.sdkconfig_defaults == f"{DEFAULTS}\nCONFIG_AT_MQTT_COMMAND_SUPPORT=y\n"
    assert recipe.notes[1] == "with the options of sdkconfig.overlay/esp32c3-my-board.defaults"
    assert "mqtt_ca" not in tree.recipe("MY-SPI").partitions["mfg_nvs"].csv


def test_repositories_beside_esp_idf(tree: Made) -> None:
    opened = open_tree(tree.folder)
    row = opened.module("MY-BOARD")
    assert opened.submodule_variables(row) == {}
    text = (
        '[submodule "rainmaker"]\n    path = components/rainmaker/esp-rainmaker\n    url = https://host/%s\n'
    )
    tree.write(f"{HOME}/submodules", text)
    assert opened.submodule_variables(row) == {}
    tree.write("components/rainmaker/esp-rainmaker/README", "")
    assert opened.submodule_variables(row) == {"AT_RAINMAKER_SUPPORT": "AT_RAINMAKER_SUPPORT"}
    for bad in ("path = x\n", "[what]\npath = x\n", "[submodule a\n"):
        tree.write(f"{HOME}/submodules", bad)
        with pytest.raises(FormatError, match="submodules: ") as caught:
            opened.submodule_variables(row)
        assert "write [submodule" in caught.value.hint


# --- bad trees -----------------------------------------------------------------------------------------

Change = Callable[[Made], object]


def without(path: str) -> Change:
    return lambda tree: (tree.folder / path).unlink()


def with_text(path: str, text: str | bytes) -> Change:
    return lambda tree: tree.write(path, text)


def adding(path: str, text: str) -> Change:
    return lambda tree: tree.add(path, text)


def with_default(text: str) -> Change:
    return adding(f"{HOME}/sdkconfig.defaults", f"{text}\n")


BAD = {
    "no list of dependencies": (without(LIST), "dependency.txt: no such file"),
    "a list that is none": (with_text(LIST, "# x\nble_data\n"), "txt: line 2: 'ble_data' is no dependency"),
    "a name out of the tree": (with_text(LIST, "A=y ../../x\n"), "line 1: 'A=y ../../x' is no dependency"),
    "no module_config": (lambda tree: shutil.rmtree(tree.folder / "module_config"), "module_config: no such"),
    "no folder": (lambda tree: shutil.rmtree(tree.folder / HOME), "module_my-board: no such folder, nor"),
    "no table of modules": (without(CSV), "factory_param_data.csv: no such file"),
    "no types": (without(TYPES), "factory_param_type.csv: no such file"),
    "a type that is none": (with_text(TYPES, "version,data,i7\n"), "type.csv: line 1: 'version,data,i7'"),
    "a parameter without column": (adding(TYPES, "sys_store,data,u8\n"), "data.csv: has no column sys_store"),
    "a column without type": (
        with_text(CSV, DATA.replace("uart_tx_pin", "uart_tx_pins")),
        "data.csv: line 1: has the column 'uart_tx_pins'",
    ),
    "a value out of range": (with_text(CSV, DATA.replace(",4,7", ",444,7")), "data.csv: line 2: version"),
    "a module twice": (adding(CSV, "PLATFORM_ESP32C3,my-board,,4,8\n"), "line 4: ESP32C3/my-board again"),
    "a row too short": (with_text(CSV, DATA.replace(",4,7", ",4")), "line 2: another number of columns"),
    "no defaults": (without(f"{HOME}/sdkconfig.defaults"), "sdkconfig.defaults: no such file"),
    "defaults that are none": (with_default("what?"), "sdkconfig.defaults, line 10: cannot be read"),
    "defaults that are no text": (
        with_text(f"{HOME}/sdkconfig.defaults", b"\n\xff"),
        "sdkconfig.defaults, line 2: is not UTF-8",
    ),
    "another chip": (
        with_text(f"{HOME}/sdkconfig.defaults", DEFAULTS.replace("ESP32C3=", "ESP32=")),
        "is for esp32, and the module has an ESP32-C3",
    ),
    "no table named": (
        with_text(f"{HOME}/sdkconfig.defaults", "CONFIG_BT_ENABLED=y\n"),
        "CONFIG_PARTITION_TABLE_CUSTOM_FILENAME is missing",
    ),
    "a table that is not there": (without(f"{HOME}/partitions_at.csv"), "partitions_at.csv: no such file"),
    "a table out of the tree": (
        with_default('CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="../../x.csv"'),
        "'../../x.csv' in the sdkconfig is no partition table",
    ),
    "a table at an absolute path": (
        with_default('CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_FILE="/etc/passwd"'),
        "'/etc/passwd' in the sdkconfig is no partition table",
    ),
    "a table that is none": (
        adding(f"{HOME}/partitions_at.csv", "x, app, ota_2, 0x400000\n"),
        "partitions_at.csv: line 5",
    ),
    "no at_customize": (
        with_text(f"{HOME}/partitions_at.csv", PRIMARY.replace("at_customize", "customize")),
        "has no partition at_customize",
    ),
    "at_customize elsewhere": (
        with_default("CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_OFFSET=0x20000"),
        "OFFSET is 0x20000, and the primary partition table has at_customize at 0x1e000",
    ),
    "no mfg_nvs": (
        with_text(f"{HOME}/at_customize.csv", SECONDARY.replace("mfg_nvs", "nvs2")),
        "has no mfg_nvs",
    ),
    "a file system without partition": (
        lambda tree: (
            tree.write(f"{HOME}/at_customize.csv", SECONDARY.replace("fatfs", "fs")),
            tree.add(f"{HOME}/sdkconfig.defaults", "CONFIG_AT_FS_COMMAND_SUPPORT=y\n"),
        ),
        "CONFIG_AT_FS_COMMAND_SUPPORT), and the secondary partition table has no fatfs",
    ),
    "no user partitions": (
        with_default("# CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_SUPPORT is not set"),
        "CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_SUPPORT is off",
    ),
    "compressed updates without partition": (
        with_default(
            "CONFIG_BOOTLOADER_COMPRESSED_ENABLED=y\nCONFIG_ENABLE_LEGACY_ESP_BOOTLOADER_PLUS_V2_SUPPORT=y"
        ),
        "no partition of type data, sub-type 0x22",
    ),
    "no GATT table": (without(GATTS), "gatts_data.csv: no such file"),
    "a GATT table that is none": (with_text(GATTS, "0\n" * 300), "gatts_data.csv: GATT table: more than 255"),
    "a key that is a folder": (
        lambda tree: (tree.folder / CSV).parents[1].joinpath("client_key/x.key").mkdir(),
        "x.key: is no regular file",
    ),
    "a pipe instead of a file": (
        lambda tree: ((tree.folder / TYPES).unlink(), os.mkfifo(tree.folder / TYPES)),
        "factory_param_type.csv: is no regular file",
    ),
    "a name that no file system takes": (
        with_default(f'CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="{"x" * 5000}"'),
        "cannot be read",
    ),
    "a folder that no file system takes": (
        with_text(CSV, DATA.replace("MY-BOARD", "MY-BOARD" * 100)), "is not the name of a module",
    ),
    "a frequency that the chip lacks": (
        with_default("CONFIG_ESPTOOLPY_FLASHFREQ_60M=y"),
        "CONFIG_ESPTOOLPY_FLASHFREQ is '60m'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_bad_trees(tree: Made, change: Change, message: str) -> None:
    change(tree)
    with pytest.raises(EspAtError) as caught:
        tree.recipe()
    assert message in caught.value.message
    assert caught.value.hint


def test_tables_that_contradict_themselves_are_refused(tree: Made) -> None:
    tree.write(f"{HOME}/at_customize.csv", SECONDARY.replace("100K", "1M"))
    with pytest.raises(InputError, match="fatfs at 0x47000: overlaps ota_0"):
        built_files(tree.recipe())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ESP32C3/MY-BORD", "did you mean ESP32C3/MY-BOARD?"),
        ("my_spi", "did you mean ESP32C3/MY-SPI?"),
        ("WROOM-32", "it has ESP32C3/MY-BOARD, ESP32C3/MY-SPI"),
        ("", "it has ESP32C3/MY-BOARD"),
    ],
)
def test_unknown_modules(tree: Made, name: str, hint: str) -> None:
    with pytest.raises(InputError, match="is not the name of a module in") as caught:
        tree.recipe(name)
    assert hint in caught.value.hint


def test_a_name_of_several_modules(tree: Made) -> None:
    tree.add(CSV, "PLATFORM_ESP32C2,MY-SPI,,4,1\n")
    with pytest.raises(InputError, match="name of several modules") as caught:
        tree.recipe("my-spi")
    assert caught.value.hint == "say which: ESP32C3/MY-SPI or ESP32C2/MY-SPI"


def test_a_very_long_name_of_a_module(tree: Made) -> None:
    tree.write(CSV, DATA.replace("MY-BOARD", "X" * 101))
    with pytest.raises(FormatError, match="line 2: the name of the module has 101 characters"):
        tree.recipe("X" * 101)


def test_a_wrong_row_does_not_concern_other_modules(tree: Made) -> None:
    tree.add(CSV, "PLATFORM_ESP32P9,NEW,,4,1\n")
    assert tree.recipe().module == "MY-BOARD"
    assert len(open_tree(tree.folder).modules()) == 2
    with pytest.raises(EspAtError, match="line 4: 'PLATFORM_ESP32P9' is not a platform"):
        tree.recipe("ESP32P9/NEW")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("branch:master\ncommit:0123456\n", "does not name the repository"),
        ("branch:--upload-pack=x\ncommit:0123456\nrepository:x\n", "branch: '--upload-pack=x' is none"),
        ("branch:master\ncommit:HEAD\nrepository:x\n", "commit: 'HEAD' is none"),
        ("branch:master\ncommit:0123456\nrepository:-x\n", "repository: '-x' is none"),
        ("", "does not name the branch"),
    ],
)
def test_an_idf_version_that_is_none(tree: Made, text: str, message: str) -> None:
    tree.write(f"{HOME}/IDF_VERSION", text)
    opened = open_tree(tree.folder)
    with pytest.raises(EspAtError, match=message):
        opened.idf_version(opened.module("MY-BOARD"))


def test_what_is_a_tree(tree: Made, tmp_path: Path) -> None:
    assert is_source_tree(tree.folder)
    assert not is_source_tree(tmp_path)
    assert not is_source_tree(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is no esp-at source tree"):
        open_tree(tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "components/customized_partitions/AT_partition_dependency",
        "components/customized_partitions/generation_tools/factory_param.py",
    ],
)
def test_trees_of_the_older_layout_are_refused(tmp_path: Path, path: str) -> None:
    made = Made(tmp_path)
    made.write(path, "")
    assert is_source_tree(tmp_path)
    with pytest.raises(InputError, match=r"before v3\.1\.0\.0") as caught:
        open_tree(tmp_path)
    assert "release or image" in caught.value.hint


def test_any_damage_is_an_error_of_ours(tree: Made) -> None:
    chance = random.Random(3)
    for _ in range(150):
        path = chance.choice(list(TREE))
        before = (tree.folder / path).read_bytes()
        damaged = bytearray(before)
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(len(damaged) + 1)
            damaged[place : place + chance.randint(0, 3)] = chance.choice(
                (b"", b"\0", b"\xff", b",", b"\n", b'"', b"9" * 40, b"../", b"=y ", b"#")
            )
        tree.write(path, bytes(damaged))
        with contextlib.suppress(EspAtError):  # anything else fails the test
            built_files(tree.recipe())
        tree.write(path, before)

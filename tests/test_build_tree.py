"""Configurations from a source tree of one's own, and its external module configuration."""

from __future__ import annotations

from pathlib import Path

import builders
import pytest
from source_trees import (
    CSV,
    DEFAULTS,
    HOME,
    LIST,
    PRIMARY,
    SECONDARY,
    TREE,
    Made,
    files_of,
    make_tree,
)

from esp_at_tools.build.at_defaults import with_known_defaults
from esp_at_tools.build.from_tree import recipe_from_tree
from esp_at_tools.build.options import Options
from esp_at_tools.build.tree import open_tree
from esp_at_tools.build.tree_kconfig import open_extended
from esp_at_tools.catalog.chips import chip
from esp_at_tools.errors import InputError
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.sdkconfig import Sdkconfig


@pytest.fixture
def tree(tmp_path: Path) -> Made:
    return make_tree(tmp_path / "tree")


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


@pytest.mark.parametrize(
    ("option", "is_littlefs"),
    [
        ("", True),
        ("CONFIG_AT_FS_LITTLEFS=y\n", True),
        ("CONFIG_AT_FS_FATFS=y\nCONFIG_FATFS_LFN_HEAP=y\n", False),
    ],
)
def test_the_file_system_of_newer_trees(tree: Made, option: str, is_littlefs: bool) -> None:
    tree.write(LIST, TREE[LIST].replace("y fatfs", "y fs_storage"))
    tree.add(f"{HOME}/sdkconfig.defaults", f"CONFIG_AT_FS_COMMAND_SUPPORT=y\n{option}")
    tree.write("components/fs_image/index.html", "<p>hello")
    with pytest.raises(InputError, match="has no fs_storage") as caught:
        tree.recipe()
    assert "add fs_storage to at_customize.csv" in caught.value.hint
    tree.write(f"{HOME}/at_customize.csv", SECONDARY.replace("fatfs, data, fat", "fs_storage, data, 0xff"))
    recipe = tree.recipe()
    data = recipe.partitions["fs_storage"].data
    assert len(data) == 100 << 10
    assert b"<p>hello" in data
    assert (b"littlefs" in data[:64]) == is_littlefs
    assert files_of(recipe)["customized_partitions/fs_storage.bin"] == data


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
    assert open_extended(tree.folder, None, {}).extension is None
    assert open_extended(tree.folder, None, {"AT_EXT_MODULE_CFG": ""}).extension is None
    monkeypatch.setenv("AT_EXT_MODULE_CFG", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="nowhere: no such folder"):
        recipe_from_tree(tree.folder, "MY-BOARD", Options())


def test_a_folder_that_is_given_goes_before_the_variable(
    tree: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = Made(tmp_path / "extension")
    more.write("sdkconfig.defaults", "CONFIG_ESPTOOLPY_FLASHSIZE_8MB=y\n")
    monkeypatch.setenv("AT_EXT_MODULE_CFG", str(tmp_path / "nowhere"))
    recipe = recipe_from_tree(tree.folder, "MY-BOARD", Options(module_folder=more.folder))
    assert recipe.flash.size == 8 << 20


def test_a_folder_of_definitions_is_no_external_module(tree: Made, tmp_path: Path) -> None:
    own = Made(tmp_path / "mine")
    own.write("factory_param_data.csv", "platform,module_name,description\n")
    with pytest.raises(InputError, match="holds definitions of this program") as caught:
        recipe_from_tree(tree.folder, "MY-BOARD", Options(module_folder=own.folder))
    assert "AT_EXT_MODULE_CFG" in caught.value.hint
    own.write("sdkconfig.defaults", "CONFIG_ESPTOOLPY_FLASHSIZE_8MB=y\n")  # now it can be meant as one
    assert recipe_from_tree(tree.folder, "MY-BOARD", Options(module_folder=own.folder)).flash.size == 8 << 20

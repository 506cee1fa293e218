"""Source trees that are wrong: each is an error that names the file."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from source_trees import (
    CSV,
    DATA,
    DEFAULTS,
    GATTS,
    HOME,
    LIST,
    PRIMARY,
    SECONDARY,
    TREE,
    TYPES,
    Made,
    make_tree,
)

from esp_at_tools.build.artefacts import built_files
from esp_at_tools.build.tree import is_source_tree, open_tree
from esp_at_tools.errors import EspAtError, FormatError, InputError


@pytest.fixture
def tree(tmp_path: Path) -> Made:
    return make_tree(tmp_path / "tree")


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

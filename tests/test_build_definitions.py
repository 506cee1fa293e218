"""Configurations from the definitions that come with the program, against the official ones."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
from conftest import SHARED

from esp_at_tools.build.artefacts import built_files
from esp_at_tools.build.customise import customise
from esp_at_tools.build.from_definitions import NO_APP, NO_PKI, recipe_from_definitions
from esp_at_tools.build.options import Options
from esp_at_tools.catalog.default_gatts import default_gatt_rows
from esp_at_tools.catalog.modules import modules
from esp_at_tools.errors import EspAtError, FormatError, InputError
from esp_at_tools.firmware.request import Request
from esp_at_tools.formats.flash_args import FlashArgs
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.sdkconfig import Sdkconfig

OFFICIAL = SHARED / "esp-at" / "v5.0.1.0"
NAMES = tuple(each.full_name for each in modules())
PATHS = (
    "PARTITION_TABLE_CUSTOM_FILENAME",
    "PARTITION_TABLE_FILENAME",
    "AT_CUSTOMIZED_PARTITION_TABLE_FILE",
)
every_module = pytest.mark.parametrize("name", NAMES)


@functools.lru_cache
def index() -> dict[str, dict[str, str]]:
    """What the official scripts resolve for each module."""
    return json.loads((OFFICIAL / "expected" / "index.json").read_text("utf-8"))


def expected(name: str, file: str) -> bytes:
    return (OFFICIAL / "expected" / f"PLATFORM_{name}" / file).read_bytes()


def built(name: str, **options: object) -> dict[str, bytes]:
    """The files of a configuration."""
    recipe = recipe_from_definitions(name, Options(**options))
    return {path: file.data for path, file in built_files(recipe).items()}


@pytest.mark.usefixtures("shared")
@every_module
@pytest.mark.parametrize("silence", [False, True], ids=["normal", "silence"])
def test_the_defaults_are_the_official_ones(name: str, silence: bool) -> None:
    folder = OFFICIAL / index()[f"PLATFORM_{name}"]["module_config"]
    official = folder / ("sdkconfig_silence.defaults" if silence else "sdkconfig.defaults")
    wanted = dict(Sdkconfig.from_bytes(official.read_bytes()).options)
    found = dict(Sdkconfig.from_bytes(built(name, silence=silence)["sdkconfig.defaults"]).options)
    for path in PATHS:  # the module's own folder, where the official one is that of the chip
        assert Path(found.pop(path)).name == Path(wanted.pop(path)).name
    assert found == wanted


@pytest.mark.usefixtures("shared")
@every_module
@pytest.mark.parametrize("silence", [False, True], ids=["normal", "silence"])
def test_tables_and_settings_are_the_official_ones(name: str, silence: bool) -> None:
    files = built(name, silence=silence)
    assert files["partition_table/partition-table.bin"] == expected(name, "partition-table.bin")
    assert files["at_customize.bin"] == expected(name, "at_customize.bin")
    ours = NvsPartition.from_bytes(files["customized_partitions/mfg_nvs.bin"])
    official = NvsPartition.from_bytes(expected(name, "mfg_nvs.bin"))
    mine = ("factory_param", "ble_data")  # certificates and keys are no part of the definitions
    assert ours.size == official.size
    assert list(ours.entries) == [entry for entry in official.entries if entry.namespace in mine]


@pytest.mark.usefixtures("shared")
@every_module
def test_the_lists_are_those_of_esp_at(name: str) -> None:
    wanted, files = index()[f"PLATFORM_{name}"], built(name)
    args = FlashArgs.from_json(files["flasher_args.json"].decode())
    short = FlashArgs.from_download_config(files["download.config"].decode())
    assert args.files == short.files
    assert (args.flash_mode, args.flash_freq, args.flash_size) == (
        wanted["flash_mode"], wanted["flash_freq"], wanted["flash_size"],
    )  # fmt: skip
    places = {part.name: hex(part.offset) for part in args.parts}
    assert places["partition-table"] == wanted["partition_table_offset"]
    assert places["at_customize"] == wanted["at_customize_offset"]
    assert places["mfg_nvs"] == wanted["mfg_nvs_offset"]
    assert set(args.files.values()) <= set(files)
    assert args.chip == name.partition("/")[0].lower()


def test_the_lists_are_those_of_an_official_build(shared: Path) -> None:
    folder = shared / "firmware" / "ESP32-C3-MINI-1-V5.0.1.0-assembled"
    files = built("ESP32C3/MINI-1")
    official = FlashArgs.from_json((folder / "flasher_args.json").read_text("utf-8"))
    ours = FlashArgs.from_json(files["flasher_args.json"].decode())
    assert ours.parts == official.parts[2:]  # without bootloader and application
    assert (ours.flash_mode, ours.flash_freq, ours.flash_size, ours.chip, ours.stub) == (
        official.flash_mode, official.flash_freq, official.flash_size, official.chip, official.stub,
    )  # fmt: skip
    command = (folder / "download.config").read_text("utf-8").strip()
    start = command.index("0x0 ")
    assert files["download.config"].decode().strip() == command.replace(
        command[start : command.index("0x8000 ")], ""
    )


@pytest.mark.usefixtures("shared")
@every_module
def test_a_resolved_sdkconfig_decides(name: str) -> None:
    path = OFFICIAL / "expected" / f"PLATFORM_{name}" / "sdkconfig"
    files, plain = built(name, sdkconfig=path), built(name)
    assert files.pop("sdkconfig") == path.read_bytes()
    assert plain.pop("sdkconfig.defaults")
    assert files == plain


# --- without the shared data --------------------------------------------------------------------------


def resolved(folder: Path, *changes: str) -> Path:
    """An sdkconfig as Kconfig would resolve it, as far as a configuration looks at it."""
    texts = (
        'CONFIG_IDF_TARGET="esp32c3"', 'CONFIG_ESPTOOLPY_FLASHSIZE="4MB"', 'CONFIG_ESPTOOLPY_FLASHMODE="dio"',
        'CONFIG_ESPTOOLPY_FLASHFREQ="40m"', "CONFIG_PARTITION_TABLE_OFFSET=0x8000",
        "CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_OFFSET=0x1e000", "CONFIG_AT_BLE_COMMAND_SUPPORT=y",
    )  # fmt: skip
    path = folder / "sdkconfig"
    path.write_text("\n".join((*texts, *changes, "")), "utf-8")
    return path


@every_module
def test_the_same_bytes_every_time(name: str) -> None:
    assert built(name) == built(name)


@every_module
def test_no_key_is_in_it(name: str) -> None:
    recipe = recipe_from_definitions(name, Options())
    assert not any(file.private for file in built_files(recipe).values())
    assert recipe.notes == (NO_APP, NO_PKI)
    assert not recipe.bootloader
    assert not recipe.has_app


def test_certificates_that_are_asked_for_are_not_said_to_be_missing() -> None:
    recipe = recipe_from_definitions("ESP32C3/MINI-1", Options(request=Request(pki={"mqtt_ca": b""})))
    assert recipe.notes == (NO_APP,)


def test_modules_with_ble_have_the_default_gatt_table(tmp_path: Path) -> None:
    def rows(**options: object) -> list[object]:
        data = built("ESP32C3/MINI-1", **options)["customized_partitions/mfg_nvs.bin"]
        entries = NvsPartition.from_bytes(data).entries
        return [entry.value for entry in entries if entry.namespace == "ble_data"]

    assert rows() == list(default_gatt_rows())
    assert rows(sdkconfig=resolved(tmp_path)) == list(default_gatt_rows())
    assert rows(sdkconfig=resolved(tmp_path, "# CONFIG_AT_BLE_COMMAND_SUPPORT is not set")) == []


def test_an_sdkconfig_decides_the_flash_and_the_checksum(tmp_path: Path) -> None:
    path = resolved(
        tmp_path,
        'CONFIG_ESPTOOLPY_FLASHSIZE="8MB"',
        'CONFIG_ESPTOOLPY_FLASHFREQ="80m"',
        "CONFIG_PARTITION_TABLE_MD5=y",
        "CONFIG_PARTITION_TABLE_OFFSET=0x9000",
    )
    recipe = recipe_from_definitions("ESP32C3/MINI-1", Options(sdkconfig=path))
    assert (recipe.flash.size, recipe.flash.mode, recipe.flash.freq) == (8 << 20, "dio", "80m")
    assert recipe.primary.md5
    assert recipe.table_offset == 0x9000
    assert not recipe.sdkconfig_defaults


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('CONFIG_IDF_TARGET="esp32"', "is for esp32, and the module has an ESP32-C3"),
        ('CONFIG_ESPTOOLPY_FLASHSIZE="4GB"', "CONFIG_ESPTOOLPY_FLASHSIZE is '4GB'"),
        ('CONFIG_ESPTOOLPY_FLASHMODE="opi"', "CONFIG_ESPTOOLPY_FLASHMODE is 'opi'"),
        ("CONFIG_ESPTOOLPY_FLASHFREQ=", "CONFIG_ESPTOOLPY_FLASHFREQ is 'n'"),
        ("CONFIG_PARTITION_TABLE_OFFSET=-1", "CONFIG_PARTITION_TABLE_OFFSET is '-1'"),
        (
            "CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_OFFSET=0x20000",
            "OFFSET is 0x20000, and the primary partition table has at_customize at 0x1e000",
        ),
        (
            "CONFIG_BOOTLOADER_COMPRESSED_ENABLED=y\nCONFIG_ENABLE_LEGACY_ESP_BOOTLOADER_PLUS_V2_SUPPORT=y",
            "no partition of type data, sub-type 0x22",
        ),
        (
            "# CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_SUPPORT is not set",
            "CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_SUPPORT is off",
        ),
        ("what is this", "line 8: cannot be read"),
    ],
)
def test_an_sdkconfig_that_does_not_suit_the_module(tmp_path: Path, change: str, message: str) -> None:
    path = resolved(tmp_path, change)
    with pytest.raises(EspAtError) as caught:
        recipe_from_definitions("ESP32C3/MINI-1", Options(sdkconfig=path))
    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert caught.value.hint


def test_a_name_is_guessed() -> None:
    with pytest.raises(InputError, match="did you mean ESP32C3/MINI-1"):
        recipe_from_definitions("ESP32C3/MINI-2", Options())


def test_another_size_of_mfg_nvs_is_filled() -> None:
    recipe = recipe_from_definitions("ESP32C3/MINI-1", Options(partition_sizes={"mfg_nvs": 256 << 10}))
    assert len(recipe.partitions["mfg_nvs"].data) == 256 << 10


def test_an_impossible_size_of_mfg_nvs_is_refused() -> None:
    options = Options(partition_sizes={"mfg_nvs": 100})
    with pytest.raises(InputError, match="mfg_nvs: 100 bytes are not a multiple of 4 KB"):
        customise(recipe_from_definitions("ESP32C3/MINI-1", options), options)


def test_a_users_own_folder_counts(tmp_path: Path) -> None:
    (tmp_path / "factory_param_data.csv").write_text(
        "platform,module_name,description,version,max_tx_power,uart_port,start_channel,channel_num,"
        "country_code,uart_baudrate,uart_tx_pin,uart_rx_pin,uart_cts_pin,uart_rts_pin,sys_store\n"
        "PLATFORM_ESP32C3,MY-BOARD,mine,4,78,1,1,13,CN,9600,7,6,5,4,1\n"
    )
    (tmp_path / "modules" / "esp32c3").mkdir(parents=True)
    layer = tmp_path / "modules" / "esp32c3" / "MY-BOARD.yaml"
    layer.write_text("like: MINI-1\nfeatures: {ble: off}\n")
    data = built("MY-BOARD", module_folder=tmp_path)["customized_partitions/mfg_nvs.csv"].decode()
    assert "uart_baudrate,data,i32,9600\n" in data
    assert "ble_data" not in data
    layer.write_text("like: MINI-1\npartitions: {secondary: none}\n")
    (tmp_path / "partitions").mkdir()
    (tmp_path / "partitions" / "none.csv").write_text("other, data, nvs, 0x1f000, 124K\n")
    with pytest.raises(FormatError, match="the secondary partition table of ESP32C3/MY-BOARD has no mfg_nvs"):
        built("MY-BOARD", module_folder=tmp_path)

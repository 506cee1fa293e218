"""The definitions of modules themselves, their names, and any bytes in their place."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.catalog.data import data_folder
from esp_at_tools.catalog.factory_params import read_rows, read_types
from esp_at_tools.catalog.features import read_features
from esp_at_tools.catalog.module_checks import check_definitions
from esp_at_tools.catalog.module_model import KCONFIG, Module
from esp_at_tools.catalog.module_yaml import read_layer, read_yaml
from esp_at_tools.catalog.modules import module, modules
from esp_at_tools.catalog.releases import read_idf_pins, read_releases, releases_of
from esp_at_tools.errors import EspAtError, InputError
from esp_at_tools.settings.names import SETTINGS

PATHS = (
    "PARTITION_TABLE_CUSTOM_FILENAME",
    "PARTITION_TABLE_FILENAME",
    "AT_CUSTOMIZED_PARTITION_TABLE_FILE",
)
NAMES = tuple(each.full_name for each in modules())
every_module = pytest.mark.parametrize("name", NAMES)

# --- the definitions themselves ---------------------------------------------------------------------


def test_the_definitions_pass_their_check() -> None:
    result = check_definitions()
    assert result.problems == ()
    assert [row.full_name for row in result.rows] == list(NAMES)


def test_what_all_chips_say_stands_in_base() -> None:
    folder = data_folder() / "modules"
    chips = {each.chip.name for each in modules()}
    said: dict[tuple[str, str], int] = {}
    for path in folder.glob("*.yaml"):
        if path.stem in chips:
            for section in ("options", "features"):
                table = read_yaml(path).entries.get(section)
                for name, value in table.entries.items() if table else ():
                    said[name, value.text] = said.get((name, value.text), 0) + 1
    assert said
    assert max(said.values()) < len(chips)


def test_log_ports_agree_with_the_chip_facts() -> None:
    for each in modules():
        if "ESP_CONSOLE_UART_TX_GPIO" in each.options:
            log = each.chip.log_port(each.name)
            assert each.options["ESP_CONSOLE_UART_TX_GPIO"].value == str(log.tx)
            assert each.options["ESP_CONSOLE_UART_RX_GPIO"].value == str(log.rx)


def test_parameter_types_agree_with_the_settings() -> None:
    types = module("ESP32C3/MINI-1").parameter_types
    assert types == {name: setting.nvs_type for name, setting in SETTINGS.items() if setting.nvs_type}


def test_every_official_pin_agrees_with_the_chip_facts() -> None:
    for each in modules():
        pins = each.chip.official_pins(each.name)
        assert pins is not None
        assert [
            each.parameters[f"uart_{key}"] for key in ("port", "tx_pin", "rx_pin", "cts_pin", "rts_pin")
        ] == [
            pins.uart,
            pins.tx,
            pins.rx,
            pins.cts,
            pins.rts,
        ]


def test_the_layers_of_a_module() -> None:
    spi = module("ESP32C5/ESP32C5-SPI", silence=True)
    assert spi.layers == (
        "base",
        "idf-v5.5",
        "esp32c5",
        "ESP32C5/ESP32C5-SPI",
        "silence",
        "ESP32C5/ESP32C5-SPI silence",
    )
    sources = {
        name: (spi.options[name].layer, spi.options[name].feature)
        for name in (
            "LWIP_IPV6",
            "BT_NIMBLE_EXT_ADV",
            "APP_PROJECT_VER",
            "LOG_DEFAULT_LEVEL",
            "AT_BASE_ON_SPI",
        )
    }
    assert sources == {
        "LWIP_IPV6": ("base", ""),
        "BT_NIMBLE_EXT_ADV": ("idf-v5.5", "nimble_5_0"),
        "APP_PROJECT_VER": ("esp32c5", ""),
        "LOG_DEFAULT_LEVEL": ("silence", "silence"),
        "AT_BASE_ON_SPI": ("ESP32C5/ESP32C5-SPI", "interface"),
    }
    assert "AT_BASE_ON_UART" not in spi.options
    assert spi.features["signaling"].layer == "ESP32C5/ESP32C5-SPI silence"
    assert module("ESP32C5/ESP32C5-SPI").features["signaling"].is_on
    assert spi.sources["flash.freq"] == "esp32c5"
    assert spi.features["mdns"].layer == KCONFIG
    assert spi.features["silence"].is_on
    like = module("ESP32C2/ESP32C2-2MB-G2")
    assert like.layers == ("base", "esp32c2", "ESP32C2/ESP32C2-2MB", "ESP32C2/ESP32C2-2MB-G2")


def test_a_feature_is_off_without_what_it_requires() -> None:
    assert module("ESP32C2/ESP32C2-2MB").features["ble"].state == "off"
    c6 = module("ESP32C6/ESP32C6-4MB").features["ble_hid"]
    assert (c6.is_on, c6.missing) == (False, "bluetooth_host=bluedroid")
    assert "ethernet" not in module("ESP32C6/ESP32C6-4MB").features


def test_releases_of_a_module() -> None:
    mini = module("ESP32C3/MINI-1")
    assert [each.version for each in mini.releases][:2] == ["v4.1.1.0", "v4.1.0.0"]
    assert mini.recommended_release == mini.releases[0]
    assert module("ESP32C61/ESP32C61-4MB").recommended_release is None
    assert releases_of("platform_esp32c3", "mini-1") == mini.releases


# --- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "ESP32C3/MINI-1",
        "esp32c3/mini-1",
        "PLATFORM_ESP32C3/MINI-1",
        "platform_esp32c3/Mini-1",
        "ESP32-C3/MINI-1",
    ],
)
def test_a_name_is_read_as_people_write_it(name: str) -> None:
    assert module(name) is module("ESP32C3/MINI-1")


def test_a_bare_name_is_enough_where_it_is_the_only_one() -> None:
    assert module("wrover-32").full_name == "ESP32/WROVER-32"
    with pytest.raises(InputError, match="several modules") as caught:
        module("mini-1")
    assert "ESP32/MINI-1 or ESP32C3/MINI-1" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ESP32C3/MINI-2", "ESP32C3/MINI-1"),
        ("ESP32C3/MINI1", "ESP32C3/MINI-1"),
        ("PLATFORM_ESP32C6/ESP32C6-4M", "ESP32C6/ESP32C6-4MB"),
        ("WROM-32", "ESP32/WROOM-32"),
        ("esp32c2-2mb-bl", "ESP32C2/ESP32C2-2MB-BLE"),
    ],
)
def test_an_unknown_name_has_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InputError, match="not the name of a module") as caught:
        module(name)
    assert caught.value.hint.startswith(f"did you mean {near}?")


@pytest.mark.parametrize("name", ["", "/", "ESP32C3/", "\0", "x" * 10000, "STM32/MINI-1"])
def test_nonsense_is_no_module(name: str) -> None:
    with pytest.raises(InputError):
        module(name)


# --- any bytes ---------------------------------------------------------------------------------------

REAL = sorted(
    path
    for path in data_folder().rglob("*")
    if path.name not in ("chips.csv", "uarts.csv", "countries.csv", "README.md") and path.is_file()
)
YAML_LIKE = st.text(st.sampled_from("abonffy:,-[]{}&*!?|>'\"#%@ \t\n0x1\\~\u2028\ufeff\x85"), max_size=80)


def list_all(folder: Path) -> list[Module]:
    return [*modules(folder=folder), *modules(folder=folder, silence=True)]


def read_anything(path: Path) -> None:
    """Read a file as whatever its name says; only errors of ours may come out."""
    problems = []
    with contextlib.suppress(EspAtError):
        if path.suffix == ".yaml":
            read_yaml(path)
    with contextlib.suppress(EspAtError):
        if path.name == "releases.csv":
            read_releases(path)
    with contextlib.suppress(EspAtError):
        types = read_types(path) if path.name == "factory_param_type.csv" else {"module_name": "string"}
        read_rows(path, types, problems.append)
    read_features(path, problems.append)
    read_idf_pins(path, problems.append)
    read_layer(path, "any", problems.append)


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.binary(max_size=200), YAML_LIKE.map(lambda text: text.encode("utf-8"))))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("any.yaml", "releases.csv", "factory_param_type.csv"):
            path = Path(folder) / name
            path.write_bytes(data)
            read_anything(path)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(REAL), st.integers(0, 1 << 20), st.binary(max_size=3), st.integers(0, 3))
def test_damaged_definitions_are_read_or_refused(real: Path, place: int, new: bytes, old: int) -> None:
    data = bytearray(real.read_bytes())
    place %= len(data)
    data[place : place + old] = new
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / real.relative_to(data_folder())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        read_anything(path)
        with contextlib.suppress(EspAtError):
            list_all(Path(folder))
        with contextlib.suppress(EspAtError):
            check_definitions(Path(folder))


@pytest.mark.parametrize(
    "data",
    [
        b"a" * (16 << 20),
        b"a: 1\n" * (3 << 20),
        b"- " * (8 << 20),
        b"[" * (1 << 18),
        b"a: " * 80000,
        b",\n" * (8 << 20),
    ],
    ids=["long", "repeated", "deep", "flow", "keys", "rows"],
)
def test_large_files_are_refused_in_bounded_time(tmp_path: Path, data: bytes) -> None:
    for name in ("any.yaml", "releases.csv", "factory_param_type.csv"):
        path = tmp_path / name
        path.write_bytes(data)
        read_anything(path)

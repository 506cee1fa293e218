"""Chip facts: they agree with each other, with esptool and with the official modules."""

from __future__ import annotations

import csv
import subprocess
import sys

import pytest

from esp_at_tools.catalog import chips as catalog
from esp_at_tools.catalog import countries, data
from esp_at_tools.catalog.chips import (
    Chip,
    UartPins,
    chip,
    chips,
    find_chip,
)
from esp_at_tools.errors import FormatError, InputError

NAMES = ("esp8266", "esp32", "esp32c2", "esp32c3", "esp32c5", "esp32c6", "esp32c61", "esp32s2")
PIN_FACTS = (
    "input_only",
    "flash_pins",
    "psram_pins",
    "strapping_pins",
    "usb_pins",
    "unbonded_pins",
    "package_pins",
)

every_chip = pytest.mark.parametrize("known", chips(), ids=lambda known: known.name)


def test_the_chips_are_those_of_esp_at():
    assert tuple(known.name for known in chips()) == NAMES


@every_chip
@pytest.mark.parametrize("fact", PIN_FACTS)
def test_special_pins_exist(known: Chip, fact: str):
    assert getattr(known, fact) <= known.gpios


@every_chip
def test_ports_use_pins_that_exist(known: Chip):
    ports = [known.log, *(port for _, port in (*known.module_logs, *known.module_pins)), *known.uart_pin_sets]
    for port in ports:
        assert {port.tx, port.rx, port.cts, port.rts} - {-1} <= known.gpios
        assert {port.tx, port.rts} & known.input_only == set()
        used = [pin for pin in (port.tx, port.rx, port.cts, port.rts) if pin != -1]
        assert len(used) == len(set(used))


@every_chip
def test_at_ports_are_uarts_for_at(known: Chip):
    assert {port.uart for _, port in known.module_pins} <= {*known.uarts, -1}
    assert known.log.tx in known.gpios
    assert known.title.lower().replace("-", "") == known.name
    assert known.platform == f"PLATFORM_{known.name.upper()}"


def test_no_two_chips_share_an_image_id():
    ids = [known.image_chip_id for known in chips() if known.image_chip_id is not None]
    assert len(ids) == len(set(ids)) == len(NAMES) - 1
    assert chip("esp8266").image_chip_id is None


@every_chip
def test_agrees_with_esptool(known: Chip):
    from esptool.targets import CHIP_DEFS

    target = CHIP_DEFS[known.name]
    assert known.title == target.CHIP_NAME
    assert known.bootloader_offset == target.BOOTLOADER_FLASH_OFFSET
    assert set(known.flash_freqs) == set(target.FLASH_FREQUENCY)
    if known.image_chip_id is not None:
        assert known.image_chip_id == target.IMAGE_CHIP_ID


@pytest.mark.parametrize(
    ("name", "gpio_count", "uarts", "log"),
    [
        ("esp8266", 17, (0,), (1, 2, -1)),
        ("esp32", 35, (0, 1, 2), (0, 1, 3)),
        ("esp32c2", 21, (0, 1), (0, 20, 19)),
        ("esp32c3", 22, (0, 1), (0, 21, 20)),
        ("esp32c5", 29, (0, 1), (0, 11, 12)),
        ("esp32c6", 31, (0, 1), (0, 16, 17)),
        ("esp32c61", 30, (0, 1, 2), (0, 11, 10)),
        ("esp32s2", 43, (0, 1), (0, 43, 44)),
    ],
)
def test_numbers_of_pins_and_ports(name: str, gpio_count: int, uarts: tuple[int, ...], log: tuple[int, ...]):
    known = chip(name)
    assert len(known.gpios) == gpio_count
    assert known.uarts == uarts
    assert (known.log.uart, known.log.tx, known.log.rx) == log


def test_input_only_pins():
    assert chip("esp32").input_only == set(range(34, 40))
    assert chip("esp32s2").input_only == {46}
    assert all(not known.input_only for known in chips() if known.name not in ("esp32", "esp32s2"))


def test_the_esp8266_has_two_places_for_its_uart():
    assert set(chip("esp8266").uart_pin_sets) == {UartPins(0, 15, 13, 3, 1), UartPins(0, 1, 3, 13, 15)}
    assert all(not known.uart_pin_sets for known in chips() if known.name != "esp8266")


def test_a_module_may_have_its_own_log_port():
    c2 = chip("esp32c2")
    assert c2.log_port("ESP32C2-2MB").tx == 8
    assert c2.log_port("esp32c2-2mb-g2").rx == 9
    assert c2.log_port("ESP32C2-4MB") == c2.log == c2.log_port("")


@pytest.mark.parametrize("name", ["esp32c3", "ESP32-C3", "Esp32_C3", " esp32c3 ", "PLATFORM_ESP32C3"])
def test_names_are_read_as_people_write_them(name: str):
    assert chip(name) is find_chip(name)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("esp32-c33", "did you mean esp32c3?"),
        ("esp32c", "did you mean"),
        ("stm32", "the chips are esp8266"),
        ("", ""),
    ],
)
def test_an_unknown_chip_has_a_hint(name: str, part: str):
    with pytest.raises(InputError) as caught:
        chip(name)
    assert part in caught.value.hint
    assert find_chip(name) is None


@pytest.mark.parametrize("name", ["esp32s3", "ESP32-S3", "esp32h2", "ESP32-P4", "esp32h4"])
def test_chips_without_esp_at_are_told_by_name(name: str):
    with pytest.raises(InputError, match="not a chip that ESP-AT supports"):
        chip(name)
    assert find_chip(name) is None


def test_official_modules(shared):
    paths = sorted(
        shared.glob("esp-at/v*/components/customized_partitions/raw_data/factory_param/*_data.csv")
    )
    assert paths
    for path in paths:
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                names = ("uart_port", "uart_tx_pin", "uart_rx_pin", "uart_cts_pin", "uart_rts_pin")
                official = UartPins(*(int(row[name]) for name in names))
                assert chip(row["platform"]).official_pins(row["module_name"]) == official


HEADERS = {
    "chips.csv": "chip,fact,value,source",
    "uarts.csv": "chip,module,role,uart,tx,rx,cts,rts,source",
    "countries.csv": "code,channels,source",
}


def folder_with(tmp_path, name: str, content: str | bytes):
    """Return a module_config folder in which one table is replaced."""
    for table in HEADERS:
        (tmp_path / table).write_bytes((data.data_folder() / table).read_bytes())
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return tmp_path


@pytest.mark.parametrize(
    ("table", "rows", "part"),
    [
        ("chips.csv", "esp99,colour,red,seen", "line 2: fact 'colour' is unknown"),
        ("chips.csv", "esp99,gpios,0-3,a\nesp99,gpios,0-3,a", "line 3: fact 'gpios' is twice"),
        ("chips.csv", "esp99,gpios,0-3,", "without a source"),
        ("chips.csv", "esp99,gpios,three,a", "line 2: 'three' is not a number"),
        ("chips.csv", "esp99,gpios,3-0,a", "'3-0' is not a range"),
        ("chips.csv", "esp99,gpios,0-99999999,a", "is not a range"),
        ("chips.csv", "esp99,uart_pin_sets,1/2/3,a", "is not a set of pins"),
        ("chips.csv", "esp99,gpios", "line 2 has 2 columns"),
        ("chips.csv", 'esp99,gpios,"0,a', "line 2"),
        ("uarts.csv", "esp99,,log,0,1,3,-1,-1,a", "unknown chip or role"),
        ("uarts.csv", "esp32,,console,0,1,3,-1,-1,a", "unknown chip or role"),
        ("uarts.csv", "esp32,,log,0,x,3,-1,-1,a", "'x' is not a number"),
        ("uarts.csv", "esp32,,log,0,1,3,-1,-1,a", "chip esp8266 lacks its log port"),
        ("countries.csv", "CN,thirteen,a", "line 2: 'CN'"),
        ("countries.csv", "CN,13,a\nCN,13,a", "line 3: 'CN'"),
        ("countries.csv", "CN,13,", "line 2: 'CN'"),
    ],
)
def test_a_wrong_table_is_an_error_that_names_the_line(tmp_path, table: str, rows: str, part: str):
    folder = folder_with(tmp_path, table, f"{HEADERS[table]}\n{rows}\n")
    load = countries.load if table == "countries.csv" else catalog.load
    with pytest.raises(FormatError) as caught:
        load(folder)
    assert part in caught.value.message
    assert str(tmp_path / table) in caught.value.message or table == "uarts.csv"


def test_a_chip_with_missing_facts_is_an_error(tmp_path):
    folder = folder_with(tmp_path, "chips.csv", f"{HEADERS['chips.csv']}\nesp99,platform,PLATFORM_ESP99,a\n")
    (folder / "uarts.csv").write_text(f"{HEADERS['uarts.csv']}\n", encoding="utf-8")
    with pytest.raises(FormatError, match="chip esp99 lacks title, bootloader_offset"):
        catalog.load(folder)


@pytest.mark.parametrize("content", [b"", b"chip,fact\n", b"\xff\xfe"])
def test_a_table_with_other_columns_or_bytes_is_refused(tmp_path, content: bytes):
    with pytest.raises(FormatError):
        catalog.load(folder_with(tmp_path, "chips.csv", content))


def test_a_missing_table_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        catalog.load(tmp_path)


def test_every_row_has_a_source():
    for table, header in HEADERS.items():
        rows = list(data.read_table(data.data_folder() / table, tuple(header.split(","))))
        assert rows
        assert all(row[-1].strip() for _, row in rows)


def test_countries():
    assert countries.find_country("US") == countries.Country("US", 11)
    assert countries.find_country("01") == countries.Country("01", 11)
    assert countries.find_country("CN") == countries.Country("CN", 13)
    assert countries.find_country("JP") == countries.Country("JP", 14)
    assert countries.find_country("us") is None
    assert countries.nearest_code("us") == "US"
    assert countries.nearest_code("UK") == "GB"
    assert countries.nearest_code("??") == ""
    known = countries.load(data.data_folder()).values()
    assert {country.channels for country in known} == {None, 11, 13, 14}
    assert all(len(country.code) == 2 and country.code == country.code.upper() for country in known)


def test_the_data_stands_beside_the_code_when_installed(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "esp_at_tools"
    (package / "module_config").mkdir(parents=True)
    monkeypatch.setattr(data, "_PACKAGE", package)
    assert data.data_folder() == package / "module_config"
    with pytest.raises(InputError, match="templates"):
        data.templates_folder()
    (tmp_path / "site-packages" / "templates").mkdir()
    assert data.templates_folder() == tmp_path / "site-packages" / "templates"


def test_looking_up_a_chip_loads_nothing_heavy():
    code = """
import sys
from esp_at_tools.catalog.chips import chip
from esp_at_tools.settings import rules
assert "csv" not in sys.modules
rules.check_settings({"uart_tx_pin": 4}, {}, chip("esp32"), layout="modern")
print(sorted({"yaml", "rich", "click", "esptool", "cryptography", "jinja2", "json"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

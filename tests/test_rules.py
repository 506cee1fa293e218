"""The table of values that are impossible, risky or worth a warning."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.catalog.chips import chip, chips
from esp_at_tools.errors import InputError
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings import uart_rules
from esp_at_tools.settings.findings import Context
from esp_at_tools.settings.names import PIN_SETTINGS, SETTINGS
from esp_at_tools.settings.rules import RuleFinding, check_settings, check_value, parse_value


def firmware(module: str, *uart: int, **others: object) -> dict[str, object]:
    """Return the settings of a firmware; ``uart`` is its number and the pins TX, RX, CTS and RTS."""
    return {
        "version": 3,
        "module_name": module,
        "max_tx_power": 78,
        "country_code": "CN",
        "start_channel": 1,
        "channel_num": 13,
        "uart_baudrate": -1 if uart[0] == -1 else 115200,
        **dict(zip(("uart_port", *PIN_SETTINGS), uart, strict=True)),
        **others,
    }


FIRMWARES = {
    "c3": ("esp32c3", "modern", firmware("MINI-1", 1, 7, 6, 5, 4, sys_store=1)),
    "c3-legacy": ("esp32c3", "legacy", firmware("MINI-1", 1, 7, 6, 5, 4, platform="PLATFORM_ESP32C3")),
    "c2-2mb": ("esp32c2", "modern", firmware("ESP32C2-2MB", 1, 7, 6, 19, 20)),
    "c2-4mb": ("esp32c2", "modern", firmware("ESP32C2-4MB", 1, 7, 6, 5, 4)),
    "c6": ("esp32c6", "modern", firmware("ESP32C6-4MB", 1, 7, 6, 5, 4)),
    "wroom": ("esp32", "legacy", firmware("WROOM-32", 1, 17, 16, 15, 14)),
    "wrover": ("esp32", "modern", firmware("WROVER-32", 1, 22, 19, 15, 14)),
    "s2": ("esp32s2", "modern", firmware("MINI", 1, 17, 21, 20, 19)),
    "sdio": ("esp32", "modern", firmware("ESP32-SDIO", -1, -1, -1, -1, -1)),
    "8266": (
        "esp8266",
        "legacy",
        firmware("WROOM-02", 0, 15, 13, 3, 1, tx_control_pin=-1, rx_control_pin=-1),
    ),
    "unknown": (None, "modern", firmware("MINE", 1, 7, 6, 5, 4)),
}

BAD, RISK, WARN = "impossible", "risky", "warning"
NO_PINS = dict.fromkeys(PIN_SETTINGS, -1)

# firmware, changes, expected level by setting
TABLE = [
    # --- baud rate
    ("c3", {"uart_baudrate": 80}, {}),
    ("c3", {"uart_baudrate": 5000000}, {}),
    ("c3", {"uart_baudrate": 79}, {"uart_baudrate": BAD}),
    ("c3", {"uart_baudrate": 0}, {"uart_baudrate": BAD}),
    ("c3", {"uart_baudrate": -1}, {"uart_baudrate": BAD}),
    ("c3", {"uart_baudrate": 5000001}, {"uart_baudrate": BAD}),
    ("unknown", {"uart_baudrate": 1 << 31}, {"uart_baudrate": BAD}),
    ("c2-4mb", {"uart_baudrate": 2500001}, {"uart_baudrate": WARN}),
    ("8266", {"uart_baudrate": 4500001}, {"uart_baudrate": WARN}),
    # --- transmit power
    ("c3", {"max_tx_power": 40}, {}),
    ("c3", {"max_tx_power": 84}, {}),
    ("c3", {"max_tx_power": 39}, {"max_tx_power": RISK}),
    ("c3", {"max_tx_power": 85}, {"max_tx_power": RISK}),
    ("c3", {"max_tx_power": -128}, {"max_tx_power": RISK}),
    ("c3", {"max_tx_power": 128}, {"max_tx_power": BAD}),
    ("c3-legacy", {"max_tx_power": 255}, {"max_tx_power": BAD}),
    # --- channels and country
    ("c3", {"start_channel": 14, "channel_num": 1}, {"channel_num": WARN}),  # only a few countries have 14
    ("c3", {"start_channel": 1, "channel_num": 14}, {"channel_num": WARN}),
    ("c3", {"country_code": "JP", "channel_num": 14}, {}),
    ("c3", {"start_channel": 0}, {"start_channel": BAD}),
    ("c3", {"start_channel": 15}, {"start_channel": BAD}),
    ("c3", {"channel_num": 0}, {"channel_num": BAD}),
    ("c3", {"channel_num": 15}, {"channel_num": BAD}),
    ("c3", {"channel_num": 256}, {"channel_num": BAD}),
    ("c3", {"start_channel": 3}, {"start_channel": BAD}),  # 13 channels from 3
    ("c3", {"start_channel": 3, "channel_num": 13}, {"start_channel": BAD}),  # channel_num is not changed
    ("c3", {"start_channel": 3, "channel_num": 12}, {"channel_num": WARN}),  # past 13 in CN
    ("c3", {"start_channel": 3, "channel_num": 11}, {}),
    ("c3", {"country_code": "US"}, {"country_code": WARN}),  # the 13 channels are not being changed
    ("c3", {"country_code": "US", "channel_num": 11}, {}),
    ("c3", {"country_code": "US", "channel_num": 12}, {"channel_num": RISK}),
    ("c3", {"country_code": "01", "start_channel": 2, "channel_num": 11}, {"channel_num": RISK}),
    ("c3", {"country_code": "US", "start_channel": 12, "channel_num": 1}, {"channel_num": RISK}),
    ("c3", {"country_code": "AQ", "channel_num": 12}, {}),  # known, without regulations
    ("c3", {"country_code": "us"}, {"country_code": RISK}),
    ("c3", {"country_code": "UK"}, {"country_code": RISK}),
    ("c3", {"country_code": "ZZ"}, {"country_code": RISK}),
    ("c3", {"country_code": "00"}, {"country_code": RISK}),
    ("c3", {"country_code": ""}, {"country_code": BAD}),
    ("c3", {"country_code": "C"}, {"country_code": BAD}),
    ("c3", {"country_code": "CHN"}, {"country_code": BAD}),
    ("c3", {"country_code": "C-"}, {"country_code": BAD}),
    ("c3", {"country_code": "ÄÖ"}, {"country_code": BAD}),
    ("c3", {"country_code": "C\0"}, {"country_code": BAD}),
    ("c3-legacy", {"channel_num": 11}, {}),
    ("c3-legacy", {"start_channel": 3, "channel_num": 5}, {"channel_num": WARN}),  # read as 3 to 5
    ("c3-legacy", {"start_channel": 13, "channel_num": 1}, {"channel_num": WARN}),  # read as no channels
    # --- UART
    ("c3", {"uart_port": 0}, {"uart_port": RISK}),
    ("c3", {"uart_port": 2}, {"uart_port": BAD}),
    ("c3", {"uart_port": -1}, {"uart_port": BAD}),
    ("c3", {"uart_port": -2}, {"uart_port": BAD}),
    ("c3", {"uart_port": 128}, {"uart_port": BAD}),
    ("c3", {"uart_port": -1, "uart_baudrate": -1, **NO_PINS}, {}),
    ("c3", {"uart_baudrate": -1, **NO_PINS}, {}),  # as the official ESP32C5-SPI
    ("c3", NO_PINS, {"uart_tx_pin": WARN, "uart_rx_pin": WARN}),
    ("c3", {"uart_port": -1, **NO_PINS, "uart_rts_pin": 0}, {"uart_port": BAD, "uart_rts_pin": WARN}),
    ("wroom", {"uart_port": 2}, {}),
    ("wroom", {"uart_port": 3}, {"uart_port": BAD}),
    ("c6", {"uart_port": 2}, {"uart_port": BAD}),  # the low-power UART
    ("8266", {"uart_port": 1}, {"uart_port": BAD}),  # can only transmit
    ("unknown", {"uart_port": 2}, {}),
    ("unknown", {"uart_port": 3}, {"uart_port": BAD}),
    ("sdio", {"uart_tx_pin": 17}, {"uart_tx_pin": RISK, "uart_port": None}),
    ("sdio", {"uart_port": 1, "uart_baudrate": 115200, "uart_tx_pin": 22, "uart_rx_pin": 19}, {}),
    # --- pins
    ("c3", {"uart_tx_pin": 10}, {}),
    ("c3", {"uart_tx_pin": 0, "uart_rx_pin": 1}, {}),
    ("c3", {"uart_tx_pin": 6, "uart_rx_pin": 7}, {}),  # swapped
    ("c3", {"uart_cts_pin": -1, "uart_rts_pin": -1}, {}),
    ("c3", {"uart_tx_pin": 99}, {"uart_tx_pin": BAD}),
    ("c3", {"uart_tx_pin": 22}, {"uart_tx_pin": BAD}),
    ("c3", {"uart_rx_pin": -2}, {"uart_rx_pin": BAD}),
    ("c3", {"uart_tx_pin": 5}, {"uart_tx_pin": BAD}),  # CTS already there: the module would be mute
    ("c3", {"uart_tx_pin": 5, "uart_cts_pin": -1}, {}),
    ("c3", {"uart_tx_pin": 10, "uart_rx_pin": 10}, {"uart_rx_pin": BAD}),
    ("c3", {"uart_rts_pin": 7}, {"uart_rts_pin": BAD}),
    ("c3", {"uart_tx_pin": -1}, {"uart_tx_pin": WARN}),
    ("c3-legacy", {"uart_rx_pin": -1}, {"uart_rx_pin": WARN}),
    ("c3", {"uart_tx_pin": 9}, {"uart_tx_pin": RISK}),  # strapping
    ("c3", {"uart_tx_pin": 12}, {"uart_tx_pin": RISK}),  # flash
    ("c3", {"uart_tx_pin": 11}, {"uart_tx_pin": RISK}),  # flash supply
    ("c3", {"uart_rx_pin": 18}, {"uart_rx_pin": RISK}),  # USB
    ("c3", {"uart_rts_pin": 21}, {"uart_rts_pin": RISK}),  # log
    ("c6", {"uart_tx_pin": 14}, {"uart_tx_pin": WARN}),  # not on every package
    ("c6", {"uart_cts_pin": 4, "uart_rts_pin": 5}, {"uart_cts_pin": RISK, "uart_rts_pin": RISK}),
    ("s2", {"uart_tx_pin": 46}, {"uart_tx_pin": BAD}),  # input-only
    ("s2", {"uart_rx_pin": 46}, {"uart_rx_pin": RISK}),  # may be an input, but is a strapping pin
    ("s2", {"uart_rx_pin": 22}, {"uart_rx_pin": BAD}),
    ("wroom", {"uart_tx_pin": 34}, {"uart_tx_pin": BAD}),
    ("wroom", {"uart_rts_pin": 39}, {"uart_rts_pin": BAD}),
    ("wroom", {"uart_rx_pin": 34, "uart_cts_pin": 35}, {}),
    ("wroom", {"uart_tx_pin": 24}, {"uart_tx_pin": BAD}),
    ("wroom", {"uart_tx_pin": 20}, {"uart_tx_pin": RISK}),  # only on ESP32-PICO-V3
    ("wroom", {"uart_tx_pin": 16, "uart_rx_pin": 17}, {}),  # this module has no PSRAM
    ("wrover", {"uart_tx_pin": 16}, {"uart_tx_pin": RISK}),  # this one has
    ("wrover", {"uart_cts_pin": 12}, {"uart_cts_pin": RISK}),
    ("c2-2mb", {"uart_rts_pin": 5}, {}),
    ("c2-2mb", {"uart_tx_pin": 8}, {"uart_tx_pin": RISK}),  # log port of this module, and strapping
    ("c2-4mb", {"uart_tx_pin": 20}, {"uart_tx_pin": RISK}),  # log port of that module
    ("unknown", {"uart_tx_pin": 10}, {"uart_tx_pin": WARN}),  # not checked
    ("unknown", {"uart_tx_pin": 6}, {"uart_tx_pin": BAD}),  # but a shared pin is one on any chip
    ("unknown", {"uart_tx_pin": 47}, {"uart_tx_pin": BAD}),  # and no chip has this one
    ("unknown", {"uart_cts_pin": -1}, {}),
    # --- ESP8266: the UART has two places
    ("8266", {"uart_tx_pin": 1, "uart_rx_pin": 3, "uart_cts_pin": -1, "uart_rts_pin": -1}, {}),
    ("8266", {"uart_tx_pin": 1, "uart_rx_pin": 3, "uart_cts_pin": 13, "uart_rts_pin": 15}, {}),
    (
        "8266",
        {"uart_tx_pin": 1, "uart_rx_pin": 3},
        {"uart_tx_pin": BAD, "uart_rx_pin": BAD},
    ),  # on CTS and RTS
    ("8266", {"uart_tx_pin": 1, "uart_rts_pin": -1}, {"uart_tx_pin": BAD}),
    ("8266", {"uart_tx_pin": 12, "uart_rx_pin": 14}, {"uart_tx_pin": BAD}),
    ("8266", {"uart_tx_pin": 16}, {"uart_tx_pin": BAD}),
    ("8266", {"uart_tx_pin": 17}, {"uart_tx_pin": BAD}),
    ("8266", {"uart_cts_pin": 14}, {"uart_cts_pin": BAD}),
    ("8266", {"uart_cts_pin": -1, "uart_rts_pin": -1}, {}),
    ("8266", {"tx_control_pin": 5}, {}),
    ("8266", {"tx_control_pin": 15}, {"tx_control_pin": RISK}),
    ("8266", {"rx_control_pin": 7}, {"rx_control_pin": RISK}),
    ("8266", {"rx_control_pin": 17}, {"rx_control_pin": BAD}),
    ("8266", {"rx_control_pin": 200}, {"rx_control_pin": BAD}),
    ("wroom", {"tx_control_pin": 34}, {"tx_control_pin": BAD}),
    # --- texts
    ("c3", {"module_name": "x" * 127}, {}),
    ("c3", {"module_name": "x" * 128}, {"module_name": WARN}),
    ("c3", {"module_name": "x" * 3999}, {"module_name": WARN}),
    ("c3", {"module_name": "x" * 4000}, {"module_name": BAD}),
    ("c3", {"module_name": "a\0b"}, {"module_name": BAD}),
    ("c3", {"module_name": "\ud800"}, {"module_name": BAD}),
    ("c3", {"module_name": ""}, {"module_name": WARN}),
    ("c3-legacy", {"module_name": "x" * 31}, {}),
    ("c3-legacy", {"module_name": "x" * 32}, {"module_name": BAD}),
    ("c3-legacy", {"module_name": "模" * 10}, {}),
    ("c3-legacy", {"module_name": "模" * 11}, {"module_name": BAD}),
    ("c3-legacy", {"platform": "PLATFORM_ESP32"}, {"platform": RISK}),
    ("c3-legacy", {"platform": "esp32c3"}, {"platform": RISK}),
    ("c3-legacy", {"platform": "x" * 32}, {"platform": BAD}),
    # --- the rest
    ("c3", {"sys_store": 0}, {}),
    ("c3", {"sys_store": 2}, {"sys_store": BAD}),
    ("c3", {"sys_store": -1}, {"sys_store": BAD}),
    ("c3", {"version": 5}, {}),
    ("c3", {"version": 128}, {"version": BAD}),
    ("c3-legacy", {"version": 4}, {"version": BAD}),
    ("c3", {"uart_tx_pin": "7"}, {"uart_tx_pin": BAD}),
    ("c3", {"uart_tx_pin": True}, {"uart_tx_pin": BAD}),
    ("c3", {"country_code": 1}, {"country_code": BAD}),
]


def check(name: str, changes: dict[str, object]) -> list[RuleFinding]:
    chip_name, layout, current = FIRMWARES[name]
    return check_settings(changes, current, chip(chip_name) if chip_name else None, layout=layout)


_RANK = {None: 0, WARN: 1, RISK: 2, BAD: 3}


def worst(findings: list[RuleFinding]) -> dict[str, str]:
    """Return the worst level of each setting."""
    levels: dict[str, str] = {}
    for finding in findings:
        if _RANK[finding.level] > _RANK[levels.get(finding.setting)]:
            levels[finding.setting] = finding.level
    return levels


@pytest.mark.parametrize(("name", "changes", "expected"), TABLE)
def test_table(name: str, changes: dict[str, object], expected: dict[str, str]):
    findings = check(name, changes)
    assert worst(findings) == {setting: level for setting, level in expected.items() if level}
    for finding in findings:
        assert finding.message.startswith(finding.setting) or finding.setting in finding.message


@pytest.mark.parametrize("name", FIRMWARES)
def test_an_official_firmware_has_nothing_to_object_to(name: str):
    assert check(name, {}) == []
    _, _, current = FIRMWARES[name]
    assert check(name, current) == []


def test_every_official_module_may_be_written_as_it_is(shared):
    seen = 0
    for path in shared.glob("esp-at/v*/components/customized_partitions/raw_data/factory_param/*_data.csv"):
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                values = {
                    name: parse_value(name, text)
                    for name, text in row.items()
                    if name in SETTINGS and name != "platform"
                }
                findings = check_settings(values, {}, chip(row["platform"]), layout="modern")
                assert not [finding for finding in findings if finding.level != "warning"], row
                assert check_settings({}, values, chip(row["platform"]), layout="modern") == []
                seen += 1
    assert seen > 30


def test_what_a_firmware_already_has_gives_only_warnings():
    broken = firmware("M", 7, 99, 5, 5, 34, channel_num=77, country_code="Q", sys_store=9)
    findings = check_settings({"max_tx_power": 80}, broken, chip("esp32c3"), layout="modern")
    assert set(worst(findings)) > {
        "uart_port",
        "uart_tx_pin",
        "uart_cts_pin",
        "country_code",
        "channel_num",
        "sys_store",
    }
    assert {finding.level for finding in findings} == {WARN}
    assert worst(check_settings(broken, broken, chip("esp32c3"), layout="modern")) == worst(findings)
    findings = check_settings({"uart_rx_pin": 99}, broken, chip("esp32c3"), layout="modern")
    assert worst(findings)["uart_rx_pin"] == BAD


def test_findings_come_in_the_official_order():
    findings = check("c3", {"uart_rts_pin": 99, "uart_tx_pin": 99, "max_tx_power": 1, "module_name": ""})
    order = list(SETTINGS)
    assert [finding.setting for finding in findings] == sorted((f.setting for f in findings), key=order.index)


@pytest.mark.parametrize(
    ("name", "changes", "message", "hint"),
    [
        (
            "wroom",
            {"uart_tx_pin": 34},
            "GPIO 34 of ESP32 is input-only and cannot be TX",
            "choose one of 4, 13, 17, ",
        ),
        (
            "c3",
            {"uart_tx_pin": 5},
            "uart_cts_pin, which stays as it is, is GPIO 5 too",
            "uart_cts_pin too",
        ),
        ("c3", {"uart_tx_pin": 99}, "ESP32-C3 has no GPIO 99", "choose one of 0, 1, 3, 7, 10"),
        ("unknown", {"uart_tx_pin": 10}, "not checked against the GPIOs", "--chip or --module"),
        ("c3", {"country_code": "us"}, "'us' is not a known code", "did you mean US?"),
        ("c3", {"country_code": "USA"}, "'USA' is not two letters or digits", "did you mean US?"),
        ("c3", {"channel_num": 14, "start_channel": 2}, "end at 15", "channel_num is at most 13"),
        ("c3", {"country_code": "US", "channel_num": 12}, "past 11, the last one of US", "channel_num to 11"),
        ("8266", {"uart_tx_pin": 4}, "TX 15 with RX 13 or TX 1 with RX 3", "both pins"),
        ("8266", {"uart_cts_pin": 14}, "CTS of ESP8266 can only be GPIO 3", "uart_cts_pin to 3"),
        ("c3", {"uart_port": 0}, "UART 0 of ESP32-C3 is the log port", "choose 1"),
        ("c3-legacy", {"platform": "esp32c3"}, "not a platform", "PLATFORM_ESP32C3"),
    ],
)
def test_messages_say_what_would_be_right(name: str, changes: dict[str, object], message: str, hint: str):
    (finding,) = check(name, changes)
    assert message in finding.message
    assert hint in finding.hint


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("uart_baudrate", "921600", 921600),
        ("uart_baudrate", "0x1000", 4096),
        ("uart_baudrate", "4K", 4096),
        ("uart_tx_pin", "-1", -1),
        ("uart_tx_pin", " 7 ", 7),
        ("country_code", "01", "01"),
        ("module_name", " 4K ", " 4K "),
        ("platform", "PLATFORM_ESP32", "PLATFORM_ESP32"),
    ],
)
def test_values_are_read_as_they_are_written(name: str, text: str, value: object):
    assert parse_value(name, text) == value
    assert not check_value(name, value)


@pytest.mark.parametrize("text", ["", "seven", "1.5", "7 8", "0x", "--1", "\N{ARABIC-INDIC DIGIT SEVEN}"])
def test_a_number_that_is_none_names_the_option(text: str):
    with pytest.raises(InputError, match=r"^--tx-pin: "):
        parse_value("uart_tx_pin", text, "--tx-pin")
    with pytest.raises(InputError, match=r"^uart_tx_pin: "):
        parse_value("uart_tx_pin", text)


@pytest.mark.parametrize("name", ["baud", "mqtt_ca", "cfg0", ""])
def test_only_settings_are_judged(name: str):
    for judge in (
        lambda: parse_value(name, "1"),
        lambda: check_value(name, 1),
        lambda: check_settings({name: 1}, {}, None, layout="modern"),
    ):
        with pytest.raises(InputError):
            judge()


def test_pki_items_among_the_current_values_do_no_harm():
    assert check_settings({}, {next(iter(PKI_ITEMS)): "x"}, None, layout="modern") == []


numbers = st.integers(-3, 60) | st.sampled_from([-128, 127, 128, 255, 256, 115200, 5000001, 1 << 31, 1 << 70])
values = st.dictionaries(st.sampled_from(list(SETTINGS)), numbers | st.text(max_size=5), max_size=8)
layouts = st.sampled_from(["modern", "legacy"])


@settings(deadline=None, max_examples=300)
@given(values, values, st.sampled_from([None, *chips()]), layouts)
def test_any_values_give_findings_about_what_changes(changes, current, known, layout):
    findings = check_settings(changes, current, known, layout=layout)
    for finding in findings:
        assert finding.setting in {*changes, *current}
        if finding.level != WARN:
            assert finding.setting in changes
            assert changes[finding.setting] != current.get(finding.setting)


@pytest.mark.parametrize("setting", PIN_SETTINGS)
@pytest.mark.parametrize("name", sorted(set(FIRMWARES) - {"unknown", "8266", "sdio"}))
def test_a_pin_that_is_suggested_is_accepted(name: str, setting: str):
    chip_name, layout, current = FIRMWARES[name]
    known = chip(chip_name)
    suggested = uart_rules._free_pins(Context(current, frozenset(), known, layout), setting)
    accepted = [pin for pin in sorted(known.gpios) if check(name, {setting: pin}) == []]
    assert suggested == accepted
    assert len(accepted) >= 4

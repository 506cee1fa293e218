"""The legacy factory_param record, against real records and any bytes."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.errors import EspAtError, FormatError, InputError
from esp_at_tools.formats.factory_param import FIELDS, RECORD, RECORD_SIZE, VERSIONS, FactoryParam, fields_of

# What the official factory_param_data.csv of each release says for that module.
REAL = {
    "ESP32-C3-MINI-1-V2.3.0.0": {
        "version": 3, "max_tx_power": 78, "uart_port": 1, "start_channel": 1, "channel_num": 13,
        "country_code": "CN", "uart_baudrate": 115200, "uart_tx_pin": 7, "uart_rx_pin": 6, "uart_cts_pin": 5,
        "uart_rts_pin": 4, "tx_control_pin": -1, "rx_control_pin": -1, "platform": "PLATFORM_ESP32C3",
        "module_name": "MINI-1",
    },
    "ESP32-WROOM-32-V2.2.0.0": {
        "version": 3, "max_tx_power": 78, "uart_port": 1, "start_channel": 1, "channel_num": 13,
        "country_code": "CN", "uart_baudrate": 115200, "uart_tx_pin": 17, "uart_rx_pin": 16,
        "uart_cts_pin": 15, "uart_rts_pin": 14, "tx_control_pin": -1, "rx_control_pin": -1,
        "platform": "PLATFORM_ESP32", "module_name": "WROOM-32",
    },
    "ESP8266-AT-V2.2.1.0": {
        "version": 3, "max_tx_power": 78, "uart_port": 0, "start_channel": 1, "channel_num": 13,
        "country_code": "CN", "uart_baudrate": 115200, "uart_tx_pin": 15, "uart_rx_pin": 13,
        "uart_cts_pin": 3, "uart_rts_pin": 1, "tx_control_pin": -1, "rx_control_pin": -1,
        "platform": "PLATFORM_ESP8266", "module_name": "WROOM-02",
    },
}  # fmt: skip


def record(version: int = 3, body: bytes = b"") -> bytes:
    """A record whose bytes after the version are ``body``, then 0xFF."""
    return (struct.pack("<HB", 0xFCFC, version) + body).ljust(RECORD_SIZE, b"\xff")


@pytest.mark.parametrize("release", REAL)
def test_real_record_reads_as_its_table_says(shared, release):
    data = (shared / "firmware" / release / "customized_partitions" / "factory_param.bin").read_bytes()
    params = FactoryParam.from_bytes(data)
    assert params.values() == REAL[release]
    assert params.module_id is None
    assert params.to_bytes() == data


@pytest.mark.parametrize("release", REAL)
def test_change_touches_its_own_bytes_and_reverses(shared, release):
    data = (shared / "firmware" / release / "customized_partitions" / "factory_param.bin").read_bytes()
    params = FactoryParam.from_bytes(data)
    for name, new in {
        "uart_baudrate": 921600,
        "uart_tx_pin": -1,
        "country_code": "US",
        "module_name": "x" * 31,
    }.items():
        changed = params.replace(**{name: new})
        field = FIELDS[name]
        different = {i for i in range(RECORD_SIZE) if changed.to_bytes()[i] != data[i]}
        assert different
        assert different <= set(range(field.offset, field.offset + field.size))
        assert getattr(changed, name) == new
        assert changed.replace(**{name: getattr(params, name)}).to_bytes() == data


def test_versions_hold_what_their_firmware_reads():
    assert "module_id" in fields_of(1)
    assert "uart_port" not in fields_of(1)
    assert set(fields_of(2)) - set(fields_of(1)) == {"uart_port"}
    assert set(fields_of(3)) ^ set(fields_of(2)) == {"module_id", "platform", "module_name"}
    with pytest.raises(FormatError, match="version 4"):
        fields_of(4)


def test_version_1_of_esp_at_v1_1_3():
    # WROVER-32: module_id 2, power 1, gap, channels 1 and 13, CN, 115200, pins 22 19 15 14, then 0xFF.
    params = FactoryParam.from_bytes(
        record(1, b"\x02\x01\xff\x01\x0dCN\0\0" + struct.pack("<i4b", 115200, 22, 19, 15, 14))
    )
    assert params.module_id == 2
    assert params.uart_port is None
    assert params.platform is None
    assert params.module_name is None
    assert (params.uart_tx_pin, params.uart_rts_pin, params.tx_control_pin) == (22, 14, -1)
    assert params.replace(module_id=3).to_bytes()[3] == 3


def test_offsets_are_those_of_the_record():
    marked = bytes(range(RECORD.size))
    values = RECORD.unpack(marked)[1:]
    for field, value in zip(FIELDS.values(), values, strict=True):
        assert struct.unpack_from("<" + field.code, marked, field.offset)[0] == value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes"),
        (record()[:-1], "4095 bytes"),
        (record() + b"\xff", "4097 bytes"),
        (b"\xff" * RECORD_SIZE, "blank"),
        (bytes(RECORD_SIZE), "starts with 0x0000"),
        (b"\xfc\xfd" + record()[2:], "starts with 0xfdfc"),
        (record(0), "version 0"),
        (record(4), "version 4"),
    ],
)
def test_what_is_no_record(data, message):
    with pytest.raises(FormatError, match=message) as caught:
        FactoryParam.from_bytes(data)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("version", "change", "message"),
    [
        (3, {"uart_tx_pin": 128}, "uart_tx_pin: 128 does not fit"),
        (3, {"uart_tx_pin": -129}, "does not fit"),
        (3, {"start_channel": -1}, "does not fit"),
        (3, {"max_tx_power": 200}, "does not fit"),
        (3, {"uart_baudrate": 1 << 31}, "does not fit"),
        (3, {"uart_baudrate": "115200"}, "is not a number"),
        (3, {"uart_port": True}, "is not a number"),
        (3, {"country_code": 1}, "is not a text"),
        (3, {"country_code": "USA2"}, "has 4 bytes"),
        (3, {"module_name": "x" * 32}, "has 32 bytes"),
        (3, {"module_name": "é" * 16}, "has 32 bytes"),
        (3, {"platform": "A\0B"}, "NUL"),
        (3, {"platform": "\ud800"}, "UTF-8"),
        (3, {"module_id": 1}, "does not hold it"),
        (3, {"version": 2}, "cannot become 2"),
        (3, {"sys_store": 1}, "no such value"),
        (2, {"module_name": "x"}, "does not hold it"),
        (1, {"platform": "x"}, "does not hold it"),
        (1, {"uart_port": 1}, "does not hold it"),
    ],
)
def test_what_cannot_be_set(version, change, message):
    with pytest.raises(InputError, match=message) as caught:
        FactoryParam.from_bytes(record(version)).replace(**change)
    assert caught.value.hint


def test_setting_what_is_there_changes_nothing():
    data = record(3, bytes(5) + b"\xff" * 4 + bytes(12) + b"A\0junk".ljust(32, b"\x01") + b"B\0\xff\xff")
    params = FactoryParam.from_bytes(data)
    assert (params.platform, params.module_name) == ("A", "B")
    assert params.replace(**params.values()).to_bytes() == data
    assert params.replace(country_code="").to_bytes() == data
    assert params.replace(platform="AB").to_bytes()[24:56] == b"AB".ljust(32, b"\0")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(VERSIONS), st.binary(max_size=120))
def test_any_record_survives(version, body):
    data = record(version, body)
    params = FactoryParam.from_bytes(data)
    assert params.to_bytes() == data
    assert params.replace(**params.values()).to_bytes() == data
    assert FactoryParam.from_bytes(params.to_bytes()) == params


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_change_touches_one_field_and_reads_back(data):
    version = data.draw(st.sampled_from(VERSIONS))
    before = FactoryParam.from_bytes(record(version, data.draw(st.binary(max_size=120))))
    name = data.draw(st.sampled_from([name for name in fields_of(version) if name != "version"]))
    field = FIELDS[name]
    if field.is_text:
        alphabet = st.characters(codec="ascii", exclude_characters="\0")
        value = data.draw(st.text(alphabet, max_size=field.size - 1))
    else:
        value = data.draw(st.integers(*field.limits))
    after = before.replace(**{name: value})
    assert {**before.values(), name: value} == after.values()
    old, new = before.to_bytes(), after.to_bytes()
    assert old[: field.offset] == new[: field.offset]
    assert old[field.offset + field.size :] == new[field.offset + field.size :]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=5000), st.binary(max_size=90).map(lambda b: b.ljust(RECORD_SIZE, b"\0"))))
def test_only_our_errors(data):
    with contextlib.suppress(EspAtError):
        FactoryParam.from_bytes(data)

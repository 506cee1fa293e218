"""GATT tables: the official ones, what the firmware cannot take, and the legacy ble_data partition."""

from __future__ import annotations

import contextlib
import csv
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.errors import EspAtError, FormatError, InputError
from esp_at_tools.formats.ble_data import BleData
from esp_at_tools.formats.gatts import GattRow, check_row, check_table, parse_row, read_gatts_csv

VERSIONS = ("v3.4.0.0", "v5.0.1.0")
BLE_DATA = ("ESP32-C3-MINI-1-V2.3.0.0", "ESP32-WROOM-32-V2.2.0.0")

SMALL = [
    "0,16,0x2800,0x01,2,2,A002",
    "1,16,0x2803,0x01,1,1,02",
    "2,16,0xC300,0x01,1,1,30",
    "3,16,0x2901,0x11,1,1,30",
]


@pytest.fixture(scope="session")
def official(shared):
    tables = {}
    for version in VERSIONS:
        path = (
            shared / "esp-at" / version / "components/customized_partitions/raw_data/ble_data/gatts_data.csv"
        )
        tables[version] = path.read_text()
    return tables


@pytest.fixture(scope="session")
def ble_data(shared):
    return {
        name: (shared / "firmware" / name / "customized_partitions" / "ble_data.bin").read_bytes()
        for name in BLE_DATA
    }


def ids(findings, level=None):
    return [finding.id for finding in findings if level in (None, finding.level)]


def partition(text: str, length: int | None = None, magic: bytes = b"\x27\x95") -> bytes:
    return struct.pack("<H", len(text) if length is None else length) + magic + text.encode("latin-1")


# -- the official tables


def test_official_tables_pass(official):
    for version, text in official.items():
        rows = read_gatts_csv(text)
        assert len(rows) == 31, version
        assert check_table(rows) == [], version


def test_rows_are_those_of_the_official_mfg_nvs_csv(shared, official):
    checked = 0
    for version in VERSIONS:
        for path in (shared / "esp-at" / version / "expected").glob("*/*/mfg_nvs.csv"):
            with path.open(newline="") as stream:
                entries = list(csv.reader(stream))
            stored = [entry[3] for entry in entries if entry[0].startswith("cfg")]
            if stored:
                checked += 1
                assert stored == read_gatts_csv(official[version]), path
    assert checked > 10


def test_rows_read_back_as_they_were(official):
    for row in read_gatts_csv(official["v5.0.1.0"]):
        assert parse_row(row).to_text() == row


def test_csv_leaves_out_comments_headers_and_blank_lines():
    text = (
        "\ufeff# index,uuid_len\r\nindex,uuid_len,uuid\r\n\r\n"
        + "\r\n".join(SMALL)
        + '\r\n#x\r\n"4","16"\r\n'
    )
    assert read_gatts_csv(text) == [*SMALL, "4,16"]
    assert read_gatts_csv("") == []
    with pytest.raises(FormatError, match="not CSV"):
        read_gatts_csv("x" * 200_000)
    assert len(read_gatts_csv("x\n" * 255)) == 255
    with pytest.raises(FormatError, match="more than 255 rows"):
        read_gatts_csv("x\n" * 256)
    with pytest.raises(FormatError, match="characters"):
        read_gatts_csv("#\n" * (1 << 20))


# -- what is wrong with a row


def test_parse_row():
    row = parse_row("16,128,0x0000c305aabbccddeeff00112233445,0x110,,,".replace("445,", "4455,"))
    assert row == GattRow(16, 128, "0000C305AABBCCDDEEFF001122334455", 0x110, None, None, "")
    assert row.short_uuid is None
    assert parse_row("16,16,c305,1,0,0,0xab").to_text() == "16,16,0xC305,0x01,0,0,AB"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1 fields"),
        (SMALL[0] + ",", "8 fields"),
        (",16,0x2800,0x01,2,2,A002", "index ''"),
        ("-1,16,0x2800,0x01,2,2,A002", "index '-1'"),
        ("0,0x10,0x2800,0x01,2,2,A002", "uuid_len '0x10'"),
        ("0,16,,0x01,2,2,A002", "blank"),
        ("0,16,0x2800,,2,2,A002", "blank"),
        ("0,16,0xG800,0x01,2,2,A002", "uuid '0xG800'"),
        ("0,16, 0x2800,0x01,2,2,A002", "uuid ' 0x2800'"),
        ("0,16,0x2800,0x12345,2,2,A002", "perm '0x12345'"),
        ("0,16,0x2800,0x01,999999,2,A002", "val_max_len '999999'"),
        ("0,16,0x2800,0x01,2,2.0,A002", "val_cur_len '2.0'"),
        ("0,16,0x2800,0x01,2,2,A00", "3 hexadecimal digits"),
        ("0,16,0x2800,0x01,2,2,é", "value 'é'"),
        ("0,16,0x2800,0x01,2,2,A002\n", "value"),
        ("٣,16,0x2800,0x01,2,2,A002", "index"),
    ],
)
def test_what_is_no_row(text, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_row(text)
    assert caught.value.hint
    assert ids(check_row(text, 0)) == ["gatt-row"]
    assert ids(check_table([text]), "error") == ["gatt-row"]


@pytest.mark.parametrize(
    ("row", "expected", "level"),
    [
        ("2,8,0xC3,0x01,1,1,30", "gatt-uuid-length", "error"),
        ("2,16,0xC3,0x01,1,1,30", "gatt-uuid-digits", "error"),
        ("2,128,0xC300,0x01,1,1,30", "gatt-uuid-digits", "error"),
        ("2,32,0x0000C300,0x01,1,1,30", "gatt-uuid-32", "warning"),
        ("2,16,0xC300,0x08,1,1,30", "gatt-perm-bits", "warning"),
        ("2,16,0xC300,0xA0,1,1,30", "gatt-perm-digit", "warning"),
        ("2,16,0xC300,0x01,,1,30", "gatt-blank-length", "warning"),
        ("2,16,0xC300,0x01,513,1,30", "gatt-max-length", "warning"),
        ("2,16,0xC300,0x01,1,2,3031", "gatt-current-length", "error"),
        ("2,16,0xC300,0x01,9,2,30", "gatt-value-short", "error"),
        ("2,16,0xC300,0x01,9,1,", "gatt-value-short", "error"),
        ("2,16,0xC300,0x01,9,1,3031", "gatt-value-long", "warning"),
        ("2,16,0xC300,0x01,99,20," + "30" * 21, "gatt-value-size", "error"),
        ("2,16,0xC300,0x01,99,21," + "30" * 21, "gatt-value-ignored", "warning"),
        ("2,16,0xC300,0x01,512,512," + "30" * 40, "gatt-row-size", "error"),
        ("3,16,0xC300,0x01,1,1,30", "gatt-index", "warning"),
        ("2,16,0x2800,0x01,3,3,A00203", "gatt-service-value", "error"),
        ("2,16,0x2803,0x01,2,2,0203", "gatt-characteristic-value", "warning"),
    ],
)
def test_what_the_firmware_stumbles_over(row, expected, level):
    found = {finding.id: finding for finding in check_row(row, 2)}
    assert found[expected].level == level
    assert found[expected].message.startswith("GATT row 2")
    assert found[expected].hint


def test_legacy_rows_may_be_long_and_blank():
    assert check_row("2,16,0xC300,0x01,512,512," + "30" * 512, 2, "legacy") == []
    assert check_row("2,16,0xC300,0x01,,,", 2, "legacy") == []
    assert ids(check_row("2,16,0xC300,0x01,512,512,30", 2, "legacy")) == ["gatt-value-short"]
    assert check_row("2,16,0xC300,0x01,20,20," + "30" * 20, 2) == []
    assert check_row("2,16,0xC300,0x01,512,512,", 2) == []


def test_order_of_attributes():
    def found(*kinds):
        rows = {
            "service": "16,0x2800,0x01,2,2,A002",
            "declaration": "16,0x2803,0x01,1,1,02",
            "value": "16,0xC300,0x01,1,1,30",
            "descriptor": "16,0x2902,0x11,2,2,0000",
            "long": "128,0x" + "AB" * 16 + ",0x01,1,1,30",
        }
        return ids(check_table([f"{number},{rows[kind]}" for number, kind in enumerate(kinds)]))

    assert found() == []
    assert found("service", "declaration", "value", "descriptor", "descriptor", "declaration", "long") == []
    assert found("declaration", "value") == ["gatt-no-service"]
    assert found("service", "declaration") == ["gatt-no-value"]
    assert found("service", "declaration", "declaration", "value") == ["gatt-no-value"]
    assert found("service", "value") == ["gatt-no-declaration"]
    assert found("service", "descriptor") == ["gatt-stray-descriptor"]


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        GattRow,
        st.integers(0, 99999), st.integers(0, 99999), st.text("0123456789ABCDEF", min_size=1, max_size=32),
        st.integers(0, 0xFFFF), st.none() | st.integers(0, 99999), st.none() | st.integers(0, 99999),
        st.binary(max_size=512).map(lambda data: data.hex().upper()),
    )
)  # fmt: skip
def test_any_row_reads_back(row):
    assert parse_row(row.to_text()) == row


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("0123456789ABCDEFx,é\n \ud800", max_size=40), max_size=4))
def test_checks_never_fail(rows):
    for layout in ("modern", "legacy"):
        assert all(finding.level in ("error", "warning") for finding in check_table(rows, layout))


# -- the legacy partition


def with_rows(table, rows):
    """Return a legacy table with exactly these rows."""
    for number in reversed(range(len(rows), len(table.rows))):
        table = table.remove_row(number)
    for number, row in enumerate(rows):
        table = table.set_row(number, row)
    return table


def test_real_ble_data_round_trips(ble_data):
    for data in ble_data.values():
        table = BleData.from_bytes(data)
        assert table.to_bytes() == data
        assert len(table.rows) == 31
        assert check_table(table.rows, "legacy") == []
        assert with_rows(table, table.rows) == table
        assert BleData.from_bytes(data.ljust(0x6000, b"\xff")) == table


def test_real_ble_data_has_the_rows_of_its_table(ble_data, official):
    modern = read_gatts_csv(official["v5.0.1.0"])
    for data in ble_data.values():
        legacy = BleData.from_bytes(data).rows
        same = [number for number in range(31) if legacy[number] == modern[number]]
        assert len(same) == 26  # the others have long values, or blank ones
        assert legacy[16] == "16,16,0xC305,0x01,512,0,"


def test_changing_one_row_changes_only_its_object(ble_data):
    for data in ble_data.values():
        table = BleData.from_bytes(data)
        changed = table.set_row(2, "2,16,0xC300,0x11,4,2,3031")
        services = json.loads(data[4:])["Service"]
        keys = list(services[2])
        services[2] = {
            **services[2], "perm": 0x11, "val_max_len": 4, "val_cur_len": 2, "value": "3031",
        }  # fmt: skip
        assert list(services[2]) == keys
        text = json.dumps({"Service": services})
        assert changed.to_bytes() == partition(text)
        assert changed.set_row(2, table.rows[2]).to_bytes() == data
        assert table.set_row(2, table.rows[2].lower()) == table


def test_rows_are_added_and_removed(ble_data):
    for data in ble_data.values():
        table = BleData.from_bytes(data)
        longer = table.set_row(31, "31,16,0x2800,0x01,,2,ff01")
        assert longer.rows == [*table.rows, "31,16,0x2800,0x01,512,2,FF01"]
        assert list(json.loads(longer.objects[31])) == list(json.loads(table.objects[0]))
        assert longer.remove_row(31).to_bytes() == data
        assert json.loads(longer.to_bytes()[4:])["Service"][31]["perm"] == 1
        assert with_rows(table, table.rows[:3]).rows == table.rows[:3]
        with pytest.raises(InputError, match="only the last row"):
            table.remove_row(0)
        with pytest.raises(InputError, match="ends with row 30"):
            table.set_row(32, SMALL[0])


def test_blank_partition_is_an_empty_table():
    for data in (b"", b"\xff" * 0x3000):
        table = BleData.from_bytes(data)
        assert table.rows == []
        assert table.to_bytes() == b""
        made = with_rows(table, SMALL)
        keys = ("index", "uuid_len", "uuid", "perm", "val_max_len", "val_cur_len", "value")
        first = dict(zip(keys, (0, 16, "2800", 1, 2, 2, "A002"), strict=True))
        assert json.dumps(first) == made.objects[0]
        assert BleData.from_bytes(made.to_bytes()).rows == SMALL
        with pytest.raises(InputError, match="the table is empty"):
            table.remove_row(0)


def test_spelling_of_others_is_kept():
    row = '{"x":"\xe9","index":0,"uuid_len":16,"uuid":"c300","perm":1,"val_max_len":9,'
    row += '"val_cur_len":1,"value":"aB"}'
    data = partition(f'{{ "Service":\n[ {row} ,\t{row}]  }}\n\0')
    table = BleData.from_bytes(data)
    assert table.to_bytes() == data
    assert table.rows == ["0,16,0xC300,0x01,9,1,AB"] * 2
    assert with_rows(table, table.rows).to_bytes() == data
    changed = table.set_row(1, "1,16,0xC300,0x01,9,1,AB").to_bytes()
    assert row.encode("latin-1") in changed
    assert json.loads(changed[4:].rstrip(b"\0").decode("latin-1"))["Service"][1]["x"] == "\xe9"


ROW = json.dumps(
    dict.fromkeys(("index", "uuid_len", "perm", "val_max_len", "val_cur_len"), 1)
    | {"uuid": "AA", "value": ""}
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\1", "1 bytes"),
        (partition("{}", magic=b"\x27\x96"), "has 2796"),
        (partition("{}", length=3), "announces 3 bytes of JSON where there are 2"),
        (partition(""), "does not start"),
        (partition("{}"), "does not start"),
        (partition('{"service": []}'), "does not start"),
        (partition('{"Service": ['), "goes wrong after 0 rows"),
        (partition('{"Service": [], "x": 1}'), "goes wrong after 0 rows"),
        (partition(f'{{"Service": [{ROW},]}}'), "goes wrong after 1 rows"),
        (partition(f'{{"Service": [{ROW} {ROW}]}}'), "goes wrong after 1 rows"),
        (partition('{"Service": [{]}'), "goes wrong"),
        (partition('{"Service": [{x}]}'), "row 0 is not JSON"),
        (partition('{"Service": [{}]}'), "row 0 has not each of"),
        (partition(f'{{"Service": [{ROW[:-1]}, "perm": 2}}]}}'), "row 0 has not each of"),
        (partition(f'{{"Service": [{ROW.replace("1", "-1", 1)}]}}'), "index is not a number"),
        (partition(f'{{"Service": [{ROW.replace("1", "true", 1)}]}}'), "index is not a number"),
        (partition(f'{{"Service": [{ROW.replace("1", "1e999", 1)}]}}'), "index is not a number"),
        (partition(f'{{"Service": [{ROW.replace("1", "9" * 9000, 1)}]}}'), "row 0"),
        (partition(f'{{"Service": [{ROW.replace("AA", "A,")}]}}'), "uuid is not hexadecimal"),
        (partition('{"Service": ' + "[" * 60000), "goes wrong"),
        (partition('{"Service": [{"a":' + "[" * 60000), "goes wrong"),
    ],
)
def test_what_is_no_ble_data(data, message):
    with pytest.raises(FormatError, match=message) as caught:
        BleData.from_bytes(data)
    assert caught.value.hint


def test_capacity():
    rows = [f"{n},16,0xC300,0x01,512,512,{'30' * 512}" for n in range(60)]
    with pytest.raises(InputError, match="more than 65535"):
        with_rows(BleData(), rows).to_bytes()


@settings(max_examples=300, deadline=None)
@given(st.one_of(
    st.binary(max_size=200),
    st.text('{}[]",: 0x"Service"\n', max_size=99).map(lambda text: partition('{"Service": [' + text)),
))  # fmt: skip
def test_only_our_errors(data):
    with contextlib.suppress(EspAtError):
        BleData.from_bytes(data)


def test_byte_flips_of_a_real_table(ble_data):
    data = ble_data[BLE_DATA[0]]
    for offset in [*range(900), *range(len(data) - 150, len(data))]:
        for flip in (0x01, 0x80):
            damaged = bytearray(data)
            damaged[offset] ^= flip
            with contextlib.suppress(EspAtError):
                table = BleData.from_bytes(bytes(damaged))
                assert table.to_bytes() in (bytes(damaged), bytes(damaged)[: len(table.to_bytes())])

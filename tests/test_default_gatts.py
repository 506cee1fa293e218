"""The GATT table of a module that has none of its own."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from esp_at_tools.catalog import default_gatts
from esp_at_tools.catalog.default_gatts import default_gatt_rows
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.formats.gatts import check_table, parse_row, read_gatts_csv

OFFICIAL = "components/customized_partitions/raw_data/ble_data/gatts_data.csv"


def test_it_is_a_table_that_every_firmware_builds() -> None:
    rows = default_gatt_rows()
    assert [parse_row(row).index for row in rows] == list(range(31))
    assert [row for row in rows if "0x2800" in row] == [
        "0,16,0x2800,0x01,2,2,A002",
        "24,16,0x2800,0x01,2,2,A003",
    ]
    assert [found for found in check_table(rows) if found.level == "error"] == []


@pytest.mark.parametrize("version", ["v3.4.0.0", "v5.0.1.0"])
def test_it_is_the_official_one(shared: Path, version: str) -> None:
    official = read_gatts_csv((shared / "esp-at" / version / OFFICIAL).read_text("utf-8"))
    assert [parse_row(row) for row in default_gatt_rows()] == [parse_row(row) for row in official]


@pytest.mark.parametrize("version", ["v3.4.0.0", "v5.0.1.0"])
def test_it_is_in_every_official_partition_that_has_one(shared: Path, version: str) -> None:
    tables = []
    for path in sorted((shared / "esp-at" / version / "expected").rglob("mfg_nvs.csv")):
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.reader(stream) if row[0].startswith("cfg")]
        assert [row[0] for row in rows] == [f"cfg{number}" for number in range(len(rows))]
        tables.append(tuple(row[3] for row in rows))
    assert len([table for table in tables if table]) > 10
    assert set(tables) <= {(), default_gatt_rows()}


def test_a_spreadsheet_may_have_saved_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some write a mark before the text, CR LF, and commas after a comment up to the last column."""
    original = (default_gatts.data_folder() / "gatts_data.csv").read_text("utf-8")
    rows = list(csv.reader(original.splitlines()))
    with (tmp_path / "gatts_data.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        csv.writer(stream).writerows(row + [""] * (7 - len(row)) for row in rows)
    before = default_gatt_rows()
    monkeypatch.setattr(default_gatts, "data_folder", lambda: tmp_path)
    assert default_gatt_rows() == before


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"# only a comment\n", "holds no GATT rows"),
        (b"\xff\xfe", "not UTF-8"),
        (b"0,16,0x2800,0x01,2\n", "fields"),
        (b'0,16,"x\ny"z",1,1,1,1,"\n', "GATT"),
        (b"0,16,0x2803,0x01,1,1,02\n", "does not begin with a service"),
        (b"0,16,0x2800,0x01,2,2,A002\n" * 300, "more than 255"),
    ],
)
def test_a_bad_table_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: bytes, message: str
) -> None:
    (tmp_path / "gatts_data.csv").write_bytes(contents)
    monkeypatch.setattr(default_gatts, "data_folder", lambda: tmp_path)
    with pytest.raises(FormatError, match=message) as caught:
        default_gatt_rows()
    assert str(tmp_path / "gatts_data.csv") in caught.value.message


def test_a_missing_table_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_gatts, "data_folder", lambda: tmp_path)
    with pytest.raises(InputError, match="no such file"):
        default_gatt_rows()

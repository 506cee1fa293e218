"""The otadata partition, and which application the bootloader starts."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.ota_data import BLANK_SEQUENCE, OtaData, OtaEntry
from esp_at_tools.formats.partition_table import PartitionTable

OTA_ONLY = "otadata,data,ota,,8K\nota_0,app,ota_0,,1M\nota_1,app,ota_1,,1M\n"
WITH_FACTORY = OTA_ONLY + "factory,app,factory,,1M\n"
THREE = "otadata,data,ota,,8K\nc,app,ota_2,,64K\na,app,ota_0,,64K\nb,app,ota_1,,64K\n"


def entry(sequence, *, state=0xFFFFFFFF, crc=None):
    right = zlib.crc32(struct.pack("<I", sequence), 0xFFFFFFFF)
    return OtaEntry(sequence, state, right if crc is None else crc)


BLANK = OtaEntry()


def boots(csv, *entries):
    found = OtaData(entries).boot_partition(PartitionTable.from_csv(csv))
    return found and found.name


def test_the_official_initial_contents(shared):
    files = list(shared.glob("firmware/*/ota_data_initial.bin"))
    assert len(files) == 4
    for file in files:
        assert file.read_bytes() == OtaData.initial().to_bytes()
        read = OtaData.from_bytes(file.read_bytes())
        assert (read, read.is_blank, read.active) == (OtaData.initial(), True, None)


@pytest.mark.parametrize("release", ["ESP8266-AT-V2.2.1.0", "ESP32-C3-MINI-1-V2.3.0.0"])
def test_a_fresh_module_starts_ota_0(shared, release):
    data = (shared / "firmware" / release / "partition_table/partition-table.bin").read_bytes()
    assert OtaData.initial().boot_partition(PartitionTable.from_bytes(data)).name == "ota_0"


def test_bytes_of_an_entry_by_hand():
    # What a first start of ota_1 leaves: sequence 2, valid, CRC-32 of 02 00 00 00 seeded with ones.
    raw = bytes.fromhex("02000000" + "ff" * 20 + "02000000" + "7437f655")
    data = raw.ljust(0x1000, b"\xff") + b"\xff" * 0x1000
    read = OtaData.from_bytes(data)
    assert read.entries == (entry(2, state=2), BLANK)
    assert read.entries[0] == OtaEntry.for_slot(1, state=2)
    assert read.active.crc_ok
    assert read.to_bytes() == data


@pytest.mark.parametrize(
    ("csv", "first", "second", "expected"),
    [
        (OTA_ONLY, BLANK, BLANK, "ota_0"),
        (WITH_FACTORY, BLANK, BLANK, "factory"),
        (OTA_ONLY, entry(1), BLANK, "ota_0"),
        (OTA_ONLY, entry(2), BLANK, "ota_1"),
        (OTA_ONLY, BLANK, entry(2), "ota_1"),
        (WITH_FACTORY, entry(3), entry(2), "ota_0"),
        (WITH_FACTORY, entry(3), entry(4), "ota_1"),
        (OTA_ONLY, entry(5), entry(5), "ota_0"),
        # A wrong CRC leaves the other one, and without it factory or the first that can be started.
        (OTA_ONLY, entry(1), entry(2, crc=0), "ota_0"),
        (WITH_FACTORY, entry(1, crc=0), entry(2, crc=0), "factory"),
        (OTA_ONLY, entry(2, crc=0), BLANK, "ota_0"),
        # Applications that failed their first start are passed over.
        (OTA_ONLY, entry(1), entry(2, state=3), "ota_0"),
        (OTA_ONLY, entry(1), entry(2, state=4), "ota_0"),
        (OTA_ONLY, entry(1), entry(2, state=1), "ota_1"),
        (WITH_FACTORY, entry(1, state=3), entry(2, state=4), "factory"),
        # The slots are counted, in the order of their numbers.
        (THREE, entry(2), BLANK, "b"),
        (THREE, entry(6), BLANK, "c"),
        (THREE, entry(7), BLANK, "a"),
        (OTA_ONLY, entry(0), BLANK, "ota_1"),
        ("f,app,factory,,1M\n", entry(2), BLANK, "f"),
        ("t,app,test,,1M\n", BLANK, BLANK, "t"),
        ("nvs,data,nvs,,16K\n", entry(1), BLANK, None),
    ],
)
def test_what_is_started(csv, first, second, expected):
    assert boots(csv, first, second) == expected


def test_a_file_may_end_early():
    assert OtaData.from_bytes(b"\xff" * 32).is_blank
    assert OtaData.from_bytes(OtaData((entry(1), entry(2))).to_bytes()[:0x1020]).active == entry(2)
    with pytest.raises(FormatError, match="31 bytes are no otadata"):
        OtaData.from_bytes(b"\xff" * 31)


@pytest.mark.parametrize(
    "bad", [OtaEntry(-1), OtaEntry(1 << 32), OtaEntry(1, -1), OtaEntry(1, 2, 3, b"short")]
)
def test_entries_that_do_not_fit_are_refused(bad):
    with pytest.raises(FormatError):
        OtaData((BLANK, bad)).to_bytes()


words = st.integers(0, 0xFFFFFFFF)
entries = st.builds(OtaEntry, words, words | st.integers(0, 5), words, st.binary(min_size=20, max_size=20))


@given(entries, entries)
def test_round_trip(first, second):
    value = OtaData((first, second))
    data = value.to_bytes()
    assert len(data) == 0x2000
    assert OtaData.from_bytes(data) == value


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_give_otadata_or_our_error(data, far):
    data = data.ljust(0x1000, b"\0") + data if far else data
    try:
        value = OtaData.from_bytes(data)
    except FormatError:
        assert len(data) < 32
    else:
        value.boot_partition(PartitionTable.from_csv(WITH_FACTORY))
        assert value.active is None or value.active.sequence != BLANK_SEQUENCE

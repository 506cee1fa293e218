"""Partition tables: rows, CSV and checks, against the official tables and by hand."""

from __future__ import annotations

import hashlib
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.errors import EspAtError, FormatError
from esp_at_tools.formats.partition_checks import check_secondary
from esp_at_tools.formats.partition_csv import decode_csv
from esp_at_tools.formats.partition_table import (
    AT_CUSTOMIZE,
    DATA,
    MAX_PARTITIONS,
    TABLE_SIZE,
    Partition,
    PartitionTable,
    has_table_rows,
    locate_primary,
    locate_secondary,
)

PRIMARY_CSV = """\
# Name, Type, SubType, Offset, Size
nvs,data,nvs,,16K
otadata,data,ota,,0x2000
phy_init,data,phy,,0x1000,readonly
factory,app,factory,,1M
at_customize,0x40,0,,512K
ota_0,app,ota_0,,1M,encrypted
"""


def table(text, **options):
    return PartitionTable.from_csv(text, **options)


def problems(text, level="error", **options):
    found = table(text).validate(**options)
    return [problem.message for problem in found if problem.level == level]


def row(*, name=b"nvs", kind=DATA, subtype=2, offset=0x9000, size=0x1000, flags=0, magic=b"\xaa\x50"):
    return struct.pack("<2sBBII16sI", magic, kind, subtype, offset, size, name, flags)


def md5_row(rows):
    return b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(rows).digest()  # noqa: S324 - the format's checksum


END = b"\xff" * 32


# --- the official tables -------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v3.4.0.0", "v5.0.1.0"])
def test_every_official_csv_gives_its_official_binary(shared, version):
    tree = shared / "esp-at" / version
    modules = json.loads((tree / "expected/index.json").read_text())
    assert len(modules) >= 14
    for name, module in modules.items():
        expected = tree / "expected" / name
        offset = int(module["partition_table_offset"], 0)
        flash_size = int(module["flash_size"].removesuffix("MB")) << 20
        csv = decode_csv((tree / module["partitions_csv"]).read_bytes())
        primary = table(csv, offset_part_table=offset, md5=module["md5"])
        assert primary.to_bytes() == (expected / "partition-table.bin").read_bytes(), name
        csv = decode_csv((tree / module["at_customize_csv"]).read_bytes())
        secondary = table(csv, primary=False)
        assert secondary.to_bytes() == (expected / "at_customize.bin").read_bytes(), name
        assert primary.validate(offset_part_table=offset, flash_size=flash_size) == []
        assert secondary.validate(flash_size=flash_size, primary=False) == []
        assert check_secondary(primary, secondary) == []


def test_real_releases_are_read_and_written_back(shared):
    files = [*shared.glob("firmware/*/partition_table/*.bin"), *shared.glob("firmware/*/at_customize.bin")]
    assert len(files) == 8
    for file in files:
        data = file.read_bytes()
        read = PartitionTable.from_bytes(data)
        assert read.to_bytes() == data
        assert read.md5 == (file.name == "at_customize.bin")
        assert table(read.to_csv(), md5=read.md5) == read


def test_esp8266_lists_two_partitions_of_one_subtype(shared):
    data = (shared / "firmware/ESP8266-AT-V2.2.1.0/at_customize.bin").read_bytes()
    read = PartitionTable.from_bytes(data)
    assert [p.name for p in read.of_type(0x40, 8)] == ["factory_param", "wpa2_cert"]
    assert read.find("factory_param").offset == 0xF1000
    assert read.validate(primary=False) == []


def test_tables_are_located_in_full_images(shared):
    for name, offsets in (
        ("ESP32-C3-MINI-1-V5.0.1.0-assembled/factory/factory_MINI-1.bin", (0x8000, 0x1E000)),
        ("ESP32-C3-MINI-1-V5.0.1.0-assembled/factory/factory_MINI-1_unfilled.bin", (0x8000, 0x1E000)),
        ("ESP8266-AT-V2.2.1.0/factory/factory_WROOM-02.bin", (0x8000, 0xF0000)),
    ):
        image = (shared / "firmware" / name).read_bytes()
        at, primary = locate_primary(image)
        second_at, secondary = locate_secondary(image, primary)
        assert (at, second_at) == offsets
        assert check_secondary(primary, secondary) == []


# --- CSV -------------------------------------------------------------------------------------------


def test_offsets_left_open_are_filled_in_and_aligned():
    places = {p.name: (p.offset, p.size, p.flags) for p in table(PRIMARY_CSV)}
    assert places == {
        "nvs": (0x9000, 0x4000, 0),
        "otadata": (0xD000, 0x2000, 0),
        "phy_init": (0xF000, 0x1000, 2),
        "factory": (0x10000, 0x100000, 0),
        "at_customize": (0x110000, 0x80000, 0),
        "ota_0": (0x190000, 0x100000, 1),
    }


def test_bytes_of_a_row_with_a_name_of_16_bytes():
    data = table("exactly_16_bytes,data,0x22,0x9000,4K,encrypted:readonly\n").to_bytes()
    expected = bytes.fromhex("aa50 01 22 00900000 00100000") + b"exactly_16_bytes" + bytes.fromhex("03000000")
    assert data[:32] == expected
    assert data[32:64] == md5_row(expected)
    assert data[64:] == b"\xff" * (0xC00 - 64)


def test_without_checksum_the_end_follows_the_rows():
    data = table("nvs,data,nvs,,4K\n", md5=False).to_bytes()
    assert data == row().ljust(0xC00, b"\xff")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a, data, nvs, 0x9000, 0x1000", (1, 2, 0x9000, 0x1000)),
        ("a,DATA,NVS,36K,4k", (1, 2, 0x9000, 0x1000)),
        ("a,1,2,36864,4096", (1, 2, 0x9000, 0x1000)),
        ("a,app,ota_15,,1M", (0, 0x1F, 0x10000, 0x100000)),
        ("a,app,factory,,0b1000000000000", (0, 0, 0x10000, 0x1000)),
        ("a,app,tee_1,,64K", (0, 0x31, 0x10000, 0x10000)),
        ("a,data,tee_ota,,8K", (1, 0x90, 0x9000, 0x2000)),
        ("a,data,,,4K", (1, 6, 0x9000, 0x1000)),
        ("a,0x40,,,4K", (0x40, 6, 0x9000, 0x1000)),
        ("a,0x40,8,,4K", (0x40, 8, 0x9000, 0x1000)),
        ("a,0xfe,0xff,,0x1", (0xFE, 0xFF, 0x9000, 1)),
        ("a,data,nvs,,-0x20000", (1, 2, 0x9000, 0x17000)),
        ("a,data,fat,,4K,,beyond,the columns", (1, 0x81, 0x9000, 0x1000)),
        ("a,data,nvs,,4 K", (1, 2, 0x9000, 0x1000)),
        ("a,partition_table,primary,,", (3, 0, 0x8000, 0x1000)),
        ("a,partition_table,ota,,", (3, 1, 0x9000, 0x1000)),
    ],
)
def test_lines_that_are_read(line, expected):
    (read,) = table(line)
    assert (read.type, read.subtype, read.offset, read.size) == expected


NUMBERS = {
    "data": {
        "ota": 0, "phy": 1, "nvs": 2, "coredump": 3, "nvs_keys": 4, "efuse": 5, "undefined": 6,
        "esphttpd": 0x80, "fat": 0x81, "spiffs": 0x82, "littlefs": 0x83, "tee_ota": 0x90,
    },
    "app": {
        "factory": 0, "test": 0x20, "ota_0": 0x10, "ota_7": 0x17, "ota_15": 0x1F,
        "tee_0": 0x30, "tee_1": 0x31,
    },
    "bootloader": {"primary": 0, "ota": 1, "recovery": 2},
    "partition_table": {"primary": 0, "ota": 1},
}  # fmt: skip


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_the_subtypes(kind):
    assert {
        name: table(f"x,{kind},{name},0x10000,8K").partitions[0].subtype for name in NUMBERS[kind]
    } == NUMBERS[kind]


@pytest.mark.parametrize(
    "line",
    [
        "x,partition_table,primary,0x7000,4K",
        "x,partition_table,primary,0x8000,8K",
        "x,partition_table,ota,0x8000,4K",
        "x,bootloader,ota,0x1000,4K",
        "x,bootloader,primary,0x1000,0x7001",
        "x,data,0,0x1000,4K",
    ],
)
def test_only_the_bootloader_and_the_table_itself_may_stand_below(line):
    with pytest.raises(FormatError, match="overlaps: the primary table occupies"):
        table(line)


def test_bootloader_is_placed_where_it_is_said_to_be():
    text = "boot,bootloader,primary,,\ntable,partition_table,primary,,\nnvs,data,nvs,,16K\n"
    read = table(text, bootloader_offset=0x1000)
    assert [(p.offset, p.size) for p in read] == [(0x1000, 0x7000), (0x8000, 0x1000), (0x9000, 0x4000)]
    assert read.validate(primary=False) == []
    with pytest.raises(FormatError, match="has no size"):
        table(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no partition"),
        ("# only a comment\n", "holds no partition"),
        ("nvs", "line 1: no type"),
        ("nvs,data,nvs,,", "line 1: partition 'nvs' has no size"),
        ("nvs,data,nvs,,0", "line 1: partition 'nvs' has no size"),
        ("x,app,,,1M", "has no subtype"),
        ("\n\nnvs,datum,nvs,,4K", "line 3: type 'datum' is not known"),
        ("nvs,dat,nvs,,4K", "type 'dat' is not known.*did you mean 'data'\\? known are app, data"),
        ("nvs,data,nvss,,4K", "subtype 'nvss' is not known.*did you mean 'nvs'\\? known are "),
        ("nvs,data,NVSS,,4K", "subtype 'NVSS' is not known.*did you mean 'nvs'\\? known are "),
        ("nvs,data,0q,,4K", "subtype '0q' is not a number.*known are "),
        ("nvs,data,$SUB,,4K", "subtype '\\$SUB' is not known"),
        ("nvs,data,nvz,,4K", "subtype 'nvz' is not known"),
        ("x,0x40,nvs,,4K", "subtype 'nvs' is not a number"),
        ("x,256,0,,4K", "type 256 is out of range"),
        ("x,data,-1,,4K", "subtype -1 is out of range"),
        ("x,data,0x4K,,4K", "out of range"),
        ("nvs,data,nvs,$OFFSET,4K", "offset '\\$OFFSET' is not a number"),
        ("nvs,data,nvs,,4KB", "size '4KB' is not a number"),
        ("nvs,data,nvs,,1.5K", "size '1.5K' is not a number"),
        ("nvs,data,nvs,,0x", "size '0x' is not a number"),
        ("nvs,data,nvs,,K", "size 'K' is not a number"),
        ("nvs,data,nvs,,0x100000001", "too large"),
        ("nvs,data,nvs,," + "9" * 5000, "is not a number"),
        ("nvs,data,nvs,,4K,secret", "unknown flag 'secret'"),
        ("nvs,data,nvs,,4K,Readonly", "unknown flag 'Readonly'"),
        ("nvs,data,nvs,,4K,encrypted readonly", "unknown flag"),
        ("seventeen_bytes_x,data,nvs,,4K", "has 17 bytes, and the table has room for 16"),
        ("ninebytes,data,nvs,,4K\néééééééée,data,nvs,,4K", "line 2: partition name 'éééééééée' has 17 bytes"),
        ("a\0b,data,nvs,,4K", "NUL"),
        ("nvs,data,nvs,0x8000,4K", "line 1: .* overlaps: the primary table occupies 0x8000 to 0x8fff"),
        ("nvs,data,nvs,-1,4K", "overlaps"),
        ("a,data,nvs,,8K\nb,data,nvs,0xa000,4K", "line 2: .* the partition before it ends at 0xafff"),
        ("nvs,data,nvs,,-0x9000", "line 1: partition 'nvs' has no size"),
        ("nvs,data,nvs,,-0x8000", "line 1: .* size -0x1000 is out of range"),
        ("a,data,nvs,0xFFFFF000,4K\nb,data,nvs,,4K", "line 2: .* offset 0x100000000 is out of range"),
        ("$NAME,data,nvs,,4K", "line 1: \\$NAME is not set"),
        ("\n".join(f"p{i},data,nvs,,4K" for i in range(MAX_PARTITIONS + 1)), "line 96: more than 95"),
        ("x" * (1 << 20) + "y", "no partition table"),
    ],
)
def test_lines_that_are_refused(text, message):
    with pytest.raises(FormatError, match=message):
        table(text)


def test_secondary_table_is_named_in_the_error():
    with pytest.raises(FormatError, match="the secondary table occupies 0x1e000 to 0x1efff"):
        table("mfg_nvs,data,nvs,0x1e000,4K", offset_part_table=0x1E000, primary=False)


def test_variables_are_taken_from_what_is_given():
    text = "$NAME,data,nvs,${AT},4K\nplain$HOME,data,nvs,,$SIZE"
    read = table(text, variables={"NAME": "nvs", "AT": "0xa000", "SIZE": "8K"})
    assert [(p.name, p.offset, p.size) for p in read] == [
        ("nvs", 0xA000, 0x1000),
        ("plain$HOME", 0xB000, 0x2000),
    ]


def test_csv_is_written_as_esp_idf_writes_it():
    assert table(PRIMARY_CSV + "x,0x40,8,0x300000,0x12345\ntee,app,tee_0,,1K\n").to_csv() == (
        "# ESP-IDF Partition Table\n"
        "# Name, Type, SubType, Offset, Size, Flags\n"
        "nvs,data,nvs,0x9000,16K,\n"
        "otadata,data,ota,0xd000,8K,\n"
        "phy_init,data,phy,0xf000,4K,readonly\n"
        "factory,app,factory,0x10000,1M,\n"
        "at_customize,64,0,0x110000,512K,\n"
        "ota_0,app,ota_0,0x190000,1M,encrypted\n"
        "x,64,8,0x300000,0x12345,\n"
        "tee,app,48,0x320000,1K,\n"
    )


@pytest.mark.parametrize("name", ["a,b", "#a", " a", "a\n", "a\u2028b", "$HOME", "a${b}"])
def test_names_that_a_csv_cannot_hold_are_refused(name):
    with pytest.raises(FormatError, match="cannot stand in a CSV"):
        PartitionTable((Partition(name, DATA, 2, 0x9000, 0x1000),)).to_csv()


def test_flags_that_a_csv_cannot_hold_are_refused():
    odd = PartitionTable((Partition("nvs", DATA, 2, 0x9000, 0x1000, flags=0x81),))
    assert PartitionTable.from_bytes(odd.to_bytes()) == odd
    assert odd.partitions[0].flag_names == ("encrypted", "0x80")
    with pytest.raises(FormatError, match="flags 0x81"):
        odd.to_csv()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_of_a_csv(encoding):
    assert decode_csv("nvs,data,nvs,,4K\n".encode(encoding)) == "nvs,data,nvs,,4K\n"


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\xc3(", b"a\0b"])
def test_what_is_not_text_is_refused(data):
    with pytest.raises(FormatError, match=r"not .*text"):
        decode_csv(data)


# --- binary ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no partition"),
        (b"\xff" * 0xC00, "holds no partition"),
        (md5_row(b"") + END, "holds no partition"),
        (row(), "no end marker within 32 bytes"),
        (row()[:31], "row 0 .* cut short after 31 bytes"),
        (row() + b"\0" * 32 + END, "row 1 .* begins with 00 00, not AA 50"),
        (row(magic=b"\xaa\x51") + END, "row 0 .* begins with AA 51"),
        (row() + row(name=b"\xc3(") + END, "row 1 .* not UTF-8: c3 28"),
        (row(size=0) + END, "row 0 .*'nvs'.* has no size"),
        (row() + md5_row(b"x") + END, "row 1 .* a checksum that does not match"),
        (row() + md5_row(row()) + row() + END, "row 2 .* follows the checksum"),
        (row() + md5_row(row()) * 2 + END, "row 2 .* follows the checksum"),
        (row() * 96, "no end marker within 3072 bytes"),
        (row() * 96 + END, "no end marker within 3072 bytes"),
        (row() * 95 + md5_row(row() * 95) + END, "no end marker"),
    ],
)
def test_damaged_tables_are_refused(data, message):
    with pytest.raises(FormatError, match=message):
        PartitionTable.from_bytes(data)


def test_full_tables():
    partitions = tuple(
        Partition(f"p{i}", DATA, 2, 0x9000 + 0x1000 * i, 0x1000) for i in range(MAX_PARTITIONS)
    )
    full = PartitionTable(partitions, md5=False)
    assert PartitionTable.from_bytes(full.to_bytes()) == full
    with pytest.raises(FormatError, match="95 partitions are too many"):
        PartitionTable(partitions, md5=True).to_bytes()
    with_md5 = PartitionTable(partitions[:94], md5=True)
    assert PartitionTable.from_bytes(with_md5.to_bytes()) == with_md5
    with pytest.raises(FormatError, match="holds no partition"):
        PartitionTable(()).to_bytes()


def test_bytes_past_the_end_marker_are_not_looked_at():
    assert PartitionTable.from_bytes(row() + END + b"anything").partitions[0].name == "nvs"


@pytest.mark.parametrize(
    "change",
    [
        {"type": 256},
        {"subtype": -1},
        {"offset": 1 << 32},
        {"size": 0},
        {"size": -1},
        {"flags": 1 << 32},
        {"name": "\ud800"},
    ],
)
def test_partitions_that_no_row_can_hold(change):
    values = {"name": "nvs", "type": 1, "subtype": 2, "offset": 0x9000, "size": 0x1000, **change}
    with pytest.raises(FormatError):
        Partition(**values).to_bytes()


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=16).filter(
    lambda name: len(name.encode()) <= 16
)
partitions = st.builds(
    Partition,
    name=names,
    type=st.integers(0, 255),
    subtype=st.integers(0, 255),
    offset=st.integers(0, 0xFFFFFFFF),
    size=st.integers(1, 0xFFFFFFFF),
    flags=st.integers(0, 3),
)
tables = st.builds(PartitionTable, st.lists(partitions, min_size=1, max_size=20).map(tuple), st.booleans())


@settings(max_examples=200, deadline=None)
@given(tables)
def test_binary_round_trip(value):
    data = value.to_bytes()
    assert len(data) == TABLE_SIZE
    assert PartitionTable.from_bytes(data) == value


# A size of at most 1 MB on ascending offsets, so that the CSV's own rule (no overlap) holds.
@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(partitions, st.integers(0, 0x10000), st.integers(1, 0x100000)), min_size=1, max_size=20
    )
)
def test_csv_round_trip(drafts):
    placed, end = [], 0x9000
    for draft, gap, size in drafts:
        placed.append(Partition(draft.name, draft.type, draft.subtype, end + gap, size, draft.flags))
        end = placed[-1].end
    value = PartitionTable(tuple(placed))
    try:
        text = value.to_csv()
    except FormatError as error:
        assert "cannot stand in a CSV" in error.message  # noqa: PT017 - most names can
    else:
        assert table(text) == value


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_give_a_table_or_our_error(noise, at):
    good = table(PRIMARY_CSV).to_bytes()[:416]
    data = good[:at] + noise + good[at + len(noise) :]
    for value in (noise, data):
        try:
            read = PartitionTable.from_bytes(value)
            read.validate()
            read.to_csv()
        except EspAtError:
            pass
        locate_in(value)


def locate_in(data):
    has_table_rows(data)
    try:
        _, primary = locate_primary(b"\xff" * 0x8000 + data)
        locate_secondary(data, primary)
    except EspAtError:
        pass


def test_flipping_any_bit_of_a_table_with_checksum_is_noticed():
    good = table(PRIMARY_CSV)
    data = bytearray(good.to_bytes())
    rows = 32 * len(good)
    for position in (*range(rows), *range(rows + 16, rows + 32)):
        data[position] ^= 1 << position % 8
        with pytest.raises(FormatError):
            PartitionTable.from_bytes(data)
        data[position] ^= 1 << position % 8


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="anvsdtpo0x149KM-,:#$ {}\n\0é", max_size=120))
def test_any_text_gives_a_table_or_our_error(text):
    try:
        read = table(text)
        assert PartitionTable.from_bytes(read.to_bytes()) == read
        read.validate()
    except EspAtError:
        pass


def test_large_inputs_take_no_time():
    noise = bytes(range(256)) * 65536  # 16 MiB
    with pytest.raises(FormatError):
        PartitionTable.from_bytes(noise)
    with pytest.raises(FormatError):
        locate_primary(noise)
    with pytest.raises(FormatError):
        table("#\n" * (8 << 20))


# --- checks ------------------------------------------------------------------------------------------


def test_a_sound_table_has_no_problems():
    assert table(PRIMARY_CSV).validate(flash_size=4 << 20) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,app,factory,0x18000,1M", "a at 0x18000: the offset is not a multiple of 0x10000"),
        (
            "f,app,factory,,1M\na,data,nvs,0x110800,64K",
            "a at 0x110800: the offset is not a multiple of 0x1000",
        ),
        ("a,app,factory,,0x10100", "a at 0x10000: the size 0x10100 is not a multiple of 0x1000"),
        ("a,app,factory,,64K\na,data,nvs,,64K", "the name 'a' is given to 2 partitions"),
        ("f,app,factory,,64K\nx,data,ota,,8K\ny,data,ota,,8K", "more than one otadata partition: x, y"),
        ("f,app,factory,,64K\nx,data,ota,,4K", "x at 0x20000: otadata has to be 0x2000 bytes, not 0x1000"),
        ("f,app,factory,,64K\nx,data,ota,,8K,readonly", "a ota partition is always written to"),
        ("f,app,factory,,64K\nx,data,coredump,,64K,readonly", "a coredump partition is always written to"),
        ("f,app,factory,,4M", "f at 0x10000: ends at 0x410000, past the flash of 0x400000 bytes"),
        ("nvs,data,nvs,,64K", "no application partition"),
    ],
)
def test_errors(text, message):
    assert any(message in found for found in problems(text, flash_size=4 << 20))


def test_errors_that_a_csv_cannot_have():
    app = Partition("app", 0, 0, 0x10000, 0x10000)
    low = Partition("low", DATA, 1, 0x8000, 0x1000)
    inside = Partition("inside", DATA, 1, 0x12000, 0x1000)
    behind = Partition("behind", DATA, 1, 0x1F000, 0x4000)
    found = {p.partition: p.message for p in PartitionTable((app, low, inside, behind)).validate()}
    assert "below 0x9000" in found["low"]
    assert "overlaps app, which occupies 0x10000 to 0x1ffff" in found["inside"]
    assert "overlaps app" in found["behind"]
    wrapping = PartitionTable((app, Partition("wrap", DATA, 1, 0xFFFFF000, 0x2000)))
    assert "past the flash of 0x100000000 bytes" in wrapping.validate()[0].message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nvs,app,factory,,1M", "the name is that of a subtype, but the partition is app/factory"),
        ("app,data,nvs,,16K\nf,app,factory,,64K", "the name is that of a type, but the partition is data"),
        (",app,factory,,1M", "the partition has no name"),
        ("f,app,factory,,64K\nx,data,nvs,,8K", "NVS below 0x3000 bytes should have the flag readonly"),
        ("f,app,factory,,64K\nx,data,tee_ota,,4K", "TEE otadata has to be 0x2000 bytes"),
        ("f,app,factory,,64K\nx,data,0x22,,0x1234", "the size 0x1234 is not a multiple of 0x1000"),
        ("ota_0,app,ota_0,,64K", "no otadata partition"),
        ("o,data,ota,,8K\nota_1,app,ota_1,,64K", "do not count up from ota_0: ota_1"),
    ],
)
def test_warnings(text, message):
    assert problems(text) == []
    assert any(message in found for found in problems(text, "warning"))


def test_sizes_at_the_limit_are_fine():
    text = "f,app,factory,,64K\nnvs,data,nvs,,12K\nsmall,data,nvs,,8K,readonly\nend,data,fat,,-0x100000\n"
    assert table(text).validate(flash_size=1 << 20) == []


def test_secondary_table_without_an_application_is_fine():
    assert problems("mfg_nvs,data,nvs,0x1f000,124K\n", primary=False) == []


@pytest.mark.parametrize(
    ("line", "level", "message"),
    [
        ("x,0x40,1,0x111000,4K", None, ""),
        ("x,0x40,1,0x111000,508K", None, ""),
        ("x,0x40,1,0x110000,4K", "error", "overlaps its own table at 0x110000"),
        ("x,0x40,1,0x18f000,8K", "error", "overlaps ota_0 at 0x190000"),
        ("x,0x40,1,0x9000,4K", "error", "overlaps nvs at 0x9000"),
        ("x,0x40,1,0x300000,4K", "warning", "lies outside at_customize, which occupies 0x110000 to 0x18ffff"),
        ("nvs,data,nvs,0x111000,16K", "warning", "the primary table has a partition of the same name"),
    ],
)
def test_secondary_against_primary(line, level, message):
    found = check_secondary(table(PRIMARY_CSV), table(line, primary=False))
    assert [p.level for p in found] == ([level] if level else [])
    assert not found or message in found[0].message


def test_secondary_needs_a_home():
    primary = table("f,app,factory,,1M")
    assert [p.level for p in check_secondary(primary, table("x,0x40,1,0x111000,4K"))] == ["error"]


# --- where tables are --------------------------------------------------------------------------------


def image(*parts, size=0x200000):
    data = bytearray(b"\xff" * size)
    for offset, content in parts:
        data[offset : offset + len(content)] = content
    return bytes(data)


GOOD = table(PRIMARY_CSV).to_bytes()
NO_APP = table("mfg_nvs,data,nvs,0x111000,64K", primary=False).to_bytes()


def test_the_table_at_0x8000_is_taken():
    assert locate_primary(image((0x8000, GOOD), (0x1000, GOOD)))[0] == 0x8000


@pytest.mark.parametrize("position", [0, 1, 20, 212])
def test_a_damaged_table_at_0x8000_is_an_error(position):
    bad = bytearray(GOOD)
    bad[position] ^= 0x40
    with pytest.raises(FormatError, match="at 0x8000: "):
        locate_primary(image((0x8000, bytes(bad)), (0xC000, GOOD)))


def test_a_table_elsewhere_is_taken_where_nothing_is_at_0x8000():
    assert locate_primary(image((0x2000, NO_APP), (0xC000, GOOD)))[0] == 0xC000
    code = bytes(range(256)) * 0x60  # a bootloader that reaches past 0x8000
    assert locate_primary(image((0x2000, code), (0xC000, GOOD)))[0] == 0xC000


@pytest.mark.parametrize(
    "chance",
    [
        row(offset=0x9001),
        row(size=0),
        row(name=b"\x01\x02\x03"),
        row(name=b""),
        row(name=b"a\0b"),
        b"\xeb\xeb" + bytes(30),
    ],
)
def test_bytes_that_look_like_a_row_by_chance_are_no_table(chance):
    data = image((0x8000, b"code" * 8 + chance + b"code"), (0xC000, GOOD))
    assert not has_table_rows(data[0x8000:0x9000])
    assert locate_primary(data)[0] == 0xC000
    assert has_table_rows(b"code" * 8 + row())
    assert not has_table_rows(row()[:31])


def test_a_table_without_application_is_never_the_primary_one():
    with pytest.raises(FormatError, match=r"at 0x8000: .* no application"):
        locate_primary(image((0x8000, NO_APP), (0xC000, GOOD)))
    with pytest.raises(FormatError, match="no partition table at 0x8000"):
        locate_primary(image((0x10000, NO_APP)))


def test_an_address_that_is_given_is_the_only_one():
    data = image((0x8000, GOOD), (0xC000, GOOD))
    assert locate_primary(data, 0xC000)[0] == 0xC000
    with pytest.raises(FormatError, match=r"at 0x10000: .*holds no partition"):
        locate_primary(data, 0x10000)
    with pytest.raises(FormatError, match="at 0x7fffffff: "):
        locate_primary(data, 0x7FFFFFFF)


def test_secondary_table_is_found_in_its_partition():
    primary = PartitionTable.from_bytes(GOOD)
    home = primary.find(AT_CUSTOMIZE).offset
    assert locate_secondary(image((0x8000, GOOD), (home, NO_APP)), primary) == (
        home,
        PartitionTable.from_bytes(NO_APP),
    )
    assert locate_secondary(image((0x8000, GOOD)), primary) is None
    assert locate_secondary(image((0x8000, GOOD), size=0x9000), primary) is None
    with pytest.raises(FormatError, match="at 0x110000, in at_customize: row 0"):
        locate_secondary(image((home, b"\0" * 32)), primary)


def test_names_for_display():
    read = table("a,0x40,8,,4K\nb,app,ota_3,,64K\nc,data,0xAB,,4K,encrypted:readonly")
    assert [(p.type_name, p.subtype_name) for p in read] == [
        ("0x40", "0x08"),
        ("app", "ota_3"),
        ("data", "0xab"),
    ]
    assert read.partitions[2].flag_names == ("encrypted", "readonly")
    assert (read.partitions[2].encrypted, read.partitions[2].readonly) == (True, True)
    assert len(read) == 3
    assert read.end == 0x21000

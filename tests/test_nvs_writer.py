"""The writer against the public generator, byte for byte."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nvs_oracle import HEADER, csvs, hostile_csvs, official, old_generator, ours

from esp_at_tools.errors import EspAtError, InputError
from esp_at_tools.formats.nvs import NvsKeys, NvsPartition
from esp_at_tools.formats.nvs.csv import parse_csv
from esp_at_tools.formats.nvs.reader import NvsRecord, read_partition
from esp_at_tools.formats.nvs.writer import OLD_STYLE, write_partition

SIZES = [0x1000, 0x2000, 0x3000, 0x4000, 0x8000, 0x1F000]
KEYS = NvsKeys(bytes(range(32)), bytes(range(50, 82)))
relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck))

# What ours refuses in addition, by its words; each is something the firmware could not read back.
REFUSED_IN_ADDITION = (
    "no namespace before", "the key is", "inline binary is not ASCII", "unknown type", "already set by line",
    "would have no closing NUL", "quote is not closed",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nvs")


def header(*rows: str) -> str:
    return HEADER + "n,namespace,,\n" + "".join(f"{row}\n" for row in rows)


@settings(relaxed, max_examples=250)
@given(text=csvs(), size=st.sampled_from(SIZES), version=st.sampled_from([1, 2, 2]))
def test_same_bytes_or_both_refuse(folder: Path, text: str, size: int, version: int) -> None:
    expected, made = official(folder, text, size, version=version), ours(folder, text, size, version=version)
    assert made == expected if expected is not None else isinstance(made, EspAtError), made


@settings(relaxed, max_examples=100)
@given(text=csvs(), size=st.sampled_from(SIZES), version=st.sampled_from([1, 2, 2]))
def test_same_bytes_when_encrypted(folder: Path, text: str, size: int, version: int) -> None:
    expected = official(folder, text, size, version=version, keys=KEYS)
    made = ours(folder, text, size, version=version, keys=KEYS)
    assert made == expected if expected is not None else isinstance(made, EspAtError), made


@settings(relaxed, max_examples=500)
@given(text=hostile_csvs(), version=st.sampled_from([1, 2]))
def test_whatever_is_wrong_is_refused_alike(folder: Path, text: str, version: int) -> None:
    expected, made = (
        official(folder, text, 0x3000, version=version),
        ours(folder, text, 0x3000, version=version),
    )
    if expected is None:
        assert isinstance(made, EspAtError)
    elif isinstance(made, EspAtError):
        assert any(reason in made.message for reason in REFUSED_IN_ADDITION), made
    else:
        assert made == expected


@settings(relaxed, max_examples=100)
@given(text=csvs(), version=st.sampled_from([1, 2]))
def test_the_firmware_reads_back_what_the_csv_says(text: str, version: int) -> None:
    try:
        records = parse_csv(text, version=version).records
        reading = read_partition(write_partition(records, 0x1F000, version=version))
    except EspAtError:
        return
    assert reading.opened
    assert not reading.loses_entries
    assert reading.records == records


@pytest.mark.parametrize("size", ["0x1000", "8192", "0x2000", "0x3000", 0x5000, 0x1F000])
@pytest.mark.parametrize("entries", [0, 1, 124, 125, 126, 251, 300])
def test_size_arithmetic(folder: Path, size: int | str, entries: int) -> None:
    text = header(*(f"k{number},data,u32,{number}" for number in range(entries)))
    expected, made = official(folder, text, size), ours(folder, text, int(str(size), 0))
    assert made == expected if expected is not None else isinstance(made, InputError)


@pytest.mark.parametrize("size", [0, -4096, 1, 4095, 4097, 0x1800, 65 << 20])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(InputError, match=str(size)):
        write_partition([], size)


@pytest.mark.parametrize("before", [0, 1, 2, 60, 120, 121, 122, 123, 124, 125])
@pytest.mark.parametrize(
    "length", [0, 1, 31, 32, 33, 63, 64, 95, 96, 3900, 3935, 3936, 3967, 3968, 4032, 8100]
)
def test_page_boundaries(folder: Path, before: int, length: int) -> None:
    """Strings and blobs of every size around every place in a page."""
    fill = [f"k{number},data,u8,1" for number in range(before)]
    for kind in ("string", "binary"):
        text = header(*fill, f"value,data,{kind},{'v' * length}", "after,data,i64,-1", "last,data,string,x")
        expected, made = official(folder, text, 0x8000), ours(folder, text, 0x8000)
        assert made == expected if expected is not None else isinstance(made, InputError)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("encoding", ["string", "binary"])
@pytest.mark.parametrize("length", [1983, 1984, 1985, 3966, 3967, 3968, 3999, 4000, 4001])
def test_length_limits(folder: Path, version: int, encoding: str, length: int) -> None:
    text = header(f"value,data,{encoding},{'v' * length}")
    expected, made = (
        official(folder, text, 0x8000, version=version),
        ours(folder, text, 0x8000, version=version),
    )
    if expected is None:
        assert isinstance(made, EspAtError)
        assert "at most" in made.hint
        assert "vvv" not in str(made)
    else:
        assert made == expected


@pytest.mark.parametrize("key", ["é", "éé", "日本", "日本語日本", "🙂🙂🙂", "aé日🙂b", "b" * 15])
@pytest.mark.parametrize("before", [0, 3, 120])
def test_keys_outside_ascii_pad_as_the_generator_pads(folder: Path, key: str, before: int) -> None:
    fill = [f"k{number},data,u8,1" for number in range(before)]
    for row in (f"{key},data,u8,1", f"{key},data,string,x", f"{key},data,binary,", f"{key},data,binary,xy",
                f"{key},data,i64,-1\nafter,data,u8,1", f"{key},namespace,,"):  # fmt: skip
        for version, keys in itertools.product((1, 2), (None, KEYS)):
            expected = official(folder, header(*fill, row), 0x4000, version=version, keys=keys)
            assert ours(folder, header(*fill, row), 0x4000, version=version, keys=keys) == expected


def test_a_key_outside_ascii_in_the_last_entry_of_a_page_stays_in_its_page(folder: Path) -> None:
    text = header(*(f"k{number},data,u8,1" for number in range(124)), "é,data,u8,7")
    assert len(official(folder, text, 0x4000)) == 0x4001  # the generator's is damaged
    made = ours(folder, text, 0x4000)
    assert len(made) == 0x4000
    assert NvsPartition.from_bytes(made).get("n", "é").value == 7


def test_files_are_read_as_bytes(folder: Path) -> None:
    (folder / "text").write_bytes(b"line\r\n# line\n\xc3\xa9")
    (folder / "empty").write_bytes(b"")
    (folder / "number").write_bytes(b" 12\n")
    (folder / "hex").write_bytes(b" 0aFF\n")
    text = header(
        "a,file,string,text", "b,file,binary,text", "c,file,string,empty", "d,file,binary,empty",
        "e,file,u8,number", "f,file,hex2bin,hex", "g,file,BASE64,text", "h,file,blob_fill(3;0x20),empty",
    )  # fmt: skip
    assert ours(folder, text, 0x4000) == official(folder, text, 0x4000) is not None


@pytest.mark.parametrize(
    "rows",
    [
        ["sta.ssid,data,string,home", "sta.pswd,data,string,secret"],
        ["sta.pswd,data,blob_fill(64;0x00),secret", "x,data,u8,1", "sta.ssid,data,u8,1"],
        ["m,namespace,,", "sta.ssid,data,string,a", "o,namespace,,", "sta.ssid,data,string,b"],
        ["sta.ssid,file,string,not_a_path"],
        ["ap.ssid,data,string,net", "ap.passwd,data,string,password", "ap.authmode,data,u8,3"],
        ["ap.ssid,data,string,net", "ap.passwd,data,string,password", "ap.authmode,data,u8,0"],
        ["ap.authmode,data,u8,3", "ap.passwd,data,blob_sz_fill(64;0x00),pass", "ap.ssid,data,string,é"],
        ["ap.ssid,namespace,,", "ap.passwd,data,string,p", "ap.authmode,data,u8,1"],
    ],
)
def test_wifi_keys_bring_what_the_generator_adds(folder: Path, rows: list[str]) -> None:
    assert ours(folder, header(*rows), 0x4000) == official(folder, header(*rows), 0x4000) is not None


def test_rows_of_a_namespace_selected_again_go_where_the_generator_puts_them(folder: Path) -> None:
    text = header("a,data,u8,1", "m,namespace,,", "b,data,u8,2", "n,namespace,,", "c,data,u8,3")
    made = ours(folder, text, 0x3000)
    assert made == official(folder, text, 0x3000)
    assert NvsPartition.from_bytes(made).get("m", "c").value == 3


def test_the_official_partitions(shared: Path) -> None:
    found = sorted(shared.glob("esp-at/v*/expected/*/*/mfg_nvs.csv"))
    assert len(found) > 30
    for path in found:
        root, image = path.parents[3], path.with_suffix(".bin").read_bytes()
        text = path.read_text(encoding="utf-8")
        made = NvsPartition.from_csv(
            text, len(image), read_file=lambda name, root=root: (root / name).read_bytes()
        )
        assert made.to_bytes() == image, path
        assert len(made.entries) == sum(
            row["type"] != "namespace" for row in csv.DictReader(text.splitlines())
        )


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("entries", [0, 3, 125, 126, 400])
def test_older_generators_leave_other_spare_pages(version: int, entries: int) -> None:
    text = header(*(f"k{number},data,u32,{number}" for number in range(entries)), "b,data,binary,bbbb")
    records = parse_csv(text, version=version).records
    expected = old_generator(text, 0x8000, version=version)
    assert write_partition(records, 0x8000, version=version, style=OLD_STYLE) == expected
    assert write_partition(records, 0x8000, version=version) != expected


def test_what_does_not_fit_is_counted() -> None:
    blob = NvsRecord("entry", 1, b"large", "blob", bytes(8065))
    with pytest.raises(InputError) as caught:
        write_partition([NvsRecord("namespace", 1, b"n", "", 0), blob], 0x3000)
    # namespace, two chunk headers, 253 entries of data, a header more for the third page, the index
    assert (
        "258 entries of 32 bytes are needed and 252 are available, 192 bytes too many" in caught.value.message
    )
    assert "'large'" in caught.value.message
    assert "0x4000" in caught.value.hint
    assert len(write_partition([NvsRecord("namespace", 1, b"n", "", 0), blob], 0x4000)) == 0x4000


def test_a_string_of_a_whole_page_gets_a_page() -> None:
    """The firmware stores 3999 bytes; the generator has no way to."""
    records = (
        NvsRecord("namespace", 1, b"n", "", 0),
        NvsRecord("entry", 1, b"s", "string", b"x" * 3999),
        NvsRecord("entry", 1, b"t", "string", b"y" * 3999, terminated=True),
    )
    reading = read_partition(write_partition(records, 0x5000))
    assert reading.records == records
    assert not reading.problems
    assert len(write_partition(records[1:], 0x3000)) == 0x3000  # two pages, no more
    with pytest.raises(InputError, match="4001 bytes"):
        write_partition([NvsRecord("entry", 1, b"s", "string", b"x" * 4000)], 0x5000)


@pytest.mark.parametrize("record", [
    NvsRecord("entry", 1, b"i", "u8", 256),
    NvsRecord("entry", 1, b"i", "i16", -32769),
    NvsRecord("entry", 1, b"seventeen letters", "u8", 1),
    NvsRecord("entry", 1, b"b", "blob", bytes(128 * 4064)),
    NvsRecord("entry", 1, b"b", "blob", bytes(4001), legacy_blob=True),
    NvsRecord("unknown", 1, b"u", "", bytes(33)),
    NvsRecord("unknown", 1, b"u", "", bytes(127 * 32)),
])  # fmt: skip
def test_impossible_records_are_refused(record: NvsRecord) -> None:
    with pytest.raises(InputError) as caught:
        write_partition([record], 0x200000)
    assert caught.value.hint


def test_versions_other_than_1_and_2_are_refused() -> None:
    with pytest.raises(InputError, match="version 3"):
        write_partition([], 0x3000, version=3)

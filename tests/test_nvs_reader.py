"""What the NVS reader makes of images: the firmware's own, values and pages."""

from __future__ import annotations

import re

import conftest
import pytest
from nvs_images import (
    ACTIVE,
    BLANK,
    BLOB_V1,
    CHUNK,
    CORRUPT,
    ENTRY,
    FREEING,
    FULL,
    INTEGERS,
    IS_ERASED,
    NS,
    U32,
    blob,
    errors,
    flip,
    index,
    number,
    only_values,
    page,
    raw,
    read,
    shown,
    sized,
    string,
    warnings,
)

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.nvs.reader import NvsReading, read_partition

# --- images of the firmware's own library -----------------------------------------------------------

ESCAPE = re.compile(rb"\\(x..|.)")
ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"\\": b"\\"}


def unescaped(text):
    return ESCAPE.sub(lambda m: ESCAPED.get(m[1]) or bytes.fromhex(m[1][1:].decode()), text)


def escaped(data):
    plain = {value[0]: "\\" + key.decode() for key, value in ESCAPED.items()}
    return "".join(plain.get(c) or (chr(c) if 0x20 <= c < 0x7F else f"\\x{c:02x}") for c in data)


def value_bytes(entry):
    if entry.type == "blob":
        return entry.value.hex().encode()
    return raw(entry.value) if entry.type == "string" else str(entry.value).encode()


def listed_images():
    folder = conftest.SHARED / "nvs"
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.glob("*/*.txt") if path.stem.isdigit()
    )


@pytest.mark.parametrize("listing", listed_images() or ["worn/01.txt"])
def test_image_of_a_device_reads_as_its_listing(shared, listing):
    path = shared / "nvs" / listing
    lines = [line.split(b"\t") for line in path.read_bytes().split(b"\n")[:-1]]
    expected = [(*fields[:3], unescaped(fields[3])) for fields in lines]
    reading = read_partition(path.with_suffix(".bin").read_bytes())
    got = [(raw(e.namespace), raw(e.key), e.type.encode(), value_bytes(e)) for e in reading.entries]
    assert got == expected
    assert len(got) > 20
    assert not reading.loses_entries
    assert_records_match(reading)
    if listing.startswith("worn/"):
        assert reading.problems == ()
    else:
        assert reading.problems


def crafted_results():
    path = conftest.SHARED / "nvs/crafted/RESULTS.txt"
    pattern = re.compile(r"(\S+) +rc=(\d) \[(.*?)\] ?(.*)")
    found = (
        (pattern.fullmatch(line) for line in path.read_text("ascii").splitlines()) if path.is_file() else ()
    )
    return {match[1]: (int(match[2]), match[3], match[4]) for match in found if match}


CRAFTED = crafted_results()
CANNOT_BE_READ = {"key_nonul_pad_ff"}  # its only entry; the error code is cut off in the results


@pytest.mark.parametrize("name", CRAFTED or ["basic"])
def test_crafted_image_reads_as_its_line(shared, name):
    status, listing, notes = CRAFTED[name]
    reading = read_partition((shared / "nvs/crafted" / f"{name}.bin").read_bytes())
    lines = [f"{e.namespace} {escaped(raw(e.key))} {e.type} {shown_value(e)}" for e in reading.entries]
    expected = (
        [] if name in CANNOT_BE_READ else [item for item in listing.split(" ; ") if item and " !" not in item]
    )
    assert [shortened(line, wanted) for line, wanted in zip(lines, expected, strict=True)] == expected
    assert reading.opened == (status != 1)
    assert reading.loses_entries or status == 0
    if status or "repaired" in notes or "duplicate" in notes or "no NUL" in notes:
        assert reading.problems
    assert_records_match(reading)


def shown_value(entry):
    return escaped(raw(entry.value)) if entry.type == "string" else value_bytes(entry).decode()


def shortened(line, wanted):
    match = re.fullmatch(r"(.*)\.\.\((\d+)\)", wanted)
    return f"{line[: len(match[1])]}..({len(line)})" if match else line


def test_every_crafted_image_has_been_read(shared):
    images = {path.stem for path in (shared / "nvs/crafted").glob("*.bin")}
    assert len(CRAFTED) == len(images - {"g1", "g2", "l"}) == 74


DAMAGED = {
    "nofree",
    "ver_fd",
    "ver_00",
    "hdr_badcrc_only_page",
    "hdr_badcrc_2nd",
    "state_weird_fffffff0",
    "state_0",
    "garbage",
    "zeros",
    "dup_difftype",
    "ns_undefined",
    "key_pad_ff",
    "key_nonul_pad_ff",
    "key16_nonul",
    "item_badcrc",
    "str_baddatacrc",
    "span0_int",
    "blob_nodata",
    "blob_sizemismatch",
    "blob_countmismatch",
    "blob_empty_idx_only_lib",
    "chunkidx_int_00",
    "illegal_state01",
    "illegal_state01_full",
    "hole_empty_then_written_active",
}


@pytest.mark.parametrize("name", CRAFTED or ["basic"])
def test_crafted_image_loses_entries_only_where_it_is_damaged(shared, name):
    reading = read_partition((shared / "nvs/crafted" / f"{name}.bin").read_bytes())
    assert reading.loses_entries == (name in DAMAGED)


def assert_records_match(reading: NvsReading):
    """Records hold the same as the entries, each once."""
    namespaces = {r.key: r.namespace_index for r in reading.records if r.kind == "namespace"}
    values = {(r.namespace_index, r.key, r.type): r.value for r in reading.records if r.kind == "entry"}
    assert len(values) == sum(record.kind == "entry" for record in reading.records)
    keys = [(namespaces[raw(e.namespace)], raw(e.key), e.type) for e in reading.entries]
    assert set(keys) == set(values)
    for key, entry in zip(keys, reading.entries, strict=True):
        assert (raw(entry.value) if entry.type == "string" else entry.value) == values[key]


# --- sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, 4095])
def test_less_than_a_page_is_no_partition(size):
    with pytest.raises(FormatError, match=f"{size} bytes") as caught:
        read_partition(b"\xff" * size)
    assert "4096" in caught.value.hint


def test_part_of_a_sector_at_the_end_is_ignored_and_reported():
    reading = read_partition(page([NS, number(b"a", 5)]) + BLANK + b"\0" * 100)
    assert shown(reading) == [("ns", "a", "u8", 5)]
    assert warnings(reading) == [
        (None, None, "the last 100 bytes are no whole page; the firmware ignores them")
    ]


def test_image_may_be_any_bytes_like():
    image = page([NS, number(b"a", 5)]) + BLANK
    assert read_partition(bytearray(image)) == read_partition(memoryview(image)) == read_partition(image)


# --- values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INTEGERS)
def test_integer_types(name):
    code, low, high = INTEGERS[name]
    reading = read(page([NS, number(b"low", low, code), number(b"high", high, code)]), BLANK)
    assert shown(reading) == [("ns", "low", name, low), ("ns", "high", name, high)]
    assert [(r.kind, r.key, r.type, r.value) for r in reading.records] == [
        ("namespace", b"ns", "", 0),
        ("entry", b"low", name, low),
        ("entry", b"high", name, high),
    ]
    assert reading.problems == ()


@pytest.mark.parametrize(
    ("data", "value", "terminated"),
    [
        (b"hello\0", "hello", True),
        (b"\0", "", True),
        (b"", "", False),
        (b"hello", "hello", False),
        (b"he\0llo\0", "he\0llo", True),
        (b"two\0\0", "two\0", True),
        (b"\xff\xc3\xa9\0", "\udcff\xe9", True),
        (b"x" * 3999 + b"\0", "x" * 3999, True),
    ],
)
def test_strings(data, value, terminated):
    reading = read(page([NS], FULL), page([string(b"s", data)], sequence=1), BLANK)
    assert shown(reading) == [("ns", "s", "string", value)]
    record = reading.records[1]
    assert (record.type, record.value, record.terminated) == ("string", raw(value), terminated)
    assert not record.legacy_blob
    assert [p.level for p in reading.problems] == ([] if terminated else ["warning"])


@pytest.mark.parametrize("version", [0xFF, 0xFE])
def test_blob_in_one_piece(version):
    reading = read(page([NS, sized(b"b", BLOB_V1, b"abc")], version=version), BLANK)
    assert shown(reading) == [("ns", "b", "blob", b"abc")]
    assert reading.records[1].legacy_blob
    assert reading.version == (1 if version == 0xFF else 2)
    assert [p.level for p in reading.problems] == ["info"]


def test_one_page_of_version_2_makes_the_partition_version_2():
    assert read(page([NS], FULL, version=0xFF), page([], sequence=1), BLANK).version == 2
    assert read(page([NS], FULL, version=0xFF), BLANK).version == 1
    assert read(BLANK, BLANK).version == 2


@pytest.mark.parametrize("start", [0, 0x80])
@pytest.mark.parametrize("size", [0, 1, 32, 33, 4000 - 64])
def test_blob_of_one_chunk_in_both_ranges(start, size):
    data = bytes(size)
    reading = read(page([NS], FULL), page([blob(b"b", data, start)], sequence=1), BLANK)
    assert shown(reading) == [("ns", "b", "blob", data)]
    assert not reading.records[1].legacy_blob
    assert reading.problems == ()


@pytest.mark.parametrize("start", [0, 0x80])
def test_blob_over_pages_stands_where_its_first_chunk_is(start):
    parts = [bytes([n]) * 4000 for n in (1, 2)] + [b"\3" * 100]
    chunks = [sized(b"b", CHUNK, part, chunk=start + n) for n, part in enumerate(parts)]
    reading = read(
        page([chunks[1]], FULL, sequence=1),
        page([NS, number(b"z", 1)], FULL, sequence=0),
        page([chunks[0]], FULL, sequence=2),
        page([chunks[2], number(b"y", 1), index(b"b", 8100, 3, start), number(b"x", 1)], sequence=3),
        BLANK,
    )
    assert [e.key for e in reading.entries] == ["z", "b", "y", "x"]
    assert only_values(reading)["b"] == b"".join(parts)
    # The record stands where the first of its parts is.
    assert [r.key for r in reading.records] == [b"ns", b"z", b"b", b"y", b"x"]
    assert reading.problems == ()


def test_records_are_placed_by_the_first_part_even_where_that_is_the_index():
    entries = [NS, index(b"b", 3, 1), number(b"a", 1), sized(b"b", CHUNK, b"abc", chunk=0)]
    reading = read(page(entries), BLANK)
    assert [e.key for e in reading.entries] == ["a", "b"]
    assert [r.key for r in reading.records] == [b"ns", b"b", b"a"]


@pytest.mark.parametrize(
    ("entries", "value"),
    [
        ([index(b"b", 0, 0)], b""),
        ([sized(b"b", CHUNK, b"xy", chunk=5), index(b"b", 2, 1, start=5)], b"xy"),
    ],
)
def test_blob_that_the_iterator_does_not_show_is_read_all_the_same(entries, value):
    reading = read(page([NS, *entries, number(b"z", 1)]), BLANK)
    assert shown(reading) == [("ns", "b", "blob", value), ("ns", "z", "u8", 1)]
    assert [p.level for p in reading.problems] == ["info"]


# --- pages ------------------------------------------------------------------------------------------


def test_pages_are_read_in_the_order_of_their_numbers():
    reading = read(
        page([number(b"c", 3)], FULL, sequence=9),
        page([NS, number(b"a", 1)], FULL, sequence=2),
        BLANK,
        page([number(b"b", 2)], FULL, sequence=5),
    )
    assert [e.key for e in reading.entries] == ["a", "b", "c"]
    assert reading.problems == ()


def test_pages_of_one_number_are_read_as_they_stand():
    pages = [page([NS, number(b"a", 1)], FULL), page([number(b"b", 2)], FULL)]
    reading = read(*pages, BLANK)
    assert [e.key for e in reading.entries] == ["a", "b"]
    assert [(p, e) for p, e, _ in warnings(reading)] == [(1, None)]


def test_no_free_page():
    reading = read(page([NS, number(b"a", 5)]))
    assert (reading.opened, reading.entries, reading.records) == (False, (), ())
    assert "ESP_ERR_NVS_NO_FREE_PAGES" in errors(reading)[0][2]


def test_one_blank_page_is_an_empty_partition():
    reading = read(BLANK)
    assert reading == NvsReading((), (), (), opened=True, version=2, loses_entries=False)


@pytest.mark.parametrize("version", [0xFD, 0x00])
@pytest.mark.parametrize("state", [ACTIVE, CORRUPT])
def test_newer_version(version, state):
    reading = read(page([NS]), page([], state, 1, version=version), BLANK)
    assert (reading.opened, reading.entries, reading.records) == (False, (), ())
    [(number_of_page, entry, message)] = errors(reading)
    assert (number_of_page, entry) == (1, None)
    assert "ESP_ERR_NVS_NEW_VERSION_FOUND" in message


@pytest.mark.parametrize("state", [CORRUPT, 0, 0xFFFFFFFA])
def test_page_of_another_state_counts_as_free(state):
    reading = read(page([NS, number(b"a", 5)]), page([number(b"b", 6)], state, 1))
    assert shown(reading) == [("ns", "a", "u8", 5)]
    assert [(p, e) for p, e, _ in errors(reading)] == [(1, None)]


def test_page_with_a_damaged_header_counts_as_free():
    damaged = flip(page([number(b"b", 6)], sequence=1), 5)
    reading = read(page([NS, number(b"a", 5)]), damaged)
    assert shown(reading) == [("ns", "a", "u8", 5)]
    [(number_of_page, _, message)] = errors(reading)
    assert number_of_page == 1
    assert "CRC-32" in message


def test_page_whose_start_was_interrupted_has_lost_nothing():
    for cut in range(1, 32):
        started = page([], sequence=1)[:cut] + BLANK[cut:]
        reading = read(page([NS, number(b"a", 5)], FULL), started)
        assert shown(reading) == [("ns", "a", "u8", 5)]
        assert [(p, e) for p, e, _ in warnings(reading)] == [(1, None)]


def test_page_whose_erasure_was_interrupted_has_lost_nothing():
    used = page([number(b"b", 6)] * 100, FULL, sequence=1)
    reading = read(page([NS, number(b"a", 5)]), BLANK[:1000] + used[1000:])
    assert [(p, e) for p, e, _ in warnings(reading)] == [(1, None)]
    reading = read(page([NS, number(b"a", 5)]), BLANK[:32] + used[32:])
    assert [(p, e) for p, e, _ in errors(reading)] == [(1, None)]


def test_page_being_freed_is_moved_to_a_free_one():
    freed = page([NS, number(b"x", 1), number(b"a", 5)], FREEING, states={1: IS_ERASED})
    reading = read(freed, page([number(b"b", 6)], FULL, sequence=1), BLANK)
    assert [e.key for e in reading.entries] == ["b", "a"]
    assert [r.key for r in reading.records] == [b"b", b"ns", b"a"]
    assert [(p, e) for p, e, _ in warnings(reading)] == [(0, None)]


def test_page_being_freed_and_its_unfinished_copy():
    entries = [NS, number(b"a", 5), number(b"b", 6)]
    for copied in range(4):
        pages = page(entries, FREEING), page(entries[:copied], sequence=1)
        for rest in ((), (BLANK,)):
            reading = read(*pages, *rest)
            assert only_values(reading) == {"a": 5, "b": 6}
            assert warnings(reading)


def test_active_page_that_is_no_copy_is_lost_when_another_is_being_freed():
    reading = read(page([NS, number(b"a", 5)], FREEING), page([NS, number(b"b", 6)], sequence=1), BLANK)
    assert only_values(reading) == {"a": 5}
    assert [(p, e) for p, e, _ in errors(reading)] == [(1, 1)]
    assert "ns/b (u8)" in errors(reading)[0][2]


def test_page_being_freed_without_a_free_page():
    reading = read(page([NS, number(b"a", 5)], FREEING), page([number(b"b", 6)], FULL, sequence=1))
    assert not reading.opened
    assert "ESP_ERR_NVS_NOT_ENOUGH_SPACE" in errors(reading)[0][2]


def test_only_the_first_of_two_pages_being_freed_is_moved():
    pages = [page([NS, number(b"a", 5)], FREEING), page([number(b"b", 6)], FREEING, sequence=1)]
    reading = read(*pages, BLANK)
    assert [e.key for e in reading.entries] == ["b", "a"]
    assert [p for p, _, _ in warnings(reading)] == [0, 1]


def test_blank_page_being_freed():
    reading = read(page([], FREEING), page([NS, number(b"a", 5)], FULL, sequence=1), BLANK)
    assert only_values(reading) == {"a": 5}
    assert warnings(reading)


def test_active_pages_before_the_last_are_read_and_reported():
    reading = read(page([NS, number(b"a", 5)]), page([number(b"b", 6)], sequence=1), BLANK)
    assert only_values(reading) == {"a": 5, "b": 6}
    assert [(p, e) for p, e, _ in warnings(reading)] == [(0, None)]


# --- problems ---------------------------------------------------------------------------------------


def test_problems_stand_in_the_order_of_the_image():
    entries = [NS, string(b"s", b"abc\0", crc=0), number(b"a", 5, chunk=3)]
    pages = [page(entries, FULL, 1), page([NS, *entries[1:]], FULL), flip(page([], FULL, 7, {}), 6)]
    reading = read_partition(b"".join(pages) + BLANK + b"tail")
    places = [
        (-1 if p.page is None else p.page, -1 if p.entry is None else p.entry) for p in reading.problems
    ]
    assert places == sorted(places)
    assert len(places) > 4


def test_no_value_is_ever_in_a_message():
    secret = b"s3cretpassword"
    entries = [NS, string(b"s", secret + b"\0"), blob(b"b", secret * 3), sized(b"c", BLOB_V1, secret)]
    image = (
        page([*entries, number(b"n", 1234567, U32)], FULL) + page([string(b"s", secret)], sequence=1) + BLANK
    )
    for offset in [*range(64), *range(64, 64 + 14 * ENTRY)]:
        for mask in (0x01, 0x80):
            for problem in read_partition(flip(image, offset, mask)).problems:
                assert "s3cret" not in problem.message
                assert "1234567" not in problem.message


def test_many_problems_are_counted_not_listed():
    entries = [NS] + [number(b"%d" % n, 1, chunk=0) for n in range(125)]
    reading = read(*[page(entries, FULL, n) for n in range(10)], BLANK)
    assert len(reading.problems) == 1001
    assert re.fullmatch(r"\d+ more problems, not listed", reading.problems[-1].message)

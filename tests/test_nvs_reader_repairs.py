"""What the NVS reader makes of interrupted changes, duplicates and damage, as the firmware would."""

from __future__ import annotations

import hashlib
import struct
import zlib

import pytest
from nvs_images import (
    ACTIVE,
    BLANK,
    BLOB_V1,
    CHUNK,
    ENTRY,
    FREEING,
    FULL,
    I32,
    INDEX,
    IS_EMPTY,
    IS_ERASED,
    IS_ILLEGAL,
    NS,
    SEED,
    STRING,
    U8,
    U16,
    U32,
    at,
    blob,
    define,
    errors,
    flip,
    header,
    index,
    number,
    only_values,
    page,
    read,
    shown,
    sized,
    string,
    warnings,
)

# --- states of entries ------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [ACTIVE, FULL, FREEING])
def test_erased_entries_are_wear(state):
    entries = [NS, number(b"a", 5), string(b"s", b"abc\0"), number(b"b", 6)]
    reading = read(page(entries, state, states=dict.fromkeys((1, 2, 3), IS_ERASED)), BLANK)
    assert only_values(reading) == {"b": 6}
    assert not reading.loses_entries
    assert len(reading.problems) == (state == FREEING)


@pytest.mark.parametrize("state", [ACTIVE, FULL])
def test_illegal_state(state):
    entries = [NS, number(b"a", 5), number(b"b", 6)]
    reading = read(page(entries, state, states={1: IS_ILLEGAL}), BLANK)
    assert only_values(reading) == {"b": 6}
    assert [(p, e) for p, e, _ in errors(reading)] == [(0, 1)]
    entries[1] = b"\0" * ENTRY
    reading = read(page(entries, state, states={1: IS_ILLEGAL}), BLANK)
    assert [(p, e) for p, e, _ in warnings(reading)] == [(0, 1)]


def test_active_page_ends_at_its_first_empty_entry():
    entries = [NS, number(b"a", 5), b"\xff" * ENTRY, number(b"b", 6), number(b"c", 7)]
    reading = read(page(entries, states={2: IS_EMPTY}), BLANK)
    assert only_values(reading) == {"a": 5}
    [(number_of_page, entry, message)] = errors(reading)
    assert (number_of_page, entry) == (0, 3)
    assert "2 written ones" in message


def test_full_page_may_have_holes():
    entries = [NS, number(b"a", 5), b"\xff" * ENTRY, number(b"b", 6)]
    reading = read(page(entries, FULL, states={2: IS_EMPTY}), BLANK)
    assert only_values(reading) == {"a": 5, "b": 6}
    assert reading.problems == ()


def test_state_that_reads_empty_hides_an_entry():
    entries = [NS, number(b"a", 5), number(b"b", 6)]
    reading = read(page(entries, FULL, states={1: IS_EMPTY}), BLANK)
    assert only_values(reading) == {"b": 6}
    assert [(p, e) for p, e, _ in errors(reading)] == [(0, 1)]
    reading = read(page(entries, ACTIVE, states={1: IS_EMPTY}), BLANK)
    assert only_values(reading) == {}
    assert [(p, e) for p, e, _ in errors(reading)] == [(0, 1)]


@pytest.mark.parametrize("written", [1, 4, 8, 31, 32])
def test_half_written_entry(written):
    half = number(b"b", 6)[:written].ljust(ENTRY, b"\xff")
    reading = read(page([NS, number(b"a", 5), half], states={2: IS_EMPTY}), BLANK)
    assert only_values(reading) == {"a": 5}
    assert [(p, e) for p, e, _ in warnings(reading)] == [(0, 2)]


def interrupted_writes():
    """Yield what writing a string of 50 entries leaves when the power fails: data, then states."""
    whole = string(b"s", b"x" * 49 * ENTRY)
    for size in range(4, len(whole) + 1, 100):
        yield [whole[:size].ljust(len(whole), b"\xff")], dict.fromkeys(range(1, 51), IS_EMPTY)
    for first_word_written in range(51, 1, -16):
        states = dict.fromkeys(range(2, first_word_written), IS_EMPTY)
        yield [whole], states
        yield [string(b"s", b"\xff" * ENTRY + b"x" * 48 * ENTRY)], states


@pytest.mark.parametrize(("entries", "states"), list(interrupted_writes()))
def test_interrupted_write_of_the_newest_string_is_no_loss(entries, states):
    reading = read(page([NS, *entries], states=states), BLANK)
    assert not reading.loses_entries
    assert only_values(reading) in ({}, {"s": "x" * 49 * ENTRY}, {"s": "\udcff" * ENTRY + "x" * 48 * ENTRY})


@pytest.mark.parametrize("state", [ACTIVE, FULL])
@pytest.mark.parametrize("erased_from", [1, 2, 7, 10])
def test_interrupted_erasure_is_no_loss(state, erased_from):
    entries = [NS, string(b"s", b"x" * 300), number(b"b", 6)]
    erased = dict.fromkeys(range(erased_from, 12), IS_ERASED)
    reading = read(page(entries, state, states=erased), BLANK)
    assert only_values(reading) == {"b": 6}
    assert len(warnings(reading)) == (erased_from > 1)


def test_data_left_behind_an_erased_header_is_no_loss():
    entries = [NS, string(b"s", b"x" * 300), number(b"b", 6)]
    reading = read(page(entries, states={1: IS_ERASED, 2: IS_ERASED}), BLANK)
    assert only_values(reading) == {"b": 6}
    [(_, entry, message)] = warnings(reading)
    assert entry == 3
    assert "entries 3 to 11" in message


@pytest.mark.parametrize("state", [ACTIVE, FULL, FREEING])
def test_damaged_entry_is_dropped_with_its_data(state):
    entries = [NS, string(b"s", b"x" * 300), number(b"b", 6)]
    reading = read(flip(page(entries, state), at(1, byte=9)), BLANK)
    assert only_values(reading) == {"b": 6}
    [(number_of_page, entry, message)] = errors(reading)
    assert (number_of_page, entry) == (0, 1)
    assert "entries 1 to 11" in message


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (header(1, U8, 0, 0xFF, b"k", b"\5"), "spans 0 entries instead of 1"),
        (header(1, U32, 2, 0xFF, b"k", b"\5"), "spans 2 entries instead of 1"),
        (header(1, STRING, 1, 0xFF, b"k", struct.pack("<HHI", 5, 0, 0)), "does not match its 5 bytes"),
        (header(1, STRING, 200, 0xFF, b"k", struct.pack("<HHI", 5000, 0, 0)), "past the end of the page"),
        (header(1, CHUNK, 1, 0xFF, b"k", struct.pack("<HHI", 0, 0, SEED)), "chunk index 255"),
        (header(1, INDEX, 1, 0, b"k", struct.pack("<IBBH", 0, 0, 0, 0xFFFF)), "chunk index 0 instead"),
        (header(1, INDEX, 2, 0xFF, b"k", struct.pack("<IBBH", 0, 0, 0, 0xFFFF)), "spans 2 entries"),
        (header(1, INDEX, 1, 0xFF, b"k", struct.pack("<IBBH", 508001, 0, 0, 0xFFFF)), "more than a blob"),
        (header(1, INDEX, 1, 0xFF, b"k", struct.pack("<IBBH", 508000, 1, 0, 0xFFFF)), "508000 bytes in 1"),
    ],
)
def test_header_that_contradicts_itself_is_deleted(entry, fault):
    reading = read(page([NS, entry, number(b"b", 6)]), BLANK)
    assert only_values(reading) == {"b": 6}
    [(_, where, message)] = errors(reading)
    assert where == 1
    assert message.startswith("ns/k ")
    assert fault in message


def test_string_up_to_the_last_entry_of_the_page():
    filler = [number(b"%d" % n, n) for n in range(100)]
    last = string(b"s", b"x" * 24 * ENTRY)
    assert only_values(read(page([NS, *filler, last], FULL), BLANK))["s"] == "x" * 24 * ENTRY
    longer = string(b"s", b"x" * (24 * ENTRY + 1))[: 25 * ENTRY]
    assert "past the end" in errors(read(page([NS, *filler, longer], FULL), BLANK))[0][2]


def test_data_that_look_like_a_header_vouch_for_nothing():
    """An erased string held the image of an entry; a damaged entry after it is damage all the same."""
    held = string(b"x", b"y" * 100)[:ENTRY]
    entries = [NS, string(b"s", held), number(b"a", 5), number(b"b", 6)]
    image = page(entries, states={1: IS_ERASED, 2: IS_ERASED})
    assert only_values(read(image, BLANK)) == {"a": 5, "b": 6}
    assert [e for _, e, _ in errors(read(flip(image, at(3, byte=9)), BLANK))] == [3]


# --- duplicates -------------------------------------------------------------------------------------


def test_later_of_two_wins_on_the_active_page():
    reading = read(page([NS, number(b"a", 5), number(b"a", 6), number(b"z", 1)]), BLANK)
    assert [(e.key, e.value) for e in reading.entries] == [("a", 6), ("z", 1)]
    assert [e for _, e, _ in warnings(reading)] == [1]


def test_first_of_two_wins_on_a_full_page():
    reading = read(page([NS, number(b"a", 5), number(b"a", 6), number(b"z", 1)], FULL), BLANK)
    assert [(e.key, e.value) for e in reading.entries] == [("a", 5), ("a", 5), ("z", 1)]
    assert [(r.key, r.value) for r in reading.records] == [(b"ns", 0), (b"a", 5), (b"z", 1)]
    assert [e for _, e, _ in warnings(reading)] == [2]


@pytest.mark.parametrize("state", [ACTIVE, FULL])
def test_very_last_item_replaces_the_same_on_other_pages(state):
    pages = [page([NS, number(b"a", 5)], FULL), page([number(b"z", 1), number(b"a", 6)], state, 1)]
    reading = read(*pages, BLANK)
    assert only_values(reading) == {"z": 1, "a": 6}
    assert [(p, e) for p, e, _ in warnings(reading)] == [(0, 1)]
    pages[1] = page([number(b"a", 6), number(b"z", 1)], state, 1)
    reading = read(*pages, BLANK)
    assert [(e.key, e.value) for e in reading.entries] == [("a", 5), ("a", 5), ("z", 1)]


def test_new_blob_replaces_the_one_in_the_old_format():
    pages = [page([NS, sized(b"b", BLOB_V1, b"old")], FULL), page([blob(b"b", b"new")], sequence=1)]
    reading = read(*pages, BLANK)
    assert shown(reading) == [("ns", "b", "blob", b"new")]
    assert warnings(reading)


def test_change_of_a_blob_before_the_old_one_was_erased():
    old, new = blob(b"b", b"old" * 20), blob(b"b", b"new" * 30, start=0x80)
    for pages in ([page([NS, old, new])], [page([NS, old], FULL), page([new], sequence=1)]):
        reading = read(*pages, BLANK)
        assert shown(reading) == [("ns", "b", "blob", b"new" * 30)]
        assert warnings(reading)


def test_change_of_a_blob_before_its_index_on_another_page():
    pages = [page([NS, blob(b"b", b"old")], FULL), page([sized(b"b", CHUNK, b"new", chunk=0x80)], sequence=1)]
    reading = read(*pages, BLANK)
    assert shown(reading) == [("ns", "b", "blob", b"old")]
    assert [(p, e) for p, e, _ in warnings(reading)] == [(1, 0)]


def test_change_of_a_blob_before_its_index_on_the_same_page_loses_both():
    """The library takes the old chunk for a duplicate of the new one (ESP-IDF v5.4.4)."""
    reading = read(page([NS, blob(b"b", b"old"), sized(b"b", CHUNK, b"new", chunk=0x80)]), BLANK)
    assert reading.entries == ()
    assert [r.key for r in reading.records] == [b"ns"]
    [(_, entry, message)] = errors(reading)
    assert entry == 3
    assert "announces 3 bytes in 1 chunk, but there are 0 bytes in 0 chunks" in message


def test_types_hide_each_other_on_one_page_but_not_across_pages():
    reading = read(page([NS, number(b"a", 5), number(b"a", -7, I32)], FULL), BLANK)
    assert shown(reading) == [("ns", "a", "u8", 5)]
    assert [e for _, e, _ in errors(reading)] == [2]
    pages = page([NS, number(b"a", 5)], FULL), page([number(b"a", -7, I32), number(b"z", 1)], sequence=1)
    reading = read(*pages, BLANK)
    assert shown(reading)[:2] == [("ns", "a", "u8", 5), ("ns", "a", "i32", -7)]
    assert [r.type for r in reading.records if r.key == b"a"] == ["u8", "i32"]
    assert [(p, e) for p, e, _ in warnings(reading)] == [(1, 0)]


def test_damaged_last_entry_takes_the_earlier_one_of_its_key_along():
    entries = [NS, number(b"a", 5), number(b"z", 1), number(b"a", 6)]
    reading = read(flip(page(entries), at(3, byte=24)), BLANK)
    assert only_values(reading) == {"z": 1}
    assert [e for _, e, _ in errors(reading)] == [1, 3]


def test_keys_of_one_hash_replace_each_other_on_the_active_page():
    """The library compares 24 bits only, there."""
    seen = {}
    for n in range(1 << 16):
        key = hashlib.sha256(b"%d" % n).hexdigest()[:15].encode()
        hashed = zlib.crc32(b"\1" + key.ljust(16, b"\0") + b"\xff", SEED) & 0xFFFFFF
        if hashed in seen:
            break
        seen[hashed] = key
    entries = [NS, number(seen[hashed], 1), number(key, 2), number(b"z", 3)]
    reading = read(page(entries), BLANK)
    assert only_values(reading) == {key.decode(): 2, "z": 3}
    assert [e for _, e, _ in errors(reading)] == [1]
    assert len(only_values(read(page(entries, FULL), BLANK))) == 3


def test_incomplete_version_of_a_blob_does_not_touch_the_other():
    entries = [NS, blob(b"b", b"old"), index(b"b", 9, 1, start=0x80), number(b"z", 1)]
    reading = read(page(entries, FULL), BLANK)
    assert only_values(reading) == {"b": b"old", "z": 1}
    assert [e for _, e, _ in warnings(reading)] == [4]


def test_old_blob_hides_the_new_one_on_a_full_page():
    reading = read(page([NS, sized(b"b", BLOB_V1, b"old"), blob(b"b", b"new")], FULL), BLANK)
    assert [e.value for e in reading.entries] == [b"old", b"old"]
    assert [(r.key, r.value, r.legacy_blob) for r in reading.records[1:]] == [(b"b", b"old", True)]


# --- damaged data and incomplete blobs --------------------------------------------------------------


def test_string_with_damaged_data_cannot_be_read():
    reading = read(flip(page([NS, string(b"s", b"secret\0"), number(b"b", 6)]), at(2)), BLANK)
    assert only_values(reading) == {"b": 6}
    assert [r.key for r in reading.records] == [b"ns", b"b"]
    [(_, entry, message)] = errors(reading)
    assert entry == 1
    assert "ns/s (string)" in message
    assert "7 bytes" in message


def test_reading_a_damaged_string_brings_a_later_one_to_light():
    entries = [NS, string(b"s", b"bad\0", crc=0), string(b"s", b"good\0"), number(b"z", 1)]
    reading = read(page(entries, FULL), BLANK)
    assert only_values(reading) == {"s": "good", "z": 1}
    assert [r.value for r in reading.records if r.key == b"s"] == [b"good"]
    assert reading.loses_entries


def test_blob_with_damaged_data_cannot_be_read():
    entries = [NS, sized(b"b", CHUNK, b"abc", chunk=0, crc=0), index(b"b", 3, 1), number(b"z", 1)]
    reading = read(page(entries), BLANK)
    assert only_values(reading) == {"z": 1}
    assert [r.key for r in reading.records] == [b"ns", b"z"]
    assert [e for _, e, _ in errors(reading)] == [1]


@pytest.mark.parametrize(
    ("entries", "level"),
    [
        ([index(b"b", 3, 1)], "error"),
        ([sized(b"b", CHUNK, b"abc", chunk=0), index(b"b", 4, 1)], "error"),
        ([sized(b"b", CHUNK, b"abc", chunk=0), index(b"b", 3, 2)], "error"),
        ([sized(b"b", CHUNK, b"abc", chunk=0x80), index(b"b", 3, 1)], "error"),
        ([sized(b"b", CHUNK, b"abc", chunk=0)], "warning"),
        ([sized(b"b", CHUNK, b"abc", chunk=0x80), sized(b"b", CHUNK, b"abc", chunk=0x81)], "warning"),
    ],
)
def test_incomplete_blob_is_deleted(entries, level):
    reading = read(page([NS, *entries, number(b"z", 1)]), BLANK)
    assert only_values(reading) == {"z": 1}
    assert {p.level for p in reading.problems} == {level}
    assert [r.key for r in reading.records] == [b"ns", b"z"]


def test_blob_whose_second_chunk_is_a_second_first_one():
    """The library counts two chunks, so it keeps the blob, and then does not find the second."""
    chunks = [sized(b"b", CHUNK, b"abc", chunk=0)] * 2
    reading = read(page([NS, *chunks, index(b"b", 6, 2), number(b"z", 1)], FULL), BLANK)
    assert only_values(reading) == {"z": 1}
    assert "chunk 2 of 2 is missing" in errors(reading)[0][2]
    assert [r.key for r in reading.records] == [b"ns", b"z"]


def test_reading_an_incomplete_blob_brings_the_old_one_to_light():
    chunks = [sized(b"b", CHUNK, b"abc", chunk=0)] * 2
    pages = [[NS, *chunks, index(b"b", 6, 2)], [sized(b"b", BLOB_V1, b"old"), number(b"z", 1)]]
    reading = read(*[page(entries, FULL, n) for n, entries in enumerate(pages)], BLANK)
    assert [e.value for e in reading.entries] == [b"old", b"old", 1]
    assert [(r.key, r.value) for r in reading.records[1:]] == [(b"b", b"old"), (b"z", 1)]
    assert [e for _, e, _ in errors(reading)] == [1]


def test_old_blob_is_read_over_a_damaged_new_one():
    """The size is the new one's, so that what is behind the old value comes from the damaged chunk."""
    damaged = sized(b"b", CHUNK, b"abcdef", chunk=0, crc=0)
    pages = [[NS, damaged, index(b"b", 6, 1)], [sized(b"b", BLOB_V1, b"old"), number(b"z", 1)]]
    reading = read(*[page(entries, FULL, n) for n, entries in enumerate(pages)], BLANK)
    assert reading.entries[0].value == b"olddef"


def test_chunk_numbers_past_the_end():
    chunks = [sized(b"b", CHUNK, b"abc", chunk=254), sized(b"b", CHUNK, b"def", chunk=254)]
    reading = read(page([NS, *chunks, index(b"b", 6, 2, start=254), number(b"z", 1)], FULL), BLANK)
    assert only_values(reading) == {"z": 1}
    assert errors(reading)


# --- namespaces -------------------------------------------------------------------------------------


def test_namespaces_may_be_defined_after_their_entries():
    reading = read(page([number(b"a", 5), NS], FULL), page([define(b"two", 2)], sequence=1), BLANK)
    assert shown(reading) == [("ns", "a", "u8", 5)]
    namespaces = [(r.key, r.namespace_index) for r in reading.records if r.kind == "namespace"]
    assert namespaces == [(b"ns", 1), (b"two", 2)]


def test_entries_without_a_namespace_are_kept_as_they_are():
    lost = number(b"q", 7, namespace=9)
    reading = read(page([NS, number(b"a", 5), lost, string(b"s", b"x\0", namespace=9)]), BLANK)
    assert shown(reading) == [("ns", "a", "u8", 5)]
    [(_, entry, message)] = errors(reading)
    assert entry == 2
    assert "#9" in message
    assert "2 entries" in message
    unknown = [r for r in reading.records if r.kind == "unknown"]
    assert [(r.namespace_index, r.key, len(r.value)) for r in unknown] == [(9, b"q", 32), (9, b"s", 64)]
    assert unknown[0].value == lost


def test_namespace_defined_twice():
    entries = [
        NS,
        define(b"ns", 2),
        number(b"a", 5),
        number(b"a", 6, namespace=2),
        number(b"b", 7, namespace=2),
    ]
    reading = read(page(entries, FULL), BLANK)
    assert shown(reading) == [("ns", "a", "u8", 5), ("ns", "a", "u8", 5)]
    assert [e for _, e, _ in errors(reading)] == [4]
    # What is hidden by a namespace of the same name is a duplicate; what only stands there is kept.
    assert [(r.kind, r.namespace_index, r.key) for r in reading.records] == [
        ("namespace", 1, b"ns"),
        ("unknown", 0, b"ns"),
        ("entry", 1, b"a"),
        ("unknown", 2, b"b"),
    ]


def test_two_namespaces_of_one_index():
    reading = read(page([NS, define(b"other", 1), number(b"a", 5)]), BLANK)
    assert shown(reading) == [("ns", "a", "u8", 5)]
    assert [(r.key, r.namespace_index) for r in reading.records[:2]] == [(b"ns", 1), (b"other", 1)]
    assert [e for _, e, _ in warnings(reading)] == [1]


@pytest.mark.parametrize("odd", [255, 0])
def test_unusual_index_of_a_namespace(odd):
    reading = read(page([define(b"odd", odd), NS, number(b"a", 5, namespace=odd)], FULL), BLANK)
    assert shown(reading) == ([("odd", "a", "u8", 5)] if odd else [])
    assert [e for _, e, _ in [w for w in reading_places(reading) if w[1] == 0]] == [0]


def reading_places(reading):
    return [(p.page, p.entry, p.message) for p in reading.problems]


def test_namespace_255_sees_the_keys_of_all():
    entries = [NS, define(b"all", 255), number(b"a", 5), number(b"a", 6, namespace=255)]
    assert shown(read(page(entries, FULL), BLANK)) == [("ns", "a", "u8", 5), ("all", "a", "u8", 5)]


def test_entry_among_the_definitions_hides_those_after_it():
    stray = number(b"stray", 1, U16, namespace=0)
    reading = read(page([NS, stray, define(b"two", 2), number(b"a", 5, namespace=2)]), BLANK)
    assert reading.entries == ()
    assert [e for _, e, _ in errors(reading)] == [2, 3]
    assert [(r.kind, r.key) for r in reading.records] == [
        ("namespace", b"ns"),
        ("unknown", b"stray"),
        ("unknown", b"two"),
        ("unknown", b"a"),
    ]


def test_longest_names():
    name = b"n" * 15
    reading = read(page([define(name, 254), number(b"k" * 15, 5, namespace=254)]), BLANK)
    assert shown(reading) == [("n" * 15, "k" * 15, "u8", 5)]


# --- keys that cannot be asked for, and unknown types -----------------------------------------------


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (number(b"abcdefghijklmnop", 5), "no closing NUL"),
        (number(b"ab\0" + b"\xff" * 13, 5), "not NUL"),
        (number(b"ab", 5, chunk=0), "chunk index is 0"),
    ],
)
def test_key_that_cannot_be_found_is_kept_as_it_is(entry, reason):
    reading = read(page([NS, entry, number(b"b", 6)]), BLANK)
    assert only_values(reading) == {"b": 6}
    assert reason in errors(reading)[0][2]
    assert [r.value for r in reading.records if r.kind == "unknown"] == [entry]


def test_key_of_16_bytes_is_not_the_one_of_its_first_15():
    long = number(b"k" * 16, 6)
    reading = read(page([NS, number(b"k" * 15, 5), long], FULL), BLANK)
    assert [e.value for e in reading.entries] == [5]
    assert [e for _, e, _ in errors(reading)] == [2]
    assert [r.value for r in reading.records] == [0, 5, long]


def test_last_key_of_16_bytes_replaces_the_one_of_its_first_15():
    """The library compares 15 bytes when it looks for what the last item replaces."""
    long = number(b"k" * 16, 6)
    for pages in (
        [page([NS, number(b"k" * 15, 5), long])],
        [page([NS, number(b"k" * 15, 5)], FULL), page([long], sequence=1)],
    ):
        reading = read(*pages, BLANK)
        assert reading.entries == ()
        assert (0, 1) in [(p, e) for p, e, _ in errors(reading)]


def test_key_that_is_there_as_well_with_other_bytes_behind_it_is_a_duplicate():
    reading = read(page([NS, number(b"ab", 5), number(b"ab\0" + b"\xff" * 13, 6)], FULL), BLANK)
    assert shown(reading) == [("ns", "ab", "u8", 5)] * 2
    assert [r.value for r in reading.records] == [0, 5]
    assert [e for _, e, _ in warnings(reading)] == [2]


@pytest.mark.parametrize("state", [ACTIVE, FULL, FREEING])
@pytest.mark.parametrize("span", [1, 3])
def test_unknown_type_is_kept_and_is_no_loss(state, span):
    entry = header(1, 0x77, span, 0xFF, b"w", b"\1\2\3") + b"\5" * ENTRY * (span - 1)
    reading = read(page([NS, entry, number(b"b", 6)], state), BLANK)
    assert only_values(reading) == {"b": 6}
    assert next(r.value for r in reading.records if r.kind == "unknown") == entry
    assert [r.key for r in reading.records] == [b"ns", b"w", b"b"]
    assert (0, 1) in [(p, e) for p, e, _ in warnings(reading)]


@pytest.mark.parametrize("span", [0, 5, 126, 255])
def test_unknown_type_with_an_impossible_span_is_one_entry(span):
    entry = header(1, 0x77, span, 0xFF, b"w", b"\1\2\3")
    reading = read(page([NS, entry, number(b"b", 6)]), BLANK)
    assert only_values(reading) == {"b": 6}
    assert [r.value for r in reading.records if r.kind == "unknown"] == [entry]


def test_unknown_type_does_not_swallow_what_is_an_entry_itself():
    entry = header(1, 0x77, 3, 0xFF, b"w", b"\1\2\3")
    for entries, states in (
        ([NS, entry, number(b"a", 5), number(b"b", 6)], {}),
        ([NS, entry, b"\0" * ENTRY, number(b"a", 5), number(b"b", 6)], {2: IS_ERASED}),
    ):
        reading = read(page(entries, states=states), BLANK)
        assert only_values(reading) == {"a": 5, "b": 6}
        assert [r.value for r in reading.records if r.kind == "unknown"] == [entry]


def test_unknown_type_of_which_a_part_is_erased_is_one_entry():
    entry = header(1, 0x77, 3, 0xFF, b"w", b"\1\2\3")
    reading = read(page([NS, entry, b"\0" * 64, number(b"b", 6)], states={2: IS_ERASED}), BLANK)
    assert [r.value for r in reading.records if r.kind == "unknown"] == [entry]
    assert [e for _, e, _ in errors(reading)] == [3]

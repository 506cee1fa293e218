"""Any bytes at all: the NVS reader reads them or raises one of this program's errors, in bounded time."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nvs_images import (
    ACTIVE,
    BLANK,
    BLOB_V1,
    CHUNK,
    CORRUPT,
    ENTRY,
    FREEING,
    FULL,
    INDEX,
    INTEGERS,
    IS_ERASED,
    IS_WRITTEN,
    NS,
    PAGE,
    SEED,
    STRING,
    U8,
    U16,
    at,
    blob,
    define,
    header,
    index,
    number,
    page,
    raw,
    sized,
    string,
)

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.nvs.reader import read_partition

MARK = "S3CRET"  # in every value, and in no message

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of images that fail

quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def check(image):
    """Read an image and hold the reading to everything that is true of every reading."""
    start = time.process_time()
    if len(image) < PAGE:
        with pytest.raises(FormatError):
            read_partition(image)
        return None
    reading = read_partition(image)
    assert time.process_time() - start < 5
    assert read_partition(image) == reading
    assert reading.loses_entries == any(p.level == "error" for p in reading.problems)
    assert reading.version in (1, 2)
    if not reading.opened:
        assert reading.loses_entries
        assert (reading.entries, reading.records) == ((), ())
    check_problems(reading, len(image) // PAGE)
    check_records(reading)
    return reading


def check_problems(reading, pages):
    for problem in reading.problems:
        assert problem.level in ("error", "warning", "info")
        assert problem.page is None or 0 <= problem.page < pages
        assert problem.entry is None or (problem.page is not None and 0 <= problem.entry < 126)
        assert problem.message.isprintable()
        assert MARK not in problem.message


def check_records(reading):
    namespaces = {r.key: r.namespace_index for r in reading.records if r.kind == "namespace"}
    values = {(r.namespace_index, r.key, r.type): r for r in reading.records if r.kind == "entry"}
    assert len(namespaces) + len(values) == sum(r.kind != "unknown" for r in reading.records)
    listed = {(namespaces[raw(e.namespace)], raw(e.key), e.type) for e in reading.entries}
    assert listed == set(values)
    for (_, key, kind), record in values.items():
        assert len(key) <= 15
        check_value(kind, record)
    for record in reading.records:
        if record.kind == "unknown":
            assert record.value
            assert len(record.value) % ENTRY == 0


def check_value(kind, record):
    if kind in INTEGERS:
        _, low, high = INTEGERS[kind]
        assert low <= record.value <= high
    else:
        assert isinstance(record.value, bytes)
        assert len(record.value) <= 508000
    assert kind == "blob" or not record.legacy_blob
    assert kind == "string" or record.terminated


# --- bytes ------------------------------------------------------------------------------------------


@settings(quick, max_examples=100)
@given(st.binary(max_size=64), st.integers(0, 3 * PAGE))
def test_any_bytes(pattern, size):
    check((pattern * (size // max(len(pattern), 1) + 1))[:size])


@settings(quick, max_examples=60)
@given(
    st.randoms(use_true_random=False),
    st.integers(1, 4),
    st.sampled_from([ACTIVE, FULL, FREEING]),
)
def test_random_entries_under_a_sound_header(random, count, state):
    image = b"".join(page([random.randbytes(126 * ENTRY)], state, sequence) for sequence in range(count))
    check(image + BLANK)


def sound_image():
    text = (MARK + "-" * 58 + "\0").encode()
    first = [NS, define(b"two", 2), string(b"s", text), blob(b"b", text * 2), number(b"n", 77, U16)]
    second = [
        blob(b"b", text * 3, start=0x80, namespace=2),
        sized(b"v", BLOB_V1, text),
        string(b"t", text, 2),
    ]
    return page(first, FULL) + page([*second, number(b"last", 5)], sequence=1) + BLANK


SOUND = sound_image()
USED = [*range(64 + 12 * ENTRY), *range(PAGE, PAGE + 64 + 16 * ENTRY), 2 * PAGE, 2 * PAGE + 40, 2 * PAGE + 64]


def test_sound_image_is_read_as_it_is():
    reading = check(SOUND)
    assert [p.level for p in reading.problems] == ["info"]
    assert [(e.namespace, e.key) for e in reading.entries] == [
        ("ns", "s"),
        ("ns", "b"),
        ("ns", "n"),
        ("two", "b"),
        ("ns", "v"),
        ("two", "t"),
        ("ns", "last"),
    ]


def test_every_byte_that_is_used_can_be_wrong():
    """Whatever byte changes, every entry reads as it was or is gone, and a loss is an error."""
    sound = {(e.namespace, e.key): e.value for e in read_partition(SOUND).entries}
    for offset in USED:
        for mask in (0x01, 0x10, 0xFF):
            image = bytearray(SOUND)
            image[offset] ^= mask
            reading = check(bytes(image))
            for entry in reading.entries:
                assert sound[entry.namespace, entry.key] == entry.value, (offset, mask)
            lost = sound.keys() - {(e.namespace, e.key) for e in reading.entries}
            assert not lost or reading.problems, (offset, mask)


@settings(quick, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(USED), st.integers(0, 255)), min_size=1, max_size=12))
def test_several_wrong_bytes(changes):
    image = bytearray(SOUND)
    for offset, value in changes:
        image[offset] = value
    check(bytes(image))


@settings(quick, max_examples=60)
@given(st.integers(0, len(SOUND)))
def test_cut_image(size):
    check(SOUND[:size])


@settings(quick, max_examples=100)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_pages_repeated_missing_and_in_any_order(order):
    check(b"".join(SOUND[n * PAGE : (n + 1) * PAGE] for n in order))


# --- structure: everything has its right CRC-32 but makes no sense together --------------------------

keys = st.sampled_from([b"a", b"a", b"b", b"", b"k" * 15, b"k" * 16, b"a\0\xff"])
spaces = st.sampled_from([1, 1, 1, 2, 0, 9, 255])
chunks = st.sampled_from([0, 0, 1, 2, 0x80, 0x81, 253, 254, 5])
contents = st.sampled_from([b"", b"x", b"x\0", MARK.encode() * 6, bytes(33)])
crcs = st.sampled_from([None, None, None, 0])


@st.composite
def odd_headers(draw):
    code = draw(st.sampled_from([U8, STRING, BLOB_V1, CHUNK, INDEX, 0x77, 0xFF]))
    span, chunk = draw(st.sampled_from([0, 1, 2, 3, 126, 255])), draw(st.sampled_from([0, 1, 0x80, 0xFF]))
    data = struct.pack("<HHI", draw(st.integers(0, 5000)), 0, SEED)
    return header(draw(spaces), code, span, chunk, draw(keys), data)


@st.composite
def whole_blobs(draw):
    key, namespace, start = draw(keys), draw(spaces), draw(st.sampled_from([0, 0x80, 253, 5]))
    parts = draw(st.lists(contents, max_size=3))
    numbers = [min(start + n, 254) for n in range(len(parts))]
    entries = [
        sized(key, CHUNK, part, namespace, chunk, draw(crcs))
        for part, chunk in zip(parts, numbers, strict=True)
    ]
    entries.append(index(key, sum(map(len, parts)), len(parts), start, namespace))
    if draw(st.booleans()):
        entries.append(sized(key, BLOB_V1, draw(contents), namespace))
    return b"".join(draw(st.permutations(entries)))


items = st.one_of(
    st.builds(number, keys, st.integers(0, 255), st.just(U8), spaces, st.sampled_from([0xFF, 0xFF, 0])),
    st.builds(define, st.sampled_from([b"ns", b"two", b"x"]), st.sampled_from([1, 2, 9, 0, 255])),
    st.builds(sized, keys, st.sampled_from([STRING, BLOB_V1]), contents, spaces, st.just(0xFF), crcs),
    st.builds(sized, keys, st.just(CHUNK), contents, spaces, chunks, crcs),
    st.builds(index, keys, st.sampled_from([0, 1, 33, 36]), st.integers(0, 3), chunks, spaces),
    whole_blobs(),
    odd_headers(),
)


@st.composite
def pages(draw, sequence):
    entries = [NS, define(b"two", 2)] if sequence == 0 else []
    entries += draw(st.lists(items, max_size=14))
    state = draw(st.sampled_from([ACTIVE, ACTIVE, FULL, FULL, FREEING, CORRUPT]))
    states = draw(st.dictionaries(st.integers(0, 30), st.integers(0, 3), max_size=2))
    number_of_page = draw(st.sampled_from([sequence, sequence, 0, 0xFFFFFFFF]))
    return page(entries, state, number_of_page, states, draw(st.sampled_from([0xFE, 0xFE, 0xFE, 0xFF])))


partitions = st.integers(1, 3).flatmap(lambda count: st.tuples(*[pages(n) for n in range(count)]))


@settings(quick, max_examples=500)
@given(partitions, st.booleans())
def test_entries_that_make_no_sense_together(made, free):
    check(b"".join(made) + BLANK * free)


# --- power failures ---------------------------------------------------------------------------------


class Flash:
    """Flash that the library's writes go to, one by one; each can be the last, and be cut itself."""

    def __init__(self, image):
        self.image = bytearray(image)
        self.cut_images = []

    def write(self, offset, data):
        """Clear bits; keep what there is when the power fails after each byte, or word of long data."""
        for size in range(0, len(data) + 1, 1 if len(data) <= ENTRY else 4):
            cut = bytearray(self.image)
            for place, byte in enumerate(data[:size], offset):
                cut[place] &= byte
            self.cut_images.append(bytes(cut))
        self.image = cut

    def mark(self, first, end, state, start=0):
        """Set the states of entries, from the last to the first, a word at a time."""
        for word in range((end - 1) // 16, first // 16 - 1, -1):
            bits = 0xFFFFFFFF
            for entry in range(max(first, word * 16), min(end, word * 16 + 16)):
                bits &= ~((3 ^ state) << entry % 16 * 2)
            self.write(start + 32 + word * 4, struct.pack("<I", bits))

    def write_entries(self, first, data, start=0):
        self.write(start + at(first), data)
        self.mark(first, first + len(data) // ENTRY, IS_WRITTEN, start)

    def write_item(self, first, data, start=0):
        """Write a header, then all full entries of data, then the rest, as ``Page::writeItem``."""
        self.write_entries(first, data[:ENTRY], start)
        if len(data) > ENTRY:
            self.write_entries(first + 1, data[ENTRY:], start)


@pytest.mark.parametrize("lengths", [(1, 1), (100, 10), (10, 900), (900, 100)])
def test_power_failure_while_a_string_is_replaced(lengths):
    old, new = (string(b"s", bytes([65 + n]) * length + b"\0") for n, length in enumerate(lengths))
    first = 2 + len(old) // ENTRY
    flash = Flash(page([NS, number(b"n", 1), old]) + BLANK)
    flash.write_item(first, new)
    flash.mark(2, first, IS_ERASED)
    for image in flash.cut_images:
        reading = check(image)
        assert not reading.loses_entries
        values = {e.key: e.value for e in reading.entries}
        assert values in ({"n": 1, "s": "A" * lengths[0]}, {"n": 1, "s": "B" * lengths[1]})
    assert values["s"] == "B" * lengths[1]
    assert check(flash.image).problems == ()


def test_power_failure_while_a_blob_on_another_page_is_replaced():
    flash = Flash(page([NS, blob(b"b", b"A" * 70), number(b"n", 1)], FULL) + page([], sequence=1) + BLANK)
    flash.write_item(0, sized(b"b", CHUNK, b"B" * 99, chunk=0x80), PAGE)
    flash.write_item(5, index(b"b", 99, 1, start=0x80), PAGE)
    flash.mark(5, 6, IS_ERASED)
    flash.mark(1, 5, IS_ERASED)
    for image in flash.cut_images:
        reading = check(image)
        assert not reading.loses_entries
        assert [e.key for e in reading.entries] in (["b", "n"], ["n", "b"])
    assert check(flash.image).problems == ()


@pytest.mark.parametrize("spare", [1, 2])
def test_power_failure_while_a_page_is_freed(spare):
    entries = [NS, string(b"s", b"text\0"), blob(b"b", b"abc"), number(b"n", 77, U16)]
    flash = Flash(page(entries, FULL) + BLANK * spare)
    flash.write(0, struct.pack("<I", FREEING))
    flash.write(PAGE, page([], sequence=1)[:ENTRY])
    for number_of_entry in range(len(b"".join(entries)) // ENTRY):
        flash.write_entries(number_of_entry, b"".join(entries)[number_of_entry * ENTRY :][:ENTRY], PAGE)
    for image in flash.cut_images:
        reading = check(image)
        assert sorted((e.key, e.value) for e in reading.entries) == [("b", b"abc"), ("n", 77), ("s", "text")]
        assert not reading.loses_entries
    flash.image[:PAGE] = BLANK
    assert check(bytes(flash.image)).problems == ()

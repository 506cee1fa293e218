"""Changing partitions: what is put back gives the same bytes, and nothing else is touched."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nvs_oracle import HEADER, INTEGERS, csvs, old_generator

from esp_at_tools.errors import EspAtError, FormatError, InputError
from esp_at_tools.formats.nvs import NvsEntry, NvsKeys, NvsPartition
from esp_at_tools.formats.nvs.csv import dump_csv
from esp_at_tools.formats.nvs.reader import NvsRecord, read_partition
from esp_at_tools.formats.nvs.writer import OLD_STYLE, write_partition

KEYS = NvsKeys(bytes(range(32)), bytes(range(50, 82)))
ROWS = (
    HEADER + "first,namespace,,\na,data,u8,1\nb,data,string,text\nc,data,binary,blob\n"
    "second,namespace,,\nd,data,i64,-5\nlast,namespace,,\ne,data,u16,9\n"
)
relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def partition() -> NvsPartition:
    return NvsPartition.from_csv(ROWS, 0x4000)


def names(partition: NvsPartition) -> list[str]:
    return [f"{entry.namespace}/{entry.key}" for entry in partition.entries]


def images(text: str, size: int) -> list[tuple[bytes, NvsKeys | None]]:
    """What the generators of all times make of a CSV, plain and encrypted, of both versions."""
    made: list[tuple[bytes, NvsKeys | None]] = []
    for version in (1, 2):
        try:
            records = NvsPartition.from_csv(text, size, version=version)._records
        except EspAtError:
            continue
        made.append((write_partition(records, size, version=version), None))
        made.append((write_partition(records, size, version=version, style=OLD_STYLE), None))
        made.append((write_partition(records, size, version=version, keys=KEYS), KEYS))
    return made


@settings(relaxed, max_examples=60)
@given(text=csvs(), size=st.sampled_from([0x3000, 0x8000, 0x1F000]), seed=st.integers(0, 1 << 30))
def test_a_change_and_its_reverse_give_the_first_bytes(text: str, size: int, seed: int) -> None:
    """Across two runs of a program: the changed image is read again before the change is taken back."""
    for image, keys in images(text, size):
        chance = random.Random(seed)
        partition = NvsPartition.from_bytes(image, keys=keys)
        before = partition.entries
        assert partition.to_bytes() == image
        changed = chance.sample(before, min(3, len(before)))
        for entry in changed:
            if chance.random() < 0.5:
                partition.set(entry.namespace, entry.key, "u8", 77)
            else:
                assert partition.remove(entry.namespace, entry.key)
        if chance.random() < 0.5:
            partition.set("new", "key", "u8", 1)
        try:
            middle = partition.to_bytes()
        except InputError as error:
            assert "does not fit" in error.message  # noqa: PT017 - then there is nothing to take back
            continue
        assert len(middle) == len(image)
        partition = NvsPartition.from_bytes(middle, keys=keys)
        assert not partition.loses_entries
        partition.remove("new", "key")
        for entry in before:  # in their order, so that namespaces come back in it
            if entry in changed:
                order = [other.key for other in before if other.namespace == entry.namespace]
                partition.set(entry.namespace, entry.key, entry.type, entry.value, order=order)
        assert partition.entries == before
        assert partition.to_bytes() == image


def test_the_style_of_older_generators_is_kept() -> None:
    image = old_generator(ROWS, 0x8000)
    partition = NvsPartition.from_bytes(image)
    partition.set("first", "a", "u8", 2)
    changed = partition.to_bytes()
    assert [changed[page : page + 4] for page in range(0, 0x7000, 4096)] == [b"\xfc\xff\xff\xff"] * 7
    assert sum(left != right for left, right in zip(changed, image, strict=True)) < 8  # the value and a CRC
    partition.set("first", "a", "u8", 1)
    assert partition.to_bytes() == image


@pytest.mark.parametrize("kind", ["worn", "power-loss", "crafted"])
def test_what_a_device_has_written_to(shared: Path, kind: str) -> None:
    paths = sorted((shared / "nvs" / kind).glob("*.bin"))
    assert paths
    changed = 0
    for path in paths:
        image = path.read_bytes()
        partition = NvsPartition.from_bytes(image)
        before = partition.entries
        assert partition.to_bytes() == image
        if not partition.opened:
            with pytest.raises(InputError, match="does not open"):
                partition.set("new", "key", "u8", 1)
            continue
        partition.set("new", "key", "u8", 1)
        try:
            after = NvsPartition.from_bytes(partition.to_bytes())
        except InputError as error:
            assert "does not fit" in error.message  # noqa: PT017 - some are full
        else:
            assert after.size == len(image)
            assert set(after.entries) == {*before, NvsEntry("new", "key", "u8", 1)} or len(image) == 4096, (
                path
            )
            changed += 1
        assert partition.remove("new", "key")
        assert partition.to_bytes() == image
    assert changed > len(paths) / 2


@pytest.mark.parametrize("kind", ["worn", "power-loss"])
def test_what_a_device_has_written_to_survives_as_csv(shared: Path, kind: str) -> None:
    for path in sorted((shared / "nvs" / kind).glob("*.bin")):
        partition = NvsPartition.from_bytes(path.read_bytes())
        text = dump_csv(partition.entries, partition.namespaces)
        back = NvsPartition.from_csv(text, partition.size + 0x2000)
        assert set(back.entries) == set(partition.entries)
        assert not back.problems


def test_official_partitions_patched_and_back(shared: Path) -> None:
    for path in sorted(shared.glob("esp-at/v*/expected/*/*/mfg_nvs.bin")):
        image = path.read_bytes()
        for start in (image, write_partition(read_partition(image).records, len(image), style=OLD_STYLE)):
            partition = NvsPartition.from_bytes(start)
            old = partition.get("factory_param", "uart_baudrate")
            partition.set("factory_param", "uart_baudrate", "i32", 9600)
            partition.set("other", "key", "blob", bytes(5000))
            partition = NvsPartition.from_bytes(partition.to_bytes())
            partition.set("factory_param", "uart_baudrate", "i32", old.value)
            assert partition.remove("other", "key")
            assert partition.to_bytes() == start


def test_get(partition: NvsPartition) -> None:
    assert partition.get("first", "b") == NvsEntry("first", "b", "string", "text")
    assert partition.get("second", "d") == NvsEntry("second", "d", "i64", -5)
    assert partition.get("first", "d") is None
    assert partition.get("none", "d") is None
    assert partition.get("first", "\ud800") is None
    assert partition.namespaces == ("first", "second", "last")


def test_set_replaces_in_place_with_another_type(partition: NvsPartition) -> None:
    partition.set("first", "a", "string", "now text")
    assert names(partition)[:2] == ["first/a", "first/b"]
    assert NvsPartition.from_bytes(partition.to_bytes()).get("first", "a").value == "now text"


def test_a_new_key_goes_to_the_end_of_its_namespace(partition: NvsPartition) -> None:
    partition.set("first", "z", "u8", 1)
    partition.set("new", "y", "u8", 1)
    assert names(partition) == [
        "first/a", "first/b", "first/c", "first/z", "second/d", "last/e", "new/y",
    ]  # fmt: skip
    assert names(NvsPartition.from_bytes(partition.to_bytes())) == names(partition)


def test_a_new_key_goes_where_the_order_says(partition: NvsPartition) -> None:
    partition.set("first", "b0", "u8", 1, order=["a", "b0", "b", "c"])
    partition.set("first", "z", "u8", 1, order=["a", "z"])
    partition.set("first", "_", "u8", 1, order=["_", "a"])
    partition.set("first", "free", "u8", 1, order=["a"])
    assert names(partition)[:7] == [f"first/{key}" for key in ("_", "a", "b0", "b", "c", "z", "free")]


def test_an_unchanged_value_changes_nothing(partition: NvsPartition) -> None:
    image = partition.to_bytes()
    for entry in partition.entries:
        partition.set(entry.namespace, entry.key, entry.type, entry.value)
    assert partition.to_bytes() is image


def test_remove_keeps_the_namespace_unless_nothing_follows(partition: NvsPartition) -> None:
    assert not partition.remove("first", "d")
    assert not partition.remove("none", "d")
    assert partition.remove("second", "d")
    assert partition.namespaces == ("first", "second", "last")
    assert partition.remove("last", "e")
    assert partition.namespaces == ("first",)
    assert NvsPartition.from_bytes(partition.to_bytes()).namespaces == ("first",)


def test_an_empty_namespace_that_was_there_stays() -> None:
    image = NvsPartition.from_csv(ROWS + "empty,namespace,,\n", 0x4000).to_bytes()
    partition = NvsPartition.from_bytes(image)
    partition.set("new", "key", "u8", 1)
    partition = NvsPartition.from_bytes(partition.to_bytes())
    partition.remove("new", "key")
    assert partition.to_bytes() == image


def test_namespaces_get_the_lowest_free_index_and_run_out() -> None:
    partition = NvsPartition.empty(0x8000)
    for number in range(254):
        partition.set(f"n{number}", "k", "u8", 1)
    with pytest.raises(InputError, match="254 namespaces"):
        partition.set("one more", "k", "u8", 1)
    assert len(NvsPartition.from_bytes(partition.to_bytes()).entries) == 254


def test_unknown_entries_survive() -> None:
    """An integer with a chunk index is kept by the firmware, which cannot read it."""
    start, end = bytes((1, 0x01, 1, 0)), b"odd".ljust(16, b"\0") + b"\5" + b"\xff" * 7
    raw = start + zlib.crc32(end, zlib.crc32(start, 0xFFFFFFFF)).to_bytes(4, "little") + end
    records = [
        NvsRecord("namespace", 1, b"n", "", 0),
        NvsRecord("entry", 1, b"a", "u8", 1),
        NvsRecord("unknown", 1, b"odd", "", raw),
        NvsRecord("entry", 1, b"b", "u8", 1),
    ]
    image = write_partition(records, 0x3000)
    partition = NvsPartition.from_bytes(image)
    partition.set("n", "a", "u8", 2)
    partition.set("n", "c", "u8", 3)
    changed = partition.to_bytes()
    assert changed[64 + 64 : 64 + 96] == raw
    assert names(partition) == names(NvsPartition.from_bytes(changed)) == ["n/a", "n/b", "n/c"]
    partition.remove("n", "c")
    partition.set("n", "a", "u8", 1)
    assert partition.to_bytes() == image


def test_two_types_under_one_key_become_one() -> None:
    """Only a partition of several pages, which a device has not written, can hold both."""
    records = [
        NvsRecord("namespace", 1, b"n", "", 0),
        NvsRecord("entry", 1, b"a", "u8", 1),
        *(NvsRecord("entry", 1, b"k%d" % number, "u8", 1) for number in range(124)),
        NvsRecord("entry", 1, b"a", "i32", 2),
        NvsRecord("entry", 1, b"z", "u8", 3),
    ]
    partition = NvsPartition.from_bytes(write_partition(records, 0x4000))
    assert names(partition).count("n/a") == 2
    partition.set("n", "a", "u16", 9)
    assert names(partition).count("n/a") == 1
    assert NvsPartition.from_bytes(partition.to_bytes()).get("n", "a") == NvsEntry("n", "a", "u16", 9)


def test_a_copy_is_independent(partition: NvsPartition) -> None:
    image = partition.to_bytes()
    twin = partition.copy()
    twin.set("first", "a", "u8", 2)
    twin.set("new", "k", "u8", 2)
    twin.remove("second", "d")
    assert partition.to_bytes() == image
    assert partition.get("new", "k") is None
    other = partition.copy()
    other.set("first", "a", "u8", 1)
    assert other.to_bytes() == image
    assert NvsPartition.from_bytes(twin.to_bytes()).get("first", "a").value == 2


def test_an_encrypted_partition_stays_encrypted() -> None:
    image = NvsPartition.from_csv(ROWS, 0x4000, keys=KEYS).to_bytes()
    partition = NvsPartition.from_bytes(image, keys=KEYS)
    assert partition.encrypted
    partition.set("first", "b", "string", "a secret text")
    changed = partition.to_bytes()
    assert b"secret" not in changed
    assert NvsPartition.from_bytes(changed, keys=KEYS).get("first", "b").value == "a secret text"
    partition.set("first", "b", "string", "text")
    assert partition.to_bytes() == image


def test_version_1_keeps_blobs_in_one_piece() -> None:
    image = NvsPartition.from_csv(ROWS, 0x4000, version=1).to_bytes()
    partition = NvsPartition.from_bytes(image)
    assert partition.version == 1
    partition.set("first", "c", "blob", b"other" * 300)
    assert NvsPartition.from_bytes(partition.to_bytes()).version == 1
    partition.set("first", "c", "blob", b"blob")
    assert partition.to_bytes() == image
    partition.set("first", "c", "blob", bytes(4001))
    with pytest.raises(InputError, match="4001 bytes"):
        partition.to_bytes()


def test_chunks_in_pages_of_version_1_stay_chunks() -> None:
    """No generator writes them so, but the firmware reads them."""
    image = bytearray(NvsPartition.from_csv(ROWS, 0x4000).to_bytes())
    partition = NvsPartition.from_bytes(bytes(image))
    partition.set("first", "large", "blob", bytes(5000))
    image[:] = partition.to_bytes()
    for page in range(0, 0x2000, 4096):
        image[page + 8] = 0xFF
        image[page + 28 : page + 32] = zlib.crc32(image[page + 4 : page + 28], 0xFFFFFFFF).to_bytes(
            4, "little"
        )
    partition = NvsPartition.from_bytes(bytes(image))
    assert partition.version == 1
    partition.set("first", "a", "u8", 2)
    assert NvsPartition.from_bytes(partition.to_bytes()).get("first", "large").value == bytes(5000)


def test_what_only_a_device_writes_comes_back_as_it_was() -> None:
    records = [
        NvsRecord("namespace", 1, b"n", "", 0),
        NvsRecord("entry", 1, b"old", "blob", b"one piece", legacy_blob=True),
        NvsRecord("entry", 1, b"open", "string", b"no NUL", terminated=False),
    ]
    image = write_partition(records, 0x3000)
    partition = NvsPartition.from_bytes(image)
    partition.set("n", "old", "blob", b"other")
    partition.set("n", "open", "string", "other")
    assert NvsPartition.from_bytes(partition.to_bytes()).problems == ()
    partition.set("n", "old", "blob", b"one piece")
    partition.set("n", "open", "string", "no NUL")
    assert partition.to_bytes() == image


def test_a_loose_end_and_read_only_sizes_are_kept() -> None:
    image = NvsPartition.from_csv(ROWS, 0x3000).to_bytes()
    for data in (image + b"loose end", image[:0x1000], image[:0x1000] + b"\xff" * 0x1000):
        partition = NvsPartition.from_bytes(data)
        if not partition.opened:
            continue
        partition.set("first", "a", "u8", 9)
        changed = partition.to_bytes()
        assert len(changed) == len(data)
        assert changed[0x3000:] == data[0x3000:]
        partition.set("first", "a", "u8", 1)
        assert partition.to_bytes() == data


def test_a_partition_can_be_made_by_hand() -> None:
    partition = NvsPartition.empty(0x3000)
    partition.set("first", "a", "u8", 1)
    partition.set("first", "b", "string", "text")
    partition.set("first", "c", "blob", b"blob")
    partition.set("second", "d", "i64", -5)
    partition.set("last", "e", "u16", 9)
    assert partition.to_bytes() == NvsPartition.from_csv(ROWS, 0x3000).to_bytes()


def test_read_only_sizes_from_csv_hold_their_entries() -> None:
    for size in (0x1000, 0x2000):
        partition = NvsPartition.from_csv(ROWS, size)
        assert len(partition.entries) == 5
        assert partition.opened
        assert len(partition.to_bytes()) == 0x1000
        assert not partition.problems


def test_usage(partition: NvsPartition) -> None:
    usage = partition.usage()
    # three namespaces, three integers, string and blob of two entries each, the blob's index
    assert (usage.entries_used, usage.entries_total) == (11, 3 * 126)
    assert usage.free_bytes == (378 - 11) * 32
    partition.set("first", "z", "blob", bytes(64))
    assert partition.usage().entries_used == 15
    assert NvsPartition.from_bytes(b"\xff" * 4096 * 3).usage().entries_used == 0
    assert NvsPartition.from_bytes(bytes(4096 * 3)).usage().entries_used == 0


def test_what_does_not_fit_is_told_with_numbers(partition: NvsPartition) -> None:
    image = partition.to_bytes()
    partition.set("first", "large", "blob", bytes(20000))
    with pytest.raises(InputError, match=r"\d+ entries of 32 bytes are needed and 378 are available"):
        partition.to_bytes()
    assert partition.remove("first", "large")
    assert partition.to_bytes() == image


@pytest.mark.parametrize(
    ("namespace", "key", "kind", "value", "message"),
    [
        ("", "a", "u8", 1, "0 bytes"),
        ("n" * 16, "a", "u8", 1, "16 bytes"),
        ("n", "", "u8", 1, "0 bytes"),
        ("n", "é" * 8, "u8", 1, "16 bytes"),
        ("n", "a\0", "u8", 1, "cannot be stored"),
        ("n", "\ud800", "u8", 1, "cannot be stored"),
        ("n", "a", "u9", 1, "no NVS type 'u9'"),
        ("n", "a", "u8", "1", "not str"),
        ("n", "a", "u8", True, "not bool"),
        ("n", "a", "string", 1, "not int"),
        ("n", "a", "string", b"x", "not bytes"),
        ("n", "a", "blob", "x", "not str"),
        ("n", "a", "string", "x" * 4000, "4000 bytes"),
        ("n", "a", "string", "é" * 2000, "4000 bytes"),
        ("n", "a", "string", "a\0b", "NUL"),
        ("n", "a", "string", "\ud800", "UTF-8"),
    ],
)
def test_impossible_values_are_refused_and_change_nothing(
    partition: NvsPartition, namespace: str, key: str, kind: str, value: object, message: str
) -> None:
    image = partition.to_bytes()
    with pytest.raises(InputError, match=message) as caught:
        partition.set(namespace, key, kind, value)
    assert caught.value.hint
    assert partition.to_bytes() == image


@pytest.mark.parametrize("kind", list(INTEGERS))
def test_integers_to_their_limits(partition: NvsPartition, kind: str) -> None:
    signed, bits = INTEGERS[kind]
    low = -(1 << (bits - 1)) if signed else 0
    high = low + (1 << bits) - 1
    for value in (low, high, 0):
        partition.set("first", "i", kind, value)
        assert NvsPartition.from_bytes(partition.to_bytes()).get("first", "i").value == value
    for value in (low - 1, high + 1):
        with pytest.raises(InputError, match=f"does not fit in {kind}"):
            partition.set("first", "i", kind, value)


def test_the_longest_string_fits(partition: NvsPartition) -> None:
    partition.set("first", "s", "string", "x" * 3999)
    assert NvsPartition.from_bytes(partition.to_bytes()).get("first", "s").value == "x" * 3999


def test_less_than_a_page_is_refused() -> None:
    with pytest.raises(FormatError):
        NvsPartition.from_bytes(bytes(4095))


@settings(relaxed, max_examples=150)
@given(
    flips=st.lists(st.tuples(st.integers(0, 0x3FFF), st.integers(1, 255)), min_size=1, max_size=12),
    old=st.booleans(),
)
def test_damaged_images_can_be_read_and_changed(flips: list[tuple[int, int]], *, old: bool) -> None:
    image = bytearray(old_generator(ROWS, 0x4000) if old else NvsPartition.from_csv(ROWS, 0x4000).to_bytes())
    for offset, change in flips:
        image[offset] ^= change
    partition = NvsPartition.from_bytes(bytes(image))
    assert partition.to_bytes() == image
    before = partition.entries
    try:
        partition.set("new", "key", "u8", 1)
        after = NvsPartition.from_bytes(partition.to_bytes())
    except InputError:
        return
    assert set(before) <= set(after.entries)
    assert after.get("new", "key").value == 1
    partition.remove("new", "key")
    assert partition.to_bytes() == image

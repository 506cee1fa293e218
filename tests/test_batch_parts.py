"""The parts of a batch: ids, addresses, tables of digests, progress."""

from __future__ import annotations

import random

import pytest

from esp_at_tools.batch.digests import DigestTable
from esp_at_tools.batch.ids import MAX_ID_SIZE, check_id, check_mac, id_digest, mac_digest, shard_of
from esp_at_tools.batch.run import Progress
from esp_at_tools.cli.batch_progress import described, duration
from esp_at_tools.errors import InputError


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "0",
        "_x",
        "dev-001",
        "C4_0A.24",
        "unit 7 (b)",
        "设备-001",
        "é",
        "con1",
        "a" * MAX_ID_SIZE,
        "x" * 150,
    ],
)
def test_ids(text):
    assert check_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        ".a",
        "-a",
        "=1",
        "+1",
        "@a",
        " a",
        "a ",
        "a.",
        "a/b",
        "a\\b",
        "a:b",
        "a*",
        "a?",
        'a"',
        "a<b",
        "a|b",
        "a\n",
        "a\0",
        "a\u202eb",
        "con",
        "NUL",
        "Aux.txt",
        "com1",
        "LPT9.x",
        "prn",
        "CONIN$",
        "a" * (MAX_ID_SIZE + 1),
        "é" * 101,
        "%2e",
        "~",
        "a,b",
    ],
)
def test_ids_that_are_no_names_of_files(text):
    with pytest.raises(InputError):
        check_id(text)


def test_ids_that_some_system_takes_for_one():
    for one, other in (("Dev", "dEV"), ("é", "e\u0301"), ("ﬁ", "fi"), ("straße", "STRASSE")):
        assert id_digest(one) == id_digest(other)
    assert id_digest("a") != id_digest("b")


@pytest.mark.parametrize("text", ["c40a24fe1001", "C4:0A:24:FE:10:01", "c4-0a-24-fe-10-01", "C40A.24FE.1001"])
def test_addresses(text):
    assert check_mac(text) == "c4:0a:24:fe:10:01"


@pytest.mark.parametrize(
    "text",
    [
        "c4:0a:24:fe:10",
        "c4:0a-24:fe:10:01",
        "c4:0a:24:fe:10:0g",
        "c5:0a:24:fe:10:01",
        "00:00:00:00:00:00",
        "000000000000",
        " c40a24fe1001",
        "c40a24fe1001\n",
        "ff:ff:ff:ff:ff:ff",
        "",
        "c40a24fe100102",
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(InputError):
        check_mac(text)


def test_shards_are_alike_in_size():
    counts = [0] * 7
    for number in range(7000):
        counts[shard_of(id_digest(f"device {number}"), 7) - 1] += 1
    assert min(counts) > 850


@pytest.mark.parametrize("expected", [0, 1, 511, 512, 2**13, 20_000])
def test_a_table_of_digests_is_a_dict(expected):
    rng = random.Random(1)
    table, known = DigestTable(expected), {}
    for row in range(1, 20_000):
        digest = mac_digest(f"{rng.randrange(2**13):012x}")
        assert table.add(digest, row) == known.get(digest, 0)
        known.setdefault(digest, row)
    assert len(table) == len(known)
    assert all(table.get(digest) == row for digest, row in known.items())
    assert table.get(id_digest("absent")) == 0


def test_a_table_does_not_grow_while_there_are_as_many_as_expected():
    for expected in (600, 1023, 1024, 5000):
        table = DigestTable(expected)
        size = len(table._slots)
        for number in range(expected):
            table.add(id_digest(str(number)), number + 1)
        assert len(table._slots) == size


def test_progress():
    progress = Progress(rows=1000, row=500, first=300, done=190, failed=10, seconds=4.0)
    assert progress.rate == 50
    assert progress.remaining == 10
    assert described(progress) == "50 devices/s, 0:10 left, 10 failed"
    assert described(Progress(10)) == "0 devices/s"
    assert [duration(seconds) for seconds in (0.4, 61, 3723)] == ["0:00", "1:01", "1:02:03"]

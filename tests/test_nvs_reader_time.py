"""How long the NVS reader takes, and when it gives an image up."""

from __future__ import annotations

import time

import pytest
from nvs_images import (
    BLANK,
    CHUNK,
    FULL,
    NS,
    blob,
    define,
    index,
    number,
    page,
    read,
    sized,
)

from esp_at_tools.formats.nvs.reader import read_partition


def seconds(image):
    start = time.process_time()
    reading = read_partition(image)
    return time.process_time() - start, reading


def test_full_partition_is_read_to_the_end():
    pages = [page([NS] + [number(b"%d" % (n * 200 + m), m) for m in range(125)], FULL, n) for n in range(120)]
    pages += [
        page([index(b"e%d" % (n * 200 + m), 0, 0) for m in range(126)], FULL, n + 200) for n in range(60)
    ]
    pages += [page([blob(b"f%d" % (n * 200 + m), b"") for m in range(63)], FULL, n + 300) for n in range(60)]
    reading = read(*pages, BLANK)
    assert len(reading.entries) == 120 * 125 + 60 * 126 + 60 * 63
    assert not reading.loses_entries


def hidden_indexes():
    first = [NS, number(b"a", 5)]
    return [page(first + [index(b"a", 5, 1)] * (124 * (n > 128)), FULL, n) for n in range(255)]


def many_broken_reads():
    """A blob of 255 chunks, of which the last is damaged and there again and again."""

    def chunk(number_of_chunk, crc=None):
        return sized(b"a", CHUNK, b"", chunk=number_of_chunk, crc=crc)

    pages = [[NS, index(b"a", 0, 255)] + [chunk(n) for n in range(124)]]
    pages.append([chunk(n) for n in range(124, 250)])
    pages.append([chunk(n) for n in range(250, 254)] + [chunk(0)] * 122)
    pages.append([chunk(0)] * 5)
    pages += [[chunk(128)] * 60 + [chunk(254, crc=1)] * 60 for _ in range(250)]
    return [page(entries, FULL, n) for n, entries in enumerate(pages)]


def indexes_by_chunks():
    indexes, chunks = [NS] + [index(b"a", 5, 1, 200)] * 125, [NS] + [sized(b"a", CHUNK, b"", chunk=0)] * 125
    return [page(indexes if n % 2 else chunks, FULL, n) for n in range(255)]


def namespace_of_all():
    first = [define(b"all", 255), *[number(b"f%d" % n, 1, namespace=2) for n in range(62)]]
    entries = [number(b"%d" % n, 1, namespace=255) for n in range(255 * 63)]
    return [page(first + entries[n * 63 : n * 63 + 63], FULL, n) for n in range(255)]


@pytest.mark.parametrize("made", [hidden_indexes, many_broken_reads, indexes_by_chunks, namespace_of_all])
def test_image_made_to_take_long_is_given_up(made):
    taken, reading = seconds(b"".join(made()) + BLANK)
    assert taken < 10
    assert reading.loses_entries
    assert any("given up" in p.message for p in reading.problems)


def test_sixteen_megabytes_of_anything():
    for image in (b"\xff" * (16 << 20), b"\0" * (16 << 20), bytes(range(256)) * (1 << 16)):
        taken, reading = seconds(image)
        assert taken < 10
        assert reading.entries == ()

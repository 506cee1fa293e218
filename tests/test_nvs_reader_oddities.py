"""Thousands of absurd NVS images, each of which has to read exactly as the firmware's library reads it.

The digests are those of what ``nvs_flash`` of ESP-IDF v5.4.4 itself makes of these images, compiled for
a PC over flash in memory: the lines of a listing, each entry read by its key in turn.
"""

from __future__ import annotations

import hashlib
import random

import pytest
from nvs_images import (
    ACTIVE,
    BLANK,
    BLOB_V1,
    CHUNK,
    ENTRY,
    FREEING,
    FULL,
    INDEX,
    STRING,
    define,
    header,
    index,
    page,
    raw,
    sized,
)

from esp_at_tools.formats.nvs.reader import read_partition

BATCH = 150
IMAGES = "0eec7104e676974c"
DIGESTS = [
    "751956e8b376e0d0",
    "6be0551d44a51faa",
    "83e88906c4a170f4",
    "4626fc3dc501bb6e",
    "a064af6c1a24c934",
    "959cf95d50500c3d",
    "a33e8299e1f6f422",
    "18e37570d17074a1",
    "916314b1132b4d6b",
    "c123fc1122fda3e5",
    "b135e1eb5d45257a",
    "724d068d364d9e5a",
    "28caa424b74fffa7",
    "6186d9631c0988b9",
    "1ac8a5d38986dd7b",
    "28e0b4ddf9df23aa",
    "8776109204af60d4",
    "8bb66efdfab94fc2",
    "0abe5877abb1aaf9",
    "e68823336dc441f4",
]

KEYS = [b"a", b"a", b"b", b"c", b"a\0\xff", b"abcdefghijklmno", b"abcdefghijklmnop"]
NAMESPACES = [1, 1, 1, 1, 2, 0, 255]
SIZES = [0, 0, 1, 10, 32, 33, 40]


def some_bytes(chance, size):
    return bytes(chance.randrange(256) for _ in range(size))


def checked(chance, key, code, data, namespace, chunk=0xFF):
    """An entry with data whose CRC-32 is wrong now and then."""
    return sized(key, code, data, namespace, chunk, 0x12345678 if chance.random() < 0.1 else None)


def odd_item(chance):
    """One entry, of a key that others have too."""
    namespace, key = chance.choice(NAMESPACES), chance.choice(KEYS)
    code = chance.choice([0x01, 0x01, 0x04, 0x14, STRING, BLOB_V1, CHUNK, CHUNK, CHUNK, INDEX, INDEX, 0x77])
    chunk = chance.choice([0, 1, 128]) if chance.random() < 0.04 else 0xFF
    if code == CHUNK:
        chunk = chance.choice([0, 0, 1, 2, 128, 129, 254, 253, 5])
    if code in (STRING, BLOB_V1, CHUNK):
        return checked(chance, key, code, some_bytes(chance, chance.choice(SIZES)), namespace, chunk)
    if code == INDEX:
        start, count = (
            chance.choice([0, 0, 0, 128, 128, 5, 253, 255, 1]),
            chance.choice([0, 1, 1, 1, 2, 2, 3]),
        )
        return index(key, chance.choice([0, 0, 10, 1, 32, 33, 40, 20, 42]), count, start, namespace)
    value = chance.choice([1, 2, 5, 255, 0]) if namespace == 0 else chance.randrange(256)
    return header(
        namespace, code, 1, chunk, key, bytes([value]) + b"\xff" * 4 + chance.choice([b"\0", b"\x80"])
    )


def odd_blob(chance):
    """The parts of a blob in any order, some of them twice and others not at all."""
    namespace, key = chance.choice([1, 1, 2, 255]), chance.choice([b"a", b"b", b"c", b"d"])
    start, count = chance.choice([0, 0, 128, 128, 253, 254, 5]), chance.choice([0, 1, 1, 2, 3])
    parts, size = [], 0
    for place in range(count):
        chosen = chance.randrange(count) if chance.random() < 0.15 else place
        data = some_bytes(chance, chance.choice([0, 1, 10, 33]))
        size += len(data)
        parts.append(checked(chance, key, CHUNK, data, namespace, min(start + chosen, 254)))
    parts.append(index(key, size, count, start, namespace))
    if chance.random() < 0.3:
        parts.append(checked(chance, key, BLOB_V1, some_bytes(chance, chance.choice(SIZES)), namespace))
    chance.shuffle(parts)
    return parts


def odd_definitions(chance):
    definitions = [define(b"n1", 1), define(b"n2", 2)]
    if chance.random() < 0.5:
        definitions.append(define(b"all", 255))
    if chance.random() < 0.1:
        definitions.append(header(0, chance.choice([2, STRING, INDEX]), 1, 0xFF, b"zz", bytes(8)))
    return definitions


def odd_page(chance, entries, sequence, *, last):
    states, used = {}, 0
    for place, entry in enumerate(entries):
        span = len(entry) // ENTRY
        if used + span > 126:
            entries = entries[:place]
            break
        if chance.random() < 0.03:
            states |= dict.fromkeys(range(used, used + span), chance.choice([0, 1, 3]))
        elif chance.random() < 0.02:
            states[used + span - 1] = 0
        used += span
    freed = [FREEING] * (chance.random() < 0.12)
    state = chance.choice([ACTIVE] * 3 + [FULL] * 2 + freed if last else [ACTIVE] + [FULL] * 3 + freed)
    return page(entries, state, chance.choice([sequence, sequence, sequence, 1, 5]), states)


def odd_image(seed):
    chance = random.Random(seed)
    count = chance.randrange(1, 4)
    pages, carried = [], odd_definitions(chance)
    for sequence in range(count):
        entries, carried = carried, []
        for _ in range(chance.choice([2, 5, 10, 20])):
            entries += odd_blob(chance) if chance.random() < 0.25 else [odd_item(chance)]
        last = sequence == count - 1
        if not last and chance.random() < 0.5:
            cut = chance.randrange(len(entries) + 1)
            entries, carried = entries[:cut], entries[cut:]
        pages.append(odd_page(chance, entries, sequence, last=last))
    return b"".join(pages) + BLANK * (chance.random() < 0.9)


def listing(image):
    reading = read_partition(image)
    if not reading.opened:
        return b"not opened\n"
    lines = []
    for entry in reading.entries:
        value = entry.value if isinstance(entry.value, bytes) else raw(str(entry.value))
        lines.append(
            b"%s/%s %s %s\n"
            % (raw(entry.namespace), raw(entry.key), entry.type.encode(), value.hex().encode())
        )
    return b"".join(lines)


def digest(batch):
    listings = (listing(odd_image(seed)) + b"\n" for seed in range(batch * BATCH, (batch + 1) * BATCH))
    return hashlib.sha256(b"".join(listings)).hexdigest()[:16]


@pytest.mark.parametrize(("batch", "expected"), list(enumerate(DIGESTS)))
def test_absurd_images_read_as_the_library_reads_them(batch, expected):
    assert digest(batch) == expected


def test_images_are_the_ones_that_the_digests_were_made_of():
    images = hashlib.sha256(b"".join(odd_image(seed) for seed in range(BATCH))).hexdigest()[:16]
    assert images == IMAGES

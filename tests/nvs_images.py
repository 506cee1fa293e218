"""NVS images built entry by entry, whatever is wrong with them, and how readings are looked at."""

from __future__ import annotations

import struct
import zlib

from esp_at_tools.formats.nvs.reader import read_partition

PAGE, ENTRY, COUNT = 4096, 32, 126
BLANK = b"\xff" * PAGE
ACTIVE, FULL, FREEING, CORRUPT, EMPTY = 0xFFFFFFFE, 0xFFFFFFFC, 0xFFFFFFF8, 0xFFFFFFF0, 0xFFFFFFFF
U8, I8, U16, I16, U32, I32, U64, I64 = 0x01, 0x11, 0x02, 0x12, 0x04, 0x14, 0x08, 0x18
STRING, BLOB_V1, CHUNK, INDEX = 0x21, 0x41, 0x42, 0x48
INTEGERS = {
    "u8": (U8, 0, 255),
    "i8": (I8, -128, 127),
    "u16": (U16, 0, 65535),
    "i16": (I16, -32768, 32767),
    "u32": (U32, 0, 2**32 - 1),
    "i32": (I32, -(2**31), 2**31 - 1),
    "u64": (U64, 0, 2**64 - 1),
    "i64": (I64, -(2**63), 2**63 - 1),
}
IS_EMPTY, IS_WRITTEN, IS_ILLEGAL, IS_ERASED = 3, 2, 1, 0
SEED = 0xFFFFFFFF


def header(namespace, code, span, chunk, key, data):
    head = struct.pack("<BBBB", namespace, code, span, chunk)
    tail = key.ljust(16, b"\0") + data.ljust(8, b"\xff")
    return head + struct.pack("<I", zlib.crc32(head + tail, SEED)) + tail


def number(key, value, code=U8, namespace=1, chunk=0xFF):
    return header(namespace, code, 1, chunk, key, value.to_bytes(code & 15, "little", signed=code > 0x10))


def define(name, index):
    return number(name, index, namespace=0)


def sized(key, code, data, namespace=1, chunk=0xFF, crc=None):
    crc = zlib.crc32(data, SEED) if crc is None else crc
    span = 1 + -(-len(data) // ENTRY)
    head = header(namespace, code, span, chunk, key, struct.pack("<HHI", len(data), 0xFFFF, crc))
    return head + data.ljust((span - 1) * ENTRY, b"\xff")


def string(key, data, namespace=1, **more):
    return sized(key, STRING, data, namespace, **more)


def index(key, size, count, start=0, namespace=1):
    return header(namespace, INDEX, 1, 0xFF, key, struct.pack("<IBBH", size, count, start, 0xFFFF))


def blob(key, data, start=0, namespace=1):
    return sized(key, CHUNK, data, namespace, chunk=start) + index(key, len(data), 1, start, namespace)


NS = define(b"ns", 1)


def page(entries, state=ACTIVE, sequence=0, states=None, version=0xFE):
    body = b"".join(entries)
    used = dict.fromkeys(range(len(body) // ENTRY), IS_WRITTEN) | (states or {})
    bitmap = sum(used.get(number, IS_EMPTY) << 2 * number for number in range(128))
    head = struct.pack("<IB19s", sequence, version, b"\xff" * 19)
    raw = struct.pack("<I", state) + head + struct.pack("<I", zlib.crc32(head, SEED))
    return (raw + bitmap.to_bytes(32, "little") + body).ljust(PAGE, b"\xff")


def flip(image, offset, mask=1):
    return image[:offset] + bytes([image[offset] ^ mask]) + image[offset + 1 :]


def at(entry, page_number=0, byte=0):
    return page_number * PAGE + 64 + entry * ENTRY + byte


def read(*pages):
    return read_partition(b"".join(pages))


def shown(reading):
    return [(e.namespace, e.key, e.type, e.value) for e in reading.entries]


def only_values(reading):
    return {entry.key: entry.value for entry in reading.entries}


def errors(reading):
    found = [(p.page, p.entry, p.message) for p in reading.problems if p.level == "error"]
    assert bool(found) == reading.loses_entries
    return found


def warnings(reading):
    """The warnings of a reading without errors."""
    assert not reading.loses_entries
    return [(p.page, p.entry, p.message) for p in reading.problems if p.level == "warning"]


def raw(text):
    return text.encode("utf-8", "surrogateescape")

"""What a file is when it is not a firmware that can be worked on, and what to give instead."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.formats.app_image import AppImage
from esp_at_tools.formats.partition_table import TABLE_SIZE

IMAGE_MAGIC = 0xE9
APP_DESC_MAGIC = struct.pack("<I", 0xABCD5432)
TABLE_MAGIC = b"\xaa\x50"
BOOTLOADER_LIMIT = 0x8000
"""A bootloader ends before the partition table."""
SLACK = 0x10000
"""Bytes that may follow an application in its file: a signature and what aligns it."""
MIN_IMAGE_SIZE = 0x9000
"""A full image reaches at least past the partition table."""

_GIVE_IMAGE = "give the release's folder or .zip, its factory_XXX.bin, or its mfg_nvs.bin"
_ENTROPY_SAMPLE = 4096
_ENCRYPTED_BITS = 7.5
"""4096 random bytes have about 7.95 bits of entropy each; code and tables stay below 7."""


@dataclass(frozen=True)
class _Kind:
    """A file that people give by mistake: how to recognise it, and what to say."""

    matches: Callable[[bytes], bool]
    message: str
    hint: str


def entropy(data: bytes) -> float:
    """Return the Shannon entropy of ``data`` in bits per byte (0 for no data)."""
    total = len(data)
    return -sum(n / total * math.log2(n / total) for n in Counter(data).values()) if total else 0.0


def looks_encrypted(sample: bytes) -> bool:
    """Tell whether a piece of flash looks like random bytes, as encrypted flash does."""
    sample = sample[:_ENTROPY_SAMPLE]
    return len(sample) >= 1024 and entropy(sample) > _ENCRYPTED_BITS


def _is_text(data: bytes) -> bool:
    head = data[:1024]
    plain = sum(byte < 0x7F for byte in head)
    return 2 * plain > len(head) and all(byte >= 0x20 or byte in b"\t\r\n\f" for byte in head)


def _is_app(data: bytes) -> bool:
    if data[0] != IMAGE_MAGIC:
        return False
    if data[0x20:0x24] == APP_DESC_MAGIC:
        return True
    image = _whole(data)  # the ESP8266 has its descriptor elsewhere
    return image is not None and not image.is_bootloader and len(data) - image.size < SLACK


def _whole(data: bytes) -> AppImage | None:
    try:
        return AppImage.from_bytes(data)
    except FormatError:
        return None


def _is_bootloader(data: bytes) -> bool:
    return _begins_like_a_bootloader(data) and _whole(data) is not None


def _begins_like_a_bootloader(data: bytes) -> bool:
    return data[0] == IMAGE_MAGIC and len(data) <= BOOTLOADER_LIMIT + TABLE_SIZE


_KINDS = (
    _Kind(lambda data: not data, "is empty", f"download it again, or {_GIVE_IMAGE}"),
    _Kind(lambda data: data.count(0xFF) == len(data), "holds only 0xFF: it is blank flash", _GIVE_IMAGE),
    _Kind(lambda data: data.count(0) == len(data), "holds only zeros, no firmware", _GIVE_IMAGE),
    _Kind(lambda data: data[:4] == b"\x7fELF",
          "is an ELF file, the application with its debug symbols", _GIVE_IMAGE),
    _Kind(_is_app, "is an application alone (esp-at.bin); it holds no settings", _GIVE_IMAGE),
    _Kind(_is_bootloader, "is a bootloader alone; it holds no settings", _GIVE_IMAGE),
    _Kind(_begins_like_a_bootloader, "begins like a firmware and is cut off",
          f"download it again, or {_GIVE_IMAGE}"),
    _Kind(lambda data: data[:2] == TABLE_MAGIC,
          "is a partition table alone; it holds no settings",
          "see it with 'esp-at-tool partition show', or " + _GIVE_IMAGE),
    _Kind(lambda data: data[:2] == b"\xf1\xf1",
          "is one certificate partition of an older firmware alone",
          "give the release's folder or .zip, or the whole flash image"),
    _Kind(lambda data: data[2:4] == b"\x27\x95" and data[4:5] == b"{",
          "is the ble_data partition of an older firmware alone",
          "give the release's folder or .zip, or the whole flash image"),
    _Kind(lambda data: data[:6] in (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07") or data[:2] == b"\x1f\x8b",
          "is an archive, but not a .zip", "unpack it and give the folder"),
    _Kind(lambda data: data[:1] == b":" and _is_text(data), "is an Intel HEX file, not a binary image",
          "convert it to a binary, or " + _GIVE_IMAGE),
    _Kind(_is_text, "is a text file, not a firmware", _GIVE_IMAGE),
)  # fmt: skip


def not_a_firmware(name: str, data: bytes) -> InputError:
    """Return the error that says what ``data`` is and what to give instead."""
    for kind in _KINDS:
        if kind.matches(data):
            return InputError(f"{name}: {kind.message}", kind.hint)
    if len(data) >= MIN_IMAGE_SIZE and looks_encrypted(data[0x8000:]):
        return InputError(
            f"{name}: has no partition table at 0x8000, and what stands there looks random: "
            "a dump of a chip with flash encryption, or not a firmware at all",
            "an encrypted flash cannot be changed; give the firmware as it was before encryption",
        )
    return InputError(
        f"{name}: is not an ESP-AT firmware: no partition table at 0x8000 nor on any other 4 KB boundary",
        f"{_GIVE_IMAGE}; --partition-table-offset tells where the table is",
    )

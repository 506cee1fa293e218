"""What a file is when it is not a firmware that can be worked on, and what to give instead."""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.formats.app_image import MAX_SEGMENTS, AppImage
from esp_at_tools.formats.partition_table import DEFAULT_OFFSET, TABLE_SIZE

IMAGE_MAGIC = 0xE9
APP_DESC_MAGIC = struct.pack("<I", 0xABCD5432)
TABLE_MAGIC = b"\xaa\x50"
FACTORY_PARAM_MAGIC = b"\xfc\xfc"
ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
"""How a .zip begins, and an empty one."""
BOOTLOADER_OFFSETS = (0x0, 0x1000, 0x2000)
"""Where the chips' boot ROMs look: most at 0, the ESP32 and ESP32-S2 at 0x1000, the ESP32-C5 at 0x2000."""
BOOTLOADER_LIMIT = 0x8000
"""A bootloader ends before the partition table."""
SLACK = 0x10000
"""Bytes that may follow an application in its file: a signature and what aligns it."""
MIN_IMAGE_SIZE = 0x9000
"""A full image reaches at least past the partition table."""

_GIVE_IMAGE = "give the release's folder or .zip, its factory_XXX.bin, or its mfg_nvs.bin"
_GIVE_NVS = "give the NVS partition alone, such as mfg_nvs.bin"
_ENTROPY_SAMPLE = 4096
_ENCRYPTED_BITS = 7.5
"""4096 random bytes have about 7.95 bits of entropy each; code and tables stay below 7."""


@dataclass(frozen=True)
class _Kind:
    """A file that people give by mistake: how to recognise it, and what to say.

    Attributes:
        matches: tells whether a file is of this kind, if none before it matches.
        message: what it is.
        hint: what to do; ``{give}`` stands for what to give instead.
        empty_of: what a firmware would have and this has not.
    """

    matches: Callable[[bytes], bool]
    message: str
    hint: str = "{give}"
    empty_of: str = ""


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


def _is_image(data: bytes) -> bool:
    return data[DEFAULT_OFFSET : DEFAULT_OFFSET + len(TABLE_MAGIC)] == TABLE_MAGIC and any(
        data[offset : offset + 1] == bytes([IMAGE_MAGIC]) for offset in BOOTLOADER_OFFSETS
    )


def _has_segments(data: bytes) -> bool:
    return data[0] == IMAGE_MAGIC and 0 < int.from_bytes(data[1:2], "little") <= MAX_SEGMENTS


_NO_SETTINGS = "; it holds no settings"
_WHOLE = "give the release's folder or .zip, or the whole flash image"
_ELF = _Kind(lambda data: data[:4] == b"\x7fELF", "is an ELF file, the application with its debug symbols")
_APP = _Kind(_is_app, "is an application alone (esp-at.bin)", empty_of=_NO_SETTINGS)
_BOOTLOADER = _Kind(_is_bootloader, "is a bootloader alone", empty_of=_NO_SETTINGS)
_TABLE = _Kind(
    lambda data: data[:2] == TABLE_MAGIC, "is a partition table alone",
    "see it with 'esp-at-tool partition show', or {give}", _NO_SETTINGS,
)  # fmt: skip
_NO_FIRMWARE = (
    _Kind(lambda data: not data, "is empty", "download it again, or {give}"),
    _Kind(lambda data: data.count(0xFF) == len(data), "holds only 0xFF: it is blank flash"),
    _Kind(lambda data: data.count(0) == len(data), "holds only zeros, no firmware"),
    _ELF,
    _APP,
    _BOOTLOADER,
    _Kind(_begins_like_a_bootloader, "begins like a firmware and is cut off",
          "download it again, or {give}"),
    _TABLE,
    _Kind(lambda data: data[:2] == b"\xf1\xf1",
          "is one certificate partition of an older firmware alone", _WHOLE),
    _Kind(lambda data: data[2:4] == b"\x27\x95" and data[4:5] == b"{",
          "is the ble_data partition of an older firmware alone", _WHOLE),
    _Kind(lambda data: data[:6] in (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07") or data[:2] == b"\x1f\x8b",
          "is an archive, but not a .zip", "unpack it and give the folder"),
    _Kind(lambda data: data[:1] == b":" and _is_text(data), "is an Intel HEX file, not a binary image",
          "convert it to a binary, or {give}"),
    _Kind(_is_text, "is a text file, not a firmware"),
)  # fmt: skip

_CSV_HEADER = re.compile(rb"^\W*key\s*,\s*type\s*,", re.MULTILINE)
_NO_NVS = (
    _Kind(_is_image, "is a full flash image", "{give}; 'esp-at-tool inspect' reads the whole"),
    _ELF,
    _APP,
    _BOOTLOADER,
    _Kind(lambda data: len(data) > 1 and _has_segments(data), "is an application or a bootloader"),
    _TABLE,
    _Kind(lambda data: data[:4] in ZIP_MAGICS, "is a zip archive", "unpack it, then {give}"),
    _Kind(lambda data: data[:2] == FACTORY_PARAM_MAGIC, "is a factory_param of the legacy layout",
          "'esp-at-tool inspect' reads it"),
    _Kind(lambda data: _CSV_HEADER.search(data[:1024]) is not None, "is a CSV",
          "'esp-at-tool nvs generate' makes an image of it"),
)  # fmt: skip
"""No page of NVS begins like one of these, so damaged NVS is not taken for them."""


def not_nvs(name: str, data: bytes) -> FormatError | None:
    """Return the error that says what ``data`` is instead of NVS; None if it may be NVS, damaged or not."""
    kind = _recognised(data, _NO_NVS) if data else None
    if kind is None:
        return None
    return FormatError(f"{name}: {kind.message}, not an NVS image", kind.hint.format(give=_GIVE_NVS))


def _recognised(data: bytes, kinds: Iterable[_Kind]) -> _Kind | None:
    return next((kind for kind in kinds if kind.matches(data)), None)


def not_a_firmware(name: str, data: bytes) -> InputError:
    """Return the error that says what ``data`` is and what to give instead."""
    kind = _recognised(data, _NO_FIRMWARE)
    if kind is not None:
        return InputError(f"{name}: {kind.message}{kind.empty_of}", kind.hint.format(give=_GIVE_IMAGE))
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

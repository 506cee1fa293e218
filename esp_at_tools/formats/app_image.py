"""Application and bootloader images, as esptool writes them and the boot ROM reads them.

Source of the format: ``esp_app_format.h``, ``esp_app_desc.h``, ``esp_bootloader_desc.h`` and
``esp_image_format.c`` of ESP-IDF v5.4.4 (later chip ids from its master branch), the same files of
ESP8266_RTOS_SDK v3.4, and ``bin_image.py`` of esptool 5.6. All integers are little-endian.

An image is a header, up to 16 segments, padding up to a checksum byte that ends a block of 16, and
often the SHA-256 of all of that. The ESP32 family's header has 24 bytes; that of the ESP8266 has 8,
names no chip, and does not tell whether a SHA-256 follows (those of applications made for the RTOS
SDK do). The older ESP8266 form that begins with 0xEA puts the code in flash in front of such an image.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.app_descriptor import (
    AppDescriptor,
    BootloaderDescriptor,
    Bytes,
)
from esp_at_tools.formats.image_chips import (
    BY_ID,
    CHIPS,
    ESP8266,
    ESP8266_FLASH_SIZES,
    FLASH_MODES,
    FLASH_SIZES,
    ChipFormat,
)

IMAGE_MAGIC = 0xE9
"""``ESP_IMAGE_HEADER_MAGIC``."""
ESP8266_V2_MAGIC = 0xEA
"""First byte of an ESP8266 image with its flash code in front."""
MAX_SEGMENTS = 16
"""``ESP_IMAGE_MAX_SEGMENTS``."""
CHECKSUM_SEED = 0xEF
"""``ESP_ROM_CHECKSUM_INITIAL``: what the bytes of all segments are XORed onto."""
SHA256_SIZE = 32
SECTOR_SIZE = 0x1000

HEADER = struct.Struct("<BBBBI")
"""First 8 bytes of ``esp_image_header_t``: magic, segments, SPI mode, SPI size and speed, entry."""
EXTENDED_HEADER = struct.Struct("<B3sHBHH4sB")
"""The other 16, not on ESP8266: WP pin, drive strengths, chip id, minimal revision (old form), minimal
and maximal revision (major * 100 + minor), reserved, whether a SHA-256 is appended."""
SEGMENT_HEADER = struct.Struct("<II")
"""``esp_image_segment_header_t``: load address, length of the data."""
assert HEADER.size + EXTENDED_HEADER.size == 24  # noqa: S101 - a mistake here must not get past the import

SIGNATURE_V1_SIZE = 68
"""``esp_secure_boot_sig_block_t``: a version of 0 and an ECDSA signature of 64 bytes."""
SIGNATURE_V2_MAGIC = 0xE7
"""``ETS_SECURE_BOOT_V2_SIGNATURE_MAGIC``."""
SIGNATURE_V2_BLOCK = 1216
"""``ets_secure_boot_sig_block``; up to three stand in the sector after the image."""
_SIGNATURE_V2_CRC_AT = 1196
_SIGNATURE_V2_SCHEMES = {2: "RSA", 3: "ECDSA"}

_MAX_SEGMENT = 1 << 24
_XOR_CHUNK = 1 << 16


@dataclass(frozen=True)
class Segment:
    """One segment of an image.

    Attributes:
        address: where it is loaded or mapped.
        offset: where its data begins, in bytes from the image's first.
        size: bytes of data.
        in_checksum: whether the checksum covers it; not so for the flash code of ESP8266 version 2.
    """

    address: int
    offset: int
    size: int
    in_checksum: bool = True


@dataclass(frozen=True)
class Signature:
    """A secure-boot signature behind an image; noticed, not verified.

    Attributes:
        version: 1 or 2, of Secure Boot.
        scheme: ``RSA`` or ``ECDSA``.
        blocks: signatures of different keys, 1 to 3.
        offset: where it begins, in bytes from the image's first.
        size: bytes of it: 68 (version 1), or 4096.
    """

    version: int
    scheme: str
    blocks: int
    offset: int
    size: int


@dataclass(frozen=True)
class AppImage:
    """An application or a bootloader.

    Attributes:
        chip: ``esp8266``, ``esp32``, …; ``chip id 0x0063`` for an id that is not known.
        chip_id: None on ESP8266.
        format_version: 1, or 2 for the ESP8266 form with the flash code in front.
        entry: address of the first instruction.
        flash_mode: ``dio``; None for a code without meaning, as for the next two.
        flash_freq: ``40m``.
        flash_size: ``4MB``. Not to be relied on for an ESP8266: applications say what they like, and the
            official factory images have a bootloader with the code that an ESP32 would have.
        min_rev: oldest chip revision that it runs on, major * 100 + minor; 0 for any.
        legacy_min_rev: the same as ESP-IDF v4 has it: the minor revision on ESP32-C3, else the major one.
        max_rev: newest one; 0 or 65535 for any.
        segments: in the order of the file.
        sha256: the SHA-256 that is appended, None without one.
        size: bytes from the header to the SHA-256, without signature.
        app_descriptor: of an application; None where it has none.
        bootloader_descriptor: of a bootloader; None where it has none.
        signature: of secure boot, None without.
    """

    chip: str
    chip_id: int | None
    format_version: int
    entry: int
    flash_mode: str | None
    flash_freq: str | None
    flash_size: str | None
    min_rev: int
    legacy_min_rev: int
    max_rev: int
    segments: tuple[Segment, ...]
    sha256: bytes | None
    size: int
    app_descriptor: AppDescriptor | None
    bootloader_descriptor: BootloaderDescriptor | None
    signature: Signature | None
    _view: memoryview = field(repr=False, compare=False)

    @cached_property
    def checksum_ok(self) -> bool:
        """Whether the checksum byte is that of the segments; found out when it is asked for."""
        return bool(_checksum(self._view, self.segments) == self._view[_checksum_at(self.segments)])

    @cached_property
    def sha256_ok(self) -> bool | None:
        """Whether the appended SHA-256 is that of the image, None without one."""
        if self.sha256 is None:
            return None
        return self.sha256 == _sha256(self._view[: self.size - SHA256_SIZE])

    def __getstate__(self) -> dict[str, Any]:
        """Return what goes to another process: what the bytes say, without the bytes."""
        found = {"checksum_ok": self.checksum_ok, "sha256_ok": self.sha256_ok}
        return {**self.__dict__, **found, "_view": b""}

    @property
    def is_bootloader(self) -> bool:
        """Whether this is a bootloader: it says so, or no part of it stays in flash while it runs."""
        if self.app_descriptor or self.bootloader_descriptor:
            return self.app_descriptor is None
        if self.format_version > 1:  # its first segment is the flash code, for whatever address
            return False
        chip = next((chip for chip in CHIPS if chip.name == self.chip), None)
        return chip is not None and not any(chip.is_mapped(segment.address) for segment in self.segments)

    @property
    def signed_size(self) -> int:
        """Bytes from the header to the end of the signature, or of the image without one."""
        return self.signature.offset + self.signature.size if self.signature else self.size

    @property
    def flash_bytes(self) -> int | None:
        """The flash size in bytes, None where the header does not tell."""
        if not self.flash_size:
            return None
        number, unit = self.flash_size.split("-")[0][:-2], self.flash_size.split("-")[0][-2:]
        return int(number) << {"KB": 10, "MB": 20}[unit]

    @classmethod
    def from_bytes(cls, data: Bytes, offset: int = 0) -> AppImage:
        """Read an image.

        Args:
            data: a file, a partition or a flash; it may reach beyond the image.
            offset: where the image begins in it, in bytes.

        Raises:
            FormatError: no image begins there, its header or a segment makes no sense, or it ends
                before its checksum or SHA-256. A wrong checksum or SHA-256 is no error, see
                ``checksum_ok`` and ``sha256_ok``.
        """
        view = memoryview(data)[max(offset, 0) :]
        if len(view) < HEADER.size + EXTENDED_HEADER.size:
            raise FormatError(f"{len(view)} bytes are no application image", "give the whole image")
        if view[0] not in (IMAGE_MAGIC, ESP8266_V2_MAGIC):
            raise FormatError(
                f"no application image: it begins with {view[0]:#04x}, not {IMAGE_MAGIC:#04x}",
                "give an application or bootloader as the build made it",
            )
        if view[0] == ESP8266_V2_MAGIC:
            return _read_esp8266_v2(view)
        return _read_esp8266(view) if _is_esp8266(view) else _read_esp32(view)


def _is_esp8266(view: memoryview) -> bool:
    """Tell an ESP8266 image by its first segment's address, which begins right after 8 bytes.

    In the longer header the WP pin and the drive strengths stand there; the last of these four bytes
    is below 0x34, as the strengths of two pins, 0 to 3, make it up.
    """
    address: int = SEGMENT_HEADER.unpack_from(view, HEADER.size)[0]
    return 0x3F00_0000 <= address < 0x4100_0000


def _read_esp32(view: memoryview) -> AppImage:
    _, _, chip_id, legacy, min_rev, max_rev, _, hashed = EXTENDED_HEADER.unpack_from(view, HEADER.size)
    if hashed > 1:
        raise FormatError(
            f"no application image: its header has {hashed:#04x} where 0 or 1 says whether a SHA-256 follows",
            "give an application or bootloader as the build made it",
        )
    chip = BY_ID.get(chip_id, ChipFormat(f"chip id {chip_id:#06x}", chip_id, {}, ()))
    segments, end = _read_segments(view, HEADER.size + EXTENDED_HEADER.size, view[1])
    stored = bytes(view[end : end + SHA256_SIZE]) if hashed else None
    if stored is not None and len(stored) < SHA256_SIZE:
        raise FormatError(
            f"the image ends at {len(view):#x}, inside its SHA-256", "it is cut short; give all of it"
        )
    return _assemble(view, chip, segments, (end, stored), revisions=(min_rev, legacy, max_rev))


def _read_esp8266(view: memoryview) -> AppImage:
    segments, end = _read_segments(view, HEADER.size, view[1])
    rest = bytes(view[end : end + SHA256_SIZE])
    # Nothing in the header tells. Applications that run from flash have one unless what follows is blank.
    mapped = any(ESP8266.is_mapped(segment.address) for segment in segments)
    appended = rest.count(0xFF) < len(rest) if mapped else rest == _sha256(view[:end])
    if appended and len(rest) < SHA256_SIZE:
        raise FormatError(
            f"the image ends at {len(view):#x}, inside its SHA-256", "it is cut short; give all of it"
        )
    return _assemble(view, ESP8266, segments, (end, rest if appended else None))


def _read_esp8266_v2(view: memoryview) -> AppImage:
    flash_code, start = _read_segment(view, HEADER.size, "the flash code", in_checksum=False)
    if start + HEADER.size > len(view) or view[start] != IMAGE_MAGIC:
        raise FormatError(
            f"no second header at {start:#x} of the image", "give an ESP8266 application as it was built"
        )
    segments, end = _read_segments(view, start + HEADER.size, view[start + 1])
    # A CRC-32 of 4 bytes follows where the image was made with esptool; it is part of the file.
    end += min(4, len(view) - end)
    return _assemble(view, ESP8266, (flash_code, *segments), (end, None), header=start)


def _assemble(
    view: memoryview,
    chip: ChipFormat,
    segments: tuple[Segment, ...],
    tail: tuple[int, bytes | None],
    *,
    header: int = 0,
    revisions: tuple[int, int, int] = (0, 0, 0),
) -> AppImage:
    end, stored = tail
    _, _, mode, size_and_frequency, entry = HEADER.unpack_from(view, header)
    sizes = ESP8266_FLASH_SIZES if chip is ESP8266 else FLASH_SIZES
    size = end + len(stored or b"")
    return AppImage(
        chip=chip.name,
        chip_id=chip.id,
        format_version=2 if view[0] == ESP8266_V2_MAGIC else 1,
        entry=entry,
        flash_mode=_name(FLASH_MODES, mode),
        flash_freq=chip.frequencies.get(size_and_frequency & 0x0F),
        flash_size=_name(sizes, size_and_frequency >> 4),
        min_rev=revisions[0],
        legacy_min_rev=revisions[1],
        max_rev=revisions[2],
        segments=segments,
        sha256=stored,
        size=size,
        app_descriptor=_find_app_descriptor(view, segments),
        bootloader_descriptor=BootloaderDescriptor.from_bytes(_data(view, segments[0])),
        signature=_find_signature(view, size),
        _view=view,
    )


def _name(names: tuple[str, ...], code: int) -> str | None:
    return names[code] or None if code < len(names) else None


def _data(view: memoryview, segment: Segment) -> memoryview:
    return view[segment.offset : segment.offset + segment.size]


def _read_segments(view: memoryview, position: int, count: int) -> tuple[tuple[Segment, ...], int]:
    """Return the segments and where the block with the checksum ends."""
    if not 1 <= count <= MAX_SEGMENTS:
        raise FormatError(
            f"no application image: its header says {count} segments",
            f"there are 1 to {MAX_SEGMENTS} in an image",
        )
    segments = []
    for index in range(count):
        segment, position = _read_segment(view, position, f"segment {index}")
        segments.append(segment)
    end = _checksum_at(segments) + 1
    if end > len(view):
        raise FormatError(
            f"the image ends at {len(view):#x}, before its checksum", "it is cut short; give all of it"
        )
    return tuple(segments), end


def _read_segment(
    view: memoryview, position: int, what: str, *, in_checksum: bool = True
) -> tuple[Segment, int]:
    if position + SEGMENT_HEADER.size > len(view):
        raise FormatError(
            f"the image ends at {len(view):#x}, before the header of {what}",
            "it is cut short; give all of it",
        )
    address, size = SEGMENT_HEADER.unpack_from(view, position)
    start = position + SEGMENT_HEADER.size
    if size % 4 or size >= _MAX_SEGMENT:
        raise FormatError(
            f"{what} at {position:#x} of the image has a length of {size:#x}",
            "lengths are multiples of 4 below 16 MB; the image is damaged",
        )
    if start + size > len(view):
        raise FormatError(
            f"the image ends at {len(view):#x}, inside {what} of {size:#x} bytes",
            "it is cut short; give all of it",
        )
    return Segment(address, start, size, in_checksum), start + size


def _checksum_at(segments: Iterable[Segment]) -> int:
    """Return where the checksum is: the last byte of the first block of 16 that has room for it."""
    *_, last = segments
    return (last.offset + last.size) | 0x0F


def _checksum(view: memoryview, segments: Iterable[Segment]) -> int:
    value = CHECKSUM_SEED
    for segment in segments:
        if segment.in_checksum:
            value ^= xor_bytes(_data(view, segment))
    return value


def xor_bytes(data: Bytes) -> int:
    """Return the XOR of all bytes; 1.5 MB take about 2 ms, as whole chunks are combined at once."""
    view = memoryview(data)
    folded, size = 0, _XOR_CHUNK
    for start in range(0, len(view), size):
        folded ^= int.from_bytes(view[start : start + size], "little")
    while size > 1:
        size //= 2
        folded = (folded >> 8 * size) ^ (folded & ((1 << 8 * size) - 1))
    return folded


def _sha256(data: memoryview) -> bytes:
    return hashlib.sha256(data).digest()


def _find_app_descriptor(view: memoryview, segments: Iterable[Segment]) -> AppDescriptor | None:
    """Return the descriptor at the beginning of a segment: the first on ESP32, the second on ESP8266."""
    found = (AppDescriptor.from_bytes(_data(view, segment)) for segment in segments)
    return next((descriptor for descriptor in found if descriptor), None)


def _find_signature(view: memoryview, size: int) -> Signature | None:
    start = size + -size % SECTOR_SIZE
    blocks = [view[start + i * SIGNATURE_V2_BLOCK :][:SIGNATURE_V2_BLOCK] for i in range(3)]
    schemes = [scheme for block in blocks if (scheme := _signature_scheme(block))]
    if schemes and start + SECTOR_SIZE <= len(view):
        return Signature(2, schemes[0], len(schemes), start, SECTOR_SIZE)
    block, behind = bytes(view[size : size + SIGNATURE_V1_SIZE]), bytes(view[size + SIGNATURE_V1_SIZE :][:16])
    looks_random = len(set(block[4:])) > SIGNATURE_V1_SIZE // 4
    if (
        len(block) == SIGNATURE_V1_SIZE
        and block[:4] == bytes(4)
        and looks_random
        and not behind.strip(b"\xff")
    ):
        return Signature(1, "ECDSA", 1, size, SIGNATURE_V1_SIZE)
    return None


def _signature_scheme(block: memoryview) -> str | None:
    if (
        len(block) < SIGNATURE_V2_BLOCK
        or block[0] != SIGNATURE_V2_MAGIC
        or block[1] not in _SIGNATURE_V2_SCHEMES
    ):
        return None
    stored = int.from_bytes(block[_SIGNATURE_V2_CRC_AT : _SIGNATURE_V2_CRC_AT + 4], "little")
    return _SIGNATURE_V2_SCHEMES[block[1]] if zlib.crc32(block[:_SIGNATURE_V2_CRC_AT]) == stored else None

"""What an application and a bootloader say of themselves, at the beginning of a segment.

Source: ``esp_app_desc_t`` of ``esp_app_desc.h`` and ``esp_bootloader_desc_t`` of
``esp_bootloader_desc.h``, ESP-IDF v5.4.4. All integers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

APP_DESCRIPTOR = struct.Struct("<II8s32s32s16s16s32s32sHHB3s72s")
"""``esp_app_desc_t``: magic, secure version, reserved, version, project, time, date, ESP-IDF version,
SHA-256 of the ELF, minimal and maximal eFuse block revision, MMU page size (log 2), reserved."""
BOOTLOADER_DESCRIPTOR = struct.Struct("<B2sBI32s24s16s")
"""``esp_bootloader_desc_t``: magic, reserved, secure version, version, ESP-IDF version, date and time."""
assert APP_DESCRIPTOR.size == 256  # noqa: S101 - a mistake here must not get past the import
assert BOOTLOADER_DESCRIPTOR.size == 80  # noqa: S101

APP_DESCRIPTOR_MAGIC = 0xABCD5432
BOOTLOADER_DESCRIPTOR_MAGIC = 80

Bytes = bytes | bytearray | memoryview


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class AppDescriptor:
    """What an application says of itself (``esp_app_desc_t``, 256 bytes).

    Attributes:
        version: of the project, e.g. ``v2.2.0.0_esp32c3-266-g9ff1373-d``; texts may be empty.
        project_name: ``esp-at``.
        time: of the build, ``11:21:59``.
        date: of the build, ``Dec 24 2021``.
        idf_version: of ESP-IDF or of ESP8266_RTOS_SDK.
        elf_sha256: of the ELF file, in hex.
        secure_version: for the protection against older versions.
        min_efuse_block_rev: oldest eFuse block revision, major * 100 + minor; 0 for any.
        max_efuse_block_rev: newest one; 0 or 65535 for any.
        mmu_page_size: in bytes, 0 where it is the chip's usual one.
    """

    version: str
    project_name: str
    time: str
    date: str
    idf_version: str
    elf_sha256: str
    secure_version: int
    min_efuse_block_rev: int
    max_efuse_block_rev: int
    mmu_page_size: int

    @property
    def compile_time(self) -> str:
        """Date and time of the build as the compiler has them: ``Dec 24 2021 11:21:59``; may be empty."""
        return f"{self.date} {self.time}".strip()

    @classmethod
    def from_bytes(cls, data: Bytes) -> AppDescriptor | None:
        """Return the descriptor at the beginning of ``data``, or None where there is none."""
        if len(data) < APP_DESCRIPTOR.size:
            return None
        fields = APP_DESCRIPTOR.unpack_from(data)
        magic, secure_version, _, version, project, time, date, idf, elf, low, high, page, _, _ = fields
        if magic != APP_DESCRIPTOR_MAGIC:
            return None
        return cls(
            version=_text(version),
            project_name=_text(project),
            time=_text(time),
            date=_text(date),
            idf_version=_text(idf),
            elf_sha256=elf.hex(),
            secure_version=secure_version,
            min_efuse_block_rev=low,
            max_efuse_block_rev=high,
            mmu_page_size=1 << page if 0 < page < 32 else 0,
        )


@dataclass(frozen=True)
class BootloaderDescriptor:
    """What a bootloader of ESP-IDF v5.2 or later says of itself (``esp_bootloader_desc_t``, 80 bytes)."""

    version: int
    idf_version: str
    date_time: str
    secure_version: int

    @classmethod
    def from_bytes(cls, data: Bytes) -> BootloaderDescriptor | None:
        """Return the descriptor at the beginning of ``data``, or None where there is none."""
        if len(data) < BOOTLOADER_DESCRIPTOR.size:
            return None
        magic, _, secure, version, idf, date_time, _ = BOOTLOADER_DESCRIPTOR.unpack_from(data)
        # One byte of magic is little to go by: readable text must follow.
        texts = idf.partition(b"\0")[0], date_time.partition(b"\0")[0]
        readable = texts[0] and all(0x20 <= byte < 0x7F for text in texts for byte in text)
        if magic != BOOTLOADER_DESCRIPTOR_MAGIC or not readable:
            return None
        return cls(version, _text(idf), _text(date_time), secure)

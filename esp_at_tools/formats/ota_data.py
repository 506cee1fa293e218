"""The ``otadata`` partition: which of the ota applications starts next.

Source of the format: ``esp_ota_select_entry_t`` of ``esp_flash_partitions.h`` and
``bootloader_utility.c``, ESP-IDF v5.4.4; ``esp_flash_data_types.h`` of ESP8266_RTOS_SDK v3.4, whose
entry is the same except that a longer label stands where the state is. All integers are little-endian.

Two sectors of 4 KB each begin with an entry and are written in turn; a partition as it is flashed
first is all 0xFF.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.partition_table import APP, Bytes, Partition, PartitionTable

SECTOR_SIZE = 0x1000
OTA_DATA_SIZE = 2 * SECTOR_SIZE
"""Bytes of the partition."""

ENTRY = struct.Struct("<I20sII")
"""``esp_ota_select_entry_t``: sequence number, label (not used), state, CRC-32 of the sequence number."""
assert ENTRY.size == 32  # noqa: S101 - a mistake here must not get past the import

BLANK_SEQUENCE = 0xFFFF_FFFF
STATE_INVALID, STATE_ABORTED, STATE_UNDEFINED = 0x3, 0x4, 0xFFFF_FFFF
_BLANK_LABEL = b"\xff" * 20
_FACTORY, _TEST = 0x00, 0x20


@dataclass(frozen=True)
class OtaEntry:
    """The entry of one sector.

    Attributes:
        sequence: 1 upwards; the larger one counts, and ``(sequence - 1) % slots`` is the slot.
        state: ``esp_ota_img_states_t``: 0 new, 1 pending verify, 2 valid, 3 invalid, 4 aborted, all ones for
            undefined.
        crc: as stored.
        label: 20 bytes that nobody uses.
    """

    sequence: int = BLANK_SEQUENCE
    state: int = STATE_UNDEFINED
    crc: int = BLANK_SEQUENCE
    label: bytes = _BLANK_LABEL

    @property
    def is_blank(self) -> bool:
        """Whether nothing has been written here."""
        return self == OtaEntry()

    @property
    def crc_ok(self) -> bool:
        """Whether the CRC is that of the sequence number."""
        return self.crc == _crc(self.sequence)

    @property
    def is_rejected(self) -> bool:
        """Whether the bootloader passes it over: blank, or of an application that was found bad."""
        return self.sequence == BLANK_SEQUENCE or self.state in (STATE_INVALID, STATE_ABORTED)

    @property
    def is_valid(self) -> bool:
        """Whether the bootloader goes by it."""
        return not self.is_rejected and self.crc_ok

    @classmethod
    def for_slot(cls, slot: int, state: int = STATE_UNDEFINED) -> OtaEntry:
        """Return the entry that starts ``ota_<slot>``, counted from 0, where it is the only one."""
        return cls(slot + 1, state, _crc(slot + 1))


def _crc(sequence: int) -> int:
    return zlib.crc32(sequence.to_bytes(4, "little"), 0xFFFF_FFFF)


@dataclass(frozen=True)
class OtaData:
    """Both entries; what else the sectors hold has no meaning and is not kept."""

    entries: tuple[OtaEntry, OtaEntry]

    @classmethod
    def from_bytes(cls, data: Bytes) -> OtaData:
        """Read the partition.

        Args:
            data: at least its 8 KB; a file that holds less is one that ends in blank flash.

        Raises:
            FormatError: less than the first entry.
        """
        view = memoryview(data)
        if len(view) < ENTRY.size:
            raise FormatError(
                f"{len(view)} bytes are no otadata", f"an otadata partition has {OTA_DATA_SIZE:#x} bytes"
            )
        return cls((_read_entry(view[:SECTOR_SIZE]), _read_entry(view[SECTOR_SIZE:OTA_DATA_SIZE])))

    def to_bytes(self) -> bytes:
        """Return the partition's 8 KB.

        Raises:
            FormatError: a number that does not fit its field, or a label that has not 20 bytes.
        """
        return b"".join(_entry_bytes(entry).ljust(SECTOR_SIZE, b"\xff") for entry in self.entries)

    @classmethod
    def initial(cls) -> OtaData:
        """Return what is flashed first: blank, which starts ``factory`` or else ``ota_0``."""
        return cls((OtaEntry(), OtaEntry()))

    @property
    def is_blank(self) -> bool:
        """Whether nothing has been written yet."""
        return all(entry.is_blank for entry in self.entries)

    @property
    def active(self) -> OtaEntry | None:
        """The entry that the bootloader goes by: the valid one, of two the one with the larger sequence."""
        valid = [entry for entry in self.entries if entry.is_valid]
        return max(valid, key=lambda entry: entry.sequence, default=None)

    def boot_partition(self, table: PartitionTable) -> Partition | None:
        """Return the application that the bootloader tries first; None where there is none.

        A bootloader that finds it damaged goes on to another.
        """
        slots = sorted((app for app in table.apps if app.is_ota_app), key=lambda app: app.subtype)
        active = self.active
        if active and slots:
            return slots[(active.sequence - 1) % 2**32 % len(slots)]
        factory = table.of_type(APP, _FACTORY)
        test = table.of_type(APP, _TEST)
        return next(iter((*factory, *slots, *test)), None)


def _read_entry(sector: memoryview) -> OtaEntry:
    sequence, label, state, crc = ENTRY.unpack(bytes(sector[: ENTRY.size]).ljust(ENTRY.size, b"\xff"))
    return OtaEntry(sequence, state, crc, label)


def _entry_bytes(entry: OtaEntry) -> bytes:
    if not all(0 <= value < 1 << 32 for value in (entry.sequence, entry.state, entry.crc)):
        raise FormatError(
            "a number in an otadata entry is out of range", "sequence, state and CRC have 32 bits"
        )
    if len(entry.label) != len(_BLANK_LABEL):
        raise FormatError(f"an otadata label of {len(entry.label)} bytes", "it has 20 bytes")
    return ENTRY.pack(entry.sequence, entry.label, entry.state, entry.crc)

"""The wear levelling that ESP-IDF puts between a FAT volume and the flash.

The partition's 4096-byte sectors hold, in this order: one dummy sector that wanders, the volume, two
sectors of the safe mode, two copies of the state and the configuration. Source: ``wl_config_t`` and
``wl_state_t`` in components/wear_levelling (``WL_Config.h``, ``WL_State.h``, ``WL_Flash.cpp``,
``WL_Ext_Safe.cpp``) of ESP-IDF, which mounts an image laid out like this without touching it.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from esp_at_tools.errors import FormatError

SECTOR_SIZE = 4096
"""Bytes that the flash erases at once; the unit of everything here."""

_STATE = struct.Struct("<8I28xI")  # wl_state_t: 60 bytes and their CRC
_CONFIG = struct.Struct("<9I12x")  # wl_config_t: 32 bytes, their CRC, padded to 16
assert (_STATE.size, _CONFIG.size) == (64, 48)  # noqa: S101 - a fact about the two lines above

_RECORD_SIZE = 16  # what a move of the dummy sector adds to the state
_UPDATE_RATE = 16  # erasures between two moves
_VERSION = 2
_BUFFER_SIZE = 32
_CRC_START = 0xFFFFFFFF
_SAFE_SECTORS = 2
_DEVICE_ID = 0x45535041
"""ESP-IDF draws it at random when it formats; any number will do, and a fixed one repeats."""


@dataclass(frozen=True)
class WearLevelling:
    """The layout of one partition.

    Attributes:
        size: bytes of the partition, a multiple of 4096.
        safe: two sectors are kept to survive a power loss: for sectors of 512 bytes in the safe mode.

    Raises:
        FormatError: the partition is too small, or not a whole number of sectors.
    """

    size: int
    safe: bool

    def __post_init__(self) -> None:
        """Refuse what the firmware could not mount."""
        if self.size % SECTOR_SIZE or self.volume_size <= 0:
            least = self.size - self.volume_size + SECTOR_SIZE
            raise FormatError(
                f"a partition of {self.size} bytes cannot hold FAT with wear levelling",
                f"it takes a multiple of {SECTOR_SIZE}, and at least {least} bytes",
            )

    @property
    def _state_size(self) -> int:
        records = _STATE.size + self.size // SECTOR_SIZE * _RECORD_SIZE
        return -(-records // SECTOR_SIZE) * SECTOR_SIZE

    @property
    def volume_size(self) -> int:
        """Bytes that are left for the volume."""
        return self.size - 2 * self._state_size - SECTOR_SIZE * (2 + (_SAFE_SECTORS if self.safe else 0))

    def wrap(self, volume: bytes) -> bytes:
        """Return the partition that holds a volume of ``volume_size`` bytes, as if just formatted."""
        movable = (self.volume_size // SECTOR_SIZE) + 1 + (_SAFE_SECTORS if self.safe else 0)
        state = struct.pack("<8I28x", 0, movable, 0, 0, _UPDATE_RATE, SECTOR_SIZE, _VERSION, _DEVICE_ID)
        config = struct.pack(
            "<8I", 0, self.size, SECTOR_SIZE, SECTOR_SIZE, _UPDATE_RATE, _RECORD_SIZE, _VERSION, _BUFFER_SIZE
        )
        safe = b"" if not self.safe else b"\xff" * (_SAFE_SECTORS * SECTOR_SIZE)
        states = _with_crc(state).ljust(self._state_size, b"\xff") * 2
        configs = _with_crc(config).ljust(_CONFIG.size, b"\0").ljust(SECTOR_SIZE, b"\xff")
        return b"\xff" * SECTOR_SIZE + volume + safe + states + configs

    def unwrap(self, partition: bytes) -> bytes:
        """Return the volume in a partition that no device has written to.

        Raises:
            FormatError: state or configuration are not those of such a partition.
        """
        volume = partition[SECTOR_SIZE : SECTOR_SIZE + self.volume_size]
        if self.wrap(volume) != partition:
            raise FormatError("not a fresh partition with wear levelling", "make it anew")
        return volume


def _with_crc(record: bytes) -> bytes:
    return record + struct.pack("<I", zlib.crc32(record, _CRC_START))

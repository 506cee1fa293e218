"""A table of what was seen, small enough for a million devices.

A dict of Python objects takes about 180 bytes for each; this takes 40 on average, and as long to ask
for the millionth as for the first.
"""

from __future__ import annotations

DIGEST_SIZE = 16
_SLOT = DIGEST_SIZE + 4
_BLANK = bytes(DIGEST_SIZE)
_FIRST_SLOTS = 1 << 10


class DigestTable:
    """Digests of 16 bytes, each with the number of the row in which it came first.

    Open addressing with linear probing in one array of 20-byte slots, at most half full. The digests
    need not be evenly spread; 16 zeros are no digest.

    Args:
        expected: for how many there is room at once; with more it grows.
    """

    def __init__(self, expected: int = 0) -> None:
        """Begin empty."""
        slots = max(_FIRST_SLOTS, 1 << (2 * expected).bit_length())
        self._slots = bytearray(_SLOT * slots)
        self._mask = slots - 1
        self._count = 0

    def __len__(self) -> int:
        """How many digests there are."""
        return self._count

    def get(self, digest: bytes) -> int:
        """Return the row of a digest, 0 where it is not there."""
        slot = self._find(digest)
        return int.from_bytes(self._slots[slot + DIGEST_SIZE : slot + _SLOT], "little")

    def add(self, digest: bytes, row: int) -> int:
        """Add a digest; return the row in which it was before, 0 where it is new.

        Args:
            digest: 16 bytes, not all zero.
            row: 1 to 2**32 - 1.
        """
        slot = self._find(digest)
        number = int.from_bytes(self._slots[slot + DIGEST_SIZE : slot + _SLOT], "little")
        if number:
            return number
        self._slots[slot : slot + _SLOT] = digest + row.to_bytes(4, "little")
        self._count += 1
        if 2 * self._count > self._mask:
            self._grow()
        return 0

    def _find(self, digest: bytes) -> int:
        """Return where a digest is, or the blank slot where it would be."""
        slots, mask = self._slots, self._mask
        place = hash(digest) & mask
        while True:
            slot = place * _SLOT
            there = slots[slot : slot + DIGEST_SIZE]
            if there in (_BLANK, digest):
                return slot
            place = (place + 1) & mask

    def _grow(self) -> None:
        old = self._slots
        self._slots = bytearray(2 * len(old))
        self._mask = 2 * (self._mask + 1) - 1
        for slot in range(0, len(old), _SLOT):
            digest = bytes(old[slot : slot + DIGEST_SIZE])
            if digest != _BLANK:
                place = self._find(digest)
                self._slots[place : place + _SLOT] = old[slot : slot + _SLOT]

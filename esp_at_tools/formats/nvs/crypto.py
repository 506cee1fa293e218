"""Encrypted NVS: XTS-AES over each entry, and the keys partition.

Source: ``nvs_encrypted_partition.cpp``, ``nvs_sec_provider`` and ``nvs_flash.h`` of ESP-IDF v5.4.4.
Every entry is a data unit of its own, 32 bytes long, whose number is the entry's offset in the
partition. Page headers and bitmaps are plain, and so are entries that were never written.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.nvs.model import (
    ENTRY_COUNT,
    ENTRY_SIZE,
    ENTRY_WRITTEN,
    FIRST_ENTRY_OFFSET,
    PAGE_SIZE,
    crc32,
)

KEY_SIZE = 32
KEYS_PARTITION_SIZE = 4096
_KEYS = struct.Struct("<32s32sI")
"""``nvs_sec_cfg_t`` (encryption key, tweak key) and the CRC-32 of both."""
_BLOCK = 16
_POLYNOMIAL = 0x87
"""What x^128 is in the field of XTS."""
_ALL_EMPTY = (1 << 2 * ENTRY_COUNT) - 1
_EVERY_ENTRY = _ALL_EMPTY // 3
"""The lower bit of each entry in a bitmap."""


@dataclass(frozen=True)
class NvsKeys:
    """The two keys of an encrypted NVS partition.

    Attributes:
        encryption: 32 bytes, for the data.
        tweak: 32 bytes, for the entries' offsets.
    """

    encryption: bytes = field(repr=False)
    tweak: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse keys that XTS cannot use."""
        if len(self.encryption) != KEY_SIZE or len(self.tweak) != KEY_SIZE:
            raise FormatError("an NVS key has the wrong length", f"each of the two is {KEY_SIZE} bytes long")
        if self.encryption == self.tweak:
            raise FormatError("the two NVS keys are the same", "XTS-AES needs two different keys")

    @classmethod
    def generate(cls) -> NvsKeys:
        """Return new random keys."""
        import secrets

        return cls(secrets.token_bytes(KEY_SIZE), secrets.token_bytes(KEY_SIZE))

    @classmethod
    def from_bytes(cls, data: bytes) -> NvsKeys:
        """Read a keys partition (4096 bytes), or the bare 64 bytes of the two keys.

        Raises:
            FormatError: another size, a wrong CRC, or two equal keys.
        """
        if len(data) == 2 * KEY_SIZE:
            return cls(data[:KEY_SIZE], data[KEY_SIZE:])
        if len(data) != KEYS_PARTITION_SIZE:
            raise FormatError(
                f"a keys file of {len(data)} bytes is not an NVS keys partition",
                f"give its {KEYS_PARTITION_SIZE} bytes, or the {2 * KEY_SIZE} bytes of the keys alone",
            )
        if data == b"\xff" * KEYS_PARTITION_SIZE:
            raise FormatError("the keys partition is blank", "give the file that holds the keys")
        encryption, tweak, crc = _KEYS.unpack_from(data)
        if crc != crc32(data[: 2 * KEY_SIZE]):
            raise FormatError(
                "the CRC of the keys partition is wrong",
                "it is damaged, no keys partition, or itself encrypted by flash encryption",
            )
        return cls(encryption, tweak)

    def to_bytes(self) -> bytes:
        """Return the keys partition: the keys, their CRC, 0xFF up to 4096 bytes."""
        crc = crc32(self.encryption + self.tweak)
        return _KEYS.pack(self.encryption, self.tweak, crc).ljust(KEYS_PARTITION_SIZE, b"\xff")


def encrypt_partition(image: bytes | bytearray, keys: NvsKeys) -> bytes:
    """Return a plain image with every entry encrypted that its page's bitmap does not call empty."""
    return _apply(image, keys, encrypt=True)


def decrypt_partition(image: bytes | bytearray, keys: NvsKeys) -> bytes:
    """Return the plain image of an encrypted one; the reverse of :func:`encrypt_partition`."""
    return _apply(image, keys, encrypt=False)


def _states(image: bytes | bytearray, page: int) -> list[int]:
    """Return the states of a page's entries."""
    bitmap = int.from_bytes(image[page + ENTRY_SIZE : page + FIRST_ENTRY_OFFSET], "little")
    return [(bitmap >> shift) & 3 for shift in range(0, 2 * ENTRY_COUNT, 2)]


def _used(image: bytes | bytearray, page: int) -> int:
    """Return a bit for each of a page's entries that is not empty, in every second bit."""
    bitmap = int.from_bytes(image[page + ENTRY_SIZE : page + FIRST_ENTRY_OFFSET], "little") ^ _ALL_EMPTY
    return (bitmap | bitmap >> 1) & _EVERY_ENTRY


def _runs(image: bytes | bytearray) -> list[tuple[int, int]]:
    """Return (start, end) of every run of entries that are not empty."""
    runs: list[tuple[int, int]] = []
    for page in range(0, len(image) - PAGE_SIZE + 1, PAGE_SIZE):
        used = _used(image, page)
        at = page + FIRST_ENTRY_OFFSET
        while used:
            skip = (used & -used).bit_length() // 2
            used >>= 2 * skip
            at += ENTRY_SIZE * skip
            # The first entry that is empty again: where adding one stops carrying.
            length = ((used | _EVERY_ENTRY << 1) + 1 ^ (used | _EVERY_ENTRY << 1)).bit_length() // 2
            runs.append((at, at + ENTRY_SIZE * length))
            used >>= 2 * length
            at += ENTRY_SIZE * length
    return runs


def _apply(image: bytes | bytearray, keys: NvsKeys, *, encrypt: bool) -> bytes:
    """Run XTS over all entries at once, which is far faster than a cipher object for each."""
    runs = _runs(image)
    data = b"".join([image[start:end] for start, end in runs])
    mask = _mask(runs, keys)
    whitened = (int.from_bytes(data, "little") ^ mask).to_bytes(len(data), "little")
    changed = int.from_bytes(_cipher(keys.encryption, encrypt=encrypt)(whitened), "little")
    data = (changed ^ mask).to_bytes(len(data), "little")
    result, at = bytearray(image), 0
    for start, end in runs:
        result[start:end] = data[at : at + end - start]
        at += end - start
    return bytes(result)


@lru_cache(maxsize=1)
def _lanes(entries: int) -> tuple[int, int]:
    """Return bit 0 of every 16-byte block, and all bits of every entry's second block."""
    first = int.from_bytes((b"\x01" + bytes(_BLOCK - 1)) * 2 * entries, "little")
    return first, int.from_bytes((bytes(_BLOCK) + b"\xff" * _BLOCK) * entries, "little")


def _mask(runs: list[tuple[int, int]], keys: NvsKeys) -> int:
    """Return XTS's whitening of every 16-byte block, as one large integer.

    An entry has two blocks: the first is whitened with the encrypted offset, the second with that
    times x in GF(2^128). All offsets are encrypted in one call and multiplied as lanes of the integer.
    """
    offsets = [offset for start, end in runs for offset in range(start, end, ENTRY_SIZE)]
    words = [0] * (4 * len(offsets))
    words[0::4] = offsets
    words[2::4] = offsets
    tweaks = _cipher(keys.tweak, encrypt=True)(struct.pack(f"<{len(words)}Q", *words))
    lanes, second_blocks = _lanes(len(offsets))
    value = int.from_bytes(tweaks, "little")
    carry = (value >> 127) & lanes
    doubled = ((value ^ (carry << 127)) << 1) ^ (carry * _POLYNOMIAL)
    return value ^ ((value ^ doubled) & second_blocks)


def _cipher(key: bytes, *, encrypt: bool) -> Callable[[bytes], bytes]:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    # XTS is made of single AES blocks; ECB is how the library names those.
    cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - see above
    return (cipher.encryptor() if encrypt else cipher.decryptor()).update


def entries_are_readable(image: bytes) -> bool | None:
    """Tell whether any written entry has a correct CRC; None where no entry is written.

    False means that the image is encrypted, was decrypted with the wrong keys, or is badly damaged.
    """
    written = False
    blank = b"\xff" * ENTRY_SIZE
    for page in range(0, len(image) - PAGE_SIZE + 1, PAGE_SIZE):
        header = image[page : page + ENTRY_SIZE]
        if header == blank or crc32(header[4:28]) != int.from_bytes(header[28:32], "little"):
            continue
        for entry, state in enumerate(_states(image, page)):
            if state == ENTRY_WRITTEN:
                written = True
                at = page + FIRST_ENTRY_OFFSET + entry * ENTRY_SIZE
                crc = zlib.crc32(image[at + 8 : at + ENTRY_SIZE], crc32(image[at : at + 4]))
                if crc == int.from_bytes(image[at + 4 : at + 8], "little"):
                    return True
    return False if written else None


def decrypt_checked(image: bytes, keys: NvsKeys) -> bytes:
    """Return the plain image of an encrypted one.

    Raises:
        FormatError: the image is not encrypted, or not with these keys.
    """
    plain = decrypt_partition(image, keys)
    if entries_are_readable(plain) is False:
        if entries_are_readable(image):
            raise FormatError("the NVS image is not encrypted", "read it without keys")
        raise FormatError(
            "the keys do not fit this NVS image: not one of its entries decrypts to a valid one",
            "give the keys that it was encrypted with",
        )
    return plain

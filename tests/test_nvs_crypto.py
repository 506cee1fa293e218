"""Encrypted partitions and their keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nvs_oracle import HEADER, generator, official

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.nvs import NvsKeys, NvsPartition
from esp_at_tools.formats.nvs.crypto import (
    decrypt_checked,
    decrypt_partition,
    encrypt_partition,
    entries_are_readable,
)

KEYS = NvsKeys(bytes(range(32)), bytes(range(50, 82)))
OTHER = NvsKeys(bytes(range(32)), bytes(range(51, 83)))
ROWS = HEADER + "n,namespace,,\n" + "".join(f"k{number},data,string,value{number}\n" for number in range(150))
relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck))


def one_by_one(image: bytes, keys: NvsKeys) -> bytes:
    """Encrypt as the firmware does: an XTS data unit for each entry, numbered by its offset."""
    result = bytearray(image)
    for page in range(0, len(image) - 4095, 4096):
        bitmap = int.from_bytes(image[page + 32 : page + 64], "little")
        for entry in range(126):
            if (bitmap >> 2 * entry) & 3 != 3:
                at = page + 64 + 32 * entry
                tweak = at.to_bytes(16, "little")
                cipher = Cipher(algorithms.AES(keys.encryption + keys.tweak), modes.XTS(tweak)).encryptor()
                result[at : at + 32] = cipher.update(image[at : at + 32])
    return bytes(result)


@settings(relaxed, max_examples=60)
@given(
    bitmaps=st.lists(
        st.one_of(
            st.just(b"\xff" * 32), st.binary(min_size=32, max_size=32),
            st.integers(0, 126).map(lambda used: ((1 << 256) - 1 << 2 * used) % (1 << 256)).map(
                lambda bits: bits.to_bytes(32, "little")
            ),
        ),
        min_size=1, max_size=3,
    ),
    seed=st.binary(min_size=16, max_size=16), rest=st.integers(0, 40),
)  # fmt: skip
def test_any_bitmap_is_encrypted_entry_by_entry(bitmaps: list[bytes], seed: bytes, rest: int) -> None:
    image = b"".join(seed * 2 + bitmap + seed * 252 for bitmap in bitmaps) + seed[:rest]
    secret = encrypt_partition(image, KEYS)
    assert secret == one_by_one(image, KEYS)
    assert decrypt_partition(secret, KEYS) == image


def test_the_public_generator_decrypts_it(tmp_path: Path) -> None:
    """Its decryption takes full pages only: it counts entries, not their places."""
    text = HEADER + "n,namespace,,\n" + "".join(f"k{number},data,u8,1\n" for number in range(251))
    image = NvsPartition.from_csv(text, 0x3000, keys=KEYS).to_bytes()
    for page in (0, 4096):
        for entry in range(126):
            at = page + 64 + 32 * entry
            key = KEYS.encryption + KEYS.tweak
            plain = generator.decrypt_data(image[at : at + 32], key, page // 4096, entry, 32)
            assert plain[:3] in (b"\x00\x01\x01", b"\x01\x01\x01")
    assert image == official(tmp_path, text, 0x3000, keys=KEYS)


def test_decryption_gives_the_plain_partition_back() -> None:
    plain = NvsPartition.from_csv(ROWS, 0x5000)
    secret = NvsPartition.from_csv(ROWS, 0x5000, keys=KEYS).to_bytes()
    assert decrypt_checked(secret, KEYS) == plain.to_bytes() != secret
    assert NvsPartition.from_bytes(secret, keys=KEYS).entries == plain.entries


def test_wrong_keys_are_one_clear_error() -> None:
    secret = NvsPartition.from_csv(ROWS, 0x5000, keys=KEYS).to_bytes()
    with pytest.raises(FormatError) as caught:
        NvsPartition.from_bytes(secret, keys=OTHER)
    assert "keys do not fit" in caught.value.message


def test_keys_for_a_plain_image_are_refused() -> None:
    with pytest.raises(FormatError, match="not encrypted"):
        NvsPartition.from_bytes(NvsPartition.from_csv(ROWS, 0x5000).to_bytes(), keys=KEYS)


def test_an_image_without_entries_fits_any_keys() -> None:
    for data in (b"\xff" * 8192, NvsPartition.empty(0x3000).to_bytes()):
        assert NvsPartition.from_bytes(data, keys=KEYS).entries == ()


def test_what_looks_encrypted() -> None:
    secret = NvsPartition.from_csv(ROWS, 0x5000, keys=KEYS).to_bytes()
    assert entries_are_readable(secret) is False
    assert entries_are_readable(NvsPartition.from_csv(ROWS, 0x5000).to_bytes()) is True
    assert entries_are_readable(NvsPartition.empty(0x3000).to_bytes()) is None
    assert entries_are_readable(bytes(4096)) is None
    assert entries_are_readable(b"") is None


def test_keys_partitions_are_those_of_the_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = type("Options", (), {"keyfile": "k.bin", "outdir": str(tmp_path), "key_protect_hmac": False})
    generator.generate_key(options)
    data = (tmp_path / "keys" / "k.bin").read_bytes()
    keys = NvsKeys.from_bytes(data)
    assert keys.to_bytes() == data
    assert keys.encryption + keys.tweak == data[:64]


def test_keys_come_back_and_are_not_shown() -> None:
    keys = NvsKeys.generate()
    assert keys != NvsKeys.generate()
    assert NvsKeys.from_bytes(keys.to_bytes()) == keys == NvsKeys.from_bytes(keys.encryption + keys.tweak)
    assert len(keys.to_bytes()) == 4096
    assert "\\x" not in repr(KEYS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes"),
        (bytes(63), "63 bytes"),
        (bytes(4095), "4095 bytes"),
        (b"\xff" * 4096, "blank"),
        (bytes(4096), "CRC"),
        (KEYS.to_bytes()[:64] + bytes(4032), "CRC"),
        (bytes(64), "the same"),
        (NvsKeys(bytes(32), bytes(31) + b"\1").to_bytes()[::-1], "CRC"),
    ],
)
def test_what_is_no_keys_file_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        NvsKeys.from_bytes(data)
    assert caught.value.hint


def test_keys_have_32_bytes() -> None:
    with pytest.raises(FormatError, match="wrong length"):
        NvsKeys(bytes(16), bytes(32))

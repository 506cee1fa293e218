"""What the simulated boot loader knows of each chip: registers, eFuses, commands.

Sources: the classes of ``esptool/targets`` (version 5.6) for the addresses, and recordings of an
ESP32 and an ESP32-C3 for the values.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

FLASH_BEGIN, FLASH_DATA, FLASH_END = 0x02, 0x03, 0x04
MEM_BEGIN, MEM_END, MEM_DATA = 0x05, 0x06, 0x07
SYNC, WRITE_REG, READ_REG = 0x08, 0x09, 0x0A
SPI_SET_PARAMS, SPI_ATTACH, READ_FLASH_SLOW, CHANGE_BAUDRATE = 0x0B, 0x0D, 0x0E, 0x0F
DEFL_BEGIN, DEFL_DATA, DEFL_END = 0x10, 0x11, 0x12
SPI_FLASH_MD5, GET_SECURITY_INFO = 0x13, 0x14
ERASE_FLASH, ERASE_REGION, READ_FLASH = 0xD0, 0xD1, 0xD2

DETECT_REGISTER = 0x40001000
"""A word of ROM that tells the older chips apart."""


@dataclass(frozen=True)
class ChipModel:
    """What differs between the ROMs.

    Attributes:
        status_size: bytes of status at the end of a response.
        spi: base address of the SPI registers, and the offsets of USR, USR2 and W0.
        spi_idle: the USR register before anything has used it.
        registers: other registers and eFuses that are not zero; address → value.
        security_info: what GET_SECURITY_INFO answers; None where it is unknown.
        begin_words: 32-bit words in FLASH_BEGIN, the last of five being "encrypted".
        commands: those that it knows beyond the ESP8266's.
        crypt_cnt: register and mask of the eFuses that count flash encryption on.
        secure_boot: register and mask of the eFuse that turns secure boot on.
    """

    status_size: int
    spi: tuple[int, int, int, int]
    spi_idle: int
    registers: dict[int, int]
    security_info: bytes | None
    begin_words: int
    commands: frozenset[int]
    crypt_cnt: tuple[int, int]
    secure_boot: tuple[int, int]


_ESP8266_COMMANDS = frozenset(range(FLASH_BEGIN, READ_REG + 1))
_ESP32_COMMANDS = _ESP8266_COMMANDS | {
    SPI_SET_PARAMS, SPI_ATTACH, READ_FLASH_SLOW, CHANGE_BAUDRATE, SPI_FLASH_MD5,
    DEFL_BEGIN, DEFL_DATA, DEFL_END,
}  # fmt: skip
STUB_COMMANDS = _ESP32_COMMANDS | {ERASE_FLASH, ERASE_REGION, READ_FLASH, GET_SECURITY_INFO}
SECURE_COMMANDS = {
    FLASH_BEGIN, FLASH_DATA, FLASH_END, SYNC, SPI_SET_PARAMS, SPI_ATTACH, CHANGE_BAUDRATE, GET_SECURITY_INFO,
}  # fmt: skip
"""What is left in Secure Download Mode."""
_NEW = _ESP32_COMMANDS | {GET_SECURITY_INFO}


def _info(chip_id: int | None) -> bytes:
    """Flags, flash encryption count, seven key purposes and, but on ESP32-S2, chip id and version."""
    head = struct.pack("<IB7B", 0, 0, 0, 0, 0, 0, 0, 0, 0x0C)
    return head if chip_id is None else head + struct.pack("<II", chip_id, 3)


CHIPS = {
    "esp8266": ChipModel(
        2, (0x60000200, 0x1C, 0x24, 0x40), 0, {DETECT_REGISTER: 0xFFF0C101, 0x60000014: 0x1C8},
        None, 4, _ESP8266_COMMANDS, (0, 0), (0, 0),
    ),
    "esp32": ChipModel(
        4, (0x3FF42000, 0x1C, 0x24, 0x80), 0,
        {DETECT_REGISTER: 0x00F01D83, 0x3FF6607C: 0x96042000, 0x3FF40014: 0x15A, 0x3FF44038: 0x0F},
        None, 4, _ESP32_COMMANDS, (0x3FF5A000, 1 << 20), (0x3FF5A018, 1 << 4),
    ),
    "esp32s2": ChipModel(
        4, (0x3F402000, 0x18, 0x20, 0x58), 0x800000C0, {DETECT_REGISTER: 0x000007C6},
        _info(None), 5, _NEW, (0x3F41A034, 1 << 18), (0x3F41A038, 1 << 20),
    ),
    "esp32c3": ChipModel(
        4, (0x60002000, 0x18, 0x20, 0x58), 0x800000C0, {0x60008850: 0x000C0000},
        _info(5), 5, _NEW, (0x60008834, 1 << 18), (0x60008838, 1 << 20),
    ),
}  # fmt: skip
"""The chips by esptool's names."""


def mac_registers(chip: str, mac: bytes) -> dict[int, int]:
    """Return the eFuses that hold a MAC address of six bytes."""
    high, low = int.from_bytes(mac[:2], "big"), int.from_bytes(mac[2:], "big")
    if chip == "esp8266":
        oui, rest = int.from_bytes(mac[:3], "big"), int.from_bytes(mac[3:], "big")
        return {0x3FF00050: (rest & 0xFF) << 24, 0x3FF00054: rest >> 8, 0x3FF0005C: oui}
    if chip == "esp32":
        return {0x3FF5A008: _crc8(mac) << 16 | high, 0x3FF5A004: low}
    base = {"esp32c3": 0x60008844, "esp32s2": 0x3F41A044}[chip]
    return {base: low, base + 4: high}


def _crc8(data: bytes) -> int:
    """Return the CRC-8 (Dallas/Maxim, 0x31 reflected) that stands beside the MAC address on ESP32."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
    return crc

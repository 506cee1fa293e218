"""What the header of an application image means on each chip.

Source: ``esp_app_format.h`` and the ``soc.h`` of each chip, ESP-IDF v5.4.4 and, for the newest chips,
master; ``targets/`` of esptool 5.6; ``esp_image_format.h`` of ESP8266_RTOS_SDK v3.4.
"""

from __future__ import annotations

from dataclasses import dataclass

FLASH_MODES = ("qio", "qout", "dio", "dout", "fast_read", "slow_read")
"""``esp_image_spi_mode_t``."""
FLASH_SIZES = ("1MB", "2MB", "4MB", "8MB", "16MB", "32MB", "64MB", "128MB")
"""``esp_image_flash_size_t`` of the ESP32 family."""
ESP8266_FLASH_SIZES = ("512KB", "256KB", "1MB", "2MB", "4MB", "2MB-c1", "4MB-c1", "", "8MB", "16MB")
"""``esp_image_flash_size_t`` of the ESP8266; code 7 means nothing."""

_FREQUENCIES = {0x0: "40m", 0x1: "26m", 0x2: "20m", 0xF: "80m"}
_FREQUENCIES_H = {0x0: "24m", 0xF: "48m"}


@dataclass(frozen=True)
class ChipFormat:
    """What an image's header means on one chip.

    Attributes:
        name: as esptool has it, e.g. ``esp32c3``.
        id: ``esp_chip_id_t``; None for the ESP8266, whose images have no such field.
        frequencies: code of the flash clock → its name (``FLASH_FREQUENCY`` of esptool).
        mapped: address ranges at which flash is mapped (``SOC_IROM_LOW`` and the like in ``soc.h``).
    """

    name: str
    id: int | None
    frequencies: dict[int, str]
    mapped: tuple[tuple[int, int], ...]

    def is_mapped(self, address: int) -> bool:
        """Tell whether code or data at an address stays in flash, instead of being loaded into RAM."""
        return any(low <= address < high for low, high in self.mapped)


_RISCV_SPLIT = ((0x3C00_0000, 0x3E00_0000), (0x4200_0000, 0x4400_0000))
_RISCV_UNITED = ((0x4200_0000, 0x4400_0000),)

ESP8266 = ChipFormat("esp8266", None, _FREQUENCIES, ((0x4020_0000, 0x4030_0000),))
CHIPS = (
    ESP8266,
    ChipFormat("esp32", 0, _FREQUENCIES, ((0x3F40_0000, 0x3F80_0000), (0x400D_0000, 0x4040_0000))),
    ChipFormat("esp32s2", 2, _FREQUENCIES, ((0x3F00_0000, 0x3FF8_0000), (0x4008_0000, 0x4080_0000))),
    ChipFormat("esp32c3", 5, _FREQUENCIES, _RISCV_SPLIT),
    ChipFormat("esp32s3", 9, _FREQUENCIES, _RISCV_SPLIT),
    ChipFormat("esp32c2", 12, {0x0: "30m", 0x1: "20m", 0x2: "15m", 0xF: "60m"}, _RISCV_SPLIT),
    # Both 40 and 80 MHz are code 0 here; esptool calls it 80m too, ESP-AT has no other.
    ChipFormat("esp32c6", 13, {0x0: "80m", 0x2: "20m"}, _RISCV_UNITED),
    ChipFormat("esp32h2", 16, {0x0: "24m", 0x1: "16m", 0x2: "12m", 0xF: "48m"}, _RISCV_UNITED),
    ChipFormat("esp32p4", 18, _FREQUENCIES, ((0x4000_0000, 0x4C00_0000),)),
    ChipFormat("esp32c61", 20, {0x0: "40m", 0x2: "20m", 0xF: "80m"}, _RISCV_UNITED),
    ChipFormat("esp32c5", 23, {0x0: "40m", 0x2: "20m", 0xF: "80m"}, _RISCV_UNITED),
    ChipFormat("esp32h21", 25, _FREQUENCIES_H, _RISCV_UNITED),
    ChipFormat("esp32h4", 28, _FREQUENCIES_H, _RISCV_UNITED),
    ChipFormat("esp32e22", 31, _FREQUENCIES, ((0x3C00_0000, 0x4000_0000),)),
    ChipFormat("esp32s31", 32, {0x0: "40m", 0x2: "20m", 0xF: "80m"}, ((0x4000_0000, 0x5400_0000),)),
)
"""The chips, in the order of their ids."""
BY_ID = {chip.id: chip for chip in CHIPS if chip.id is not None}
"""Chip id → chip."""

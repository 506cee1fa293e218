"""The flash settings in a bootloader's header, as esptool sets them while it flashes.

Source: ``_update_image_flash_params`` of esptool's ``cmds.py`` for what is set when: the mode is the
third byte, size and clock share the fourth, and a SHA-256 at the end of the image is made anew.
"""

from __future__ import annotations

import hashlib

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.app_image import IMAGE_MAGIC, SHA256_SIZE, AppImage
from esp_at_tools.formats.image_chips import CHIPS, ESP8266_FLASH_SIZES, FLASH_MODES, FLASH_SIZES


def with_flash_settings(data: bytes, mode: str, freq: str, size: str) -> bytes:
    """Return a bootloader, or flash that begins with one, with other flash settings.

    Args:
        data: the bootloader; it is returned as it is if it is none, or is signed: the signature
            covers the header.
        mode: ``dio``; ``""`` leaves it, as for the next two.
        freq: ``40m``.
        size: ``4MB``.

    Raises:
        FormatError: the chip has no such mode, clock or size.
    """
    try:
        image = AppImage.from_bytes(data)
    except FormatError:
        return data
    chip = next((chip for chip in CHIPS if chip.name == image.chip), None)
    if chip is None or data[0] != IMAGE_MAGIC or image.signature is not None:
        return data
    sizes = ESP8266_FLASH_SIZES if chip.id is None else FLASH_SIZES
    clocks = {name: code for code, name in chip.frequencies.items()}
    for what, value, known in (("mode", mode, FLASH_MODES), ("freq", freq, clocks), ("size", size, sizes)):
        if value and value not in known:
            raise FormatError(
                f"flash_{what} {value} is unknown on {chip.name}",
                f"known are {', '.join(filter(None, known))}",
            )
    changed = bytearray(data)
    if mode:
        changed[2] = FLASH_MODES.index(mode)
    if size:
        changed[3] = changed[3] & 0x0F | sizes.index(size) << 4
    if freq:
        changed[3] = changed[3] & 0xF0 | clocks[freq]
    if image.sha256 is not None:
        end = image.size - SHA256_SIZE
        changed[end : image.size] = hashlib.sha256(changed[:end]).digest()
    return bytes(changed)

"""What to flash where after a change: whole, or the changed partitions alone."""

from __future__ import annotations

import shlex
from pathlib import Path

from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.source import Patch
from esp_at_tools.numbers import format_size

PORT = "PORT"
"""Stands for the serial port in the commands shown."""


def flash_lines(
    firmware: Firmware, target: Path, patches: list[Patch], parts: dict[str, Path] | None = None
) -> list[str]:
    """Return the lines that say what to flash where.

    Args:
        firmware: the changed firmware.
        target: where it was written.
        patches: its changed partitions.
        parts: partition name → file that holds it alone, where such files were written.
    """
    if firmware.map is None:
        return _partition_alone(firmware, target)
    lines = [
        "Flash it whole (the module keeps what it has stored, such as its Wi-Fi network):",
        f"  {_join('esp-at-tool', 'flash', target, '-p', PORT)}",
    ]
    if firmware.kind == "image":
        lines += [
            "with esptool, at 0x0 (what the module has stored is lost):",
            f"  {_esptool(firmware, '0x0', target)}",
        ]
    return lines + _changed_parts(firmware, target, patches, parts or {})


def _changed_parts(
    firmware: Firmware, target: Path, patches: list[Patch], parts: dict[str, Path]
) -> list[str]:
    if not patches:
        return []
    total = format_size(sum(patch.size for patch in patches))
    only = [word for patch in patches for word in ("--only", patch.name)]
    lines = [
        f"Or what changed alone ({total}; the module keeps the rest):",
        f"  {_join('esp-at-tool', 'flash', target, *only, '-p', PORT)}",
    ]
    files = [(f"{patch.offset:#x}", parts.get(patch.name)) for patch in patches]
    if all(path is not None for _, path in files):
        words = [str(word) for pair in files for word in pair]
        return [*lines, f"  {_esptool(firmware, *words)}"]
    places = ", ".join(f"{patch.name} at {patch.offset:#x}" for patch in patches)
    option = "--mfg-nvs-output FILE" if firmware.layout.name == "modern" else "--partitions-output DIR"
    words = [word for patch in patches for word in (f"{patch.offset:#x}", f"{patch.name}.bin")]
    return [
        *lines,
        f"  {_esptool(firmware, *words)}",
        f"  ({places}; {option} writes it as a file of its own)",
    ]


def _partition_alone(firmware: Firmware, target: Path) -> list[str]:
    name = firmware.kind
    return [
        f"Flash it at the address of {name} in your firmware's tables ('esp-at-tool inspect' shows it):",
        f"  {_esptool(firmware, 'ADDRESS', target)}",
        "or let the module's own tables tell the address:",
        f"  {_join('esp-at-tool', 'flash', target, '-p', PORT)}",
    ]


def _esptool(firmware: Firmware, *words: object) -> str:
    chip = ["--chip", firmware.chip_name] if firmware.chip_name else []
    return _join("esptool", *chip, "--port", PORT, "write-flash", *words)


def _join(*words: object) -> str:
    return shlex.join(str(word) for word in words)

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
    return lines + _changed_parts(firmware, target, patches, parts or {}) + _rate_remark(firmware)


def _rate_remark(firmware: Firmware) -> list[str]:
    """Return what to know of a changed rate: a module stores that of its first start in its own ``nvs``."""
    if all(change.name != "uart_baudrate" for change in firmware.changes()):
        return []
    return [
        "A module that has started before has stored its UART rate, which goes before uart_baudrate, until",
        f"  {_join('esp-at-tool', 'erase-flash', '--only', 'nvs', '-p', PORT)}",
        "or AT+RESTORE forgets it, or AT+UART_DEF changes it.",
    ]


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
    written = {**_of_release(firmware, target), **parts}
    words = [
        str(word)
        for patch in patches
        for word in (f"{patch.offset:#x}", written.get(patch.name, f"{patch.name}.bin"))
    ]
    if all(patch.name in written for patch in patches):
        return [*lines, "with esptool:", f"  {_esptool(firmware, *words)}"]
    option = "--mfg-nvs-output mfg_nvs.bin" if firmware.layout.name == "modern" else "--partitions-output ."
    return [
        *lines,
        f"with esptool, once {option} has made the file{'s' if len(patches) > 1 else ''}:",
        f"  {_esptool(firmware, *words)}",
    ]


def _of_release(firmware: Firmware, target: Path) -> dict[str, Path]:
    """Return the files of a release folder that hold one partition each, by the partition's name."""
    if firmware.kind != "release" or not target.is_dir():
        return {}
    from esp_at_tools.firmware.release import Release

    assert isinstance(firmware.source, Release)  # noqa: S101 - what the kind says
    files = firmware.source.args.files
    folder = target / firmware.source.prefix
    named = {
        name: folder / files[place.offset] for name, place in firmware.places.items() if place.offset in files
    }
    return {name: path for name, path in named.items() if path.is_file()}


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

"""Firmwares of both layouts for tests of ``migrate``, and how their reports are looked into."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import builders

from esp_at_tools.firmware.firmware import Firmware

ROW = "0,16,0x2800,0x01,2,2,A002"
TABLE = (ROW, "1,16,0x2803,0x01,1,1,02", "2,16,0xC300,0x01,1,1,30")


def open_all(folder: Path) -> dict[str, Firmware]:
    """Return firmwares of both layouts, whole and as a partition alone; a test takes a copy."""
    (folder / "modern.bin").write_bytes(builders.image())
    (folder / "legacy.bin").write_bytes(builders.legacy_image())
    (folder / "mfg_nvs.bin").write_bytes(builders.generate(builders.mfg_csv()))
    (folder / "factory_param.bin").write_bytes(builders.factory_param())
    return {path.stem: Firmware.open(path) for path in folder.iterdir()}


def reopened(firmware: Firmware) -> Firmware:
    """Return a firmware whose changes count as what it was opened with."""
    return Firmware(
        firmware.source,
        firmware.layout,
        firmware.places,
        firmware.map,
        firmware.chip_name,
        firmware.flash_size,
    )


def taker(opened: Mapping[str, Firmware]) -> Callable[..., Firmware]:
    """Return what copies a firmware with some settings, items and rows changed."""

    def copied(
        name: str, pki: Mapping[str, bytes] | Sequence = (), gatts: Sequence[str] = (), **changes: object
    ) -> Firmware:
        firmware = copy.deepcopy(opened[name])
        for setting, value in changes.items():
            firmware.set(setting, value)
        for item, data in dict(pki).items():
            firmware.set_pki(item, data)
        for number, row in enumerate(gatts):
            firmware.set(f"cfg{number}", row)
        return reopened(firmware)

    return copied


def names(entries) -> list[str]:
    return [entry.name for entry in entries]


def of(entries, name):
    return next(entry for entry in entries if entry.name == name)

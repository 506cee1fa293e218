"""The settings, certificates, keys and GATT rows of a running module, read.

A firmware with AT+SYSMFG is read entry by entry, an older one, whose parameters are partitions, partition
by partition with AT+SYSFLASH. How they are changed: :mod:`esp_at_tools.at_port.changing`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from esp_at_tools.at_port.client import AtClient
from esp_at_tools.at_port.info import Info, read_info, read_partitions
from esp_at_tools.at_port.sysflash import read_partition
from esp_at_tools.at_port.sysmfg import has_sysmfg, read_entry, read_keys
from esp_at_tools.catalog.chips import find_chip
from esp_at_tools.errors import DeviceError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.source import FileSource, Kind
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.partition_table import Partition
from esp_at_tools.pki.names import PKI_GROUPS, PKI_ITEMS
from esp_at_tools.settings.layout import Layout
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.modern import ModernLayout
from esp_at_tools.settings.names import BLE_DATA, FACTORY_PARAM, LEGACY_PARTITIONS, SETTINGS

UNKNOWN_SIZE = 1 << 20
"""Bytes that ``mfg_nvs`` is taken to have where the module does not tell; it refuses what does not fit."""

Way = Literal["sysmfg", "sysflash", "none"]
LayoutName = Literal["modern", "legacy", "unknown"]

Progress = Callable[[str, int, int], None]
"""Takes what is done, and how much of it: bytes done and bytes to do."""


def silent(_what: str, _done: int, _total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Running:
    """A module that has answered.

    Attributes:
        client: how to talk to it.
        info: what it says of itself.
        partitions: its user partitions by name.
        way: how its parameters are reached, if they can be.
        layout: where they are: in ``mfg_nvs``, or in a partition each.
    """

    client: AtClient
    info: Info
    partitions: Mapping[str, Partition]
    way: Way
    layout: LayoutName

    @classmethod
    def ask(cls, client: AtClient) -> Running:
        """Ask a module who it is and how its parameters are reached.

        Raises:
            DeviceError: it is no AT firmware.
        """
        info, partitions = read_info(client), read_partitions(client)
        if has_sysmfg(client):
            return cls(client, info, partitions, "sysmfg", "modern")
        if MFG_NVS in partitions:
            return cls(client, info, partitions, "sysflash", "modern")
        if FACTORY_PARAM in partitions:
            return cls(client, info, partitions, "sysflash", "legacy")
        return cls(client, info, partitions, "none", "unknown")

    def check_access(self) -> None:
        """Refuse a module whose parameters cannot be reached.

        Raises:
            DeviceError: its firmware has neither AT+SYSMFG nor a parameter partition for AT+SYSFLASH.
        """
        if self.way != "none":
            return
        names = ", ".join(self.partitions)
        what = f"its user partitions are {names}" if names else "it names no user partition"
        raise DeviceError(
            f"{self.client.port}: {self.info.module or 'the module'} with AT {self.info.at_version} gives no"
            f" access to its parameters: {what}",
            "at_customize.bin must be flashed (AT+SYSFLASH needs it); else change the image and flash it",
        )

    def read(self, names: Collection[str] | None = None, progress: Progress = silent) -> Firmware:
        """Return what the module holds as a firmware that can be changed in memory.

        Args:
            names: what will be looked at or changed, so that only what belongs to it is read; None for all.
            progress: told what is being read.

        Raises:
            DeviceError: it cannot be reached, or its answers cannot be read.
        """
        self.check_access()
        if self.way == "sysmfg":
            return self._read_entries(names, progress)
        return self.from_partitions(self.read_partitions(names, progress))

    def read_partitions(
        self, names: Collection[str] | None = None, progress: Progress = silent
    ) -> dict[str, bytes]:
        """Return the parameter partitions that names belong to, all for None, by AT+SYSFLASH."""
        wanted = (MFG_NVS,) if self.layout == "modern" else namespaces_of(names)
        return {name: self.read_partition(name, progress) for name in wanted if name in self.partitions}

    def read_partition(self, name: str, progress: Progress = silent) -> bytes:
        """Return a partition, by AT+SYSFLASH."""
        place = self.partitions[name]
        return read_partition(
            self.client, place, progress=lambda done: progress(f"reading {name}", done, place.size)
        )

    def from_partitions(self, contents: Mapping[str, bytes]) -> Firmware:
        """Return the firmware that partitions of the module make up."""
        places = {name: self.partitions[name] for name in contents}
        if self.layout == "modern":
            return self._firmware(ModernLayout(NvsPartition.from_bytes(contents[MFG_NVS])), places)
        from esp_at_tools.settings.legacy import LegacyLayout

        sizes = {name: place.size for name, place in places.items()}
        return self._firmware(LegacyLayout(contents, sizes), places)

    def _read_entries(self, names: Collection[str] | None, told: Progress) -> Firmware:
        size = self.partitions[MFG_NVS].size if MFG_NVS in self.partitions else UNKNOWN_SIZE
        nvs = NvsPartition.empty(size)
        for namespace in namespaces_of(names):
            keys = read_keys(self.client, namespace)
            for number, (key, kind) in enumerate(keys.items()):
                told(f"reading {namespace}", number, len(keys))
                entry = read_entry(self.client, namespace, key, kind)
                nvs.set(namespace, key, entry.type, entry.value)
        place = self.partitions.get(MFG_NVS, Partition(MFG_NVS, 1, 2, 0, size))
        fresh = NvsPartition.from_bytes(nvs.to_bytes())  # what is changed from here on is a change
        return self._firmware(ModernLayout(fresh), {MFG_NVS: place})

    def _firmware(self, layout: Layout, places: Mapping[str, Partition]) -> Firmware:
        kind: Kind = "mfg_nvs" if layout.name == "modern" else "factory_param"
        source = FileSource(Path(f"port:{self.client.port}"), b"", kind)
        chip = find_chip(self.info.chip)
        return Firmware(source, layout, dict(places), None, chip.name if chip else "")


def namespaces_of(names: Collection[str] | None) -> tuple[str, ...]:
    """Return the namespaces, or legacy partitions, of names and of what is judged together with them."""
    if names is None:
        return (FACTORY_PARAM, *PKI_GROUPS, BLE_DATA)
    found = {FACTORY_PARAM}  # its pins are checked together, and it tells what the layout is
    roles = {PKI_ITEMS[name].role for name in names if name in PKI_ITEMS}
    found |= {item.group for item in PKI_ITEMS.values() if item.role in roles}
    if any(name not in PKI_ITEMS and name not in SETTINGS for name in names):
        found.add(BLE_DATA)
    return tuple(name for name in LEGACY_PARTITIONS if name in found)


def namespace_of(name: str) -> str:
    """Return the namespace of a setting, PKI item or GATT row."""
    if name in SETTINGS:
        return FACTORY_PARAM
    return PKI_ITEMS[name].group if name in PKI_ITEMS else BLE_DATA

"""The settings, certificates, keys and GATT rows of a running module, read and changed.

A firmware with AT+SYSMFG is changed entry by entry. An older one, whose parameters are partitions, is
changed partition by partition with AT+SYSFLASH. Either way what was written is read back and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from esp_at_tools.at_port.client import AtClient, AtError
from esp_at_tools.at_port.info import Info, read_info, read_partitions
from esp_at_tools.at_port.recovery import Recovery, identity
from esp_at_tools.at_port.sysflash import read_partition, replace_partition
from esp_at_tools.at_port.sysmfg import erase_entry, has_sysmfg, read_entry, read_keys, write_entry
from esp_at_tools.catalog.chips import find_chip
from esp_at_tools.errors import CheckFailedError, DeviceError, InputError
from esp_at_tools.firmware.firmware import Change, Firmware
from esp_at_tools.firmware.modify import Outcome, Request, modify
from esp_at_tools.firmware.source import FileSource, Kind
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.nvs.model import NvsEntry
from esp_at_tools.formats.partition_table import Partition
from esp_at_tools.pki.names import PKI_GROUPS, PKI_ITEMS
from esp_at_tools.settings.layout import Layout
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.modern import ModernLayout
from esp_at_tools.settings.names import BLE_DATA, FACTORY_PARAM, LEGACY_PARTITIONS, SETTINGS

UNKNOWN_SIZE = 1 << 20
"""Bytes that ``mfg_nvs`` is taken to have where the module does not tell; it refuses what does not fit."""

Way = Literal["sysmfg", "sysflash"]

Progress = Callable[[str, int, int], None]
"""Takes what is done, and how much of it: bytes done and bytes to do."""


@dataclass(frozen=True)
class Running:
    """A module that has answered.

    Attributes:
        client: how to talk to it.
        info: what it says of itself.
        partitions: its user partitions by name.
        way: how its parameters are reached.
        layout: where they are: in ``mfg_nvs``, or in a partition each.
    """

    client: AtClient
    info: Info
    partitions: Mapping[str, Partition]
    way: Way
    layout: Literal["modern", "legacy"]

    @classmethod
    def ask(cls, client: AtClient) -> Running:
        """Ask a module who it is and how its parameters are reached.

        Raises:
            DeviceError: it is no AT firmware, or one without AT+SYSMFG and AT+SYSFLASH.
        """
        info, partitions = read_info(client), read_partitions(client)
        if has_sysmfg(client):
            return cls(client, info, partitions, "sysmfg", "modern")
        if MFG_NVS in partitions:
            return cls(client, info, partitions, "sysflash", "modern")
        if FACTORY_PARAM in partitions:
            return cls(client, info, partitions, "sysflash", "legacy")
        what = (
            f"its user partitions are {', '.join(partitions)}" if partitions else "it names no user partition"
        )
        raise DeviceError(
            f"{client.port}: {info.module or 'the module'} with AT {info.at_version} gives no access to its"
            f" parameters: {what}",
            "at_customize.bin must be flashed (AT+SYSFLASH needs it); else change the image and flash it",
        )

    def read(
        self,
        names: Collection[str] | None = None,
        progress: Progress | None = None,
        instead: Mapping[str, bytes] | None = None,
    ) -> Firmware:
        """Return what the module holds as a firmware that can be changed in memory.

        Args:
            names: what will be looked at or changed, so that only what belongs to it is read; None for all.
            progress: told what is being read.
            instead: partitions that are not to be read, and what is in them.
        """
        told = progress or (lambda _what, _done, _total: None)
        if self.way == "sysmfg":
            return self._read_entries(names, told)
        wanted = (MFG_NVS,) if self.layout == "modern" else namespaces_of(names)
        places = {name: self.partitions[name] for name in wanted if name in self.partitions}
        contents = {
            name: (instead or {}).get(name) or self._read_partition(place, told)
            for name, place in places.items()
        }
        if self.layout == "modern":
            return self._firmware(ModernLayout(NvsPartition.from_bytes(contents[MFG_NVS])), places)
        from esp_at_tools.settings.legacy import LegacyLayout

        sizes = {name: place.size for name, place in places.items()}
        return self._firmware(LegacyLayout(contents, sizes), places)

    def _read_partition(self, place: Partition, told: Progress) -> bytes:
        def shown(done: int) -> None:
            told(f"reading {place.name}", done, place.size)

        return read_partition(self.client, place, progress=shown)

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

    # --- changing ----------------------------------------------------------------------------

    def change(self, request: Request, *, force: bool = False, progress: Progress | None = None) -> Outcome:
        """Change the module as asked, after the same checks as for a file.

        Returns:
            What was changed; every change has been read back from the module.

        Raises:
            InputError: something is impossible; nothing was written.
            RiskyValueError: something is risky, and ``force`` is not given; nothing was written.
            DeviceError: the module failed on the way; run again, what is done already is not done anew.
            CheckFailedError: it does not hold what was written.
        """
        told = progress or (lambda _what, _done, _total: None)
        if self.way == "sysmfg":
            firmware = self.read(request.names(), told)
            outcome = modify(firmware, request, force=force)
            self._write_entries(firmware, outcome.changes, told)
            return outcome
        recovery = Recovery(identity(self.client))
        pending = recovery.pending()
        firmware = self.read(request.names(), told, pending)
        outcome = modify(firmware, request, force=force)
        contents = {**pending, **{patch.name: patch.data for patch in firmware.patches()}}
        self._replace(contents, recovery, told)
        said = [f"{name}: an earlier write of it was interrupted; it is complete now" for name in pending]
        return replace(outcome, warnings=[*outcome.warnings, *said])

    def _write_entries(self, firmware: Firmware, changes: Sequence[Change], told: Progress) -> None:
        layout = firmware.layout
        assert isinstance(layout, ModernLayout)  # noqa: S101 - SYSMFG has no other
        for number, change in enumerate(changes):
            namespace = _namespace(change.name)
            told(f"writing {change.name}", number, len(changes))
            wanted = layout.nvs.get(namespace, change.name)
            if wanted is None:
                erase_entry(self.client, namespace, change.name)
            else:
                self._write_entry(wanted)
            if self._entry(namespace, change.name) != wanted:
                raise CheckFailedError(
                    f"{self.client.port}: {change.name} does not read back as it was written",
                    "run it again; a lower rate, or flow control (--flow), may help",
                )

    def _write_entry(self, entry: NvsEntry) -> None:
        try:
            write_entry(self.client, entry)
        except AtError as error:
            place = self.partitions.get(MFG_NVS)
            size = f" of {place.size} bytes" if place else ""
            raise DeviceError(
                f"{self.client.port}: the module does not take {entry.key}: {error.message}",
                f"probably its mfg_nvs{size} is full: remove an item (--unset), or use a shorter chain",
            ) from error

    def _entry(self, namespace: str, key: str) -> NvsEntry | None:
        keys = read_keys(self.client, namespace)
        return read_entry(self.client, namespace, key, keys[key]) if key in keys else None

    def _replace(self, contents: Mapping[str, bytes], recovery: Recovery, told: Progress) -> None:
        for name, data in contents.items():

            def shown(done: int, name: str = name, size: int = len(data)) -> None:
                told(f"writing {name}", done, size)

            with recovery.keep(name, data.ljust(self.partitions[name].size, b"\xff")):
                replace_partition(self.client, self.partitions[name], data, shown)

    # --- whole partitions --------------------------------------------------------------------

    def push(self, firmware: Firmware, progress: Progress | None = None) -> list[str]:
        """Replace the module's parameter partitions by those of a firmware.

        Returns:
            The names of the partitions that were written; the others were so already.

        Raises:
            InputError: it is a firmware for another chip or layout, or does not fit; nothing was written.
        """
        told = progress or (lambda _what, _done, _total: None)
        contents = {
            name: data
            for name, data in self._pushable(firmware).items()
            if self._read_partition(self.partitions[name], told)
            != data.ljust(self.partitions[name].size, b"\xff")
        }
        self._replace(contents, Recovery(identity(self.client)), told)
        return list(contents)

    def _pushable(self, firmware: Firmware) -> dict[str, bytes]:
        where, port = firmware.source.path, self.client.port
        chip = find_chip(self.info.chip)
        if firmware.chip_name and chip is not None and firmware.chip_name != chip.name:
            raise InputError(
                f"{where}: is for {firmware.chip_name}, and the module on {port} is an {chip.title}",
                "give a firmware for this chip",
            )
        if firmware.layout.name != self.layout:
            raise InputError(
                f"{where}: has the {firmware.layout.name} layout, the module on {port} the {self.layout} one",
                "'esp-at-tool migrate' carries settings from one to the other",
            )
        contents = {name: data.rstrip(b"\xff") for name, data in firmware.layout.contents().items()}
        for name, data in contents.items():
            place = self.partitions.get(name)
            if place is None:
                raise InputError(
                    f"{where}: {name} has no partition on the module, or AT+SYSFLASH does not show it",
                    "flash it instead: 'esp-at-tool flash --only'",
                )
            if len(data) > place.size:
                raise InputError(
                    f"{where}: {name} has {len(data)} bytes, its partition on the module {place.size}",
                    "give contents that are made for this module's partition table",
                )
        return contents


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


def _namespace(name: str) -> str:
    if name in SETTINGS:
        return FACTORY_PARAM
    return PKI_ITEMS[name].group if name in PKI_ITEMS else BLE_DATA

"""A firmware: open any INPUT, read and change its settings, certificates and GATT rows, write it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from esp_at_tools.catalog.chips import Chip, find_chip
from esp_at_tools.errors import CheckFailedError, FormatError, InputError
from esp_at_tools.firmware.flash_map import FlashMap, locate
from esp_at_tools.firmware.identify import TABLE_MAGIC
from esp_at_tools.firmware.opening import (
    agreed_chip,
    check_extents,
    check_places,
    check_whole,
    find_images,
    flash_size,
    no_parameters,
    no_table,
    open_source,
    stated_chip,
    with_parameters_at,
)
from esp_at_tools.firmware.source import Flash, Kind, Patch, PendingOutput, Source
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.partition_table import Partition
from esp_at_tools.pki.names import PKI_ITEMS, PRIVATE_KEY_MARK
from esp_at_tools.settings.layout import Layout, Value
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.modern import ModernLayout
from esp_at_tools.settings.names import FACTORY_PARAM, LEGACY_PARTITIONS, SETTINGS, check_name, gatt_row_index

if TYPE_CHECKING:
    from esp_at_tools.settings.legacy import LegacyLayout


@dataclass(frozen=True)
class PkiDigest:
    """What may be said of a certificate or key without showing it.

    Attributes:
        size: bytes.
        sha256: of those bytes, lower-case hex.
    """

    size: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> PkiDigest:
        """Return the digest of ``data``."""
        import hashlib

        return cls(len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Change:
    """One difference between the firmware as it was opened and as it is now.

    Attributes:
        name: the setting, PKI item or GATT row.
        old: its value, a :class:`PkiDigest` for a PKI item, None where it was absent.
        new: the same for now, None where it has been removed.
    """

    name: str
    old: Value | PkiDigest | None
    new: Value | PkiDigest | None


@dataclass(frozen=True)
class Contents:
    """Everything that can be changed in a firmware, at one moment."""

    settings: Mapping[str, Value]
    pki: Mapping[str, bytes]
    gatts: Mapping[str, str]

    @classmethod
    def of(cls, layout: Layout) -> Contents:
        """Return what a layout holds now."""
        return cls(layout.settings(), layout.pki(), layout.gatts())

    def changes_to(self, other: Contents) -> list[Change]:
        """Return what differs in ``other``: settings, PKI items, then GATT rows."""
        changes = [
            Change(name, before.get(name), after.get(name))
            for before, after in ((self.settings, other.settings), (self.gatts, other.gatts))
            for name in _joined(before, after)
            if before.get(name) != after.get(name)
        ]
        digests = [
            Change(name, _digest(self.pki.get(name)), _digest(other.pki.get(name)))
            for name in _joined(self.pki, other.pki)
            if self.pki.get(name) != other.pki.get(name)
        ]
        split = len([change for change in changes if gatt_row_index(change.name) is None])
        return [*changes[:split], *digests, *changes[split:]]


def _joined(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    return [*before, *(name for name in after if name not in before)]


def _digest(data: bytes | None) -> PkiDigest | None:
    return None if data is None else PkiDigest.of(data)


class Firmware:
    """A firmware that has been opened; changes stay in memory until :meth:`write`.

    Make one with :meth:`open`.

    Attributes:
        source: the input, as flash.
        chip: facts about its chip; None where the input does not tell and nobody said.
        chip_name: name of the chip as the image headers tell it, ``""`` if unknown.
        map: the partition tables; None for a partition alone.
        flash_size: bytes of flash that it is made for; 0 if unknown.
        layout: the settings, PKI items and GATT rows.
        places: the partitions that ``layout`` works on, by name.
    """

    def __init__(
        self,
        source: Source,
        layout: Layout,
        places: Mapping[str, Partition],
        flash_map: FlashMap | None,
        chip_name: str,
        flash_size: int = 0,
    ) -> None:
        """Hold the parts; :meth:`open` finds them."""
        self.source = source
        self.layout = layout
        self.places = dict(places)
        self.map = flash_map
        self.flash_size = flash_size
        self.chip_name = chip_name
        self.chip: Chip | None = find_chip(chip_name)
        self._opened = Contents.of(layout)
        self._partitions = dict(layout.contents())

    # --- opening -----------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        chip: str = "",
        partition_table_offset: int | None = None,
        parameter_offset: int | None = None,
    ) -> Firmware:
        """Open a firmware of any kind.

        Args:
            path: a full flash image, a lone ``mfg_nvs`` or ``factory_param`` partition, a release
                folder or its ``.zip``.
            chip: the chip, for a partition alone (``esp32c3``); elsewhere it must be what the image says.
            partition_table_offset: address of the primary partition table, 0x8000 if None.
            parameter_offset: address of the parameters, for a firmware whose tables do not tell.

        Raises:
            InputError: it is something else, damaged, cut off or encrypted; the message says which.
        """
        try:
            source = open_source(Path(path))
            return cls.of_source(
                source,
                chip=chip,
                partition_table_offset=partition_table_offset,
                parameter_offset=parameter_offset,
            )
        except FormatError as error:
            if str(path) in error.message:
                raise
            raise FormatError(f"{path}: {error.message}", error.hint) from error

    @classmethod
    def of_source(
        cls,
        source: Source,
        *,
        chip: str = "",
        partition_table_offset: int | None = None,
        parameter_offset: int | None = None,
    ) -> Firmware:
        """Open what is flash already; see :meth:`open`."""
        path = source.path
        if source.kind in ("mfg_nvs", "factory_param"):
            for option, value in (
                ("--partition-table-offset", partition_table_offset),
                ("--parameter-offset", parameter_offset),
            ):
                if value is not None:
                    raise InputError(
                        f"{option}: {path} is a partition alone, without a table", "leave it out"
                    )
            return cls._of_partition(source, chip)
        alone = source.kind == "image" and source.read(0, 2) == TABLE_MAGIC  # a table, no flash
        flash_map = None if alone else locate(source, partition_table_offset)
        if flash_map is None:
            raise no_table(source)
        return cls._of_flash(source, flash_map, chip, parameter_offset)

    @classmethod
    def _of_partition(cls, source: Source, chip: str) -> Firmware:
        data = source.read(0, source.end)
        partition = Partition(source.kind, 0, 0, 0, source.end)
        if source.kind == FACTORY_PARAM:
            legacy = _legacy_layout({FACTORY_PARAM: partition}, source)
            platform = str(legacy.settings().get("platform", ""))
            named = find_chip(platform.removeprefix("PLATFORM_").lower())
            told = named.name if named else ""
            return cls(source, legacy, {FACTORY_PARAM: partition}, None, agreed_chip(source, told, chip))
        layout = ModernLayout(NvsPartition.from_bytes(data))
        return cls(source, layout, {MFG_NVS: partition}, None, chip)

    @classmethod
    def _of_flash(
        cls, source: Source, flash_map: FlashMap, chip: str, parameter_offset: int | None
    ) -> Firmware:
        bootloader, app = find_images(source, flash_map)
        check_whole(source, flash_map, app)
        told = next((image.chip for image in (bootloader, app) if image is not None and image.chip), "")
        chip_name = agreed_chip(source, told or stated_chip(source), chip)
        size = flash_size(source, bootloader)
        places = {place.partition.name: place.partition for place in reversed(list(flash_map.places()))}
        if parameter_offset is not None:
            places = with_parameters_at(source, places, parameter_offset)
        if MFG_NVS in places:
            place = places[MFG_NVS]
            used = {MFG_NVS: place}
            check_places(source, used)
            check_extents(source, used, {MFG_NVS: place.size})
            layout: Layout = ModernLayout(NvsPartition.from_bytes(source.read(place.offset, place.size)))
            return cls(source, layout, used, flash_map, chip_name, size)
        if FACTORY_PARAM in places:
            used = {name: place for name, place in places.items() if name in LEGACY_PARTITIONS}
            check_places(source, used)
            legacy = _legacy_layout(used, source)
            check_extents(source, used, legacy.extents())
            return cls(source, legacy, used, flash_map, chip_name, size)
        raise no_parameters(source, flash_map)

    # --- reading -----------------------------------------------------------------------------

    @property
    def kind(self) -> Kind:
        """What the input is: ``image``, ``mfg_nvs``, ``factory_param`` or ``release``."""
        return self.source.kind

    def settings(self) -> dict[str, Value]:
        """Return every setting that is present."""
        return self.layout.settings()

    def get(self, name: str) -> Value | bytes | None:
        """Return a setting, GATT row or PKI item; None where it is absent."""
        check_name(name)
        if name in PKI_ITEMS:
            return self.layout.pki().get(name)
        return self.layout.settings().get(name) if name in SETTINGS else self.layout.gatts().get(name)

    def pki(self) -> dict[str, bytes]:
        """Return every certificate and key."""
        return self.layout.pki()

    def gatts(self) -> dict[str, str]:
        """Return the rows of the GATT table by name."""
        return self.layout.gatts()

    @property
    def opened(self) -> Contents:
        """The contents as they were when the firmware was opened."""
        return self._opened

    # --- changing ----------------------------------------------------------------------------

    def set(self, name: str, value: Value) -> None:
        """Change a setting or a GATT row; see :mod:`esp_at_tools.firmware.modify` for the rules of values.

        Raises:
            InputError: no such name, a wrong type or range, or the layout cannot hold it.
        """
        check_name(name)
        if name in PKI_ITEMS:
            raise InputError(f"{name} is a certificate or key", "give its bytes with set_pki")
        if name in SETTINGS:
            self.layout.set_setting(name, value)
        else:
            self.layout.set_gatt(name, str(value))

    def set_pki(self, name: str, data: bytes) -> None:
        """Change a certificate or key to exactly these bytes.

        Raises:
            InputError: no such item, it is too large, or the layout cannot hold it.
        """
        check_name(name)
        if name not in PKI_ITEMS:
            raise InputError(f"{name} is no certificate or key", "the items are " + ", ".join(PKI_ITEMS))
        self.layout.set_pki(name, data)

    def unset(self, name: str) -> None:
        """Remove a setting, a GATT row or a PKI item.

        Raises:
            InputError: no such name, it is absent, or the layout cannot be without it.
        """
        self.layout.unset(check_name(name))

    def changes(self) -> list[Change]:
        """Return what differs from the firmware as it was opened."""
        return self._opened.changes_to(Contents.of(self.layout))

    def patches(self) -> list[Patch]:
        """Return the partitions that have changed, by address.

        Raises:
            InputError: the contents do not fit.
        """
        try:
            contents = self.layout.contents()
        except InputError as error:
            raise InputError(f"{self.source.path}: {error.message}", error.hint) from error
        changed = [
            Patch(name, self.places[name].offset, self.places[name].size, data)
            for name, data in contents.items()
            if data != self._partitions[name]
        ]
        return sorted(changed, key=lambda patch: patch.offset)

    @property
    def key_partitions(self) -> frozenset[str]:
        """The partitions that hold private keys, so that files with them are for their owner only.

        A key may also stand where none belongs: beside a certificate, or erased but still in flash.
        """
        groups = set(self.layout.pki_groups().values())
        return frozenset(
            name
            for name, data in self.layout.contents().items()
            if PRIVATE_KEY_MARK in data
            or (name.endswith("_key") and data.count(0xFF) < len(data))
            or (name == MFG_NVS and any(group.endswith("_key") for group in groups))
        )

    # --- writing -----------------------------------------------------------------------------

    def stage(self, path: Path) -> PendingOutput:
        """Write the firmware beside ``path`` and read it back; it stands there after ``commit``.

        Raises:
            InputError: it cannot be written there.
            CheckFailedError: what was written does not read back as asked; nothing is left of it.
        """
        secret = {self.places[name].offset for name in self.key_partitions}
        pending = self.source.output(path, self.patches(), secret=secret)
        try:
            self._read_back(pending)
        except BaseException:
            pending.discard()
            raise
        return pending

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the firmware, whole or not at all, in the form of its input.

        A release folder becomes a new folder; :meth:`write_in_place` changes the input itself.
        """
        self.stage(Path(path)).commit()

    def write_in_place(self) -> None:
        """Replace the input."""
        self.write(self.source.path)

    def _read_back(self, pending: PendingOutput) -> None:
        wanted = Contents.of(self.layout)
        layout = self._layout_of(self.source.reread(pending))
        if Contents.of(layout) != wanted:
            raise CheckFailedError(
                f"{self.source.path}: the changed firmware does not read back as asked",
                "nothing was written; this is a bug, please report it",
            )

    def _layout_of(self, flash: Flash) -> Layout:
        """Return the layout in what was written, its partitions taken from where they were before."""
        if self.layout.name == "legacy":
            return _legacy_layout(self.places, flash)
        place = self.places[MFG_NVS]
        return ModernLayout(NvsPartition.from_bytes(flash.read(place.offset, place.size)))


def _legacy_layout(places: Mapping[str, Partition], flash: Flash) -> LegacyLayout:
    """Return the legacy layout of these partitions; its formats load here, for few firmwares have them."""
    from esp_at_tools.settings.legacy import LegacyLayout

    contents = {name: flash.read(place.offset, place.size) for name, place in places.items()}
    return LegacyLayout(contents, {name: place.size for name, place in places.items()})

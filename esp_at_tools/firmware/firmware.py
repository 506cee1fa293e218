"""A firmware: open any INPUT, read and change its settings, certificates and GATT rows, write it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools import files
from esp_at_tools.catalog.chips import Chip, find_chip
from esp_at_tools.errors import EspAtError, FormatError, InputError
from esp_at_tools.firmware import identify
from esp_at_tools.firmware.flash_map import FlashMap, locate
from esp_at_tools.firmware.source import FileSource, Kind, Patch, PendingOutput, Source
from esp_at_tools.formats.app_image import AppImage
from esp_at_tools.formats.factory_param import RECORD_SIZE
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.nvs.model import PAGE_SIZE
from esp_at_tools.formats.partition_table import Partition
from esp_at_tools.settings.layout import Layout, Value
from esp_at_tools.settings.legacy import LegacyLayout
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.modern import ModernLayout
from esp_at_tools.settings.names import (
    FACTORY_PARAM,
    PKI_ITEMS,
    SETTINGS,
    check_name,
    gatt_row_index,
)

ZIP_MAGIC = b"PK\x03\x04"
BOOTLOADER_OFFSETS = (0x0, 0x1000, 0x2000)
"""Where the chips' boot ROMs look: most at 0, the ESP32 and ESP32-S2 at 0x1000, the ESP32-C5 at 0x2000."""

MAX_BLANK_TAIL = 4096
"""Most 0xFF bytes at the end of an image that ends with its last part, in bytes."""

MAX_FLASH_SIZE = 16 << 20
"""Bytes: the largest flash of an ESP module."""

FACTORY_PARAM_MAGIC = b"\xfc\xfc"


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
    ) -> None:
        """Hold the parts; :meth:`open` finds them."""
        self.source = source
        self.layout = layout
        self.places = dict(places)
        self.map = flash_map
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
        source = open_source(Path(path))
        if source.kind in ("mfg_nvs", "factory_param"):
            for option, value in (
                ("--partition-table-offset", partition_table_offset),
                ("--parameter-offset", parameter_offset),
            ):
                if value is not None:
                    raise InputError(f"{option}: {path} is a partition alone, without a table", "leave it out")
            return cls._of_partition(source, chip)
        flash_map = locate(source, partition_table_offset)
        if flash_map is None:
            raise _no_table(source)
        return cls._of_flash(source, flash_map, chip, parameter_offset)

    @classmethod
    def _of_partition(cls, source: Source, chip: str) -> Firmware:
        data = source.read(0, source.end)
        partition = Partition(source.kind, 0, 0, 0, source.end)
        if source.kind == FACTORY_PARAM:
            legacy = LegacyLayout({FACTORY_PARAM: data}, {FACTORY_PARAM: len(data)})
            platform = str(legacy.settings().get("platform", ""))
            told = platform.removeprefix("PLATFORM_").lower()
            return cls(source, legacy, {FACTORY_PARAM: partition}, None, _agreed_chip(source, told, chip))
        layout = ModernLayout(NvsPartition.from_bytes(data))
        return cls(source, layout, {MFG_NVS: partition}, None, chip)

    @classmethod
    def _of_flash(
        cls, source: Source, flash_map: FlashMap, chip: str, parameter_offset: int | None
    ) -> Firmware:
        bootloader, app = find_images(source, flash_map)
        _check_whole(source, flash_map, app)
        told = next((image.chip for image in (bootloader, app) if image is not None and image.chip), "")
        chip_name = _agreed_chip(source, told, chip)
        places = {place.partition.name: place.partition for place in reversed(list(flash_map.places()))}
        if parameter_offset is not None:
            places = _with_parameters_at(source, places, parameter_offset)
        if MFG_NVS in places:
            place = places[MFG_NVS]
            layout: Layout = ModernLayout(NvsPartition.from_bytes(source.read(place.offset, place.size)))
            return cls(source, layout, {MFG_NVS: place}, flash_map, chip_name)
        if FACTORY_PARAM in places:
            used = {name: place for name, place in places.items() if name in LegacyLayout.PARTITIONS}
            contents = {name: source.read(place.offset, place.size) for name, place in used.items()}
            legacy = LegacyLayout(contents, {name: place.size for name, place in used.items()})
            return cls(source, legacy, used, flash_map, chip_name)
        raise _no_parameters(source, flash_map)

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

    @property
    def flash_size(self) -> int:
        """Bytes of flash that the firmware is made for; 0 if unknown."""
        if self.map is None:
            return 0
        bootloader, _ = find_images(self.source, self.map)
        stated = (bootloader.flash_bytes or 0) if bootloader else 0
        return max(stated, self.source.end if self.source.kind == "image" and _is_flash_size(self.source.end) else 0)

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
        """Return the partitions that have changed, by address."""
        changed = [
            Patch(name, self.places[name].offset, self.places[name].size, data)
            for name, data in self.layout.contents().items()
            if data != self._partitions[name]
        ]
        return sorted(changed, key=lambda patch: patch.offset)

    @property
    def holds_private_keys(self) -> bool:
        """Whether a private key is among the PKI items, so that files with it are for their owner only."""
        return any(PKI_ITEMS[name].kind == "private_key" for name in self.layout.pki() if name in PKI_ITEMS)

    # --- writing -----------------------------------------------------------------------------

    def stage(self, path: Path) -> PendingOutput:
        """Write the firmware beside ``path`` and read it back; it stands there after ``commit``.

        Raises:
            InputError: it cannot be written there.
            EspAtError: what was written does not read back as asked; nothing is left of it.
        """
        pending = self.source.output(path, self.patches(), private=self.holds_private_keys)
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
        source = open_source(pending.staged, pending.overrides)
        wanted = Contents.of(self.layout)
        layout = self._layout_of(source)
        if layout is None or Contents.of(layout) != wanted:
            raise EspAtError(
                f"{self.source.path}: the changed firmware does not read back as asked",
                "nothing was written; this is a bug, please report it",
            )

    def _layout_of(self, source: Source) -> Layout | None:
        """Return the layout in a written source, its partitions taken from where they were before."""
        contents = {name: source.read(place.offset, place.size) for name, place in self.places.items()}
        if self.layout.name == "modern":
            return ModernLayout(NvsPartition.from_bytes(contents[MFG_NVS]))
        return LegacyLayout(contents, {name: place.size for name, place in self.places.items()})


# --- finding out what an input is ----------------------------------------------------------------


def open_source(path: Path, overrides: Mapping[str, Path] | None = None) -> Source:
    """Return an input as flash, whatever its form.

    Args:
        path: the file or folder.
        overrides: files of a release folder that are read from elsewhere, by name.

    Raises:
        InputError: it cannot be read, or is no firmware.
    """
    if path.is_dir():
        from esp_at_tools.firmware.release import open_folder

        return open_folder(path, overrides)
    if files.read_head(path, len(ZIP_MAGIC), "firmware") == ZIP_MAGIC:
        from esp_at_tools.firmware.release import open_archive

        return open_archive(path)
    data = files.read_file(path, "firmware", MAX_FLASH_SIZE)
    return FileSource(path, data, _kind_of(data))


def _kind_of(data: bytes) -> Kind:
    if data[:2] == FACTORY_PARAM_MAGIC and len(data) <= RECORD_SIZE:
        return "factory_param"
    return "mfg_nvs" if _is_nvs(data) else "image"


MAX_LONE_NVS = 1 << 20
"""No AT firmware has a larger ``mfg_nvs``; a larger file is a flash image."""


def _is_nvs(data: bytes) -> bool:
    """Tell whether a file is an NVS partition: pages with a sound header, and mostly such or blank ones."""
    if not PAGE_SIZE <= len(data) <= MAX_LONE_NVS:
        return False
    pages = [data[at : at + 32] for at in range(0, len(data) - PAGE_SIZE + 1, PAGE_SIZE)]
    sound = sum(has_nvs_header(page) for page in pages)
    blank = sum(page.count(0xFF) == len(page) for page in pages)
    return sound > 0 and 2 * (sound + blank) >= len(pages)


def has_nvs_header(page: bytes) -> bool:
    """Tell whether a page starts with an NVS page header whose CRC is right."""
    from esp_at_tools.formats.nvs.model import PAGE_HEADER, crc32

    header = page[: PAGE_HEADER.size]
    return header[8:9] in (b"\xfe", b"\xff") and crc32(header[4:28]) == int.from_bytes(header[28:32], "little")


def _no_table(source: Source) -> InputError:
    if isinstance(source, FileSource):
        return identify.not_a_firmware(str(source.path), source.data)
    return InputError(
        f"{source.path}: has no partition table at 0x8000", "--partition-table-offset tells where it is"
    )


def _no_parameters(source: Source, flash_map: FlashMap) -> InputError:
    names = ", ".join(place.partition.name for place in flash_map.places())
    if flash_map.problem:
        return InputError(
            f"{source.path}: the secondary partition table at {flash_map.secondary_offset:#x} cannot be read: "
            f"{flash_map.problem}",
            "at_customize.bin belongs there; give a firmware that has it",
        )
    return InputError(
        f"{source.path}: is no ESP-AT firmware: its tables list neither mfg_nvs nor factory_param",
        f"they list {names}",
    )


def _is_flash_size(size: int) -> bool:
    return size >= 1 << 20 and size & (size - 1) == 0


def find_images(source: Source, flash_map: FlashMap) -> tuple[AppImage | None, AppImage | None]:
    """Return the bootloader and the first application that is there; None for one that is not."""
    bootloader = None
    for offset in BOOTLOADER_OFFSETS:
        bootloader = read_image(source, offset, flash_map.offset - offset)
        if bootloader is not None:
            break
    apps = (read_image(source, partition.offset, partition.size) for partition in flash_map.apps())
    return bootloader, next((app for app in apps if app is not None), None)


def read_image(source: Source, offset: int, size: int) -> AppImage | None:
    """Return the image at an address, None where there is none that can be read."""
    if size <= 0 or source.read(offset, 1)[0] != identify.IMAGE_MAGIC:
        return None
    try:
        return AppImage.from_bytes(source.read(offset, min(size, source.end - offset)))
    except FormatError:
        return None


def _check_whole(source: Source, flash_map: FlashMap, app: AppImage | None) -> None:
    """Refuse an image that was cut off: its application, or what follows it, is not all there."""
    if source.kind != "image":
        return
    if app is None:
        _check_app_present(source, flash_map)
    ends = {place.partition.offset + place.partition.size for place in flash_map.places()}
    if _is_flash_size(source.end) or source.end in ends:
        return
    tail = source.read(max(source.end - MAX_BLANK_TAIL, 0), min(MAX_BLANK_TAIL, source.end))
    if tail.count(0xFF) == len(tail):
        raise InputError(
            f"{source.path}: is cut off: it ends at {source.end:#x}, in the middle of blank flash",
            "download it again; a filled image is as large as the flash, e.g. 4194304 bytes",
        )


def _check_app_present(source: Source, flash_map: FlashMap) -> None:
    """Refuse an image whose first application is missing or not whole; one that is blank is another matter."""
    first = flash_map.apps()[0]
    if first.offset >= source.end:
        raise InputError(
            f"{source.path}: is cut off: it ends at {source.end:#x}, before its application at {first.offset:#x}",
            "download it again, or give the release's folder or .zip",
        )
    if source.read(first.offset, 1)[0] == identify.IMAGE_MAGIC:
        raise InputError(
            f"{source.path}: is cut off or damaged: the application at {first.offset:#x} is not whole",
            "download it again",
        )


def _agreed_chip(source: Source, told: str, asked: str) -> str:
    """Return the chip's name from the image and from the user, who must agree."""
    if told and asked and told != asked:
        raise InputError(f"--chip {asked}: {source.path} is a firmware for {told}", "leave --chip out")
    return told or asked


def _with_parameters_at(source: Source, places: dict[str, Partition], offset: int) -> dict[str, Partition]:
    """Return the partitions with the one that holds the parameters at an address the user gave.

    at.py takes the address of the record itself for the legacy layout, and that of the ``mfg_nvs``
    row in the partition table for the modern one; the address of ``mfg_nvs`` itself works as well.
    """
    raw = source.read(offset, PAGE_SIZE) if 0 <= offset < source.end else b""
    if raw[:2] == identify.TABLE_MAGIC:
        row = Partition.from_bytes(raw[:32])
        if row.name == MFG_NVS:
            return {**places, MFG_NVS: row}
    if raw[:2] == FACTORY_PARAM_MAGIC:
        kept = {name: place for name, place in places.items() if name != MFG_NVS}
        return {**kept, FACTORY_PARAM: Partition(FACTORY_PARAM, 0x40, 0x08, offset, PAGE_SIZE)}
    listed = next((place for place in places.values() if place.offset == offset), None)
    if raw and has_nvs_header(raw) and listed is not None:
        return {**places, MFG_NVS: listed}
    raise InputError(
        f"--parameter-offset {offset:#x}: {source.path} has no parameters there",
        "leave it out, so that they are found through the partition tables",
    )

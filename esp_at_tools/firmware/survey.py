"""What there is in a firmware, read once, for the report and its checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from esp_at_tools.errors import FormatError
from esp_at_tools.firmware.flash_map import FlashMap
from esp_at_tools.firmware.source import Source
from esp_at_tools.formats.app_image import ESP8266_V2_MAGIC, IMAGE_MAGIC, AppImage
from esp_at_tools.formats.ota_data import OTA_DATA_SIZE, OtaData
from esp_at_tools.formats.partition_table import DATA, OTA_DATA, Partition
from esp_at_tools.pki.names import PKI_ITEMS, PkiKind

if TYPE_CHECKING:
    from esp_at_tools.firmware.firmware import Firmware
    from esp_at_tools.pki.items import PkiInfo

FLASH_PAGE = 256
"""Bytes that a flash chip programs at once: what a partition uses is counted in these."""
_SECTOR = 4096


@dataclass(frozen=True)
class FlashImage:
    """A bootloader or application in flash.

    Attributes:
        offset: its address, in bytes.
        room: bytes that it may take.
        image: what it is; None where it cannot be read.
        problem: why it cannot be read, ``""`` if it can.
    """

    offset: int
    room: int
    image: AppImage | None
    problem: str = ""


@dataclass(frozen=True)
class AppSlot:
    """An application partition.

    Attributes:
        partition: its row in the table.
        found: what is in it; None where it is blank.
        starts: whether the bootloader tries this one first.
    """

    partition: Partition
    found: FlashImage | None
    starts: bool

    @property
    def image(self) -> AppImage | None:
        """The application, None where there is none that can be read."""
        return self.found.image if self.found else None


@dataclass(frozen=True)
class PkiReading:
    """A certificate or private key of the firmware.

    Attributes:
        name: its official name.
        group: the NVS namespace, or the partition of the legacy layout.
        kind: what its place is for.
        role: the set to which it belongs with its partners: ``server``, ``client.0``.
        data: its bytes.
        info: what it is; None where it cannot be read.
        problem: why it cannot be read, ``""`` if it can.
        matches: whether the key and the certificate of the role belong together; None for a CA, where
            one of them is missing, and where a password or damage hides it.
    """

    name: str
    group: str
    kind: PkiKind
    role: str
    data: bytes = field(repr=False)
    info: PkiInfo | None
    problem: str = ""
    matches: bool | None = None


@dataclass(frozen=True)
class Survey:
    """Everything in a firmware.

    Attributes:
        firmware: the firmware.
        now: the moment at which certificates are judged.
        bootloader: None where there is none, or the input is a partition alone.
        apps: the application partitions of the primary table.
        pki: the certificates and keys, by role.
    """

    firmware: Firmware
    now: datetime
    bootloader: FlashImage | None
    apps: tuple[AppSlot, ...]
    pki: tuple[PkiReading, ...]

    @classmethod
    def of(cls, firmware: Firmware, now: datetime) -> Survey:
        """Read a firmware; what is damaged in it is kept as a problem."""
        flash_map = firmware.map
        pki = tuple(read_pki_items(firmware.layout.pki(), firmware.layout.pki_groups()))
        if flash_map is None:
            return cls(firmware, now, None, (), pki)
        return cls(
            firmware,
            now,
            find_bootloader(firmware.source, flash_map),
            tuple(read_slots(firmware.source, flash_map)),
            pki,
        )


# --- bootloader and applications ----------------------------------------------------------------


def find_bootloader(source: Source, flash_map: FlashMap) -> FlashImage | None:
    """Return the bootloader, at the first of the places where boot ROMs look that has a sound one."""
    from esp_at_tools.firmware.identify import BOOTLOADER_OFFSETS

    found = [
        image
        for offset in BOOTLOADER_OFFSETS
        if source.read(offset, 1)[0] == IMAGE_MAGIC
        and (image := read_flash_image(source, offset, flash_map.offset - offset)) is not None
    ]
    return next((each for each in found if each.image is not None), next(iter(found), None))


def read_slots(source: Source, flash_map: FlashMap) -> Iterator[AppSlot]:
    """Yield the application partitions of the primary table, by address."""
    first = _starting_partition(source, flash_map)
    for partition in sorted(flash_map.primary.apps, key=lambda app: app.offset):
        found = read_flash_image(source, partition.offset, partition.size)
        yield AppSlot(partition, found, starts=partition is first)


def _starting_partition(source: Source, flash_map: FlashMap) -> Partition | None:
    table = flash_map.primary
    home = next(iter(table.of_type(DATA, OTA_DATA)), None)
    data = source.read(home.offset, min(home.size, OTA_DATA_SIZE)) if home else b""
    try:
        selected = OtaData.from_bytes(data) if data else OtaData.initial()
    except FormatError:
        selected = OtaData.initial()
    return selected.boot_partition(table)


def read_flash_image(source: Source, offset: int, room: int) -> FlashImage | None:
    """Return what is at an address where an image belongs, None where the flash is blank there.

    An image that is larger than its room is read all the same, as far as the flash goes.
    """
    data = source.read(offset, max(min(room, source.end - offset), 0))
    if data.count(0xFF) == len(data):
        return None
    if data[0] not in (IMAGE_MAGIC, ESP8266_V2_MAGIC):
        return FlashImage(offset, room, None, f"begins with {data[0]:#04x}, which no application does")
    try:
        return FlashImage(offset, room, AppImage.from_bytes(data))
    except FormatError as error:
        problem = error.message
    try:
        return FlashImage(offset, room, AppImage.from_bytes(source.read(offset, source.end - offset)))
    except FormatError:
        return FlashImage(offset, room, None, problem)


def used_bytes(source: Source, offset: int, size: int) -> int:
    """Return how many bytes from ``offset`` on are not blank, in flash pages of 256 bytes.

    What is written in one piece from the beginning counts to the byte.
    """
    data = source.read(offset, max(min(size, source.end - offset), 0))
    end = len(data.rstrip(b"\xff"))
    pages = 0
    for start in range(0, end, _SECTOR):
        sector = data[start : min(start + _SECTOR, end)]
        if sector.count(0xFF) < len(sector):
            pages += sum(
                piece.count(0xFF) < len(piece)
                for piece in (sector[at : at + FLASH_PAGE] for at in range(0, len(sector), FLASH_PAGE))
            )
    return min(pages * FLASH_PAGE, end)


# --- certificates and keys ----------------------------------------------------------------------


def read_pki_items(items: dict[str, bytes], groups: dict[str, str]) -> Iterator[PkiReading]:
    """Yield the certificates and keys of a firmware, those of one role together.

    Args:
        items: name → bytes.
        groups: name → NVS namespace or partition.
    """
    found = [_read_item(name, groups.get(name, name), data) for name, data in items.items()]
    for role in dict.fromkeys(sorted((reading.role for reading in found), key=_role_order)):
        members = sorted(
            (reading for reading in found if reading.role == role),
            key=lambda each: _KIND_ORDER.index(each.kind),
        )
        matches = _key_matches(members)
        for reading in members:
            yield reading if reading.kind == "ca" else replace(reading, matches=matches)


_ROLES = list(dict.fromkeys(item.role for item in PKI_ITEMS.values()))
_KINDS = {item.group: item.kind for item in PKI_ITEMS.values()}
_KIND_ORDER: tuple[PkiKind, ...] = ("ca", "certificate", "private_key")


def _role_order(role: str) -> tuple[int, str]:
    return (_ROLES.index(role) if role in _ROLES else len(_ROLES), role)


def _role_of(name: str, group: str) -> str:
    """Return the role of an item; one that has no official name belongs to its like-numbered partners."""
    if name in PKI_ITEMS:
        return PKI_ITEMS[name].role
    number = name.removeprefix(group) if name.startswith(group) else ""
    return (group.rpartition("_")[0] or group) + number


def _read_item(name: str, group: str, data: bytes) -> PkiReading:
    from esp_at_tools.pki.items import read_pki

    kind = PKI_ITEMS[name].kind if name in PKI_ITEMS else _KINDS.get(group, "certificate")
    role = _role_of(name, group)
    try:
        return PkiReading(name, group, kind, role, data, read_pki(data, name, kind))
    except FormatError as error:
        return PkiReading(name, group, kind, role, data, None, error.message)


def _key_matches(members: Iterable[PkiReading]) -> bool | None:
    prints = {each.kind: each.info.public_key_sha256 for each in members if each.info and each.kind != "ca"}
    certificate, key = prints.get("certificate"), prints.get("private_key")
    return certificate == key if certificate and key else None

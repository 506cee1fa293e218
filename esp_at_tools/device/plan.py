"""What is written where: a firmware as the pieces that go to the flash of a device.

Two things make a plan more than a list of files. The device's own storage is kept: where a full image
has nothing but 0xFF for a partition that the device fills by itself (its Wi-Fi network, AT+SYSSTORE,
its file system), that partition is left alone unless everything is to be erased. And the plan names
what the chip will refuse to start, so that it can be refused before anything is written.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from esp_at_tools.device.flash_header import with_flash_settings
from esp_at_tools.errors import DeviceError, FormatError, InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.flash_map import FlashMap
from esp_at_tools.firmware.identify import BOOTLOADER_OFFSETS
from esp_at_tools.firmware.release import Release
from esp_at_tools.firmware.source import Kind, Source
from esp_at_tools.formats.app_image import ESP8266_V2_MAGIC, IMAGE_MAGIC, AppImage
from esp_at_tools.formats.partition_table import (
    APP,
    DATA,
    DEFAULT_OFFSET,
    OTA_DATA,
    SECTOR_SIZE,
    SUBTYPES,
    Partition,
)

DEVICE_DATA = frozenset(SUBTYPES[DATA][name] for name in ("nvs", "nvs_keys", "fat", "spiffs", "littlefs"))
"""Subtypes of the partitions that a device fills by itself while it runs."""
BOOTLOADER_NAME = "bootloader"
TABLE_NAME = "partition_table"


@dataclass(frozen=True)
class Segment:
    """One piece of flash to write.

    Attributes:
        name: what lies there: partitions, ``bootloader``, ``partition_table``.
        offset: its address, a multiple of 4 KB.
        data: the bytes.
        path: the file that holds exactly these bytes, None where they are only a part of one.
    """

    name: str
    offset: int
    data: bytes
    path: Path | None = None

    @property
    def size(self) -> int:
        """Bytes to write."""
        return len(self.data)

    @property
    def end(self) -> int:
        """First address after it."""
        return self.offset + len(self.data)

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes, lower-case hex."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class FlashSettings:
    """What the bootloader's header shall say; ``""`` for what it says already."""

    mode: str = ""
    freq: str = ""
    size: str = ""


@dataclass(frozen=True)
class FlashPlan:
    """Everything that writing a firmware to a device takes.

    Attributes:
        path: the input.
        kind: what it is.
        sha256: of the input, as ``inspect`` gives it.
        chip: what it is made for, ``""`` where the input does not tell.
        segments: by address, not overlapping; empty while ``loose`` waits for its address.
        kept: partitions inside of what the input covers that are not written.
        settings: those that a release asks for, already applied to the bootloader in ``segments``.
        flash_needed: bytes of flash that the device must have.
        table_offset: where the primary partition table is.
        erase: whether the whole flash is erased first.
        partitions: of both tables; none for a partition alone.
        images: applications and bootloaders among the segments, by partition.
        protected: names of what a chip with flash encryption would decrypt when it reads it.
        loose: a partition alone: its name and contents; the device's own tables tell its address.
    """

    path: Path
    kind: Kind
    sha256: str
    chip: str
    segments: tuple[Segment, ...]
    kept: tuple[Partition, ...] = ()
    settings: FlashSettings = FlashSettings()
    flash_needed: int = 0
    table_offset: int = DEFAULT_OFFSET
    erase: bool = False
    partitions: tuple[Partition, ...] = ()
    images: tuple[tuple[str, AppImage], ...] = ()
    protected: tuple[str, ...] = ()
    loose: tuple[str, bytes] | None = None

    @property
    def size(self) -> int:
        """Bytes of all segments, or of the partition alone."""
        return sum(segment.size for segment in self.segments) or len(self.loose[1] if self.loose else b"")

    @property
    def unsigned(self) -> tuple[str, ...]:
        """Names of the applications and bootloaders that have no signature for secure boot."""
        return tuple(name for name, image in self.images if image.signature is None)

    def placed(self, partition: Partition) -> FlashPlan:
        """Return the plan with its partition alone at the place that a device's table gives it.

        Raises:
            DeviceError: it does not fit there.
        """
        if self.loose is None:
            return self
        name, data = self.loose
        if len(data) > partition.size:
            raise DeviceError(
                f"{self.path}: has {len(data)} bytes, and {name} of the device {partition.size}",
                "give one that was made for this firmware",
            )
        if partition.offset % SECTOR_SIZE:
            raise DeviceError(
                f"{name} of the device begins at {partition.offset:#x}, not on a 4 KB boundary",
                "flash the whole firmware",
            )
        segment = Segment(name, partition.offset, data.ljust(partition.size, b"\xff"))
        if segment.data == data:
            segment = replace(segment, path=self.path)
        protected = (name,) if _is_protected(partition) else ()
        return replace(self, segments=(segment,), loose=None, flash_needed=partition.end, protected=protected)

    def without_keeping(self, partitions: Iterable[Partition]) -> FlashPlan:
        """Return the plan with these kept partitions erased after all."""
        chosen = list(partitions)
        blank = tuple(Segment(part.name, part.offset, b"\xff" * part.size) for part in chosen)
        segments = sorted((*self.segments, *blank), key=lambda segment: segment.offset)
        return replace(
            self,
            segments=tuple(segments),
            kept=tuple(part for part in self.kept if part not in chosen),
            flash_needed=max(self.flash_needed, *(part.end for part in chosen))
            if chosen
            else self.flash_needed,
        )


def make_plan(firmware: Firmware, *, only: Sequence[str] = (), erase: bool = False) -> FlashPlan:
    """Return what is written where for a firmware.

    Args:
        firmware: an image, a release or build folder, or a partition alone.
        only: names of partitions of either table; nothing else is written then.
        erase: erase the whole flash first, so that nothing of the device's own is kept.

    Raises:
        InputError: a partition that there is not or that the input has nothing for, two options that
            exclude each other, or pieces that flash cannot take (not on a 4 KB boundary).
    """
    if erase and only:
        raise InputError(
            "--erase and --only contradict each other: the erased module would not start",
            "leave one of them out",
        )
    if firmware.map is None:
        return _loose_plan(firmware, only, erase=erase)
    wanted = [_find(firmware, name) for name in dict.fromkeys(only)]
    kept = [] if erase else _kept(firmware, wanted)
    pieces = _cut(_extents(firmware.source), wanted, kept)
    for part in wanted:
        if not any(part.overlaps(_as_partition(piece)) for piece in pieces):
            raise InputError(
                f"--only {part.name}: {firmware.source.path} has nothing for it", "a full image has all"
            )
    settings = _settings(firmware.source) if not only else FlashSettings()
    segments = [_segment(firmware, piece, settings) for piece in pieces]
    _check_alignment(firmware.source.path, segments)
    tops = [segment.end for segment in segments]
    return FlashPlan(
        path=firmware.source.path,
        kind=firmware.kind,
        sha256=firmware.source.sha256(),
        chip=firmware.chip_name,
        segments=tuple(segments),
        kept=tuple(part for part in kept if not wanted or any(part.overlaps(other) for other in wanted)),
        settings=settings,
        flash_needed=max(tops if only else [*tops, *_stated_sizes(firmware)]),
        table_offset=firmware.map.offset,
        erase=erase,
        partitions=tuple(place.partition for place in firmware.map.places()),
        images=tuple(_images(firmware, segments)),
        protected=tuple(_protected(firmware.map, segments)),
    )


def _loose_plan(firmware: Firmware, only: Sequence[str], *, erase: bool) -> FlashPlan:
    path, name = firmware.source.path, firmware.kind
    if erase:
        raise InputError(
            f"--erase: {path} is the partition {name} alone; the erased module would not start",
            "leave --erase out",
        )
    other = next((asked for asked in only if asked != name), None)
    if other is not None:
        raise InputError(f"--only {other}: {path} is the partition {name} alone", "leave --only out")
    data = firmware.source.read(0, firmware.source.end)
    return FlashPlan(
        path, firmware.kind, firmware.source.sha256(), firmware.chip_name, (), loose=(name, data)
    )


def find_partition(flash_map: FlashMap, name: str) -> Partition | None:
    """Return a partition of either table, the primary one first; None if there is none of that name."""
    return next((place.partition for place in flash_map.places() if place.partition.name == name), None)


def _find(firmware: Firmware, name: str) -> Partition:
    assert firmware.map is not None  # noqa: S101 - a partition alone has been dealt with
    found = find_partition(firmware.map, name)
    if found is not None:
        return found
    names = list(dict.fromkeys(place.partition.name for place in firmware.map.places()))
    near = difflib.get_close_matches(name, names, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(
        f"--only {name}: {firmware.source.path} has no such partition",
        f"{guess}its tables list {', '.join(names)}",
    )


# --- the pieces ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Piece:
    """A stretch of flash that the input fills, and the file that is exactly that."""

    offset: int
    end: int
    path: Path | None = None


def _as_partition(piece: _Piece) -> Partition:
    return Partition("", 0, 0, piece.offset, piece.end - piece.offset)


def _extents(source: Source) -> list[_Piece]:
    """Return the stretches that the input fills, by address."""
    if not isinstance(source, Release):
        return [_Piece(0, source.end, source.path)]
    pieces: list[_Piece] = []
    for offset, name in sorted(source.args.files.items()):
        file = source.path / (source.prefix + name)
        end = offset + len(source.part(name))
        if pieces and offset < pieces[-1].end:
            raise InputError(
                f"{source.path}: {name} at {offset:#x} overlaps the file before it",
                "give the release as it was published or built",
            )
        if end > offset:
            pieces.append(_Piece(offset, end, file if file.is_file() else None))
    return pieces


def _cut(extents: list[_Piece], wanted: list[Partition], kept: list[Partition]) -> list[_Piece]:
    """Return what is left of the extents inside of ``wanted``, if that is anything, and without ``kept``."""
    regions = _joined(wanted) if wanted else [(0, 1 << 32)]
    pieces = [
        _narrowed(extent, max(extent.offset, start), min(extent.end, end))
        for start, end in regions
        for extent in extents
        if max(extent.offset, start) < min(extent.end, end)
    ]
    for part in kept:
        pieces = [
            _narrowed(piece, start, end)
            for piece in pieces
            for start, end in (
                (piece.offset, min(piece.end, part.offset)),
                (max(piece.offset, part.end), piece.end),
            )
            if start < end
        ]
    return sorted(pieces, key=lambda piece: piece.offset)


def _joined(partitions: Iterable[Partition]) -> list[tuple[int, int]]:
    """Return the stretches of some partitions, those that overlap as one."""
    regions: list[tuple[int, int]] = []
    for part in sorted(partitions, key=lambda part: part.offset):
        if regions and part.offset < regions[-1][1]:
            regions[-1] = (regions[-1][0], max(regions[-1][1], part.end))
        else:
            regions.append((part.offset, part.end))
    return regions


def _narrowed(piece: _Piece, start: int, end: int) -> _Piece:
    return _Piece(start, end, piece.path if (start, end) == (piece.offset, piece.end) else None)


def _kept(firmware: Firmware, wanted: list[Partition]) -> list[Partition]:
    """Return the partitions of the device's own that an image is blank at and nobody has asked for."""
    assert firmware.map is not None  # noqa: S101 - see _find
    source = firmware.source
    if isinstance(source, Release):  # it only has files for what is to be written
        return []
    return [
        place.partition
        for place in firmware.map.places()
        if _is_device_data(place.partition)
        and place.partition not in wanted
        and place.partition.offset < source.end
        and place.partition.offset % SECTOR_SIZE == 0 == place.partition.size % SECTOR_SIZE
        and _is_blank(source.read(place.partition.offset, place.partition.size))
    ]


def _is_device_data(partition: Partition) -> bool:
    return partition.type == DATA and partition.subtype in DEVICE_DATA


def _is_blank(data: bytes) -> bool:
    return data.count(0xFF) == len(data)


def _segment(firmware: Firmware, piece: _Piece, settings: FlashSettings) -> Segment:
    assert firmware.map is not None  # noqa: S101 - see _find
    data = firmware.source.read(piece.offset, piece.end - piece.offset)
    chip = firmware.chip
    if chip is not None and piece.offset == chip.bootloader_offset and settings != FlashSettings():
        try:
            data = with_flash_settings(data, settings.mode, settings.freq, settings.size)
        except FormatError as error:
            raise FormatError(f"{firmware.source.path}: {error.message}", error.hint) from error
    return Segment(_name(firmware.map, piece), piece.offset, data, piece.path)


def _name(flash_map: FlashMap, piece: _Piece) -> str:
    """Return what lies in a stretch: all that it touches, but only the smallest that it is a part of."""
    area = _as_partition(piece)
    touched = [place.partition for place in flash_map.places() if place.partition.overlaps(area)]
    around = sorted((part for part in touched if part.contains(area)), key=lambda part: part.size)
    touched = [part for part in touched if part not in around[1:]]
    names = [part.name for part in sorted(touched, key=lambda part: (part.offset, -part.size))]
    if not around and piece.offset <= flash_map.offset < piece.end:
        names.insert(0, TABLE_NAME)
    if not around and piece.offset < flash_map.offset:
        names.insert(0, BOOTLOADER_NAME)
    return ", ".join(dict.fromkeys(names)) or "outside of all partitions"


def _check_alignment(path: Path, segments: list[Segment]) -> None:
    """Refuse pieces that share a sector with something else: flash is erased by sectors."""
    before = 0
    for segment in segments:
        if segment.offset % SECTOR_SIZE or segment.offset < before:
            raise InputError(
                f"{path}: {segment.name} begins at {segment.offset:#x}, inside of a 4 KB sector of flash",
                "sectors are erased as a whole; give a firmware whose parts begin on 4 KB boundaries",
            )
        before = segment.end + -segment.end % SECTOR_SIZE


# --- what the device must have -------------------------------------------------------------------


def _settings(source: Source) -> FlashSettings:
    if not isinstance(source, Release):
        return FlashSettings()
    stated = {key: value for key, value in source.flash_settings().items() if value != "keep"}
    return FlashSettings(stated.get("mode", ""), stated.get("freq", ""), stated.get("size", ""))


def _stated_sizes(firmware: Firmware) -> Iterator[int]:
    """Yield what the firmware says of the flash that it needs.

    The header of an ESP8266's bootloader does not tell, see :mod:`esp_at_tools.formats.app_image`.
    """
    assert firmware.map is not None  # noqa: S101 - see _find
    yield from (partition.end for partition in firmware.map.primary)
    if firmware.chip_name != "esp8266":
        yield firmware.flash_size


def _images(firmware: Firmware, segments: list[Segment]) -> Iterator[tuple[str, AppImage]]:
    """Yield the bootloader and the applications that are written, as far as they can be read."""
    assert firmware.map is not None  # noqa: S101 - see _find
    offsets = [firmware.chip.bootloader_offset] if firmware.chip else BOOTLOADER_OFFSETS
    places = [(BOOTLOADER_NAME, offset, firmware.map.offset - offset) for offset in offsets]
    places += [(app.name, app.offset, app.size) for app in firmware.map.primary.apps]
    for name, offset, size in places:
        if not any(segment.offset <= offset < segment.end for segment in segments):
            continue
        data = firmware.source.read(offset, max(min(size, firmware.source.end - offset), 0))
        if data[:1] and data[0] in (IMAGE_MAGIC, ESP8266_V2_MAGIC):
            try:
                yield name, AppImage.from_bytes(data)
            except FormatError:
                continue


def _protected(flash_map: FlashMap, segments: list[Segment]) -> Iterator[str]:
    """Yield what of the segments is encrypted on a chip that has flash encryption turned on."""
    if any(segment.offset < flash_map.offset for segment in segments):
        yield BOOTLOADER_NAME
    if any(segment.offset <= flash_map.offset < segment.end for segment in segments):
        yield TABLE_NAME
    for place in flash_map.places():
        part = place.partition
        area = (segment.offset < part.end and part.offset < segment.end for segment in segments)
        if _is_protected(part) and any(area):
            yield part.name


def _is_protected(partition: Partition) -> bool:
    """Tell whether the bootloader encrypts a partition (``encrypt_partition`` and ESP-IDF's guide)."""
    always = partition.type == APP or (partition.type == DATA and partition.subtype == OTA_DATA)
    return always or partition.encrypted or partition.subtype_name == "nvs_keys"

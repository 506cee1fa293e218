"""Checks of a release: do its files agree with each other and with the partition tables?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Literal

from esp_at_tools.errors import EspAtError, FormatError
from esp_at_tools.firmware.release import DOWNLOAD_CONFIG, FLASHER_ARGS, Release
from esp_at_tools.firmware.survey import Survey
from esp_at_tools.formats.flash_args import FlashArgs
from esp_at_tools.formats.nvs.csv import parse_csv
from esp_at_tools.formats.partition_table import SECTOR_SIZE
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.modern import ModernLayout
from esp_at_tools.settings.names import FACTORY_PARAM

Found = tuple[str, Literal["error", "warning", "info"], str, str]
"""Id, level, message and hint of a finding."""

_STAND_IN = b"deadbeef" * 8
"""What a file that the CSV names, and that is not in the release, is taken to hold: text that every
encoding of the CSV accepts."""
_STANDS_IN_AS = {_STAND_IN, bytes.fromhex(_STAND_IN.decode())}
_FLASH_SETTINGS = slice(2, 4)
"""Mode, size and frequency in the header of a bootloader, which esptool sets when it merges."""


def _release(survey: Survey) -> Release | None:
    source = survey.firmware.source
    return source if isinstance(source, Release) else None


def _parts(survey: Survey) -> Iterator[Found]:
    """Files larger than their place, upon each other, or at no beginning of a partition."""
    release, flash_map = _release(survey), survey.firmware.map
    if release is None or flash_map is None:
        return
    rooms = {
        place.partition.offset: (place.partition.name, place.partition.size) for place in flash_map.places()
    }
    rooms[flash_map.offset] = ("the partition table", SECTOR_SIZE)
    if survey.bootloader is not None and survey.bootloader.offset < flash_map.offset:
        rooms[survey.bootloader.offset] = ("the bootloader", survey.bootloader.room)
    reached, before = 0, ""
    for offset, name in sorted(release.args.files.items()):
        size = len(release.part(name))
        if offset not in rooms:
            message = f"{name} is flashed to {offset:#x}, where no partition begins"
            yield "release-part-misplaced", "warning", message, "is it of another release?"
        elif size > rooms[offset][1]:
            where, room = rooms[offset]
            message = f"{name} has {size} bytes, and {where} at {offset:#x} has room for {room}"
            yield "release-part-too-large", "error", message, "it would overwrite what follows"
        if offset < reached:
            yield "release-part-overlap", "error", f"{name} at {offset:#x} overwrites the end of {before}", ""
        if offset + size > reached:
            reached, before = offset + size, name


def _lists(survey: Survey) -> Iterator[Found]:
    """The two lists of files, where both are there."""
    release = _release(survey)
    if release is None or not (release.has(FLASHER_ARGS) and release.has(DOWNLOAD_CONFIG)):
        return
    try:
        config = FlashArgs.from_download_config(release.text(DOWNLOAD_CONFIG))
    except FormatError as error:
        what = error.message.removeprefix(f"{release.path}: ").removeprefix(f"{DOWNLOAD_CONFIG}: ")
        yield "release-list-unreadable", "warning", f"{DOWNLOAD_CONFIG}: {what}", error.hint
        return
    hint = "whoever flashes by one of them gets another firmware than by the other"
    listed = release.args.files
    for offset in sorted({*listed, *config.files}):
        if listed.get(offset) != config.files.get(offset):
            ours, theirs = listed.get(offset, "nothing"), config.files.get(offset, "nothing")
            message = f"{FLASHER_ARGS} has {ours} at {offset:#x}, and {DOWNLOAD_CONFIG} {theirs}"
            yield "release-lists-differ", "warning", message, hint
    for name in ("flash_mode", "flash_freq", "flash_size"):
        ours, theirs = getattr(release.args, name), getattr(config, name)
        if ours != theirs and {ours, theirs}.isdisjoint({"", "detect", "keep"}):
            message = f"{FLASHER_ARGS} has {name} {ours}, and {DOWNLOAD_CONFIG} {theirs}"
            yield "release-lists-differ", "warning", message, hint


def _chip(survey: Survey) -> Iterator[Found]:
    release = _release(survey)
    told = {slot.image.chip for slot in survey.apps if slot.image}
    if survey.bootloader is not None and survey.bootloader.image is not None:
        told.add(survey.bootloader.image.chip)
    if release is not None and release.args.chip and told and release.args.chip not in told:
        message = f"{FLASHER_ARGS} is for {release.args.chip}, and the firmware for {', '.join(sorted(told))}"
        yield "chip-mismatch", "error", message, "esptool would refuse the chip"


def _factory_images(survey: Survey) -> Iterator[Found]:
    """The merged images, byte by byte against the parts."""
    release = _release(survey)
    if release is None:
        return
    for name in release.factory_images():
        differing = _differing(survey, release, release.part(name))
        if differing:
            message = f"{name} differs from the release's parts in {', '.join(differing)}"
            yield "factory-image-differs", "warning", message, "merge it again"


def _differing(survey: Survey, release: Release, image: bytes) -> list[str]:
    """Return the names of the parts that a merged image holds otherwise, and whether it holds more."""
    merged = bytearray(image)
    names = []
    for offset, name in sorted(release.args.files.items()):
        part = release.part(name)
        found = _unset_flash_settings(survey, offset, part, image[offset : offset + len(part)])
        if part.rstrip(b"\xff") != found.rstrip(b"\xff"):
            names.append(name)
        merged[offset : offset + len(part)] = b"\xff" * len(found)
    if merged.count(0xFF) < len(merged):
        names.append("what lies between them")
    return names


def _unset_flash_settings(survey: Survey, offset: int, part: bytes, found: bytes) -> bytes:
    """Return a merged bootloader with the part's own flash settings, and the part's SHA-256 over them."""
    bootloader = survey.bootloader
    if (
        bootloader is None
        or bootloader.image is None
        or offset != bootloader.offset
        or len(found) != len(part)
    ):
        return found
    restored = bytearray(found)
    restored[_FLASH_SETTINGS] = part[_FLASH_SETTINGS]
    digest = bootloader.image.sha256
    if digest is not None:
        end = bootloader.image.size
        restored[end - len(digest) : end] = part[end - len(digest) : end]
    return bytes(restored)


def _csv(survey: Survey) -> Iterator[Found]:
    """``mfg_nvs.csv`` against ``mfg_nvs.bin``; files that only the build machine had are not compared."""
    release, layout = _release(survey), survey.firmware.layout
    if release is None or not isinstance(layout, ModernLayout):
        return
    name = release.args.files.get(survey.firmware.places[MFG_NVS].offset, "")
    csv_name = str(PurePosixPath(name).with_suffix(".csv")) if name else ""
    if not csv_name or not release.has(csv_name):
        return
    try:
        content = parse_csv(release.text(csv_name), version=layout.nvs.version, read_file=lambda _: _STAND_IN)
    except EspAtError as error:
        yield "mfg-csv-differs", "warning", f"{csv_name}: cannot be read: {error.message}", error.hint
        return
    namespaces = {
        record.namespace_index: record.key for record in content.records if record.kind == "namespace"
    }
    described = {
        (_text(namespaces.get(record.namespace_index, b"")), _text(record.key)): record.value
        for record in content.records
        if record.kind == "entry"
    }
    held = {(entry.namespace, entry.key): _raw(entry.value) for entry in layout.nvs.entries}
    differing = [
        key for key in dict.fromkeys([*described, *held])
        if described.get(key) != held.get(key) and not (key in held and _stands_in(described.get(key)))
    ]  # fmt: skip
    if differing:
        listed = ", ".join(f"{namespace}/{key}" for namespace, key in differing[:5])
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        message = f"{csv_name} does not describe {name}: {listed}{more}"
        yield "mfg-csv-differs", "warning", message, "whoever builds from it gets another partition"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _raw(value: int | str | bytes) -> int | bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _stands_in(value: int | bytes | None) -> bool:
    import base64

    return value in _STANDS_IN_AS or value == base64.b64decode(_STAND_IN)


def _parameter_copies(survey: Survey) -> Iterator[Found]:
    """The copies that a legacy build keeps per module."""
    release = _release(survey)
    place = survey.firmware.places.get(FACTORY_PARAM)
    if release is None or place is None or place.offset not in release.args.files:
        return
    name = release.args.files[place.offset]
    stem = name.removesuffix(".bin") + "_"
    current = release.part(name).rstrip(b"\xff")
    for other in release.tree.names():
        copy = other.removeprefix(release.prefix)
        if copy.startswith(stem) and copy.endswith(".bin") and release.part(copy).rstrip(b"\xff") != current:
            message = f"{copy} differs from {name}, which is the one that is flashed"
            yield "factory-param-copy-stale", "warning", message, "remove it, or copy the other over it"


RELEASE_CHECKS: tuple[Callable[[Survey], Iterator[Found]], ...] = (
    _parts,
    _lists,
    _chip,
    _factory_images,
    _csv,
    _parameter_copies,
)

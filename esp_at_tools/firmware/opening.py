"""Finding out what an input is: its form, its images, whether it is whole, and for which chip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from esp_at_tools import files
from esp_at_tools.catalog.chips import find_chip
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.firmware import identify
from esp_at_tools.firmware.flash_map import FlashMap
from esp_at_tools.firmware.identify import BOOTLOADER_OFFSETS, FACTORY_PARAM_MAGIC, ZIP_MAGICS
from esp_at_tools.firmware.source import FileSource, Kind, Source
from esp_at_tools.formats.app_image import AppImage
from esp_at_tools.formats.nvs.model import PAGE_HEADER, PAGE_SIZE, crc32
from esp_at_tools.formats.partition_table import (
    DEFAULT_OFFSET,
    END_ROW,
    ROW_SIZE,
    TABLE_SIZE,
    Partition,
    PartitionTable,
    has_table_rows,
)
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.names import FACTORY_PARAM

MAX_BLANK_TAIL = 4096
"""Most 0xFF bytes at the end of an image that ends with its last part, in bytes."""

MAX_FLASH_SIZE = 16 << 20
"""Bytes: the largest flash of an ESP module."""

MAX_LONE_NVS = 1 << 20
"""No AT firmware has a larger ``mfg_nvs``; a larger file is a flash image."""


held: dict[Path, bytes] = {}
"""Inputs that are no files, such as the flash of a device that was read, by the name they go by."""


def open_source(path: Path) -> Source:
    """Return an input as flash, whatever its form.

    Args:
        path: the file or folder.

    Raises:
        InputError: it cannot be read, or is no firmware.
    """
    if path in held:
        return FileSource(path, held[path], _kind_of(held[path]))
    if path.is_dir():
        from esp_at_tools.firmware.release import open_folder

        return open_folder(path)
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is a pipe, socket or device", "give a file or a folder")
    if files.read_head(path, len(ZIP_MAGICS[0]), "firmware") in ZIP_MAGICS:
        from esp_at_tools.firmware.release import open_archive

        return open_archive(path)
    data = files.read_file(path, "firmware", MAX_FLASH_SIZE)
    return FileSource(path, data, _kind_of(data))


def _kind_of(data: bytes) -> Kind:
    if data[:2] == FACTORY_PARAM_MAGIC and len(data) <= PAGE_SIZE:
        return "factory_param"
    return "mfg_nvs" if _is_nvs(data) else "image"


def _is_nvs(data: bytes) -> bool:
    """Tell whether a file is an NVS partition: pages with a sound header, and mostly such or blank ones."""
    if not PAGE_SIZE <= len(data) <= MAX_LONE_NVS:
        return False
    if has_table_rows(data[DEFAULT_OFFSET : DEFAULT_OFFSET + TABLE_SIZE]):
        return False  # a small image, which is mostly blank and has NVS in it
    pages = [data[at : at + PAGE_HEADER.size] for at in range(0, len(data) - PAGE_SIZE + 1, PAGE_SIZE)]
    sound = sum(has_nvs_header(page) for page in pages)
    blank = sum(page.count(0xFF) == len(page) for page in pages)
    return sound > 0 and 2 * (sound + blank) >= len(pages)


def has_nvs_header(page: bytes) -> bool:
    """Tell whether a page starts with an NVS page header whose CRC is right."""
    from esp_at_tools.formats.nvs.model import PAGE_HEADER

    header = page[: PAGE_HEADER.size]
    return header[8:9] in (b"\xfe", b"\xff") and crc32(header[4:28]) == int.from_bytes(
        header[28:32], "little"
    )


def no_table(source: Source) -> InputError:
    if isinstance(source, FileSource):
        return identify.not_a_firmware(str(source.path), source.data)
    return InputError(
        f"{source.path}: has no partition table at 0x8000", "--partition-table-offset tells where it is"
    )


def no_parameters(source: Source, flash_map: FlashMap) -> InputError:
    names = ", ".join(place.partition.name for place in flash_map.places())
    if flash_map.problem:
        return InputError(
            f"{source.path}: the secondary partition table cannot be read: {flash_map.problem}",
            "at_customize.bin belongs there; give a firmware that has it",
        )
    return InputError(
        f"{source.path}: is no ESP-AT firmware: its tables list neither mfg_nvs nor factory_param",
        f"they list {names}",
    )


SIZE_UNIT = {"KB": 1 << 10, "MB": 1 << 20}


def flash_size(source: Source, bootloader: AppImage | None) -> int:
    """Return the bytes of flash that a firmware is made for, 0 if nothing tells.

    The size of a filled image tells most, then the release's own statement, then the bootloader's
    header; that of an ESP8266 is not to be trusted: an official 2 MB image says 256 KB.
    """
    if source.kind == "image" and is_flash_size(source.end):
        return source.end
    stated = source.stated_flash_size()
    if stated[-2:] in SIZE_UNIT and stated[:-2].isdecimal():
        return int(stated[:-2]) * SIZE_UNIT[stated[-2:]]
    trusted = bootloader is not None and bootloader.chip != "esp8266"
    return (bootloader.flash_bytes or 0) if bootloader is not None and trusted else 0


def is_flash_size(size: int) -> bool:
    return size >= 1 << 20 and size & (size - 1) == 0


def find_images(source: Source, flash_map: FlashMap) -> tuple[AppImage | None, AppImage | None]:
    """Return the bootloader and the first application that is there; None for one that is not."""
    found = find_bootloader(source, flash_map)
    apps = (read_image(source, partition.offset, partition.size) for partition in flash_map.primary.apps)
    return found[1] if found else None, next((app for app in apps if app is not None), None)


def find_bootloader(source: Source, flash_map: FlashMap) -> tuple[int, AppImage] | None:
    """Return address and image of the bootloader, None where there is none."""
    for offset in BOOTLOADER_OFFSETS:
        image = read_image(source, offset, flash_map.offset - offset)
        if image is not None:
            return offset, image
    return None


def read_image(source: Source, offset: int, size: int) -> AppImage | None:
    """Return the image at an address, None where there is none that can be read."""
    if size <= 0 or source.read(offset, 1)[0] != identify.IMAGE_MAGIC:
        return None
    try:
        return AppImage.from_bytes(source.read(offset, min(size, source.end - offset)))
    except FormatError:
        return None


def check_whole(source: Source, flash_map: FlashMap, app: AppImage | None) -> None:
    """Refuse an image that was cut off: its application, or what follows it, is not all there."""
    if source.kind != "image":
        return
    if app is None:
        _check_app_present(source, flash_map)
    ends = {place.partition.offset + place.partition.size for place in flash_map.places()}
    if is_flash_size(source.end) or source.end in ends:
        return
    tail = source.read(max(source.end - MAX_BLANK_TAIL, 0), min(MAX_BLANK_TAIL, source.end))
    below = 1 << (source.end.bit_length() - 1)
    if max(ends) <= below < source.end < below + MAX_BLANK_TAIL and is_flash_size(below):
        raise InputError(
            f"{source.path}: is {source.end - below} bytes longer than a flash of {below} bytes",
            "download it again; a filled image is exactly as large as the flash",
        )
    if tail.count(0xFF) == len(tail):
        raise InputError(
            f"{source.path}: is cut off: it ends at {source.end:#x}, in the middle of blank flash",
            "download it again; a filled image is as large as the flash, e.g. 4194304 bytes",
        )


def check_places(source: Source, used: Mapping[str, Partition]) -> None:
    """Refuse parameters past every flash, before they are read.

    Raises:
        InputError: a partition is impossible.
    """
    total = sum(place.size for place in used.values())
    for name, place in used.items():
        end = place.offset + place.size
        if end > MAX_FLASH_SIZE or total > MAX_FLASH_SIZE:
            raise InputError(
                f"{source.path}: its tables place {name} at {place.offset:#x} to {end:#x}, in no flash",
                "the tables are damaged; download it again",
            )


def check_extents(source: Source, used: Mapping[str, Partition], extents: Mapping[str, int]) -> None:
    """Refuse an image that holds only the beginning of its parameters.

    Args:
        source: the flash.
        used: the partitions with parameters, by name.
        extents: bytes that must be there of each.

    Raises:
        InputError: the image was cut off inside of one.
    """
    for name, place in used.items():
        end = place.offset + extents[name]
        if source.kind == "image" and place.offset < source.end < end:
            raise InputError(
                f"{source.path}: is cut off: it ends at {source.end:#x}, and {name} at {end:#x}",
                "download it again, or give the release's folder or .zip",
            )


def _check_app_present(source: Source, flash_map: FlashMap) -> None:
    """Refuse an image whose first application is missing or not whole; it may be blank."""
    first = flash_map.primary.apps[0]
    if first.offset >= source.end:
        raise InputError(
            f"{source.path}: is cut off: it ends at {source.end:#x}, "
            f"before its application at {first.offset:#x}",
            "download it again, or give the release's folder or .zip",
        )
    if source.read(first.offset, 1)[0] == identify.IMAGE_MAGIC:
        raise InputError(
            f"{source.path}: is cut off or damaged: the application at {first.offset:#x} is not whole",
            "download it again",
        )


def stated_chip(source: Source) -> str:
    """Return the chip that a release's list names, where no image tells it; ``""`` for none."""
    from esp_at_tools.firmware.release import Release

    found = find_chip(source.args.chip) if isinstance(source, Release) and source.args.chip else None
    return found.name if found else ""


def agreed_chip(source: Source, told: str, asked: str) -> str:
    """Return the chip's name from the image and from the user, who must agree."""
    if told and asked and told != asked:
        raise InputError(f"--chip {asked}: {source.path} is a firmware for {told}", "leave --chip out")
    return told or asked


def with_parameters_at(source: Source, places: dict[str, Partition], offset: int) -> dict[str, Partition]:
    """Return the partitions with the one that holds the parameters at an address the user gave.

    at.py takes the address of the record itself for the legacy layout, and that of the ``mfg_nvs``
    row in the partition table for the modern one; the address of ``mfg_nvs`` itself works as well.
    """
    raw = source.read(offset, PAGE_SIZE) if 0 <= offset < source.end else b""
    if raw[:2] == identify.TABLE_MAGIC:
        (row,) = PartitionTable.from_bytes(raw[:ROW_SIZE] + END_ROW)
        if row.name == MFG_NVS:
            return {**places, MFG_NVS: row}
    if raw[:2] == FACTORY_PARAM_MAGIC and offset % PAGE_SIZE:
        raise InputError(
            f"--parameter-offset {offset:#x}: is not on a 4 KB boundary, as every partition is",
            f"the boundary before it is {offset - offset % PAGE_SIZE:#x}",
        )
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

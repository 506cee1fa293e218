"""The contents of the user partition ``fatfs`` or ``fs_storage``, made from a folder.

Which file system the firmware mounts there, and with which parameters, stands in its sdkconfig: FAT with
ESP-IDF's wear levelling (components/fatfs, components/wear_levelling), or LittleFS as the component
joltwallet/littlefs configures it. What is made is read back by the library of the same driver.
"""

from __future__ import annotations

import codecs
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.build.file_tree import flat, read_tree
from esp_at_tools.build.fs_options import Options, choice, number
from esp_at_tools.errors import CheckFailedError, FormatError, InputError
from esp_at_tools.formats.fat import FatOptions, Tree, fat_volume, free_bytes, short_names
from esp_at_tools.formats.wear_levelling import WearLevelling

LEGACY_PARTITION = "fatfs"
"""The partition of firmware that knows FAT only; newer firmware has ``fs_storage``."""

_BLOCK_SIZE = 4096  # what the flash erases at once, and the blocks of both file systems
_SECTOR_SIZES = (512, 4096)
_OFFICIAL = {"WL_SECTOR_SIZE_512": "y", "FATFS_LFN_HEAP": "y"}
_LEAST_SECTORS = 128  # of a volume that fatfs-ng mounts
_TOTAL_SECTORS = 19  # where the boot sector says how many there are
_CLUSTERS = tuple(1 << power for power in range(8))
_FATFS_LOCK = threading.Lock()  # the library keeps its drives in a global table


@dataclass(frozen=True)
class FileSystem:
    """A file system in its partition.

    Attributes:
        data: the contents of the partition.
        kind: ``FAT`` or ``LittleFS``.
        files: how many files are in it.
        bytes: how many bytes they have together.
        free: bytes that are left for more.
    """

    data: bytes
    kind: str
    files: int
    bytes: int
    free: int


def file_system_image(
    folder: Path, size: int, options: Options, *, partition: str = LEGACY_PARTITION
) -> bytes:
    """Return the contents of the partition for the firmware's file system; see :func:`file_system`."""
    return file_system(folder, size, options, partition=partition).data


def file_system(
    folder: Path, size: int, options: Options, *, partition: str = LEGACY_PARTITION
) -> FileSystem:
    """Return the firmware's file system with the files of a folder in it.

    The same files give the same bytes: entries are sorted, dates and numbers of the volume are fixed.

    Args:
        folder: what is to be in it; links that stay inside of it are followed.
        size: bytes of the partition, a multiple of 4096.
        options: the firmware's sdkconfig, with or without ``CONFIG_``; what is missing has the default
            of its Kconfig; see also :func:`fat_options`.
        partition: the partition's name; it decides where the options name no file system.

    Raises:
        InputError: the folder cannot be read, or holds what a file system cannot.
        FormatError: it does not fit, or a name is not allowed; the message has the numbers.
        CheckFailedError: what was made does not read back.
    """
    options = {name.removeprefix("CONFIG_"): value for name, value in options.items()}
    if size <= 0 or size % _BLOCK_SIZE:
        raise InputError(
            f"a file system of {size} bytes cannot be made", f"its partition is a multiple of {_BLOCK_SIZE}"
        )
    tree = read_tree(folder, size)
    files = [len(node) for node in flat(tree).values() if node is not None]
    try:
        if not uses_littlefs(options, partition):
            image = _fat_image(tree, size, options)
            free = free_bytes(tree, _wear_levelling(size, options).volume_size, fat_options(options))
            return FileSystem(image, "FAT", len(files), sum(files), free)

        from esp_at_tools.build.littlefs_image import littlefs_image, used_bytes

        image = littlefs_image(tree, size, options)
        return FileSystem(image, "LittleFS", len(files), sum(files), size - used_bytes(image, options))
    except FormatError as error:
        raise FormatError(f"{folder}: {error.message}", error.hint) from error


def uses_littlefs(options: Options, partition: str = LEGACY_PARTITION) -> bool:
    """Tell whether the firmware mounts LittleFS, not FAT.

    Args:
        options: the firmware's sdkconfig, without ``CONFIG_``.
        partition: the partition's name; ``fs_storage`` came with LittleFS, its default.
    """
    if options.get("AT_FS_LITTLEFS") == "y":
        return True
    return partition != LEGACY_PARTITION and "y" not in (
        options.get("AT_FS_FATFS"),
        options.get("AT_FS_FATFS_LEGACY"),
    )


def fat_options(options: Options) -> FatOptions:
    """Return what an sdkconfig (without ``CONFIG_``) says of FAT.

    One that says nothing at all of it, as where a release comes without, is taken to be as those of all
    official modules are: sectors of 512 bytes in the safe mode, long names.

    Raises:
        InputError: a value cannot be.
    """
    if not any(name.startswith(("WL_", "FATFS_")) for name in options):
        options = _OFFICIAL
    has_long_names = "y" in (options.get("FATFS_LFN_HEAP"), options.get("FATFS_LFN_STACK"))
    types = [kind for kind in (12, 16) if options.get(f"FATFS_FAT{kind}") == "y"]
    return FatOptions(
        sector_size=choice(options, "WL_SECTOR_SIZE", _SECTOR_SIZES, 4096),
        sectors_per_cluster=choice(options, "FATFS_SECTORS_PER_CLUSTER", _CLUSTERS, 1),
        max_name=number(options, "FATFS_MAX_LFN", 255, least=12, most=255) if has_long_names else 0,
        encoding=_encoding(options),
        fat_type=types[0] if types else 0,
    )


def _encoding(options: Options) -> str:
    """Return the encoding of the firmware's file names; where Python does not know it, only ASCII is sure."""
    if options.get("FATFS_API_ENCODING_UTF_8") == "y":
        return "utf-8"
    try:
        return codecs.lookup(f"cp{number(options, 'FATFS_CODEPAGE', 437, least=0, most=950)}").name
    except LookupError:
        return "ascii"


def _fat_image(tree: Tree, size: int, options: Options) -> bytes:
    fat = fat_options(options)
    layout = _wear_levelling(size, options)
    volume = fat_volume(tree, layout.volume_size, fat)
    image = layout.wrap(volume)
    if _read_fat(_at_least(_LEAST_SECTORS, layout.unwrap(image), fat), fat, tree) != flat(tree):
        raise _unreadable("fatfs-ng")
    return image


def _wear_levelling(size: int, options: Options) -> WearLevelling:
    small = fat_options(options).sector_size < _BLOCK_SIZE
    return WearLevelling(size, safe=small and options.get("WL_SECTOR_MODE_PERF") != "y")


def _unreadable(library: str) -> CheckFailedError:
    return CheckFailedError(
        f"the file system that was made does not read back with {library}", "report this; nothing was written"
    )


def _at_least(sectors: int, volume: bytes, options: FatOptions) -> bytearray:
    """Return a copy of a volume with so many sectors at least.

    ESP-IDF mounts smaller ones since 5.4 (``MIN_FAT12_SEC_VOL`` in ``ff.c``); the library does not.
    """
    copy = bytearray(volume)
    if len(copy) < sectors * options.sector_size:
        copy += b"\xff" * (sectors * options.sector_size - len(copy))
        copy[_TOTAL_SECTORS : _TOTAL_SECTORS + 2] = sectors.to_bytes(2, "little")
    return copy


def _read_fat(volume: bytearray, options: FatOptions, tree: Tree) -> dict[str, bytes | None]:
    """Return what FatFs, the driver of the firmware, finds of a tree in a volume."""
    from fatfs import wrapper  # type: ignore[import-untyped]  # fatfs-ng publishes no types
    from fatfs.diskio import RamDisk  # type: ignore[import-untyped]  # as above

    with _FATFS_LOCK:
        partition = wrapper.Partition(RamDisk(volume, options.sector_size))
        try:
            partition.mount()
        except wrapper.FatFSException as error:
            raise _unreadable("fatfs-ng") from error
        try:
            return dict(_found_by_fatfs(tree, options, partition._adjust_path("")))  # noqa: SLF001 - the drive
        finally:
            partition.unmount()


def _path_part(name: str, short: bytes) -> bytes:
    """Return a name in the library's code page, or its 8.3 form where that page lacks a character."""
    try:
        return name.encode("cp437")
    except UnicodeEncodeError:
        return short


def _found_by_fatfs(
    tree: Tree, options: FatOptions, drive: bytes, above: str = ""
) -> Iterator[tuple[str, bytes | None]]:
    from fatfs import wrapper

    shorts = short_names(tree, options)
    for name, node in tree.items():
        path = drive + b"/" + _path_part(name, shorts[name])
        shown = f"{above}/{name}"
        info, handle = wrapper.FILINFO_Handle(), wrapper.FIL_Handle()
        if wrapper.pyf_stat(path, info) != wrapper.PY_FR_OK:
            continue
        if not isinstance(node, bytes):
            if info.is_directory():
                yield shown, None
                yield from _found_by_fatfs(node, options, path, shown)
            continue
        if wrapper.pyf_open(handle, path, wrapper.PY_FA_READ) != wrapper.PY_FR_OK:
            continue
        status, data = wrapper.pyf_read(handle, info.get_size()) if node else (wrapper.PY_FR_OK, b"")
        wrapper.pyf_close(handle)
        if status == wrapper.PY_FR_OK:
            yield shown, bytes(data)

"""A FAT12 or FAT16 volume as ESP-IDF's driver (ChaN's FatFs) mounts it.

Layout: boot sector, two file allocation tables, a root directory of 512 entries, clusters. Geometry and
boot sector are those of ESP-IDF's fatfsgen.py; the limit between FAT12 and FAT16 is FatFs's. Source:
Microsoft's "FAT: General Overview of On-Disk Format" 1.03; ``ff.c`` of ESP-IDF. Dates are the first day
of FAT, 1980-01-01, and the serial number is fixed, so that the same files give the same bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Union

from esp_at_tools.errors import FormatError

Tree = Mapping[str, Union[bytes, "Tree"]]
"""Name → the contents of a file, or a folder."""

ROOT_ENTRIES = 512
"""Entries of 32 bytes in the root directory; a long name takes several."""

_ENTRY_SIZE = 32
_RESERVED_SECTORS = 1
_FATS = 2
_MAX_FAT12 = 0xFF5  # clusters; MAX_FAT12 and MAX_FAT16 of ff.c
_MAX_FAT16 = 0xFFF5
_MAX_SECTORS = 0xFFFF  # what the 16-bit field holds
_MEDIA = 0xF8
_SERIAL = 0x45535041
_FIRST_DAY = 0x0021  # 1980-01-01
_FILE, _FOLDER, _LONG_NAME, _LAST_LONG = 0x20, 0x10, 0x0F, 0x40
_LOWER_BASE, _LOWER_EXTENSION = 0x08, 0x10

_BOOT = struct.Struct("<3s8sHBHBHHBHHHIIBBBI11s8s448x2s")  # with the BIOS parameter block of FAT12 and FAT16
_ENTRY = struct.Struct("<11sBBBHHHHHHHI")
_LONG_ENTRY = struct.Struct("<B10sBBB12sH4s")
assert (_BOOT.size, _ENTRY.size, _LONG_ENTRY.size) == (512, 32, 32)  # noqa: S101 - facts about the lines above

_ILLEGAL = re.compile(r'[\x00-\x1f\x7f"*/:<>?\\|]')
_SHORT_CHARACTER = r"[!#$%&'()\-0-9@A-Z^_`{}~]"
_SHORT = re.compile(rf"(?P<base>{_SHORT_CHARACTER}{{1,8}})(\.(?P<extension>{_SHORT_CHARACTER}{{1,3}}))?")
_NOT_SHORT = re.compile(_SHORT_CHARACTER.replace("[", "[^", 1))
_UNITS_PER_ENTRY = 13


@dataclass(frozen=True)
class FatOptions:
    """What the firmware was compiled with.

    Attributes:
        sector_size: 512 or 4096 bytes.
        sectors_per_cluster: a power of two from 1 to 128.
        max_name: UTF-16 units of the longest name; 0 where only 8.3 names are read.
        encoding: Python's name of the encoding in which the firmware names files.
        fat_type: 12 or 16 where only that will do, else 0.
    """

    sector_size: int = 512
    sectors_per_cluster: int = 1
    max_name: int = 255
    encoding: str = "utf-8"
    fat_type: int = 0


@dataclass(frozen=True)
class FatGeometry:
    """Where things are in a volume.

    Attributes:
        options: its sectors and clusters.
        sectors: how many sectors it has.
    """

    options: FatOptions
    sectors: int

    @property
    def fat_sectors(self) -> int:
        """Sectors of one table; room for a cluster per sector of the whole volume, as fatfsgen.py has it."""
        small = self.sectors < _MAX_FAT12
        size = (self.sectors * 3 + 1) // 2 + 3 if small else self.sectors * 2 + 4
        return -(-size // self.options.sector_size)

    @property
    def first_data_sector(self) -> int:
        """The sector where cluster 2, the first, begins."""
        root = ROOT_ENTRIES * _ENTRY_SIZE // self.options.sector_size
        return _RESERVED_SECTORS + _FATS * self.fat_sectors + root

    @property
    def clusters(self) -> int:
        """How many clusters it has."""
        return max(0, self.sectors - self.first_data_sector) // self.options.sectors_per_cluster

    @property
    def cluster_size(self) -> int:
        """Bytes of a cluster."""
        return self.options.sectors_per_cluster * self.options.sector_size

    @property
    def fat_type(self) -> int:
        """12 or 16, as FatFs tells it when mounting: by the number of clusters alone."""
        return 12 if self.clusters <= _MAX_FAT12 else 16

    def check(self) -> None:
        """Refuse a volume that cannot be.

        Raises:
            FormatError: it is too small or too large, or of another type than asked for.
        """
        size = self.options.sector_size
        if not 1 <= self.clusters <= _MAX_FAT16 or self.sectors > _MAX_SECTORS:
            least = self.first_data_sector + self.options.sectors_per_cluster
            raise FormatError(
                f"there can be no FAT volume of {self.sectors} sectors of {size} bytes",
                f"it has from {least} to {_MAX_SECTORS} sectors",
            )
        if self.options.fat_type not in (0, self.fat_type):
            raise FormatError(
                f"{self.clusters} clusters make a FAT{self.fat_type}, not a FAT{self.options.fat_type}",
                "take CONFIG_FATFS_AUTO_TYPE, or a partition of another size",
            )


def fat_volume(tree: Tree, size: int, options: FatOptions) -> bytes:
    """Return a volume that holds a tree of files.

    Args:
        tree: the uppermost folder.
        size: bytes, a multiple of the sector size.
        options: what the firmware expects.

    Raises:
        FormatError: the tree does not fit, a name is not allowed, or there can be no such volume.
    """
    geometry = FatGeometry(options, size // options.sector_size)
    geometry.check()
    needed = _clusters_needed(tree, geometry)
    if needed > geometry.clusters:
        unit = geometry.cluster_size
        raise FormatError(
            f"the files need {needed * unit} of {geometry.clusters * unit} bytes, in clusters of {unit}",
            "leave files out, or make the partition larger",
        )
    return _Volume(geometry).filled(tree)


def free_bytes(tree: Tree, size: int, options: FatOptions) -> int:
    """Return the bytes of the clusters that are free in the volume of :func:`fat_volume`."""
    geometry = FatGeometry(options, size // options.sector_size)
    return (geometry.clusters - _clusters_needed(tree, geometry)) * geometry.cluster_size


def short_names(tree: Tree, options: FatOptions) -> dict[str, bytes]:
    """Return name → its 8.3 form, ``INDEX~1.HTM``, for each name of one folder.

    Raises:
        FormatError: a name is not allowed.
    """
    return {name: entry.short_form for name, entry in _names(tree, options).items()}


def _clusters_needed(tree: Tree, geometry: FatGeometry) -> int:
    """Return the clusters that what is in a folder takes, without those of the folder itself."""
    needed = 0
    for node in tree.values():
        if isinstance(node, bytes):
            needed += -(-len(node) // geometry.cluster_size)
        else:
            needed += _folder_clusters(node, geometry) + _clusters_needed(node, geometry)
    return needed


def _folder_clusters(tree: Tree, geometry: FatGeometry) -> int:
    size = (2 + _entry_count(tree, geometry.options)) * _ENTRY_SIZE  # "." and ".." are the two
    return -(-size // geometry.cluster_size)


def _entry_count(tree: Tree, options: FatOptions) -> int:
    return sum(1 + name.long_entries for name in _names(tree, options).values())


class _Volume:
    """A volume that is being filled; clusters are given out one after the other."""

    def __init__(self, geometry: FatGeometry) -> None:
        self._geometry = geometry
        self._end = 0xFFF if geometry.fat_type == 12 else 0xFFFF
        self._links = [self._end & (0xFF00 | _MEDIA), self._end]
        self._data = bytearray(b"\xff" * geometry.clusters * geometry.cluster_size)

    def filled(self, tree: Tree) -> bytes:
        options = self._geometry.options
        used = _entry_count(tree, options)
        if used > ROOT_ENTRIES:
            raise FormatError(
                f"the uppermost folder needs {used} of {ROOT_ENTRIES} entries (a long name takes several)",
                "put files into folders, or give them shorter names",
            )
        root = b"".join(self._entries(tree, 0)).ljust(ROOT_ENTRIES * _ENTRY_SIZE, b"\0")
        fat = self._table().ljust(self._geometry.fat_sectors * options.sector_size, b"\0")
        volume = self._boot_sector() + fat * _FATS + root + self._data
        return volume.ljust(self._geometry.sectors * options.sector_size, b"\xff")

    def _entries(self, tree: Tree, parent: int) -> Iterator[bytes]:
        """Store what is in a folder and yield its entries; ``parent`` is the folder's first cluster."""
        for name, entry in _names(tree, self._geometry.options).items():
            node = tree[name]
            yield from entry.long()
            if isinstance(node, bytes):
                first = self._allocate(-(-len(node) // self._geometry.cluster_size))
                self._store(first, node)
                yield entry.short(_FILE, first, len(node))
            else:
                yield entry.short(_FOLDER, self._folder(node, parent), 0)

    def _folder(self, tree: Tree, parent: int) -> int:
        count = _folder_clusters(tree, self._geometry)
        first = self._allocate(count)
        dots = [_Name(b"."), _Name(b"..")]
        entries = b"".join(
            [
                dots[0].short(_FOLDER, first, 0),
                dots[1].short(_FOLDER, parent, 0),
                *self._entries(tree, first),
            ]
        )
        self._store(first, entries.ljust(count * self._geometry.cluster_size, b"\0"))
        return first

    def _allocate(self, count: int) -> int:
        """Return the first of ``count`` clusters in a row, 0 for none."""
        if not count:
            return 0
        first = len(self._links)
        self._links += [*range(first + 1, first + count), self._end]
        return first

    def _store(self, first: int, data: bytes) -> None:
        start = (first - 2) * self._geometry.cluster_size
        if data:
            self._data[start : start + len(data)] = data

    def _table(self) -> bytes:
        if self._geometry.fat_type == 16:
            return struct.pack(f"<{len(self._links)}H", *self._links)
        links = [*self._links, 0]
        pairs = zip(links[::2], links[1::2], strict=False)
        return b"".join((low | high << 12).to_bytes(3, "little") for low, high in pairs)

    def _boot_sector(self) -> bytes:
        geometry, options = self._geometry, self._geometry.options
        return _BOOT.pack(
            b"\xeb\xfe\x90",
            b"MSDOS5.0",
            options.sector_size,
            options.sectors_per_cluster,
            _RESERVED_SECTORS,
            _FATS,
            ROOT_ENTRIES,
            geometry.sectors,
            _MEDIA,
            geometry.fat_sectors,
            *(63, 255),  # sectors per track, heads: nobody asks
            *(0, 0),  # hidden sectors, 32-bit number of sectors
            *(0x80, 0, 0x29),  # drive, reserved, "serial number, label and type follow"
            _SERIAL,
            b"Espressif".ljust(11),
            b"FAT".ljust(8),
            b"\x55\xaa",
        ).ljust(options.sector_size, b"\0")


@dataclass(frozen=True)
class _Name:
    """How a name stands in a directory."""

    base: bytes
    extension: bytes = b""
    flags: int = 0
    long_name: str = ""

    @property
    def _field(self) -> bytes:
        return self.base.ljust(8) + self.extension.ljust(3)

    @property
    def short_form(self) -> bytes:
        return self.base + (b"." + self.extension if self.extension else b"")

    @property
    def long_entries(self) -> int:
        return -(-len(self.long_name.encode("utf-16-le")) // (2 * _UNITS_PER_ENTRY))

    def short(self, attributes: int, cluster: int, size: int) -> bytes:
        dates = (0, _FIRST_DAY, _FIRST_DAY, 0, 0, _FIRST_DAY)  # created, accessed, (cluster), written
        return _ENTRY.pack(self._field, attributes, self.flags, 0, *dates, cluster, size)

    def long(self) -> Iterator[bytes]:
        """Yield the entries of the long name, the last part first."""
        checksum = 0
        for byte in self._field:
            checksum = ((checksum << 7 | checksum >> 1) + byte) & 0xFF
        size = 2 * _UNITS_PER_ENTRY
        units = self.long_name.encode("utf-16-le")
        if len(units) % size:
            units = (units + b"\0\0").ljust(self.long_entries * size, b"\xff")
        for number in range(self.long_entries, 0, -1):
            part = units[(number - 1) * size : number * size]
            order = number | (_LAST_LONG if number == self.long_entries else 0)
            yield _LONG_ENTRY.pack(order, part[:10], _LONG_NAME, 0, checksum, part[10:22], 0, part[22:])


def _names(tree: Tree, options: FatOptions) -> dict[str, _Name]:
    """Return how each name of a folder is written, in the order of the folder.

    Raises:
        FormatError: one is not allowed, or two are the same to FAT.
    """
    seen: dict[str, str] = {}
    for name in tree:
        _check_name(name, options)
        if (same := seen.setdefault(_upper(name), name)) != name:
            raise FormatError(
                f"{same!r} and {name!r} are the same name to FAT, which ignores case", "rename one of them"
            )
    found = {name: short for name in tree if (short := _as_short(name, options)) is not None}
    taken = {(each.base, each.extension) for each in found.values()}
    numbers: dict[tuple[str, str], int] = {}
    return {name: found.get(name) or _numbered(name, taken, numbers) for name in tree}


def _upper(name: str) -> str:
    """Return a name in capitals, each character on its own, as FatFs compares them."""
    return "".join(upper if len(upper := character.upper()) == 1 else character for character in name)


def _check_name(name: str, options: FatOptions) -> None:
    try:
        units = len(name.encode("utf-16-le")) // 2
        name.encode(options.encoding)
    except UnicodeEncodeError as error:
        raise FormatError(
            f"{name!r}: {error.object[error.start]!r} is not in {options.encoding}, the firmware's encoding",
            "rename it, or take CONFIG_FATFS_API_ENCODING_UTF_8 or another code page",
        ) from error
    if bad := _ILLEGAL.search(name):
        raise FormatError(f"{name!r}: {bad[0]!r} is not allowed in a name of FAT", "rename it")
    if not name or name != name.rstrip(". "):
        raise FormatError(f"{name!r}: a name of FAT does not end with a dot or a space", "rename it")
    if options.max_name and units > options.max_name:
        raise FormatError(
            f"{name!r}: {units} characters, and the firmware reads {options.max_name}", "rename it"
        )
    if not options.max_name and not (name.isascii() and _SHORT.fullmatch(name.upper())):
        raise FormatError(
            f"{name!r}: is not of the form 8.3, and the firmware reads no other (CONFIG_FATFS_LFN_NONE)",
            "give it a name of at most 8 characters, and 3 behind the dot, or take CONFIG_FATFS_LFN_HEAP",
        )


def _as_short(name: str, options: FatOptions) -> _Name | None:
    """Return a name that needs no long one: 8.3, each part in one case; else None."""
    match = _SHORT.fullmatch(name.upper()) if name.isascii() else None
    if match is None:
        return None
    base, extension = name[: match.end("base")], name[match.end("base") + 1 :]
    flags = 0
    if options.max_name:
        for part, flag in ((base, _LOWER_BASE), (extension, _LOWER_EXTENSION)):
            if part != part.upper():
                flags |= flag
                if part != part.lower():
                    return None
    return _Name(base.upper().encode(), extension.upper().encode(), flags)


def _numbered(name: str, taken: set[tuple[bytes, bytes]], numbers: dict[tuple[str, str], int]) -> _Name:
    """Return a long name with a short one like ``INDEX~1.HTM`` that nobody has."""
    stem, dot, extension = name.upper().rpartition(".")
    if not dot or not stem.strip(". "):
        stem, extension = name.upper(), ""
    base = _NOT_SHORT.sub("_", re.sub("[. ]", "", stem))[:6]
    extension = _NOT_SHORT.sub("_", extension.replace(" ", ""))[:3]
    while True:
        number = numbers[base, extension] = numbers.get((base, extension), 0) + 1
        tail = f"~{number}"
        short = (f"{base[: 8 - len(tail)]}{tail}".encode(), extension.encode())
        if short not in taken:
            taken.add(short)
            return _Name(*short, long_name=name)

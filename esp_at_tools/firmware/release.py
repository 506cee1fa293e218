"""A release: the folder or .zip that Espressif publishes and that a build makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from esp_at_tools.errors import EspAtError, FormatError, InputError
from esp_at_tools.firmware.mfg_csv import edit_mfg_csv
from esp_at_tools.firmware.source import Kind, Patch, PendingOutput, patched_chunks
from esp_at_tools.firmware.tree import Tree
from esp_at_tools.formats.flash_args import FlashArgs, FlashPart
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.settings.modern import PARTITION as MFG_NVS

FLASHER_ARGS = "flasher_args.json"
DOWNLOAD_CONFIG = "download.config"
PARTITIONS_FOLDER = "customized_partitions"
TABLE_FILES = ("partition-table.bin", "at_customize.bin")
MAX_FLASH_SIZE = 16 << 20
"""Bytes: the largest flash of an ESP module."""
MAX_PARTS_SIZE = 4 * MAX_FLASH_SIZE
"""Most bytes of all parts together, those that lie upon each other counted twice."""

_PART_LISTS: tuple[tuple[str, Callable[[str], FlashArgs]], ...] = (
    (FLASHER_ARGS, FlashArgs.from_json),
    (DOWNLOAD_CONFIG, FlashArgs.from_download_config),
)


class Release:
    """The files of a release, seen as flash.

    Args:
        tree: its files.
        prefix: the folder inside of the tree in which the release lies, ``""`` or ending in ``/``.
    """

    kind: Kind = "release"

    def __init__(self, tree: Tree, prefix: str = "") -> None:
        """Read what lies where in flash."""
        self.tree = tree
        self.path = tree.path
        self.prefix = prefix
        self.args = self._read_args()
        self._cache: dict[str, bytes] = {}
        self._check_parts()

    def _check_parts(self) -> None:
        missing = [name for name in self.args.files.values() if not self.has(name)]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise InputError(
                f"{self.path}: {self._args_name} names {', '.join(missing[:3])}{more}, which is missing",
                "give the whole release, as it was unpacked or built",
            )
        total = 0
        for offset, name in self.args.files.items():
            size = self.tree.file_size(self.prefix + name)
            total += size
            if offset + size > MAX_FLASH_SIZE or total > MAX_PARTS_SIZE:
                raise InputError(
                    f"{self.path}: {name}, {size} bytes at {offset:#x}, goes past every flash",
                    f"{self._args_name} must place all files below {MAX_FLASH_SIZE:#x}",
                )

    def _read_args(self) -> FlashArgs:
        for name, read in _PART_LISTS:
            if self.has(name):
                self._args_name = name
                return self._parsed(name, read)
        raise InputError(
            f"{self.path}: holds neither {FLASHER_ARGS} nor {DOWNLOAD_CONFIG}",
            "give the folder or .zip of a release, or a build folder",
        )

    def _parsed(self, name: str, read: Callable[[str], FlashArgs]) -> FlashArgs:
        text = self.text(name)
        try:
            return read(text)
        except FormatError as error:
            raise FormatError(f"{self.path}: {name}: {error.message}", error.hint) from error

    def text(self, name: str) -> str:
        """Return a text file of the release.

        Raises:
            FormatError: it is not UTF-8.
        """
        try:
            return self.tree.read(self.prefix + name).decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(
                f"{self.path}: {name} is not a text file in UTF-8", "download it again"
            ) from error

    def has(self, name: str) -> bool:
        """Tell whether the release has this file."""
        return self.tree.has(self.prefix + name)

    def part(self, name: str) -> bytes:
        """Return the contents of a file that is flashed."""
        if name not in self._cache:
            self._cache[name] = self.tree.read(self.prefix + name)
        return self._cache[name]

    @property
    def size(self) -> int:
        """Bytes of all files together, or of the archive."""
        return self.tree.size()

    @property
    def end(self) -> int:
        """First address after all parts."""
        return max((offset + len(self.part(name)) for offset, name in self.args.files.items()), default=0)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of flash as the parts would fill it; 0xFF between them."""
        result = bytearray(b"\xff" * size)
        for start, name in self.args.files.items():
            if start >= offset + size:
                continue
            part = self.part(name)
            first, last = max(start, offset), min(start + len(part), offset + size)
            if first < last:
                result[first - offset : last - offset] = part[first - start : last - start]
        return bytes(result)

    def contradictions(self) -> list[str]:
        """Return which parts lie upon each other."""
        found = []
        reached, before = 0, ""
        for offset, name in sorted(self.args.files.items()):
            if offset < reached:
                found.append(f"{name} at {offset:#x} overlaps the end of {before}")
            end = offset + len(self.part(name))
            if end > reached:
                reached, before = end, name
        return found

    def stated_flash_size(self) -> str:
        """Return the flash size of the release's list of parts; ``detect`` states nothing."""
        return self.flash_settings().get("size", "")

    def sha256(self) -> str:
        """Return the SHA-256 of the archive; of a folder, that of its flashed parts with their addresses."""
        import hashlib

        whole = self.tree.sha256()
        if whole is not None:
            return whole
        digest = hashlib.sha256()
        for offset, name in sorted(self.args.files.items()):
            digest.update(offset.to_bytes(4, "little") + self.part(name))
        return digest.hexdigest()

    def factory_images(self) -> list[str]:
        """Return the names of the merged images that the release holds, relative to it."""
        listed = [*self.tree.listed(self.prefix), *self.tree.listed(f"{self.prefix}factory/")]
        names = (name[len(self.prefix) :] for name in listed)
        return sorted(name for name in names if _is_factory_image(PurePosixPath(name)))

    def output(self, path: Path, patches: Iterable[Patch], *, secret: Collection[int]) -> PendingOutput:
        """Prepare the changed release: the partition files, their CSV and the merged images."""
        patches = list(patches)
        changes = self.changed_files(patches)
        return self.tree.output(
            path,
            {self.prefix + name: data for name, data in changes.items()},
            secret={self.prefix + name for name in self._secret_files(secret, patches)},
        )

    def remarks(self, patches: list[Patch]) -> list[str]:
        """Return which copies of a partition stay as they are, and which merged image was not up to date."""
        found = []
        for patch in patches:
            part = self._part_at(patch.offset)
            folder = self.prefix + PARTITIONS_FOLDER + "/"
            for name in self.tree.listed(folder) if part else ():
                copy = name[len(self.prefix) :]
                is_named_so = PurePosixPath(copy).name.startswith(f"{patch.name}_")
                if part and is_named_so and copy != part[1] and self.part(copy) == self.part(part[1]):
                    found.append(f"{copy} is a copy of {part[1]} as it was, and stays so: nothing flashes it")
            now = self.read(patch.offset, patch.size)
            for name in self.factory_images():
                image = self.part(name)[patch.offset : patch.offset + patch.size]
                if image.ljust(patch.size, b"\xff") != now:
                    found.append(
                        f"{name} had another {patch.name} than the release's parts; now it has theirs"
                    )
        return found

    def reread(self, pending: PendingOutput) -> Release:
        """Return the release that was written."""
        if pending.staged.is_dir():
            return open_folder(pending.staged, pending.overrides)
        return open_archive(pending.staged)

    def _secret_files(self, secret: Collection[int], patches: list[Patch]) -> set[str]:
        """Return the files that hold private keys: those at these addresses, and what repeats them."""
        if not secret:
            return set()
        parts = (self._part_at(offset) for offset in secret)
        names = {part[1] for part in parts if part}
        names |= {self._new_name(patch) for patch in patches if patch.offset in secret}
        return names.union((_csv_beside(name) for name in names), self.factory_images())

    def changed_files(self, patches: list[Patch]) -> dict[str, bytes]:
        """Return the files that differ once ``patches`` are applied, relative to the release.

        Their order is that in which they must be replaced one by one: whatever was replaced before an
        interruption, the same change asked for again finds what is left to do. The partitions that
        tell what has changed are the last, and a file stands before a list names it.
        """
        merged = {
            name: b"".join(patched_chunks(self._factory_image(name), patches))
            for name in self.factory_images()
        }
        tables: dict[str, bytes] = {}
        new: dict[str, bytes] = {}
        old: dict[str, bytes] = {}
        added: list[FlashPart] = []
        for patch in patches:
            part = self._part_at(patch.offset)
            if part is None:
                name = self._new_name(patch)
                added.append(self._new_entry(patch, name))
                new[name] = patch.data or patch.padded
                continue
            start, name = part
            self._check_single(name)
            old[name] = self._patched_part(start, old.get(name, self.part(name)), patch)
            if patch.name == MFG_NVS and self.has(_csv_beside(name)):
                tables[_csv_beside(name)] = self._edited_csv(patch, _csv_beside(name))
        changes = {**merged, **tables, **new, **self._lists_with(added), **old}
        return {name: data for name, data in changes.items() if not self.has(name) or self.part(name) != data}

    def _check_single(self, name: str) -> None:
        """Refuse to change a file that stands for other partitions too, such as a blank one for several."""
        places = [f"{offset:#x}" for offset, part in self.args.files.items() if part == name]
        if len(places) > 1:
            raise InputError(
                f"{self.path}: {name} is flashed to {' and '.join(places)}, and only one of them changes",
                f"give each a file of its own in {self._args_name}",
            )

    def _part_at(self, offset: int) -> tuple[int, str] | None:
        """Return address and name of the part that begins at an address or reaches over it."""
        name = self.args.files.get(offset)
        if name is not None:
            return offset, name
        over = (
            (start, name)
            for start, name in self.args.files.items()
            if start < offset < start + len(self.part(name))
        )
        return next(over, None)

    def _new_name(self, patch: Patch) -> str:
        """Return the name of the file for a partition that has none yet."""
        name = f"{PARTITIONS_FOLDER}/{patch.name}.bin"
        taken = name in self.args.files.values()
        return f"{PARTITIONS_FOLDER}/{patch.name}_{patch.offset:x}.bin" if taken else name

    def _new_entry(self, patch: Patch, name: str) -> FlashPart:
        said = any(part.encrypted is not None for part in self.args.parts)
        return FlashPart(patch.offset, name, patch.name, encrypted=False if said else None)

    def _patched_part(self, start: int, part: bytes, patch: Patch) -> bytes:
        if start == patch.offset and len(part) <= patch.size:
            return patch.data or patch.padded
        moved = Patch(patch.name, patch.offset - start, patch.size, patch.data)
        return b"".join(patched_chunks(part, [moved]))

    def _edited_csv(self, patch: Patch, csv_name: str) -> bytes:
        old = NvsPartition.from_bytes(self.read(patch.offset, patch.size))
        try:
            text = edit_mfg_csv(self.text(csv_name), old, NvsPartition.from_bytes(patch.data))
        except FormatError as error:
            raise FormatError(f"{self.path}: {csv_name}: {error.message}", error.hint) from error
        return text.encode("utf-8", "surrogateescape")

    def _factory_image(self, name: str) -> bytes:
        image = self.part(name)
        for offset, part in self.args.files.items():
            table = self.part(part)
            if PurePosixPath(part).name in TABLE_FILES and image[offset : offset + len(table)] != table:
                raise InputError(
                    f"{self.path}: {name} has another table at {offset:#x} than {part}",
                    "remove that image from the release, or give it as INPUT by itself",
                )
        return image

    def _lists_with(self, added: list[FlashPart]) -> dict[str, bytes]:
        """Return the lists of parts with new parts in them; the one that is read first comes last."""
        changes = {}
        for name, read in reversed(_PART_LISTS):
            if not (added and self.has(name)):
                continue
            known = self._parsed(name, read).files
            missing = [part for part in added if known.get(part.offset) != part.file]
            changes[name] = _EXTEND[name](self.text(name), missing).encode()
        return changes

    def flash_settings(self) -> Mapping[str, str]:
        """Return mode, frequency and size as the release states them; ``detect`` is left out."""
        stated = {"mode": self.args.flash_mode, "freq": self.args.flash_freq, "size": self.args.flash_size}
        return {key: value for key, value in stated.items() if value and value != "detect"}


def _is_factory_image(name: PurePosixPath) -> bool:
    in_folder = name.parent == PurePosixPath("factory")
    at_top = name.parent == PurePosixPath(".") and name.name.startswith("factory_")
    return name.suffix == ".bin" and not name.name.startswith("factory_param") and (in_folder or at_top)


def _csv_beside(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(".csv"))


def _extended_json(text: str, added: list[FlashPart]) -> str:
    """Return a ``flasher_args.json`` with more parts, otherwise as it is."""
    args = FlashArgs.from_json(text)
    if args.to_json() == text:
        for part in added:
            args = args.with_part(part)
        return args.to_json()
    document = json.loads(text)  # not as ESP-IDF writes it, so there may be more in it
    for part in added:
        document["flash_files"][part.address] = part.file
        document.setdefault(part.name, {"offset": part.address, "file": part.file})
    return json.dumps(document, indent=4, ensure_ascii=False) + "\n"


def _extended_config(text: str, added: list[FlashPart]) -> str:
    """Return a ``download.config`` with more parts at its end."""
    words = (f" {part.address} {part.file}" for part in added)
    return text.rstrip() + "".join(words) + text[len(text.rstrip()) :]


_EXTEND: dict[str, Callable[[str, list[FlashPart]], str]] = {
    FLASHER_ARGS: _extended_json,
    DOWNLOAD_CONFIG: _extended_config,
}


def open_folder(path: Path, overrides: Mapping[str, Path] | None = None) -> Release:
    """Return the release in a folder, which may hold it one folder further down.

    Args:
        path: the folder.
        overrides: files that are read from elsewhere, by name.

    Raises:
        InputError: there is none, or more than one.
    """
    from esp_at_tools.firmware.folder_tree import FolderTree

    tree = FolderTree(path, overrides)
    if _lists_parts(path):
        return Release(tree)
    found = [child for child in sorted(path.iterdir()) if child.is_dir() and _lists_parts(child)]
    if len(found) == 1:
        return Release(tree, found[0].name + "/")
    what = f"holds {len(found)} releases" if found else f"holds neither {FLASHER_ARGS} nor {DOWNLOAD_CONFIG}"
    hint = (
        f"give one of {', '.join(str(child) for child in found)}" if found else "give the folder of a release"
    )
    raise InputError(f"{path}: {what}", hint)


def _lists_parts(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (FLASHER_ARGS, DOWNLOAD_CONFIG))


def open_archive(path: Path) -> Release:
    """Return the release in a .zip.

    Raises:
        InputError: it holds none, more than one, or another .zip.
    """
    from esp_at_tools.firmware.zip_tree import ZipTree

    tree = ZipTree(path)
    names = tree.names()
    prefixes = {
        name[: -len(PurePosixPath(name).name)]
        for name in names
        if PurePosixPath(name).name in (FLASHER_ARGS, DOWNLOAD_CONFIG)
    }
    if prefixes:
        depth = min(prefix.count("/") for prefix in prefixes)
        nearest = sorted(prefix for prefix in prefixes if prefix.count("/") == depth)
        if len(nearest) > 1:
            raise InputError(
                f"{path}: holds {len(nearest)} releases: {', '.join(nearest)}", "unpack it and give one"
            )
        return Release(tree, nearest[0])
    raise _no_release(path, names)


def _no_release(path: Path, names: list[str]) -> EspAtError:
    inner = [name for name in names if name.lower().endswith(".zip")]
    if inner:
        return InputError(
            f"{path}: is a .zip that holds another .zip ({inner[0]})", "unpack it and give the inner one"
        )
    images = [name for name in names if name.lower().endswith(".bin")]
    if images:
        return InputError(
            f"{path}: holds neither {FLASHER_ARGS} nor {DOWNLOAD_CONFIG}",
            f"unpack it and give the full image among its files, e.g. {images[0]}",
        )
    return InputError(f"{path}: is a .zip without a firmware in it", "give the .zip of a release")

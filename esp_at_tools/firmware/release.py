"""A release: the folder or .zip that Espressif publishes and that a build makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

from esp_at_tools.errors import EspAtError, FormatError, InputError
from esp_at_tools.firmware.mfg_csv import edit_mfg_csv
from esp_at_tools.firmware.source import Kind, Patch, PendingOutput, patched_chunks
from esp_at_tools.firmware.tree import FolderTree, Tree, ZipTree
from esp_at_tools.formats.flash_args import FlashArgs, FlashPart
from esp_at_tools.formats.nvs import NvsPartition

FLASHER_ARGS = "flasher_args.json"
DOWNLOAD_CONFIG = "download.config"
PARTITIONS_FOLDER = "customized_partitions"
TABLE_FILES = ("partition-table.bin", "at_customize.bin")

_PART_LISTS: tuple[tuple[str, Callable[[str], FlashArgs], Callable[[FlashArgs], str]], ...] = (
    (FLASHER_ARGS, FlashArgs.from_json, FlashArgs.to_json),
    (DOWNLOAD_CONFIG, FlashArgs.from_download_config, FlashArgs.to_download_config),
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
        self._names = set(tree.names())
        self.args = self._read_args()
        self._cache: dict[str, bytes] = {}
        missing = [name for name in self.args.files.values() if prefix + name not in self._names]
        if missing:
            raise InputError(
                f"{self.path}: {', '.join(missing)} is missing, although {self._args_name} names it",
                "give the whole release, as it was unpacked or built",
            )

    def _read_args(self) -> FlashArgs:
        for name, read, _ in _PART_LISTS:
            if self.has(name):
                self._args_name = name
                return self._parsed(name, read)
        raise InputError(
            f"{self.path}: holds neither {FLASHER_ARGS} nor {DOWNLOAD_CONFIG}",
            "give the folder or .zip of a release, or a build folder",
        )

    def _parsed(self, name: str, read: Callable[[str], FlashArgs]) -> FlashArgs:
        try:
            return read(self.text(name))
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
        return self.prefix + name in self._names

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

    def stated_flash_size(self) -> str:
        """Return the flash size of the release's list of parts; ``detect`` states nothing."""
        return self.flash_settings().get("size", "")

    def sha256(self) -> str:
        """Return the SHA-256 of the archive; of a folder, that of its flashed parts with their addresses."""
        import hashlib

        if isinstance(self.tree, ZipTree):
            return hashlib.sha256(self.path.read_bytes()).hexdigest()
        digest = hashlib.sha256()
        for offset, name in sorted(self.args.files.items()):
            digest.update(offset.to_bytes(4, "little") + self.part(name))
        return digest.hexdigest()

    def factory_images(self) -> list[str]:
        """Return the names of the merged images that the release holds, relative to it."""
        names = (name[len(self.prefix) :] for name in self._names if name.startswith(self.prefix))
        return sorted(name for name in names if _is_factory_image(PurePosixPath(name)))

    def output(self, path: Path, patches: Iterable[Patch], *, private: bool) -> PendingOutput:
        """Prepare the changed release: the partition files, their CSV and the merged images."""
        changes = self.changed_files(list(patches))
        return self.tree.output(
            path, {self.prefix + name: data for name, data in changes.items()}, private=private
        )

    def changed_files(self, patches: list[Patch]) -> dict[str, bytes]:
        """Return the files that differ once ``patches`` are applied, relative to the release."""
        changes: dict[str, bytes] = {}
        added: list[FlashPart] = []
        for patch in patches:
            name = self.args.files.get(patch.offset)
            if name is None:
                name = f"{PARTITIONS_FOLDER}/{patch.name}.bin"
                added.append(FlashPart(patch.offset, name, patch.name, encrypted=False))
            changes[name] = patch.data or patch.padded
            csv_name = str(PurePosixPath(name).with_suffix(".csv"))
            if self.has(csv_name) and name in self.args.files.values():
                old, new = NvsPartition.from_bytes(self.part(name)), NvsPartition.from_bytes(patch.data)
                changes[csv_name] = edit_mfg_csv(self.text(csv_name), old, new).encode(
                    "utf-8", "surrogateescape"
                )
        if added:
            changes.update(self._args_with(added))
        for name in self.factory_images():
            changes[name] = b"".join(patched_chunks(self._factory_image(name), patches))
        return {name: data for name, data in changes.items() if not self.has(name) or self.part(name) != data}

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

    def _args_with(self, added: list[FlashPart]) -> dict[str, bytes]:
        """Return the two lists of parts with new parts in them, where the release has them."""
        changes = {}
        for name, read, render in _PART_LISTS:
            if self.has(name):
                args = self._parsed(name, read)
                for part in added:
                    args = args.with_part(part)
                changes[name] = render(args).encode()
        return changes

    def flash_settings(self) -> Mapping[str, str]:
        """Return mode, frequency and size as the release states them; ``detect`` is left out."""
        stated = {"mode": self.args.flash_mode, "freq": self.args.flash_freq, "size": self.args.flash_size}
        return {key: value for key, value in stated.items() if value and value != "detect"}


def _is_factory_image(name: PurePosixPath) -> bool:
    in_folder = name.parent == PurePosixPath("factory")
    at_top = name.parent == PurePosixPath(".") and name.name.startswith("factory_")
    return name.suffix == ".bin" and name.name != "factory_param.bin" and (in_folder or at_top)


def open_folder(path: Path, overrides: Mapping[str, Path] | None = None) -> Release:
    """Return the release in a folder, which may hold it one folder further down.

    Args:
        path: the folder.
        overrides: files that are read from elsewhere, by name.

    Raises:
        InputError: there is none, or more than one.
    """
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

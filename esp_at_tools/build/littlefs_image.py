"""A LittleFS image as joltwallet/littlefs, the component that esp-at uses, mounts it.

Sizes are those that the firmware's driver is configured with (``esp_littlefs.c``), because a file that lies
in its directory must fit the driver's cache. Files carry no time: the driver shows 0 for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from esp_at_tools.build.file_tree import flat
from esp_at_tools.build.fs_options import Options, number
from esp_at_tools.errors import CheckFailedError, FormatError, InputError
from esp_at_tools.formats.fat import Tree

if TYPE_CHECKING:
    from littlefs import LittleFS

_BLOCK_SIZE = 4096  # the component fixes it
_DISK_VERSIONS = {"LITTLEFS_DISK_VERSION_2_1": 0x00020001, "LITTLEFS_DISK_VERSION_2_0": 0x00020000}


def littlefs_image(tree: Tree, size: int, options: Options) -> bytes:
    """Return a partition that holds a tree of files.

    Args:
        tree: the uppermost folder.
        size: bytes, a multiple of 4096.
        options: the firmware's sdkconfig, without ``CONFIG_``.

    Raises:
        InputError: an option has a value that cannot be.
        FormatError: the tree does not fit, or a name is not allowed.
        CheckFailedError: what was made does not read back.
    """
    parameters = _parameters(options)
    blocks = size // _BLOCK_SIZE
    if blocks < 2:
        raise FormatError(f"LittleFS does not fit into {size} bytes", f"it takes at least {2 * _BLOCK_SIZE}")
    for path in flat(tree):
        _check_name(path.rpartition("/")[2], parameters["name_max"])
    system = _filled(tree, blocks, parameters)
    if system is None:
        raise _too_large(tree, blocks, parameters)
    image = bytes(system.context.buffer)
    if _read(image, parameters) != flat(tree):
        raise CheckFailedError(
            "the file system that was made does not read back with littlefs-python",
            "report this; nothing was written",
        )
    return image


def used_bytes(image: bytes, options: Options) -> int:
    """Return how many bytes of a partition that :func:`littlefs_image` has made are in use."""
    system = _opened(_Memory(0, image), _parameters(options))
    system.mount()
    return system.used_block_count * _BLOCK_SIZE


def _check_name(name: str, name_max: int) -> None:
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise FormatError(f"{name!r}: is not UTF-8", "rename it") from error
    if length >= name_max:  # the option counts a final NUL
        raise FormatError(
            f"{name!r}: {length} bytes, and the firmware reads {name_max - 1}",
            "rename it, or raise CONFIG_LITTLEFS_OBJ_NAME_LEN",
        )


def _parameters(options: Options) -> dict[str, int]:
    """Return what the firmware's driver is configured with; defaults are those of its Kconfig."""
    versions = [value for name, value in _DISK_VERSIONS.items() if options.get(name) == "y"]
    cache = number(options, "LITTLEFS_CACHE_SIZE", 512, least=16, most=_BLOCK_SIZE)
    found = {
        "read_size": number(options, "LITTLEFS_READ_SIZE", 128, least=1, most=cache),
        "prog_size": number(options, "LITTLEFS_WRITE_SIZE", 128, least=1, most=cache),
        "cache_size": cache,
        "lookahead_size": number(options, "LITTLEFS_LOOKAHEAD_SIZE", 128, least=8, most=_BLOCK_SIZE),
        "block_cycles": number(options, "LITTLEFS_BLOCK_CYCLES", 512, least=-1, most=1024) or -1,
        "name_max": number(options, "LITTLEFS_OBJ_NAME_LEN", 64, least=16, most=1022),
        "disk_version": versions[0] if versions else 0,
    }
    if cache % found["read_size"] or cache % found["prog_size"] or _BLOCK_SIZE % cache:
        raise InputError(
            f"CONFIG_LITTLEFS_CACHE_SIZE={cache}: is not a multiple of the sizes to read and to write, "
            f"or no divisor of {_BLOCK_SIZE}",
            "correct the sdkconfig",
        )
    if found["lookahead_size"] % 8:
        raise InputError(
            f"CONFIG_LITTLEFS_LOOKAHEAD_SIZE={found['lookahead_size']}: is not a multiple of 8",
            "correct the sdkconfig",
        )
    return found


class _Memory:
    """The flash that littlefs-python works on, without that library's log of every access."""

    def __init__(self, blocks: int, contents: bytes = b"") -> None:
        self.buffer = bytearray(contents or b"\xff" * blocks * _BLOCK_SIZE)

    def read(self, cfg: object, block: int, off: int, size: int) -> bytearray:
        del cfg
        start = block * _BLOCK_SIZE + off
        return self.buffer[start : start + size]

    def prog(self, cfg: object, block: int, off: int, data: bytes) -> int:
        del cfg
        start = block * _BLOCK_SIZE + off
        self.buffer[start : start + len(data)] = data
        return 0

    def erase(self, cfg: object, block: int) -> int:
        return self.prog(cfg, block, 0, b"\xff" * _BLOCK_SIZE)

    def sync(self, cfg: object) -> int:
        del cfg
        return 0


def _opened(memory: _Memory, parameters: Mapping[str, int]) -> LittleFS:
    from littlefs import LittleFS

    blocks = len(memory.buffer) // _BLOCK_SIZE
    flash: Any = memory  # the library calls its four methods, and wants nothing more of a UserContext
    sizes: dict[str, Any] = {"block_size": _BLOCK_SIZE, "block_count": blocks, **parameters}
    return LittleFS(flash, mount=False, **sizes)


def _filled(tree: Tree, blocks: int, parameters: Mapping[str, int]) -> LittleFS | None:
    """Return a file system of so many blocks with the tree in it, None if that does not fit."""
    from littlefs import LittleFSError

    system = _opened(_Memory(blocks), parameters)
    try:
        system.format()
        system.mount()
        for path, contents in flat(tree).items():
            if contents is None:
                system.mkdir(path)
            else:
                with system.open(path, "wb", buffering=0) as stream:
                    stream.write(contents)
    except LittleFSError as error:
        if error.code == LittleFSError.Error.LFS_ERR_NOSPC:
            return None
        raise FormatError(f"LittleFS cannot hold the files: {error.name}", "leave files out") from error
    return system


def _too_large(tree: Tree, blocks: int, parameters: Mapping[str, int]) -> FormatError:
    """Return the error that says how much the tree needs: found by giving it more than enough."""
    nodes = flat(tree).values()
    plenty = blocks + 64 + sum(4 + 2 * (len(node or b"") // _BLOCK_SIZE) for node in nodes)
    system = _filled(tree, plenty, parameters)
    needed = f"{system.used_block_count * _BLOCK_SIZE}" if system else "more than there are"
    return FormatError(
        f"the files need {needed} of {blocks * _BLOCK_SIZE} bytes, in blocks of {_BLOCK_SIZE}",
        "leave files out, or make the partition larger",
    )


def _read(image: bytes, parameters: Mapping[str, int]) -> dict[str, bytes | None]:
    """Return path → contents as a driver of the same parameters finds them."""
    from littlefs import LittleFSError

    found: dict[str, bytes | None] = {}
    try:
        system = _opened(_Memory(0, image), parameters)
        system.mount()
        for folder, folders, names in system.walk("/"):
            above = folder.rstrip("/")
            found |= {f"{above}/{name}": None for name in folders}
            for name in names:
                with system.open(f"{above}/{name}", "rb") as stream:
                    found[f"{above}/{name}"] = stream.read()
    except (LittleFSError, OSError):
        return {"": None}
    return found

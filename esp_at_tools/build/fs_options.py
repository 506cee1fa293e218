"""The options of an sdkconfig that a file system depends on."""

from __future__ import annotations

from collections.abc import Mapping

from esp_at_tools.errors import InputError

FILE_SYSTEMS = ("fs_storage", "fatfs")
"""Names of the partition with the file system of the AT firmware, the newer one first."""

Options = Mapping[str, str]
"""Option of the sdkconfig → its value, as written there: ``y``, ``512``."""


def number(options: Options, name: str, default: int, *, least: int, most: int) -> int:
    text = options.get(name) or str(default)
    try:
        value = int(text, 0)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise InputError(f"CONFIG_{name}={text[:40]}: is not from {least} to {most}", "correct the sdkconfig")
    return value


def choice(options: Options, prefix: str, values: tuple[int, ...], default: int) -> int:
    """Return the value of a choice: of ``WL_SECTOR_SIZE=512``, or of ``WL_SECTOR_SIZE_512=y``."""
    for value in values:
        if options.get(f"{prefix}_{value}") == "y" or options.get(prefix) == str(value):
            return value
    return default

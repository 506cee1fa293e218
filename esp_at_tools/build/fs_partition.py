"""The partition of the file system in a build: filled from a folder, and what is to be said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from esp_at_tools.build.file_system import FileSystem, file_system
from esp_at_tools.build.fs_options import FILE_SYSTEMS
from esp_at_tools.build.options import Options
from esp_at_tools.build.recipe import Recipe, UserPartition
from esp_at_tools.errors import InputError
from esp_at_tools.formats.partition_table import Partition
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.numbers import format_size

_USERS = ("AT_FS_COMMAND_SUPPORT", "AT_WEB_USE_FATFS", "AT_WEB_USE_FS")
"""Options of a firmware that reads the file system: AT+FS, and the web server's pages."""
_SIZES = tuple(1 << power for power in range(17, 24))
"""Sizes that are tried for a folder that does not fit: 128 KB to 8 MB."""


def with_files(recipe: Recipe, options: Options) -> Recipe:
    """Return a recipe whose file system holds the files of a folder.

    Args:
        recipe: with the tables as they will be.
        options: ``fs_image`` is the folder; without it the recipe stays as it is.

    Raises:
        InputError: there is no partition for it, the folder cannot be read, or it does not fit.
        CheckFailedError: what was made does not read back.
    """
    folder = options.fs_image
    if folder is None:
        return recipe
    place = next((found for name in FILE_SYSTEMS if (found := recipe.secondary.find(name))), None)
    if place is None:
        names = ", ".join(partition.name for partition in recipe.secondary)
        raise InputError(
            f"--fs-image {folder}: {recipe.full_name} has no partition for a file system",
            f"it is called {' or '.join(FILE_SYSTEMS)}; the secondary table has {names}",
        )
    text = recipe.sdkconfig or recipe.sdkconfig_defaults
    config = Sdkconfig.from_text(text)
    made = _made(folder, place, config.options)
    warnings = [*recipe.warnings]
    if text and not any(config.is_on(option) for option in _USERS):
        warnings.append(
            f"--fs-image {folder}: the firmware does not use {place.name}:"
            f" CONFIG_{_USERS[0]} is not on in its sdkconfig"
        )
    if not made.files:
        warnings.append(f"--fs-image {folder}: no file is in it, so the file system is empty")
    count = "1 file" if made.files == 1 else f"{made.files} files"
    note = (
        f"{place.name}: {made.kind} with {count} of {format_size(made.bytes)},"
        f" {format_size(made.free)} of {format_size(place.size)} free"
    )
    partitions = {**recipe.partitions, place.name: UserPartition(made.data)}
    return replace(recipe, partitions=partitions, notes=(*recipe.notes, note), warnings=tuple(warnings))


def _made(folder: Path, place: Partition, config: Mapping[str, str]) -> FileSystem:
    try:
        return file_system(folder, place.size, config, partition=place.name)
    except InputError as error:
        message = error.message if error.message.startswith("--") else f"--fs-image {error.message}"
        enough = _enough(folder, place, config)
        hint = f"leave files out, or --partition {place.name}={enough >> 10}K" if enough else error.hint
        raise type(error)(message, hint) from error


def _enough(folder: Path, place: Partition, config: Mapping[str, str]) -> int | None:
    """Return a size that a folder fits which does not fit a partition, None if none would do."""
    for size in _SIZES:
        if size > place.size:
            try:
                file_system(folder, size, config, partition=place.name)
            except InputError:
                continue
            return size
    return None

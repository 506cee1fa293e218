"""The files of a build folder, named and laid out as esp-at's own build does it.

Source: ``CMakeLists.txt``, ``components/customized_partitions/CMakeLists.txt`` and ``build.py`` of
esp-at v5.0.1.0, and ``components/esptool_py`` of ESP-IDF v5.4.4.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from esp_at_tools.build.recipe import Recipe
from esp_at_tools.errors import InputError
from esp_at_tools.formats.flash_args import FlashArgs, FlashPart, check_path
from esp_at_tools.formats.ota_data import OtaData
from esp_at_tools.formats.partition_table import (
    AT_CUSTOMIZE,
    DATA,
    OTA_DATA,
    TABLE_SIZE,
    Partition,
    PartitionTable,
    TableProblem,
)

BOOTLOADER = "bootloader/bootloader.bin"
APP = "esp-at.bin"
PRIMARY_TABLE = "partition_table/partition-table.bin"
OTA_DATA_INITIAL = "ota_data_initial.bin"
SECONDARY_TABLE = "at_customize.bin"
USER_PARTITIONS = "customized_partitions"
MODULE_INFO = "module_info.json"
FLASHER_ARGS = "flasher_args.json"
DOWNLOAD_CONFIG = "download.config"
SDKCONFIG = "sdkconfig"
SDKCONFIG_DEFAULTS = "sdkconfig.defaults"
FACTORY = "factory"
LIST_NAMES = {"phy_init": ("phy", "phy_init_data.bin")}
"""Partition → its name in the lists and its file, where ESP-IDF gives it others than its own."""
FIXED_NAMES = (
    BOOTLOADER, APP, PRIMARY_TABLE, OTA_DATA_INITIAL, SECONDARY_TABLE, MODULE_INFO, FLASHER_ARGS,
    DOWNLOAD_CONFIG, SDKCONFIG, SDKCONFIG_DEFAULTS,
)  # fmt: skip
"""The files that a build folder may have under a name that does not depend on the module."""


@dataclass(frozen=True)
class BuiltFile:
    """One file of a build folder.

    Attributes:
        data: its contents.
        private: whether private keys are in it, so that a new file is for its owner only.
    """

    data: bytes
    private: bool = False


@dataclass(frozen=True)
class Part:
    """One file that is flashed.

    Attributes:
        name: what ``flasher_args.json`` calls it.
        file: its path in the build folder.
        offset: address in flash, in bytes.
        data: its contents.
        private: whether private keys are in it.
    """

    name: str
    file: str
    offset: int
    data: bytes
    private: bool = False


def parts(recipe: Recipe) -> tuple[Part, ...]:
    """Return what is flashed, in the order of the official lists.

    Raises:
        InputError: a part does not fit its place, a table contradicts itself or goes past the flash;
            the message has the numbers.
    """
    _check_tables(recipe)
    return tuple(_parts(recipe))


def _parts(recipe: Recipe) -> Iterator[Part]:
    at_customize = _at_customize(recipe)
    if recipe.bootloader:
        yield _bootloader(recipe)
    if recipe.app:
        yield _app(recipe)
    yield Part("partition-table", PRIMARY_TABLE, recipe.table_offset, recipe.primary.to_bytes())
    for partition in recipe.primary.of_type(DATA, OTA_DATA)[:1]:
        yield Part("otadata", OTA_DATA_INITIAL, partition.offset, OtaData.initial().to_bytes())
    yield Part(AT_CUSTOMIZE, SECONDARY_TABLE, at_customize.offset, recipe.secondary.to_bytes())
    for name, contents in recipe.partitions.items():
        place = _place(recipe, name)
        if len(contents.data) > place.size:
            raise InputError(
                f"{name}: {len(contents.data)} bytes do not fit its partition of {place.size}",
                f"make {name} larger in the secondary partition table, or its contents smaller",
            )
        listed, file = LIST_NAMES.get(name, (name, f"{USER_PARTITIONS}/{name}.bin"))
        yield Part(listed, check_path(file), place.offset, contents.data, contents.private)


def _at_customize(recipe: Recipe) -> Partition:
    found = recipe.primary.find(AT_CUSTOMIZE)
    if found is None:
        raise InputError(
            f"the primary partition table of {recipe.full_name} has no {AT_CUSTOMIZE}",
            "AT firmware finds its settings through that partition: type 0x40, sub-type 0",
        )
    return found


def _place(recipe: Recipe, name: str) -> Partition:
    found = recipe.secondary.find(name) or recipe.primary.find(name)
    if found is None:
        names = ", ".join(partition.name for partition in recipe.secondary)
        raise InputError(
            f"{name}: no partition of {recipe.full_name} has that name",
            f"the secondary partition table has {names}",
        )
    return found


def _bootloader(recipe: Recipe) -> Part:
    offset, limit = recipe.chip.bootloader_offset, recipe.table_offset
    size = len(recipe.bootloader)
    if offset + size > limit:
        raise InputError(
            f"the bootloader, {size} bytes at {offset:#x}, reaches {offset + size - limit} bytes into the"
            f" partition table at {limit:#x}",
            "give the bootloader of this module, or move the table (PARTITION_TABLE_OFFSET)",
        )
    return Part("bootloader", BOOTLOADER, offset, recipe.bootloader)


def _app(recipe: Recipe) -> Part:
    place = OtaData.initial().boot_partition(recipe.primary)
    if place is None:
        raise InputError(
            f"the primary partition table of {recipe.full_name} has no partition for an application",
            "give it one: type app, sub-type factory or ota_0",
        )
    missing = len(recipe.app) - place.size
    if missing > 0:
        raise InputError(
            f"the application has {len(recipe.app)} bytes, its partition {place.name} {place.size}:"
            f" {missing} too few",
            "--flash with a larger size lays the partitions out anew; the silence variant, fewer features"
            " or a module with one slot also make room",
        )
    return Part("app", APP, place.offset, recipe.app)


def _check_tables(recipe: Recipe) -> None:
    """Refuse tables that contradict themselves, each other, or the flash."""
    from esp_at_tools.formats.partition_checks import check_secondary

    problems = recipe.primary.validate(offset_part_table=recipe.table_offset, flash_size=recipe.flash.size)
    _refuse(recipe, "primary", recipe.primary, problems)
    problems = [
        *recipe.secondary.validate(primary=False, flash_size=recipe.flash.size),
        *check_secondary(recipe.primary, recipe.secondary),
    ]
    _refuse(recipe, "secondary", recipe.secondary, problems)
    end = recipe.table_offset + TABLE_SIZE
    if end > recipe.flash.size:
        raise InputError(f"the partition table ends at {end:#x}, past the flash", "check the flash size")


def _refuse(recipe: Recipe, which: str, table: PartitionTable, problems: list[TableProblem]) -> None:
    errors = [problem for problem in problems if problem.level == "error"]
    if errors:
        said = "\n  ".join(problem.message for problem in errors)
        raise InputError(
            f"the {which} partition table of {recipe.full_name} cannot be used:\n  {said}",
            f"mend the table; it ends at {table.end:#x}, and the flash has {recipe.flash.size:#x} bytes",
        )


def flash_args(recipe: Recipe, flashed: tuple[Part, ...]) -> FlashArgs:
    """Return the list of parts, as ``flasher_args.json`` and ``download.config`` hold it.

    That of an ESP8266 names neither the chip nor the stub, as its own build system has it.
    """
    return FlashArgs(
        tuple(FlashPart(part.offset, part.file, part.name, encrypted=False) for part in flashed),
        flash_mode=recipe.flash.mode,
        flash_freq=recipe.flash.freq,
        flash_size=recipe.flash.size_name,
        chip="" if recipe.chip.image_chip_id is None else recipe.chip.name,
        stub=None if recipe.chip.image_chip_id is None else True,
    )


def module_info(recipe: Recipe) -> bytes:
    """Return ``module_info.json``, by which esp-at's build.py knows for which module a folder is."""
    info = {
        "platform": recipe.platform,
        "module": recipe.module,
        "description": recipe.description,
        "silence": int(recipe.silence),
    }
    return json.dumps(info, ensure_ascii=False).encode()


def built_files(recipe: Recipe) -> dict[str, BuiltFile]:
    """Return every file of the build folder by its path in it.

    Raises:
        InputError: see :func:`parts`.
    """
    flashed = parts(recipe)
    args = flash_args(recipe, flashed)
    files = {part.file: BuiltFile(part.data, part.private) for part in flashed}
    for name, contents in recipe.partitions.items():
        if contents.csv:
            data = contents.csv.encode("utf-8", "surrogateescape")
            files[f"{USER_PARTITIONS}/{name}.csv"] = BuiltFile(data, contents.private)
    if recipe.sdkconfig:
        files[SDKCONFIG] = BuiltFile(recipe.sdkconfig.encode())
    if recipe.sdkconfig_defaults:
        files[SDKCONFIG_DEFAULTS] = BuiltFile(recipe.sdkconfig_defaults.encode())
    files[MODULE_INFO] = BuiltFile(module_info(recipe))
    files[FLASHER_ARGS] = BuiltFile(args.to_json().encode())
    files[DOWNLOAD_CONFIG] = BuiltFile(args.to_download_config().encode())
    if recipe.bootloader and recipe.app:
        from esp_at_tools.build.factory_image import factory_images

        private = any(part.private for part in flashed)
        filled, unfilled = factory_images(recipe, flashed)
        files[f"{FACTORY}/factory_{recipe.module}.bin"] = BuiltFile(filled, private)
        files[f"{FACTORY}/factory_{recipe.module}_unfilled.bin"] = BuiltFile(unfilled, private)
    return files

"""What a user wants otherwise in a build: another flash, settings, certificates, files.

Everything is checked here, before anything is written: what is said against it is what ``modify-bin``
says, since a recipe is shown to it as flash.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

from esp_at_tools.build.fs_options import FILE_SYSTEMS
from esp_at_tools.build.options import Options
from esp_at_tools.build.recipe import Recipe, UserPartition
from esp_at_tools.catalog.module_model import Flash
from esp_at_tools.errors import InputError
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.nvs.csv import dump_csv
from esp_at_tools.formats.partition_table import DATA, SUBTYPES, Partition, PartitionTable
from esp_at_tools.numbers import format_size
from esp_at_tools.settings.modern import PARTITION as MFG_NVS

_FILE_SYSTEM_TYPES = frozenset(SUBTYPES[DATA][name] for name in ("fat", "spiffs", "littlefs"))
_PAGE = 0x1000
_MAX_MFG_NVS = 1 << 20
_FLASH_SIZE = re.compile(
    r"^(?:CONFIG_ESPTOOLPY_FLASHSIZE_(\w+)=y|# CONFIG_ESPTOOLPY_FLASHSIZE_(\w+) is not set"
    r'|CONFIG_ESPTOOLPY_FLASHSIZE="(\w+)")[ \t\r]*$',
    re.MULTILINE,
)


def customise(recipe: Recipe, options: Options, *, now: datetime | None = None) -> Recipe:
    """Return a recipe with what the options ask for: partitions, then settings and PKI, then files.

    Args:
        recipe: what comes from the source; where nothing is asked for it is returned as it is.
        options: what to change.
        now: the time at which certificates must be valid; the present time if None.

    Raises:
        InputError: something is impossible or does not fit; the message has the numbers.
        RiskyValueError: something is probably a mistake, and ``force`` is not given.
    """
    if options.flash_size is not None or options.partition_sizes:
        recipe = _planned(recipe, options)
    if not options.request.is_empty:
        recipe = _requested(recipe, options, now)
    if options.fs_image is not None:
        from esp_at_tools.build.fs_partition import with_files

        recipe = with_files(recipe, options)
    return recipe


# --- partitions ----------------------------------------------------------------------------------


def _planned(recipe: Recipe, options: Options) -> Recipe:
    """Lay the partitions out anew, and what depends on their sizes with them."""
    from esp_at_tools.build.planner import plan

    size = options.flash_size or recipe.flash.size
    found = plan(
        recipe.primary,
        recipe.secondary,
        table_offset=recipe.table_offset,
        flash_size=size,
        old_flash_size=recipe.flash.size,
        app_size=len(recipe.app) or None,
        wishes=options.partition_sizes,
        unused=_unused(recipe, options),
    )
    if recipe.chip.image_chip_id is None and found.primary != recipe.primary:
        raise InputError(
            f"the applications of an {recipe.chip.title} are compiled for their addresses, so that only its"
            " user partitions can be laid out anew",
            "leave --flash out, and ask for no more than fits at_customize",
        )
    said = [
        (note.level, f"{note.message} ({note.hint})" if note.hint else note.message) for note in found.notes
    ]
    planned = replace(
        recipe,
        primary=found.primary,
        secondary=found.secondary,
        notes=(
            *recipe.notes,
            *(f"partition {change}" for change in found.changes),
            *(text for level, text in said if level != "warning"),
        ),
        warnings=(*recipe.warnings, *(text for level, text in said if level == "warning")),
    )
    planned = resized(planned, recipe, makes_files=options.fs_image is not None)
    return planned if size == recipe.flash.size else with_flash_size(planned, size)


def _unused(recipe: Recipe, options: Options) -> frozenset[str]:
    """Return the file system's partition in a firmware that has none, as far as its sdkconfig tells."""
    from esp_at_tools.formats.sdkconfig import Sdkconfig

    text = recipe.sdkconfig or recipe.sdkconfig_defaults
    if not text or options.fs_image is not None or Sdkconfig.from_text(text).is_on("AT_FS_COMMAND_SUPPORT"):
        return frozenset()
    return frozenset(name for name in FILE_SYSTEMS if name not in recipe.partitions)


def resized(recipe: Recipe, before: Recipe, *, makes_files: bool) -> Recipe:
    """Fit the contents of the partitions to their new sizes.

    Args:
        recipe: with the new tables, and the contents as they were.
        before: with the tables that the contents are for.
        makes_files: a file system is made later on, so that none is missed.

    Raises:
        InputError: what is in ``mfg_nvs`` does not fit.
    """
    partitions = dict(recipe.partitions)
    warnings = [*recipe.warnings]
    for name, contents in recipe.partitions.items():
        old, new = _place(before, name), _place(recipe, name)
        if new is None:
            del partitions[name]
            warnings.append(f"{name} is removed, with the {len(contents.data)} bytes that were in it")
        elif name == MFG_NVS and new.size != len(contents.data):
            partitions[name] = mfg_nvs_of_size(contents, new.size)
        elif old is not None and new.size != old.size and _is_file_system(new):
            del partitions[name]
            if not makes_files:
                warnings.append(
                    f"{name}: a file system for {format_size(old.size)} was in it, which does not fit"
                    f" {format_size(new.size)}, so it is left blank; --fs-image makes one"
                )
    return replace(recipe, partitions=partitions, warnings=tuple(warnings))


def _place(recipe: Recipe, name: str) -> Partition | None:
    return recipe.secondary.find(name) or recipe.primary.find(name)


def _is_file_system(partition: Partition) -> bool:
    return partition.type == DATA and partition.subtype in _FILE_SYSTEM_TYPES


def mfg_nvs_of_size(contents: UserPartition, size: int) -> UserPartition:
    """Return ``mfg_nvs`` with the same entries in another size, as the generator makes it.

    Raises:
        InputError: they do not fit; the message has the numbers.
    """
    old = NvsPartition.from_bytes(contents.data)
    text = dump_csv(old.entries, old.namespaces)
    try:
        new = NvsPartition.from_csv(text, size, version=old.version)
    except InputError as error:
        needed = _enough(text, old.version, size)
        hint = f"--partition {MFG_NVS}={needed >> 10}K makes it large enough" if needed else error.hint
        raise InputError(f"{MFG_NVS}, {size} bytes: {error.message}", hint) from error
    return UserPartition(new.to_bytes().ljust(size, b"\xff"), contents.private, contents.csv or text)


def _enough(text: str, version: int, size: int) -> int | None:
    """Return the smallest size above another that the entries of a CSV fit, None if there is none."""
    low, high = size // _PAGE + 1, _MAX_MFG_NVS // _PAGE
    while low < high:  # what fits fits whatever is larger, too
        middle = (low + high) // 2
        low, high = (low, middle) if _fits(text, version, middle * _PAGE) else (middle + 1, high)
    return low * _PAGE if _fits(text, version, low * _PAGE) else None


def _fits(text: str, version: int, size: int) -> bool:
    try:
        NvsPartition.from_csv(text, size, version=version)
    except InputError:
        return False
    return True


def with_flash_size(recipe: Recipe, size: int) -> Recipe:
    """Return a recipe for another flash size: in the bootloader's header, sdkconfig and description."""
    flash = Flash(size, recipe.flash.mode, recipe.flash.freq)
    changed = replace(
        recipe,
        flash=flash,
        description=about_flash(recipe.description, recipe.flash.size, size),
        sdkconfig=_stating(recipe.sdkconfig, flash.size_name),
        sdkconfig_defaults=_stating(recipe.sdkconfig_defaults, flash.size_name),
    )
    if not recipe.bootloader:
        return changed
    from esp_at_tools.build.factory_image import with_flash_header

    return replace(changed, bootloader=with_flash_header(changed))


def about_flash(description: str, old: int, new: int) -> str:
    """Return the description of a module with another flash size: ``4MB, Wi-Fi + BLE``."""
    return re.sub(rf"\b{old >> 20}\s?MB\b", f"{new >> 20}MB", description, count=1)


def _stating(text: str, size: str) -> str:
    """Return an sdkconfig, or its defaults, with another flash size; ``""`` stays so."""
    if not text:
        return ""
    said = False

    def stated(match: re.Match[str]) -> str:
        nonlocal said
        if match[3]:
            return f'CONFIG_ESPTOOLPY_FLASHSIZE="{size}"'
        if (match[1] or match[2]) == size or (match[1] and not _names(text, size)):
            said = True
            return f"CONFIG_ESPTOOLPY_FLASHSIZE_{size}=y"
        return f"# CONFIG_ESPTOOLPY_FLASHSIZE_{match[1] or match[2]} is not set"

    changed = _FLASH_SIZE.sub(stated, text)
    if said:
        return changed
    end = "" if changed.endswith("\n") else "\n"
    return f"{changed}{end}CONFIG_ESPTOOLPY_FLASHSIZE_{size}=y\n"


def _names(text: str, size: str) -> bool:
    """Tell whether an sdkconfig has a line of its own for a flash size, be it that it is not set."""
    return any(size in (match[1], match[2]) for match in _FLASH_SIZE.finditer(text))


# --- settings, certificates, keys, GATT rows -----------------------------------------------------


def _requested(recipe: Recipe, options: Options, now: datetime | None) -> Recipe:
    from esp_at_tools.build.recipe_flash import changed_recipe, open_recipe
    from esp_at_tools.firmware.modify import modify

    try:
        firmware = open_recipe(recipe)
        outcome = modify(firmware, options.request, force=options.force, now=now)
        changed = changed_recipe(recipe, firmware)
    except InputError as error:
        needed = _needed_mfg_nvs(recipe, options, now)
        if needed is None:
            raise
        raise InputError(
            error.message,
            f"--partition {MFG_NVS}={needed >> 10}K makes it large enough;"
            " fewer items, an EC key or DER form take less",
        ) from error
    return replace(changed, warnings=(*recipe.warnings, *outcome.warnings))


def _needed_mfg_nvs(recipe: Recipe, options: Options, now: datetime | None) -> int | None:
    """Return the size that ``mfg_nvs`` needs for a request that failed; None if that would not help."""
    contents = recipe.partitions.get(MFG_NVS)
    if contents is None:
        return None
    from esp_at_tools.build.recipe_flash import changed_recipe, open_recipe
    from esp_at_tools.firmware.modify import modify

    roomy = _alone(recipe, _MAX_MFG_NVS)
    try:
        firmware = open_recipe(roomy)
        modify(firmware, options.request, force=True, now=now)
        data = changed_recipe(roomy, firmware).partitions[MFG_NVS]
    except InputError:
        return None
    nvs = NvsPartition.from_bytes(data.data)
    text, size = dump_csv(nvs.entries, nvs.namespaces), len(contents.data)
    return None if _fits(text, nvs.version, size) else _enough(text, nvs.version, size)


def _alone(recipe: Recipe, size: int) -> Recipe:
    """Return a recipe with nothing but a larger ``mfg_nvs``, in a flash that does not exist."""
    home = Partition("at_customize", 0x40, 0, recipe.table_offset + _PAGE, size + _PAGE)
    app = Partition("factory", 0, 0, home.end + -home.end % 0x10000, 0x10000)
    place = replace(_place(recipe, MFG_NVS) or home, offset=home.offset + _PAGE, size=size)
    contents = mfg_nvs_of_size(recipe.partitions[MFG_NVS], size)
    return replace(
        recipe,
        flash=Flash(16 << 20, recipe.flash.mode, recipe.flash.freq),
        primary=PartitionTable((home, app), md5=False),
        secondary=PartitionTable((place,)),
        partitions={MFG_NVS: contents},
        bootloader=b"",
        app=b"",
    )

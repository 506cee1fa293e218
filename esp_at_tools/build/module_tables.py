"""The partitions of a module of the user's own, for a firmware that was compiled with other ones.

A firmware finds its applications and user partitions through its tables, so that they can stand elsewhere;
what stands before ``at_customize``, and the place of ``at_customize``, are compiled into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from esp_at_tools.build.customise import resized, with_flash_size
from esp_at_tools.build.options import Options
from esp_at_tools.build.plan_report import changes_between, kb
from esp_at_tools.build.recipe import Recipe
from esp_at_tools.catalog.module_model import Module
from esp_at_tools.errors import InputError
from esp_at_tools.formats.ota_data import OtaData
from esp_at_tools.formats.partition_table import AT_CUSTOMIZE, Partition, PartitionTable
from esp_at_tools.settings.modern import PARTITION as MFG_NVS


def has_own_tables(module: Module, options: Options) -> bool:
    """Tell whether a module is the user's own, with tables that no module of the program has."""
    if options.module_folder is None:
        return False
    from esp_at_tools.catalog.modules import modules

    tables = (module.primary, module.secondary)
    return all((each.primary, each.secondary) != tables for each in modules())


def with_module_tables(recipe: Recipe, module: Module, options: Options) -> Recipe:
    """Return the recipe with the tables and the flash size of a module, if its firmware can have them.

    Where it cannot, the recipe keeps its own, and a warning says why, how they differ, and what to do.
    """
    changes = [
        *changes_between(recipe.primary, module.primary, "primary"),
        *changes_between(recipe.secondary, module.secondary, "secondary"),
    ]
    if not changes and recipe.flash.size == module.flash.size:
        return recipe
    reason = _obstacle(recipe, module)
    if reason is None:
        planned = replace(
            recipe,
            primary=PartitionTable(tuple(module.primary), recipe.primary.md5),
            secondary=PartitionTable(tuple(module.secondary), recipe.secondary.md5),
        )
        try:
            planned = resized(planned, recipe, makes_files=options.fs_image is not None)
        except InputError as error:
            reason = error.message
    if reason is not None:
        apart = "; ".join(str(change) for change in changes)
        remedies = " ".join(_options_for(recipe, module))
        remedy = f" ({remedies} gives the sizes)" if remedies else ""
        warning = (
            f"the partitions are those of the firmware, not those of {module.full_name}: {reason};"
            f" {module.full_name} has {apart}{remedy}"
        )
        return replace(recipe, warnings=(*recipe.warnings, warning))
    notes = (
        f"the partitions are those of {module.full_name}",
        *(f"partition {change}" for change in changes),
    )
    planned = replace(planned, notes=(*planned.notes, *notes))
    return planned if recipe.flash.size == module.flash.size else with_flash_size(planned, module.flash.size)


def _obstacle(recipe: Recipe, module: Module) -> str | None:
    """Return why a firmware cannot have the tables of a module, None if it can."""
    if recipe.chip.image_chip_id is None:
        return f"the applications of an {recipe.chip.title} are compiled for their addresses"
    if recipe.secondary.find(MFG_NVS) is None:
        return f"the firmware has no {MFG_NVS}"
    if recipe.table_offset != module.partition_table_offset or _fixed(recipe.primary) != _fixed(
        module.primary
    ):
        return f"what stands before {AT_CUSTOMIZE}, and its place, are compiled into the firmware"
    home = OtaData.initial().boot_partition(module.primary)
    if home is None or home.size < len(recipe.app):
        room = f"the {kb(home.size)} of {home.name}" if home else "any partition"
        return f"the application of {len(recipe.app)} bytes does not fit {room}"
    for name, contents in recipe.partitions.items():
        place = module.secondary.find(name)
        if name != MFG_NVS and place is not None and place.size < len(contents.data):
            return f"the {len(contents.data)} bytes in {name} do not fit its {kb(place.size)}"
    return None


def _fixed(primary: PartitionTable) -> tuple[int | None, list[Partition]]:
    home = primary.find(AT_CUSTOMIZE)
    if home is None:
        return None, []
    return home.offset, sorted(
        (each for each in primary if each.offset < home.offset), key=lambda each: each.offset
    )


def _options_for(recipe: Recipe, module: Module) -> Iterator[str]:
    """Yield the options that give the firmware the sizes of a module, as far as it can have them."""
    if recipe.chip.image_chip_id is not None and recipe.flash.size != module.flash.size:
        yield f"--flash {module.flash.size_name}"
    for place in module.secondary:
        own = recipe.secondary.find(place.name)
        legacy = place.name == MFG_NVS and own is None
        if not legacy and (own is None or own.size != place.size):
            yield f"--partition {place.name}={place.size >> 10}K"

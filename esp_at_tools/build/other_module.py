"""A firmware of one module with the factory parameters of another module with the same chip."""

from __future__ import annotations

from dataclasses import replace

from esp_at_tools.build.module_tables import has_own_tables, with_module_tables
from esp_at_tools.build.options import Options
from esp_at_tools.build.recipe import Recipe
from esp_at_tools.build.recipe_flash import changed_recipe, open_recipe
from esp_at_tools.catalog.module_model import Module
from esp_at_tools.errors import InputError
from esp_at_tools.numbers import format_size

_OF_THE_APPLICATION = frozenset({"version"})
"""Parameters that tell how the application reads the others, so that they stay."""


def as_other_module(recipe: Recipe, other: Module, own: Module | None, options: Options) -> Recipe:
    """Return the recipe with the parameters of another module laid over its own.

    A module of the user's own brings its partitions, where the firmware can have them.

    Args:
        recipe: what is taken from a release.
        other: the module that is asked for.
        own: the module that the release is for, where it is a known one.
        options: a flash size in it makes room in the tables later on.

    Raises:
        InputError: another chip, or the module has less flash than the tables need.
    """
    if other.chip != recipe.chip:
        raise InputError(
            f"--module {other.full_name} has an {other.chip.title}, and the firmware is for the"
            f" {recipe.chip.title}",
            f"'esp-at-tool modules list' shows the modules with {recipe.chip.title}",
        )
    if has_own_tables(other, options):
        recipe = with_module_tables(recipe, other, options)
    needed = max(recipe.primary.end, recipe.secondary.end)
    if options.flash_size is None and other.flash.size < needed:
        raise InputError(
            f"--module {other.full_name} has {format_size(other.flash.size)} of flash, and the tables of"
            f" the firmware need {format_size(needed)}",
            f"--flash {other.flash.size_name} lays the partitions out anew",
        )
    notes = [*recipe.notes]
    if options.flash_size is None and other.flash.size > recipe.flash.size:
        notes.append(
            f"{other.full_name} has {format_size(other.flash.size)} of flash, of which the firmware uses"
            f" {format_size(recipe.flash.size)}; --flash {other.flash.size_name} uses it all"
        )
    was = recipe.full_name
    firmware = open_recipe(recipe)
    for name, value in other.parameters.items():
        if name in _OF_THE_APPLICATION or firmware.get(name) == value:
            continue
        try:
            firmware.layout.check_holds(name)
        except InputError as error:
            notes.append(error.message)
            continue
        firmware.set(name, value)
    changes = [f"{change.name} {change.old} → {change.new}" for change in firmware.changes()]
    notes.append(f"the factory parameters are those of {other.full_name}: {', '.join(changes)}")
    warning = f"the application was compiled for {was}, and is used for {other.full_name}"
    if own is not None and (apart := _apart(own, other, recipe)):
        warning += f"; the modules also differ in {apart}"
    return replace(
        changed_recipe(recipe, firmware),
        module=other.name,
        description=other.description,
        notes=tuple(notes),
        warnings=(*recipe.warnings, warning),
    )


def _apart(own: Module, other: Module, recipe: Recipe) -> str:
    """Return what else is decided otherwise for another module, for people."""
    flash = [
        f"flash {what}"
        for what in ("size", "mode", "freq")
        if getattr(own.flash, what) != getattr(other.flash, what)
        and (what != "size" or recipe.flash.size != other.flash.size)
    ]
    features = [
        name
        for name, state in other.features.items()
        if name in own.features and own.features[name].is_on != state.is_on
    ]
    return ", ".join([*flash, *features])

"""``modules check --app``: whether applications fit the modules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esp_at_tools.cli.common import current_output, input_file
from esp_at_tools.errors import InputError

if TYPE_CHECKING:
    from esp_at_tools.build.plan_app import AppFile, Fit
    from esp_at_tools.catalog.module_model import Module


def compared(paths: tuple[Path, ...], chosen: tuple[Module, ...], folder: Path | None) -> list[Fit]:
    """Return how applications fit modules.

    Args:
        paths: what was given with ``--app``; without any, what is in the cache of downloaded releases
            counts, for each module its own newest one.
        chosen: the modules that were named, none for those that suggest themselves.
        folder: the user's own definitions.

    Raises:
        InputError: an application cannot be read, or no module has its chip.
    """
    from esp_at_tools.build.plan_app import fits, read_app

    if not paths:
        return list(_of_cache(chosen, folder))
    found: list[Fit] = []
    for path in paths:
        app = read_app(input_file(path))
        here = list(fits(app, chosen or _suggested(app, folder)))
        if not here:
            named = ", ".join(each.full_name for each in chosen)
            wrong = f"which {named} has not" if named else "which no module has"
            raise InputError(f"--app {path}: is for {app.chip}, {wrong}", "give an application for its chip")
        found += here
    return found


def _suggested(app: AppFile, folder: Path | None) -> tuple[Module, ...]:
    """Return the module that an application is for and the user's own ones of its chip, else all of it."""
    from esp_at_tools.catalog.modules import modules

    built_in = {each.full_name for each in modules()}
    same = tuple(each for each in modules(folder=folder) if each.chip.name == app.chip)
    meant = tuple(
        each
        for each in same
        if each.full_name not in built_in or each.name.casefold() == app.module.casefold()
    )
    return meant or same


def _of_cache(chosen: tuple[Module, ...], folder: Path | None) -> Iterator[Fit]:
    """Yield how the newest release of each module that has been downloaded fits it."""
    from esp_at_tools.build.plan_app import fits, read_app
    from esp_at_tools.catalog.modules import modules
    from esp_at_tools.releases.cache import cache_folder, slot

    try:
        if not cache_folder().is_dir():
            return
    except InputError:  # there is no place for a cache
        return
    for each in chosen or modules(folder=folder):
        places = map(slot, each.releases)
        newest = next((place.path for place in places if place.is_filled), None)
        if newest is not None:
            try:
                yield from fits(read_app(newest), (each,))
            except InputError as error:  # a download that is damaged is the affair of fetch
                current_output().note(f"not compared: {error.message}")


def fit_document(fit: Fit) -> dict[str, Any]:
    """Return a comparison as JSON."""
    return {
        "file": str(fit.app.path),
        "size": fit.app.size,
        "chip": fit.app.chip,
        "module": fit.module,
        "partition": fit.partition.name,
        "partition_size": fit.partition.size,
        "left": fit.left,
        "level": fit.level,
    }

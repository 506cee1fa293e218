"""``modules check --app``: whether applications fit the modules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from esp_at_tools.errors import InputError

if TYPE_CHECKING:
    from esp_at_tools.build.plan_app import AppFile, Fit
    from esp_at_tools.catalog.modules import Module


def compared(paths: tuple[Path, ...], chosen: tuple[Module, ...], folder: Path | None) -> list[Fit]:
    """Return how applications fit modules.

    Args:
        paths: what was given with ``--app``.
        chosen: the modules that were named, none for those that suggest themselves.
        folder: the user's own definitions.

    Raises:
        InputError: an application cannot be read, or no module has its chip.
    """
    if not paths:
        return []
    from esp_at_tools.build.plan_app import fits, read_app

    found: list[Fit] = []
    for path in paths:
        app = read_app(path)
        here = list(fits(app, _candidates(app, chosen, folder)))
        if not here:
            named = ", ".join(each.full_name for each in chosen) or "none of the modules"
            raise InputError(
                f"{path}: is for {app.chip}, which {named} has not", "give the application of it"
            )
        found += here
    return found


def _candidates(app: AppFile, chosen: tuple[Module, ...], folder: Path | None) -> tuple[Module, ...]:
    from dataclasses import replace

    from esp_at_tools.catalog.modules import modules

    if chosen:
        return tuple(replace(each) for each in chosen)
    known = modules(folder=folder)
    same = [each for each in known if each.chip.name == app.chip]
    if any(each.name.casefold() == app.module.casefold() for each in same):
        return known
    built_in = {each.full_name for each in modules()}
    own = tuple(each for each in same if each.full_name not in built_in)
    return own or known


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

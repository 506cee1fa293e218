"""Finding an official release by the names of module and version that people use."""

from __future__ import annotations

from pathlib import Path

from esp_at_tools.catalog.chips import find_chip
from esp_at_tools.catalog.module_yaml import nearest
from esp_at_tools.catalog.releases import LATEST, RECOMMENDED, Release, releases, releases_of
from esp_at_tools.errors import InputError


def find_release(name: str, version: str = "", *, module_folder: Path | None = None) -> Release:
    """Return one release.

    Args:
        name: the module, as :func:`esp_at_tools.catalog.modules.module` takes it.
        version: ``v3.3.0.0`` with or without the ``v``, ``latest``, ``recommended``, or ``""`` for the
            recommended one, the latest where none is.
        module_folder: a user's own folder of definitions.

    Raises:
        InputError: there is no such module or version; the hint has the nearest name, or the versions.
    """
    found = find_releases(name, module_folder=module_folder)
    wanted = version.strip().casefold()
    if wanted == LATEST:
        return found[0]
    recommended = next((each for each in found if each.recommended), None)
    if wanted in ("", RECOMMENDED) and (recommended or not wanted):
        return recommended or found[0]
    for each in found:
        if each.version.removeprefix("v") == wanted.removeprefix("v"):
            return each
    versions = ", ".join(each.version for each in found)
    if wanted == RECOMMENDED:
        raise InputError(f"{found[0].full_name}: no release is recommended", f"there are {versions}")
    near = nearest(f"v{wanted.removeprefix('v')}", [each.version for each in found])
    hint = f"did you mean {near}? " if near else ""
    raise InputError(
        f"{found[0].full_name}: there is no release {version[:40]!r} to download",
        f"{hint}there are {versions}; latest and recommended are possible too",
    )


def find_releases(name: str, *, module_folder: Path | None = None) -> tuple[Release, ...]:
    """Return the releases of a module, the newest first.

    Args:
        name: as for :func:`find_release`.
        module_folder: a user's own folder of definitions.

    Raises:
        InputError: there is no such module, or none of its releases can be downloaded.
    """
    wanted = name.strip().casefold()
    platform, slash, rest = wanted.rpartition("/")
    chip = find_chip(platform) if slash else None
    modules = {(each.platform, each.module_name) for each in releases()}
    found = [
        (of, module)
        for of, module in modules
        if module.casefold() == rest and (not slash or (chip is not None and of == chip.platform))
    ]
    if len(found) == 1:
        return releases_of(*found[0])

    # Only now the definitions, which take longer to read: they tell a wrong name from one without releases.
    from esp_at_tools.catalog.modules import module as find_module

    known = find_module(name, folder=module_folder)
    if of_known := releases_of(known.platform, known.name):
        return of_known
    others = sorted(each for of, each in modules if of == known.platform)
    raise InputError(
        f"{known.full_name}: no release of it can be downloaded",
        f"those of the chip that can: {', '.join(others)}" if others else "build it from its sources",
    )

"""The modules that a firmware can be built for, and everything that is decided for each.

A module is a row of ``factory_param_data.csv``; what it needs beyond its chip's usual stands in
``modules/<chip>/<module>.yaml``. Layers lie upon each other: base → series → chip → the module that
it is like → module → silence, and a user's own folder of the same structure adds to each of them.
``module_config/README.md`` explains the files.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from esp_at_tools.catalog.chips import find_chip
from esp_at_tools.catalog.data import data_folder
from esp_at_tools.catalog.features import Feature
from esp_at_tools.catalog.module_folder import Definitions, files_of, load_definitions
from esp_at_tools.catalog.module_model import Module
from esp_at_tools.catalog.module_yaml import nearest, raise_errors
from esp_at_tools.catalog.overlay import Overlay, check_overlay
from esp_at_tools.errors import InputError


def modules(*, silence: bool = False, folder: Path | None = None) -> tuple[Module, ...]:
    """Return every module, in the order of the table, a folder's own ones last.

    Args:
        silence: the variants without log.
        folder: a user's own folder of definitions, which adds to those that come with the program.

    Raises:
        InputError: a file of the folder cannot be read.
        FormatError: a definition is wrong; the message names the file and the line.
    """
    names = tuple(row.full_name for row in _definitions(folder).rows.values())
    return tuple(module(name, silence=silence, folder=folder) for name in names)


def module(
    name: str, *, silence: bool = False, folder: Path | None = None, overlay: Overlay | None = None
) -> Module:
    """Return one module.

    Args:
        name: ``ESP32C3/MINI-1`` or ``PLATFORM_ESP32C3/MINI-1``, in any case; the part behind the slash
            alone where only one chip has a module of that name.
        silence: the variant without log.
        folder: as for :func:`modules`.
        overlay: changes that no file holds, as the module's highest layer but silence.

    Raises:
        InputError: there is no such module, or there are several; or the overlay names a feature, a state
            or a parameter that does not exist. The hint names the nearest.
        FormatError: a definition is wrong.
    """
    definitions = _definitions(folder)
    key = _find(name, definitions)
    if overlay is not None and overlay.is_empty:
        overlay = None
    if overlay is not None:
        check_overlay(overlay, definitions.features, definitions.types, definitions.rows[key].chip.name)
    elif folder is None:
        return _built_in(key, silence)
    return _resolve(definitions, key, silence, overlay)


def features(folder: Path | None = None) -> Mapping[str, Feature]:
    """Return the features that exist, those of a user's own folder included.

    Raises:
        InputError: a file of the folder cannot be read.
        FormatError: a definition is wrong.
    """
    return _definitions(folder).features


def _definitions(folder: Path | None) -> Definitions:
    """Return the definitions; only those that come with the program are kept, others may change."""
    if folder is None:
        return _built_in_definitions()
    return _user_definitions(folder, _stamp(folder))


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what changes when a file of a folder does."""
    found = [(path, path.stat()) for path in files_of(folder)]
    return tuple((str(path), status.st_mtime_ns, status.st_size) for path, status in found)


@functools.lru_cache(maxsize=4)
def _user_definitions(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> Definitions:
    del stamp
    return load_definitions((data_folder(), folder), raise_errors)


@functools.lru_cache(maxsize=1)
def _built_in_definitions() -> Definitions:
    return load_definitions((data_folder(),), raise_errors)


@functools.lru_cache(maxsize=256)
def _built_in(key: str, silence: bool) -> Module:
    return _resolve(_built_in_definitions(), key, silence)


def _resolve(definitions: Definitions, key: str, silence: bool, overlay: Overlay | None = None) -> Module:
    from esp_at_tools.catalog.module_layers import resolve

    row = definitions.rows[key]
    return resolve(definitions, row, silence=silence, report=raise_errors, overlay=overlay)


def _find(name: str, definitions: Definitions) -> str:
    rows = definitions.rows
    wanted = name.strip()
    platform, slash, rest = wanted.rpartition("/")
    if slash:
        chip = find_chip(platform)
        key = f"{chip.platform.removeprefix('PLATFORM_')}/{rest}".casefold() if chip else ""
        if key in rows:
            return key
    else:
        keys = [key for key, row in rows.items() if row.module_name.casefold() == wanted.casefold()]
        if len(keys) == 1:
            return keys[0]
        if keys:
            several = " or ".join(rows[key].full_name for key in keys)
            raise InputError(f"{wanted!r} is the name of several modules", f"say which: {several}")
    names = [row.full_name for row in rows.values()]
    bare = {row.module_name: row.full_name for row in rows.values()}
    near = nearest(wanted.upper().removeprefix("PLATFORM_"), names) or bare.get(nearest(wanted, bare), "")
    hint = f"did you mean {near}? " if near else ""
    raise InputError(
        f"{wanted[:60]!r} is not the name of a module", f"{hint}'esp-at-tool modules list' has all"
    )

"""Going from one module of a checkout to another without losing anything.

A checkout is prepared for one module at a time: ``build/`` and ``sdkconfig`` belong to it, and
``build/module_info.json`` names it, as build.py has it. build.py deletes the ``sdkconfig`` when the module is
chosen again. Here both are set aside as ``build.ESP32C3-MINI-1`` and ``sdkconfig.ESP32C3-MINI-1``, and come
back with their module. Every step is one rename, so that the next run completes what an interruption leaves.
"""

from __future__ import annotations

import os
from pathlib import Path

from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.files import read_file, write_file
from esp_at_tools.formats.sdkconfig import Sdkconfig, statement
from esp_at_tools.kconfig.overlay import overlay_path
from esp_at_tools.workspace.checkout import MODULE_INFO, Checkout, CheckoutModule

BUILD = "build"
SDKCONFIG = "sdkconfig"
_UNKNOWN = "kept"
_REPLACED = ".replaced"
"""Ends the name of an ``sdkconfig`` that does not come back with its module: another is in use instead."""
OVERLAY_APPLIED = "sdkconfig.overlay.applied"
"""The options of the overlay that ``sdkconfig`` has, in the build folder."""
_MAX_SDKCONFIG = 4 << 20
_MAX_KEPT = 1000


def variant_name(module: CheckoutModule, *, silence: bool) -> str:
    """Return ``ESP32C3-MINI-1``, or ``ESP32C3-MINI-1-silence``."""
    return module.full_name.replace("/", "-") + ("-silence" if silence else "")


def switch(checkout: Checkout, module: CheckoutModule, *, silence: bool) -> tuple[str, ...]:
    """Prepare a checkout for a module, and return what was set aside and what came back.

    Raises:
        InputError: a file or folder cannot be renamed or written.
    """
    root, wanted = checkout.root, variant_name(module, silence=silence)
    current = _current(checkout)
    said = []
    try:
        if current != wanted:
            said += [*_set_aside(root / SDKCONFIG, current), *_set_aside(root / BUILD, current)]
        for name in (BUILD, SDKCONFIG):
            place, kept = root / name, root / f"{name}.{wanted}"
            if not os.path.lexists(place) and os.path.lexists(kept):
                kept.rename(place)
                said.append(f"{name} is again that of {wanted}, which was kept as {kept.name}")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{error.filename}: cannot be renamed: {reason}", "check the folder") from error
    if current != wanted or not (root / MODULE_INFO).exists():
        checkout.write_module_info(module, silence=silence)
    return tuple(said)


def _current(checkout: Checkout) -> str:
    """Return the name of what the checkout is prepared for, ``""`` where nobody can tell."""
    try:
        info = checkout.module_info()
    except FormatError:
        return ""
    return variant_name(info.module, silence=info.silence) if info else ""


def _set_aside(place: Path, owner: str, ending: str = "") -> list[str]:
    """Rename a file or folder after the module to which it belongs.

    Args:
        place: the file or folder.
        owner: of :func:`_current`.
        ending: of its new name; without one it comes back with its module.
    """
    if not os.path.lexists(place) or (place.is_dir() and not any(place.iterdir())):
        return []
    name = f"{place.name}.{owner or _UNKNOWN}{ending}"
    names = [name, *(f"{name}-{number}" for number in range(2, _MAX_KEPT))]
    kept = next((place.with_name(each) for each in names if not os.path.lexists(place.with_name(each))), None)
    if kept is None:
        raise InputError(f"{place.with_name(name)}: there are {_MAX_KEPT} of them", "remove old ones")
    place.rename(kept)
    if kept.is_dir():
        (kept / ".gitignore").write_text("*\n")  # as esp-at itself has it for build/
    return [f"{place.name} of {owner or 'another module'} is kept as {kept.name}"]


def take_sdkconfig(checkout: Checkout, module: CheckoutModule, given: Path) -> tuple[str, ...]:
    """Make a file the ``sdkconfig`` of the checkout; the one that was there is kept.

    The file holds for one build without the overlay of the module, which the next one applies to it.

    Args:
        checkout: the checkout, prepared for the module.
        module: the module.
        given: the file.

    Returns:
        What was done.

    Raises:
        InputError, FormatError: it cannot be read or written, or is no sdkconfig.
    """
    data = read_file(given, "sdkconfig", _MAX_SDKCONFIG)
    Sdkconfig.from_bytes(data, str(given))
    place = checkout.root / SDKCONFIG
    if place.is_file() and place.read_bytes() == data:
        return ()
    try:
        said = _set_aside(place, _current(checkout), _REPLACED)
        (checkout.root / BUILD / OVERLAY_APPLIED).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{place}: cannot be replaced: {error.strerror}", "check the folder") from error
    write_file(place, data)
    overlay = overlay_path(checkout.root, module.target, module.name)
    if overlay.exists():
        name = overlay.relative_to(checkout.root)
        said.append(f"{name} is not applied to a given sdkconfig; the next build without one applies it")
    return tuple(said)


# --- the overlay --------------------------------------------------------------------------------------


def apply_overlay(checkout: Checkout, module: CheckoutModule) -> tuple[str, ...]:
    """Put the options that menuconfig has saved for a module into ``sdkconfig``, and say how many.

    ESP-IDF reads ``sdkconfig`` over the defaults, so that a new one need only have these options. An overlay
    that has not changed since is not applied again: what was set since in ``sdkconfig`` itself stays.

    Returns:
        What was done.

    Raises:
        InputError, FormatError: a file cannot be read or written, or is wrong.
    """
    overlay = overlay_path(checkout.root, module.target, module.name)
    applied = checkout.root / BUILD / OVERLAY_APPLIED
    sdkconfig = checkout.root / SDKCONFIG
    new, old = _options(overlay), _options(applied)
    if new == old and (sdkconfig.exists() or not new):
        return ()
    gone = {name for name in old if name not in new}
    text = _text(sdkconfig) if sdkconfig.exists() else ""
    names = tuple(f"CONFIG_{name}" for name in (*new, *gone))
    kept = [line for line in text.splitlines() if not _sets(line, names)]
    if not text:
        kept = [statement("IDF_TARGET", f'"{module.target}"')]
    added = [statement(name, value) for name, value in new.items()]
    write_file(sdkconfig, "".join(f"{line}\n" for line in (*kept, *added)).encode())
    applied.parent.mkdir(exist_ok=True)
    write_file(applied, "".join(f"{statement(*each)}\n" for each in new.items()).encode())
    count = f"{len(new)} option{'s' if len(new) != 1 else ''} of {overlay.relative_to(checkout.root)}"
    return (f"{count} applied to sdkconfig",)


def _text(path: Path) -> str:
    try:
        return read_file(path, "sdkconfig", _MAX_SDKCONFIG).decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: is not UTF-8 at byte {error.start}", "save it as UTF-8") from error


def _sets(line: str, names: tuple[str, ...]) -> bool:
    """Tell whether a line of an sdkconfig gives one of these options a value, or switches it off."""
    name = line.removeprefix("# ").partition("=")[0].removesuffix(" is not set")
    return name in names


def _options(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    return dict(Sdkconfig.from_bytes(read_file(path, "overlay", _MAX_SDKCONFIG), str(path)).options)

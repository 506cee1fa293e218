"""Taking back what builds have left in a checkout: esp-at's patches, OTA tokens, and the build folders.

What a person has made stays: ``sdkconfig`` and its overlay, changes of one's own in ESP-IDF, ESP-IDF itself.
So does the choice of the module.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from esp_at_tools.errors import InputError
from esp_at_tools.workspace.checkout import IDF, MODULE_INFO, Checkout
from esp_at_tools.workspace.compile_variant import BUILD, OVERLAY_APPLIED, SDKCONFIG
from esp_at_tools.workspace.patch_list import Patch
from esp_at_tools.workspace.patches import APPLIED, Ground, PatchState, is_out, patch_states, undo_patches

KEPT = (MODULE_INFO.name, OVERLAY_APPLIED)
"""What stays of a build folder: for which module it is, and which options of the overlay sdkconfig has."""
_KEPT_ASIDE = (*KEPT, ".gitignore")
"""What stays of one that is set aside with an sdkconfig to which an overlay has been applied."""
_SIGNS = ("CMakeCache.txt", "build.ninja", "flasher_args.json", MODULE_INFO.name)
"""A folder with one of these is a build folder."""


@dataclass(frozen=True)
class Removed:
    """What was removed of a build folder.

    Attributes:
        folder: the folder.
        size: of its files, in bytes.
        whole: it is gone itself.
    """

    folder: Path
    size: int
    whole: bool


Result = Literal["taken back", "copy removed", "stays"]


@dataclass(frozen=True)
class Cleaned:
    """What became of a patch.

    Attributes:
        patch: the patch.
        result: ``taken back``; ``copy removed``, where only the copy that says that it is in was there;
            ``stays``, where its lines were changed after it.
        message: why it stays.
        hint: what to do about that.
    """

    patch: Patch
    result: Result
    message: str
    hint: str


def all_patches(checkout: Checkout) -> tuple[Patch, ...]:
    """Return the patches of every module of a checkout, each that has the same contents and place once.

    Raises:
        InputError: a list cannot be read, or is wrong.
    """
    found: dict[tuple[Path, Path, bytes], Patch] = {}
    for module in checkout.modules():
        for patch in checkout.patches(module):
            data = patch.source.read_bytes() if patch.source.is_file() else os.fsencode(patch.source)
            found.setdefault((Path(patch.name), patch.path, data), patch)
    return tuple(found.values())


def clean_patches(checkout: Checkout, environment: Mapping[str, str], *, dry_run: bool) -> list[Cleaned]:
    """Take back every patch that is applied, and the copies that say so, and return what became of them.

    Args:
        checkout: the checkout.
        environment: the user's environment.
        dry_run: change nothing.

    Raises:
        InputError: a patch or list cannot be read.
        ExternalToolError: git is not installed.
    """
    if not (checkout.root / IDF).is_dir():
        return []
    patches = [patch for patch in all_patches(checkout) if patch.source.exists()]
    ground = Ground(checkout.root, environment=environment)
    before = patch_states(ground, patches, decide=False)
    after = before if dry_run else undo_patches(ground, patches)
    return [
        Cleaned(new.patch, _result(ground, new), new.message, new.hint)
        for old, new in zip(before, after, strict=True)
        if old.state == APPLIED or old.marked
    ]


def _result(ground: Ground, state: PatchState) -> Result:
    if state.state == APPLIED:
        return "taken back"
    return "copy removed" if is_out(ground, state) else "stays"


def build_folders(checkout: Checkout, *, every: bool) -> tuple[Path, ...]:
    """Return the build folder, and with ``every`` those that are kept for other modules.

    Raises:
        InputError: ``build`` is none, so that nobody can tell what is in it.
    """
    build = checkout.root / BUILD
    kept = sorted(checkout.root.glob(f"{BUILD}.*")) if every else []
    if build.is_symlink() or (build.is_dir() and any(build.iterdir()) and not _is_build(build)):
        raise InputError(
            f"{build}: is no build folder: it is a link, or has none of {', '.join(_SIGNS)}",
            "look at what is in it, and remove it yourself",
        )
    return tuple(
        each for each in (build, *kept) if each.is_dir() and not each.is_symlink() and _is_build(each)
    )


def _is_build(folder: Path) -> bool:
    return any((folder / sign).is_file() for sign in _SIGNS)


def remove_build(folder: Path, *, dry_run: bool) -> Removed | None:
    """Remove what a build has made, and return it; None if there was nothing.

    Of ``build`` itself :data:`KEPT` stays; a folder that is kept for another module goes whole, unless its
    sdkconfig is kept, too, and has an overlay in it, which would be applied a second time.

    Raises:
        InputError: something cannot be removed.
    """
    kept = _kept(folder)
    doomed = [each for each in folder.iterdir() if each.name not in kept] if kept else [folder]
    if not doomed:
        return None
    size = sum(_size(each) for each in doomed)
    try:
        for each in [] if dry_run else doomed:
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{error.filename}: cannot be removed: {reason}", "check its permissions") from error
    return Removed(folder, size, whole=not kept)


def _kept(folder: Path) -> tuple[str, ...]:
    """Return what stays of a build folder, nothing for one that goes whole."""
    if folder.name == BUILD:
        return KEPT
    sdkconfig = folder.with_name(SDKCONFIG + folder.name.removeprefix(BUILD))
    return _KEPT_ASIDE if (folder / OVERLAY_APPLIED).is_file() and sdkconfig.is_file() else ()


def _size(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum((Path(folder) / name).lstat().st_size for folder, _, names in os.walk(path) for name in names)

"""Patches of a checkout that change Kconfig files: without them, an sdkconfig resolves to something else.

esp-at applies some patches before the sdkconfig is made. One of them may give ESP-IDF an option, or another
default; an ESP-IDF to which it has not been applied tells nothing of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from esp_at_tools.build.tree import SourceTree
from esp_at_tools.errors import EspAtError
from esp_at_tools.workspace.checkout import Checkout, is_checkout
from esp_at_tools.workspace.patch_diff import read_diff
from esp_at_tools.workspace.patch_list import BEFORE, Patch
from esp_at_tools.workspace.patches import CONFLICTING, MISSING, Ground, patch_states

_RENAMES = "sdkconfig.rename"


def patch_warnings(
    tree: SourceTree, module: str, idf: Path, environment: Mapping[str, str]
) -> tuple[str, ...]:
    """Return a warning where patches are not applied that change the Kconfig files of a module.

    Args:
        tree: the source tree, with its external module configuration.
        module: ``ESP32C3/MINI-1``.
        idf: the ESP-IDF that resolves the sdkconfig.
        environment: the user's.

    Returns:
        Nothing where every such patch is applied or not needed. What cannot be told is a warning, too:
        nothing else depends on git and on the lists of patches.
    """
    if not is_checkout(tree.folder):  # the data of a tree without its scripts
        return ()
    given = dict(environment)
    if tree.extension is not None:
        given["AT_EXT_MODULE_CFG"] = str(tree.extension.absolute())
    try:
        checkout = Checkout.open(tree.folder, given)
        before = [patch for patch in checkout.patches(checkout.module(module)) if patch.when == BEFORE]
        names = {patch.name for patch in before if _changes_kconfig(patch)}
        if not names:
            return ()
        states = patch_states(Ground(checkout.root, idf.absolute(), None, given), before)
    except EspAtError as error:
        return (f"whether its patches are applied cannot be told: {error.message}",)
    missing = [each.patch.name for each in states if each.state in (MISSING, CONFLICTING)]
    left = [name for name in missing if name in names]
    if not left:
        return ()
    message = (
        f"{idf}: not applied to it: {', '.join(left)} of the checkout, for Kconfig files; the sdkconfig of a"
        " build, which applies patches first, may differ"
    )
    return (message,)


def _changes_kconfig(patch: Patch) -> bool:
    if not patch.is_diff or not patch.source.is_file():
        return False
    files = [PurePosixPath(path).name for each in read_diff(patch.source) for path in each.paths]
    return any(name.startswith(("Kconfig", _RENAMES)) for name in files)

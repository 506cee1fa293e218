"""Runs the menuconfig of esp-idf-kconfig, and keeps what the user has chosen as an overlay."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esp_at_tools.errors import ExternalToolError
from esp_at_tools.files import read_file
from esp_at_tools.formats.sdkconfig import Sdkconfig, difference
from esp_at_tools.kconfig.library import ask, kconfig_environment
from esp_at_tools.kconfig.overlay import write_overlay
from esp_at_tools.kconfig.resolve import Resolved, read_defaults, resolve
from esp_at_tools.kconfig.tree import KconfigTree

_MAX_SDKCONFIG = 4 << 20
_START = (
    "import runpy, sys; sys.path[:] = filter(None, sys.path);"
    " runpy.run_module('esp_menuconfig', run_name='__main__', alter_sys=True)"
)
"""Starts menuconfig in the user's folder without looking for modules there."""


@dataclass(frozen=True)
class Edited:
    """What a session has changed.

    Attributes:
        saved: the user saved something; otherwise nothing was written.
        changes: name, value before and value now, of every option that has another value now.
        overlay: name and value of every option that the overlay has now.
        warnings: what was questionable, of the defaults or of the result.
    """

    saved: bool
    changes: tuple[tuple[str, str | None, str | None], ...] = ()
    overlay: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()


def edit(
    tree: KconfigTree,
    defaults: Sequence[Path],
    overlay: Path,
    module: str,
    *,
    environment: Mapping[str, str] | None = None,
) -> Edited:
    """Let the user change the sdkconfig on this terminal, and write what differs from the defaults.

    Options of the overlay that no Kconfig file has are kept: a component that is not on disk now may have
    them.

    Args:
        tree: of the project and the module's chip.
        defaults: the module's.
        overlay: where the user's options stand; it may be absent.
        module: ``ESP32C3/MINI-1``.
        environment: what the processes inherit; that of this one if None.

    Raises:
        InputError, FormatError: a file is missing or broken, or the overlay cannot be written.
        ExternalToolError: menuconfig failed; the overlay is unchanged.
    """
    environment = os.environ if environment is None else environment
    before = resolve(tree, defaults, overlay, environment=environment)
    text = _session(tree, before.text, environment)
    after = Sdkconfig.from_text(text, "the sdkconfig that menuconfig saved")
    changes = tuple(difference(Sdkconfig(before.config.options), Sdkconfig(after.options)))
    if not changes:
        return Edited(saved=False, warnings=before.warnings)
    own = read_defaults([overlay] if overlay.exists() else [], tree.chip)
    request = {"jobs": [read_defaults(defaults, tree.chip), own], "wanted": text}
    reply = ask(tree, request, environment)
    options = {**_unknown(own, reply["jobs"][1]), **dict(reply["overlay"])}
    write_overlay(overlay, options.items(), module)
    now = resolve(tree, defaults, overlay, environment=environment)
    return Edited(
        saved=True,
        changes=changes,
        overlay=tuple(sorted(options.items())),
        warnings=(*now.warnings, *_not_reached(overlay, after, now)),
    )


def _session(tree: KconfigTree, text: str, environment: Mapping[str, str]) -> str:
    """Return the sdkconfig that the user leaves behind.

    menuconfig runs in the current folder: a minimal configuration that the user saves there (``D``) is a
    file of the user's own, beside the overlay.
    """
    with kconfig_environment(tree, environment) as (folder, variables):
        path = folder / "sdkconfig"
        path.write_text(text, encoding="utf-8")
        own = {
            "KCONFIG_CONFIG": str(path),
            "COMPONENT_SDKCONFIG_RENAMES": ";".join(str(each) for each in tree.renames),
            "SDKCONFIG_RENAMES_LIST_SEPARATOR": "semicolon",
            "KCONFIG_REPORT_VERBOSITY": "quiet",  # oddities of ESP-IDF's own Kconfig files
        }
        try:
            done = subprocess.run(  # noqa: S603 - a program of this installation, with a path of the tree
                [sys.executable, "-c", _START, str(tree.root)], check=False, env={**variables, **own},
            )  # fmt: skip
        except OSError as error:
            raise ExternalToolError(
                f"{sys.executable}: cannot be started: {error.strerror}", "install esp-at-tool again"
            ) from error
        if done.returncode != 0:
            raise ExternalToolError(
                f"menuconfig ended with exit status {done.returncode}",
                "nothing was saved; what it printed says why",
            )
        return read_file(path, "sdkconfig", _MAX_SDKCONFIG).decode("utf-8", "replace")


def _unknown(overlay: Sequence[tuple[str, str]], job: Mapping[str, Any]) -> dict[str, str]:
    """Return the options of an overlay that no Kconfig file has."""
    options: dict[str, str] = {}
    for name, text in overlay:
        options |= Sdkconfig.from_text(text, name).options
    return {option: options[option] for _, option, _ in job["unknown"] if option in options}


def _not_reached(overlay: Path, wanted: Sdkconfig, now: Resolved) -> list[str]:
    """Return a warning if the overlay does not lead to what the user saw."""
    left = difference(Sdkconfig(wanted.options), Sdkconfig(now.config.options))
    names = ", ".join(f"CONFIG_{name}" for name, _, _ in left)
    return [f"{overlay}: does not bring back {names} as menuconfig showed them"] if left else []

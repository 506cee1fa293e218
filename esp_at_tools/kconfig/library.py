"""Runs esp-idf-kconfig in a process of its own, with the environment that a Kconfig tree asks for."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from esp_at_tools.errors import ExternalToolError, InputError
from esp_at_tools.kconfig.tree import KconfigTree

TIMEOUT = 300
"""Seconds that one tree may take; real ones take about one."""

_DROPPED = ("CONFIG_", "srctree", "COMPONENT_SDKCONFIG_RENAMES", "SDKCONFIG_RENAME", "MENUCONFIG_HEADLESS")
"""Variables, beside all ``KCONFIG_…`` but one, that are not inherited: they would change the result."""
_KEPT = "KCONFIG_PARSER_VERSION"
_HINT = "esp-idf-kconfig 3.14 or later is needed: install esp-at-tool again"


@contextmanager
def kconfig_environment(
    tree: KconfigTree, environment: Mapping[str, str]
) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give a temporary folder, and the environment in which the library reads a tree.

    Args:
        tree: the tree.
        environment: what is inherited.
    """
    with tempfile.TemporaryDirectory(prefix="esp-at-kconfig-") as name:
        folder = Path(name)
        kconfigs, projbuilds = folder / "kconfigs.in", folder / "kconfigs_projbuild.in"
        kconfigs.write_text(tree.sources(tree.kconfigs), encoding="utf-8")
        projbuilds.write_text(tree.sources(tree.projbuilds), encoding="utf-8")
        inherited = {
            key: value
            for key, value in environment.items()
            if key not in _DROPPED and (not key.startswith("KCONFIG_") or key == _KEPT)
        }
        own = {"PYTHONPATH": _module_path(environment), "PYTHONIOENCODING": "utf-8"}
        yield folder, {**inherited, **tree.environment(kconfigs, projbuilds), **own}


def ask(tree: KconfigTree, request: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the worker's reply to a request about a tree.

    Args:
        tree: the tree.
        request: ``jobs`` and ``wanted`` of :mod:`esp_at_tools.kconfig.worker`.
        environment: what the process inherits.

    Raises:
        InputError: a Kconfig file is broken.
        ExternalToolError: there was no answer.
    """
    import json

    whole = {"kconfig": str(tree.root), "renames": [str(path) for path in tree.renames], **request}
    with kconfig_environment(tree, environment) as (folder, variables):
        done = _run(json.dumps(whole), folder, variables, tree)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ExternalToolError(f"esp-idf-kconfig could not read {tree.root}: {last}", _HINT)
    reply: dict[str, Any] = json.loads(done.stdout)
    if "error" in reply:
        said = " ".join(str(reply["error"]).split())
        raise InputError(
            f"the Kconfig files of {tree.project} and of ESP-IDF {tree.idf_version} cannot be read: {said}",
            "mend that file, or check it out again",
        )
    return reply


def _run(
    text: str, folder: Path, variables: dict[str, str], tree: KconfigTree
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [sys.executable, "-m", "esp_at_tools.kconfig.worker"],
            input=text, capture_output=True, check=False, env=variables, cwd=folder,
            encoding="utf-8", errors="replace", timeout=TIMEOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ExternalToolError(
            f"esp-idf-kconfig did not read {tree.root} within {TIMEOUT} s",
            "a Kconfig file may run a command that waits",
        ) from error
    except OSError as error:
        raise ExternalToolError(f"{sys.executable}: cannot be started: {error.strerror}", _HINT) from error


def _module_path(environment: Mapping[str, str]) -> str:
    """Return a ``PYTHONPATH`` with which another Python, in another folder, finds this package too."""
    inherited = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    absolute = [str(Path.cwd() / part) for part in inherited]
    package = str(Path(__file__).resolve().parent.parent.parent)
    return os.pathsep.join(dict.fromkeys([*absolute, package]))

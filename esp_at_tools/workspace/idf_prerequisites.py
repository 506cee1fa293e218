"""What the system itself must have before ESP-IDF can be installed and used. Nothing is installed here.

Source: the getting started guide and ``tools/tools.json`` of ESP-IDF v4.3 to v5.5: on Windows its own
idf_tools.py brings cmake and ninja, elsewhere only where it is asked to.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from esp_at_tools.errors import ExternalToolError
from esp_at_tools.workspace.doctor_system import this_system
from esp_at_tools.workspace.environment import tools_folder


@dataclass(frozen=True)
class Missing:
    """What is missing.

    Attributes:
        now: programs without which ESP-IDF cannot be installed.
        later: programs without which nothing can be built with it.
    """

    now: tuple[str, ...] = ()
    later: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command that installs all of it on this system."""
        return this_system().install([*self.now, *self.later])


def missing_programs(given: Mapping[str, str]) -> Missing:
    """Return what the system lacks.

    Args:
        given: the user's environment: ``PATH`` and ``IDF_TOOLS_PATH`` count.
    """
    path = given.get("PATH", "")
    now = [] if shutil.which("git", path=path) else ["git"]
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        now.append("venv")
    later = []
    if sys.platform != "win32":
        tools = tools_folder(given) / "tools"
        later = [
            name
            for name in ("cmake", "ninja")
            if not shutil.which(name, path=path) and not (tools / name).is_dir()
        ]
    return Missing(tuple(now), tuple(later))


def check_prerequisites(given: Mapping[str, str]) -> Missing:
    """Return what a build will lack.

    Raises:
        ExternalToolError: something is missing without which ESP-IDF cannot be installed.
    """
    missing = missing_programs(given)
    if missing.now:
        names = ", ".join(_NAMES.get(name, name) for name in (*missing.now, *missing.later))
        raise ExternalToolError(f"not installed on this system: {names}", f"install it: {missing.command}")
    return missing


_NAMES = {"venv": "Python's venv module"}

"""Which system this is, and with which command a program is installed on it. No such command is ever run."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.errors import InputError
from esp_at_tools.files import read_file

OS_RELEASE = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
_FIELD = re.compile(r"^(ID|ID_LIKE|PRETTY_NAME)=[\"']?([^\"'\n]*)", re.MULTILINE)
_MAX_OS_RELEASE = 1 << 16


@dataclass(frozen=True)
class System:
    """A system.

    Attributes:
        name: what people call it: ``Ubuntu 24.04.1 LTS``.
        kind: ``debian``, ``fedora``, ``arch``, ``macos``, ``windows``; ``""`` for another.
    """

    name: str
    kind: str

    def install(self, programs: Iterable[str]) -> str:
        """Return the command that installs programs: names of :data:`PACKAGES`."""
        wanted = list(dict.fromkeys(programs))
        if self.kind not in COMMANDS:
            return f"install {', '.join(wanted)} as this system does it"
        packages = [package for name in wanted for package in PACKAGES[name][self.kind].split()]
        if self.kind == "windows":
            return " && ".join(f"{COMMANDS[self.kind]} {package}" for package in packages)
        return f"{COMMANDS[self.kind]} {' '.join(packages)}"


COMMANDS = {
    "debian": "sudo apt-get install",
    "fedora": "sudo dnf install",
    "arch": "sudo pacman -S --needed",
    "macos": "brew install",
    "windows": "winget install --exact --id",
}
"""Kind of system → what installs packages on it."""

_KINDS = {
    "debian": "debian",
    "ubuntu": "debian",
    "fedora": "fedora",
    "rhel": "fedora",
    "centos": "fedora",
    "arch": "arch",
}
"""``ID`` or ``ID_LIKE`` of os-release → kind."""

PACKAGES = {
    "git": {
        "debian": "git", "fedora": "git", "arch": "git", "macos": "git", "windows": "Git.Git",
    },
    "python": {
        "debian": "python3 python3-venv", "fedora": "python3", "arch": "python", "macos": "python@3.12",
        "windows": "Python.Python.3.12",
    },
    "venv": {
        "debian": "python3-venv", "fedora": "python3", "arch": "python", "macos": "python@3.12",
        "windows": "Python.Python.3.12",
    },
    "cmake": {
        "debian": "cmake", "fedora": "cmake", "arch": "cmake", "macos": "cmake", "windows": "Kitware.CMake",
    },
    "ninja": {
        "debian": "ninja-build", "fedora": "ninja-build", "arch": "ninja", "macos": "ninja",
        "windows": "Ninja-build.Ninja",
    },
    "ccache": {
        "debian": "ccache", "fedora": "ccache", "arch": "ccache", "macos": "ccache",
        "windows": "Ccache.Ccache",
    },
    "libusb": {
        "debian": "libusb-1.0-0", "fedora": "libusb1", "arch": "libusb", "macos": "libusb", "windows": "",
    },
}  # fmt: skip
"""Program → its packages on each kind of system.

Source: the getting started guide of ESP-IDF v5.5 for Debian, the relatives of Fedora, Arch and macOS; the
catalogue of winget for Windows.
"""


def this_system(platform: str = sys.platform, releases: Iterable[Path] = OS_RELEASE) -> System:
    """Return the system that this program runs on.

    Args:
        platform: as Python names it.
        releases: where a Linux says what it is; the first that can be read counts.
    """
    if platform == "darwin":
        return System("macOS", "macos")
    if platform == "win32":
        return System("Windows", "windows")
    for path in releases:
        try:
            text = read_file(path, "os-release", _MAX_OS_RELEASE).decode("utf-8", "replace")
        except InputError:
            continue
        return linux(dict(_FIELD.findall(text)))
    return System(platform.capitalize(), "")


def linux(fields: Mapping[str, str]) -> System:
    """Return the system that an os-release describes."""
    names = [fields.get("ID", ""), *fields.get("ID_LIKE", "").split()]
    kind = next((_KINDS[name] for name in names if name in _KINDS), "")
    return System(fields.get("PRETTY_NAME", "") or fields.get("ID", "") or "Linux", kind)


def quoted(path: Path) -> str:
    """Return a path as it is typed into a shell of this system."""
    if os.name == "nt":
        return f'"{path}"' if " " in str(path) else str(path)
    import shlex

    return shlex.quote(str(path))

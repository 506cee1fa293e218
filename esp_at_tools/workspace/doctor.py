"""What a build needs, what is there, and how to mend what is not. Nothing is changed, installed or cloned.

The machine's part stands alone; that of a checkout is in :mod:`esp_at_tools.workspace.doctor_checkout`.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from esp_at_tools.errors import EspAtError
from esp_at_tools.workspace.doctor_system import System, this_system
from esp_at_tools.workspace.doctor_tools import Tool, run_for_text
from esp_at_tools.workspace.environment import tools_folder

Level = Literal["ok", "note", "warning", "error"]

OLDEST_CMAKE = (3, 16)
"""``cmake_minimum_required`` of esp-at and of ESP-IDF v5."""
OWN_PYTHON = (3, 10)
_NUMBERS = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")
_CHECKER = Path("tools", "python_version_checker.py")
_OLDEST_PYTHON = re.compile(r"OLDEST_PYTHON_SUPPORTED\s*=\s*\((\d),\s*(\d{1,2})\)")
_FORBIDDEN = set(" \t\n\r\"'\\$&;|<>()*?[]{}#!`")
_ON_WINDOWS = set(" \t\n\r\"'$&;|<>()*?[]{}#!`%^")

GIB = 1 << 30
IDF_SIZE = 4 * GIB
"""What an ESP-IDF with its submodules and their history takes, in bytes, rounded up."""
TOOLS_SIZE = 3 * GIB
"""What compilers, debuggers and the Python environment take with the archives they come in, rounded up."""
BUILD_SIZE = GIB // 2
"""What the build folder of one module takes, in bytes, rounded up."""


@dataclass(frozen=True)
class Check:
    """One row of the table.

    Attributes:
        id: its name in JSON, which stays: ``git``, ``idf_commit``.
        title: its name for people.
        needed: what is needed.
        found: what is there.
        level: ``error`` means that a build would fail; ``warning``, that it may, or that something is
            missing beside the build; ``note``, that there is something to know.
        problem: what is wrong, ``""`` for nothing.
        mend: what mends it: a command, else a sentence.
    """

    id: str
    title: str
    needed: str
    found: str
    level: Level = "ok"
    problem: str = ""
    mend: str = ""


@dataclass(frozen=True)
class Machine:
    """What the checks of a machine go by.

    Attributes:
        given: the environment of the user.
        system: which system it is.
        idf: the ESP-IDF, None where there is none yet.
        python: the interpreter that makes ESP-IDF's Python environment.
        tools: the tools of that ESP-IDF, none where its list is not known.
        has_environment: ESP-IDF's Python environment is there.
    """

    given: Mapping[str, str] = field(default_factory=lambda: os.environ)
    system: System = field(default_factory=this_system)
    idf: Path | None = None
    python: Path = Path(sys.executable)
    tools: tuple[Tool, ...] = ()
    has_environment: bool = False


def fails(checks: Iterable[Check]) -> bool:
    """Tell whether a build would fail."""
    return any(check.level == "error" for check in checks)


def machine_checks(machine: Machine) -> tuple[Check, ...]:
    """Return what the machine has of what every build needs."""
    return (
        _git(machine),
        _python(machine),
        *_venv(machine),
        _program(machine, "cmake", "CMake", OLDEST_CMAKE),
        _program(machine, "ninja", "Ninja", None),
        *_old_cmake_lists(machine),
        _ccache(machine),
        *_libusb(machine),
    )


def _git(machine: Machine) -> Check:
    program = shutil.which("git", path=machine.given.get("PATH", ""))
    said = run_for_text([program, "--version"])[1] if program else ""
    numbers = _numbers(said)
    if not numbers:
        return Check(
            "git",
            "git",
            "any version",
            "none",
            "error",
            "git is not installed",
            machine.system.install(["git"]),
        )
    return Check("git", "git", "any version", _dotted(numbers))


def _python(machine: Machine) -> Check:
    said = run_for_text([str(machine.python), "--version"])[1]
    numbers = _numbers(said) or tuple(sys.version_info[:3])
    oldest = oldest_python(machine.idf) if machine.idf else None
    needed = f"{_dotted(oldest or OWN_PYTHON)} or newer"
    if numbers[:2] >= (oldest or OWN_PYTHON):
        return Check("python", "Python", needed, _dotted(numbers))
    return Check(
        "python", "Python", needed, _dotted(numbers), "error",
        f"{machine.python} is too old for this ESP-IDF", machine.system.install(["python"]),
    )  # fmt: skip


def oldest_python(idf: Path) -> tuple[int, int] | None:
    """Return the oldest Python that an ESP-IDF takes, None where it does not say."""
    from esp_at_tools.files import read_file

    try:
        match = _OLDEST_PYTHON.search(read_file(idf / _CHECKER, limit=1 << 20).decode("utf-8", "replace"))
    except EspAtError:
        return None
    return (int(match[1]), int(match[2])) if match else None


def _venv(machine: Machine) -> Iterator[Check]:
    """Debian and its relatives have the part of Python that makes virtual environments in a package."""
    if machine.has_environment:
        return
    status, _ = run_for_text([str(machine.python), "-c", "import ensurepip, venv"])
    if not status:
        yield Check("venv", "Python venv", "ensurepip, venv", "both")
        return
    yield Check(
        "venv", "Python venv", "ensurepip, venv", "not both", "error",
        f"{machine.python} cannot make the virtual environment that ESP-IDF needs",
        machine.system.install(["venv"]),
    )  # fmt: skip


def _program(machine: Machine, name: str, title: str, oldest: tuple[int, int] | None) -> Check:
    """Return the check of a program that ESP-IDF takes from its own tools, else from ``PATH``."""
    needed = f"{_dotted(oldest)} or newer" if oldest else "any version"
    place = _place(machine, name)
    numbers = _numbers(run_for_text([str(place), "--version"])[1]) if place else ()
    if place is None or not numbers:
        problem = f"{title} is neither in PATH nor among the tools of ESP-IDF"
        mend = machine.system.install([name])
        return Check(name, title, needed, "none", "error", problem, mend)
    if oldest and numbers[:2] < oldest:
        problem = f"{place} is too old"
        return Check(name, title, needed, _dotted(numbers), "error", problem, machine.system.install([name]))
    return Check(name, title, needed, _dotted(numbers))


def _place(machine: Machine, name: str) -> Path | None:
    for tool in machine.tools:
        if tool.name == name and tool.place:
            return tool.place
    found = shutil.which(name, path=machine.given.get("PATH", ""))
    return Path(found) if found else None


_MBEDTLS = Path("components", "mbedtls", "mbedtls", "CMakeLists.txt")
_MINIMUM = re.compile(
    r"cmake_minimum_required\s*\(\s*VERSION\s+(\d+)\.(\d+)[\d.]*\s*(?:FATAL_ERROR\s*)?\)", re.IGNORECASE
)
_DROPPED = (3, 5)
"""CMake 4 refuses projects that were written for a version before this one."""


def _old_cmake_lists(machine: Machine) -> Iterator[Check]:
    """Tell of an ESP-IDF whose Mbed TLS asks for a version that CMake 4 has dropped."""
    place = _place(machine, "cmake")
    if machine.idf is None or place is None or not (machine.idf / _MBEDTLS).is_file():
        return
    numbers = _numbers(run_for_text([str(place), "--version"])[1])
    match = _MINIMUM.search((machine.idf / _MBEDTLS).read_text("utf-8", "replace"))
    if numbers[:1] >= (4,) and match and (int(match[1]), int(match[2])) < _DROPPED:
        yield Check(
            "cmake_policy", "CMake 4", "3.x", _dotted(numbers), "error",
            f"{machine.idf / _MBEDTLS} asks for CMake {match[1]}.{match[2]}, which CMake 4 refuses",
            "put a CMake 3 first in PATH: python -m pip install 'cmake<4', in a virtual environment",
        )  # fmt: skip


def _ccache(machine: Machine) -> Check:
    if shutil.which("ccache", path=machine.given.get("PATH", "")):
        return Check("ccache", "ccache", "optional", "found")
    problem = "builds after the first one are faster with it (IDF_CCACHE_ENABLE=1)"
    return Check("ccache", "ccache", "optional", "none", "note", problem, machine.system.install(["ccache"]))


def _libusb(machine: Machine) -> Iterator[Check]:
    """OpenOCD is among the tools that ESP-IDF always checks, and does not start without libusb."""
    if sys.platform != "linux":
        return
    from ctypes.util import find_library

    found = find_library("usb-1.0")
    if found:
        yield Check("libusb", "libusb", "1.0", found)
        return
    problem = "ESP-IDF's OpenOCD does not start without it, and the check of its tools may fail"
    yield Check("libusb", "libusb", "1.0", "none", "warning", problem, machine.system.install(["libusb"]))


# --- disk and paths ---------------------------------------------------------------------------------------


def disk_checks(needs: Mapping[Path, int]) -> tuple[Check, ...]:
    """Return whether there is room.

    Args:
        needs: folder → bytes that will go there; those on one file system are added up.
    """
    by_device: dict[int, tuple[Path, int]] = {}
    for path, size in needs.items():
        place = _existing(path)
        try:
            device = place.stat().st_dev
        except OSError:
            continue
        first, total = by_device.get(device, (place, 0))
        by_device[device] = (first, total + size)
    return tuple(check for place, size in by_device.values() for check in _room(place, size))


def _room(place: Path, size: int) -> Iterator[Check]:
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        return
    needed, found = f"about {_gib(size)}", f"{_gib(free)} free"
    if free >= size:
        yield Check("disk", "disk", needed, found)
        return
    yield Check(
        "disk",
        "disk",
        needed,
        found,
        "error",
        f"{place}: too little room",
        "make room there, or set IDF_TOOLS_PATH",
    )


def _existing(path: Path) -> Path:
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def path_checks(paths: Mapping[str, Path]) -> tuple[Check, ...]:
    """Return whether ESP-IDF, and the scripts of esp-at, can work with some paths.

    Source: "the build system does not support spaces in the paths" in the getting started guide of ESP-IDF
    v4.3 to v5.5, and for non-ASCII letters its part on Windows; ``tools/patch.py`` of esp-at puts paths into
    shell commands as they are, in which other characters mean something.

    Args:
        paths: what a path is → the path.
    """
    found = []
    for what, path in paths.items():
        bad, level = path_problem(path)
        if bad:
            mend = f"move it to a folder without {bad}"
            if what.endswith("tools"):
                mend = f"set IDF_TOOLS_PATH to a folder without {bad}"
            problem = f"{what} has {bad} in its path: {path}"
            found.append(Check("path", "path", "plain letters", bad, level, problem, mend))
    return tuple(found) or (Check("path", "paths", "no spaces", "fine"),)


def path_problem(path: Path, *, windows: bool = os.name == "nt") -> tuple[str, Level]:
    """Return what in a path ESP-IDF cannot or may not work with, ``""`` for nothing, and how bad that is."""
    text = str(path)
    if any(char.isspace() for char in text):
        return "a space", "error"
    bad = sorted(set(text) & (_ON_WINDOWS if windows else _FORBIDDEN))
    if bad:
        return f"the character {bad[0]}", "error" if windows and bad[0] in "()" else "warning"
    if windows and not text.isascii():
        return "a letter that is not ASCII", "warning"
    return "", "ok"


def tools_home(given: Mapping[str, str]) -> Path:
    """Return where ESP-IDF's tools are or go."""
    return tools_folder(given)


# --- helpers ----------------------------------------------------------------------------------------------


def _numbers(text: str) -> tuple[int, ...]:
    match = _NUMBERS.search(text)
    return tuple(int(part) for part in match.groups() if part) if match else ()


def _dotted(numbers: Iterable[int]) -> str:
    return ".".join(map(str, numbers))

"""The tools that an ESP-IDF needs, and which of them are there: as its own idf_tools.py looks for them.

A tool is found below ``IDF_TOOLS_PATH/tools/NAME/VERSION`` in the recommended version, else in ``PATH`` in
any version that the list has.

Source: ``tools/tools.json``, and ``process_tool`` and ``find_installed_versions`` in ``tools/idf_tools.py``,
of ESP-IDF v4.3 to v5.5.
"""

from __future__ import annotations

import json
import os
import platform as platforms
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from esp_at_tools.errors import FormatError
from esp_at_tools.files import read_file
from esp_at_tools.workspace.environment import tools_folder

TOOLS_JSON = Path("tools", "tools.json")
_MAX_JSON = 8 << 20
_TIMEOUT = 20
_MACHINES = {
    ("linux", "x86_64"): "linux-amd64", ("linux", "amd64"): "linux-amd64", ("linux", "i686"): "linux-i686",
    ("linux", "aarch64"): "linux-arm64", ("linux", "arm64"): "linux-arm64",
    ("linux", "armv7l"): "linux-armhf", ("linux", "armv6l"): "linux-armel",
    ("darwin", "x86_64"): "macos", ("darwin", "arm64"): "macos-arm64",
    ("win32", "amd64"): "win64", ("win32", "x86_64"): "win64", ("win32", "x86"): "win32",
}  # fmt: skip


@dataclass(frozen=True)
class Tool:
    """One tool of an ESP-IDF.

    Attributes:
        name: ``riscv32-esp-elf``.
        description: what it is.
        versions: the versions that will do, the recommended one first.
        required: a build needs it, and ``idf_tools.py install`` brings it.
        found: the version that is there, ``""`` for none.
        place: where it is.
        other: a version in ``PATH`` that will not do, ``""`` for none.
        broken: what is wrong with one that is installed, ``""`` for nothing.
    """

    name: str
    description: str
    versions: tuple[str, ...]
    required: bool
    found: str = ""
    place: Path | None = None
    other: str = ""
    broken: str = ""


def this_platform() -> str:
    """Return what ``tools.json`` calls this machine; ``""`` for one that it does not know."""
    return _MACHINES.get((sys.platform, platforms.machine().lower()), "")


def idf_tools(
    idf: Path, target: str, given: Mapping[str, str], *, machine: str | None = None
) -> tuple[Tool, ...]:
    """Return the tools that an ESP-IDF has for a chip, but for those that it never installs.

    Args:
        idf: the ESP-IDF.
        target: ``esp32c3``; ``""`` for every chip.
        given: the user's environment: ``PATH`` and ``IDF_TOOLS_PATH`` count.
        machine: as ``tools.json`` names it; this one by default.

    Raises:
        InputError: ``tools.json`` cannot be read.
        FormatError: it is wrong.
    """
    path = idf / TOOLS_JSON
    machine = this_platform() if machine is None else machine
    found = []
    try:
        for entry in json.loads(read_file(path, "tools.json", _MAX_JSON))["tools"]:
            install, versions, options = _for_machine(entry, machine)
            targets = options.get("supported_targets", ["all"])
            if install == "never" or (target and not {target, "all"} & set(targets)):
                continue
            names = tuple(name for name, _ in sorted(versions, key=lambda each: not each[1]))
            tool = Tool(str(entry["name"]), str(entry.get("description", "")), names, install == "always")
            found.append(_located(tool, versions, options, given))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"{path}: is no list of tools: {error}", "check ESP-IDF out again") from error
    return tuple(found)


def _for_machine(
    entry: Mapping[str, Any], machine: str
) -> tuple[str, tuple[tuple[str, bool], ...], dict[str, Any]]:
    """Return how a tool is installed on a machine, its versions and which is recommended, and its options."""
    merged = dict(entry)
    for override in entry.get("platform_overrides", []):
        if machine in override["platforms"]:
            merged |= override
    versions = tuple((str(each["name"]), _recommended(each, machine)) for each in entry["versions"])
    return str(merged["install"]), versions, merged


def _recommended(version: Mapping[str, Any], machine: str) -> bool:
    return version["status"] == "recommended" and bool({machine, "any"} & set(version))


def _located(
    tool: Tool, versions: tuple[tuple[str, bool], ...], options: Mapping[str, Any], given: Mapping[str, str]
) -> Tool:
    """Return a tool with where it is: as recommended in its own folder, else in any known version in PATH."""
    command = [str(part) for part in options["version_cmd"]] or [""]
    home = tools_folder(given) / "tools" / tool.name
    broken = ""
    for version, recommended in versions:
        if not recommended or not (home / version).is_dir():
            continue
        if not command[0]:
            return replace(tool, found=version, place=home / version)
        folders = [home.joinpath(version, *map(str, export)) for export in options["export_paths"]]
        program = shutil.which(command[0], path=os.pathsep.join(map(str, folders)))
        said = _version([program, *command[1:]], options) if program else None
        if said == version:
            return replace(tool, found=version, place=Path(program or ""))
        broken = f"{home / version}: cannot be run" if said is None else f"{home / version}: is {said}"
    program = shutil.which(command[0], path=given.get("PATH", "")) if command[0] else None
    said = _version([program, *command[1:]], options) if program else None
    if program and said in [version for version, _ in versions]:
        return replace(tool, found=str(said), place=Path(program))
    return replace(tool, other=said or "", broken=broken)


def _version(command: list[str], options: Mapping[str, Any]) -> str | None:
    """Return what a program says of its version as idf_tools.py reads it, None if it cannot be run."""
    status, said = run_for_text(command)
    if status:
        return None
    regex = str(options["version_regex"])
    try:
        match = re.search(regex, said)
        replacement = str(options.get("version_regex_replace", r"\1"))
        return re.sub(regex, replacement, match[0]) if match else "unknown"
    except (re.error, IndexError) as error:
        raise ValueError(str(error)) from error


def run_for_text(command: list[str]) -> tuple[int, str]:
    """Return the exit status of a program and what it prints; status -1 if it cannot be run at all."""
    try:
        done = subprocess.run(  # noqa: S603 - a tool of ESP-IDF or in PATH, asked for its version
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_TIMEOUT
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return -1, ""
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")[:20_000]

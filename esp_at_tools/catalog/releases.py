"""The official releases that can be downloaded, and the ESP-IDF versions that definitions name."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.catalog.data import data_folder, read_table
from esp_at_tools.catalog.module_yaml import Problem, Reader, Report, read_yaml
from esp_at_tools.errors import FormatError, InputError

_COLUMNS = ("platform", "module_name", "version", "address", "recommended")
_PIN_KEYS = ("branch", "tag", "commit", "repository")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.zip")
_REFERENCE = re.compile(r"(?P<name>[^@]+)@(?P<version>[vV]?\d[\w.]*|[A-Za-z]+)")

LATEST = "latest"
"""The newest version."""
RECOMMENDED = "recommended"
"""The version that Espressif recommends."""


@dataclass(frozen=True)
class Release:
    """One official release.

    Attributes:
        platform: ``PLATFORM_ESP32C3``.
        module_name: the module as its definition is called: ``MINI-1``.
        version: ``v4.1.1.0``.
        address: where its ``.zip`` is downloaded from.
        recommended: whether Espressif recommends it for the module.
    """

    platform: str
    module_name: str
    version: str
    address: str
    recommended: bool

    @property
    def full_name(self) -> str:
        """``ESP32C3/MINI-1``."""
        return f"{self.platform.removeprefix('PLATFORM_')}/{self.module_name}"

    @property
    def file_name(self) -> str:
        """The name of its ``.zip``."""
        return self.address.rpartition("/")[2]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers, for comparison."""
        return tuple(int(part) for part in self.version.removeprefix("v").split("."))


@dataclass(frozen=True)
class IdfPin:
    """The ESP-IDF that a module is built with.

    Attributes:
        name: what definitions call it: ``v5.4``.
        branch: the branch, ``""`` where a tag is meant.
        tag: the tag, ``""`` where a branch is meant.
        commit: the commit, 40 hexadecimal digits.
        repository: its address.
    """

    name: str
    branch: str
    tag: str
    commit: str
    repository: str


@functools.lru_cache(maxsize=1)
def releases() -> tuple[Release, ...]:
    """Return the catalogue of releases, the newest of each module first.

    Raises:
        FormatError: the table is wrong; the message names the line.
    """
    return read_releases(data_folder() / "releases.csv")


def read_releases(path: Path) -> tuple[Release, ...]:
    """Read a table of releases, the newest of each module first.

    Raises:
        InputError: it cannot be read.
        FormatError: it is wrong; the message names the line.
    """
    found: dict[tuple[str, str, str], Release] = {}
    for line, (platform, name, version, address, recommended) in read_table(path, _COLUMNS):
        release = Release(platform, name, version, address, recommended == "yes")
        key = (platform, name, version)
        try:
            right = len(release.numbers) == 4 and address.startswith("https://")
            right = right and _FILE_NAME.fullmatch(release.file_name) is not None
        except ValueError:
            right = False
        if not right or recommended not in ("", "yes") or key in found:
            raise FormatError(
                f"{path}: line {line}: {version!r} of {name} is not a release, or stands here twice",
                "give a version such as v4.1.1.0, the https address of a .zip, and yes or nothing",
            )
        found[key] = release
    modules = dict.fromkeys((release.platform, release.module_name) for release in found.values())
    return tuple(
        release
        for module in modules
        for release in sorted(
            (each for each in found.values() if (each.platform, each.module_name) == module),
            key=lambda each: each.numbers,
            reverse=True,
        )
    )


def releases_of(platform: str, module_name: str) -> tuple[Release, ...]:
    """Return the releases of one module, the newest first; none for an unknown one."""
    key = (platform.casefold(), module_name.casefold())
    return tuple(
        each for each in releases() if (each.platform.casefold(), each.module_name.casefold()) == key
    )


def parse_reference(text: str) -> tuple[str, str] | None:
    """Return module and version of a text like ``ESP32C3/MINI-1@v3.3.0.0``, None for another one."""
    match = _REFERENCE.fullmatch(text)
    return (match["name"], match["version"]) if match else None


def read_idf_pins(path: Path, report: Report) -> dict[str, IdfPin]:
    """Read an ``idf.yaml``; problems go to ``report``."""
    try:
        root = read_yaml(path)
    except InputError as error:
        report(Problem("error", str(path), error.message.removeprefix(f"{path}: "), error.hint))
        return {}
    reader = Reader(path, report)
    pins = {}
    for name in root.entries:
        table = reader.table(root, name)
        reader.check_keys(table, _PIN_KEYS)
        branch, tag, commit, repository = (reader.text(table, key) for key in _PIN_KEYS)
        if bool(branch) == bool(tag) or not commit or not repository:
            message = f"{name}: not a version of ESP-IDF"
            reader.problem(root.lines[name], message, "give branch or tag, and commit and repository")
        pins[name] = IdfPin(name, branch, tag, commit, repository)
    return pins

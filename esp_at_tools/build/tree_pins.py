"""What a source tree is built with: the ESP-IDF of a module, and the repositories beside it.

Values come from a file that anybody may have edited, and go to git: none may be taken for an option of it.

Source: ``at_parse_idf_version`` and ``at_parse_submodules`` in ``build.py`` of esp-at v2.4.0.0 to v5.0.1.0,
and of its main branch in 2026, which takes a tag in place of a branch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from esp_at_tools.catalog.module_yaml import nearest
from esp_at_tools.catalog.releases import IdfPin
from esp_at_tools.errors import FormatError, InputError

_COMMIT = re.compile(r"[0-9a-f]{7,40}", re.ASCII)
_REFERENCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}", re.ASCII)
_REPOSITORY = re.compile(r"[A-Za-z0-9_./~][\x21-\x7e]{0,499}", re.ASCII)
_SUBMODULE = re.compile(r'submodule\s+"?([A-Za-z0-9_]{1,60})"?', re.ASCII)
_SUBMODULES_HINT = 'write [submodule "name"], then path, url, branch and commit'
_PIN_HINT = "write branch:… (or tag:…), commit:… and repository:…, one a line"
_PATTERNS = {"branch": _REFERENCE, "tag": _REFERENCE, "commit": _COMMIT, "repository": _REPOSITORY}


class NamedModule(Protocol):
    """A module of a source tree, as far as its folder goes."""

    @property
    def platform(self) -> str:
        """``PLATFORM_ESP32C3``."""

    @property
    def module_name(self) -> str:
        """``MINI-1``."""

    @property
    def full_name(self) -> str:
        """``ESP32C3/MINI-1``."""


Named = TypeVar("Named", bound=NamedModule)


@dataclass(frozen=True)
class Submodule:
    """A repository that a module has beside ESP-IDF.

    Attributes:
        name: ``rainmaker``.
        path: where it is cloned to, relative to the tree.
        repository: its address.
        branch: the branch that is cloned.
        commit: the commit that is checked out.
    """

    name: str
    path: str
    repository: str
    branch: str
    commit: str

    @property
    def variable(self) -> str:
        """The environment variable that tells the build of it, whose value is its own name."""
        return f"AT_{self.name.upper()}_SUPPORT"


def parse_idf_version(text: str, place: str) -> IdfPin:
    """Return what a file ``IDF_VERSION`` says.

    Args:
        text: the file.
        place: what an error calls it.

    Raises:
        FormatError: it lacks something, has both a branch and a tag, or a value cannot be that of a Git
            repository.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.strip().partition(":")
        if colon:
            found[key.strip()] = value.strip()
    if found.get("branch") and found.get("tag"):
        raise FormatError(f"{place}: names both a branch and a tag", _PIN_HINT)
    reference = "tag" if found.get("tag") else "branch"
    for key in (reference, "commit", "repository"):
        if not _PATTERNS[key].fullmatch(found.get(key, "")):
            what = f"{key}: {found[key][:60]!r} is none" if found.get(key) else f"does not name the {key}"
            raise FormatError(f"{place}: {what}", _PIN_HINT)
    pinned = {reference: found[reference]}
    return IdfPin("", pinned.get("branch", ""), pinned.get("tag", ""), found["commit"], found["repository"])


def parse_submodules(text: str, place: str) -> tuple[Submodule, ...]:
    """Return the repositories that a file ``submodules`` lists, in its order; what one lacks is ``""``.

    Raises:
        FormatError: it is not of that form.
    """
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise FormatError(f"{place}: {error.message.splitlines()[0]}", _SUBMODULES_HINT) from error
    found = []
    for section in parser.sections():
        match = _SUBMODULE.fullmatch(section)
        if match is None:
            raise FormatError(f"{place}: [{section[:60]}] is no submodule", _SUBMODULES_HINT)
        values = (parser[section].get(key, "") for key in ("path", "url", "branch", "commit"))
        found.append(Submodule(match[1], *values))
    return tuple(found)


def check_submodule(submodule: Submodule, place: str) -> Submodule:
    """Return a repository that can be cloned as it is listed.

    Raises:
        FormatError: it lacks something, its path leads out of the tree, or a value cannot be that of git.
    """
    values = (
        ("url", submodule.repository, _REPOSITORY),
        ("branch", submodule.branch, _REFERENCE),
        ("commit", submodule.commit, _COMMIT),
    )
    for key, value, pattern in values:
        if not pattern.fullmatch(value):
            what = f"{key} = {value[:60]!r} is none" if value else f"does not name the {key}"
            raise FormatError(f"{place}: submodule {submodule.name}: {what}", _SUBMODULES_HINT)
    check_inside(submodule.path, f"{place}: submodule {submodule.name}: path = {submodule.path[:60]!r}")
    return submodule


def check_inside(path: str, what: str) -> Path:
    """Return a relative path that stays in the tree.

    Raises:
        FormatError: it is empty, absolute, or leads out of the tree; ``what`` begins the message.
    """
    parts = re.split(r"[/\\]", path)
    if not path or not path.isprintable() or path.startswith(("/", "\\", "-")) or ":" in parts[0]:
        raise FormatError(f"{what} is no path in the tree", "name it by its path from the top of the tree")
    if ".." in parts:
        raise FormatError(f"{what} leads out of the tree", "name it by its path from the top of the tree")
    return Path(*parts)


def find_module(name: str, modules: Mapping[str, Named]) -> Named | None:
    """Return the module of a name, None where there is none.

    Args:
        name: ``ESP32C3/MINI-1`` or ``PLATFORM_ESP32C3/MINI-1`` in any case; the part behind the slash
            alone where only one chip has a module of that name.
        modules: full name in lower case → module.

    Raises:
        InputError: several have that name.
    """
    wanted = name.strip().casefold().removeprefix("platform_")
    if wanted in modules:
        return modules[wanted]
    same = [each for each in modules.values() if each.module_name.casefold() == wanted]
    if len(same) > 1:
        several = " or ".join(each.full_name for each in same)
        raise InputError(f"{name!r} is the name of several modules", f"say which: {several}")
    return same[0] if same else None


def unknown_module(name: str, modules: Mapping[str, NamedModule], place: object) -> InputError:
    """Return the error for a name that no module has, with the nearest one and all of them."""
    wanted = name.strip().casefold().removeprefix("platform_")
    names = [each.full_name for each in modules.values()]
    bare = {each.module_name.casefold(): each.full_name for each in modules.values()}
    near = nearest(wanted.upper(), names) or bare.get(nearest(wanted, bare), "")
    hint = f"did you mean {near}? " if near else ""
    return InputError(
        f"{name[:60]!r} is not the name of a module in {place}", f"{hint}it has {', '.join(names)}"
    )

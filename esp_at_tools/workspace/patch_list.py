"""Which patches a module's build applies: the lists that esp-at has had since v3.0.

Three kinds of list came one after the other:

- ``module_config/module_X/patch.py`` (v3.0 to v3.2): a script with a dictionary in it, which is read here
  without running it;
- ``module_config/module_X/patch/patch_list.ini`` (v3.3 to v4.0), or that of ``AT_EXT_MODULE_CFG``;
- ``patches/patch_list.ini`` for all modules (v4.1 on), whose entries say for which chips they are, whether
  they go in before or after the sdkconfig is made, and on which options they depend; that of
  ``AT_EXT_MODULE_CFG`` comes before it.

Source: ``build.py``, ``CMakeLists.txt`` and ``tools/patch.py`` of esp-at v3.0.0.0 to v5.0.1.0, and of its
main branch in 2026.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from esp_at_tools.build.tree_pins import check_inside
from esp_at_tools.errors import FormatError
from esp_at_tools.formats.sdkconfig import Sdkconfig

if TYPE_CHECKING:
    import ast
    from configparser import SectionProxy

LIST_NAME = "patch_list.ini"
BEFORE = "before_sdkconfig"
AFTER = "after_sdkconfig"
_DEFAULT_PATH = "esp-idf"
_CONFIG = "CONFIG_"
_SCRIPT_HINT = "patch_list = {'name.patch': os.path.join(cur_abs_dir, 'esp-idf')} is what can be read"


@dataclass(frozen=True)
class Patch:
    """One entry of a list.

    Attributes:
        name: ``mqtt.patch``, ``libbtdm_app.a``, or the name of a folder.
        source: that file or folder.
        path: where it is applied, relative to the tree: a folder for a patch, a file or folder for a
            file that takes the place of another.
        note: what it is for, as the list says.
        when: ``before_sdkconfig`` or ``after_sdkconfig``.
        dependencies: the variables or options that must be there.
        marked: esp-at's own tool leaves a copy of the patch where it has applied it, and goes by that.
        place: the list.
        by_chance: the entry does not name the chip, but one in whose name it is: esp-at before 2026 looks
            for ``esp32`` in the text ``esp32c5, esp32c61``. Such a patch goes in if it fits.
    """

    name: str
    source: Path
    path: Path
    note: str
    when: str
    dependencies: tuple[str, ...]
    marked: bool
    place: Path
    by_chance: bool = False

    @property
    def is_diff(self) -> bool:
        """Whether it is a patch, not files that take the place of others."""
        return self.name.endswith(".patch")

    def needed(self, config: Sdkconfig | None, environment: Mapping[str, str]) -> bool | None:
        """Return whether its dependencies are met, None where that takes an sdkconfig.

        As ``tools/patch.py`` has it: a variable of the environment that is not empty counts always, an
        option only after the sdkconfig is made, and then whatever its value is.
        """
        unknown = False
        for name in self.dependencies:
            if environment.get(name):
                continue
            if self.when == BEFORE:
                return False
            if config is None:
                unknown = True
            elif not _has(config, name):
                return False
        return None if unknown else True


def _has(config: Sdkconfig, name: str) -> bool:
    """Tell whether an sdkconfig has a line for an option; one that says 'is not set' is a comment."""
    if not name.startswith(_CONFIG):
        return False
    option = name.removeprefix(_CONFIG)
    return option in config.options and config.options[option] != "n"


# --- patches/patch_list.ini ------------------------------------------------------------------------------


def read_common_list(
    folder: Path, text: str, target: str, *, exact: bool, defaults: tuple[str, ...]
) -> tuple[Patch, ...]:
    """Return the entries of a common list that are for a chip, in its order.

    Args:
        folder: where the list and the patches are.
        text: the list.
        target: ``esp32c3``.
        exact: the chips of an entry are names, not a text in which the chip's name is searched.
        defaults: chips of an entry that names none; none for all.

    Raises:
        FormatError: it is no such list.
    """
    found = []
    for name, section in _sections(folder / LIST_NAME, text):
        listed = section.get("target")
        names = _names(listed, defaults)
        by_chance = not exact and target not in names and target in (listed or "")
        if names and target not in names and not by_chance:
            continue
        when = section.get("when", BEFORE)
        if when not in (BEFORE, AFTER):
            raise FormatError(
                f"{folder / LIST_NAME}: [{name}]: when = {when[:40]!r} is never", f"write {BEFORE} or {AFTER}"
            )
        depends = section.get("dependency", "")
        dependencies = tuple(each.strip("'") for each in depends.split(", ")) if depends else ()
        note = section.get("description", section.get("note", ""))
        path = section.get("path", _DEFAULT_PATH)
        patch = _patch(folder, name, path, note, when, dependencies, marked=True)
        found.append(replace(patch, by_chance=by_chance))
    return tuple(found)


def _names(listed: str | None, defaults: tuple[str, ...]) -> tuple[str, ...]:
    return defaults if listed is None else tuple(each.strip().strip("'") for each in listed.split(","))


def read_module_list(folder: Path, text: str) -> tuple[Patch, ...]:
    """Return the entries of a module's own list, all of which are applied before the sdkconfig is made.

    Args:
        folder: the folder ``patch``.
        text: the list in it.

    Raises:
        FormatError: it is no such list.
    """
    found = []
    for name, section in _sections(folder / LIST_NAME, text):
        path = section.get("path", "")
        if not path:
            raise FormatError(
                f"{folder / LIST_NAME}: [{name}] does not name the path", "write path = esp-idf"
            )
        note = section.get("note", section.get("description", ""))
        found.append(_patch(folder, name, path, note, BEFORE, (), marked=False))
    return tuple(found)


def _sections(place: Path, text: str) -> Iterator[tuple[str, SectionProxy]]:
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        hint = "begin each entry with [name.patch], and indent its lines"
        raise FormatError(f"{place}: {error.message.splitlines()[0]}", hint) from error
    for section in parser.sections():
        yield section.strip("[]"), parser[section]


def _patch(
    folder: Path, name: str, path: str, note: str, when: str, dependencies: tuple[str, ...], *, marked: bool
) -> Patch:
    place = folder / LIST_NAME
    check_inside(name, f"{place}: [{name[:60]}]: that name")
    checked = check_inside(path, f"{place}: [{name[:60]}]: path = {path[:60]!r}")
    text = note.strip().strip("'\"")
    return Patch(name, folder / name, checked, text, when, dependencies, marked, place)


# --- module_X/patch.py -----------------------------------------------------------------------------------


def read_script(script: Path, text: str) -> tuple[Patch, ...]:
    """Return the entries of the dictionary in a module's ``patch.py``.

    Args:
        script: its path; the patches are in the folder ``patch`` beside it.
        text: its text, which is not run.

    Raises:
        FormatError: it is no script of that kind.
    """
    import ast

    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormatError(f"{script}: cannot be read: {error}", _SCRIPT_HINT) from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and _is_list(node.targets):
            return tuple(_entries(script, node.value))
    raise FormatError(f"{script}: has no list of patches", _SCRIPT_HINT)


def _is_list(targets: list[ast.expr]) -> bool:
    return [getattr(target, "id", "") for target in targets] == ["patch_list"]


def _entries(script: Path, listed: ast.Dict) -> Iterator[Patch]:
    for key, value in zip(listed.keys, listed.values, strict=True):
        name = getattr(key, "value", None)
        path = _joined(value)
        if not isinstance(name, str) or not path:
            line = getattr(value, "lineno", 0)
            raise FormatError(f"{script}: line {line}: is no patch and its path", _SCRIPT_HINT)
        checked = check_inside(path, f"{script}: {name[:60]}: {path[:60]!r}")
        check_inside(name, f"{script}: {name[:60]!r}: that name")
        yield Patch(name, script.parent / "patch" / name, checked, "", BEFORE, (), marked=False, place=script)


def _joined(value: ast.expr) -> str:
    """Return the path that ``os.path.join(cur_abs_dir, 'esp-idf', …)`` gives below the tree."""
    args = getattr(value, "args", [])
    if getattr(getattr(value, "func", None), "attr", "") != "join" or not args:
        return ""
    parts = [getattr(each, "value", None) for each in args[1:]]
    if getattr(args[0], "id", "") != "cur_abs_dir" or not all(isinstance(part, str) for part in parts):
        return ""
    return "/".join(str(part) for part in parts)

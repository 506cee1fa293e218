"""Profiles: the changes that a product needs, kept as YAML (or JSON) beside its sources.

::

    settings:
      uart_baudrate: 921600
      country_code: US
    pki:
      mqtt_ca: certs/ca.pem     # relative to the profile
    gatts: gatts_data.csv       # the whole table

YAML turns some plain words into what nobody meant: ``country_code: NO`` is the truth value false,
``017`` is fifteen. Here a value counts as it is written, and one that YAML would take for something
else is an error that says how to write it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from esp_at_tools.errors import InputError
from esp_at_tools.files import read_file
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.layout import Value
from esp_at_tools.settings.names import SETTINGS, gatt_row_index
from esp_at_tools.settings.profile_yaml import MappingNode, Node, ScalarNode, read_document
from esp_at_tools.settings.rules import parse_value

MAX_PROFILE_SIZE = 64 << 10
"""Largest profile, in bytes: twenty times what one with everything in it needs."""

_SECTIONS = ("settings", "pki", "gatts")
_COLUMN = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
_BRACES = "write {column} for a cell of the row, {{ and }} for braces themselves"
_MAX_SHOWN = 40

_Fill = Callable[[str], str]


@dataclass(frozen=True)
class Profile:
    """Changes to a firmware.

    Attributes:
        settings: new values of settings, by official name.
        pki: absolute paths of certificates and keys, by official name.
        gatts: absolute path of a GATT table (``gatts_data.csv``), None to leave the table alone.
    """

    settings: dict[str, Value] = field(default_factory=dict)
    pki: dict[str, Path] = field(default_factory=dict)
    gatts: Path | None = None

    @classmethod
    def load(cls, path: Path) -> Profile:
        """Read a profile; see :meth:`ProfileTemplate.load` for what is an error.

        Whether the values suit the firmware is for :func:`esp_at_tools.settings.rules.check_settings`.
        """
        return ProfileTemplate.load(path).fill(None)


@dataclass(frozen=True)
class ProfileTemplate:
    """A profile that has been read but whose values may still hold ``{column}``.

    Attributes:
        path: the file, for errors and as the origin of relative paths.
        root: its mapping of sections.
    """

    path: Path
    root: MappingNode

    @classmethod
    def load(cls, path: Path) -> ProfileTemplate:
        """Read a profile of at most 64 KiB, YAML or JSON, in UTF-8.

        Raises:
            InputError: it cannot be read, is not YAML, is empty or no mapping, has unknown or repeated
                keys, tags, anchors or aliases; the message has the line.
        """
        root = read_document(read_file(path, "profile", MAX_PROFILE_SIZE), str(path))
        for key, (line, _) in root.entries.items():
            if key not in _SECTIONS:
                raise InputError(f"{path}: line {line}: unknown key {_shown(key)}", _meant_section(key))
        return cls(path, root)

    @property
    def columns(self) -> frozenset[str]:
        """The names that stand in braces in any value.

        Raises:
            InputError: a value has a brace that neither begins nor ends a name.
        """
        found: set[str] = set()
        for key, line, text in self._scalars():
            for match in _COLUMN.finditer(text):
                if match[0] in ("{", "}"):
                    raise self._lone_brace(f"{self.path}: line {line}: {key}: {_shown(text)}", match[0])
                if match[1]:
                    found.add(match[1])
        return frozenset(found)

    @property
    def names(self) -> tuple[str, ...]:
        """The settings and PKI items that it changes."""
        nodes = (self.root.entries.get(section, (0, None))[1] for section in ("settings", "pki"))
        return tuple(name for node in nodes if isinstance(node, MappingNode) for name in node.entries)

    def split(self) -> tuple[ProfileTemplate, ProfileTemplate]:
        """Return what is the same for every row, and what has ``{column}`` in it."""
        kept: list[dict[str, tuple[int, Node]]] = [{}, {}]
        for section, (line, node) in self.root.entries.items():
            if not isinstance(node, MappingNode):
                kept[_has_column(node)][section] = (line, node)
                continue
            for varies in (False, True):
                inner = {key: item for key, item in node.entries.items() if _has_column(item[1]) is varies}
                kept[varies][section] = (line, MappingNode(inner))
        fixed, varying = (ProfileTemplate(self.path, MappingNode(entries)) for entries in kept)
        return fixed, varying

    def fill(self, row: Mapping[str, str] | None) -> Profile:
        """Return the profile, with ``{column}`` in its values replaced.

        Args:
            row: texts by column; ``{{`` and ``}}`` stand for single braces. None replaces nothing.

        Raises:
            InputError: an unknown column or setting, a brace that is neither doubled nor part of a name
                in braces, a value of the wrong type, an empty path.
        """
        if row is None:
            return self._read(str)
        texts = row

        def replaced(match: re.Match[str]) -> str:
            column = match[1]
            if not column:
                if len(match[0]) == 1:
                    raise self._lone_brace(f"{self.path}: {_shown(match.string)}", match[0])
                return match[0][0]
            if column not in texts:
                near = difflib.get_close_matches(column, list(texts), n=1)
                hint = f"did you mean {near[0]}?" if near else f"the columns are {', '.join(texts)}"
                raise InputError(f"{self.path}: there is no column {_shown(column)}", hint)
            return texts[column]

        return self._read(lambda text: _COLUMN.sub(replaced, text))

    def _read(self, fill: _Fill) -> Profile:
        settings = {
            name: self._setting(name, line, node, fill)
            for name, (line, node) in self._section("settings", _check_setting).items()
        }
        pki = {
            name: self._file(name, line, node, fill)
            for name, (line, node) in self._section("pki", _check_pki).items()
        }
        line, node = self.root.entries.get("gatts", (0, None))
        gatts = None if node is None else self._file("gatts", line, node, fill)
        return Profile(settings, pki, gatts)

    def _scalars(self) -> Iterator[tuple[str, int, str]]:
        """Return key, line and text of every value."""
        for section, (line, node) in self.root.entries.items():
            entries = node.entries if isinstance(node, MappingNode) else {section: (line, node)}
            for key, (inner, leaf) in entries.items():
                if isinstance(leaf, ScalarNode):
                    yield key, inner, leaf.text

    @staticmethod
    def _lone_brace(where: str, brace: str) -> InputError:
        return InputError(f"{where}: {brace!r} stands alone", _BRACES)

    def _section(self, name: str, check: Callable[[str], str]) -> dict[str, tuple[int, Node]]:
        line, node = self.root.entries.get(name, (0, None))
        if node is None or (isinstance(node, ScalarNode) and node.kind == "null"):
            return {}
        if not isinstance(node, MappingNode):
            raise InputError(
                f"{self.path}: line {line}: {name} must hold names and values",
                "write 'name: value' lines below it",
            )
        for key, (key_line, _) in node.entries.items():
            hint = check(key)
            if hint:
                raise InputError(f"{self.path}: line {key_line}: unknown key {_shown(key)} in {name}", hint)
        return node.entries

    def _setting(self, name: str, line: int, node: Node, fill: _Fill) -> Value:
        what = f"{self.path}: line {line}: {name}"
        scalar = _scalar(what, node)
        text = fill(scalar.text)
        if SETTINGS[name].is_text:
            if scalar.kind != "str":
                raise InputError(
                    f"{what}: YAML takes {_shown(scalar.text)} for {_KINDS[scalar.kind]}",
                    f"quote it: '{scalar.text}'",
                )
            return text
        if scalar.kind not in ("int", "str"):
            hint = "write 4096, 0x1000, 4K or -1"
            raise InputError(f"{what}: {_shown(scalar.text)} is not a whole number", hint)
        if scalar.kind == "int" and re.match(r"[-+]?0[0-9_]", scalar.text):
            raise InputError(
                f"{what}: YAML takes {scalar.text} for an octal number", "leave out the leading zeros"
            )
        return parse_value(name, text, what)

    def _file(self, name: str, line: int, node: Node, fill: _Fill) -> Path:
        what = f"{self.path}: line {line}: {name}"
        scalar = _scalar(what, node)
        text = fill(scalar.text)
        if scalar.kind == "null" or not text or "\0" in text:
            raise InputError(f"{what}: has no path of a file", "give one, relative to the profile")
        return Path(self.path.absolute().parent, text)


_KINDS = {
    "null": "no value",
    "bool": "a truth value",
    "int": "a number",
    "float": "a number",
    "timestamp": "a date",
    "other": "something else than text",
}


def _has_column(node: Node) -> bool:
    return isinstance(node, ScalarNode) and any(match[1] for match in _COLUMN.finditer(node.text))


def _scalar(what: str, node: Node) -> ScalarNode:
    if isinstance(node, ScalarNode):
        if node.kind == "null":
            raise InputError(f"{what}: has no value", "give one, or leave the line out")
        return node
    names = list(node.entries) if isinstance(node, MappingNode) else []
    if len(names) == 1:  # name: {column}
        raise InputError(f"{what}: YAML takes {{{names[0]}}} for a mapping", f"quote it: '{{{names[0]}}}'")
    kind = "a mapping" if isinstance(node, MappingNode) else "a list"
    raise InputError(f"{what}: must be one value, not {kind}", "write a number or a text")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…")


def _plain(key: str) -> str:
    return key.strip("-").replace("-", "_")


def _near(key: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """Return the known name that ``key`` is nearest to; options of modify-bin count as names."""
    options = {_plain(setting.option): name for name, setting in SETTINGS.items() if setting.option}
    options |= {_plain(item.option): name for name, item in PKI_ITEMS.items() if item.option}
    meant = options.get(_plain(key), "")
    if meant in known:
        return meant
    near = difflib.get_close_matches(_plain(key)[:_MAX_SHOWN], list(known), n=1)
    return near[0] if near else ""


def _meant_section(key: str) -> str:
    for section, names in (("settings", SETTINGS), ("pki", PKI_ITEMS)):
        if key in names:
            return f"{key} belongs under {section}:"
    near = _near(key, _SECTIONS)
    return f"did you mean {near}?" if near else f"the keys are {', '.join(_SECTIONS)}"


def _check_setting(key: str) -> str:
    if key in SETTINGS:
        return ""
    if key in PKI_ITEMS:
        return f"{key} belongs under pki:"
    if gatt_row_index(key) is not None:
        return "GATT rows come from the table that gatts: names"
    near = _near(key, SETTINGS)
    return f"did you mean {near}?" if near else f"the names are {', '.join(SETTINGS)}"


def _check_pki(key: str) -> str:
    if key in PKI_ITEMS:
        return ""
    if key in SETTINGS:
        return f"{key} belongs under settings:"
    near = _near(key, PKI_ITEMS)
    return f"did you mean {near}?" if near else f"the names are {', '.join(PKI_ITEMS)}"

"""The YAML of module definitions: its values with their lines, and the layers that they form.

Values are taken as they are written, not as YAML types: ``0x8000`` stays hexadecimal and ``n`` is the
``n`` of an sdkconfig. Text in quotes is a string, which an sdkconfig quotes too. ``module_config/README.md``
explains the keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.files import read_file

MAX_SIZE = 1 << 18
"""Largest file of definitions, in bytes."""
_MAX_DEPTH = 6
_MAX_SHOWN = 60

Level = Literal["error", "warning"]
T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with the definitions.

    Attributes:
        level: ``error`` where nothing can be built from them, ``warning`` where it is odd.
        place: the file, with the line where that is known, or the module.
        message: what is wrong.
        hint: what would be right; may be empty.
    """

    level: Level
    place: str
    message: str
    hint: str = ""


Report = Callable[[Problem], None]
"""What is told of every problem; it may raise."""


def raise_errors(problem: Problem) -> None:
    """Raise an error, and let a warning pass: for those who want definitions, not a check.

    Raises:
        FormatError: the problem is an error.
    """
    if problem.level == "error":
        raise FormatError(f"{problem.place}: {problem.message}", problem.hint)


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return the name among ``known`` that ``name`` probably means, ``""`` if there is none."""
    import difflib

    by_key = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold()[:_MAX_SHOWN], by_key, n=1, cutoff=cutoff)
    return by_key[near[0]] if near else ""


def unknown_hint(name: str, known: Iterable[str], what: str) -> str:
    """Return the hint for a name that nobody knows: the nearest one, else all of them."""
    known = tuple(known)
    near = nearest(name, known)
    return f"did you mean {near}?" if near else f"the {what} are {', '.join(known)}"


# --- YAML ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scalar:
    """One value: its text, whether it stands in quotes, and its line from 1."""

    text: str
    quoted: bool
    line: int

    @property
    def is_null(self) -> bool:
        """Whether it is YAML's null: ``null``, ``~`` or nothing."""
        return not self.quoted and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True)
class Sequence:
    """A list of values."""

    items: tuple[Node, ...]
    line: int


@dataclass(frozen=True)
class Table:
    """A mapping: names to values, with the line of each name."""

    entries: Mapping[str, Node] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    line: int = 1


Node = Scalar | Sequence | Table


def read_yaml(path: Path) -> Table:
    """Return the mapping that a file holds; a file of comments only is an empty one.

    Raises:
        InputError: it cannot be read.
        FormatError: it is not UTF-8, not YAML, or not a mapping; the message names the line.
    """
    import yaml

    data = read_file(path, "file of definitions", MAX_SIZE)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8 at byte {error.start}", "save it as UTF-8") from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # Events, not nodes: the C composer recurses, and deep nesting would end the process.
        node = _Builder(path, yaml.parse(text, Loader=loader)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        problem = " ".join(filter(None, (error.context, error.problem)))[:200]
        raise FormatError(f"{path}: {place}not YAML: {problem}", "write 'name: value' lines") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # ValueError and OverflowError: an escape such as "\\UFFFFFFFF" that is no character
        problem = " ".join(str(error).split())[:200]
        raise FormatError(f"{path}: not YAML: {problem}", "write 'name: value' lines") from error
    if not isinstance(node, Table):
        raise FormatError(f"{path}: line 1: not a mapping", "write 'name: value' lines")
    return node


class _Builder:
    """Builds our nodes from PyYAML's events, and refuses what definitions have no use for."""

    def __init__(self, path: Path, events: Iterator[Any]) -> None:
        import yaml

        self._yaml: Any = yaml
        self._path = path
        self._events = events

    def document(self) -> Node:
        next(self._events)  # start of the stream
        if isinstance(next(self._events), self._yaml.StreamEndEvent):
            return Table()
        node = self._node(next(self._events), 0)
        next(self._events)  # end of the document
        event = next(self._events)
        if not isinstance(event, self._yaml.StreamEndEvent):
            raise self._error(event, "a second document", "leave out '---'")
        return node

    def _node(self, event: Any, depth: int) -> Node:
        line = event.start_mark.line + 1
        if event.anchor is not None:  # an alias has one too
            raise self._error(event, "an anchor or alias", "write the value itself")
        if event.tag is not None:
            raise self._error(event, "a tag", "write the value without it")
        if isinstance(event, self._yaml.ScalarEvent):
            return Scalar(event.value, bool(event.style), line)
        if depth > _MAX_DEPTH:
            raise self._error(event, "nested too deep", "see module_config/README.md")
        if isinstance(event, self._yaml.MappingStartEvent):
            return self._table(depth, line)
        items = []
        while not isinstance(inner := next(self._events), self._yaml.SequenceEndEvent):
            items.append(self._node(inner, depth + 1))
        return Sequence(tuple(items), line)

    def _table(self, depth: int, line: int) -> Table:
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), self._yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, Scalar):
                raise self._error(event, "a list or mapping as a name", "write 'name: value'")
            if key.text in entries:
                first = lines[key.text]
                shown = key.text[:_MAX_SHOWN]
                raise self._error(event, f"{shown!r} again, first in line {first}", "give it once")
            entries[key.text] = self._node(next(self._events), depth + 1)
            lines[key.text] = key.line
        return Table(entries, lines, line)

    def _error(self, event: Any, found: str, hint: str) -> FormatError:
        return FormatError(f"{self._path}: line {event.start_mark.line + 1}: {found}", hint)


class Reader:
    """Takes values out of a file's mapping, and reports what is not as it should be."""

    def __init__(self, path: Path, report: Report) -> None:
        """Read a file called ``path``; problems go to ``report``."""
        self.path = path
        self._report = report

    def problem(self, line: int, message: str, hint: str = "", *, level: Level = "error") -> None:
        """Report something in a line."""
        shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)  # a terminal would obey
        self._report(Problem(level, f"{self.path}: line {line}", shown, hint))

    def check_keys(self, table: Table, known: Iterable[str], what: str = "keys") -> None:
        """Report the names that are not known here."""
        known = tuple(known)
        for key in table.entries:
            if key not in known:
                self.problem(
                    table.lines[key], f"{key[:_MAX_SHOWN]!r} is unknown", unknown_hint(key, known, what)
                )

    def table(self, table: Table, key: str) -> Table:
        """Return the mapping under a name, an empty one where there is none."""
        node = table.entries.get(key, Table())
        if isinstance(node, Table) or (isinstance(node, Scalar) and node.is_null):
            return node if isinstance(node, Table) else Table()
        self.problem(table.lines[key], f"{key}: not a mapping", "indent 'name: value' lines below it")
        return Table()

    def text(self, table: Table, key: str) -> str:
        """Return the text under a name, ``""`` where there is none."""
        node = table.entries.get(key)
        if node is None or (isinstance(node, Scalar) and node.is_null):
            return ""
        if isinstance(node, Scalar):
            return node.text
        self.problem(table.lines[key], f"{key}: not a single value", f"write '{key}: value'")
        return ""

    def texts(self, table: Table, key: str) -> tuple[str, ...]:
        """Return the list of texts under a name, empty where there is none."""
        node = table.entries.get(key, Sequence((), 0))
        items = node.items if isinstance(node, Sequence) else (node,)
        texts = tuple(item.text for item in items if isinstance(item, Scalar))
        if len(texts) < len(items) or not isinstance(node, Sequence):
            self.problem(table.lines[key], f"{key}: not a list", f"write '{key}: [one, another]'")
        return texts

    def scalars(self, table: Table) -> Iterator[tuple[str, Scalar]]:
        """Yield the names of a mapping with their single values."""
        for key, node in table.entries.items():
            if isinstance(node, Scalar):
                yield key, node
            else:
                self.problem(table.lines[key], f"{key}: not a single value", f"write '{key}: value'")


# --- options of an sdkconfig ----------------------------------------------------------------------------

_OPTION = re.compile(r"[A-Za-z0-9_]+\Z")
_PLAIN = re.compile(r"(?:[ynm]|-?[0-9]+|0[xX][0-9a-fA-F]+)\Z")
_WORDS = ("true", "false", "yes", "no", "on", "off")
_DERIVED = {
    "IDF_TARGET": "it follows from the chip",
    "ESPTOOLPY_FLASHSIZE": "set flash: size",
    "ESPTOOLPY_FLASHMODE": "set flash: mode",
    "ESPTOOLPY_FLASHFREQ": "set flash: freq",
    "PARTITION_TABLE_OFFSET": "set partitions: offset",
    "PARTITION_TABLE_CUSTOM_FILENAME": "set partitions: primary",
    "PARTITION_TABLE_FILENAME": "set partitions: primary",
    "AT_CUSTOMIZED_PARTITION_TABLE_FILE": "set partitions: secondary",
    "AT_CUSTOMIZED_PARTITION_TABLE_OFFSET": "it follows from the place of at_customize",
}
_DERIVED_OPTION = re.compile(rf"({'|'.join(_DERIVED)})(?:_[0-9A-Z]+)?\Z")


def read_options(reader: Reader, table: Table) -> dict[str, str | None]:
    """Return options of an sdkconfig, without ``CONFIG_``, as an sdkconfig spells their values.

    None stands for an option that is left to its Kconfig, whatever lower layers say.
    """
    options: dict[str, str | None] = {}
    for key, value in reader.scalars(table):
        name = key.removeprefix("CONFIG_")
        derived = _DERIVED_OPTION.match(name)
        if not _OPTION.match(name):
            reader.problem(
                value.line, f"{key[:_MAX_SHOWN]!r} is not the name of an option", "write LWIP_IPV6: y"
            )
        elif derived:
            reader.problem(value.line, f"{name} is not set as an option", _DERIVED[derived[1]])
        elif name in options:
            reader.problem(value.line, f"{name} again, with and without CONFIG_", "give it once")
        elif not value.text.isprintable():
            reader.problem(value.line, f"{name}: a value with control characters", "write plain text")
        elif not value.quoted and value.text.lower() in _WORDS:
            hint = "write y or n; in quotes, if it is text"
            reader.problem(value.line, f"{name}: {value.text} is not a value of an sdkconfig", hint)
        else:
            options[name] = None if value.is_null else _option_value(value)
    return options


def checked_option(key: str, text: str) -> tuple[str, str]:
    """Return an option of an sdkconfig from a command line: name without ``CONFIG_``, value as there.

    Args:
        key: with or without ``CONFIG_``.
        text: ``y``, ``n``, a number, or text, in quotes or not.

    Raises:
        InputError: it is not the name of an option, is not set as one, or cannot have that value.
    """
    name = key.removeprefix("CONFIG_")
    derived = _DERIVED_OPTION.match(name)
    if not _OPTION.match(name):
        raise InputError(f"{key[:_MAX_SHOWN]!r} is not the name of an option", "write CONFIG_LWIP_IPV6=y")
    if derived:
        raise InputError(f"CONFIG_{name} is not set as an option", _DERIVED[derived[1]])
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    if not text.isprintable():
        raise InputError(f"CONFIG_{name}: a value with control characters", "write plain text")
    if not quoted and (not text or text.lower() in _WORDS):
        hint = "write y or n; in quotes, if it is text"
        raise InputError(f"CONFIG_{name}: {text!r} is not a value of an sdkconfig", hint)
    return name, _option_value(Scalar(text[1:-1] if quoted else text, quoted, 1))


def _option_value(value: Scalar) -> str:
    if not value.quoted and _PLAIN.match(value.text):
        return value.text
    escaped = value.text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# --- layers -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statements:
    """What a layer says, be it always or in silence.

    Attributes:
        features: name → state; None takes a lower layer's word back.
        options: option without ``CONFIG_`` → value as in an sdkconfig; None leaves it to its Kconfig.
        lines: line of each feature and option.
    """

    features: Mapping[str, str | None] = field(default_factory=dict)
    options: Mapping[str, str | None] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """One file of a module definition.

    Attributes:
        name: ``base``, a series, a chip, or ``ESP32C3/ESP32C3-SPI``.
        path: the file.
        like: what it builds on: a series for a chip, a module of the same chip for a module; or ``""``.
        values: ``idf``, ``flash.size``, … as far as the file has them.
        normal: features and options.
        silence: those that are added in silence.
        lines: line of each of ``values``, and of ``like``.
    """

    name: str
    path: Path
    like: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    normal: Statements = field(default_factory=Statements)
    silence: Statements = field(default_factory=Statements)
    lines: Mapping[str, int] = field(default_factory=dict)


_KEYS = ("like", "idf", "flash", "partitions", "features", "options", "silence")
_VALUES = {"flash": ("size", "mode", "freq"), "partitions": ("offset", "primary", "secondary")}


def read_layer(path: Path, name: str, report: Report) -> Layer:
    """Read a layer; problems go to ``report``, and what they concern is left out.

    Args:
        path: the file.
        name: what to call the layer.
        report: is told of every problem; :func:`raise_errors` stops at the first.
    """
    try:
        root = read_yaml(path)
    except InputError as error:
        report(Problem("error", str(path), error.message.removeprefix(f"{path}: "), error.hint))
        return Layer(name, path)
    reader = Reader(path, report)
    reader.check_keys(root, _KEYS)
    values: dict[str, str] = {}
    lines = {key: line for key, line in root.lines.items() if key in ("like", "idf")}
    if idf := reader.text(root, "idf"):
        values["idf"] = idf
    for section, keys in _VALUES.items():
        table = reader.table(root, section)
        reader.check_keys(table, keys)
        for key in keys:
            if text := reader.text(table, key):
                values[f"{section}.{key}"] = text
                lines[f"{section}.{key}"] = table.lines[key]
    silence = reader.table(root, "silence")
    reader.check_keys(silence, ("features", "options"))
    return Layer(
        name,
        path,
        reader.text(root, "like"),
        values,
        _read_statements(reader, root),
        _read_statements(reader, silence),
        lines,
    )


def _read_statements(reader: Reader, table: Table) -> Statements:
    features, options = reader.table(table, "features"), reader.table(table, "options")
    states = {key: None if value.is_null else value.text for key, value in reader.scalars(features)}
    lines = {key.removeprefix("CONFIG_"): line for key, line in options.lines.items()}
    return Statements(states, read_options(reader, options), {**features.lines, **lines})

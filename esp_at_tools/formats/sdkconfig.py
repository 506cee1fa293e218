"""The sdkconfig of ESP-IDF: a resolved one, and an ``sdkconfig.defaults``.

The format is Kconfig's ``.config``, as esp-idf-kconfig 3.14 (``esp_kconfiglib``) reads and writes it:
``CONFIG_NAME=value`` lines, ``# CONFIG_NAME is not set`` for an option that is off, comments. What that
library only warns of, and then leaves out, is an error here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.not_text import not_text

PREFIX = "CONFIG_"
"""What stands before the name of every option."""
OFF = "n"
ON = "y"

_LINE_END = re.compile(r"\r\n|\r|\n")
_NAME = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
_UNSET = re.compile(r"# CONFIG_([A-Za-z0-9_]+) is not set", re.ASCII)
_STRING = re.compile(r'("(?:[^\\"]|\\.)*")\s*(?:#.*)?', re.DOTALL)
_BARE = re.compile(
    r"-?(?:0[xX])?[0-9a-fA-F]+|-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|[yn]|yes|no", re.ASCII
)
_COMMENT = re.compile(r"(?<!\s)\s+#.*", re.DOTALL)
_INTEGER = re.compile(r"(-?)(?:0[xX]([0-9a-fA-F]{1,32})|([0-9]{1,32}))", re.ASCII)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_DEPRECATED_BEGIN = "# Deprecated options for backward compatibility"
_DEPRECATED_END = "# End of deprecated options"
_MAX_SHOWN = 60


@dataclass(frozen=True)
class Sdkconfig:
    """Options and their values.

    Attributes:
        options: name without ``CONFIG_`` → value as the file spells it (``y``, ``n``, ``"text"`` with its
            quotes, ``0x8000``, ``40``), in the order in which the file names them first.
        deprecated: the same for the block of old names that ESP-IDF appends to a resolved sdkconfig. They
            only repeat what ``options`` has: :meth:`get` finds them, :func:`difference` does not list them.
    """

    options: Mapping[str, str]
    deprecated: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_text(cls, text: str, name: str = "sdkconfig") -> Sdkconfig:
        """Read a resolved sdkconfig or an ``sdkconfig.defaults``; of several statements the last counts.

        ``# CONFIG_X is not set``, ``CONFIG_X=n`` and ``CONFIG_X=`` all mean off.

        Args:
            text: the file's text, with any line ends, with or without a byte-order mark.
            name: of the file, for messages.

        Raises:
            FormatError: a line is neither a comment nor an assignment, or its value is none.
        """
        options: dict[str, str] = {}
        deprecated: dict[str, str] = {}
        current = options
        for number, line in enumerate(_LINE_END.split(text.removeprefix("\ufeff")), 1):
            line = line.strip()  # noqa: PLW2901 - the same line, as kconfgen takes it
            if line == _DEPRECATED_BEGIN:
                current = deprecated
            elif line == _DEPRECATED_END:
                current = options
            elif unset := _UNSET.match(line):
                current[unset[1]] = OFF
            elif line and not line.startswith("#"):
                option, value = _assignment(line, f"{name}, line {number}")
                current[option] = value
        return cls(options, deprecated)

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "sdkconfig") -> Sdkconfig:
        """Read a file's bytes: see :meth:`from_text`.

        Raises:
            FormatError: they are no text, not UTF-8, or see there.
        """
        if kind := not_text(data):
            raise FormatError(
                f"{name}: is {kind}, no sdkconfig", "give an sdkconfig, such as that of a build folder"
            )
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise FormatError(f"{name}, line {line}: is not UTF-8", "save the file as UTF-8") from None
        return cls.from_text(text, name)

    def get(self, name: str) -> str | None:
        """Return an option's value as the file spells it; ``None`` if the file does not name it."""
        value = self.options.get(name)
        return self.deprecated.get(name) if value is None else value

    def is_on(self, name: str) -> bool:
        """Tell whether an option is ``y``; one that the file does not name is off."""
        return self.get(name) == ON

    def string(self, name: str, default: str = "") -> str:
        """Return the text of an option, its quotes and escapes undone; a bare value is returned as it is."""
        value = self.get(name)
        return default if value is None else unquoted(value)

    def number(self, name: str) -> int | None:
        """Return the integer that an option holds; ``None`` if it is absent or holds anything else."""
        match = _INTEGER.fullmatch(self.get(name) or "")
        if match is None:
            return None
        sign, hexadecimal, decimal = match.groups()
        value = int(hexadecimal, 16) if hexadecimal else int(decimal)
        return -value if sign else value

    def updated(self, other: Sdkconfig) -> Sdkconfig:
        """Return these options with those of ``other`` over them."""
        return Sdkconfig({**self.options, **other.options}, {**self.deprecated, **other.deprecated})

    def to_text(self) -> str:
        """Return the options as lines of an ``sdkconfig.defaults``, in their order, with line feeds."""
        return "".join(f"{statement(name, value)}\n" for name, value in self.options.items())


def statement(name: str, value: str) -> str:
    """Return the line of an ``sdkconfig.defaults`` that gives an option this value."""
    return f"{PREFIX}{name}={value}"


def quoted(text: str) -> str:
    r"""Return the value that a string option has in the file: in quotes, ``\\`` and ``"`` escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def unquoted(value: str) -> str:
    """Return the text that a value stands for; a value without quotes is its own text."""
    return _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value


def difference(a: Sdkconfig, b: Sdkconfig) -> list[tuple[str, str | None, str | None]]:
    """Return what differs, as (name, value in ``a``, value in ``b``), sorted by name.

    ``None`` stands for an option that the one side does not name at all, which is not the same as one that
    is off. Numbers are compared as they are spelt. An old name counts as named where the other side has
    it in its block of deprecated options.
    """
    return list(_differing(a, b))


def _differing(a: Sdkconfig, b: Sdkconfig) -> Iterator[tuple[str, str | None, str | None]]:
    for name in sorted({**a.options, **b.options}):
        old, new = a.get(name), b.get(name)
        if old != new:
            yield name, old, new


def _assignment(line: str, where: str) -> tuple[str, str]:
    option, equals, value = line.partition("=")
    if not equals or not option.startswith(PREFIX) or not _NAME.fullmatch(option, len(PREFIX)):
        raise FormatError(
            f"{where}: cannot be read: {_shown(line)}",
            "a line is CONFIG_NAME=value, '# CONFIG_NAME is not set', a comment or empty",
        )
    return option[len(PREFIX) :], _value(value, f"{where}: {_shown(option)}")


def _value(text: str, where: str) -> str:
    """Return a value as it is kept; comments behind it are dropped, as esp-idf-kconfig does."""
    if text.startswith('"'):
        string = _STRING.fullmatch(text)
        if string is None:
            raise FormatError(
                f"{where}: its text is not closed, or more follows it: {_shown(text)}",
                'write it as "text" on one line, with \\" for a quotation mark and \\\\ for a backslash',
            )
        return string[1]
    bare = _COMMENT.sub("", text)
    if not bare:
        return OFF
    if not _BARE.fullmatch(bare):
        raise FormatError(
            f"{where}: {_shown(bare)} is no value", 'write y, n, a number or "text" in quotation marks'
        )
    return bare[0] if bare in ("yes", "no") else bare


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")

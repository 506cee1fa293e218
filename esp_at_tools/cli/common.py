"""What every command shares: options, output, JSON, tables."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from esp_at_tools.errors import InputError
from esp_at_tools.numbers import parse_number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

if TYPE_CHECKING:
    _Number = click.ParamType[int]
else:
    _Number = click.ParamType  # before click 8.2 it could not be subscripted

F = TypeVar("F", bound=Callable[..., Any])


_ASCII = str.maketrans({"→": "->", "…": "..."})


def say(text: str, *, err: bool = False) -> None:
    """Print text for people: in it, what came from a firmware or a path must not act on the terminal.

    Characters that are not visible come out escaped, and so do those that the stream cannot encode.
    """
    lines = text.split("\n")
    if not all(line.isascii() and line.isprintable() for line in lines):
        from esp_at_tools.cli.inspect_view import clean

        text = "\n".join(clean(line) for line in lines)
        encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    click.echo(text, err=err)


def wrapped(text: str, stream: IO[str]) -> str:
    """Return text with its lines broken between words, for a terminal that is narrower; else as it is."""
    if not is_terminal(stream):
        return text
    import shutil
    import textwrap

    width = max(shutil.get_terminal_size().columns, _MIN_WIDTH)
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())] + "  "
        lines += [line] if len(line) <= width else textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )  # fmt: skip
    return "\n".join(lines)


_MIN_WIDTH = 40


@dataclass
class Output:
    """How this run talks: filled by the global options, read by the commands."""

    verbose: int = 0
    quiet: bool = False
    json: bool = False

    def note(self, text: str) -> None:
        """Say something on stderr that is not the result; ``--quiet`` silences it."""
        if not self.quiet:
            say(text, err=True)

    def warn(self, text: str) -> None:
        """Say on stderr that something is questionable."""
        say(wrapped(f"warning: {text}", sys.stderr), err=True)

    def result(self, text: str) -> None:
        """Print the result for people on stdout; ``--quiet`` and ``--json`` silence it."""
        if not self.quiet and not self.json:
            say(text)

    def document(self, value: Any) -> None:
        """Print the one JSON document of ``--json`` on stdout."""
        import json

        click.echo(json.dumps(value, indent=2))

    def table(self, table: Table, *, width: int | None = None) -> None:
        """Print a rich table on stdout, without the blanks that fill up its last column."""
        console = self.console(width=width)
        with console.capture() as capture:
            console.print(table)
        click.echo("\n".join(line.rstrip(" ") for line in capture.get().split("\n")), nl=False)

    def console(self, stream: IO[str] | None = None, *, width: int | None = None) -> Console:
        """Return a rich console for a stream; no colour without a terminal or with ``NO_COLOR``."""
        from rich.console import Console

        stream = stream or sys.stdout
        return Console(
            file=stream,
            width=width,
            force_terminal=is_terminal(stream),
            highlight=False,
            emoji=False,
            markup=False,
        )


def current_output() -> Output:
    """Return the output settings of the running command."""
    return click.get_current_context().find_root().ensure_object(Output)


def _set_verbose(_ctx: click.Context, _param: click.Parameter, value: int) -> None:
    current_output().verbose += value


def _set_quiet(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    current_output().quiet |= value


def _set_json(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    current_output().json |= value


def talk_options(command: F) -> F:
    """Add ``-v/--verbose`` and ``-q/--quiet``; every command takes them, and the program itself does."""
    for decorate in (
        click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_set_quiet,
                     help="Print errors and warnings only."),
        click.option("-v", "--verbose", count=True, expose_value=False, callback=_set_verbose,
                     help="Say more, where there is more to say; show where an unexpected error happened."),
    ):  # fmt: skip
        command = decorate(command)
    return command


def json_option(command: F) -> F:
    """Add ``--json``: exactly one JSON document on stdout, everything else on stderr."""
    return click.option(
        "--json", is_flag=True, expose_value=False, callback=_set_json, is_eager=True,
        help="Print one JSON document on stdout.",
    )(command)  # fmt: skip


class NumberType(_Number):
    """A number as 4096, 0x1000, 4K or 4M."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the integer, or fail with a usage error."""
        del ctx
        if isinstance(value, int):
            return value
        return parse_number(str(value), _option(param))


class RangeType(_Number):
    """A whole number of a range, for what is no size or offset.

    Args:
        what: what it is, as in "is no number of processes".
        least: the lowest that is allowed.
        most: the highest.
        example: added to the hint.
    """

    name = "number"

    def __init__(self, what: str, least: int, most: int, example: str = "") -> None:
        """Make the type of an option."""
        self.least, self.most = least, most
        self._what, self._hint = what, f"give {least} to {most}{example}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the integer, or fail with an error that has the range."""
        del ctx
        try:
            number = value if isinstance(value, int) else parse_number(str(value), _option(param))
        except InputError as error:
            raise InputError(error.message, self._hint) from None
        if not self.least <= number <= self.most:
            raise InputError(f"{_option(param)} {value}: is no {self._what}", self._hint)
        return number


def _option(param: click.Parameter | None) -> str:
    """Return an option's long name, or an argument's."""
    if isinstance(param, click.Argument):
        return param.human_readable_name
    return max(param.opts, key=len) if param else "number"


NUMBER = NumberType()
JOBS = RangeType("number of processes", 1, 256)
BAUD = RangeType("rate of a serial port", 80, 5_000_000, ", such as 115200 or 921600")


class _PathType(click.Path):
    """A path that is not empty: an unset variable of a script must not mean the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail with a usage error."""
        if value == "":
            self.fail("the path is empty", param, ctx)
        path = super().convert(value, param, ctx)
        if ctx is not None and isinstance(value, str) and value.endswith(("/", os.sep)):
            ctx.meta.setdefault(_FOLDERS, set()).add(path)
        return path


_FOLDERS = "esp_at_tools.folders"


def given_as_folder(path: Path) -> bool:
    """Tell whether a path was given with a slash at its end, which it has lost as a ``Path``."""
    return path in click.get_current_context().meta.get(_FOLDERS, ())


PATH = _PathType(path_type=Path, readable=False)
"""A path; the command itself opens it, so that there is one wording for a missing file."""


def input_file(path: Path, *, replaced: bool = False) -> Path:
    """Return the file or folder that an INPUT is: a path, a release ``NAME@VERSION``, or ``port:PORT``.

    A release is downloaded if it is not in the cache, and the flash of the module on a port is read; a
    path that exists is always that path.

    Args:
        path: as given.
        replaced: it is to be changed in place, which neither of the two is.

    Raises:
        InputError: there is no such release, or it cannot be had.
        DeviceError: the module on the port cannot be read.
    """
    is_port = path.parts[:1] and path.parts[0].startswith("port:")
    if os.path.lexists(path):
        return path
    if not is_port and "@" not in path.name:
        if len(path.parts) == 2:  # PLATFORM/MODULE
            _refuse_module_name(path)
        return path
    if is_port:
        from esp_at_tools.cli.device_input import port_input

        return port_input(path, current_output(), replaced=replaced)
    from esp_at_tools.cli.download import release_input

    return release_input(path, current_output(), replaced=replaced)


TABLE_HELP = "Where the partition table is.  [default: 0x8000]"


def _refuse_module_name(path: Path) -> None:
    """Raise for what is no path and the name of a module."""
    from esp_at_tools.catalog.release_lookup import find_release

    try:
        found = find_release(path.as_posix(), "latest")
    except InputError:
        return
    raise InputError(
        f"{path}: no such file", f"for the official release of that module, write {found.full_name}@latest"
    )


def input_options(command: F) -> F:
    """Add what tells about an INPUT that does not tell by itself: its chip, and where things are."""
    for decorate in (
        click.option("--parameter-offset", "-os", type=NUMBER, metavar="N",
                     help="Where the parameters are, if the tables do not tell."),
        click.option("--partition-table-offset", type=NUMBER, metavar="N",
                     help=TABLE_HELP),
        click.option("--module", "-m", default="", metavar="NAME",
                     help="The module, for a partition alone: ESP32C3/MINI-1."),
        click.option("--chip", default="", metavar="CHIP",
                     help="The chip, for a partition alone: esp32c3, esp8266, …"),
    ):  # fmt: skip
        command = decorate(command)
    return command


MODULE_DIR = "ESP_AT_MODULE_DIR"
"""The environment variable that names a folder of the user's own module definitions."""


def module_dir_option(command: F) -> F:
    """Add ``--dir``, a folder of the user's own module definitions, as the parameter ``folder``."""
    return click.option(
        "--dir",
        "folder",
        type=PATH,
        metavar="DIR",
        envvar=MODULE_DIR,
        help="A folder of your own definitions, which adds to those that come with the program."
        f"  [environment: {MODULE_DIR}]",
    )(command)


def is_terminal(stream: IO[str]) -> bool:
    """Tell whether a stream is a terminal that a person watches."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def chip_name(chip: str, module: str, folder: Path | None = None) -> str:
    """Return the official name of the chip that ``--chip`` or ``--module`` names, ``""`` for neither.

    Args:
        chip: a chip.
        module: ``PLATFORM/MODULE``; with a folder also the name alone.
        folder: the user's own folder of definitions, which is looked into for a name alone.
    """
    by_chip = _named_chip("--chip", chip) if chip else ""
    by_module = _chip_of_module(module, folder) if module else ""
    if by_chip and by_module and by_chip != by_module:
        raise InputError(f"--chip {chip} and --module {module} name different chips", "give one of them")
    return by_chip or by_module


def _chip_of_module(module: str, folder: Path | None) -> str:
    platform, slash, name = module.partition("/")
    if slash and platform and name:
        return _named_chip("--module", platform)
    if slash or folder is None:
        raise InputError(f"--module {module}: is not PLATFORM/MODULE", "write it as ESP32C3/MINI-1")
    from esp_at_tools.catalog import modules

    return modules.module(module, folder=folder).chip.name


def _named_chip(option: str, name: str) -> str:
    from esp_at_tools.catalog.chips import chip

    try:
        return chip(name).name
    except InputError as error:
        raise InputError(f"{option}: {error.message}", error.hint) from error

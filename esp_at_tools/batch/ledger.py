"""The ledger of a folder of images: which module got which. ``flash --each`` writes it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from esp_at_tools.errors import FormatError

State = Literal["given", "done", "failed", "returned"]


@dataclass(frozen=True)
class Line:
    """One line of the ledger.

    Attributes:
        mac: the module.
        file: the image.
        state: ``given`` before writing begins, then ``done`` or ``failed``; ``returned`` where nothing
            of it was written.
        sha256: of the image.
        port: where the module was.
        time: when, in UTC.
    """

    mac: str
    file: str
    state: State
    sha256: str
    port: str
    time: str


def read_lines(path: Path, data: bytes) -> list[Line]:
    """Read a ledger's contents; a last line that was cut off is left out, for nothing was done after it.

    Raises:
        FormatError: a line is none of a ledger.
    """
    whole = data[: data.rfind(b"\n") + 1]
    return [_line(path, number, line) for number, line in enumerate(whole.splitlines(), start=1)]


def _line(path: Path, number: int, text: bytes) -> Line:
    try:
        line = Line(**json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, number) from error
    if not all(isinstance(value, str) for value in vars(line).values()):
        raise _damaged(path, number)
    return line


def _damaged(path: Path, number: int) -> FormatError:
    message = f"{path}: line {number} is no line of a ledger"
    return FormatError(message, "restore the file, or remove that line")


def given(lines: Iterable[Line]) -> dict[str, Line]:
    """Return file → its last line, for the images that belong to a module."""
    last = {line.file: line for line in lines}
    return {file: line for file, line in last.items() if line.state != "returned"}

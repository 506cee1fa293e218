"""Scripts for a module: what is sent, and what must come back.

One step a line; empty lines, and those that begin with ``#``, count for nothing.

========================  ======================================================================
``send AT+GMR``           send this and a line end
``expect OK``             wait for a line that is this, or for the prompt ``>``
``expect /v[45][.]/``     wait for a line in which this regular expression is found
``timeout 10``            how many seconds each ``expect`` waits from here on; 5 at first
``hex 00 FF``             send these bytes
``file certs/ca.pem``     send the bytes of a file, whose path is relative to the script
``wait 0.5``              do nothing for so many seconds
========================  ======================================================================
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.at_port.reply import Parser
from esp_at_tools.at_port.wire import Wire
from esp_at_tools.errors import CheckFailedError, InputError
from esp_at_tools.files import read_file

MAX_SCRIPT = 1 << 20
"""Largest script, in bytes."""
DEFAULT_TIMEOUT = 5.0
MAX_SECONDS = 3600.0


@dataclass(frozen=True)
class Step:
    """One line of a script.

    Attributes:
        line: its number.
        verb: ``send``, ``expect``, ….
        text: what stands after the verb.
        data: what is sent.
        pattern: what is expected.
        seconds: of a ``timeout`` or ``wait``.
    """

    line: int
    verb: str
    text: str
    data: bytes = b""
    pattern: re.Pattern[str] | None = None
    seconds: float = 0.0


def _send(text: str, _folder: Path) -> dict[str, object]:
    return {"data": f"{text}\r\n".encode()}


def _expect(text: str, _folder: Path) -> dict[str, object]:
    if not text:
        raise InputError("nothing is expected", "write the line, or /a regular expression/")
    if len(text) > 1 and text[0] == text[-1] == "/":
        try:
            return {"pattern": re.compile(text[1:-1])}
        except re.error as error:
            raise InputError(f"{text} is no regular expression: {error}", "see Python's re") from error
    return {"pattern": re.compile(rf"\A{re.escape(text)}\Z")}


def _seconds(text: str, _folder: Path) -> dict[str, object]:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_SECONDS:
        raise InputError(f"{text!r} is no number of seconds", "0 to 3600, e.g. 0.5")
    return {"seconds": seconds}


def _hex(text: str, _folder: Path) -> dict[str, object]:
    try:
        return {"data": bytes.fromhex(text)}
    except ValueError as error:
        raise InputError(f"{text!r} is not hexadecimal", "write two digits a byte: 00 FF") from error


def _file(text: str, folder: Path) -> dict[str, object]:
    if not text:
        raise InputError("no file is named", "write its path, relative to the script")
    return {"data": read_file(folder / text)}


_VERBS: dict[str, Callable[[str, Path], dict[str, object]]] = {
    "send": _send, "expect": _expect, "timeout": _seconds, "wait": _seconds, "hex": _hex, "file": _file,
}  # fmt: skip


def load_script(path: Path) -> tuple[Step, ...]:
    """Read a script.

    Raises:
        InputError: it cannot be read, a line is wrong, or a file that it names is missing; the message
            has the line.
    """
    try:
        text = read_file(path, "script", MAX_SCRIPT).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a text file in UTF-8", "save it as UTF-8") from error
    steps = []
    for number, line in enumerate(text.splitlines(), start=1):
        verb, _, rest = line.strip().partition(" ")
        if not verb or verb.startswith("#"):
            continue
        if verb not in _VERBS:
            raise InputError(
                f"{path}: line {number}: {verb[:40]!r} is no step", f"the steps are {', '.join(_VERBS)}"
            )
        try:
            steps.append(Step(number, verb, rest.strip(), **_VERBS[verb](rest.strip(), path.parent)))  # type: ignore[arg-type]
        except InputError as error:
            raise InputError(f"{path}: line {number}: {error.message}", error.hint) from error
    if not steps:
        raise InputError(f"{path}: holds no step", f"the steps are {', '.join(_VERBS)}")
    return tuple(steps)


def run_script(wire: Wire, steps: tuple[Step, ...], said: Callable[[str], None]) -> None:
    """Run a script.

    Args:
        wire: the open port.
        steps: the script.
        said: told of every line that the module says.

    Raises:
        CheckFailedError: what is expected does not come in time; the message has the line of the script.
        DeviceError: the port fails.
    """
    run = _Run(wire, said)
    for step in steps:
        if step.verb == "timeout":
            run.timeout = step.seconds
        elif step.verb == "wait":
            run.wait(step.seconds)
        elif step.verb == "expect":
            run.expect(step)
        else:
            wire.write(step.data)


class _Run:
    def __init__(self, wire: Wire, said: Callable[[str], None]) -> None:
        self.timeout = DEFAULT_TIMEOUT
        self._wire, self._said = wire, said
        self._parser = Parser()
        self._lines: list[str] = []
        """Lines that no step has looked at."""

    def _take(self, seconds: float) -> None:
        for event in self._parser.feed(self._wire.read(seconds)):
            text = event.text + (f"<{len(event.data)} bytes>" if event.kind == "data" else "")
            self._lines.append(text)
            if text:
                self._said(text)

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._take(left)

    def expect(self, step: Step) -> None:
        assert step.pattern is not None  # noqa: S101 - every such step has one
        end = time.monotonic() + self.timeout
        seen: list[str] = []
        while True:
            while self._lines:
                line = self._lines.pop(0)
                if step.pattern.search(line):
                    return
                seen.append(line)
            if step.pattern.search(self._parser.rest.decode("latin-1")):  # a prompt has no line end
                self._parser.clear()
                return
            left = end - time.monotonic()
            if left <= 0:
                heard = " / ".join(line for line in seen if line)[-200:] or "nothing"
                raise CheckFailedError(
                    f"line {step.line}: {step.text} did not come in {self.timeout:g} s, but {heard}",
                    "check the script against what the module says (-v shows it)",
                )
            self._take(min(left, 0.5))

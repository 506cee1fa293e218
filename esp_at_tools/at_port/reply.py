"""What a module says on its AT port, taken apart byte by byte.

A reply is lines that end in CR LF, closed by ``OK`` or ``ERROR``. Three kinds of line carry data of an
announced length, in which line ends mean nothing. Before, inside and after a reply there may be system
messages. Source: "Basic AT Commands" in the ESP-AT user guide v5.0, and recordings of firmware v2.2 to v2.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

MAX_LINE = 1 << 16
"""Longest line in bytes; no reply has one nearly as long, but noise may."""

_DATA = re.compile(
    rb"\+SYSFLASH:(?P<flash>[0-9]{1,8}),"
    rb'|\+SYSMFG:"[^"\r\n]*","[^"\r\n]*",[78],(?P<mfg>[0-9]{1,8}),'
    rb'|\+IPD,(?:[0-9],)?(?P<ipd>[0-9]{1,8})(?:,"[^"\r\n]*",[0-9]{1,5})?:'
)
"""The beginnings of lines that carry data, with its length."""
LINE_END = b"\r\n"
"""What follows data."""
_CLOSING = {b"OK": True, b"SEND OK": True, b"ERROR": False, b"SEND FAIL": False}
_CODE = re.compile(rb"ERR CODE:0x([0-9a-fA-F]{1,8})")

Kind = Literal["line", "data", "prompt", "closing", "code", "busy", "ready"]


@dataclass(frozen=True)
class Event:
    """One thing that a module has said.

    Attributes:
        kind: ``line``: any line, without its end; ``data``: a line that carries data; ``prompt``: it
            waits for data; ``closing``: the end of a reply; ``code``: the error code before ``ERROR``;
            ``busy``: it has dropped a command since another is running; ``ready``: it has restarted.
        text: the line, or what stands before the data.
        data: the data.
        ok: whether the reply is closed by ``OK``, or data by a line end; without that, bytes of the data
            are lost or too many.
        code: the error code.
    """

    kind: Kind
    text: str = ""
    data: bytes = b""
    ok: bool = False
    code: int = 0


class Parser:
    """Takes bytes as they arrive and gives what they say."""

    def __init__(self) -> None:
        """Begin at the start of a line."""
        self._buffer = b""

    @property
    def rest(self) -> bytes:
        """What has arrived and says nothing yet."""
        return self._buffer

    def clear(self) -> None:
        """Forget what has arrived."""
        self._buffer = b""

    def feed(self, data: bytes, *, prompt: bool = False) -> Iterator[Event]:
        """Yield what is complete, after some more bytes.

        Args:
            data: the bytes.
            prompt: whether ``>`` at the start of a line is a prompt, which has no line end.
        """
        self._buffer += data
        while self._buffer:
            event = self._next(prompt=prompt)
            if event is None:
                break
            yield event

    def _next(self, *, prompt: bool) -> Event | None:
        if prompt and self._buffer.startswith(b">"):
            self._buffer = self._buffer[1:]
            return Event("prompt")
        match = _DATA.match(self._buffer)
        if match is not None:
            return self._data(match)
        line, end_of_line, rest = self._buffer.partition(b"\n")
        if not end_of_line:
            if len(line) > MAX_LINE:
                self._buffer = b""
            return None
        self._buffer = rest
        return _event(line.rstrip(b"\r"))

    def _data(self, match: re.Match[bytes]) -> Event | None:
        size = int(match["flash"] or match["mfg"] or match["ipd"])
        end = match.end() + size
        follows = b"" if match["ipd"] else LINE_END
        if len(self._buffer) < end + len(follows):
            return None
        value, rest = self._buffer[match.end() : end], self._buffer[end:]
        whole = rest.startswith(follows)
        self._buffer = rest[len(follows) :] if whole else rest
        return Event("data", match[0].decode("latin-1"), value, ok=whole)


def _event(line: bytes) -> Event:
    if line in _CLOSING:
        return Event("closing", line.decode(), ok=_CLOSING[line])
    if line in (b"busy p...", b"busy s..."):
        return Event("busy", line.decode())
    if line == b"ready":
        return Event("ready", "ready")
    match = _CODE.fullmatch(line)
    if match is not None:
        return Event("code", line.decode(), code=int(match[1], 16))
    return Event("line", line.decode("latin-1"))

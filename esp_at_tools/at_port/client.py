"""Commands and their replies."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from esp_at_tools.at_port.reply import Event, Parser
from esp_at_tools.at_port.wire import Wire
from esp_at_tools.errors import DeviceError

_Answer = TypeVar("_Answer")

TIMEOUT = 5.0
"""Seconds after which a command that writes nothing has been answered by any firmware."""
PRESENT_TIMEOUT = 0.5
"""Seconds after which ``AT`` has been answered by a module that hears it."""
LATE_TIMEOUT = 1.0
"""Seconds of silence after which no reply comes any more that was not there in time."""
FLASH_TIMEOUT = 30.0
"""Seconds for one that erases or writes flash."""
RESTART_TIMEOUT = 15.0
"""Seconds after which every module has started, or never will."""
READY_TIMEOUT = 3.0
"""Seconds from AT+RST to ``ready`` of most modules."""
BUSY_TIMEOUT = 30.0
"""Seconds within which a command that is under way ends; joining a Wi-Fi network takes up to 15."""
BUSY_RETRIES = 5
"""How often a command that found the module busy is sent again."""
READ_ATTEMPTS = 3
"""How often something is asked whose answer cannot be read."""
LONGEST_REPLY = 1 << 14
"""Bytes of the longest reply, with the system messages in it; a port that says more is no AT port."""


class AtError(DeviceError):
    """The module answered ``ERROR``.

    Attributes:
        command: the command.
        code: the error code of AT+SYSLOG=1, 0 without.
    """

    def __init__(self, port: str, command: str, code: int = 0) -> None:
        """Say which command it was."""
        said = f"ERROR (code {code:#010x})" if code else "ERROR"
        super().__init__(
            f"{port}: the module answers {said} to {command}",
            "its firmware does not know the command, or not with these values",
        )
        self.command, self.code = command, code


class NoReplyError(DeviceError):
    """The module did not answer in time."""


class GarbledError(DeviceError):
    """A reply that cannot be read: bytes are lost or changed on the way."""

    def __init__(self, port: str, what: str) -> None:
        """Say what it is about."""
        super().__init__(
            f"{port}: the reply about {what} cannot be read",
            "bytes are lost or changed on the way: a lower rate, or flow control (--flow), may help",
        )


class RestartedError(DeviceError):
    """The module restarted while a command was under way."""


@dataclass
class Reply:
    """What a module said to a command.

    Attributes:
        lines: the lines of the reply, without echo and empty ones; system messages may be among them.
        values: the lines that carry data: what stands before it, and the data.
        whole: whether the data ended where it was to end.
    """

    lines: list[str] = field(default_factory=list)
    values: list[tuple[str, bytes]] = field(default_factory=list)
    whole: bool = True

    def of(self, name: str) -> list[str]:
        """Return the lines ``+NAME:…`` of a reply without that beginning."""
        head = f"+{name}:"
        return [line[len(head) :] for line in self.lines if line.startswith(head)]


def repeated(ask: Callable[[], _Answer]) -> _Answer:
    """Ask again, as long as it is worth it, while the answer cannot be read or does not come.

    Args:
        ask: asks for something, and changes nothing.
    """
    for _ in range(READ_ATTEMPTS - 1):
        with contextlib.suppress(GarbledError, NoReplyError):
            return ask()
    return ask()


class AtClient:
    """A module on an open port.

    Args:
        wire: the port.
    """

    def __init__(self, wire: Wire) -> None:
        """Nothing is sent yet."""
        self.wire = wire
        self.port = wire.port
        self._parser = Parser()
        self._awaits_prompt = False
        self._owed = 0  # replies that did not come in time, and may come yet

    def command(self, text: str, data: bytes | None = None, *, timeout: float | None = None) -> Reply:
        """Send a command, give it the data that it asks for, and return its reply.

        A command that comes while another is running is dropped by the module (``busy p...``); it is
        sent again when the other has ended.

        Args:
            text: the command, without its line end.
            data: what it asks for with ``>``; None if it asks for nothing.
            timeout: seconds for each of its steps, as long as such a command takes without.

        Raises:
            AtError: the module answers ``ERROR``.
            NoReplyError: it does not answer in time.
            RestartedError: it restarts.
        """
        for _ in range(BUSY_RETRIES):
            reply = self._attempt(text, data, TIMEOUT if timeout is None else timeout)
            if reply is not None:
                return reply
            time.sleep(0.05)
        raise DeviceError(
            f"{self.port}: the module is still busy with another command",
            "wait until it has ended, or restart the module",
        )

    def _attempt(self, text: str, data: bytes | None, timeout: float) -> Reply | None:
        """Send a command once; None if it was dropped."""
        if self._owed and text != "AT":
            self._take_late_replies()
        self._clear()
        self.wire.write(f"{text}\r\n".encode("latin-1"))
        try:
            return self._reply(text, data, timeout)
        except NoReplyError:
            self._owed += 1
            raise
        except RestartedError:
            self._owed = 0
            raise

    def _reply(self, text: str, data: bytes | None, timeout: float) -> Reply | None:
        reply, code, busy = Reply(), 0, False
        self._awaits_prompt = data is not None
        for event in self._events(text, timeout):
            if event.kind == "prompt" and data is not None:
                self._awaits_prompt = False
                self.wire.write(data)
            elif event.kind == "busy":
                busy = True
            elif event.kind == "code":
                code = event.code
            elif event.kind == "ready":
                raise RestartedError(f"{self.port}: the module restarted while it did {text}", "run it again")
            elif event.kind == "data":
                reply.values.append((event.text, event.data))
                reply.whole = reply.whole and event.ok
            elif event.kind == "closing":
                if busy:
                    return None
                if not event.ok:
                    raise AtError(self.port, text, code)
                return reply
            elif event.text and event.text != text:
                reply.lines.append(event.text)
        raise AssertionError  # the events end with an error

    def _clear(self) -> None:
        """Take what stands on the line from before: system messages, late replies."""
        for event in self._parser.feed(self.wire.drain(0, 0.2)):
            self._owed -= event.kind == "closing" and self._owed > 0
        self._parser.clear()

    def _take_late_replies(self) -> None:
        """Take the replies of commands that were given up, lest they pass for those of the next ones."""
        end = time.monotonic() + TIMEOUT
        while self._owed and time.monotonic() < end and (late := self.wire.read(LATE_TIMEOUT)):
            self._owed -= sum(event.kind == "closing" for event in self._parser.feed(late))
        self._owed = 0

    def _events(self, text: str, timeout: float) -> Iterator[Event]:
        """Yield what arrives until the time is over.

        Raises:
            NoReplyError: then. There is time anew after each piece that arrives, for the longest reply at
                this rate; and for the command under way, where the module is busy with one.
        """
        end = time.monotonic() + timeout
        last = end + LONGEST_REPLY * 10 / self.wire.baud
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise NoReplyError(
                    f"{self.port}: no answer to {text} within {timeout:g} s",
                    "check wiring and supply, and that nothing else uses the port",
                )
            data = self.wire.read(min(left, 0.5))
            if data:
                end = min(time.monotonic() + timeout, last)
            for event in self._parser.feed(data, prompt=self._awaits_prompt):
                if event.kind == "busy":
                    end = last = time.monotonic() + BUSY_TIMEOUT
                yield event

    def is_there(self) -> bool:
        """Tell whether the module answers ``AT``."""
        try:
            self._attempt("AT", None, PRESENT_TIMEOUT)
        except AtError:  # what was on the line before made it another command
            return True
        except (NoReplyError, RestartedError):
            return False
        return True

    def restart(self, rate: int = 0) -> None:
        """Restart the module with AT+RST and wait until it answers again.

        Args:
            rate: the rate that it should have then, 0 for the same.

        Raises:
            NoReplyError: it does not come back, neither at that rate nor at the present one.
        """
        rates = tuple(dict.fromkeys((rate or self.wire.baud, self.wire.baud)))
        self.command("AT+RST")
        self.wire.baud = rates[0]
        with contextlib.suppress(NoReplyError):
            self.wait_ready(READY_TIMEOUT)
            return
        end = time.monotonic() + RESTART_TIMEOUT
        while time.monotonic() < end:
            for each in rates:
                self.wire.baud = each
                if self.is_there():
                    return
        raise NoReplyError(
            f"{self.port}: the module does not answer after its restart",
            "it may have another rate (-b) or other pins now",
        )

    def wait_ready(self, timeout: float) -> None:
        """Wait until the module says ``ready``.

        Raises:
            NoReplyError: it does not within ``timeout`` seconds.
        """
        self._awaits_prompt = False
        for event in self._events("AT+RST", timeout):
            if event.kind == "ready":
                return

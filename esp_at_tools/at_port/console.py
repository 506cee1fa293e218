"""Talking to a module by hand: lines go out, and what the module says appears as it comes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from esp_at_tools.at_port.wire import Wire
from esp_at_tools.catalog.data import data_folder, read_table
from esp_at_tools.errors import DeviceError, InputError
from esp_at_tools.files import read_file

HELP = """\
A line is sent to the module with its line end. Lines that begin with a colon are for the console:
  :hex 00 FF       send bytes
  :file PATH       send the bytes of a file, as after the prompt of AT+SYSMFG or AT+SYSFLASH
  :help            this text
  :quit            leave, as Ctrl-D does"""


def known_commands() -> tuple[str, ...]:
    """Return the AT commands that the user guide describes, from ``module_config/at_commands.csv``."""
    return tuple(row[0] for _, row in read_table(data_folder() / "at_commands.csv", ("command", "source")))


def visible(data: bytes) -> str:
    """Return bytes as text in which those that cannot be seen stand in hex; line ends stay line ends."""
    text = data.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return "".join(char if char == "\n" or char.isprintable() else f"\\x{ord(char):02x}" for char in text)


class Log:
    """A file that everything on the line is written to, with time and direction.

    Args:
        stream: the open file; None to keep no log.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Begin now."""
        self._stream, self._start = stream, time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, way: str, data: bytes) -> None:
        """Write a line for what went that way."""
        if self._stream is None:
            return
        text = data.decode("utf-8", "backslashreplace").replace("\\", "\\\\")
        shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
        with self._lock:
            self._stream.write(f"{time.monotonic() - self._start:10.3f} {way} {shown}\n")
            self._stream.flush()


def payload(line: str) -> bytes | None:
    """Return what a line of the user sends; None where it asks for the help.

    Raises:
        InputError: it is no such line.
        EOFError: it leaves the console.
    """
    if not line.startswith(":"):
        return f"{line}\r\n".encode("utf-8", "surrogateescape")
    verb, _, rest = line.partition(" ")
    if verb in (":quit", ":q"):
        raise EOFError
    if verb == ":help":
        return None
    if verb == ":hex":
        try:
            return bytes.fromhex(rest)
        except ValueError as error:
            raise InputError(f":hex {rest}: is not hexadecimal", "write two digits a byte: 00 FF") from error
    if verb == ":file":
        return read_file(Path(rest.strip()).expanduser())
    raise InputError(f"{verb[:40]}: is no word of the console", "the words are :hex, :file, :help and :quit")


class Listener:
    """Prints what the module says, in a thread of its own.

    Args:
        wire: the open port.
        show: called with text as it comes.
        gone: called once when the port fails.
    """

    def __init__(self, wire: Wire, show: Callable[[str], None], gone: Callable[[], None]) -> None:
        """Nothing is read before the context begins."""
        self._wire, self._show, self._gone = wire, show, gone
        self._ended = threading.Event()
        self.last = time.monotonic()
        self.error: DeviceError | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Listener:  # noqa: PYI034 - Self is not in Python 3.10
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._ended.set()
        self._thread.join(timeout=2)

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                data = self._wire.read(0.1)
            except DeviceError as error:
                self.error = error
                self._gone()
                return
            if data:
                self.last = time.monotonic()
                self._show(visible(data))

    def wait_for_answer(self, limit: float, quiet: float = 0.3) -> None:
        """Wait until something has come and then nothing for ``quiet`` seconds, at most ``limit`` seconds."""
        start = time.monotonic()
        while self.error is None:
            now = time.monotonic()
            if now - start > limit or (self.last > start and now - self.last > quiet):
                return
            time.sleep(0.02)


@contextlib.contextmanager
def line_editing(words: Sequence[str], history: Path) -> Iterator[None]:
    """Give ``input()`` a history that lasts and completion of AT commands, where readline is there."""
    try:
        import readline
    except ImportError:  # Windows
        yield
        return
    readline.set_completer_delims("")
    readline.set_completer(lambda text, state: _completion(words, text, state))
    readline.parse_and_bind("tab: complete")
    with contextlib.suppress(OSError):
        readline.read_history_file(history)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            history.parent.mkdir(parents=True, exist_ok=True)
            readline.set_history_length(1000)
            history.touch(mode=0o600)  # passwords are typed here
            readline.write_history_file(history)


def _completion(words: Sequence[str], text: str, state: int) -> str | None:
    found = [word for word in words if word.startswith(text.upper())]
    return found[state] if state < len(found) else None

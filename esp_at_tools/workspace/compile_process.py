"""Running idf.py and its like: without a shell, each line passed on as it comes, all of them kept in a log.

A program gets a session of its own, so that an interruption ends it with everything that it has started:
ninja, and a compiler for each processor.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from esp_at_tools.errors import ExternalToolError, InputError

_PATIENCE = 5.0
"""Seconds that a program has to end by itself when it is interrupted."""
_MAX_KEPT = 20_000
"""Lines of output that are kept for the report of an error."""
_MAX_LINE = 1 << 16


@dataclass(frozen=True)
class Ended:
    """What a run came to.

    Attributes:
        status: its exit status; negative for a signal.
        lines: what it printed, the last lines of it.
    """

    status: int
    lines: tuple[str, ...]


def run_followed(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    line: Callable[[str], None],
    log: Path | None = None,
    hide: Callable[[str], str] = str,
) -> Ended:
    """Run a program and give each line that it prints to ``line`` as it comes.

    Args:
        command: program and arguments.
        cwd: where it runs.
        environment: all of its variables.
        line: gets each line, without its end; a line that is written over another counts as one too.
        log: a file that gets all of its output, and is replaced; None for none.
        hide: takes secrets out of a line before anybody sees it.

    Raises:
        ExternalToolError: it cannot be started.
        InputError: the log cannot be written.
        KeyboardInterrupt: the user interrupted; the program and what it started have ended.
    """
    with _opened(log) as stream:
        process = _started(command, cwd, environment)
        kept: deque[str] = deque(maxlen=_MAX_KEPT)
        with _ended_with_us(process):
            for said in _lines(process.stdout):
                text = hide(said)
                if stream is not None:
                    stream.write(f"{text}\n".encode("utf-8", "replace"))
                    stream.flush()
                kept.append(text)
                line(text)
            process.wait()
    return Ended(process.returncode, tuple(kept))


@contextlib.contextmanager
def _opened(log: Path | None) -> Iterator[IO[bytes] | None]:
    if log is None:
        yield None
        return
    try:
        stream = log.open("wb")
    except OSError as error:
        raise InputError(f"{log}: cannot be written: {error.strerror}", "check the folder") from error
    with stream:
        yield stream


def _started(command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - a program of the ESP-IDF that is built with
            list(command),
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ExternalToolError(
            f"{command[0]}: cannot be started: {reason}", "'esp-at-tool install' installs what is missing"
        ) from error


def _lines(stream: IO[bytes] | None) -> Iterator[str]:
    pending = b""
    while stream is not None and (chunk := os.read(stream.fileno(), 1 << 16)):
        *whole, pending = (pending + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if len(pending) > _MAX_LINE:
            whole, pending = [*whole, pending], b""
        for each in whole:
            yield each.decode("utf-8", "replace")
    if pending:
        yield pending.decode("utf-8", "replace")


@contextlib.contextmanager
def _ended_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a program and its descendants when the block is left by an error or a signal."""
    with contextlib.ExitStack() as always, contextlib.ExitStack() as on_error:
        if process.stdout is not None:
            always.callback(process.stdout.close)
        on_error.callback(_end, process)
        with terminable():
            yield
        on_error.pop_all()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program, ever less gently, and what it has left behind."""
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        _signal(process, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
            break
    _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))  # what the program left behind


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, number)
        else:  # pragma: no cover - Windows
            process.terminate()


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt as Ctrl-C does: else what runs in its own session would go on."""
    if threading.current_thread() is not threading.main_thread() or os.name != "posix":
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}

    def interrupt(number: int, frame: object) -> None:
        del number, frame
        raise KeyboardInterrupt

    for number in numbers:
        if before[number] == signal.SIG_DFL:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)

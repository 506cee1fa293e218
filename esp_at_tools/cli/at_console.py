"""``at console``: the user's side of it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from esp_at_tools.at_port.client import AtClient
from esp_at_tools.at_port.console import HELP, Listener, Log, known_commands, line_editing, payload
from esp_at_tools.at_port.info import read_commands
from esp_at_tools.at_port.recovery import state_folder
from esp_at_tools.cli.common import Output, say
from esp_at_tools.errors import InputError


def talk_by_hand(talk: Output, client: AtClient, log_path: Path | None) -> None:
    """Send what the user types, or what stdin holds, and show what comes until there is no more."""
    by_hand = sys.stdin.isatty()
    words = sorted({*known_commands(), *(read_commands(client) if by_hand else ())})
    with contextlib.ExitStack() as stack:
        stream = None
        if log_path is not None:
            stream = stack.enter_context(_log_stream(log_path))
        client.wire.trace = Log(stream)
        if by_hand:
            talk.note(f"{client.port} at {client.wire.baud} baud; :help for help, Ctrl-D to leave")
            stack.enter_context(line_editing(words, state_folder() / "history"))
        gone = _end_of_input(threading.get_ident()) if by_hand else _nothing
        listener = stack.enter_context(Listener(client.wire, _show, gone))
        while listener.error is None:
            try:
                line = input()
            except (EOFError, KeyboardInterrupt):
                break
            try:
                data = payload(line)
            except EOFError:
                break
            except InputError as error:
                if not by_hand:
                    raise
                say(f"error: {error.message}\n  {error.hint}", err=True)
                continue
            if data is None:
                talk.result(HELP)
                continue
            client.wire.write(data)
            if not by_hand:
                listener.wait_for_answer(5.0)
        listener.wait_for_answer(0.3)
    if listener.error is not None:
        raise listener.error


def _end_of_input(thread: int) -> Callable[[], None]:
    """Return what ends a thread's waiting for a line of the user, where the system can do that."""
    if not hasattr(signal, "pthread_kill"):  # Windows
        return _nothing
    return lambda: signal.pthread_kill(thread, signal.SIGINT)


def _nothing() -> None:
    pass


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _log_stream(path: Path) -> TextIO:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}", "give another --log") from error
    return os.fdopen(descriptor, "a", encoding="utf-8")

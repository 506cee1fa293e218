"""What a board of :mod:`rom_simulator` is plugged into: a pseudo-terminal, or a TCP port."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from typing import Protocol


class PortGoneError(Exception):
    """The board is unplugged."""


class Loader(Protocol):
    """What is on a port: bytes in, bytes out."""

    baud: int

    def receive(self, data: bytes) -> bytes: ...


class PtyBoard:
    """A loader at the other end of a pseudo-terminal; ``port`` is what to open.

    Use it as a context manager. Not on Windows, which has no pseudo-terminals.

    Args:
        loader: the loader.
        timed: every byte takes as long as at the rate that the loader is set to: ten bits.
    """

    def __init__(self, loader: Loader, *, timed: bool = False) -> None:
        import pty
        import tty

        self.loader, self._open, self._timed = loader, True, timed
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> PtyBoard:  # noqa: PYI034 - Self is not in Python 3.10
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._waker, b".")
        self._thread.join()
        self._hang_up()
        os.close(self._wake)
        os.close(self._waker)

    def _hang_up(self) -> None:
        if self._open:
            self._open = False
            os.close(self._slave)
            os.close(self._master)

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._master, self._wake], [], [])
            if self._wake in ready:
                return
            data = os.read(self._master, 1 << 16)
            self._take_time(data)
            try:
                answer = self.loader.receive(data)
            except PortGoneError:
                self._hang_up()
                return
            self._take_time(answer)
            while answer:
                answer = answer[os.write(self._master, answer) :]

    def _take_time(self, data: bytes) -> None:
        if self._timed:
            time.sleep(len(data) * 10 / self.loader.baud)


class SocketBoard:
    """A loader behind a TCP port, for esptool's ``socket://HOST:PORT``; one connection at a time."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._stopping = False

    def __enter__(self) -> SocketBoard:  # noqa: PYI034 - as above
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname(), timeout=1).close()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._stopping:
            connection, _ = self._listener.accept()
            with connection, contextlib.suppress(OSError, PortGoneError):
                while data := connection.recv(1 << 16):
                    connection.sendall(self.loader.receive(data))

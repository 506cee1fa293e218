"""Bytes to and from a serial port, with every failure as an error that names the port."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from esp_at_tools.device.port_errors import explained_system
from esp_at_tools.errors import DeviceError

CHUNK = 1024
"""Most bytes that are handed to the system at once."""

Trace = Callable[[str, bytes], None]
"""Called with ``>`` or ``<`` and the bytes that went that way."""


class Wire:
    """A serial port that is open.

    Args:
        port: its name, or a URL that pyserial knows.
        baud: rate in bits a second.
        rtscts: hardware flow control.
        trace: told of everything that goes either way.

    Raises:
        DeviceError: it cannot be opened.
    """

    def __init__(self, port: str, baud: int, *, rtscts: bool = False, trace: Trace | None = None) -> None:
        """Open the port without resetting the module: DTR and RTS stay inactive."""
        self.port, self.trace = port, trace
        import serial  # type: ignore[import-untyped] # pyserial has no types

        with explained_system(port, opening=True):
            self._serial: Any = serial.serial_for_url(port, do_not_open=True)
            self._serial.baudrate, self._serial.rtscts = baud, rtscts
            self._serial.timeout = 0
            self._serial.write_timeout = 10
            self._serial.exclusive = True if "://" not in port else None
            self._serial.dtr = False
            if not rtscts:
                self._serial.rts = False
            self._serial.open()

    @property
    def baud(self) -> int:
        """The rate, in bits a second."""
        return int(self._serial.baudrate)

    @baud.setter
    def baud(self, rate: int) -> None:
        try:
            with explained_system(self.port):
                self._serial.baudrate = rate
        except ValueError as error:
            raise DeviceError(
                f"{self.port}: does not take the rate {rate}", "give another with -b, e.g. 115200"
            ) from error

    def write(self, data: bytes) -> None:
        """Send bytes."""
        for at in range(0, len(data), CHUNK):
            self._write(data[at : at + CHUNK])
        if self.trace is not None:
            self.trace(">", data)

    def _write(self, piece: bytes) -> None:
        from serial import SerialTimeoutException

        with explained_system(self.port):
            try:
                self._serial.write(piece)
            except SerialTimeoutException as error:
                raise DeviceError(
                    f"{self.port}: the module takes no data",
                    "switch flow control off (leave out --flow), or check the wire to its CTS pin",
                ) from error

    def read(self, timeout: float) -> bytes:
        """Return what arrives within ``timeout`` seconds, as soon as anything does; else nothing."""
        with explained_system(self.port):
            self._serial.timeout = max(timeout, 0)
            data: bytes = self._serial.read(1)
            if data:
                waiting = self._serial.in_waiting
                self._serial.timeout = 0
                data += self._serial.read(waiting) if waiting else b""
        if data and self.trace is not None:
            self.trace("<", data)
        return data

    def drain(self, quiet: float, limit: float = 2.0) -> bytes:
        """Return what arrives until nothing has for ``quiet`` seconds, or ``limit`` seconds are over."""
        end = time.monotonic() + limit
        found = b""
        while time.monotonic() < end:
            data = self.read(quiet)
            if not data:
                break
            found += data
        return found

    def reset(self) -> None:
        """Restart the module with the line RTS, where the port has one that is wired to its reset."""
        with contextlib.suppress(OSError):  # a pseudo-terminal has no such lines
            self._serial.rts = True
            time.sleep(0.1)
            self._serial.rts = False

    def close(self) -> None:
        """Close the port."""
        self._serial.close()

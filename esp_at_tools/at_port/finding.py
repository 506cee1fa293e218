"""Finding the module on a port: at which rate it answers, and in what state it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from esp_at_tools.at_port.client import AtClient
from esp_at_tools.at_port.wire import Trace, Wire
from esp_at_tools.errors import DeviceError

DEFAULT_BAUD = 115200
"""The rate of official firmware, in bits a second."""
USUAL_BAUDS = (115200, 921600, 460800, 230400, 9600, 57600, 38400, 19200, 1_500_000, 2_000_000, 74880)
"""The rates that are tried, in this order."""
MAX_AWAITED = 160 << 10
"""Bytes that a module may still be waiting for: more than the largest ``mfg_nvs`` of an official firmware."""
MAX_FILLING = 20.0
"""Seconds after which a module at a low rate is given up."""
FILLER = b"\xff"
"""Written into erased flash, it changes nothing."""


def connect(
    port: str,
    baud: int = 0,
    *,
    rates: Sequence[int] = (),
    rtscts: bool = False,
    note: Callable[[str], None] | None = None,
    trace: Trace | None = None,
) -> AtClient:
    """Open a port and find the module's rate.

    A module that waits for the data of a command which another program did not end hears nothing; it is
    given 0xFF until it has enough, which changes nothing in flash that the command had erased.

    Args:
        port: the AT port.
        baud: its rate, 0 to try the usual ones.
        rates: others that it may have.
        rtscts: the wires CTS and RTS are connected, and the module uses them.
        note: told what is done when the module does not answer at once.
        trace: told of all bytes.

    Raises:
        DeviceError: the port cannot be opened, or nothing answers on it.
    """
    said = note or (lambda _text: None)
    wire = Wire(port, baud or DEFAULT_BAUD, rtscts=rtscts, trace=trace)
    try:
        client = AtClient(wire)
        for rate in dict.fromkeys((*((baud,) if baud else USUAL_BAUDS), *rates)):
            wire.baud = rate
            if client.is_there() or client.is_there():
                if rate != (baud or DEFAULT_BAUD):
                    said(f"the module answers at {rate} baud")
                return client
        wire.baud = baud or DEFAULT_BAUD
        said(f"nothing answers at {'this rate' if baud else 'any usual rate'}; perhaps it waits for data")
        if _fill(client):
            return client
    except BaseException:
        wire.close()
        raise
    wire.close()
    raise DeviceError(
        f"{port}: no AT firmware answers {f'at {baud} baud' if baud else 'at any usual rate'}",
        "check that this is the AT port and not the log port, that TX and RX are crossed, and the rate (-b);"
        " with flow control wired, --flow",
    )


def _fill(client: AtClient) -> bool:
    """Send filler until the module answers; tell whether it does."""
    piece, end = FILLER * 1024, time.monotonic() + MAX_FILLING
    for _ in range(MAX_AWAITED // len(piece)):
        client.wire.write(piece)
        if client.wire.read(0.005) or time.monotonic() > end:
            break
    client.wire.write(b"\r\n")  # what was too much was the beginning of a command
    client.wire.drain(0.3)
    return client.is_there() or client.is_there()

"""What answers on a serial port: AT firmware, a chip in its boot loader, or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from esp_at_tools.at_port.client import AtClient
from esp_at_tools.at_port.finding import DEFAULT_BAUD, USUAL_BAUDS
from esp_at_tools.at_port.info import read_info
from esp_at_tools.at_port.wire import Wire
from esp_at_tools.device.esptool_device import Link, open_device
from esp_at_tools.errors import DeviceError

Role = Literal["at", "download", "unknown"]
_QUICK_BAUDS = USUAL_BAUDS[:3]


@dataclass(frozen=True)
class Probe:
    """What answered.

    Attributes:
        role: ``at``: AT firmware; ``download``: a chip in its boot loader; ``unknown``: nothing.
        chip: ``esp32c3``, ``""`` if not known.
        mac: its MAC address, of a chip in its boot loader.
        detail: the module and its firmware, or what went wrong.
        baud: the rate of the AT port, 0 for others.
    """

    role: Role
    chip: str = ""
    mac: str = ""
    detail: str = ""
    baud: int = 0


def probe(port: str, *, reset: bool, said: Callable[[str], None]) -> Probe:
    """Find out what is behind a port.

    Args:
        port: the port.
        reset: whether the module may be reset into its boot loader when no AT firmware answers; it
            starts its firmware again afterwards.
        said: told of every line that esptool says.

    Raises:
        DeviceError: the port cannot be opened.
    """
    wire = Wire(port, DEFAULT_BAUD)
    try:
        client = AtClient(wire)
        for baud in _QUICK_BAUDS:
            wire.baud = baud
            if client.is_there():
                with contextlib.suppress(DeviceError):
                    info = read_info(client)
                    return Probe("at", info.chip, "", f"{info.module} {info.firmware_version}".strip(), baud)
    finally:
        wire.close()
    if not reset:
        return Probe("unknown", detail="--reset asks for a boot loader too")
    try:
        with open_device(Link(port), said) as device:
            device.restart()
            return Probe("download", device.chip, device.mac, device.title)
    except DeviceError as error:
        return Probe("unknown", detail=error.message.removeprefix(f"{port}: "))

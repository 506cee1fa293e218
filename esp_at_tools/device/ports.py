"""The serial ports of this computer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from esp_at_tools.errors import DeviceError, InputError


@dataclass(frozen=True)
class SerialPort:
    """A serial port.

    Attributes:
        name: what to open.
        description: what the system says of it.
        usb_vendor: USB vendor id, None where it is not on USB.
        usb_product: USB product id, None likewise.
    """

    name: str
    description: str
    usb_vendor: int | None
    usb_product: int | None


def serial_ports() -> list[SerialPort]:
    """Return the ports that are connected, by name."""
    from serial.tools.list_ports import comports  # type: ignore[import-untyped] # pyserial has no types

    return [
        SerialPort(port.device, port.description or "", port.vid, port.pid)
        for port in sorted(comports(), key=lambda port: str(port.device))
    ]


def choose_ports(asked: Sequence[str]) -> list[str]:
    """Return the ports to use: those asked for, else the only one on USB.

    Raises:
        InputError: one is named twice, or none is named and there are several.
        DeviceError: none is named and there is none.
    """
    if asked:
        seen: dict[str, str] = {}
        for port in asked:
            real = port if "://" in port else os.path.realpath(port)
            if real in seen:
                raise InputError(f"-p {port}: is the same port as -p {seen[real]}", "name each port once")
            seen[real] = port
        return list(asked)
    found = [port.name for port in serial_ports() if port.usb_vendor is not None]
    if len(found) > 1:
        raise InputError(
            "there are several serial ports, and none was named", f"give one or more: -p {' -p '.join(found)}"
        )
    if not found:
        raise DeviceError(
            "no serial port on USB is connected", "connect the module, or name its port with -p"
        )
    return found

"""The serial ports of this computer, and what is behind them."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.catalog.data import data_folder, read_table
from esp_at_tools.errors import DeviceError, FormatError, InputError

_COLUMNS = ("vendor", "product", "name", "espressif", "source")


@dataclass(frozen=True)
class SerialPort:
    """A serial port.

    Attributes:
        name: what to open.
        description: what the system says of it.
        usb_vendor: USB vendor id, None where it is not on USB.
        usb_product: USB product id, None likewise.
        serial_number: of the USB device, ``""`` where it has none.
        location: where on USB it is plugged in, ``""`` where that is not known.
    """

    name: str
    description: str
    usb_vendor: int | None
    usb_product: int | None
    serial_number: str = ""
    location: str = ""

    @property
    def adapter(self) -> UsbSerial | None:
        """What is known of its USB ids, None if nothing is."""
        if self.usb_vendor is None or self.usb_product is None:
            return None
        return usb_serial_devices().get((self.usb_vendor, self.usb_product))

    @property
    def may_be_module(self) -> bool:
        """Whether an ESP module may be behind it: it is one itself, or an adapter that boards have."""
        return self.adapter is not None

    @property
    def problem(self) -> str:
        """What keeps the user from opening it, with what to do about it; ``""`` for nothing."""
        if os.name != "posix" or not Path(self.name).exists() or os.access(self.name, os.R_OK | os.W_OK):
            return ""
        return f"you may not open it: {permission_hint(self.name)}"


@dataclass(frozen=True)
class UsbSerial:
    """A kind of serial port on USB.

    Attributes:
        name: the adapter's or the unit's name.
        espressif: whether it is a chip of Espressif itself, and not an adapter beside it.
    """

    name: str
    espressif: bool


@functools.lru_cache(maxsize=1)
def usb_serial_devices() -> Mapping[tuple[int, int], UsbSerial]:
    """Return the USB ids of modules and of the adapters that boards have, from ``usb_serial.csv``.

    Raises:
        FormatError: the table is wrong; the message names the line.
    """
    path = data_folder() / "usb_serial.csv"
    found: dict[tuple[int, int], UsbSerial] = {}
    for line, (vendor, product, name, espressif, source) in read_table(path, _COLUMNS):
        try:
            key = int(vendor, 16), int(product, 16)
        except ValueError as error:
            raise FormatError(f"{path}: line {line}: {error}", "write ids as 0x303A") from error
        if key in found or not name or not source or espressif not in ("yes", "no"):
            raise FormatError(f"{path}: line {line}", "each id once, with name, yes or no, and source")
        found[key] = UsbSerial(name, espressif == "yes")
    return found


def permission_hint(port: str) -> str:
    """Return how to be allowed to use a port; on Linux its group is what is missing."""
    if os.name != "posix":
        return "run it as a user who may"
    import grp

    try:
        group = grp.getgrgid(Path(port).stat().st_gid).gr_name
    except (OSError, KeyError):
        group = "dialout"
    return f"sudo usermod -aG {group} $USER, then log in again" if group != "root" else "run it as root"


def serial_ports() -> list[SerialPort]:
    """Return the ports that are connected, by name."""
    from serial.tools.list_ports import comports  # type: ignore[import-untyped] # pyserial has no types

    return [
        SerialPort(
            port.device,
            port.description or "",
            port.vid,
            port.pid,
            port.serial_number or "",
            port.location or "",
        )
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
            "there are several serial ports, and none was named",
            f"give one or more: -p {' -p '.join(found)}; 'esp-at-tool ports' tells what they are",
        )
    if not found:
        raise DeviceError(
            "no serial port on USB is connected", "connect the module, or name its port with -p"
        )
    return found

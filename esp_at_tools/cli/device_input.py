"""The flash of a connected module as INPUT: ``port:/dev/ttyUSB0``."""

from __future__ import annotations

import re
from pathlib import Path

from esp_at_tools.cli.common import Output
from esp_at_tools.cli.device_steps import watched
from esp_at_tools.device.esptool_device import Link
from esp_at_tools.device.memory import Stretch, read_memory
from esp_at_tools.errors import InputError
from esp_at_tools.firmware.opening import held

_URL = re.compile(r"\A(socket|rfc2217):/(?=[^/])")


def port_input(path: Path, talk: Output, *, replaced: bool) -> Path:
    """Read the flash of the module on a port into memory, and return the name that it goes by as INPUT.

    Args:
        path: ``port:`` and the port.
        talk: shows what is happening.
        replaced: it is to be changed in place, which cannot be done.

    Raises:
        InputError: no port is named, or it is to be changed in place.
        DeviceError: the module cannot be read.
    """
    if replaced:
        raise InputError(
            f"{path}: a module's flash is not changed in place",
            "give --output, and flash what is written; or change the running module: 'esp-at-tool at set'",
        )
    if path not in held:
        port = _URL.sub(r"\1://", str(path).removeprefix("port:"))  # a path has no double slash
        if not port:
            raise InputError("port: names no port", "write port:/dev/ttyUSB0")
        link = Link(port)
        with watched(talk, [link]) as report:
            held[path] = read_memory(link, Stretch(), report).data
    return path

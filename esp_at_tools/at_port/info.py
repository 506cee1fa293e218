"""What a module says of itself: AT+GMR, AT+CMD? and AT+SYSFLASH?.

Source: "Basic AT Commands" in the ESP-AT user guide v5.0, and recordings of firmware v2.2 to v2.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from esp_at_tools.at_port.client import AtClient, AtError
from esp_at_tools.errors import DeviceError
from esp_at_tools.formats.partition_table import Partition

_VERSION = re.compile(r"(?P<version>[^\s(]+)\s*(?:\((?P<commit>\w+) - (?P<chip>[\w-]+) - (?P<date>[^)]*)\))?")
_COMPILED = re.compile(r"compile time(?:\((?P<commit>[^)]*)\))?:(?P<time>.*)")
_MODULE = re.compile(r"(?P<version>[^(]*)\((?P<module>[^)]+)\)")
_PARTITION = re.compile(
    r'"(?P<name>[^"]+)",(?P<type>[0-9]+),(?P<subtype>[0-9]+),(?P<offset>0x[0-9a-f]+|[0-9]+),'
    r"(?P<size>0x[0-9a-f]+|[0-9]+)",
    re.IGNORECASE,
)
_COMMAND = re.compile(r'[0-9]+,"(?P<name>[^"]+)"')


@dataclass(frozen=True)
class Info:
    """What AT+GMR says; ``""`` for what an older firmware leaves out.

    Attributes:
        at_version: of the AT core: ``5.0.1.0``.
        at_commit: its commit.
        chip: ``esp32c3``.
        sdk_version: of ESP-IDF: ``v5.4.2-354-g98d34e5``.
        compile_time: of the firmware.
        firmware_version: of the firmware: ``v5.0.1.0``.
        module: ``MINI-1``.
        lines: the reply as it was.
    """

    at_version: str
    at_commit: str
    chip: str
    sdk_version: str
    compile_time: str
    firmware_version: str
    module: str
    lines: tuple[str, ...]


def read_info(client: AtClient) -> Info:
    """Ask AT+GMR.

    Raises:
        DeviceError: it does not answer, or not as AT firmware does.
    """
    lines = tuple(client.command("AT+GMR").lines)
    fields = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    at = _VERSION.match(fields.get("at version", ""))
    if at is None:
        said = " / ".join(lines)[:100] or "an empty reply"
        raise DeviceError(
            f"{client.port}: what answers AT+GMR is no ESP-AT firmware: {said}",
            "give the AT port of a module with ESP-AT",
        )
    compiled = next((match for match in map(_COMPILED.match, lines) if match), None)
    bin_version = fields.get("bin version", "")
    module = _MODULE.match(bin_version)
    return Info(
        at["version"],
        at["commit"] or "",
        (at["chip"] or "").lower().replace("-", ""),
        fields.get("sdk version", ""),
        compiled["time"].strip() if compiled else "",
        module["version"].strip() if module else bin_version,
        module["module"] if module else "",
        lines,
    )


def read_partitions(client: AtClient) -> Mapping[str, Partition]:
    """Ask AT+SYSFLASH? for the user partitions.

    Returns:
        Name → partition; none where the firmware lacks the command, or ``at_customize`` is not flashed.
    """
    try:
        lines = client.command("AT+SYSFLASH?").of("SYSFLASH")
    except AtError:
        return {}
    found = (match for match in map(_PARTITION.fullmatch, lines) if match)
    return {
        match["name"]: Partition(
            match["name"],
            int(match["type"]),
            int(match["subtype"]),
            int(match["offset"], 0),
            int(match["size"], 0),
        )
        for match in found
    }


def read_commands(client: AtClient) -> tuple[str, ...]:
    """Ask AT+CMD? for the names of the commands that the firmware has; none where it lacks that."""
    try:
        lines = client.command("AT+CMD?").of("CMD")
    except AtError:
        return ()
    return tuple(match["name"] for match in map(_COMMAND.match, lines) if match)

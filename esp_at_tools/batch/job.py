"""What one run of a batch has to do, in a form that its processes can be given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from esp_at_tools.errors import InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.settings.modern import PARTITION as MFG_NVS

Kind = Literal["image", "mfg_nvs"]
"""What an output is: the whole INPUT as one file, or its ``mfg_nvs`` partition alone."""
Emit = Literal["image", "mfg_nvs", "both"]
KINDS: dict[Emit, tuple[Kind, ...]] = {
    "image": ("image",),
    "mfg_nvs": ("mfg_nvs",),
    "both": ("image", "mfg_nvs"),
}

SUFFIX = ".bin"


@dataclass(frozen=True)
class Job:
    """What every device has in common.

    Attributes:
        input: the firmware.
        folder: where relative paths in the list of devices begin, absolute.
        work: an existing folder for outputs that do not stand in their places yet, absolute.
        now: the moment at which certificates must be valid.
        kinds: the outputs of each device.
        profile: the profile, None for none.
        force: what is risky is allowed.
        chip: see :meth:`esp_at_tools.firmware.firmware.Firmware.open`, as the next two.
        partition_table_offset: where the table is, None for the usual place.
        parameter_offset: where the parameters are, None if the tables tell.
    """

    input: Path
    folder: Path
    work: Path
    now: datetime
    kinds: tuple[Kind, ...]
    profile: Path | None = None
    force: bool = False
    chip: str = ""
    partition_table_offset: int | None = None
    parameter_offset: int | None = None

    def open_firmware(self) -> Firmware:
        """Open the firmware."""
        return Firmware.open(
            self.input,
            chip=self.chip,
            partition_table_offset=self.partition_table_offset,
            parameter_offset=self.parameter_offset,
        )


def emitted(firmware: Firmware, emit: Emit | None) -> Emit:
    """Return what the outputs of a batch are.

    Args:
        firmware: the input.
        emit: what was asked for, None for the smallest that holds all changes.

    Raises:
        InputError: this firmware has no such thing.
    """
    path = firmware.source.path
    if MFG_NVS not in firmware.places:
        if emit in ("mfg_nvs", "both"):
            raise InputError(
                f"--emit {emit}: {path} has the legacy layout, whose changes lie in several partitions",
                "use --emit image; 'modify-bin --partitions-output' gives the partitions of one device",
            )
        return "image"
    if firmware.map is None and emit in ("image", "both"):
        raise InputError(
            f"--emit {emit}: {path} is a partition alone, without an image around it",
            "leave --emit out, or give a full image or a release",
        )
    return emit or "mfg_nvs"


def flash_image(firmware: Firmware) -> bytes:
    """Return the whole INPUT as one file: of a release, its parts from address 0 to the end of the last."""
    return firmware.source.read(0, firmware.source.end)


def output_name(identifier: str, kind: Kind, kinds: tuple[Kind, ...]) -> str:
    """Return the path of an output, relative to the batch's folder; ``/`` separates its parts."""
    name = f"{identifier}{SUFFIX}"
    return name if len(kinds) == 1 else f"{kind}/{name}"

"""A plan as command lines for esptool itself, for those who want to see or use them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.device.esptool_device import Link
from esp_at_tools.device.plan import FlashPlan, Segment

UNKNOWN_ADDRESS = "ADDRESS"
"""Stands for the address of a partition alone, which only the device's own tables tell."""


@dataclass(frozen=True)
class EsptoolCommands:
    """Command lines that do the same as a plan.

    Attributes:
        commands: as lists of arguments.
        parts: file that a command names → the piece that belongs in it, where no such file exists.
    """

    commands: tuple[tuple[str, ...], ...]
    parts: tuple[tuple[Path, Segment], ...]


def esptool_commands(plan: FlashPlan, link: Link, folder: Path, *, verify: bool = False) -> EsptoolCommands:
    """Return the command lines of esptool 5 that write a plan.

    Args:
        plan: what to write where.
        link: the port, which may be a word that stands for it.
        folder: where the pieces are looked for that are no files of their own.
        verify: whether a command to verify follows.
    """
    files, parts = [], []
    for segment in plan.segments:
        path = segment.path
        if path is None:
            path = folder / f"{segment.offset:#x}.bin"
            parts.append((path, segment))
        files += [f"{segment.offset:#x}", str(path)]
    if plan.loose is not None:
        files = [UNKNOWN_ADDRESS, str(plan.path)]
    head = ["esptool", *(["--chip", plan.chip] if plan.chip else []), "--port", link.port]
    head += ["--baud", str(link.baud), *([] if link.stub else ["--no-stub"])]
    settings = [
        word
        for option, value in (
            ("--flash-mode", plan.settings.mode),
            ("--flash-freq", plan.settings.freq),
            ("--flash-size", plan.settings.size),
        )
        if value
        for word in (option, value)
    ]
    erase = ["--erase-all"] if plan.erase else []
    commands = [(*head, "write-flash", *erase, *settings, *files)]
    if verify:
        commands.append((*head, "verify-flash", *settings, *files))
    return EsptoolCommands(tuple(commands), tuple(parts))

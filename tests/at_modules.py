"""Simulated modules of each kind for the tests of ``at``, and a host that is not patient with them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import builders
import pytest
from at_simulator import AtModule, PtyModule, Versions

from esp_at_tools.at_port import client, sysflash, sysmfg
from esp_at_tools.firmware.firmware import Firmware

LEGACY = Versions(
    "2.3.0.0(e98993f - ESP32C3 - Dec 23 2021 09:03:35)", "v4.3.1", "compile time(9):Dec 24", "2.3.0(MINI-1)"
)
KINDS = {
    "sysmfg": lambda: (builders.image(), {}),
    "sysflash": lambda: (builders.image(), {"sysmfg": False}),
    "legacy": lambda: (builders.legacy_image(), {"sysmfg": False, "versions": LEGACY}),
}
"""How a module is reached → its flash, and how it differs."""


class Plug:
    """Plugs modules in: ``plug("sysmfg", faults=…)``."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(
        self,
        kind: str = "sysmfg",
        *,
        piece: int = 0,
        latency: float = 0.0,
        echo: bool = True,
        **options: object,
    ) -> PtyModule:
        image, given = KINDS[kind]()
        module = AtModule(bytearray(image), **{**given, **options})  # type: ignore[arg-type]
        module.echo = echo
        return self._stack.enter_context(PtyModule(module, piece=piece, latency=latency))


def held(board: PtyModule, folder: Path) -> Firmware:
    """Return what is in a module's flash."""
    path = folder / f"flash-{time.monotonic_ns()}.bin"
    path.write_bytes(board.module.flash)
    return Firmware.open(path)


def contents(board: PtyModule, folder: Path) -> tuple[object, ...]:
    """Return the settings, PKI items and GATT rows in a module's flash."""
    firmware = held(board, folder)
    return firmware.settings(), firmware.pki(), firmware.gatts()


def plugs() -> Iterator[Plug]:
    """Yield what plugs modules in, and unplug them in the end."""
    with ExitStack() as stack:
        yield Plug(stack)


def impatient_host(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let what does not answer be given up soon; return where the program keeps what outlives a run."""
    state = folder / "state"
    state.mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    for name, seconds in (
        ("TIMEOUT", 0.3),
        ("PRESENT_TIMEOUT", 0.15),
        ("LATE_TIMEOUT", 0.3),
        ("READY_TIMEOUT", 0.4),
        ("RESTART_TIMEOUT", 1),
    ):
        monkeypatch.setattr(client, name, seconds)
    for module in (sysflash, sysmfg):
        monkeypatch.setattr(module, "FLASH_TIMEOUT", 0.4)
    return state

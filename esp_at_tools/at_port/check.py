"""The proof that a module runs its firmware: AT+GMR on its AT port, or its log while it starts."""

from __future__ import annotations

import time
from dataclasses import dataclass

from esp_at_tools.at_port.client import RESTART_TIMEOUT, AtClient
from esp_at_tools.at_port.finding import connect
from esp_at_tools.at_port.info import read_info
from esp_at_tools.at_port.wire import Wire
from esp_at_tools.device.boot_log import Boot, judge_boot_log
from esp_at_tools.errors import DeviceError

LOG_SECONDS = 4.0
"""How long a start is listened to; an official firmware has started after 2 s."""
_LOG_BAUD = 115200
_LOG_BAUD_ESP8266 = 74880


@dataclass(frozen=True)
class Check:
    """What a look at the running module showed.

    Attributes:
        port: the port that was looked at.
        ok: whether the firmware runs; None where that cannot be told.
        text: what tells it: the lines of AT+GMR, or what the log means.
        hint: what to do about it.
        log: the last lines of the log.
    """

    port: str
    ok: bool | None
    text: str
    hint: str = ""
    log: tuple[str, ...] = ()


def check_at_port(port: str) -> Check:
    """Ask AT+GMR; a module that has just been reset gets the time to start."""
    end = time.monotonic() + RESTART_TIMEOUT
    while True:
        try:
            client = connect(port)
        except DeviceError as error:
            if time.monotonic() > end or "no AT firmware answers" not in error.message:
                return Check(port, ok=False, text=error.message.removeprefix(f"{port}: "), hint=error.hint)
            continue
        return _asked(client)


def _asked(client: AtClient) -> Check:
    try:
        return Check(client.port, ok=True, text="\n".join(read_info(client).lines))
    except DeviceError as error:
        return Check(
            client.port, ok=False, text=error.message.removeprefix(f"{client.port}: "), hint=error.hint
        )
    finally:
        client.wire.close()


def check_boot_log(port: str, chip: str) -> Check:
    """Reset the module and listen to what it says while it starts.

    Args:
        port: its log port, through which it was flashed.
        chip: ``esp8266`` has another rate.
    """
    try:
        wire = Wire(port, _LOG_BAUD_ESP8266 if chip == "esp8266" else _LOG_BAUD)
        try:
            wire.reset()
            text = _listened(wire, LOG_SECONDS)
        finally:
            wire.close()
    except DeviceError as error:
        return Check(port, ok=False, text=error.message.removeprefix(f"{port}: "), hint=error.hint)
    boot: Boot = judge_boot_log(text)
    said = f"{boot.reason}{f' ({boot.module})' if boot.module else ''}"
    if boot.trouble:
        said += f": {boot.trouble}"
    return Check(port, boot.started, said, boot.hint, tuple(text.splitlines()[-20:]))


def _listened(wire: Wire, seconds: float) -> str:
    end, data = time.monotonic() + seconds, b""
    while (left := end - time.monotonic()) > 0:
        data += wire.read(min(left, 0.2))
    return data.decode("utf-8", "replace")

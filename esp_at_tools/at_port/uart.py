"""The rate that a module has stored for its AT port: AT+UART_DEF and AT+UART_CUR.

A module stores the rate of its first start; ``uart_baudrate`` counts for nothing from then on, until
AT+UART_DEF or AT+RESTORE. Source: ``at_uart_init`` and ``at_uart_cmd.c`` of ESP-AT v5.0.1.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from esp_at_tools.at_port.client import AtClient, AtError, NoReplyError
from esp_at_tools.errors import CheckFailedError

_UART = re.compile(r"(?P<rate>[0-9]{1,7}),(?P<rest>[5-8],[1-3],[0-2],[0-3])")


@dataclass(frozen=True)
class Uart:
    """Settings of a UART.

    Attributes:
        rate: bits a second.
        rest: data bits, stop bits, parity and flow control, as the commands have them.
    """

    rate: int
    rest: str

    def __str__(self) -> str:
        """Return the command's parameters."""
        return f"{self.rate},{self.rest}"


def read_uart(client: AtClient, command: str = "UART_DEF") -> Uart | None:
    """Return what a module has stored (``UART_DEF``) or uses (``UART_CUR``); None where it has neither."""
    try:
        lines = client.command(f"AT+{command}?").of(command)
    except AtError:  # its AT port is no UART
        return None
    match = next((match for match in map(_UART.fullmatch, lines) if match), None)
    return Uart(int(match["rate"]), match["rest"]) if match else None


def restart(client: AtClient) -> None:
    """Restart a module, which starts with the rate that it has stored.

    Raises:
        NoReplyError: it does not answer again.
    """
    stored = read_uart(client)
    client.restart(stored.rate if stored else 0)


def store_rate(client: AtClient, rate: int) -> int:
    """Make a module start with a rate; until then it keeps the present one.

    Returns:
        The rate that it had stored, 0 where there was nothing to do.

    Raises:
        DeviceError: this computer's port does not take the rate, or the module is lost on the way.
        CheckFailedError: the module does not have the rate afterwards.
    """
    stored, used, before = read_uart(client), read_uart(client, "UART_CUR"), client.wire.baud
    if stored is None or used is None or stored.rate in (rate, 0):
        return 0
    client.wire.baud = rate  # refused here, nothing has been changed
    client.wire.baud = before
    client.command(f"AT+UART_DEF={replace(stored, rate=rate)}")  # takes effect at once, too
    client.wire.baud = rate
    _expect(client)
    client.command(f"AT+UART_CUR={replace(used, rate=before)}")
    client.wire.baud = before
    _expect(client)
    now = read_uart(client)
    if now is None or now.rate != rate:
        raise CheckFailedError(f"{client.port}: the module has not stored the rate {rate}", "run it again")
    return stored.rate


def _expect(client: AtClient) -> None:
    if not (client.is_there() or client.is_there()):
        raise NoReplyError(
            f"{client.port}: the module does not answer at {client.wire.baud} baud, which it was set to",
            "run it again; wires or adapter may not do this rate",
        )

"""Options of every command that talks to a module in its boot loader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from esp_at_tools.cli.common import BAUD, NUMBER, TABLE_HELP
from esp_at_tools.device.esptool_device import DEFAULT_BAUD

F = TypeVar("F", bound=Callable[..., Any])


def ports_option(command: F) -> F:
    """Add ``-p/--port``, which may be repeated."""
    return click.option(
        "-p", "--port", "ports", multiple=True, metavar="PORT",
        help="Serial port of the module; may be repeated for several.  [default: the only one on USB]",
    )(command)  # fmt: skip


def port_option(command: F) -> F:
    """Add ``-p/--port`` for one module."""
    return click.option(
        "-p", "--port", default="", metavar="PORT",
        help="Serial port of the module.  [default: the only one on USB]",
    )(command)  # fmt: skip


def baud_option(command: F) -> F:
    """Add ``-b/--baud``, the rate for data."""
    return click.option(
        "-b", "--baud", type=BAUD, default=DEFAULT_BAUD, metavar="BAUD",
        help=f"Rate for the data.  [default: {DEFAULT_BAUD}]",
    )(command)  # fmt: skip


def stub_option(command: F) -> F:
    """Add ``--no-stub``."""
    return click.option(
        "--no-stub", is_flag=True,
        help="Use the boot ROM alone: slower, for modules that the stub fails on.",
    )(command)  # fmt: skip


def table_option(command: F) -> F:
    """Add ``--partition-table-offset``."""
    return click.option("--partition-table-offset", type=NUMBER, metavar="N", help=TABLE_HELP)(command)

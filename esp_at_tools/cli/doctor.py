"""``doctor``: what a build needs, what is there, what is wrong, and how to mend it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import click

from esp_at_tools.cli.common import PATH, Output, current_output, is_terminal, json_option, talk_options
from esp_at_tools.errors import EspAtError
from esp_at_tools.workspace.checkout import Checkout, CheckoutModule, is_checkout
from esp_at_tools.workspace.doctor import Check, Level, fails
from esp_at_tools.workspace.doctor_checkout import Patient, examine

_MARKS: dict[Level, str] = {"ok": "ok", "note": "note", "warning": "check", "error": "wrong"}
_STYLES: dict[Level, str] = {"ok": "green", "note": "blue", "warning": "yellow", "error": "bold red"}


@click.command("doctor", short_help="Say what a build needs, what is missing, and how to mend it.")
@click.option("--project", type=PATH, metavar="DIR", help="The checkout.  [default: the current folder]")
@click.option("--module", "-m", "name", metavar="NAME", help="The module.  [default: the one last built for]")
@click.option("--idf", type=PATH, metavar="DIR", help="The ESP-IDF.  [default: the one in the checkout]")
@json_option
@talk_options
def command(project: Path | None, name: str | None, idf: Path | None) -> None:
    """Say what a build needs, what is there, what is wrong, and with which command it is mended.

    Outside of an esp-at checkout only the machine is looked at. No such command is run, and nothing is
    changed. The exit status is 1 if a build would fail.
    """
    talk = current_output()
    checkout = Checkout.open(project or Path()) if project or name or is_checkout(Path()) else None
    module, trouble = _module(checkout, name)
    checks = (*examine(Patient(checkout, module, idf, os.environ, here=project is None)), *_ports(), *trouble)
    if talk.json:
        talk.document(
            {
                "schema": 1,
                "ok": not fails(checks),
                "project": str(checkout.root) if checkout else None,
                "module": module.full_name if module else None,
                "checks": [asdict(check) for check in checks],
            }
        )
    else:
        _print(talk, checks)
        talk.result(f"\n{_conclusion(checks, checkout, module)}")
    if fails(checks):
        raise click.exceptions.Exit(1)


def _module(checkout: Checkout | None, name: str | None) -> tuple[CheckoutModule | None, tuple[Check, ...]]:
    """Return the module that is asked for, else that of the last build."""
    if checkout is None:
        return None, ()
    if name is not None:
        return checkout.module(name), ()
    try:
        info = checkout.module_info()
    except EspAtError as error:
        wrong = Check("module_info", "last build", "a module", "unknown", "error", error.message, error.hint)
        return None, (wrong,)
    return (info.module if info else None), ()


def _ports() -> Iterable[Check]:
    """Yield whether the serial ports on USB may be used; a build needs none."""
    from esp_at_tools.device.ports import serial_ports

    try:
        found = [port for port in serial_ports() if port.usb_vendor is not None]
    except EspAtError as error:
        yield Check("serial", "serial port", "for flashing", "unknown", "note", error.message, error.hint)
        return
    if not found:
        problem = "flashing needs one; if a board is connected, its driver or cable is at fault"
        yield Check("serial", "serial port", "for flashing", "none", "note", problem)
    for port in found:
        if not port.problem:
            yield Check("serial", "serial port", "read, write", port.name)
            continue
        problem, _, mend = port.problem.partition(": ")
        yield Check(
            "serial", "serial port", "read, write", port.name, "warning", f"{port.name}: {problem}", mend
        )


# --- for people --------------------------------------------------------------------------------------------


def _conclusion(checks: Iterable[Check], checkout: Checkout | None, module: CheckoutModule | None) -> str:
    wrong = [check.title for check in checks if check.level == "error"]
    what = f"a build for {module.full_name}" if module else "a build"
    if wrong:
        return f"{what[0].upper()}{what[1:]} would fail: {', '.join(dict.fromkeys(wrong))}."
    if checkout is None:
        return "This machine has what a build needs; run this in an esp-at checkout to look at that too."
    return f"Nothing stands against {what}."


def _print(talk: Output, checks: tuple[Check, ...]) -> None:
    from esp_at_tools.cli.inspect_view import clean

    if talk.quiet:
        return
    if is_terminal(sys.stdout):
        _print_table(talk, checks)
    else:
        for check in checks:
            talk.result(
                f"{_MARKS[check.level]:6}{check.title}: {clean(check.found)} (needed: {check.needed})"
            )
    for check in checks:
        if not check.problem or (check.level == "note" and not talk.verbose and not check.mend):
            continue
        talk.result(f"\n{_MARKS[check.level]}: {check.title}")
        for line in check.problem.split("\n"):
            talk.result(f"  {line}")
        if check.mend:
            talk.result(f"  → {check.mend}")


def _print_table(talk: Output, checks: tuple[Check, ...]) -> None:
    from rich.table import Table
    from rich.text import Text

    from esp_at_tools.cli.inspect_view import clean

    console = talk.console()
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "what", "needed", "found"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        mark = Text(_MARKS[check.level], style=_STYLES[check.level])
        table.add_row(mark, check.title, clean(check.needed), clean(check.found))
    console.print(table)

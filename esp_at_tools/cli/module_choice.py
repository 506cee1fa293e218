"""Which module of a checkout is meant: the one named, the one built last, or what a person answers."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from esp_at_tools.cli.common import is_terminal, say
from esp_at_tools.errors import InputError
from esp_at_tools.workspace.checkout import Checkout, CheckoutModule


def chosen_module(project: Path, name: str | None, *, silence: bool) -> tuple[str, bool]:
    """Return the full name of a module of a checkout, and whether it is the variant without log.

    That is ``--module`` and ``--silence``, else what ``build/module_info.json`` says, else the answer of a
    person at a terminal, who is asked as build.py asks.

    Args:
        project: the checkout.
        name: what ``--module`` says, None where it is not given.
        silence: whether ``--silence`` is given; it is the last word on the variant.

    Raises:
        InputError: it is no checkout, or nothing tells the module; the hint lists the choices.
        FormatError: ``build/module_info.json`` is wrong.
    """
    if name is not None:
        return name, silence
    checkout = Checkout.open(project)
    info = checkout.module_info()
    if info is not None:
        return info.module.full_name, silence or info.silence
    known = checkout.modules()
    if not known:
        raise InputError(f"{project}: its table of modules is empty", "check the tree out again")
    if is_terminal(sys.stdin) and is_terminal(sys.stderr):
        return _asked(known, silence=silence)
    raise InputError(
        "for which module? --module is missing",
        f"it is one of {', '.join(each.full_name for each in known)}",
    )


def _asked(known: tuple[CheckoutModule, ...], *, silence: bool) -> tuple[str, bool]:
    """Ask on stderr for chip, module and variant, in build.py's order and with its numbers."""
    platforms = tuple(dict.fromkeys(each.platform for each in known))
    platform = platforms[_number("Platform name:", platforms)]
    modules = [each for each in known if each.platform == platform]
    lines = [f"{each.name}  ({each.description})" if each.description else each.name for each in modules]
    module = modules[_number("Module name:", lines)]
    if not silence:
        question = "Silence mode: fewer logs and a smaller firmware"
        silence = click.confirm(question, default=False, err=True)
    return module.full_name, silence


def _number(title: str, lines: tuple[str, ...] | list[str]) -> int:
    say(title, err=True)
    for number, line in enumerate(lines, 1):
        say(f"{number:3}. {line}", err=True)
    answer: int = click.prompt("Number", type=click.IntRange(1, len(lines)), err=True)
    return answer - 1

"""Any action of idf.py that is no command of this program: it goes there as it is, in its environment.

Actions that compile have the OTA tokens of the environment in esp-at's header meanwhile, as ``build`` has.
What they print goes to the terminal as it is: a compiler that quotes a line of that header shows its token.

``-p``, ``-b`` and ``--project`` may stand before the action. Behind it, ``--project`` alone is taken out; all
else is idf.py's.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from esp_at_tools.cli.common import Output, current_output, is_terminal
from esp_at_tools.errors import ExternalToolError, InputError

PROJECT = "--project"
_INTERRUPTED = 130
_COMMANDS = ("build", "flash")
"""Commands here that compile as actions of idf.py, which they are behind another action."""


def known_actions() -> Mapping[str, bool]:
    """Return what idf.py knows, less what is a command here, from ``module_config/idf_actions.csv``.

    An ESP-IDF may have more; this tells which names are no slip of the fingers.

    Returns:
        Action → whether it compiles the application, or depends on what does.
    """
    from esp_at_tools.catalog.data import data_folder, read_table

    rows = read_table(data_folder() / "idf_actions.csv", ("action", "compiles", "source"))
    return {action: compiles == "yes" for _, (action, compiles, _) in rows}


def compiles(args: Sequence[str]) -> bool:
    """Tell whether one of the words behind ``esp-at-tool`` is an action that compiles the application."""
    known = known_actions()
    names = (word.replace("_", "-") for word in args)
    return any(name in _COMMANDS or known.get(name, False) for name in names)


def is_action(name: str, near: str, project: Path) -> bool:
    """Tell whether a word may be an action of idf.py.

    One that idf.py is known to have is; any other only if no command here is nearly called so, and there
    is an ESP-IDF to ask: a slip of the fingers must not begin to download one.
    """
    if name.startswith("-") or name.replace("_", "-") in known_actions():
        return True
    return not near and (project / "esp-idf" / "tools" / "idf.py").is_file()


def project_of(args: Sequence[str], before: Path | None) -> tuple[Path, list[str]]:
    """Return the checkout, and the arguments without the option that names it.

    Args:
        args: the action and what stands behind it.
        before: what the option says before the action, None where it does not stand there.

    Raises:
        InputError: the option names no folder.
    """
    project, left, words = before or Path(), list[str](), list(args)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name != PROJECT:
            left.append(word)
            continue
        if not equals:
            value = words.pop(0) if words else ""
        if not value:
            raise InputError(f"{PROJECT}: the path is missing", "give the folder of the checkout")
        project = Path(value)
    return project, left


def action_command(project: Path, options: Sequence[str], near: str) -> click.Command:
    """Return the command that hands its arguments to idf.py.

    Args:
        project: the checkout.
        options: those of idf.py that stood before the action.
        near: the nearest command of this program, ``""`` for none; named when idf.py fails.
    """

    @click.command(
        "idf.py",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )
    @click.argument("args", nargs=-1, type=click.UNPROCESSED)
    def action(args: tuple[str, ...]) -> None:
        """Hand an action to idf.py."""
        run_action(current_output(), project, [*options, *args], near)

    return action


def run_action(talk: Output, project: Path, args: Sequence[str], near: str = "") -> None:
    """Run idf.py with arguments, as build.py does.

    Raises:
        InputError: no module is chosen, or something of the user's is in the way.
        ExternalToolError: the environment is not installed, or idf.py failed.
    """
    from esp_at_tools.cli.build_checkout import open_checkout, prepare
    from esp_at_tools.cli.choose_module import choose
    from esp_at_tools.cli.live import Live
    from esp_at_tools.workspace.compile import check_paths, run_interactive
    from esp_at_tools.workspace.compile_result import write_download_config
    from esp_at_tools.workspace.compile_variant import BUILD
    from esp_at_tools.workspace.ota_tokens import with_tokens

    checkout = open_checkout(project)
    check_paths(checkout.root)
    if checkout.module_info() is None and not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        names = ", ".join(module.full_name for module in checkout.modules())
        raise InputError(
            f"{checkout.root}: is not prepared for a module yet",
            f"'esp-at-tool install --module NAME' does that; NAME is one of {names}",
        )
    chosen = choose(checkout, "", silence=False)
    with Live(talk) as live:
        environment = prepare(talk, live, checkout, chosen)
    module = chosen.module
    given = environment.variables if compiles(args) else {}
    with with_tokens(given, checkout.root, module.platform, module.name) as tokens:
        for warning in tokens.warnings:
            talk.warn(warning)
        if tokens.variables:
            talk.note(f"OTA tokens of {', '.join(tokens.variables)}")
        status = run_interactive(checkout, module, environment, args)
    if status in (_INTERRUPTED, -signal.SIGINT):
        raise click.exceptions.Exit(_INTERRUPTED)
    if status:
        hint = f"did you mean {near!r}, a command of esp-at-tool?" if near else ""
        raise ExternalToolError(
            f"idf.py {' '.join(args)}: exit status {status}", hint or "what it printed says why"
        )
    write_download_config(checkout.root / BUILD)

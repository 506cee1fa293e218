"""The program: finds the command, and turns every error into one message and an exit status."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from esp_at_tools import __version__
from esp_at_tools.cli.common import Output, say, talk_options
from esp_at_tools.errors import CheckFailedError, DeviceError, EspAtError, ExternalToolError

COMMANDS = {
    "inspect": "Show what a firmware is: flash map, application, settings, certificates, checks.",
    "modify-bin": "Change settings, certificates, keys and GATT rows in a released firmware.",
    "diff": "Say what differs between two firmwares in meaning.",
    "migrate": "Carry settings, certificates and the GATT table into a newer firmware.",
    "flash": "Write a firmware, or some of its partitions, to modules.",
    "read-flash": "Copy the flash of a module, or a part of it, into a file.",
    "erase-flash": "Erase the flash of modules, or some of their partitions.",
    "ports": "List the serial ports, and what is behind them.",
    "at": "Ask and change a running module over its AT port.",
    "batch": "Make one firmware for each device of a list.",
    "nvs": "Generate, dump and check NVS partitions.",
    "pki": "Check, generate and import certificates and private keys.",
    "partition": "Convert and check partition tables.",
    "build": "Make a complete build folder, or compile a checkout of esp-at.",
    "install": "Install ESP-IDF and its tools for a module of a checkout.",
    "doctor": "Say what a build needs, what is missing, and how to mend it.",
    "clean": "Take esp-at's patches back, and remove the build folder.",
    "menuconfig": "Change options of a module in ESP-IDF's menu, and keep them.",
    "sdkconfig": "Resolve a full sdkconfig without cmake; compare two.",
    "component": "Make a component with an AT command of your own.",
    "ci": "Build modules on the runners of GitHub or GitLab.",
    "fetch": "Download an official release.",
    "modules": "List, show, check and define the modules that a firmware can be built for.",
}
"""Command → its line in ``--help``; the module ``cli/<command>.py`` is loaded when it is called."""

EXIT_STATUS = {CheckFailedError: 1, EspAtError: 2, DeviceError: 3, ExternalToolError: 4}
"""Error class → exit status; the nearest base class counts."""

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
PIPE_CLOSED = 141
"""128 + SIGPIPE, likewise."""

_FOR_ACTION = "esp_at_tools.for_action"


def _idf_action(
    args: list[str], given: dict[str, str], near: str
) -> tuple[str, click.Command, list[str]] | None:
    """Return the command that hands an action to idf.py, None outside of a checkout."""
    from esp_at_tools.cli.idf_action import PROJECT, action_command, is_action, project_of
    from esp_at_tools.workspace.checkout import is_checkout

    before = Path(given[PROJECT]) if PROJECT in given else None
    project, left = project_of(args, before)
    if not is_checkout(project) or not is_action(args[0], near, project):
        return None
    options = [word for name, value in given.items() if name != PROJECT for word in (name, value)]
    return args[0], action_command(project, options, near), left


def _keep_for_action(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta.setdefault(_FOR_ACTION, {})[param.opts[0]] = value


class LazyGroup(click.Group):
    """A group that loads a command's module when that command is called, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; at.py's spelling with underscores is accepted."""
        del ctx
        name = cmd_name.replace("_", "-")
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"esp_at_tools.cli.{name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; a name that is none is an action of idf.py in a checkout, and else an error.

        What stood before the name for idf.py goes to the command behind it.
        """
        name = args[0]
        given = ctx.meta.get(_FOR_ACTION, {})
        if name.startswith("-") or self.get_command(ctx, name) is not None:
            args = [name, *(word for pair in given.items() for word in pair), *args[1:]]
            return super().resolve_command(ctx, args)
        import difflib

        near = difflib.get_close_matches(name.replace("_", "-"), COMMANDS, n=1)
        if action := _idf_action(args, given, near[0] if near else ""):
            return action
        hint = f"did you mean {near[0]!r}?" if near else f"the commands are: {', '.join(COMMANDS)}"
        raise click.UsageError(f"there is no command {name!r}; {hint}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading any of them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def with_hyphens(name: str) -> str:
    """Return an option's or command's name as this program spells it (``tx_pin`` → ``tx-pin``)."""
    return name.replace("_", "-")


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": with_hyphens},
    epilog="Exit status: 0 done, 1 a check found a problem, 2 wrong usage or input, "
    "3 serial port or device, 4 an external tool failed.",
)
@click.version_option(__version__, prog_name="esp-at-tool")
@click.option(
    "-p",
    "--port",
    metavar="PORT",
    expose_value=False,
    callback=_keep_for_action,
    help="The serial port, for the command or action behind it.",
)
@click.option(
    "-b",
    "--baud",
    metavar="BAUD",
    expose_value=False,
    callback=_keep_for_action,
    help="The baud rate, likewise.",
)
@click.option(
    "--project",
    metavar="DIR",
    expose_value=False,
    callback=_keep_for_action,
    help="The checkout of esp-at, likewise.  [default: the current folder]",
)
@talk_options
def program() -> None:
    """Inspect, patch, compare, build and flash ESP-AT firmware.

    In a checkout of esp-at, any action of idf.py is a command too: size, monitor, fullclean, ….
    """


def exit_status(error: EspAtError) -> int:
    """Return the exit status of an error."""
    return next(EXIT_STATUS[cls] for cls in type(error).__mro__ if cls in EXIT_STATUS)


def _usage_message(error: click.ClickException) -> tuple[str, str]:
    message = error.format_message().replace("\n\t", " ")  # Click lists choices in lines of their own
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return message, f"see '{error.ctx.command_path} --help'"
    return message, "see 'esp-at-tool --help', or --help of the command"


def _report(output: Output, message: str, hint: str) -> None:
    """Print an error: text on stderr and, with ``--json``, the one document on stdout.

    Nobody can be told that an error could not be printed.
    """
    with contextlib.suppress(OSError):
        say(f"error: {message}" + (f"\n  {hint}" if hint else ""), err=True)
    if output.json:
        import json

        with contextlib.suppress(OSError):
            click.echo(json.dumps({"error": {"message": message, "hint": hint}}, indent=2))


def _give_up_stdout() -> None:
    """Let what is still to be printed go nowhere, or the interpreter stumbles over it at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(argv: Sequence[str]) -> int:
    """Run the program with these arguments and return its exit status; never raises for a user's error."""
    output = Output(json="--json" in argv)
    try:
        # Click returns the status of ctx.exit() instead of raising it here; commands themselves return None.
        status = program.main(args=list(argv), prog_name="esp-at-tool", standalone_mode=False, obj=output)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            click.echo(error.format_message(), err=True)
        else:
            _report(output, *_usage_message(error))
        return EXIT_STATUS[EspAtError]
    except EspAtError as error:
        _report(output, error.message, error.hint)
        return exit_status(error)
    except (BrokenPipeError, SystemExit):  # Click makes the one of the other, and of nothing else
        _give_up_stdout()
        return PIPE_CLOSED
    except OSError as error:
        if not error.filename:
            _give_up_stdout()
        from esp_at_tools import files

        where = files.as_known(Path(error.filename)) if isinstance(error.filename, str) else "the output"
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        hint = "make room, or give another path" if full else "give another path, or mend that"
        _report(output, f"{where}: {error.strerror or error}", hint)
        return EXIT_STATUS[EspAtError]
    except Exception as error:  # noqa: BLE001 - the one place where a bug becomes a message
        if output.verbose:
            import traceback

            traceback.print_exc()
        what = f"{type(error).__name__}: {error}"
        _report(
            output, f"internal error: {what}", "this is a bug; run again with -v and report what it prints"
        )
        return EXIT_STATUS[EspAtError]
    return status if isinstance(status, int) else 0


def main() -> NoReturn:
    """Entry point of ``esp-at-tool`` and of ``python -m esp_at_tools``."""
    import gc

    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed when the program began
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - to the end
    # Looking for cycles while modules load takes a tenth of a short run, and finds none.
    gc.set_threshold(100_000)
    sys.exit(run(sys.argv[1:]))

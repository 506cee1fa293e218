"""``at``: ask and change a running module over its AT port."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from esp_at_tools import files
from esp_at_tools.cli.asked import Asked
from esp_at_tools.cli.changes import changes_document, print_changes, shown
from esp_at_tools.cli.common import (
    BAUD,
    PATH,
    Output,
    current_output,
    input_file,
    is_terminal,
    json_option,
    talk_options,
)
from esp_at_tools.errors import InputError
from esp_at_tools.numbers import format_size

if TYPE_CHECKING:
    from esp_at_tools.at_port.client import AtClient
    from esp_at_tools.at_port.contents import Running
    from esp_at_tools.firmware.firmware import Firmware

F = TypeVar("F", bound=Callable[..., Any])

_KEY = "esp_at_tools.at_port"


def _remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Keep a connection option, given before or after the sub-command."""
    if value not in (None, "", False):
        ctx.meta.setdefault(_KEY, {})[param.name] = value


def _connection_options(command: F) -> F:
    for decorate in (
        click.option("--flow", is_flag=True, expose_value=False, callback=_remember,
                     help="Hardware flow control: CTS and RTS are wired."),
        click.option("-b", "--baud", type=BAUD, metavar="BAUD", expose_value=False, callback=_remember,
                     help="Rate of the AT port, 80 to 5000000.  [default: the usual ones are tried]"),
        click.option("-p", "--port", metavar="PORT", expose_value=False, callback=_remember,
                     help="The AT port (not the download port).  [default: the only one on USB]"),
    ):  # fmt: skip
        command = decorate(command)
    return command


@click.group("at", short_help="Ask and change a running module over its AT port.")
@_connection_options
@talk_options
def command() -> None:
    """Talk to a running module: ask what it is, read and change its settings, certificates and keys.

    It uses AT+SYSMFG, and where the firmware lacks that AT+SYSFLASH. What is written is read back.
    """


@contextmanager
def _connected(talk: Output, rates: Sequence[int] = ()) -> Iterator[AtClient]:
    """Connect to the module; ``rates`` are some that it may have besides the usual ones."""
    from esp_at_tools.at_port.finding import connect
    from esp_at_tools.device.ports import choose_ports

    given = click.get_current_context().meta.get(_KEY, {})
    baud = int(given.get("baud", 0))
    port = choose_ports([given["port"]] if given.get("port") else [])[0]

    def trace(way: str, data: bytes) -> None:
        talk.note(f"{way} {data[:200]!r}{'…' if len(data) > 200 else ''}")

    client = connect(
        port, baud, rates=rates, rtscts=bool(given.get("flow")), note=talk.note,
        trace=trace if talk.verbose > 1 else None,
    )  # fmt: skip
    try:
        yield client
    finally:
        client.wire.close()


@contextmanager
def _running(talk: Output, rates: Sequence[int] = ()) -> Iterator[Running]:
    from esp_at_tools.at_port.contents import Running

    with _connected(talk, rates) as client:
        yield Running.ask(client)


@contextmanager
def _progress(talk: Output) -> Iterator[Callable[[str, int, int], None]]:
    """Show what is done on stderr: a bar on a terminal, else a line for each new thing."""
    if talk.quiet:
        yield lambda _what, _done, _total: None
    elif is_terminal(sys.stderr):
        from rich.progress import Progress

        with Progress(console=talk.console(sys.stderr), transient=True) as bar:
            task = bar.add_task("", total=None)
            yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
    else:
        last = [""]

        def line(what: str, _done: int, _total: int) -> None:
            if what != last[0]:
                talk.note(what)
            last[0] = what

        yield line


# --- asking --------------------------------------------------------------------------------------


@command.command("info", short_help="Say which firmware runs on the module.")
@_connection_options
@json_option
@talk_options
def info() -> None:
    """Say which firmware runs on the module, and how its parameters can be changed."""
    from esp_at_tools.at_port.info import read_commands

    talk = current_output()
    with _running(talk) as module:
        commands = read_commands(module.client)
        document = {"schema": 1, **_identity(module), "commands": list(commands)}
        document["partitions"] = [
            {"name": each.name, "type": each.type, "subtype": each.subtype, "offset": each.offset,
             "size": each.size}
            for each in module.partitions.values()
        ]  # fmt: skip
    if talk.json:
        talk.document(document)
        return
    known = module.info
    for name, value in (
        ("module", f"{known.module or 'unknown'} ({known.chip or 'chip unknown'})"),
        ("firmware", f"{known.firmware_version}, compiled {known.compile_time}"),
        ("AT", known.at_version + (f", commit {known.at_commit}" if known.at_commit else "")),
        ("ESP-IDF", known.sdk_version),
        ("port", f"{module.client.port}, {module.client.wire.baud} baud"),
        ("parameters", _access(module)),
        ("commands", f"{len(commands)}" if commands else "not told"),
    ):
        talk.result(f"{name:11} {value}")
    for each in module.partitions.values():
        talk.result(f"{'partition':11} {each.name:16} {format_size(each.size)} at {each.offset:#x}")


def _access(module: Running) -> str:
    if module.way == "none":
        return "cannot be reached: no AT+SYSMFG, and AT+SYSFLASH shows none (is at_customize.bin flashed?)"
    return f"{module.layout} layout, by AT+{module.way.upper()}"


def _identity(module: Running) -> dict[str, Any]:
    known = module.info
    return {
        "port": module.client.port,
        "baud": module.client.wire.baud,
        "module": known.module,
        "chip": known.chip,
        "firmware_version": known.firmware_version,
        "compile_time": known.compile_time,
        "at_version": known.at_version,
        "sdk_version": known.sdk_version,
        "layout": module.layout,
        "way": module.way,
    }


@command.command("get", short_help="Read settings, certificates and GATT rows.")
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option(
    "-o", "--output", type=PATH, metavar="FILE", help="Write the one certificate or key that is named."
)
@_connection_options
@json_option
@talk_options
def get(names: tuple[str, ...], output: Path | None) -> None:
    """Read from the module what is named, or everything; private keys are never shown.

    A certificate or key can be written to a file: at -p PORT get mqtt_ca -o ca.pem
    """
    from esp_at_tools.pki.names import PKI_ITEMS
    from esp_at_tools.settings.names import check_name

    talk = current_output()
    for name in names:
        check_name(name)
    if output is not None:
        if len(names) != 1 or names[0] not in PKI_ITEMS:
            raise InputError("--output goes with one certificate or key", "name it: at get mqtt_ca -o ca.pem")
        files.check_output(output)
    with _running(talk) as module, _progress(talk) as progress:
        firmware = module.read(names or None, progress)
    missing = [name for name in names if firmware.get(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)}: not on the module", "'at get' without names lists what is")
    if output is not None:
        data = firmware.get(names[0])
        assert isinstance(data, bytes)  # noqa: S101 - PKI items are
        files.write_file(output, data, private=PKI_ITEMS[names[0]].kind == "private_key")
        talk.result(f"{output}: {names[0]}, {len(data)} bytes")
    if talk.json:
        talk.document({"schema": 1, **_identity(module), **_contents(firmware, names)})
    elif output is None:
        _print_contents(talk, firmware, names)


def _contents(firmware: Firmware, names: tuple[str, ...]) -> dict[str, Any]:
    from esp_at_tools.firmware.report import report

    found = report(firmware)

    def wanted(name: str) -> bool:
        return not names or name in names

    return {
        "settings": {name: value for name, value in found["settings"].items() if wanted(name)},
        "pki": [item for item in found["pki"] if wanted(item["name"])],
        "gatts": {name: row for name, row in firmware.gatts().items() if wanted(name)},
    }


def _print_contents(talk: Output, firmware: Firmware, names: tuple[str, ...]) -> None:
    from esp_at_tools.firmware.firmware import PkiDigest

    values: dict[str, object] = {
        **firmware.settings(),
        **{name: PkiDigest.of(data) for name, data in firmware.pki().items()},
        **firmware.gatts(),
    }
    for name, value in values.items():
        if not names or name in names:
            talk.result(f"{name}={shown(value)}")


# --- changing ------------------------------------------------------------------------------------


def _restart_option(command: F) -> F:
    return click.option(
        "--restart", is_flag=True, help="Restart the module afterwards (AT+RST), so that it uses the changes."
    )(command)


@command.command("set", short_help="Change settings, certificates, keys and GATT rows.")
@click.argument("assignments", nargs=-1, metavar="[NAME=VALUE]…")
@click.option("--unset", "removals", multiple=True, metavar="NAME", help="Remove an item; may be repeated.")
@click.option("--profile", type=PATH, metavar="FILE", help="Take changes from this profile.")
@click.option("--force", is_flag=True, help="Allow what is risky; what is impossible stays an error.")
@_restart_option
@_connection_options
@json_option
@talk_options
def set_(
    assignments: tuple[str, ...], removals: tuple[str, ...], profile: Path | None, force: bool, restart: bool
) -> None:
    """Change the module: settings, GATT rows, and with NAME=@FILE certificates and keys.

    The values are checked as modify-bin does, written, and read back. The module uses them after its
    next start. With uart_baudrate goes the rate that the module has stored itself (AT+UART_DEF), which
    would otherwise go before it.
    """
    talk = current_output()
    asked = Asked()
    for assignment in assignments:
        asked.take_assignment(assignment)
    for name in removals:
        asked.remove(name)
    if profile is not None:
        asked.request.add_profile(profile)
    if asked.request.is_empty:
        raise InputError("nothing to change was asked for", "name a change, e.g. uart_baudrate=921600")
    from esp_at_tools.at_port.changing import BAUD, change

    asked_rate = asked.request.settings.get(BAUD)
    rate = asked_rate if isinstance(asked_rate, int) else 0
    with _running(talk, [rate] if rate else []) as module:
        with _progress(talk) as progress:
            outcome, restarted = change(module, asked.request, force=force, progress=progress)
        for warning in outcome.warnings:
            talk.warn(warning)
        restarted = _restarted(talk, module, restarted, wanted=restart and bool(outcome.changes))
    if talk.json:
        talk.document({"schema": 1, **_identity(module), **changes_document(outcome), "restarted": restarted})
        return
    print_changes(talk, outcome)
    if outcome.changes:
        talk.result(f"Written and read back.{_when_used(restarted=restarted)}")


def _restarted(talk: Output, module: Running, restarted: bool, *, wanted: bool) -> bool:
    """Restart the module if that is wanted; tell whether it has started again since it was written."""
    if not wanted:
        return restarted
    from esp_at_tools.at_port.client import NoReplyError
    from esp_at_tools.at_port.uart import restart

    try:
        restart(module.client)
    except NoReplyError as error:
        talk.warn(f"{error.message}: {error.hint}")
    return True


def _when_used(*, restarted: bool) -> str:
    if restarted:
        return " The module was restarted and uses it."
    return " The module uses it after its next start (--restart, AT+RST)."


@command.command("push", short_help="Replace all parameters by those of a firmware.")
@click.argument("input_path", type=PATH, metavar="INPUT")
@_restart_option
@_connection_options
@json_option
@talk_options
def push(input_path: Path, restart: bool) -> None:
    """Replace the module's parameter partitions (mfg_nvs, or those of the legacy layout) by INPUT's.

    INPUT is a lone mfg_nvs.bin, an image, a release or a build folder for the same chip. It goes over
    AT+SYSFLASH: erased, written, read back; what is so already is left alone. A module with AT+SYSMFG
    is restarted then, since that command would damage what it has not read.
    """
    from esp_at_tools.at_port.changing import push as push_to
    from esp_at_tools.firmware.firmware import Firmware

    talk = current_output()
    firmware = Firmware.open(input_file(input_path))
    with _running(talk) as module:
        with _progress(talk) as progress:
            done = push_to(module, firmware, progress)
        for warning in done.warnings:
            talk.warn(warning)
        asked = restart and bool(done.written) and not done.restarted
        restarted = _restarted(talk, module, done.restarted, wanted=asked)
    if talk.json:
        talk.document({
            "schema": 1, **_identity(module), "written": done.written, "warnings": done.warnings,
            "restarted": restarted,
        })  # fmt: skip
        return
    if not done.written:
        talk.result("Nothing to do: the module holds all of it already.")
        return
    talk.result(f"Written and read back: {', '.join(done.written)}.{_when_used(restarted=restarted)}")


# --- by hand -------------------------------------------------------------------------------------


@command.command("run", short_help="Run a script of lines to send and answers to expect.")
@click.argument("script", type=PATH, metavar="SCRIPT")
@_connection_options
@json_option
@talk_options
def run(script: Path) -> None:
    """Run a script; the exit status is 1 when an answer that it expects does not come.

    \b
    send AT+GMR          a line to send
    expect OK            a line that must come, or /a regular expression/
    timeout 10           seconds that each 'expect' waits from here on
    hex 00 FF            bytes to send
    file ca.pem          the bytes of a file to send
    wait 0.5             seconds to wait
    """  # noqa: D301 - click wants the character itself
    from esp_at_tools.at_port.script import load_script, run_script
    from esp_at_tools.errors import CheckFailedError

    talk = current_output()
    steps = load_script(script)
    with _connected(talk) as client:
        try:
            run_script(client.wire, steps, lambda line: talk.note(line) if talk.verbose else None)
        except CheckFailedError as error:
            raise CheckFailedError(f"{script}: {error.message}", error.hint) from error
    if talk.json:
        talk.document({"schema": 1, "port": client.port, "script": str(script), "steps": len(steps)})
    else:
        talk.result(f"{script}: all {len(steps)} steps done")


@command.command("console", short_help="Talk to the module by hand.")
@click.option("--log", "log_path", type=PATH, metavar="FILE", help="Append all that is said to this file.")
@_connection_options
@talk_options
def console(log_path: Path | None) -> None:
    """Send lines and see what comes, with a history and completion of AT commands (Tab).

    :hex 00 FF sends bytes, :file PATH those of a file, :quit or Ctrl-D leaves.
    """
    from esp_at_tools.cli.at_console import talk_by_hand

    talk = current_output()
    with _connected(talk) as client:
        talk_by_hand(talk, client, log_path)

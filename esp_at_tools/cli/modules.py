"""``modules``: list, show, check and define the modules that a firmware can be built for."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esp_at_tools.catalog.module_checks import CheckResult, check_definitions
from esp_at_tools.catalog.module_model import Module
from esp_at_tools.catalog.module_yaml import Level, Problem
from esp_at_tools.catalog.modules import module, modules
from esp_at_tools.cli.common import (
    PATH,
    current_output,
    is_terminal,
    json_option,
    module_dir_option,
    talk_options,
)
from esp_at_tools.cli.modules_add import add
from esp_at_tools.cli.modules_apps import compared, fit_document
from esp_at_tools.errors import FormatError
from esp_at_tools.formats.partition_table import Partition, PartitionTable
from esp_at_tools.numbers import format_size
from esp_at_tools.settings.rules import check_settings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from esp_at_tools.build.plan_app import Fit

_PORT = "AT: TX/RX/CTS/RTS"
_UNLIMITED = 10_000
_SIGNALS = ("tx", "rx", "cts", "rts")


@click.group(
    "modules", short_help="List, show, check and define the modules that a firmware can be built for."
)
@talk_options
def command() -> None:
    """List, show, check and define the modules that a firmware can be built for.

    NAME is ESP32C3/MINI-1, for instance, in any case, with or without PLATFORM_; MINI-1 alone is enough
    where only one chip has a module of that name.
    """


@command.command("list", short_help="List all modules.")
@module_dir_option
@json_option
@talk_options
def list_(folder: Path | None) -> None:
    """List all modules: chip, flash, AT port, description and official releases."""
    talk = current_output()
    known = modules(folder=folder)
    if talk.json:
        talk.document({"schema": 1, "modules": [_summary(each) for each in known]})
    elif not talk.quiet:
        # One line a module for other programs, which do not care how long it is.
        unlimited = "COLUMNS" not in os.environ and not is_terminal(sys.stdout)
        _print_list(talk.console(width=_UNLIMITED if unlimited else None), known)


@command.command("show", short_help="Show everything that is decided for a module.")
@click.argument("name")
@click.option("--silence", is_flag=True, help="The variant without log.")
@module_dir_option
@json_option
@talk_options
def show(name: str, silence: bool, folder: Path | None) -> None:
    """Show everything that the definition of module NAME comes to, and which layer each value is from."""
    talk = current_output()
    known = module(name, silence=silence, folder=folder)
    if talk.json:
        talk.document(_document(known))
    elif not talk.quiet:
        _print_module(talk.console(), known)


@command.command("check", short_help="Check all definitions.")
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option(
    "--app",
    "apps",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="An esp-at.bin, image or release whose application has to fit. May be repeated.",
)
@module_dir_option
@json_option
@talk_options
def check(names: tuple[str, ...], apps: tuple[Path, ...], folder: Path | None) -> None:
    """Check all definitions, your own with --dir included, or those of some modules.

    Unknown names, repeated options, tables that overlap or reach past the flash, features without their
    partitions, impossible parameters. An application is compared with the modules of its chip: with NAME
    if given, else with the one that the firmware names and those of --dir, else with all. Without --app,
    each module is compared with its newest release in the cache, if one is there.
    The exit status is 1 if there is an error; warnings alone leave it 0.
    """
    talk = current_output()
    result = check_definitions(folder)
    chosen, fitting = _chosen(result, names, apps, folder)
    problems = _of_modules(result, chosen)
    for row in result.rows:
        if chosen and row.full_name not in {each.full_name for each in chosen}:
            continue
        for found in check_settings(row.parameters, {}, row.chip, layout="modern"):
            level: Level = "error" if found.level == "impossible" else "warning"
            problems.append(Problem(level, row.place, found.message, found.hint))
    problems += [Problem(fit.level, fit.module, fit.message, fit.hint) for fit in fitting if fit.level]
    if talk.json:
        talk.document(
            {
                "schema": 1,
                "dir": None if folder is None else str(folder),
                "modules": len(chosen) or len(result.rows),
                "applications": [fit_document(fit) for fit in fitting],
                "problems": [asdict(problem) for problem in problems],
            }
        )
    for problem in problems if not talk.json else ():
        hint = f" ({problem.hint})" if problem.hint else ""
        click.echo(f"{problem.level}: {_shown(f'{problem.place}: {problem.message}{hint}')}")
    for fit in fitting:
        if not fit.level:
            talk.result(f"{fit.module}: {fit.message}")
    if not problems:
        talk.result(f"{len(chosen) or len(result.rows)} modules, no problems")
    if any(problem.level == "error" for problem in problems):
        click.get_current_context().exit(1)


def _chosen(
    result: CheckResult, names: tuple[str, ...], apps: tuple[Path, ...], folder: Path | None
) -> tuple[tuple[Module, ...], list[Fit]]:
    """Return the modules that were named, and how applications fit; nothing where definitions are broken."""
    if any(problem.level == "error" for problem in result.problems):
        try:
            modules(folder=folder)
        except FormatError:
            if names or apps:
                current_output().note("all definitions are checked, and no application: some are broken")
            return (), []
    chosen = tuple(module(name, folder=folder) for name in names)
    return chosen, compared(apps, chosen, folder)


def _of_modules(result: CheckResult, chosen: tuple[Module, ...]) -> list[Problem]:
    """Return the problems, those about other modules left out where some were chosen."""
    others = {row.full_name for row in result.rows} - {each.full_name for each in chosen}
    return [
        problem for problem in result.problems if not chosen or problem.place.partition(": ")[0] not in others
    ]


command.add_command(add)


def _shown(text: str) -> str:
    """Return a text from a file without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


# --- JSON ------------------------------------------------------------------------------------------------


def _port(known: Module) -> dict[str, Any]:
    """Return where the AT commands arrive: the interface, and for a UART its number and pins."""
    interface = known.features["interface"].state
    port: dict[str, Any] = {"interface": interface}
    if interface == "uart":
        port["uart"] = known.parameters.get("uart_port")
        port |= {signal: known.parameters.get(f"uart_{signal}_pin") for signal in _SIGNALS}
    return port


def _flash(known: Module) -> dict[str, Any]:
    return {"size": known.flash.size, "mode": known.flash.mode, "freq": known.flash.freq}


def _summary(known: Module) -> dict[str, Any]:
    recommended = known.recommended_release
    return {
        "name": known.full_name,
        "platform": known.platform,
        "module_name": known.name,
        "chip": known.chip.name,
        "description": known.description,
        "flash": _flash(known),
        "at_port": _port(known),
        "releases": [release.version for release in known.releases],
        "recommended_release": recommended.version if recommended else None,
    }


def _document(known: Module) -> dict[str, Any]:
    return {
        "schema": 1,
        **_summary(known),
        "silence": known.silence,
        "layers": list(known.layers),
        "sources": dict(known.sources),
        "idf": asdict(known.idf),
        "submodules": [asdict(each) for each in known.submodules],
        "parameters": dict(known.parameters),
        "features": {
            name: {"state": each.state, "on": each.is_on, "layer": each.layer, "missing": each.missing}
            for name, each in known.features.items()
        },
        "partition_table_offset": known.partition_table_offset,
        "partitions": [
            {"table": role, **asdict(each), "type_name": each.type_name, "subtype_name": each.subtype_name}
            for role, table in (("primary", known.primary), ("secondary", known.secondary))
            for each in table
        ],
        "mfg_nvs": list(known.mfg_nvs),
        "options": {name: asdict(each) for name, each in known.options.items()},
        "releases": [asdict(release) for release in known.releases],
    }


# --- for people ------------------------------------------------------------------------------------------


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        # A name that is cut is of no use; what is long wraps instead.
        table.add_column(column, overflow="fold", no_wrap=column in ("Module", "Flash", _PORT))
    return table


def _print(console: Console, table: Table) -> None:
    for line in _lines(console, table):
        click.echo(line)


def _fits(console: Console, table: Table) -> bool:
    """Tell whether no cell of a table has to wrap."""
    natural = console.measure(table, options=console.options.update(max_width=_UNLIMITED))
    return natural.maximum <= console.width


def _lines(console: Console, table: Table) -> list[str]:
    """Return the lines of a table without blanks at their ends."""
    with console.capture() as capture:
        console.print(table)
    text = capture.get()
    if console.options.ascii_only:
        text = text.replace("→", "->").replace("…", "...")
    return [line.rstrip() for line in text.splitlines()]


def _print_list(console: Console, known: tuple[Module, ...]) -> None:
    """Print a line for each module; the description stands below it where the terminal is too narrow."""
    wide = _list(known, describe=True)
    if _fits(console, wide):
        _print(console, wide)
        return
    heading, *lines = _lines(console, _list(known, describe=False))
    click.echo(heading)
    for line, each in zip(lines, known, strict=False):
        click.echo(f"{line}\n    {each.description}")


def _list(known: tuple[Module, ...], *, describe: bool) -> Table:
    table = _table("Module", "Flash", _PORT, *(("Description",) if describe else ()), "Release + older")
    for each in known:
        description = (each.description,) if describe else ()
        size = format_size(each.flash.size)
        table.add_row(each.full_name, size, _port_text(each), *description, _releases(each))
    return table


def _port_text(known: Module) -> str:
    port = _port(known)
    if port["interface"] != "uart":
        return str(port["interface"]).upper()
    pins = "/".join("-" if port[signal] == -1 else str(port[signal]) for signal in _SIGNALS)
    return f"UART{port['uart']} {pins}"


def _releases(known: Module) -> str:
    recommended = known.recommended_release
    newest = recommended or (known.releases[0] if known.releases else None)
    if newest is None:
        return "none"
    more = f" +{len(known.releases) - 1}" if len(known.releases) > 1 else ""
    return f"{newest.version}{more}{'' if recommended else ' (old)'}"


def _print_module(console: Console, known: Module) -> None:
    silent = ", silence" if known.silence else ""
    click.echo(f"{known.full_name}{silent}\n")
    _print(console, _overview(known))
    features = _features(known, describe=True)
    for title, table in (
        ("Parameters", _parameters(known)),
        ("Features", features if _fits(console, features) else _features(known, describe=False)),
        (
            f"Primary table at {known.partition_table_offset:#x}: {known.primary_name}",
            _partitions(known.primary),
        ),
        (f"Secondary table, in at_customize: {known.secondary_name}", _partitions(known.secondary)),
    ):
        _print_title(console, title)
        _print(console, table)
    _print_title(console, "Options of the sdkconfig; others are left to their Kconfig")
    click.echo(known.sdkconfig_defaults(), nl=False)


def _print_title(console: Console, title: str) -> None:
    click.echo(
        f"\n{click.style(title, bold=True) if console.color_system and not console.no_color else title}"
    )


def _overview(known: Module) -> Table:
    table = _table("", "", "")
    table.show_header = False
    flash = known.flash
    rows = [
        ("what", known.description, ""),
        ("chip", known.chip.title, ""),
        ("flash", f"{format_size(flash.size)} {flash.mode} {flash.freq}", _flash_source(known)),
        ("AT port", _port_text(known), known.features["interface"].layer),
        ("ESP-IDF", f"{known.idf.branch or known.idf.tag} {known.idf.commit[:10]}", known.sources["idf"]),
        *(("submodule", f"{each.path} {each.commit[:10]}", "") for each in known.submodules),
        ("layers", " → ".join(known.layers), ""),
        ("mfg_nvs", " ".join(known.mfg_nvs), ""),
        ("releases", _release_text(known), ""),
    ]
    for name, value, source in rows:
        table.add_row(name, f"{value}  ({source})" if source else value)
    return table


def _flash_source(known: Module) -> str:
    return ", ".join(dict.fromkeys(known.sources[f"flash.{key}"] for key in ("size", "mode", "freq")))


def _release_text(known: Module) -> str:
    return ", ".join(
        f"{each.version}{' (recommended)' if each.recommended else ''}" for each in known.releases
    ) or "none"  # fmt: skip


def _parameters(known: Module) -> Table:
    table = _table("Name", "Value", "Type")
    for name, value in known.parameters.items():
        table.add_row(name, str(value), known.parameter_types[name])
    return table


def _features(known: Module, *, describe: bool) -> Table:
    table = _table("Name", "State", "From", *(("What",) if describe else ()))
    for name, each in known.features.items():
        state = each.state or "-"
        if each.missing:
            state += f" (needs {each.missing})"
        about = (each.about,) if describe else ()
        table.add_row(name, state, each.layer, *about, style="" if each.is_on else "dim")
    return table


def _partitions(partitions: PartitionTable) -> Table:
    table = _table("Name", "Type", "Subtype", "Offset", "Size")
    for each in partitions:
        table.add_row(*_partition(each))
    return table


def _partition(each: Partition) -> tuple[str, ...]:
    return each.name, each.type_name, each.subtype_name, f"{each.offset:#x}", format_size(each.size)

"""``sdkconfig``: resolve a full sdkconfig without cmake, and compare two."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esp_at_tools.cli.common import PATH, F, current_output, is_terminal, json_option, say, talk_options
from esp_at_tools.errors import InputError
from esp_at_tools.files import read_file, write_file
from esp_at_tools.formats.sdkconfig import Sdkconfig, difference

if TYPE_CHECKING:
    from rich.table import Table

    from esp_at_tools.build.tree_kconfig import ModuleKconfig

Difference = tuple[str, str | None, str | None]

_FILES = ("sdkconfig", "sdkconfig.defaults")
_MAX_SDKCONFIG = 4 << 20


@click.group("sdkconfig", short_help="Resolve a full sdkconfig without cmake; compare two.")
@talk_options
def command() -> None:
    """Resolve the full sdkconfig of a module from the Kconfig files of an ESP-IDF, and compare two."""


def checkout_options(function: F) -> F:
    """Add what tells which module of which checkout is meant."""
    for decorate in (
        click.option("--silence", is_flag=True, help="The variant without log."),
        click.option(
            "--module", "-m", "name", metavar="NAME",
            help="The module: ESP32C3/MINI-1.  [default: as in build/module_info.json, else it asks]",
        ),
        click.option(
            "--dir", "folder", type=PATH, metavar="DIR",
            help="An external module configuration.  [environment: AT_EXT_MODULE_CFG]",
        ),
        click.option(
            "--idf", type=PATH, metavar="DIR",
            help="The ESP-IDF; it need not be installed.  [default: esp-idf in the checkout, else IDF_PATH]",
        ),
        click.option(
            "--project", type=PATH, default=Path(), metavar="DIR",
            help="The checkout of esp-at.  [default: the current folder]",
        ),
    ):  # fmt: skip
        function = decorate(function)
    return function


def open_module(
    project: Path, folder: Path | None, idf: Path | None, name: str | None, *, silence: bool
) -> ModuleKconfig:
    """Return what makes the sdkconfig of a module.

    Args:
        project: the checkout.
        folder: its external module configuration, None for what the environment says.
        idf: the ESP-IDF, None for the one of the checkout or of the environment.
        name: the module, None for the one that the checkout was built for last, or to ask.
        silence: the variant without log.

    Raises:
        InputError: there is no such checkout, module or ESP-IDF.
    """
    from esp_at_tools.build.tree_kconfig import find_idf, module_kconfig, open_extended
    from esp_at_tools.cli.module_choice import chosen_module
    from esp_at_tools.workspace.kconfig_patches import patch_warnings

    source = open_extended(project, folder, os.environ)
    name, silence = chosen_module(project, name, silence=silence)
    row = source.module(name)
    found = find_idf(source, idf, os.environ)
    if found is None:
        own = project / "esp-idf"
        raise InputError(
            f"{own}: {'is no ESP-IDF' if own.is_dir() else 'no such folder'}: its Kconfig files are needed",
            "check ESP-IDF out there, or give --idf DIR or IDF_PATH; it need not be installed",
        )
    module = module_kconfig(source, row, found, silence=silence, environment=os.environ)
    warnings = patch_warnings(source, row.full_name, found, module.environment)
    return replace(module, warnings=(*module.warnings, *warnings))


@command.command("resolve", short_help="Make the full sdkconfig of a module of a checkout.")
@checkout_options
@click.option("--output", "-o", type=PATH, required=True, metavar="FILE", help="The sdkconfig to write.")
@json_option
@talk_options
def resolve_command(
    project: Path, folder: Path | None, idf: Path | None, name: str | None, silence: bool, output: Path
) -> None:
    """Make the full sdkconfig of a module, as ESP-IDF's build does, without cmake, compiler or installation.

    Read are the module's sdkconfig.defaults, those of --dir or AT_EXT_MODULE_CFG, and last what menuconfig
    has saved in sdkconfig.overlay/. Kconfig files are those of ESP-IDF, of the checkout, of
    AT_CUSTOM_COMPONENTS and of managed_components/ as far as that is on disk.
    """
    from esp_at_tools.kconfig.resolve import with_overlay

    talk = current_output()
    module = open_module(project, folder, idf, name, silence=silence)
    files = with_overlay(module.defaults, module.overlay)
    resolved = module.resolved()
    write_file(output, resolved.text.encode())
    warnings = [*module.warnings, *resolved.warnings]
    for warning in warnings:
        talk.warn(warning)
    for note in resolved.notes if talk.verbose else ():
        talk.note(note)
    if talk.json:
        talk.document(
            {
                "schema": 1,
                "module": module.name,
                "chip": module.tree.chip,
                "idf": str(module.tree.idf),
                "idf_version": module.tree.idf_version,
                "files": [str(path) for path in files],
                "overlay": str(module.overlay) if module.overlay in files else None,
                "output": str(output),
                "options": len(resolved.config.options),
                "warnings": warnings,
                "notes": list(resolved.notes),
            }
        )
    last = f", with {module.overlay}" if module.overlay in files else ""
    talk.result(
        f"{output}: {len(resolved.config.options)} options of {module.name},"
        f" from ESP-IDF {module.tree.idf_version}{last}"
    )


@command.command("diff", short_help="Say which options differ between two sdkconfigs.")
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option("--common", is_flag=True, help="Only options that both name.")
@json_option
@talk_options
def diff(a: Path, b: Path, common: bool) -> None:
    """Say which options differ between A and B; the exit status is 1 if any does.

    Each is an sdkconfig, an sdkconfig.defaults, or a folder that holds one. An option that a file does not
    name is not the same as one that is off: --common leaves those out.
    """
    talk = current_output()
    found = [each for each in difference(_read(a), _read(b)) if not common or None not in each]
    if talk.json:
        talk.document(
            {
                "schema": 1,
                "a": str(a),
                "b": str(b),
                "equal": not found,
                "differences": [{"name": name, "a": old, "b": new} for name, old, new in found],
            }
        )
    elif not talk.quiet:
        _print(found, a, b)
    if found:
        raise click.exceptions.Exit(1)


def _read(path: Path) -> Sdkconfig:
    file = path
    if path.is_dir():
        held = [path / name for name in _FILES if (path / name).is_file()]
        if not held:
            raise InputError(f"{path}: holds no sdkconfig", f"give a folder with {' or '.join(_FILES)}")
        file = held[0]
    return Sdkconfig.from_bytes(read_file(file, "sdkconfig", _MAX_SDKCONFIG), str(file))


def _print(found: list[Difference], a: Path, b: Path) -> None:
    talk = current_output()
    if not found:
        talk.result(f"No option differs between {a} and {b}.")
    elif is_terminal(sys.stdout):
        print_table(found, "A", "B")
    else:
        for name, old, new in found:
            say(f"CONFIG_{name}  {_shown(old)} → {_shown(new)}")


def print_table(found: list[Difference], a: str, b: str) -> None:
    """Print what differs for people at a terminal."""
    console = current_output().console()
    with console.capture() as capture:
        console.print(_table(found, a, b))
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


def _table(found: list[Difference], a: str, b: str) -> Table:
    from rich.table import Table

    from esp_at_tools.cli.inspect_view import clean

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("Option", a, b):
        table.add_column(column, overflow="fold")
    for name, old, new in found:
        table.add_row(f"CONFIG_{name}", clean(_shown(old)), clean(_shown(new)))
    return table


def _shown(value: str | None) -> str:
    return "absent" if value is None else value

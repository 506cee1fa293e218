"""``inspect``: the X-ray of a firmware."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esp_at_tools import files
from esp_at_tools.cli.common import (
    PATH,
    Output,
    chip_name,
    current_output,
    input_file,
    input_options,
    json_option,
    module_dir_option,
    talk_options,
)
from esp_at_tools.cli.inspect_view import clean, tally
from esp_at_tools.firmware.firmware import Firmware

CHECK_FAILED = 1
PAGE_SUFFIXES = (".html", ".htm")


@click.command("inspect", short_help="Show what a firmware is, and check it.")
@click.argument("input_path", type=PATH, metavar="INPUT")
@click.option("--check", is_flag=True, help="Exit with status 1 when a check finds an error.")
@click.option("--html", type=PATH, metavar="FILE", help="Write the report as one page that works offline.")
@input_options
@module_dir_option
@json_option
@talk_options
def command(
    input_path: Path,
    check: bool,
    html: Path | None,
    chip: str,
    module: str,
    folder: Path | None,
    partition_table_offset: int | None,
    parameter_offset: int | None,
) -> None:
    """Show what a firmware is: flash map, applications, settings, certificates, Bluetooth services.

    INPUT is a full flash image, a release folder or its .zip, a lone mfg_nvs.bin or factory_param.bin,
    or an official release as NAME@VERSION, such as ESP32C3/MINI-1@latest.
    Everything is checked; no byte of a private key is shown.
    """
    from esp_at_tools.firmware.report import report

    talk = current_output()
    input_path = input_file(input_path)
    firmware = Firmware.open(
        input_path,
        chip=chip_name(chip, module, folder),
        partition_table_offset=partition_table_offset,
        parameter_offset=parameter_offset,
    )
    found = report(firmware)
    if html is not None:
        from esp_at_tools.cli.inspect_html import render

        _check_apart(html, input_path)
        files.write_file(html, render(found).encode("utf-8"))
    _show(talk, found, html, check=check)
    if check and any(finding["level"] == "error" for finding in found["checks"]):
        raise click.exceptions.Exit(CHECK_FAILED)


def _check_apart(html: Path, input_path: Path) -> None:
    """Refuse to write the page over the firmware, or over a file of a release folder."""
    from esp_at_tools.errors import InputError

    if not html.is_file():
        return
    if html.samefile(input_path):
        raise InputError(f"--html {html}: is the input itself", "give another path")
    if input_path.resolve() in html.resolve().parents and html.suffix.lower() not in PAGE_SUFFIXES:
        raise InputError(f"--html {html}: is a file of the input", "give a path that ends in .html")


def _show(talk: Output, found: dict[str, Any], html: Path | None, *, check: bool) -> None:
    """Print the report in the form that was asked for; ``--quiet`` leaves errors and warnings.

    A page has everything, so that besides it only what ``--check`` fails for is told, unless ``--verbose``.
    """
    if talk.json:
        if html is not None:
            talk.note(f"written: {clean(html)}")
        talk.document(found)
    elif talk.quiet:
        _tell(found, ("error", "warning"))
    elif html is not None and not talk.verbose:
        talk.result(f"written: {clean(html)} (checks: {tally(found)})")
        if check:
            _tell(found, ("error",))
    else:
        from esp_at_tools.cli.inspect_terminal import print_report

        print_report(talk.console(), found)
        if html is not None:
            talk.note(f"written: {clean(html)}")


def _tell(found: dict[str, Any], levels: tuple[str, ...]) -> None:
    for finding in found["checks"]:
        if finding["level"] in levels:
            click.echo(f"{finding['level']}: {clean(finding['message'])}", err=True)

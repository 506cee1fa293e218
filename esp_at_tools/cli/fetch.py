"""``fetch``: download an official release, once."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from esp_at_tools import files
from esp_at_tools.catalog.release_lookup import find_release, find_releases
from esp_at_tools.catalog.releases import Release, parse_reference, releases
from esp_at_tools.cli.common import (
    PATH,
    Output,
    current_output,
    is_terminal,
    json_option,
    module_dir_option,
    talk_options,
)
from esp_at_tools.cli.download import download_progress
from esp_at_tools.errors import InputError
from esp_at_tools.numbers import format_size
from esp_at_tools.releases.cache import CACHE_VARIABLE, slot
from esp_at_tools.releases.store import SERVER_VARIABLE, Obtained, address_at, obtain

_CHUNK = 1 << 20
_UNLIMITED = 10_000


@click.command("fetch", short_help="Download an official release.")
@click.argument("name", required=False, default="")
@click.option(
    "--version",
    "version",
    default="",
    metavar="VERSION",
    help="v3.3.0.0, latest or recommended.  [default: recommended, else latest]",
)
@click.option("--output", "-o", type=PATH, metavar="DIR", help="Put a copy of the .zip into this folder.")
@click.option(
    "--list", "only_list", is_flag=True, help="List the releases of NAME, or all; download nothing."
)
@click.option(
    "--server",
    default="",
    envvar=SERVER_VARIABLE,
    metavar="URL",
    help=f"A mirror: https://host instead of the official one.  [environment: {SERVER_VARIABLE}]",
)
@click.option("--offline", is_flag=True, help="Take it from the cache, or not at all.")
@module_dir_option
@json_option
@talk_options
def command(
    name: str,
    version: str,
    output: Path | None,
    only_list: bool,
    server: str,
    offline: bool,
    folder: Path | None,
) -> None:
    """Download an official release of module NAME, and print where it is.

    NAME is ESP32C3/MINI-1, for instance, or ESP32C3/MINI-1@v3.3.0.0. The release is kept in the cache
    (ESP_AT_CACHE, else the system's folder for caches) and checked whenever it is used: archive, size, and
    from the second time on its SHA-256. Other commands take NAME@VERSION as their INPUT, too.
    """
    talk = current_output()
    if only_list:
        _check_alone(version, output)
        found = find_releases(name, module_folder=folder) if name else releases()
        _list(talk, found, server)
        return
    if not name:
        raise InputError("no NAME is given", "give a module; 'esp-at-tool fetch --list' has those there are")
    release = find_release(*_reference(name, version), module_folder=folder)
    target = _target(output, release) if output else None
    with download_progress(talk, release, server) as progress:
        obtained = obtain(release, server=server, offline=offline, progress=progress)
    if target:
        files.write_file(target, _chunks(obtained.path))
    if talk.json:
        talk.document(_document(obtained, target))
        return
    hint = " (recommended)" if release.recommended else ""
    talk.note(
        f"{release.full_name} {release.version}{hint}: {format_size(obtained.size)}, "
        f"{'in the cache already' if obtained.cached else 'downloaded'}"
    )
    talk.note(f"SHA-256 {obtained.sha256}")
    talk.result(str(target or obtained.path))


def _check_alone(version: str, output: Path | None) -> None:
    if version or output:
        option = "--version" if version else "--output"
        raise InputError(f"{option} does not go with --list", "leave one of them out")


def _reference(name: str, version: str) -> tuple[str, str]:
    """Return module and version of NAME, which may hold both, and ``--version``."""
    both = parse_reference(name)
    if both is None:
        return name, version
    if version and version != both[1]:
        raise InputError(f"{name} and --version {version} are different versions", "give one of them")
    return both


def _target(output: Path, release: Release) -> Path:
    """Return where the copy goes: into a folder that exists, or to a name that ends in .zip."""
    if output.is_dir():
        return output / release.file_name
    if output.suffix.casefold() == ".zip":
        files.check_output(output)
        return output
    what = "is not a folder" if output.exists() else "no such folder"
    raise InputError(f"--output {output}: {what}", "give an existing folder, or a name that ends in .zip")


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _document(obtained: Obtained, target: Path | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "schema": 1,
        "name": obtained.release.full_name,
        "version": obtained.release.version,
        "recommended": obtained.release.recommended,
        "address": obtained.address,
        "path": str(obtained.path),
        "size": obtained.size,
        "sha256": obtained.sha256,
        "cached": obtained.cached,
    }
    if target:
        document["output"] = str(target)
    return document


# --- the list --------------------------------------------------------------------------------------------


def _list(talk: Output, found: Sequence[Release], server: str) -> None:
    rows = [(each, slot(each)) for each in found]
    if talk.json:
        talk.document({
            "schema": 1,
            "releases": [
                {
                    "name": each.full_name,
                    "version": each.version,
                    "recommended": each.recommended,
                    "address": address_at(each, server),
                    "path": str(place.path),
                    "cached": place.is_filled,
                }
                for each, place in rows
            ],
        })  # fmt: skip
        return
    if talk.quiet:
        return
    from rich import box
    from rich.table import Table

    wide = not is_terminal(sys.stdout)
    table = Table(box=None if wide else box.SIMPLE_HEAD, pad_edge=False)
    for column in ("module", "version", "", "address" if wide else "file"):
        table.add_column(column, no_wrap=True)
    for each, place in rows:
        notes = [
            word for word, true in (("recommended", each.recommended), ("cached", place.is_filled)) if true
        ]
        what = address_at(each, server) if wide else each.file_name
        table.add_row(each.full_name, each.version, ", ".join(notes), what)
    talk.table(table, width=_UNLIMITED if wide else None)
    talk.note(f"releases are kept in {slot(found[0]).path.parents[3]}; {CACHE_VARIABLE} names another folder")

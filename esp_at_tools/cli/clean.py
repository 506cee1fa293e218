"""``clean``: take back what builds have left in a checkout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from esp_at_tools.cli.common import PATH, Output, current_output, json_option, talk_options
from esp_at_tools.errors import CheckFailedError
from esp_at_tools.workspace.checkout import Checkout
from esp_at_tools.workspace.clean import Cleaned, Removed, build_folders, clean_patches, remove_build
from esp_at_tools.workspace.compile_variant import BUILD
from esp_at_tools.workspace.ota_tokens import HEADER, holds_tokens, remove_tokens

STAYS = "stays"
_UNITS = ((1 << 20, "MiB"), (1 << 10, "KiB"))


@click.command("clean", short_help="Take esp-at's patches back, and remove the build folder.")
@click.option("--project", type=PATH, metavar="DIR", help="The checkout.  [default: the current folder]")
@click.option("--patches", is_flag=True, help="The patches, and OTA tokens that were left, only.")
@click.option("--build", "builds", is_flag=True, help="The build folder only.")
@click.option("--all", "every", is_flag=True, help="The build folders kept for other modules too.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
@json_option
@talk_options
def command(project: Path | None, patches: bool, builds: bool, every: bool, dry_run: bool) -> None:
    """Take back what builds have left in an esp-at checkout: its patches in ESP-IDF, and the build folder.

    OTA tokens, which a build that was killed leaves in a header, are taken out, too.
    Nothing that a person has made goes: sdkconfig, its overlay, changes of your own in ESP-IDF, and for
    which module the checkout is built. A patch that cannot be taken back, since its lines were changed
    after it, stays; the exit status is 1 then.
    """
    talk = current_output()
    checkout = Checkout.open(project or Path())
    both = patches == builds
    folders = build_folders(checkout, every=every) if builds or both else ()
    states = clean_patches(checkout, os.environ, dry_run=dry_run) if patches or both else []
    tokens = holds_tokens(checkout.root) if patches or both else False
    if tokens and not dry_run:
        remove_tokens(checkout.root)
    removed = [found for each in folders if (found := remove_build(each, dry_run=dry_run))]
    if talk.json:
        talk.document(_document(checkout, states, removed, tokens=tokens, dry_run=dry_run))
    else:
        _print(talk, states, removed, tokens=tokens, dry_run=dry_run)
    stuck = [state for state in states if state.result == STAYS]
    if stuck:
        raise CheckFailedError(stuck[0].message, stuck[0].hint)


def _document(
    checkout: Checkout, states: list[Cleaned], removed: list[Removed], *, tokens: bool, dry_run: bool
) -> dict[str, Any]:
    return {
        "schema": 1,
        "project": str(checkout.root),
        "dry_run": dry_run,
        "patches": [
            {"name": state.patch.name, "path": state.patch.path.as_posix(), "result": state.result}
            for state in states
        ],
        "tokens": tokens,
        "removed": [{"folder": str(each.folder), "size": each.size, "whole": each.whole} for each in removed],
    }


def _print(
    talk: Output, states: list[Cleaned], removed: list[Removed], *, tokens: bool, dry_run: bool
) -> None:
    would = "would be " if dry_run else ""
    for state in states:
        said = state.result if state.result == STAYS else f"{would}{state.result}"
        talk.result(f"{state.patch.name}  {said}  ({state.patch.path.as_posix()})")
    if tokens:
        talk.result(f"OTA tokens  {would}taken out  ({HEADER.as_posix()})")
    for each in removed:
        talk.result(f"{each.folder}  {would}{_what(each)}  ({_readable(each.size)})")
    if not states and not removed and not tokens:
        talk.result("Nothing to clean.")


def _what(removed: Removed) -> str:
    """Return what became of a build folder."""
    if removed.whole:
        return "removed"
    if removed.folder.name == BUILD:
        return "emptied, but for the choice of the module"
    return "emptied, but for the list of what menuconfig has put into its sdkconfig"


def _readable(size: int) -> str:
    return next((f"{size / unit:.1f} {name}" for unit, name in _UNITS if size >= unit), f"{size} bytes")

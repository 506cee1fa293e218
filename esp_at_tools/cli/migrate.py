"""``migrate``: carry settings, certificates, keys and the GATT table into a newer firmware."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from esp_at_tools import files
from esp_at_tools.cli.common import (
    NUMBER,
    PATH,
    Output,
    chip_name,
    current_output,
    input_file,
    json_option,
    talk_options,
)
from esp_at_tools.cli.flash_hint import flash_lines
from esp_at_tools.errors import InputError
from esp_at_tools.firmware.firmware import Firmware, PkiDigest
from esp_at_tools.firmware.migrate import GATT_TABLE, Carried, Kept, Lost, Migration, migrate
from esp_at_tools.settings.names import gatt_row_index

MAX_ROWS_NAMED = 6
"""Most changed rows of the GATT table that are named; ``--json`` has all."""

_OTA_TITLES = {
    True: "An update over the air from OLD to NEW is possible",
    False: "An update over the air from OLD to NEW is not possible",
    None: "Whether an update over the air is possible is not known",
}


@click.command("migrate", short_help="Carry settings and certificates into a newer firmware.")
@click.argument("old_path", type=PATH, metavar="OLD")
@click.argument("new_path", type=PATH, metavar="NEW")
@click.option(
    "--output",
    "-o",
    type=PATH,
    metavar="OUT",
    help="Where to write NEW with what OLD has, in NEW's form; not needed with --dry-run.",
)
@click.option(
    "--keep",
    multiple=True,
    metavar="NAME",
    help="Leave a setting, certificate or key, or the GATT table ('gatts'), as NEW has it. May be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be carried; write nothing.")
@click.option(
    "--strict", is_flag=True, help="Write nothing, and exit with 1, if anything has no place in NEW."
)
@click.option("--force", is_flag=True, help="Allow what is risky; what is impossible stays an error.")
@click.option("--chip", default="", metavar="CHIP", help="The chip, where neither of the two tells it.")
@click.option(
    "--partition-table-offset",
    type=NUMBER,
    metavar="N",
    help="Where the table is in both.  [default: 0x8000]",
)
@json_option
@talk_options
def command(
    old_path: Path,
    new_path: Path,
    output: Path | None,
    keep: tuple[str, ...],
    dry_run: bool,
    strict: bool,
    force: bool,
    chip: str,
    partition_table_offset: int | None,
) -> None:
    """Carry settings, certificates, keys and the GATT table of firmware OLD into firmware NEW.

    OLD may be what was read from a device's flash, and each of the two an official release as NAME@VERSION.
    NEW keeps its application, bootloader, partition tables, and the names of its module and version; it is
    not changed itself. What has no place in NEW is listed, and so is what stands against an update over
    the air.
    """
    talk = current_output()
    old_path, new_path = input_file(old_path), input_file(new_path)
    target = None if dry_run else _checked_target(output, old_path, new_path)
    old, new = _open(old_path, new_path, chip_name(chip, ""), partition_table_offset)
    result = migrate(old, new, keep=keep, force=force)
    refused = strict and bool(result.lost)
    if target is not None and not refused:
        _write(new, target)
    else:
        target = None
    for warning in result.outcome.warnings:
        talk.warn(warning)
    if talk.json:
        talk.document(_document(result, old_path, new_path, target, dry_run=dry_run))
    else:
        _print(talk, result, new, target)
        if refused:
            talk.note(
                f"note: nothing was written: --strict, and {len(result.lost)} of OLD has no place in NEW"
            )
    if refused:
        raise click.exceptions.Exit(1)


def _open(old_path: Path, new_path: Path, chip: str, offset: int | None) -> tuple[Firmware, Firmware]:
    """Open the two; a partition alone that does not tell its chip is taken to be for that of the other."""
    pair = tuple(Firmware.open(path, partition_table_offset=offset) for path in (old_path, new_path))
    told = next((firmware.chip_name for firmware in reversed(pair) if firmware.chip_name), "")
    if chip and told and chip != told:
        raise InputError(f"--chip {chip}: the firmware is for {told}", "leave --chip out")
    assumed = told or chip
    for firmware in pair:
        if assumed and not firmware.chip_name:
            current_output().note(
                f"note: {firmware.source.path}: does not tell its chip; taken to be for {assumed}"
            )
    old, new = (
        firmware if firmware.chip_name or not assumed else Firmware.open(firmware.source.path, chip=assumed)
        for firmware in pair
    )
    return old, new


# --- writing -------------------------------------------------------------------------------------


def _checked_target(output: Path | None, old: Path, new: Path) -> Path:
    """Return the output, after refusing one that cannot be written or is an input."""
    if output is None:
        raise InputError("--output: where to write is not given", "give -o OUT, or --dry-run to look only")
    for read in (old, new):
        if read.exists() and (
            output.resolve() == read.resolve() or read.resolve() in output.resolve().parents
        ):
            raise InputError(
                f"--output {output}: is, or lies in, the input {read}", "give another output path"
            )
    (files.check_new_folder if new.is_dir() else files.check_output)(output)
    return output


def _write(new: Firmware, target: Path) -> None:
    with files.written_together(private=bool(new.key_partitions)) as pending:
        pending.append(new.stage(target))


# --- reporting -----------------------------------------------------------------------------------


def _document(
    result: Migration, old: Path, new: Path, target: Path | None, *, dry_run: bool
) -> dict[str, Any]:
    return {
        "schema": 1,
        "old": str(old),
        "new": str(new),
        "output": None if target is None else str(target),
        "dry_run": dry_run,
        "carried": [asdict(each) for each in result.carried],
        "lost": [asdict(each) for each in result.lost],
        "kept": [asdict(each) for each in result.kept],
        "unneeded": [asdict(each) for each in result.unneeded],
        "not_carried": [asdict(each) for each in result.not_carried],
        "ota": asdict(result.ota),
        "changes": [asdict(change) for change in result.outcome.changes],
        "warnings": result.outcome.warnings,
    }


def _shown(value: object) -> str:
    if value is None:
        return "absent"
    if isinstance(value, PkiDigest):
        return f"{value.size} bytes, SHA-256 {value.sha256[:12]}…"
    if isinstance(value, list):
        return f"{len(value)} rows"
    return repr(value) if value == "" else str(value)


def _print(talk: Output, result: Migration, new: Firmware, target: Path | None) -> None:
    _print_carried(talk, result, new)
    _section(talk, "Kept as NEW has it", [(each.name, _kept(each)) for each in result.kept])
    _section(talk, "Lost, for it has no place in NEW", [(each.name, _why(each)) for each in result.lost])
    if talk.verbose:
        rows = [(each.name, _why(each)) for each in result.unneeded]
        _section(talk, "Left out, and not missed", rows)
    _section(
        talk,
        "Not carried, for the device itself has stored it",
        [(each.name, _why(each)) for each in result.not_carried],
    )
    talk.result(f"{_OTA_TITLES[result.ota.possible]}{':' if result.ota.reasons else '.'}")
    for finding in result.ota.reasons:
        talk.result(f"  {finding.level}: {finding.message}")
        if finding.hint:
            talk.result(f"    {finding.hint}")
    if target is None:
        talk.result("Nothing was written.")
        return
    form = {"release": "a folder" if target.is_dir() else "a .zip"}.get(new.kind, "")
    talk.result(f"Written and read back: {target}{f' ({form}, as NEW)' if form else ''}")
    for line in flash_lines(new, target, []):
        talk.result(line)


def _print_carried(talk: Output, result: Migration, new: Firmware) -> None:
    before: dict[str, object] = {
        **new.opened.settings,
        **{name: PkiDigest.of(data) for name, data in new.opened.pki.items()},
    }
    changed = [each for each in result.carried if each.changed]
    if new.opened.gatts:
        before[GATT_TABLE] = list(new.opened.gatts.values())
    rows = [
        (each.name, f"{_shown(before.get(each.name))} → {_shown(each.value)}{_remarks(each, result)}")
        for each in changed
    ]
    _section(talk, "Carried from OLD", rows)
    same = len(result.carried) - len(changed)
    if same:
        talk.result(f"Carried, and NEW had the same: {same} of {len(result.carried)}.")
    if not result.carried:
        talk.result("There was nothing to carry.")


def _remarks(carried: Carried, result: Migration) -> str:
    remarks = [carried.note] if carried.note else []
    if carried.name == GATT_TABLE:
        rows = [change.name for change in result.outcome.changes if gatt_row_index(change.name) is not None]
        named = f"{', '.join(rows[:MAX_ROWS_NAMED])}{' …' if len(rows) > MAX_ROWS_NAMED else ''}"
        remarks.insert(0, f"other than NEW's: {named}")
    if carried.official_default:
        remarks.append("OLD's is Espressif's default for its module")
    return f"  ({'; '.join(remarks)})" if remarks else ""


def _kept(kept: Kept) -> str:
    old = "" if kept.old is None else f", not {_shown(kept.old)}"
    return f"{_shown(kept.value)}{old} ({kept.why})"


def _why(lost: Lost) -> str:
    return f"{lost.reason} ({lost.hint})" if lost.hint else lost.reason


def _section(talk: Output, title: str, rows: list[tuple[str, str]]) -> None:
    if not rows:
        return
    talk.result(f"{title}:")
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        talk.result(f"  {name:{width}}  {text}")

"""``flash``: write a firmware, or some of its partitions, to modules on serial ports."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from esp_at_tools import files
from esp_at_tools.cli.common import PATH, Output, current_output, input_file, json_option, talk_options
from esp_at_tools.cli.device_options import baud_option, ports_option, stub_option, table_option
from esp_at_tools.cli.device_steps import watched
from esp_at_tools.cli.flash_hint import PORT
from esp_at_tools.device.boards import flash_boards
from esp_at_tools.device.esptool_command import EsptoolCommands, esptool_commands
from esp_at_tools.device.esptool_device import Link
from esp_at_tools.device.flashing import Receipt, summary
from esp_at_tools.device.plan import BOOTLOADER_NAME, FlashPlan, make_plan
from esp_at_tools.device.ports import choose_ports
from esp_at_tools.errors import InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.source import StagedFile
from esp_at_tools.numbers import format_size

BUILD_FOLDER = Path("build")
"""What is flashed when no INPUT is given."""
DEVICE_FAILED = 3


@click.command("flash", short_help="Write a firmware, or some of its partitions, to modules.")
@click.argument("input_path", type=PATH, metavar="[INPUT]", required=False)
@ports_option
@baud_option
@click.option(
    "--only",
    multiple=True,
    metavar="PARTITION",
    help="Write this partition of either table and nothing else; may be repeated.",
)
@click.option("--verify", is_flag=True, help="Compare everything once more when all is written.")
@click.option(
    "--erase", is_flag=True, help="Erase the whole flash first, what the module has stored included."
)
@click.option("--dry-run", is_flag=True, help="Say what would be written where; no module is needed.")
@stub_option
@click.option(
    "--parts-output",
    type=PATH,
    metavar="DIR",
    help="Write the pieces as files into this new folder, for esptool; needs --dry-run.",
)
@table_option
@json_option
@talk_options
def command(
    input_path: Path | None,
    ports: tuple[str, ...],
    baud: int,
    only: tuple[str, ...],
    verify: bool,
    erase: bool,
    dry_run: bool,
    no_stub: bool,
    parts_output: Path | None,
    partition_table_offset: int | None,
) -> None:
    """Write a firmware to the flash of modules.

    INPUT is a full flash image, a release folder or its .zip, a build folder (without INPUT: build/),
    a lone mfg_nvs.bin or factory_param.bin, which goes where the module's own tables have it, or an
    official release as NAME@VERSION, such as ESP32C3/MINI-1@latest.

    Sectors that are so already are skipped. What the module itself has stored (its Wi-Fi network,
    AT+SYSSTORE, files) is kept unless --erase is given.
    """
    talk = current_output()
    if parts_output is not None and not dry_run:
        raise InputError("--parts-output goes with --dry-run", "add --dry-run, or leave it out")
    firmware = Firmware.open(_input(input_path), partition_table_offset=partition_table_offset)
    plan = make_plan(firmware, only=only, erase=erase)
    if not dry_run:
        links = [Link(port, baud, stub=not no_stub) for port in choose_ports(ports)]
        _flash(talk, plan, links, verify=verify)
        return
    if ports:
        choose_ports(ports)
    link = Link(ports[0] if ports else PORT, baud, stub=not no_stub)
    commands = esptool_commands(plan, link, parts_output or Path(), verify=verify)
    if parts_output is not None:
        _write_parts(parts_output, commands)
    if talk.json:
        talk.document(_document(plan, verify=verify, commands=commands, dry_run=True))
    else:
        _print_plan(talk, plan)
        _print_commands(talk, commands, written=parts_output is not None)


def _input(path: Path | None) -> Path:
    if path is not None:
        return input_file(path)
    if not BUILD_FOLDER.is_dir():
        raise InputError(
            "no INPUT was given, and there is no folder build/ here", "give an image, a release or its .zip"
        )
    return BUILD_FOLDER


def _write_parts(folder: Path, commands: EsptoolCommands) -> None:
    """Write the pieces; any of them may hold private keys, so they are for their owner only."""
    files.check_new_folder(folder)
    with files.written_together(folder, private=True) as pending:
        for path, segment in commands.parts:
            target = files.check_output(path)
            pending.append(StagedFile(target, files.stage_file(target, [segment.data], private=True)))


# --- flashing ------------------------------------------------------------------------------------


def _flash(talk: Output, plan: FlashPlan, links: list[Link], *, verify: bool) -> None:
    """Flash the modules, report, and leave with status 3 if one of them failed."""
    if not talk.json:
        _print_plan(talk, plan)
    with watched(talk, links) as report:
        receipts = flash_boards(plan, links, report, verify=verify)
    if talk.json:
        talk.document(_document(plan, verify=verify, receipts=receipts))
    else:
        _print_receipts(talk, receipts)
    failed = [receipt for receipt in receipts if not receipt.ok]
    for receipt in failed:
        click.echo(f"error: {receipt.error}" + (f"\n  {receipt.hint}" if receipt.hint else ""), err=True)
    if failed:
        raise click.exceptions.Exit(DEVICE_FAILED)


# --- reporting -----------------------------------------------------------------------------------


def _print_plan(talk: Output, plan: FlashPlan) -> None:
    chip = f" for {plan.chip}" if plan.chip else ""
    count = max(len(plan.segments), 1)
    parts = f"{count} part{'s' * (count != 1)}"
    talk.result(f"{plan.path}{chip}, {format_size(plan.size)} in {parts}:")
    for segment in plan.segments:
        talk.result(f"  {segment.offset:#010x}  {format_size(segment.size):>9}  {segment.name}")
    if plan.loose is not None:
        talk.result(f"  {plan.loose[0]}, at the address that the module's own partition tables give it")
    if plan.erase:
        talk.result("The whole flash is erased first: what the module has stored (its Wi-Fi network,")
        talk.result("AT+SYSSTORE, files) is lost.")
    elif plan.kept:
        names = ", ".join(f"{part.name} ({part.offset:#x}, {format_size(part.size)})" for part in plan.kept)
        talk.result(f"Kept as the module has it: {names}; it holds what the module itself has stored")
        talk.result("(its Wi-Fi network, AT+SYSSTORE, files). --erase removes it.")


def _print_commands(talk: Output, commands: EsptoolCommands, *, written: bool) -> None:
    talk.result("Dry run: nothing was written. The same with esptool:")
    for words in commands.commands:
        talk.result(f"  {shlex.join(words)}")
    if commands.parts and not written:
        names = ", ".join(str(path) for path, _ in commands.parts)
        talk.result(f"  (--parts-output DIR makes the files that this needs: {names})")


def _print_receipts(talk: Output, receipts: list[Receipt]) -> None:
    if len(receipts) == 1:
        if receipts[0].ok:
            talk.result(f"{receipts[0].port}: {summary(receipts[0])}")
        return
    rows = [("port", "chip", "MAC", "written", "not needed", "seconds", "result")]
    for receipt in receipts:
        total = sum(segment.size for segment in receipt.segments)
        rows.append((
            receipt.port,
            receipt.chip or "-",
            receipt.mac or "-",
            format_size(receipt.bytes_written),
            format_size(total - receipt.bytes_written),
            f"{receipt.seconds:.1f}",
            ("verified" if receipt.verified else "done") if receipt.ok else "FAILED",
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        talk.result(line.rstrip())


def _document(
    plan: FlashPlan,
    *,
    verify: bool,
    receipts: list[Receipt] | None = None,
    commands: EsptoolCommands | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "schema": 1,
        "input": {"path": str(plan.path), "kind": plan.kind, "sha256": plan.sha256},
        "dry_run": dry_run,
        "chip": plan.chip,
        "erase": plan.erase,
        "verify": verify,
        "flash": _flash_settings(plan),
        "segments": [
            {"name": part.name, "offset": part.offset, "size": part.size, "sha256": part.sha256}
            for part in plan.segments
        ],
        "kept": [{"name": part.name, "offset": part.offset, "size": part.size} for part in plan.kept],
    }
    if commands is not None:
        document["esptool"] = [list(words) for words in commands.commands]
    if receipts is not None:
        document["boards"] = [_board(receipt) for receipt in receipts]
    return document


def _flash_settings(plan: FlashPlan) -> dict[str, str]:
    """Return what the bootloader that is written says of the flash; ``""`` where none is, or it does not."""
    stated = asdict(plan.settings)
    header = next((image for name, image in plan.images if name == BOOTLOADER_NAME), None)
    if header is None:
        return stated
    size = header.flash_size if plan.chip != "esp8266" else ""  # whose header is not to be relied on
    found = {"mode": header.flash_mode, "freq": header.flash_freq, "size": size}
    return {name: value or found[name] or "" for name, value in stated.items()}


def _board(receipt: Receipt) -> dict[str, Any]:
    error = None if receipt.ok else {"message": receipt.error, "hint": receipt.hint}
    return {
        "port": receipt.port,
        "result": "done" if receipt.ok else "failed",
        "chip": receipt.chip,
        "mac": receipt.mac,
        "flash_size": receipt.flash_size,
        "segments": [asdict(segment) for segment in receipt.segments],
        "bytes_written": receipt.bytes_written,
        "kept": list(receipt.kept),
        "verified": receipt.verified,
        "started": receipt.started,
        "seconds": receipt.seconds,
        "error": error,
    }

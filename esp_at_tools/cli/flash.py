"""``flash``: write a firmware, or some of its partitions, to modules on serial ports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esp_at_tools import files
from esp_at_tools.cli.common import (
    PATH,
    Output,
    current_output,
    input_file,
    json_option,
    say,
    talk_options,
)
from esp_at_tools.cli.device_options import baud_option, ports_option, stub_option, table_option
from esp_at_tools.cli.device_steps import watched
from esp_at_tools.cli.flash_hint import PORT
from esp_at_tools.cli.flash_report import (
    allotment_document,
    plan_document,
    print_allotment,
    print_check,
    print_commands,
    print_plan,
    print_receipts,
)
from esp_at_tools.device.allotment import Allotment, device_images
from esp_at_tools.device.boards import flash_boards
from esp_at_tools.device.esptool_command import EsptoolCommands, esptool_commands
from esp_at_tools.device.esptool_device import Link
from esp_at_tools.device.flashing import Receipt
from esp_at_tools.device.plan import FlashPlan, make_plan
from esp_at_tools.device.ports import choose_ports
from esp_at_tools.errors import CheckFailedError, InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.source import StagedFile

if TYPE_CHECKING:
    from esp_at_tools.at_port.check import Check

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
@click.option(
    "--each", type=PATH, metavar="DIR", help="Give each module an image of its own from this folder."
)
@click.option(
    "--ledger",
    type=PATH,
    metavar="FILE",
    help="Where --each remembers it.  [default: DIR/flash-ledger.jsonl]",
)
@click.option(
    "--check", is_flag=True, help="Look afterwards whether the firmware starts: its log, or AT+GMR."
)
@click.option(
    "--at-port",
    "at_ports",
    multiple=True,
    metavar="PORT",
    help="Its AT port, to ask AT+GMR there; one for each -p, in their order.",
)
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
    each: Path | None,
    ledger: Path | None,
    check: bool,
    at_ports: tuple[str, ...],
) -> None:
    """Write a firmware to the flash of modules.

    INPUT is a full flash image, a release folder or its .zip, a build folder (without INPUT: build/),
    a lone mfg_nvs.bin or factory_param.bin, which goes where the module's own tables have it, or an
    official release as NAME@VERSION, such as ESP32C3/MINI-1@latest.

    Sectors that are so already are skipped. What the module itself has stored (its Wi-Fi network,
    AT+SYSSTORE, files) is kept unless --erase is given.

    On a production line, --each DIR takes a folder of images that 'esp-at-tool batch' has made: every
    module gets its own, none is used twice, and a ledger in the folder remembers it.
    """
    talk = current_output()
    if parts_output is not None and not dry_run:
        raise InputError("--parts-output goes with --dry-run", "add --dry-run, or leave it out")
    order: FlashPlan | Allotment
    if each is not None:
        order = _allotment(each, ledger, only, input_path, erase=erase, dry_run=dry_run)
    else:
        if ledger is not None:
            raise InputError("--ledger goes with --each", "add --each DIR, or leave it out")
        firmware = Firmware.open(_input(input_path), partition_table_offset=partition_table_offset)
        order = make_plan(firmware, only=only, erase=erase)
    if isinstance(order, Allotment) or not dry_run:
        links = [Link(port, baud, stub=not no_stub) for port in choose_ports(ports)]
        looked_at = _check_of([link.port for link in links], wanted=check, at_ports=at_ports)
        _flash(talk, order, links, verify=verify, check=looked_at)
        return
    plan = order
    if check or at_ports:
        raise InputError("--check goes without --dry-run", "leave one of them out")
    if ports:
        choose_ports(ports)
    link = Link(ports[0] if ports else PORT, baud, stub=not no_stub)
    commands = esptool_commands(plan, link, parts_output or Path(), verify=verify)
    written = parts_output is not None and _write_parts(parts_output, commands)
    if talk.json:
        talk.document(plan_document(plan, verify=verify, commands=commands, dry_run=True))
    else:
        print_plan(talk, plan)
        print_commands(talk, commands, written=written)


def _allotment(
    folder: Path,
    ledger: Path | None,
    only: tuple[str, ...],
    input_path: Path | None,
    *,
    erase: bool,
    dry_run: bool,
) -> Allotment:
    if input_path is not None:
        raise InputError(f"--each {folder} and {input_path} both say what to flash", "give one of them")
    if dry_run:
        raise InputError(
            "--dry-run does not go with --each: which image a module gets depends on its MAC address",
            f"look at one image: 'esp-at-tool flash {folder}/IMAGE --dry-run'",
        )
    device_images(folder)  # what is wrong with it is said before any module is touched
    order = Allotment(folder, only, erase=erase, ledger=ledger or Path())
    missing = order.missing()
    if missing:
        number = "1 image" if len(missing) == 1 else f"{len(missing)} images"
        current_output().warn(
            f"{folder}: {number} of the manifest {'is' if len(missing) == 1 else 'are'} missing, {missing[0]}"
            f"{' first' * (len(missing) > 1)}: 'esp-at-tool batch --resume' makes them again"
        )
    return order


def _input(path: Path | None) -> Path:
    if path is not None:
        return input_file(path)
    if not BUILD_FOLDER.is_dir():
        raise InputError(
            "no INPUT was given, and there is no folder build/ here", "give an image, a release or its .zip"
        )
    return BUILD_FOLDER


def _write_parts(folder: Path, commands: EsptoolCommands) -> bool:
    """Write the pieces; any of them may hold private keys, so they are for their owner only.

    Returns:
        Whether there are any: a release has a file for each, and needs no folder.
    """
    files.check_new_folder(folder)
    if not commands.parts:
        current_output().note(f"{folder}: not made: every piece is a file of its own already")
        return False
    with files.written_together(folder, private=True) as pending:
        for path, segment in commands.parts:
            target = files.check_output(path)
            pending.append(StagedFile(target, files.stage_file(target, [segment.data], private=True)))
    return True


# --- flashing ------------------------------------------------------------------------------------


def _flash(
    talk: Output, order: FlashPlan | Allotment, links: list[Link], *, verify: bool, check: _Check | None
) -> None:
    """Flash the modules, report, and leave with status 3 if one failed, with 1 if one does not start."""
    if talk.json:
        pass
    elif isinstance(order, FlashPlan):
        print_plan(talk, order)
    else:
        print_allotment(talk, order)
    try:
        with watched(talk, links) as report:
            receipts = flash_boards(order, links, report, verify=verify)
    except KeyboardInterrupt:
        talk.warn("what was being written is incomplete on its module; flash it again")
        raise
    checks = [check(talk, number, each) if check else None for number, each in enumerate(receipts)]
    if talk.json:
        talk.document(_flash_document(order, receipts, checks, verify=verify))
    else:
        print_receipts(talk, receipts)
        for each in checks:
            if each is not None:
                print_check(talk, each)
    failed = [receipt for receipt in receipts if not receipt.ok]
    for receipt in failed:
        say(f"error: {receipt.error}" + (f"\n  {receipt.hint}" if receipt.hint else ""), err=True)
    if failed:
        raise click.exceptions.Exit(DEVICE_FAILED)
    for each in checks:
        if each is not None and not each.ok:
            raise CheckFailedError(f"{each.port}: {each.text}", each.hint)


def _flash_document(
    order: FlashPlan | Allotment, receipts: list[Receipt], checks: Sequence[Check | None], *, verify: bool
) -> dict[str, Any]:
    if isinstance(order, FlashPlan):
        document = plan_document(order, verify=verify, receipts=receipts)
    else:
        document = allotment_document(order, receipts, verify=verify)
    for board, check in zip(document["boards"], checks, strict=True):
        board["check"] = None if check is None else asdict(check)
    return document


@dataclass(frozen=True)
class _Check:
    """How each module is looked at when it is flashed.

    Attributes:
        at_ports: their AT ports, in the order of the download ports; none to read their boot logs.
    """

    at_ports: tuple[str, ...]

    def __call__(self, talk: Output, number: int, receipt: Receipt) -> Check | None:
        """Look at one; None where it was not flashed."""
        from esp_at_tools.at_port.check import check_at_port, check_boot_log

        if not receipt.ok:
            return None
        if self.at_ports:
            talk.note(f"{self.at_ports[number]}: asking AT+GMR")
            return check_at_port(self.at_ports[number])
        talk.note(f"{receipt.port}: listening to its start")
        return check_boot_log(receipt.port, receipt.chip)


def _check_of(ports: list[str], *, wanted: bool, at_ports: tuple[str, ...]) -> _Check | None:
    if not wanted and not at_ports:
        return None
    if at_ports and len(at_ports) != len(ports):
        raise InputError(
            f"{len(at_ports)} --at-port for {len(ports)} -p", "give one for each, in the same order"
        )
    both = set(at_ports) & set(ports)
    if both:
        raise InputError(
            f"--at-port {min(both)}: is the download port",
            "the AT port is another one; without --at-port, --check listens to the download port",
        )
    return _Check(at_ports)

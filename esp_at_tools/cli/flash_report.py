"""What ``flash`` says: what goes where, and what became of it."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from esp_at_tools.cli.common import Output
from esp_at_tools.device.allotment import Allotment
from esp_at_tools.device.esptool_command import EsptoolCommands
from esp_at_tools.device.flashing import Receipt, summary
from esp_at_tools.device.plan import BOOTLOADER_NAME, FlashPlan
from esp_at_tools.numbers import format_size

if TYPE_CHECKING:
    from esp_at_tools.at_port.check import Check


def print_plan(talk: Output, plan: FlashPlan) -> None:
    """Say what goes where, and what is kept."""
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
        talk.result("its UART rate, AT+SYSSTORE, files) is lost.")
    elif plan.kept:
        names = ", ".join(f"{part.name} ({part.offset:#x}, {format_size(part.size)})" for part in plan.kept)
        talk.result(f"Kept as the module has it: {names}.")
        talk.result("It is what the module has stored: its Wi-Fi network, its UART rate (which goes")
        talk.result("before uart_baudrate), AT+SYSSTORE, files. --erase removes it.")


def print_commands(talk: Output, commands: EsptoolCommands, *, written: bool) -> None:
    """Say the esptool commands that do the same."""
    what = "no module was written to" if written else "nothing was written"
    talk.result(f"Dry run: {what}. The same with esptool:")
    for words in commands.commands:
        talk.result(f"  {shlex.join(words)}")
    if commands.parts and not written:
        names = ", ".join(str(path) for path, _ in commands.parts)
        talk.result(f"  (--parts-output DIR makes the files that this needs: {names})")


def print_receipts(talk: Output, receipts: list[Receipt]) -> None:
    """Say what became of one module, or of several in a table."""
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


def plan_document(
    plan: FlashPlan,
    *,
    verify: bool,
    receipts: list[Receipt] | None = None,
    commands: EsptoolCommands | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Return what ``flash`` does or would do, and what became of each module."""
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
        document["boards"] = [board_document(receipt) for receipt in receipts]
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


def board_document(receipt: Receipt) -> dict[str, Any]:
    """Return what became of one module."""
    error = None if receipt.ok else {"message": receipt.error, "hint": receipt.hint}
    return {
        "port": receipt.port,
        "result": "done" if receipt.ok else "failed",
        "chip": receipt.chip,
        "mac": receipt.mac,
        "flash_size": receipt.flash_size,
        "segments": [asdict(segment) for segment in receipt.segments],
        "image": receipt.image,
        "image_sha256": receipt.image_sha256,
        "bytes_written": receipt.bytes_written,
        "kept": list(receipt.kept),
        "verified": receipt.verified,
        "started": receipt.started,
        "seconds": receipt.seconds,
        "error": error,
    }


# --- an image for each ---------------------------------------------------------------------------


def print_allotment(talk: Output, order: Allotment) -> None:
    """Say how many images there are and are left."""
    count = order.count()
    talk.result(
        f"{order.folder}: {count['images']} image{'s' * (count['images'] != 1)}, {count['done']} written, "
        f"{count['left']} left (ledger: {order.ledger})"
    )


def allotment_document(order: Allotment, receipts: list[Receipt], *, verify: bool) -> dict[str, Any]:
    """Return the document of ``flash --each``."""
    return {
        "schema": 1,
        "folder": str(order.folder),
        "ledger": str(order.ledger),
        "count": dict(order.count()),
        "dry_run": False,
        "only": list(order.only),
        "erase": order.erase,
        "verify": verify,
        "boards": [board_document(receipt) for receipt in receipts],
    }


def print_check(talk: Output, check: Check) -> None:
    """Say what the look at a running module showed."""
    first, *rest = check.text.splitlines() or [""]
    verdict = {True: "runs", False: "does not run", None: "cannot be told"}[check.ok]
    talk.result(f"{check.port}: firmware {verdict}: {first}")
    for line in rest:
        talk.result(f"  {line}")
    if not check.ok:
        for line in check.log:
            talk.result(f"  | {line}")

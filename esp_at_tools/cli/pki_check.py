"""``pki check``: certificates and keys of a firmware, of files and of folders."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esp_at_tools.cli.common import (
    PATH,
    chip_name,
    current_output,
    input_options,
    json_option,
    talk_options,
)
from esp_at_tools.cli.pki_inputs import Checked, check_paths, read_sdkconfig
from esp_at_tools.errors import InputError
from esp_at_tools.pki.items import LEVELS

if TYPE_CHECKING:
    from esp_at_tools.pki.checks import Finding
    from esp_at_tools.pki.collection import CollectedItem
    from esp_at_tools.settings.pki_fit import Room

CHECK_FAILED = 1
SCHEMA = 1


@click.command("check", short_help="Check certificates and keys of a firmware, of files or of folders.")
@click.argument("paths", type=PATH, nargs=-1, metavar="[INPUT | FILE…]")
@click.option(
    "--at",
    "moment",
    metavar="DATE",
    help="When they should be valid: 2027-01-31, or 2027-01-31T12:00:00+02:00.  [default: now]",
)
@click.option(
    "--sdkconfig",
    type=PATH,
    metavar="FILE",
    help="How the firmware was compiled.  [default: that of the release]",
)
@input_options
@json_option
@talk_options
def check(
    paths: tuple[Path, ...], moment: str | None, sdkconfig: Path | None, chip: str, module: str,
    partition_table_offset: int | None, parameter_offset: int | None,
) -> None:  # fmt: skip
    """Check the certificates and keys of a firmware, of files, or of folders.

    Each by itself as the firmware's TLS library would read it, key against certificate, certificate against
    the authority that the other side checks it with, validity, room. Files are taken together by their names
    or by what belongs together, those of a folder by themselves; the CA certificates of all arguments count
    for each. The exit status is 1 if there is an error.
    """
    talk = current_output()
    if not paths:
        raise InputError("nothing to check", "give a firmware, files, or a folder")
    now = parse_moment(moment) if moment is not None else datetime.now(timezone.utc)
    given = read_sdkconfig(sdkconfig) if sdkconfig else None
    options = {
        "chip": chip_name(chip, module),
        "partition_table_offset": partition_table_offset,
        "parameter_offset": parameter_offset,
    }
    checked = list(check_paths(paths, now, given, options))
    if talk.json:
        talk.document(_document(checked, now))
    else:
        from esp_at_tools.cli.pki_view import print_checked

        print_checked(talk, checked, now, dated=moment is not None)
    if any(each.finding.level == "error" for one in checked for each in one.findings):
        raise click.exceptions.Exit(CHECK_FAILED)


def parse_moment(text: str) -> datetime:
    """Return the moment that ``--at`` names: a date (its beginning) or an ISO time; UTC if it names no zone.

    Raises:
        InputError: it is none.
    """
    normal = text.strip().replace("Z", "+00:00").replace("z", "+00:00")
    try:
        moment = datetime.fromisoformat(normal)
        moment = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment
        return moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        hint = "write 2027-01-31 or 2027-01-31T12:00:00+02:00"
        raise InputError(f"--at {text or repr(text)}: is not a date", hint) from None


def _document(checked: Sequence[Checked], now: datetime) -> dict[str, Any]:
    findings = [
        {"input": str(one.path), "about": each.about, **_finding(each.finding)}
        for one in checked
        for each in one.findings
    ]
    return {
        "schema": SCHEMA,
        "at": now.isoformat(),
        "inputs": [
            {
                "path": str(one.path),
                "kind": one.kind,
                "sdkconfig": str(one.sdkconfig) if one.sdkconfig else None,
                "room": _room(one.room),
                "mfg_nvs": _partition(one.partition),
                "passed_over": one.passed_over,
                "firmware": one.firmware,
            }
            for one in checked
        ],
        "items": [_item(one, item) for one in checked for item in one.items],
        "findings": findings,
        "summary": {level: sum(each["level"] == level for each in findings) for level in LEVELS},
    }


def _finding(found: Finding) -> dict[str, Any]:
    return {"id": found.id, "level": found.level, "message": found.message, "hint": found.hint}


def _room(room: Room | None) -> dict[str, Any] | None:
    if room is None:
        return None
    return {
        "items": room.items,
        "size": room.size,
        "nvs_entries": room.entries,
        "nvs_entries_112k": room.small,
        "nvs_entries_124k": room.large,
    }


def _partition(usage: tuple[int, int] | None) -> dict[str, int] | None:
    return {"entries_used": usage[0], "entries_total": usage[1]} if usage else None


def _item(one: Checked, item: CollectedItem) -> dict[str, Any]:
    info = one.infos.get((item.name, item.kind))
    chain = one.facts.get(item.name) if item.kind == "certificate" else None
    dates = (info.not_before, info.not_after) if info else (None, None)
    known: dict[str, Any] = {
        "format": info.format if info else None,
        "certificates": info.count if info else None,
        "subject": (info.subject or None) if info else None,
        "issuer": (info.issuer or None) if info else None,
        "serial": (info.serial or None) if info else None,
        "not_before": dates[0].isoformat() if dates[0] else None,
        "not_after": dates[1].isoformat() if dates[1] else None,
        "key_type": (info.key_type or None) if info else None,
        "signature_hash": (info.signature_hash or None) if info else None,
        "sha256": info.sha256 if info else None,
    }
    return {
        "input": str(one.path),
        "name": item.name,
        "role": item.role,
        "kind": item.kind,
        "file": str(item.path) if item.path else None,
        "size": len(item.data),
        **known,
        "key_matches_certificate": one.matches(item),
        "checked_by": list(chain.checked_by) if chain else None,
        "chain": chain.chain.state if chain and chain.chain else None,
        "issuers_here": list(chain.ends_at) if chain else None,
    }

"""``pki import``: a folder as a cloud hands it out, made into a profile."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import click

from esp_at_tools import files
from esp_at_tools.cli.common import PATH, current_output, json_option, talk_options
from esp_at_tools.errors import InputError
from esp_at_tools.pki.collection import check_collection
from esp_at_tools.pki.folder import PROFILE_NAME
from esp_at_tools.pki.importing import Imported, import_folder
from esp_at_tools.settings.pki_fit import check_room

_MAX_TOLD = 12  # files that are left out; a folder may hold the certificates of many devices


@click.command("import", short_help="Make a profile of a folder of certificates and keys.")
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("-o", "--output", type=PATH, metavar="FILE", help="The profile.  [default: DIR/profile.yaml]")
@click.option(
    "--set",
    "role",
    default="",
    metavar="SET",
    help="What the files are for: server, client.0, mqtt, https.0, …  [default: as they are named; "
    "else mqtt]",
)
@click.option("--certificate", type=PATH, metavar="FILE", help="The certificate, if DIR holds several.")
@click.option("--ca", type=PATH, metavar="FILE", help="The CA certificate, if DIR holds several.")
@click.option("--force", is_flag=True, help="Replace the profile if it exists.")
@json_option
@talk_options
def import_(
    folder: Path, output: Path | None, role: str, certificate: Path | None, ca: Path | None, *, force: bool
) -> None:  # fmt: skip
    """Make a profile of the certificates and keys in DIR, as AWS IoT, Azure or a broker hands them out.

    What each file is, and which key belongs to which certificate, is found out from the contents. The
    profile only names the files; 'modify-bin --profile' and 'build --pki' read them.
    """
    talk = current_output()
    found = import_folder(folder, role=role, certificate=certificate, ca=ca)
    target = output or folder / PROFILE_NAME
    _check_output(target, found, force=force)
    files.write_file(target, found.profile(target))
    items = found.items()
    findings = [each.finding for each in check_collection(items, now=datetime.now(timezone.utc))]
    findings += check_room(items)
    left_out = [(each.path.relative_to(folder).as_posix(), each.reason, each.hint) for each in found.left_out]
    if talk.json:
        talk.document({
            "schema": 1,
            "profile": str(target),
            "pki": {name: str(path) for name, path in found.files.items()},
            "left_out": [{"file": name, "reason": reason, "hint": hint} for name, reason, hint in left_out],
            "findings": [
                {"id": each.id, "level": each.level, "message": each.message, "hint": each.hint}
                for each in findings
            ],
        })  # fmt: skip
        return
    lines = [f"  {name:<13} {path.relative_to(folder).as_posix()}" for name, path in found.files.items()]
    left = [
        f"  left out      {name}: {reason}" + (f" ({hint})" if hint else "")
        for name, reason, hint in sorted(left_out, key=lambda each: not each[2])[:_MAX_TOLD]
    ]
    if len(left_out) > _MAX_TOLD:
        left.append(f"  left out      {len(left_out) - _MAX_TOLD} more files, which --json lists")
    following = f"next: esp-at-tool modify-bin --input FIRMWARE --profile {target}"
    talk.result("\n".join([f"written: {target}", *lines, *left, following]))
    if not any(item.kind == "ca" for item in items):
        talk.warn("there is no CA certificate, so the firmware cannot check the server")
    for each in findings:
        if each.level != "info":
            talk.warn(f"{each.message} ({each.hint})")


def _check_output(target: Path, found: Imported, *, force: bool) -> None:
    """Refuse to replace a certificate or key ever, and anything else without somebody's wish."""
    if not target.is_file():
        return
    if any(path.samefile(target) for path in found.files.values()):
        raise InputError(f"{target}: is one of the certificates or keys", "give another path")
    if not force:
        raise InputError(f"{target}: exists already", "--force replaces it; -o names another file")

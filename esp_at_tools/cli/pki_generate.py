"""``pki generate``: a private authority, and the sets that AT firmware uses."""

from __future__ import annotations

import os
import shutil
from datetime import datetime, timezone
from pathlib import Path

import click

from esp_at_tools import files
from esp_at_tools.cli.common import PATH, Output, RangeType, current_output, json_option, talk_options
from esp_at_tools.errors import InputError
from esp_at_tools.firmware.source import StagedFile
from esp_at_tools.pki import generate as pki
from esp_at_tools.pki.generate import GeneratedFile

_PRIVATE_FOLDER = 0o700


@click.command("generate", short_help="Make a private authority, and all certificates and keys.")
@click.argument("folder", type=PATH, metavar="DIR")
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="NAME",
    help="A host name or IP address of the TLS server, for server_cert; may be repeated.  "
    f"[default: {', '.join(pki.DEFAULT_SERVERS)}]",
)
@click.option(
    "--for",
    "asked",
    multiple=True,
    metavar="SET",
    help="Make this set alone: server, client.0, mqtt, …; may be repeated.  [default: all; firmware before "
    "v3.0 has no place for https and wss]",
)
@click.option(
    "--days",
    type=RangeType("number of days", 1, pki.MAX_DAYS, f"; {pki.DEFAULT_DAYS} is ten years"),
    default=pki.DEFAULT_DAYS,
    show_default=True,
    metavar="N",
    help="How long everything is valid, 1 to 36500.",
)
@click.option(
    "--key",
    "key_type",
    type=click.Choice(pki.KEY_TYPES),
    default="ec256",
    show_default=True,
    help="Type of all keys.",
)
@json_option
@talk_options
def generate(
    folder: Path, servers: tuple[str, ...], asked: tuple[str, ...], days: int, key_type: pki.KeyType
) -> None:  # fmt: skip
    """Make a private authority in DIR, and the certificates and keys that it issues.

    DIR must be new or empty. In it come the sets server, client 0 and 1, MQTT, EAP (wpa2), HTTPS and WSS 0
    and 1, named as the items of the firmware, profile.yaml for 'modify-bin --profile' and 'build --pki', and
    the authority itself (ca.pem, ca.key). server_cert is for the module as a TLS server, and as well for a
    broker or server of your own that modules are to trust. Whoever has ca.key can issue more.
    """
    talk = current_output()
    _check_folder(folder)
    roles = pki.chosen_roles(asked)
    if servers and "server" not in roles:
        raise InputError("--server: no server_cert is made", "add --for server, or leave --server out")
    if key_type.startswith("rsa"):
        talk.note(f"making {len(roles) + 1} keys of type {key_type}, which takes some seconds")
    now = datetime.now(timezone.utc)
    made = pki.generate_pki(servers, days=days, key_type=key_type, now=now, roles=roles)
    _write(folder, made)
    _tell(talk, folder, made, roles, days, key_type)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything, and a path where no folder can be."""
    if not os.path.lexists(folder):
        files.check_new_folder(folder)
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: exists already and is not a folder", "give a new or an empty folder")
    try:
        empty = not any(folder.iterdir())
    except OSError as error:
        raise files.unreadable(folder, error, "folder") from error
    if not empty:
        raise InputError(
            f"{folder}: is not empty, and nothing is overwritten", "give a new or an empty folder"
        )


def _write(folder: Path, made: list[GeneratedFile]) -> None:
    """Write all files or none; a new folder is filled under another name, and gets its own at the end."""
    if folder.is_dir():
        _fill(folder, made, None)
        try:
            folder.chmod(_PRIVATE_FOLDER)
        except OSError:
            current_output().warn(f"{folder}: others may list it; it cannot be made private")
        return
    target = files.check_new_folder(folder)
    staged = files.temporary_beside(target)
    _fill(staged, made, staged)
    try:
        staged.rename(target)
        files.sync_folder(target.parent)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        reason = error.strerror or str(error)
        raise InputError(f"{folder}: cannot be made: {reason}", "nothing was changed") from error


def _fill(folder: Path, made: list[GeneratedFile], new_folder: Path | None) -> None:
    with files.written_together(new_folder, private=True) as pending:
        for file in made:
            target = files.check_output(folder / file.name)
            pending.append(StagedFile(target, files.stage_file(target, [file.data], private=file.secret)))


def _tell(
    talk: Output, folder: Path, made: list[GeneratedFile], roles: tuple[str, ...], days: int, key_type: str
) -> None:  # fmt: skip
    if talk.json:
        documents = [{"name": each.name, "size": len(each.data), "secret": each.secret} for each in made]
        told = {"folder": str(folder), "key": key_type, "days": days, "sets": list(roles)}
        talk.document({"schema": 1, **told, "files": documents})
        return
    size = sum(
        len(each.data) for each in made if each.name not in (pki.CA_CERTIFICATE, pki.CA_KEY, pki.PROFILE_NAME)
    )
    sets = ", ".join(roles)
    talk.result(
        f"written: {folder} ({len(made)} files, {key_type}, valid for {days} days)\n"
        f"  sets: {sets}: {size} bytes\n"
        f"  {pki.CA_CERTIFICATE} is for your servers and brokers; {pki.CA_KEY} issues more: keep it safe\n"
        f"next: esp-at-tool modify-bin --input FIRMWARE --profile {folder / pki.PROFILE_NAME}"
    )

"""``pki check``: certificates and keys of a firmware, of files and of folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esp_at_tools import files
from esp_at_tools.cli.common import (
    PATH,
    chip_name,
    current_output,
    input_options,
    json_option,
    talk_options,
)
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.release import DOWNLOAD_CONFIG, FLASHER_ARGS
from esp_at_tools.pki.items import LEVELS

if TYPE_CHECKING:
    from esp_at_tools.pki.checks import Finding
    from esp_at_tools.pki.collection import ChainFact, CollectedItem, CollectionFinding
    from esp_at_tools.pki.items import PkiInfo
    from esp_at_tools.pki.tls_support import TlsSupport
    from esp_at_tools.settings.pki_fit import Room

CHECK_FAILED = 1
SCHEMA = 1
_SDKCONFIG = "sdkconfig"
_PART_FOLDERS = ("factory", "customized_partitions")
_MAX_SDKCONFIG = 1 << 20


@dataclass(frozen=True)
class Checked:
    """What was checked, and what was found.

    Attributes:
        path: the firmware, folder or, of several files, the first.
        title: how to call it.
        kind: ``folder``, ``files``, or the kind of the firmware.
        items: the certificates and keys.
        findings: the worst first.
        chains: where the certificates lead.
        infos: item and kind → what it is, for those that can be read.
        room: what they take, for files.
        sdkconfig: whose limits count; None where it is those of all official firmware.
        passed_over: files of a folder that have nothing to do with certificates.
        partition: how full the firmware's ``mfg_nvs`` is: entries used and entries in all.
    """

    path: Path
    title: str
    kind: str
    items: Sequence[CollectedItem]
    findings: Sequence[CollectionFinding]
    chains: Sequence[ChainFact]
    infos: dict[tuple[str, str], PkiInfo]
    room: Room | None
    sdkconfig: Path | None
    passed_over: int
    partition: tuple[int, int] | None = None

    def matches(self, item: CollectedItem) -> bool | None:
        """Tell whether key and certificate of the item's set belong together, None where one is missing."""
        prints = {
            each.kind: info.public_key_sha256
            for each in self.items
            if each.role == item.role and (info := self.infos.get((each.name, each.kind))) is not None
        }
        certificate, key = prints.get("certificate") or prints.get("ca"), prints.get("private_key")
        if item.role_is_official and item.kind == "ca":
            return None
        return certificate == key if certificate and key else None


@click.command("check", short_help="Check certificates and keys of a firmware, of files or of folders.")
@click.argument("paths", type=PATH, nargs=-1, metavar="[INPUT | FILE…]")
@click.option(
    "--at",
    "moment",
    default="",
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
    paths: tuple[Path, ...], moment: str, sdkconfig: Path | None, chip: str, module: str,
    partition_table_offset: int | None, parameter_offset: int | None,
) -> None:  # fmt: skip
    """Check the certificates and keys of a firmware, of files, or of folders.

    Each by itself as the firmware's TLS library would read it, key against certificate, certificate against
    the authority that the other side checks it with, validity, room. Files are taken together by their names
    or by what belongs together. The exit status is 1 if there is an error.
    """
    talk = current_output()
    if not paths:
        raise InputError("nothing to check", "give a firmware, files, or a folder")
    now = parse_moment(moment) if moment else datetime.now(timezone.utc)
    given = _read_sdkconfig(sdkconfig) if sdkconfig else None
    options = {
        "chip": chip_name(chip, module),
        "partition_table_offset": partition_table_offset,
        "parameter_offset": parameter_offset,
    }
    checked = list(_check_paths(paths, now, (given, sdkconfig) if given else None, options))
    if talk.json:
        talk.document(_document(checked, now))
    else:
        from esp_at_tools.cli.pki_view import print_checked

        print_checked(talk, checked, now, dated=bool(moment))
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
        raise InputError(f"--at {text}: is not a date", hint) from None


def _read_sdkconfig(path: Path) -> TlsSupport:
    from esp_at_tools.formats.sdkconfig import Sdkconfig
    from esp_at_tools.pki.tls_support import TlsSupport

    config = Sdkconfig.from_bytes(files.read_file(path, "sdkconfig", _MAX_SDKCONFIG), str(path))
    found = TlsSupport.from_sdkconfig(config)
    if found is None:
        raise InputError(f"{path}: says nothing about mbedTLS", "give the sdkconfig of the build, resolved")
    return found


_Given = tuple["TlsSupport", "Path | None"]


def _check_paths(
    paths: Sequence[Path], now: datetime, given: _Given | None, options: dict[str, Any]
) -> Iterator[Checked]:
    """Yield what each firmware and folder holds, and then what the other files hold together."""
    from esp_at_tools.pki.grouping import group_files, group_folder
    from esp_at_tools.pki.tls_support import OFFICIAL

    loose = []
    for path in paths:
        if path.is_dir() and not _is_release(path):
            yield _checked(path, "folder", group_folder(path), now, given or (OFFICIAL, None))
        elif path.is_dir() or _is_firmware(path):
            yield _firmware(path, now, given, options)
        else:
            loose.append(path)
    if loose:
        checked = _checked(loose[0], "files", group_files(loose), now, given or (OFFICIAL, None))
        yield replace(checked, title=f"{len(loose)} files") if len(loose) > 1 else checked
    if any(options.values()) and len(loose) == len(paths):
        raise InputError("the files are no firmware", "leave out --chip, --module and the offsets")


def _is_release(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (FLASHER_ARGS, DOWNLOAD_CONFIG))


def _is_firmware(path: Path) -> bool:
    """Tell whether a file is a firmware rather than a certificate or key."""
    from esp_at_tools.pki.sniff import sniff

    found = sniff(path)
    if found.usable or found.foreign or path.suffix.lower() in _PKI_SUFFIXES:
        return False
    blank = b"\xff" * 16  # no image is full to the last byte
    is_image = len(found.data) >= _MIN_PARTITION and blank in found.data
    return is_image or found.data.startswith((b"PK\x03\x04", b"\x7fELF"))


_PKI_SUFFIXES = {".pem", ".crt", ".cer", ".key", ".der", ".p12", ".pfx", ".jks"}
_MIN_PARTITION = 4096


def _firmware(path: Path, now: datetime, given: _Given | None, options: dict[str, Any]) -> Checked:
    from esp_at_tools.firmware.checks import pki_collection
    from esp_at_tools.firmware.survey import Survey
    from esp_at_tools.firmware.tls_limits import tls_support
    from esp_at_tools.pki.checks import Finding
    from esp_at_tools.pki.collection import CollectionFinding
    from esp_at_tools.pki.grouping import Grouped
    from esp_at_tools.settings.modern import ModernLayout

    firmware = Firmware.open(path, **options)
    problem = ""
    if given is None:
        tls, problem = tls_support(firmware.source)
        given = (tls, path / _SDKCONFIG if tls.known else None)
        beside = _sdkconfig_beside(path)
        if beside and not tls.known:
            try:
                given = (_read_sdkconfig(beside), beside)
            except FormatError as error:
                problem = error.message
    found = []
    if problem:
        hint = "the certificates are judged as for official firmware"
        finding = Finding("pki-sdkconfig", "info", risky=False, message=f"sdkconfig: {problem}", hint=hint)
        found = [CollectionFinding(_SDKCONFIG, finding)]
    items = pki_collection(Survey.of(firmware, now))
    checked = _checked(path, firmware.kind, Grouped(items, found, 0), now, given)
    if not isinstance(firmware.layout, ModernLayout):
        return checked
    usage = firmware.layout.nvs.usage()
    return replace(checked, partition=(usage.entries_used, usage.entries_total))


def _sdkconfig_beside(path: Path) -> Path | None:
    """Return the sdkconfig of the release that a single file lies in."""
    home = path.absolute().parent
    for folder in (home, home.parent) if home.name in _PART_FOLDERS else (home,):
        if (folder / _SDKCONFIG).is_file() and (folder == home or _is_release(folder)):
            return folder / _SDKCONFIG
    return None


def _checked(path: Path, kind: str, grouped: Any, now: datetime, tls: _Given) -> Checked:
    from esp_at_tools.pki.collection import CollectionFinding, chains, check_collection
    from esp_at_tools.settings.pki_fit import check_room, measure

    items = grouped.items
    found = [*grouped.findings, *check_collection(items, now=now, tls=tls[0])]
    room = None
    if kind in ("folder", "files") and any(item.role_is_official for item in items):
        room = measure(items)
        found += [CollectionFinding(kind, each) for each in check_room(items)]
    if not items and not found:
        what = "holds no certificates or keys" if kind != "files" else "is no certificate or key"
        raise InputError(f"{path}: {what}", "give a firmware, files, or a folder that has some")
    found = [each for level in LEVELS for each in found if each.finding.level == level]
    infos = {(item.name, item.kind): info for item in items if (info := _info(item)) is not None}
    return Checked(
        path, str(path), kind, items, found, chains(items), infos, room, tls[1], grouped.passed_over
    )


def _info(item: CollectedItem) -> PkiInfo | None:
    from esp_at_tools.pki.items import read_pki

    try:
        return read_pki(item.data, item.name, item.kind)
    except FormatError:
        return None


# --- JSON ----------------------------------------------------------------------------------------


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
    chain = next((each for each in one.chains if each.certificate == item.name), None)
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
    }

"""What ``pki check`` looks into: firmware, folders and files, and all that is found there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esp_at_tools import files
from esp_at_tools.errors import EspAtError, FormatError, InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.release import DOWNLOAD_CONFIG, FLASHER_ARGS, Release
from esp_at_tools.firmware.tls_limits import SDKCONFIG
from esp_at_tools.pki.items import LEVELS
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.modern import ModernLayout

if TYPE_CHECKING:
    from esp_at_tools.pki.collection import ChainFact, CollectedItem, CollectionFinding
    from esp_at_tools.pki.grouping import Grouped
    from esp_at_tools.pki.items import PkiInfo
    from esp_at_tools.pki.names import PkiKind
    from esp_at_tools.pki.tls_support import TlsSupport
    from esp_at_tools.settings.pki_fit import Room

_PART_FOLDERS = ("factory", "customized_partitions")
_MAX_SDKCONFIG = 1 << 20
_PKI_SUFFIXES = {".pem", ".crt", ".cer", ".key", ".der", ".p12", ".pfx", ".jks"}
_MIN_PARTITION = 4096
_AT_OPTION = "AT_ENABLE"
"""Every resolved sdkconfig of an AT firmware has it; others cannot tell what is read."""


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
    infos: Mapping[tuple[str, PkiKind], PkiInfo]
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


@dataclass(frozen=True)
class Limits:
    """What the firmware's TLS library accepts.

    Attributes:
        tls: that.
        path: the sdkconfig that says so; None where it is what all official firmware accepts.
    """

    tls: TlsSupport
    path: Path | None


def read_sdkconfig(path: Path) -> Limits:
    """Return what an sdkconfig says.

    Raises:
        InputError: it cannot be read, or says nothing of mbedTLS.
        FormatError: it is no sdkconfig.
    """
    from esp_at_tools.formats.sdkconfig import Sdkconfig
    from esp_at_tools.pki.tls_support import TlsSupport

    config = Sdkconfig.from_bytes(files.read_file(path, "sdkconfig", _MAX_SDKCONFIG), str(path))
    found = TlsSupport.from_sdkconfig(config)
    if found is None:
        raise InputError(f"{path}: says nothing about mbedTLS", "give the sdkconfig of the build, resolved")
    return Limits(found, path)


def check_paths(
    paths: Sequence[Path], now: datetime, given: Limits | None, options: dict[str, Any]
) -> Iterator[Checked]:
    """Yield what each firmware and folder holds, and then what the other files hold together.

    Args:
        paths: firmware, folders and files.
        now: the moment at which certificates should be valid.
        given: what the firmware accepts; found out from each firmware if None.
        options: how to open a firmware, see :meth:`Firmware.open`.

    Raises:
        InputError: one cannot be read, or holds no certificates or keys.
    """
    from esp_at_tools.pki.grouping import group_files, group_folder
    from esp_at_tools.pki.tls_support import OFFICIAL

    loose = []
    for path in paths:
        if path.is_dir() and not _is_release(path):
            yield _checked(path, "folder", group_folder(path), now, given or Limits(OFFICIAL, None))
        elif path.is_dir() or _is_firmware(path):
            yield _firmware(path, now, given, options)
        else:
            loose.append(path)
    if loose:
        checked = _checked(loose[0], "files", group_files(loose), now, given or Limits(OFFICIAL, None))
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


def _firmware(path: Path, now: datetime, given: Limits | None, options: dict[str, Any]) -> Checked:
    from esp_at_tools.firmware.checks import pki_collection
    from esp_at_tools.firmware.survey import Survey
    from esp_at_tools.firmware.tls_limits import tls_support
    from esp_at_tools.pki.checks import Finding
    from esp_at_tools.pki.collection import CollectionFinding
    from esp_at_tools.pki.grouping import Grouped

    firmware = Firmware.open(path, **options)
    problem = ""
    if given is None:
        tls, problem = tls_support(firmware.source)
        given = Limits(tls, path / SDKCONFIG if tls.known else None)
        beside = _sdkconfig_beside(path)
        if beside and not tls.known:
            try:
                given = read_sdkconfig(beside)
            except EspAtError as error:  # nobody asked for that file
                problem = error.message
    found = []
    if problem:
        hint = "the certificates are judged as for official firmware"
        finding = Finding("pki-sdkconfig", "info", risky=False, message=f"sdkconfig: {problem}", hint=hint)
        found = [CollectionFinding(SDKCONFIG, finding)]
    items = pki_collection(Survey.of(firmware, now))
    if given.path and isinstance(firmware.layout, ModernLayout):
        found += _unread(firmware, given.path, [item.name for item in items if item.name in PKI_ITEMS])
    checked = _checked(path, firmware.kind, Grouped(items, found, 0), now, given)
    if not isinstance(firmware.layout, ModernLayout):
        return checked
    usage = firmware.layout.nvs.usage()
    return replace(checked, partition=(usage.entries_used, usage.entries_total))


def _unread(firmware: Firmware, sdkconfig: Path, names: Sequence[str]) -> list[CollectionFinding]:
    """Return what is to be said of items that the firmware was compiled without."""
    from esp_at_tools.build.unread import unread_with
    from esp_at_tools.formats.sdkconfig import Sdkconfig
    from esp_at_tools.pki.checks import Finding
    from esp_at_tools.pki.collection import CollectionFinding

    if sdkconfig.is_file():
        config = Sdkconfig.from_bytes(files.read_file(sdkconfig, "sdkconfig", _MAX_SDKCONFIG), str(sdkconfig))
    elif isinstance(firmware.source, Release):  # a .zip
        config = Sdkconfig.from_text(firmware.source.text(SDKCONFIG))
    else:
        return []
    unread = unread_with(config, names) if config.get(_AT_OPTION) is not None else []
    if not unread:
        return []
    message = f"the firmware does not read {', '.join(unread)}: its sdkconfig has that switched off"
    hint = "they take room only; compile it with those features, or leave them out"
    finding = Finding("pki-unread", "warning", risky=False, message=message, hint=hint)
    return [CollectionFinding(SDKCONFIG, finding)]


def _sdkconfig_beside(path: Path) -> Path | None:
    """Return the sdkconfig of the release that a single file lies in."""
    home = path.absolute().parent
    for folder in (home, home.parent) if home.name in _PART_FOLDERS else (home,):
        if (folder / SDKCONFIG).is_file() and (folder == home or _is_release(folder)):
            return folder / SDKCONFIG
    return None


def _checked(path: Path, kind: str, grouped: Grouped, now: datetime, limits: Limits) -> Checked:
    from esp_at_tools.pki.collection import CollectionFinding, chains, check_collection
    from esp_at_tools.settings.pki_fit import check_room, measure

    items = grouped.items
    found = [*grouped.findings, *check_collection(items, now=now, tls=limits.tls)]
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
        path, str(path), kind, items, found, chains(items), infos, room, limits.path, grouped.passed_over
    )


def _info(item: CollectedItem) -> PkiInfo | None:
    from esp_at_tools.pki.items import read_pki

    try:
        return read_pki(item.data, item.name, item.kind)
    except FormatError:
        return None

"""What ``pki check`` looks into: firmware, folders and files, and all that is found there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esp_at_tools import files
from esp_at_tools.errors import EspAtError, FormatError, InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.identify import TABLE_MAGIC
from esp_at_tools.firmware.release import DOWNLOAD_CONFIG, FLASHER_ARGS, Release
from esp_at_tools.firmware.tls_limits import SDKCONFIG
from esp_at_tools.formats.app_image import ESP8266_V2_MAGIC, IMAGE_MAGIC
from esp_at_tools.formats.nvs.model import ENTRY_SIZE, crc32
from esp_at_tools.formats.partition_table import DEFAULT_OFFSET
from esp_at_tools.pki.items import LEVELS
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.modern import ModernLayout

if TYPE_CHECKING:
    from esp_at_tools.pki.collection import ChainFact, CollectedItem, CollectionFinding
    from esp_at_tools.pki.grouping import Grouped
    from esp_at_tools.pki.items import PkiInfo
    from esp_at_tools.pki.names import PkiKind
    from esp_at_tools.pki.sniff import Sniffed
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
        firmware: files of a folder that are firmware, of which nothing was looked at.
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
    firmware: int = 0
    partition: tuple[int, int] | None = None

    @cached_property
    def facts(self) -> Mapping[str, ChainFact]:
        """Where a certificate leads, by its name."""
        return {fact.certificate: fact for fact in self.chains}

    @cached_property
    def _roles(self) -> Mapping[str, Mapping[PkiKind, CollectedItem]]:
        found: dict[str, dict[PkiKind, CollectedItem]] = {}
        for each in self.items:
            found.setdefault(each.role, {}).setdefault(each.kind, each)
        return found

    def partner(self, item: CollectedItem) -> CollectedItem | None:
        """Return the certificate that a key is to belong to, which may be unreadable, None without one."""
        kinds = self._roles[item.role]
        return kinds.get("certificate") or (None if item.role_is_official else kinds.get("ca"))

    def matches(self, item: CollectedItem) -> bool | None:
        """Tell whether key and certificate of the item's set belong together, None where one is missing."""
        if item.role_is_official and item.kind == "ca":
            return None
        key = item if item.kind == "private_key" else self._roles[item.role].get("private_key")
        ours, theirs = self._print(key), self._print(self.partner(item))
        return ours == theirs if ours and theirs else None

    def _print(self, item: CollectedItem | None) -> str:
        info = self.infos.get((item.name, item.kind)) if item else None
        return info.public_key_sha256 if info else ""


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

    limits = given or Limits(OFFICIAL, None)
    folders = [path for path in paths if path.is_dir() and not _is_release(path)]
    firmware = [path for path in paths if path not in folders and (path.is_dir() or _is_firmware(path))]
    loose = [path for path in paths if path not in folders and path not in firmware]
    groups = {path: group_folder(path, _is_flash) for path in dict.fromkeys(folders)}
    if loose:
        groups[loose[0]] = group_files(loose)
    for path in dict.fromkeys(paths):
        others = [
            item for other, grouped in groups.items() if other != path for item in _authorities(grouped)
        ]
        if path in firmware:
            yield _firmware(path, now, given, options, others)
        elif path in groups:
            kind = "folder" if path in folders else "files"
            checked = _checked(path, kind, groups[path], now, limits, others)
            title = f"{len(loose)} files" if kind == "files" and len(loose) > 1 else str(path)
            yield replace(checked, title=title)
    if any(options.values()) and not firmware and not folders:
        raise InputError("the files are no firmware", "leave out --chip, --module and the offsets")


def _authorities(grouped: Grouped) -> list[CollectedItem]:
    """Return the CA certificates of files, called what no other input calls one."""
    return [replace(item, name=str(item.path or item.name)) for item in grouped.items if item.kind == "ca"]


def _is_flash(found: Sniffed) -> bool:
    """Tell whether a file of a folder is a flash image or a partition of NVS."""
    data = found.data
    if found.usable or found.foreign or len(data) < _MIN_PARTITION:
        return False
    begins = data.startswith((TABLE_MAGIC, bytes([IMAGE_MAGIC]), bytes([ESP8266_V2_MAGIC])))
    return begins or data.startswith(TABLE_MAGIC, DEFAULT_OFFSET) or _is_nvs_page(data[:ENTRY_SIZE])


def _is_nvs_page(header: bytes) -> bool:
    """Tell whether a file begins with a page of NVS, by its state and the CRC of its header."""
    return header[1:4] == b"\xff\xff\xff" and crc32(header[4:28]) == int.from_bytes(header[28:32], "little")


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


def _firmware(
    path: Path,
    now: datetime,
    given: Limits | None,
    options: dict[str, Any],
    others: Sequence[CollectedItem] = (),
) -> Checked:
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
    checked = _checked(path, firmware.kind, Grouped(items, found, 0), now, given, others)
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


def _checked(
    path: Path,
    kind: str,
    grouped: Grouped,
    now: datetime,
    limits: Limits,
    others: Sequence[CollectedItem] = (),
) -> Checked:
    from esp_at_tools.pki.collection import CollectionFinding, chains, check_collection
    from esp_at_tools.settings.pki_fit import check_room, measure

    items = grouped.items
    found = [*grouped.findings, *check_collection(items, now=now, tls=limits.tls, others=others)]
    room = None
    if kind in ("folder", "files") and any(item.role_is_official for item in items):
        room = measure(items)
        found += [CollectionFinding(kind, each) for each in check_room(items)]
    if not items and not found:
        what = "holds no certificates or keys" if kind != "files" else "is no certificate or key"
        if grouped.firmware:
            raise InputError(
                f"{path}: {what}, and {are_firmware(grouped.firmware)}", "give them by themselves"
            )
        raise InputError(f"{path}: {what}", "give a firmware, files, or a folder that has some")
    found = [each for level in LEVELS for each in found if each.finding.level == level]
    infos = {(item.name, item.kind): info for item in items if (info := _info(item)) is not None}
    return Checked(
        path, str(path), kind, items, found, chains(items, others), infos, room, limits.path,
        grouped.passed_over, grouped.firmware,
    )  # fmt: skip


def are_firmware(count: int) -> str:
    """Say how many files of a folder are firmware."""
    return f"{count} files are firmware" if count > 1 else "1 file is firmware"


def _info(item: CollectedItem) -> PkiInfo | None:
    from esp_at_tools.pki.items import read_pki

    try:
        return read_pki(item.data, item.name, item.kind)
    except FormatError:
        return None

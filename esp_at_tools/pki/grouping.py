"""Loose files made into sets, by their names or by what belongs together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.pki_list import PkiList
from esp_at_tools.pki.checks import Finding
from esp_at_tools.pki.collection import CollectedItem, CollectionFinding
from esp_at_tools.pki.file_names import SUFFIXES, item_by_path
from esp_at_tools.pki.folder import PROFILE_NAME
from esp_at_tools.pki.items import read_pki
from esp_at_tools.pki.names import PKI_GROUPS, PKI_ITEMS, PkiKind
from esp_at_tools.pki.sniff import Sniffed, kind_of, list_files, natural, sniff

_DEPTH = 3
_KIND_WORDS = re.compile(
    r"(?:[-_. ]*(?:certificate|cert|crt|cer|private|priv|public|key|pem|der|fullchain|chain))+\Z"
)


@dataclass(frozen=True)
class Grouped:
    """The certificates and keys among some files.

    Attributes:
        items: those that can be used, or should be.
        findings: what is wrong with files that are neither.
        passed_over: how many files of a folder have nothing to do with certificates.
        firmware: how many files of a folder are firmware, and were not looked into.
    """

    items: Sequence[CollectedItem]
    findings: Sequence[CollectionFinding]
    passed_over: int
    firmware: int = 0


@dataclass
class _Gathering:
    items: list[CollectedItem] = field(default_factory=list)
    findings: list[CollectionFinding] = field(default_factory=list)
    loose: list[tuple[str, Sniffed]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    passed_over: int = 0
    firmware: int = 0

    def add(self, name: str, file: Sniffed, *, explicit: bool, place: Path) -> None:
        """Take a file; one that somebody named must be something that can be used."""
        wrapped = _unwrapped(file)
        if wrapped:
            self.items += wrapped
            return
        item = item_by_path(place)
        taken = {each.name for each in self.items}
        if item and item not in taken and (file.related or file.path.suffix.lower() in SUFFIXES):
            self.items.append(CollectedItem.official(item, file.data, path=file.path))
        elif file.usable:
            self.loose.append((name, file))
        elif file.related or explicit:
            useful = explicit or not file.foreign
            finding = Finding(
                "pki-unreadable" if useful else "pki-not-used",
                "error" if useful else "info",
                risky=False,
                message=f"{name}: {file.problem}",
                hint=file.hint,
            )
            self.findings.append(CollectionFinding(name, finding))
            self.unreadable.append(name)
        else:
            self.passed_over += 1


def _unwrapped(file: Sniffed) -> list[CollectedItem]:
    """Return the items of a partition of the older layout, where the file's name tells which it is."""
    group = file.path.stem.lower()
    if group not in PKI_GROUPS:
        return []
    try:
        members = PkiList.from_bytes(file.data).items
    except FormatError:
        return []
    official = [item for item in PKI_ITEMS.values() if item.group == group]
    return [
        CollectedItem.official(item.name, member.data, path=file.path)
        for item, member in zip(official, members, strict=False)
        if member.data
    ]


def group_folder(folder: Path, is_firmware: Callable[[Sniffed], bool] = lambda _: False) -> Grouped:
    """Return the sets in a folder, and in its folders three levels down.

    Args:
        folder: the folder.
        is_firmware: tells whether a file is firmware, which is only counted.

    Raises:
        InputError: it cannot be read, or holds too many files.
    """
    gathering = _Gathering()
    for path in list_files(folder, _DEPTH):
        if path.name == PROFILE_NAME:
            continue
        place, file = path.relative_to(folder), sniff(path)
        if item_by_path(place) or not is_firmware(file):
            gathering.add(place.as_posix(), file, explicit=False, place=place)
        else:
            gathering.firmware += 1
    return _grouped(gathering)


def group_files(paths: Sequence[Path]) -> Grouped:
    """Return the sets among some files.

    Raises:
        InputError: one cannot be read.
    """
    gathering = _Gathering()
    for path in sorted(dict.fromkeys(paths), key=natural):
        if path.name == PROFILE_NAME:  # one of all the files of a folder
            continue
        gathering.add(str(path), sniff(path), explicit=True, place=path)
    return _grouped(gathering)


def _grouped(gathering: _Gathering) -> Grouped:
    order = list(PKI_ITEMS)
    official = sorted(gathering.items, key=lambda item: order.index(item.name))
    loose = _loose_items(gathering.loose, gathering.unreadable)
    findings = [*gathering.findings, *_unpaired(loose, gathering)]
    return Grouped([*official, *loose], findings, gathering.passed_over, gathering.firmware)


def _loose_items(loose: Sequence[tuple[str, Sniffed]], unreadable: Sequence[str]) -> list[CollectedItem]:
    """Return what is named for no item: a key goes with its certificate, or with one of a like name."""
    certificates = [(name, file) for name, file in loose if file.contents and file.contents.certificates]
    keys = [(name, file) for name, file in loose if file.contents and file.contents.key_count]
    lone = {name: file for name, file in certificates if kind_of(file) != "ca"}
    roles = {name: name for name, _ in loose}
    partners = _by_key(certificates)
    for name, key in keys:
        partner = partners.get(_key_print(key), "")
        if partner:
            roles[name] = partner
            lone.pop(partner, None)
    with_certificate = {name for name, _ in certificates}
    unmatched = [name for name, _ in keys if roles[name] == name and name not in with_certificate]
    for name in unmatched:
        like = [each for each in lone if _stem(each) == _stem(name)]
        only = len(unmatched) == len(lone) == 1 and not unreadable
        like = like or (list(lone) if only else [])
        if len(like) == 1:
            roles[name] = like[0]
            lone.pop(like[0])
    items = [_item(name, file, kind_of(file), roles[name]) for name, file in certificates]
    return [*items, *(_item(name, file, "private_key", roles[name]) for name, file in keys)]


def _unpaired(loose: Sequence[CollectedItem], gathering: _Gathering) -> Iterator[CollectionFinding]:
    """Tell of what is alone in a folder of pairs."""
    files = dict(gathering.loose)
    partners = {each.role for each in loose if each.kind == "private_key" and each.role != each.name}
    if not partners.intersection(files):
        return
    held = {_key_print(files[each.name]) for each in loose if each.kind == "private_key"}
    broken = {_stem(name) for name in gathering.unreadable}
    with_key = {each.name for each in loose if each.kind == "private_key"}
    for each in loose:
        info = files[each.name].info
        if _stem(each.name) in broken or info is None:
            continue
        if each.kind == "certificate" and each.name not in partners | with_key:
            if info.public_key_sha256 not in held:
                yield _alone(each.name, "private key", "put it there, if a device is to have the certificate")
        elif each.kind == "private_key" and each.role == each.name and not info.count:
            yield _alone(each.name, "certificate", "put it there, if a device is to have the key")


def _alone(name: str, missing: str, hint: str) -> CollectionFinding:
    message = f"{name}: its {missing} is not among the files"
    return CollectionFinding(name, Finding("pki-unpaired", "info", risky=False, message=message, hint=hint))


def _item(name: str, file: Sniffed, kind: PkiKind, role: str) -> CollectedItem:
    return CollectedItem(name, kind, role, file.data, file.path)


def _by_key(certificates: Sequence[tuple[str, Sniffed]]) -> dict[str, str]:
    """Return the certificates, the first of each public key, by the SHA-256 of that key."""
    found: dict[str, str] = {}
    for name, file in certificates:
        if file.info and file.info.public_key_sha256:
            found.setdefault(file.info.public_key_sha256, name)
    return found


def _key_print(file: Sniffed) -> str:
    try:
        return read_pki(file.data, file.path.name, "private_key").public_key_sha256
    except FormatError:
        return ""


def _stem(name: str) -> str:
    """Return a name without what tells certificate and key apart: ``x`` of ``x-certificate.pem.crt``."""
    return _KIND_WORDS.sub("", name.lower())

"""Loose files made into sets, by their names or by what belongs together."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
from esp_at_tools.pki.sniff import Sniffed, kind_of, list_files, sniff

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
    """

    items: Sequence[CollectedItem]
    findings: Sequence[CollectionFinding]
    passed_over: int


@dataclass
class _Gathering:
    items: list[CollectedItem] = field(default_factory=list)
    findings: list[CollectionFinding] = field(default_factory=list)
    loose: list[tuple[str, Sniffed]] = field(default_factory=list)
    passed_over: int = 0

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


def group_folder(folder: Path) -> Grouped:
    """Return the sets in a folder, and in its folders three levels down.

    Raises:
        InputError: it cannot be read, or holds too many files.
    """
    gathering = _Gathering()
    for path in list_files(folder, _DEPTH):
        if path.name == PROFILE_NAME:
            continue
        place = path.relative_to(folder)
        gathering.add(place.as_posix(), sniff(path), explicit=False, place=place)
    return _grouped(gathering)


def group_files(paths: Sequence[Path]) -> Grouped:
    """Return the sets among some files.

    Raises:
        InputError: one cannot be read.
    """
    gathering = _Gathering()
    for path in dict.fromkeys(paths):
        gathering.add(str(path), sniff(path), explicit=True, place=path)
    return _grouped(gathering)


def _grouped(gathering: _Gathering) -> Grouped:
    order = list(PKI_ITEMS)
    official = sorted(gathering.items, key=lambda item: order.index(item.name))
    return Grouped([*official, *_loose_items(gathering.loose)], gathering.findings, gathering.passed_over)


def _loose_items(loose: Sequence[tuple[str, Sniffed]]) -> list[CollectedItem]:
    """Return what is named for no item: a key goes with its certificate, or with one of a like name."""
    certificates = [(name, file) for name, file in loose if file.contents and file.contents.certificates]
    keys = [(name, file) for name, file in loose if file.contents and file.contents.key_count]
    leaves = [(name, file) for name, file in certificates if kind_of(file) != "ca"]
    roles = {name: name for name, _ in loose}
    lone = dict(leaves)
    for name, key in keys:
        partner = _partner(key, certificates)
        if partner:
            roles[name] = partner
            lone.pop(partner, None)
    unmatched = [name for name, _ in keys if roles[name] == name and name not in dict(certificates)]
    for name in unmatched:
        like = [each for each in lone if _stem(each) == _stem(name)]
        like = like or (list(lone) if len(unmatched) == len(lone) == 1 else [])
        if len(like) == 1:
            roles[name] = like[0]
            lone.pop(like[0])
    items = [_item(name, file, kind_of(file), roles[name]) for name, file in certificates]
    return [*items, *(_item(name, file, "private_key", roles[name]) for name, file in keys)]


def _item(name: str, file: Sniffed, kind: PkiKind, role: str) -> CollectedItem:
    return CollectedItem(name, kind, role, file.data, file.path)


def _partner(key: Sniffed, certificates: Sequence[tuple[str, Sniffed]]) -> str:
    """Return the name of the certificate that a key belongs to, ``""`` where there is none."""
    fingerprint = _key_print(key)
    matching = [
        name
        for name, file in certificates
        if fingerprint and file.info and file.info.public_key_sha256 == fingerprint
    ]
    return matching[0] if matching else ""


def _key_print(file: Sniffed) -> str:
    try:
        return read_pki(file.data, file.path.name, "private_key").public_key_sha256
    except FormatError:
        return ""


def _stem(name: str) -> str:
    """Return a name without what tells certificate and key apart: ``x`` of ``x-certificate.pem.crt``."""
    return _KIND_WORDS.sub("", name.lower())

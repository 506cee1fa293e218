"""All certificates and keys of a firmware, or of some files: every check of each and between them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from esp_at_tools.errors import FormatError
from esp_at_tools.pki.chain import Authorities, Chain, find_chain
from esp_at_tools.pki.checks import Finding, check_item, check_set
from esp_at_tools.pki.item_checks import Purpose
from esp_at_tools.pki.items import LEVELS, load
from esp_at_tools.pki.names import PKI_ITEMS, PKI_SETS, PkiKind
from esp_at_tools.pki.tls_support import OFFICIAL, TlsSupport

if TYPE_CHECKING:
    from cryptography import x509

_INCOMPLETE = "pki-incomplete-set"  # a file by itself is no set


@dataclass(frozen=True)
class CollectedItem:
    """One certificate or key among others.

    Attributes:
        name: how to call it: the official name of the item, or the file's.
        kind: what it is for.
        role: the set that it belongs to: ``server``, ``client.0``, … or another name.
        data: its bytes.
        path: the file that it is from; None for one of a firmware.
    """

    name: str
    kind: PkiKind
    role: str
    data: bytes = field(repr=False)
    path: Path | None = None

    @classmethod
    def official(cls, item: str, data: bytes, *, name: str = "", path: Path | None = None) -> CollectedItem:
        """Return what is for an item of the firmware.

        Args:
            item: the official name.
            data: its bytes.
            name: how to call it; the official name if empty.
            path: the file that it is from.
        """
        return cls(name or item, PKI_ITEMS[item].kind, PKI_ITEMS[item].role, data, path)

    @property
    def role_is_official(self) -> bool:
        """Whether the set is one of the firmware's."""
        return self.role in PKI_SETS


@dataclass(frozen=True)
class CollectionFinding:
    """What is wrong with an item or a set.

    Attributes:
        about: the item's or the set's name.
        finding: what it is.
    """

    about: str
    finding: Finding


@dataclass(frozen=True)
class ChainFact:
    """Where the certificate of a set leads.

    Attributes:
        certificate: the item's name.
        checked_by: the names of the CA items that the other side would check it with; none where they
            are not here.
        chain: what was found, None where there is nothing to check it with.
        crossed: whether those items are of another set, for the two sides of ESP-AT's own TLS.
    """

    certificate: str
    checked_by: tuple[str, ...]
    chain: Chain | None
    crossed: bool


def purpose_of(role: str) -> Purpose:
    """Return the side of a connection that a set is for: all but ``server`` are clients."""
    if role == "server":
        return "server"
    return "client" if role in PKI_SETS else ""


def check_collection(
    items: Sequence[CollectedItem],
    *,
    now: datetime,
    tls: TlsSupport = OFFICIAL,
    changed: Container[str] | None = None,
) -> list[CollectionFinding]:
    """Return what every check finds, the worst first.

    Args:
        items: the certificates and keys.
        now: the moment at which they should be valid, with a time zone.
        tls: what the firmware accepts.
        changed: the names of those that are judged, alone and with the others; all if None.
    """
    judged = [item for item in items if changed is None or item.name in changed]
    found = [
        CollectionFinding(item.name, each) for item in judged for each in check_one(item, now=now, tls=tls)
    ]
    roles = {item.role for item in judged}
    for role, parts in _by_role(items).items():
        if role not in roles:
            continue
        data = {kind: part.data for kind, part in parts.items()}
        among = check_set(data.get("ca"), data.get("certificate"), data.get("private_key"), name=role)
        found += [
            CollectionFinding(role, each) for each in among if role in PKI_SETS or each.id != _INCOMPLETE
        ]
    names = {item.name for item in judged}
    facts = [fact for fact in chains(items) if not names.isdisjoint((fact.certificate, *fact.checked_by))]
    found += [CollectionFinding(fact.certificate, each) for fact in facts for each in _of_chain(fact)]
    return [each for level in LEVELS for each in found if each.finding.level == level]


def _by_role(items: Sequence[CollectedItem]) -> dict[str, dict[PkiKind, CollectedItem]]:
    """Return the items by set and kind; of several of one kind, the first."""
    roles: dict[str, dict[PkiKind, CollectedItem]] = {}
    for item in items:
        roles.setdefault(item.role, {}).setdefault(item.kind, item)
    return roles


def check_one(item: CollectedItem, *, now: datetime, tls: TlsSupport = OFFICIAL) -> list[Finding]:
    """Return what is wrong with one item for its place; see :func:`check_collection`."""
    return check_item(
        item.kind,
        item.data,
        now=now,
        name=item.name,
        pem_only=item.role == "mqtt",
        purpose=purpose_of(item.role),
        tls=tls,
    )


def chains(items: Sequence[CollectedItem]) -> list[ChainFact]:
    """Return where each certificate leads.

    The other side of ``server`` is a client with the CA of a client's set, and the reverse; what checks
    the certificates of the other sets is elsewhere, and has often the same CA as the set.
    """
    authorities = {item.name: found for item in items if item.kind == "ca" and (found := _certificates(item))}
    roles = {item.name: item.role for item in items}
    trusted: dict[tuple[str, ...], Authorities] = {}
    facts = []
    for item in items:
        chain = _certificates(item) if item.kind == "certificate" else ()
        if chain:
            wanted = [name for name in authorities if _checks(roles[name], item.role)]
            wanted = [name for name in wanted if roles[name] in PKI_SETS] or wanted
            if tuple(wanted) not in trusted:
                trusted[tuple(wanted)] = Authorities(each for name in wanted for each in authorities[name])
            way = find_chain(chain, trusted[tuple(wanted)]) if wanted else None
            crossed = any(roles[name] != item.role for name in wanted)
            facts.append(ChainFact(item.name, tuple(wanted), way, crossed))
    return facts


def _checks(role_of_ca: str, role: str) -> bool:
    if role not in PKI_SETS or role_of_ca not in PKI_SETS:
        return True  # nobody knows what it is for
    if role == "server":
        return role_of_ca.startswith("client.")
    return role_of_ca == ("server" if role.startswith("client.") else role)


def _certificates(item: CollectedItem) -> tuple[x509.Certificate, ...]:
    try:
        return load(item.data, item.name, item.kind).certificates
    except FormatError:
        return ()


_BROKEN: Mapping[str, str] = {
    "wrong-signature": "has the name of its issuer, but did not sign it",
    "not-an-issuer": "signed it, but may not sign certificates",
    "too-long": "is not reached within 8 intermediate certificates",
}


def _of_chain(fact: ChainFact) -> Iterator[Finding]:
    """Return what to say of a chain; of that to the CA of the same set, :func:`check_set` says the rest."""
    if fact.chain is None or fact.chain.state == "trusted":
        return
    names = ", ".join(fact.checked_by)
    if fact.chain.state in _BROKEN:
        if not fact.crossed:
            return
        message = f"{fact.certificate}: {names} {_BROKEN[fact.chain.state]}"
        yield Finding("pki-chain", "warning", False, message, "issue it with the authority that checks it")
    else:
        message = (
            f"{fact.certificate}: its issuer {fact.chain.issuer or '(without a name)'} is not in {names}"
        )
        hint = "fine where the other side has that authority, which is not here to check it with"
        yield Finding("pki-chain-unknown", "info", False, message, hint)

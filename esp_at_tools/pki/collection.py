"""All certificates and keys of a firmware, or of some files: every check of each and between them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from esp_at_tools.errors import FormatError
from esp_at_tools.pki.chain import MAX_INTERMEDIATES, Authorities, Chain, find_chain
from esp_at_tools.pki.checks import Finding, check_item, check_set
from esp_at_tools.pki.item_checks import Purpose
from esp_at_tools.pki.items import LEVELS, distinguished_names, load
from esp_at_tools.pki.names import PKI_ITEMS, PKI_SETS, PkiKind, listed
from esp_at_tools.pki.set_checks import BAD_SIGNATURE, BAD_SIGNATURE_HINT
from esp_at_tools.pki.signatures import names_key_of, signed_by
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
        checked_by: the names of the CA items that it leads to; none where it leads to none.
        chain: what was found, None where there is nothing to check it with.
        crossed: whether the CA items are of another set, for the two sides of ESP-AT's own TLS.
        ends_at: the names of the CA items that ``chain`` is about, whether it leads there or not.
        compared: the names of all CA items that the other side could check it with.
    """

    certificate: str
    checked_by: tuple[str, ...]
    chain: Chain | None
    crossed: bool
    ends_at: tuple[str, ...] = ()
    compared: tuple[str, ...] = ()


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
    others: Sequence[CollectedItem] = (),
) -> list[CollectionFinding]:
    """Return what every check finds, the worst first.

    Args:
        items: the certificates and keys.
        now: the moment at which they should be valid, with a time zone.
        tls: what the firmware accepts.
        changed: the names of those that are judged, alone and with the others; all if None.
        others: see :func:`chains`.
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
    for fact in chains(items, others):
        if not names.isdisjoint((fact.certificate, *fact.compared)):
            found += [CollectionFinding(fact.certificate, each) for each in _of_chain(fact)]
    found += _bad_signatures(items, names)
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


def chains(items: Sequence[CollectedItem], others: Sequence[CollectedItem] = ()) -> list[ChainFact]:
    """Return where each certificate leads.

    The other side of ``server`` is a client with the CA of a client's set, and the reverse; what checks
    the certificates of the other sets is elsewhere, and has often the same CA as the set.

    Args:
        items: the certificates and keys.
        others: from elsewhere, with names of their own: what leads to no authority among the items may lead
            to one of these.
    """
    pools = [_Pool(items)]
    if others:
        pools.append(_Pool((*items, *others), mixed=True))
    facts = []
    for item in items:
        chain = _certificates(item) if item.kind == "certificate" else ()
        if chain:
            found = [pool.fact(item, chain) for pool in pools]
            facts.append(max(found, key=_weight))  # of several alike, the first
    return facts


def _weight(fact: ChainFact) -> int:
    return 3 if fact.checked_by else 2 if fact.ends_at else bool(fact.compared)


class _Pool:
    """The CA items with which certificates are compared.

    Args:
        items: what they are among.
        mixed: whether those without an official name count beside those that have one.
    """

    def __init__(self, items: Sequence[CollectedItem], *, mixed: bool = False) -> None:
        """Read them."""
        self.mixed = mixed
        self.authorities = {
            item.name: (item.role, found)
            for item in items
            if item.kind == "ca" and (found := _certificates(item))
        }
        self.compared: dict[str, tuple[tuple[str, ...], Authorities]] = {}

    def fact(self, item: CollectedItem, chain: Sequence[x509.Certificate]) -> ChainFact:
        """Say where a certificate leads among those that the other side of its connection has."""
        role = item.role if item.role in PKI_SETS else ""
        if role not in self.compared:
            self.compared[role] = self._of_role(role)
        compared, trusted = self.compared[role]
        if not compared:
            return ChainFact(item.name, (), None, crossed=False)
        way = find_chain(chain, trusted)
        about = {*way.ends_at}
        ends_at = tuple(
            name for name in compared if about and not about.isdisjoint(self.authorities[name][1])
        )
        crossed = any(self.authorities[name][0] != item.role for name in ends_at or compared)
        checked_by = ends_at if way.state == "trusted" else ()
        return ChainFact(item.name, checked_by, way, crossed, ends_at, compared)

    def _of_role(self, role: str) -> tuple[tuple[str, ...], Authorities]:
        wanted = [name for name, (of, _) in self.authorities.items() if _checks(of, role)]
        official = [name for name in wanted if self.authorities[name][0] in PKI_SETS]
        compared = tuple(wanted if self.mixed else official or wanted)
        each_of_them = (each for name in compared for each in self.authorities[name][1])
        return compared, Authorities(each_of_them, whole=not official)


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


_MAY_NOT = "issue it with an authority that may sign it, or have the CA certificate issued again"
_BROKEN: Mapping[str, str] = {
    "not-an-issuer": "signed it, but may not sign certificates",
    "path-length": "signed it, but its pathlen allows fewer intermediate certificates below it",
}


def _of_chain(fact: ChainFact) -> Iterator[Finding]:
    """Return what to say of a chain; of a CA of the same set that did not sign, :func:`check_set` says it."""
    way = fact.chain
    if way is None or way.state == "trusted":
        return
    which = f"certificate {way.number} of it: " if way.number > 1 else ""
    names = listed(fact.ends_at) or f"the certificate of {way.issuer or 'its issuer'}"
    about = f"{fact.certificate}: {which}"
    if way.state in _BROKEN:
        yield Finding("pki-chain", "warning", False, f"{about}{names} {_BROKEN[way.state]}", _MAY_NOT)
    elif way.state == "too-long":
        message = f"{about}no authority is reached within {MAX_INTERMEDIATES} intermediate certificates"
        yield Finding("pki-chain", "warning", False, message, "leave out what does not belong to the chain")
    elif way.state == "wrong-signature":
        if fact.ends_at and (fact.crossed or way.number > 1):
            message = f"{about}its signature does not verify with {names}, which has its issuer's name"
            yield Finding(BAD_SIGNATURE, "warning", False, message, BAD_SIGNATURE_HINT)
    elif way.state == "unknown-issuer" or fact.crossed:
        issuer = way.issuer or "(without a name)"
        message = f"{about}its issuer {issuer} is not in {listed(fact.compared)}"
        if fact.ends_at:
            message = f"{about}its issuer {issuer} is not here: {names} has that name and another key"
        hint = "fine where the other side has that authority, which is not here to check it with"
        yield Finding("pki-chain-unknown", "info", False, message, hint)


_Named = Mapping[str, Sequence[tuple[str, "x509.Certificate"]]]
"""Subject → items that hold a certificate of that name."""


def _by_subject(items: Iterable[tuple[str, Sequence[x509.Certificate]]]) -> _Named:
    found: dict[str, list[tuple[str, x509.Certificate]]] = {}
    for name, certificates in items:
        for each in certificates:
            found.setdefault(distinguished_names(each)[0], []).append((name, each))
    return found


def _bad_signatures(items: Sequence[CollectedItem], judged: Container[str]) -> Iterator[CollectionFinding]:
    """Find certificates that are not signed by the one that they name, in an item or above an authority.

    Above the authority of an item without an official name, the others of that kind are looked at. What
    stands above a certificate is for :func:`chains`.
    """
    loose = {
        item.name: _certificates(item) for item in items if item.kind == "ca" and item.role not in PKI_SETS
    }
    above = _by_subject(loose.items())
    for item in items:
        if item.kind != "private_key":
            for about, finding in _signatures(item, above if item.name in loose else {}):
                if item.name in judged or about in judged:
                    yield CollectionFinding(item.name, finding)


def _signatures(item: CollectedItem, above: _Named) -> Iterator[tuple[str, Finding]]:
    """Yield the item that did not sign as well; ``""`` for this one."""
    own = _certificates(item)
    for number, certificate in enumerate(own, 1):
        issuer = distinguished_names(certificate)[1]
        named = [("its own key" if each == certificate else f"certificate {n} of it", each)
                 for n, each in enumerate(own, 1) if distinguished_names(each)[0] == issuer]  # fmt: skip
        others = [(name, each) for name, each in above.get(issuer, ()) if name != item.name]
        if not issuer or any(signed_by(certificate, each) for _, each in (*named, *others)):
            continue
        meant = {name: each for name, each in (*named, *others) if names_key_of(certificate, each)}
        if meant:
            which = f"certificate {number} of it: " if len(own) > 1 else ""
            by = listed([*meant]) + ("" if certificate in meant.values() else ", which has its issuer's name")
            message = f"{item.name}: {which}its signature does not verify with {by}"
            finding = Finding(BAD_SIGNATURE, "warning", False, message, BAD_SIGNATURE_HINT)
            yield next((name for name, _ in others if name in meant), ""), finding

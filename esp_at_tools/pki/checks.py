"""Checks of certificates and private keys, each by itself and as a set.

Grades: a finding of level ``error`` that is not risky is impossible (the item is no certificate or
key, or the wrong one of the two); a risky one is something that can be stored and will probably not
work; the others are only told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from esp_at_tools.errors import FormatError
from esp_at_tools.pki.extension_checks import EXTENSION_CHECKS
from esp_at_tools.pki.item_checks import ITEM_CHECKS, Item, Purpose
from esp_at_tools.pki.items import LEVELS, Contents, Level, PkiInfo, describe, load
from esp_at_tools.pki.names import PkiKind
from esp_at_tools.pki.set_checks import SET_CHECKS, PkiSet
from esp_at_tools.pki.tls_support import OFFICIAL, TlsSupport

CHECKS = sorted((*ITEM_CHECKS, *EXTENSION_CHECKS), key=lambda check: LEVELS.index(check.level))
"""Every check of one item, worst first."""

KIND_NAMES: dict[PkiKind, str] = {
    "ca": "CA certificate",
    "certificate": "certificate",
    "private_key": "private key",
}
"""What each kind of item is called in messages."""


@dataclass(frozen=True)
class Finding:
    """Something about an item or a set.

    Attributes:
        id: which check it comes from; stable.
        level: ``error`` where the item is unusable or will not work.
        risky: it can be stored, but only on purpose (``--force``).
        message: what is wrong, beginning with the item's name.
        hint: what would be right.
    """

    id: str
    level: Level
    risky: bool
    message: str
    hint: str

    @property
    def impossible(self) -> bool:
        """Whether nothing can make it right to store this."""
        return self.level == "error" and not self.risky


def check_item(
    expected_kind: PkiKind,
    data: bytes,
    *,
    now: datetime,
    name: str = "",
    pem_only: bool = False,
    purpose: Purpose = "",
    tls: TlsSupport = OFFICIAL,
) -> list[Finding]:
    """Return what is wrong with one item.

    Args:
        expected_kind: what the item is for.
        data: the item.
        now: the moment at which it should be valid, with a time zone.
        name: how to call it; the kind if empty.
        pem_only: what uses the item reads no DER, as is so with the MQTT client of every version.
        purpose: which side of a connection a certificate is for.
        tls: what the firmware accepts.

    Raises:
        ValueError: ``now`` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError("now: needs a time zone")
    name = name or KIND_NAMES[expected_kind]
    try:
        contents = load(data, name, expected_kind)
        info = describe(contents, data)
    except FormatError as error:
        return [Finding("pki-unreadable", "error", False, error.message, error.hint)]
    if (expected_kind == "private_key") is bool(contents.certificates):
        found = KIND_NAMES["private_key" if info.kind == "private_key" else "certificate"]
        wanted = KIND_NAMES[expected_kind]
        hint = f"give the {wanted}; are two files interchanged?"
        return [Finding("pki-wrong-kind", "error", False, f"{name}: is a {found}, not a {wanted}", hint)]
    item = Item(expected_kind, data, now, name, pem_only, contents, info, purpose, tls)
    return [
        Finding(check.id, check.level, check.risky, f"{name}: {message}", hint)
        for check in CHECKS
        for message, hint in check.find(item)
    ]


def _readable(data: bytes | None, kind: PkiKind) -> tuple[Contents | None, PkiInfo | None]:
    """Return what an item holds, nothing where it cannot be read or is of the wrong kind."""
    if data is None:
        return None, None
    try:
        contents = load(data, KIND_NAMES[kind], kind)
        info = describe(contents, data)
    except FormatError:
        return None, None
    return (contents, info) if (kind == "private_key") is not bool(contents.certificates) else (None, None)


def check_set(
    ca: bytes | None, certificate: bytes | None, key: bytes | None, *, name: str = "set"
) -> list[Finding]:
    """Return what is wrong between the items of one set; :func:`check_item` says it of each.

    Args:
        ca: the CA certificate, None where there is none.
        certificate: the certificate, likewise.
        key: the private key, likewise.
        name: how to call the set.
    """
    items: dict[PkiKind, bytes | None] = {"ca": ca, "certificate": certificate, "private_key": key}
    read = {kind: _readable(data, kind) for kind, data in items.items()}
    pki = PkiSet(
        present=frozenset(kind for kind, data in items.items() if data is not None),
        ca=read["ca"][0],
        certificate=read["certificate"][0],
        key=read["private_key"][0],
        certificate_info=read["certificate"][1],
        key_info=read["private_key"][1],
    )
    return [
        Finding(check.id, check.level, check.risky, f"{name}: {message}", hint)
        for check in SET_CHECKS
        for message, hint in check.find(pki)
    ]

"""The table of checks between the certificate, the private key and the CA certificate of one set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from esp_at_tools.pki.items import (
    Contents,
    Level,
    PkiInfo,
    distinguished_names,
    public_key_sha256,
    without_warnings,
)
from esp_at_tools.pki.names import PkiKind

if TYPE_CHECKING:
    from cryptography import x509

_Found = Iterator[tuple[str, str]]
"""Message, without the set's name, and hint."""


@dataclass(frozen=True)
class PkiSet:
    """What the checks of a set look at.

    Attributes:
        present: the kinds of item that there are, readable or not.
        ca: the CA certificates, None where there are none or they cannot be read.
        certificate: the certificate and its chain, likewise.
        key: the private key, likewise.
        certificate_info: what the certificate is.
        key_info: what the key is.
    """

    present: frozenset[PkiKind]
    ca: Contents | None
    certificate: Contents | None
    key: Contents | None
    certificate_info: PkiInfo | None
    key_info: PkiInfo | None


@dataclass(frozen=True)
class SetCheck:
    """One line of the table of checks of a set."""

    id: str
    level: Level
    risky: bool
    find: Callable[[PkiSet], _Found]


def _mismatch(pki: PkiSet) -> _Found:
    if pki.certificate_info is None or pki.key_info is None:
        return
    theirs, ours = pki.certificate_info.public_key_sha256, pki.key_info.public_key_sha256
    if not theirs or not ours or theirs == ours:
        return
    others = pki.certificate.certificates[1:] if pki.certificate else ()
    if ours in (public_key_sha256(each) for each in others):
        yield (
            "the private key belongs to a later certificate of the chain, and must belong to the first",
            "the device's certificate comes first, then each issuer's after the one that it issued",
        )
    else:
        yield (
            "the private key does not belong to the certificate",
            "give the key that the certificate was made for",
        )


def _incomplete(pki: PkiSet) -> _Found:
    for there, missing in (("certificate", "private key"), ("private key", "certificate")):
        if there.replace(" ", "_") in pki.present and missing.replace(" ", "_") not in pki.present:
            yield f"there is a {there} but no {missing}", "the firmware needs both to prove who it is"


def _wrong_issuer(pki: PkiSet) -> _Found:
    """Find an authority of the right name that did not sign the certificate, as after making a CA anew.

    It is only told: the CA of a set is there to check the peer, whose issuer may be another one. In
    the official MQTT set both are called the same.
    """
    if pki.ca is None or pki.certificate is None:
        return
    first = pki.certificate.certificates[0]
    issuer = distinguished_names(first)[1]
    same_name = [
        authority for authority in pki.ca.certificates if distinguished_names(authority)[0] == issuer
    ]
    if same_name and not any(signed_by(first, authority) for authority in same_name):
        yield (
            "the CA certificate has the name of the certificate's issuer, but did not sign it",
            "give the CA certificate that belongs to it, if that is the one meant",
        )


def signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Tell whether a key of ``authority`` signed a certificate; what cannot be told counts as yes."""
    from cryptography.exceptions import InvalidSignature

    try:
        with without_warnings():
            certificate.verify_directly_issued_by(authority)
    except InvalidSignature:
        return False
    except Exception:  # noqa: BLE001 - a key or signature that the library does not know proves nothing
        return True
    return True


SET_CHECKS = (
    SetCheck("pki-mismatch", "error", True, _mismatch),
    SetCheck("pki-incomplete-set", "warning", False, _incomplete),
    SetCheck("pki-wrong-issuer", "info", False, _wrong_issuer),
)
"""Every check of a set, worst first."""

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
)
from esp_at_tools.pki.names import PkiKind
from esp_at_tools.pki.signatures import names_key_of, signed_by

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


def _of_its_name(pki: PkiSet) -> tuple[list[x509.Certificate], bool]:
    """Return the authorities that have the name of the certificate's issuer, where none of them signed it.

    Also return whether one of them is the very one that the certificate says issued it.
    """
    if pki.ca is None or pki.certificate is None:
        return [], False
    first = pki.certificate.certificates[0]
    issuer = distinguished_names(first)[1]
    same_name = [each for each in pki.ca.certificates if distinguished_names(each)[0] == issuer]
    if any(each == first or signed_by(first, each) for each in same_name):
        return [], False
    return same_name, any(names_key_of(first, each) for each in same_name)


BAD_SIGNATURE = "pki-bad-signature"
BAD_SIGNATURE_HINT = (
    "one of the two is damaged, or the authority was made anew under the same name: "
    "export the certificate again, or have it issued again"
)


def _bad_signature(pki: PkiSet) -> _Found:
    """Find a certificate that was damaged, or an authority that was made anew under its name."""
    if _of_its_name(pki)[1]:
        yield (
            "the certificate's signature does not verify with the CA certificate of its issuer's name",
            BAD_SIGNATURE_HINT,
        )


def _wrong_issuer(pki: PkiSet) -> _Found:
    """Find another authority of the right name.

    It is only told: the CA of a set is there to check the peer, whose issuer may be another one. In
    the official MQTT set both are called the same.
    """
    same_name, meant = _of_its_name(pki)
    if same_name and not meant:
        yield (
            "the CA certificate has the name of the certificate's issuer, but did not sign it",
            "give the CA certificate that belongs to it, if that is the one meant",
        )


SET_CHECKS = (
    SetCheck("pki-mismatch", "error", True, _mismatch),
    SetCheck("pki-incomplete-set", "warning", False, _incomplete),
    SetCheck(BAD_SIGNATURE, "warning", False, _bad_signature),
    SetCheck("pki-wrong-issuer", "info", False, _wrong_issuer),
)
"""Every check of a set, worst first."""

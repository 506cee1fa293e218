"""Whether a certificate leads to an authority, as mbedTLS and OpenSSL would find it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from esp_at_tools.pki.extension_checks import may_issue
from esp_at_tools.pki.items import distinguished_names
from esp_at_tools.pki.set_checks import signed_by

if TYPE_CHECKING:
    from cryptography import x509

MAX_INTERMEDIATES = 8
"""``MBEDTLS_X509_MAX_INTERMEDIATE_CA``."""

State = Literal["trusted", "wrong-signature", "not-an-issuer", "unknown-issuer", "too-long"]


@dataclass(frozen=True)
class Chain:
    """Where a certificate leads.

    Attributes:
        state: ``trusted`` where it leads to one of the authorities; ``wrong-signature`` where an
            authority has the name of the issuer and did not sign; ``not-an-issuer`` where one signed and
            may not; ``unknown-issuer`` where none has the name.
        issuer: the subject of the issuer at which the way ended.
    """

    state: State
    issuer: str


class Authorities:
    """The CA certificates that one side trusts, found by their names.

    Args:
        certificates: the certificates.
    """

    def __init__(self, certificates: Iterable[x509.Certificate]) -> None:
        """Sort them by subject."""
        self.certificates = frozenset(certificates)
        self.by_subject: dict[str, list[x509.Certificate]] = {}
        for each in self.certificates:
            self.by_subject.setdefault(distinguished_names(each)[0], []).append(each)


def find_chain(chain: Sequence[x509.Certificate], authorities: Authorities) -> Chain:
    """Follow a certificate to an authority.

    Args:
        chain: the certificate, then those that came with it, in any order.
        authorities: what the other side trusts.
    """
    current, others = chain[0], list(chain[1:])
    for below in range(MAX_INTERMEDIATES + 1):
        if current in authorities.certificates:
            return Chain("trusted", distinguished_names(current)[0])
        issuer = distinguished_names(current)[1]
        named = authorities.by_subject.get(issuer, [])
        signers = [each for each in named if signed_by(current, each)]
        if any(may_issue(each, below=below, trusted=True) for each in signers):
            return Chain("trusted", issuer)
        following = [
            each
            for each in others
            if distinguished_names(each)[0] == issuer
            and may_issue(each, below=below)
            and signed_by(current, each)
        ]
        if not following:
            state: State = "not-an-issuer" if signers else "wrong-signature" if named else "unknown-issuer"
            return Chain(state, issuer)
        current = following[0]
        others.remove(current)
    return Chain("too-long", distinguished_names(current)[1])

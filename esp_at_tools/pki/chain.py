"""Whether a certificate leads to an authority, as mbedTLS and OpenSSL would find it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from esp_at_tools.pki.extension_checks import may_issue
from esp_at_tools.pki.items import distinguished_names
from esp_at_tools.pki.signatures import names_key_of, signed_by

if TYPE_CHECKING:
    from cryptography import x509

MAX_INTERMEDIATES = 8
"""``MBEDTLS_X509_MAX_INTERMEDIATE_CA``."""

State = Literal[
    "trusted", "wrong-signature", "another-key", "not-an-issuer", "path-length", "unknown-issuer", "too-long"
]


@dataclass(frozen=True)
class Chain:
    """Where a certificate leads.

    Attributes:
        state: ``trusted`` where it leads to one of the authorities; ``wrong-signature`` where one has the
            name of the issuer, and no other key identifier, and did not sign; ``another-key`` where one has
            the name and another key identifier; ``not-an-issuer`` where one signed and may not;
            ``path-length`` where one signed and may have fewer certificates below it; ``unknown-issuer``
            where none has the name.
        issuer: the subject of the issuer at which the way ended.
        ends_at: the certificates that the state is about: those that signed, or those of the name.
        number: which certificate of the chain is the last one on the way, counted from 1.
    """

    state: State
    issuer: str
    ends_at: tuple[x509.Certificate, ...] = field(default=(), repr=False)
    number: int = 1


class Authorities:
    """The CA certificates that one side trusts, found by their names.

    Args:
        certificates: the certificates.
        whole: whether a way goes on above an authority, as OpenSSL does it, where that one's issuer is
            among them too.
    """

    def __init__(self, certificates: Iterable[x509.Certificate], *, whole: bool = False) -> None:
        """Sort them by subject."""
        ordered = dict.fromkeys(certificates)
        self.certificates = frozenset(ordered)
        self.whole = whole
        self.by_subject: dict[str, list[x509.Certificate]] = {}
        for each in ordered:
            self.by_subject.setdefault(distinguished_names(each)[0], []).append(each)


def find_chain(chain: Sequence[x509.Certificate], authorities: Authorities) -> Chain:
    """Follow a certificate to an authority.

    Args:
        chain: the certificate, then those that came with it, in any order.
        authorities: what the other side trusts.
    """
    current, others = chain[0], list(chain[1:])
    for below in range(MAX_INTERMEDIATES + 1):
        number = chain.index(current) + 1
        if current in authorities.certificates:
            return Chain("trusted", distinguished_names(current)[0], (current,), number)
        issuer = distinguished_names(current)[1]
        named = authorities.by_subject.get(issuer, [])
        signers = [each for each in named if signed_by(current, each)]
        allowed = [each for each in signers if may_issue(each, below=below, trusted=True)]
        if allowed:
            return _above(allowed, below, authorities) or Chain("trusted", issuer, tuple(allowed), number)
        beside = [each for each in others if distinguished_names(each)[0] == issuer]
        beside_signers = [each for each in beside if signed_by(current, each)]
        following = [each for each in beside_signers if may_issue(each, below=below)]
        if not following:
            state, ends_at = _why(current, [*named, *beside], signers or beside_signers)
            return Chain(state, issuer, tuple(ends_at), number)
        current = following[0]
        others.remove(current)
    return Chain("too-long", distinguished_names(current)[1], number=chain.index(current) + 1)


def _why(
    certificate: x509.Certificate, named: list[x509.Certificate], signers: list[x509.Certificate]
) -> tuple[State, list[x509.Certificate]]:
    """Return why none of the certificates of the issuer's name leads on, and those that it is about."""
    if signers:
        allowed = [each for each in signers if may_issue(each, trusted=True)]
        return ("path-length", allowed) if allowed else ("not-an-issuer", signers)
    meant = [each for each in named if names_key_of(certificate, each)]
    if meant:
        return "wrong-signature", meant
    return ("another-key", named) if named else ("unknown-issuer", [])


def _above(found: list[x509.Certificate], below: int, authorities: Authorities) -> Chain | None:
    """Return what stands above every one of ``found`` against it, None where one is fine."""
    if not authorities.whole:
        return None
    broken = None
    for each in found:
        broken = _climbed(each, below, authorities)
        if broken is None:
            return None
    return broken


def _climbed(current: x509.Certificate, below: int, authorities: Authorities) -> Chain | None:
    """Follow an authority to the last one that is here; a signature that is wrong is for its own finding."""
    for level in range(below + 1, below + MAX_INTERMEDIATES):
        subject, issuer = distinguished_names(current)
        if subject == issuer:
            return None
        signers = [each for each in authorities.by_subject.get(issuer, []) if signed_by(current, each)]
        allowed = [each for each in signers if may_issue(each, below=level, trusted=True)]
        if not signers:
            return None
        if not allowed:
            state, ends_at = _why(current, signers, signers)
            return Chain(state, issuer, tuple(ends_at))
        current = allowed[0]
    return None

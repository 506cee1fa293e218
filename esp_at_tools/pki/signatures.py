"""Whether a certificate is signed with the key of another, and whether it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esp_at_tools.pki.extension_checks import extensions
from esp_at_tools.pki.items import distinguished_names, without_warnings

if TYPE_CHECKING:
    from cryptography import x509

_SAMPLE_AUTHORITIES = frozenset({"CN=Root CA,O=ESPRESSIF AT,C=CN"})
"""The name that several authorities of the official firmware's sample certificates share.

``mqtt_ca``, ``https_ca.0`` and ``.1``, ``wss_ca.0`` and ``.1`` of ESP-AT have it, each with another key, and
the certificates beside them are signed with yet other keys.
"""


def signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Tell whether the key of ``authority`` signed a certificate; what cannot be told counts as yes.

    Names are not compared: the same text may be encoded in several ways.
    """
    from cryptography.exceptions import InvalidSignature

    try:
        with without_warnings():
            return _verified(certificate, authority)
    except InvalidSignature:
        return False
    except Exception:  # noqa: BLE001 - a key or signature that the library does not know proves nothing
        return True


def _verified(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Verify a signature; False where its scheme is for keys of another kind.

    Raises:
        InvalidSignature: it was made with another key, or over other bytes.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

    key, signature, signed = authority.public_key(), certificate.signature, certificate.tbs_certificate_bytes
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        if certificate.signature_algorithm_oid != authority.public_key_algorithm_oid:
            return False
        key.verify(signature, signed)
        return True
    scheme = certificate.signature_algorithm_parameters
    if isinstance(key, rsa.RSAPublicKey):
        digest = certificate.signature_hash_algorithm
        if not isinstance(scheme, padding.PKCS1v15 | padding.PSS) or digest is None:
            return False
        key.verify(signature, signed, scheme, digest)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(scheme, ec.ECDSA):
            return False
        key.verify(signature, signed, scheme)
    else:
        certificate.verify_directly_issued_by(authority)
    return True


def names_key_of(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Tell whether a certificate that has an authority's name as its issuer's means that authority.

    It does where its authorityKeyIdentifier is the other's subjectKeyIdentifier. Where one of them is not
    there, it is taken to, unless it is known that several authorities have the name.
    """
    wanted, serial = _issuer_key(certificate)
    there = _own_key(authority)
    if wanted is not None and there is not None:
        return wanted == there
    if serial is not None:
        return serial == authority.serial_number
    return distinguished_names(authority)[0] not in _SAMPLE_AUTHORITIES


def _issuer_key(certificate: x509.Certificate) -> tuple[bytes | None, int | None]:
    from cryptography.x509 import AuthorityKeyIdentifier

    for each in extensions(certificate) or ():
        if isinstance(each.value, AuthorityKeyIdentifier):
            return each.value.key_identifier, each.value.authority_cert_serial_number
    return None, None


def _own_key(certificate: x509.Certificate) -> bytes | None:
    from cryptography.x509 import SubjectKeyIdentifier

    for each in extensions(certificate) or ():
        if isinstance(each.value, SubjectKeyIdentifier):
            return each.value.digest
    return None

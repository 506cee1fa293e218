"""The table of checks of a certificate's extensions, and of the certificates of one item together.

What the firmware's mbedTLS does: ``x509_get_crt_ext``, ``x509_crt_check_parent`` and
``mbedtls_ssl_check_cert_usage`` of mbedTLS 2.16 and 3.6.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from esp_at_tools.pki.item_checks import Check, Found, Item, Purpose, titled
from esp_at_tools.pki.items import distinguished_names, is_authority, without_warnings

if TYPE_CHECKING:
    from cryptography import x509

_PARSED_EXTENSIONS = {
    "2.5.29.14": "subjectKeyIdentifier",
    "2.5.29.15": "keyUsage",
    "2.5.29.17": "subjectAltName",
    "2.5.29.19": "basicConstraints",
    "2.5.29.35": "authorityKeyIdentifier",
    "2.5.29.37": "extKeyUsage",
    "2.16.840.1.113730.1.1": "nsCertType",
}
"""Those that mbedTLS reads; a critical one of any other makes it refuse the certificate."""
_PURPOSES = {
    "server": ("1.3.6.1.5.5.7.3.1", "serverAuth", "TLS clients refuse the server"),
    "client": ("1.3.6.1.5.5.7.3.2", "clientAuth", "servers refuse the client"),
}
_ANY_PURPOSE = "2.5.29.37.0"


def extensions(certificate: x509.Certificate) -> x509.Extensions | None:
    """Return a certificate's extensions, None where the library cannot read them."""
    try:
        with without_warnings():
            return certificate.extensions
    except Exception:  # noqa: BLE001 - it has many for damaged ones; what mbedTLS makes of them is not known
        return None


def _value(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.ExtensionType | None:
    found = extensions(certificate) or ()
    return next((each.value for each in found if isinstance(each.value, kind)), None)


def may_issue(certificate: x509.Certificate, *, below: int = 0, trusted: bool = False) -> bool:
    """Tell whether mbedTLS takes a certificate for the issuer of another.

    Args:
        certificate: what should be an authority's.
        below: how many intermediate certificates there are between it and the device's.
        trusted: it is one of the CA certificates, where those of version 1 are taken too.
    """
    from cryptography.x509 import BasicConstraints, KeyUsage

    if trusted and certificate.version.value == 0:
        return True
    constraints = _value(certificate, BasicConstraints)
    if not isinstance(constraints, BasicConstraints) or not constraints.ca:
        return False
    if constraints.path_length is not None and below > constraints.path_length:
        return False
    usage = _value(certificate, KeyUsage)
    return not isinstance(usage, KeyUsage) or usage.key_cert_sign


def _critical(item: Item) -> Found:
    if item.tls.critical_extensions:
        return
    for which, certificate in titled(item):
        for each in extensions(certificate) or ():
            oid = each.oid.dotted_string
            if each.critical and oid not in _PARSED_EXTENSIONS:
                name = getattr(each.oid, "_name", oid)
                name = oid if name == "Unknown OID" else name
                yield (
                    f"{which}has the critical extension {name}, for which the firmware refuses it",
                    "issue it without that extension, or with it not critical",
                )


def _unreadable_extensions(item: Item) -> Found:
    for which, certificate in titled(item):
        if extensions(certificate) is None:
            yield (
                f"{which}has damaged extensions, for which the firmware and servers refuse it",
                "issue it again",
            )


def _usage_of_authority(item: Item) -> Found:
    """Find what mbedTLS takes for no issuer, because its key usage lacks keyCertSign."""
    from cryptography.x509 import KeyUsage

    if item.kind != "ca":
        return
    for which, certificate in titled(item):
        usage = _value(certificate, KeyUsage)
        if isinstance(usage, KeyUsage) and not usage.key_cert_sign and is_authority(certificate):
            yield (
                f"{which}may not sign certificates: its key usage lacks keyCertSign",
                "give the certificate that signed the server's",
            )


def _usage(item: Item) -> Found:
    from cryptography.x509 import KeyUsage

    if item.kind != "certificate":
        return
    usage = _value(item.contents.certificates[0], KeyUsage)
    if isinstance(usage, KeyUsage) and not usage.digital_signature:
        yield (
            "may not be used for TLS: its key usage lacks digitalSignature",
            "issue it again with digitalSignature",
        )


def suits(certificate: x509.Certificate, purpose: Purpose) -> bool:
    """Tell whether a certificate's extended key usage, if it has one, allows a side of a connection."""
    from cryptography.x509 import ExtendedKeyUsage

    if purpose not in _PURPOSES:
        return True
    usage = _value(certificate, ExtendedKeyUsage)
    wanted = {_PURPOSES[purpose][0], _ANY_PURPOSE}
    return not isinstance(usage, ExtendedKeyUsage) or any(each.dotted_string in wanted for each in usage)


def _extended_usage(item: Item) -> Found:
    if item.kind == "certificate" and not suits(item.contents.certificates[0], item.purpose):
        _, name, effect = _PURPOSES[item.purpose]
        yield f"its extended key usage lacks {name}, so {effect}", f"issue it again with {name}"


def _no_names(item: Item) -> Found:
    from cryptography.x509 import SubjectAlternativeName

    if item.kind == "certificate" and item.purpose == "server":
        first = item.contents.certificates[0]
        if _value(first, SubjectAlternativeName) is None:
            yield (
                "has no subjectAltName; many clients compare the server's name with nothing else",
                "issue it again with the names and addresses of the server",
            )


def _leaf_is_authority(item: Item) -> Found:
    if item.kind == "certificate" and is_authority(item.contents.certificates[0]):
        yield "is the certificate of an authority", "give the one that was issued for the device"


def _duplicates(item: Item) -> Found:
    seen: dict[x509.Certificate, int] = {}
    for number, certificate in enumerate(item.contents.certificates, 1):
        first = seen.setdefault(certificate, number)
        if first != number:
            yield f"certificate {number} of it is the same as certificate {first}", "leave one of them out"


def _chain_order(item: Item) -> Found:
    """Each certificate of a chain is followed by that of its issuer (RFC 5246, 7.4.2)."""
    if item.kind != "certificate":
        return
    chain = item.contents.certificates
    for number, (lower, upper) in enumerate(itertools.pairwise(chain), 1):
        subject, issuer = distinguished_names(upper)[0], distinguished_names(lower)[1]
        if lower != upper and subject != issuer:
            yield (
                f"certificate {number + 1} of it did not issue certificate {number}, so it is no chain",
                "the device's certificate first, then each issuer's after the one that it issued",
            )
            return


def _sent_bytes(item: Item) -> int:
    from cryptography.hazmat.primitives.serialization import Encoding

    return 7 + sum(3 + len(each.public_bytes(Encoding.DER)) for each in item.contents.certificates)


def _too_long(item: Item) -> Iterator[tuple[str, str]]:
    if item.kind != "certificate":
        return
    size, most = _sent_bytes(item), item.tls.max_sent
    if size > most:
        yield (
            f"takes {size} bytes in a handshake with its chain, and the firmware sends {most} at most",
            "leave out what the other side has, the root at least; EC certificates are shorter",
        )


EXTENSION_CHECKS = (
    Check("pki-critical-extension", "error", True, _critical),
    Check("pki-bad-extensions", "error", True, _unreadable_extensions),
    Check("pki-chain-size", "warning", False, _too_long),
    Check("pki-ca-usage", "warning", False, _usage_of_authority),
    Check("pki-key-usage", "warning", False, _usage),
    Check("pki-extended-key-usage", "warning", False, _extended_usage),
    Check("pki-duplicate-certificate", "warning", False, _duplicates),
    Check("pki-chain-order", "warning", False, _chain_order),
    Check("pki-leaf-is-ca", "info", False, _leaf_is_authority),
    Check("pki-no-server-name", "info", False, _no_names),
)
"""Checks of readable certificates of the right kind, worst first."""

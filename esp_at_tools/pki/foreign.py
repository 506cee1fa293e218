"""What is related to certificates and keys, and nothing that the firmware can use in this form."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable

from esp_at_tools.formats import pki_list

GIVE = "give a certificate or a private key, PEM or DER"

_FOREIGN_LABELS = {
    "CERTIFICATE REQUEST": ("a certificate signing request", "give the certificate that was issued for it"),
    "NEW CERTIFICATE REQUEST": (
        "a certificate signing request",
        "give the certificate that was issued for it",
    ),
    "PUBLIC KEY": ("a public key", "give the certificate or the private key"),
    "RSA PUBLIC KEY": ("a public key", "give the certificate or the private key"),
    "OPENSSH PRIVATE KEY": ("an OpenSSH key", "convert it: ssh-keygen -p -m PEM -f FILE"),
    "PKCS7": ("PKCS#7", "convert it: openssl pkcs7 -print_certs -in FILE"),
    "CMS": ("PKCS#7", "convert it: openssl pkcs7 -print_certs -in FILE"),
    "X509 CRL": ("a revocation list", GIVE),
    "TRUSTED CERTIFICATE": ("an OpenSSL trusted certificate", "convert it: openssl x509 -in FILE"),
    "X509 CERTIFICATE": ("a certificate under an old label", "convert it: openssl x509 -in FILE"),
    "DSA PRIVATE KEY": ("a DSA key, which the firmware does not know", "use an EC or RSA key"),
    "EC PARAMETERS": ("curve parameters without a key", GIVE),
    "DH PARAMETERS": ("Diffie-Hellman parameters", GIVE),
}
"""PEM labels of other things: what each is, and what to do."""

_KEYSTORE = (
    "a Java key store",
    "convert it: keytool -importkeystore -srckeystore FILE -deststoretype PKCS12 -destkeystore NEW.p12",
)
_FOREIGN_FILES = {
    pki_list.MAGIC.to_bytes(2, "little"): (
        "a partition of firmware before v3.0, which has a header before each item",
        "give the certificate or key itself; 'esp-at-tool pki check FILE' looks into it",
    ),
    b"\xfe\xed\xfe\xed": _KEYSTORE,
    b"\xce\xce\xce\xce": _KEYSTORE,
    b"PuTTY-User-Key-File": ("a PuTTY key", "convert it: puttygen FILE -O private-openssh -o NEW"),
    b"ssh-": ("an SSH public key", GIVE),
}
"""Beginnings of files of other kinds: what each is, and what to do."""

_UNPACK_PKCS12 = (
    "take it apart: openssl pkcs12 -in FILE -clcerts -nokeys -out device.crt, "
    "openssl pkcs12 -in FILE -nocerts -nodes -out device.key"
)
_PKCS7_OID = bytes.fromhex("06092a864886f70d0107")


def what_label_is(label: str) -> tuple[str, str]:
    """Return what PEM of a label is, and what to do."""
    return _FOREIGN_LABELS.get(label, (f"PEM of the kind {label}", GIVE))


def what_file_is(data: bytes) -> tuple[str, str]:
    """Return what a file is by its beginning, ``""`` for nothing known, and what to do."""
    return next((found for start, found in _FOREIGN_FILES.items() if data.startswith(start)), ("", GIVE))


def what_der_is(data: bytes) -> tuple[str, str]:
    """Return what DER that is neither certificate nor key is, ``""`` for nothing known, and what to do."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key
    from cryptography.x509 import load_der_x509_crl, load_der_x509_csr

    at = data.find(_PKCS7_OID, 0, 64)
    if at >= 0 and b"\x02\x01\x03" in data[:at]:  # PFX begins with its version, 3
        return "PKCS#12", _UNPACK_PKCS12
    if at >= 0:
        return _FOREIGN_LABELS["PKCS7"]
    loaders: tuple[tuple[Callable[[bytes], object], str], ...] = (
        (load_der_x509_csr, "CERTIFICATE REQUEST"),
        (load_der_x509_crl, "X509 CRL"),
        (load_der_public_key, "PUBLIC KEY"),
    )
    for load, label in loaders:
        # The library has many exceptions; each means that it is not that.
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(data)
            return _FOREIGN_LABELS[label]
    return "", GIVE

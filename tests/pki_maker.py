"""Certificates for tests: any extension, any damage."""

from __future__ import annotations

import datetime as dt
import functools
import shutil

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="needs the program openssl")

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.timezone.utc)
DAY = dt.timedelta(days=1)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_CURVES = {
    "p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1, "k256": ec.SECP256K1,
    "p192": ec.SECP192R1, "bp256": ec.BrainpoolP256R1,
}  # fmt: skip
_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@functools.cache
def key(name: str = "p256"):
    """A key by kind and, after a colon, a name: ``p256:device``."""
    kind = name.partition(":")[0]
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:]))
    return (
        ed25519.Ed25519PrivateKey.generate()
        if kind == "ed25519"
        else ec.generate_private_key(_CURVES[kind]())
    )


def name(text: str) -> x509.Name:
    """A distinguished name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(*granted: str) -> x509.KeyUsage:
    """A key usage."""
    return x509.KeyUsage(**{each: each in granted for each in _USAGES})


def issue(
    subject="device", issuer="root", *, own="p256:device", signer="p256:root", ca=False, path_length=None,
    days=(-1, 3000), extra=(), algorithm="sha256", now=NOW, constraints=True,
) -> x509.Certificate:  # fmt: skip
    """A certificate with basic constraints and what is in ``extra``: (extension, critical)."""
    since = now.replace(microsecond=0)
    builder = x509.CertificateBuilder(
        name(issuer), name(subject), key(own).public_key(), x509.random_serial_number(),
        since + days[0] * DAY, since + days[1] * DAY,
    )  # fmt: skip
    if constraints:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length if ca else None), critical=True)
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical=critical)
    made = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha3": hashes.SHA3_256()}[algorithm]
    return builder.sign(key(signer), None if signer.startswith("ed25519") else made)


def root(subject="root", own="p256:root", **options) -> x509.Certificate:
    """A root."""
    return issue(subject, subject, own=own, signer=own, ca=True, **options)


def pem(*certificates: x509.Certificate) -> bytes:
    """Certificates as PEM."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def der(certificate: x509.Certificate) -> bytes:
    """A certificate as DER."""
    return certificate.public_bytes(Encoding.DER)


def key_pem(own="p256:device", form=PrivateFormat.PKCS8, password=b"", encoding=Encoding.PEM) -> bytes:
    """A private key."""
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key(own).private_bytes(encoding, form, lock)


_RSA = bytes.fromhex("300d06092a864886f70d0101010500")  # AlgorithmIdentifier, its parameters NULL
_RSASSA_PSS = bytes.fromhex("300b06092a864886f70d01010a")  # its parameters absent


def pss_keyed(data: bytes) -> bytes:
    """The same DER of an RSA key or certificate with a key for RSASSA-PSS alone; not signed anew."""
    at = data.index(_RSA)
    is_certificate = data[4] == 0x30
    changed = bytearray(data)
    for start in (
        (0, 4, at - 4) if is_certificate else (0,)
    ):  # lengths of what holds it, each 82 and two bytes
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        changed[start + 2 : start + 4] = (length - len(_RSA) + len(_RSASSA_PSS)).to_bytes(2, "big")
    return bytes(changed[:at]) + _RSASSA_PSS + bytes(changed[at + len(_RSA) :])


def public_pem(own="p256:device") -> bytes:
    """A public key."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key(own).public_key().public_bytes(Encoding.PEM, form)

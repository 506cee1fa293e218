"""Reading certificates and private keys, as the firmware's mbedTLS would.

No message or exception from here carries a byte of a private key: what the cryptography library
says is not passed on.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from esp_at_tools.errors import EspAtError, FormatError
from esp_at_tools.pki import pem
from esp_at_tools.pki.foreign import GIVE, what_der_is, what_file_is, what_label_is
from esp_at_tools.pki.names import PkiKind

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateNumbers
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

MAX_SIZE = 1 << 20
"""Most bytes that are looked at: more than any partition for certificates has."""

Level = Literal["error", "warning", "info"]
"""How bad a finding is."""
LEVELS: tuple[Level, ...] = ("error", "warning", "info")


class NotPkiError(FormatError):
    """Something that has nothing to do with certificates or keys."""


class ForeignPkiError(FormatError):
    """Something sound that the firmware has no use for in this form: a public key, PKCS#12."""


@dataclass(frozen=True)
class PkiInfo:
    """What a certificate or private key is.

    Of several certificates in one item, ``subject`` to ``signature_hash`` are those of the first.

    Attributes:
        kind: ``ca`` for a certificate that says it is one of an authority.
        format: how it is encoded.
        size: bytes in the item.
        count: certificates in it; 0 for a private key.
        subject: the subject as RFC 4514 has it (``CN=…,O=…``); empty for a key.
        issuer: the issuer, likewise.
        serial: the serial number in lower-case hexadecimal; empty for a key.
        not_before: first moment at which it is valid, in UTC; None for a key.
        not_after: last such moment.
        key_type: ``rsa2048``, ``ec256`` (P-256), ``ec384``, ``ec521``, the name of another curve,
            ``rsassa-pss2048`` (an RSA key that is restricted to that scheme by its algorithm's OID),
            ``ed25519``, ``dsa2048``, …; empty where a password hides it.
        is_ca: what its basic constraints say; None where there are none, and for a key.
        encrypted: whether the key needs a password.
        signature_hash: hash of the certificate's signature (``sha256``); empty for a key or none.
        sha256: SHA-256 of the item's bytes.
        public_key_sha256: SHA-256 of the public key (SubjectPublicKeyInfo), the same for a key and
            its certificate; empty where a password hides it.
    """

    kind: PkiKind
    format: Literal["pem", "der"]
    size: int
    count: int
    subject: str
    issuer: str
    serial: str
    not_before: datetime | None
    not_after: datetime | None
    key_type: str
    is_ca: bool | None
    encrypted: bool
    signature_hash: str
    sha256: str
    public_key_sha256: str


@dataclass(frozen=True)
class Contents:
    """The parts of an item, for the checks.

    Attributes:
        format: how it is encoded.
        certificates: the certificates in it, in their order.
        key: the private key that the firmware would take; None where there is none.
        pss_key: whether that key is restricted to RSASSA-PSS.
        encrypted: whether there is a key that needs a password.
        key_count: private keys in it.
        blocks: PEM blocks of certificates and keys; none for DER.
        trailing: bytes after the end of DER.
    """

    format: Literal["pem", "der"]
    certificates: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes | None = field(default=None, repr=False)
    pss_key: bool = False
    encrypted: bool = False
    key_count: int = 0
    blocks: tuple[pem.PemBlock, ...] = ()
    trailing: bytes = b""


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Drop what the cryptography library warns of; what matters to the firmware is a check of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _quietly(message: str, hint: str = GIVE) -> Iterator[None]:
    """Turn whatever the library raises into a FormatError with ``message``; drop its warnings."""
    try:
        with without_warnings():
            yield
    except EspAtError:
        raise
    except Exception:  # noqa: BLE001 - it has many, and their texts may hold what must stay secret
        raise FormatError(message, hint) from None


_CACHED = 64  # more items than a firmware has; one is looked at by itself, in its set, and in the report


def _der_key(der: bytes, name: str) -> PrivateKeyTypes | None:
    """Read a private key; None if it needs a password."""
    with _quietly(f"{name}: its private key cannot be read", "export the key again"):
        return _parse_key(der)


@functools.lru_cache(maxsize=_CACHED)
def _parse_key(der: bytes) -> PrivateKeyTypes | None:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        # The library's own test, which takes a tenth of a second, looks for primes as well.
        key = load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:  # the library's way to ask for a password
        return None
    if isinstance(key, rsa.RSAPrivateKey):
        _check_rsa(key.private_numbers())
    return key


_RSASSA_PSS = "1.2.840.113549.1.1.10"
RSASSA_PSS_OID = bytes.fromhex("06092a864886f70d01010a")
"""That OID in DER."""


def _is_pss_key(der: bytes) -> bool:
    """Tell whether a private key is for RSASSA-PSS alone: PKCS#8 names the algorithm at its beginning."""
    return RSASSA_PSS_OID in der[:32]


def _has_pss_key(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate's public key is for RSASSA-PSS alone, which the library's key does not tell.

    What is signed holds the OID once for the signature, if that is RSASSA-PSS, and once for the key.
    """
    signed = certificate.signature_algorithm_oid.dotted_string == _RSASSA_PSS
    return certificate.tbs_certificate_bytes.count(RSASSA_PSS_OID) > signed


def _check_rsa(key: RSAPrivateNumbers) -> None:
    """Check that the parts of an RSA key fit together.

    Raises:
        ValueError: they do not: it is damaged.
    """
    e, n = key.public_numbers.e, key.public_numbers.n
    fits = key.p * key.q == n and key.d * e % (key.p - 1) == 1 and key.d * e % (key.q - 1) == 1
    if (
        not fits
        or key.iqmp * key.q % key.p != 1
        or (key.dmp1 - key.d) % (key.p - 1)
        or (key.dmq1 - key.d) % (key.q - 1)
    ):
        raise ValueError("its parts do not fit together")


def _der_certificate(der: bytes, name: str) -> x509.Certificate:
    with _quietly(f"{name}: its certificate cannot be read", "export the certificate again"):
        return _parse_certificate(der)


@functools.lru_cache(maxsize=_CACHED)
def _parse_certificate(der: bytes) -> x509.Certificate:
    from cryptography.x509 import load_der_x509_certificate

    certificate = load_der_x509_certificate(der)
    # The library reads these when they are asked for, and fails then.
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.serial_number
    return certificate


def _der_size(data: bytes) -> int:
    """Return the bytes that a DER element says it has, header included; 0 if it does not say."""
    if len(data) < 2 or data[1] == 0x80:
        return 0
    if data[1] < 0x80:
        return 2 + data[1]
    octets = data[1] & 0x7F
    return 2 + octets + int.from_bytes(data[2 : 2 + octets], "big") if octets <= 4 < len(data) - 1 else 0


def _from_der(data: bytes, name: str, expected: PkiKind | None) -> Contents:
    size = _der_size(data)
    if size > len(data):
        error = FormatError if data[1:2] in (b"\x81", b"\x82") else NotPkiError  # it may be text: 0x30 is "0"
        raise error(f"{name}: cut off: {len(data)} of {size} bytes of DER", "copy the whole file")
    der, trailing = (data[:size], data[size:]) if size else (data, b"")

    def key() -> Contents:
        found = _der_key(der, name)
        return Contents("der", (), found, _is_pss_key(der), found is None, 1, trailing=trailing)

    def certificate() -> Contents:
        return Contents("der", (_der_certificate(der, name),), trailing=trailing)

    for read in (key, certificate) if expected == "private_key" else (certificate, key):
        with contextlib.suppress(FormatError):
            return read()
    what, hint = what_der_is(der)
    raise (ForeignPkiError if what else NotPkiError)(
        f"{name}: is {what or 'neither a certificate nor a private key'}", hint
    )


def _from_pem(blocks: list[pem.PemBlock], name: str, expected: PkiKind | None) -> Contents:
    certificates = [block for block in blocks if block.label == pem.CERTIFICATE]
    keys = [block for label in pem.PRIVATE_KEYS for block in blocks if block.label == label]
    by_key = expected == "private_key" or (expected is None and blocks[0].label != pem.CERTIFICATE)
    if certificates and not (keys and by_key):
        found = tuple(_der_certificate(block.der(name), name) for block in certificates)
        return Contents("pem", found, key_count=len(keys), blocks=tuple(blocks))
    der = b"" if keys[0].encrypted else keys[0].der(name)
    key = _der_key(der, name) if der else None
    return Contents("pem", (), key, _is_pss_key(der), key is None, len(keys), tuple(blocks))


def _looks_utf16(data: bytes) -> bool:
    return data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"-\0-\0-\0" in data[:64]


def load(data: bytes, name: str, expected: PkiKind | None = None) -> Contents:
    """Take an item apart.

    Args:
        data: the item; NULs at the end are passed over.
        name: how to call it in an error.
        expected: what it is for. Of an item that holds both certificates and keys, the firmware
            takes what it needs; without this, the first decides.

    Raises:
        FormatError: it is neither a certificate nor a private key; the message says what it is.
    """
    if not data.strip(b"\0 \t\r\n"):
        raise NotPkiError(f"{name}: is empty", GIVE)
    if len(data) > MAX_SIZE:
        raise NotPkiError(f"{name}: {len(data)} bytes, larger than any certificate partition", GIVE)
    if _looks_utf16(data):
        raise FormatError(
            f"{name}: is UTF-16 text, which the firmware cannot read", "save it as ASCII or UTF-8"
        )
    blocks = pem.split_pem(pem.c_string(data), name)
    known = [block for block in blocks if block.label == pem.CERTIFICATE or block.label in pem.PRIVATE_KEYS]
    if known:
        return _from_pem(known, name, expected)
    if blocks:
        what, hint = what_label_is(blocks[0].label)
        raise ForeignPkiError(f"{name}: is {what}", hint)
    what, hint = what_file_is(data)
    if what:
        raise ForeignPkiError(f"{name}: is {what}", hint)
    if data[0] == 0x30:  # SEQUENCE, with which every certificate and key begins
        return _from_der(data, name, expected)
    if b"-----BEGIN " in data:
        raise FormatError(f"{name}: a NUL or an unknown label hides its PEM text from the firmware", GIVE)
    if _BROKEN_LINE.match(data):
        message = f"{name}: the dashes of its first line are damaged"
        raise FormatError(message, "export it again, or write five dashes before BEGIN and after the label")
    raise NotPkiError(f"{name}: is neither PEM nor DER", GIVE)


_BROKEN_LINE = re.compile(rb"\s{0,64}[-\x80-\xff ]{0,20}BEGIN [A-Z0-9 ]{0,20}(?:CERTIFICATE|PRIVATE KEY)")
_EC_NAMES = {"secp256r1": "ec256", "secp384r1": "ec384", "secp521r1": "ec521"}


def _key_type(key: PublicKeyTypes) -> str:
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _EC_NAMES.get(key.curve.name, key.curve.name)
    if isinstance(key, dsa.DSAPublicKey):
        return f"dsa{key.key_size}"
    return type(key).__name__.removesuffix("PublicKey").lower()


def _fingerprint(key: PublicKeyTypes) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _describe_key(key: PublicKeyTypes | PrivateKeyTypes | x509.Certificate | None) -> tuple[str, str]:
    """Return the type and the fingerprint of a public key, or of that of a key or certificate."""
    if key is None:
        return "", ""
    try:
        with _quietly("key"):
            public: PublicKeyTypes = key.public_key() if hasattr(key, "public_key") else key
            return _key_type(public), _fingerprint(public)
    except FormatError:  # a kind of key that the library does not know; the firmware does not either
        return "unknown", ""


def _pss_type(kind_of_key: str) -> str:
    return kind_of_key.replace("rsa", "rsassa-pss", 1)


def key_type(certificate: x509.Certificate) -> str:
    """Return the type of a certificate's key, as in :class:`PkiInfo`, or ``unknown``."""
    found = _describe_key(certificate)[0]
    return _pss_type(found) if rsa_bits(found) and _has_pss_key(certificate) else found


def rsa_bits(kind_of_key: str) -> int:
    """Return the bits of an RSA key (``rsa2048``), 0 for a key of another kind."""
    digits = kind_of_key.removeprefix("rsa")
    return int(digits) if digits.isdecimal() and digits != kind_of_key else 0


def public_key_sha256(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's public key, as in :class:`PkiInfo`."""
    return _describe_key(certificate)[1]


def _printable(text: str) -> str:
    """Return a text without what would disturb a terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def distinguished_names(certificate: x509.Certificate) -> tuple[str, str]:
    """Return subject and issuer as RFC 4514 has them; both empty where one cannot be read."""
    try:
        with _quietly("names"):
            return _printable(certificate.subject.rfc4514_string()), _printable(
                certificate.issuer.rfc4514_string()
            )
    except FormatError:  # the firmware does not mind: it compares names byte by byte
        return "", ""


def is_authority(certificate: x509.Certificate) -> bool | None:
    """Return what a certificate's basic constraints say; None where it has none, or bad ones."""
    from cryptography.x509 import BasicConstraints

    try:
        with _quietly("constraints"):
            return certificate.extensions.get_extension_for_class(BasicConstraints).value.ca
    except FormatError:
        return None


def signature_hash(certificate: x509.Certificate) -> str:
    """Return the hash that a certificate is signed with, ``""`` where there is none (Ed25519)."""
    try:
        with _quietly("signature"):
            algorithm = certificate.signature_hash_algorithm
            return algorithm.name if algorithm else ""
    except FormatError:
        return "unknown"


def serial_number(certificate: x509.Certificate) -> int:
    """Return the serial number, without the library's warning of one that is not positive.

    Raises:
        FormatError: the library does not read such a number.
    """
    with _quietly("certificate: its serial number cannot be read", "issue the certificate again"):
        return certificate.serial_number


def describe(contents: Contents, data: bytes) -> PkiInfo:
    """Say what the item ``data`` is, of which ``contents`` are the parts."""
    digest = hashlib.sha256(data).hexdigest()
    if not contents.certificates:
        kind_of_key, fingerprint = _describe_key(contents.key)
        kind_of_key = _pss_type(kind_of_key) if contents.pss_key else kind_of_key
        return PkiInfo(
            "private_key", contents.format, len(data), 0, "", "", "", None, None, kind_of_key, None,
            contents.encrypted, "", digest, fingerprint,
        )  # fmt: skip
    first = contents.certificates[0]
    subject, issuer = distinguished_names(first)
    authority = is_authority(first)
    return PkiInfo(
        kind="ca" if authority else "certificate",
        format=contents.format,
        size=len(data),
        count=len(contents.certificates),
        subject=subject,
        issuer=issuer,
        serial=f"{serial_number(first):x}",
        not_before=first.not_valid_before_utc,
        not_after=first.not_valid_after_utc,
        key_type=key_type(first),
        is_ca=authority,
        encrypted=False,
        signature_hash=signature_hash(first),
        sha256=digest,
        public_key_sha256=public_key_sha256(first),
    )


def read_pki(data: bytes, name: str, expected: PkiKind | None = None) -> PkiInfo:
    """Say what a certificate or private key is.

    Args:
        data: the item; NULs at the end are passed over.
        name: how to call it in an error.
        expected: see :func:`load`.

    Raises:
        FormatError: it is neither a certificate nor a private key; the message says what it is.
    """
    return describe(load(data, name, expected), data)

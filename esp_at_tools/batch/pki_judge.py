"""Certificates and keys by the ten thousand: what may be said of each, and whether it may be stored.

The verdict is that of :func:`esp_at_tools.pki.collection.check_one`. Most items of a batch are
alike, PEM as every tool writes it with an RSA or P-256 key, and of those it can be seen in a tenth of
the time that no check stands against them. Whatever is not so plainly right goes through the checks.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from esp_at_tools.errors import FormatError
from esp_at_tools.pki.item_checks import SOON
from esp_at_tools.pki.items import RSASSA_PSS_OID
from esp_at_tools.pki.names import PKI_ITEMS, PKI_SETS, PkiKind
from esp_at_tools.pki.tls_support import OFFICIAL, TlsSupport

PROVEN = frozenset(
    {
        "pki-expired", "pki-not-yet-valid", "pki-rejected-form", "pki-encrypted", "pki-unsupported-key",
        "pki-unsupported-signature", "pki-no-pem", "pki-no-final-newline", "pki-critical-extension",
        "pki-bad-extensions",
    }
)  # fmt: skip
"""The checks that can refuse an item and that the quick way knows to pass; with any other it is not taken."""
PROVEN_OF_SETS = frozenset({"pki-mismatch"})

_LABELS: dict[PkiKind, tuple[str, ...]] = {
    "ca": (),
    "certificate": ("CERTIFICATE",),
    "private_key": ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"),
}
_FRAMES: dict[PkiKind, list[tuple[bytes, bytes]]] = {
    kind: [(f"-----BEGIN {label}-----\n".encode(), f"\n-----END {label}-----\n".encode()) for label in labels]
    for kind, labels in _LABELS.items()
}
_LINE = 64
_SOUND_HASHES = ("sha256", "sha384", "sha512")
_RSA_BITS = (2048, 3072)
_READ_EXTENSIONS = ("2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.35", "2.5.29.37")
"""Those that may be critical."""
_MAX_KEPT = 128
SOURCE = "\0"
"""What stands in a warning for the file that the item is from: verdicts are kept, and files are many."""


class ItemVerdict(NamedTuple):
    """What is known of one item.

    Attributes:
        refused: whether something stands against storing it, be it that ``--force`` would allow it.
        public: SHA-256 of its public key, ``""`` where it cannot be told.
        fingerprint: SHA-256 of the first certificate's DER, lower-case hex; ``""`` for a key.
        not_after: the last moment at which that certificate is valid.
        warnings: what is questionable, with its hint; :data:`SOURCE` stands for where it is from.
    """

    refused: bool
    public: str = ""
    fingerprint: str = ""
    not_after: datetime | None = None
    warnings: tuple[str, ...] = ()


class PkiJudge:
    """Judges items, and remembers the last ones, since a batch has some in common.

    Args:
        now: the moment at which certificates must be valid, with a time zone.
        tls: what the firmware accepts.
    """

    def __init__(self, now: datetime, tls: TlsSupport = OFFICIAL) -> None:
        """Find out whether the quick way can be trusted."""
        from esp_at_tools.pki import checks, set_checks

        self._library = _Library()
        self._now = now
        self._tls = tls
        self._known: dict[tuple[str, bytes], ItemVerdict] = {}
        self.quick_items = _deciding(checks.CHECKS) <= PROVEN and _accepts_the_usual(tls)
        self.quick_sets = _deciding(set_checks.SET_CHECKS) <= PROVEN_OF_SETS

    def item(self, name: str, data: bytes) -> ItemVerdict:
        """Judge one item for its place."""
        key = (name, data)
        verdict = self._known.get(key)
        if verdict is None:
            verdict = (self._plain(name, data) if self.quick_items else None) or self._checked(name, data)
            if len(self._known) >= _MAX_KEPT:
                self._known.clear()
            self._known[key] = verdict
        return verdict

    def sets_refused(self, changed: Iterable[str], after: Mapping[str, bytes]) -> bool:
        """Tell whether something stands against the sets to which changed items belong.

        Args:
            changed: names of the items that change.
            after: all items as they will be.
        """
        for role in {PKI_ITEMS[name].role for name in changed}:
            names = PKI_SETS[role]
            certificate, key = names["certificate"], names["private_key"]
            if self.quick_sets and not (certificate in after and key in after):
                continue
            if self.quick_sets:
                ours, theirs = (
                    self.item(key, after[key]).public,
                    self.item(certificate, after[certificate]).public,
                )
                if ours and ours == theirs:
                    continue
            if self._set_refused({kind: after.get(name) for kind, name in names.items()}):
                return True
        return False

    @staticmethod
    def _set_refused(parts: Mapping[str, bytes | None]) -> bool:
        from esp_at_tools.pki.checks import check_set

        return _against(check_set(parts["ca"], parts["certificate"], parts["private_key"]))

    def _checked(self, name: str, data: bytes) -> ItemVerdict:
        """Judge an item by all checks."""
        from esp_at_tools.pki.collection import CollectedItem, check_one
        from esp_at_tools.pki.items import describe, load

        item = CollectedItem.official(name, data, name=f"{name} ({SOURCE})")
        findings = check_one(item, now=self._now, tls=self._tls)
        try:
            contents = load(data, name, item.kind)
            info = describe(contents, data)
        except FormatError:
            return ItemVerdict(refused=True)
        first = contents.certificates[0] if contents.certificates else None
        return ItemVerdict(
            _against(findings),
            info.public_key_sha256,
            _fingerprint(first) if first else "",
            info.not_after,
            tuple(
                f"{found.message} ({found.hint})" if found.hint else found.message
                for found in findings
                if found.level != "info"
            ),
        )

    def _plain(self, name: str, data: bytes) -> ItemVerdict | None:
        """Return the verdict on an item of which nothing can be told, None if that is not plain to see."""
        kind = PKI_ITEMS[name].kind
        der = _plain_der(data, _FRAMES[kind])
        if der is None or RSASSA_PSS_OID in der:  # that of a key has to be told from that of a signature
            return None
        try:
            return self._plain_certificate(der) if kind == "certificate" else self._plain_key(der)
        except Exception:  # noqa: BLE001 - whatever the library says: the checks find out
            return None

    def _plain_certificate(self, der: bytes) -> ItemVerdict | None:
        certificate = self._library.load_certificate(der)
        before, after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        algorithm = certificate.signature_hash_algorithm
        if (
            self._now < before
            or after < self._now + SOON
            or certificate.serial_number <= 0
            or algorithm is None
            or algorithm.name not in _SOUND_HASHES
        ):
            return None
        for each in certificate.extensions:
            if each.critical and each.oid.dotted_string not in _READ_EXTENSIONS:
                return None
        public = self._library.public(certificate.public_key())
        return ItemVerdict(False, public, hashlib.sha256(der).hexdigest(), after) if public else None

    def _plain_key(self, der: bytes) -> ItemVerdict | None:
        key = self._library.load_key(der)
        public = self._library.public(key.public_key()) if key is not None else ""
        return ItemVerdict(False, public) if public else None


class _Library:
    """What the quick way needs of the cryptography library, looked up once."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
        from cryptography.x509 import load_der_x509_certificate

        from esp_at_tools.pki.items import _parse_key

        self.load_certificate = load_der_x509_certificate
        self.load_key = _parse_key
        self._curve, self._rsa = ec.EllipticCurvePublicKey, rsa.RSAPublicKey
        self._is_rsa: dict[type, bool] = {}
        self._form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo

    def public(self, key: Any) -> str:
        """Return the SHA-256 of a public key that every firmware computes with, ``""`` for another."""
        is_rsa = self._is_rsa.get(type(key))  # the library's own answer takes a hundred times as long
        if is_rsa is None:
            is_rsa = self._is_rsa[type(key)] = isinstance(key, self._rsa)
        if is_rsa:
            plain = key.key_size in _RSA_BITS
        else:
            plain = isinstance(key, self._curve) and key.curve.name == "secp256r1"
        return hashlib.sha256(key.public_bytes(*self._form)).hexdigest() if plain else ""


def _plain_der(data: bytes, frames: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return what one PEM block holds that is written as every tool does; None for any other file.

    Args:
        data: the file.
        frames: what it may begin and end with.
    """
    frame = next((each for each in frames if data.startswith(each[0])), None)
    if frame is None or not data.endswith(frame[1]):
        return None
    body = data[len(frame[0]) : -len(frame[1])]
    digits = body.replace(b"\n", b"")
    line_ends = (len(body) - 1) // (_LINE + 1)
    if len(body) - len(digits) != line_ends or body[_LINE :: _LINE + 1] != b"\n" * line_ends:
        return None
    try:
        der = binascii.a2b_base64(digits)
    except binascii.Error:
        return None
    return der if binascii.b2a_base64(der, newline=False) == digits else None


def _accepts_the_usual(tls: TlsSupport) -> bool:
    """Tell whether a firmware takes all that the quick way passes."""
    return (
        tls.pem
        and "ec256" in tls.curves
        and tls.hashes.issuperset(_SOUND_HASHES)
        and tls.max_rsa_bits >= max(_RSA_BITS)
    )


def _against(findings: Iterable[Any]) -> bool:
    """Tell whether a finding refuses something, without ``--force``."""
    return any(found.risky or found.level == "error" for found in findings)


def _deciding(table: Iterable[Any]) -> set[str]:
    """Return the ids of the checks that can refuse something."""
    return {check.id for check in table if check.risky or check.level == "error"}


def _fingerprint(certificate: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()

"""The table of checks of one certificate or private key.

What the firmware's mbedTLS does was tried with mbedTLS 2.16.12 (firmware v2.x) and 3.6.4 (v5.x),
given the item and a NUL, as the firmware gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from esp_at_tools.pki import pem
from esp_at_tools.pki.items import (
    Contents,
    Level,
    PkiInfo,
    distinguished_names,
    is_authority,
    key_type,
    rsa_bits,
    serial_number,
    signature_hash,
)
from esp_at_tools.pki.names import PkiKind
from esp_at_tools.pki.tls_support import OFFICIAL, TlsSupport

if TYPE_CHECKING:
    from cryptography import x509

SOON = timedelta(days=30)
"""A certificate that has less time left than this is told."""
MIN_RSA_BITS = 2048
"""Smaller keys are refused by mbedTLS's default profile and by most servers."""

Purpose = Literal["", "server", "client"]
"""Which side of a connection a certificate is for."""


@dataclass(frozen=True)
class Item:
    """What the checks of one item look at.

    Attributes:
        kind: what it is for.
        data: its bytes.
        now: the moment at which it should be valid.
        name: how it is called.
        pem_only: what uses it reads no DER.
        contents: its parts.
        info: what it is.
        purpose: which side of a connection a certificate is for, ``""`` if not known.
        tls: what the firmware accepts.
    """

    kind: PkiKind
    data: bytes
    now: datetime
    name: str
    pem_only: bool
    contents: Contents
    info: PkiInfo
    purpose: Purpose = ""
    tls: TlsSupport = OFFICIAL

    @property
    def text(self) -> bytes:
        """What the firmware sees of PEM."""
        return pem.c_string(self.data)


Found = Iterator[tuple[str, str]]
"""Message, without the item's name, and hint."""


@dataclass(frozen=True)
class Check:
    """One line of the table of checks."""

    id: str
    level: Level
    risky: bool
    find: Callable[[Item], Found]


def titled(item: Item) -> Iterator[tuple[str, x509.Certificate]]:
    """Return each certificate with what to call it where there are several."""
    several = len(item.contents.certificates) > 1
    for number, certificate in enumerate(item.contents.certificates, 1):
        yield f"certificate {number} of it " if several else "", certificate


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


def _dates_count(item: Item) -> bool:
    """Tell whether anybody compares an item's dates with the time; with a CA's, only the firmware does."""
    return item.tls.checks_dates or item.kind != "ca"


def _past(item: Item) -> Found:
    for which, certificate in titled(item):
        since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if until < since:
            yield (
                f"{which}is valid at no time: it ends on {_day(until)}, before it begins on {_day(since)}",
                "issue it again; was the issuer's clock wrong, or the number of days below 0?",
            )
        elif until < item.now:
            yield f"{which}expired on {_day(certificate.not_valid_after_utc)}", "give one that is valid"


def _future(item: Item) -> Found:
    for which, certificate in titled(item):
        if item.now < certificate.not_valid_before_utc <= certificate.not_valid_after_utc:
            since = _day(certificate.not_valid_before_utc)
            yield (
                f"{which}is not valid before {since}",
                "give one that is valid, or check this computer's clock",
            )


def _expired(item: Item) -> Found:
    return _past(item) if _dates_count(item) else iter(())


def _not_yet_valid(item: Item) -> Found:
    return _future(item) if _dates_count(item) else iter(())


def _dates_unchecked(item: Item) -> Found:
    """Tell what would be wrong with the dates if the firmware were compiled to look at them."""
    if not _dates_count(item):
        for message, _ in (*_past(item), *_future(item)):
            yield f"{message}, which this firmware was compiled without checking", "fine for this firmware"


def _expires_soon(item: Item) -> Found:
    for which, certificate in titled(item) if _dates_count(item) else ():
        since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if item.now <= until < item.now + SOON and since <= until:
            yield f"{which}expires on {_day(certificate.not_valid_after_utc)}", "renew it soon"


def _rejected_form(item: Item) -> Found:
    """Compare the blocks that are there with those that mbedTLS finds and takes."""
    if item.contents.format != "pem":
        return
    present = [block.label for block in item.contents.blocks]
    order = pem.PRIVATE_KEYS if item.kind == "private_key" else (pem.CERTIFICATE,)
    label = next(label for label in order if label in present)
    meant = [block for block in item.contents.blocks if block.label == label]
    found = pem.firmware_bodies(item.text, label)
    if item.kind == "private_key":
        meant, found = meant[:1], found[:1]
    if meant != found:
        yield f"its lines BEGIN and END {label} are out of order for the firmware", "export it again"
    elif not all(block.taken for block in found):
        yield (
            f"the lines of its {label} are not as the firmware reads them",
            "lines of base64 that end in LF or CRLF, no tab, no space before; export it again",
        )


def _no_final_newline(item: Item) -> Found:
    if item.contents.format == "pem" and not item.text.endswith((b"\n", b"\r")):
        yield "has no line end after its last line", "add one"


def _encrypted(item: Item) -> Found:
    if item.contents.encrypted:
        yield (
            "needs a password, which the firmware does not have",
            "decrypt it: openssl pkey -in FILE -out KEY",
        )


def _key_types(item: Item) -> Iterator[tuple[str, str]]:
    """Return the type of each key with what to call its certificate where there are several."""
    if not item.contents.certificates:
        yield "", item.info.key_type
    for which, certificate in titled(item):
        yield which, key_type(certificate)


def _unsupported_key(item: Item) -> Found:
    for which, kind in _key_types(item):
        if rsa_bits(kind):
            if item.tls.known and rsa_bits(kind) > item.tls.max_rsa_bits:
                most = item.tls.max_rsa_bits
                yield (
                    f"{which}has an {kind} key, and this firmware computes with {most} bits at most",
                    "use ec256 or rsa2048",
                )
        elif kind and kind not in item.tls.curves:
            off = item.tls.known and kind in OFFICIAL.curves
            what = "which this firmware was compiled without" if off else "which the firmware does not know"
            yield f"{which}has a key of the kind {kind}, {what}", "use ec256 or rsa2048"


def _unsupported_signature(item: Item) -> Found:
    for which, certificate in titled(item):
        name = signature_hash(certificate)
        if name not in item.tls.hashes:
            what = f"{name} signature" if name else "signature without a hash"
            off = item.tls.known and name in OFFICIAL.hashes
            why = "this firmware was compiled without" if off else "the firmware does not know"
            yield f"{which}has a {what}, which {why}", "sign it with SHA-256"


def _no_pem(item: Item) -> Found:
    if item.contents.format == "pem" and not item.tls.pem:
        yield "is PEM, which this firmware was compiled without", "convert it to DER"


def _weak_key(item: Item) -> Found:
    for which, kind in _key_types(item):
        bits = rsa_bits(kind) or MIN_RSA_BITS
        if bits < MIN_RSA_BITS or kind.startswith(("secp192", "secp224")):
            yield (
                f"{which}has a weak {kind} key; servers and the firmware may refuse it",
                "use ec256 or rsa2048",
            )


def _large_key(item: Item) -> Found:
    for which, kind in _key_types(item):
        if rsa_bits(kind) > item.tls.max_rsa_bits and not item.tls.known:
            most = item.tls.max_rsa_bits
            yield (
                f"{which}has an {kind} key; firmware of an ESP32 computes with {most} bits at most",
                "use ec256 or rsa2048",
            )


def _outside_profile(item: Item) -> Found:
    """Find the curve that mbedTLS knows but takes from no peer (``mbedtls_x509_crt_profile_default``)."""
    for which, kind in _key_types(item):
        if kind == "secp256k1":
            yield (
                f"{which}has a key of the kind {kind}, which recent firmware and most servers refuse in TLS",
                "use ec256",
            )


def _weak_signature(item: Item) -> Found:
    for which, certificate in titled(item):
        name = signature_hash(certificate)
        subject, issuer = distinguished_names(certificate)
        if name in ("md5", "sha1") and subject != issuer:  # nobody checks a root's own signature
            yield (
                f"{which}is signed with {name.upper()}; servers and the firmware may refuse it",
                "sign it with SHA-256",
            )


def _to_pem(item: Item) -> str:
    command = "x509" if item.contents.certificates else "pkey"
    return f"convert it to PEM: openssl {command} -inform der -in FILE -out NEW"


_SEC1 = b"\x02\x01\x01\x04"  # version 1 and an octet string, after the header of the sequence


def _der_key(item: Item) -> Found:
    """Find DER that mbedTLS 3.6 refuses for the NUL after it, as it does all but an EC key in SEC 1 form."""
    if item.pem_only or item.contents.format != "der":  # where PEM alone is read, that is all there is to say
        return
    if item.contents.key is not None and _SEC1 not in item.data[2:8]:
        yield "is a key in DER, which recent firmware (mbedTLS 3.6) cannot read", _to_pem(item)


def _der_where_pem_only(item: Item) -> Found:
    if item.pem_only and item.contents.format == "der":
        yield "is DER, and what uses it in the firmware reads PEM only", _to_pem(item)


def _serial_not_positive(item: Item) -> Found:
    for which, certificate in titled(item):
        number = serial_number(certificate)
        if number <= 0:
            yield (
                f"{which}has the serial number {number}, which RFC 5280 forbids; servers may refuse it",
                "issue it again with a positive serial number",
            )


def _not_ca(item: Item) -> Found:
    """Find what mbedTLS takes for no issuer; one of version 1, which has no constraints, it does take."""
    if item.kind != "ca":
        return
    for which, certificate in titled(item):
        authority = is_authority(certificate)
        if authority is False or (authority is None and certificate.version.value > 0):
            yield (
                f"{which}is not the certificate of an authority"
                + ("" if authority is False else ": it has no basicConstraints that can be read"),
                "give the certificate that signed the server's",
            )


def _extra_key(item: Item) -> Found:
    if item.kind != "private_key" and item.contents.key_count:
        yield "holds a private key besides the certificate", "leave the key out of this item"


def _several_keys(item: Item) -> Found:
    if item.kind == "private_key" and item.contents.key_count > 1:
        count = item.contents.key_count
        yield f"holds {count} private keys; the firmware takes one", "leave the others out"


def _bom(item: Item) -> Found:
    if item.data.startswith(pem.UTF8_BOM):
        yield "begins with a byte order mark", "save it as plain ASCII"


def _trailing_data(item: Item) -> Found:
    if item.contents.trailing.strip(b"\0"):
        yield f"{len(item.contents.trailing)} bytes follow its DER", "leave them out"


def _several_certificates(item: Item) -> Found:
    count = len(item.contents.certificates)
    if count > 1:
        yield f"holds {count} certificates", "fine where a chain or several authorities are meant"


def _text_before(item: Item) -> Found:
    before = item.text.partition(b"-----BEGIN ")[0].removeprefix(pem.UTF8_BOM)
    if item.contents.format == "pem" and before.strip():
        yield (
            f"{len(before)} bytes of text stand before its BEGIN; the firmware passes over them",
            "leave them out",
        )


def _text_after(item: Item) -> Found:
    after = item.text.rpartition(b"-----END ")[2].partition(b"-----")[2]
    if item.contents.format == "pem" and after.strip():
        yield (
            f"{len(after)} bytes of text stand after its END; the firmware passes over them",
            "leave them out",
        )


def _crlf(item: Item) -> Found:
    if item.contents.format == "pem" and b"\r\n" in item.text:
        yield "has Windows line ends, which the firmware reads", "LF alone takes less room"


def _trailing_nul(item: Item) -> Found:
    if item.data.endswith(b"\0") if item.contents.format == "pem" else item.contents.trailing.endswith(b"\0"):
        yield "ends with a NUL; the firmware adds its own", "leave it out"


ITEM_CHECKS = (
    Check("pki-expired", "error", True, _expired),
    Check("pki-not-yet-valid", "error", True, _not_yet_valid),
    Check("pki-rejected-form", "error", True, _rejected_form),
    Check("pki-encrypted", "error", True, _encrypted),
    Check("pki-unsupported-key", "error", True, _unsupported_key),
    Check("pki-unsupported-signature", "error", True, _unsupported_signature),
    Check("pki-no-pem", "error", True, _no_pem),
    Check("pki-no-final-newline", "warning", True, _no_final_newline),
    Check("pki-expires-soon", "warning", False, _expires_soon),
    Check("pki-weak-key", "warning", False, _weak_key),
    Check("pki-large-key", "warning", False, _large_key),
    Check("pki-unusual-curve", "warning", False, _outside_profile),
    Check("pki-weak-signature", "warning", False, _weak_signature),
    Check("pki-serial-number", "warning", False, _serial_not_positive),
    Check("pki-der-key", "warning", False, _der_key),
    Check("pki-der-unread", "warning", False, _der_where_pem_only),
    Check("pki-not-ca", "warning", False, _not_ca),
    Check("pki-extra-key", "warning", False, _extra_key),
    Check("pki-several-keys", "warning", False, _several_keys),
    Check("pki-bom", "warning", False, _bom),
    Check("pki-trailing-data", "warning", False, _trailing_data),
    Check("pki-dates-unchecked", "info", False, _dates_unchecked),
    Check("pki-several-certificates", "info", False, _several_certificates),
    Check("pki-text-before", "info", False, _text_before),
    Check("pki-text-after", "info", False, _text_after),
    Check("pki-crlf", "info", False, _crlf),
    Check("pki-trailing-nul", "info", False, _trailing_nul),
)
"""Every check of a readable item of the right kind, worst first."""

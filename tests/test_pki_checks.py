"""Checks of certificates and keys: grades, what the firmware takes, and sets."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.pki.checks import SET_CHECKS, check_item, check_set
from esp_at_tools.pki.item_checks import ITEM_CHECKS

NOW = datetime(2025, 6, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
PKCS8, TRADITIONAL = PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL


@cache
def key(kind: str):
    """A key by type and number: ``ec256-1``."""
    kind = kind.split("-", maxsplit=1)[0]
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    curves = {"ec256": ec.SECP256R1, "ec384": ec.SECP384R1, "ec192": ec.SECP192R1, "k256": ec.SECP256K1}
    return (
        ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(curves[kind]())
    )


@cache
def certificate(
    kind="ec256-1", signer="", *, cn="x", issuer="", start=-1, days=3650, ca=True, algorithm="sha256"
):
    """A certificate, valid from ``start`` days after NOW on, for ``days``."""
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (cn, issuer or cn)]
    since = NOW + start * DAY
    builder = x509.CertificateBuilder(
        names[1], names[0], key(kind).public_key(), 1, since, since + days * DAY
    )
    builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    made = {"sha256": hashes.SHA256(), "sha3": hashes.SHA3_256()}[algorithm]
    signer = signer or kind
    return builder.sign(key(signer), None if signer == "ed25519" else made)


def cert(*args, encoding=Encoding.PEM, **options) -> bytes:
    return certificate(*args, **options).public_bytes(encoding)


def old_hash(number: int, **options) -> bytes:
    """A certificate that says it is signed by RSA with MD5 (4) or SHA-1 (5), which no library makes now."""
    oid = bytes.fromhex("06092a864886f70d0101")
    return cert("rsa2048", encoding=Encoding.DER, **options).replace(oid + b"\x0b", oid + bytes([number]))


def with_serial(number: int) -> bytes:
    """A certificate whose serial number is changed, to one that no library issues."""
    version = bytes.fromhex("a003020102")
    serial = b"\x02\x01" + number.to_bytes(1, "big", signed=True)
    der = cert(encoding=Encoding.DER)
    assert version + b"\x02\x01\x01" in der
    return der.replace(version + b"\x02\x01\x01", version + serial)


def unpadded() -> bytes:
    """A certificate whose base64 lacks its = at the end."""
    padded = next(text for size in range(1, 9) if b"=" in (text := cert(cn="x" * size)))
    return padded.replace(b"=", b"")


@cache
def private(kind="ec256-1", encoding=Encoding.PEM, form=PKCS8, password=b"") -> bytes:
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key(kind).private_bytes(encoding, form, lock)


def ids(kind, data, **options):
    return [finding.id for finding in check_item(kind, data, now=NOW, **options)]


def test_sound_items_have_no_findings():
    for encoding in (Encoding.PEM, Encoding.DER):
        assert ids("ca", cert(encoding=encoding)) == []
        assert ids("certificate", cert(ca=False, encoding=encoding)) == []
    for form in (PKCS8, TRADITIONAL):
        assert ids("private_key", private("ec256-1", Encoding.PEM, form)) == []
        assert ids("private_key", private("rsa2048", Encoding.PEM, form)) == []


# What mbedTLS 2.16.12 and 3.6.4 make of each was tried; "taken" says whether both read it.
CERTIFICATES = {
    "expired": (lambda: cert(days=1, start=-2), "pki-expired", "error", True),
    "not yet valid": (lambda: cert(start=1), "pki-not-yet-valid", "error", True),
    "expires soon": (lambda: cert(days=20), "pki-expires-soon", "warning", False),
    "no final newline": (lambda: cert().rstrip(), "pki-no-final-newline", "warning", True),
    "no final newline, NUL": (lambda: cert().rstrip() + b"\0", "pki-no-final-newline", "warning", True),
    "NUL": (lambda: cert() + b"\0", "pki-trailing-nul", "info", False),
    "NUL after DER": (lambda: cert(encoding=Encoding.DER) + b"\0", "pki-trailing-nul", "info", False),
    "bytes after DER": (lambda: cert(encoding=Encoding.DER) + b"junk", "pki-trailing-data", "warning", False),
    "CRLF": (lambda: cert().replace(b"\n", b"\r\n"), "pki-crlf", "info", False),
    "CR": (lambda: cert().replace(b"\n", b"\r"), "pki-rejected-form", "error", True),
    "tabs": (lambda: cert().replace(b"\n", b"\t\n"), "pki-rejected-form", "error", True),
    "indented": (lambda: cert().replace(b"\n", b"\n "), "pki-rejected-form", "error", True),
    "two spaces after BEGIN": (
        lambda: cert().replace(b"-\n", b"-  \n", 1),
        "pki-rejected-form",
        "error",
        True,
    ),
    "header": (lambda: cert().replace(b"-\n", b"-\nX: y\n\n", 1), "pki-rejected-form", "error", True),
    "no padding": (unpadded, "pki-rejected-form", "error", True),
    "END first": (lambda: b"-----END CERTIFICATE-----\n" + cert(), "pki-rejected-form", "error", True),
    "text before": (lambda: b"subject=x\n" + cert(), "pki-text-before", "info", False),
    "text after": (lambda: cert() + b"more\n", "pki-text-after", "info", False),
    "byte order mark": (lambda: b"\xef\xbb\xbf" + cert(), "pki-bom", "warning", False),
    "chain": (lambda: cert() + cert(cn="y"), "pki-several-certificates", "info", False),
    "expired in chain": (lambda: cert() + cert(days=1, start=-2), "pki-expired", "error", True),
    "key too": (lambda: cert() + private(), "pki-extra-key", "warning", False),
    "ed25519": (lambda: cert("ed25519"), "pki-unsupported-key", "error", True),
    "ed25519 in chain": (lambda: cert() + cert("ed25519"), "pki-unsupported-key", "error", True),
    "sha3": (lambda: cert(algorithm="sha3"), "pki-unsupported-signature", "error", True),
    "rsa1024": (lambda: cert("rsa1024"), "pki-weak-key", "warning", False),
    "k256": (lambda: cert("k256"), "pki-unusual-curve", "warning", False),
    "rsa4104": (lambda: cert("rsa4104"), "pki-large-key", "warning", False),
    "sha1": (lambda: old_hash(5, issuer="y"), "pki-weak-signature", "warning", False),
    "md5": (lambda: old_hash(4, issuer="y"), "pki-weak-signature", "warning", False),
    "serial 0": (lambda: with_serial(0), "pki-serial-number", "warning", False),
    "serial -5": (lambda: with_serial(-5), "pki-serial-number", "warning", False),
    "not CA": (lambda: cert(ca=False), "pki-not-ca", "warning", False),
    "a key": (private, "pki-wrong-kind", "error", False),
    "a locked key": (lambda: private(password=b"x"), "pki-wrong-kind", "error", False),
    "text": (lambda: b"hello", "pki-unreadable", "error", False),
    "empty": (lambda: b"", "pki-unreadable", "error", False),
    "cut off": (lambda: cert()[:99], "pki-unreadable", "error", False),
}
KEYS = {
    "no final newline": (lambda: private().rstrip(), "pki-no-final-newline", "warning", True),
    "locked PKCS#8": (lambda: private(password=b"x"), "pki-encrypted", "error", True),
    "locked DER": (lambda: private("ec256-1", Encoding.DER, PKCS8, b"x"), "pki-encrypted", "error", True),
    "locked PEM": (
        lambda: private("rsa2048", Encoding.PEM, TRADITIONAL, b"x"),
        "pki-encrypted",
        "error",
        True,
    ),
    "ed25519": (lambda: private("ed25519"), "pki-unsupported-key", "error", True),
    "rsa1024": (lambda: private("rsa1024"), "pki-weak-key", "warning", False),
    "secp192r1": (lambda: private("ec192"), "pki-weak-key", "warning", False),
    "DER": (lambda: private("ec256-1", Encoding.DER), "pki-der-key", "warning", False),
    "RSA DER": (lambda: private("rsa2048", Encoding.DER, TRADITIONAL), "pki-der-key", "warning", False),
    "two keys": (lambda: private() + private("ec256-2"), "pki-several-keys", "warning", False),
    "CRLF": (lambda: private().replace(b"\n", b"\r\n"), "pki-crlf", "info", False),
    "tabs": (lambda: private().replace(b"\n", b"\t\n"), "pki-rejected-form", "error", True),
    "a certificate": (cert, "pki-wrong-kind", "error", False),
    "text": (lambda: b"hello", "pki-unreadable", "error", False),
}
CASES = [("ca", name, *case) for name, case in CERTIFICATES.items()]
CASES += [("certificate", name, *case) for name, case in CERTIFICATES.items() if name != "not CA"]
CASES += [("private_key", name, *case) for name, case in KEYS.items()]


@pytest.mark.parametrize(("kind", "name", "make", "expected", "level", "risky"), CASES)
def test_findings(kind, name, make, expected, level, risky):
    del name
    found = {finding.id: finding for finding in check_item(kind, make(), now=NOW, name="mqtt_x")}
    assert expected in found
    finding = found.pop(expected)
    assert (finding.level, finding.risky, finding.impossible) == (
        level,
        risky,
        level == "error" and not risky,
    )
    assert finding.message.startswith("mqtt_x: ")
    assert finding.hint
    if level != "error" and not risky:
        assert not any(other.level == "error" or other.risky for other in found.values())


def test_every_check_has_a_case():
    tried = {case[3] for case in CASES} | {"pki-der-unread"}
    elsewhere = {"pki-no-pem", "pki-dates-unchecked"}  # test_pki_extensions.py
    assert {check.id for check in ITEM_CHECKS} <= tried | elsewhere
    assert {check.id for check in SET_CHECKS} == {
        "pki-mismatch", "pki-incomplete-set", "pki-bad-signature", "pki-wrong-issuer",
    }  # fmt: skip


def test_what_reads_pem_only():
    assert ids("certificate", cert(ca=False, encoding=Encoding.DER), pem_only=True) == ["pki-der-unread"]
    assert ids("certificate", cert(ca=False), pem_only=True) == []
    for form in (PKCS8, TRADITIONAL):  # one of the two is enough for one key
        assert ids("private_key", private("ec256-1", Encoding.DER, form), pem_only=True) == ["pki-der-unread"]


def test_what_mbedtls_takes_is_not_refused():
    text = cert()
    for taken in (
        text.replace(b"\n", b" \n"),
        text.replace(b"-\n", b"-\n\n", 1),
        text.replace(b"\n", b"", 3).replace(b"-----M", b"-----\nM"),
        text.rstrip() + text,
        b"-----END PRIVATE KEY-----\n" + text,
    ):
        assert not any(finding.level == "error" for finding in check_item("ca", taken, now=NOW))
    params = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert ids("private_key", params + private("ec256-1", Encoding.PEM, TRADITIONAL)) == []
    assert ids("private_key", cert() + private()) == []
    assert ids("private_key", private("ec256-1", Encoding.DER, TRADITIONAL)) == []


def test_a_serial_number_that_is_not_positive_is_one_warning_of_ours(recwarn):
    for number in (0, -5):
        data = with_serial(number)
        (finding,) = check_item("ca", data, now=NOW, name="mqtt_ca")
        assert finding.message.startswith(f"mqtt_ca: has the serial number {number}, ")
        assert not any(found.level == "error" for found in check_set(data, data, private()))
    assert list(recwarn) == []


def test_certificates_that_a_later_library_refuses_are_findings(monkeypatch):
    def refuse(_der: bytes) -> x509.Certificate:
        raise ValueError("invalid serial")

    monkeypatch.setattr(x509, "load_der_x509_certificate", refuse)
    assert ids("ca", with_serial(-7)) == ["pki-unreadable"]


def test_roots_may_be_signed_with_sha1():
    assert ids("ca", old_hash(5)) == []


def test_validity_is_judged_to_the_second():
    data = cert(start=0, days=100)
    end = NOW + 100 * DAY
    second = timedelta(seconds=1)
    assert [f.id for f in check_item("ca", data, now=NOW)] == []
    assert [f.id for f in check_item("ca", data, now=NOW - second)] == ["pki-not-yet-valid"]
    assert [f.id for f in check_item("ca", data, now=end)] == ["pki-expires-soon"]
    assert [f.id for f in check_item("ca", data, now=end + second)] == ["pki-expired"]
    with pytest.raises(ValueError, match="time zone"):
        check_item("ca", data, now=datetime(2025, 1, 1))  # noqa: DTZ001 - the case


def test_sets():
    def found(*items):
        return [(finding.id, finding.level, finding.risky) for finding in check_set(*items, name="mqtt")]

    leaf, other = private("ec256-1"), private("ec256-2")
    assert found(None, None, None) == []
    assert found(cert(), None, None) == []
    assert found(None, cert(), leaf) == []
    assert found(None, cert(), other) == [("pki-mismatch", "error", True)]
    assert found(None, cert("rsa2048"), leaf) == [("pki-mismatch", "error", True)]
    assert found(None, cert(), private(password=b"x")) == []
    assert found(None, cert() + cert("ec256-2"), leaf) == []
    assert found(None, cert(), None) == [("pki-incomplete-set", "warning", False)]
    assert found(None, None, leaf) == [("pki-incomplete-set", "warning", False)]
    assert found(None, cert(), b"hello") == []
    assert found(None, leaf, cert()) == []
    assert check_set(None, cert(), other, name="mqtt")[0].message.startswith("mqtt: ")


def test_authority_of_the_right_name_that_did_not_sign():
    root, impostor = cert("ec256-2", cn="Root"), cert("ec384", cn="Root")
    leaf = cert("ec256-1", "ec256-2", cn="Leaf", issuer="Root", ca=False)
    good = private("ec256-1")
    assert check_set(root, leaf, good) == []
    assert check_set(impostor + root, leaf, good) == []
    assert check_set(cert(cn="Another"), leaf, good) == []
    (found,) = check_set(impostor, leaf, good)
    assert (found.id, found.level, found.risky) == ("pki-bad-signature", "warning", False)


def test_official_items_are_fit_for_use(shared):
    tried = 0
    for version in ("v3.4.0.0", "v5.0.1.0"):
        raw = shared / "esp-at" / version / "components" / "customized_partitions" / "raw_data"
        for group in sorted({path.name.rsplit("_", 1)[0] for path in raw.glob("*_ca")}):
            folders = {kind: sorted((raw / f"{group}_{kind}").iterdir()) for kind in ("ca", "cert", "key")}
            for files in zip(*folders.values(), strict=True):
                items = [path.read_bytes() for path in files]
                for kind, data in zip(("ca", "certificate", "private_key"), items, strict=True):
                    findings = check_item(kind, data, now=NOW, name=group)
                    assert not any(finding.level == "error" or finding.risky for finding in findings), (
                        findings
                    )
                    tried += 1
                assert [finding.level for finding in check_set(*items, name=group)] in ([], ["info"])
    assert tried == 42


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_checks_never_fail(data):
    chain = cert() + cert(cn="y")
    sources = (cert(), chain, cert(encoding=Encoding.DER), private(), private("ec256-1", Encoding.DER, PKCS8))
    damaged = bytearray(data.draw(st.sampled_from(sources)))
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    kind = data.draw(st.sampled_from(["ca", "certificate", "private_key"]))
    for finding in check_item(kind, bytes(damaged), now=NOW, pem_only=data.draw(st.booleans())):
        assert finding.level in ("error", "warning", "info")
    check_set(cert(), bytes(damaged), private())
    check_set(bytes(damaged), chain, bytes(damaged))

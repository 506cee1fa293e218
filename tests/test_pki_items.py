"""Reading certificates and keys: what each is, what is none, and that no key material leaks."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat, pkcs7, pkcs12
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.errors import EspAtError, FormatError
from esp_at_tools.pki import pem
from esp_at_tools.pki.items import MAX_SIZE, load, read_pki

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
END = START + timedelta(days=3650)
PLAIN = serialization.NoEncryption()
FORMAT = {Encoding.PEM: "pem", Encoding.DER: "der"}
LOCKED = serialization.BestAvailableEncryption(b"password")


@cache
def _key(kind: str):
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    makers = {"ed25519": ed25519.Ed25519PrivateKey.generate, "dsa": lambda: dsa.generate_private_key(2048)}
    curves = {"secp256r1": ec.SECP256R1, "secp384r1": ec.SECP384R1, "secp521r1": ec.SECP521R1,
              "secp256k1": ec.SECP256K1}  # fmt: skip
    return makers[kind]() if kind in makers else ec.generate_private_key(curves[kind]())


def key(kind: str = "secp256r1"):
    """The key of a kind, made once."""
    return _key(kind)


@cache
def certificate(kind: str = "secp256r1", *, ca: bool | None = True, cn: str = "Root"):
    """A self-signed certificate."""
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, cn), x509.NameAttribute(NameOID.COUNTRY_NAME, "CN")]
    )
    builder = x509.CertificateBuilder(name, name, key(kind).public_key(), 0xAB12, START, END)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    return builder.sign(key(kind), None if kind == "ed25519" else hashes.SHA256())


def key_bytes(kind="secp256r1", encoding=Encoding.PEM, form=PrivateFormat.PKCS8, lock=PLAIN) -> bytes:
    return key(kind).private_bytes(encoding, form, lock)


def cert_bytes(*args, encoding=Encoding.PEM, **options) -> bytes:
    return certificate(*args, **options).public_bytes(encoding)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_certificate(encoding):
    data = cert_bytes(encoding=encoding)
    info = read_pki(data, "x")
    assert (info.kind, info.format, info.size, info.count) == ("ca", FORMAT[encoding], len(data), 1)
    assert info.subject == info.issuer == "C=CN,CN=Root"
    assert (info.serial, info.key_type, info.is_ca, info.encrypted) == ("ab12", "ec256", True, False)
    assert (info.not_before, info.not_after) == (START, END)
    assert info.signature_hash == "sha256"
    assert info.sha256 == hashlib.sha256(data).hexdigest()
    spki = key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert info.public_key_sha256 == hashlib.sha256(spki).hexdigest()


def test_authorities_and_others():
    assert (read_pki(cert_bytes(ca=False), "x").kind, read_pki(cert_bytes(ca=False), "x").is_ca) == (
        "certificate",
        False,
    )
    assert (read_pki(cert_bytes(ca=None), "x").kind, read_pki(cert_bytes(ca=None), "x").is_ca) == (
        "certificate",
        None,
    )


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize(("kind", "name"), [("secp256r1", "ec256"), ("rsa2048", "rsa2048")])
def test_private_key(encoding, form, kind, name):
    data = key_bytes(kind, encoding, form)
    info = read_pki(data, "x")
    assert (info.kind, info.format, info.count, info.key_type) == (
        "private_key",
        FORMAT[encoding],
        0,
        name,
    )
    assert (info.subject, info.not_before, info.is_ca, info.encrypted) == ("", None, None, False)
    assert info.public_key_sha256 == read_pki(cert_bytes(kind), "y").public_key_sha256
    assert info.public_key_sha256 != read_pki(cert_bytes("secp384r1"), "y").public_key_sha256


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("secp384r1", "ec384"),
        ("secp521r1", "ec521"),
        ("secp256k1", "secp256k1"),
        ("ed25519", "ed25519"),
        ("dsa", "dsa2048"),
    ],
)
def test_key_types(kind, name):
    assert read_pki(key_bytes(kind), "x").key_type == name
    assert read_pki(cert_bytes(kind), "x").key_type == name


@pytest.mark.parametrize(
    ("encoding", "form"),
    [
        (Encoding.PEM, PrivateFormat.PKCS8),
        (Encoding.PEM, PrivateFormat.TraditionalOpenSSL),
        (Encoding.DER, PrivateFormat.PKCS8),
    ],
)
def test_encrypted_key(encoding, form):
    info = read_pki(key_bytes("secp256r1", encoding, form, LOCKED), "x")
    assert (info.kind, info.encrypted, info.key_type, info.public_key_sha256) == ("private_key", True, "", "")


def test_several_in_one_item():
    chain = cert_bytes(cn="Leaf", ca=False) + cert_bytes()
    info = read_pki(chain, "x")
    assert (info.count, info.subject, info.kind) == (2, "C=CN,CN=Leaf", "certificate")
    both = key_bytes() + chain
    assert read_pki(both, "x").kind == "private_key"
    assert read_pki(both, "x", "certificate").count == 2
    assert read_pki(chain + key_bytes(), "x").count == 2
    assert read_pki(chain + key_bytes(), "x", "private_key").kind == "private_key"
    assert read_pki(chain, "x", "private_key").count == 2
    assert read_pki(key_bytes(), "x", "ca").kind == "private_key"


def test_of_several_keys_the_one_that_mbedtls_takes():
    data = (
        key_bytes("secp384r1")
        + key_bytes("secp256r1", form=PrivateFormat.TraditionalOpenSSL)
        + key_bytes("rsa2048", form=PrivateFormat.TraditionalOpenSSL)
    )
    assert read_pki(data, "x").key_type == "rsa2048"
    assert load(data, "x").key_count == 3


def test_what_the_firmware_passes_over():
    data = cert_bytes()
    want = read_pki(data, "x").public_key_sha256
    for odd in (
        b"Bag Attributes\n  friendlyName: x\n" + data + b"more\n",
        pem.UTF8_BOM + data,
        data.replace(b"\n", b"\r\n"),
        data + b"\0",
        data + b"\0\0 rest",
        data.rstrip(),
        cert_bytes(encoding=Encoding.DER) + b"\0",
        b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + data,
    ):
        assert read_pki(odd, "x").public_key_sha256 == want


@cache
def csr() -> bytes:
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key(), hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def der_of(text: bytes) -> bytes:
    return pem.split_pem(text, "x")[0].der("x")


@cache
def crl() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateRevocationListBuilder(name, START, END)
    return builder.sign(key(), hashes.SHA256()).public_bytes(Encoding.DER)


def spki(encoding):
    return key().public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


def pfx() -> bytes:
    return pkcs12.serialize_key_and_certificates(b"x", key(), certificate(), None, PLAIN)


def pem_of(label: str, body: str) -> bytes:
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode()


FOREIGN = {
    "empty": (lambda: b"", "is empty"),
    "blank": (lambda: b" \r\n\0\0", "is empty"),
    "text": (lambda: b"hello\n", "is neither PEM nor DER"),
    "binary": (lambda: bytes(range(256)), "is neither PEM nor DER"),
    "large": (lambda: bytes(MAX_SIZE) + b"x", "larger than any"),
    "utf-16": (lambda: cert_bytes().decode().encode("utf-16"), "UTF-16"),
    "utf-16 without a mark": (lambda: cert_bytes().decode().encode("utf-16-le"), "UTF-16"),
    "csr": (csr, "is a certificate signing request"),
    "csr der": (lambda: der_of(csr()), "is a certificate signing request"),
    "crl der": (crl, "is a revocation list"),
    "public key": (lambda: spki(Encoding.PEM), "is a public key"),
    "public key der": (lambda: spki(Encoding.DER), "is a public key"),
    "openssh": (lambda: key_bytes(form=PrivateFormat.OpenSSH), "is an OpenSSH key"),
    "dsa": (lambda: key_bytes("dsa", form=PrivateFormat.TraditionalOpenSSL), "is a DSA key"),
    "pkcs12": (pfx, "is PKCS#12"),
    "pkcs7": (lambda: pkcs7.serialize_certificates([certificate()], Encoding.PEM), "is PKCS#7"),
    "pkcs7 der": (lambda: pkcs7.serialize_certificates([certificate()], Encoding.DER), "is PKCS#7"),
    "trusted": (lambda: cert_bytes().replace(b" CERT", b" TRUSTED CERT"), "OpenSSL trusted certificate"),
    "other label": (lambda: b"-----BEGIN PGP MESSAGE-----\n", "is PEM of the kind PGP MESSAGE"),
    "other sequence": (lambda: b"\x30\x03\x02\x01\x00", "neither a certificate nor a private key"),
    "cut off": (lambda: cert_bytes()[:200], "cut off: there is no END CERTIFICATE"),
    "cut off before another": (lambda: cert_bytes()[:200] + cert_bytes(), "cut off"),
    "cut off der": (lambda: cert_bytes(encoding=Encoding.DER)[:-3], r"cut off: \d+ of \d+ bytes"),
    "NUL in the middle": (lambda: cert_bytes().replace(b"M", b"\0", 1), "cut off"),
    "NUL before": (lambda: b"\0" + cert_bytes(), "hides its PEM text"),
    "lower case": (lambda: b"x-----BEGIN certificate-----\n", "hides its PEM text"),
    "wrong base64": (lambda: cert_bytes().replace(b"MII", b"M!I", 1), "base64 of its CERTIFICATE is damaged"),
    "no base64": (lambda: pem_of("CERTIFICATE", ""), "base64 .* damaged"),
    "wrong content": (lambda: pem_of("CERTIFICATE", "AAAA\n"), "its certificate cannot be read"),
    "wrong key content": (lambda: pem_of("PRIVATE KEY", "AAAA\n"), "its private key cannot be read"),
    "too many": (lambda: b"-----BEGIN X-----\n" * 1001, "more than 1000 PEM blocks"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_neither_certificate_nor_key(case):
    make, message = FOREIGN[case]
    for expected in (None, "ca", "private_key"):
        with pytest.raises(FormatError, match="^file: .*" + message) as caught:
            read_pki(make(), "file", expected)
        assert caught.value.hint


@pytest.mark.parametrize("part", ["p", "q", "d", "dmp1", "dmq1", "iqmp"])
def test_rsa_key_whose_parts_do_not_fit(part):
    number = getattr(key("rsa2048").private_numbers(), part)
    size = (number.bit_length() + 7) // 8
    data = key_bytes("rsa2048", Encoding.DER, PrivateFormat.TraditionalOpenSSL)
    before, after = number.to_bytes(size, "big"), (number ^ 8).to_bytes(size, "big")
    assert data.count(before) == 1
    text = pem_of("RSA PRIVATE KEY", base64.encodebytes(data.replace(before, after)).decode())
    with pytest.raises(FormatError, match="its private key cannot be read"):
        read_pki(text, "x")


def test_serial_number_that_is_not_positive(recwarn):
    good = certificate().public_bytes(Encoding.DER)
    serial = bytes.fromhex("a003020102020300ab12")
    assert serial in good
    info = read_pki(good.replace(serial, serial[:7] + b"\xfe\xab\x12"), "x")
    assert int(info.serial, 16) == 0xFEAB12 - (1 << 24)
    assert list(recwarn) == []


def test_an_item_is_parsed_once(monkeypatch):
    from cryptography.hazmat.primitives import serialization as library

    calls = []
    original = library.load_der_private_key
    monkeypatch.setattr(
        library, "load_der_private_key", lambda *args, **kw: calls.append(1) or original(*args, **kw)
    )
    fresh = ec.generate_private_key(ec.SECP256R1())
    data = fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, PLAIN)
    assert load(data, "a").key is load(data, "b", "private_key").key
    assert read_pki(data, "c").public_key_sha256
    assert len(calls) == 1
    for name in ("a", "b"):  # what cannot be read is told under its own name each time
        with pytest.raises(FormatError, match=f"^{name}: its private key cannot be read"):
            load(data.replace(b"\nM", b"\nN"), name)


def test_no_key_material_in_errors_or_representations():
    data = key_bytes("secp256r1", form=PrivateFormat.TraditionalOpenSSL)
    body = data.splitlines()[1]
    secret = der_of(data)[7:39]
    damaged = data.replace(body[:4], b"AAAA")
    for bad in (damaged, data[:100], der_of(damaged)):
        with pytest.raises(FormatError) as caught:
            read_pki(bad, "file")
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        assert body[:20].decode() not in str(caught.value)
    contents = load(data, "file")
    text = repr(contents) + repr(read_pki(data, "file"))
    assert body[:20].decode() not in text
    assert secret.hex() not in text
    assert repr(secret)[2:12] not in text


def test_official_items(shared):
    found = 0
    for version in ("v3.4.0.0", "v5.0.1.0"):
        raw = shared / "esp-at" / version / "components" / "customized_partitions" / "raw_data"
        for path in sorted([*raw.glob("*_ca/*"), *raw.glob("*_cert/*"), *raw.glob("*_key/*")]):
            data = path.read_bytes()
            info = read_pki(data, path.name)
            found += 1
            assert (
                info.kind == "private_key"
                if path.parent.name.endswith("_key")
                else info.kind in ("ca", "certificate")
            )
            assert info.key_type == ("rsa1024" if path.name == "wpa2_ca.pem" else "rsa2048")
            certificates = sorted((raw / path.parent.name.replace("_key", "_cert")).iterdir())
            if info.kind == "private_key":
                index = sorted(path.parent.iterdir()).index(path)
                theirs = read_pki(certificates[index].read_bytes(), "x").public_key_sha256
                assert info.public_key_sha256 == theirs, path
    assert found == 42


def test_imports_nothing_heavy():
    script = "import sys, esp_at_tools.pki.checks; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_byte_flips(data):
    sources = (cert_bytes(), cert_bytes(encoding=Encoding.DER), key_bytes(), key_bytes(encoding=Encoding.DER),
               cert_bytes() + cert_bytes(cn="Leaf", ca=False), csr())  # fmt: skip
    damaged = bytearray(data.draw(st.sampled_from(sources)))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(EspAtError):
        read_pki(bytes(damaged), "x", data.draw(st.sampled_from([None, "ca", "private_key"])))


PIECES = (b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----", b"-----BEGIN PRIVATE KEY-----",
          b"-----END PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED", b"\n", b"MIIB", b"\0", b":")  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=100).map(lambda body: b"0\x82\x01\x00" + body),
    st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join),
))  # fmt: skip
def test_only_our_errors(data):
    with contextlib.suppress(EspAtError):
        read_pki(data, "x")


@pytest.mark.parametrize(
    "unit",
    [b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n", b"X: y\n", b" \n", b"A" * 64 + b"\n"],
)
def test_large_inputs_take_no_time(unit):
    for start in (b"", b"-----BEGIN CERTIFICATE-----\n"):
        data = (start + unit * (MAX_SIZE // len(unit)))[:MAX_SIZE]
        with pytest.raises(FormatError):
            read_pki(data, "x")

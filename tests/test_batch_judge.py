"""The quick way of judging certificates and keys against all checks."""

from __future__ import annotations

import base64
import datetime as dt
import random
from types import SimpleNamespace

import builders
import pki_maker
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from esp_at_tools.batch.pki_judge import PROVEN, PROVEN_OF_SETS, PkiJudge, _deciding, _plain_der
from esp_at_tools.pki import checks, set_checks
from esp_at_tools.pki.collection import CollectedItem, check_one
from esp_at_tools.pki.tls_support import OFFICIAL, TlsSupport

NOW = dt.datetime.now(dt.timezone.utc)
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER

PLAIN = serialization.NoEncryption()
RSA = rsa.generate_private_key(65537, 2048)
RSA4096 = rsa.generate_private_key(65537, 4096)
EC = ec.generate_private_key(ec.SECP256R1())


def certificate(key, *extensions, days=(-1, 1000), digest=None, serial=None, encoding=PEM):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
    digest = digest or hashes.SHA256()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial or 77)
        .not_valid_before(NOW + dt.timedelta(days=days[0]))
        .not_valid_after(NOW + dt.timedelta(days=days[1]))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    signer = None if isinstance(key, ed25519.Ed25519PrivateKey) else digest
    return builder.sign(key, signer).public_bytes(encoding)


def key_bytes(key, form=serialization.PrivateFormat.PKCS8, encoding=PEM, encryption=PLAIN):
    return key.private_bytes(encoding, form, encryption)


def corpus() -> dict[str, tuple[str, bytes]]:
    """Kind → for which item, and its bytes."""
    basic = x509.BasicConstraints(ca=False, path_length=None)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    sec1 = serialization.PrivateFormat.TraditionalOpenSSL
    plain = certificate(RSA)
    crt = {
        "rsa": plain,
        "ec": certificate(EC),
        "extensions": certificate(EC, (basic, True), (usage, True)),
        "critical": certificate(EC, (unknown, True)),
        "not critical": certificate(EC, (unknown, False)),
        "a constraint on names": certificate(EC, (x509.NameConstraints([x509.DNSName("a")], None), True)),
        "expired": certificate(RSA, days=(-9, -1)),
        "future": certificate(RSA, days=(1, 9)),
        "soon": certificate(RSA, days=(-1, 5)),
        "not so soon": certificate(RSA, days=(-1, 31)),
        "rsa4096": certificate(RSA4096),
        "sha384": certificate(RSA, digest=hashes.SHA384()),
        "sha3": certificate(EC, digest=hashes.SHA3_256()),
        "rsa1024": certificate(rsa.generate_private_key(65537, 1024)),  # noqa: S505 - a weak one is meant
        "ec384": certificate(ec.generate_private_key(ec.SECP384R1())),
        "rsassa-pss": pss(certificate(RSA)),
        "koblitz": certificate(ec.generate_private_key(ec.SECP256K1())),
        "ed25519": certificate(ed25519.Ed25519PrivateKey.generate()),
        "der": certificate(RSA, encoding=DER),
        "crlf": plain.replace(b"\n", b"\r\n"),
        "no end": plain.rstrip(),
        "text before": b"subject=x\n" + plain,
        "text after": plain + b"end\n",
        "chain": plain + certificate(EC),
        "bom": b"\xef\xbb\xbf" + plain,
        "nul": plain + b"\0",
        "spaces": plain.replace(b"\n", b" \n"),
        "old label": plain.replace(b"CERTIFICATE", b"X509 CERTIFICATE"),
        "cut": plain[:-60],
        "wrong end": plain.replace(b"-----END CERTIFICATE", b"-----END PRIVATE KEY"),
        "a key": key_bytes(RSA),
        "one line": b"".join(plain.split(b"\n"))
        .replace(b"E-----M", b"E-----\nM")
        .replace(b"-----END", b"\n-----END"),
    }
    keys = {
        "rsa": key_bytes(RSA),
        "rsa, old": key_bytes(RSA, sec1),
        "ec": key_bytes(EC),
        "ec, old": key_bytes(EC, sec1),
        "der": key_bytes(EC, encoding=DER),
        "password": key_bytes(EC, encryption=serialization.BestAvailableEncryption(b"x")),
        "old password": key_bytes(EC, sec1, encryption=serialization.BestAvailableEncryption(b"x")),
        "ed25519": key_bytes(ed25519.Ed25519PrivateKey.generate()),
        "koblitz": key_bytes(ec.generate_private_key(ec.SECP256K1())),
        "certificate": plain,
        "two": key_bytes(EC) + key_bytes(RSA),
        "with its certificate": key_bytes(RSA) + plain,
        "relabelled": key_bytes(RSA, sec1).replace(b"RSA ", b"EC "),
        "damaged": damaged_rsa(),
        "rsassa-pss": pss(key_bytes(RSA)),
        "ec384": key_bytes(ec.generate_private_key(ec.SECP384R1())),
        "rsa4096": key_bytes(RSA4096),
    }
    found = {f"certificate, {kind}": ("client_cert.0", data) for kind, data in crt.items()}
    found |= {f"key, {kind}": ("client_key.0", data) for kind, data in keys.items()}
    return found | {f"CA, {kind}": ("client_ca.0", data) for kind, data in crt.items()}


def pss(text: bytes) -> bytes:
    """The same with a key that its algorithm's OID restricts to RSASSA-PSS (a signature is not made anew)."""
    first, *lines, last = text.splitlines()
    der = pki_maker.pss_keyed(base64.b64decode(b"".join(lines)))
    digits = base64.b64encode(der)
    lines = [digits[at : at + 64] for at in range(0, len(digits), 64)]
    return b"\n".join([first, *lines, last, b""])


def damaged_rsa() -> bytes:
    """A key whose parts do not fit together."""
    der = bytearray(key_bytes(RSA, serialization.PrivateFormat.TraditionalOpenSSL, DER))
    der[700] ^= 4
    text = base64.encodebytes(bytes(der)).replace(b"\n", b"")
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"-----BEGIN RSA PRIVATE KEY-----\n" + b"\n".join(lines) + b"\n-----END RSA PRIVATE KEY-----\n"


CORPUS = corpus()


def refused(name: str, data: bytes, tls: TlsSupport = OFFICIAL) -> bool:
    found = check_one(CollectedItem.official(name, data), now=NOW, tls=tls)
    return any(each.risky or each.level == "error" for each in found)


@pytest.mark.parametrize("kind", CORPUS)
def test_the_verdict_is_that_of_all_checks(kind):
    name, data = CORPUS[kind]
    judge = PkiJudge(NOW)
    assert judge.item(name, data).refused is refused(name, data)
    judge.quick_items = False
    slow = judge._checked(name, data)
    quick = PkiJudge(NOW).item(name, data)
    assert quick == slow


@pytest.mark.parametrize(
    "tls",
    [
        TlsSupport(known=True, curves=frozenset({"ec384"})),
        TlsSupport(known=True, hashes=frozenset({"sha384"})),
        TlsSupport(known=True, curves=frozenset({"ec256"})),
        TlsSupport(known=True, max_rsa_bits=1024),
        TlsSupport(known=True, max_rsa_bits=3072),
        TlsSupport(known=True, pem=False),
        TlsSupport(known=True, checks_dates=False),
    ],
    ids=["curves", "hashes", "one curve", "bits", "more bits", "pem", "dates"],
)
def test_a_firmware_that_accepts_less_or_more(tls):
    for kind, (name, data) in CORPUS.items():
        assert PkiJudge(NOW, tls).item(name, data).refused is refused(name, data, tls), kind


def test_damage_is_never_taken_for_sound():
    rng = random.Random(5)
    judge = PkiJudge(NOW)
    for kind in ("certificate, rsa", "certificate, extensions", "key, rsa", "key, ec"):
        name, data = CORPUS[kind]
        for _ in range(60):
            changed = bytearray(data)
            for _ in range(rng.choice((1, 1, 3))):
                changed[rng.randrange(len(changed))] = rng.choice(b"\n\r AZaz09+/=-\0\xff")
            quick = judge._plain(name, bytes(changed))
            if quick is not None and not quick.refused:
                assert not refused(name, bytes(changed))


def test_the_usual_items_take_the_quick_way():
    judge = PkiJudge(NOW)
    for kind in (
        "certificate, rsa",
        "certificate, ec",
        "certificate, extensions",
        "certificate, not critical",
        "certificate, not so soon",
        "key, rsa",
        "key, rsa, old",
        "key, ec",
        "key, ec, old",
    ):
        assert judge._plain(*CORPUS[kind]) is not None, kind


LABEL = ((b"-----BEGIN X-----\n", b"\n-----END X-----\n"), (b"-----BEGIN Y-----\n", b"\n-----END Y-----\n"))


def framed(body: bytes, begin: bytes = b"X", end: bytes = b"X") -> bytes:
    return b"-----BEGIN %s-----\n%s\n-----END %s-----\n" % (begin, body, end)


def wrapped(size: int, width: int = 64) -> bytes:
    digits = base64.b64encode(bytes(range(size)))
    return b"\n".join(digits[at : at + width] for at in range(0, len(digits), width))


@pytest.mark.parametrize("size", [1, 47, 48, 49, 95, 96, 97])
def test_a_block_of_any_size_is_taken_apart(size):
    for label in (b"X", b"Y"):
        assert _plain_der(framed(wrapped(size), label, label), LABEL) == bytes(range(size))


@pytest.mark.parametrize(
    "data",
    {
        "blank": b"",
        "no frame": wrapped(96),
        "no digits": framed(b""),
        "no digits in a line": b"-----BEGIN X-----\n-----END X-----\n",
        "padding alone": framed(b"===="),
        "another label": framed(wrapped(96), b"Z", b"Z"),
        "another end": framed(wrapped(96), b"X", b"Y"),
        "no end": framed(wrapped(96))[:-1],
        "a blank line at the end": framed(wrapped(96) + b"\n"),
        "a blank line after a short one": framed(wrapped(97) + b"\n"),
        "a blank line at the beginning": framed(b"\n" + wrapped(97)),
        "short lines": framed(wrapped(96, 32)),
        "long lines": framed(wrapped(96, 76)),
        "one line": framed(wrapped(96, 999)),
        "line ends elsewhere": framed(wrapped(96, 63)),
        "one more line end": framed(wrapped(97).replace(b"AAEC", b"AA\nEC").replace(b"Lzs", b"L\nzs")),
        "a line end too few places on": framed(wrapped(97, 76)[:-20] + b"\n" + wrapped(97, 76)[-20:]),
        "no such digit": framed(wrapped(96).replace(b"AAEC", b"!!!!")),
        "CR": framed(wrapped(96).replace(b"AAEC", b"AAE\r")),
        "bits that mean nothing": framed(wrapped(1).replace(b"AA==", b"AB==")),
        "cut": framed(wrapped(97)[:-1]),
        "more after its end": framed(wrapped(1) + b"AAAA"),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_block_that_is_written_otherwise_is_not_plain(data):
    assert _plain_der(data[1], LABEL) is None


def found(**others: object) -> SimpleNamespace:
    """A certificate as the library shows it, against which nothing stands but what differs."""
    plain = {
        "not_valid_before_utc": NOW, "not_valid_after_utc": NOW + dt.timedelta(30), "serial_number": 1,
        "signature_hash_algorithm": SimpleNamespace(name="sha256"), "extensions": [],
        "public_key": EC.public_key,
    }  # fmt: skip
    return SimpleNamespace(**{**plain, **others})


def extension(oid: str, *, critical: bool) -> SimpleNamespace:
    return SimpleNamespace(critical=critical, oid=SimpleNamespace(dotted_string=oid))


@pytest.mark.parametrize(
    ("certificate", "plain"),
    [
        (found(), True),
        (found(not_valid_before_utc=NOW + dt.timedelta(0, 1)), False),
        (found(not_valid_after_utc=NOW - dt.timedelta(0, 1)), False),
        (found(not_valid_after_utc=NOW + dt.timedelta(30, -1)), False),
        (found(serial_number=0), False),
        (found(serial_number=-1), False),
        (found(signature_hash_algorithm=None), False),
        (found(signature_hash_algorithm=SimpleNamespace(name="sha512")), True),
        (found(signature_hash_algorithm=SimpleNamespace(name="sha1")), False),
        (found(extensions=[extension("2.5.29.15", critical=True), extension("1.2.3", critical=False)]), True),
        (found(extensions=[extension("2.5.29.15", critical=True), extension("1.2.3", critical=True)]), False),
        (found(extensions=[extension("2.5.29.30", critical=True)]), False),
        (found(public_key=ec.generate_private_key(ec.SECP384R1()).public_key), False),
        (found(public_key=RSA4096.public_key), False),
        (found(public_key=rsa.generate_private_key(65537, 3072).public_key), True),
    ],
)
def test_what_makes_a_certificate_plain(certificate, plain):
    judge = PkiJudge(NOW)
    judge._library.load_certificate = lambda _der: certificate
    assert (judge._plain_certificate(b"x") is not None) is plain


def test_a_new_check_that_can_refuse_ends_the_quick_way(monkeypatch):
    new = SimpleNamespace(id="pki-new", risky=False, level="error")
    monkeypatch.setattr(checks, "CHECKS", [*checks.CHECKS, new])
    monkeypatch.setattr(set_checks, "SET_CHECKS", (*set_checks.SET_CHECKS, new))
    judge = PkiJudge(NOW)
    assert not judge.quick_items
    assert not judge.quick_sets


def test_a_verdict_is_of_one_place_and_few_are_kept():
    judge = PkiJudge(NOW)
    _, data = CORPUS["certificate, rsa"]
    assert not judge.item("client_cert.0", data).warnings
    assert judge.item("client_ca.0", data).warnings
    for number in range(1000):
        judge.item("client_key.0", b"%d" % number)
    assert len(judge._known) < 1000


def test_all_checks_that_refuse_are_known_to_the_quick_way():
    """A new one is added to PROVEN together with what proves that it passes; until then nothing is quick."""
    assert _deciding(checks.CHECKS) <= PROVEN
    assert _deciding(set_checks.SET_CHECKS) <= PROVEN_OF_SETS
    assert PkiJudge(NOW).quick_items
    assert PkiJudge(NOW).quick_sets


def test_sets():
    judge = PkiJudge(NOW)
    pair = {"client_cert.0": certificate(EC), "client_key.0": key_bytes(EC)}
    assert not judge.sets_refused(pair, pair)
    wrong = {**pair, "client_key.0": key_bytes(RSA)}
    assert judge.sets_refused(["client_cert.0"], wrong)
    assert not judge.sets_refused(["mqtt_ca"], {**wrong, "mqtt_ca": builders.certificate(1, ca=True)})
    assert not judge.sets_refused(["client_cert.0"], {"client_cert.0": pair["client_cert.0"]})
    assert not judge.sets_refused(["client_cert.0"], {**pair, "client_key.0": b"damaged"})

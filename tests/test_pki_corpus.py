"""A corpus of sound and broken certificates and keys, on which OpenSSL must agree with the checks.

Where the firmware's mbedTLS differs from OpenSSL, the case says so, and it is mbedTLS that counts.
"""

from __future__ import annotations

import subprocess

import pki_maker as made
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7, pkcs12

from esp_at_tools.pki.checks import check_item, check_set
from esp_at_tools.pki.collection import CollectedItem, chains, check_collection

pytestmark = made.needs_openssl

TRADITIONAL, DER = PrivateFormat.TraditionalOpenSSL, Encoding.DER
LEAF, LEAF_PEM, KEY = made.issue(), made.pem(made.issue()), made.key_pem()
RSA_KEY = made.key_pem("rsa2048:device")
CSR = (
    x509.CertificateSigningRequestBuilder(made.name("x"))
    .sign(made.key("p256:device"), hashes.SHA256())
    .public_bytes(Encoding.PEM)
)
CRL = (
    x509.CertificateRevocationListBuilder(made.name("x"), made.NOW, made.NOW + made.DAY)
    .sign(made.key("p256:device"), hashes.SHA256())
    .public_bytes(Encoding.PEM)
)
P12 = pkcs12.serialize_key_and_certificates(b"x", made.key("p256:device"), LEAF, None, NoEncryption())
OPENSSH = made.key("p256:device").private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def openssl(*words: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(made.OPENSSL), *map(str, words)], capture_output=True, check=False)


# --- one certificate, or one key: can it be read? ----------------------------------------------------

AGREE, FIRMWARE_REFUSES = "agree", "only the firmware refuses"
CERTIFICATES = {
    "sound": (LEAF_PEM, AGREE),
    "DER": (made.der(LEAF), AGREE),
    "CRLF": (LEAF_PEM.replace(b"\n", b"\r\n"), AGREE),
    "text before": (b"subject=x\n" + LEAF_PEM, AGREE),
    "text after": (LEAF_PEM + b"more\n", AGREE),
    "no final newline": (LEAF_PEM.rstrip(), AGREE),
    "a chain": (LEAF_PEM + made.pem(made.root()), AGREE),
    "a key after it": (LEAF_PEM + KEY, AGREE),
    "RSA": (made.pem(made.issue(own="rsa2048:device")), AGREE),
    "P-384": (made.pem(made.issue(own="p384:device")), AGREE),
    "P-521": (made.pem(made.issue(own="p521:device")), AGREE),
    "Brainpool": (made.pem(made.issue(own="bp256:device")), AGREE),
    "Ed25519": (made.pem(made.issue(own="ed25519:device")), FIRMWARE_REFUSES),
    "SHA-3": (made.pem(made.issue(algorithm="sha3")), FIRMWARE_REFUSES),
    "indented": (LEAF_PEM.replace(b"\n", b"\n "), AGREE),
    "only CR": (LEAF_PEM.replace(b"\n", b"\r"), AGREE),
    "critical extension": (made.pem(made.issue(
        extra=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]
    )), FIRMWARE_REFUSES),
    "one line": (b"-----BEGIN CERTIFICATE-----\n" + b"".join(LEAF_PEM.splitlines()[1:-1])
                 + b"\n-----END CERTIFICATE-----\n", AGREE),
    "empty": (b"", AGREE),
    "text": (b"hello\n", AGREE),
    "cut off": (LEAF_PEM[:300], AGREE),
    "cut DER": (made.der(LEAF)[:-9], AGREE),
    "damaged base64": (LEAF_PEM.replace(b"\nMI", b"\n!!"), AGREE),
    "bytes missing": (LEAF_PEM[:100] + LEAF_PEM[104:], AGREE),
    "END of another label": (LEAF_PEM.replace(b"END CERTIFICATE", b"END CERT"), AGREE),
    "request": (CSR, AGREE),
    "revocation list": (CRL, AGREE),
    "public key": (made.public_pem(), AGREE),
    "private key": (KEY, AGREE),
    "PKCS#7": (pkcs7.serialize_certificates([LEAF], Encoding.PEM), AGREE),
    "UTF-16": (LEAF_PEM.decode().encode("utf-16"), AGREE),
}  # fmt: skip
KEYS = {
    "PKCS#8": (KEY, AGREE),
    "SEC 1": (made.key_pem(form=TRADITIONAL), AGREE),
    "RSA PKCS#8": (RSA_KEY, AGREE),
    "RSA PKCS#1": (made.key_pem("rsa2048:device", TRADITIONAL), AGREE),
    "SEC 1 DER": (made.key_pem(form=TRADITIONAL, encoding=DER), AGREE),
    "CRLF": (KEY.replace(b"\n", b"\r\n"), AGREE),
    "certificate before": (LEAF_PEM + KEY, AGREE),
    "Ed25519": (made.key_pem("ed25519:device"), FIRMWARE_REFUSES),
    "locked": (made.key_pem(password=b"secret"), AGREE),
    "locked RSA": (made.key_pem("rsa2048:device", TRADITIONAL, b"secret"), AGREE),
    "cut off": (KEY[:120], AGREE),
    "damaged": (KEY[:60] + KEY[64:], AGREE),
    "certificate": (LEAF_PEM, AGREE),
    "public key": (made.public_pem(), AGREE),
    "request": (CSR, AGREE),
    "empty": (b"", AGREE),
}


def verdicts_agree(ours: bool, theirs: bool, expected: str) -> None:
    wanted = {
        AGREE: ours == theirs,
        FIRMWARE_REFUSES: theirs and not ours,
    }
    assert wanted[expected], (ours, theirs)


@pytest.mark.parametrize("case", CERTIFICATES)
def test_certificates(case, tmp_path):
    data, expected = CERTIFICATES[case]
    (tmp_path / "x").write_bytes(data)
    theirs = openssl("x509", "-noout", "-in", tmp_path / "x").returncode == 0
    found = check_item("certificate", data, now=made.NOW)
    verdicts_agree(not any(each.level == "error" for each in found), theirs, expected)


@pytest.mark.parametrize("case", KEYS)
def test_keys(case, tmp_path):
    data, expected = KEYS[case]
    (tmp_path / "x").write_bytes(data)
    theirs = openssl("pkey", "-noout", "-passin", "pass:", "-in", tmp_path / "x").returncode == 0
    found = check_item("private_key", data, now=made.NOW)
    verdicts_agree(not any(each.level == "error" for each in found), theirs, expected)


# --- a key and a certificate ---------------------------------------------------------------------------

PAIRS = {
    "EC": (LEAF_PEM, KEY),
    "EC, SEC 1": (LEAF_PEM, made.key_pem(form=TRADITIONAL)),
    "RSA": (made.pem(made.issue(own="rsa2048:device")), RSA_KEY),
    "another of the kind": (LEAF_PEM, made.key_pem("p256:other")),
    "another kind": (LEAF_PEM, RSA_KEY),
    "another curve": (LEAF_PEM, made.key_pem("p384:device")),
    "of the issuer": (LEAF_PEM + made.pem(made.root()), made.key_pem("p256:root")),
}


@pytest.mark.parametrize("case", PAIRS)
def test_pairs(case, tmp_path):
    certificate, key = PAIRS[case]
    (tmp_path / "c").write_bytes(certificate)
    (tmp_path / "k").write_bytes(key)
    ours = not any(found.id == "pki-mismatch" for found in check_set(None, certificate, key))
    of_certificate = openssl("x509", "-pubkey", "-noout", "-in", tmp_path / "c").stdout
    assert ours == (of_certificate == openssl("pkey", "-pubout", "-in", tmp_path / "k").stdout)


def test_a_key_of_a_later_certificate_is_told_so():
    (found,) = check_set(None, *PAIRS["of the issuer"])
    assert "belongs to a later certificate of the chain" in found.message


# --- a certificate and what the other side trusts --------------------------------------------------------

ROOT = made.root()
MIDDLE = made.issue("middle", own="p256:middle", ca=True)
BELOW = made.issue("device", "middle", signer="p256:middle")
CLIENT, SERVER = (x509.ExtendedKeyUsage([oid]) for oid in (made.CLIENT, made.SERVER))

CHANGED = x509.load_der_x509_certificate(made.der(LEAF)[:-1] + bytes([made.der(LEAF)[-1] ^ 1]))

# chain, authorities, purpose
TRUST = {
    "sound": ([LEAF], [ROOT], "client"),
    "for a server": ([made.issue(extra=[(SERVER, False)])], [ROOT], "server"),
    "for a client": ([made.issue(extra=[(CLIENT, False)])], [ROOT], "client"),
    "through an intermediate": ([BELOW, MIDDLE], [ROOT], "client"),
    "of two authorities": ([LEAF], [made.root("other", "p256:x"), ROOT], "client"),
    "digitalSignature": ([made.issue(extra=[(made.usage("digital_signature"), True)])], [ROOT], "client"),
    "the root is in the chain": ([BELOW, MIDDLE, ROOT], [ROOT], "client"),
    "expired": ([made.issue(days=(-9, -1))], [ROOT], "client"),
    "not yet valid": ([made.issue(days=(1, 9))], [ROOT], "client"),
    "expired root": ([LEAF], [made.root(days=(-9, -1))], "client"),
    "expired intermediate": ([BELOW, made.issue("middle", own="p256:middle", ca=True, days=(-9, -1))], [ROOT],
                             "client"),
    "another authority": ([LEAF], [made.root("other", "p256:x")], "client"),
    "the same name": ([LEAF], [made.root(own="p256:x")], "client"),
    "the intermediate is missing": ([BELOW], [ROOT], "client"),
    "the intermediate is none": ([BELOW, made.issue("middle", own="p256:middle")], [ROOT], "client"),
    "no authority": ([LEAF], [made.issue("root", own="p256:root", signer="p256:root")], "client"),
    "may not sign": ([LEAF], [made.root(extra=[(made.usage("crl_sign"), True)])], "client"),
    "path too long": ([BELOW, MIDDLE], [made.root(path_length=0)], "client"),
    "path long enough": ([BELOW, MIDDLE], [made.root(path_length=1)], "client"),
    "a server's for a client": ([made.issue(extra=[(SERVER, False)])], [ROOT], "client"),
    "a client's for a server": ([made.issue(extra=[(CLIENT, False)])], [ROOT], "server"),
    "only for revocation lists": ([made.issue(extra=[(made.usage("crl_sign"), True)])], [ROOT], "client"),
    "changed": ([CHANGED], [ROOT], "client"),
}  # fmt: skip
_DOUBTS = {"pki-extended-key-usage", "pki-key-usage", "pki-ca-usage", "pki-not-ca"}


@pytest.mark.parametrize("case", TRUST)
def test_trust(case, tmp_path):
    chain, authorities, purpose = TRUST[case]
    (tmp_path / "leaf").write_bytes(made.pem(chain[0]))
    (tmp_path / "chain").write_bytes(made.pem(*chain[1:]))
    (tmp_path / "ca").write_bytes(made.pem(*authorities))
    words = ["-untrusted", tmp_path / "chain"] if chain[1:] else []
    words = [*words, "-attime", int(made.NOW.timestamp()), "-purpose", f"ssl{purpose}", "-no-CApath"]
    done = openssl("verify", *words, "-CAfile", tmp_path / "ca", tmp_path / "leaf")
    ca_role, role = ("client.0", "server") if purpose == "server" else ("mqtt", "mqtt")
    items = [
        CollectedItem("ca", "ca", ca_role, made.pem(*authorities)),
        CollectedItem("certificate", "certificate", role, made.pem(*chain)),
    ]
    found = [each.finding for each in check_collection(items, now=made.NOW)]
    ours = chains(items)[0].chain.state == "trusted" and not any(
        each.level == "error" or each.id in _DOUBTS for each in found
    )
    assert ours == (done.returncode == 0), (done.stderr, found)


def test_the_corpus_is_large_enough():
    assert len(CERTIFICATES) + len(KEYS) + len(PAIRS) + len(TRUST) >= 75

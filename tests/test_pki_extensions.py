"""Checks of extensions, of chains, and of what a firmware was compiled to accept."""

from __future__ import annotations

import pki_maker as made
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding

from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.pki.chain import Authorities, find_chain
from esp_at_tools.pki.checks import check_item, check_set
from esp_at_tools.pki.collection import CollectedItem, chains, check_collection
from esp_at_tools.pki.extension_checks import EXTENSION_CHECKS
from esp_at_tools.pki.items import read_pki
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.pki.tls_support import OFFICIAL, TlsSupport
from esp_at_tools.settings.pki_fit import check_room, measure

BLOB = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
CONSTRAINTS = x509.NameConstraints([x509.DNSName("example.com")], None)


def bad_extensions() -> bytes:
    """A certificate whose key usage is no bit string."""
    data = made.der(made.issue(extra=[(made.usage("digital_signature"), True)]))
    start = data.index(bytes.fromhex("0603551d0f"))
    at = data.index(b"\x03\x02", start)
    return data[:at] + b"\x0c" + data[at + 1 :]


def long_chain() -> bytes:
    own = "rsa4096:long"
    return made.pem(*(made.root(f"c{n}", own) for n in range(4)))


def with_usage(*granted: str) -> bytes:
    return made.pem(made.issue(extra=[(made.usage(*granted), True)]))


def out_of_order() -> bytes:
    return made.pem(made.issue(), made.root("other"), made.root())


def root_with(extension: x509.ExtensionType) -> bytes:
    return made.pem(made.root(extra=[(extension, True)]))


def for_servers() -> bytes:
    return made.pem(made.issue(extra=[(x509.ExtendedKeyUsage([made.SERVER]), False)]))


def critical() -> bytes:
    return made.pem(made.issue(extra=[(BLOB, True)]))


CASES = {
    "critical": ("certificate", critical, "pki-critical-extension"),
    "critical constraints": ("ca", lambda: root_with(CONSTRAINTS), "pki-critical-extension"),
    "bad extensions": ("certificate", bad_extensions, "pki-bad-extensions"),
    "long chain": ("certificate", long_chain, "pki-chain-size"),
    "no keyCertSign": ("ca", lambda: root_with(made.usage("crl_sign")), "pki-ca-usage"),
    "no digitalSignature": ("certificate", lambda: with_usage("crl_sign"), "pki-key-usage"),
    "for servers": ("certificate", for_servers, "pki-extended-key-usage"),
    "twice": ("ca", lambda: made.pem(made.root()) * 2, "pki-duplicate-certificate"),
    "order": ("certificate", out_of_order, "pki-chain-order"),
    "CA as leaf": ("certificate", lambda: made.pem(made.root()), "pki-leaf-is-ca"),
}


def ids(kind, data, **options) -> list[str]:
    return [finding.id for finding in check_item(kind, data, now=made.NOW, name="x", **options)]


@pytest.mark.parametrize("case", CASES)
def test_extensions(case):
    kind, make, expected = CASES[case]
    assert expected in ids(kind, make(), purpose="client")


def test_every_check_has_a_case():
    assert {check.id for check in EXTENSION_CHECKS} == {case[2] for case in CASES.values()} | {
        "pki-no-server-name"
    }


def test_sound_certificates_have_no_findings():
    names = x509.SubjectAlternativeName([x509.DNSName("x")])
    extra = [(made.usage("digital_signature"), True), (names, False), (BLOB, False)]
    for purpose, oid in (("server", made.SERVER), ("client", made.CLIENT)):
        sound = made.issue(extra=[*extra, (x509.ExtendedKeyUsage([oid]), False)])
        assert ids("certificate", made.pem(sound, made.root()), purpose=purpose) == [
            "pki-several-certificates"
        ]
    anything = x509.ExtendedKeyUsage([x509.ObjectIdentifier("2.5.29.37.0")])
    assert ids("certificate", made.pem(made.issue(extra=[(anything, False)])), purpose="client") == []
    assert ids("certificate", made.pem(made.issue()), purpose="server") == ["pki-no-server-name"]
    assert ids("ca", made.pem(made.root(extra=[(made.usage("key_cert_sign"), True)]))) == []


def test_what_is_no_authority():
    assert ids("ca", made.pem(made.root(constraints=False))) == ["pki-not-ca"]
    assert ids("ca", made.pem(made.issue())) == ["pki-not-ca"]


# --- what a firmware accepts -----------------------------------------------------------------------


def support(**options: str) -> TlsSupport:
    official = {"MBEDTLS_ECP_C": "y", "MBEDTLS_ASYMMETRIC_CONTENT_LEN": "y",
                "MBEDTLS_SSL_OUT_CONTENT_LEN": "4096"}  # fmt: skip
    found = TlsSupport.from_sdkconfig(Sdkconfig({**official, **options}))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("options", "kind", "make", "expected"),
    [
        ({"MBEDTLS_ECP_DP_SECP256R1_ENABLED": "n"}, "private_key", made.key_pem, "pki-unsupported-key"),
        ({"MBEDTLS_ECDSA_C": "n"}, "certificate", lambda: made.pem(made.issue()), "pki-unsupported-key"),
        (
            {"MBEDTLS_HARDWARE_MPI": "y", "IDF_TARGET": '"esp32c3"'},
            "private_key",
            lambda: made.key_pem("rsa4096:long"),
            "pki-unsupported-key",
        ),
        (
            {"MBEDTLS_SHA512_C": "n"},
            "certificate",
            lambda: made.pem(made.issue(algorithm="sha384")),
            "pki-unsupported-signature",
        ),
        ({"MBEDTLS_PEM_PARSE_C": "n"}, "private_key", made.key_pem, "pki-no-pem"),
        (
            {"MBEDTLS_SSL_OUT_CONTENT_LEN": "256"},
            "certificate",
            lambda: made.pem(made.issue()),
            "pki-chain-size",
        ),
    ],
)
def test_what_a_firmware_was_compiled_without(options, kind, make, expected):
    assert expected not in ids(kind, make(), tls=support())
    assert expected in ids(kind, make(), tls=support(**options))


def test_dates_that_nobody_looks_at():
    """mbedTLS without MBEDTLS_HAVE_TIME_DATE compares none; a peer still does those of the device."""
    late, early = made.root(days=(-9, -1)), made.root(days=(1, 900))
    old = made.pem(made.issue(days=(-9, -1)))
    for option in ("MBEDTLS_HAVE_TIME_DATE", "MBEDTLS_HAVE_TIME"):
        unchecked = support(**{option: "n"})
        assert not unchecked.checks_dates
        for authority, expected in ((late, "pki-expired"), (early, "pki-not-yet-valid")):
            assert ids("ca", made.pem(authority), tls=support()) == [expected]
            (found,) = check_item("ca", made.pem(authority), now=made.NOW, tls=unchecked)
            assert (found.id, found.level, found.risky) == ("pki-dates-unchecked", "info", False)
        assert ids("certificate", old, tls=unchecked) == ["pki-expired"]
    assert ids("ca", made.pem(made.root(days=(-9, 9))), tls=unchecked) == []


def test_rsa_keys_that_are_for_rsassa_pss_alone():
    """mbedTLS knows the OID for signatures (X509_RSASSA_PSS_SUPPORT), and for keys in no configuration."""
    certificate = made.pss_keyed(made.der(made.issue(own="rsa2048:pss")))
    key = made.pss_keyed(made.key_pem("rsa2048:pss", encoding=Encoding.DER))
    for kind, data in (("certificate", certificate), ("private_key", key)):
        assert read_pki(data, "x", kind).key_type == "rsassa-pss2048"
        assert "pki-unsupported-key" in ids(kind, data)
        assert "pki-unsupported-key" in ids(kind, data, tls=support())
    assert check_set(None, certificate, key) == []


def test_a_signature_with_rsassa_pss_is_sound():
    builder = x509.CertificateBuilder(
        made.name("root"), made.name("device"), made.key("rsa2048:pss").public_key(), 5,
        made.NOW - made.DAY, made.NOW + 900 * made.DAY,
    )  # fmt: skip
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    signed = builder.sign(made.key("rsa2048:root"), hashes.SHA256(), rsa_padding=scheme)
    data = made.pem(signed)
    assert ids("certificate", data) == []
    assert read_pki(data, "x").key_type == "rsa2048"
    both = made.pss_keyed(made.der(signed))
    assert read_pki(both, "x").key_type == "rsassa-pss2048"


def test_limits_of_rsa():
    large = {"MBEDTLS_HARDWARE_MPI": "y", "IDF_TARGET": '"esp32c3"'}
    assert support(**large).max_rsa_bits == 3072
    assert support(**large, MBEDTLS_LARGE_KEY_SOFTWARE_MPI="y").max_rsa_bits == 8192
    assert support(MBEDTLS_HARDWARE_MPI="y", IDF_TARGET='"esp32"').max_rsa_bits == 4096
    assert support().max_rsa_bits == 8192
    allowed = support(MBEDTLS_ALLOW_UNSUPPORTED_CRITICAL_EXT="y")
    assert "pki-critical-extension" not in ids("certificate", CASES["critical"][1](), tls=allowed)


def test_a_file_that_configures_no_tls():
    assert TlsSupport.from_sdkconfig(Sdkconfig({"IDF_TARGET": '"esp32"'})) is None


def test_official_firmware_agrees_with_the_defaults(shared):
    tried = 0
    for path in (*shared.glob("esp-at/*/expected/*/*/sdkconfig"), *shared.glob("firmware/*/sdkconfig")):
        found = TlsSupport.from_sdkconfig(Sdkconfig.from_text(path.read_text()))
        assert found is not None
        assert (found.curves, found.hashes, found.pem) == (OFFICIAL.curves, OFFICIAL.hashes, True), path
        assert (found.max_sent, found.critical_extensions) == (OFFICIAL.max_sent, False), path
        assert found.max_rsa_bits >= OFFICIAL.max_rsa_bits, path
        tried += 1
    assert tried >= 40


# --- chains ----------------------------------------------------------------------------------------


def test_chains():
    middle = made.issue("middle", "root", own="p256:middle", ca=True)
    leaf = made.issue("device", "middle", signer="p256:middle")
    root = made.root()
    impostor = made.root("root", "p256:impostor")
    not_ca = made.issue("root", "root", own="p256:root", ca=False)
    no_sign = made.root(extra=[(made.usage("crl_sign"), True)])

    def state(chain, *authorities):
        return find_chain(chain, Authorities(authorities)).state

    assert state([leaf, middle], root) == "trusted"
    assert state([leaf], middle) == "trusted"
    assert state([leaf, root, middle], root) == "trusted"
    assert state([leaf], leaf) == "trusted"
    assert state([leaf], root) == "unknown-issuer"
    assert state([leaf, made.issue("middle", "root", own="p256:middle")], root) == "not-an-issuer"
    assert state([leaf, middle], made.root(path_length=0)) == "path-length"
    assert state([leaf, middle], made.root(path_length=1)) == "trusted"
    assert state([made.issue()], impostor) == "wrong-signature"
    assert state([made.issue()], impostor, root) == "trusted"
    assert state([made.issue()], not_ca) == "not-an-issuer"
    assert state([made.issue()], no_sign) == "not-an-issuer"
    long = [
        made.issue(f"n{n}", f"n{n + 1}", own=f"p256:n{n}", signer=f"p256:n{n + 1}", ca=True)
        for n in range(12)
    ]
    assert state(long, made.root("n12", "p256:n12")) == "too-long"
    assert state(long[3:], made.root("n12", "p256:n12")) == "trusted"
    loop = [made.issue("a", "b", own="p256:a", signer="p256:b", ca=True),
            made.issue("b", "a", own="p256:b", signer="p256:a", ca=True)]  # fmt: skip
    assert state(loop, root) == "unknown-issuer"


def collected(**items: bytes) -> list[CollectedItem]:
    named = {name.replace("__", "."): data for name, data in items.items()}
    return [
        CollectedItem(name, PKI_ITEMS[name].kind, PKI_ITEMS[name].role, data) for name, data in named.items()
    ]


def test_each_side_is_checked_with_the_ca_of_the_other():
    ours, theirs = made.root("ours", "p256:ours"), made.root("theirs", "p256:theirs")
    client = made.issue("c", "ours", own="p256:c", signer="p256:ours")
    server = made.issue("s", "theirs", own="p256:s", signer="p256:theirs")
    items = collected(
        server_ca=made.pem(ours), server_cert=made.pem(server), server_key=made.key_pem("p256:s"),
        client_ca__0=made.pem(theirs), client_cert__0=made.pem(client), client_key__0=made.key_pem("p256:c"),
    )  # fmt: skip
    assert [(fact.certificate, fact.checked_by, fact.chain.state) for fact in chains(items)] == [
        ("server_cert", ("client_ca.0",), "trusted"),
        ("client_cert.0", ("server_ca",), "trusted"),
    ]
    assert {found.finding.level for found in check_collection(items, now=made.NOW)} == {"info"}
    impostor = made.pem(made.root("ours", "p256:impostor"))
    wrong = [CollectedItem("server_ca", "ca", "server", impostor), *items[1:]]
    (found,) = [each for each in check_collection(wrong, now=made.NOW) if each.finding.level != "info"]
    assert (found.about, found.finding.id, found.finding.level) == (
        "client_cert.0", "pki-bad-signature", "warning",
    )  # fmt: skip
    stranger = [CollectedItem("server_ca", "ca", "server", made.pem(made.root("else"))), *items[1:]]
    told = [each.finding for each in check_collection(stranger, now=made.NOW)]
    assert [each.level for each in told if each.id == "pki-chain-unknown"] == ["info"]
    assert chains(items[3:5])[0].chain is None


def test_room():
    small = measure(collected(mqtt_ca=b"x" * 32))
    assert (small.items, small.size, small.entries) == (1, 32, 4)  # namespace, index, header, value
    assert (small.small, small.large) == (27 * 126 - 150, 30 * 126 - 150)
    assert check_room(collected(mqtt_ca=b"x" * 8000)) == []
    assert [each.id for each in check_room(collected(mqtt_ca=b"x" * 8200))] == ["pki-legacy-size"]
    levels = {}
    for size in (3600, 4000, 5000):
        items = collected(**{name.replace(".", "__"): b"x" * size for name in list(PKI_ITEMS)[:27]})
        levels[size] = [each.level for each in check_room(items) if each.id == "pki-total-size"]
    assert levels == {3600: [], 4000: ["warning"], 5000: ["error"]}

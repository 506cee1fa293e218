"""Which authority signed a certificate, what is damaged, and what may not sign; OpenSSL must agree."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import builders
import pki_maker as made
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from pki_folders import NOW, checked, fill

from esp_at_tools.pki.collection import CollectedItem, chains, check_collection
from esp_at_tools.pki.signatures import signed_by


def skid(own: str) -> tuple[x509.ExtensionType, bool]:
    return x509.SubjectKeyIdentifier.from_public_key(made.key(own).public_key()), False


def akid(own: str) -> tuple[x509.ExtensionType, bool]:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(made.key(own).public_key()), False


def damaged(certificate: x509.Certificate) -> x509.Certificate:
    """The same with another bit in its signature."""
    data = made.der(certificate)
    return x509.load_der_x509_certificate(data[:-1] + bytes([data[-1] ^ 1]))


def verifies(folder: Path, certificate: str, *authorities: str, chain: str = "") -> bool:
    """What ``openssl verify`` says, with these files and no other."""
    trusted = folder / ".trusted"
    trusted.write_bytes(b"".join((folder / name).read_bytes() for name in authorities))
    words = ["-untrusted", folder / chain] if chain else []
    command = [made.OPENSSL, "verify", "-no-CApath", "-no-CAstore", "-attime", int(made.NOW.timestamp())]
    command += [*words, "-CAfile", trusted, folder / certificate]
    return subprocess.run([str(each) for each in command], capture_output=True, check=False).returncode == 0


ROOT, OTHER = made.root(extra=[skid("p256:root")]), made.root("other", "p256:x", extra=[skid("p256:x")])
AGAIN = made.root(own="p256:again", extra=[skid("p256:again")])
LEAF = made.issue(extra=[akid("p256:root")])
RSA_ROOT = made.root("rsa", "rsa2048:root")
RSA_LEAF = made.issue("r", "rsa", signer="rsa2048:root")
MIDDLE = made.issue("middle", own="p256:middle", ca=True)
BELOW = made.issue("below", "middle", own="p256:below", signer="p256:middle")

POOLS = {
    "two authorities": {"leaf": LEAF, "root": ROOT, "other": OTHER},
    "two of one name": {"leaf": LEAF, "root": ROOT, "again": AGAIN},
    "the wrong one of two": {"leaf": LEAF, "again": AGAIN, "other": OTHER},
    "another kind of key under its name": {"leaf": made.issue(), "root": made.root(own="rsa2048:root")},
    "RSA": {"leaf": RSA_LEAF, "root": RSA_ROOT, "other": OTHER},
    "damaged": {"leaf": damaged(LEAF), "root": ROOT},
    "damaged, without identifiers": {"leaf": damaged(made.issue()), "root": made.root()},
    "through an intermediate": {"leaf": BELOW, "middle": MIDDLE, "root": ROOT},
    "through one that may not": {
        "leaf": BELOW, "middle": made.issue("middle", own="p256:middle", ca=True,
                                            extra=[(made.usage("crl_sign"), True)]), "root": ROOT,
    },
    "too many below": {"leaf": BELOW, "middle": MIDDLE, "root": made.root(path_length=0)},
    "just as many below": {"leaf": BELOW, "middle": MIDDLE, "root": made.root(path_length=1)},
    "a root that may not": {"leaf": LEAF, "root": made.root(extra=[(made.usage("crl_sign"), True)])},
}  # fmt: skip


@made.needs_openssl
@pytest.mark.parametrize("case", POOLS)
def test_only_those_that_signed_are_named(cli, tmp_path, case):
    pool = POOLS[case]
    folder = fill(tmp_path, {f"{name}.pem": made.pem(each) for name, each in pool.items()})
    authorities = [f"{name}.pem" for name in pool if name != "leaf"]
    document = checked(cli, folder)
    (leaf,) = [item for item in document["items"] if item["name"] == "leaf.pem"]
    assert (leaf["chain"] == "trusted") == verifies(folder, "leaf.pem", *authorities)
    for name in authorities:  # with its parents, since OpenSSL wants all up to the root
        above = [other for other in authorities if other == name or pool[other[:-4]].subject ==
                 pool[name[:-4]].issuer != pool[name[:-4]].subject]  # fmt: skip
        assert (name in leaf["checked_by"]) == (
            verifies(folder, "leaf.pem", *above) and pool[name[:-4]].subject == pool["leaf"].issuer
        ), name
    warned = {each["id"] for each in document["findings"] if each["level"] == "warning"}
    assert (leaf["chain"] in ("not-an-issuer", "path-length")) == ("pki-chain" in warned)
    assert (leaf["chain"] == "wrong-signature") == ("pki-bad-signature" in warned)


def test_where_each_belongs_is_named(cli, tmp_path):
    files = {"root.pem": made.pem(ROOT), "other.pem": made.pem(OTHER)}
    for number in range(12):
        own = f"p256:many{number}"
        leaf = made.issue(f"d{number}", own=own, extra=[akid("p256:root")])
        files |= {f"d{number}.crt": made.pem(leaf), f"d{number}.key": made.key_pem(own)}
    told = cli("pki", "check", fill(tmp_path, files), "--at", NOW).out.splitlines()
    rows = {line.split()[0]: line for line in told if line.startswith("d")}
    assert rows["d7.key"].split()[-1] == "d7.crt"
    assert rows["d7.crt"].split()[-1] == "root.pem"
    assert list(rows) == [f"d{number}.crt" for number in range(12)] + [
        f"d{number}.key" for number in range(12)
    ]


def test_a_key_whose_certificate_cannot_be_read_belongs_to_no_other(cli, tmp_path):
    leaf = made.pem(made.issue())
    for name, broken in {
        "old label": leaf.replace(b"CERTIFICATE", b"X509 CERTIFICATE"),
        "trusted": leaf.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
        "dashes": leaf.replace(b"-----BEGIN", b"----BEGIN"),
    }.items():
        for files in (("mqtt_ca.pem", "mqtt_cert.pem", "mqtt_key.pem"), ("ca.pem", "d.crt", "d.key")):
            contents = dict(zip(files, (made.pem(ROOT), broken, made.key_pem()), strict=True))
            contents["stray.crt"] = made.pem(made.issue("stray", own="p256:stray"))
            folder = fill(tmp_path / name / files[0], contents)
            done = cli("pki", "check", folder, "--at", NOW)
            shown = Path(files[2]).stem if files[0].startswith("mqtt") else files[2]
            (row,) = [line for line in done.out.splitlines() if line.startswith(f"{shown} ")]
            assert row.endswith("ec256"), (name, row)
            document = json.loads(cli("pki", "check", folder, "--at", NOW, "--json").out)
            assert "pki-mismatch" not in {each["id"] for each in document["findings"]}


# --- signatures --------------------------------------------------------------------------------------


def test_what_signed():
    assert signed_by(LEAF, ROOT)
    assert not signed_by(damaged(LEAF), ROOT)
    assert not signed_by(LEAF, RSA_ROOT)
    assert not signed_by(RSA_LEAF, ROOT)
    assert not signed_by(RSA_LEAF, made.root("rsa", "ed25519:root"))
    edwards = made.root("e", "ed25519:root")
    assert signed_by(edwards, edwards)
    assert not signed_by(damaged(edwards), edwards)
    builder = x509.CertificateBuilder(
        made.name("rsa"), made.name("d"), made.key().public_key(), 5, made.NOW, made.NOW + made.DAY
    )
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    pss = builder.sign(made.key("rsa2048:root"), hashes.SHA256(), rsa_padding=scheme)
    assert signed_by(pss, RSA_ROOT)
    assert not signed_by(damaged(pss), RSA_ROOT)


def collected(role: str, **parts: x509.Certificate) -> list[CollectedItem]:
    return [
        CollectedItem(f"{role}_{name}", "ca" if name == "ca" else "certificate", role, made.pem(each))
        for name, each in parts.items()
    ]


# authority, certificate → what is told of them, in one set of the firmware's
DAMAGE = {
    "sound": (ROOT, LEAF, set()),
    "a bit of it": (ROOT, damaged(LEAF), {("pki-bad-signature", "warning")}),
    "no identifier in the certificate": (ROOT, damaged(made.issue()), {("pki-bad-signature", "warning")}),
    "no identifier in the authority": (made.root(), damaged(LEAF), {("pki-bad-signature", "warning")}),
    "made anew, with another identifier": (AGAIN, LEAF, {("pki-wrong-issuer", "info")}),
    "another name": (OTHER, LEAF, {("pki-chain-unknown", "info")}),
    "the authority": (damaged(ROOT), LEAF, {("pki-bad-signature", "warning")}),
    "may not sign": (made.issue("root", own="p256:root"), LEAF,
                     {("pki-not-ca", "warning"), ("pki-chain", "warning")}),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_what_is_told_of_a_set(case):
    authority, certificate, expected = DAMAGE[case]
    items = collected("mqtt", ca=authority, cert=certificate)
    found = [each.finding for each in check_collection(items, now=made.NOW)]
    assert {(each.id, each.level) for each in found if each.id != "pki-incomplete-set"} == expected
    assert not any(each.risky for each in found)
    assert all(each.hint for each in found)


def test_a_chain_is_judged_within_its_item():
    broken = [CollectedItem("mqtt_cert", "certificate", "mqtt", made.pem(damaged(BELOW), MIDDLE))]
    (found,) = [each.finding for each in check_collection(broken, now=made.NOW)
                if each.finding.id == "pki-bad-signature"]  # fmt: skip
    assert "certificate 1 of it: its signature does not verify with certificate 2 of it" in found.message
    short = [CollectedItem("mqtt_cert", "certificate", "mqtt", made.pem(BELOW, MIDDLE)),
             CollectedItem("mqtt_ca", "ca", "mqtt", made.pem(made.root(path_length=0)))]  # fmt: skip
    (found,) = [each.finding for each in check_collection(short, now=made.NOW)
                if each.finding.id == "pki-chain"]  # fmt: skip
    assert (found.level, "mqtt_ca signed it, but its pathlen" in found.message) == ("warning", True)
    assert chains(short)[0].chain.state == "path-length"


def test_the_same_is_told_everywhere(cli, tmp_path):
    """In 'pki check' of files, 'modify-bin', 'inspect --check' and a batch."""
    import datetime as dt

    now = dt.datetime.now(dt.timezone.utc)
    files = {
        "image.bin": builders.image(),
        "mqtt_ca.pem": made.pem(made.root(now=now)),
        "mqtt_cert.pem": made.pem(damaged(made.issue(now=now))),
        "mqtt_key.pem": made.key_pem(),
        "devices.csv": b"id,mqtt_ca,mqtt_cert,mqtt_key\nd1,mqtt_ca.pem,mqtt_cert.pem,mqtt_key.pem\n",
    }
    image = fill(tmp_path, files) / "image.bin"
    told = "the certificate's signature does not verify with the CA certificate of its issuer's name"
    parts = [tmp_path / name for name in files if name.startswith("mqtt")]
    done = cli("pki", "check", *parts)
    assert (done.status, f"mqtt: {told}  [pki-bad-signature]" in done.out) == (0, True)
    changed = tmp_path / "changed.bin"
    options = [word for part in parts for word in ("--set", f"{part.stem}=@{part}")]
    done = cli("modify-bin", "--input", image, "--output", changed, *options)
    assert (done.status, told in done.err) == (0, True), done.err
    report = json.loads(cli("inspect", changed, "--check", "--json").out)["checks"]
    assert ("pki-bad-signature", "warning") in {(each["id"], each["level"]) for each in report}
    done = cli("batch", "--input", image, "--devices", tmp_path / "devices.csv", "--output", tmp_path / "out")
    assert (done.status, told in done.err) == (0, True), done.err


def test_official_certificates_are_no_damaged_ones(cli, shared):
    """ESP-AT's MQTT sample and others are of several authorities that share a name."""
    for version in ("v3.4.0.0", "v5.0.1.0"):
        raw = shared / "esp-at" / version / "components" / "customized_partitions" / "raw_data"
        document = checked(cli, raw, "--at", NOW)
        assert not {each["id"] for each in document["findings"]} & {"pki-bad-signature", "pki-chain"}
        states = {item["name"]: item["chain"] for item in document["items"] if item["kind"] == "certificate"}
        assert states["mqtt_cert"] == "another-key"
        assert states["client_cert.0"] == "trusted"

"""Folders as clouds and brokers hand them out, made into profiles."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import builders
import pki_maker as made
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
from cryptography.x509.oid import NameOID
from pki_folders import fill

from esp_at_tools.errors import InputError
from esp_at_tools.pki.importing import import_folder
from esp_at_tools.settings.profile import Profile

DEVICE = made.issue("device", "cloud", signer="p256:cloud")
DEVICE_KEY = made.key_pem()
ROOT = made.root("broker", "p256:broker")
CLOUD = made.root("cloud", "p256:cloud")


def amazon(number: int, own: str) -> bytes:
    """A root named as Amazon's."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Amazon"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Amazon Root CA {number}"),
        ]
    )
    like = made.root(own=own)
    builder = x509.CertificateBuilder(
        subject,
        subject,
        made.key(own).public_key(),
        number,
        like.not_valid_before_utc,
        like.not_valid_after_utc,
    )
    from cryptography.hazmat.primitives import hashes

    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return made.pem(builder.sign(made.key(own), hashes.SHA256()))


DIGICERT = ("US", "DigiCert Inc", "www.digicert.com", "DigiCert Global Root G2")
BALTIMORE = ("IE", "Baltimore", "CyberTrust", "Baltimore CyberTrust Root")


def public(parts: tuple[str, str, str, str]) -> bytes:
    """A root with the name of a public one."""
    from cryptography.hazmat.primitives import hashes

    kinds = (NameOID.COUNTRY_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME,
             NameOID.COMMON_NAME)  # fmt: skip
    subject = x509.Name([x509.NameAttribute(kind, text) for kind, text in zip(kinds, parts, strict=True)])
    own = f"p256:{parts[-1]}"
    since, until = made.NOW - made.DAY, made.NOW + 3000 * made.DAY
    builder = x509.CertificateBuilder(subject, subject, made.key(own).public_key(), 7, since, until)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return made.pem(builder.sign(made.key(own), hashes.SHA256()))


def p12(password: bytes = b"x") -> bytes:
    return pkcs12.serialize_key_and_certificates(
        b"x", made.key("p256:device"), DEVICE, None, BestAvailableEncryption(password)
    )


AWS = {
    "AmazonRootCA1.pem": amazon(1, "p256:a1"),
    "AmazonRootCA3.pem": amazon(3, "p256:a3"),
    "0a1b2c-certificate.pem.crt": made.pem(DEVICE),
    "0a1b2c-private.pem.key": made.key_pem(form=made.PrivateFormat.TraditionalOpenSSL),
    "0a1b2c-public.pem.key": made.public_pem(),
    "policy.json": b"{}",
}
MIDDLE = made.issue("middle", "azure", own="p256:middle", signer="p256:azure", ca=True)
AZURE_DEVICE = made.issue("device-1", "middle", signer="p256:middle")
AZURE = {
    "certs/azure-iot-test-only.root.ca.cert.pem": made.pem(made.root("azure", "p256:azure")),
    "certs/azure-iot-test-only.intermediate.cert.pem": made.pem(MIDDLE),
    "certs/new-device.cert.pem": made.pem(AZURE_DEVICE),
    "certs/new-device-full-chain.cert.pem": made.pem(AZURE_DEVICE, MIDDLE),
    "private/azure-iot-test-only.root.ca.key.pem": made.key_pem("p256:azure"),
    "private/azure-iot-test-only.intermediate.key.pem": made.key_pem("p256:middle"),
    "private/new-device.key.pem": DEVICE_KEY,
}
MOSQUITTO = {
    "ca.crt": made.pem(CLOUD),
    "ca.key": made.key_pem("p256:cloud"),
    "client.csr": b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    "client.crt": made.pem(DEVICE),
    "client.key": DEVICE_KEY,
}
SERVER_ONLY = made.issue(
    "server", "cloud", own="p256:server", signer="p256:cloud",
    extra=[(x509.ExtendedKeyUsage([made.SERVER]), False)],
)  # fmt: skip
EMQX = {**MOSQUITTO, "server.crt": made.pem(SERVER_ONLY), "server.key": made.key_pem("p256:server")}
LETS_ENCRYPT = {
    "cert.pem": made.pem(AZURE_DEVICE),
    "chain.pem": made.pem(MIDDLE),
    "fullchain.pem": made.pem(AZURE_DEVICE, MIDDLE),
    "privkey.pem": DEVICE_KEY,
}
SELF_SIGNED = made.issue("thumb", "thumb", signer="p256:device", constraints=False)

# files, options, what comes of it
FOLDERS = {
    "AWS IoT": (AWS, {}, ("AmazonRootCA1.pem", "0a1b2c-certificate.pem.crt", "0a1b2c-private.pem.key")),
    "Azure": (
        AZURE,
        {},
        (
            "certs/azure-iot-test-only.root.ca.cert.pem",
            "certs/new-device-full-chain.cert.pem",
            "private/new-device.key.pem",
        ),
    ),
    "Azure, self-signed": (
        {"root.crt": made.pem(ROOT), "c.crt": made.pem(SELF_SIGNED), "c.key": DEVICE_KEY},
        {},
        ("root.crt", "c.crt", "c.key"),
    ),
    "Mosquitto": (MOSQUITTO, {}, ("ca.crt", "client.crt", "client.key")),
    "EMQX, for a client": (EMQX, {}, ("ca.crt", "client.crt", "client.key")),
    "HiveMQ": ({"isrgrootx1.pem": made.pem(ROOT)}, {}, ("isrgrootx1.pem", None, None)),
    "AWS, one root of several": (
        {**AWS, "mine.pem": made.pem(CLOUD), "0.crt": made.pem(made.root("z", "p256:z"))},
        {},
        ("AmazonRootCA1.pem", "0a1b2c-certificate.pem.crt", "0a1b2c-private.pem.key"),
    ),
    "Azure, with the server's root": (
        {**AZURE, "certs/DigiCertGlobalRootG2.crt.pem": public(DIGICERT)},
        {},
        (
            "certs/DigiCertGlobalRootG2.crt.pem",
            "certs/new-device-full-chain.cert.pem",
            "private/new-device.key.pem",
        ),
    ),
    "Azure, with its old root": (
        {
            "a.pem": made.pem(CLOUD),
            "b.pem": public(BALTIMORE),
            "g.pem": public(DIGICERT),
            "c.crt": made.pem(DEVICE),
            "c.key": DEVICE_KEY,
        },
        {},
        ("g.pem", "c.crt", "c.key"),
    ),
    "Let's Encrypt": (LETS_ENCRYPT, {"role": "server"}, ("chain.pem", "fullchain.pem", "privkey.pem")),
    "one file": (
        {"ca.pem": made.pem(ROOT), "device.pem": made.pem(DEVICE) + DEVICE_KEY},
        {},
        ("ca.pem", "device.pem", "device.pem"),
    ),
    "DER and PEM": (
        {"c.der": made.der(DEVICE), "c.pem": made.pem(DEVICE), "k.pem": DEVICE_KEY},
        {},
        (None, "c.pem", "k.pem"),
    ),
    "names that lie": (
        {"key.pem": made.pem(DEVICE), "cert.pem": DEVICE_KEY, "private.key": made.pem(ROOT)},
        {},
        ("private.key", "key.pem", "cert.pem"),
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders(case, tmp_path):
    files, options, expected = FOLDERS[case]
    role = options.get("role", "mqtt")
    found = import_folder(fill(tmp_path, files), **options)
    wanted = dict(zip((f"{role}_ca", f"{role}_cert", f"{role}_key"), expected, strict=True))
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in found.files.items()} == {
        name: file for name, file in wanted.items() if file
    }
    named = set(found.files.values()) | {each.path for each in found.left_out}
    assert named == {tmp_path / name for name in files}
    target = tmp_path / "profile.yaml"
    target.write_bytes(found.profile(target))
    profile = Profile.load(target)
    assert {name: path.read_bytes() for name, path in profile.pki.items()} == {
        name: files[file] for name, file in wanted.items() if file
    }


def test_what_is_left_out_and_why(tmp_path):
    def reasons(files: dict[str, bytes], name: str) -> dict[str, str]:
        return {each.path.name: each.reason for each in import_folder(fill(tmp_path / name, files)).left_out}

    assert reasons(AWS, "aws") == {
        "0a1b2c-public.pem.key": "is a public key",
        "policy.json": "is no certificate or key",
        "AmazonRootCA3.pem": "is another certificate",
    }
    told = reasons(AZURE, "azure")
    assert told["new-device.cert.pem"] == "is the same certificate as new-device-full-chain.cert.pem"
    copied = reasons({**MOSQUITTO, "z.pem": MOSQUITTO["ca.crt"]}, "copied")
    assert copied["z.pem"] == "is the same certificate as ca.crt"
    assert (
        told["azure-iot-test-only.root.ca.key.pem"] == "is the key of an authority, which no device may have"
    )
    plain = {name: data for name, data in AZURE.items() if "full-chain" not in name}
    told = reasons(plain, "plain")
    assert told["azure-iot-test-only.intermediate.cert.pem"].startswith("issued new-device.cert.pem; append")
    assert reasons({**MOSQUITTO, "c.p12": p12()}, "p12")["c.p12"] == "is PKCS#12"


def test_a_folder_of_many_devices(cli, tmp_path):
    files = {"ca.crt": made.pem(CLOUD), "z.crt.jks": b"\xfe\xed\xfe\xed"}
    for number in range(25):
        own = f"p256:many{number}"
        leaf = made.issue(f"d{number}", "cloud", own=own, signer="p256:cloud")
        files |= {f"d{number}.crt": made.pem(leaf), f"d{number}.key": made.key_pem(own)}
    folder = fill(tmp_path, files)
    refused = cli("pki", "import", folder)
    assert refused.status == 2
    assert "holds 25 certificates with their keys" in refused.err
    assert "and 5 more" in refused.err
    told = cli("pki", "import", folder, "--certificate", "d7.crt").out.splitlines()
    assert sum(line.startswith("  left out") for line in told) == 13
    assert "z.crt.jks" in next(line for line in told if "left out" in line)  # what can be helped comes first
    assert "  left out      37 more files, which --json lists" in told


def test_named_files_are_what_they_are_named_for(tmp_path):
    files = {
        "client_cert.0.pem": made.pem(DEVICE),
        "client_key.0.pem": DEVICE_KEY,
        "mqtt_ca.pem": made.pem(ROOT),
    }
    found = import_folder(fill(tmp_path, files))
    assert list(found.files) == ["client_cert.0", "client_key.0", "mqtt_ca"]
    assert list(import_folder(tmp_path, role="wss.1").files) == ["wss_ca.1", "wss_cert.1", "wss_key.1"]


TWO = {**MOSQUITTO, "other.crt": made.pem(made.issue("other", "cloud", own="p256:o", signer="p256:cloud")),
       "other.key": made.key_pem("p256:o")}  # fmt: skip
LOCKED = made.key_pem(password=b"secret")
PROBLEMS = {
    "two devices": (TWO, {}, ["client.crt: CN=device", "other.crt: CN=other"], "--certificate"),
    "renewed": (
        {"a.crt": made.pem(made.issue(days=(-1, 5))), "b.crt": made.pem(DEVICE), "k": DEVICE_KEY},
        {},
        ["a.crt: CN=device, valid until 2026-06-06", "b.crt: CN=device"],
        "--certificate",
    ),
    "two authorities": (
        {"a.pem": made.pem(ROOT), "b.pem": made.pem(CLOUD)},
        {},
        ["a.pem: CN=broker", "b.pem"],
        "--ca",
    ),
    "a device's authority, and another": (
        {"a.pem": made.pem(ROOT), "b.pem": made.pem(CLOUD), "c.crt": made.pem(DEVICE), "c.key": DEVICE_KEY},
        {},
        ["2 CA certificates, and it is not clear which is meant", "a.pem: CN=broker", "b.pem: CN=cloud"],
        "--ca names the one that is to be trusted, such as --ca",
    ),
    "what checks the clients of a server": (
        {"a.pem": public(DIGICERT), "b.pem": made.pem(CLOUD), "c.crt": made.pem(DEVICE), "c.key": DEVICE_KEY},
        {"role": "server"},
        ["2 CA certificates, and it is not clear which is meant"],
        "--ca",
    ),
    "six authorities": (
        {f"{name}.pem": made.pem(made.root(name, f"p256:{name}")) for name in "abcdef"},
        {},
        ["6 CA certificates, and it is not clear which is meant", "f.pem: CN=f"],
        "--ca",
    ),
    "six authorities, one of which signed itself": (
        {"a.pem": made.pem(ROOT)}
        | {
            f"{name}.pem": made.pem(made.issue(name, f"root of {name}", own=f"p256:{name}", ca=True))
            for name in "bcdef"
        },
        {},
        ["6 CA certificates, and it is not clear which is meant", "f.pem: CN=f"],
        "--ca",
    ),
    "roots of two clouds": (
        {"a.pem": amazon(1, "p256:a1"), "b.pem": public(DIGICERT)},
        {},
        ["2 CA certificates of servers", "a.pem: CN=Amazon Root CA 1"],
        "--ca",
    ),
    "PKCS#12": (
        {"device.p12": p12()},
        {},
        ["/device.p12: is PKCS#12, and nothing else in the folder can be used"],
        "take it apart: openssl pkcs12 -in ",
    ),
    "PKCS#12 and a CA": (
        {"device.p12": p12(), "ca.pem": made.pem(ROOT)},
        {},
        ["device.p12: is PKCS#12, so its key cannot be used as it is"],
        "device.p12 -nocerts",
    ),
    "a key store": (
        {"k.jks": b"\xfe\xed\xfe\xed\0\0\0\2"},
        {},
        ["Java key store"],
        "keytool -importkeystore",
    ),
    "a locked key": (
        {"c.crt": made.pem(DEVICE), "c.key": LOCKED},
        {},
        ["c.key: is a key that needs a password"],
        "c.decrypted.key",
    ),
    "no key": (
        {"c.crt": made.pem(DEVICE)},
        {},
        ["the private key of c.crt is not in it"],
        "put the private key",
    ),
    "only a public key": (
        {"c.crt": made.pem(DEVICE), "c.pub": made.public_pem()},
        {},
        ["private key of c.crt"],
        "put the private key",
    ),
    "another key": (
        {"c.crt": made.pem(DEVICE), "c.key": made.key_pem("p256:o")},
        {},
        ["no key in it belongs to c.crt: not c.key"],
        "made with the certificate",
    ),
    "no certificate": (
        {"c.key": DEVICE_KEY},
        {},
        ["the certificate for the key c.key"],
        "put the certificate",
    ),
    "nothing": ({"readme.txt": b"hello"}, {}, ["holds no certificate or key that can be used"], "unpacked"),
    "empty": ({}, {}, ["holds no certificate"], "unpacked"),
    "a set that is none": (MOSQUITTO, {"role": "mqqt"}, ["--set mqqt"], "server, client.0"),
    "a certificate elsewhere": (MOSQUITTO, {"certificate": Path("x.crt")}, ["--certificate x.crt"], "folder"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_problems(case, tmp_path):
    files, options, messages, hint = PROBLEMS[case]
    with pytest.raises(InputError) as caught:
        import_folder(fill(tmp_path, files), **options)
    for message in messages:
        assert message in caught.value.message
    assert hint in caught.value.hint
    assert "PRIVATE KEY-----" not in str(caught.value)


def test_options_decide(tmp_path):
    fill(tmp_path, TWO)
    for name in ("client", "other"):
        found = import_folder(tmp_path, certificate=tmp_path / f"{name}.crt")
        assert found.files["mqtt_key"] == tmp_path / f"{name}.key"
    fill(tmp_path / "cas", {"a.pem": made.pem(ROOT), "b.pem": made.pem(CLOUD)})
    assert import_folder(tmp_path / "cas", ca=Path("b.pem")).files == {"mqtt_ca": tmp_path / "cas" / "b.pem"}


@pytest.mark.parametrize(
    "name", ["ca: #1.pem", "-x.pem", "ünï.pem", "123.pem", "a\tb.pem", "'q'.pem", "true"]
)
def test_names_that_yaml_could_misread(name, tmp_path):
    fill(tmp_path, {name: made.pem(ROOT)})
    target = tmp_path / "p.yaml"
    target.write_bytes(import_folder(tmp_path).profile(target))
    assert Profile.load(target).pki == {"mqtt_ca": tmp_path / name}


# --- the command -----------------------------------------------------------------------------------


def test_from_aws_to_a_patched_image(cli, tmp_path):
    """What a user does: import, patch, check."""
    device = builders.certificate(5)
    folder = fill(tmp_path / "aws", {
        "AmazonRootCA1.pem": builders.certificate(9, ca=True), "x-certificate.pem.crt": device,
        "x-private.pem.key": builders.key_pem(5), "x-public.pem.key": made.public_pem(),
    })  # fmt: skip
    done = cli("pki", "import", folder)
    assert done.status == 0, done.err
    assert "mqtt_cert     x-certificate.pem.crt" in done.out
    assert "left out      x-public.pem.key: is a public key" in done.out
    assert done.err == ""
    image = tmp_path / "image.bin"
    image.write_bytes(builders.image())
    profile = folder / "profile.yaml"
    patched = cli("modify-bin", "--input", image, "--in-place", "--profile", profile)
    assert patched.status == 0, patched.err
    items = json.loads(cli("inspect", image, "--json").out)["pki"]
    assert {item["name"]: item["key_matches_certificate"] for item in items} == {
        "mqtt_ca": None, "mqtt_cert": True, "mqtt_key": True,
    }  # fmt: skip
    again = cli("pki", "import", folder)
    assert (again.status, "exists already" in again.err) == (2, True)
    before = profile.read_bytes()
    refused = cli("pki", "import", folder, "-o", profile, "--set", "client.1")
    assert (refused.status, "--force" in refused.err, profile.read_bytes()) == (2, True, before)
    assert cli("pki", "import", folder, "--force", "--set", "client.1").status == 0
    assert set(Profile.load(profile).pki) == {"client_ca.1", "client_cert.1", "client_key.1"}


def test_json_and_another_place(cli, tmp_path):
    fill(tmp_path / "in", MOSQUITTO)
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "p.yaml"
    document = json.loads(cli("pki", "import", tmp_path / "in", "-o", target, "--json").out)
    assert document["schema"] == 1
    assert set(document["pki"]) == {"mqtt_ca", "mqtt_cert", "mqtt_key"}
    assert {each["file"] for each in document["left_out"]} == {"ca.key", "client.csr"}
    assert "../in/ca.crt" in target.read_text()
    assert Profile.load(target).pki["mqtt_ca"].read_bytes() == MOSQUITTO["ca.crt"]


def test_no_input_is_replaced(cli, tmp_path):
    fill(tmp_path, MOSQUITTO)
    done = cli("pki", "import", tmp_path, "-o", tmp_path / "client.key", "--force")
    assert (done.status, "is one of the certificates or keys" in done.err) == (2, True)
    assert (tmp_path / "client.key").read_bytes() == DEVICE_KEY


def test_what_is_wrong_is_told(cli, tmp_path):
    now = dt.datetime.now(dt.timezone.utc)
    old = made.issue(days=(-30, -3), signer="p256:device", issuer="device", now=now)
    fill(tmp_path, {"c.crt": made.pem(old), "c.key": DEVICE_KEY})
    done = cli("pki", "import", tmp_path)
    assert done.status == 0
    assert f"mqtt_cert: expired on {now - 3 * made.DAY:%Y-%m-%d}" in done.err
    assert "there is no CA certificate" in done.err


def test_no_key_material_is_printed(cli, tmp_path):
    secret = made.key_pem().decode().splitlines()[1]
    for name, files in {
        "a": AWS,
        "b": TWO,
        "c": {"c.key": DEVICE_KEY},
        "d": {"c": made.pem(DEVICE), "k": LOCKED},
    }.items():
        folder = fill(tmp_path / name, files)
        other = ("import", folder, "--json", "-o", tmp_path / "x")
        for words in (("import", folder), other, ("check", folder, "-v"), ("check", folder, "--json")):
            done = cli("pki", *words)
            shown = done.out + done.err
            assert secret not in shown
            assert "PRIVATE KEY-----" not in shown
            assert "internal error" not in shown

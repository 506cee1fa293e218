"""Generated authorities and sets: proven by handshakes, by the checks, and in a real image."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import ssl
import stat
import subprocess
from pathlib import Path

import builders
import pki_maker as made
import pytest
from cryptography import x509

from esp_at_tools.errors import InputError
from esp_at_tools.files import written_together
from esp_at_tools.pki.collection import CollectedItem, check_collection, purpose_of
from esp_at_tools.pki.generate import GENERATED_ROLES, KEY_TYPES, check_server, generate_pki
from esp_at_tools.pki.names import PKI_ITEMS, PKI_SETS
from esp_at_tools.settings.pki_fit import check_room, measure
from esp_at_tools.settings.profile import Profile

NAMES = ("mqtt.example.com", "*.iot.example.com", "10.1.2.3", "fd00::1")
REAL = "ESP32-C3-MINI-1-V5.0.1.0-assembled"


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """One generated folder for each type of key."""
    from esp_at_tools.cli.main import run

    folders = {}
    for kind in KEY_TYPES:
        folder = tmp_path_factory.mktemp("pki") / kind
        options = [word for name in NAMES for word in ("--server", name)]
        assert run(["pki", "generate", str(folder), "--key", kind, *options, "--quiet"]) == 0
        folders[kind] = folder
    return folders


def items_of(folder: Path) -> list[CollectedItem]:
    return [
        CollectedItem(name, item.kind, item.role, (folder / f"{name}.pem").read_bytes())
        for name, item in PKI_ITEMS.items()
        if (folder / f"{name}.pem").exists()
    ]


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> tuple[dict, dict]:
    """Let two sides talk over memory; return the certificates that each saw."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = set(sides)
    for _ in range(10):
        for side in tuple(waiting):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
                waiting.discard(side)
    assert not waiting
    sides[1].write(b"hello")
    assert sides[0].read() == b"hello"
    sides[0].write(b"hi")
    assert sides[1].read() == b"hi"
    return sides[1].getpeercert(), sides[0].getpeercert()


def contexts(folder: Path, role: str, version: ssl.TLSVersion) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    def path(of: str, kind: str) -> str:
        return str(folder / f"{PKI_SETS[of][kind]}.pem")

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path("server", "certificate"), path("server", "private_key"))
    server.load_verify_locations(path("server", "ca"))
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_cert_chain(path(role, "certificate"), path(role, "private_key"))
    client.load_verify_locations(path(role, "ca"))
    for context in (server, client):
        context.minimum_version = context.maximum_version = version
        context.verify_flags |= getattr(ssl, "VERIFY_X509_STRICT", 0)
    return server, client


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", KEY_TYPES)
def test_mutual_authentication(folders, kind, version):
    for role in GENERATED_ROLES[1:]:
        names = ("mqtt.example.com", "a.iot.example.com", "10.1.2.3", "fd00::1")
        for name in names if role == "mqtt" else names[:1]:
            seen, _ = handshake(*contexts(folders[kind], role, version), name)
            assert ((("commonName", f"AT {role}"),)) in seen["subject"]


def test_a_stranger_is_refused(folders):
    version = ssl.TLSVersion.TLSv1_2
    server, _ = contexts(folders["ec256"], "mqtt", version)
    _, stranger = contexts(folders["rsa2048"], "mqtt", version)
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        handshake(server, stranger, "mqtt.example.com")
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        handshake(server, stranger, "mqtt.example.com")
    server, client = contexts(folders["ec256"], "mqtt", version)
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        handshake(server, client, "else.example.com")


@pytest.mark.parametrize("kind", KEY_TYPES)
def test_the_checks_find_nothing(folders, kind, cli):
    items = items_of(folders[kind])
    assert len(items) == 27
    now = dt.datetime.now(dt.timezone.utc)
    assert check_collection(items, now=now) == []
    assert check_room(items) == []
    room = measure(items)
    assert room.entries < room.small * {"ec256": 0.2, "rsa2048": 0.45, "rsa3072": 0.6}[kind]
    done = cli("pki", "check", folders[kind], "--json")
    document = json.loads(done.out)
    assert (done.status, document["findings"]) == (0, [])
    assert {item["chain"] for item in document["items"] if item["kind"] == "certificate"} == {"trusted"}
    assert cli("pki", "check", folders[kind], "--at", "2099-01-01").status == 1


@made.needs_openssl
@pytest.mark.parametrize("kind", KEY_TYPES)
def test_openssl_agrees(folders, kind):
    folder = folders[kind]
    for role in GENERATED_ROLES:
        purpose = {"server": "sslserver", "client": "sslclient"}[purpose_of(role)]
        ca, leaf = (folder / f"{PKI_SETS[role][kind]}.pem" for kind in ("ca", "certificate"))
        words = [made.OPENSSL, "verify", "-x509_strict", "-CAfile", ca, "-purpose", purpose, leaf]
        assert subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_extensions(folders):
    root = x509.load_pem_x509_certificate((folders["rsa2048"] / "ca.pem").read_bytes())
    server = x509.load_pem_x509_certificate((folders["rsa2048"] / "server_cert.pem").read_bytes())
    assert (root.not_valid_after_utc - root.not_valid_before_utc).days == 3651
    assert server.issuer == root.subject
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mqtt.example.com", "*.iot.example.com"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["10.1.2.3", "fd00::1"]
    usage = server.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_encipherment) == (True, True, True)
    assert root.serial_number != server.serial_number


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions(folders):
    for folder in folders.values():
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for path in folder.iterdir():
            secret = b"PRIVATE KEY" in path.read_bytes()
            assert (stat.S_IMODE(path.stat().st_mode) == 0o600) is secret, path
            assert secret is ("key" in path.name)


@pytest.mark.parametrize("kind", KEY_TYPES)
def test_in_the_real_image(folders, kind, cli, shared, tmp_path):
    source = shared / "firmware" / REAL / "factory" / "factory_MINI-1.bin"
    out = tmp_path / "out.bin"
    profile = folders[kind] / "profile.yaml"
    done = cli("modify-bin", "--input", source, "--output", out, "--profile", profile)
    assert done.status == 0, done.err
    document = json.loads(cli("inspect", out, "--json").out)
    assert [check for check in document["checks"] if check["level"] != "info"] == []
    assert {item["name"] for item in document["pki"]} == set(Profile.load(profile).pki)
    assert {item["key_matches_certificate"] for item in document["pki"] if item["kind"] != "ca"} == {True}
    checked = json.loads(cli("pki", "check", out, "--json").out)
    assert (checked["findings"], len(checked["items"])) == ([], 27)


def test_the_profile_names_every_file(folders):
    folder = folders["ec256"]
    profile = Profile.load(folder / "profile.yaml")
    assert {name: path.read_bytes() for name, path in profile.pki.items()} == {
        item.name: item.data for item in items_of(folder)
    }
    assert {item.role for item in items_of(folder)} == set(GENERATED_ROLES)


@made.needs_openssl
def test_more_can_be_issued(folders, tmp_path):
    """As people do it with openssl."""
    folder = folders["ec256"]
    words = [
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=new -keyout k -out r",
        f"x509 -req -in r -CA {folder / 'ca.pem'} -CAkey {folder / 'ca.key'} -days 9 -out c",
        f"verify -CAfile {folder / 'ca.pem'} c",
    ]
    for line in words:
        subprocess.run([str(made.OPENSSL), *line.split()], cwd=tmp_path, check=True, capture_output=True)


# --- the command -----------------------------------------------------------------------------------


def test_an_empty_folder_is_fine(cli, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    done = cli("pki", "generate", folder, "--json")
    assert done.status == 0
    document = json.loads(done.out)
    assert len(document["files"]) == 30 == len(list(folder.iterdir()))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--server", "https://x"], "--server https://x: is neither"),
        (["--server", "x:8883"], "--server x:8883: is neither"),
        (["--server", "300.1.1.1"], "--server 300.1.1.1: is neither"),
        (["--server", ""], "--server : is neither"),
        (["--server", "a" * 64 + ".com"], "is neither"),
        (["--days", "0"], "--days 0: is no number of days\n  give 1 to 36500"),
        (["--days", "36501"], "--days 36501"),
        (["--days", "abc"], "give 1 to 36500"),
        (["--for", "mqqt"], "--for mqqt: is no set"),
        (["--for", "mqtt", "--server", "x.y"], "--server: no server_cert is made"),
        (["--key", "rsa1024"], "rsa1024"),
    ],
)
def test_bad_options_leave_nothing(cli, tmp_path, arguments, message):
    done = cli("pki", "generate", tmp_path / "new", *arguments)
    assert done.status == 2
    assert message in done.err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(cli, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    (tmp_path / "file").write_text("x")
    for name, message in (("full", "is not empty"), ("file", "not a folder"), ("a/b", "does not exist")):
        done = cli("pki", "generate", tmp_path / name)
        assert done.status == 2
        assert message in done.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "x"]


def test_all_or_nothing(cli, tmp_path, monkeypatch):
    from esp_at_tools.cli import pki_generate

    def broken(file: Path, *_args, **_options):
        if file.name == "wss_key.1.pem":
            raise InputError("disk full", "")
        return original(file, *_args, **_options)

    original = pki_generate.files.stage_file
    monkeypatch.setattr(pki_generate.files, "stage_file", broken)
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        assert cli("pki", "generate", tmp_path / name).status == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
    assert written_together is pki_generate.files.written_together


def test_names_of_servers():
    assert check_server("[fd00:0::1]") == "fd00::1"
    assert check_server("bücher.example") == "xn--bcher-kva.example"
    assert check_server("esp_at.local") == "esp_at.local"


def test_some_sets_alone(cli, tmp_path):
    done = cli("pki", "generate", tmp_path / "x", "--for", "mqtt", "--for", "client", "--json")
    document = json.loads(done.out)
    assert (document["schema"], document["sets"]) == (1, ["client.0", "client.1", "mqtt"])
    assert set(Profile.load(tmp_path / "x" / "profile.yaml").pki) == {
        name for name, item in PKI_ITEMS.items() if item.role in ("client.0", "client.1", "mqtt")
    }


def test_what_a_legacy_firmware_cannot_hold_need_not_be_made(cli, tmp_path):
    image = tmp_path / "legacy.bin"
    image.write_bytes(builders.legacy_image())
    for name, status in (("https.0", 2), ("mqtt", 0)):
        assert cli("pki", "generate", tmp_path / name, "--for", name).status == 0
        profile = tmp_path / name / "profile.yaml"
        done = cli("modify-bin", "--input", image, "--output", tmp_path / f"{name}.bin", "--profile", profile)
        assert done.status == status, done
        assert ("pki generate --for" in done.err) == (status == 2)


def test_what_takes_long_is_said_before(cli, tmp_path):
    rsa = cli("pki", "generate", tmp_path / "x", "--for", "mqtt", "--key", "rsa2048")
    assert rsa.status == 0
    assert "making 2 keys of type rsa2048" in rsa.err
    assert cli("pki", "generate", tmp_path / "y").err == ""


def test_no_key_is_printed(cli, tmp_path):
    done = cli("pki", "generate", tmp_path / "x", "-v")
    again = cli("pki", "check", tmp_path / "x", "-v")
    for path in (tmp_path / "x").glob("*key*"):
        secret = path.read_text().splitlines()[1]
        assert secret not in done.out + done.err + again.out + again.err


def test_two_authorities_are_two():
    now = dt.datetime.now(dt.timezone.utc)
    names = {x509.load_pem_x509_certificate(generate_pki((), now=now)[0].data).subject for _ in range(3)}
    assert len(names) == 3


def test_in_a_built_image(folders, cli, tmp_path):
    image = tmp_path / "image.bin"
    image.write_bytes(builders.image())
    done = cli("modify-bin", "--input", image, "--in-place", "--profile", folders["rsa3072"] / "profile.yaml")
    assert done.status == 0
    assert cli("pki", "check", image).status == 0

"""Folders of certificates and keys, told apart by name."""

from __future__ import annotations

from pathlib import Path

import builders
import pytest

from esp_at_tools.errors import InputError
from esp_at_tools.pki.file_names import item_by_path
from esp_at_tools.pki.folder import read_pki_folder
from esp_at_tools.pki.names import PKI_ITEMS, PKI_SETS

ENDS = ("", ".pem", ".crt", ".key", ".der", ".crt.pem", ".PEM")


def put(folder: Path, **files: bytes) -> Path:
    for name, data in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.mark.parametrize("name", PKI_ITEMS)
def test_every_spelling_of_an_item(name):
    item = PKI_ITEMS[name]
    spellings = {name, name.replace(".", ""), name.replace(".", "_"), name.replace(".", "_0")}
    spellings |= {item.option[2:] or name, name.replace("_", "-")}
    for spelling in spellings:
        for end in ENDS:
            assert item_by_path(Path(spelling + end)) == name, spelling + end
    number = f"_0{item.index}" if item.name != item.group else ""
    assert item_by_path(Path(item.group, f"device{number}.crt")) == name
    assert PKI_SETS[item.role][item.kind] == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("mqtt_client.crt", "mqtt_cert"),
        ("mqtt_client.key", "mqtt_key"),
        ("mqtt_client.pem", ""),
        ("server.key", "server_key"),
        ("server.crt", "server_cert"),
        ("server.pem", ""),
        ("https_client_01.key", "https_key.1"),
        ("client_cert.crt", ""),
        ("client_cert.2.crt", ""),
        ("mqtt_ca_1.pem", ""),
        ("mqtt_ca_00.pem", "mqtt_ca"),
        ("client.crt", ""),
        ("my_mqtt_ca.pem", ""),
        ("ca.pem", ""),
    ],
)
def test_other_names(path, name):
    assert item_by_path(Path(path)) == name


def test_roles_are_those_of_the_items():
    assert {
        PKI_SETS[role][kind] for role in PKI_SETS for kind in ("ca", "certificate", "private_key")
    } == set(PKI_ITEMS)


def test_names_and_groups(tmp_path):
    cert, key = builders.certificate(), builders.key_pem()
    files = {"mqtt_ca.pem": cert, "client_key_01.key": key, "client_cert__client_cert_00.crt": cert}
    folder = put(
        tmp_path, **files, **{"README.md": b"hello\n", "mqtt_key__README": b"0x10\n", ".x.pem": cert}
    )
    (folder / "mqtt_key" / "device.key").write_bytes(key)
    assert read_pki_folder(folder) == {
        "client_cert.0": folder / "client_cert" / "client_cert_00.crt",
        "client_key.1": folder / "client_key_01.key",
        "mqtt_ca": folder / "mqtt_ca.pem",
        "mqtt_key": folder / "mqtt_key" / "device.key",
    }


def test_a_profile_decides(tmp_path):
    assert read_pki_folder(put(tmp_path, **{"profile.yaml": b"", "x.pem": builders.certificate()})) is None


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        ({"root.pem": builders.certificate(ca=True)}, "root.pem: is a CA certificate", "mqtt_ca.pem"),
        ({"x.bin": builders.certificate(der=True)}, "x.bin: is a certificate", "client_cert.1.der"),
        ({"k.txt": builders.key_pem()}, "k.txt: is a private key", "server_key.pem"),
        ({"p.pem": b"hello"}, "p.pem: is neither PEM nor DER", "move it"),
        ({"keys.jks": b"\xfe\xed\xfe\xed\0\0\0\2"}, "keys.jks: is a Java key store", "keytool"),
        ({"mqtt_ca.pem": b"", "mqtt_ca.crt": b""}, "mqtt_ca.crt and mqtt_ca.pem are both", "leave one"),
        ({"README": b"hello"}, "no file in it", "mqtt_ca.pem"),
        ({"raw_data__mqtt_ca__mqtt_ca.crt": b""}, "no file in it", "did you mean"),
        ({}, "no file in it", "mqtt_ca.pem"),
    ],
)
def test_what_is_an_error(tmp_path, files, message, hint):
    with pytest.raises(InputError) as caught:
        read_pki_folder(put(tmp_path, **files))
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "PRIVATE KEY-----" not in str(caught.value)


def test_no_folder(tmp_path):
    for path in (tmp_path / "none", put(tmp_path, file=b"") / "file"):
        with pytest.raises(InputError, match=str(path)):
            read_pki_folder(path)


def test_official_raw_data(shared):
    counts = {}
    for version in ("v3.4.0.0", "v5.0.1.0"):
        raw = shared / "esp-at" / version / "components" / "customized_partitions" / "raw_data"
        found = read_pki_folder(raw)
        for name, path in found.items():
            assert path.parent.name == PKI_ITEMS[name].group
            assert item_by_path(Path(path.name)) == name
        counts[version] = len(found)
    assert counts == {"v3.4.0.0": 15, "v5.0.1.0": 27}

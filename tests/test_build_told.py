"""What ``build`` and ``modules add`` say of what was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import builders
import pytest

MODULE = ("-m", "ESP32C3/MINI-1")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def put_pki(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        for kind, data in (
            ("ca", builders.certificate(1, ca=True)),
            ("cert", builders.certificate(0)),
            ("key", builders.key_pem(0)),
        ):
            group, dot, number = name.partition(".")
            (folder / f"{group}_{kind}{dot}{number}.pem").write_bytes(data)
    return folder


def test_the_users_certificates_are_not_said_to_be_those_of_the_tree(cli, shared):
    args = ("build", *MODULE, "--source", shared / "esp-at" / "v5.0.1.0", "--config-only")
    assert "12 certificates and keys are those of the tree" in cli(*args).out
    done = cli(*args, "--pki", put_pki(Path("all"), "server", "client.0", "client.1", "mqtt"))
    assert done.status == 0, done.err
    assert "those of the tree" not in done.out
    assert (
        "9 certificates and keys are those of the tree" in cli(*args, "--pki", put_pki(Path("a"), "mqtt")).out
    )


def test_certificates_are_told_by_set(cli):
    pki = put_pki(Path("pki"), "mqtt", "client.0")
    (pki / "server_ca.pem").write_bytes(builders.certificate(1, ca=True))
    told = cli("build", *MODULE, "--pki", pki).out
    assert "certificates and keys: 7 (server_ca, client.0, mqtt)\n" in told
    (built,) = json.loads(cli("build", *MODULE, "--pki", pki, "--json").out)["builds"]
    assert len(built["pki"]) == 7


def test_another_flash_size_is_in_the_description(cli):
    done = cli("build", *MODULE, "--flash", "16MB")
    assert done.out.splitlines()[0].startswith("ESP32C3/MINI-1: 16MB, ")
    assert json.loads(Path("build/module_info.json").read_text(encoding="utf-8"))["description"].startswith(
        "16MB,"
    )


def test_what_happens_to_the_partitions_is_a_table(cli):
    out = cli("build", *MODULE, "--flash", "8MB").out
    assert "note: partition " not in out
    assert "\npartitions:\n  at_customize: 264 KB at 0x1e000" in out


def test_a_module_that_is_to_be_without_updates_is_not_told_to_be(cli):
    args = (
        "modules",
        "add",
        "MY",
        "--from",
        "ESP32C3/MINI-1",
        "--dir",
        "mine",
        "--flash",
        "2MB",
        "--dry-run",
    )
    meant = cli(*args, "--feature", "-ota")
    assert meant.status == 0
    assert "cannot be updated over the air" in meant.out
    assert "updated over the air" not in meant.err
    assert "switch the feature ota off" not in meant.out + meant.err
    assert "cannot be updated over the air" in cli(*args).err

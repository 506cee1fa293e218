"""One set of certificates and keys by every way into a module: the same items, and the same partition."""

from __future__ import annotations

import builders
import pytest
from at_modules import impatient_host
from at_simulator import AtModule, PtyModule

from esp_at_tools.firmware.firmware import Firmware

PARTITION = "customized_partitions/mfg_nvs.bin"


def done(result) -> None:
    assert result.status == 0, result.err


@pytest.fixture
def made(cli, tmp_path, monkeypatch) -> dict[str, bytes]:
    """Make ``old``, a build that holds all sets, and ``new``, other ones; return the items of these."""
    monkeypatch.chdir(tmp_path)
    builders.release(tmp_path / "release")
    done(cli("pki", "generate", "first", "-q"))
    done(cli("pki", "generate", "new", "-q"))
    done(cli("build", "--source", "release", "--pki", "first", "--output", "old", "-q"))
    items = {path.stem: path.read_bytes() for path in (tmp_path / "new").glob("*_*.pem")}
    assert len(items) == 27
    return items


def test_every_way_gives_the_same_partition(cli, tmp_path, made):
    done(cli("modify-bin", "--input", "old", "--profile", "new/profile.yaml", "--output", "modified"))
    expected = (tmp_path / "modified" / PARTITION).read_bytes()
    assert Firmware.open(tmp_path / "modified").pki() == made
    assert expected != (tmp_path / "old" / PARTITION).read_bytes()

    image = "old/factory/factory_MINI-1.bin"
    alone = ("--profile", "new/profile.yaml", "--mfg-nvs-output", "alone.bin", "--output", "image.bin")
    done(cli("modify-bin", "--input", image, *alone))
    done(cli("build", "--source", "old", "--pki", "new", "--output", "folder", "-q"))
    done(cli("build", "--source", "old", "--profile", "new/profile.yaml", "--output", "profile", "-q"))
    (tmp_path / "devices.csv").write_text("id\none\n")
    devices = ("--devices", "devices.csv", "--output", "devices", "--profile", "new/profile.yaml")
    done(cli("batch", "--input", "old", *devices, "-q"))
    (one,) = (tmp_path / "devices").rglob("*one*.bin")
    for path in ("alone.bin", f"folder/{PARTITION}", f"profile/{PARTITION}", one):
        assert (tmp_path / path).read_bytes() == expected, path


@pytest.mark.parametrize("sysmfg", [True, False])
def test_a_running_module_gets_the_same(cli, tmp_path, made, monkeypatch, sysmfg):
    impatient_host(tmp_path, monkeypatch)
    image = tmp_path / "old" / "factory" / "factory_MINI-1.bin"
    place = Firmware.open(image).places["mfg_nvs"]
    with PtyModule(AtModule(bytearray(image.read_bytes()), sysmfg=sysmfg)) as board:
        done(cli("at", "-p", board.port, "set", "--profile", "new/profile.yaml"))
        (tmp_path / "flash.bin").write_bytes(board.module.flash)
    assert Firmware.open(tmp_path / "flash.bin").pki() == made
    if not sysmfg:  # which writes entries behind those that are there, as the firmware does
        done(cli("modify-bin", "--input", image, "--profile", "new/profile.yaml", "--output", "image.bin"))
        there, expected = (
            (tmp_path / name).read_bytes()[place.offset : place.offset + place.size]
            for name in ("flash.bin", "image.bin")
        )
        assert there == expected


def test_sets_that_were_not_there_before(cli, tmp_path, made):
    """``modify-bin`` puts new namespaces behind the others, ``build`` in its order; no item differs."""
    done(cli("modify-bin", "--input", "release", "--profile", "new/profile.yaml", "--output", "modified"))
    done(cli("build", "--source", "release", "--pki", "new", "--output", "built", "-q"))
    assert cli("diff", "modified", "built").status == 0
    assert Firmware.open(tmp_path / "modified").pki() == Firmware.open(tmp_path / "built").pki() == made

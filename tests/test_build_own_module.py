"""A module of the user's own, built with the application of a release."""

from __future__ import annotations

import builders
import pytest

from esp_at_tools.firmware.firmware import Firmware

K, M = 1 << 10, 1 << 20


@pytest.fixture
def build(cli, tmp_path):
    """Define a module with partitions of its own, and build it from a source."""

    def run(source, *wishes: str):
        mine = tmp_path / "mine"
        sizes = [word for wish in wishes for word in ("--partition", wish)]
        added = cli(
            "modules", "add", "MY", "--from", "ESP32C3/MINI-1", "--flash", "8MB", *sizes, "--dir", mine
        )
        assert added.status == 0, added.err
        return cli("build", "-m", "MY", "--dir", mine, "--source", source, "-o", tmp_path / "out")

    return run


def test_its_partitions_come_with_it(build, tmp_path):
    done = build(builders.release(tmp_path / "release"), "mfg_nvs=256K", "log=64K")
    assert done.status == 0, done.err
    firmware = Firmware.open(tmp_path / "out")
    assert firmware.flash_size == 8 * M
    sizes = {place.partition.name: place.partition.size for place in firmware.map.places()}
    assert (sizes["mfg_nvs"], sizes["log"], sizes["ota_0"]) == (256 * K, 64 * K, 2816 * K)
    assert "the partitions are those of ESP32C3/MY" in done.out
    assert "--flash 8MB" not in done.out
    assert "flash size" not in done.err
    assert firmware.settings()["module_name"] == "MY"


def test_a_firmware_that_cannot_have_them_keeps_its_own(build, tmp_path):
    done = build(builders.legacy_release(tmp_path / "release"), "log=64K")
    assert done.status == 0
    assert "not those of ESP32C3/MY: the firmware has no mfg_nvs" in done.err
    assert "log: new, 64 KB" in done.err
    assert "--flash 8MB --partition" in done.err
    assert "--partition log=64K" in done.err
    assert "--partition mfg_nvs" not in done.err

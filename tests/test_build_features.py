"""``build --feature`` and ``build --set CONFIG_…``: what the sdkconfig of a module says otherwise."""

from __future__ import annotations

from pathlib import Path

import builders
import pytest
from source_trees import make_tree

from esp_at_tools.formats.sdkconfig import Sdkconfig

MODULE = ("-m", "ESP32C3/MINI-1")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def config() -> Sdkconfig:
    return Sdkconfig.from_text(Path("build/sdkconfig.defaults").read_text(encoding="utf-8"))


def test_features_are_on_or_off_as_asked(cli):
    done = cli("build", *MODULE, "--feature", "-websocket", "-mdns", "--set", "CONFIG_LWIP_IPV6=n", "-j", "1")
    assert done.status == 0, done.err
    assert "feature websocket is off" in done.out
    assert config().get("AT_WS_COMMAND_SUPPORT") == "n"
    assert config().get("AT_MDNS_COMMAND_SUPPORT") == "n"
    assert config().get("LWIP_IPV6") == "n"


def test_what_is_in_mfg_nvs_follows_the_features(cli):
    assert cli("build", *MODULE, "--feature", "-ble").status == 0
    assert "GATT table: none" in cli("build", *MODULE, "--feature", "-ble").out
    assert "ble_data" not in Path("build/customized_partitions/mfg_nvs.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--feature", "-websockett"], "did you mean websocket"),
        (["--feature", "+fs=on"], "both a sign and a state"),
        (["--feature", "+fs", "-fs"], "is asked to be on too"),
        (["--set", "CONFIG_AT_WS_COMMAND_SUPPORT"], "has no value"),
        (
            ["--set", "CONFIG_AT_WS_COMMAND_SUPPORT=y", "--set", "CONFIG_AT_WS_COMMAND_SUPPORT=n"],
            "given twice",
        ),
        (["--feature", "-websocket", "--sdkconfig", "x"], "resolved with"),
        (["--feature", "-websocket", "--source", "release"], "is compiled already"),
        (["--set", "CONFIG_LWIP_IPV6=y", "--source", "release"], "is compiled already"),
        (["--feature", "-websocket", "--source", "tree", "--config-only"], "menuconfig"),
        (["--feature", "-websocket", "--source", "tree"], "menuconfig"),
    ],
)
def test_what_cannot_be_is_refused(cli, args, why):
    builders.release(Path("release"))
    make_tree(Path("tree"))
    done = cli("build", *MODULE, *args)
    assert done.status == 2
    assert why in done.err
    assert not Path("build").exists()


def test_a_feature_without_its_partition_is_refused(cli):
    done = cli("build", "-m", "ESP32C2/ESP32C2-2MB", "--feature", "+fs")
    assert done.status == 2
    assert "no partition" in done.err
    assert "modules add" in done.err

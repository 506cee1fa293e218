"""What modify-bin does all the same, but not without a word."""

from __future__ import annotations

import json

import builders
import pytest

C3 = ("modify-bin", "--input")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.bin"
    path.write_bytes(builders.image())
    return path


def warnings(result) -> list[str]:
    assert result.status == 0, result.err
    return json.loads(result.out)["warnings"]


@pytest.mark.parametrize(("place", "what"), [(builders.APP_OFFSET + 600, "application"), (600, "bootloader")])
def test_an_image_that_will_not_start(cli, tmp_path, image, place, what):
    data = bytearray(image.read_bytes())
    data[place] ^= 1
    image.write_bytes(data)
    result = cli(*C3, image, "--baud", "9600", "--output", tmp_path / "out.bin", "--json")
    (warning,) = warnings(result)
    assert f"its {what} is damaged" in warning


def test_a_sound_image_is_changed_without_a_word(cli, tmp_path, image):
    assert not warnings(cli(*C3, image, "--baud", "9600", "--output", tmp_path / "out.bin", "--json"))


def test_a_setting_that_is_removed(cli, tmp_path, image):
    out = tmp_path / "out.bin"
    assert warnings(cli(*C3, image, "--unset", "uart_tx_pin", "--output", out, "--json")) == [
        "uart_tx_pin: the firmware will use its built-in value"
    ]
    report = json.loads(cli("inspect", out, "--json").out)
    assert "settings-missing" in {check["id"] for check in report["checks"]}


def test_a_merged_image_that_was_not_up_to_date(cli, tmp_path):
    folder = builders.release(tmp_path / "release")
    merged = folder / "factory" / "factory_MINI-1.bin"
    old = builders.mfg_csv().replace("115200", "9600")
    merged.write_bytes(builders.image(builders.generate(old)))
    result = cli(*C3, folder, "--tx-power", "72", "--output", tmp_path / "out", "--json")
    (warning,) = warnings(result)
    assert "factory/factory_MINI-1.bin had another mfg_nvs than the release's parts" in warning


def test_a_copy_of_a_partition_that_stays(cli, tmp_path, shared):
    source = shared / "firmware" / "ESP32-C3-MINI-1-V2.3.0.0"
    result = cli(*C3, source, "--baud", "9600", "--output", tmp_path / "out", "--json")
    (warning,) = warnings(result)
    assert (
        "factory_param_MINI-1.bin is a copy of customized_partitions/factory_param.bin as it was" in warning
    )


def test_channels_that_are_asked_for_count_though_they_are_so_already(cli, tmp_path, image):
    out = tmp_path / "out.bin"
    result = cli(*C3, image, "--country-code", "US", "--channel-number", "13", "--output", out)
    assert result.status == 2
    assert "channel 13 is past 11" in result.err
    assert not out.exists()
    assert warnings(cli(*C3, image, "--country-code", "US", "--output", out, "--json"))  # they are there

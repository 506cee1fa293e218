"""The report and its checks: real firmware, firmware made in code, and every kind of damage."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import builders
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esp_at_tools.errors import EspAtError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.report import report
from esp_at_tools.firmware.source import FileSource
from esp_at_tools.firmware.survey import read_pki_items, used_bytes

NOW = dt.datetime(2024, 6, 1, tzinfo=dt.timezone.utc)
OFFICIAL = (
    "ESP32-C3-MINI-1-V2.3.0.0",
    "ESP32-C3-MINI-1-V5.0.1.0-assembled",
    "ESP32-WROOM-32-V2.2.0.0",
    "ESP8266-AT-V2.2.1.0",
)
KEYS = {
    "schema", "input", "chip", "layout", "flash", "bootloader", "apps", "partitions", "settings", "pki",
    "gatts", "checks",
}  # fmt: skip
APP_KEYS = {
    "partition", "offset", "size", "partition_size", "project_name", "version", "idf_version", "compile_time",
    "checksum_ok", "sha256_ok",
}  # fmt: skip
PKI_KEYS = {
    "name", "namespace", "kind", "format", "size", "subject", "issuer", "not_before", "not_after", "key_type",
    "key_matches_certificate", "sha256",
}  # fmt: skip


def inspected(path: Path, **options) -> dict:
    return report(Firmware.open(path, **options), now=NOW)


def found(document: dict) -> set[tuple[str, str]]:
    return {(check["id"], check["level"]) for check in document["checks"]}


def write_image(folder: Path, data: bytes, name: str = "image.bin") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


# --- what a report holds -------------------------------------------------------------------------


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_firmware_is_reported_whole_and_without_errors(shared, name):
    document = inspected(shared / "firmware" / name)
    assert document.keys() >= KEYS
    assert document["schema"] == 1
    assert document["input"]["kind"] == "release"
    assert [app["partition"] for app in document["apps"]] == ["ota_0"]
    assert document["apps"][0].keys() >= APP_KEYS
    assert document["apps"][0]["checksum_ok"] is document["apps"][0]["sha256_ok"] is True
    assert document["apps"][0]["project_name"] == "esp-at"
    assert document["apps"][0]["boots"] is True
    assert document["pki"]
    assert all(item.keys() >= PKI_KEYS for item in document["pki"])
    assert not [check for check in document["checks"] if check["level"] == "error"]
    assert not [
        check for check in document["checks"] if check["id"].startswith(("release", "factory", "mfg"))
    ]
    json.dumps(document)


def test_facts_of_the_legacy_esp8266(shared):
    document = inspected(shared / "firmware" / "ESP8266-AT-V2.2.1.0")
    assert (document["chip"], document["layout"]) == ("esp8266", "legacy")
    assert document["flash"] == {"size": 2 << 20, "mode": "dio", "freq": "80m"}
    assert document["bootloader"]["offset"] == 0
    assert document["settings"]["module_name"] == "WROOM-02"
    app = document["apps"][0]
    assert (app["offset"], app["size"], app["partition_size"]) == (0x10000, 844288, 0xE0000)
    assert (app["version"], app["compile_time"]) == ("v2.2.1.0_esp8266-dirty", "Aug  6 2021 12:28:03")
    home = next(part for part in document["partitions"] if part["name"] == "factory_param")
    assert (home["table"], home["type"], home["subtype"], home["offset"]) == (
        "secondary", "0x40", "0x08", 0xF1000,
    )  # fmt: skip
    assert document["gatts"] == []


def test_facts_of_the_modern_esp32c3(shared):
    document = inspected(shared / "firmware" / "ESP32-C3-MINI-1-V5.0.1.0-assembled")
    assert (document["chip"], document["layout"]) == ("esp32c3", "modern")
    assert document["partition_table"]["offset"] == 0x8000
    assert document["partition_table"]["secondary"]["offset"] == 0x1E000
    assert [(part["name"], part["type"], part["subtype"]) for part in document["partitions"]][:2] == [
        ("otadata", "data", "ota"),
        ("phy_init", "data", "phy"),
    ]
    assert document["settings"]["uart_baudrate"] == 115200
    assert document["nvs"]["keys"] == 56
    assert len(document["gatts"]) == 31
    assert document["gatts"][2] == "2,16,0xC300,0x01,1,1,30"
    item = next(item for item in document["pki"] if item["name"] == "client_cert.0")
    assert (item["namespace"], item["kind"], item["format"]) == ("client_cert", "certificate", "pem")
    assert item["subject"].startswith("CN=ESP Root CA C2")
    assert item["not_after"] == "2029-06-18T08:00:23Z"
    assert item["key_type"] == "rsa2048"
    assert item["key_matches_certificate"] is True
    authority = next(item for item in document["pki"] if item["name"] == "client_ca.0")
    assert authority["key_matches_certificate"] is None
    key = next(item for item in document["pki"] if item["name"] == "client_key.0")
    assert key["subject"] is key["not_after"] is None
    assert key["key_matches_certificate"] is True
    services = document["gatt_services"]
    assert [(service["uuid"], len(service["characteristics"])) for service in services] == [
        ("0xA002", 8),
        ("0xA003", 2),
    ]
    first = services[0]["characteristics"][0]
    assert (first["uuid"], first["properties"], first["permissions"]) == ("0xC300", ["read"], ["read"])
    assert first["descriptors"][0]["name"] == "user description"


@pytest.mark.parametrize("name", OFFICIAL)
def test_folder_zip_and_full_image_tell_the_same(shared, tmp_path, name):
    folder = shared / "firmware" / name
    first = inspected(folder)
    archive = builders.zipped(folder, tmp_path / "release.zip", f"{name}/")
    second = inspected(archive)
    assert second["input"]["size"] == archive.stat().st_size
    (tmp_path / "flash.bin").write_bytes(builders.full_image(folder, first["flash"]["size"]))
    third = inspected(tmp_path / "flash.bin")
    assert third["input"]["kind"] == "image"
    for key in first.keys() - {"input", "flash", "checks"}:
        assert first[key] == second[key] == third[key], key
    assert first["flash"] == third["flash"]
    assert not [check for check in third["checks"] if check["level"] == "error"]


@pytest.mark.parametrize(
    "name",
    [
        "ESP8266-AT-V2.2.1.0/factory/factory_WROOM-02.bin",
        "ESP32-C3-MINI-1-V5.0.1.0-assembled/factory/factory_MINI-1.bin",
        "ESP32-C3-MINI-1-V5.0.1.0-assembled/factory/factory_MINI-1_unfilled.bin",
    ],
)
def test_official_merged_images_pass(shared, name):
    document = inspected(shared / "firmware" / name)
    assert {level for _, level in found(document)} <= {"info"}
    assert document["flash"]["size"] == (2 << 20 if "8266" in name else 4 << 20)


def test_no_line_of_a_private_key_is_in_the_report(shared):
    for name in OFFICIAL:
        firmware = Firmware.open(shared / "firmware" / name)
        text = json.dumps(report(firmware, now=NOW))
        secrets = secret_lines(firmware)
        assert len(secrets) > 20
        assert not [line for line in secrets if line in text]


def secret_lines(firmware: Firmware) -> list[str]:
    keys = [data for name, data in firmware.pki().items() if "_key" in name]
    return [line for data in keys for line in data.decode().splitlines() if len(line) > 40]


def test_a_lone_mfg_nvs_tells_what_it_can(tmp_path):
    path = tmp_path / "mfg_nvs.bin"
    path.write_bytes(builders.generate(builders.mfg_csv()))
    document = inspected(path)
    assert document["input"]["kind"] == "mfg_nvs"
    assert document["chip"] is document["bootloader"] is document["partition_table"] is None
    assert document["flash"] == {"size": None, "mode": None, "freq": None}
    assert document["apps"] == document["partitions"] == []
    assert document["settings"]["module_name"] == "MINI-1"
    assert found(document) == {("pins-not-checked", "info")}
    assert inspected(path, chip="esp32c3")["chip"] == "esp32c3"
    assert inspected(path, chip="esp32c3")["checks"] == []


def test_a_lone_factory_param_tells_its_chip(shared):
    folder = shared / "firmware" / "ESP32-WROOM-32-V2.2.0.0" / "customized_partitions"
    document = inspected(folder / "factory_param.bin")
    assert document["input"]["kind"] == "factory_param"
    assert (document["layout"], document["chip"]) == ("legacy", "esp32")
    assert document["settings"]["uart_tx_pin"] == 17
    assert document["checks"] == []


def test_firmware_without_certificates_has_empty_lists(tmp_path):
    document = inspected(write_image(tmp_path, builders.image()))
    assert document["pki"] == document["gatts"] == document["gatt_services"] == document["checks"] == []
    assert document["apps"][0]["version"] == "v9.9.9.0"


def test_used_bytes_count_what_is_written(tmp_path):
    data = b"\x01" * 100 + b"\xff" * 9000 + b"\x02" + b"\xff" * 2000
    source = FileSource(tmp_path, data, "image")
    assert used_bytes(source, 0, 100) == 100
    assert used_bytes(source, 0, 4096) == 100
    assert used_bytes(source, 100, 8000) == 0
    assert used_bytes(source, 0, 1 << 20) == 512
    assert used_bytes(source, 1 << 20, 4096) == 0


def test_at_customize_counts_what_lies_in_it(tmp_path):
    document = inspected(write_image(tmp_path, builders.image()))
    used = {part["name"]: part["used"] for part in document["partitions"]}
    assert used["at_customize"] == 4096 + used["mfg_nvs"]
    assert used["fatfs"] == used["ota_1"] == 0
    assert used["ota_0"] == len(builders.esp_image())


def with_changes(tmp_path: Path, change: Callable[[Firmware], object]) -> dict:
    firmware = Firmware.open(write_image(tmp_path, builders.image()))
    change(firmware)
    firmware.write(tmp_path / "changed.bin")
    return report(Firmware.open(tmp_path / "changed.bin"))  # the builders' certificates are valid today


def unpaired(firmware: Firmware) -> None:
    firmware.set_pki("client_cert.0", builders.certificate(1))
    firmware.set_pki("client_key.0", builders.key_pem(2))


def test_a_key_and_a_certificate_that_belong_together_are_told_so(tmp_path):
    def change(firmware):
        firmware.set_pki("server_cert", builders.certificate(3))
        firmware.set_pki("server_key", builders.key_pem(3))
        firmware.set_pki("mqtt_cert", builders.certificate(4, der=True))

    document = with_changes(tmp_path, change)
    items = {item["name"]: item for item in document["pki"]}
    assert items["server_cert"]["key_matches_certificate"] is True
    assert items["server_key"]["key_matches_certificate"] is True
    assert items["mqtt_cert"]["key_matches_certificate"] is None
    assert items["mqtt_cert"]["format"] == "der"
    assert [item["name"] for item in document["pki"]] == ["server_cert", "server_key", "mqtt_cert"]
    unpaired_items = {item["name"]: item for item in with_changes(tmp_path, unpaired)["pki"]}
    assert unpaired_items["client_key.0"]["key_matches_certificate"] is False
    assert unpaired_items["client_cert.0"]["key_matches_certificate"] is False


def test_items_beyond_the_official_names_find_their_partners():
    items = {
        "odd": b"nonsense",
        "client_key.2": builders.key_pem(2),
        "mqtt_ca": builders.certificate(1, ca=True),
        "client_cert.2": builders.certificate(2),
    }
    groups = {
        "odd": "wss_ca",
        "client_key.2": "client_key",
        "mqtt_ca": "mqtt_ca",
        "client_cert.2": "client_cert",
    }
    readings = list(read_pki_items(items, groups))
    assert [(each.name, each.role, each.kind, each.matches) for each in readings] == [
        ("mqtt_ca", "mqtt", "ca", None),
        ("client_cert.2", "client.2", "certificate", True),
        ("client_key.2", "client.2", "private_key", True),
        ("odd", "wss", "ca", None),
    ]
    assert readings[-1].info is None
    assert "neither PEM nor DER" in readings[-1].problem
    assert "BEGIN" not in repr(readings)


def test_a_damaged_certificate_keeps_its_place_in_the_report(tmp_path):
    document = with_changes(tmp_path, lambda firmware: firmware.set_pki("mqtt_ca", b"nonsense"))
    (item,) = document["pki"]
    assert (item["name"], item["size"], item["format"], item["subject"]) == ("mqtt_ca", 8, None, None)
    assert item["key_matches_certificate"] is None


def test_the_same_input_gives_the_same_report(tmp_path):
    path = write_image(tmp_path, builders.image())
    assert json.dumps(inspected(path)) == json.dumps(inspected(path))


# --- laws ----------------------------------------------------------------------------------------

REGIONS = ((0, 0x1400), (0x8000, 0x100), (0xD000, 0x40), (0x1E000, 0x100), (0x1F000, 0x900), (0x60000, 0x200))


def put(data: bytearray, start: int, piece: bytes) -> None:
    data[start : start + len(piece)] = piece


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(REGIONS), st.integers(0, 0x1FFF), st.integers(0, 255)), max_size=6))
def test_whatever_opens_is_reported(tmp_path, flips):
    data = bytearray(builders.image(filled=False))
    for (start, size), place, value in flips:
        data[start + place % size] = value
    path = write_image(tmp_path, bytes(data))
    try:
        firmware = Firmware.open(path)
    except EspAtError:
        return
    json.dumps(report(firmware, now=NOW))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 0x1FFF), st.binary(min_size=1, max_size=40)), max_size=8))
def test_whatever_is_in_an_nvs_is_reported(tmp_path, pieces):
    data = bytearray(builders.generate(builders.mfg_csv(), 0x3000))
    for place, piece in pieces:
        put(data, 64 + place % 0x1000, piece)
    path = write_image(tmp_path, bytes(data), "mfg_nvs.bin")
    try:
        firmware = Firmware.open(path)
    except EspAtError:
        return
    json.dumps(report(firmware, now=NOW))


def test_records_of_the_formats_are_not_dumped_into_messages(tmp_path):
    """A finding names the place; it never shows the bytes of a value."""
    secret = builders.key_pem(5)
    document = with_changes(tmp_path, lambda f: f.set_pki("server_key", secret[:-30]))
    text = json.dumps(document)
    assert not [line for line in secret.decode().splitlines()[1:3] if line[:30] in text]

"""The checks of `inspect`: every kind of damage, and what is found of it."""

from __future__ import annotations

import datetime as dt
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import builders
import pytest

from esp_at_tools.firmware import checks
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.report import report
from esp_at_tools.formats.ota_data import OtaData, OtaEntry
from esp_at_tools.formats.partition_table import Partition, PartitionTable

NOW = dt.datetime(2024, 6, 1, tzinfo=dt.timezone.utc)
OFFICIAL_LEGACY = "ESP32-C3-MINI-1-V2.3.0.0"


def inspected(path: Path, **options) -> dict:
    return report(Firmware.open(path, **options), now=NOW)


def found(document: dict) -> set[tuple[str, str]]:
    return {(check["id"], check["level"]) for check in document["checks"]}


def with_changes(tmp_path: Path, change: Callable[[Firmware], object]) -> dict:
    firmware = Firmware.open(write_image(tmp_path, builders.image()))
    change(firmware)
    firmware.write(tmp_path / "changed.bin")
    return report(Firmware.open(tmp_path / "changed.bin"))  # the builders' certificates are valid today


def unpaired(firmware: Firmware) -> None:
    firmware.set_pki("client_cert.0", builders.certificate(1))
    firmware.set_pki("client_key.0", builders.key_pem(2))


# --- the checks ----------------------------------------------------------------------------------


def write_image(folder: Path, data: bytes, name: str = "image.bin") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def wipe(data: bytearray, start: int, size: int) -> None:
    data[start : start + size] = b"\xff" * size


def put(data: bytearray, start: int, piece: bytes) -> None:
    data[start : start + len(piece)] = piece


def table(data: bytearray, primary: PartitionTable) -> None:
    put(data, builders.TABLE_OFFSET, primary.to_bytes())


def with_primary(**changes: dict) -> PartitionTable:
    rows = [replace(part, **changes.get(part.name, {})) for part in builders.PRIMARY]
    return PartitionTable(tuple(rows), md5=False)


def signature_v2() -> bytes:
    block = b"\xe7\x02" + bytes(1194)
    block += zlib.crc32(block).to_bytes(4, "little")
    return block.ljust(1216, b"\0").ljust(4096, b"\xff")


def signed(data: bytearray) -> None:
    end = builders.APP_OFFSET + len(builders.esp_image())
    put(data, end + -end % 4096, signature_v2())


def select_ota_1(data: bytearray) -> None:
    put(data, 0xD000, OtaData((OtaEntry.for_slot(1), OtaEntry())).to_bytes())


def half_an_app(data: bytearray) -> None:
    put(data, 0x230000, builders.esp_image()[:28] + b"\xff\xff\xff")


def small_app_partition(data: bytearray) -> None:
    put(data, 0x230000, builders.esp_image(size=16384))
    table(data, with_primary(ota_1={"size": 0x3000}))


def move_bootloader(data: bytearray) -> None:
    wipe(data, 0, 0x8000)
    put(data, 0x1000, builders.esp_image(app=False))


def without_secondary(data: bytearray) -> None:
    wipe(data, 0x1E000, 0x1000)
    rows = (*builders.PRIMARY, Partition("mfg_nvs", 1, 2, 0x3D0000, builders.MFG_SIZE))
    table(data, PartitionTable(rows[:5] + rows[6:], md5=False))
    put(data, 0x3D0000, builders.generate(builders.mfg_csv()))


def secondary_outside(data: bytearray) -> None:
    rows = (*builders.SECONDARY, Partition("extra", 0x40, 9, 0x10000, 0x1000))
    put(data, 0x1E000, PartitionTable(rows).to_bytes())


IMAGE_DAMAGE: dict[str, tuple[Callable[[bytearray], object], set[tuple[str, str]]]] = {
    "no bootloader": (lambda d: wipe(d, 0, 0x8000), {("bootloader-missing", "error")}),
    "cut bootloader": (lambda d: put(d, 28, b"\xff\xff"), {("bootloader-damaged", "error")}),
    "flipped bootloader": (
        lambda d: put(d, 0x200, bytes([d[0x200] ^ 1])),
        {("bootloader-checksum", "error"), ("bootloader-sha256", "error")},
    ),
    "large bootloader": (
        lambda d: (put(d, 0, builders.esp_image(app=False, size=0x10000)), table(d, builders.PRIMARY)),
        {("bootloader-too-large", "error"), ("bootloader-checksum", "error"), ("bootloader-sha256", "error")},
    ),
    "bootloader elsewhere": (move_bootloader, {("bootloader-offset", "error")}),
    "no app": (lambda d: wipe(d, builders.APP_OFFSET, 0x10000), {("app-missing", "error")}),
    "flipped app": (
        lambda d: put(d, 0x60300, bytes([d[0x60300] ^ 1])),
        {("app-checksum", "error"), ("app-sha256", "error")},
    ),
    "flipped other app": (
        lambda d: (put(d, 0x230000, builders.esp_image()), put(d, 0x230300, b"\x77")),
        {("app-checksum", "warning"), ("app-sha256", "warning")},
    ),
    "large app": (small_app_partition, {("app-too-large", "error")}),
    "half of another app": (half_an_app, {("app-damaged", "warning")}),
    "garbage that starts next": (
        lambda d: (put(d, 0x230000, b"garbage"), select_ota_1(d)),
        {("app-damaged", "error")},
    ),
    "blank slot starts next": (select_ota_1, {("ota-slot-blank", "warning")}),
    "another chip's app": (
        lambda d: put(d, 0x230000, builders.esp_image("esp32c6")),
        {("chip-mismatch", "error")},
    ),
    "signed": (signed, {("secure-boot-signature", "info")}),
    "overlap": (
        lambda d: table(d, with_primary(nvs={"size": 0xF000})),
        {("partition-overlap", "error")},
    ),
    "past flash": (
        lambda d: table(d, with_primary(ota_1={"size": 0x1E0000})),
        {("partition-past-flash", "error")},
    ),
    "below table": (
        lambda d: table(d, with_primary(phy_init={"offset": 0x8000})),
        {("partition-below-table", "error")},
    ),
    "crooked": (
        lambda d: table(d, with_primary(phy_init={"offset": 0xF100, "size": 0xE00})),
        {("partition-alignment", "error"), ("partition-alignment", "warning")},
    ),
    "same names": (
        lambda d: table(d, with_primary(phy_init={"name": "nvs"})),
        {("partition-name", "error"), ("partition-name", "warning")},
    ),
    "read-only otadata": (
        lambda d: table(d, with_primary(otadata={"flags": 2})),
        {("partition-flags", "error")},
    ),
    "small otadata": (
        lambda d: table(d, with_primary(otadata={"size": 0x1000})),
        {("partition-size", "error")},
    ),
    "slots": (
        lambda d: table(d, with_primary(ota_1={"subtype": 0x13})),
        {("partition-apps", "warning"), ("partition-name", "warning")},
    ),
    "outside": (
        secondary_outside,
        {("partition-secondary", "error")},
    ),
    "no secondary table": (without_secondary, {("secondary-table-missing", "warning")}),
    "flipped setting": (
        lambda d: put(d, builders.MFG_OFFSET + 64 + 32 + 24, b"\x63"),
        {("nvs-problem", "error"), ("settings-missing", "warning")},
    ),
}


@pytest.mark.parametrize("name", IMAGE_DAMAGE)
def test_damage_to_an_image_is_found(tmp_path, name):
    damage, expected = IMAGE_DAMAGE[name]
    data = bytearray(builders.image())
    damage(data)
    path = write_image(tmp_path, bytes(data))
    assert found(inspected(path)) == expected


def test_an_app_may_fill_its_partition_to_the_last_byte(tmp_path):
    size = len(builders.esp_image(size=16384))
    for room, expected in ((size, False), (size - 1, True)):
        data = bytearray(builders.image())
        put(data, 0x230000, builders.esp_image(size=16384))
        table(data, with_primary(ota_1={"size": room}))
        ids = {id_ for id_, _ in found(inspected(write_image(tmp_path, bytes(data))))}
        assert ("app-too-large" in ids) is expected


def test_the_only_app_must_be_sound_wherever_it_is(tmp_path):
    data = bytearray(builders.image())
    wipe(data, builders.APP_OFFSET, 0x10000)
    put(data, 0x230000, builders.esp_image())
    data[0x230300] ^= 1
    document = inspected(write_image(tmp_path, bytes(data)))
    assert found(document) == {
        ("ota-slot-blank", "warning"),
        ("app-checksum", "error"),
        ("app-sha256", "error"),
    }
    (app,) = document["apps"]
    assert (app["partition"], app["boots"]) == ("ota_1", False)


def test_the_signature_belongs_to_the_application(tmp_path):
    data = bytearray(builders.image())
    signed(data)
    (app,) = inspected(write_image(tmp_path, bytes(data)))["apps"]
    assert app["size"] == 0x3000
    assert app["signature"] == {"version": 2, "scheme": "RSA", "blocks": 1}


def test_otadata_tells_which_application_starts(tmp_path):
    data = bytearray(builders.image())
    put(data, 0x230000, builders.esp_image())
    select_ota_1(data)
    document = inspected(write_image(tmp_path, bytes(data)))
    assert document["checks"] == []
    assert [(app["partition"], app["boots"]) for app in document["apps"]] == [
        ("ota_0", False),
        ("ota_1", True),
    ]


def test_the_same_row_twice_is_told_once(tmp_path):
    data = bytearray(builders.image())
    row = Partition("odd", 1, 6, 0x3D0100, 0x1000)
    table(data, PartitionTable((*builders.PRIMARY.partitions[:5], row, row), md5=False))
    document = inspected(write_image(tmp_path, bytes(data)))
    assert [check["id"] for check in document["checks"]].count("partition-alignment") == 1


def test_a_flash_of_another_size_is_told(tmp_path):
    path = write_image(tmp_path, builders.image().ljust(8 << 20, b"\xff"))
    assert found(inspected(path)) == {("flash-size", "warning")}


CONTENT: dict[str, tuple[Callable[[Firmware], object], set[tuple[str, str]]]] = {
    "pins that clash": (
        lambda f: f.set("uart_rx_pin", 7),
        {("setting-uart-rx-pin", "warning")},
    ),
    "power": (lambda f: f.set("max_tx_power", 100), {("setting-max-tx-power", "warning")}),
    "mismatch": (unpaired, {("pki-mismatch", "error")}),
    "expired": (
        lambda f: f.set_pki("mqtt_ca", builders.certificate(1, ca=True, days=(-4000, -3000))),
        {("pki-expired", "warning")},
    ),
    "not yet valid": (
        lambda f: f.set_pki("mqtt_ca", builders.certificate(1, ca=True, days=(300, 3000))),
        {("pki-not-yet-valid", "warning")},
    ),
    "unreadable": (lambda f: f.set_pki("mqtt_ca", b"nonsense"), {("pki-unreadable", "error")}),
    "wrong kind": (lambda f: f.set_pki("mqtt_cert", builders.key_pem()), {("pki-wrong-kind", "error")}),
    "gatt": (
        lambda f: f.set("cfg0", "0,16,0x2803,0x01,1,1,02"),
        {("gatt-no-service", "error"), ("gatt-no-value", "error")},
    ),
    "no settings": (
        lambda f: [f.unset(name) for name in list(f.settings())],
        {("settings-missing", "warning")},
    ),
}


@pytest.mark.parametrize("name", CONTENT)
def test_questionable_contents_are_found(tmp_path, name):
    change, expected = CONTENT[name]
    document = with_changes(tmp_path, change)
    assert expected <= found(document)
    levels = {level for id_, level in found(document) if (id_, level) not in expected}
    assert levels <= {"warning", "info"}


def test_an_nvs_that_is_nearly_full_is_told(tmp_path):
    filler = "".join(f"k{number},data,u8,1\n" for number in range(230))
    path = write_image(tmp_path, builders.generate(builders.mfg_csv(filler), 0x3000), "mfg_nvs.bin")
    assert ("nvs-nearly-full", "warning") in found(inspected(path))


def test_many_problems_of_an_nvs_are_summed_up(tmp_path):
    data = bytearray(builders.generate(builders.mfg_csv("".join(f"k{n},data,u8,1\n" for n in range(60)))))
    for entry in range(20, 70, 2):
        data[64 + 32 * entry + 24] ^= 0x55
    document = inspected(write_image(tmp_path, bytes(data), "mfg_nvs.bin"), chip="esp32c3")
    problems = [check for check in document["checks"] if check["id"] == "nvs-problem"]
    assert len(problems) == checks.MAX_NVS_FINDINGS + 1
    assert "more problems" in problems[-1]["message"]


def test_a_damaged_legacy_partition_is_an_error_and_the_rest_is_shown(shared, tmp_path):
    data = bytearray(builders.full_image(shared / "firmware" / OFFICIAL_LEGACY, 4 << 20))
    put(data, 0x2F000, b"garbage")
    put(data, 0x1F000, b"garbage")
    document = inspected(write_image(tmp_path, bytes(data)))
    assert [check["id"] for check in document["checks"]][:2] == ["partition-damaged", "partition-damaged"]
    assert "client_cert.0" in {item["name"] for item in document["pki"]}
    assert "client_ca.0" not in {item["name"] for item in document["pki"]}
    assert document["gatts"] == []


# --- releases ------------------------------------------------------------------------------------


def change_args(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "flasher_args.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def edit_csv(folder: Path) -> None:
    (folder / "customized_partitions" / "mfg_nvs.csv").write_text(
        builders.mfg_csv().replace("115200", "9600")
    )


RELEASE_DAMAGE: dict[str, tuple[Callable[[Path], object], set[tuple[str, str]]]] = {
    "part too large": (
        lambda f: (f / "ota_data_initial.bin").write_bytes(b"\xff" * 0x2800),
        {("release-part-too-large", "error")},
    ),
    "parts overlap": (
        lambda f: (f / "at_customize.bin").write_bytes(builders.SECONDARY.to_bytes().ljust(0x2000, b"\xff")),
        {("release-part-overlap", "error"), ("factory-image-differs", "warning")},
    ),
    "misplaced": (
        lambda f: change_args(f, lambda d: d["flash_files"].update({"0x48000": "ota_data_initial.bin"})),
        {("release-part-misplaced", "warning"), ("release-lists-differ", "warning")},
    ),
    "settings differ": (
        lambda f: change_args(f, lambda d: d["flash_settings"].update({"flash_freq": "80m"})),
        {("release-lists-differ", "warning")},
    ),
    "unreadable list": (
        lambda f: (f / "download.config").write_text("--flash_mode"),
        {("release-list-unreadable", "warning")},
    ),
    "list not text": (
        lambda f: (f / "download.config").write_bytes(b"\xff\xfe"),
        {("release-list-unreadable", "warning")},
    ),
    "another chip": (
        lambda f: change_args(f, lambda d: d["extra_esptool_args"].update({"chip": "esp32"})),
        {("chip-mismatch", "error")},
    ),
    "app replaced": (
        lambda f: (f / "esp-at.bin").write_bytes(builders.esp_image(size=8192)),
        {("factory-image-differs", "warning")},
    ),
    "csv edited": (edit_csv, {("mfg-csv-differs", "warning")}),
    "csv broken": (
        lambda f: (f / "customized_partitions" / "mfg_nvs.csv").write_text("key,type\nx,y\n"),
        {("mfg-csv-differs", "warning")},
    ),
}


@pytest.mark.parametrize("name", RELEASE_DAMAGE)
def test_a_release_that_contradicts_itself_is_found(tmp_path, name):
    damage, expected = RELEASE_DAMAGE[name]
    folder = builders.release(tmp_path / "release")
    assert inspected(folder)["checks"] == []
    damage(folder)
    document = inspected(folder)
    assert found(document) == expected
    assert not [check for check in document["checks"] if str(tmp_path) in check["message"]]


def test_a_release_without_an_application_is_no_error(tmp_path):
    folder = builders.release(tmp_path / "release")
    for name in ("flasher_args.json", "download.config"):
        path = folder / name
        path.write_text(re.sub(r'("0x60000": "esp-at.bin",)|0x60000 esp-at.bin', "", path.read_text()))
    for path in (folder / "factory").iterdir():
        path.unlink()
    assert found(inspected(folder)) == {("app-missing", "warning")}


def test_a_configuration_without_bootloader_and_application_is_no_error(tmp_path):
    folder = builders.release(tmp_path / "release")
    pattern = (
        r'("0x60000": "esp-at.bin",)|("0x0": "bootloader/bootloader.bin",)|0x0 boot\S+|0x60000 esp-at.bin'
    )
    for name in ("flasher_args.json", "download.config"):
        path = folder / name
        path.write_text(re.sub(pattern, "", path.read_text()))
    for path in (folder / "factory").iterdir():
        path.unlink()
    assert found(inspected(folder)) == {("bootloader-missing", "warning"), ("app-missing", "warning")}


def test_the_release_says_how_to_set_the_flash(tmp_path):
    folder = builders.release(tmp_path / "release")
    changed = {"flash_mode": "qio", "flash_freq": "80m", "flash_size": "detect"}
    change_args(folder, lambda document: document["flash_settings"].update(changed))
    document = inspected(folder)
    assert document["flash"] == {"size": 4 << 20, "mode": "qio", "freq": "80m"}
    assert document["bootloader"]["flash_mode"] == "dio"
    assert len(document["checks"]) == 2  # nothing about the size, which esptool finds out


def test_merging_may_set_the_flash_settings_of_the_bootloader(tmp_path):
    folder = builders.release(tmp_path / "release")
    path = folder / "factory" / "factory_MINI-1.bin"
    data = bytearray(path.read_bytes())
    data[3] ^= 0x10
    bootloader = builders.esp_image(app=False)
    data[len(bootloader) - 32 : len(bootloader)] = bytes(32)
    path.write_bytes(data)
    assert inspected(folder)["checks"] == []
    data[0x3F0000] = 0
    path.write_bytes(data)
    (check,) = inspected(folder)["checks"]
    assert check["id"] == "factory-image-differs"
    assert "between" in check["message"]


def test_rows_of_files_that_only_the_build_machine_had_are_not_compared(shared):
    folder = shared / "firmware" / "ESP32-C3-MINI-1-V5.0.1.0-assembled"
    assert "mfg-csv-differs" not in {check["id"] for check in inspected(folder)["checks"]}


def test_a_stale_copy_of_the_parameters_is_told(shared, tmp_path):
    source = shared / "firmware" / "ESP8266-AT-V2.2.1.0"
    for path in source.rglob("*"):
        if path.is_file() and path.parent.name != "factory":
            target = tmp_path / path.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    before = found(inspected(tmp_path))
    copy = tmp_path / "customized_partitions" / "factory_param_WROOM-02.bin"
    copy.write_bytes(copy.read_bytes().replace(b"CN", b"US", 1))
    assert found(inspected(tmp_path)) - before == {("factory-param-copy-stale", "warning")}


# --- laws ----------------------------------------------------------------------------------------


def documented_ids() -> set[str]:
    rows = re.findall(
        r"^([a-z][\w.…, -]*?)  +(?:error|warning|info|varies) ", checks.__doc__ or "", re.MULTILINE
    )
    return {id_.strip() for row in rows for id_ in row.split(",")}


def test_every_id_that_is_found_is_documented():
    known = documented_ids()
    assert len(known) > 35
    tables = (IMAGE_DAMAGE, CONTENT, RELEASE_DAMAGE)
    seen = {id_ for cases in tables for _, expected in cases.values() for id_, _ in expected}
    assert {id_ for id_ in seen if not id_.startswith(("pki-", "gatt-", "setting-"))} <= known
    others = {
        "flash-size", "nvs-nearly-full", "partition-damaged", "factory-param-copy-stale", "pins-not-checked",
        "chip-unsupported",
    }  # fmt: skip
    assert known - seen - others == {"setting-NAME", "pki-…", "gatt-…"}


def test_errors_come_first_and_nothing_twice(tmp_path):
    data = bytearray(builders.image())
    for damage in ("signed", "slots", "no bootloader", "half of another app"):
        IMAGE_DAMAGE[damage][0](data)
    document = inspected(write_image(tmp_path, bytes(data)))
    levels = [check["level"] for check in document["checks"]]
    assert levels == sorted(levels, key=["error", "warning", "info"].index)
    assert {"error", "warning", "info"} == set(levels)
    texts = [json.dumps(check) for check in document["checks"]]
    assert len(texts) == len(set(texts))


def test_a_chip_that_esp_at_does_not_support_is_told(tmp_path):
    path = write_image(tmp_path, builders.image(chip="esp32s3"))
    assert ("chip-unsupported", "warning") in found(inspected(path))

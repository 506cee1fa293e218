"""What a user wants otherwise in a build: partitions, settings, certificates, files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import builders
import pytest

from esp_at_tools.build.artefacts import built_files
from esp_at_tools.build.customise import customise, with_flash_size
from esp_at_tools.build.folder import write_build_folder
from esp_at_tools.build.from_definitions import recipe_from_definitions
from esp_at_tools.build.from_release import recipe_from_release
from esp_at_tools.build.options import Options
from esp_at_tools.build.recipe import Recipe
from esp_at_tools.build.recipe_flash import open_recipe
from esp_at_tools.build.unread import unread_items
from esp_at_tools.errors import InputError, RiskyValueError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.modify import modify
from esp_at_tools.firmware.request import Request
from esp_at_tools.formats.app_image import AppImage
from esp_at_tools.formats.nvs import NvsPartition


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Recipe:
    return recipe_from_release(builders.release(tmp_path_factory.mktemp("release")), None, Options())


@pytest.fixture(scope="module")
def definition() -> Recipe:
    return recipe_from_definitions("ESP32C3/MINI-1", Options())


@pytest.fixture(scope="module")
def legacy(tmp_path_factory) -> Recipe:
    return recipe_from_release(builders.legacy_release(tmp_path_factory.mktemp("legacy")), None, Options())


def asked(**what: object) -> Options:
    return Options(request=Request(**what))


def assert_csv_makes_it(recipe: Recipe) -> None:
    """The CSV beside ``mfg_nvs.bin`` makes it with the public generator, and needs no other file."""
    part = recipe.partitions["mfg_nvs"]
    assert builders.generate(part.csv, len(part.data)) == part.data


PKI = {
    "mqtt_ca": builders.certificate(1, ca=True),
    "mqtt_cert": builders.certificate(0),
    "mqtt_key": builders.key_pem(0),
}


# --- settings and certificates -------------------------------------------------------------------


def test_nothing_asked_for_changes_nothing(release, definition):
    assert customise(release, Options()) is release
    assert customise(definition, Options()) is definition


@pytest.mark.parametrize("name", ["release", "definition"])
def test_settings_and_certificates_are_in_it(request, tmp_path, name):
    recipe = request.getfixturevalue(name)
    changed = customise(recipe, asked(settings={"uart_baudrate": 921600}, pki=PKI, gatts={}))
    write_build_folder(tmp_path / "out", built_files(changed))
    firmware = Firmware.open(tmp_path / "out")
    assert firmware.settings() == {**open_recipe(recipe).settings(), "uart_baudrate": 921600}
    assert firmware.pki() == PKI
    assert firmware.gatts() == open_recipe(recipe).gatts()
    assert changed.partitions["mfg_nvs"].private
    assert not recipe.partitions["mfg_nvs"].private
    assert_csv_makes_it(changed)


def test_new_namespaces_stand_where_the_official_build_has_them(definition):
    changed = customise(definition, asked(pki=dict(reversed(PKI.items()))))
    nvs = NvsPartition.from_bytes(changed.partitions["mfg_nvs"].data)
    assert nvs.namespaces == ("mqtt_cert", "mqtt_key", "mqtt_ca", "factory_param", "ble_data")
    assert changed.partitions["mfg_nvs"].csv.index("mqtt_ca,") < changed.partitions["mfg_nvs"].csv.index(
        "version,"
    )


def test_the_official_certificates_make_the_official_partition(shared, definition):
    tree = shared / "esp-at" / "v5.0.1.0"
    raw = tree / "components" / "customized_partitions" / "raw_data"
    expected = (tree / "expected" / "PLATFORM_ESP32C3" / "MINI-1" / "mfg_nvs.bin").read_bytes()
    items = {item: (raw / found[1]).read_bytes() for item, found in _official_items(expected, raw).items()}
    changed = customise(definition, Options(request=Request(pki=items), force=True))
    assert changed.partitions["mfg_nvs"].data == expected


def _official_items(image: bytes, raw: Path) -> dict[str, tuple[bytes, str]]:
    """Item → contents and file of the certificates and keys in an official partition."""
    files = {path.read_bytes(): path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file()}
    entries = NvsPartition.from_bytes(image).entries
    blobs = {entry.key: entry.value for entry in entries if isinstance(entry.value, bytes)}
    return {key: (value, files[value]) for key, value in blobs.items()}


def test_it_is_what_modify_bin_makes_of_the_release(tmp_path):
    folder = builders.release(tmp_path / "release")
    request = Request(
        settings={"uart_baudrate": 9600, "uart_tx_pin": 3}, gatts={"cfg0": "0,16,0x2800,0x01,2,2,A002"}
    )
    changed = customise(recipe_from_release(folder, None, Options()), Options(request=request))
    firmware = Firmware.open(folder)
    modify(firmware, request)
    firmware.write(tmp_path / "out")
    made = builders.tree(tmp_path / "out")
    files = {name: file.data for name, file in built_files(changed).items()}
    same = [name for name in files if name in made and name not in ("flasher_args.json", "download.config")]
    assert {name: files[name] for name in same} == {name: made[name] for name in same}
    assert "customized_partitions/mfg_nvs.csv" in same


def test_the_legacy_layout_takes_them_too(legacy, tmp_path):
    ca = builders.certificate(3, ca=True)
    changed = customise(legacy, asked(settings={"uart_baudrate": 9600}, pki={"wpa2_ca": ca}))
    write_build_folder(tmp_path / "out", built_files(changed))
    firmware = Firmware.open(tmp_path / "out")
    assert firmware.settings()["uart_baudrate"] == 9600
    assert firmware.pki()["wpa2_ca"] == ca
    assert "customized_partitions/wpa2_ca.bin" in builders.tree(tmp_path / "out")


def test_what_is_risky_needs_force(definition):
    options = asked(settings={"uart_tx_pin": 9})
    with pytest.raises(RiskyValueError, match="strapping") as caught:
        customise(definition, options)
    assert "--force" in caught.value.hint
    assert "--partition" not in caught.value.hint
    changed = customise(definition, Options(request=options.request, force=True))
    assert any("strapping" in warning for warning in changed.warnings)


def test_what_is_impossible_stays_so(definition):
    with pytest.raises(InputError, match="uart_rx_pin"):
        customise(definition, Options(request=Request(settings={"uart_tx_pin": 6}), force=True))


def test_too_many_certificates_name_the_size_that_would_do(definition):
    small = customise(definition, Options(partition_sizes={"mfg_nvs": 16 << 10}))
    big = builders.certificate(1, ca=True) * 40
    options = Options(request=Request(pki={"mqtt_ca": big}), force=True)
    with pytest.raises(InputError, match="does not fit") as caught:
        customise(small, options)
    found = re.search(r"--partition mfg_nvs=(\d+)K", caught.value.hint)
    assert found
    enough = int(found[1]) << 10
    roomy = Options(request=options.request, force=True, partition_sizes={"mfg_nvs": enough})
    assert customise(definition, roomy).partitions["mfg_nvs"].private is False
    tight = Options(request=options.request, force=True, partition_sizes={"mfg_nvs": enough - 4096})
    with pytest.raises(InputError, match="does not fit"):
        customise(definition, tight)


def test_a_csv_that_described_something_else_is_made_anew(release):
    part = replace(release.partitions["mfg_nvs"], csv="key,type,encoding,value\n")
    changed = customise(
        replace(release, partitions={"mfg_nvs": part}), asked(settings={"uart_baudrate": 9600})
    )
    assert_csv_makes_it(changed)


# --- partitions ----------------------------------------------------------------------------------


def test_another_flash_size_moves_everything_that_names_it(release, tmp_path):
    changed = customise(release, Options(flash_size=8 << 20))
    write_build_folder(tmp_path / "out", built_files(changed))
    firmware = Firmware.open(tmp_path / "out")
    assert firmware.flash_size == 8 << 20
    assert max(row.end for row in changed.primary) == 8 << 20
    image = AppImage.from_bytes(changed.bootloader)
    assert (image.flash_size, image.sha256_ok) == ("8MB", True)
    assert len(changed.bootloader) == len(release.bootloader)
    files = builders.tree(tmp_path / "out")
    assert b"8MB" in files["flasher_args.json"]
    assert len(files["factory/factory_MINI-1.bin"]) == 8 << 20
    assert firmware.settings() == open_recipe(release).settings()


def test_mfg_nvs_grows_with_its_partition(release):
    changed = customise(release, Options(partition_sizes={"mfg_nvs": 256 << 10}))
    part = changed.partitions["mfg_nvs"]
    place = changed.secondary.find("mfg_nvs")
    assert place is not None
    assert (place.size, len(part.data)) == (256 << 10, 256 << 10)
    assert_csv_makes_it(changed)
    assert open_recipe(changed).settings() == open_recipe(release).settings()


def test_mfg_nvs_that_is_too_small_for_what_it_holds_names_the_remedy(release):
    full = customise(
        release, Options(request=Request(pki={"mqtt_ca": builders.certificate(1, ca=True) * 40}), force=True)
    )
    with pytest.raises(InputError, match="does not fit") as caught:
        customise(full, Options(partition_sizes={"mfg_nvs": 12 << 10}))
    assert "--partition mfg_nvs=" in caught.value.hint


def test_an_application_that_does_not_fit_is_told_with_numbers(release):
    with pytest.raises(InputError) as caught:
        customise(release, Options(partition_sizes={"mfg_nvs": 4 << 20}))
    assert re.search(r"\d+ KB", caught.value.message + caught.value.hint)


def test_a_file_system_for_another_size_is_not_kept(tmp_path):
    flash = bytearray(builders.image())
    flash[0x47000:0x47004] = b"FAT!"
    (tmp_path / "in.bin").write_bytes(flash)
    recipe = recipe_from_release(tmp_path / "in.bin", None, Options())
    assert "fatfs" in recipe.partitions
    changed = customise(recipe, Options(flash_size=8 << 20))
    assert "fatfs" not in changed.partitions
    assert any("fatfs" in warning for warning in changed.warnings)


@pytest.mark.parametrize(
    ("text", "unused"),
    [
        ("", set()),
        ("CONFIG_AT_FS_COMMAND_SUPPORT=y\n", set()),
        ("# CONFIG_AT_FS_COMMAND_SUPPORT is not set\n", {"fatfs", "fs_storage"}),
    ],
)
def test_the_file_system_of_a_firmware_without_one_may_go_first(release, monkeypatch, text, unused):
    from esp_at_tools.build import planner

    seen = []
    plan = planner.plan

    def watched(*tables, **what):
        seen.append(set(what["unused"]))
        return plan(*tables, **what)

    monkeypatch.setattr(planner, "plan", watched)
    customise(replace(release, sdkconfig=text), Options(flash_size=8 << 20))
    assert seen == [unused]


RESOLVED = """\
# CONFIG_ESPTOOLPY_FLASHSIZE_2MB is not set
CONFIG_ESPTOOLPY_FLASHSIZE_4MB=y
# CONFIG_ESPTOOLPY_FLASHSIZE_8MB is not set
CONFIG_ESPTOOLPY_FLASHSIZE="4MB"
CONFIG_OTHER=y
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            RESOLVED,
            RESOLVED.replace(
                "CONFIG_ESPTOOLPY_FLASHSIZE_4MB=y", "# CONFIG_ESPTOOLPY_FLASHSIZE_4MB is not set"
            )
            .replace("# CONFIG_ESPTOOLPY_FLASHSIZE_8MB is not set", "CONFIG_ESPTOOLPY_FLASHSIZE_8MB=y")
            .replace('"4MB"', '"8MB"'),
        ),
        ("CONFIG_A=y\nCONFIG_ESPTOOLPY_FLASHSIZE_4MB=y\n", "CONFIG_A=y\nCONFIG_ESPTOOLPY_FLASHSIZE_8MB=y\n"),
        ("CONFIG_A=y\n", "CONFIG_A=y\nCONFIG_ESPTOOLPY_FLASHSIZE_8MB=y\n"),
        ("", ""),
    ],
)
def test_the_flash_size_in_an_sdkconfig(definition, text, wanted):

    changed = with_flash_size(replace(definition, sdkconfig=text, sdkconfig_defaults=text), 8 << 20)
    assert changed.sdkconfig == wanted
    assert changed.sdkconfig_defaults == wanted
    again = with_flash_size(changed, 8 << 20)
    assert again.sdkconfig == wanted


# --- files ---------------------------------------------------------------------------------------


def test_files_become_the_file_system(definition, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "index.html").write_text("hello")
    changed = customise(definition, Options(fs_image=tmp_path / "files"))
    place = definition.secondary.find("fatfs")
    assert place is not None
    assert len(changed.partitions["fatfs"].data) == place.size
    assert b"hello" in changed.partitions["fatfs"].data
    files = built_files(changed)
    assert "customized_partitions/fatfs.bin" in files
    assert b"fatfs.bin" in files["flasher_args.json"].data


def test_without_a_partition_for_it_there_is_no_file_system(definition, tmp_path):
    (tmp_path / "files").mkdir()
    without = customise(definition, Options(partition_sizes={"fatfs": 0}))
    with pytest.raises(InputError, match="--fs-image"):
        customise(without, Options(fs_image=tmp_path / "files"))


def test_the_applications_of_an_esp8266_stay_where_they_are(shared):
    recipe = recipe_from_release(shared / "firmware" / "ESP8266-AT-V2.2.1.0", None, Options())
    with pytest.raises(InputError, match="compiled for their addresses"):
        customise(recipe, Options(flash_size=4 << 20))
    changed = customise(recipe, Options(partition_sizes={"mqtt_ca": 12 << 10}))
    assert changed.primary == recipe.primary
    assert changed.secondary != recipe.secondary


# --- what the firmware would not read ------------------------------------------------------------


def test_items_that_the_firmware_does_not_read_are_named(definition, release):

    names = ["mqtt_ca", "https_ca.0", "wpa2_ca", "wpa_ent_key"]
    assert unread_items(definition, names, defined=True) == names[1:]
    assert unread_items(definition, names, defined=False) == []
    assert unread_items(release, names, defined=False) == []
    told = replace(
        release, sdkconfig="CONFIG_AT_MQTT_CLIENT_AUTH_BROKER=y\nCONFIG_AT_EAP_COMMAND_SUPPORT=y\n"
    )
    assert unread_items(told, names, defined=False) == ["https_ca.0"]


def test_the_legacy_layout_has_partitions_for_what_it_reads(legacy):
    assert unread_items(legacy, ["mqtt_ca"], defined=False) == []

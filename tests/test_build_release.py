"""Builds from a release, an image or a dump: bootloader and application reused, everything else made."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import builders
import pytest

from esp_at_tools.build.artefacts import built_files
from esp_at_tools.build.customise import customise
from esp_at_tools.build.folder import write_build_folder
from esp_at_tools.build.from_release import recipe_from_release
from esp_at_tools.build.options import Options
from esp_at_tools.errors import EspAtError, FormatError, InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.formats.flash_args import FlashArgs
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.ota_data import OtaData, OtaEntry

ASSEMBLED = "ESP32-C3-MINI-1-V5.0.1.0-assembled"
LEGACY = ("ESP32-C3-MINI-1-V2.3.0.0", "ESP32-WROOM-32-V2.2.0.0", "ESP8266-AT-V2.2.1.0")


def files_of(path: Path, **options: object) -> dict[str, bytes]:
    """Every file that a build from a source makes."""
    recipe = recipe_from_release(path, None, Options(**options))
    return {name: file.data for name, file in built_files(recipe).items()}


def flashed(listed: str, read) -> dict[int, bytes]:
    """Address → bytes of the files that a list names."""
    return {part.offset: read(part.file) for part in FlashArgs.from_json(listed).parts}


def stored_image(files: dict[str, bytes], size: int) -> bytes:
    """The flash that the list of a build fills."""
    flash = bytearray(b"\xff" * size)
    for offset, data in flashed(files["flasher_args.json"].decode(), files.__getitem__).items():
        flash[offset : offset + len(data)] = data
    return bytes(flash)


# --- the assembled firmware of v5.0.1.0 ----------------------------------------------------------


@pytest.fixture(scope="module")
def assembled(shared) -> Path:
    return shared / "firmware" / ASSEMBLED


def zipped(folder: Path, tmp_path: Path) -> Path:
    return builders.zipped(folder, tmp_path / "release.zip", "esp/")


SOURCES = {
    "folder": lambda folder, _: folder,
    "zip": zipped,
    "filled": lambda folder, _: folder / "factory" / "factory_MINI-1.bin",
    "unfilled": lambda folder, _: folder / "factory" / "factory_MINI-1_unfilled.bin",
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_rebuilt_from_its_parts_it_is_the_same(assembled, tmp_path, make):
    made = files_of(make(assembled, tmp_path))
    known = builders.tree(assembled)
    for name in known.keys() - {"sdkconfig", "customized_partitions/mfg_nvs.csv"}:
        assert made[name] == known[name], name
    assert made.get("sdkconfig", known["sdkconfig"]) == known["sdkconfig"]
    assert json.loads(made["module_info.json"])["module"] == "MINI-1"


def test_its_csv_makes_its_partition_without_other_files(assembled):
    made = files_of(assembled)
    text = made["customized_partitions/mfg_nvs.csv"].decode()
    assert ",file," not in text
    nvs = made["customized_partitions/mfg_nvs.bin"]
    assert NvsPartition.from_csv(text, len(nvs)).to_bytes() == nvs
    assert builders.generate(text, len(nvs)) == nvs


@pytest.mark.parametrize("name", ["bootloader/bootloader.bin", "esp-at.bin"])
def test_esptool_finds_its_images_sound(assembled, tmp_path, name):
    from esptool.bin_image import LoadFirmwareImage

    write_build_folder(tmp_path / "build", built_files(recipe_from_release(assembled, None, Options())))
    image = LoadFirmwareImage("esp32c3", str(tmp_path / "build" / name))
    assert image.checksum == image.calculate_checksum()
    assert image.stored_digest == image.calc_digest


# --- the legacy layout ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEGACY)
def test_a_legacy_release_flashes_the_same_bytes(shared, name):
    folder = shared / "firmware" / name
    made = files_of(folder)
    official = (folder / "flasher_args.json").read_text()
    assert flashed(made["flasher_args.json"].decode(), made.__getitem__) == flashed(
        official, lambda file: (folder / file).read_bytes()
    )
    ours, theirs = (FlashArgs.from_download_config(text) for text in (
        made["download.config"].decode(), (folder / "download.config").read_text()
    ))  # fmt: skip
    assert (ours.flash_mode, ours.flash_freq, ours.flash_size) == (
        theirs.flash_mode, theirs.flash_freq, theirs.flash_size
    )  # fmt: skip
    assert dict(ours.files) == dict(theirs.files)
    assert made["sdkconfig"] == (folder / "sdkconfig").read_bytes()


def test_its_factory_image_is_the_official_one_but_for_the_size_in_the_header(shared):
    folder = shared / "firmware" / "ESP8266-AT-V2.2.1.0"
    official = (folder / "factory" / "factory_WROOM-02.bin").read_bytes()
    made = files_of(folder)["factory/factory_WROOM-02.bin"]
    assert len(made) == len(official)
    assert [at for at in range(len(made)) if made[at] != official[at]] == [3]
    assert files_of(folder / "factory" / "factory_WROOM-02.bin")["factory/factory_WROOM-02.bin"] == made


@pytest.mark.parametrize("name", LEGACY[:2])
def test_from_an_image_of_it_comes_the_same_flash(shared, tmp_path, name):
    folder = shared / "firmware" / name
    image = tmp_path / "image.bin"
    image.write_bytes(builders.full_image(folder, 4 << 20))
    made = files_of(image)
    assert stored_image(made, 4 << 20) == image.read_bytes()
    assert set(made) >= {"phy_init_data.bin", "customized_partitions/factory_param.bin"}


# --- made in code --------------------------------------------------------------------------------


@pytest.fixture
def release(tmp_path) -> Path:
    return builders.release(tmp_path / "release")


def test_its_csv_is_kept_where_it_makes_the_partition(release):
    assert files_of(release)["customized_partitions/mfg_nvs.csv"] == builders.mfg_csv().encode()


def test_the_application_that_would_start_is_taken(tmp_path):
    other = builders.esp_image(size=8192)
    state = OtaData((OtaEntry.for_slot(1), OtaEntry()))
    flash = bytearray(builders.image())
    flash[0xD000 : 0xD000 + 0x2000] = state.to_bytes()
    flash[0x230000 : 0x230000 + len(other)] = other
    (tmp_path / "dump.bin").write_bytes(flash)
    recipe = recipe_from_release(tmp_path / "dump.bin", None, Options())
    assert recipe.app == other
    assert any("ota_1" in note for note in recipe.notes)
    files = built_files(recipe)
    assert files["ota_data_initial.bin"].data == b"\xff" * 0x2000
    assert builders.APP_OFFSET in flashed(files["flasher_args.json"].data.decode(), lambda name: name)


def test_a_damaged_application_makes_room_for_the_other(tmp_path):
    flash = bytearray(builders.image())
    other = builders.esp_image(size=8192)
    flash[builders.APP_OFFSET + 0x400] ^= 1
    flash[0x230000 : 0x230000 + len(other)] = other
    (tmp_path / "dump.bin").write_bytes(flash)
    recipe = recipe_from_release(tmp_path / "dump.bin", None, Options())
    assert recipe.app == other
    assert any("not sound" in note for note in recipe.notes)


def test_without_a_sound_application_there_is_no_build(tmp_path):
    flash = bytearray(builders.image())
    flash[builders.APP_OFFSET + 0x400] ^= 1
    (tmp_path / "dump.bin").write_bytes(flash)
    with pytest.raises(InputError, match="no sound application"):
        recipe_from_release(tmp_path / "dump.bin", None, Options())
    assert recipe_from_release(tmp_path / "dump.bin", None, Options(config_only=True)).app == b""


def test_a_damaged_bootloader_does_not_get_a_new_checksum(tmp_path):
    flash = bytearray(builders.image())
    flash[0x400] ^= 1
    (tmp_path / "in.bin").write_bytes(flash)
    with pytest.raises(InputError, match="bootloader is damaged"):
        recipe_from_release(tmp_path / "in.bin", None, Options())
    assert recipe_from_release(tmp_path / "in.bin", None, Options(config_only=True)).bootloader == b""


def test_what_a_device_has_stored_stays_behind(tmp_path):
    flash = bytearray(builders.image())
    flash[0x10000 : 0x10000 + 64] = b"the password of somebody's Wi-Fi".ljust(64, b"!")
    flash[0x47000 : 0x47000 + 16] = b"a user's file..."
    (tmp_path / "dump.bin").write_bytes(flash)
    recipe = recipe_from_release(tmp_path / "dump.bin", None, Options())
    assert set(recipe.partitions) == {"mfg_nvs", "fatfs"}
    assert b"password" not in b"".join(file.data for file in built_files(recipe).values())


def test_mfg_nvs_that_a_device_has_written_to_is_laid_out_anew(tmp_path):
    nvs = bytearray(builders.generate(builders.mfg_csv("gone,namespace,,\nkey,data,u8,1\n")))
    entry = next(at for at in range(64, 4096, 32) if nvs[at + 8 : at + 12] == b"key\0")
    index = (entry - 64) // 32
    nvs[32 + index // 4] &= ~(0b11 << (index % 4 * 2))  # erased
    (tmp_path / "dump.bin").write_bytes(builders.image(bytes(nvs)))
    recipe = recipe_from_release(tmp_path / "dump.bin", None, Options())
    part = recipe.partitions["mfg_nvs"]
    assert any("laid out anew" in note for note in recipe.notes)
    assert builders.generate(part.csv, len(part.data)) == part.data
    assert b"key\0" not in part.data


def test_a_release_that_lists_what_a_device_stores_is_refused(release):
    args = json.loads((release / "flasher_args.json").read_text())
    args["flash_files"]["0x10000"] = "nvs.bin"
    (release / "nvs.bin").write_bytes(b"\xff" * 0xE000)
    (release / "flasher_args.json").write_text(json.dumps(args))
    with pytest.raises(InputError, match=r"nvs\.bin"):
        recipe_from_release(release, None, Options())


@pytest.mark.parametrize(("stated", "size"), [("4MB", 4), ("detect", 8), ("keep", 8)])
def test_the_second_list_tells_what_the_first_leaves_open(release, stated, size):
    for name, old, new in (("flasher_args.json", '"4MB"', f'"{stated}"'), ("download.config", "4MB", "8MB")):
        path = release / name
        path.write_text(path.read_text().replace(old, new))
    assert recipe_from_release(release, None, Options()).flash.size == size << 20


@pytest.mark.parametrize("option", [{"silence": True}, {"idf": Path("idf")}])
def test_options_for_a_compiler_are_refused(release, option):
    with pytest.raises(InputError, match="compiled already"):
        recipe_from_release(release, None, Options(**option))


def test_an_sdkconfig_is_taken_only_where_there_is_none(release, tmp_path):
    (tmp_path / "own").write_text('CONFIG_IDF_TARGET="esp32c3"\n')
    options = Options(sdkconfig=tmp_path / "own")
    assert recipe_from_release(release, None, options).sdkconfig == 'CONFIG_IDF_TARGET="esp32c3"\n'
    (release / "sdkconfig").write_text("CONFIG_X=y\n")
    with pytest.raises(InputError, match="--sdkconfig"):
        recipe_from_release(release, None, options)
    (release / "sdkconfig").unlink()
    (tmp_path / "own").write_text('CONFIG_IDF_TARGET="esp32"\n')
    with pytest.raises(InputError, match="esp32"):
        recipe_from_release(release, None, options)


def test_a_part_outside_of_the_partitions_is_refused(release):
    args = json.loads((release / "flasher_args.json").read_text())
    args["flash_files"]["0x3d0000"] = "extra.bin"
    (release / "extra.bin").write_bytes(b"x")
    (release / "flasher_args.json").write_text(json.dumps(args))
    with pytest.raises(InputError, match=r"extra\.bin"):
        recipe_from_release(release, None, Options())


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "a b", "."])
def test_a_module_name_that_cannot_name_a_file_needs_another(tmp_path, name):
    csv = builders.mfg_csv().replace("string,MINI-1", f"string,{name}")
    (tmp_path / "in.bin").write_bytes(builders.image(builders.generate(csv)))
    with pytest.raises(InputError, match="its module is"):
        recipe_from_release(tmp_path / "in.bin", None, Options())
    recipe = recipe_from_release(tmp_path / "in.bin", "ESP32C3/MINI-1", Options())
    assert recipe.module == "MINI-1"


def test_a_partition_with_a_path_as_its_name_writes_nothing_elsewhere(tmp_path):
    rows = tuple(
        replace(row, name="../../evil") if row.name == "fatfs" else row for row in builders.SECONDARY
    )
    flash = bytearray(builders.image())
    flash[0x1E000 : 0x1E000 + 0xC00] = replace(builders.SECONDARY, partitions=rows).to_bytes()
    flash[0x47000] = 0
    (tmp_path / "in.bin").write_bytes(flash)
    with pytest.raises(FormatError, match="evil"):
        built_files(recipe_from_release(tmp_path / "in.bin", None, Options()))


# --- another module ------------------------------------------------------------------------------


def test_the_parameters_of_another_module_are_laid_over(release, tmp_path):
    recipe = recipe_from_release(release, "PLATFORM_ESP32C3/esp32c3-spi", Options())
    assert recipe.full_name == "ESP32C3/ESP32C3-SPI"
    assert any("uart_tx_pin 7 → -1" in note for note in recipe.notes)
    assert any("compiled for ESP32C3/MINI-1" in warning for warning in recipe.warnings)
    files = built_files(recipe)
    assert "factory/factory_ESP32C3-SPI.bin" in files
    write_build_folder(tmp_path / "out", files)
    settings = Firmware.open(tmp_path / "out").settings()
    assert settings["module_name"] == "ESP32C3-SPI"
    assert settings["uart_tx_pin"] == -1
    assert settings["version"] == 4
    assert settings["country_code"] == "CN"


def test_the_legacy_layout_takes_the_parameters_that_it_has_fields_for(tmp_path):
    release = builders.legacy_release(tmp_path / "release")
    recipe = recipe_from_release(release, "ESP32C3/ESP32C3-SPI", Options())
    assert any("sys_store" in note for note in recipe.notes)
    write_build_folder(tmp_path / "out", built_files(recipe))
    settings = Firmware.open(tmp_path / "out").settings()
    assert (settings["module_name"], settings["uart_tx_pin"], settings["version"]) == ("ESP32C3-SPI", -1, 3)


@pytest.mark.parametrize("name", ["MINI-1", "esp32c3/mini-1", "PLATFORM_ESP32C3/MINI-1"])
def test_its_own_module_changes_nothing(release, name):
    recipe = recipe_from_release(release, name, Options())
    assert recipe == recipe_from_release(release, None, Options())
    assert recipe.warnings == ()


def test_a_module_with_less_flash_than_the_tables_need_is_refused(tmp_path):
    (tmp_path / "in.bin").write_bytes(builders.image(chip="esp32c2"))
    with pytest.raises(InputError, match="2 MB of flash") as caught:
        recipe_from_release(tmp_path / "in.bin", "ESP32C2/ESP32C2-2MB", Options())
    assert "--flash 2MB" in caught.value.hint
    options = Options(flash_size=2 << 20)
    recipe = customise(recipe_from_release(tmp_path / "in.bin", "ESP32C2/ESP32C2-2MB", options), options)
    assert len(built_files(recipe)["factory/factory_ESP32C2-2MB.bin"].data) == 2 << 20


def test_a_module_with_another_chip_is_refused(release):
    with pytest.raises(InputError, match="ESP32-C6"):
        recipe_from_release(release, "ESP32C6/ESP32C6-4MB", Options())


# --- whatever it is, only errors of ours ----------------------------------------------------------


def test_damaged_sources_raise_only_errors_of_ours(tmp_path):
    import random

    rng = random.Random(5)
    good = builders.image(filled=False)
    path = tmp_path / "in.bin"
    built = 0
    for _ in range(60):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            at = rng.choice((0, 0x8000, 0x1E000, builders.MFG_OFFSET, builders.APP_OFFSET)) + rng.randrange(
                600
            )
            data[at] = rng.randrange(256)
        path.write_bytes(data)
        with contextlib.suppress(EspAtError):
            built_files(customise(recipe_from_release(path, None, Options()), Options()))
            built += 1
    assert built

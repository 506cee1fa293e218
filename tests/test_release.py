"""Releases as flash: which file changes, which list names it, and what is refused."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from pathlib import Path

import builders
import pytest

from esp_at_tools.errors import InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.folder_tree import FolderTree, walk
from esp_at_tools.firmware.release import open_archive, open_folder
from esp_at_tools.firmware.zip_tree import ZipTree

RECORD_PLACE = builders.LEGACY_SECONDARY.find("factory_param").offset
WPA2_PLACE = builders.LEGACY_SECONDARY.find("wpa2_ca").offset


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return builders.release(tmp_path / "release")


@pytest.fixture
def legacy(tmp_path: Path) -> Path:
    return builders.legacy_release(tmp_path / "legacy")


def changed_names(before: Path, after: Path) -> set[str]:
    old, new = builders.tree(before), builders.tree(after)
    assert set(old) <= set(new)
    return {name for name in new if new[name] != old.get(name)}


def with_json(folder: Path, files: dict[str, str], **more: object) -> None:
    """Give a legacy release a flasher_args.json that ESP-IDF did not write."""
    document = {"flash_settings": {"flash_size": "4MB"}, "flash_files": files, **more}
    (folder / "flasher_args.json").write_text(json.dumps(document, indent=2))


def listed(folder: Path) -> dict[str, str]:
    words = (folder / "download.config").read_text().split()[6:]
    return dict(zip(words[::2], words[1::2], strict=True))


# --- reading ---------------------------------------------------------------------------------------------


def test_a_folder_and_a_zip_are_the_same_flash(release, tmp_path):
    folder = open_folder(release)
    archive = open_archive(builders.zipped(release, tmp_path / "r.zip", "a/b/"))
    assert archive.prefix == "a/b/"
    image = (release / "factory" / "factory_MINI-1_unfilled.bin").read_bytes()
    assert folder.end == archive.end == len(image)
    assert folder.read(0, len(image)) == archive.read(0, len(image)) == image
    assert folder.read(0x7FF0, 0x20) == image[0x7FF0:0x8010]
    assert folder.read(len(image) - 8, 16) == image[-8:] + b"\xff" * 8
    assert folder.factory_images() == archive.factory_images() == [
        "factory/factory_MINI-1.bin", "factory/factory_MINI-1_unfilled.bin"
    ]  # fmt: skip


def test_the_nearest_list_of_parts_counts_in_a_zip(release, tmp_path):
    deeper = release / "components" / "copy"
    deeper.mkdir(parents=True)
    shutil.copy(release / "download.config", deeper)
    assert open_archive(builders.zipped(release, tmp_path / "r.zip", "x/")).prefix == "x/"


@pytest.mark.parametrize("name", ["flasher_args.json", "download.config"])
def test_one_list_of_parts_is_enough(release, tmp_path, name):
    (release / name).unlink()
    firmware = Firmware.open(release)
    firmware.set("uart_baudrate", 9600)
    firmware.write(tmp_path / "out")
    assert Firmware.open(tmp_path / "out").get("uart_baudrate") == 9600
    assert not (tmp_path / "out" / name).exists()


@pytest.mark.parametrize("offset", [0xFF0000, 0x1000000, 0xFFFFF000])
def test_a_part_past_every_flash_is_refused_before_it_is_read(legacy, offset):
    config = (legacy / "download.config").read_text()
    (legacy / "big.bin").write_bytes(b"\0" * 0x20000)
    (legacy / "download.config").write_text(f"{config} {offset:#x} big.bin")
    with pytest.raises(InputError, match=r"big\.bin, 131072 bytes at 0x[f0-9]+, goes past every flash"):
        Firmware.open(legacy)


def test_many_parts_upon_each_other_are_refused_before_they_are_read(legacy):
    (legacy / "big.bin").write_bytes(b"\0" * (8 << 20))
    words = " ".join(f"{n:#x} big.bin" for n in range(1, 12))
    config = (legacy / "download.config").read_text()
    (legacy / "download.config").write_text(f"{config} {words}")
    with pytest.raises(InputError, match="goes past every flash"):
        Firmware.open(legacy)


# --- which files change ----------------------------------------------------------------------------------


def test_only_the_files_of_a_changed_partition_change(release, tmp_path):
    (release / "factory_param_MINI-1.bin").write_bytes(b"no merged image, whatever its name")
    firmware = Firmware.open(release)
    firmware.set("uart_baudrate", 9600)
    firmware.write(tmp_path / "out")
    assert changed_names(release, tmp_path / "out") == {
        "customized_partitions/mfg_nvs.bin",
        "customized_partitions/mfg_nvs.csv",
        "factory/factory_MINI-1.bin",
        "factory/factory_MINI-1_unfilled.bin",
    }


def test_a_partition_without_a_file_gets_one(legacy, tmp_path):
    with_json(legacy, listed(legacy), note="kept", app={"offset": "0x60000", "file": "esp-at.bin"})
    firmware = Firmware.open(legacy)
    firmware.set_pki("wpa2_ca", builders.certificate(1, ca=True))
    firmware.write(tmp_path / "out")
    name = "customized_partitions/wpa2_ca.bin"
    assert changed_names(legacy, tmp_path / "out") == {name, "flasher_args.json", "download.config"}
    document = json.loads((tmp_path / "out" / "flasher_args.json").read_text())
    assert document["note"] == "kept"
    assert document["flash_files"] == {**listed(legacy), f"{WPA2_PLACE:#x}": name}
    assert document["wpa2_ca"] == {"offset": f"{WPA2_PLACE:#x}", "file": name}
    assert listed(tmp_path / "out") == {**listed(legacy), f"{WPA2_PLACE:#x}": name}


def test_a_file_that_no_list_names_is_no_part(legacy, tmp_path):
    """It is replaced when its partition gets contents, as a change that was interrupted leaves it."""
    (legacy / "customized_partitions" / "wpa2_ca.bin").write_bytes(b"left behind")
    firmware = Firmware.open(legacy)
    assert firmware.get("wpa2_ca") is None
    firmware.set_pki("wpa2_ca", b"ca")
    firmware.write(tmp_path / "out")
    written = (tmp_path / "out" / "customized_partitions" / "wpa2_ca.bin").read_bytes()
    assert written == builders.pki_list(b"ca")


def test_a_file_of_that_name_at_another_address_is_left_alone(legacy, tmp_path):
    name = "customized_partitions/wpa2_ca.bin"
    (legacy / name).write_bytes(b"something else")
    config = (legacy / "download.config").read_text()
    (legacy / "download.config").write_text(f"{config} 0x300000 {name}")
    firmware = Firmware.open(legacy)
    firmware.set_pki("wpa2_ca", b"ca")
    firmware.write(tmp_path / "out")
    other = f"customized_partitions/wpa2_ca_{WPA2_PLACE:x}.bin"
    assert changed_names(legacy, tmp_path / "out") == {other, "download.config"}
    assert listed(tmp_path / "out")[f"{WPA2_PLACE:#x}"] == other


def test_a_part_that_holds_several_partitions_is_patched(legacy, tmp_path):
    """Such as a release whose only part is the merged image."""
    image = builders.legacy_image()
    shutil.rmtree(legacy)
    legacy.mkdir()
    (legacy / "all.bin").write_bytes(image)
    (legacy / "download.config").write_text("--flash_size 4MB 0x0 all.bin")
    firmware = Firmware.open(legacy)
    firmware.set("uart_baudrate", 9600)
    firmware.set_pki("wpa2_ca", b"ca")
    firmware.write(tmp_path / "out")
    assert changed_names(legacy, tmp_path / "out") == {"all.bin"}
    out = (tmp_path / "out" / "all.bin").read_bytes()
    assert {at & ~0xFFF for at in range(len(out)) if out[at] != image[at]} == {RECORD_PLACE, WPA2_PLACE}
    assert struct.unpack_from("<i", out, RECORD_PLACE + 12) == (9600,)


def test_a_file_that_stands_for_two_partitions_is_not_changed(legacy, tmp_path):
    (legacy / "blank.bin").write_bytes(b"\xff" * 0x1000)
    config = (legacy / "download.config").read_text()
    (legacy / "download.config").write_text(f"{config} {WPA2_PLACE:#x} blank.bin 0x300000 blank.bin")
    firmware = Firmware.open(legacy)
    firmware.set_pki("wpa2_ca", b"ca")
    message = rf"blank\.bin is flashed to {WPA2_PLACE:#x} and 0x300000, and only one of them changes"
    with pytest.raises(InputError, match=message):
        firmware.write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_csv_beside_a_legacy_partition_is_not_ours(legacy, tmp_path):
    (legacy / "customized_partitions" / "factory_param.csv").write_text("baud,9600\n")
    firmware = Firmware.open(legacy)
    firmware.set("uart_baudrate", 9600)
    firmware.write(tmp_path / "out")
    assert changed_names(legacy, tmp_path / "out") == {"customized_partitions/factory_param.bin"}


def test_a_merged_image_with_another_table_is_refused(release, tmp_path):
    path = release / "factory" / "factory_MINI-1.bin"
    data = bytearray(path.read_bytes())
    data[0x8000 + 12 : 0x8000 + 13] = b"X"
    path.write_bytes(data)
    firmware = Firmware.open(release)
    firmware.set("uart_baudrate", 9600)
    with pytest.raises(InputError, match=r"factory_MINI-1\.bin has another table at 0x8000"):
        firmware.write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_in_place_the_partition_is_replaced_last(legacy, monkeypatch):
    """Whoever is interrupted and asks again finds what is left to do."""
    (legacy / "factory").mkdir()
    (legacy / "factory" / "factory_MINI-1.bin").write_bytes(builders.legacy_image())
    with_json(legacy, listed(legacy))
    firmware = Firmware.open(legacy)
    firmware.set("uart_baudrate", 9600)
    firmware.set_pki("wpa2_ca", b"ca")
    order = []
    replace = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda self, target: order.append(target.name) or replace(self, target)
    )
    firmware.write_in_place()
    assert order == [
        "factory_MINI-1.bin", "wpa2_ca.bin", "download.config", "flasher_args.json", "factory_param.bin"
    ]  # fmt: skip


def test_in_place_what_is_so_already_is_not_touched(cli, release):
    before = {path: path.stat().st_ino for path in release.rglob("*")}
    assert cli("modify-bin", "-in", release, "--in-place", "-b", "115200").status == 0
    assert {path: path.stat().st_ino for path in release.rglob("*")} == before
    (release / "factory" / "factory_MINI-1.bin").unlink()
    assert cli("modify-bin", "-in", release, "--in-place", "-b", "9600").status == 0
    replaced = {path.name for path in release.rglob("*") if path.stat().st_ino != before[path]}
    assert replaced == {"mfg_nvs.bin", "mfg_nvs.csv", "factory_MINI-1_unfilled.bin"}


# --- folders ---------------------------------------------------------------------------------------------


def test_walking_counts_and_follows(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("")
    (tmp_path / "a" / "link").symlink_to("b")
    names = dict(walk(tmp_path / "a"))
    assert names == {"b": True, "link": True, "b/c": False, "link/c": False}
    assert FolderTree(tmp_path / "a").names() == ["b/c", "link/c"]


def test_links_that_multiply_are_refused(tmp_path, monkeypatch):
    """Each folder holds two links to the next: 2^n ways through n of them."""
    monkeypatch.setattr("esp_at_tools.firmware.folder_tree.MAX_FILES", 1000)
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        for link in "xy":
            (tmp_path / str(number) / link).symlink_to(f"../{number + 1}")
    with pytest.raises(InputError, match="holds too many files"):
        list(walk(tmp_path / "0"))


# --- archives --------------------------------------------------------------------------------------------


def archive(path: Path, members: dict[str, bytes], **options: object) -> Path:
    with zipfile.ZipFile(path, "w", **options) as out:
        for name, data in members.items():
            out.writestr(zipfile.ZipInfo(name), data, out.compression)
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x", "would lie outside"),
        ("/etc/x", "would lie outside"),
        ("a/../../x", "would lie outside"),
        ("c:x", "would lie outside"),
        ("a\\x", "backslash in its name"),
    ],
)
def test_names_that_lead_out_of_an_archive(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        ZipTree(archive(tmp_path / "x.zip", {"download.config": b"", name: b"x"}))


def test_a_member_that_is_larger_than_it_says(tmp_path):
    path = archive(tmp_path / "x.zip", {"a": b"\0" * 5000}, compression=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    for at in (data.index(b"PK\x01\x02") + 24, 22):  # uncompressed size in the directory and in the header
        data[at : at + 4] = struct.pack("<I", 100)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a is (damaged|not as large)"):
        ZipTree(path).read("a")


def test_a_member_too_large_to_read_is_only_copied(tmp_path, release, monkeypatch):
    monkeypatch.setattr("esp_at_tools.files.MAX_INPUT_SIZE", 5 << 20)
    (release / "esp-at.elf").write_bytes(b"\0" * (6 << 20))
    source = builders.zipped(release, tmp_path / "r.zip")
    with pytest.raises(InputError, match=r"esp-at\.elf has 6291456 bytes"):
        ZipTree(source).read("esp-at.elf")
    firmware = Firmware.open(source)
    firmware.set("uart_baudrate", 9600)
    firmware.write(tmp_path / "out.zip")
    assert builders.tree(tmp_path / "out.zip")["esp-at.elf"] == (release / "esp-at.elf").read_bytes()


def test_folders_and_the_comment_of_an_archive_stay(tmp_path, release):
    source = builders.zipped(release, tmp_path / "r.zip")
    with zipfile.ZipFile(source, "a") as opened:
        opened.comment = b"official"
        opened.writestr("empty/", b"")
    firmware = Firmware.open(source)
    firmware.set("uart_baudrate", 9600)
    firmware.write(tmp_path / "out.zip")
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(tmp_path / "out.zip") as new:
        assert new.comment == b"official"
        assert new.namelist() == old.namelist()
        assert new.testzip() is None


def test_sha256_of_an_archive_and_of_a_folder(tmp_path, release):
    import hashlib

    source = builders.zipped(release, tmp_path / "r.zip")
    assert open_archive(source).sha256() == hashlib.sha256(source.read_bytes()).hexdigest()
    before = open_folder(release).sha256()
    (release / "notes.txt").write_text("not flashed")
    assert open_folder(release).sha256() == before
    (release / "esp-at.bin").write_bytes(builders.esp_image(size=8192))
    assert open_folder(release).sha256() != before

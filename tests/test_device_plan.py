"""What is written where: full images, releases, single partitions; what is kept, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import builders
import pytest

from esp_at_tools.device.esptool_command import UNKNOWN_ADDRESS, esptool_commands
from esp_at_tools.device.esptool_device import Link
from esp_at_tools.device.flash_header import with_flash_settings
from esp_at_tools.device.flashing import BLOCK_SIZE, changed_runs
from esp_at_tools.device.plan import FlashPlan, Segment, make_plan
from esp_at_tools.device.port_errors import opening_error
from esp_at_tools.device.ports import choose_ports
from esp_at_tools.errors import DeviceError, FormatError, InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.formats.app_image import AppImage
from esp_at_tools.formats.partition_table import Partition

NVS = (0x10000, 0x1E000)
FATFS = (0x47000, 0x60000)


@pytest.fixture
def image(tmp_path) -> Path:
    path = tmp_path / "factory.bin"
    path.write_bytes(builders.image())
    return path


def plan_of(path: Path, **options) -> FlashPlan:
    return make_plan(Firmware.open(path), **options)


def places(plan: FlashPlan) -> list[tuple[int, int, str]]:
    return [(segment.offset, segment.end, segment.name) for segment in plan.segments]


# --- images --------------------------------------------------------------------------------------


def test_full_image_leaves_out_what_the_device_stores(image):
    plan = plan_of(image)
    assert places(plan) == [
        (0, NVS[0], "bootloader, partition_table, otadata, phy_init"),
        (NVS[1], FATFS[0], "at_customize, mfg_nvs"),
        (FATFS[1], 0x400000, "ota_0, ota_1"),
    ]
    assert [part.name for part in plan.kept] == ["nvs", "fatfs"]
    data = image.read_bytes()
    assert all(segment.data == data[segment.offset : segment.end] for segment in plan.segments)
    assert (plan.chip, plan.flash_needed, plan.table_offset) == ("esp32c3", 4 << 20, 0x8000)


def test_nvs_that_an_image_fills_is_written(tmp_path):
    data = bytearray(builders.image())
    data[NVS[0] + 0x1234] = 0
    path = tmp_path / "x.bin"
    path.write_bytes(data)
    plan = plan_of(path)
    assert [part.name for part in plan.kept] == ["fatfs"]
    assert places(plan)[0][:2] == (0, FATFS[0])


def test_erase_writes_the_whole_file_and_keeps_nothing(image):
    plan = plan_of(image, erase=True)
    assert [(segment.offset, segment.end, segment.path) for segment in plan.segments] == [(0, 4 << 20, image)]
    assert plan.kept == ()
    assert plan.erase


def test_unfilled_image_ends_with_its_data(tmp_path):
    path = tmp_path / "unfilled.bin"
    path.write_bytes(builders.image()[:0x230000])
    plan = plan_of(path)
    assert plan.segments[-1].end == 0x230000
    assert plan.flash_needed == 4 << 20


def test_what_is_not_kept_after_all_is_written_blank(image):
    plan = plan_of(image)
    changed = plan.without_keeping(plan.kept[:1])
    assert [part.name for part in changed.kept] == ["fatfs"]
    blank = next(segment for segment in changed.segments if segment.name == "nvs")
    assert (blank.offset, blank.data) == (NVS[0], b"\xff" * 0xE000)
    assert [segment.offset for segment in changed.segments] == [0, NVS[0], NVS[1], FATFS[1]]


# --- one partition -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mfg_nvs", "nvs", "otadata", "ota_1"])
def test_only_one_partition_of_either_table(image, name):
    firmware = Firmware.open(image)
    part = next(place.partition for place in firmware.map.places() if place.partition.name == name)
    plan = make_plan(firmware, only=[name])
    assert places(plan) == [(part.offset, part.end, name)]
    assert plan.segments[0].data == image.read_bytes()[part.offset : part.end]
    assert plan.flash_needed == part.end
    assert plan.kept == ()


def test_only_at_customize_leaves_the_file_system_in_it(image):
    plan = plan_of(image, only=["at_customize", "at_customize"])
    assert places(plan) == [(NVS[1], FATFS[0], "at_customize, mfg_nvs")]
    assert [part.name for part in plan.kept] == ["fatfs"]
    both = plan_of(image, only=["at_customize", "fatfs"])
    assert [segment.end for segment in both.segments] == [FATFS[1]]
    assert both.kept == ()


def test_unknown_partition_is_refused_with_the_nearest(image):
    with pytest.raises(InputError) as caught:
        plan_of(image, only=["mfgnvs"])
    assert "'mfg_nvs'" in caught.value.hint
    assert "ota_1" in caught.value.hint


def test_partition_that_a_release_has_no_file_for_is_refused(tmp_path):
    folder = builders.release(tmp_path / "release")
    with pytest.raises(InputError, match=r"--only fatfs: .* has nothing for it"):
        plan_of(folder, only=["fatfs"])


def test_erase_and_only_exclude_each_other(image):
    with pytest.raises(InputError, match="contradict"):
        plan_of(image, only=["mfg_nvs"], erase=True)


def test_partition_alone_waits_for_its_address(tmp_path):
    path = tmp_path / "mfg_nvs.bin"
    path.write_bytes(builders.generate(builders.mfg_csv()))
    plan = plan_of(path)
    assert plan.segments == ()
    assert plan.size == builders.MFG_SIZE
    placed = plan.placed(Partition("mfg_nvs", 1, 2, 0x21000, 0x20000))
    assert places(placed) == [(0x21000, 0x41000, "mfg_nvs")]
    assert placed.segments[0].data == path.read_bytes() + b"\xff" * 0x1000
    assert placed.segments[0].path is None
    exact = plan.placed(Partition("mfg_nvs", 1, 2, 0x21000, builders.MFG_SIZE))
    assert exact.segments[0].path == path
    with pytest.raises(DeviceError, match="of the device 4096"):
        plan.placed(Partition("mfg_nvs", 1, 2, 0x21000, 0x1000))
    for options in ({"only": ["nvs"]}, {"erase": True}):
        with pytest.raises(InputError, match="mfg_nvs alone"):
            plan_of(path, **options)


# --- releases ------------------------------------------------------------------------------------


def test_release_gives_its_files(tmp_path):
    folder = builders.release(tmp_path / "release")
    plan = plan_of(folder)
    assert [(segment.offset, segment.name) for segment in plan.segments] == [
        (0, "bootloader"), (0x8000, "partition_table"), (0xD000, "otadata"), (0x1E000, "at_customize"),
        (0x1F000, "mfg_nvs"), (0x60000, "ota_0"),
    ]  # fmt: skip
    parts = builders.parts()
    for segment in plan.segments:
        name, data = parts[segment.offset]
        assert segment.path == folder / name
        assert segment.offset == 0 or segment.data == data
    assert (plan.settings.mode, plan.settings.freq, plan.settings.size) == ("dio", "40m", "4MB")
    archive = builders.zipped(folder, tmp_path / "release.zip", "inside/")
    zipped = plan_of(archive)
    assert [(segment.offset, segment.data) for segment in zipped.segments] == [
        (segment.offset, segment.data) for segment in plan.segments
    ]
    assert {segment.path for segment in zipped.segments} == {None}


def test_parts_inside_of_one_sector_are_refused(tmp_path):
    folder = builders.release(tmp_path / "release")
    args = folder / "flasher_args.json"
    args.write_text(args.read_text().replace('"0xd000"', '"0xc800"'))
    with pytest.raises(InputError, match="0xc800, inside of a 4 KB sector"):
        plan_of(folder)


def test_flash_settings_are_put_into_the_bootloader(tmp_path):
    folder = builders.release(tmp_path / "release")
    args = folder / "flasher_args.json"
    args.write_text(args.read_text().replace('"dio"', '"qio"').replace('"40m"', '"80m"'))
    plan = plan_of(folder)
    boot = AppImage.from_bytes(plan.segments[0].data)
    assert (boot.flash_mode, boot.flash_freq, boot.flash_size, boot.sha256_ok) == ("qio", "80m", "4MB", True)
    assert with_flash_settings(plan.segments[0].data, "dio", "40m", "4MB") == builders.esp_image(app=False)
    assert plan_of(folder, only=["mfg_nvs"]).settings.mode == ""


def test_flash_settings_that_the_chip_does_not_have(tmp_path):
    folder = builders.release(tmp_path / "release")
    args = folder / "flasher_args.json"
    args.write_text(args.read_text().replace('"40m"', '"60m"'))
    with pytest.raises(FormatError, match="flash_freq 60m is unknown on esp32c3"):
        plan_of(folder)
    assert with_flash_settings(b"no image", "dio", "40m", "4MB") == b"no image"


def test_real_releases_cover_what_their_full_images_hold(shared):
    for folder in sorted((shared / "firmware").iterdir()):
        if folder.is_dir():
            firmware = Firmware.open(folder)
            plan = make_plan(firmware)
            assert sum(segment.size for segment in plan.segments) > 800_000
            for segment in plan.segments:
                assert segment.data == firmware.source.read(segment.offset, segment.size), segment.name


# --- esptool's command line ----------------------------------------------------------------------


def test_esptool_commands(image, tmp_path):
    link = Link("PORT", 115200, stub=False)
    erase = esptool_commands(plan_of(image, erase=True), link, Path("parts"), verify=True)
    head = ("esptool", "--chip", "esp32c3", "--port", "PORT", "--baud", "115200", "--no-stub")
    assert erase.commands == (
        (*head, "write-flash", "--erase-all", "0x0", str(image)),
        (*head, "verify-flash", "0x0", str(image)),
    )
    assert erase.parts == ()
    only = esptool_commands(plan_of(image, only=["mfg_nvs"]), link, Path("parts"))
    assert only.commands == ((*head, "write-flash", "0x1f000", "parts/0x1f000.bin"),)
    assert [(str(path), segment.name) for path, segment in only.parts] == [("parts/0x1f000.bin", "mfg_nvs")]
    lone = tmp_path / "mfg_nvs.bin"
    lone.write_bytes(builders.generate(builders.mfg_csv()))
    words = esptool_commands(plan_of(lone), link, Path()).commands[0]
    assert words[-2:] == (UNKNOWN_ADDRESS, str(lone))
    folder = builders.release(tmp_path / "release")
    words = esptool_commands(plan_of(folder), link, Path()).commands[0]
    assert words[9:15] == ("--flash-mode", "dio", "--flash-freq", "40m", "--flash-size", "4MB")


# --- what differs --------------------------------------------------------------------------------


def digest_of(flash: bytes, asked: list[tuple[int, int]]):
    def digest(offset: int, size: int) -> str:
        asked.append((offset, size))
        return hashlib.md5(flash[offset : offset + size], usedforsecurity=False).hexdigest()

    return digest


def filled(size: int) -> bytearray:
    return bytearray(bytes(range(1, 251)) * (size // 250 + 1))[:size]


def test_only_sectors_that_differ_are_written():
    flash = filled(0x40000)
    wanted = bytearray(flash[0x1000:0x31234])
    wanted[0x2000] ^= 1
    wanted[0x2FFF] ^= 1
    wanted[0x3000] ^= 1
    wanted[0x30233] ^= 1
    asked: list[tuple[int, int]] = []
    runs = changed_runs(Segment("x", 0x1000, bytes(wanted)), digest_of(flash, asked))
    assert [(offset, len(data)) for offset, data in runs] == [(0x3000, 0x2000), (0x31000, 0x1000)]
    assert runs[0][1] == wanted[0x2000:0x4000]
    assert runs[1][1] == wanted[0x30000:] + b"\xff" * (0x1000 - 0x234)
    assert max(size for _, size in asked) == BLOCK_SIZE


def test_nothing_is_written_where_nothing_differs():
    flash = filled(0x20000)
    assert changed_runs(Segment("x", 0, bytes(flash)), digest_of(flash, [])) == []


def test_blank_sectors_are_not_written_to_blank_flash():
    data = bytearray(b"\xff" * 0x20000)
    data[0x5000] = 0
    runs = changed_runs(Segment("x", 0x10000, bytes(data)), digest_of(b"\xff" * 0x40000, []))
    assert [(offset, len(part)) for offset, part in runs] == [(0x15000, 0x1000)]


def test_blank_sectors_are_written_over_something():
    runs = changed_runs(Segment("x", 0, b"\xff" * 0x3000), digest_of(filled(0x1800) + b"\xff" * 0x1800, []))
    assert [(offset, len(part)) for offset, part in runs] == [(0, 0x2000)]


def test_new_contents_are_not_looked_at_sector_by_sector():
    flash, asked = filled(0x100000), []
    wanted = bytes(byte ^ 1 for byte in flash)
    runs = changed_runs(Segment("x", 0, wanted), digest_of(flash, asked))
    assert runs == [(0, wanted)]
    assert len(asked) == 0x100000 // BLOCK_SIZE


def test_without_comparison_everything_is_written():
    assert changed_runs(Segment("x", 0x2000, b"abc"), None) == [(0x2000, b"abc" + b"\xff" * 0xFFD)]


# --- ports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "text", "message"),
    [
        (2, "[Errno 2] could not open port", "there is no such port"),
        (None, "could not open port 'COM9': FileNotFoundError(2, …)", "there is no such port"),
        (16, "busy", "another program has it open"),
        (11, "Could not exclusively lock port", "another program has it open"),
        (None, "could not open port 'COM3': PermissionError(13, 'Access is denied.')", "another program"),
        (13, "Permission denied", "you may not open it"),
        (25, "Inappropriate ioctl for device", "is no serial port"),
        (5, "I/O error", "cannot be opened: I/O error"),
    ],
)
def test_opening_a_port_fails_with_a_reason(number, text, message):
    error = opening_error("/dev/ttyX", number, text)
    assert error.message.startswith("/dev/ttyX: ")
    assert message in error.message
    assert error.hint


def test_ports_are_chosen(monkeypatch, tmp_path):
    from esp_at_tools.device import ports

    usb = [ports.SerialPort(name, "", 0x10C4, 0xEA60) for name in ("/dev/a", "/dev/b")]
    board = ports.SerialPort("/dev/ttyS0", "", None, None)
    monkeypatch.setattr(ports, "serial_ports", lambda: [usb[0], board])
    assert choose_ports([]) == ["/dev/a"]
    assert choose_ports(["/dev/x", "socket://h:1"]) == ["/dev/x", "socket://h:1"]
    monkeypatch.setattr(ports, "serial_ports", lambda: [*usb, board])
    with pytest.raises(InputError, match="several"):
        choose_ports([])
    monkeypatch.setattr(ports, "serial_ports", lambda: [board])
    with pytest.raises(DeviceError, match="no serial port on USB"):
        choose_ports([])
    (tmp_path / "real").touch()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(InputError, match="is the same port as"):
        choose_ports([str(tmp_path / "real"), str(tmp_path / "link")])

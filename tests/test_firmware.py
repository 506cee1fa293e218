"""The firmware model as a library: open, read, change, write."""

from __future__ import annotations

import datetime as dt
import struct
from pathlib import Path

import builders
import pytest

from esp_at_tools.errors import EspAtError, InputError, RiskyValueError
from esp_at_tools.firmware import firmware as firmware_module
from esp_at_tools.firmware.firmware import Change, Contents, Firmware, PkiDigest
from esp_at_tools.firmware.flash_map import locate
from esp_at_tools.firmware.modify import modify
from esp_at_tools.firmware.opening import open_source
from esp_at_tools.firmware.request import Request
from esp_at_tools.firmware.source import FileSource, Patch, patched_chunks
from esp_at_tools.formats.nvs import NvsPartition

ROW = "0,16,0x2800,0x01,2,2,A002"


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("images")
    (folder / "modern").write_bytes(builders.image())
    (folder / "legacy").write_bytes(builders.legacy_image())
    (folder / "mfg_nvs").write_bytes(builders.generate(builders.mfg_csv()))
    (folder / "factory_param").write_bytes(builders.factory_param())
    builders.release(folder / "release")
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(params=["modern", "legacy"])
def firmware(request, images) -> Firmware:
    return Firmware.open(images[request.param])


def test_what_an_input_is(images):
    expected = {
        "modern": ("image", "modern", "esp32c3", 4 << 20),
        "legacy": ("image", "legacy", "esp32c3", 4 << 20),
        "mfg_nvs": ("mfg_nvs", "modern", "", 0),
        "factory_param": ("factory_param", "legacy", "esp32c3", 0),
        "release": ("release", "modern", "esp32c3", 4 << 20),
    }
    for name, facts in expected.items():
        found = Firmware.open(images[name])
        assert (found.kind, found.layout.name, found.chip_name, found.flash_size) == facts


def test_paths_may_be_text(images):
    assert Firmware.open(str(images["modern"])).get("uart_baudrate") == 115200


def test_get_by_every_kind_of_name(firmware):
    assert firmware.get("uart_baudrate") == 115200
    assert firmware.get("module_name") == "MINI-1"
    assert firmware.get("wpa2_ca") is None
    assert firmware.get("cfg30") is None
    with pytest.raises(InputError, match="did you mean uart_baudrate"):
        firmware.get("uart_baud")


def test_changes_are_what_differs_from_the_input(firmware):
    assert firmware.changes() == []
    assert firmware.patches() == []
    firmware.set("uart_baudrate", 9600)
    firmware.set_pki("wpa2_ca", b"abc")
    assert firmware.changes() == [
        Change("uart_baudrate", 115200, 9600), Change("wpa2_ca", None, PkiDigest.of(b"abc"))
    ]  # fmt: skip
    firmware.set("uart_baudrate", 115200)
    firmware.unset("wpa2_ca")
    assert firmware.changes() == []
    assert firmware.patches() == []


def test_new_certificates_come_in_the_order_of_the_official_build(images):
    """Whatever the order of the options, and behind what was there: so a removal gives that back."""
    names = ("mqtt_ca", "client_ca.1", "wpa2_ca", "server_ca", "client_ca.0")
    made = []
    for order in (names, names[::-1]):
        firmware = Firmware.open(images["modern"])
        before = firmware.layout.nvs.namespaces
        asked = Request(pki=dict.fromkeys(order, builders.certificate(1, ca=True)))
        modify(firmware, asked, force=True)
        made.append(firmware.layout.contents())
        assert firmware.layout.nvs.namespaces == (*before, "server_ca", "client_ca", "wpa2_ca", "mqtt_ca")
        modify(firmware, Request(unset=list(order)))
        assert firmware.patches() == []
    assert made[0] == made[1]


def test_a_change_and_its_reverse_give_the_first_bytes(images, tmp_path):
    for name in ("modern", "legacy", "mfg_nvs"):
        firmware = Firmware.open(images[name])
        firmware.set("uart_baudrate", 9600)
        firmware.set_pki("wpa2_ca", b"abc")
        firmware.write(tmp_path / "a")
        back = Firmware.open(tmp_path / "a")
        back.set("uart_baudrate", 115200)
        back.unset("wpa2_ca")
        back.write(tmp_path / "b")
        assert (tmp_path / "a").read_bytes() != images[name].read_bytes()
        assert (tmp_path / "b").read_bytes() == images[name].read_bytes()


def test_setting_the_wrong_kind_of_thing(firmware):
    with pytest.raises(InputError, match="is a certificate or key"):
        firmware.set("mqtt_ca", "text")
    with pytest.raises(InputError, match="is no certificate or key"):
        firmware.set_pki("uart_baudrate", b"x")
    with pytest.raises(InputError, match="is not the name"):
        firmware.unset("nonsense")
    with pytest.raises(InputError, match="not in this firmware"):
        firmware.unset("wpa2_ca")
    with pytest.raises(InputError):
        firmware.set("uart_baudrate", 1 << 40)
    with pytest.raises(InputError):
        firmware.set("uart_baudrate", "fast")


def test_patches_are_the_changed_partitions(images):
    firmware = Firmware.open(images["legacy"])
    firmware.set("uart_baudrate", 9600)
    firmware.set_pki("wpa2_ca", b"abc")
    place = {partition.name: partition for partition in builders.LEGACY_SECONDARY}
    assert [(patch.name, patch.offset, patch.size) for patch in firmware.patches()] == [
        (name, place[name].offset, place[name].size) for name in ("factory_param", "wpa2_ca")
    ]
    assert firmware.patches()[1].padded == builders.pki_list(b"abc").ljust(0x2000, b"\xff")


def test_which_partitions_hold_keys(images, tmp_path):
    legacy = Firmware.open(images["legacy"])
    assert legacy.key_partitions == {"server_key", "client_key", "mqtt_key"}
    for name in ("server_key", "mqtt_key", "client_key.0", "client_key.1"):
        legacy.unset(name)
    assert legacy.key_partitions == frozenset()
    modern = Firmware.open(images["modern"])
    assert modern.key_partitions == frozenset()
    modern.set_pki("mqtt_key", b"-----")
    assert modern.key_partitions == {"mfg_nvs"}
    modern.write(tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0


def test_what_does_not_read_back_is_not_written(images, tmp_path, monkeypatch):
    firmware = Firmware.open(images["modern"])
    firmware.set("uart_baudrate", 9600)
    monkeypatch.setattr(firmware_module.NvsPartition, "from_bytes", lambda _: NvsPartition.empty(0x3000))
    with pytest.raises(EspAtError, match="does not read back as asked"):
        firmware.write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_entry_survives(tmp_path):
    csv = builders.mfg_csv("own,namespace,,\nthing,data,string,kept\n")
    (tmp_path / "in").write_bytes(builders.image(builders.generate(csv)))
    firmware = Firmware.open(tmp_path / "in")
    firmware.set("uart_baudrate", 9600)
    firmware.write(tmp_path / "out")
    data = (tmp_path / "out").read_bytes()
    nvs = NvsPartition.from_bytes(data[builders.MFG_OFFSET :][: builders.MFG_SIZE])
    assert nvs.get("own", "thing").value == "kept"


def test_an_item_in_a_foreign_namespace_is_not_the_item(tmp_path):
    csv = builders.mfg_csv("server_ca,namespace,,\nmqtt_ca,data,base64,AAAA\n")
    (tmp_path / "in").write_bytes(builders.generate(csv))
    firmware = Firmware.open(tmp_path / "in")
    assert firmware.get("mqtt_ca") is None
    firmware.set_pki("mqtt_ca", b"ca")
    firmware.write(tmp_path / "out")
    assert Firmware.open(tmp_path / "out").get("mqtt_ca") == b"ca"


def test_a_setting_keeps_the_type_that_the_firmware_gave_it(tmp_path):
    csv = builders.mfg_csv().replace("uart_baudrate,data,i32", "uart_baudrate,data,u32")
    (tmp_path / "in").write_bytes(builders.generate(csv))
    firmware = Firmware.open(tmp_path / "in")
    firmware.set("uart_baudrate", 9600)
    assert firmware.layout.nvs.get("factory_param", "uart_baudrate").type == "u32"


def test_an_image_of_the_esp32_has_its_bootloader_at_0x1000(tmp_path):
    flash = bytearray(builders.image(chip="esp32"))
    loader = builders.esp_image("esp32", app=False)
    flash[: len(loader)] = b"\xff" * len(loader)
    flash[0x1000 : 0x1000 + len(loader)] = loader
    (tmp_path / "in").write_bytes(flash)
    assert Firmware.open(tmp_path / "in").chip_name == "esp32"


# --- checked changes -------------------------------------------------------------------------------------


def test_a_refused_request_changes_nothing(firmware):
    before = Contents.of(firmware.layout)
    for request in (
        Request(settings={"uart_baudrate": 9600, "uart_tx_pin": 99}),
        Request(settings={"uart_baudrate": 9600}, pki={"mqtt_ca": b"junk"}),
        Request(settings={"max_tx_power": 30}),
        Request(settings={"uart_baudrate": 9600}, gatts={"cfg0": "junk"}),
    ):
        with pytest.raises(InputError):
            modify(firmware, request)
        assert Contents.of(firmware.layout) == before


def test_the_time_at_which_certificates_must_be_valid_can_be_given(images):
    firmware = Firmware.open(images["modern"])
    request = Request(pki={"mqtt_ca": builders.certificate(1, ca=True)})
    later = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=9000)
    with pytest.raises(RiskyValueError, match="expired"):
        modify(firmware, request, now=later)
    assert modify(firmware, request, now=later, force=True).warnings
    assert [change.name for change in firmware.changes()] == ["mqtt_ca"]


def test_what_is_as_asked_is_never_refused(images, tmp_path):
    """A firmware with bad values can be changed, and even be asked for those values."""
    firmware = Firmware.open(images["modern"])
    firmware.set("max_tx_power", 20)
    firmware.set_pki("mqtt_ca", b"junk")
    firmware.set("cfg0", "junk")
    firmware.write(tmp_path / "odd")
    odd = Firmware.open(tmp_path / "odd")
    request = Request({"max_tx_power": 20, "uart_baudrate": 9600}, {"mqtt_ca": b"junk"}, {"cfg0": "junk"})
    outcome = modify(odd, request)
    assert outcome.changes == [Change("uart_baudrate", 115200, 9600)]
    assert outcome.unchanged == ["max_tx_power", "mqtt_ca", "cfg0"]


def test_a_damaged_nvs_keeps_what_the_firmware_reads(images, tmp_path):
    flash = bytearray(images["modern"].read_bytes())
    flash[flash.index(b"country_code\0", builders.MFG_OFFSET) - 4] ^= 0xFF
    (tmp_path / "in").write_bytes(flash)
    firmware = Firmware.open(tmp_path / "in")
    request = Request(settings={"uart_baudrate": 9600})
    with pytest.raises(RiskyValueError, match="mfg_nvs is damaged"):
        modify(firmware, request)
    outcome = modify(firmware, request, force=True)
    assert "allowed by --force" in outcome.warnings[0]
    firmware.write(tmp_path / "out")
    repaired = Firmware.open(tmp_path / "out")
    expected = {**Firmware.open(images["modern"]).settings(), "uart_baudrate": 9600}
    del expected["country_code"]
    assert repaired.settings() == expected
    assert not repaired.layout.nvs.loses_entries


def test_removing_makes_room_first(tmp_path):
    nvs = NvsPartition.from_csv(builders.mfg_csv(), 0x3000)
    nvs.set("mqtt_ca", "mqtt_ca", "blob", b"x" * 3500)
    nvs.set("server_ca", "server_ca", "blob", b"y" * 2500)
    (tmp_path / "in").write_bytes(nvs.to_bytes())
    firmware = Firmware.open(tmp_path / "in")
    with pytest.raises(InputError, match="does not fit"):
        modify(firmware, Request(pki={"server_ca": builders.certificate(0) * 9}), force=True)
    firmware = Firmware.open(tmp_path / "in")
    request = Request(pki={"server_ca": builders.certificate(0) * 9}, unset=["mqtt_ca"])
    assert {change.name for change in modify(firmware, request, force=True).changes} == {
        "server_ca",
        "mqtt_ca",
    }


# --- pieces ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patches", "expected"),
    [
        ([], b"0123456789"),
        ([Patch("a", 2, 3, b"xy")], b"01xy\xff56789"),
        ([Patch("b", 6, 2, b"zz"), Patch("a", 0, 2, b"xy")], b"xy2345zz89"),
        ([Patch("a", 8, 4, b"xy")], b"01234567xy"),
        ([Patch("a", 8, 4, b"xyz")], b"01234567xyz"),
        ([Patch("a", 12, 4, b"xy")], b"0123456789\xff\xffxy"),
        ([Patch("a", 12, 4, b"")], b"0123456789"),
        ([Patch("a", 8, 4, b"")], b"01234567\xff\xff"),
    ],
)
def test_patches_laid_over_a_file(patches, expected):
    """An unfilled image grows just enough, and never becomes shorter."""
    assert b"".join(patched_chunks(b"0123456789", patches)) == expected


def test_a_file_as_flash(tmp_path):
    source = FileSource(tmp_path / "x", b"0123", "image")
    assert (source.size, source.end) == (4, 4)
    assert source.read(2, 4) == b"23\xff\xff"
    assert source.read(9, 2) == b"\xff\xff"


def test_an_unfilled_image_may_end_anywhere(tmp_path):
    """Such as a few bytes after 1 MB; only past the end of every partition there is nothing to hold."""
    app = builders.esp_image(size=0xA0000)
    flash = bytearray(builders.image(filled=False)[: builders.APP_OFFSET]) + app
    assert 0x100000 < len(flash) < 0x101000
    (tmp_path / "in").write_bytes(flash)
    assert Firmware.open(tmp_path / "in").kind == "image"
    (tmp_path / "in").write_bytes(builders.image() + b"more")
    with pytest.raises(InputError, match="is 4 bytes longer than a flash of 4194304 bytes"):
        Firmware.open(tmp_path / "in")


def test_the_tables_of_a_flash(images):
    found = locate(open_source(images["modern"]), None)
    assert found is not None
    assert found.offset == 0x8000
    assert [(place.table, place.partition.name) for place in found.places()][-1] == ("secondary", "fatfs")
    assert found.contradictions(4 << 20) == []
    assert len(found.contradictions(2 << 20)) == 2  # ota_0 and ota_1 end past 2 MB


def test_a_lone_record_with_an_unknown_platform(tmp_path):
    (tmp_path / "in").write_bytes(builders.factory_param(platform="SOMETHING"))
    assert Firmware.open(tmp_path / "in").chip is None
    assert Firmware.open(tmp_path / "in", chip="esp32").chip_name == "esp32"


def test_the_name_of_the_input_is_in_every_error_about_it(tmp_path):
    data = bytearray(builders.factory_param())
    struct.pack_into("<B", data, 2, 77)
    (tmp_path / "in").write_bytes(data)
    with pytest.raises(InputError, match=str(tmp_path / "in")):
        Firmware.open(tmp_path / "in")

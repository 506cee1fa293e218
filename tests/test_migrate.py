"""migrate: what is carried, kept and lost, and that the report tells all of it."""

from __future__ import annotations

import copy
import itertools
import re

import builders
import nvs_images as nvs
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from esp_at_tools.catalog.default_gatts import default_gatt_rows
from esp_at_tools.errors import InputError, RiskyValueError
from esp_at_tools.firmware.compare import compare
from esp_at_tools.firmware.firmware import Firmware, PkiDigest
from esp_at_tools.firmware.migrate import GATT_TABLE, migrate
from esp_at_tools.formats.partition_table import Partition, PartitionTable
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.names import PIN_SETTINGS

ROW = "0,16,0x2800,0x01,2,2,A002"
TABLE = (ROW, "1,16,0x2803,0x01,1,1,02", "2,16,0xC300,0x01,1,1,30")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Firmwares of both layouts, opened once; a test takes a copy."""
    folder = tmp_path_factory.mktemp("migrate")
    (folder / "modern.bin").write_bytes(builders.image())
    (folder / "legacy.bin").write_bytes(builders.legacy_image())
    (folder / "mfg_nvs.bin").write_bytes(builders.generate(builders.mfg_csv()))
    (folder / "factory_param.bin").write_bytes(builders.factory_param())
    return {path.stem: Firmware.open(path) for path in folder.iterdir()}


def reopened(firmware: Firmware) -> Firmware:
    """Return a firmware whose changes count as what it was opened with."""
    return Firmware(
        firmware.source,
        firmware.layout,
        firmware.places,
        firmware.map,
        firmware.chip_name,
        firmware.flash_size,
    )


@pytest.fixture
def take(opened):
    """Return a copy of a firmware with some settings, items and rows changed."""

    def copied(name, pki=(), gatts=(), **changes) -> Firmware:
        firmware = copy.deepcopy(opened[name])
        for setting, value in changes.items():
            firmware.set(setting, value)
        for item, data in dict(pki).items():
            firmware.set_pki(item, data)
        for number, row in enumerate(gatts):
            firmware.set(f"cfg{number}", row)
        return reopened(firmware)

    return copied


def names(entries) -> list[str]:
    return [entry.name for entry in entries]


def of(entries, name):
    return next(entry for entry in entries if entry.name == name)


# --- settings ------------------------------------------------------------------------------------


def test_what_the_user_changed_is_carried_and_identity_stays(take):
    old = take(
        "modern", uart_baudrate=921600, uart_tx_pin=5, uart_cts_pin=7, module_name="PRODUCT", version=3
    )
    new = take("modern", country_code="DE")
    result = migrate(old, new)
    assert new.settings() == {**old.settings(), "module_name": "MINI-1", "version": 4}
    assert {each.name for each in result.carried if each.changed} == {
        "uart_baudrate", "uart_tx_pin", "uart_cts_pin", "country_code"
    }  # fmt: skip
    assert {(each.name, each.value, each.old) for each in result.kept} == {
        ("version", 4, 3), ("module_name", "MINI-1", "PRODUCT")
    }  # fmt: skip
    assert (result.lost, result.unneeded) == ([], [])
    assert {change.name: change.new for change in result.outcome.changes}["country_code"] == "CN"


def test_values_that_espressif_chose_are_marked(take):
    result = migrate(take("modern", uart_baudrate=921600), take("modern"))
    assert of(result.carried, "uart_baudrate").official_default is False
    assert of(result.carried, "uart_tx_pin").official_default is True
    result = migrate(take("modern", module_name="PRODUCT"), take("modern"))
    assert of(result.carried, "uart_tx_pin").official_default is None


@pytest.mark.parametrize(
    ("layouts", "before", "after"),
    [
        (("legacy", "modern"), (3, 11), (3, 9)),
        (("legacy", "modern"), (1, 13), (1, 13)),
        (("modern", "legacy"), (3, 9), (3, 11)),
        (("legacy", "legacy"), (3, 11), (3, 11)),
        (("modern", "modern"), (3, 9), (3, 9)),
    ],
)
def test_channel_num_means_the_last_channel_in_the_legacy_layout(take, layouts, before, after):
    old, new = take(layouts[0], start_channel=before[0], channel_num=before[1]), take(layouts[1])
    result = migrate(old, new)
    assert (new.get("start_channel"), new.get("channel_num")) == after
    assert bool(of(result.carried, "channel_num").note) is (before != after)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"max_tx_power": -1}, {"max_tx_power"}),
        ({"uart_port": -1}, {"uart_port"}),
        ({"uart_baudrate": -1}, {"uart_baudrate"}),
        ({"uart_tx_pin": -1}, {"uart_tx_pin", "uart_rx_pin"}),
        ({"uart_rx_pin": -1}, {"uart_tx_pin", "uart_rx_pin"}),
        ({"uart_cts_pin": -1}, set()),
        ({"start_channel": 255}, {"start_channel", "channel_num", "country_code"}),
        ({"channel_num": 255}, {"start_channel", "channel_num", "country_code"}),
        ({"country_code": ""}, {"start_channel", "channel_num", "country_code"}),
        ({"start_channel": 5, "channel_num": 4}, {"start_channel", "channel_num", "country_code"}),
        ({"channel_num": 15}, {"start_channel", "channel_num", "country_code"}),
    ],
)
def test_what_a_legacy_record_does_not_give_is_not_carried(take, given, kept):
    changed = {
        "country_code": "US",
        "start_channel": 2,
        "channel_num": 10,
        "uart_tx_pin": 3,
        "uart_rx_pin": 1,
    }
    old, new = take("legacy", **{**changed, **given}), take("modern")
    before = new.settings()
    result = migrate(old, new)
    assert {name for name in names(result.kept) if name not in ("version", "sys_store")} == kept
    assert all(new.get(name) == before[name] for name in kept)
    assert new.get("uart_cts_pin") == given.get("uart_cts_pin", 5)


def test_a_record_of_version_1_takes_a_small_power_for_none(take, tmp_path):
    (tmp_path / "v1.bin").write_bytes(builders.factory_param(version=1))
    old, new = Firmware.open(tmp_path / "v1.bin", chip="esp32c3"), take("modern")
    old.set("max_tx_power", 9)
    assert "max_tx_power" in names(migrate(old, new).kept)
    old.set("max_tx_power", 60)
    assert "max_tx_power" in names(migrate(old, take("modern")).carried)


@pytest.mark.parametrize("without", ["old", "new"])
def test_the_uart_is_not_carried_between_different_interfaces(take, without):
    no_uart = dict.fromkeys(
        ["uart_port", "uart_baudrate", "uart_tx_pin", "uart_rx_pin", "uart_cts_pin", "uart_rts_pin"], -1
    )
    old = take("modern", **(no_uart if without == "old" else {}), country_code="US", channel_num=11)
    new = take("modern", **(no_uart if without == "new" else {}))
    before = new.settings()
    result = migrate(old, new)
    assert new.settings() == {**before, "country_code": "US", "channel_num": 11}
    assert {each.why for each in result.kept} == {f"the AT port of {without.upper()} is no UART"}
    both = take("modern", **no_uart)
    assert migrate(both, take("modern", **no_uart)).kept == []


def test_control_pins_have_no_place_in_the_modern_layout(take):
    result = migrate(take("legacy", tx_control_pin=10), take("modern"))
    assert names(result.lost) == ["tx_control_pin"]
    assert "GPIO 10" in result.lost[0].hint
    assert set(names(result.unneeded)) == {"rx_control_pin", "platform"}
    result = migrate(take("legacy", tx_control_pin=10), new := take("legacy"))
    assert (result.lost, new.get("tx_control_pin")) == ([], 10)


@pytest.mark.parametrize(("value", "where"), [(0, "lost"), (1, "unneeded")])
def test_sys_store_has_no_place_in_the_legacy_layout(take, value, where):
    result = migrate(take("modern", sys_store=value), take("legacy"))
    assert "sys_store" in names(getattr(result, where))
    assert names(result.lost) + names(result.unneeded) == ["sys_store"]


def test_a_setting_of_other_firmware_is_told(take, tmp_path):
    csv = builders.mfg_csv(
        "colour,data,string,red\nnumbers,data,hex2bin,0102\nextra,namespace,,\nx,data,u8,1\n"
    )
    (tmp_path / "own.bin").write_bytes(builders.image(builders.generate(csv)))
    old = Firmware.open(tmp_path / "own.bin")
    lost = names(migrate(old, take("modern")).lost)
    assert lost == ["colour", "factory_param/numbers", "extra/x"]
    assert migrate(old, Firmware.open(tmp_path / "own.bin")).lost == []


def test_impossible_and_risky_values_are_refused_with_a_way_out(take):
    old = take("modern", uart_tx_pin=77)
    new = take("modern")
    before = new.settings()
    with pytest.raises(InputError, match=r"uart_tx_pin \(.*modern.bin\): .*has no GPIO 77") as caught:
        migrate(old, new)
    assert "--keep uart_tx_pin leaves NEW's" in caught.value.hint
    assert new.settings() == before
    assert "uart_tx_pin" in names(migrate(old, new, keep=["uart_tx_pin"]).kept)
    with pytest.raises(RiskyValueError, match="max_tx_power"):
        migrate(take("modern", max_tx_power=20), take("modern"))
    migrate(take("modern", max_tx_power=20), forced := take("modern"), force=True)
    assert forced.get("max_tx_power") == 20


def test_keep_leaves_what_new_has(take):
    ca = builders.certificate(1, ca=True)
    old = take("modern", {"mqtt_ca": ca}, TABLE, uart_baudrate=9600)
    new = take("modern", {"mqtt_ca": builders.certificate(2, ca=True)}, (ROW,))
    result = migrate(old, new, keep=["uart_baudrate", "mqtt_ca", GATT_TABLE])
    assert result.outcome.changes == []
    assert {each.name: each.why for each in result.kept} == dict.fromkeys(
        ["uart_baudrate", "mqtt_ca", GATT_TABLE], "--keep asks for it"
    )
    for wrong, hint in (("cfg0", "give gatts"), ("uart_baud", "uart_baudrate")):
        with pytest.raises(InputError) as caught:
            migrate(old, new, keep=[wrong])
        assert hint in caught.value.hint


# --- certificates and keys -----------------------------------------------------------------------


def test_items_are_carried_and_absent_ones_stay(take):
    new = take(
        "modern", {"mqtt_ca": builders.certificate(1, ca=True), "wss_ca.0": builders.certificate(1, ca=True)}
    )
    old = take("legacy")
    result = migrate(old, new)
    assert {name: new.pki()[name] for name in old.pki()} == old.pki()
    assert of(result.kept, "wss_ca.0").why == "OLD has none"
    assert of(result.carried, "server_key").value == PkiDigest.of(builders.key_pem(0))
    assert b"PRIVATE" not in repr(result).encode()


ENTERPRISE = ("wpa2", "wpa_ent")


@pytest.mark.parametrize(("old_role", "new_role"), list(itertools.product(ENTERPRISE, ENTERPRISE)))
def test_enterprise_items_get_the_name_that_new_holds(take, old_role, new_role):
    items = {
        "ca": builders.certificate(1, ca=True),
        "cert": builders.certificate(0),
        "key": builders.key_pem(0),
    }
    old = take("modern", {f"{old_role}_{part}": data for part, data in items.items()})
    new = take("modern", {f"{new_role}_ca": builders.certificate(2, ca=True)})
    result = migrate(old, new)
    assert new.pki() == {f"{new_role}_{part}": data for part, data in items.items()}
    renamed = {each.old_name: each.name for each in result.carried if each.note.startswith("was ")}
    wanted = {f"{old_role}_{part}": f"{new_role}_{part}" for part in items} if old_role != new_role else {}
    assert renamed == wanted
    assert ("ota-renamed" in [finding.id for finding in result.ota.reasons]) is bool(wanted)


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        (b"wpa2_ca\0", "wpa2_ca"),
        (b"wpa_ent_ca\0", "wpa_ent_ca"),
        (b"wpa2_ca\0wpa_ent_ca\0", "wpa_ent_ca"),
        (b"", "wpa2_ca"),
    ],
)
def test_the_application_tells_the_name_where_nothing_else_does(take, monkeypatch, texts, name):
    monkeypatch.setattr("esp_at_tools.firmware.migrate.application", lambda firmware: texts)  # noqa: ARG005 - of new
    new = take("modern")
    migrate(take("modern", {"wpa2_ca": builders.certificate(1, ca=True)}), new)
    assert list(new.pki()) == [name]


def test_the_partitions_of_the_legacy_layout_tell_the_name(take):
    new = take("legacy")
    migrate(take("modern", {"wpa_ent_ca": builders.certificate(1, ca=True)}), new)
    assert "wpa2_ca" in new.pki()


def test_one_of_two_enterprise_sets_is_lost(take):
    both = {"wpa2_ca": builders.certificate(1, ca=True), "wpa_ent_ca": builders.certificate(2, ca=True)}
    new = take("modern", {"wpa_ent_ca": builders.certificate(3, ca=True)})
    result = migrate(take("modern", both), new)
    assert new.pki() == {"wpa_ent_ca": both["wpa_ent_ca"]}
    assert names(result.lost) == ["wpa2_ca"]


def test_items_without_a_partition_are_lost(take):
    result = migrate(take("modern", {"wss_ca.0": builders.certificate(1, ca=True)}), take("legacy"))
    assert "wss_ca.0" in names(result.lost)
    assert "no partition wss_ca" in of(result.lost, "wss_ca.0").reason


def test_a_certificate_that_does_not_fit_takes_its_key_along(take):
    """Two certificates in one file are a chain; eight kilobytes of them fit no legacy partition."""
    chain = builders.certificate(0) * 20
    other = {"mqtt_cert": chain, "mqtt_key": builders.key_pem(0), "mqtt_ca": builders.certificate(5, ca=True)}
    new = take("legacy")
    before = new.pki()
    result = migrate(take("modern", other), new)
    assert names(result.lost) == ["mqtt_cert", "mqtt_key"]
    assert {name: new.pki()[name] for name in ("mqtt_cert", "mqtt_key")} == {
        name: before[name] for name in ("mqtt_cert", "mqtt_key")
    }
    assert new.pki()["mqtt_ca"] == other["mqtt_ca"]
    assert all("8192" in each.reason for each in result.lost)
    assert {"mqtt_cert", "mqtt_key"} <= set(names(result.kept))


def test_what_a_small_mfg_nvs_has_no_room_for_is_told(take, tmp_path):
    (tmp_path / "small.bin").write_bytes(builders.generate(builders.mfg_csv(), 0x4000))
    new = Firmware.open(tmp_path / "small.bin", chip="esp32c3")
    big = builders.certificate(0) * 8
    old = take(
        "modern",
        {
            "mqtt_ca": builders.certificate(1, ca=True),
            "server_ca": big,
            "client_ca.0": big,
            "client_ca.1": big,
        },
    )
    result = migrate(old, new)
    lost = names(result.lost)
    assert lost
    assert set(lost) < {"server_ca", "client_ca.0", "client_ca.1"}
    assert set(new.pki()) == set(old.pki()) - set(lost)
    new.layout.contents()


def test_a_damaged_partition_is_lost_not_guessed(take, tmp_path):
    image = bytearray(builders.legacy_image())
    place = builders.LEGACY_SECONDARY.find("mqtt_ca").offset
    image[place : place + 8] = b"\x00" * 8
    ble = builders.LEGACY_SECONDARY.find("ble_data").offset
    image[ble : ble + 4] = b"\x01\x02\x03\x04"
    (tmp_path / "damaged.bin").write_bytes(image)
    result = migrate(Firmware.open(tmp_path / "damaged.bin"), take("modern"))
    assert {"mqtt_ca", GATT_TABLE} <= set(names(result.lost))
    assert "damaged" in of(result.lost, "mqtt_ca").reason


def test_features_that_new_lacks_are_warned_of(take, monkeypatch):
    app = b"\0mqtt_ca\0ble_data\0"
    monkeypatch.setattr("esp_at_tools.firmware.migrate.application", lambda firmware: app)  # noqa: ARG005 - of new
    items = {"mqtt_ca": builders.certificate(1, ca=True), "wss_ca.0": builders.certificate(1, ca=True)}
    result = migrate(take("modern", items, TABLE), take("modern"))
    (warning,) = [text for text in result.outcome.warnings if "does not know" in text]
    assert warning.startswith("wss_ca.0: NEW's application does not know it")
    known = take("modern", {"wss_ca.1": builders.certificate(1, ca=True)})
    assert not [text for text in migrate(take("modern", items), known).outcome.warnings if "know" in text]


# --- GATT table ----------------------------------------------------------------------------------


def test_the_table_replaces_that_of_new(take):
    new = take("modern", gatts=default_gatt_rows())
    result = migrate(take("legacy"), new)
    assert tuple(new.gatts().values()) == TABLE
    assert of(result.carried, GATT_TABLE).value == list(TABLE)
    assert len([change for change in result.outcome.changes if change.new is None]) == 31 - len(TABLE)


def test_first_values_that_the_modern_firmware_cannot_read_are_left_out(take):
    filler = (b"0123456789" * 52)[:512].hex().upper()
    own = "AB" * 30
    rows = (
        ROW,
        f"1,16,0xC301,0x01,512,512,{filler}",
        f"2,16,0xC301,0x01,512,30,{own}",
        f"3,16,0xC301,0x01,512,2,{own}",
    )
    old = take("legacy")
    for number, row in enumerate(rows):
        old.set(f"cfg{number}", row)
    new = take("modern")
    result = migrate(old, new, force=True)
    assert list(new.gatts().values()) == [
        ROW, "1,16,0xC301,0x01,512,512,", "2,16,0xC301,0x01,512,30,", "3,16,0xC301,0x01,512,2,ABAB"
    ]  # fmt: skip
    assert names(result.lost) == ["cfg2"]
    assert "cfg1" in names(result.unneeded)


def test_lengths_without_a_value_are_not_read_past_in_the_legacy_layout(take):
    rows = (*TABLE, "3,16,0x2901,0x11,512,512,")
    new = take("legacy")
    result = migrate(take("modern", gatts=rows), new)
    assert new.gatts()["cfg3"] == "3,16,0x2901,0x11,512,0,"
    assert of(result.carried, GATT_TABLE).note


def test_rows_after_a_gap_are_lost(take):
    old = take("modern", gatts=TABLE)
    old.set("cfg5", ROW)
    result = migrate(old, new := take("modern"))
    assert names(result.lost) == ["cfg5"]
    assert tuple(new.gatts().values()) == TABLE


def test_a_table_without_a_partition_is_lost(take, tmp_path):
    image = bytearray(builders.legacy_image())
    table = PartitionTable(tuple(each for each in builders.LEGACY_SECONDARY if each.name != "ble_data"))
    image[0x1E000 : 0x1E000 + 0xC00] = table.to_bytes()
    (tmp_path / "no-ble.bin").write_bytes(image)
    result = migrate(take("modern", gatts=TABLE), Firmware.open(tmp_path / "no-ble.bin"))
    assert names(result.lost) == [GATT_TABLE]


def test_a_table_that_does_not_fit_is_lost_whole(take, tmp_path):
    image = bytearray(builders.legacy_image())
    small = Partition("ble_data", 0x40, 1, 0x1F000, 0x1000)
    table = PartitionTable((small, *(each for each in builders.LEGACY_SECONDARY if each.name != "ble_data")))
    image[0x1E000 : 0x1E000 + 0xC00] = table.to_bytes()
    (tmp_path / "small-ble.bin").write_bytes(image)
    new = Firmware.open(tmp_path / "small-ble.bin")
    rows = [f"{n},16,0xC300,0x01,1,1,30" if n else ROW for n in range(60)]
    result = migrate(take("modern", gatts=rows), new, force=True)
    assert names(result.lost) == [GATT_TABLE]
    assert len(new.gatts()) == 3


# --- inputs --------------------------------------------------------------------------------------


def test_other_chips_are_refused(take, tmp_path):
    (tmp_path / "c6.bin").write_bytes(builders.image(chip="esp32c6"))
    with pytest.raises(InputError, match=r"for esp32c6 and .* for esp32c3"):
        migrate(Firmware.open(tmp_path / "c6.bin"), take("modern"))
    result = migrate(take("mfg_nvs", uart_baudrate=9600), take("modern"))
    assert any("does not tell its chip" in warning for warning in result.outcome.warnings)


def test_settings_alone_say_nothing_of_certificates(take):
    new = take("legacy", uart_baudrate=9600)
    result = migrate(take("factory_param"), new)
    assert new.get("uart_baudrate") == 115200
    assert {each.why for each in result.kept} == {"OLD is its settings alone"}
    assert result.ota.possible is None


def test_what_the_device_has_stored_is_told(take, tmp_path):
    image = bytearray(builders.image())
    image[0x10000:0x11000] = builders.generate(
        "key,type,encoding,value\nn,namespace,,\nx,data,u8,1\n", 0x3000
    )[:0x1000]
    image[0x47000:0x47010] = b"\xeb\x3c\x90" + bytes(13)
    (tmp_path / "dump.bin").write_bytes(image)
    result = migrate(Firmware.open(tmp_path / "dump.bin"), take("modern"))
    assert names(result.not_carried) == ["nvs", "fatfs"]
    assert "Wi-Fi" in result.not_carried[0].reason


def worn(*, damaged: bool = False) -> bytes:
    """A partition that a device has written to: an erased baud rate, and the one that replaced it."""
    entries = [nvs.define(b"factory_param", 1)]
    entries += [
        nvs.string(key.encode(), value.encode() + b"\0")
        if kind == "string"
        else nvs.number(key.encode(), int(value), nvs.INTEGERS[kind][0])
        for key, (kind, value) in builders.SETTINGS.items()
    ]
    at = sum(len(entry) for entry in entries[:8]) // nvs.ENTRY
    again = nvs.number(b"uart_baudrate", 921600, nvs.I32)
    page = nvs.page([*entries, again], states={at: nvs.IS_ERASED})
    if damaged:
        page = nvs.flip(page, nvs.at(at - 1, byte=24))
    return page + nvs.BLANK * 30


def test_a_device_that_has_written_to_mfg_nvs(take, tmp_path):
    (tmp_path / "dump.bin").write_bytes(builders.image(worn()))
    old = Firmware.open(tmp_path / "dump.bin")
    migrate(old, new := take("modern"))
    assert new.get("uart_baudrate") == 921600
    assert new.settings() == old.settings()
    (tmp_path / "damaged.bin").write_bytes(builders.image(worn(damaged=True)))
    old = Firmware.open(tmp_path / "damaged.bin")
    with pytest.raises(RiskyValueError, match="mfg_nvs is damaged") as caught:
        migrate(old, take("modern"))
    assert "--force" in caught.value.hint
    assert migrate(old, take("modern"), force=True).outcome.warnings[0].endswith("(allowed by --force)")


def test_every_worn_partition_is_told_entry_by_entry(shared, take):
    """Their contents are random: what the message advises must be enough to migrate the rest."""
    for image in sorted((shared / "nvs" / "worn").glob("*.bin"))[:12]:
        old = Firmware.open(image, chip="esp32c3")
        try:
            result, keep = migrate(old, take("modern"), force=True), []
        except InputError as error:
            keep = re.findall(r"--keep (\S+)", error.hint)
            assert keep
            result = migrate(old, take("modern"), keep=keep, force=True)
        told = (
            {"version", "module_name"}
            | {each.old_name for each in result.carried}
            | set(names(result.lost))
            | set(names(result.kept))
        )
        for line in image.with_suffix(".txt").read_text("latin-1").split("\n")[:-1]:
            namespace, key = line.split("\t")[:2]
            assert told & {key, f"{namespace}/{key}", GATT_TABLE if key.startswith("cfg") else key}


# --- the law: the report tells exactly what OUT holds --------------------------------------------


CERTIFICATES = [builders.certificate(number, ca=True) for number in range(3)]
CA_NAMES = [name for name, item in PKI_ITEMS.items() if item.kind == "ca"]
PINS = st.permutations([0, 1, 3, 4, 5, 6, 7, 10]).map(lambda pins: pins[:4])


@st.composite
def contents(draw):
    """Settings that either layout can hold, CAs, and a GATT table."""
    start = draw(st.integers(1, 3))
    values = {
        "max_tx_power": draw(st.integers(40, 84)),
        "country_code": draw(st.sampled_from(["CN", "DE", "JP"])),
        "start_channel": start,
        "channel_num": draw(st.integers(start, 10)),
        "uart_baudrate": draw(st.integers(80, 5000000)),
        "module_name": draw(st.sampled_from(["MINI-1", "PRODUCT"])),
        "tx_control_pin": draw(st.sampled_from([-1, 18])),
        "sys_store": draw(st.integers(0, 1)),
    }
    changed = draw(st.sets(st.sampled_from(sorted(values))))
    if "start_channel" in changed:  # 13 channels from channel 3 are none, and the rules refuse them
        changed.add("channel_num")
    values = {name: values[name] for name in sorted(changed)}
    if draw(st.booleans()):
        values.update(zip(PIN_SETTINGS, draw(PINS), strict=True))
    items = draw(st.dictionaries(st.sampled_from(CA_NAMES), st.sampled_from(CERTIFICATES), max_size=5))
    rows = draw(st.sampled_from([TABLE, default_gatt_rows()[:24], default_gatt_rows()]))
    return values, items, rows


def filled(firmware: Firmware, wanted) -> Firmware:
    values, items, rows = wanted
    firmware = copy.deepcopy(firmware)
    for name, value in values.items():
        if name in firmware.settings():
            firmware.set(name, value)
    if "channel_num" in values and "start_channel" in values and firmware.layout.name == "modern":
        firmware.set("channel_num", values["channel_num"] - values["start_channel"] + 1)
    for name, data in items.items():
        if firmware.layout.name == "modern" or PKI_ITEMS[name].group in firmware.places:
            firmware.set_pki(name, data)
    for number, row in enumerate(rows):
        firmware.set(f"cfg{number}", row)
    return reopened(firmware)


@settings(max_examples=70, phases=[Phase.generate])  # a smaller example would take minutes to find
@given(
    layouts=st.tuples(*[st.sampled_from(["modern", "legacy"])] * 2),
    before=contents(),
    after=contents(),
    keep=st.sets(st.sampled_from(["uart_baudrate", "country_code", "mqtt_ca", "wpa2_ca", GATT_TABLE])),
)
def test_the_report_tells_exactly_what_out_holds(opened, layouts, before, after, keep):
    old, new = filled(opened[layouts[0]], before), filled(opened[layouts[1]], after)
    had = (new.settings(), new.pki(), list(new.gatts().values()))
    result = migrate(old, new, keep=keep, force=True)
    told = {each.name: each.value for each in result.carried}
    assert len(told) == len(result.carried)
    assert not told.keys() & set(names(result.kept))
    told.update({each.name: each.value for each in result.kept if each.value is not None})
    gatts = told.pop(GATT_TABLE, had[2])
    same = {name: had[0][name] for name in ("version", "module_name", "platform") if name in had[0]}
    assert new.settings() == {**same, **{name: told[name] for name in told if name not in PKI_ITEMS}}
    digests = {name: PkiDigest.of(data) for name, data in new.pki().items()}
    kept_same = {name: digest for name, digest in digests.items() if name in keep}
    assert digests == {**kept_same, **{name: told[name] for name in told if name in PKI_ITEMS}}
    assert list(new.gatts().values()) == gatts
    accounted = {each.old_name for each in (*result.carried, *result.kept)} | set(
        names([*result.kept, *result.lost, *result.unneeded])
    )
    for found in compare(old, new).differences:
        if found.area == "gatts":
            carried = [each for each in result.carried if each.name == GATT_TABLE]
            assert (carried and carried[0].note) or GATT_TABLE in names(result.kept)
        elif found.area in ("settings", "pki"):
            assert found.name in accounted | {each.name for each in result.carried}
    again = copy.deepcopy(reopened(new))
    assert migrate(new, again).outcome.changes == []

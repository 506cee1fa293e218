"""migrate: certificates, keys and the GATT table."""

from __future__ import annotations

import itertools

import builders
import pytest
from migrations import ROW, TABLE, names, of

from esp_at_tools.catalog.default_gatts import default_gatt_rows
from esp_at_tools.firmware.firmware import Firmware, PkiDigest
from esp_at_tools.firmware.migrate import GATT_TABLE, migrate
from esp_at_tools.formats.partition_table import Partition, PartitionTable


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

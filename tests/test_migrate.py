"""migrate: which settings are carried, kept and lost, from and to which inputs."""

from __future__ import annotations

import builders
import pytest
from migrations import ROW, TABLE, names, of

from esp_at_tools.errors import InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.migrate import GATT_TABLE, migrate


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


@pytest.mark.parametrize(
    "values",
    [{"max_tx_power": 20}, {"country_code": "US", "channel_num": 13}, {"uart_tx_pin": 9}],
)
@pytest.mark.parametrize("layout", ["modern", "legacy"])
def test_what_old_has_in_force_is_carried_with_a_warning(take, layout, values):
    new = take("modern", country_code="DE", channel_num=11)
    result = migrate(take(layout, **values), new)
    assert {name: new.get(name) for name in values} == values
    assert any(
        warning.startswith([*values][-1]) and "OLD has it so" in warning
        for warning in result.outcome.warnings
    )


def test_a_certificate_that_old_has_in_force_is_carried_with_a_warning(take):
    expired = builders.certificate(1, ca=True, days=(-20, -1))
    result = migrate(take("modern", pki={"mqtt_ca": expired}), new := take("modern"))
    assert new.pki()["mqtt_ca"] == expired
    assert any("OLD has it so" in warning for warning in result.outcome.warnings)


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

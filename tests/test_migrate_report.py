"""migrate: the report tells exactly what OUT holds, and what worn partitions have lost."""

from __future__ import annotations

import copy
import re

import builders
import nvs_images as nvs
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from migrations import TABLE, names, reopened

from esp_at_tools.catalog.default_gatts import default_gatt_rows
from esp_at_tools.errors import InputError, RiskyValueError
from esp_at_tools.firmware.compare import compare
from esp_at_tools.firmware.firmware import Firmware, PkiDigest
from esp_at_tools.firmware.migrate import GATT_TABLE, migrate
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.names import PIN_SETTINGS


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
def test_the_report_tells_exactly_what_out_holds(opened_firmware, layouts, before, after, keep):
    old, new = filled(opened_firmware[layouts[0]], before), filled(opened_firmware[layouts[1]], after)
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

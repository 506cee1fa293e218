"""``diff``: what differs in meaning, whatever the form; exit status 1 if anything does."""

from __future__ import annotations

import json
import shutil

import builders
import pytest

from esp_at_tools.cli import diff
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.partition_table import Partition, PartitionTable


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """One firmware in every form, modern and legacy."""
    folder = tmp_path_factory.mktemp("forms")
    mfg_nvs = builders.generate(builders.mfg_csv())
    builders.release(folder / "release", mfg_nvs)
    builders.zipped(folder / "release", folder / "release.zip", "x/")
    (folder / "filled.bin").write_bytes(builders.image(mfg_nvs))
    (folder / "unfilled.bin").write_bytes(builders.image(mfg_nvs, filled=False))
    (folder / "mfg_nvs.bin").write_bytes(mfg_nvs)
    builders.legacy_release(folder / "legacy")
    (folder / "legacy.bin").write_bytes(builders.legacy_image())
    (folder / "factory_param.bin").write_bytes(builders.factory_param())
    (folder / "ca.pem").write_bytes(builders.certificate(1, ca=True))
    return folder


def differences(result) -> dict[tuple[str, str], tuple[object, object]]:
    document = json.loads(result.out)
    assert (result.status == 0) is document["equal"] is (document["differences"] == [])
    return {(found["area"], found["name"]): (found["a"], found["b"]) for found in document["differences"]}


MODERN = ("release", "release.zip", "filled.bin", "unfilled.bin", "mfg_nvs.bin")


@pytest.mark.parametrize("a", MODERN)
@pytest.mark.parametrize("b", MODERN)
def test_the_form_makes_no_difference(cli, forms, a, b):
    result = cli("diff", forms / a, forms / b)
    assert result.status == 0, result.out
    assert result.out == f"No difference in meaning between {forms / a} and {forms / b}.\n"
    alone = "mfg_nvs.bin" in (a, b)
    assert result.err == (
        "not compared: apps, partitions (a partition alone does not tell)\n" if alone else ""
    )


def test_the_legacy_forms_make_no_difference_either(cli, forms):
    assert cli("diff", forms / "legacy", forms / "legacy.bin").status == 0
    found = json.loads(cli("diff", forms / "legacy", forms / "factory_param.bin", "--json").out)
    assert found["equal"]
    assert found["not_compared"] == ["apps", "partitions", "pki", "gatts"]


def test_every_kind_of_change_is_told(cli, forms, tmp_path):
    args = [
        "-b",
        "9600",
        "--set",
        f"mqtt_ca=@{forms / 'ca.pem'}",
        "--gatts-cfg0",
        "0,16,0x2800,0x01,2,2,A002",
    ]
    assert cli("modify-bin", "-in", forms / "filled.bin", "-o", tmp_path / "b.bin", *args).status == 0
    result = cli("diff", forms / "filled.bin", tmp_path / "b.bin", "--json")
    assert result.status == 1
    assert differences(result) == {
        ("settings", "uart_baudrate"): (115200, 9600),
        ("pki", "mqtt_ca"): (
            None,
            {
                "size": (forms / "ca.pem").stat().st_size,
                "sha256": differences(result)["pki", "mqtt_ca"][1]["sha256"],
            },
        ),
        ("gatts", "cfg0"): (None, "0,16,0x2800,0x01,2,2,A002"),
    }
    text = cli("diff", forms / "filled.bin", tmp_path / "b.bin")
    assert text.status == 1
    assert "Settings:\n  uart_baudrate  115200 → 9600\n" in text.out
    assert "GATT rows:\n  cfg0           absent → 0,16,0x2800,0x01,2,2,A002\n" in text.out
    back = differences(cli("diff", tmp_path / "b.bin", forms / "filled.bin", "--json"))
    assert back["settings", "uart_baudrate"] == (9600, 115200)


def test_partitions(cli, forms, tmp_path):
    flash = bytearray((forms / "filled.bin").read_bytes())
    table = PartitionTable(
        tuple(
            Partition(row.name, row.type, row.subtype, row.offset, 0x1C0000) if row.name == "ota_1" else row
            for row in builders.PRIMARY
            if row.name != "phy_init"
        ),
        md5=False,
    )
    flash[0x8000:0x8C00] = table.to_bytes()
    (tmp_path / "b.bin").write_bytes(flash)
    found = differences(cli("diff", forms / "filled.bin", tmp_path / "b.bin", "--json"))
    assert set(found) == {("partitions", "phy_init"), ("partitions", "ota_1")}
    assert found["partitions", "phy_init"][1] is None
    assert found["partitions", "ota_1"][0]["size"] == 0x1D0000
    text = cli("diff", forms / "filled.bin", tmp_path / "b.bin").out
    assert "  ota_1     size 0x1d0000 → 0x1c0000\n" in text
    assert "phy_init  table primary, type data, subtype phy, offset 0xf000, size 0x1000 → absent" in text


@pytest.mark.parametrize(
    ("at", "name"), [(builders.APP_OFFSET + 0x300, "ota_0"), (0x100, "bootloader")], ids=["app", "bootloader"]
)
def test_code(cli, forms, tmp_path, at, name):
    flash = bytearray((forms / "filled.bin").read_bytes())
    flash[at] ^= 1
    (tmp_path / "b.bin").write_bytes(flash)
    found = differences(cli("diff", forms / "filled.bin", tmp_path / "b.bin", "--json"))
    assert set(found) == {("apps", name)}


def test_flash_settings_that_esptool_sets_are_no_difference(cli, forms, tmp_path):
    flash = bytearray((forms / "filled.bin").read_bytes())
    flash[2] ^= 1
    (tmp_path / "b.bin").write_bytes(flash)
    assert cli("diff", forms / "filled.bin", tmp_path / "b.bin").status == 0


def test_another_chip_and_layout(cli, forms, tmp_path):
    (tmp_path / "esp32c6.bin").write_bytes(builders.image(chip="esp32c6"))
    found = differences(cli("diff", forms / "filled.bin", tmp_path / "esp32c6.bin", "--json"))
    assert found["firmware", "chip"] == ("esp32c3", "esp32c6")
    found = differences(cli("diff", forms / "filled.bin", forms / "legacy.bin", "--json"))
    assert found["firmware", "layout"] == ("modern", "legacy")
    assert found["settings", "sys_store"] == (1, None)


def test_what_cannot_be_opened_is_an_error_and_no_difference(cli, forms, tmp_path):
    for args in ((forms / "filled.bin", tmp_path / "none"), (tmp_path / "none", forms / "filled.bin")):
        result = cli("diff", *args)
        assert (result.status, result.out) == (2, "")
        assert result.err.startswith(f"error: {tmp_path / 'none'}: no such file")


def test_a_table_elsewhere(cli, forms, tmp_path):
    flash = bytearray((forms / "filled.bin").read_bytes())
    flash[0xA000:0xAC00] = flash[0x8000:0x8C00]
    flash[0x8000:0x8C00] = b"\xff" * 0xC00
    (tmp_path / "b.bin").write_bytes(flash)
    assert (
        cli("diff", tmp_path / "b.bin", tmp_path / "b.bin", "--partition-table-offset", "0xA000").status == 0
    )
    assert cli("diff", tmp_path / "b.bin", forms / "filled.bin").status == 0  # found by itself


def test_official_forms_make_no_difference(cli, shared, tmp_path):
    release = shared / "firmware" / "ESP32-C3-MINI-1-V5.0.1.0-assembled"
    for name in ("factory/factory_MINI-1.bin", "factory/factory_MINI-1_unfilled.bin"):
        assert cli("diff", release, release / name).status == 0
    shutil.make_archive(str(tmp_path / "release"), "zip", release.parent, release.name)
    assert cli("diff", tmp_path / "release.zip", release).status == 0
    result = cli("diff", release, shared / "firmware" / "ESP32-C3-MINI-1-V2.3.0.0", "--json")
    assert result.status == 1
    assert ("firmware", "layout") in differences(result)
    assert all(area != "apps" for area, _ in differences(result))  # assembled from that release's application


def test_what_a_quick_look_misses(cli, tmp_path):
    """Flags, entries in other namespaces, and an application that cannot be read are differences, too."""
    plain = tmp_path / "plain.bin"
    plain.write_bytes(builders.image())
    rows = "storage,namespace,,\nserial,data,string,A17\nblob,data,hex2bin,0102\n"
    other = tmp_path / "other.bin"
    other.write_bytes(builders.image(builders.generate(builders.mfg_csv(rows))))
    found = cli("diff", plain, other, "--json")
    assert found.status == 1
    names = {(each["area"], each["name"]) for each in json.loads(found.out)["differences"]}
    assert names == {("nvs", "storage/serial"), ("nvs", "storage/blob")}

    flagged = bytearray(plain.read_bytes())
    row = bytes(flagged).index(b"ota_1\0", builders.TABLE_OFFSET)
    flagged[row + 16] |= 1
    other.write_bytes(flagged)
    assert "ota_1  flags absent → encrypted" in cli("diff", plain, other).out

    broken = bytearray(plain.read_bytes())
    broken[0x230000:0x230100] = bytes(256)
    other.write_bytes(broken)
    found = cli("diff", plain, other)
    assert found.status == 1
    assert "ota_1" in found.out


@pytest.fixture
def long_rows(cli, tmp_path):
    """Two firmwares whose GATT rows have 512 bytes, of which the last but ten is another."""
    paths = []
    for name, ends in (("a.bin", "11"), ("b.bin", "22")):
        source = tmp_path / "source.bin"
        source.write_bytes(builders.image())
        row = f"0,16,0x2800,0x01,512,512,{'A0' * 501}{ends}{'B0' * 10}"
        args = ("-in", source, "-o", tmp_path / name, "--gatts-cfg0", row, "--force")
        assert cli("modify-bin", *args).status == 0
        paths.append(tmp_path / name)
    return paths


def test_of_long_values_the_part_that_differs_is_shown(cli, long_rows):
    line = cli("diff", *long_rows).out.splitlines()[1]
    assert "A011B0" in line
    assert "A022B0" in line
    assert line.count("(1049 characters)") == 2


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_lines_fit_a_terminal(cli, long_rows, forms, monkeypatch, columns):
    legacy = (forms / "filled.bin", forms / "legacy.bin")
    piped = [cli("diff", *pair).out for pair in (long_rows, legacy)]
    assert max(len(line) for line in "".join(piped).splitlines()) > 120
    monkeypatch.setenv("COLUMNS", str(columns))
    assert [cli("diff", *pair).out for pair in (long_rows, legacy)] == piped
    monkeypatch.setattr(diff, "is_terminal", lambda _stream: True)
    for pair, whole in zip((long_rows, legacy), piped, strict=True):
        shown = cli("diff", *pair).out
        assert max(len(line) for line in shown.splitlines()) <= columns
        letters = [char for char in whole if char not in " ;\n"]
        assert [char for char in shown if char not in " ;\n"] == letters, "nothing is lost"


def test_a_value_of_several_lines_stays_on_one(cli, tmp_path):
    plain, other = tmp_path / "plain.bin", tmp_path / "other.bin"
    plain.write_bytes(builders.image())
    nvs = NvsPartition.from_bytes(builders.generate(builders.mfg_csv()))
    nvs.set("storage", "serial", "string", "A\n17")
    other.write_bytes(builders.image(nvs.to_bytes()))
    assert "storage/serial  absent → A\\x0a17\n" in cli("diff", plain, other).out

"""``migrate`` as a command: forms, reports, exit statuses, and real firmware."""

from __future__ import annotations

import json
import stat

import builders
import pytest

KEY_MARK = "PRIVATE KEY"


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """Firmwares in several forms, and the files that tests put into them."""
    folder = tmp_path_factory.mktemp("forms")
    mfg_nvs = builders.generate(builders.mfg_csv())
    builders.release(folder / "release", mfg_nvs)
    builders.zipped(folder / "release", folder / "release.zip", "x/")
    (folder / "filled.bin").write_bytes(builders.image(mfg_nvs))
    (folder / "mfg_nvs.bin").write_bytes(mfg_nvs)
    builders.legacy_release(folder / "legacy")
    (folder / "legacy.bin").write_bytes(builders.legacy_image())
    (folder / "factory_param.bin").write_bytes(builders.factory_param())
    (folder / "c6.bin").write_bytes(builders.image(chip="esp32c6"))
    (folder / "ca.pem").write_bytes(builders.certificate(1, ca=True))
    return folder


def document(result) -> dict:
    assert result.status == 0, result.err
    return json.loads(result.out)


def changed(cli, path, out, *options):
    result = cli("modify-bin", "--input", path, "-o", out, "-q", *options)
    assert result.status == 0, result.err
    return out


def differences(cli, a, b) -> dict[str, tuple[object, object]]:
    found = json.loads(cli("diff", a, b, "--json").out)["differences"]
    return {
        each["name"]: (each["a"], each["b"]) for each in found if each["area"] in ("settings", "pki", "gatts")
    }


@pytest.mark.parametrize("new", ["release", "release.zip", "filled.bin", "mfg_nvs.bin"])
@pytest.mark.parametrize("old", ["filled.bin", "mfg_nvs.bin"])
def test_out_has_the_form_of_new(cli, forms, tmp_path, old, new):
    old = changed(
        cli, forms / old, tmp_path / "old.bin", "--set", f"mqtt_ca=@{forms / 'ca.pem'}", "--baud", "9600"
    )
    before = builders.tree(forms / new) if "release" in new else (forms / new).read_bytes()
    told = document(cli("migrate", old, forms / new, "-o", tmp_path / "out", "--json"))
    assert told["output"] == str(tmp_path / "out")
    assert {change["name"] for change in told["changes"]} == {"uart_baudrate", "mqtt_ca"}
    assert differences(cli, old, tmp_path / "out") == {}
    assert (builders.tree(forms / new) if "release" in new else (forms / new).read_bytes()) == before
    assert (tmp_path / "out").is_dir() is (new == "release")
    assert cli("inspect", tmp_path / "out", "--check", "-q").status == 0


def test_the_document(cli, forms, tmp_path):
    old = changed(
        cli, forms / "legacy.bin", tmp_path / "old.bin", "--baud", "9600", "--set", "tx_control_pin=10"
    )
    told = document(cli("migrate", old, forms / "filled.bin", "-o", tmp_path / "out.bin", "--json"))
    assert list(told) == [
        "schema", "old", "new", "output", "dry_run", "carried", "lost", "kept", "unneeded", "not_carried",
        "ota", "changes", "warnings",
    ]  # fmt: skip
    assert (told["schema"], told["dry_run"]) == (1, False)
    (baud,) = [each for each in told["carried"] if each["name"] == "uart_baudrate"]
    assert baud == {
        "name": "uart_baudrate", "old_name": "uart_baudrate", "value": 9600, "changed": True, "note": "",
        "official_default": False,
    }  # fmt: skip
    (key,) = [each for each in told["carried"] if each["name"] == "server_key"]
    assert list(key["value"]) == ["size", "sha256"]
    assert [each["name"] for each in told["lost"]] == ["tx_control_pin"]
    assert [each["name"] for each in told["unneeded"]] == ["platform", "rx_control_pin"]
    assert {each["name"]: each["value"] for each in told["kept"]} == {"version": 4, "sys_store": 1}
    assert told["ota"]["possible"] is True
    assert told["ota"]["reasons"][0]["id"] == "ota-legacy-parameters"


def test_the_report_for_people(cli, forms, tmp_path):
    old = changed(
        cli, forms / "legacy.bin", tmp_path / "old.bin", "--set", "tx_control_pin=10", "--baud", "9600"
    )
    result = cli("migrate", old, forms / "filled.bin", "-o", tmp_path / "out.bin")
    assert result.status == 0
    lines = result.out.splitlines()
    assert "  uart_baudrate  115200 → 9600" in lines
    assert "Lost, for it has no place in NEW:" in lines
    assert any(line.startswith("  tx_control_pin  NEW's modern layout cannot hold it") for line in lines)
    assert "  version    4, not 3 (it is the version of NEW's parameters)" in lines
    assert f"Written and read back: {tmp_path / 'out.bin'}" in lines
    assert "platform" not in result.out
    assert KEY_MARK not in result.out + result.err
    verbose = cli("migrate", old, forms / "filled.bin", "--dry-run", "-v")
    assert "  platform        NEW knows its chip without it" in verbose.out.splitlines()
    quiet = cli("migrate", old, forms / "filled.bin", "--dry-run", "-q")
    assert (quiet.status, quiet.out) == (0, "")


def test_a_file_with_keys_is_for_its_owner_only(cli, forms, tmp_path):
    assert (
        cli("migrate", forms / "legacy", forms / "filled.bin", "-o", tmp_path / "out.bin", "-q").status == 0
    )
    assert stat.S_IMODE((tmp_path / "out.bin").stat().st_mode) == 0o600


def test_a_dry_run_and_strict_write_nothing(cli, forms, tmp_path):
    old = changed(cli, forms / "legacy.bin", tmp_path / "old.bin", "--set", "tx_control_pin=10")
    out = tmp_path / "out.bin"
    told = document(cli("migrate", old, forms / "filled.bin", "-o", out, "--dry-run", "--json"))
    assert (told["dry_run"], told["output"]) == (True, None)
    assert not out.exists()
    strict = cli("migrate", old, forms / "filled.bin", "-o", out, "--strict")
    assert strict.status == 1
    assert "1 of OLD has no place in NEW" in strict.err
    told = json.loads(cli("migrate", old, forms / "filled.bin", "-o", out, "--strict", "--json").out)
    assert (told["output"], len(told["lost"])) == (None, 1)
    assert not out.exists()
    assert cli("migrate", forms / "legacy.bin", forms / "filled.bin", "-o", out, "--strict", "-q").status == 0
    assert out.exists()


def test_values_that_new_cannot_have_are_refused_with_a_way_out(cli, forms, tmp_path):
    wrong = forms / "filled.bin"
    image = bytearray(wrong.read_bytes())
    csv = builders.mfg_csv().replace("uart_tx_pin,data,i32,7", "uart_tx_pin,data,i32,77")
    image[builders.MFG_OFFSET : builders.MFG_OFFSET + builders.MFG_SIZE] = builders.generate(csv)
    (tmp_path / "old.bin").write_bytes(image)
    result = cli("migrate", tmp_path / "old.bin", wrong, "-o", tmp_path / "out.bin")
    assert result.status == 2
    assert "ESP32-C3 has no GPIO 77" in result.err
    assert "--keep uart_tx_pin leaves NEW's" in result.err
    assert not (tmp_path / "out.bin").exists()
    keep = ("--keep", "uart_tx_pin")
    assert cli("migrate", tmp_path / "old.bin", wrong, "-o", tmp_path / "out.bin", "-q", *keep).status == 0


def test_a_partition_alone_is_taken_to_be_for_the_other_chip(cli, forms, tmp_path):
    result = cli("migrate", forms / "filled.bin", forms / "mfg_nvs.bin", "-o", tmp_path / "out.bin")
    assert result.status == 0
    assert "taken to be for esp32c3" in result.err
    assert cli("migrate", forms / "mfg_nvs.bin", forms / "c6.bin", "--dry-run", "-q").status == 0
    alone = (forms / "mfg_nvs.bin", forms / "mfg_nvs.bin", "--dry-run")
    assert "does not tell its chip" in cli("migrate", *alone).err
    assert "does not tell its chip, so" not in cli("migrate", *alone, "--chip", "esp32c3").err
    result = cli("migrate", forms / "factory_param.bin", forms / "legacy", "--dry-run")
    assert "OLD is its settings alone" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("filled.bin", "filled.bin"), "--output: where to write is not given"),
        (("nothing.bin", "filled.bin", "-o", "{out}"), "no such file"),
        (("filled.bin", "ca.pem", "-o", "{out}"), "ca.pem"),
        (("filled.bin", "c6.bin", "-o", "{out}"), "is for esp32c3 and"),
        (("filled.bin", "release", "-o", "{folder}"), "is an existing folder"),
        (("filled.bin", "filled.bin", "-o", "filled.bin"), "is, or lies in, the input"),
        (("filled.bin", "release", "-o", "release/out"), "is, or lies in, the input"),
        (("filled.bin", "filled.bin", "-o", "{out}/no/out.bin"), "its folder does not exist"),
        (("filled.bin", "filled.bin", "-o", "{out}", "--keep", "cfg3"), "whole or not at all"),
        (("filled.bin", "filled.bin", "-o", "{out}", "--keep", "uart_baud"), "not the name of a setting"),
        (("filled.bin", "filled.bin", "-o", "{out}", "--chip", "esp32"), "--chip esp32"),
        (("filled.bin",), "Missing argument"),
    ],
)
def test_wrong_usage(cli, forms, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(forms)
    (tmp_path / "folder").mkdir()
    filled_in = [each.format(out=tmp_path / "out.bin", folder=tmp_path / "folder") for each in arguments]
    result = cli("migrate", *filled_in)
    assert result.status == 2
    assert message in result.err
    assert not (tmp_path / "out.bin").exists()


# --- real firmware -------------------------------------------------------------------------------


C3_OLD, C3_NEW = "ESP32-C3-MINI-1-V2.3.0.0", "ESP32-C3-MINI-1-V5.0.1.0-assembled"


def test_an_official_release_into_the_modern_layout(cli, shared, tmp_path):
    old, new = shared / "firmware" / C3_OLD, shared / "firmware" / C3_NEW
    told = document(cli("migrate", old, new, "-o", tmp_path / "out", "--json"))
    assert told["lost"] == []
    assert {change["name"] for change in told["changes"]} == {"cfg16", "cfg19"}
    assert len([each for each in told["carried"] if each["name"].endswith(("_key", "_key.0", "_key.1"))]) == 4
    assert set(differences(cli, old, tmp_path / "out")) == {
        "version", "platform", "tx_control_pin", "rx_control_pin", "sys_store", "cfg5", "cfg6", "cfg14"
    }  # fmt: skip
    for path in (new, tmp_path / "out"):
        assert cli("inspect", path, "--check", "-q").status == 0
    untouched = {name: data for name, data in builders.tree(new).items() if "mfg_nvs" not in name}
    unchanged = {name: data for name, data in builders.tree(tmp_path / "out").items() if name in untouched}
    assert {name for name in untouched if unchanged[name] != untouched[name]} == {
        "factory/factory_MINI-1.bin", "factory/factory_MINI-1_unfilled.bin"
    }  # fmt: skip


def test_a_device_dump_of_a_changed_official_release(cli, shared, tmp_path):
    dump = tmp_path / "dump.bin"
    image = bytearray(builders.full_image(shared / "firmware" / C3_OLD, 4 << 20))
    image[0x10000:0x13000] = builders.generate(
        "key,type,encoding,value\nn,namespace,,\nx,data,u8,1\n", 0x3000
    )
    dump.write_bytes(image)
    options = ("--baud", "921600", "--start-channel", "3", "--channel-number", "11", "--tx-pin", "3", "--set")
    old = changed(cli, dump, tmp_path / "old.bin", *options, "tx_control_pin=10")
    new = shared / "firmware" / C3_NEW / "factory" / "factory_MINI-1.bin"
    told = document(cli("migrate", old, new, "-o", tmp_path / "out.bin", "--json"))
    changes = {change["name"]: change["new"] for change in told["changes"]}
    assert {name: changes[name] for name in changes if not name.startswith("cfg")} == {
        "start_channel": 3, "channel_num": 9, "uart_baudrate": 921600, "uart_tx_pin": 3
    }  # fmt: skip
    assert [each["name"] for each in told["lost"]] == ["tx_control_pin"]
    assert [each["name"] for each in told["not_carried"]] == ["nvs"]
    assert cli("inspect", tmp_path / "out.bin", "--check", "-q").status == 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (
            "ESP32-WROOM-32-V2.2.0.0",
            ("--baud", "921600", "--cts-pin", "-1", "--country-code", "US", "-cn", "11"),
        ),
        ("ESP8266-AT-V2.2.1.0", ("--baud", "74880", "--set", "tx_control_pin=4", "--tx-power", "60")),
        (C3_NEW, ("--baud", "2000000", "--unset", "cfg30", "--set", "sys_store=0", "--tx-power", "60")),
    ],
)
def test_a_release_with_changes_into_itself(cli, shared, tmp_path, name, options):
    new = shared / "firmware" / name
    old = changed(cli, new, tmp_path / "old", *options)
    told = document(cli("migrate", old, new, "-o", tmp_path / "out", "--json"))
    assert (told["lost"], told["kept"], told["ota"]) == ([], [], {"possible": True, "reasons": []})
    assert builders.tree(tmp_path / "out") == builders.tree(old)
    assert cli("inspect", tmp_path / "out", "--check", "-q").status == 0


def test_back_to_the_legacy_layout(cli, shared, tmp_path):
    old = changed(
        cli, shared / "firmware" / C3_NEW, tmp_path / "old", "--baud", "9600", "--set", "sys_store=0"
    )
    new = shared / "firmware" / C3_OLD
    told = document(cli("migrate", old, new, "-o", tmp_path / "out", "--json"))
    assert [each["name"] for each in told["lost"]] == ["sys_store"]
    assert told["ota"]["possible"] is False
    assert cli("inspect", tmp_path / "out", "--check", "-q").status == 0
    again = document(cli("migrate", tmp_path / "out", old, "-o", tmp_path / "again", "--json"))
    assert {change["name"] for change in again["changes"]} <= {"cfg5", "cfg6", "cfg14"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gats", "did you mean gatts?"),
        ("cfg999", "did you mean gatts?"),
        ("uart_baud", "did you mean uart_baudrate?"),
        ("nonsense", "wss_key.1 and gatts"),
    ],
)
def test_a_name_to_keep_that_is_none_gets_the_nearest(cli, forms, name, hint):
    done = cli("migrate", forms / "filled.bin", forms / "release", "--dry-run", "--keep", name)
    assert done.status == 2
    assert f"--keep {name}: is not the name" in done.err
    assert done.err.rstrip().endswith(hint)


def test_notes_are_called_notes(cli, forms, tmp_path):
    done = cli("migrate", forms / "mfg_nvs.bin", forms / "filled.bin", "-o", tmp_path / "out")
    assert "note: " in done.err
    assert all(line.startswith(("note: ", "warning: ")) for line in done.err.splitlines())
    old = changed(cli, forms / "filled.bin", tmp_path / "old.bin", "--set", f"mqtt_ca=@{forms / 'ca.pem'}")
    done = cli("migrate", old, forms / "factory_param.bin", "--strict", "-o", tmp_path / "none")
    assert done.status == 1
    assert "note: nothing was written: --strict" in done.err

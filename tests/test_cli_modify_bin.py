"""``modify-bin`` as people and scripts call it: options, outputs, reports, permissions, memory."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import builders
import pytest

from esp_at_tools.formats.partition_table import Partition, PartitionTable

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions, links and devices")

# The options of at.py in esp-at v5.0.1.0, as its parser has them: name with underscores, short name,
# a value that differs from what the images of builders.py hold, and the official name it changes.
MODERN_OPTIONS = [
    ("module_name", "mn", "MINI-1-N4", "module_name", "MINI-1-N4"),
    ("tx_power", "tp", "60", "max_tx_power", 60),
    ("uart_num", "un", "0", "uart_port", 0),
    ("start_channel", "sc", "2", "start_channel", 2),
    ("channel_number", "cn", "11", "channel_num", 11),
    ("country_code", "cc", "JP", "country_code", "JP"),
    ("baud", "b", "0xE1000", "uart_baudrate", 921600),
    ("tx_pin", "tx", "0", "uart_tx_pin", 0),
    ("rx_pin", "rx", "1", "uart_rx_pin", 1),
    ("cts_pin", "cts", "-1", "uart_cts_pin", -1),
    ("rts_pin", "rts", "0xA", "uart_rts_pin", 10),
]
LEGACY_OPTIONS = [
    *MODERN_OPTIONS,
    ("platform", "pf", "PLATFORM_ESP32", "platform", "PLATFORM_ESP32"),
    ("tx_control_pin", "txctrl", "3", "tx_control_pin", 3),
    ("rx_control_pin", "rxctrl", "10", "rx_control_pin", 10),
]
PKI_OPTIONS = [
    ("server_ca", "sca", "server_ca"),
    ("server_cert", "scrt", "server_cert"),
    ("server_key", "skey", "server_key"),
    ("client_ca0", "cca0", "client_ca.0"),
    ("client_ca1", "cca1", "client_ca.1"),
    ("client_cert0", "ccrt0", "client_cert.0"),
    ("client_cert1", "ccrt1", "client_cert.1"),
    ("client_key0", "ckey0", "client_key.0"),
    ("client_key1", "ckey1", "client_key.1"),
    ("mqtt_ca", "mqca", "mqtt_ca"),
    ("mqtt_cert", "mqcrt", "mqtt_cert"),
    ("mqtt_key", "mqkey", "mqtt_key"),
    ("wpa2_ca", "wpa2ca", "wpa2_ca"),
    ("wpa2_cert", "wpa2crt", "wpa2_cert"),
    ("wpa2_key", "wpa2key", "wpa2_key"),
    ("wpa_ent_ca", None, "wpa_ent_ca"),
    ("wpa_ent_cert", None, "wpa_ent_cert"),
    ("wpa_ent_key", None, "wpa_ent_key"),
]
ROWS = ("0,16,0x2800,0x01,2,2,A002", "1,16,0x2803,0x01,1,1,02", "2,16,0xC300,0x01,1,1,30")


def spellings(option: str, short: str | None) -> list[str]:
    """Every way to write an option: at.py's, with hyphens, short, and joined to the value by ``=``."""
    names = [f"--{option}", f"--{option.replace('_', '-')}", *([f"-{short}"] if short else [])]
    return [*names, *(f"{name}=" for name in names)]


def with_value(spelling: str, value: object) -> list[str]:
    return [f"{spelling}{value}"] if spelling.endswith("=") else [spelling, str(value)]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One input of each kind, and certificates."""
    folder = tmp_path_factory.mktemp("samples")
    rows = "ble_data,namespace,,\n" + "".join(f'cfg{n},data,string,"{row}"\n' for n, row in enumerate(ROWS))
    mfg_nvs = builders.generate(builders.mfg_csv(rows))
    (folder / "mfg_nvs.bin").write_bytes(mfg_nvs)
    (folder / "factory_param.bin").write_bytes(builders.factory_param())
    (folder / "image.bin").write_bytes(builders.image(mfg_nvs))
    (folder / "legacy.bin").write_bytes(builders.legacy_image())
    builders.release(folder / "release", mfg_nvs, builders.mfg_csv(rows))
    builders.legacy_release(folder / "legacy")
    builders.zipped(folder / "release", folder / "release.zip", "release/")
    (folder / "ca.pem").write_bytes(builders.certificate(1, ca=True))
    (folder / "cert.pem").write_bytes(builders.certificate(0))
    (folder / "key.pem").write_bytes(builders.key_pem(0))
    return folder


@pytest.fixture
def modify(cli, tmp_path, monkeypatch):
    """Run ``modify-bin … --json`` in an empty folder and return its document."""
    monkeypatch.chdir(tmp_path)

    def call(path: Path, *args: object, status: int = 0) -> dict:
        result = cli("modify-bin", "--input", path, "--json", *args)
        assert result.status == status, result.err
        return json.loads(result.out)

    return call


def changes(document: dict) -> dict[str, object]:
    return {change["name"]: change["new"] for change in document["changes"]}


# --- options of at.py ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "short", "value", "name", "new"), MODERN_OPTIONS)
def test_settings_of_the_modern_layout(modify, samples, option, short, value, name, new):
    for spelling in spellings(option, short):
        args = ["--dry-run", "--force", "--chip", "esp32c3", *with_value(spelling, value)]
        assert changes(modify(samples / "mfg_nvs.bin", *args)) == {name: new}


@pytest.mark.parametrize(("option", "short", "value", "name", "new"), LEGACY_OPTIONS)
def test_settings_of_the_legacy_layout(modify, samples, option, short, value, name, new):
    for spelling in spellings(option, short):
        args = ["--dry-run", "--force", *with_value(spelling, value)]
        assert changes(modify(samples / "factory_param.bin", *args)) == {name: new}


@pytest.mark.parametrize(("option", "short", "name"), PKI_OPTIONS)
def test_certificates_and_keys(modify, samples, option, short, name):
    file = samples / f"{name.split('.')[0].rpartition('_')[2]}.pem"
    for spelling in spellings(option, short):
        document = modify(samples / "mfg_nvs.bin", "--dry-run", "--force", *with_value(spelling, file))
        assert {key: value["size"] for key, value in changes(document).items()} == {name: file.stat().st_size}


@pytest.mark.parametrize("number", range(31))
def test_gatt_rows(modify, samples, number):
    row = f"{number},16,0x2901,0x01,1,1,31"
    for spelling in spellings(f"gatts_cfg{number}", f"cfg{number}"):
        document = modify(samples / "mfg_nvs.bin", "--dry-run", "--force", *with_value(spelling, row))
        assert changes(document) == {f"cfg{number}": row}


def test_every_option_of_at_py_at_once(modify, samples, tmp_path):
    args = [word for option, short, value, *_ in MODERN_OPTIONS for word in (f"-{short}", value)]
    for option, _, name in PKI_OPTIONS:
        args += [f"--{option}", samples / f"{name.split('.')[0].rpartition('_')[2]}.pem"]
    args += ["--gatts_cfg1", "1,16,0x2803,0x01,1,1,0A", "-os", "0x1E000"]
    document = modify(samples / "image.bin", *args, "--force", "-o", "out.bin")
    asked = {*(name for *_, name, _ in MODERN_OPTIONS), *(name for *_, name in PKI_OPTIONS), "cfg1"}
    assert set(changes(document)) == asked
    again = modify(tmp_path / "out.bin", *args, "--force", "--dry-run")
    assert again["changes"] == []
    assert set(again["unchanged"]) == asked


def test_at_py_s_spelling_of_the_command(cli, samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("modify_bin", "-in", samples / "image.bin", "--tx_pin", "10").status == 0
    assert (tmp_path / "target.bin").stat().st_size == builders.FLASH_SIZE


def test_set_takes_every_name(modify, samples):
    args = ["--set", "sys_store=0", "--set", "cfg3=3,16,0x2901,0x01,1,1,31", "--set", "version=5"]
    args += ["--set", f"https_ca.1=@{samples / 'ca.pem'}", "--set", "wss_key.0=@" + str(samples / "key.pem")]
    document = modify(samples / "mfg_nvs.bin", "--dry-run", *args)
    assert set(changes(document)) == {"sys_store", "cfg3", "version", "https_ca.1", "wss_key.0"}


def test_a_value_with_equals_signs_and_spaces(modify, samples):
    document = modify(samples / "mfg_nvs.bin", "--dry-run", "--set", "module_name= a=b ")
    assert changes(document) == {"module_name": " a=b "}


@pytest.mark.parametrize("text", ["4096", "0x1000", "0X1000", "4K", "4k"])
def test_numbers(modify, samples, text):
    assert changes(modify(samples / "mfg_nvs.bin", "--dry-run", "--baud", text)) == {"uart_baudrate": 4096}


def test_a_long_option_with_one_hyphen_is_not_a_short_one(cli, samples, tmp_path, monkeypatch):
    """``-output=x.bin`` would be ``-o utput=x.bin`` to click, and a file of that name."""
    monkeypatch.chdir(tmp_path)
    for wrong, right in (("-output=x.bin", "--output"), ("-baud", "--baud"), ("-tx_pin=4", "--tx_pin")):
        result = cli("modify-bin", "-in", samples / "image.bin", "-cc", "US", wrong, "4")
        assert (result.status, result.out) == (2, "")
        assert f"did you mean {right}?" in result.err
    assert list(tmp_path.iterdir()) == []


def test_the_same_value_twice_is_once(modify, samples):
    args = ["--baud", "9600", "--set", "uart_baudrate=9600", "-b", "9600"]
    assert changes(modify(samples / "mfg_nvs.bin", "--dry-run", *args)) == {"uart_baudrate": 9600}


# --- the report ------------------------------------------------------------------------------------------


def test_the_same_value_in_two_spellings_is_once(modify, samples):
    document = modify(samples / "image.bin", "--baud", "9600", "--set", "uart_baudrate=0x2580")
    assert changes(document) == {"uart_baudrate": 9600}


def test_unchanged_values_are_reported_as_such(cli, samples, tmp_path):
    out = tmp_path / "out.bin"
    result = cli("modify-bin", "-in", samples / "image.bin", "-o", out, "-tx", "7", "-cc", "CN", "-b", "9600")
    assert result.status == 0
    lines = [line.split(maxsplit=1) for line in result.out.splitlines()[:3]]
    assert lines == [
        ["uart_baudrate", "115200 → 9600"],
        ["uart_tx_pin", "unchanged, it was so already"],
        ["country_code", "unchanged, it was so already"],
    ]


def test_a_change_of_nothing_gives_the_same_bytes(cli, samples, tmp_path):
    for name in ("image.bin", "legacy.bin", "mfg_nvs.bin", "factory_param.bin"):
        assert cli("modify-bin", "-in", samples / name, "-o", tmp_path / name, "-tx", "7").status == 0
        assert (tmp_path / name).read_bytes() == (samples / name).read_bytes()
    for name in ("release", "legacy", "release.zip"):
        assert cli("modify-bin", "-in", samples / name, "-o", tmp_path / name, "-tx", "7").status == 0
        assert builders.tree(tmp_path / name) == builders.tree(samples / name)


def test_the_json_document(modify, samples):
    document = modify(
        samples / "image.bin", "-b", "9600", "-cc", "CN", "-o", "o.bin", "--mfg-nvs-output", "m.bin"
    )
    assert document == {
        "schema": 1,
        "input": str(samples / "image.bin"),
        "output": "o.bin",
        "dry_run": False,
        "chip": "esp32c3",
        "layout": "modern",
        "changes": [{"name": "uart_baudrate", "old": 115200, "new": 9600}],
        "unchanged": ["country_code"],
        "warnings": [],
        "partitions": [{"name": "mfg_nvs", "offset": 0x1F000, "size": 0x1F000, "file": "m.bin"}],
    }


def test_the_json_never_shows_a_key(cli, samples, tmp_path):
    args = ["--mqtt-key", samples / "key.pem", "--mqtt-cert", samples / "cert.pem", "-o", tmp_path / "o.bin"]
    for extra in ([], ["--json"], ["-v"]):
        result = cli("modify-bin", "-in", samples / "image.bin", *args, *extra)
        assert result.status == 0
        for line in (samples / "key.pem").read_text().splitlines():
            assert line not in result.out + result.err


def test_how_to_flash_it(cli, samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = cli("modify-bin", "-in", samples / "image.bin", "-b", "9600")
    assert "  esp-at-tool flash target.bin -p PORT" in result.out
    assert "  esptool --chip esp32c3 --port PORT write-flash 0x0 target.bin" in result.out
    assert "  esp-at-tool flash target.bin --only mfg_nvs -p PORT" in result.out
    args = ["--partitions-output", "parts", "-o", "a b.bin"]
    key = ["--mqtt-cert", samples / "cert.pem", "--mqtt-key", samples / "key.pem"]
    result = cli("modify-bin", "-in", samples / "legacy.bin", "-b", "9600", *key, *args, "--force")
    place = {partition.name: f"{partition.offset:#x}" for partition in builders.LEGACY_SECONDARY}
    assert f"write-flash {place['factory_param']} parts/factory_param.bin\n" in result.out
    assert "esptool --chip esp32c3 --port PORT write-flash 0x0 'a b.bin'" in result.out
    result = cli("modify-bin", "-in", samples / "mfg_nvs.bin", "-b", "9600", "-o", "m.bin")
    assert "write-flash ADDRESS m.bin" in result.out


def test_quiet_says_nothing(cli, samples, tmp_path):
    result = cli("modify-bin", "-in", samples / "image.bin", "-b", "9600", "-o", tmp_path / "o", "-q")
    assert (result.status, result.out, result.err) == (0, "", "")


def test_values_of_a_firmware_cannot_act_on_the_terminal(cli, samples, tmp_path):
    evil = "\x1b[2Jx\u202e\x07"
    out = tmp_path / "out.bin"
    assert cli("modify-bin", "-in", samples / "image.bin", "-o", out, "-mn", evil).status == 0
    result = cli("modify-bin", "-in", out, "-o", tmp_path / "back.bin", "-mn", "MINI-1")
    assert not set(result.out) & {"\x1b", "\u202e", "\x07"}
    assert "\\x1b[2Jx\\u202e\\x07 → MINI-1" in result.out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_of_the_output(process, samples, tmp_path, encoding):
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    out = tmp_path / "größe-中.bin"
    result = process("modify-bin", "-in", samples / "image.bin", "-b", "9600", "-o", out, env=env, text=False)
    assert (result.status, result.err) == (0, b"")
    arrow = "→" if encoding == "utf-8" else "->"
    assert f"115200 {arrow} 9600".encode(encoding) in result.out
    assert out.is_file()


# --- outputs ---------------------------------------------------------------------------------------------


def test_the_default_output(cli, samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("modify-bin", "-in", samples / "image.bin", "-b", "9600").status == 0
    assert cli("modify-bin", "-in", samples / "mfg_nvs.bin", "-b", "9600").status == 0  # replaces it
    assert (tmp_path / "target.bin").stat().st_size == builders.MFG_SIZE


def test_relative_paths_from_another_folder(process, samples, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    shutil.copy(samples / "image.bin", tmp_path / "a")
    shutil.copy(samples / "cert.pem", tmp_path / "a")
    args = ["-in", "../image.bin", "-o", "../../out.bin", "--mqtt-ca", "../cert.pem"]
    assert process("modify-bin", *args, cwd=tmp_path / "a" / "b").status == 0
    assert (tmp_path / "out.bin").is_file()


def test_short_options_joined_to_their_value(cli, samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("modify-bin", "-in", samples / "image.bin", "-b=9600", "-o=x.bin").status == 0
    assert cli("modify-bin", "-in", samples / "image.bin", "-b9600", "-oy.bin").status == 0
    assert (tmp_path / "x.bin").read_bytes() == (tmp_path / "y.bin").read_bytes()


def test_paths_with_spaces_and_any_characters(cli, samples, tmp_path):
    folder = tmp_path / "ein Ordner, 文件夹 'x' \"y\""
    folder.mkdir()
    shutil.copytree(samples / "release", folder / "re lease")
    shutil.copy(samples / "image.bin", folder / "-x.bin")
    (folder / "p r.yaml").write_text("settings: {uart_baudrate: 9600}\n")
    for source, target in (("re lease", "oüt put"), ("-x.bin", "-y.bin")):
        args = ["-in", folder / source, "-o", folder / target, "--profile", folder / "p r.yaml"]
        assert cli("modify-bin", *args).status == 0
        assert (folder / target).exists()


def test_a_name_as_long_as_the_system_takes(cli, samples, tmp_path):
    out = tmp_path / ("文" * 84)  # 252 bytes; the temporary name beside it must not be longer than 255
    assert cli("modify-bin", "-in", samples / "mfg_nvs.bin", "-b", "9600", "-o", out).status == 0
    assert out.is_file()


@posix
def test_a_link_as_output_stays_a_link(cli, samples, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.bin").symlink_to("real/out.bin")
    assert (
        cli("modify-bin", "-in", samples / "image.bin", "-b", "9600", "-o", tmp_path / "link.bin").status == 0
    )
    assert (tmp_path / "link.bin").is_symlink()
    assert (tmp_path / "real" / "out.bin").is_file()


@posix
def test_in_place_through_a_link(cli, samples, tmp_path):
    shutil.copy(samples / "image.bin", tmp_path / "real.bin")
    (tmp_path / "link.bin").symlink_to("real.bin")
    assert cli("modify-bin", "-in", tmp_path / "link.bin", "--in-place", "-b", "9600").status == 0
    assert (tmp_path / "link.bin").is_symlink()
    assert (tmp_path / "real.bin").read_bytes() != (samples / "image.bin").read_bytes()


def test_the_same_inputs_give_the_same_bytes(cli, samples, tmp_path):
    key = ["--mqtt-cert", samples / "cert.pem", "--mqtt-key", samples / "key.pem"]
    for name in ("image.bin", "release.zip", "legacy.bin"):
        for number in (1, 2):
            args = ["-in", samples / name, "-o", tmp_path / f"{number}{name}", "-b", "9600", "--force", *key]
            assert cli("modify-bin", *args).status == 0
        assert (tmp_path / f"1{name}").read_bytes() == (tmp_path / f"2{name}").read_bytes()


def test_an_unfilled_image_stays_one(cli, tmp_path, samples):
    unfilled = builders.image((samples / "mfg_nvs.bin").read_bytes(), filled=False)
    (tmp_path / "in.bin").write_bytes(unfilled)
    assert cli("modify-bin", "-in", tmp_path / "in.bin", "-o", tmp_path / "out.bin", "-b", "9600").status == 0
    assert len((tmp_path / "out.bin").read_bytes()) == len(unfilled)


def test_a_partition_after_the_end_of_an_unfilled_image(cli, tmp_path, samples):
    """The image grows just enough; 0xFF comes between."""
    end = 0x38000  # the end of server_cert and of what follows it, before mqtt_cert
    app = builders.esp_image()
    primary = PartitionTable(
        (
            Partition("ota_0", 0, 0x10, 0x10000, 0xE000),
            Partition("at_customize", 0x40, 0, 0x1E000, 0x42000),
        ),
        md5=False,
    )
    flash = bytearray(builders.legacy_image()[:end])
    flash[0x8000:0x8C00] = primary.to_bytes()
    flash[0x10000 : 0x10000 + len(app)] = app
    (tmp_path / "in.bin").write_bytes(flash)
    place = builders.LEGACY_SECONDARY.find("mqtt_cert")
    args = ["--mqtt-cert", samples / "cert.pem", "-o", tmp_path / "out.bin"]
    result = cli("modify-bin", "-in", tmp_path / "in.bin", *args)
    assert result.status == 0, result.err
    out = (tmp_path / "out.bin").read_bytes()
    data = builders.pki_list((samples / "cert.pem").read_bytes())
    assert out[:end] == flash
    assert out[end : place.offset] == b"\xff" * (place.offset - end)
    assert out[place.offset :] == data.rstrip(b"\xff")


def test_extra_files_go_to_a_folder_that_exists(cli, samples, tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "other").write_text("stays")
    args = ["-o", tmp_path / "o.bin", "--partitions-output", tmp_path / "parts", "-b", "9600"]
    assert cli("modify-bin", "-in", samples / "image.bin", *args).status == 0
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["mfg_nvs.bin", "other"]


@posix
@pytest.mark.parametrize("source", ["image.bin", "release", "release.zip"])
@pytest.mark.parametrize("blocks", [0, 1, 8])
def test_a_full_disk_leaves_nothing_behind(samples, tmp_path, source, blocks):
    """A limit on the size of files stands in for the disk."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({blocks * 512},) * 2); "
        "from esp_at_tools.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    args = ["modify-bin", "-in", samples / source, "-o", tmp_path / "out", "-b", "9600"]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 2
    assert (
        done.stderr
        == f"error: {tmp_path / 'out'}: cannot be written: File too large\n  nothing was changed\n"
    )
    assert list(tmp_path.iterdir()) == []


# --- releases --------------------------------------------------------------------------------------------


@posix
def test_permissions_and_a_read_only_release(cli, samples, tmp_path):
    """What is copied from read-only media can be changed and removed by its owner."""
    source = tmp_path / "source"
    shutil.copytree(samples / "release", source)
    (source / "flash.sh").write_text("#!/bin/sh\n")
    for path in (*source.rglob("*"), source):
        path.chmod(0o555 if path.is_dir() or path.name == "flash.sh" else 0o444)
    try:
        assert cli("modify-bin", "-in", source, "-o", tmp_path / "out", "-b", "9600").status == 0
    finally:
        for path in (source, *source.rglob("*")):
            path.chmod(0o755)
    mask = os.umask(0)
    os.umask(mask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").rglob("*")}
    assert modes["esp-at.bin"] == 0o644 & ~mask
    assert modes["flash.sh"] == 0o755 & ~mask
    assert modes["bootloader"] == 0o777 & ~mask
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777 & ~mask


@posix
def test_a_private_umask_is_respected(samples, tmp_path):
    run = (
        "import os, sys; os.umask(0o077); from esp_at_tools.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    for name, out in (("release", "out"), ("image.bin", "out.bin")):
        args = ["modify-bin", "-in", samples / name, "-o", tmp_path / out, "-b", "9600", "-q"]
        subprocess.run([sys.executable, "-c", run, *map(str, args)], check=True)
    for path in (tmp_path / "out", *(tmp_path / "out").rglob("*"), tmp_path / "out.bin"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@posix
def test_links_in_a_release_are_followed(cli, samples, tmp_path):
    """The copy holds the files themselves, and nothing outside of it is touched."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(samples / "legacy", elsewhere)
    source = tmp_path / "source"
    source.mkdir()
    for path in elsewhere.iterdir():
        (source / path.name).symlink_to(f"../elsewhere/{path.name}")
    (source / "nowhere").symlink_to("nothing")
    before = builders.tree(elsewhere)
    args = ["-b", "9600", "--wpa2-ca", samples / "ca.pem"]
    assert cli("modify-bin", "-in", source, "-o", tmp_path / "out", *args).status == 0
    assert builders.tree(elsewhere) == before
    out = tmp_path / "out"
    assert [path.name for path in out.rglob("*") if path.is_symlink()] == ["nowhere"]
    assert (out / "customized_partitions" / "wpa2_ca.bin").is_file()
    assert cli("diff", source, out).status == 1


@posix
def test_a_link_that_leads_back_up_is_refused(cli, samples, tmp_path):
    shutil.copytree(samples / "release", tmp_path / "source")
    (tmp_path / "source" / "bootloader" / "up").symlink_to("..")
    result = cli("modify-bin", "-in", tmp_path / "source", "-o", tmp_path / "out", "-b", "9600")
    assert result.status == 2
    assert "is a link to a folder that holds it" in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_release_one_folder_further_down(cli, samples, tmp_path):
    (tmp_path / "unpacked").mkdir()
    shutil.copytree(samples / "release", tmp_path / "unpacked" / "ESP32-C3-V5")
    (tmp_path / "unpacked" / "readme.txt").write_text("hello")
    args = ["-b", "9600", "-o", tmp_path / "out"]
    assert cli("modify-bin", "-in", tmp_path / "unpacked", *args).status == 0
    old, new = builders.tree(tmp_path / "unpacked"), builders.tree(tmp_path / "out")
    assert {name for name in new if new[name] != old[name]} == {
        "ESP32-C3-V5/customized_partitions/mfg_nvs.bin",
        "ESP32-C3-V5/customized_partitions/mfg_nvs.csv",
        "ESP32-C3-V5/factory/factory_MINI-1.bin",
        "ESP32-C3-V5/factory/factory_MINI-1_unfilled.bin",
    }


def test_a_zip_keeps_its_members_as_they_are(cli, samples, tmp_path):
    assert (
        cli("modify-bin", "-in", samples / "release.zip", "-o", tmp_path / "o.zip", "-b", "9600").status == 0
    )

    def described(path: Path) -> list[tuple]:
        with zipfile.ZipFile(path) as archive:
            return [
                (info.filename, info.date_time, info.external_attr, info.compress_type, info.comment)
                for info in archive.infolist()
            ]

    assert described(tmp_path / "o.zip") == described(samples / "release.zip")


def test_a_large_folder(cli, samples, tmp_path):
    """A build folder has thousands of files; they come along."""
    source = tmp_path / "build"
    shutil.copytree(samples / "release", source)
    for number in range(300):
        folder = source / f"esp-idf/component{number % 20}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.obj").write_bytes(b"x")
    assert cli("modify-bin", "-in", source, "-o", tmp_path / "out", "-b", "9600").status == 0
    assert set(builders.tree(tmp_path / "out")) == set(builders.tree(source))


# --- chip and module -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["esp32c3", "ESP32-C3", "esp32_c3", "PLATFORM_ESP32C3"])
def test_the_chip_makes_the_pins_be_checked(cli, samples, tmp_path, name):
    out = ["-o", tmp_path / "o.bin"]
    source = samples / "mfg_nvs.bin"
    result = cli("modify-bin", "-in", source, "-tx", "33", *out)
    assert result.status == 0
    assert "not checked against the GPIOs of the chip" in result.err
    for option in (["--chip", name], ["--module", f"{name}/MINI-1"]):
        result = cli("modify-bin", "-in", source, "-tx", "33", *out, *option)
        assert result.status == 2
        assert "ESP32-C3 has no GPIO 33" in result.err


def test_a_lone_factory_param_names_its_chip(cli, samples, tmp_path):
    result = cli("modify-bin", "-in", samples / "factory_param.bin", "-tx", "33", "-o", tmp_path / "o.bin")
    assert result.status == 2
    assert "ESP32-C3 has no GPIO 33" in result.err


def test_force_allows_what_is_risky(cli, samples, tmp_path):
    args = ["modify-bin", "-in", samples / "image.bin", "-o", tmp_path / "o.bin", "-tx", "18"]
    refused = cli(*args)
    assert refused.status == 2
    assert "--force" in refused.err
    assert not (tmp_path / "o.bin").exists()
    allowed = cli(*args, "--force")
    assert allowed.status == 0
    assert "warning: uart_tx_pin (--tx-pin): GPIO 18 of ESP32-C3 is" in allowed.err
    assert "(allowed by --force)" in allowed.err


# --- where things are ------------------------------------------------------------------------------------


def moved_table(at: int) -> bytes:
    """An image whose primary table is not at 0x8000 but at another place below the first partition."""
    flash = bytearray(builders.image())
    flash[at : at + 0xC00] = flash[0x8000:0x8C00]
    flash[0x8000:0x8C00] = b"\xff" * 0xC00
    return bytes(flash)


def test_a_table_elsewhere(modify, tmp_path):
    (tmp_path / "in.bin").write_bytes(moved_table(0xA000))
    for args in ([], ["--partition-table-offset", "0xA000"], ["--partition_table_offset", "40K"]):
        document = modify(tmp_path / "in.bin", "-b", "9600", "-o", "out.bin", *args)
        assert document["partitions"][0]["offset"] == builders.MFG_OFFSET
    message = modify(tmp_path / "in.bin", "-b", "9600", "--partition-table-offset", "0x9000", status=2)[
        "error"
    ]
    assert "--partition-table-offset 0x9000" in message["message"]


def with_two_records() -> bytes:
    """A legacy image with a second factory_param, which no table lists, at 0x60000 + 1 MB."""
    flash = bytearray(builders.legacy_image())
    flash[0x160000:0x161000] = builders.factory_param(module="OTHER")
    return bytes(flash)


def test_parameter_offset_of_the_legacy_layout(modify, tmp_path):
    """at.py takes the address of the record; the one that the tables list is left alone."""
    flash = with_two_records()
    (tmp_path / "in.bin").write_bytes(flash)
    document = modify(tmp_path / "in.bin", "-b", "9600", "--parameter_offset", "0x160000", "-o", "out.bin")
    assert document["partitions"] == [
        {"name": "factory_param", "offset": 0x160000, "size": 0x1000, "file": None}
    ]
    out = (tmp_path / "out.bin").read_bytes()
    changed = [at for at in range(0, len(out), 4096) if out[at : at + 4096] != flash[at : at + 4096]]
    assert changed == [0x160000]


def test_parameter_offset_of_the_modern_layout(modify, tmp_path):
    """at.py takes the address of the row for mfg_nvs; that of the partition does as well."""
    flash = bytearray(builders.image())
    second = Partition("mfg_nvs", 1, 2, 0x200000, builders.MFG_SIZE).to_bytes()
    flash[0x1C0000:0x1C0020] = second
    flash[0x200000 : 0x200000 + builders.MFG_SIZE] = flash[0x1F000 : 0x1F000 + builders.MFG_SIZE]
    (tmp_path / "in.bin").write_bytes(flash)
    for offset, place in (("0x1E000", 0x1F000), ("0x1F000", 0x1F000), ("0x1C0000", 0x200000)):
        document = modify(tmp_path / "in.bin", "-b", "9600", "-os", offset, "-o", "out.bin")
        assert document["partitions"][0]["offset"] == place
        out = (tmp_path / "out.bin").read_bytes()
        changed = {at for at in range(0, len(out), 4096) if out[at : at + 4096] != flash[at : at + 4096]}
        assert changed <= set(range(place, place + builders.MFG_SIZE, 4096))
        assert changed


def test_parameter_offset_in_a_release(modify, tmp_path):
    """A partition that has no file gets one whose name is free."""
    source = builders.legacy_release(tmp_path / "in")
    (source / "record.bin").write_bytes(builders.factory_param(module="OTHER"))
    config = (source / "download.config").read_text()
    (source / "download.config").write_text(f"{config} 0x160000 record.bin")
    modify(source, "-b", "9600", "--parameter-offset", "0x160000", "-o", "out")
    old, new = builders.tree(source), builders.tree(tmp_path / "out")
    assert {name for name in new if new[name] != old.get(name)} == {"record.bin"}


# --- profiles --------------------------------------------------------------------------------------------


def test_an_option_goes_before_the_profile(modify, samples, tmp_path):
    (tmp_path / "p.yaml").write_text(
        f"settings: {{uart_baudrate: 9600, country_code: US, channel_num: 11}}\n"
        f"pki: {{mqtt_ca: {samples / 'ca.pem'}, mqtt_cert: {samples / 'cert.pem'}}}\n"
    )
    args = ["--profile", "p.yaml", "-b", "19200", "--mqtt-cert", samples / "ca.pem", "--force"]
    document = modify(samples / "mfg_nvs.bin", *args, "--dry-run")
    assert changes(document)["uart_baudrate"] == 19200
    assert changes(document)["mqtt_cert"] == changes(document)["mqtt_ca"]
    assert changes(document)["country_code"] == "US"


@pytest.mark.parametrize("source", ["image.bin", "legacy.bin"])
def test_a_gatt_table_replaces_the_whole_table(modify, samples, tmp_path, source):
    rows = [ROWS[0], "1,16,0x2803,0x01,1,1,08"]
    (tmp_path / "g.csv").write_text(
        "index,uuid_len,uuid,perm,val_max_len,val_cur_len,value\n" + "\n".join(rows)
    )
    (tmp_path / "p.yaml").write_text("gatts: g.csv\n")
    document = modify(samples / source, "--profile", "p.yaml", "-o", "o.bin", "--force")
    assert changes(document) == {"cfg1": rows[1], "cfg2": None}
    assert modify(tmp_path / "o.bin", "--profile", "p.yaml", "--dry-run")["changes"] == []


@pytest.mark.parametrize("source", ["image.bin", "legacy.bin"])
def test_rows_in_any_order(modify, samples, source):
    """Rows are removed from the last one on and added from the first one on, however they are named."""
    args = ["--unset", "cfg1", "--unset", "cfg2", "--force"]
    assert changes(modify(samples / source, *args, "--dry-run")) == {"cfg1": None, "cfg2": None}
    rows = {n: f"{n},16,0x2901,0x01,1,1,31" for n in (5, 3, 4)}
    args = [word for n, row in rows.items() for word in (f"--gatts-cfg{n}", row)]
    assert changes(modify(samples / source, *args, "--dry-run")) == {
        f"cfg{n}": row for n, row in sorted(rows.items())
    }


def test_removing_a_pin_and_taking_it(modify, samples):
    args = ["--unset", "uart_cts_pin", "-tx", "5", "--force", "--dry-run"]
    assert changes(modify(samples / "image.bin", *args)) == {"uart_cts_pin": None, "uart_tx_pin": 5}


# --- speed and memory ------------------------------------------------------------------------------------

MEASURE = """
import sys
from pathlib import Path
from esp_at_tools.cli.main import run
status = run(sys.argv[1:])
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(peak.split()[1], file=sys.stderr)  # getrusage would count what the parent had when it forked
sys.exit(status)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak")
@pytest.mark.parametrize("megabytes", [4, 16])
def test_memory(samples, tmp_path, megabytes):
    image = (samples / "image.bin").read_bytes()
    (tmp_path / "in.bin").write_bytes(image.ljust(megabytes << 20, b"\xff"))
    args = ["modify-bin", "-in", "in.bin", "-b", "9600", "-q"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *args], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(done.stderr) < 64 << 10

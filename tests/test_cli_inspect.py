"""``inspect`` as people and scripts call it: terminal text at any width, JSON, exit status."""

from __future__ import annotations

import functools
import io
import itertools
import json
import os
import re
import unicodedata
from pathlib import Path

import builders
import pytest
from rich.cells import cell_len
from rich.console import Console

from esp_at_tools.cli.inspect_terminal import print_report
from esp_at_tools.cli.inspect_view import blocks, clean, common_name, percent, setting_meaning, value_text
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.report import report
from esp_at_tools.formats.partition_table import Partition, PartitionTable

OFFICIAL = (
    "ESP32-C3-MINI-1-V2.3.0.0",
    "ESP32-C3-MINI-1-V5.0.1.0-assembled",
    "ESP32-WROOM-32-V2.2.0.0",
    "ESP8266-AT-V2.2.1.0",
)
WIDTHS = (40, 60, 80, 100, 149, 150, 200, 300)
HOSTILE = "<script>alert(1)</script>\x1b[31mRED\x07\x9b5m\u202e\r\nend"


@pytest.fixture
def image(tmp_path) -> Path:
    path = tmp_path / "factory.bin"
    path.write_bytes(builders.image())
    return path


@pytest.fixture
def broken(tmp_path) -> Path:
    data = bytearray(builders.image())
    data[0x60300] ^= 1
    path = tmp_path / "broken.bin"
    path.write_bytes(data)
    return path


@pytest.fixture
def hostile(tmp_path) -> Path:
    """Every text of a firmware that somebody else wrote, with what must not act on a terminal or page."""
    path = tmp_path / "hostile.bin"
    data = bytearray(builders.image())
    row = data.find(b"phy_init\0", 0x8000)
    data[row : row + 16] = "<b>\x1b[5mé中".encode().ljust(16, b"\0")
    path.write_bytes(data)
    firmware = Firmware.open(path)
    firmware.layout.nvs.set("factory_param", "module_name", "string", HOSTILE)
    firmware.layout.nvs.set("factory_param", "<i>\x1b[7m", "string", HOSTILE)
    firmware.layout.nvs.set("ble_data", "cfg0", "string", HOSTILE)
    firmware.set_pki("mqtt_cert", builders.certificate(1, name="<img src=x>,\x1b]0;t\x07 " + "long" * 10))
    firmware.set_pki("mqtt_ca", HOSTILE.encode())
    firmware.write(tmp_path / "result.bin")
    return tmp_path / "result.bin"


@functools.cache
def official(path: Path) -> dict:
    return report(Firmware.open(path))


def rendered(document: dict, width: int, *, encoding: str = "utf-8", terminal: bool = False) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict", newline="")
    console = Console(
        file=stream,
        width=width,
        force_terminal=terminal,
        color_system="standard" if terminal else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    print_report(console, document)
    stream.flush()
    return raw.getvalue().decode(encoding)


# --- the text ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OFFICIAL)
@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_longer_than_the_terminal(shared, name, width):
    text = rendered(official(shared / "firmware" / name), width)
    assert max(cell_len(line) for line in text.splitlines()) <= max(width, 70)  # the picture needs 70
    assert not [line for line in text.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize("name", OFFICIAL)
@pytest.mark.parametrize("width", [80, 200])
def test_everything_is_named(shared, name, width):
    document = official(shared / "firmware" / name)
    text = rendered(document, width)
    names = [part["name"] for part in document["partitions"]]
    names += [*document["settings"], *(item["name"] for item in document["pki"])]
    names += [f"{part['offset']:#x}" for part in document["partitions"]]
    names += [service["uuid"] for service in document["gatt_services"]]
    names += ["bootloader", "partition table", "free", document["apps"][0]["version"], "2029-06-18"]
    assert not [wanted for wanted in names if wanted not in text]
    assert "belongs to mqtt_cert" in text
    assert "19.5 dBm" in text
    assert "GPIO" in text
    for check in document["checks"]:
        assert check["id"] in text


def test_the_picture_is_proportional_and_shows_the_smallest(shared):
    document = official(shared / "firmware" / "ESP32-C3-MINI-1-V5.0.1.0-assembled")
    lines = rendered(document, 80).splitlines()
    start = next(index for index, line in enumerate(lines) if "0x060000" in line)
    end = next(index for index, line in enumerate(lines) if "0x230000" in line)
    assert end - start == 7  # 1856 of 4096 KB, in lines of 256 KB
    assert sum("0x00f000" in line for line in lines) == 1
    assert lines[start].count("█") == lines[start + 4].count("█") > 20
    assert 0 < lines[start + 5].count("█") < lines[start].count("█")
    assert "░" in lines[end - 1]
    assert "█" not in lines[end - 1]
    assert "79 %" in lines[start]


def test_wide_terminals_get_the_map_beside_the_settings(shared):
    document = official(shared / "firmware" / "ESP32-C3-MINI-1-V5.0.1.0-assembled")
    heading = next(line for line in rendered(document, 200).splitlines() if " Flash " in line)
    assert "Application" in heading
    heading = next(line for line in rendered(document, 80).splitlines() if " Flash " in line)
    assert "Application" not in heading


@pytest.mark.parametrize("width", [40, 80, 200])
def test_an_ascii_terminal_gets_ascii(hostile, width):
    text = rendered(report(Firmware.open(hostile)), width, encoding="ascii")
    assert text.isascii()
    assert "#" in text
    assert ".---" in text


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp437"])
def test_other_encodings_do_not_stop_it(hostile, encoding):
    assert "mfg_nvs" in rendered(report(Firmware.open(hostile)), 80, encoding=encoding)


def test_colour_is_for_terminals(image):
    document = report(Firmware.open(image))
    assert "\x1b" not in rendered(document, 80)
    coloured = rendered(document, 80, terminal=True)
    assert "\x1b[" in coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    lines = [line.rstrip() for line in plain.splitlines()]
    assert [line for line in rendered(document, 80).splitlines() if line not in lines] == []


def test_no_color_is_honoured(image, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = rendered(report(Firmware.open(image)), 80, terminal=True)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", text)


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("terminal", [False, True])
def test_texts_of_the_firmware_cannot_act_on_the_terminal(hostile, width, terminal):
    text = rendered(report(Firmware.open(hostile)), width, terminal=terminal)
    text = re.sub(r"\x1b\[[0-9;]*m", "", text) if terminal else text
    bad = {
        char for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs")
    }
    assert bad == set()
    assert r"\x1b[31mRED\x07\x9b5m\u202e" in text.replace("\n", "").replace(" ", "")


def test_long_names_are_folded_not_cut(hostile):
    text = rendered(report(Firmware.open(hostile)), 80)
    assert "long" * 10 in re.sub(r"[\s│]", "", text)


def test_nothing_of_a_private_key_is_printed(shared, cli):
    for name in OFFICIAL:
        keys = Firmware.open(shared / "firmware" / name).pki()
        secrets = [
            line
            for item, data in keys.items()
            if "_key" in item
            for line in data.decode().splitlines()
            if len(line) > 40
        ]
        assert len(secrets) > 20
        result = cli("inspect", shared / "firmware" / name)
        document = cli("inspect", shared / "firmware" / name, "--json")
        assert not [line for line in secrets if line[:30] in result.out + document.out]


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_firmware_passes(cli, shared, tmp_path, name):
    folder = shared / "firmware" / name
    assert cli("inspect", folder, "--check").status == 0
    assert cli("inspect", builders.zipped(folder, tmp_path / "a.zip"), "--check").status == 0


def test_check_makes_the_exit_status_1(cli, broken, tmp_path):
    assert cli("inspect", broken).status == 0
    result = cli("inspect", broken, "--check")
    assert result.status == 1
    assert "app-checksum" in result.out
    result = cli("inspect", broken, "--check", "--json")
    assert result.status == 1
    assert json.loads(result.out)["checks"][0]["level"] == "error"
    assert cli("inspect", broken, "--check", "--html", tmp_path / "a.html").status == 1
    assert "app-checksum" in (tmp_path / "a.html").read_text()


def test_json_is_exactly_one_document(cli, image, tmp_path):
    result = cli("inspect", image, "--json", "--html", tmp_path / "a.html")
    document = json.loads(result.out)
    assert document["schema"] == 1
    assert document["input"]["path"] == str(image)
    assert result.status == 0
    assert (tmp_path / "a.html").is_file()
    assert "a.html" in result.err


def test_quiet_leaves_errors_and_warnings(cli, image, broken):
    assert cli("inspect", image, "--quiet").out == cli("inspect", image, "--quiet").err == ""
    result = cli("inspect", broken, "--quiet")
    assert result.out == ""
    assert len(re.findall("^error: ota_0", result.err, re.MULTILINE)) == 2


def test_a_partition_alone_takes_the_chip_from_an_option(cli, tmp_path):
    path = tmp_path / "mfg_nvs.bin"
    path.write_bytes(
        builders.generate(builders.mfg_csv().replace("uart_tx_pin,data,i32,7", "uart_tx_pin,data,i32,77"))
    )
    result = cli("inspect", path)
    assert "pins-not-checked" in result.out
    for option in (
        ("--chip", "esp32c3"),
        ("--module", "platform_esp32c3/mini-1"),
        ("--module", "ESP32C3/MINI-1"),
    ):
        result = cli("inspect", path, *option)
        assert "pins-not-checked" not in result.out
        assert "setting-uart-tx-pin" in result.out
        assert "ESP32-C3" in result.out


WRONG_CALLS = {
    "no input": ((), "Missing argument 'INPUT'"),
    "no such file": (("nothing.bin",), "nothing.bin: no such file"),
    "empty": (("{empty}",), "is empty"),
    "no such chip": (("{image}", "--chip", "esp99"), "esp99"),
    "another chip": (("{image}", "--chip", "esp32"), "is a firmware for esp32c3"),
    "no number": (("{image}", "--partition-table-offset", "x"), "not a number"),
    "no table there": (("{image}", "--partition-table-offset", "0x9000"), "0x9000"),
    "html over the input": (("{image}", "--html", "{image}"), "is the input itself"),
    "html into a folder": (("{image}", "--html", "{folder}"), "is an existing folder"),
    "html nowhere": (("{image}", "--html", "{folder}/none/a.html"), "its folder does not exist"),
    "unknown option": (("{image}", "--wat"), "No such option"),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_wrong_calls_say_what_is_wrong(cli, image, tmp_path, name):
    arguments, message = WRONG_CALLS[name]
    (tmp_path / "empty.bin").write_bytes(b"")
    places = {"image": image, "folder": tmp_path, "empty": tmp_path / "empty.bin"}
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    result = cli("inspect", *(argument.format(**places) for argument in arguments))
    assert result.status == 2
    assert message in result.err
    assert result.out == ""
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_page_may_lie_in_the_release_but_not_upon_its_files(cli, tmp_path):
    folder = builders.release(tmp_path / "release")
    before = (folder / "esp-at.bin").read_bytes()
    result = cli("inspect", folder, "--html", folder / "esp-at.bin")
    assert result.status == 2
    assert "is a file of the input" in result.err
    assert (folder / "esp-at.bin").read_bytes() == before
    for _ in range(2):
        assert cli("inspect", folder, "--html", folder / "report.html").status == 0


def test_it_works_in_a_pipe_without_an_encoding(process, image):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    result = process("inspect", image, env={**os.environ, **plain})
    assert result.status == 0
    assert result.out.isascii()
    assert max(map(len, result.out.splitlines())) <= 80


# --- the parts -----------------------------------------------------------------------------------


def test_the_map_covers_the_flash_without_holes(shared):
    for name in OFFICIAL:
        document = official(shared / "firmware" / name)
        for depth in (0, 1):
            row = [block for block in blocks(document) if block.depth == depth]
            assert all(first.end == second.offset for first, second in itertools.pairwise(row))
        outer = [block for block in blocks(document) if not block.depth]
        assert (outer[0].offset, outer[-1].end) == (0, document["flash"]["size"])
        home = next(block for block in outer if block.is_home)
        inner = [block for block in blocks(document) if block.depth]
        assert (inner[0].offset, inner[-1].end) == (home.offset, home.end)


def test_overlapping_partitions_are_all_drawn(tmp_path):
    rows = (
        *builders.PRIMARY,
        Partition("stray", 1, 6, 0x20000, 0x100000),
        Partition("far", 1, 6, 0x70000000, 0x1000),
    )
    data = bytearray(builders.image())
    data[0x8000 : 0x8000 + 0xC00] = PartitionTable(rows).to_bytes()
    path = tmp_path / "odd.bin"
    path.write_bytes(data)
    document = report(Firmware.open(path))
    for width in (80, 200):
        text = rendered(document, width)
        assert "stray" in text
        assert "0x70000000" in text
        assert max(cell_len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("é中", "é中"),
        ("a\x1b[0m", r"a\x1b[0m"),
        ("a\nb\tc\x7f", r"a\x0ab\x09c\x7f"),
        ("\udcff", r"\xff"),
        ("\u202e\u200b\u2028", r"\u202e\u200b\u2028"),
        ("\U000e0001", r"\U000e0001"),
        ("e\u0301", r"e\u0301"),
    ],
)
def test_cleaning(text, shown):
    assert clean(text) == shown
    assert clean(text, ascii_only=True).isascii()


@pytest.mark.parametrize(
    ("used", "size", "share"),
    [(0, 100, 0), (1, 10**6, 1), (999, 1000, 99), (1000, 1000, 100), (5, 0, 0), (50, 100, 50)],
)
def test_percent_is_0_and_100_only_for_none_and_all(used, size, share):
    assert percent(used, size) == share


@pytest.mark.parametrize(
    ("name", "value", "meaning"),
    [
        ("max_tx_power", 78, "19.5 dBm"),
        ("max_tx_power", 40, "10 dBm"),
        ("uart_tx_pin", 7, "GPIO 7"),
        ("uart_cts_pin", -1, "not used"),
        ("uart_port", 1, "UART 1"),
        ("channel_num", 13, "channels 1 to 13"),
        ("channel_num", 0, ""),
        ("module_name", "MINI-1", ""),
        ("unknown", 3, ""),
    ],
)
def test_settings_in_words(name, value, meaning):
    assert setting_meaning(name, value, {"start_channel": 1}) == meaning


def test_subjects_and_values_in_short():
    assert common_name(r"O=a\, b,CN=x\,y") == "x,y"
    assert common_name("O=nobody") == "O=nobody"
    assert common_name(None) == ""
    assert value_text("30") == '"0"'
    assert value_text("0001") == "0x0001"
    assert value_text("30" * 512) == '"' + "0" * 20 + '"… (512 bytes)'

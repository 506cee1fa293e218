"""The command ``modules``: list, show, check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from esp_at_tools.catalog.data import data_folder
from esp_at_tools.catalog.modules import module, modules

HEADER = (data_folder() / "factory_param_data.csv").read_text("utf-8").splitlines()[0]
ROW = 'PLATFORM_ESP32C3,MY-BOARD,"mine",4,78,1,1,11,US,921600,3,10,-1,-1,1'


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "modules" / "esp32c3").mkdir(parents=True)
    (folder / "factory_param_data.csv").write_text(f"{HEADER}\n{ROW}\n")
    (folder / "modules" / "esp32c3" / "MY-BOARD.yaml").write_text("options: {LWIP_MAX_SOCKETS: 20}\n")
    return folder


# --- list ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 200])
def test_the_list_fits_its_terminal(cli, monkeypatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    result = cli("modules", "list")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert max(len(line) for line in lines) <= width
    assert [line for line in lines if line != line.rstrip()] == []
    for each in modules():
        (line,) = [line for line in lines if line.split()[0] == each.full_name]
        assert f"{each.flash.size >> 20} MB" in line
        below = lines[lines.index(line) + 1 : lines.index(line) + 2]
        assert each.description in (line if width == 200 else below[0])
    assert len(lines) == (24 if width == 200 else 47)


def test_a_line_of_the_list(cli, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lines = {line.split()[0]: line.split() for line in cli("modules", "list").out.splitlines()}
    assert lines["ESP32C3/MINI-1"] == [
        *("ESP32C3/MINI-1", "4", "MB", "UART1", "7/6/5/4"),
        *("4MB,", "Wi-Fi", "+", "BLE,", "OTA,", "TX:7", "RX:6"),
        *("v4.1.1.0", "+8"),
    ]
    assert lines["ESP32C5/ESP32C5-SPI"][3] == "SPI"
    assert lines["ESP32C5/ESP32C5-SPI"][-1] == "none"
    assert lines["ESP32C2/ESP32C2-2MB-G2"][-2:] == ["v3.3.1.0", "(old)"]


def test_the_list_in_a_pipe_has_a_line_for_each_module(cli, monkeypatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert len(cli("modules", "list").out.splitlines()) == 24


def test_the_list_as_json(cli, mine: Path) -> None:
    result = cli("modules", "list", "--json", "--dir", mine)
    document = json.loads(result.out)
    assert (result.status, document["schema"], len(document["modules"])) == (0, 1, 24)
    by_name = {each["name"]: each for each in document["modules"]}
    assert by_name["ESP32C3/MINI-1"] == {
        "name": "ESP32C3/MINI-1",
        "platform": "PLATFORM_ESP32C3",
        "module_name": "MINI-1",
        "chip": "esp32c3",
        "description": "4MB, Wi-Fi + BLE, OTA, TX:7 RX:6",
        "flash": {"size": 4 << 20, "mode": "dio", "freq": "40m"},
        "at_port": {"interface": "uart", "uart": 1, "tx": 7, "rx": 6, "cts": 5, "rts": 4},
        "releases": [each.version for each in module("ESP32C3/MINI-1").releases],
        "recommended_release": "v4.1.1.0",
    }
    assert by_name["ESP32C3/MY-BOARD"]["at_port"]["tx"] == 3
    assert by_name["ESP32C3/MY-BOARD"]["recommended_release"] is None
    assert by_name["ESP32/ESP32-SDIO"]["at_port"] == {"interface": "sdio"}


# --- show -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("name", ["ESP32C3/MINI-1", "esp32c2-2mb-no-ota-g2", "ESP32C3/ESP32C3_RAINMAKER"])
def test_show_has_everything_and_where_it_is_from(cli, monkeypatch, width: int, name: str) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    result = cli("modules", "show", name, "--silence")
    assert (result.status, result.err) == (0, "")
    known = module(name, silence=True)
    text = result.out
    table, _, defaults = text.partition("Options of the sdkconfig")
    assert max(len(line) for line in table.splitlines()) <= width
    assert defaults.endswith(known.sdkconfig_defaults())
    words = table.split()
    assert text.startswith(f"{known.full_name}, silence\n")
    assert known.description in table
    for part in (known.chip.title, *known.mfg_nvs, *known.features, *known.parameters, known.idf.branch):
        assert part in words
    for partition in (*known.primary, *known.secondary):
        assert f"{partition.offset:#x}" in words
    for each in known.submodules:
        assert each.path in words
    for layer in known.layers:
        assert layer in table


def test_the_options_of_a_feature_name_it(cli) -> None:
    out = cli("modules", "show", "ESP32/WROVER-32").out
    assert "\n# ESP32/WROVER-32: mqtt\nCONFIG_AT_MQTT_COMMAND_SUPPORT=n\n" in out
    assert out.index("\n# base\n") < out.index("\n# esp32\n") < out.index("\n# ESP32/WROVER-32\n")


def test_show_as_json(cli, mine: Path) -> None:
    result = cli("modules", "show", "my-board", "--dir", mine, "--json")
    document = json.loads(result.out)
    assert result.status == 0
    assert document["options"]["LWIP_MAX_SOCKETS"] == {
        "value": "20",
        "layer": "ESP32C3/MY-BOARD (mine)",
        "feature": "",
    }
    assert document["options"]["AT_MQTT_COMMAND_SUPPORT"]["feature"] == "mqtt"
    assert document["features"]["mdns"] == {"state": "on", "on": True, "layer": "Kconfig", "missing": ""}
    assert document["sources"]["flash.freq"] == "esp32c3"
    assert document["parameters"]["uart_baudrate"] == 921600
    assert document["idf"]["branch"] == "release/v5.4"
    assert {each["table"] for each in document["partitions"]} == {"primary", "secondary"}
    assert document["layers"] == ["base", "esp32c3", "ESP32C3/MY-BOARD (mine)"]
    assert document["silence"] is False
    assert document["mfg_nvs"][-1] == "ble_data"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ("show", "ESP32C3/MINI-2"),
            "'ESP32C3/MINI-2' is not the name of a module",
            "did you mean ESP32C3/MINI-1?",
        ),
        (("show", "MINI-1"), "'MINI-1' is the name of several modules", "ESP32/MINI-1 or ESP32C3/MINI-1"),
        (("show",), "Missing argument 'NAME'", ""),
        (("list", "--dir", "nowhere"), "nowhere: no such folder", "module definitions"),
        (("check", "--dir", "empty"), "empty: holds no module definitions", "factory_param_data.csv"),
        (("frobnicate",), "No such command 'frobnicate'", ""),
    ],
)
def test_what_is_refused(cli, tmp_path, monkeypatch, arguments, message: str, hint: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = cli("modules", *arguments)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert hint in result.err
    document = json.loads(cli("modules", *arguments, "--json").out)
    assert message in document["error"]["message"]


# --- check ----------------------------------------------------------------------------------------------


def test_the_definitions_pass(cli) -> None:
    result = cli("modules", "check")
    assert (result.status, result.out, result.err) == (0, "23 modules, no problems\n", "")
    assert cli("modules", "check", "-q").out == ""


def test_a_folder_passes(cli, mine: Path) -> None:
    assert cli("modules", "check", "--dir", mine).out == "24 modules, no problems\n"


def test_a_warning_leaves_the_status_0(cli, mine: Path) -> None:
    path = mine / "modules" / "esp32c3" / "MY-BOARD.yaml"
    path.write_text("options:\n  LWIP_MAX_SOCKETS: 16\n")
    result = cli("modules", "check", "--dir", mine)
    assert result.status == 0
    assert result.out == (
        f"warning: {path}: line 2: LWIP_MAX_SOCKETS is repeated: base says the same already "
        "(leave it out: a fact stands once)\n"
    )


def test_every_error_is_told_and_the_status_is_1(cli, mine: Path) -> None:
    path = mine / "modules" / "esp32c3" / "MY-BOARD.yaml"
    path.write_text("option: {}\nfeatures: {mdn: off}\nflash: {size: 5MB}\n")
    result = cli("modules", "check", "--dir", mine, "--json")
    document = json.loads(result.out)
    assert (result.status, document["schema"], document["dir"]) == (1, 1, str(mine))
    assert document["problems"] == [
        {
            "level": "error",
            "place": f"{path}: line 1",
            "message": "'option' is unknown",
            "hint": "did you mean options?",
        },
        {
            "level": "error",
            "place": f"{path}: line 2",
            "message": "'mdn' is not a feature",
            "hint": "did you mean mdns?",
        },
        {
            "level": "error",
            "place": "ESP32C3/MY-BOARD",
            "message": "flash: size: '5MB' is unknown (ESP32C3/MY-BOARD (mine))",
            "hint": document["problems"][2]["hint"],
        },
    ]
    text = cli("modules", "check", "--dir", mine)
    assert text.status == 1
    assert text.out.count("error: ") == 3


def test_parameters_that_cannot_work_are_told(cli, mine: Path) -> None:
    path = mine / "factory_param_data.csv"
    path.write_text(
        f"{HEADER}\n{ROW.replace(',3,10,', ',3,3,')}\n{ROW.replace('MY-BOARD', 'B').replace(',3,', ',99,')}\n"
    )
    result = cli("modules", "check", "--dir", mine)
    assert result.status == 1
    assert f"error: {path}: line 2: " in result.out
    assert f"error: {path}: line 3: uart_tx_pin" in result.out


def test_control_characters_do_not_reach_the_terminal(cli, mine: Path) -> None:
    path = mine / "modules" / "esp32c3" / "MY-BOARD.yaml"
    path.write_text(
        '"a\\e[31m": 1\noptions: {A: "\\e[31m"}\nflash: {size: "\\e[31m"}\nfeatures: {"b\\e[31m": [1]}\n'
    )
    (mine / "factory_param_data.csv").write_text(f"{HEADER}\n{ROW.replace('mine', chr(27) + '[31m')}\n")
    from esp_at_tools.catalog.module_checks import check_definitions

    assert "b\\x1b[31m: not a single value" in [each.message for each in check_definitions(mine).problems]
    for arguments in (("check",), ("list",), ("show", "my-board")):
        result = cli("modules", *arguments, "--dir", mine)
        assert result.status in (1, 2)
        assert "\x1b" not in result.out + result.err


def test_an_ascii_terminal(process) -> None:
    import os

    result = process(
        "modules", "show", "ESP32C3/MINI-1", env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "150"}
    )
    assert result.status == 0, result.err
    assert "base -> esp32c3" in result.out
    assert "(AT+MQTT...)" in result.out

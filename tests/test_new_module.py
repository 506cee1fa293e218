"""``modules add --dir``: a new module in a folder of the user's own, which every command then takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from builders import image
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.catalog.data import data_folder
from esp_at_tools.catalog.module_model import Module
from esp_at_tools.catalog.modules import features, module, modules
from esp_at_tools.catalog.overlay import Overlay
from esp_at_tools.cli.feature_words import _with_features
from esp_at_tools.errors import EspAtError, InputError

MINE = "ESP32C3/MY-BOARD"


@pytest.fixture
def add(cli, tmp_path: Path):
    """Define a module in the folder ``mine`` of the test."""

    def call(*args: object, name: str = "MY-BOARD", like: str = "ESP32C3/MINI-1"):
        return cli("modules", "add", name, "--from", like, "--dir", tmp_path / "mine", *args)

    return call


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def differences(a: Module, b: Module) -> dict[str, tuple[str | None, str | None]]:
    """What differs in the options of two modules, paths to their own folders apart."""
    values = [{name: option.value for name, option in each.options.items()} for each in (a, b)]
    names = values[0].keys() | values[1].keys()
    return {
        name: (values[0].get(name), values[1].get(name))
        for name in sorted(names)
        if values[0].get(name) != values[1].get(name) and "module_config/" not in str(values[0].get(name))
    }


def test_the_issue_s_own_example(cli, add, tmp_path: Path) -> None:
    result = add("--feature", "+fs", "-mdns", "--flash", "8MB", "--partition", "mfg_nvs=256K")
    assert (result.status, result.err) == (0, "")
    mine = tmp_path / "mine"
    assert list(files_in(mine)) == [
        "factory_param_data.csv",
        "modules/esp32c3/MY-BOARD.yaml",
        "partitions/my-board-at-customize.csv",
        "partitions/my-board-partitions.csv",
    ]
    made, parent = module(MINE, folder=mine), module("ESP32C3/MINI-1")
    assert differences(parent, made) == {
        "AT_FS_COMMAND_SUPPORT": (None, "y"),
        "AT_MDNS_COMMAND_SUPPORT": (None, "n"),
        "ESPTOOLPY_FLASHSIZE_4MB": ("y", None),
        "ESPTOOLPY_FLASHSIZE_8MB": (None, "y"),
    }
    assert made.flash.size_name == "8MB"
    assert made.secondary.find("mfg_nvs").size == 256 << 10
    assert made.primary.end == 8 << 20
    assert made.description == "8MB, Wi-Fi + BLE, OTA, TX:7 RX:6"
    assert dict(made.parameters) == {**parent.parameters, "module_name": "MY-BOARD"}
    assert cli("modules", "check", "--dir", mine).out == "24 modules, no problems\n"
    assert "ESP32C3/MY-BOARD" in cli("modules", "list", "--dir", mine).out
    assert cli("modules", "show", "my-board", "--dir", mine).status == 0


def test_the_layer_has_only_what_differs(add, tmp_path: Path) -> None:
    assert add("--set", "CONFIG_LWIP_MAX_SOCKETS=20", "--feature", "+mqtt").status == 0
    text = (tmp_path / "mine" / "modules" / "esp32c3" / "MY-BOARD.yaml").read_text()
    assert text == "# 4MB, Wi-Fi + BLE, OTA, TX:7 RX:6\nlike: MINI-1\n\noptions:\n  LWIP_MAX_SOCKETS: 20\n"


def test_what_is_so_already_is_said(add) -> None:
    out = add("--feature", "+mqtt", "--set", "uart_tx_pin=7").out
    assert "mqtt=on: is so already" in out
    assert "uart_tx_pin=7: is so already" in out


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False], ids=["with", "without"])
def test_the_table_keeps_its_bytes(add, tmp_path: Path, end: str, last: bool) -> None:
    """Line ends, the byte-order mark, the order of the columns and a missing last line end stay."""
    mine = tmp_path / "mine"
    mine.mkdir()
    header = "module_name,platform,description,uart_tx_pin,version,max_tx_power,uart_port,start_channel"
    more = "channel_num,country_code,uart_baudrate,uart_rx_pin,uart_cts_pin,uart_rts_pin,sys_store"
    row = 'OLD,PLATFORM_ESP32C3,"a, b",7,4,78,1,1,13,CN,115200,6,5,4,1'
    before = b"\xef\xbb\xbf" + f"{header},{more}{end}{row}{end if last else ''}".encode()
    (mine / "factory_param_data.csv").write_bytes(before)
    assert add("--description", 'x, "y"', "--set", "uart_tx_pin=1").status == 0
    after = (mine / "factory_param_data.csv").read_bytes()
    new = f'MY-BOARD,PLATFORM_ESP32C3,"x, ""y""",1,4,78,1,1,13,CN,115200,6,5,4,1{end}'
    assert after == before + (b"" if last else end.encode()) + new.encode()
    assert module(MINE, folder=mine).description == 'x, "y"'


def test_a_module_of_the_folder_is_a_base_too(add, tmp_path: Path) -> None:
    assert add("--flash", "8MB", "--feature", "+fs").status == 0
    first = files_in(tmp_path / "mine")
    assert add("--set", "uart_baudrate=921600", name="SECOND", like="MY-BOARD").status == 0
    after = files_in(tmp_path / "mine")
    assert {name: after[name] for name in first if name.endswith((".yaml", "ize.csv"))} == {
        name: data for name, data in first.items() if name.endswith((".yaml", "ize.csv"))
    }
    made = module("SECOND", folder=tmp_path / "mine")
    assert (made.flash.size, made.parameters["uart_baudrate"]) == (8 << 20, 921600)
    assert made.primary == module(MINE, folder=tmp_path / "mine").primary


def test_a_dry_run_writes_nothing(add, tmp_path: Path) -> None:
    result = add("--flash", "8MB", "--dry-run")
    assert result.status == 0
    assert "would be written" in result.out
    assert not (tmp_path / "mine").exists()


def test_the_report_as_json(add, tmp_path: Path) -> None:
    found = json.loads(add("--flash", "2MB", "--set", "uart_tx_pin=1", "--json").out)
    assert (found["schema"], found["name"], found["dry_run"]) == (1, MINE, False)
    assert found["parameters"] == {"uart_tx_pin": 1}
    assert found["features"] == {"ota": "off"}
    assert {change["name"] for change in found["partition_changes"]} == {"ota_0", "ota_1"}
    assert next(c for c in found["partition_changes"] if c["name"] == "ota_1")["new"] is None
    assert found["written"][0] == str(tmp_path / "mine" / "factory_param_data.csv")
    assert any("cannot be updated over the air" in warning for warning in found["warnings"])


def test_a_feature_without_its_partition_goes(cli, add, tmp_path: Path) -> None:
    assert add("--flash", "2MB").status == 0
    made = module(MINE, folder=tmp_path / "mine")
    assert made.features["ota"].state == "off"
    assert "OTA" not in made.description
    assert cli("modules", "check", "--dir", tmp_path / "mine").status == 0


def test_a_feature_gets_its_partition(cli, add, tmp_path: Path) -> None:
    """The file system of a module without one, and the second slot of one with a single one."""
    assert add("--feature", "+fs", "+ota", "--flash", "4MB", like="ESP32-D2WD", name="D4").status == 0
    made = module("D4", folder=tmp_path / "mine")
    assert [p.name for p in made.primary.apps] == ["ota_0", "ota_1"]
    assert made.secondary.find("fatfs").size >= 100 << 10
    assert made.features["ota"].is_on
    assert cli("modules", "check", "--dir", tmp_path / "mine").status == 0


def test_the_environment_names_the_folder(cli, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ESP_AT_MODULE_DIR", str(tmp_path / "mine"))
    assert cli("modules", "add", "MY-BOARD", "--from", "ESP32C3/MINI-1").status == 0
    assert cli("modules", "show", "MY-BOARD").status == 0
    monkeypatch.delenv("ESP_AT_MODULE_DIR")
    assert cli("modules", "show", "MY-BOARD").status == 2


REFUSED = {
    "no place": (("--dir",), ""),
    "exists": (("ESP32C3/MINI-1",), "ESP32C3/MINI-1 exists already"),
    "exists in another case": (("mini-1",), "exists already"),
    "another chip": (("ESP32/X",), "--from takes a module of the same chip"),
    "a slash too many": (("ESP32C3/A/B",), "is not the name of a chip"),
    "a blank": (("MY BOARD",), "cannot be the name of a module"),
    "a comma": (("A,B",), "cannot be the name"),
    "up": (("..",), "cannot be the name"),
    "a letter that is none of ASCII": (("BÖARD",), "cannot be the name"),
    "empty": (("",), "cannot be the name"),
    "unknown feature": (("X", "--feature", "+mqqt"), "did you mean mqtt?"),
    "feature of another chip": (("X", "--feature", "+ethernet"), "is not a feature of esp32c3"),
    "unknown state": (("X", "--feature", "bluetooth_host=nimbel"), "did you mean nimble?"),
    "no such state": (("X", "--feature", "+interface"), "interface cannot be on"),
    "feature twice": (("X", "--feature", "+fs", "-fs"), "is asked to be on too"),
    "requirement": (("X", "--feature", "-bluetooth", "+ble"), "needs bluetooth to be on"),
    "unknown setting": (("X", "--set", "uart_tx_pim=1"), "did you mean uart_tx_pin?"),
    "no setting": (("X", "--set", "uart_tx_pin"), "is not NAME=VALUE"),
    "name as a setting": (("X", "--set", "module_name=Y"), "is the name of the module"),
    "pin that is none": (("X", "--set", "uart_tx_pin=44"), "uart_tx_pin"),
    "same pin": (("X", "--set", "uart_tx_pin=6"), "uart_rx_pin"),
    "risky pin": (("X", "--set", "uart_tx_pin=19"), "--force allows it"),
    "baud rate": (("X", "--set", "uart_baudrate=79"), "uart_baudrate"),
    "setting twice": (("X", "--set", "uart_port=0", "--set", "uart_port=1"), "given twice"),
    "derived option": (("X", "--set", "CONFIG_ESPTOOLPY_FLASHSIZE_8MB=y"), "set flash: size"),
    "no value of an option": (("X", "--set", "CONFIG_A=yes"), "write y or n"),
    "flash": (("X", "--flash", "3MB"), "is not the size of a flash"),
    "flash that is too small": (("X", "--flash", "1MB"), "too few"),
    "partition": (("X", "--partition", "mfg_nvs"), "is not NAME=SIZE"),
    "partition twice": (("X", "--partition", "a=4K", "--partition", "a=8K"), "given twice"),
    "asked-for feature": (("X", "--feature", "+fs", "--partition", "fatfs=0"), "feature fs"),
    "ota that has no room": (("X", "--feature", "+ota", "--flash", "2MB"), "feature ota"),
    "description": (("X", "--description", "a\nb"), "line breaks"),
    "application": (("X", "--app", "nowhere.bin"), "nowhere.bin"),
    "empty feature": (("X", "--feature"), "--feature"),
}


@pytest.mark.parametrize("why", [why for why in REFUSED if why != "no place"])
def test_what_is_refused_writes_nothing(cli, tmp_path: Path, why: str) -> None:
    args, message = REFUSED[why]
    result = cli("modules", "add", *args, "--from", "ESP32C3/MINI-1", "--dir", tmp_path / "mine")
    assert result.status == 2
    assert message in result.err
    assert not (tmp_path / "mine").exists()


def test_where_to_is_said_once(cli, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("ESP_AT_MODULE_DIR", raising=False)
    common = ("modules", "add", "X", "--from", "ESP32C3/MINI-1")
    assert "give --dir FOLDER" in cli(*common).err
    assert "exclude each other" in cli(*common, "--dir", tmp_path / "a", "--project", tmp_path).err
    (tmp_path / "file").write_text("")
    assert "is not a folder" in cli(*common, "--dir", tmp_path / "file").err
    assert "create" in cli(*common, "--dir", tmp_path / "a" / "b").err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_force_allows_what_is_risky(add, tmp_path: Path) -> None:
    result = add("--set", "uart_tx_pin=19", "--force")
    assert result.status == 0
    assert "warning: uart_tx_pin: GPIO 19" in result.err
    assert module(MINE, folder=tmp_path / "mine").parameters["uart_tx_pin"] == 19


@pytest.mark.parametrize(
    "name", ["modules/esp32c3/my-board.yaml", "partitions/my-board-partitions.csv"], ids=["layer", "table"]
)
def test_nothing_that_exists_is_overwritten(add, tmp_path: Path, name: str) -> None:
    path = tmp_path / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_text("# mine\n" if name.endswith("yaml") else "x, data, nvs, 0x9000, 12K\n")
    before = files_in(tmp_path / "mine")
    result = add("--flash", "8MB")
    assert (result.status, "exists already" in result.err) == (2, True)
    assert files_in(tmp_path / "mine") == before


def test_a_table_without_a_column_is_left_alone(add, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "factory_param_data.csv").write_text("platform,module_name,description\n")
    result = add()
    assert (result.status, "has no column version" in result.err) == (2, True)
    assert list(files_in(mine)) == ["factory_param_data.csv"]


def test_a_file_in_the_place_of_a_folder(add, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "modules").mkdir(parents=True)
    (mine / "modules" / "esp32c3").write_text("")
    result = add()
    assert (result.status, "esp32c3" in result.err) == (2, True)
    assert files_in(mine) == {"modules/esp32c3": b""}


def test_an_error_while_writing_takes_all_back(add, tmp_path: Path, monkeypatch) -> None:
    from esp_at_tools import files

    mine = tmp_path / "mine"
    mine.mkdir()
    header = (data_folder() / "factory_param_data.csv").read_text().splitlines()[0]
    (mine / "factory_param_data.csv").write_text(header + "\n")
    before = files_in(mine)
    whole, calls = files.replace_files, []

    def failing(pairs) -> None:
        calls.append(pairs)
        if len(calls) == 4:  # three new files, then the table
            raise InputError("disk full", "nothing was changed")
        whole(pairs)

    monkeypatch.setattr(files, "replace_files", failing)
    assert add("--flash", "8MB").status == 2
    assert files_in(mine) == before
    assert [path for path in mine.iterdir() if path.is_dir()] == []


def test_words_after_feature() -> None:
    words = ["X", "--feature", "+fs", "-mdns", "-v", "--from", "Y", "--feature=+ble", "-wps", "--", "-a"]
    assert list(_with_features(words)) == [
        *("X", "--feature=+fs", "--feature=-mdns", "-v", "--from", "Y"),
        *("--feature=+ble", "--feature=-wps", "--", "-a"),
    ]
    assert list(_with_features(["--feature", "a=b", "c=d", "NAME"])) == [
        *("--feature=a=b", "--feature=c=d", "NAME")
    ]


# --- random ---------------------------------------------------------------------------------------------

NAMES = tuple(each.full_name for each in modules())
WORDS = st.builds(lambda sign, name: sign + name, st.sampled_from("+-"), st.sampled_from(sorted(features())))


@settings(max_examples=30)
@given(
    st.sampled_from(NAMES),
    st.lists(WORDS, max_size=4),
    st.none() | st.sampled_from(["1MB", "2MB", "4MB", "8MB", "16MB"]),
    st.lists(st.sampled_from(["mfg_nvs=256K", "fatfs=1M", "fatfs=0", "data=64K", "ota_1=1M"]), max_size=2),
)
def test_what_is_written_is_what_was_resolved(
    tmp_path_factory, like: str, words: list[str], flash: str | None, partitions: list[str]
) -> None:
    """The files resolve to the same module as the decision did, and the check finds no error in them."""
    from esp_at_tools.build.new_module import Wanted
    from esp_at_tools.build.new_module_files import write_files
    from esp_at_tools.build.new_module_folder import new_in_folder
    from esp_at_tools.build.planner import parse_flash_size, parse_wish
    from esp_at_tools.catalog.module_checks import check_definitions

    folder = tmp_path_factory.mktemp("random") / "mine"
    wanted = Wanted(
        "NEW",
        features=tuple(words),
        flash_size=parse_flash_size(flash) if flash else None,
        partitions=dict(map(parse_wish, partitions)),
    )
    try:
        decision, made, written = new_in_folder(like, wanted, folder)
    except EspAtError:
        return
    write_files(written)
    read = module(decision.full_name, folder=folder)
    assert {n: o.value for n, o in read.options.items()} == {n: o.value for n, o in made.options.items()}
    for name in ("primary", "secondary", "parameters", "description", "flash", "mfg_nvs"):
        assert getattr(read, name) == getattr(made, name), name
    assert {n: f.state for n, f in read.features.items()} == {n: f.state for n, f in made.features.items()}
    problems = [p for p in check_definitions(folder).problems if str(folder) in p.place or "/NEW" in p.place]
    assert [p for p in problems if p.level == "error" or "repeated" in p.message] == []


# --- overlays -------------------------------------------------------------------------------------------


def test_an_overlay_lies_upon_the_module_and_below_silence() -> None:
    overlay = Overlay(
        name="X",
        features={"fs": "on"},
        options={"LOG_DEFAULT_LEVEL": "3", "LWIP_MAX_SOCKETS": "20"},
        parameters={"uart_tx_pin": 1},
        flash={"size": "16MB"},
    )
    made = module("ESP32C3/MINI-1", overlay=overlay)
    assert made.full_name == "ESP32C3/X"
    assert made.parameters["module_name"] == "X"
    assert made.options["LWIP_MAX_SOCKETS"].layer == made.features["fs"].layer == "command line"
    assert made.options["PARTITION_TABLE_FILENAME"].value == '"module_config/module_x/partitions_at.csv"'
    assert made.options["LOG_DEFAULT_LEVEL"].value == "3"
    assert module("ESP32C3/MINI-1", silence=True, overlay=overlay).options["LOG_DEFAULT_LEVEL"].value == "1"
    assert made.flash.size_name == "16MB"
    assert not overlay.is_empty
    assert module("ESP32C3/MINI-1", overlay=Overlay()) == module("ESP32C3/MINI-1")


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        (Overlay(features={"mqqt": "on"}), "there is no such feature"),
        (Overlay(features={"fs": "blue"}), "is not a state"),
        (Overlay(features={"spp": "on"}), "is not a feature of esp32c3"),
        (Overlay(parameters={"uart_pin": 1}), "is not a parameter"),
        (Overlay(flash={"size": "3MB"}), "3MB"),
    ],
)
def test_an_overlay_with_names_that_are_not_known(overlay: Overlay, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        module("ESP32C3/MINI-1", overlay=overlay)


# --- other commands -------------------------------------------------------------------------------------


def test_inspect_and_modify_bin_take_a_name_of_the_folder(cli, add, tmp_path: Path, monkeypatch) -> None:
    assert add().status == 0
    record = tmp_path / "mfg_nvs.bin"
    full = tmp_path / "full.bin"
    full.write_bytes(image())
    from esp_at_tools.firmware.firmware import Firmware

    place = Firmware.open(full).places["mfg_nvs"]
    record.write_bytes(full.read_bytes()[place.offset : place.end])
    found = cli("inspect", record, "--module", "MY-BOARD", "--dir", tmp_path / "mine", "--json")
    assert (found.status, json.loads(found.out)["chip"]) == (0, "esp32c3")
    assert cli("inspect", record, "--module", "MY-BOARD").status == 2
    args = ("modify-bin", "--input", record, "--set", "uart_tx_pin=44", "--module", "MY-BOARD")
    monkeypatch.setenv("ESP_AT_MODULE_DIR", str(tmp_path / "mine"))
    assert "44" in cli(*args, "--output", tmp_path / "out.bin").err

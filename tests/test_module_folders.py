"""A user's own folder of module definitions: what it adds, and what is wrong with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from esp_at_tools.catalog.chips import chip
from esp_at_tools.catalog.data import data_folder
from esp_at_tools.catalog.factory_params import read_rows, read_types
from esp_at_tools.catalog.module_checks import check_definitions
from esp_at_tools.catalog.module_model import KCONFIG, Module
from esp_at_tools.catalog.module_yaml import raise_errors
from esp_at_tools.catalog.modules import module, modules
from esp_at_tools.catalog.releases import read_releases
from esp_at_tools.errors import FormatError, InputError

HEADER = (data_folder() / "factory_param_data.csv").read_text("utf-8").splitlines()[0]
ROW = 'PLATFORM_ESP32C3,MY-BOARD,"mine",4,78,1,1,13,US,921600,3,10,-1,-1,1'


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with one new module, which is like an official one."""
    return write(
        tmp_path / "mine",
        {
            "factory_param_data.csv": f"{HEADER}\n{ROW}\n",
            "modules/esp32c3/my-board.yaml": (
                "like: ESP32C3-SPI\n"
                "flash: {size: 8MB}\n"
                "partitions: {primary: mine}\n"
                "features: {interface: uart, fs: on, ota: on, mdns: off, mqtt: null}\n"
                "options:\n  LWIP_MAX_SOCKETS: 20\n  AT_OTA_SERVER_PORT: 8080\n"
                '  CONFIG_MY_TEXT: "8"\n  BT_ENABLED: n\n'
            ),
            "partitions/mine.csv": (
                "otadata, data, ota, 0xd000, 8K\n"
                "nvs, data, nvs, 0x10000, 56K\n"
                "at_customize, 0x40, 0, 0x1e000, 264K\n"
                "ota_0, app, ota_0, 0x60000, 3M\n"
                "ota_1, app, ota_1, 0x360000, 3M\n"
            ),
        },
    )


def test_a_folder_adds_a_module(mine: Path) -> None:
    board = module("esp32c3/my-board", folder=mine)
    assert len(modules(folder=mine)) == 24
    assert board.layers == ("base", "esp32c3", "ESP32C3/ESP32C3-SPI", "ESP32C3/MY-BOARD (mine)")
    assert board.flash.size == 8 << 20
    assert board.parameters["uart_baudrate"] == 921600
    assert board.primary.find("ota_1") is not None
    values = {name: option.value for name, option in board.options.items()}
    assert values["LWIP_MAX_SOCKETS"] == "20"
    assert values["AT_OTA_SERVER_PORT"] == "8080"  # its own options lie upon those of its features
    assert values["MY_TEXT"] == '"8"'
    assert "AT_OTA_SUPPORT" not in values  # what the module below said about OTA is taken back
    assert "AT_BASE_ON_SPI" not in values
    assert "AT_MQTT_COMMAND_SUPPORT" not in values
    assert board.features["fs"].is_on
    assert not board.features["mqtt"].is_on
    assert (board.features["bluetooth"].state, board.features["bluetooth"].layer) == (
        "off",
        "ESP32C3/MY-BOARD (mine)",
    )
    assert "ble_data" not in board.mfg_nvs
    assert check_definitions(mine).problems == ()
    with pytest.raises(InputError):
        module("ESP32C3/MY-BOARD")


def test_a_folder_overrides_layers_and_rows(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "all",
        {
            "modules/base.yaml": "options: {LWIP_MAX_SOCKETS: 10}\n",
            "modules/esp32c3.yaml": "features: {ble: off}\n",
            "factory_param_data.csv": f"{HEADER}\n{ROW.replace('MY-BOARD', 'MINI-1')}\n",
        },
    )
    changed, usual = module("ESP32C3/MINI-1", folder=folder), module("ESP32C3/MINI-1")
    assert changed.options["LWIP_MAX_SOCKETS"].layer == "base (all)"
    assert changed.options["LWIP_MAX_SOCKETS"].value == "10"
    assert changed.options["AT_BLE_COMMAND_SUPPORT"].value == "n"
    assert changed.parameters["country_code"] == "US"
    assert usual.parameters["country_code"] == "CN"
    assert module("ESP32/MINI-1", folder=folder).options["LWIP_MAX_SOCKETS"].value == "10"
    assert {**usual.features} != {**changed.features}


def test_values_are_written_as_an_sdkconfig_has_them(mine: Path) -> None:
    lines = ["A: 0x1F", "B: -1", "C: m", 'D: "0x1F"', "E: 'a\\b\"c'", "F: v1.2", "G: ''", "H: 10.0", 'I: "y"']
    write(mine, {"modules/esp32c3/my-board.yaml": "options:\n  " + "\n  ".join(lines) + "\n"})
    options = module("my-board", folder=mine).options
    found = {name: options[name].value for name in "ABCDEFGHI"}
    assert found == {
        "A": "0x1F",
        "B": "-1",
        "C": "m",
        "D": '"0x1F"',
        "E": r'"a\\b\"c"',
        "F": '"v1.2"',
        "G": '""',
        "H": '"10.0"',
        "I": '"y"',
    }


def test_a_feature_taken_back_is_what_the_chip_s_kconfig_says(tmp_path: Path) -> None:
    text = "features: {ble: null}\n"
    names = ("esp32c2/ESP32C2-4MB", "esp32s2/MINI")
    folder = write(tmp_path, {f"modules/{name}.yaml": text for name in names})
    for name in names:
        known = module(name, folder=folder)
        assert "AT_BLE_COMMAND_SUPPORT" not in known.options
        assert (known.features["ble"].state, known.features["ble"].layer) == ("off", KCONFIG)
    assert module(names[0], folder=folder).features["ble"].missing == ""  # off by default on this chip
    assert module(names[1], folder=folder).features["ble"].missing == "bluetooth"


def test_a_changed_folder_is_read_again(mine: Path) -> None:
    assert module("my-board", folder=mine).flash.size == 8 << 20
    path = mine / "modules" / "esp32c3" / "my-board.yaml"
    path.write_text(path.read_text("utf-8").replace("8MB", "16MB"), encoding="utf-8")
    assert module("my-board", folder=mine).flash.size == 16 << 20


BASE = "modules/esp32c3/MY-BOARD.yaml"
FEATURES = "features.yaml"
WRONG: list[tuple[str, str, str, str]] = [
    # file, text, message, hint
    (BASE, "featurs: {}\n", "line 1: 'featurs' is unknown", "did you mean features?"),
    (BASE, "flash:\n  sise: 4MB\n", "line 2: 'sise' is unknown", "did you mean size?"),
    (BASE, "flash: 4MB\n", "flash: not a mapping", "indent"),
    (BASE, "flash: {size: 3MB}\n", "flash: size: '3MB' is unknown", "did you mean"),
    (BASE, "flash: {freq: 27m}\n", "flash: freq: '27m' is unknown", "did you mean"),
    (BASE, "flash: {size: [4MB]}\n", "size: not a single value", "size: value"),
    (BASE, "features: {mdn: off}\n", "line 1: 'mdn' is not a feature", "did you mean mdns?"),
    (BASE, "features: {mdns: of}\n", "mdns: 'of' is not a state", "did you mean"),
    (BASE, "features: {eco4: on}\n", "eco4: is not a feature of esp32c3", "esp32c2"),
    (BASE, "features: {interface: usart}\n", "'usart' is not a state", "did you mean uart?"),
    (BASE, "silence: {flash: 4MB}\n", "'flash' is unknown", "features, options"),
    (BASE, "options: {A: yes}\n", "A: yes is not a value of an sdkconfig", "write y or n"),
    (BASE, "options: {A B: y}\n", "'A B' is not the name of an option", "LWIP_IPV6: y"),
    (BASE, "options: {A: y, CONFIG_A: y}\n", "A again, with and without CONFIG_", "once"),
    (BASE, "options: {A: [y]}\n", "A: not a single value", "A: value"),
    (BASE, "options:\n  A: y\n  A: n\n", "line 3: 'A' again, first in line 2", "once"),
    (BASE, "options: {ESPTOOLPY_FLASHSIZE_8MB: y}\n", "is not set as an option", "flash: size"),
    (BASE, "options: {IDF_TARGET_ESP32C3: y}\n", "is not set as an option", "follows from the chip"),
    (BASE, "like: ESP32C3-SPY\n", "like: 'ESP32C3-SPY' is unknown", "did you mean esp32c3/esp32c3-spi?"),
    (BASE, "like: MY-BOARD\n", "like: 'MY-BOARD' leads back here", "leave it out"),
    (BASE, "idf: v9.9\n", "idf: 'v9.9' is unknown", "v5.4, v5.5"),
    (BASE, "partitions: {primary: nothing}\n", "partitions: primary: 'nothing' is unknown", ""),
    (BASE, "partitions: {offset: here}\n", "partitions: offset: 'here' is not a number", "0x1000"),
    (BASE, "a: &x {}\nb: *x\n", "line 1: an anchor or alias", "write the value itself"),
    (BASE, "a: !!str b\n", "line 1: a tag", "without it"),
    (BASE, "{}\n---\n{}\n", "line 2: a second document", "leave out"),
    (BASE, "a: {b\n", "not YAML", "name: value"),
    (BASE, "- a\n", "not a mapping", "name: value"),
    (BASE, "[a]: b\n", "a list or mapping as a name", "name: value"),
    (BASE, "a: [[[[[[[[1]]]]]]]]\n", "nested too deep", "README"),
    (BASE, '"\\UFFFFFFFF": 1\n', "not YAML", "name: value"),
    ("partitions/mfg.csv", "", "the partition table holds no partition", ""),
    ("modules/esp32c3/My-Board.yaml", "", "the same name as MY-BOARD.yaml in another case", "keep one"),
    ("modules/esp32c33/x.yaml", "", "is not the folder of a chip", "did you mean esp32c3?"),
    (FEATURES, "mine: {state: {}}\n", "'state' is unknown", "did you mean states?"),
    (FEATURES, "mine: {}\n", "feature mine has no states", "states:"),
    (FEATURES, "mine: {states: {on: {}}, chips: [esp31]}\n", "'esp31' is not a chip", "did you mean esp32"),
    (FEATURES, "mine: {states: {on: {}}, chips: esp32}\n", "chips: not a list", "[one, another]"),
    (
        FEATURES,
        "mine: {states: {on: {}}, states_of: {esp32: {of: {}}}}\n",
        "'of' is not a state",
        "the states are on",
    ),
    (FEATURES, "mine: {states: {on: {}}, submodule: {name: a}}\n", "submodule lacks path", "give each"),
    ("idf.yaml", "v6: {branch: a, tag: b, commit: c, repository: d}\n", "v6: not a version", "branch or tag"),
    ("idf.yaml", "v6: [", "not YAML", "name: value"),
    ("factory_param_type.csv", "a,data,u7\n", "'a,data,u7' is not the type", "u8"),
    ("factory_param_type.csv", "a,datum,u8\n", "is not the type of a parameter", "name,data,type"),
    ("factory_param_data.csv", "a;b\n", "lacks the column platform", "by commas"),
    ("factory_param_data.csv", f"{HEADER},uart_pin\n", "has the column 'uart_pin'", "did you mean uart_"),
    ("factory_param_data.csv", f"{HEADER}\n{ROW},1\n", "line 2: another number of columns", "as many"),
    ("factory_param_data.csv", f"{HEADER}\n{ROW}\n{ROW}\n", "line 3: ESP32C3/MY-BOARD again", "one row"),
    (
        "factory_param_data.csv",
        f"{HEADER}\n{ROW.replace('921600', 'fast')}\n",
        "'fast' is not a value of",
        "i32",
    ),
    (
        "factory_param_data.csv",
        f"{HEADER}\n{ROW.replace(',78,', ',200,')}\n",
        "max_tx_power: '200'",
        "-128 to",
    ),
    (
        "factory_param_data.csv",
        f"{HEADER}\n{ROW.replace('PLATFORM_', '')}\n",
        "not a platform",
        "PLATFORM_ESP32C3",
    ),
    (
        "factory_param_data.csv",
        f"{HEADER}\n{ROW.replace('_ESP32C3', '_X')}\n",
        "not a platform",
        "for instance",
    ),
    (
        "factory_param_data.csv",
        f"{HEADER}\n{ROW.replace('MY-BOARD', 'a/b')}\n",
        "cannot be the name",
        "letters",
    ),
]


@pytest.mark.parametrize(("file", "text", "message", "hint"), WRONG)
def test_what_is_wrong_in_a_folder_is_told(mine: Path, file: str, text: str, message: str, hint: str) -> None:
    if file == BASE:
        (mine / "modules" / "esp32c3" / "my-board.yaml").unlink()
    if file == "modules/esp32c3/My-Board.yaml":
        write(mine, {BASE: ""})
        if len(list((mine / "modules" / "esp32c3").glob("*"))) < 2:
            pytest.skip("the file system does not tell upper from lower case")
    if file == "partitions/mfg.csv":
        write(mine, {"modules/esp32c3/my-board.yaml": "partitions: {secondary: mfg}\n"})
    write(mine, {file: text})
    errors = [problem for problem in check_definitions(mine).problems if problem.level == "error"]
    found = [each for each in errors if message in f"{each.place}: {each.message}"]
    assert found, errors
    assert hint in found[0].hint or hint in found[0].message
    with pytest.raises(FormatError):
        list_all(mine)


def list_all(folder: Path) -> list[Module]:
    return [*modules(folder=folder), *modules(folder=folder, silence=True)]


WARNED: list[tuple[str, str, str]] = [
    (BASE, "options: {LWIP_MAX_SOCKETS: 16}\n", "LWIP_MAX_SOCKETS is repeated: base says the same already"),
    (BASE, "options: {BT_ENABLED: y}\n", "BT_ENABLED is repeated: base: bluetooth says the same already"),
    (BASE, "options: {NO_SUCH: null}\n", "NO_SUCH is repeated: Kconfig says the same already"),
    (BASE, "features: {mqtt: on}\n", "mqtt is repeated: base says the same already"),
    (BASE, "flash: {size: 4MB}\n", "flash.size is repeated: base says the same already"),
    (BASE, "silence: {features: {silence: on}}\n", "silence is repeated: silence says the same already"),
    (BASE, "options: {LWIP_MAX_SOCKET: 20}\n", "LWIP_MAX_SOCKET is not known here"),
    (BASE, "features: {bluetooth: off, ble: on}\n", "feature ble is asked for by ESP32C3/MY-BOARD (mine)"),
    ("modules/esp32c3/MY-BORD.yaml", "", "no module uses this file"),
    ("modules/esp32c3/MY-BOARD.yml", "", "this file is not read"),
    ("partitions/mine.yaml", "", "this file is not read"),
    ("factory_params_data.csv", "", "this file is not read"),
]


@pytest.mark.parametrize(("file", "text", "message"), WARNED)
def test_what_is_odd_in_a_folder_is_told(mine: Path, file: str, text: str, message: str) -> None:
    (mine / "modules" / "esp32c3" / "my-board.yaml").unlink()
    write(mine, {file: text})
    problems = check_definitions(mine).problems
    assert [problem.level for problem in problems] == ["warning"]
    assert message in problems[0].message
    assert str(mine / file) in problems[0].place or "MY-BOARD" in problems[0].place
    assert isinstance(module("my-board", folder=mine), Module)


def test_two_modules_that_are_like_each_other(mine: Path) -> None:
    row = ROW.replace("MY-BOARD", "OTHER")
    write(
        mine,
        {
            "factory_param_data.csv": f"{HEADER}\n{ROW}\n{row}\n",
            "modules/esp32c3/my-board.yaml": "like: OTHER\n",
            "modules/esp32c3/other.yaml": "like: MY-BOARD\n",
        },
    )
    messages = [problem.message for problem in check_definitions(mine).problems]
    assert sorted(messages) == ["like: 'MY-BOARD' leads back here", "like: 'OTHER' leads back here"]


def test_a_secondary_table_without_offsets_begins_behind_itself(mine: Path) -> None:
    write(
        mine,
        {
            "modules/esp32c3/my-board.yaml": "partitions: {secondary: own}\n",
            "partitions/own.csv": "mfg_nvs,data,nvs,,100K\nfatfs,data,fat,,100K\n",
        },
    )
    offsets = [each.offset for each in module("my-board", folder=mine).secondary]
    assert offsets == [0x1F000, 0x1F000 + 100 * 1024]


@pytest.mark.parametrize(("state", "needed"), [("v2", "data/0x22"), ("v3", "ota_1")])
def test_a_state_may_need_partitions_of_its_own(mine: Path, state: str, needed: str) -> None:
    write(
        mine,
        {
            "modules/esp32c3/my-board.yaml": (
                f"features: {{ota: off, compressed_ota: {state}}}\npartitions: {{primary: mine}}\n"
            ),
            "partitions/mine.csv": (
                "at_customize,0x40,0,0x1e000,264K\nota_0,app,ota_0,,1M\notadata,data,ota,,8K\n"
            ),
        },
    )
    (problem,) = check_definitions(mine).problems
    assert problem.message == f"feature compressed_ota needs a partition {needed} in the primary table"


def test_what_one_variant_needs_is_no_repetition(mine: Path) -> None:
    said = "features: {mdns: off}\noptions: {AT_MDNS_COMMAND_SUPPORT: n}\n"
    path = "modules/esp32c3/my-board.yaml"
    assert len(check_definitions(write(mine, {path: said})).problems) == 1
    said += "silence: {features: {mdns: null}}\n"  # there the option stands alone
    assert check_definitions(write(mine, {path: said})).problems == ()


TABLE = "otadata,data,ota,0xd000,8K\nat_customize,0x40,0,0x1e000,264K\nota_0,app,ota_0,{offset},{size}\n"


@pytest.mark.parametrize(
    ("primary", "secondary", "flash", "message"),
    [
        (TABLE.format(offset="0x60000", size="4M"), "", "4MB", "past the flash"),
        (TABLE.format(offset="0x50000", size="1M"), "", "4MB", "re it ends at 0x5ffff"),
        (
            TABLE.format(offset="0x60000", size="1M"),
            "",
            "4MB",
            "feature ota needs a partition ota_1 or storage",
        ),
        ("", "mfg_nvs,data,nvs,0x20000,300K\n", "4MB", "mfg_nvs at 0x20000: overlaps ota_0"),
        ("", "mfg_nvs,data,nvs,0x20000,8K\nmfg_nvs,data,nvs,0x30000,8K\n", "4MB", "given to 2 partitions"),
        ("", "fatfs,data,fat,0x20000,100K\n", "4MB", "feature parameters needs a partition mfg_nvs"),
        ("", "mfg_nvs,data,nvs,0x20000,100K\n", "2MB", "past the flash of 0x200000"),
        ("ota_0,app,ota_0,0x60000,1M\n", "", "4MB", "mine has no partition at_customize"),
    ],
)
def test_what_is_wrong_in_tables_is_told(
    mine: Path, primary: str, secondary: str, flash: str, message: str
) -> None:
    definition = f"flash: {{size: {flash}}}\nfeatures: {{fs: off}}\npartitions:\n  offset: 0x8000\n"
    definition += "  primary: mine\n" if primary else ""
    definition += "  secondary: own\n" if secondary else ""
    write(
        mine,
        {
            "modules/esp32c3/my-board.yaml": definition,
            "partitions/mine.csv": primary or "nvs,data,nvs,,4K\n",
            "partitions/own.csv": secondary or "nvs,data,nvs,,4K\n",
        },
    )
    errors = [problem for problem in check_definitions(mine).problems if problem.level == "error"]
    assert any(message in problem.message for problem in errors), errors
    assert all("ESP32C3/MY-BOARD" in problem.place for problem in errors)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"\0", b"{" * 5000, b"a: b: c", b"[" * 100000, b"- " * 100000]
)
def test_bytes_that_are_no_definitions(mine: Path, content: bytes) -> None:
    (mine / "modules" / "esp32c3" / "my-board.yaml").write_bytes(content)
    (mine / "features.yaml").write_bytes(content)
    places = {problem.place for problem in check_definitions(mine).problems if problem.level == "error"}
    assert len(places) == 2
    with pytest.raises(FormatError, match=r"features\.yaml: "):
        module("my-board", folder=mine)


@pytest.mark.parametrize("names", [(), ("nothing.txt",)])
def test_a_folder_without_definitions_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    write(tmp_path, dict.fromkeys(names, ""))
    with pytest.raises(InputError, match="holds no module definitions"):
        modules(folder=tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        check_definitions(tmp_path / "none")


def test_a_spreadsheet_s_file_is_read(tmp_path: Path) -> None:
    types = read_types(data_folder() / "factory_param_type.csv")
    path = tmp_path / "data.csv"
    path.write_bytes(f"\ufeff{HEADER}\r\n{ROW}\r\n,,,,,,,,,,,,,,\r\n\r\n".encode())
    rows = read_rows(path, types, raise_errors)
    assert [row.full_name for row in rows.values()] == ["ESP32C3/MY-BOARD"]
    assert rows["esp32c3/my-board"].chip is chip("esp32c3")


@pytest.mark.parametrize(
    "row",
    [
        "PLATFORM_ESP32,A,v1.2,https://x/a.zip,",
        "PLATFORM_ESP32,A,vx.2.3.4,https://x/a.zip,",
        "PLATFORM_ESP32,A,v1.2.3.4,http://x/a.zip,",
        "PLATFORM_ESP32,A,v1.2.3.4,https://x/a.zip,perhaps",
        "PLATFORM_ESP32,A,v1.2.3.4,https://x/a.zip,\nPLATFORM_ESP32,A,v1.2.3.4,https://x/a.zip,",
    ],
)
def test_a_wrong_release_is_refused(tmp_path: Path, row: str) -> None:
    path = tmp_path / "releases.csv"
    path.write_text(f"platform,module_name,version,address,recommended\n{row}\n")
    with pytest.raises(FormatError, match="is not a release"):
        read_releases(path)


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    code = """
import sys
import esp_at_tools.catalog.modules, esp_at_tools.catalog.module_checks
print(sorted({"yaml", "rich", "click", "esptool", "cryptography", "jinja2", "difflib"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

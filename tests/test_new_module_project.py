"""``modules add --project``: a new module in an esp-at checkout, in its own layout."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from esp_at_tools.build.from_tree import recipe_from_tree
from esp_at_tools.build.new_module_files import table_csv
from esp_at_tools.build.new_module_ota import HEADER, SOURCE, with_entry
from esp_at_tools.build.new_module_sdkconfig import edited, options_of
from esp_at_tools.build.options import Options
from esp_at_tools.build.tree import open_tree
from esp_at_tools.catalog.modules import features
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.partition_table import Partition, PartitionTable
from esp_at_tools.formats.sdkconfig import Sdkconfig

VERSIONS = ("v3.4.0.0", "v5.0.1.0")
TABLE = "components/customized_partitions/raw_data/factory_param/factory_param_data.csv"
CHIPS = ("esp32", "esp32c3", "esp32c2", "esp32c6", "esp32s2")


BASES = ("module_esp32c3_default", "module_esp32s2_default", "module_esp32c2-2mb")


def copied(official: Path, tree: Path, *, only: tuple[str, ...] = ()) -> Path:
    """Copy the official data of a version; only some folders of ``module_config`` if they are named."""
    folders = only or tuple(path.name for path in (official / "module_config").iterdir())
    for name in ("components", *(f"module_config/{folder}" for folder in folders)):
        shutil.copytree(official / name, tree / name)
    for path in tree.rglob("*"):  # the data may be read-only
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tree


def source_text(name: str = "s_module_info", end: str = "\n") -> str:
    """Return a source with a list of modules, as the trees have one."""
    lines = ["#include <stdio.h>", "", "typedef struct { char *name; } at_module_info_t;"]
    lines.append(f"static const at_module_info_t {name}[] = {{")
    for chip in CHIPS:
        lines += [
            f"#if defined(CONFIG_IDF_TARGET_{chip.upper()})",
            f'    {{"{chip}", NULL, NULL}},',
            "#endif",
            "",
        ]
    return end.join([*lines, "};", "#if defined(CONFIG_IDF_TARGET_ESP32C5)", "int x;", "#endif", ""])


def header_text(end: str = "\n") -> str:
    """Return a header with a block of macros for each chip."""
    lines = ["#pragma once", "#define CONFIG_ESP_AT_OTA_TOKEN_DEFAULT NULL"]
    for number, chip in enumerate(CHIPS):
        lines.append(f"#{'elif' if number else 'if'} defined(CONFIG_IDF_TARGET_{chip.upper()})")
        lines.append(f"#define CONFIG_ESP_AT_OTA_TOKEN_{chip.upper()} CONFIG_ESP_AT_OTA_TOKEN_DEFAULT")
    return end.join([*lines, "#endif", ""])


@pytest.fixture(params=VERSIONS)
def checkout(request, shared: Path, tmp_path: Path) -> Path:
    """A copy of the official data of a version, with a Kconfig and the two sources of the list of modules."""
    tree = copied(shared / "esp-at" / request.param, tmp_path / "esp-at", only=BASES)
    for name, text in ((SOURCE, source_text()), (HEADER, header_text())):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    return tree


@pytest.fixture
def add(cli, checkout: Path):
    """Define a module in the checkout."""

    def call(*args: object, name: str = "USER-DEFINED", like: str = "ESP32C3/MINI-1"):
        return cli("modules", "add", name, "--from", like, "--project", checkout, *args)

    return call


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def options_in(path: Path) -> dict[str, str]:
    return dict(Sdkconfig.from_text(path.read_text()).options)


def repeated(path: Path) -> set[str]:
    """Return the options that a file names twice; those of esp-at v3 do."""
    named = re.findall(r"^CONFIG_(\w+)=", path.read_text(), re.MULTILINE)
    return {name for name in named if named.count(name) > 1}


def test_the_example_of_the_user_guide(add, checkout: Path) -> None:
    before = files_in(checkout)
    result = add("--feature", "+fs", name="ESP32S2-USER-DEFINED", like="ESP32S2/MINI")
    assert (result.status, result.err) == (0, "")
    after = files_in(checkout)
    home = "module_config/module_esp32s2-user-defined/"
    parent = "module_config/module_esp32s2_default/"
    copied = {name.replace(parent, home) for name in before if name.startswith(parent)}
    assert after.keys() - before.keys() == copied
    assert {name for name in before if after[name] != before[name]} == {TABLE, SOURCE, HEADER}
    for name in copied:
        if not name.endswith(".defaults"):
            assert after[name] == before[name.replace(home, parent)]
    for name in ("sdkconfig.defaults", "sdkconfig_silence.defaults"):
        old, new = options_in(checkout / parent / name), options_in(checkout / home / name)
        assert {key: new.get(key) for key in new.keys() | old.keys() if new.get(key) != old.get(key)} == {
            "PARTITION_TABLE_CUSTOM_FILENAME": f'"{home}partitions_at.csv"',
            "PARTITION_TABLE_FILENAME": f'"{home}partitions_at.csv"',
            "AT_CUSTOMIZED_PARTITION_TABLE_FILE": f'"{home}at_customize.csv"',
            "AT_FS_COMMAND_SUPPORT": "y",
        }
    assert after[TABLE].startswith(before[TABLE])
    (row,) = after[TABLE][len(before[TABLE]) :].splitlines()
    cells, old = next(csv.reader([row.decode()])), before[TABLE].decode().splitlines()[-1]
    assert [*cells[:2], *cells[3:]] == [
        "PLATFORM_ESP32S2",
        "ESP32S2-USER-DEFINED",
        *next(csv.reader([old]))[3:],
    ]


def test_the_sources_of_the_ota_token(add, checkout: Path) -> None:
    assert add().status == 0
    source, header = (checkout / SOURCE).read_text(), (checkout / HEADER).read_text()
    tokens = "CONFIG_ESP_AT_OTA_TOKEN_USER_DEFINED, CONFIG_ESP_AT_OTA_SSL_TOKEN_USER_DEFINED"
    entry = f'    {{"USER-DEFINED", {tokens}}},\n'
    mine = '    {"esp32c3", NULL, NULL},\n'
    assert source == source_text().replace(mine, mine + entry)
    added = [line.split() for line in header.splitlines() if line not in header_text().splitlines()]
    assert added == [
        ["#define", f"CONFIG_ESP_AT_OTA_{ssl}TOKEN_USER_DEFINED", f"CONFIG_ESP_AT_OTA_{ssl}TOKEN_DEFAULT"]
        for ssl in ("", "SSL_")
    ]
    block = header.partition("CONFIG_IDF_TARGET_ESP32C3")[2].partition("#elif")[0]
    assert block.count("USER_DEFINED") == 2


def test_a_module_without_ota_has_no_token(add, checkout: Path) -> None:
    assert add("--feature", "-ota").status == 0
    assert '    {"USER-DEFINED", NULL, NULL},\n' in (checkout / SOURCE).read_text()
    assert (checkout / HEADER).read_text() == header_text()


def test_a_tree_without_the_list_of_modules(add, checkout: Path) -> None:
    (checkout / SOURCE).unlink()
    result = add()
    assert (result.status, "the module has no OTA token of its own" in result.err) == (0, True)
    (checkout / SOURCE).write_text("int x;\n")
    assert "add OTHER to it by hand" in add(name="OTHER").err


@pytest.mark.parametrize("version", VERSIONS)
def test_every_module_can_be_a_base(cli, shared: Path, tmp_path: Path, version: str) -> None:
    """What is built of the copy is what is built of the base, the name apart."""
    tree = copied(shared / "esp-at" / version, tmp_path / "esp-at")
    rows = open_tree(tree).modules()
    assert len(rows) >= 14
    for number, row in enumerate(rows):
        name = f"{row.full_name.partition('/')[0]}/COPY-{number}"
        assert cli("modules", "add", name, "--from", row.full_name, "--project", tree).status == 0
        for silence in (False, True):
            old, new = (
                recipe_from_tree(open_tree(tree), each, Options(silence=silence))
                for each in (row.full_name, name)
            )
            assert (new.primary, new.secondary, new.flash) == (old.primary, old.secondary, old.flash)
            entries = [
                list(NvsPartition.from_bytes(recipe.partitions["mfg_nvs"].data).entries)
                for recipe in (old, new)
            ]
            differ = [b.key for a, b in zip(*entries, strict=True) if (a.key, a.value) != (b.key, b.value)]
            assert differ == ["module_name"]
            folder = f"module_config/module_copy-{number}/"
            lines = [set(each.sdkconfig_defaults.splitlines()) for each in (old, new)]
            assert all(folder in line for line in lines[1] - lines[0])


def test_a_larger_flash(add, checkout: Path) -> None:
    args = ("--flash", "8MB", "--partition", "mfg_nvs=256K", "--feature", "+fs", "-mdns")
    assert add(*args, "--set", "uart_tx_pin=1", "--set", "CONFIG_LWIP_MAX_SOCKETS=20").status == 0
    recipe = recipe_from_tree(open_tree(checkout), "ESP32C3/USER-DEFINED", Options())
    assert recipe.flash.size == recipe.primary.end == 8 << 20
    assert len(recipe.partitions["mfg_nvs"].data) == 256 << 10
    options = Sdkconfig.from_text(recipe.sdkconfig_defaults).options
    assert "ESPTOOLPY_FLASHSIZE_4MB" not in options
    assert options["LWIP_MAX_SOCKETS"] == "20"
    home = checkout / "module_config" / "module_user-defined"
    base = checkout / "module_config" / "module_esp32c3_default"
    for name in ("sdkconfig.defaults", "sdkconfig_silence.defaults"):
        # tools/ci/check_module_config.py of esp-at v5 refuses options that are named twice.
        assert repeated(home / name) <= repeated(base / name)
    # at_customized_target_generate.py of esp-at takes offset and size as text out of each row.
    for name in ("partitions_at.csv", "at_customize.csv"):
        rows = [line for line in (home / name).read_text().splitlines() if not line.startswith("#")]
        assert all(re.fullmatch(r"\w+, \w+, \w+, 0x[0-9a-f]+, \d+K", row) for row in rows), rows


def test_compressed_updates_keep_the_words_that_the_sanity_checker_looks_for(add, checkout: Path) -> None:
    assert add("--flash", "4MB", like="ESP32C2/ESP32C2-2MB", name="C2").status == 0
    text = (checkout / "module_config" / "module_c2" / "partitions_at.csv").read_text()
    rows = [line.split(",") for line in text.splitlines()]
    assert [row[0] for row in rows if len(row) > 2 and row[1:3] == [" data", " 0x22"]] == ["storage"]


def test_line_ends_stay(add, checkout: Path) -> None:
    for path in (TABLE, SOURCE, HEADER, "module_config/module_esp32c3_default/sdkconfig.defaults"):
        data = (checkout / path).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        (checkout / path).write_bytes(data)
    assert add("--feature", "+fs").status == 0
    for path in (TABLE, SOURCE, HEADER, "module_config/module_user-defined/sdkconfig.defaults"):
        data = (checkout / path).read_bytes()
        assert data.count(b"\n") == data.count(b"\r\n") > 1


def test_the_report_as_json(add, checkout: Path) -> None:
    found = json.loads(add("--dry-run", "--json").out)
    assert found["dry_run"] is True
    assert str(checkout / TABLE) == found["added_to"][-1]  # last, since it makes the module known
    assert not (checkout / "module_config" / "module_user-defined").exists()


REFUSED = {
    "small letters": (("user",), "call it USER"),
    "exists": (("ESP32C3/MINI-1",), "exists already"),
    "exists for another chip": (("WROOM-32",), "ESP32/WROOM-32 exists already"),
    "folder exists": (("ESP32C3_DEFAULT",), "exists already"),
    "another chip": (("ESP32/X",), "of the same chip"),
    "feature": (("X", "--feature", "+mqqt"), "did you mean mqtt?"),
    "setting": (("X", "--set", "uart_rx=1"), "did you mean uart_rx_pin?"),
    "does not fit": (("X", "--flash", "1MB"), "too few"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_refused_changes_nothing(cli, checkout: Path, why: str) -> None:
    args, message = REFUSED[why]
    before = files_in(checkout)
    result = cli("modules", "add", *args, "--from", "ESP32C3/MINI-1", "--project", checkout)
    assert result.status == 2
    assert message in result.err
    assert files_in(checkout) == before


def test_an_option_that_the_version_lacks(add, checkout: Path) -> None:
    (checkout / "main").mkdir()
    (checkout / "main" / "Kconfig").write_text("config AT_FS_COMMAND_SUPPORT\n    bool\n")
    assert add("--feature", "+fs").status == 0
    result = add("--feature", "+mqtt", "-mdns", name="X")
    assert (result.status, "has no CONFIG_AT_MDNS_COMMAND_SUPPORT" in result.err) == (2, True)


def test_a_parameter_that_the_version_lacks(cli, shared: Path, tmp_path: Path) -> None:
    tree = copied(shared / "esp-at" / "v3.4.0.0", tmp_path / "esp-at", only=BASES)
    result = cli(
        *("modules", "add", "X", "--from", "ESP32C3/MINI-1", "--project", tree, "--set", "sys_store=0")
    )
    assert (result.status, "sys_store" in result.err) == (2, True)


def test_a_folder_that_is_no_checkout(cli, tmp_path: Path) -> None:
    result = cli("modules", "add", "X", "--from", "ESP32C3/MINI-1", "--project", tmp_path)
    assert (result.status, "no esp-at source tree" in result.err) == (2, True)


# --- texts ------------------------------------------------------------------------------------------------


def test_an_edited_sdkconfig_keeps_its_other_lines() -> None:
    text = "# A\nCONFIG_A=y\n\nCONFIG_B=1\nCONFIG_B=2\n# CONFIG_C is not set\n# CONFIG_D=y\nCONFIG_E=3"
    changes = {"B": "5", "C": "y", "D": "n", "E": None, "F": '"x"', "G": None}
    assert edited(text, changes, "X") == (
        '# A\nCONFIG_A=y\n\nCONFIG_B=5\nCONFIG_C=y\n# CONFIG_D=y\n\n# X\nCONFIG_D=n\nCONFIG_F="x"\n'
    )
    assert edited(text, {}, "X") == text
    assert edited("", {"A": "y"}, "X") == "\n# X\nCONFIG_A=y\n"


def test_options_of_the_state_that_is_left_go() -> None:
    known = features()
    assert options_of(known, {"ota": "off"}, "esp32c3") == {
        "AT_OTA_SERVER_IP": None,
        "AT_OTA_SERVER_PORT": None,
        "AT_OTA_TOKEN_KEY": None,
        "AT_OTA_SSL_TOKEN_KEY": None,
        "AT_OTA_SUPPORT": "n",
    }
    nimble = options_of(known, {"bluetooth_host": "nimble"}, "esp32c3")
    assert (nimble["BT_NIMBLE_ENABLED"], nimble["BT_BLUEDROID_ENABLED"]) == ("y", None)


def test_what_a_killed_run_has_left_is_completed(add, checkout: Path) -> None:
    before = files_in(checkout)
    assert add("--feature", "+fs").status == 0
    done = files_in(checkout)
    (checkout / TABLE).write_bytes(before[TABLE])  # the row comes last
    (checkout / "module_config" / "module_user-defined" / "IDF_VERSION").unlink()
    (checkout / "module_config" / "module_user-defined" / ".IDF_VERSION.0123456789ab.tmp").write_text("x")
    assert add("--feature", "+fs").status == 0
    assert {name: data for name, data in files_in(checkout).items() if ".tmp" not in name} == done
    (checkout / TABLE).write_bytes(before[TABLE])
    assert "exists already" in add("--feature", "+fs", "-mdns").err  # another one than that


def test_macros_that_are_taken_are_not_defined_again() -> None:
    source, header = source_text("esp_at_module_info", "\r\n"), header_text("\r\n")
    for module in ("esp32-x", "esp32_x", "esp32.x"):
        found = with_entry(source, header, module=module, chip="esp32", ota=True)
        assert found is not None
        source, header = found.source, found.header
    names = re.findall(r"#define (CONFIG_ESP_AT_OTA_TOKEN_\w+)", header)
    assert len(names) == len(set(names)) == len(CHIPS) + 1 + 3
    assert "\n" not in header.replace("\r\n", "")


@pytest.mark.parametrize("chip", ["esp32c61", "esp32c5", "esp32p4"])
def test_a_chip_that_the_list_has_no_block_for(chip: str) -> None:
    assert with_entry(source_text(), header_text(), module="X", chip=chip, ota=False) is None


def test_a_chip_whose_name_begins_like_another() -> None:
    found = with_entry(source_text(), header_text(), module="X", chip="esp32", ota=False)
    assert found is not None
    assert found.source.index('"X"') < found.source.index("TARGET_ESP32C3")


def test_a_table_is_read_back_as_it_was_written() -> None:
    table = PartitionTable(
        (Partition("a", 1, 2, 0x9000, 0x3000, 1), Partition("b", 0x40, 7, 0xC000, 0x1001)), md5=False
    )
    assert PartitionTable.from_csv(table_csv(table, "x").decode(), md5=False) == table

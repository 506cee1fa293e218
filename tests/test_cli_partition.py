"""The command ``partition``: show, check, to-bin, to-csv."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from esp_at_tools.formats.partition_table import Partition, PartitionTable

PRIMARY = """\
# Name, Type, SubType, Offset, Size, Flags
otadata, data, ota, 0xd000, 0x2000
phy_init, data, phy, 0xf000, 0x1000
nvs, data, nvs, 0x10000, 0xE000
at_customize, 0x40, 0, 0x1e000, 0x42000
ota_0, app, ota_0, 0x60000, 0x1d0000, encrypted
ota_1, app, ota_1, 0x230000, 0x1d0000, encrypted:readonly
"""
SECONDARY = "mfg_nvs, data, nvs, 0x1f000, 124K\nfatfs, data, fat, 0x47000, 100K\n"


@pytest.fixture
def primary(tmp_path):
    path = tmp_path / "partitions.csv"
    path.write_text(PRIMARY)
    return path


@pytest.fixture
def secondary(tmp_path):
    path = tmp_path / "at_customize.csv"
    path.write_text(SECONDARY)
    return path


@pytest.fixture
def image(tmp_path):
    data = bytearray(b"\xff" * (4 << 20))
    table = PartitionTable.from_csv(PRIMARY, md5=False).to_bytes()
    data[0x8000 : 0x8000 + len(table)] = table
    table = PartitionTable.from_csv(SECONDARY, primary=False).to_bytes()
    data[0x1E000 : 0x1E000 + len(table)] = table
    path = tmp_path / "flash.bin"
    path.write_bytes(data)
    return path


def document(result):
    return json.loads(result.out)


# --- show ----------------------------------------------------------------------------------------------


def test_show_a_csv(cli, primary):
    result = cli("partition", "show", primary, "--flash-size", "8M")
    assert (result.status, result.err) == (0, "")
    assert result.out == (
        f"{primary}: CSV, flash of 8 MB\n"
        "\n"
        "Primary table: 6 partitions\n"
        "Name          Type  Subtype    Offset       End     Size  Flags\n"
        "(free)                         0x9000    0xcfff    16 KB\n"
        "otadata       data  ota        0xd000    0xefff     8 KB\n"
        "phy_init      data  phy        0xf000    0xffff     4 KB\n"
        "nvs           data  nvs       0x10000   0x1dfff    56 KB\n"
        "at_customize  0x40  0x00      0x1e000   0x5ffff   264 KB\n"
        "ota_0         app   ota_0     0x60000  0x22ffff  1856 KB  encrypted\n"
        "ota_1         app   ota_1    0x230000  0x3fffff  1856 KB  enc+ro\n"
        "(free)                       0x400000  0x7fffff     4 MB\n"
    )


def test_show_a_flash_image(cli, image):
    result = cli("partition", "show", image)
    assert (result.status, result.err) == (0, "")
    assert f"{image}: flash image, flash of 4 MB\n" in result.out
    assert "Primary table at 0x8000: 6 partitions, without checksum\n" in result.out
    assert "Secondary table at 0x1e000: 2 partitions, with checksum\n" in result.out
    assert "(free)                  0x3e000  0x46fff   36 KB\n" in result.out


def test_show_as_json(cli, image):
    result = cli("partition", "show", "--json", image)
    shown = document(result)
    assert (shown["format"], shown["flash_size"], shown["problems"]) == ("image", 4 << 20, [])
    assert shown["tables"] == [
        {"table": "primary", "offset": 0x8000, "md5": False, "partitions": 6},
        {"table": "secondary", "offset": 0x1E000, "md5": True, "partitions": 2},
    ]
    assert shown["partitions"][5] == {
        "table": "primary", "name": "ota_1", "type": 0, "subtype": 17, "offset": 0x230000, "size": 0x1D0000,
        "flags": ["encrypted", "readonly"], "type_name": "app", "subtype_name": "ota_1",
    }  # fmt: skip
    assert [p["name"] for p in shown["partitions"] if p["table"] == "secondary"] == ["mfg_nvs", "fatfs"]


def test_real_tables_fit_80_columns(cli, shared):
    tables = [*shared.glob("esp-at/v5.0.1.0/module_config/*/*.csv"), *shared.glob("firmware/*/*/*.bin")]
    seen = 0
    for table in tables:
        if table.stem in (
            "partitions_at",
            "at_customize",
            "partition-table",
            "factory_WROOM-02",
            "factory_MINI-1",
        ):
            result = cli("partition", "show", table)
            assert (result.status, result.err) == (0, "")
            assert all(len(line) <= 80 for line in result.out.splitlines()[1:])
            seen += 1
    assert seen > 30


def test_the_widest_row_fits_80_columns(cli, tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text("sixteen_letters_,partition_table,0xfe,0x10000000,0x1234567,encrypted:readonly\n")
    lines = cli("partition", "show", path).out.splitlines()[3:]
    assert "sixteen_letters_" in lines[1]
    assert max(map(len, lines)) <= 80


def test_names_cannot_talk_to_the_terminal(cli, tmp_path):
    path = tmp_path / "table.bin"
    names = ("\x1b[2Jgone", "日本語", "plain")
    rows = [Partition(name, 0, i, 0x10000 * (i + 1), 0x10000) for i, name in enumerate(names)]
    path.write_bytes(PartitionTable(tuple(rows)).to_bytes())
    result = cli("partition", "show", path)
    assert "\x1b" not in result.out + result.err
    lines = {line.split()[0]: line for line in result.out.splitlines()[3:]}
    assert lines["\\x1b[2Jgone"].index("app") == lines["plain"].index("app")
    assert lines["日本語"].index("app") == lines["plain"].index("app") - 3  # three letters of two columns


def test_show_warns_of_problems(cli, tmp_path):
    path = tmp_path / "odd.csv"
    path.write_text("ota_0,app,ota_0,,1M\n")
    result = cli("partition", "show", path)
    assert result.status == 0
    assert result.err == "warning: ota applications, but no otadata partition to choose between them\n"


# --- check ---------------------------------------------------------------------------------------------


def test_check_of_sound_tables(cli, primary, secondary, image):
    for arguments in (
        (primary,),
        (secondary,),
        (image,),
        (secondary, "--primary", primary),
        (secondary, "--primary", image),
    ):
        result = cli("partition", "check", *arguments)
        assert (result.status, result.err) == (0, ""), result.out
        assert "no problems" in result.out
    assert document(cli("partition", "check", "--json", image))["problems"] == []
    assert cli("partition", "check", "-q", image).out == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f,app,factory,0x10000,1M\nx,data,nvs,0x20000,4K\n", "line 2: partition 'x' at 0x20000 overlaps"),
        ("f,app,factory,0x18000,1M\n", "f at 0x18000: the offset is not a multiple of 0x10000"),
        ("f,app,factory,,4M\n", "f at 0x10000: ends at 0x410000, past the flash of 0x400000 bytes"),
        ("f,app,factory,,1M\nf,data,nvs,,64K\n", "the name 'f' is given to 2 partitions"),
        ("o,data,ota,,8K\nn,data,nvs,,64K\n", "no application partition"),
    ],
)
def test_check_finds_errors(cli, tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    assert cli("partition", "check", path, "--flash-size", "4MB") == cli(
        "partition", "check", path, "--flash-size", "4096kB"
    )
    result = cli("partition", "check", path, "--flash-size", "4MB")
    assert result == cli("partition", "check", path, "--flash-size", "4M")
    assert result.status == 1
    assert "error: " in result.out
    assert message in result.out
    result = cli("partition", "check", path, "--flash-size", "4M", "--json")
    assert result.status == 1
    first = document(result)["problems"][0]
    assert first["level"] == "error"
    assert message in first["message"]


def test_check_leaves_warnings_at_0(cli, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("ota_0,app,ota_0,,1M\n")
    result = cli("partition", "check", path)
    assert (result.status, result.out.split(":")[0]) == (0, "warning")


def test_check_of_a_damaged_binary(cli, image):
    data = bytearray(image.read_bytes())
    data[0x1E000 + 82] ^= 1
    image.write_bytes(data)
    result = cli("partition", "check", image)
    assert result.status == 1
    assert "at 0x1e000, in at_customize: row 2" in result.out
    data[0x8000 + 34] = 0
    data[0x8000 + 32] = 0
    image.write_bytes(data)
    result = cli("partition", "check", image)
    assert result.status == 1
    assert "at 0x8000: row 1 of the partition table begins with 00 50, not AA 50" in result.out


def test_check_of_a_secondary_table_against_another_primary(cli, primary, secondary):
    secondary.write_text("mfg_nvs,data,nvs,0x1f000,300K\n")
    assert cli("partition", "check", secondary).status == 0
    result = cli("partition", "check", secondary, "--primary", primary)
    assert (result.status, result.out) == (1, "error: mfg_nvs at 0x1f000: overlaps ota_0 at 0x60000\n")


def test_check_of_both_tables_of_an_image(cli, image):
    data = bytearray(image.read_bytes())
    low = PartitionTable.from_csv("mfg_nvs,data,nvs,0x1e000,8K\n", primary=False).to_bytes()
    data[0x1E000 : 0x1E000 + len(low)] = low
    image.write_bytes(data)
    result = cli("partition", "check", image)
    assert result.status == 1
    assert "error: mfg_nvs at 0x1e000: the offset is below 0x1f000" in result.out
    assert "error: mfg_nvs at 0x1e000: overlaps its own table at 0x1e000" in result.out


def test_check_takes_the_size_of_the_flash_from_an_unfilled_image(cli, shared, tmp_path):
    folder = shared / "firmware/ESP32-C3-MINI-1-V5.0.1.0-assembled"
    data = bytearray((folder / "factory/factory_MINI-1_unfilled.bin").read_bytes())
    path = tmp_path / "unfilled.bin"
    path.write_bytes(data)
    assert document(cli("partition", "check", path, "--json"))["flash_size"] == 4 << 20
    data[3] = 0x10  # 2 MB
    path.write_bytes(data)
    result = cli("partition", "check", path)
    assert result.status == 1
    assert "ota_1 at 0x230000: ends at 0x400000, past the flash of 0x200000 bytes" in result.out


# --- to-bin and to-csv -----------------------------------------------------------------------------------


def test_to_bin_and_back(cli, primary, tmp_path):
    binary, text = tmp_path / "table.bin", tmp_path / "again.csv"
    result = cli("partition", "to-bin", primary, binary)
    assert (result.status, result.out, result.err) == (
        0, f"{binary}: 6 partitions, 3072 bytes, with checksum\n", "",
    )  # fmt: skip
    assert binary.read_bytes() == PartitionTable.from_csv(PRIMARY).to_bytes()
    result = cli("partition", "to-csv", binary, text)
    assert (result.status, result.out, result.err) == (0, f"{text}: 6 partitions\n", "")
    shown = cli("partition", "to-csv", binary)
    assert (shown.status, shown.out) == (0, text.read_text())
    assert text.read_text().splitlines()[2:4] == [
        "otadata,data,ota,0xd000,8K,",
        "phy_init,data,phy,0xf000,4K,",
    ]
    assert cli("partition", "to-bin", text, binary, "--no-md5").status == 0
    assert binary.read_bytes() == PartitionTable.from_csv(PRIMARY, md5=False).to_bytes()


def test_every_official_table_through_the_command(cli, shared, tmp_path):
    out = tmp_path / "out.bin"
    for version in ("v3.4.0.0", "v5.0.1.0"):
        tree = shared / "esp-at" / version
        for name, module in json.loads((tree / "expected/index.json").read_text()).items():
            where = ("--partition-table-offset", module["partition_table_offset"])
            md5 = () if module["md5"] else ("--no-md5",)
            assert cli("partition", "to-bin", tree / module["partitions_csv"], out, *where, *md5).status == 0
            assert out.read_bytes() == (tree / "expected" / name / "partition-table.bin").read_bytes()
            assert cli("partition", "to_bin", tree / module["at_customize_csv"], out).status == 0
            assert out.read_bytes() == (tree / "expected" / name / "at_customize.bin").read_bytes()


def test_json_of_conversions(cli, primary, image, tmp_path):
    out = tmp_path / "out"
    made = document(cli("partition", "to-bin", primary, out, "--json", "--no-md5"))
    assert made == {"schema": 1, "output": str(out), "size": 3072, "md5": False, "problems": []}
    made = document(cli("partition", "to-csv", image, out, "--json", "--secondary"))
    assert made == {"schema": 1, "output": str(out), "csv": out.read_text()}
    assert made["csv"].splitlines()[2] == "mfg_nvs,data,nvs,0x1f000,124K,"
    assert document(cli("partition", "to-csv", image, "--json"))["output"] is None


def test_offsets_follow_the_place_of_the_table(cli, tmp_path):
    path, out = tmp_path / "at_customize.csv", tmp_path / "at_customize.bin"
    path.write_text("mfg_nvs,data,nvs,,124K\n")
    assert cli("partition", "to-bin", path, out, "--partition-table-offset", "0x1e000").status == 0
    assert PartitionTable.from_bytes(out.read_bytes()).find("mfg_nvs").offset == 0x1F000


def test_variables_come_from_the_environment(cli, tmp_path, monkeypatch):
    path, out = tmp_path / "table.csv", tmp_path / "table.bin"
    path.write_text("nvs,data,nvs,,$NVS_SIZE\n")
    monkeypatch.setenv("NVS_SIZE", "24K")
    assert cli("partition", "to-bin", path, out).status == 0
    assert PartitionTable.from_bytes(out.read_bytes()).find("nvs").size == 0x6000


def test_a_name_beyond_ascii_reaches_a_plain_stdout(process, tmp_path):
    path = tmp_path / "table.bin"
    path.write_bytes(PartitionTable((Partition("größe", 1, 2, 0x9000, 0x4000),)).to_bytes())
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = process("partition", "to-csv", path, env=environment, encoding="utf-8", cwd=Path.cwd())
    assert (result.status, result.out.splitlines()[2:]) == (0, ["größe,data,nvs,0x9000,16K,"])


# --- what is refused: exit status 2, nothing written -------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "missing.csv"), "missing.csv: no such file"),
        (("show", "."), ".: is a folder"),
        (("show", "noise.bin"), "noise.bin: is neither a CSV nor a partition table nor a flash image"),
        (("show", "empty"), "empty: the partition table holds no partition"),
        (("show", "blank.bin"), "blank.bin: no partition table at 0x8000"),
        (("check", "blank.bin"), "blank.bin: no partition table at 0x8000"),
        (("show", "partitions.csv", "--flash-size", "4Q"), "'4Q' is not a number"),
        (("show", "partitions.csv", "--flash-size", "0"), "--flash-size 0: no flash has"),
        (("show", "partitions.csv", "--flash-size", "3"), "--flash-size 3: no flash has"),
        (("show", "partitions.csv", "--flash-size", "4000000"), "give it as 4MB"),
        (("show", "flash.bin", "--partition-table-offset", "0x9001"), "0x9001 is no sector"),
        (("show", "flash.bin", "--partition-table-offset", "-1"), "-0x1 is no sector"),
        (("show", "flash.bin", "--partition-table-offset", "0xc000"), "flash.bin: at 0xc000: "),
        (
            ("check", "partitions.csv", "--primary", "at_customize.csv"),
            "partitions.csv: is not a secondary table",
        ),
        (("check", "at_customize.csv", "--primary", "at_customize.csv"), "is not a primary table"),
        (("to-bin", "bad.csv", "out"), "bad.csv: line 1: type 'datum' is not known"),
        (("to-bin", "overlap.csv", "out", "--flash-size", "1M"), "ends at 0x210000, past the flash"),
        (("to-bin", "long.csv", "out"), "has 17 bytes, and the table has room for 16"),
        (("to-bin", "flash.bin", "out"), "flash.bin: is a flash image, not a CSV"),
        (("to-bin", "table.bin", "out"), "table.bin: is a partition table, not a CSV"),
        (("to-bin", "partitions.csv", "nowhere/out"), "its folder does not exist"),
        (("to-bin", "partitions.csv", "."), "is an existing folder"),
        (("to-bin", "partitions.csv", "partitions.csv"), "partitions.csv: is the input"),
        (("to-bin", "partitions.csv"), "Missing argument 'OUT'"),
        (("to-csv", "partitions.csv", "out"), "partitions.csv: is a CSV already"),
        (("to-csv", "table.bin", "out", "--secondary"), "table.bin: is one table alone"),
        (("to-csv", "lone.bin", "out", "--secondary"), "lone.bin: has no secondary partition table"),
        (("to-csv", "comma.bin", "out"), "comma.bin: partition name 'a,b' cannot stand in a CSV"),
        (("to-csv", "cut.bin", "out"), "cut.bin: the partition table has no end marker within 64 bytes"),
        (("frobnicate",), "No such command 'frobnicate'"),
    ],
)
def test_what_is_refused(cli, primary, secondary, image, tmp_path, monkeypatch, arguments, message):
    del primary, secondary
    monkeypatch.chdir(tmp_path)
    table = PartitionTable.from_csv(PRIMARY)
    lone = bytearray(image.read_bytes())
    lone[0x1E000:0x1F000] = b"\xff" * 0x1000
    for name, data in {
        "noise.bin": bytes(range(256)),
        "empty": b"",
        "blank.bin": b"\xff" * 0x100000,
        "bad.csv": b"nvs,datum,nvs,,4K\n",
        "overlap.csv": b"f,app,factory,,2M\n",
        "long.csv": b"seventeen_bytes_x,data,nvs,,4K\n",
        "table.bin": table.to_bytes(),
        "lone.bin": bytes(lone),
        "comma.bin": PartitionTable((Partition("a,b", 1, 2, 0x9000, 0x4000),)).to_bytes(),
        "cut.bin": table.to_bytes()[:64],
    }.items():
        (tmp_path / name).write_bytes(data)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    result = cli("partition", *arguments)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert "Traceback" not in result.err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_existing_output_survives_an_error(cli, tmp_path):
    path, out = tmp_path / "bad.csv", tmp_path / "out.bin"
    path.write_text("f,app,factory,0x18000,1M\n")
    out.write_bytes(b"precious")
    assert cli("partition", "to-bin", path, out).status == 2
    assert out.read_bytes() == b"precious"

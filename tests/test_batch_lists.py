"""Lists of devices as people write them: what is understood, and what a message says of the rest."""

from __future__ import annotations

import json
from pathlib import Path

import batches
import pytest


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "in.bin").write_bytes(batches.mfg_nvs())
    return tmp_path


def run(cli, folder: Path, text: str | bytes, *args: object):
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "list.csv").write_bytes(data)
    return cli("batch", "-in", folder / "in.bin", "--devices", folder / "list.csv",
               "-o", folder / "out", *args)  # fmt: skip


def profiled(cli, folder: Path, value: str, text: str = "id,client_name\na,b\n"):
    (folder / "p.yaml").write_text(f"settings: {{module_name: '{value}'}}\n")
    return run(cli, folder, text, "--profile", folder / "p.yaml")


@pytest.mark.parametrize("text", ["id,client_name\na,b\n", '{"id": "a", "client_name": "b"}\n'])
def test_a_name_that_the_profile_has_wrong(cli, folder, text):
    done = profiled(cli, folder, "{clientname}", text)
    assert done.status == 2
    assert f"{folder}/p.yaml uses {{clientname}}, which is no column of {folder}/list.csv" in done.err
    assert "did you mean client_name?" in done.err
    assert not (folder / "out").exists()


@pytest.mark.parametrize("value", ["ACME-{client_name", "ACME}", "{client_name}-{", "{}", "{{client_name}"])
def test_a_brace_alone(cli, folder, value):
    done = profiled(cli, folder, value)
    assert done.status == 2
    assert "p.yaml: line 1: module_name: " in done.err
    assert "stands alone" in done.err
    assert "{{ and }}" in done.err
    assert not (folder / "out").exists()


def test_two_braces_are_one(cli, folder):
    assert profiled(cli, folder, "{{{client_name}}}").status == 0
    assert json.loads(cli("inspect", folder / "out/a.bin", "--json").out)["settings"]["module_name"] == "{b}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("_no,#,id,#,module_name,_no\n1,2,a,3,x,4\n", "x"),
        ('{"id": "a", "_order": {"no": [1]}, "#": null, "module_name": "x"}\n', "x"),
    ],
)
def test_columns_that_are_ignored(cli, folder, text, name):
    done = run(cli, folder, text)
    assert done.status == 0, done
    assert json.loads(cli("inspect", folder / "out/a.bin", "--json").out)["settings"]["module_name"] == name


def test_a_change_in_a_column_that_is_ignored_is_none(cli, folder):
    assert run(cli, folder, "id,_no,module_name\na,1,x\n").status == 0
    assert run(cli, folder, "id,_no,module_name\na,2,x\n", "--resume").status == 0


def test_a_column_that_a_profile_uses_is_not_ignored(cli, folder):
    assert profiled(cli, folder, "{_no}", "_no,id\nseven,a\n").status == 0
    told = json.loads(cli("inspect", folder / "out/a.bin", "--json").out)
    assert told["settings"]["module_name"] == "seven"
    assert "two columns '_no'" in profiled(cli, folder, "{_no}", "_no,id,_no\n7,a,8\n").err


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("id,order_number", "begin its name with _ to have it ignored"),
        ("id,uart_baudrat", "did you mean uart_baudrate?"),
        ("id,module_name,", "column 3 has no name"),
        ("ID;MAC;module_name", "rename ID to id; the columns are ID, MAC, module_name"),
        ("id;MAC;module_name", "did you mean mac?"),
        ("id,cfg999", "the rows are cfg0 to"),
    ],
)
def test_hints_for_columns_are_short(cli, folder, header, hint):
    done = run(cli, folder, f"{header}\na,b,c\n")
    assert done.status == 2
    assert hint in done.err
    assert len(done.err) - len(str(folder)) < 160


@pytest.mark.parametrize(
    "text", ["sep=;\r\nid;module_name\r\na;x\r\n", "\ufeffSEP=|\nid|module_name\na|x\n",
             '"sep=\t"\nid\tmodule_name\na\tx\n', "sep=,,\n\nid,module_name\na,x\n"],
)  # fmt: skip
def test_a_first_line_that_tells_the_delimiter(cli, folder, text):
    done = run(cli, folder, text, "--json")
    assert done.status == 0, done
    assert json.loads(done.out)["rows"] == 1
    assert [(line["id"], line["row"]) for line in batches.manifest(folder / "out")] == [("a", "1")]


@pytest.mark.parametrize(
    ("row", "name", "said"),
    [
        ("dev-7", "dev-7", "has 1 cell,"),
        ("dev-7,x,y,z", "dev-7", "has 4 cells,"),
        ('dev-7,"x', "dev-7", "not CSV"),
        ('"dev-7,x', "", "not CSV"),
        ('"dev-7",x,y', "dev-7", "has 3 cells"),
        ("dev-7,\udcff", "dev-7", "not UTF-8"),
        ("dev-\udcff,x", "", "not UTF-8"),
        ("-----BEGIN,x,y", "", "has 3 cells"),
    ],
)
def test_a_row_that_is_no_device_keeps_its_id(cli, folder, row, name, said):
    done = run(cli, folder, f"id,module_name\na,x\n{row}\n".encode("utf-8", "surrogateescape"))
    assert done.status == 1
    line = batches.manifest(folder / "out")[1]
    assert (line["id"], line["status"]) == (name, "failed")
    assert said in line["error"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"PK\x03\x04\x14\0\x06\0", "an Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook"),
        (b"PK\x03\x04\x14\0mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "an OpenDocument"),
    ],
)
def test_a_workbook_is_no_csv(cli, folder, data, what):
    done = run(cli, folder, data)
    assert done.status == 2
    assert f"list.csv: is {what}" in done.err
    assert "save it as CSV UTF-8" in done.err


def test_what_ids_may_hold(cli, folder):
    run(cli, folder, "id,module_name\na/b,x\nŻółw 7 Ω,x\n")
    bad, good = batches.manifest(folder / "out")
    assert "letters and digits of any script, the space, and # ( )" in bad["error"]
    assert good["status"] == "ok"

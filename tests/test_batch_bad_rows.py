"""Bad rows fail alone, each with its row and reason, and nothing secret is told."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
from pathlib import Path

import batches
import builders
import pytest

ROWS = 400
"""``ESP_AT_BATCH_ROWS`` makes it more, by hand."""
SECRET = builders.key_pem(3).decode()


def bad_cells(folder: Path) -> dict[str, tuple[dict[str, str], str]]:
    """Kind → the cells that are bad, and what is said of them; files that they name are made."""
    files = {
        "expired.crt": builders.certificate(50, days=(-20, -10)),
        "future.crt": builders.certificate(50, days=(10, 20)),
        "50.key": builders.key_pem(50),
        "cut.crt": builders.certificate(50)[:-200],
        "noise.crt": bytes(range(256)) * 4,
        "empty.crt": b"",
        "no-newline.crt": builders.certificate(50).rstrip(),
        "large.crt": b"x" * (2 << 20),
        "utf16.crt": builders.certificate(50).decode().encode("utf-16"),
        "twice.key": builders.key_pem(50).replace(b"\n", b"\n "),
        "room.crt": builders.certificate(50) * 60,
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    cert, key = "client_cert.0", "client_key.0"
    own = {key: "50.key"}
    return {
        "no file": ({cert: "keys/none.crt"}, "keys/none.crt: no such file"),
        "a folder": ({cert: "keys"}, "is a folder"),
        "blank": ({cert: ""}, "column client_cert.0 is blank"),
        "expired": ({cert: "expired.crt", **own}, "expired on"),
        "not yet valid": ({cert: "future.crt", **own}, "not valid before"),
        "cut off": ({cert: "cut.crt", **own}, "cut off"),
        "no certificate": ({cert: "noise.crt", **own}, "neither PEM nor DER|is neither"),
        "an empty file": ({cert: "empty.crt", **own}, "is empty"),
        "no last line end": ({cert: "no-newline.crt", **own}, "no line end"),
        "too large": ({cert: "large.crt", **own}, "larger than"),
        "UTF-16": ({cert: "utf16.crt", **own}, "UTF-16"),
        "indented key": ({cert: "keys/1.crt", key: "twice.key"}, "not as the firmware reads|does not belong"),
        "key of another": ({cert: "keys/1.crt", key: "keys/2.key"}, "does not belong to the certificate"),
        "interchanged": ({cert: "keys/1.key", key: "keys/1.crt"}, "is a private key, not a certificate"),
        "no room": ({cert: "room.crt", **own}, "does not fit"),
        "a key in a cell": ({key: SECRET.replace("\n", "\\n")}, "contents of a file"),
        "no number": ({"uart_baudrate": "fast"}, "'fast' is not a number"),
        "baud rate": ({"uart_baudrate": "79"}, "outside 80 to 5000000"),
        "one pin for two": ({"uart_tx_pin": "6"}, "two signals cannot share"),
        "country": ({"country_code": "USA"}, "two letters"),
        "channels": ({"start_channel": "13", "channel_num": "5"}, "past 14"),
        "power": ({"max_tx_power": "200"}, "does not fit its type"),
        "GATT row": ({"cfg1": "1,16"}, "2 fields, not 7"),
        "long name": ({"module_name": "x" * 4000}, "4000 bytes"),
        "address": ({"mac": "c4:0a:24:fe:10"}, "not a MAC address"),
        "address of a group": ({"mac": "c5:0a:24:fe:10:01"}, "of a group"),
        "address of another": ({"mac": "c4:0a:24:00:00:00"}, "already in row 1$|already in row 1 "),
        "id of another": ({"id": "DEV-00000"}, "was already in row 1 "),
        "id as a path": ({"id": "../dev"}, "begins with '.'"),
        "id with a separator": ({"id": "a/b"}, "holds '/'"),
        "id of Windows": ({"id": "Com1.x"}, "Windows"),
        "no id": ({"id": ""}, "id is empty"),
        "long id": ({"id": "x" * 300}, "too long"),
    }


BAD_LINES = {
    "a quote that stays open": ('"dev,"x"y,1,2\n', "not CSV"),
    "too few cells": ("dev-1,2\n", "2 cells"),
    "no UTF-8": ("dev-\udcff,,,,,,,,,,,,,\n", "not UTF-8"),
    "a NUL": ("dev-\0,,,,,,,,,,,,,\n", "NUL"),
}


def lines_of(rows: list[dict[str, str]], columns: list[str]) -> list[str]:
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", lineterminator="\n").writerows(rows)
    return text.getvalue().splitlines(keepends=True)


@pytest.mark.parametrize("jobs", [1, 2])
def test_exactly_the_bad_rows_fail(cli, tmp_path, jobs):
    rows = int(os.environ.get("ESP_AT_BATCH_ROWS", ROWS))
    folder = tmp_path
    batches.make(folder, 1)
    bad = bad_cells(folder)
    columns = list(
        dict.fromkeys([*batches.device(0), *(name for cells, _ in bad.values() for name in cells)])
    )
    lines = lines_of([batches.device(number) for number in range(rows)], columns)
    rng = random.Random(jobs)
    kinds = [*bad, *BAD_LINES]
    count = max(len(kinds), rows // 100)
    expected = {}
    for place, number in enumerate(sorted(rng.sample(range(1, rows), count))):
        kind = kinds[place % len(kinds)]
        if kind in bad:
            cells, said = bad[kind]
            lines[number] = lines_of([{**batches.device(number), **cells}], columns)[0]
        else:
            lines[number], said = BAD_LINES[kind]
        expected[number + 1] = (kind, said)
    devices = folder / "devices.csv"
    devices.write_text(",".join(columns) + "\n" + "".join(lines), "utf-8", "surrogateescape")
    done = cli(
        "batch",
        "--input",
        folder / "in.bin",
        "--devices",
        devices,
        "-o",
        folder / "out",
        "-j",
        jobs,
        "--json",
    )
    assert done.status == 1
    told = json.loads(done.out)
    told_lines = batches.manifest(folder / "out")
    assert [int(line["row"]) for line in told_lines] == list(range(1, rows + 1))
    for line in told_lines:
        number = int(line["row"])
        kind, said = expected.get(number, ("", ""))
        assert (line["status"] == "failed") is bool(kind), line
        if kind:
            assert line["error"].startswith(f"row {number} (line {number + 1}): "), line
            assert re.search(said, line["error"]), (kind, line)
            assert not line["file"]
    assert (told["written"], told["failed"]) == (rows - count, count)
    named = {line["file"] for line in told_lines if line["file"]}
    assert {path.name for path in (folder / "out").glob("*.bin")} == named
    told_everywhere = done.out + done.err + (folder / "out/manifest.csv").read_text()
    for number in range(batches.IDENTITIES):
        assert builders.key_pem(number).decode().splitlines()[1][:40] not in told_everywhere
    verified = cli("batch", "verify", folder / "out", "--allow-failed")
    assert verified.status == 0, verified


def test_force_allows_what_is_risky_only(cli, tmp_path):
    batches.make(tmp_path, 1)
    bad = bad_cells(tmp_path)
    kinds = ["expired", "not yet valid", "key of another", "no last line end", "no number", "cut off"]
    rows = [{**batches.device(number), **bad[kind][0]} for number, kind in enumerate(kinds)]
    for row in rows[:-2]:
        row.setdefault("uart_baudrate", "9600")
    devices = batches.write_list(tmp_path / "devices.csv", rows)
    done = cli(
        "batch", "-in", tmp_path / "in.bin", "--devices", devices, "-o", tmp_path / "out", "--force", "--json"
    )
    assert done.status == 1
    lines = batches.manifest(tmp_path / "out")
    assert [line["status"] for line in lines] == ["ok"] * 4 + ["failed"] * 2
    assert json.loads(done.out)["devices_with_warnings"] == 4


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not json", "not JSON"),
        ("[1]", "no JSON object"),
        ('{"id": "a", "uart_baudrate": 1.5}', "neither text nor a whole number"),
        ('{"id": "a", "uart_baudrate": true}', "neither text nor a whole number"),
        ('{"id": "a", "id": "b"}', "key twice"),
        ('{"id": "a", "uart_baud": 9600}', "did you mean uart_baudrate"),
        ('{"id": "a", "module_name": "\\ud800"}', "character that is none"),
        ('{"id": "a", "tx_control_pin": 3}', "older layout"),
        ('{"uart_baudrate": 9600}', "id is empty"),
        ("{" * 100000, "not JSON"),
        ('{"id": "a", "module_name": "' + "x" * (1 << 20) + '"}', "more than"),
        ('{"id": "a", "uart_baudrate": 1' + "0" * 5000 + "}", "not JSON"),
    ],
)
def test_bad_json_lines(cli, tmp_path, line, said):
    (tmp_path / "in.bin").write_bytes(batches.mfg_nvs())
    good = '{"id": "first", "uart_baudrate": 9600}\n'
    (tmp_path / "list.jsonl").write_text(good + line + "\n" + good.replace("first", "last"))
    done = cli(
        "batch", "-in", tmp_path / "in.bin", "--devices", tmp_path / "list.jsonl", "-o", tmp_path / "out"
    )
    assert done.status == 1
    lines = batches.manifest(tmp_path / "out")
    assert [each["status"] for each in lines] == ["ok", "failed", "ok"]
    assert said in lines[1]["error"]
    assert len(lines[1]["error"]) < 1000


def test_a_key_pasted_into_any_cell_is_told_nowhere(cli, tmp_path):
    (tmp_path / "in.bin").write_bytes(batches.mfg_nvs())
    (tmp_path / "p.yaml").write_text("pki: {mqtt_ca: '{path}'}\nsettings: {uart_baudrate: '{baud}'}\n")
    for name in ("id", "mac", "path", "baud", "client_key.0", "cfg0", "country_code"):
        row = {"id": "a", "path": "x", "baud": "9600", name: SECRET}
        (tmp_path / "list.jsonl").write_text(json.dumps(row) + "\n")
        done = cli("batch", "-in", tmp_path / "in.bin", "--devices", tmp_path / "list.jsonl", "-o",
                   tmp_path / f"out-{name}", "--profile", tmp_path / "p.yaml")  # fmt: skip
        assert done.status == 1, (name, done)
        told = done.out + done.err + (tmp_path / f"out-{name}" / "manifest.csv").read_text()
        assert SECRET.splitlines()[1][:20] not in told, name


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe")
def test_a_pipe_in_place_of_a_file_does_not_stop_the_run(cli, tmp_path):
    batches.make(tmp_path, 3)
    os.mkfifo(tmp_path / "pipe")
    rows = [batches.device(0), batches.device(1, **{"client_cert.0": "pipe"}), batches.device(2)]
    devices = batches.write_list(tmp_path / "devices.csv", rows)
    assert cli("batch", "-in", tmp_path / "in.bin", "--devices", devices, "-o", tmp_path / "out").status == 1
    lines = batches.manifest(tmp_path / "out")
    assert [line["status"] for line in lines] == ["ok", "failed", "ok"]
    assert "is a pipe" in lines[1]["error"]

"""``batch``: one output for each row, the same bytes as one by one, and everything told in the manifest."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import stat
from pathlib import Path

import batches
import builders
import pytest

from esp_at_tools.formats.nvs import NvsPartition

ROWS = 70  # more than one group


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> Path:
    """A folder with an input, identities and a list of devices."""
    folder = tmp_path_factory.mktemp("batch")
    batches.make(folder, ROWS)
    return folder


def run(cli, folder: Path, output: Path, *args: object, devices: Path | None = None, source: str = "in.bin"):
    return cli("batch", "-q", "--input", folder / source, "--devices", devices or folder / "devices.csv",
               "--output", output, *args)  # fmt: skip


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "devices.csv").read_text("utf-8").splitlines()))


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_output_has_the_generators_bytes(cli, batch, tmp_path, jobs):
    done = run(cli, batch, tmp_path / "out", "-j", jobs, "--json")
    assert done.status == 0, done
    told = json.loads(done.out)
    assert (told["written"], told["failed"], told["rows"]) == (ROWS, 0, ROWS)
    lines = batches.manifest(tmp_path / "out")
    assert [line["id"] for line in lines] == [row["id"] for row in rows_of(batch)]
    for line, row in zip(lines, rows_of(batch), strict=True):
        data = (tmp_path / "out" / line["file"]).read_bytes()
        ours, public = batches.generated(batch, row)
        assert data == ours == public
        assert line["sha256"] == hashlib.sha256(data).hexdigest()
        assert (line["status"], line["error"], line["mac"]) == ("ok", "", row["mac"])
    names = {"batch.json", "manifest.csv", *(line["file"] for line in lines)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_the_number_of_processes_changes_nothing(cli, batch, tmp_path):
    for jobs in (1, 2, 3):
        assert run(cli, batch, tmp_path / str(jobs), "-j", jobs).status == 0
    assert batches.tree(tmp_path / "1") == batches.tree(tmp_path / "2") == batches.tree(tmp_path / "3")


def test_the_manifest_tells_certificates_apart(cli, batch, tmp_path):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    assert run(cli, batch, tmp_path / "out").status == 0
    for line, row in zip(batches.manifest(tmp_path / "out"), rows_of(batch), strict=True):
        certificate = x509.load_pem_x509_certificate((batch / row["client_cert.0"]).read_bytes())
        assert line["certificate_sha256"] == certificate.fingerprint(hashes.SHA256()).hex()
        assert line["certificate_not_after"] == f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
def test_outputs_are_for_their_owner_only(cli, batch, tmp_path):
    assert run(cli, batch, tmp_path / "out").status == 0
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").glob("*.bin")} == {0o600}
    (tmp_path / "open").mkdir(mode=0o755)
    done = run(cli, batch, tmp_path / "open")
    assert done.status == 0
    assert "chmod 700" in done.err


def modified(cli, source: Path, output: Path, row: dict[str, str], folder: Path) -> bytes:
    """What ``modify-bin`` makes of a row."""
    words = []
    for name, text in row.items():
        if name not in ("id", "mac"):
            words += ["--set", f"{name}=@{folder / text}" if name.startswith("client") else f"{name}={text}"]
    assert cli("modify-bin", "-q", "--input", source, "--output", output, *words).status == 0
    return output.read_bytes()


def test_images_are_those_of_modify_bin(cli, batch, tmp_path):
    image = builders.image(batches.mfg_nvs(builders.MFG_SIZE))
    (tmp_path / "image.bin").write_bytes(image)
    rows = [batches.device(number) for number in range(3)]
    devices = batches.write_list(batch / "three.csv", rows)
    for emit, places in (("image", [""]), ("both", ["image/", "mfg_nvs/"])):
        output = tmp_path / emit
        done = cli(
            "batch", "-q", "-in", tmp_path / "image.bin", "--devices", devices, "-o", output, "--emit", emit
        )
        assert done.status == 0, done
        for row in rows:
            whole = modified(cli, tmp_path / "image.bin", tmp_path / "one.bin", row, batch)
            part = whole[builders.MFG_OFFSET : builders.MFG_OFFSET + builders.MFG_SIZE]
            for place, data in zip(places, (whole, part), strict=False):
                assert (output / f"{place}{row['id']}.bin").read_bytes() == data
        assert cli("batch", "verify", output).status == 0
    line = batches.manifest(tmp_path / "both")[0]
    assert (line["file"], line["mfg_nvs_file"]) == ("image/dev-00000.bin", "mfg_nvs/dev-00000.bin")
    assert (
        line["mfg_nvs_sha256"]
        == hashlib.sha256((tmp_path / "both" / line["mfg_nvs_file"]).read_bytes()).hexdigest()
    )


def test_a_release_becomes_images(cli, batch, tmp_path):
    builders.release(tmp_path / "release", batches.mfg_nvs(builders.MFG_SIZE))
    devices = batches.write_list(batch / "one.csv", [batches.device(0)])
    done = cli("batch", "-q", "-in", tmp_path / "release", "--devices", devices, "-o", tmp_path / "out",
               "--emit", "image")  # fmt: skip
    assert done.status == 0, done
    image = tmp_path / "out" / "dev-00000.bin"
    settings = json.loads(cli("inspect", image, "--json").out)["settings"]
    assert settings["module_name"] == "name 0"
    assert cli("modify-bin", "-q", "-in", tmp_path / "release", "-o", tmp_path / "changed", "--set",
               "module_name=name 0", "--set", f"client_cert.0=@{batch}/keys/0.crt", "--set",
               f"client_key.0=@{batch}/keys/0.key").status == 0  # fmt: skip
    assert cli("diff", image, tmp_path / "changed").status == 0


def test_the_legacy_layout_becomes_images(cli, batch, tmp_path):
    (tmp_path / "legacy.bin").write_bytes(builders.legacy_image())
    rows = [batches.device(number) for number in range(3)]
    devices = batches.write_list(batch / "three.csv", rows)
    args = ("batch", "-q", "-in", tmp_path / "legacy.bin", "--devices", devices, "-o", tmp_path / "out")
    refused = cli(*args, "--emit", "mfg_nvs")
    assert refused.status == 2
    assert "--emit image" in refused.err
    assert not (tmp_path / "out").exists()
    assert cli(*args).status == 0
    for row in rows:
        made = (tmp_path / "out" / f"{row['id']}.bin").read_bytes()
        assert made == modified(cli, tmp_path / "legacy.bin", tmp_path / "one.bin", row, batch)


@pytest.mark.parametrize("name", ["ESP8266-AT-V2.2.1.0", "ESP32-C3-MINI-1-V5.0.1.0-assembled"])
def test_real_firmware(cli, batch, shared, tmp_path, name):
    image = next((shared / "firmware" / name / "factory").glob("*.bin"))
    rows = [batches.device(number) for number in range(2)]
    devices = batches.write_list(batch / "two.csv", rows)
    done = cli("batch", "-in", image, "--devices", devices, "-o", tmp_path / "out", "--emit", "image")
    assert done.status == 0, done
    for row in rows:
        one = modified(cli, image, tmp_path / "one.bin", row, batch)
        assert (tmp_path / "out" / f"{row['id']}.bin").read_bytes() == one


def test_a_partition_alone_has_no_image(cli, batch, tmp_path):
    done = run(cli, batch, tmp_path / "out", "--emit", "both")
    assert done.status == 2
    assert "without an image" in done.err


def test_json_lines(cli, batch, tmp_path):
    rows = rows_of(batch)
    lines = [json.dumps({**row, "uart_baudrate": 9600} if number else row) for number, row in enumerate(rows)]
    devices = batch / "devices.jsonl"
    devices.write_text("\n\n".join(lines) + "\n")
    assert run(cli, batch, tmp_path / "csv").status == 0
    assert run(cli, batch, tmp_path / "json", devices=devices).status == 0
    first, second = (batches.manifest(tmp_path / name) for name in ("csv", "json"))
    assert first[0]["sha256"] == second[0]["sha256"]
    partition = NvsPartition.from_bytes((tmp_path / "json" / second[5]["file"]).read_bytes())
    assert partition.get("factory_param", "uart_baudrate").value == 9600
    assert partition.get("factory_param", "module_name").value == "name 5"


def test_a_profile_with_columns(cli, batch, tmp_path):
    profile = batch / "profile.yaml"
    profile.write_text(
        "settings: {uart_baudrate: 921600, module_name: 'unit {serial} {{x}}', country_code: '{country}'}\n"
        "pki: {client_cert.0: 'keys/{serial}.crt', client_key.0: 'keys/{serial}.key'}\n"
    )
    rows = [{"id": f"d{n}", "serial": str(n), "country": "US" if n % 2 else "CN", "channel_num": "11"}
            for n in range(20)]  # fmt: skip
    devices = batches.write_list(tmp_path / "list.csv", rows)
    done = run(cli, batch, tmp_path / "out", "--profile", profile, devices=devices)
    assert done.status == 0, done
    for number, row in enumerate(rows):
        partition = NvsPartition.from_bytes((tmp_path / "out" / f"{row['id']}.bin").read_bytes())
        values = {entry.key: entry.value for entry in partition.entries}
        assert values["module_name"] == f"unit {number} {{x}}"
        assert (values["uart_baudrate"], values["channel_num"]) == (921600, 11)
        assert values["country_code"] == row["country"]
        assert values["client_key.0"] == (batch / f"keys/{number}.key").read_bytes()
    lines = batches.manifest(tmp_path / "out")
    assert len({line["certificate_sha256"] for line in lines}) == len(rows)


@pytest.mark.parametrize("own", ["", "{id}"])
def test_a_column_wins_over_the_profile(cli, batch, tmp_path, own):
    (batch / "p.yaml").write_text(f"settings: {{module_name: 'profile{own}', uart_baudrate: '9600'}}\n")
    (tmp_path / "list.csv").write_text("id,module_name\na,column\nb,\nc,column\n")
    done = run(cli, batch, tmp_path / "out", "--profile", batch / "p.yaml", devices=tmp_path / "list.csv")
    assert done.status == 0, done
    for name, said in (("a", "column"), ("b", f"profile{own and 'b'}"), ("c", "column")):
        settings = json.loads(cli("inspect", tmp_path / "out" / f"{name}.bin", "--json").out)["settings"]
        assert (settings["module_name"], settings["uart_baudrate"]) == (said, 9600)


def test_a_semicolon_and_a_byte_order_mark_are_a_spreadsheets_business(cli, batch, tmp_path):
    text = "\ufeffid;uart_baudrate\r\na;9600\r\n;;\r\nb;19200\r\n"
    (tmp_path / "list.csv").write_text(text, "utf-8", newline="")
    assert run(cli, batch, tmp_path / "out", devices=tmp_path / "list.csv").status == 0
    assert [line["id"] for line in batches.manifest(tmp_path / "out")] == ["a", "b"]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("id,uart_baudrat", "did you mean uart_baudrate"),
        ("id,client_cert", "did you mean client_cert.0 or client_cert.1"),
        ("id,macs,uart_baudrate", "did you mean mac"),
        ("id,baud", "did you mean uart_baudrate?"),
        ("id,tx-pin", "did you mean uart_tx_pin?"),
        ("id,nonsense_thing", "'nonsense_thing' means nothing"),
        ("name,uart_baudrate", "no column 'id'"),
        ("id,uart_baudrate,uart_baudrate", "two columns 'uart_baudrate'"),
        ("id,tx_control_pin", "only the older layout"),
        ("id,mac", "changes anything"),
    ],
)
def test_columns_that_mean_nothing(cli, batch, tmp_path, header, said):
    (tmp_path / "list.csv").write_text(f"{header}\n{','.join('a' * len(header.split(',')))}\n")
    done = run(cli, batch, tmp_path / "out", devices=tmp_path / "list.csv")
    assert done.status == 2
    assert said in done.err
    assert not (tmp_path / "out").exists()


def test_a_profile_names_a_column_that_is_not_there(cli, batch, tmp_path):
    (batch / "bad.yaml").write_text("settings: {module_name: '{seriel}'}\n")
    (tmp_path / "list.csv").write_text("id,uart_baudrate,mac\na,9600,\n")
    done = run(cli, batch, tmp_path / "out", "--profile", batch / "bad.yaml", devices=tmp_path / "list.csv")
    assert done.status == 2
    assert "bad.yaml uses {seriel}, which is no column of" in done.err


@pytest.mark.parametrize("text", ["", "\n\n", "id,uart_baudrate\n", "\x00\x00", "\xff\xfeid"])
def test_lists_that_are_none(cli, batch, tmp_path, text):
    (tmp_path / "list.csv").write_text(text, "latin-1")
    done = run(cli, batch, tmp_path / "out", devices=tmp_path / "list.csv")
    assert done.status == 2
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


# --- a folder that is there already ---------------------------------------------------------------


def test_a_folder_with_something_else_is_refused(cli, batch, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    done = run(cli, batch, tmp_path / "out")
    assert done.status == 2
    assert "mine.txt" in done.err
    assert batches.tree(tmp_path / "out").keys() == {"mine.txt"}


def test_a_second_run_needs_resume_and_the_same_inputs(cli, batch, tmp_path):
    output = tmp_path / "out"
    assert run(cli, batch, output).status == 0
    before = batches.tree(output)
    done = run(cli, batch, output)
    assert done.status == 2
    assert "--resume" in done.err
    for args, said in (
        (["--force"], "an option"),
        (["--unique-certificates"], "--unique-certificates"),
        (["--shard", "1/2"], "shards"),
    ):
        done = run(cli, batch, output, "--resume", *args)
        assert done.status == 2
        assert said in done.err
    other = tmp_path / "devices.csv"
    other.write_text((batch / "devices.csv").read_text() + "more,,,,\n")
    done = run(cli, batch, output, devices=other)
    assert done.status == 2
    assert "--devices" in done.err
    (tmp_path / "in.bin").write_bytes(builders.generate(batches.mfg_csv(), batches.SIZE))
    done = cli(
        "batch", "--input", tmp_path / "in.bin", "--devices", batch / "devices.csv", "-o", output, "--resume"
    )
    assert done.status == 2
    assert "--input" in done.err
    times = {path: path.stat().st_mtime_ns for path in output.glob("*.bin")}
    done = run(cli, batch, output, "--resume", "--json")
    assert (json.loads(done.out)["kept"], json.loads(done.out)["written"]) == (ROWS, 0)
    assert before == batches.tree(output)
    assert times == {path: path.stat().st_mtime_ns for path in output.glob("*.bin")}


def test_resume_makes_what_is_gone_or_failed_again(cli, tmp_path):
    folder = tmp_path / "b"
    folder.mkdir()
    batches.make(folder, ROWS)
    assert run(cli, folder, tmp_path / "whole").status == 0
    hidden = (folder / "keys/7.key").rename(folder / "keys/hidden")
    output = tmp_path / "out"
    assert run(cli, folder, output).status == 1
    failed = [line["id"] for line in batches.manifest(output) if line["status"] == "failed"]
    assert failed == ["dev-00007", "dev-00047"]
    hidden.rename(folder / "keys/7.key")
    (output / "dev-00003.bin").unlink()
    kept = (output / "dev-00002.bin").stat().st_mtime_ns
    done = run(cli, folder, output, "--resume", "--json")
    assert done.status == 0, done
    assert (json.loads(done.out)["kept"], json.loads(done.out)["written"]) == (ROWS - 3, 3)
    assert kept == (output / "dev-00002.bin").stat().st_mtime_ns
    assert batches.tree(output) == batches.tree(tmp_path / "whole")


def test_resume_accepts_a_list_whose_failed_rows_were_corrected(cli, batch, tmp_path):
    rows = rows_of(batch)
    wrong = [dict(row) for row in rows]
    wrong[4]["client_key.0"] = "keys/absent.key"
    wrong[9]["id"] = "dev-00002"
    listed = batches.write_list(batch / "corrected.csv", wrong)
    output = tmp_path / "out"
    assert run(cli, batch, output, devices=listed).status == 1
    batches.write_list(listed, [*rows, batches.device(ROWS)])
    kept = (output / "dev-00002.bin").stat().st_mtime_ns
    without = run(cli, batch, output, devices=listed)
    assert without.status == 2
    assert "--resume accepts" in without.err
    done = run(cli, batch, output, "--resume", "--json", devices=listed)
    assert done.status == 0, done
    assert (json.loads(done.out)["kept"], json.loads(done.out)["written"]) == (ROWS - 2, 3)
    assert kept == (output / "dev-00002.bin").stat().st_mtime_ns
    assert run(cli, batch, tmp_path / "whole", devices=listed).status == 0
    assert batches.tree(output) == batches.tree(tmp_path / "whole")
    assert cli("batch", "verify", output).status == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[2].update(module_name="other"), "row 3, dev-00002: has its output"),
        (lambda rows: rows[2].update(id="dev-2"), "row 3, dev-00002: has its output"),
        (lambda rows: rows.pop(4), "tells of row 70"),
        (lambda rows: rows.pop(), "tells of row 70"),
        (lambda rows: rows[4].update({"id": "dev-00007"}), "row 8, dev-00007: has its output already"),
    ],
)
def test_resume_refuses_a_list_with_other_changes(cli, batch, tmp_path, change, said):
    rows = rows_of(batch)
    rows[4]["client_key.0"] = "keys/absent.key"
    listed = batches.write_list(batch / "changed.csv", rows)
    output = tmp_path / "out"
    assert run(cli, batch, output, devices=listed).status == 1
    before = batches.tree(output)
    rows[4]["client_key.0"] = "keys/4.key"
    change(rows)
    batches.write_list(listed, rows)
    done = run(cli, batch, output, "--resume", devices=listed)
    assert done.status == 2
    assert said in done.err
    assert batches.tree(output) == before


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_corrected_row_may_change_its_shard(cli, batch, tmp_path, order):
    rows = rows_of(batch)
    good = [rows[number]["id"] for number in range(6)]
    for number in range(6):
        rows[number]["id"] = f"?{number}"
    listed = batches.write_list(batch / "parted.csv", rows)
    output = tmp_path / "out"
    statuses = [run(cli, batch, output, "--shard", f"{n}/2", devices=listed).status for n in order]
    assert 1 in statuses
    for number in range(6):
        rows[number]["id"] = good[number]
    batches.write_list(listed, rows)
    for number in order:
        done = run(cli, batch, output, "--shard", f"{number}/2", "--resume", devices=listed)
        assert done.status == 0, done
    assert cli("batch", "verify", output).status == 0
    fresh = tmp_path / "fresh"
    for number in order:
        assert run(cli, batch, fresh, "--shard", f"{number}/2", devices=listed).status == 0
    assert batches.tree(output) == batches.tree(fresh)


def test_a_torn_last_line_is_repaired(cli, batch, tmp_path):
    output = tmp_path / "out"
    assert run(cli, batch, output).status == 0
    whole = batches.tree(output)
    data = (output / "manifest.csv").read_bytes()
    for end in (0, 10, data.index(b"\n") + 1, len(data) // 2, len(data) - 1):
        (output / "manifest.csv").write_bytes(data[:end])
        assert cli("batch", "verify", output).status in (1, 2)
        assert run(cli, batch, output, "--resume").status == 0
        assert batches.tree(output) == whole


def test_a_manifest_of_another_list_is_refused(cli, batch, tmp_path):
    output = tmp_path / "out"
    assert run(cli, batch, output).status == 0
    lines = (output / "manifest.csv").read_text().splitlines(keepends=True)
    (output / "manifest.csv").write_text("".join([lines[0], *lines[2:]]))
    done = run(cli, batch, output, "--resume")
    assert done.status == 2
    assert "row 1" in done.err
    (output / "manifest.csv").write_text("a,b\n1,2\n")
    assert "not the manifest" in run(cli, batch, output, "--resume").err


def test_two_runs_do_not_share_a_folder(cli, batch, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    output = tmp_path / "out"
    assert run(cli, batch, output).status == 0
    work = output / ".manifest.work"
    work.mkdir()
    lock = os.open(work, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    done = run(cli, batch, output, "--resume")
    os.close(lock)
    assert done.status == 2
    assert "another run" in done.err
    assert run(cli, batch, output, "--resume").status == 0


# --- shards ---------------------------------------------------------------------------------------


def test_shards_are_disjoint_complete_and_independent_of_the_order(cli, batch, tmp_path):
    assert run(cli, batch, tmp_path / "whole").status == 0
    union = tmp_path / "union"
    for number in (3, 1, 2):
        assert run(cli, batch, union, "--shard", f"{number}/3").status == 0
    manifests = [batches.manifest(union / f"manifest-{n}-of-3.csv") for n in (1, 2, 3)]
    assert all(len(lines) > ROWS // 6 for lines in manifests)
    lines = sorted((line for each in manifests for line in each), key=lambda line: int(line["row"]))
    assert lines == batches.manifest(tmp_path / "whole")
    assert cli("batch", "verify", union).status == 0
    rows = rows_of(batch)[::-1]
    backwards = batches.write_list(batch / "backwards.csv", rows)
    assert run(cli, batch, tmp_path / "back", "--shard", "2/3", devices=backwards).status == 0
    ids = {line["id"] for line in batches.manifest(tmp_path / "back" / "manifest-2-of-3.csv")}
    assert ids == {line["id"] for line in manifests[1]}


def test_shards_of_several_machines_come_together(cli, batch, tmp_path):
    for number in (1, 2):
        assert run(cli, batch, tmp_path / str(number), "--shard", f"{number}/2").status == 0
    assert (tmp_path / "1/batch.json").read_bytes() == (tmp_path / "2/batch.json").read_bytes()
    alone = cli("batch", "verify", tmp_path / "1")
    assert alone.status == 1
    assert "manifest-2-of-2.csv: is missing" in alone.out
    hint = "give the folder of shard 2 as well, or make it with --shard 2/2"
    assert alone.err.endswith(f" devices\n  {hint}\n")
    assert "error: 1 problem in " in alone.err
    both = cli("batch", "verify", tmp_path / "1", tmp_path / "2", "--json")
    assert both.status == 0
    assert json.loads(both.out)["devices"] == ROWS


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_shards_that_are_none(cli, batch, tmp_path, text):
    done = run(cli, batch, tmp_path / "out", "--shard", text)
    assert done.status == 2
    assert "1/4" in done.err
    assert ("3 is more than 2" in done.err) is (text == "3/2")
    assert ("is not I/N" in done.err) is (text != "3/2")


# --- verify ---------------------------------------------------------------------------------------


def test_verify_finds_what_is_wrong(cli, batch, tmp_path):
    output = tmp_path / "out"
    assert run(cli, batch, output).status == 0
    assert cli("batch", "verify", output / "manifest.csv").status == 0
    (output / "dev-00001.bin").unlink()
    data = bytearray((output / "dev-00002.bin").read_bytes())
    data[100] ^= 1
    (output / "dev-00002.bin").write_bytes(data)
    (output / "stranger.bin").write_bytes(b"")
    lines = (output / "manifest.csv").read_text().splitlines()
    cells = lines[5].split(",")
    cells[0] = "DEV-00003"
    cells[6] = lines[4].split(",")[6]
    lines[5] = ",".join(cells)
    (output / "manifest.csv").write_text("\n".join([*lines[:-1], ""]))
    done = cli("batch", "verify", output, "--json")
    assert done.status == 1
    found = [f"{problem['id']}: {problem['message']}" for problem in json.loads(done.out)["problems"]]
    for kind, name in {
        "batch-file-missing": "dev-00001", "batch-file-differs": "dev-00002", "batch-file-extra": "dev-00069",
        "batch-repeated-id": "DEV-00003", "batch-repeated-mac": "DEV-00003", "batch-incomplete": "1 of 70",
    }.items():  # fmt: skip
        assert [text for text in found if text.startswith(kind) and name in text]
    people = cli("batch", "verify", output)
    assert people.status == 1
    assert "stranger.bin" in people.out
    assert "has another SHA-256; delete it and go on with --resume" in people.out


def test_a_missing_shard_is_no_failed_device(cli, batch, tmp_path):
    rows = rows_of(batch)
    rows[4]["client_key.0"] = "keys/absent.key"
    devices = batches.write_list(batch / "one-bad.csv", rows)
    output = tmp_path / "out"
    statuses = [run(cli, batch, output, "--shard", f"{n}/3", devices=devices).status for n in (1, 2)]
    done = cli("batch", "verify", output, "--allow-failed")
    assert done.status == 1
    assert "give the folder of shard 3 as well, or make it with --shard 3/3" in done.err
    assert "--allow-failed" not in done.err
    both = cli("batch", "verify", output).err
    assert ("1 device failed and has no output" in both) is (1 in statuses)
    assert "shard 3/3" in both


def test_quiet_tells_that_devices_failed(cli, batch, tmp_path):
    rows = rows_of(batch)[:3]
    rows[1]["client_key.0"] = "keys/absent.key"
    devices = batches.write_list(batch / "quiet.csv", rows)
    done = run(cli, batch, tmp_path / "out", devices=devices)
    assert (done.status, done.out) == (1, "")
    assert done.err == f"error: 1 device failed: see {tmp_path}/out/manifest.csv\n"


def test_a_kind_of_output_that_is_none(cli, batch, tmp_path):
    done = run(cli, batch, tmp_path / "out", "--emit", "mfgnvs")
    assert done.status == 2
    assert "'mfgnvs' is none of mfg_nvs, image, both" in done.err
    devices = batches.write_list(batch / "one.csv", [batches.device(0)])
    assert run(cli, batch, tmp_path / "out", "--emit", "mfg_nvs", devices=devices).status == 0
    done = cli("batch", "verify", tmp_path / "out")
    assert done.out == "1 device, 1 file: all as told, none twice.\n"


def test_verify_of_something_else(cli, tmp_path):
    assert cli("batch", "verify", tmp_path).status == 2
    (tmp_path / "manifest.csv").write_text("what,is,this\n")
    assert cli("batch", "verify", tmp_path).status == 2
    assert cli("batch", "verify", tmp_path / "absent").status == 2
    line = ",".join(["a", "../a.bin", "0" * 64, "ok", "", "1", "", "", ""])
    head = "id,file,sha256,status,error,row,mac,certificate_sha256,certificate_not_after"
    (tmp_path / "manifest.csv").write_text(f"{head}\n{line}\n")
    done = cli("batch", "verify", tmp_path)
    assert done.status == 1
    assert "outside" in done.out


def test_a_certificate_of_two_devices(cli, batch, tmp_path):
    done = run(cli, batch, tmp_path / "out", "--unique-certificates", "-j", "2")
    assert done.status == 1
    lines = batches.manifest(tmp_path / "out")
    assert [line["status"] for line in lines] == ["ok"] * batches.IDENTITIES + ["failed"] * (
        ROWS - batches.IDENTITIES
    )
    assert re.search(r"row 41: .* already that of row 1$", lines[40]["error"])
    incomplete = cli("batch", "verify", tmp_path / "out")
    assert incomplete.status == 1
    assert "dev-00040 has no output: row 41: " in incomplete.out
    assert "30 devices failed" in incomplete.err
    assert "--allow-failed" in incomplete.err
    allowed = cli("batch", "verify", tmp_path / "out", "--allow-failed")
    assert allowed.status == 0
    assert "30 devices failed and have no output" in allowed.out
    assert run(cli, batch, tmp_path / "all").status == 0
    assert cli("batch", "verify", tmp_path / "all").status == 0
    done = cli("batch", "verify", tmp_path / "all", "--unique-certificates")
    assert done.status == 1
    assert "batch-repeated-certificate" in done.out


def test_missing_options_and_stray_ones(cli, batch, tmp_path):
    assert "--devices" in cli("batch", "--input", batch / "in.bin").err
    assert cli("batch", "--json", "nonsense").status == 2
    assert cli("batch", "--force", "verify", tmp_path).status == 2
    assert run(cli, batch, tmp_path / "a" / "b").status == 2
    done = run(cli, batch, tmp_path / "out", devices=tmp_path)
    assert done.status == 2
    assert "regular file" in done.err

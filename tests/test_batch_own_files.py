"""What a manifest remembers of a row: the contents of its files, and what was questionable about them."""

from __future__ import annotations

import json
from pathlib import Path

import batches
import builders
import pytest

ROWS = 70


@pytest.fixture
def folder(tmp_path) -> Path:
    batches.make(tmp_path, ROWS)
    return tmp_path


def run(cli, folder: Path, *args: object):
    return cli("batch", "-in", folder / "in.bin", "--devices", folder / "devices.csv",
               "-o", folder / "out", *args)  # fmt: skip


def rows_of(numbers: range | list[int], **others: str) -> list[dict[str, str]]:
    return [batches.device(number, **others) for number in numbers]


def renewed(folder: Path, number: int) -> None:
    """Another certificate for the same key."""
    (folder / "keys" / f"{number}.crt").write_bytes(builders.certificate(number, days=(-2, 500)))


@pytest.mark.parametrize("args", [[], ["--shard", "1/1"], ["-j", "2"]])
def test_resume_refuses_files_that_have_changed(cli, folder, args):
    assert run(cli, folder, *args).status == 0
    assert all(len(line["files_digest"]) == 32 for line in batches.manifest(folder / "out"))
    (folder / "out/dev-00005.bin").unlink()
    before = batches.tree(folder / "out")
    renewed(folder, 3)
    done = run(cli, folder, "--resume", *args)
    assert done.status == 2
    assert "out/manifest.csv: row 4, dev-00003: has its output, and one of its files (" in done.err
    assert "keys/3.crt, keys/3.key" in done.err
    assert "delete its output to have it made again, or restore the file" in done.err
    assert batches.tree(folder / "out") == before
    for number in (3, 43):  # both have these files
        (folder / f"out/dev-{number:05}.bin").unlink()
    done = run(cli, folder, "--resume", "--json", *args)
    assert done.status == 0, done
    assert (json.loads(done.out)["written"], json.loads(done.out)["kept"]) == (3, ROWS - 3)
    assert cli("batch", "verify", folder / "out").status == 0
    made = (folder / "out/dev-00003.bin").read_bytes()
    assert made == batches.generated(folder, batches.device(3))[0]


def test_a_corrected_list_hides_no_changed_file(cli, folder):
    rows = rows_of(range(5))
    rows[4]["client_key.0"] = "keys/absent.key"
    batches.write_list(folder / "devices.csv", rows)
    assert run(cli, folder).status == 1
    batches.write_list(folder / "devices.csv", rows_of(range(5)))
    (folder / "keys/1.key").unlink()
    (folder / "keys/1.key").mkdir()
    done = run(cli, folder, "--resume")
    assert done.status == 2
    assert "row 2, dev-00001: has its output, and one of its files" in done.err
    assert "cannot be read any more: Is a directory" in done.err
    (folder / "keys/1.key").rmdir()
    (folder / "keys/1.key").write_bytes(builders.key_pem(1))
    assert run(cli, folder, "--resume").status == 0


def test_keys_need_not_stay_on_disk_once_their_outputs_are_made(cli, folder):
    rows = rows_of(range(5))
    rows[4]["client_key.0"] = "keys/later.key"
    batches.write_list(folder / "devices.csv", rows)
    assert run(cli, folder).status == 1
    for number in (0, 1, 2, 3):
        (folder / f"keys/{number}.key").unlink()
    (folder / "keys/later.key").write_bytes((folder / "keys/4.key").read_bytes())
    done = run(cli, folder, "--resume", "--json")
    assert done.status == 0, done.err
    assert (json.loads(done.out)["written"], json.loads(done.out)["kept"]) == (1, 4)


def test_files_that_a_profile_names_by_a_column_are_the_rows_own(cli, folder):
    for name in "ab":
        (folder / f"{name}.csv").write_text("\n".join(batches.GATTS) + "\n")
        (folder / f"{name}.pem").write_bytes(builders.certificate(92, ca=True))
    (folder / "p.yaml").write_text("pki: {mqtt_ca: '{id}.pem'}\ngatts: '{id}.csv'\n")
    (folder / "devices.csv").write_text("id,module_name\na,x\nb,y\n")
    assert run(cli, folder, "--profile", folder / "p.yaml").status == 0
    for name, data in (
        ("b.pem", builders.certificate(93, ca=True)),
        ("a.csv", b"0,16,0x2800,0x01,2,2,A003\n"),
    ):
        old = (folder / name).read_bytes()
        (folder / name).write_bytes(data)
        done = run(cli, folder, "--profile", folder / "p.yaml", "--resume")
        assert done.status == 2
        assert name in done.err
        (folder / name).write_bytes(old)
    assert run(cli, folder, "--profile", folder / "p.yaml", "--resume").status == 0


def test_a_row_without_files_has_no_digest(cli, folder):
    (folder / "devices.csv").write_text("id,module_name\na,x\n")
    assert run(cli, folder).status == 0
    assert [line["files_digest"] for line in batches.manifest(folder / "out")] == [""]


@pytest.mark.parametrize(
    "missing", [("files_digest", "warnings"), ("row_digest", "files_digest", "warnings")]
)
@pytest.mark.parametrize("unlink", [False, True])
def test_an_older_manifest_is_gone_on_with(cli, folder, missing, unlink):
    assert run(cli, folder).status == 0
    whole = batches.tree(folder / "out")
    lines = batches.manifest(folder / "out")
    kept = [name for name in lines[0] if name not in missing]
    text = "".join(",".join(row) + "\n" for row in [kept, *([line[name] for name in kept] for line in lines)])
    (folder / "out/manifest.csv").write_text(text)
    assert cli("batch", "verify", folder / "out").status == 0
    if unlink:
        (folder / "out/dev-00004.bin").unlink()
    assert run(cli, folder, "--resume").status == 0
    now = batches.tree(folder / "out")
    assert now.pop("manifest.csv") != whole.pop("manifest.csv")  # nobody knows what the others were made of
    assert now == whole
    assert bool(batches.manifest(folder / "out")[4]["files_digest"]) is unlink


def test_warnings_stand_in_the_manifest(cli, folder):
    for number in range(batches.IDENTITIES):
        if number % 4:
            soon = builders.certificate(number, days=(-2, 10))
            (folder / "keys" / f"{number}.crt").write_bytes(soon)
    assert run(cli, folder, "-j", "2").status == 0
    lines = batches.manifest(folder / "out")
    warned = [line for line in lines if line["warnings"]]
    assert len(warned) == sum(number % batches.IDENTITIES % 4 > 0 for number in range(ROWS))
    batches.write_list(folder / "devices.csv", [batches.device(9)])
    alone = cli("batch", "-in", folder / "in.bin", "--devices", folder / "devices.csv", "-o", folder / "one")
    told = batches.manifest(folder / "one")[0]["warnings"]
    assert f"column client_cert.0 {folder}/keys/9.crt" in told
    assert f"warning: row 1, dev-00009: {told}" in alone.err
    assert lines[9]["warnings"] == told


def test_many_warnings_are_counted(cli, folder):
    for number in range(batches.IDENTITIES):
        soon = builders.certificate(number, days=(-2, 10))
        (folder / "keys" / f"{number}.crt").write_bytes(soon)
    done = run(cli, folder)
    assert done.status == 0
    assert done.err.count("warning: row ") == 20
    last = (
        f"warning: … and {ROWS - 20} more devices with warnings: column warnings of {folder}/out/manifest.csv"
    )
    assert done.err.splitlines()[-1] == last
    for path in (folder / "out").glob("*.bin"):
        path.unlink()
    told = json.loads(run(cli, folder, "--resume", "--json").out)
    assert (len(told["warnings"]), told["devices_with_warnings"]) == (ROWS, ROWS)


def test_a_profiles_file_is_told_in_a_warning(cli, folder):
    (folder / "p.yaml").write_text("pki: {client_cert.0: 'keys/{no}.crt', client_key.0: 'keys/{no}.key'}\n")
    (folder / "devices.csv").write_text("id,no\na,1\nb,2\n")
    (folder / "keys/2.crt").write_bytes(builders.certificate(2, days=(-2, 10)))
    assert run(cli, folder, "--profile", folder / "p.yaml").status == 0
    told = batches.manifest(folder / "out")[1]["warnings"]
    assert f"client_cert.0 ({folder}/p.yaml: client_cert.0 {folder}/keys/2.crt)" in told


def test_a_repeated_certificate_is_named_by_its_column(cli, folder):
    batches.write_list(
        folder / "devices.csv", [batches.device(0), {**batches.device(0), "id": "x", "mac": ""}]
    )
    assert run(cli, folder, "--unique-certificates").status == 1
    error = batches.manifest(folder / "out")[1]["error"]
    assert error.startswith("row 2: client_cert.0, its certificate ")
    assert error.endswith("…, is already that of row 1")


def test_a_path_with_backslashes(cli, folder):
    batches.write_list(folder / "devices.csv", [batches.device(0, **{"client_cert.0": "keys\\0.crt"})])
    assert run(cli, folder).status == 1
    error = batches.manifest(folder / "out")[0]["error"]
    assert "keys\\0.crt: no such file (write / between the parts of the path)" in error


@pytest.mark.parametrize(
    ("column", "text", "profile"),
    [
        ("module_name", "n" * 200, ""),
        ("cfg1", "1,32,0x12345678,0x01,1,1,02", ""),
        ("name", "n" * 200, "settings: {module_name: '{name}'}\n"),
    ],
)
def test_a_questionable_value_is_told_of_every_device(cli, folder, column, text, profile):
    (folder / "p.yaml").write_text(profile or "settings: {uart_baudrate: 9600}\n")
    value = f'"{text}"'
    others = {"module_name": "x", "cfg1": f'"{batches.GATTS[1]}"', "name": "x"}
    (folder / "devices.csv").write_text(
        f"id,{column}\na,{others[column]}\nb,{value}\nc,{others[column]}\nd,{value}\n"
    )
    assert run(cli, folder, "--profile", folder / "p.yaml").status == 0
    a, b, c, d = (line["warnings"] for line in batches.manifest(folder / "out"))
    assert (a, c) == ("", "")
    assert b == d != ""
    (folder / "devices.csv").write_text(f"id,{column}\nb,{value}\n")
    assert cli("batch", "-in", folder / "in.bin", "--devices", folder / "devices.csv", "-o", folder / "one",
               "--profile", folder / "p.yaml").status == 0  # fmt: skip
    assert [line["warnings"] for line in batches.manifest(folder / "one")] == [b]

"""``nvs generate``, ``nvs dump`` and ``nvs check`` as a user calls them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from nvs_oracle import HEADER, official

from esp_at_tools.formats.nvs import NvsKeys, NvsPartition

ROWS = HEADER + (
    "server_ca,namespace,,\nserver_ca,file,binary,ca.pem\n"
    "factory_param,namespace,,\nversion,data,i8,4\nmodule_name,data,string,MINI-1\nuart_baudrate,data,i32,115200\n"
)
PEM = b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
KEY_PEM = b"-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----\n"
TYPES = {"u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "string", "blob"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a CSV and a file that it names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text(ROWS, encoding="utf-8")
    (tmp_path / "ca.pem").write_bytes(PEM)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_generate_writes_what_the_public_generator_writes(folder: Path, cli) -> None:
    result = cli("nvs", "generate", "in.csv", "out.bin", "0x4000")
    assert result.status == 0
    assert result.out.startswith("out.bin: 16384 bytes, NVS version 2; 4 keys in 2 namespaces, ")
    assert result.err == ""
    assert (folder / "out.bin").read_bytes() == official(folder, ROWS, 0x4000)


def test_generate_version_1_and_sizes_with_a_unit(folder: Path, cli) -> None:
    result = cli("nvs", "generate", "in.csv", "out.bin", "16K", "--nvs-version", "1", "--json")
    document = json.loads(result.out)
    assert document["version"] == 1
    assert document["entries"] == 4
    assert (folder / "out.bin").read_bytes() == official(folder, ROWS, 0x4000, version=1)


def test_generate_read_only_size_warns_and_is_cut_as_the_generator_cuts(folder: Path, cli) -> None:
    result = cli("nvs", "generate", "in.csv", "out.bin", "0x2000")
    assert result.status == 0
    assert "readonly" in result.err
    assert "4 keys in 2 namespaces" in result.out
    assert (folder / "out.bin").read_bytes() == official(folder, ROWS, 0x2000)
    assert (folder / "out.bin").stat().st_size == 0x1000


def test_generate_passes_warnings_on(folder: Path, cli) -> None:
    (folder / "in.csv").write_text(HEADER + "n,namespace,,\na,data,string,0,1\n", encoding="utf-8")
    result = cli("nvs", "generate", "in.csv", "out.bin", "0x3000", "--json")
    assert "warning: in.csv, line 3: key 'a': more cells than columns" in result.err
    assert len(json.loads(result.out)["warnings"]) == 1


def test_generate_with_new_keys_then_with_the_same(folder: Path, cli) -> None:
    result = cli("nvs", "generate", "in.csv", "a.bin", "0x4000", "--encrypt", "--new-keys", "keys.bin")
    assert result.status == 0
    assert "encrypted" in result.out
    keys = NvsKeys.from_bytes((folder / "keys.bin").read_bytes())
    assert mode(folder / "keys.bin") == 0o600
    assert cli("nvs", "generate", "in.csv", "b.bin", "0x4000", "--encrypt", "--keys", "keys.bin").status == 0
    expected = official(folder, ROWS, 0x4000, keys=keys)
    assert (folder / "a.bin").read_bytes() == (folder / "b.bin").read_bytes() == expected
    dumped = cli("nvs", "dump", "a.bin", "--keys", "keys.bin", "--json")
    assert json.loads(dumped.out)["entries"][1]["value"] == 4


@pytest.mark.skipif(os.name != "posix", reason="file modes")
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("n,namespace,,\na,file,binary,key.pem\n", 0o600),
        ("mqtt_key,namespace,,\nmqtt_key,data,hex2bin,3082\n", 0o600),
        ("n,namespace,,\na,file,binary,ca.pem\n", 0o644),
    ],
)
def test_generate_keeps_private_keys_private(folder: Path, cli, row: str, expected: int) -> None:
    (folder / "key.pem").write_bytes(KEY_PEM)
    (folder / "in.csv").write_text(HEADER + row, encoding="utf-8")
    before = os.umask(0o022)
    try:
        assert cli("nvs", "generate", "in.csv", "out.bin", "0x3000").status == 0
    finally:
        os.umask(before)
    assert mode(folder / "out.bin") == expected


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["none.csv", "out.bin", "0x3000"], "none.csv: no such file", "CSV"),
        ([".", "out.bin", "0x3000"], "is a folder", "CSV"),
        (["in.csv", "none/out.bin", "0x3000"], "folder does not exist", "create none"),
        (["in.csv", ".", "0x3000"], "existing folder", "file"),
        (["in.csv", "in.csv", "0x3000"], "is the CSV itself", "another"),
        (["in.csv", "out.bin", "0x3001"], "SIZE: a partition of 12289 bytes is not", "0x3000"),
        (["in.csv", "out.bin", "0"], "0 bytes is not", "0x3000"),
        (["in.csv", "out.bin", "large"], "'large' is not a number", "0x1000"),
        (["in.csv", "out.bin", "1024M"], "too large", "at most"),
        (["in.csv", "out.bin"], "SIZE", "--help"),
        (["in.csv", "out.bin", "0x3000", "--nvs-version", "3"], "3", "--help"),
        (["in.csv", "out.bin", "0x3000", "--encrypt"], "needs either --keys or --new-keys", "--keys FILE"),
        (["in.csv", "out.bin", "0x3000", "--keys", "k"], "no use without --encrypt", "--encrypt"),
        (["in.csv", "out.bin", "0x3000", "--new-keys", "k"], "no use without --encrypt", "--encrypt"),
        (["in.csv", "out.bin", "0x3000", "--encrypt", "--keys", "k", "--new-keys", "k"], "either", "--keys"),
        (["in.csv", "out.bin", "0x3000", "--encrypt", "--keys", "none"], "none: no such file", "keys"),
        (["in.csv", "out.bin", "0x3000", "--encrypt", "--keys", "ca.pem"], "ca.pem: a keys file of", "4096"),
        (["in.csv", "out.bin", "0x3000", "--encrypt", "--new-keys", "ca.pem"], "ca.pem: exists", "--keys"),
        (["in.csv", "out.bin", "0x3000", "--encrypt", "--new-keys", "out.bin"], "is the output too", "own"),
        (["in.csv", "out.bin", "0x3000", "--encrypt", "--new-keys", "none/k"], "does not exist", "create"),
        (["bad.csv", "out.bin", "0x3000"], "bad.csv, line 3, key 'a': the value does", "0 to 255"),
        (["latin.csv", "out.bin", "0x3000"], "latin.csv, line 1: is not UTF-8", "UTF-8"),
        (["missing.csv", "out.bin", "0x3000"], "missing.csv, line 3, key 'a': none.pem: no", "existing"),
        (["full.csv", "out.bin", "0x3000"], "full.csv: key 'a' does not fit: 390 entries", "0x5000"),
    ],
)  # fmt: skip
def test_generate_refuses_and_writes_nothing(
    folder: Path, cli, arguments: list[str], message: str, hint: str
) -> None:
    (folder / "bad.csv").write_text(HEADER + "n,namespace,,\na,data,u8,256\n", encoding="utf-8")
    (folder / "missing.csv").write_text(HEADER + "n,namespace,,\na,file,binary,none.pem\n", encoding="utf-8")
    (folder / "latin.csv").write_bytes(b"key,typ\xe9\n")
    (folder / "full.csv").write_text(
        f"{HEADER}n,namespace,,\na,data,blob_fill(12288;0x00),\n", encoding="utf-8"
    )
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = cli("nvs", "generate", *arguments)
    assert result.status == 2
    first, _, rest = result.err.partition("\n")
    assert first.startswith("error: ")
    assert message in first
    assert hint in rest
    assert result.out == ""
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_generate_leaves_an_output_that_exists_alone_on_an_error(folder: Path, cli) -> None:
    (folder / "out.bin").write_bytes(b"old")
    (folder / "in.csv").write_text(ROWS + "x,data,u8,-1\n", encoding="utf-8")
    assert cli("nvs", "generate", "in.csv", "out.bin", "0x3000").status == 2
    assert (folder / "out.bin").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.csv", "in.csv", "0x4000"], "in.csv: is the CSV itself"),
        (["in.csv", "link", "0x4000"], "link: is the CSV itself (in.csv)"),
        (["in.csv", "ca.pem", "0x4000"], "ca.pem: is a file that in.csv names"),
        (["in.csv", "./sub/../ca.pem", "0x4000"], "ca.pem: is a file that in.csv names (ca.pem)"),
        (["in.csv", "keys", "0x4000", "--encrypt", "--keys", "keys"], "keys: is the keys of --keys"),
        (["in.csv", "out.bin", "0x4000", "--encrypt", "--new-keys", "ca.pem"], "ca.pem: exists"),
    ],
)
def test_generate_does_not_replace_what_it_reads(
    folder: Path, cli, arguments: list[str], message: str
) -> None:
    (folder / "sub").mkdir()
    (folder / "link").symlink_to("in.csv")
    (folder / "keys").write_bytes(NvsKeys.generate().to_bytes())
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    result = cli("nvs", "generate", *arguments)
    assert result.status == 2
    assert message in result.err.splitlines()[0]
    assert "another" in result.err.splitlines()[1]
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_dump_json_has_the_shape_of_the_contract(folder: Path, cli) -> None:
    text = HEADER + (
        "n,namespace,,\ni,data,i64,-5\ns,data,string,é\nt,data,string_base64,/w==\nb,data,hex2bin,0aFF\n"
    )
    (folder / "x.bin").write_bytes(NvsPartition.from_csv(text, 0x3000).to_bytes())
    for arguments in (["--json"], ["--format", "json"], ["--format", "json", "--json"]):
        result = cli("nvs", "dump", "x.bin", *arguments)
        assert result.status == 0
        assert json.loads(result.out) == {
            "schema": 1,
            "entries": [
                {"namespace": "n", "key": "i", "type": "i64", "value": -5},
                {"namespace": "n", "key": "s", "type": "string", "value": "é"},
                {"namespace": "n", "key": "t", "type": "string", "value": "\udcff"},
                {"namespace": "n", "key": "b", "type": "blob", "value": "0aff"},
            ],
            "problems": [],
        }


def test_dump_csv_makes_the_same_image_again(folder: Path, cli) -> None:
    cli("nvs", "generate", "in.csv", "out.bin", "0x4000")
    result = cli("nvs", "dump", "out.bin", "--format", "csv")
    assert result.status == 0
    (folder / "again.csv").write_text(result.out, encoding="utf-8")
    cli("nvs", "generate", "again.csv", "again.bin", "0x4000")
    image = (folder / "out.bin").read_bytes()
    assert (folder / "again.bin").read_bytes() == image == official(folder, result.out, 0x4000)


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
def test_dump_writes_a_file_that_is_private_if_a_key_is_in_it(folder: Path, cli) -> None:
    (folder / "key.pem").write_bytes(KEY_PEM)
    (folder / "open.csv").write_text(HEADER + "n,namespace,,\ni,data,u8,5\n")
    (folder / "keys.csv").write_text(HEADER + "n,namespace,,\nkey,file,string,key.pem\n")
    for name, mode in (("open", 0o644), ("keys", 0o600)):
        assert cli("nvs", "generate", f"{name}.csv", f"{name}.bin", "0x4000").status == 0
        for form in ("csv", "json"):
            target = folder / f"{name}.{form}.out"
            result = cli("nvs", "dump", f"{name}.bin", "--format", form, "-o", target)
            assert result.status == 0, result
            assert target.read_text("utf-8") == cli("nvs", "dump", f"{name}.bin", "--format", form).out
            assert stat.S_IMODE(target.stat().st_mode) == mode
    told = cli("nvs", "dump", "keys.bin", "--json", "--output", "other.json")
    assert json.loads(told.out) == {
        "schema": 1, "output": "other.json", "format": "json", "private_keys": True,
    }  # fmt: skip
    before = (folder / "keys.bin").read_bytes()
    for arguments in (["-o", "keys.bin", "--format", "csv"], ["-o", "table.txt"], ["-o", "new/", "--json"]):
        assert cli("nvs", "dump", "keys.bin", *arguments).status == 2
    assert cli("nvs", "generate", "keys.csv", "new/", "0x4000").status == 2
    assert not (folder / "new").exists()
    assert before == (folder / "keys.bin").read_bytes()
    assert not (folder / "table.txt").exists()


def test_dump_table_shows_what_values_are_not_secrets(
    folder: Path, cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (folder / "key.pem").write_bytes(KEY_PEM)
    text = HEADER + (
        "n,namespace,,\ni,data,u8,5\ns,data,string,text\nesc,data,string,\x1b[31m\ncert,file,binary,ca.pem\n"
        "key,file,string,key.pem\nblob,data,binary,private bytes\n"
        f"long,data,string,{'x' * 300}\nhttps_key,namespace,,\nhttps_key.0,data,hex2bin,308201020304\n"
    )
    (folder / "x.csv").write_text(text, encoding="utf-8")
    assert cli("nvs", "generate", "x.csv", "x.bin", "0x4000").status == 0
    result = cli("nvs", "dump", "x.bin")
    assert result.status == 0
    for shown in (
        *(
            "text",
            "\\x1b[31m",
            f"PEM certificate, {len(PEM)} bytes",
            f"PEM private key, {len(KEY_PEM)} bytes",
        ),
        *("blob, 13 bytes", "(300 bytes)", "DER private key, 6 bytes"),
    ):
        assert shown in result.out
    for hidden in ("\x1b", "c2VjcmV0", "private bytes", "BEGIN"):
        assert hidden not in result.out
    *table, last = result.out.splitlines()
    assert max(map(len, table)) <= 80
    assert last.startswith("x.bin: 16384 bytes, NVS version 2; 8 keys in 2 namespaces")


def test_dump_warns_and_check_fails_where_the_firmware_loses_something(folder: Path, cli) -> None:
    image = bytearray(
        NvsPartition.from_csv(HEADER + "n,namespace,,\na,data,string,value\n", 0x3000).to_bytes()
    )
    image[64 + 2 * 32] ^= 1  # the string's first letter
    (folder / "x.bin").write_bytes(image)
    result = cli("nvs", "dump", "x.bin", "--json")
    assert result.status == 0
    document = json.loads(result.out)
    assert document["entries"] == []
    assert [problem["level"] for problem in document["problems"]] == ["error"]
    assert set(document["problems"][0]) == {"level", "page", "entry", "message"}
    assert "warning: page 0, entry 1: n/a (string)" in result.err
    result = cli("nvs", "check", "x.bin")
    assert result.status == 1
    assert result.out.startswith("error: page 0, entry 1: ")
    result = cli("nvs", "check", "x.bin", "--json")
    assert result.status == 1
    assert json.loads(result.out)["problems"] == document["problems"]


def test_check_says_once_what_it_says_of_many_pages(folder: Path, cli) -> None:
    good = NvsPartition.from_csv(HEADER + "n,namespace,,\na,data,string,value\n", 0x3000).to_bytes()
    bad = b"\xf0" * 4096
    (folder / "x.bin").write_bytes(bad * 300 + good + bad * 2)
    result = cli("nvs", "check", "x.bin")
    assert result.status == 1
    told = [line for line in result.out.splitlines() if line.startswith("error: page")]
    assert [line.split(": ")[1] for line in told] == ["pages 0 to 299, each", "pages 303 to 304, each"]
    document = json.loads(cli("nvs", "check", "x.bin", "--json").out)
    assert [problem["page"] for problem in document["problems"]] == [*range(300), 303, 304]
    warned = cli("nvs", "dump", "x.bin").err
    assert "warning: pages 0 to 299, each: " in warned
    assert "1 key in 1 namespace, " in cli("nvs", "dump", "x.bin").out


def test_a_csv_without_keys_is_warned_of(folder: Path, cli) -> None:
    for text in ("", HEADER, HEADER + "n,namespace,,\n"):
        (folder / "none.csv").write_text(text, encoding="utf-8")
        result = cli("nvs", "generate", "none.csv", "out.bin", "0x3000")
        assert (result.status, result.err) == (
            0,
            "warning: none.csv: has no keys, so that the partition is empty\n",
        )


@pytest.mark.usefixtures("folder")
def test_check_of_a_sound_image(cli) -> None:
    cli("nvs", "generate", "in.csv", "out.bin", "0x4000")
    result = cli("nvs", "check", "out.bin")
    assert result.status == 0
    assert result.out.endswith("used; no errors\n")
    document = json.loads(cli("nvs", "check", "out.bin", "--json").out)
    assert document["problems"] == []
    assert document["opened"]
    assert document["keys"] == 4


def test_a_flood_of_problems_is_cut_short(folder: Path, cli) -> None:
    (folder / "x.bin").write_bytes((b"\x55" * 4096 + b"\xff" * 4096) * 40)
    result = cli("nvs", "dump", "x.bin")
    assert result.status == 0
    assert len(result.err.splitlines()) == 21
    assert "20 more" in result.err.splitlines()[-1]
    assert len(cli("nvs", "check", "x.bin").out.splitlines()) == 41


@pytest.mark.usefixtures("folder")
def test_an_encrypted_image_without_its_keys_is_recognised(cli) -> None:
    cli("nvs", "generate", "in.csv", "out.bin", "0x4000", "--encrypt", "--new-keys", "keys.bin")
    result = cli("nvs", "dump", "out.bin")
    assert result.status == 0
    assert "it looks encrypted; give its keys with --keys" in result.err
    assert cli("nvs", "check", "out.bin").status == 1
    assert cli("nvs", "check", "out.bin", "--keys", "keys.bin").status == 0


def _flash_image() -> bytes:
    image = bytearray(b"\xff" * 0x10000)
    image[0x1000], image[0x8000:0x8002] = 0xE9, b"\xaa\x50"
    return bytes(image)


@pytest.mark.parametrize("command", ["dump", "check"])
@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (_flash_image(), "is a full flash image", "mfg_nvs.bin"),
        (b"\xe9\x05\x02\x20" + bytes(5000), "is a bootloader alone, not an NVS image", "mfg_nvs.bin"),
        (b"\xe9\x05\x02\x20" + b"\xff" * 5000, "is an application or a bootloader", "mfg_nvs.bin"),
        (b"\xaa\x50\x01\x02" + bytes(3068), "is a partition table", "partition show"),
        (b"PK\x03\x04" + bytes(5000), "is a zip archive", "unpack"),
        (b"\x7fELF" + bytes(5000), "is an ELF file", "mfg_nvs.bin"),
        (b"\xfc\xfc\x03" + bytes(4093), "is a factory_param", "inspect"),
        (b"# comment\nkey,type,encoding,value\n", "is a CSV", "nvs generate"),
        (b"", "0 bytes", "4096"),
        (b"\xe9", "1 bytes", "4096"),
        (bytes(4095), "4095 bytes", "4096"),
    ],
)
def test_what_is_no_nvs_image_is_named(
    folder: Path, cli, command: str, data: bytes, message: str, hint: str
) -> None:
    (folder / "x.bin").write_bytes(data)
    result = cli("nvs", command, "x.bin")
    assert result.status == 2
    assert result.out == ""
    assert message in result.err.splitlines()[0]
    assert "x.bin" in result.err
    assert hint in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dump", "none.bin"], "none.bin: no such file"),
        (["dump", "out.bin", "--format", "xml"], "xml"),
        (["dump", "out.bin", "--format", "csv", "--json"], "contradict"),
        (["dump", "out.bin", "--keys", "none"], "none: no such file"),
        (["dump", "out.bin", "--keys", "ca.pem"], "ca.pem: a keys file"),
        (["dump", "out.bin", "--keys", "keys.bin"], "is not encrypted"),
        (["dump", "secret.bin", "--keys", "other.bin"], "keys do not fit"),
        (["check", "none.bin"], "none.bin: no such file"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_wrong_usage(folder: Path, cli, arguments: list[str], message: str) -> None:
    cli("nvs", "generate", "in.csv", "out.bin", "0x4000")
    cli("nvs", "generate", "in.csv", "secret.bin", "0x4000", "--encrypt", "--new-keys", "keys.bin")
    (folder / "other.bin").write_bytes(NvsKeys.generate().to_bytes())
    result = cli("nvs", *arguments)
    assert result.status == 2
    assert message in result.err


def test_dump_reads_what_the_firmware_reads(shared: Path, cli) -> None:
    """One worn image through the whole program; the reader's own tests compare all of them."""
    path = min((shared / "nvs" / "worn").glob("*.bin"))
    document = json.loads(cli("nvs", "dump", path, "--json").out)
    lines = [line.split("\t") for line in path.with_suffix(".txt").read_text("latin-1").split("\n") if line]
    assert [(entry["namespace"], entry["key"], entry["type"]) for entry in document["entries"]] == [
        tuple(line[:3]) for line in lines
    ]
    assert {entry["type"] for entry in document["entries"]} <= TYPES


def test_the_release_folder_paths_are_relative_to_the_current_folder(
    shared: Path, cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shared / "esp-at" / "v5.0.1.0"
    found = min(root.glob("expected/*/*/mfg_nvs.csv"))
    monkeypatch.chdir(root)
    image = found.with_suffix(".bin").read_bytes()
    assert cli("nvs", "generate", found, tmp_path / "x.bin", str(len(image))).status == 0
    assert (tmp_path / "x.bin").read_bytes() == image


def test_generating_without_encryption_loads_nothing_heavy(folder: Path, process) -> None:
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONPROFILEIMPORTTIME": "1",
    }
    result = process("nvs", "generate", "in.csv", "out.bin", "0x4000", cwd=folder, env=environment)
    assert result.status == 0
    loaded = {line.rpartition("|")[2].strip() for line in result.err.splitlines()}
    assert "esp_at_tools.formats.nvs.writer" in loaded
    assert not loaded & {"cryptography", "esptool", "jinja2", "yaml", "rich"}

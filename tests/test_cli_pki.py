"""`pki check` as people and scripts call it."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import builders
import pki_maker as made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pki_folders import NOW, checked, fill

from esp_at_tools.cli.pki_check import parse_moment
from esp_at_tools.errors import InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.formats.pki_list import PkiList
from esp_at_tools.pki.grouping import group_files, group_folder

LEAF, KEY, ROOT = made.pem(made.issue()), made.key_pem(), made.pem(made.root())


def ids(document: dict) -> list[tuple[str, str]]:
    return [(each["about"], each["id"]) for each in document["findings"]]


# --- files and folders -----------------------------------------------------------------------------


def test_files_of_a_set_by_name(cli, tmp_path):
    folder = fill(
        tmp_path, {"mqtt_ca.pem": ROOT, "mqtt_client.crt": LEAF, "mqtt_key.key": KEY, "notes.txt": b"x"}
    )
    document = checked(cli, folder)
    assert [(item["name"], item["role"], item["key_matches_certificate"]) for item in document["items"]] == [
        ("mqtt_ca", "mqtt", None), ("mqtt_cert", "mqtt", True), ("mqtt_key", "mqtt", True),
    ]  # fmt: skip
    assert document["items"][1]["chain"] == "trusted"
    assert document["items"][1]["checked_by"] == ["mqtt_ca"]
    assert document["summary"] == {"error": 0, "warning": 0, "info": 0}
    assert document["at"] == "2026-06-01T00:00:00+00:00"
    (room,) = [each["room"] for each in document["inputs"]]
    assert (room["items"], room["size"]) == (3, len(ROOT) + len(LEAF) + len(KEY))
    assert room["nvs_entries"] == sum(3 + -(-len(data) // 32) for data in (ROOT, LEAF, KEY))


def test_what_is_passed_over_is_counted(cli, tmp_path):
    folder = fill(tmp_path / "mine", {"mqtt_ca.pem": ROOT, "notes.txt": b"x", "profile.yaml": b"pki: {}"})
    assert [each["passed_over"] for each in checked(cli, folder)["inputs"]] == [1]
    assert "1 file is no certificate or key" in cli("pki", "check", folder, "--at", NOW).out


def test_the_server_of_a_broker_s_folder(cli, tmp_path):
    """``server.key`` is named for an item as in raw_data; its certificate beside it is no other set."""
    server = made.pem(made.issue("server", own="p256:server"))
    files = {"ca.crt": ROOT, "server.crt": server, "server.key": made.key_pem("p256:server")}
    document = checked(cli, fill(tmp_path, files))
    assert {item["name"]: item["chain"] for item in document["items"] if item["kind"] == "certificate"} == {
        "server_cert": "trusted"
    }
    assert document["summary"]["warning"] == document["summary"]["error"] == 0


def test_files_that_belong_together_by_content(cli, tmp_path):
    other = made.pem(made.issue("other", own="p256:o"))
    files = {"a.pem": LEAF, "b.pem": KEY, "c.pem": other, "d.pem": made.key_pem("p256:o"), "root.pem": ROOT}
    folder = fill(tmp_path, files)
    document = checked(cli, *sorted(folder.iterdir()))
    roles = {Path(item["name"]).name: Path(item["role"]).name for item in document["items"]}
    assert roles == {
        "a.pem": "a.pem",
        "b.pem": "a.pem",
        "c.pem": "c.pem",
        "d.pem": "c.pem",
        "root.pem": "root.pem",
    }
    assert {item["chain"] for item in document["items"] if item["kind"] == "certificate"} == {"trusted"}
    assert document["findings"] == []


@pytest.mark.parametrize(
    "names", [("x-certificate.pem.crt", "x-private.pem.key"), ("device.crt", "device.key"), ("one", "two")]
)
def test_a_key_that_does_not_match_is_found(cli, tmp_path, names):
    folder = fill(tmp_path, dict(zip(names, (LEAF, made.key_pem("p256:o")), strict=True)))
    assert ids(checked(cli, folder, status=1)) == [(names[0], "pki-mismatch")]


def test_aws_folder(cli, tmp_path):
    files = {
        "AmazonRootCA1.pem": made.pem(made.root("amazon", "p256:a")),
        "ab-certificate.pem.crt": LEAF,
        "ab-private.pem.key": KEY,
        "ab-public.pem.key": made.public_pem(),
        "policy.json": b"{}",
    }
    document = checked(cli, fill(tmp_path, files))
    assert ids(document) == [
        ("ab-public.pem.key", "pki-not-used"),
        ("ab-certificate.pem.crt", "pki-chain-unknown"),
    ]
    done = cli("pki", "check", tmp_path / "ab-public.pem.key")
    assert (done.status, "is a public key" in done.out) == (1, True)


def test_one_file_alone_is_no_incomplete_set(cli, tmp_path):
    for name, data in (("x.pem", LEAF), ("x.key", KEY), ("x.der", made.der(made.issue()))):
        fill(tmp_path, {name: data})
        assert [
            found for found in ids(checked(cli, tmp_path / name)) if found[1] == "pki-incomplete-set"
        ] == []
    fill(tmp_path, {"mqtt_cert.pem": LEAF})
    assert ids(checked(cli, tmp_path / "mqtt_cert.pem")) == [("mqtt", "pki-incomplete-set")]


def test_damage_in_a_folder_is_an_error(cli, tmp_path):
    folder = fill(tmp_path, {"cut.pem": LEAF[:200], "wss_key.0.pem": LEAF, "readme": b"0 hello"})
    document = checked(cli, folder, status=1)
    errors = [each["about"] for each in document["findings"] if each["level"] == "error"]
    assert errors == ["cut.pem", "wss_key.0"]


def test_several_folders_are_several_sets(cli, tmp_path):
    for name, data in (("a", LEAF), ("b", made.pem(made.issue(days=(-9, -1))))):
        fill(tmp_path / name, {"mqtt_cert.pem": data, "mqtt_key.pem": KEY})
    document = checked(cli, tmp_path / "a", tmp_path / "b", status=1)
    assert [Path(each["input"]).name for each in document["findings"] if each["level"] == "error"] == ["b"]


def test_partitions_of_the_older_layout(cli, tmp_path):
    data = PkiList().set(0, LEAF).set(1, made.pem(made.issue(days=(-9, -1)))).to_bytes().ljust(8192, b"\xff")
    fill(tmp_path, {"client_cert.bin": data, "other.bin": data})
    document = checked(cli, tmp_path / "client_cert.bin", status=1)
    assert [item["name"] for item in document["items"]] == ["client_cert.0", "client_cert.1"]
    assert ("client_cert.1", "pki-expired") in ids(document)
    done = cli("pki", "check", tmp_path / "other.bin")
    assert "is a partition of firmware before v3.0" in done.out
    image = fill(tmp_path / "i", {"i.bin": builders.image()}) / "i.bin"
    refused = cli(
        "modify-bin", "--input", image, "--in-place", "--set", f"mqtt_ca=@{tmp_path / 'client_cert.bin'}"
    )
    assert (refused.status, "has a header before each item" in refused.err) == (2, True)


# --- firmware ----------------------------------------------------------------------------------------


def image_with(tmp_path: Path, **items: bytes) -> Path:
    path = fill(tmp_path, {"image.bin": builders.image()}) / "image.bin"
    firmware = Firmware.open(path)
    for name, data in items.items():
        firmware.set_pki(name, data)
    firmware.write_in_place()
    return path


def test_firmware(cli, tmp_path):
    path = image_with(tmp_path, mqtt_ca=ROOT, mqtt_cert=LEAF, mqtt_key=made.key_pem("p256:o"))
    document = checked(cli, path, status=1)
    assert ids(document) == [("mqtt", "pki-mismatch")]
    assert [item["key_matches_certificate"] for item in document["items"]] == [None, False, False]
    assert document["inputs"][0]["kind"] == "image"
    same = {(each["id"], each["level"]) for each in json.loads(cli("inspect", path, "--json").out)["checks"]}
    assert ("pki-mismatch", "error") in same


def test_a_firmware_with_none_says_so(cli, tmp_path):
    done = cli("pki", "check", image_with(tmp_path))
    assert (done.status, "holds no certificates or keys" in done.err) == (2, True)


def test_a_lone_partition(cli, tmp_path):
    extra = "mqtt_ca,namespace,,\nmqtt_ca,file,binary,ca.pem\n"
    fill(tmp_path, {"ca.pem": ROOT})
    data = builders.generate(builders.mfg_csv(extra), folder=tmp_path)
    fill(tmp_path, {"mfg_nvs.bin": data})
    assert [item["name"] for item in checked(cli, tmp_path / "mfg_nvs.bin")["items"]] == ["mqtt_ca"]


SDKCONFIG = b"CONFIG_MBEDTLS_ECP_C=y\n# CONFIG_MBEDTLS_ECP_DP_SECP256R1_ENABLED is not set\n"


def test_the_sdkconfig_of_a_release_counts(cli, tmp_path):
    extra = "mqtt_ca,namespace,,\nmqtt_ca,file,binary,ca.pem\n"
    fill(tmp_path, {"ca.pem": ROOT})
    data = builders.generate(builders.mfg_csv(extra), folder=tmp_path)
    release = builders.release(tmp_path / "release", data, builders.mfg_csv())
    assert ids(checked(cli, release)) == []
    (release / "sdkconfig").write_bytes(SDKCONFIG)
    archive = builders.zipped(release, tmp_path / "release.zip", "top/")
    alone = release / "factory" / "factory_MINI-1.bin"
    for path in (release, archive, alone, release / "customized_partitions" / "mfg_nvs.bin"):
        document = checked(cli, path, status=1)
        assert ids(document) == [("mqtt_ca", "pki-unsupported-key")], path
        assert "compiled without" in document["findings"][0]["message"]
    report = json.loads(cli("inspect", release, "--json").out)["checks"]
    assert "pki-unsupported-key" in {each["id"] for each in report}
    (release / "sdkconfig").write_bytes(b"nonsense\n")
    assert ids(checked(cli, release)) == [("sdkconfig", "pki-sdkconfig")]


def test_items_that_the_firmware_does_not_read(cli, tmp_path):
    extra = "mqtt_ca,namespace,,\nmqtt_ca,file,binary,ca.pem\n"
    fill(tmp_path, {"ca.pem": ROOT})
    data = builders.generate(builders.mfg_csv(extra), folder=tmp_path)
    release = builders.release(tmp_path / "release", data, builders.mfg_csv())
    config = b"CONFIG_MBEDTLS_ECP_C=y\nCONFIG_MBEDTLS_ECP_DP_SECP256R1_ENABLED=y\nCONFIG_AT_ENABLE=y\n"
    for switch, found in (
        (b"# CONFIG_AT_MQTT_CLIENT_AUTH_BROKER is not set\n", [("sdkconfig", "pki-unread")]),
        (b"CONFIG_AT_MQTT_CLIENT_AUTH_BROKER=y\n", []),
    ):
        (release / "sdkconfig").write_bytes(config + switch)
        archive = builders.zipped(release, tmp_path / "release.zip", "top/")
        for path in (release, archive, release / "customized_partitions" / "mfg_nvs.bin"):
            document = checked(cli, path)
            assert ids(document) == found, path
            assert not found or "does not read mqtt_ca" in document["findings"][0]["message"]


def test_an_sdkconfig_beside_an_image_that_is_of_something_else(cli, tmp_path):
    extra = "mqtt_ca,namespace,,\nmqtt_ca,file,binary,ca.pem\n"
    fill(tmp_path, {"ca.pem": ROOT, "sdkconfig": b'CONFIG_IDF_TARGET="esp32"\n'})
    fill(tmp_path, {"mfg_nvs.bin": builders.generate(builders.mfg_csv(extra), folder=tmp_path)})
    document = checked(cli, tmp_path / "mfg_nvs.bin")
    assert ids(document) == [("sdkconfig", "pki-sdkconfig")]
    assert document["inputs"][0]["sdkconfig"] is None


def test_a_given_sdkconfig(cli, tmp_path):
    fill(tmp_path, {"ca.pem": ROOT, "sdk": SDKCONFIG, "bad": b"CONFIG_X=y\n", "worse": b"\xff"})
    assert ids(checked(cli, tmp_path / "ca.pem", "--sdkconfig", tmp_path / "sdk", status=1))
    for name in ("bad", "worse", "none"):
        done = cli("pki", "check", tmp_path / "ca.pem", "--sdkconfig", tmp_path / name)
        assert (done.status, name in done.err) == (2, True)


def test_official_firmware(cli, shared):
    for folder in sorted((shared / "firmware").glob("ESP*")):
        done = cli("pki", "check", folder, "--at", "2026-06-01", "--json")
        document = json.loads(done.out)
        assert (done.status, document["summary"]["error"], document["summary"]["warning"]) == (0, 0, 0), (
            folder
        )
        assert len(document["items"]) >= 9
        later = cli("pki", "check", folder, "--at", "2040-01-01", "--json")
        assert later.status == 1


# --- dates, wording, misuse --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-31", (2027, 1, 31)),
        ("2027-01-31T12:30:00", (2027, 1, 31, 12, 30)),
        ("2027-01-31 12:30", (2027, 1, 31, 12, 30)),
        ("2027-01-31T12:30:00Z", (2027, 1, 31, 12, 30)),
        ("2027-01-31T00:30:00+02:00", (2027, 1, 30, 22, 30)),
    ],
)
def test_dates(text, moment):
    assert parse_moment(text) == datetime(*moment, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text", ["31.1.2027", "2027-02-30", "tomorrow", "", "0001-01-01T00:00:00+10:00", "2027"]
)
def test_no_dates(text):
    with pytest.raises(InputError, match="is not a date"):
        parse_moment(text)


def test_validity_at_a_date(cli, tmp_path):
    fill(tmp_path, {"c.pem": made.pem(made.issue(days=(0, 10)))})
    for date, status in (("2026-05-31", 1), ("2026-06-01", 0), ("2026-06-11", 0), ("2026-06-12", 1)):
        assert cli("pki", "check", tmp_path / "c.pem", "--at", date).status == status, date


def test_text_is_plain_without_a_terminal(cli, tmp_path):
    long = "x" * 90
    folder = fill(
        tmp_path, {f"{long}.pem": made.pem(made.issue(days=(-9, -1))), "b.pem": made.pem(made.issue())}
    )
    done = cli("pki", "check", folder, "--at", NOW)
    assert "\x1b" not in done.out
    assert done.out.isascii()
    assert f"x error: {long}.pem: expired on 2026-05-31  [pki-expired]" in done.out.splitlines()
    assert not any(line.endswith(" ") for line in done.out.splitlines())
    assert done.out.splitlines()[-1] == "checked for 2026-06-01 00:00 UTC: 1 error"
    quiet = cli("pki", "check", folder, "--at", NOW, "--quiet")
    assert (quiet.status, quiet.out) == (1, "")
    assert quiet.err.startswith("error: ")


def test_the_same_of_several_items_is_one_line(cli, tmp_path):
    old = made.pem(made.issue(days=(-9, -1)))
    done = cli("pki", "check", fill(tmp_path, {"wss_cert.0.pem": old, "wss_cert.1.pem": old}), "--at", NOW)
    assert "x error: wss_cert.0, wss_cert.1: expired on 2026-05-31  [pki-expired]" in done.out


def test_names_do_not_act_on_the_terminal(cli, tmp_path):
    evil = made.pem(made.issue("a\x1b[31m\nb", days=(-9, -1)))
    done = cli("pki", "check", fill(tmp_path, {"c\x1b[2J.pem": evil}), "--at", NOW)
    assert "\x1b" not in done.out + done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to check"),
        (["none.pem"], "none.pem: no such file"),
        (["ca.pem", "--at", "soon"], "--at soon: is not a date"),
        (["ca.pem", "--chip", "esp32"], "the files are no firmware"),
        (["empty"], "empty: holds no certificates or keys"),
        (["big.bin"], "big.bin"),
    ],
)
def test_misuse(cli, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(fill(tmp_path, {"ca.pem": ROOT, "empty/readme": b"x", "big.bin": b"\xff" * 9000}))
    done = cli("pki", "check", *words)
    assert (done.status, message in done.err) == (2, True), done.err


# --- any bytes -----------------------------------------------------------------------------------------

_PIECES = (
    LEAF,
    KEY,
    ROOT,
    made.der(made.issue()),
    made.key_pem(encoding=made.Encoding.DER),
    b"\xf1\xf1\x01\0",
    b"\0",
)


@settings(max_examples=50)
@given(st.data())
def test_damaged_files_never_fail(data):
    import tempfile

    blob = bytearray(b"".join(data.draw(st.lists(st.sampled_from(_PIECES), min_size=1, max_size=3))))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(blob) - 1))
        blob[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        blob = blob or bytearray(b"x")
    name = data.draw(st.sampled_from(["mqtt_key.pem", "client_cert.bin", "x", "x-private.pem.key"]))
    from esp_at_tools.cli.main import run

    with tempfile.TemporaryDirectory() as temporary:
        folder = fill(Path(temporary), {name: bytes(blob), "c.pem": LEAF})
        assert run(["pki", "check", str(folder), "--quiet"]) in (0, 1)
        assert run(["pki", "check", str(folder / name), "--quiet"]) in (0, 1, 2)
        assert run(["pki", "import", str(folder), "-o", str(folder / "p.yaml"), "--quiet"]) in (0, 2)


def test_groups_of_an_empty_folder(tmp_path):
    assert (list(group_folder(tmp_path).items), list(group_files([]).items)) == ([], [])


# --- folders of many devices, and of other things ------------------------------------------------------


def many(count: int) -> dict[str, bytes]:
    """The certificates and keys of devices: ``d1.crt``, ``d1.key``, …"""
    files = {}
    for number in range(1, count + 1):
        own = f"p256:d{number}"
        files |= {
            f"d{number}.crt": made.pem(made.issue(f"d{number}", own=own)),
            f"d{number}.key": made.key_pem(own),
        }
    return files


def test_firmware_in_a_folder_is_named_as_such(cli, tmp_path):
    extra = "mqtt_ca,namespace,,\nmqtt_ca,file,binary,ca.pem\n"
    fill(tmp_path, {"ca.pem": ROOT})
    nvs = builders.generate(builders.mfg_csv(extra), folder=tmp_path)
    parts = {f"out/{number}.bin": nvs for number in range(7)}
    folder = fill(tmp_path / "x", {**parts, "out/image.bin": builders.image(), "c.pem": LEAF})
    document = checked(cli, folder)
    assert document["inputs"][0]["firmware"] == 8
    assert document["findings"] == []
    assert "8 files are firmware: give them by themselves" in cli("pki", "check", folder).out
    alone = cli("pki", "check", folder / "out")
    assert alone.status == 2
    assert "holds no certificates or keys, and 8 files are firmware" in alone.err
    assert [item["name"] for item in checked(cli, folder / "out" / "3.bin")["items"]] == ["mqtt_ca"]


def test_long_lists_of_names_are_cut(cli, tmp_path):
    files = {name: data.rstrip() for name, data in many(8).items()}
    done = cli("pki", "check", fill(tmp_path, files), "--at", NOW)
    assert "d1.crt, d2.crt, d3.crt, d4.crt, d5.crt and 11 more: has no line end" in done.out
    assert done.out.splitlines()[-1].endswith("16 warnings")


def test_numbers_in_names_are_sorted_by_value(cli, tmp_path):
    files = {f"{number}.pem": LEAF for number in (102, 12, 3)}
    folder = fill(tmp_path, files)
    assert [item["name"] for item in checked(cli, folder)["items"]] == ["3.pem", "12.pem", "102.pem"]
    given = [folder / name for name in files]
    assert [Path(item["name"]).stem for item in checked(cli, *given)["items"]] == ["3", "12", "102"]


def test_the_arguments_of_one_call_are_one_pool_of_authorities(cli, tmp_path):
    fill(tmp_path, {"certs/d.crt": LEAF, "certs/mqtt_cert.pem": LEAF, "ca/ca.pem": ROOT})
    ca = str(tmp_path / "ca" / "ca.pem")
    for other in ("ca", "ca/ca.pem"):
        for words in ((tmp_path / "certs", tmp_path / other), (tmp_path / other, tmp_path / "certs")):
            found = {item["name"]: item for item in checked(cli, *words)["items"]}
            assert (found["d.crt"]["chain"], found["d.crt"]["checked_by"]) == ("trusted", [ca])
            assert (found["mqtt_cert"]["chain"], found["mqtt_cert"]["checked_by"]) == ("trusted", [ca])
    assert "the CA certificates of all arguments" in " ".join(cli("pki", "check", "--help").out.split())


def test_what_is_alone_among_pairs(cli, tmp_path):
    files = many(3)
    del files["d2.key"]
    files["z.key"] = made.key_pem("p256:z")
    files["copy.pem"] = files["d1.crt"]
    found = {each for each in ids(checked(cli, fill(tmp_path, files))) if each[1] == "pki-unpaired"}
    assert found == {("d2.crt", "pki-unpaired"), ("z.key", "pki-unpaired")}
    done = cli("pki", "check", tmp_path, "-v", "--at", NOW)
    assert "d2.crt: its private key is not among the files" in done.out
    assert "z.key: its certificate is not among the files" in done.out


def test_an_empty_date_is_none(cli, tmp_path):
    fill(tmp_path, {"ca.pem": ROOT})
    done = cli("pki", "check", tmp_path / "ca.pem", "--at", "")
    assert (done.status, "--at '': is not a date" in done.err) == (2, True)


def test_quiet_lines_say_which_file_and_what_to_do(cli, tmp_path):
    old = made.pem(made.issue(days=(-9, -1)))
    files = {"a/old.crt": old, "a/mqtt_cert.pem": old, "a/sub/cut.pem": LEAF[:200]}
    folder = fill(tmp_path, files) / "a"
    lines = cli("pki", "check", "-q", folder, "--at", NOW).err.splitlines()
    assert any(f"{folder}/mqtt_cert.pem, {folder}/old.crt: expired on 2026-05-31" in line
               and line.endswith("(give one that is valid)") for line in lines), lines  # fmt: skip
    assert any(line.startswith(f"error: {folder}/sub/cut.pem: ") for line in lines), lines
    assert any(line.startswith(f"warning: {folder}: mqtt: there is a certificate") for line in lines), lines


def test_counts_agree(cli, tmp_path):
    folder = fill(tmp_path, {name: data.replace(b"\n", b"\r\n") for name, data in many(6).items()})
    done = cli("pki", "check", folder, "--at", NOW)
    infos = checked(cli, folder)["summary"]["info"]
    assert infos == 12
    assert f"{infos} more worth knowing: -v tells" in done.out
    assert done.out.splitlines()[-1].endswith(f"{infos} infos")


def test_a_profile_is_no_certificate(cli, tmp_path):
    folder = fill(tmp_path, {"ca.pem": ROOT, "profile.yaml": b"pki: {}\n"})
    assert checked(cli, folder)["inputs"][0]["passed_over"] == 0
    assert checked(cli, *folder.iterdir())["findings"] == []


def test_dates_that_are_interchanged(cli, tmp_path):
    from cryptography import x509

    sound = made.issue(days=(-9, 90))
    dates = [
        f"{date:%y%m%d%H%M%SZ}".encode() for date in (sound.not_valid_before_utc, sound.not_valid_after_utc)
    ]
    data = made.der(sound)
    swapped = data.replace(dates[0], b"#" * 13).replace(dates[1], dates[0]).replace(b"#" * 13, dates[1])
    fill(tmp_path, {"c.pem": made.pem(x509.load_der_x509_certificate(swapped))})
    for date in ("2026-05-01", NOW, "2030-01-01"):
        document = json.loads(cli("pki", "check", tmp_path / "c.pem", "--at", date, "--json").out)
        (found,) = document["findings"]
        assert (found["id"], found["level"]) == ("pki-expired", "error")
        assert (
            "is valid at no time: it ends on 2026-05-23, before it begins on 2026-08-30" in found["message"]
        )

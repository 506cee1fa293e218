"""``build`` on the command line: sources, modules, options, reports, exit statuses."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from pathlib import Path

import builders
import pytest
from source_trees import make_tree

from esp_at_tools.errors import InputError


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch) -> None:
    """Run in a folder of its own: without a checkout in it, and with ``build`` as the default output."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def release(tmp_path) -> Path:
    return builders.release(tmp_path / "release")


@pytest.fixture
def pki(tmp_path) -> Path:
    folder = tmp_path / "pki"
    folder.mkdir()
    (folder / "mqtt_ca.pem").write_bytes(builders.certificate(1, ca=True))
    (folder / "mqtt_cert.pem").write_bytes(builders.certificate(0))
    (folder / "mqtt_key.pem").write_bytes(builders.key_pem(0))
    return folder


CONFIGURATION = {
    "partition_table/partition-table.bin", "at_customize.bin", "ota_data_initial.bin", "sdkconfig.defaults",
    "customized_partitions/mfg_nvs.bin", "customized_partitions/mfg_nvs.csv", "module_info.json",
    "flasher_args.json", "download.config",
}  # fmt: skip


def test_the_configuration_of_a_module(cli, tmp_path):
    done = cli("build", "--module", "PLATFORM_ESP32C3/mini-1")
    assert done.status == 0
    assert set(builders.tree(tmp_path / "build")) == CONFIGURATION
    assert "application: none" in done.out
    assert "certificates and keys: none" in done.out
    assert "esp-at-tool flash build --only mfg_nvs" in done.out
    assert done.err == ""


def test_it_can_be_inspected_and_flashed(cli):
    assert cli("build", "--module", "ESP32C3/MINI-1", "-q").out == ""
    document = json.loads(cli("inspect", "build", "--json").out)
    assert document["chip"] == "esp32c3"
    assert document["settings"]["module_name"] == "MINI-1"
    assert {check["level"] for check in document["checks"]} == {"warning"}
    assert cli("inspect", "build", "--check").status == 0
    done = cli("flash", "build", "--dry-run", "--only", "mfg_nvs")
    assert done.status == 0
    assert "0x0001f000" in done.out


def test_a_release_needs_no_module(cli, release, tmp_path):
    done = cli("build", "--source", release, "--json")
    assert done.status == 0
    (built,) = json.loads(done.out)["builds"]
    assert (built["module"], built["application"], built["output"]) == ("ESP32C3/MINI-1", True, "build")
    files = {file["path"]: file for file in built["files"]}
    assert set(files) == {*builders.tree(tmp_path / "build")}
    assert files["esp-at.bin"]["offset"] == builders.APP_OFFSET
    assert "offset" not in files["module_info.json"]
    assert {file["path"]: file["size"] for file in built["files"]} == {
        name: len(data) for name, data in builders.tree(tmp_path / "build").items()
    }
    fits = {fit["name"]: fit for fit in built["partitions"]}
    assert fits["ota_0"]["used"] == files["esp-at.bin"]["size"]
    assert fits["ota_0"]["free"] == fits["ota_0"]["size"] - fits["ota_0"]["used"]
    assert 0 < fits["mfg_nvs"]["free"] < fits["mfg_nvs"]["size"]


def test_the_checks_of_its_output_find_nothing(cli, release):
    assert cli("build", "--source", release, "--set", "uart_baudrate=921600").status == 0
    assert cli("inspect", "build", "--check").status == 0
    for image in Path("build/factory").iterdir():
        assert cli("inspect", image, "--check").status == 0
    assert cli("flash", "build", "--dry-run").status == 0


RELEASES = (
    "ESP32-C3-MINI-1-V2.3.0.0", "ESP32-WROOM-32-V2.2.0.0", "ESP8266-AT-V2.2.1.0",
    "ESP32-C3-MINI-1-V5.0.1.0-assembled",
)  # fmt: skip


@pytest.mark.parametrize("name", RELEASES)
def test_the_checks_agree_on_a_rebuilt_release(cli, shared, name):
    source = shared / "firmware" / name
    assert cli("build", "--source", source, "-q").status == 0
    before, after = (json.loads(cli("inspect", path, "--json").out) for path in (source, "build"))
    for key in ("chip", "layout", "settings", "pki", "gatts", "partitions", "apps"):
        assert after[key] == before[key]
    assert {check["id"] for check in after["checks"]} <= {check["id"] for check in before["checks"]}
    assert cli("inspect", "build", "--check").status == 0
    assert cli("diff", source, "build").status == 0
    for image in Path("build/factory").iterdir():
        assert cli("inspect", image, "--check").status == 0
    assert cli("flash", "build", "--dry-run").status == 0


def test_the_csv_makes_the_partition(cli, release, pki):
    assert cli("build", "--source", release, "--pki", pki, "-q").status == 0
    folder = Path("build/customized_partitions")
    assert cli("nvs", "generate", folder / "mfg_nvs.csv", "again.bin", hex(builders.MFG_SIZE)).status == 0
    assert Path("again.bin").read_bytes() == (folder / "mfg_nvs.bin").read_bytes()


def test_an_option_goes_before_the_profile_and_the_profile_before_the_folder(cli, pki, tmp_path):
    other, third = builders.certificate(5, ca=True), builders.certificate(6, ca=True)
    (tmp_path / "other.pem").write_bytes(other)
    (tmp_path / "third.pem").write_bytes(third)
    (pki / "server_ca.pem").write_bytes(builders.certificate(7, ca=True))
    (tmp_path / "profile.yaml").write_text(
        "settings:\n  uart_baudrate: 9600\n  country_code: US\n"
        "pki:\n  mqtt_ca: other.pem\n  server_ca: other.pem\n"
    )
    single = ["--set", "uart_baudrate=19200", "--set", "server_ca=@third.pem"]
    more = ["--profile", "profile.yaml", "--pki", pki, "--force", "--json"]
    done = cli("build", "-m", "ESP32C3/MINI-1", *single, *more)
    assert done.status == 0
    firmware = json.loads(cli("inspect", "build", "--json").out)
    assert firmware["settings"]["uart_baudrate"] == 19200
    assert firmware["settings"]["country_code"] == "US"
    digests = {item["name"]: item["sha256"] for item in firmware["pki"]}
    assert digests["server_ca"] == hashlib.sha256(third).hexdigest()
    assert digests["mqtt_ca"] == hashlib.sha256(other).hexdigest()
    assert digests["mqtt_key"] == hashlib.sha256(builders.key_pem(0)).hexdigest()
    assert "no certificates" not in str(json.loads(done.out)["builds"][0]["notes"])


def test_its_own_output_rebuilt_is_the_same(cli, release, tmp_path):
    assert cli("build", "--source", release, "--flash", "8MB", "-q").status == 0
    assert cli("build", "--source", "build", "-o", "again", "-q").status == 0
    assert builders.tree(tmp_path / "again") == builders.tree(tmp_path / "build")


def test_what_is_read_may_be_a_file_of_the_users_in_the_output(cli, release, pki, tmp_path):
    assert cli("build", "--source", release, "-q").status == 0
    pki.rename(tmp_path / "build" / "pki")
    Path("build/sdkconfig").write_text('CONFIG_IDF_TARGET="esp32c3"\n')
    done = cli("build", "--source", release, "--pki", "build/pki", "--sdkconfig", "build/sdkconfig", "-q")
    assert done.status == 0
    made = builders.tree(tmp_path / "build")
    assert made["sdkconfig"] == b'CONFIG_IDF_TARGET="esp32c3"\n'
    assert made["pki/mqtt_key.pem"] == builders.key_pem(0)


def test_what_is_damaged_in_the_source_is_named(cli, tmp_path):
    folder = builders.legacy_release(tmp_path / "legacy")
    part = folder / "customized_partitions" / "client_ca.bin"
    part.write_bytes(part.read_bytes()[:200])
    done = cli("build", "--source", folder)
    assert done.status == 0
    assert "warning: client_ca" in done.err
    assert cli("inspect", "build", "--check").status == 1


def test_private_keys_are_not_printed(cli, pki):
    for more in ([], ["--json"]):
        done = cli("build", "-m", "ESP32C3/MINI-1", "--pki", pki, *more)
        assert done.status == 0
        assert "PRIVATE" not in done.out + done.err


# --- several modules -----------------------------------------------------------------------------


def test_several_modules_each_get_a_folder(cli, tmp_path):
    done = cli("build", "--module", "ESP32C3/MINI-1", "--module", "esp32/wroom-32", "-o", "out", "-j", "2")
    assert done.status == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"ESP32C3-MINI-1", "ESP32-WROOM-32"}
    for folder in (tmp_path / "out").iterdir():
        assert set(builders.tree(folder)) == CONFIGURATION
    assert "2 built" in done.out


def test_all_modules_are_the_same_one_by_one_and_side_by_side(cli, tmp_path):
    for output, jobs in (("one", 1), ("many", 3)):
        assert cli("build", "--all", "-o", output, "-j", jobs, "-q").status == 0
    assert builders.tree(tmp_path / "one") == builders.tree(tmp_path / "many")
    assert len(list((tmp_path / "one").iterdir())) == 23


def test_processes_that_are_not_forked_build_the_same(cli, tmp_path, monkeypatch):
    from esp_at_tools.cli import build_many

    modules = ["-m", "ESP32C3/MINI-1", "-m", "ESP32/WROOM-32"]
    for output, method in (("one", "fork"), ("other", "spawn")):
        if method in multiprocessing.get_all_start_methods():
            monkeypatch.setattr(build_many, "_start_method", lambda method=method: method)
            assert cli("build", *modules, "-o", output, "-j", "2", "-q").status == 0
    assert set(builders.tree(tmp_path / "other")) == {
        f"{folder}/{name}" for folder in ("ESP32C3-MINI-1", "ESP32-WROOM-32") for name in CONFIGURATION
    }


def test_a_process_that_dies_is_named(cli, monkeypatch):
    from esp_at_tools.cli import build_many

    if build_many._start_method() != "fork":
        pytest.skip("only a fork takes the patch along")
    run = build_many.run_job
    monkeypatch.setattr(
        build_many, "run_job", lambda job: os._exit(9) if "WROOM" in str(job.module) else run(job)
    )
    done = cli("build", "-m", "ESP32/WROOM-32", "-m", "ESP32C3/MINI-1", "-o", "out", "-j", "2")
    assert done.status == 2
    assert "ESP32/WROOM-32: its process, or one beside it, was killed" in done.err


def test_one_that_fails_does_not_stop_the_others(cli, release, tmp_path):
    done = cli("build", "--source", release, "--module", "ESP32C6/ESP32C6-4MB", "--module", "ESP32C3/MINI-1",
               "-o", "out", "--json")  # fmt: skip
    assert done.status == 2
    document = json.loads(done.out)
    assert [built["module"] for built in document["builds"]] == ["ESP32C3/MINI-1"]
    (error,) = document["errors"]
    assert (error["module"], error["status"]) == ("ESP32C6/ESP32C6-4MB", 2)
    assert "ESP32C6/ESP32C6-4MB: --module" in done.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"ESP32C3-MINI-1"}
    shown = cli(
        "build", "--source", release, "-m", "ESP32C6/ESP32C6-4MB", "-m", "ESP32C3/MINI-1", "-o", "out"
    )
    assert "FAILED" in shown.out
    assert "1 built, 1 failed" in shown.out


def test_where_all_fail_no_folder_is_left(cli, release, tmp_path):
    done = cli("build", "--source", release, "-m", "ESP32C6/ESP32C6-4MB", "-m", "ESP32/WROOM-32", "-o", "out")
    assert done.status == 2
    assert not (tmp_path / "out").exists()


def test_a_module_that_is_named_twice_is_built_once(cli, tmp_path):
    assert cli("build", "-m", "ESP32C3/MINI-1", "-m", "platform_esp32c3/mini-1").status == 0
    assert set(builders.tree(tmp_path / "build")) == CONFIGURATION


# --- sources -------------------------------------------------------------------------------------


@pytest.fixture
def official(release, tmp_path, monkeypatch) -> list[str]:
    """Let a release be what is in the cache for every module but one; give the list of what was asked for."""
    from esp_at_tools.releases import store

    archive = builders.zipped(release, tmp_path / "official.zip", "esp/")
    asked = []

    def obtain(wanted, **_: object) -> store.Obtained:
        asked.append(f"{wanted.full_name}@{wanted.version}")
        if wanted.module_name == "WROOM-32":
            raise InputError("the server is asleep", "wake it up")
        return store.Obtained(wanted, archive, "https://example.com", archive.stat().st_size, "", cached=True)

    monkeypatch.setattr(store, "obtain", obtain)
    return asked


@pytest.mark.parametrize("version", ["v3.3.0.0", "latest", "recommended"])
def test_an_official_release_is_asked_for_by_its_version(cli, official, tmp_path, version):
    done = cli("build", "--module", "esp32c3/mini-1", "--source", version)
    assert done.status == 0
    assert "official.zip" in done.out
    (asked,) = official
    assert asked.startswith("ESP32C3/MINI-1@v")
    assert version[0] != "v" or asked.endswith(version)
    assert (tmp_path / "build" / "esp-at.bin").exists()


def test_an_official_release_tells_its_module(cli, official, tmp_path):
    done = cli("build", "--source", "ESP32C3/MINI-1@v3.3.0.0")
    assert done.status == 0
    assert official == ["ESP32C3/MINI-1@v3.3.0.0"]
    assert json.loads((tmp_path / "build" / "module_info.json").read_text())["module"] == "MINI-1"


def test_a_release_that_cannot_be_had_fails_alone(cli, official):
    done = cli("build", "-m", "ESP32/WROOM-32", "-m", "ESP32C3/MINI-1", "--source", "latest", "-o", "out")
    assert done.status == 2
    assert len(official) == 2
    assert "ESP32/WROOM-32: the server is asleep" in done.err
    assert "1 built, 1 failed" in done.out


def test_a_source_tree_is_not_compiled(cli, shared, tmp_path, monkeypatch):
    tree = shared / "esp-at" / "v5.0.1.0"
    monkeypatch.setenv("AT_EXT_MODULE_CFG", "")
    for given in (["--source", tree], ["--project", tree]):
        done = cli("build", *given, "--module", "ESP32C3/MINI-1")
        assert done.status == 2
        assert "--config-only" in done.err
        assert "--source" in done.err
    assert not (tmp_path / "build").exists()


def test_its_configuration_is_made(cli, shared, tmp_path):
    tree = shared / "esp-at" / "v5.0.1.0"
    expected = tree / "expected" / "PLATFORM_ESP32C3" / "MINI-1"
    done = cli("build", "--source", tree, "--module", "ESP32C3/MINI-1", "--config-only",
               "--sdkconfig", expected / "sdkconfig")  # fmt: skip
    assert done.status == 0
    made = builders.tree(tmp_path / "build")
    assert set(made) == CONFIGURATION - {"sdkconfig.defaults"} | {"sdkconfig"}
    names = {path.name for path in expected.iterdir()}
    for name in (each for each in made if Path(each).name in names):
        assert made[name] == (expected / Path(name).name).read_bytes(), name


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ([], "--all builds every one"),
        (["--all", "--module", "ESP32C3/MINI-1"], "exclude each other"),
        (["--module", "ESP32C3/MINI-2"], "did you mean ESP32C3/MINI-1"),
        (["--module", "MINI-1"], "several modules"),
        (["--module", "ESP32C3/MINI-1", "--source", "nowhere"], "no such file"),
        (["--module", "ESP32C3/MINI-1", "--source", ""], "is empty"),
        (["--module", "ESP32C3/MINI-1", "--project", "."], "no esp-at checkout"),
        (["--module", "ESP32C3/MINI-1", "--source", ".", "--project", "."], "exclude each other"),
        (["--module", "ESP32C3/MINI-1", "--idf", "idf"], "--idf"),
        (["--module", "ESP32C3/MINI-1", "--flash", "3MB"], "--flash"),
        (["--module", "ESP32C3/MINI-1", "--partition", "mfg_nvs"], "--partition"),
        (["--module", "ESP32C3/MINI-1", "--partition", "mfg_nvs=64K", "--partition", "mfg_nvs=128K"], "once"),
        (["--module", "ESP32C3/MINI-1", "--set", "uart_baudrate"], "NAME=VALUE"),
        (["--module", "ESP32C3/MINI-1", "--set", "uart_baudrate=1"], "80"),
        (["--module", "ESP32C3/MINI-1", "--unset", "mqtt_ca"], "cannot be removed"),
        (["--module", "ESP32C3/MINI-1", "--pki", "nowhere"], "nowhere"),
        (["--module", "ESP32C3/MINI-1", "--fs-image", "nowhere"], "nowhere"),
        (["--module", "ESP32C3/MINI-1", "--profile", "nowhere"], "nowhere"),
        (["--module", "ESP32C3/MINI-1", "--sdkconfig", "nowhere"], "nowhere"),
        (["--module", "ESP32C3/MINI-1", "--dir", "nowhere"], "nowhere"),
        (["--module", "ESP32C3/MINI-1", "-o", "no/where"], "does not exist"),
        (["--all", "-o", "no/where"], "does not exist"),
        (["--all", "-j", "0"], "--jobs 0"),
        (["--source", "release", "--all"], "one module"),
        (["--source", "release", "--silence"], "--silence"),
        (["--source", "release", "-o", "release"], "--output"),
        (["--source", "release", "-o", "."], "current folder"),
        (["--source", "release/esp-at.bin"], "esp-at.bin"),
        (["--source", "release/customized_partitions/mfg_nvs.bin"], "mfg_nvs"),
        (["--source", "latest"], "--all builds every one"),
    ],
)
@pytest.mark.usefixtures("release")
def test_what_is_wrong_is_told_and_nothing_is_written(cli, tmp_path, args, why):
    before = builders.tree(tmp_path)
    done = cli("build", *args)
    assert done.status == 2
    assert why in done.err
    assert "internal error" not in done.err
    assert builders.tree(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == {"release"}


def test_a_folder_of_one_module_does_not_take_several(cli):
    assert cli("build", "-m", "ESP32C3/MINI-1").status == 0
    done = cli("build", "--all")
    assert done.status == 2
    assert "build folder of one module" in done.err


@pytest.mark.parametrize("modules", [["ESP32C3/MINI-1"], ["ESP32C3/MINI-1", "ESP32/WROOM-32"]])
def test_a_dry_run_writes_nothing(cli, tmp_path, modules):
    done = cli("build", *(word for name in modules for word in ("-m", name)), "--dry-run")
    assert done.status == 0
    assert "nothing was written" in done.out
    assert list(tmp_path.iterdir()) == []
    document = json.loads(cli("build", "-m", modules[0], "--dry-run", "--json").out)
    assert document["builds"][0]["dry_run"] is True
    assert document["builds"][0]["output"] is None


def test_an_earlier_build_with_an_application_leaves_none_in_a_configuration(cli, release, tmp_path):
    assert cli("build", "--source", release).status == 0
    (tmp_path / "build" / "mine.txt").write_text("mine")
    assert cli("build", "--source", release, "--config-only").status == 0
    made = builders.tree(tmp_path / "build")
    assert made.pop("mine.txt") == b"mine"
    assert set(made) == CONFIGURATION - {"sdkconfig.defaults"}


def test_a_failed_build_leaves_the_folder_as_it_was(cli, tmp_path):
    assert cli("build", "-m", "ESP32C3/MINI-1").status == 0
    before = builders.tree(tmp_path / "build")
    assert cli("build", "-m", "ESP32C3/MINI-1", "--set", "uart_tx_pin=9").status == 2
    assert builders.tree(tmp_path / "build") == before


def test_it_runs_in_a_process_of_its_own(process, tmp_path):
    done = process("build", "--all", "-o", "out", "-j", "2")
    assert done.status == 0
    assert len(list((tmp_path / "out").iterdir())) == 23
    assert done.err == ""


def test_a_checkout_tells_its_module(cli, tmp_path):
    tree = make_tree(tmp_path / "tree")
    build = ("build", "--source", tree.folder, "--config-only", "-o", "out", "--json")
    done = cli(*build)
    assert done.status == 2
    assert "it is one of ESP32C3/MY-BOARD, ESP32C3/MY-SPI" in done.err
    info = {"platform": "PLATFORM_ESP32C3", "module": "MY-SPI", "description": "", "silence": 1}
    tree.write("build/module_info.json", json.dumps(info))
    (built,) = json.loads(cli(*build).out)["builds"]
    assert (built["module"], built["silence"]) == ("ESP32C3/MY-SPI", True)


def test_the_folder_of_definitions_in_the_environment_is_none_of_a_checkout(cli, tmp_path, monkeypatch):
    tree = make_tree(tmp_path / "tree")
    own = tmp_path / "mine"
    own.mkdir()
    (own / "factory_param_data.csv").write_text("platform,module_name,description\n")
    build = ("build", "--source", tree.folder, "--config-only", "-m", "MY-SPI", "-o", "out")
    monkeypatch.setenv("ESP_AT_MODULE_DIR", str(own))
    assert cli(*build).status == 0
    assert "holds definitions of this program" in cli(*build, "--dir", own).err

"""``fetch``, and official releases as the INPUT of other commands."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import builders
import pytest
from release_server import ADDRESS, archive, serving

MINI = "ESP32C3/MINI-1"
OFFICIAL = "https://dl.espressif.com" + ADDRESS
WATCHED = """
import sys
from esp_at_tools.cli.main import run
status = run(sys.argv[1:])
loaded = {"urllib.request", "http.client", "ssl", "yaml", "rich"} & set(sys.modules)
sys.exit(status or ",".join(loaded) or 0)
"""
"""Runs a command, and fails with the names of modules that it should not need."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("ESP_AT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ESP_AT_RELEASE_SERVER", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch):
    with serving() as running:
        monkeypatch.setenv("ESP_AT_RELEASE_SERVER", running.url)
        yield running


@pytest.fixture
def firmware(server, tmp_path):
    """A server whose releases are firmware: v3.3.0.0 with 115200 baud, v4.1.1.0 with 9600."""
    for version, baud in (("V3.3.0.0", 115200), ("V4.1.1.0", 9600)):
        rows = builders.mfg_csv().replace("115200", str(baud))
        release = builders.release(tmp_path / version, builders.generate(rows), rows)
        path = builders.zipped(release, tmp_path / f"{version}.zip", f"ESP32-C3-MINI-1-AT-{version}/")
        server.files[ADDRESS.replace("V4.1.1.0", version)] = path.read_bytes()
    return server


def test_a_cache_that_one_may_not_look_into_is_empty(cli, monkeypatch):
    def is_file(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", is_file)
    done = cli("fetch", "--list", "--json")
    assert done.status == 0, done.err
    assert not any(each["cached"] for each in json.loads(done.out)["releases"])


def test_it_prints_the_path_alone(cli, cache, server):
    done = cli("fetch", "esp32c3/mini-1")
    path = cache / MINI / "v4.1.1.0" / "ESP32-C3-MINI-1-AT-V4.1.1.0.zip"
    assert (done.status, done.out) == (0, f"{path}\n")
    assert f"downloading {server.url}{ADDRESS}\n" in done.err
    assert "v4.1.1.0 (recommended): 39.2 KB, downloaded\nSHA-256 " in done.err
    again = cli("fetch", f"{MINI}@latest", "--offline")
    assert (again.out, len(server.seen)) == (done.out, 1)
    assert "downloading" not in again.err
    assert "in the cache already" in again.err
    assert cli("fetch", MINI, "-q").err == ""


def test_json(cli, cache, server):
    found = json.loads(cli("fetch", MINI, "--version", "latest", "--json").out)
    sha256 = found.pop("sha256")
    assert len(sha256) == 64
    assert found == {
        "schema": 1,
        "name": MINI,
        "version": "v4.1.1.0",
        "recommended": True,
        "address": server.url + ADDRESS,
        "path": str(cache / MINI / "v4.1.1.0" / "ESP32-C3-MINI-1-AT-V4.1.1.0.zip"),
        "size": len(archive()),
        "cached": False,
    }
    again = json.loads(cli("fetch", MINI, "--json").out)
    assert (again["cached"], again["sha256"]) == (True, sha256)


@pytest.mark.usefixtures("server")
def test_output(cli, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    done = cli("fetch", MINI, "--output", folder)
    copy = folder / "ESP32-C3-MINI-1-AT-V4.1.1.0.zip"
    assert done.out == f"{copy}\n"
    assert copy.read_bytes() == archive()
    assert cli("fetch", MINI, "-o", "mine.zip").out == "mine.zip\n"
    assert Path("mine.zip").read_bytes() == archive()
    assert json.loads(cli("fetch", MINI, "-o", "mine.zip", "--json").out)["output"] == "mine.zip"


@pytest.mark.parametrize("output", ["none", "none/mine.zip", "mine.bin"])
def test_outputs_that_cannot_be_are_refused_before_the_download(cli, server, output):
    done = cli("fetch", MINI, "-o", output)
    assert done.status == 2
    assert output.partition("/")[0] in done.err
    assert server.seen == []


def test_list(cli, cache, server):
    done = cli("fetch", MINI, "--list")
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[1] == [MINI, "v4.1.1.0", "recommended", server.url + ADDRESS]
    assert [line[1] for line in lines[1:]] == [
        *("v4.1.1.0", "v4.1.0.0", "v3.3.0.0", "v3.2.0.0", "v2.4.2.0"),
        *("v2.4.1.0", "v2.4.0.0", "v2.3.0.0", "v2.2.0.0"),
    ]
    assert str(cache) in done.err
    assert server.seen == []
    cli("fetch", MINI)
    assert "recommended, cached" in cli("fetch", MINI, "--list").out
    found = json.loads(cli("fetch", "--list", "--json").out)["releases"]
    assert len(found) == 72
    assert [each["version"] for each in found if each["cached"]] == ["v4.1.1.0"]
    assert {each["name"] for each in found} >= {"ESP32/WROOM-32", "ESP32C6/ESP32C6-4MB", "ESP32S2/MINI"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no NAME is given"),
        (["ESP32C3/MINI-2"], "did you mean ESP32C3/MINI-1?"),
        ([MINI, "--version", "v9.9.9.9"], "there are v4.1.1.0, v4.1.0.0"),
        ([f"{MINI}@v3.3.0.0", "--version", "latest"], "different versions"),
        ([MINI, "--list", "--version", "latest"], "--version does not go with --list"),
        ([MINI, "--list", "-o", "."], "--output does not go with --list"),
        ([MINI, "--server", "mirror"], "'mirror': is no server"),
        ([MINI, "--server", "mirror", "--list"], "'mirror': is no server"),
        ([MINI, "--offline"], f"download {OFFICIAL} by hand, put it at "),
    ],
)
def test_mistakes(cli, arguments, message):
    done = cli("fetch", *arguments)
    assert done.status == 2
    assert done.out == ""
    assert message in done.err


def test_no_connection_is_one_document_too(cli):
    done = cli("fetch", MINI, "--server", "http://127.0.0.1:1", "--json")
    assert done.status == 2
    error = json.loads(done.out)["error"]
    assert "no connection to 127.0.0.1" in error["message"]
    assert OFFICIAL in error["hint"]


def test_an_interrupted_download_is_continued(server, cache, tmp_path):
    server.pause = 0.05
    run = subprocess.Popen(
        [sys.executable, "-m", "esp_at_tools", "fetch", MINI],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    part = cache / MINI / "v4.1.1.0" / "ESP32-C3-MINI-1-AT-V4.1.1.0.zip.part"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size > 4096):
        time.sleep(0.005)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=20)
    assert run.returncode == 130
    assert "Traceback" not in err
    assert part.stat().st_size > 4096


# --- as INPUT --------------------------------------------------------------------------------------------


def test_inspect(cli, firmware):
    found = json.loads(cli("inspect", f"{MINI}@v3.3.0.0", "--json").out)
    assert (found["settings"]["uart_baudrate"], found["input"]["kind"]) == (115200, "release")
    assert (
        json.loads(cli("inspect", f"{MINI}@recommended", "--json").out)["settings"]["uart_baudrate"] == 9600
    )
    assert len(firmware.seen) == 2


@pytest.mark.usefixtures("firmware")
def test_diff(cli):
    done = cli("diff", f"{MINI}@v3.3.0.0", f"{MINI}@latest")
    assert done.status == 1
    assert "115200 → 9600" in done.out


@pytest.mark.usefixtures("firmware")
def test_modify_bin(cli, cache):
    before = cli("inspect", f"{MINI}@latest", "--json").out
    done = cli("modify-bin", "--input", f"{MINI}@latest", "--set", "uart_baudrate=921600", "-o", "out.zip")
    assert done.status == 0, done.err
    assert "out.zip (a .zip, as the input)" in done.out
    with zipfile.ZipFile("out.zip") as packed:
        assert packed.testzip() is None
    assert json.loads(cli("inspect", "out.zip", "--json").out)["settings"]["uart_baudrate"] == 921600
    assert cli("inspect", f"{MINI}@latest", "--json").out == before
    cached = cache / MINI / "v4.1.1.0" / "ESP32-C3-MINI-1-AT-V4.1.1.0.zip"
    same = cli("modify-bin", "--input", f"{MINI}@latest", "--set", "uart_baudrate=1200", "-o", cached)
    assert same.status == 2
    assert "is the input itself" in same.err


def test_a_release_is_not_changed_in_place(cli, server):
    done = cli("modify-bin", "--input", f"{MINI}@latest", "--set", "uart_baudrate=9600", "--in-place")
    assert done.status == 2
    assert "is not changed in place" in done.err
    assert server.seen == []


@pytest.mark.usefixtures("firmware")
def test_flash(cli):
    done = cli("flash", f"{MINI}@v3.3.0.0", "--dry-run")
    assert done.status == 0, done.err
    assert "ESP32-C3-MINI-1-AT-V3.3.0.0.zip" in done.out


def test_a_file_of_that_name_is_that_file(cli, server, tmp_path):
    path = tmp_path / "MINI-1@latest"
    path.write_bytes(builders.image())
    assert json.loads(cli("inspect", "MINI-1@latest", "--json").out)["input"]["kind"] == "image"
    assert server.seen == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ESP32C3/MINI-2@latest", "did you mean ESP32C3/MINI-1?"),
        (f"{MINI}@v3.3.0.1", "did you mean v3.3.0.0?"),
        ("MINI-1@latest", "say which: ESP32/MINI-1 or ESP32C3/MINI-1"),
        ("user@host.bin", "user@host.bin: no such file"),
        ("none.bin", "none.bin: no such file"),
        (MINI, "write ESP32C3/MINI-1@latest"),
        ("folder/none.bin", "folder/none.bin: no such file"),
    ],
)
def test_inputs_that_are_nothing(cli, name, message):
    done = cli("inspect", name)
    assert done.status == 2
    assert message in done.err


def test_other_inputs_load_nothing_for_downloads(tmp_path):
    (tmp_path / "image.bin").write_bytes(builders.image())
    arguments = ["modify-bin", "--input", "image.bin", "--set", "uart_baudrate=9600"]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_cached_release_needs_no_network_code(cli, server, tmp_path):
    assert cli("fetch", MINI).status == 0
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, "fetch", MINI],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(server.seen) == 1


@pytest.mark.usefixtures("firmware")
def test_migrate(cli):
    cli("modify-bin", "--input", f"{MINI}@v3.3.0.0", "--set", "uart_baudrate=921600", "-o", "old.zip")
    done = cli("migrate", "old.zip", f"{MINI}@v4.1.1.0", "-o", "new.zip")
    assert done.status == 0, done.err
    assert json.loads(cli("inspect", "new.zip", "--json").out)["settings"]["uart_baudrate"] == 921600


@pytest.mark.parametrize(
    "command",
    [
        ("modify-bin", "--input", "ESP32C3/MINI-1@v3.3.0.0", "--baud", "9600", "-o", "out"),
        ("build", "--source", "v3.3.0.0", "--module", "ESP32C3/MINI-1", "-o", "out"),
        ("build", "--source", "ESP32C3/MINI-1@v3.3.0.0", "-o", "out"),
        ("inspect", "esp32c3/mini-1@3.3.0.0"),
        ("migrate", "ESP32C3/MINI-1@v3.3.0.0", "ESP32C3/MINI-1@latest", "-o", "out"),
    ],
)
def test_every_name_of_a_release_says_the_same_without_a_network(cli, tmp_path, monkeypatch, command):
    with socket.socket() as closed:  # nobody listens here
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ESP_AT_RELEASE_SERVER", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("ESP_AT_CACHE", str(tmp_path / "cache"))
        monkeypatch.chdir(tmp_path)
        wanted = cli("fetch", "ESP32C3/MINI-1", "--version", "v3.3.0.0")
        done = cli(*command)
    assert "by hand" in wanted.err
    assert (done.status, done.err) == (2, wanted.err)
    assert not (tmp_path / "out").exists()

"""``install``: ESP-IDF at its commit with its tools, again and after interruptions, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import idf_standin
import pytest
from idf_standin import StandIn, git, write

from esp_at_tools.errors import InputError
from esp_at_tools.workspace import idf
from esp_at_tools.workspace.checkout import Checkout
from esp_at_tools.workspace.compile import Sources, check_paths, wanted_idf
from esp_at_tools.workspace.environment import parse_export, without_other_idf
from esp_at_tools.workspace.idf_state import Follow, Wanted, look

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script in part")
SILENT = Follow(*[lambda _: None] * 3)


@pytest.fixture
def standin(remotes: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The same with tools of this test's own, and the environment for them."""
    own = dataclasses.replace(remotes, tools=tmp_path / "tools")
    for name, value in own.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("IDF_PATH", "IDF_PYTHON_ENV_PATH", "AT_EXT_MODULE_CFG"):
        monkeypatch.delenv(name, raising=False)
    return own


@pytest.fixture
def checkout(standin: StandIn, tmp_path: Path) -> Path:
    return idf_standin.make_checkout(tmp_path / "esp-at-ü", standin)


def wanted_of(checkout: Path) -> Wanted:
    opened = Checkout.open(checkout)
    pin = opened.idf_pin(opened.module("MINI-1"))
    return Wanted("ESP-IDF", checkout / "esp-idf", pin.repository, pin.branch, pin.commit)


def test_everything_is_installed(cli, standin: StandIn, checkout: Path) -> None:
    done = cli("install", "--project", checkout, "--platform", "esp32c3", "--module", "mini-1", "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert report["module"] == "ESP32C3/MINI-1"
    assert report["esp_idf"]["version"] == f"release/v5.4 ({standin.commit[:10]})"
    state = look(checkout / "esp-idf")
    assert state.head == standin.commit
    assert not state.missing
    assert (checkout / "esp-idf/components/lib/deep/deep.c").is_file()
    assert not list(checkout.glob(".esp-idf*"))
    assert git(checkout / "esp-idf", "rev-list", "--count", "HEAD") == "1", "it is not shallow"
    calls = [record["args"] for record in standin.records("idf_tools")]
    assert ["--non-interactive", "install", "--targets=esp32c3"] in calls
    assert ["--non-interactive", "install-python-env"] in calls
    assert f"-r {checkout}/requirements.txt" in (standin.tools / "pip.txt").read_text()
    info = json.loads((checkout / "build/module_info.json").read_text())
    assert info == {"platform": "PLATFORM_ESP32C3", "module": "MINI-1", "description": "4MB", "silence": 0}


def test_the_second_time_does_nothing(cli, standin: StandIn, checkout: Path) -> None:
    assert cli("install", "--project", checkout, "--module", "MINI-1").status == 0
    before = len((standin.tools / "pip.txt").read_text().splitlines())
    done = cli("install", "--project", checkout, "--json")  # module_info.json names the module
    assert done.status == 0, done.err
    assert json.loads(done.out)["done"] == []
    assert len((standin.tools / "pip.txt").read_text().splitlines()) == before
    calls = [record["args"][-1] for record in standin.records("idf_tools")]
    assert calls.count("install-python-env") == 1
    write(checkout / "requirements.txt", "pyyaml\nxlrd\n")
    assert cli("install", "--project", checkout).status == 0
    assert len((standin.tools / "pip.txt").read_text().splitlines()) == before + 1


def test_without_a_module_and_a_terminal(cli, checkout: Path) -> None:
    done = cli("install", "--project", checkout)
    assert done.status == 2
    assert "--module is missing" in done.err
    assert "ESP32C3/MINI-1, ESP32C3/MINI-2" in done.err
    assert not (checkout / "esp-idf").exists()
    done = cli("install", "--project", checkout, "--platform", "ESP32C3")
    assert (done.status, "it is one of MINI-1, MINI-2" in done.err) == (2, True)
    done = cli("install", "--project", checkout, "--platform", "ESP32", "--module", "ESP32C3/MINI-1")
    assert (done.status, "is of ESP32C3" in done.err) == (2, True)


@pytest.mark.parametrize("moment", range(4))
def test_an_install_that_is_killed_goes_on(standin: StandIn, checkout: Path, moment: int) -> None:
    command = [
        sys.executable,
        "-m",
        "esp_at_tools",
        "install",
        "--project",
        str(checkout),
        "--module",
        "MINI-1",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        text=True,
    )  # fmt: skip
    signs = ("-- cloning", "HEAD is now", "Cloning into", "-- installing")
    assert process.stdout is not None
    for line in process.stdout:
        if signs[moment] in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert (checkout / "esp-idf").exists() == (moment == 3), (
        "a clone that is not complete is not in its place"
    )
    for path in (checkout / ".esp-idf.partial/.git", checkout / "esp-idf/.git"):
        if path.is_dir():
            write(path / "index.lock", "")  # as a killed git leaves it
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if moment == 3:  # the lock is in a complete clone, which nobody but the user may mend
        (checkout / "esp-idf/.git/index.lock").unlink()
    assert again.returncode == 0, again.stdout + again.stderr
    state = look(checkout / "esp-idf")
    assert (state.head, state.missing) == (standin.commit, ())
    assert not list(checkout.glob(".esp-idf*"))


def test_the_whole_history(cli, standin: StandIn, checkout: Path) -> None:
    done = cli("install", "--project", checkout, "--module", "MINI-1", "--whole")
    assert done.status == 0, done.err
    assert git(checkout / "esp-idf", "rev-list", "--count", "HEAD") == "2"
    assert look(checkout / "esp-idf").head == standin.commit


def test_a_link_to_nothing(cli, checkout: Path) -> None:
    (checkout / "esp-idf").symlink_to("../elsewhere")
    for command in ("install", "build"):
        done = cli(command, "--project", checkout, "--module", "MINI-1")
        assert done.status == 2
        assert f"{checkout}/esp-idf: is a link to ../elsewhere, where there is nothing" in done.err
        assert "remove the link to have ESP-IDF cloned" in done.err
    done = cli("doctor", "--project", checkout, "--module", "MINI-1")
    assert "is a link to ../elsewhere, where there is nothing" in done.out


def test_a_reference_that_is_none_leaves_nothing(cli, checkout: Path) -> None:
    done = cli("install", "--project", checkout, "--module", "MINI-1", "--reference", checkout / "none")
    assert (done.status, "is no Git repository" in done.err) == (2, True)
    assert not list(checkout.glob(".esp-idf*"))


def test_a_password_in_an_address_is_not_printed(cli, checkout: Path) -> None:
    mirror = "http://me:hush-hush@127.0.0.1:9/group"
    done = cli("install", "--project", checkout, "--module", "MINI-1", "--mirror", mirror, "-v")
    assert done.status == 4
    assert "http://***@127.0.0.1:9/group/" in done.out
    assert "hush-hush" not in done.out + done.err


def test_a_reference_repository_is_used(standin: StandIn, checkout: Path, cli) -> None:
    done = cli("install", "--project", checkout, "--module", "MINI-1", "--reference", standin.repository)
    assert done.status == 0, done.err
    alternates = checkout / "esp-idf/.git/objects/info/alternates"
    assert alternates.read_text().strip() == str(standin.repository / ".git/objects")
    done = cli("install", "--project", checkout, "--module", "MINI-1", "--reference", checkout / "main")
    assert done.status == 0, "there is nothing to clone any more"


def test_a_mirror(standin: StandIn, tmp_path: Path, cli) -> None:
    home = f"{idf_standin.HOME}/IDF_VERSION"
    pin = f"branch:release/v5.4\ncommit:{standin.commit}\nrepository:https://example.invalid/esp-idf.git\n"
    checkout = idf_standin.make_checkout(tmp_path / "esp-at", standin, **{home: pin})
    done = cli("install", "--project", checkout, "--module", "MINI-1", "--mirror", standin.remotes)
    assert done.status == 0, done.err
    assert look(checkout / "esp-idf").head == standin.commit


@pytest.mark.parametrize(
    ("mirror", "address"),
    [
        ("", "https://github.com/espressif/esp-idf.git"),
        ("jihulab", "https://jihulab.com/esp-mirror/espressif/esp-idf.git"),
        ("https://host/all/", "https://host/all/esp-idf.git"),
        ("https://host/mine/esp-idf", "https://host/mine/esp-idf"),
        ("/srv/git/esp-idf.git", "/srv/git/esp-idf.git"),
    ],
)
def test_addresses_at_a_mirror(mirror: str, address: str) -> None:
    assert idf.mirrored("https://github.com/espressif/esp-idf.git", mirror) == address


def test_a_checkout_from_a_mirror_takes_esp_idf_from_there(tmp_path: Path, standin: StandIn) -> None:
    origin = "https://jihulab.com/esp-mirror/espressif/esp-at.git"
    script = f"at_targets = ['esp32c3']\npreset_origins = {{'{origin}': 1}}\n"
    pin = f"branch:b\ncommit:{standin.commit}\nrepository:https://github.com/espressif/esp-idf.git\n"
    files = {f"{idf_standin.HOME}/IDF_VERSION": pin, "build.py": script}
    checkout = idf_standin.make_checkout(tmp_path / "esp-at", standin, **files)
    opened = Checkout.open(checkout)
    module = opened.module("MINI-1")
    github = wanted_idf(opened, module, Sources())
    assert github.repository == "https://github.com/espressif/esp-idf.git"
    git(checkout, "remote", "set-url", "origin", origin)
    assert wanted_idf(opened, module, Sources()).repository == (
        "https://jihulab.com/esp-mirror/espressif/esp-idf.git"
    )
    assert wanted_idf(opened, module, Sources(mirror="/srv/git")).repository == "/srv/git/esp-idf.git"


def test_an_esp_idf_that_is_there(standin: StandIn, checkout: Path, tmp_path: Path, cli, monkeypatch) -> None:
    other = tmp_path / "idf"
    idf.obtain(dataclasses.replace(wanted_of(checkout), place=other, commit=standin.newest), SILENT)
    done = cli("install", "--project", checkout, "--module", "MINI-1", "--idf", other)
    assert done.status == 2
    assert f"is ESP-IDF at commit {standin.newest[:10]}" in done.err
    assert f"git checkout {standin.commit}" in done.err
    assert not (checkout / "esp-idf").exists()
    monkeypatch.setenv("IDF_PATH", str(other))
    done = cli("install", "--project", checkout, "--module", "MINI-1")
    assert done.status == 0
    assert "so ESP-IDF is cloned" in done.err
    assert not (checkout / "esp-idf").is_symlink()
    shutil.rmtree(checkout / "esp-idf")
    idf.obtain(dataclasses.replace(wanted_of(checkout), place=other), SILENT)
    done = cli("install", "--project", checkout, "--module", "MINI-1")
    assert done.status == 0, done.err
    assert os.path.realpath(checkout / "esp-idf") == str(other)
    git(other, "checkout", "-q", standin.newest)
    done = cli("install", "--project", checkout, "--module", "MINI-1")
    assert (done.status, "what it leads to is not changed" in done.err) == (2, True)
    assert look(other).head == standin.newest


def test_tools_that_cannot_be_downloaded(cli, checkout: Path, monkeypatch, standin: StandIn) -> None:
    monkeypatch.setenv("STANDIN_OFFLINE", "1")
    done = cli("install", "--project", checkout, "--module", "MINI-1")
    assert done.status == 4
    assert "idf_tools.py --non-interactive install --targets=esp32c3: exit status 1" in done.err
    assert "ERROR: Failed to download" in done.err
    assert "goes on where it stopped" in done.err
    assert look(checkout / "esp-idf").head == standin.commit
    monkeypatch.delenv("STANDIN_OFFLINE")
    assert cli("install", "--project", checkout, "--module", "MINI-1").status == 0


def test_a_system_without_git(cli, checkout: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = cli("install", "--project", checkout, "--module", "MINI-1")
    assert done.status == 4
    assert "not installed on this system: git" in done.err
    assert "install it: " in done.err
    assert not (checkout / "esp-idf").exists()


def test_a_path_with_a_space(cli, standin: StandIn, tmp_path: Path) -> None:
    checkout = idf_standin.make_checkout(tmp_path / "my esp-at", standin)
    for command in ("install", "build"):
        done = cli(command, "--project", checkout, "--module", "MINI-1")
        assert done.status == 2
        assert f"{checkout}: the path of the checkout has a space in it" in done.err
    assert not (checkout / "esp-idf").exists()
    with pytest.raises(InputError, match="IDF_TOOLS_PATH"):
        check_paths(tmp_path, {"IDF_TOOLS_PATH": "/my tools"})
    check_paths(tmp_path, {"IDF_TOOLS_PATH": "/tools-ü"})


def test_what_is_no_checkout(cli, tmp_path: Path) -> None:
    done = cli("install", "--project", tmp_path, "--module", "MINI-1")
    assert (done.status, "is no esp-at checkout" in done.err) == (2, True)


def test_the_exported_variables() -> None:
    text = "A=1\nPATH=/idf/bin:/idf/tools:$PATH\nB=x=y\nno variable\n"
    assert parse_export(text, "/usr/bin:/bin") == {
        "A": "1",
        "B": "x=y",
        "PATH": "/idf/bin:/idf/tools:/usr/bin:/bin",
    }


def test_another_esp_idf_of_the_shell_is_forgotten(tmp_path: Path) -> None:
    write(tmp_path / "tools/cmake/version.cmake",
          "set(IDF_VERSION_MAJOR 5)\nset(IDF_VERSION_MINOR 4)\nset(IDF_VERSION_PATCH 4)\n")  # fmt: skip
    given = {"HOME": "/h", "IDF_PATH": "/x", "ESP_IDF_VERSION": "5.1"}
    other = "/h/.espressif/python_env/idf5.1_py3.11_env"
    own = "/opt/esp/python_env/idf5.4_py3.10_env"
    assert without_other_idf({**given, "IDF_PYTHON_ENV_PATH": other}, tmp_path) == {"HOME": "/h"}
    kept = without_other_idf({**given, "IDF_PYTHON_ENV_PATH": own}, tmp_path)
    assert kept == {"HOME": "/h", "IDF_PYTHON_ENV_PATH": own}

"""``doctor``: what is found wrong, and how it is mended."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from idf_standin import add_patch, apply_patch, git, make_checkout, write

from esp_at_tools.workspace.doctor import Machine, disk_checks, machine_checks, oldest_python, path_problem
from esp_at_tools.workspace.doctor_system import COMMANDS, PACKAGES, System, linux, quoted, this_system
from esp_at_tools.workspace.doctor_tools import idf_tools

MODULE = "ESP32C3/MINI-1"


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Path:
    """A machine with git, cmake and ninja in PATH and nothing else; return the folder of its programs."""
    programs = tmp_path / "bin"
    for name, said in {
        "cmake": "cmake version 3.25.1",
        "ninja": "1.11.1",
        "ccache": "ccache version 4.9",
    }.items():
        program(programs / name, said)
    import shutil

    (programs / "git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin")
    for name in ("IDF_PATH", "IDF_PYTHON_ENV_PATH", "AT_EXT_MODULE_CFG", "AT_CUSTOM_COMPONENTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IDF_TOOLS_PATH", str(tmp_path / "espressif-tools"))
    monkeypatch.setattr("esp_at_tools.device.ports.serial_ports", list)
    return programs


def program(path: Path, said: str, status: int = 0) -> Path:
    write(path, f"#!/bin/sh\necho '{said}'\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(remotes, tmp_path, monkeypatch, request) -> Path:
    """A checkout without ESP-IDF; the current folder."""
    request.getfixturevalue("machine")
    for name, value in {**remotes.environment(), "IDF_TOOLS_PATH": str(tmp_path / "espressif-tools")}.items():
        monkeypatch.setenv(name, value)
    folder = make_checkout(tmp_path / "at", remotes)
    monkeypatch.chdir(folder)
    return folder


def clone_idf(checkout: Path) -> Path:
    """Clone the stand-in to where it belongs, at its pinned commit, with its submodules."""
    pin = dict(
        line.split(":", 1) for line in next(checkout.glob("module_config/*/IDF_VERSION")).read_text().split()
    )
    idf = checkout / "esp-idf"
    git(checkout, "clone", "-q", pin["repository"], str(idf))
    git(idf, "checkout", "-q", pin["commit"])
    git(idf, "submodule", "--quiet", "update", "--init", "--recursive")
    return idf


def install_python() -> Path:
    home = Path(os.environ["IDF_TOOLS_PATH"])
    python = (
        home / "python_env" / f"idf5.4_py{sys.version_info[0]}.{sys.version_info[1]}_env" / "bin" / "python"
    )
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    return python


def looked(cli, *args: object, status: int = 1) -> dict[str, dict]:
    result = cli("doctor", "--json", *args)
    document = json.loads(result.out)
    assert result.status == status, [check for check in document["checks"] if check["level"] == "error"]
    assert document["ok"] == (status == 0)
    return {check["id"]: check for check in document["checks"]}


# --- the machine ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("machine")
def test_outside_of_a_checkout_the_machine_alone_is_looked_at(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checks = looked(cli, status=0)
    assert list(checks)[:2] == ["git", "python"]
    assert checks["cmake"]["found"] == "3.25.1"
    assert not {"checkout", "idf_commit", "patches"} & set(checks)
    result = cli("doctor")
    assert "ok    CMake: 3.25.1 (needed: 3.16 or newer)" in result.out
    assert "This machine has what a build needs" in result.out
    assert cli("doctor", "--module", "X").status == 2


def test_what_is_missing_comes_with_the_command_of_this_system(cli, machine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program(machine / "cmake", "cmake version 3.10.2")
    (machine / "git").unlink()
    (machine / "ninja").unlink()
    monkeypatch.setenv("PATH", str(machine))
    system = System("Fedora", "fedora")
    checks = {check.id: check for check in machine_checks(Machine(dict(os.environ), system))}
    assert checks["git"].mend == "sudo dnf install git"
    assert checks["ninja"].mend == "sudo dnf install ninja-build"
    assert (checks["cmake"].level, checks["cmake"].found) == ("error", "3.10.2")
    result = cli("doctor")
    assert result.status == 1
    assert "wrong: git\n  git is not installed\n  → " in result.out
    assert "A build would fail: git, CMake, Ninja." in result.out
    assert "Traceback" not in result.out + result.err


def test_a_new_cmake_and_an_old_mbed_tls(machine, tmp_path):
    idf = tmp_path / "idf"
    write(idf / "components/mbedtls/mbedtls/CMakeLists.txt", "cmake_minimum_required(VERSION 2.8.12)\n")
    given = dict(os.environ)
    ids = [check.id for check in machine_checks(Machine(given, idf=idf))]
    assert "cmake_policy" not in ids
    program(machine / "cmake", "cmake version 4.1.0")
    (found,) = [check for check in machine_checks(Machine(given, idf=idf)) if check.id == "cmake_policy"]
    assert found.level == "error"
    assert "asks for CMake 2.8" in found.problem
    write(idf / "components/mbedtls/mbedtls/CMakeLists.txt", "cmake_minimum_required(VERSION 3.5.1)\n")
    assert "cmake_policy" not in [check.id for check in machine_checks(Machine(given, idf=idf))]


@pytest.mark.usefixtures("machine")
def test_a_python_that_is_too_old_for_an_esp_idf(tmp_path):
    write(tmp_path / "idf/tools/python_version_checker.py", "OLDEST_PYTHON_SUPPORTED = (3, 9)  # a tuple\n")
    assert oldest_python(tmp_path / "idf") == (3, 9)
    old = program(tmp_path / "python", "Python 3.8.10")
    checks = {
        check.id: check
        for check in machine_checks(Machine(dict(os.environ), idf=tmp_path / "idf", python=old))
    }
    assert (checks["python"].level, checks["python"].needed) == ("error", "3.9 or newer")
    broken = program(tmp_path / "python", "Python 3.12.1", status=1)
    checks = {check.id: check for check in machine_checks(Machine(dict(os.environ), python=broken))}
    assert checks["venv"].level == "error"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('ID=ubuntu\nID_LIKE=debian\nPRETTY_NAME="Ubuntu 24.04"\n', "debian"),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", "debian"),
        ("ID=fedora\n", "fedora"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "fedora"),
        ("ID=manjaro\nID_LIKE=arch\n", "arch"),
        ("ID=nixos\n", ""),
        ("", ""),
    ],
)
def test_which_linux_this_is(tmp_path, text, kind):
    path = write(tmp_path / "os-release", text)
    system = this_system("linux", [tmp_path / "nowhere", path])
    assert system.kind == kind
    assert system.install(["cmake"]).startswith(COMMANDS.get(kind, "install cmake as this system does it"))
    assert linux({}).name == "Linux"


def test_every_program_has_a_package_on_every_system():
    assert all(set(packages) == set(COMMANDS) for packages in PACKAGES.values())
    assert this_system("darwin").install(["ninja", "cmake", "ninja"]) == "brew install ninja cmake"
    assert this_system("win32").install(["git"]) == "winget install --exact --id Git.Git"
    assert quoted(Path("a b")) in ("'a b'", '"a b"')


@pytest.mark.parametrize(
    ("path", "windows", "expected"),
    [
        ("/home/me/esp-at", False, ("", "ok")),
        ("/home/mü/esp-at", False, ("", "ok")),
        ("/home/me/my boards", False, ("a space", "error")),
        ("/home/me/a(1)", False, ("the character (", "warning")),
        ("C:/Users/Jörg/esp-at", True, ("a letter that is not ASCII", "warning")),
        ("C:/Program(x86)/esp-at", True, ("the character (", "error")),
    ],
)
def test_paths_with_which_esp_idf_cannot_work(path, windows, expected):
    assert path_problem(Path(path), windows=windows) == expected


def test_too_little_room(tmp_path):
    (full,) = disk_checks({tmp_path / "not" / "yet": 1 << 70, tmp_path: 1})
    assert (full.level, full.needed[:6]) == ("error", "about ")
    (fine,) = disk_checks({tmp_path: 1})
    assert fine.level == "ok"


# --- ESP-IDF's tools ------------------------------------------------------------------------------------

TOOLS = {
    "tools": [
        {
            "name": "riscv32-esp-elf", "description": "gcc", "install": "always",
            "supported_targets": ["esp32c3"],
            "export_paths": [["riscv32-esp-elf", "bin"]], "version_cmd": ["riscv32-esp-elf-gcc", "--version"],
            "version_regex": r"\(crosstool-NG ([^ )]+)\)",
            "versions": [{"name": "esp-14", "status": "recommended", "linux-amd64": {}},
                         {"name": "esp-13", "status": "supported", "linux-amd64": {}}],
        },
        {
            "name": "xtensa-esp-elf", "install": "always", "supported_targets": ["esp32"],
            "version_cmd": ["xtensa"], "version_regex": "(.+)", "export_paths": [[""]],
            "versions": [{"name": "1", "status": "recommended"}],
        },
        {
            "name": "cmake", "install": "on_request", "supported_targets": ["all"], "export_paths": [["bin"]],
            "version_cmd": ["cmake", "--version"], "version_regex": "cmake version ([0-9.]+)",
            "platform_overrides": [{"platforms": ["win64"], "install": "always"}],
            "versions": [{"name": "3.30.2", "status": "recommended", "linux-amd64": {}}],
        },
        {
            "name": "roms", "install": "always", "supported_targets": ["all"], "export_paths": [[""]],
            "version_cmd": [""], "version_regex": "",
            "versions": [{"name": "2024", "status": "recommended", "any": {}}],
        },
        {
            "name": "qemu", "install": "never", "export_paths": [[""]], "version_cmd": ["q"],
            "version_regex": "", "versions": [],
        },
    ]
}  # fmt: skip


def test_tools_are_found_as_idf_tools_finds_them(machine, tmp_path):
    idf, home = tmp_path / "idf", tmp_path / "home"
    write(idf / "tools/tools.json", json.dumps(TOOLS))
    given = {"PATH": str(machine), "IDF_TOOLS_PATH": str(home)}

    def find(machine: str = "linux-amd64") -> dict:
        return {tool.name: tool for tool in idf_tools(idf, "esp32c3", given, machine=machine)}

    assert [(tool.name, tool.required, tool.found) for tool in find().values()] == [
        ("riscv32-esp-elf", True, ""),
        ("cmake", False, ""),
        ("roms", True, ""),
    ]
    assert find()["cmake"].other == "3.25.1"
    assert find("win64")["cmake"].required
    (home / "tools/roms/2024").mkdir(parents=True)
    assert find()["roms"].found == "2024"
    gcc = home / "tools/riscv32-esp-elf/esp-14/riscv32-esp-elf/bin/riscv32-esp-elf-gcc"
    program(gcc, "gcc (crosstool-NG esp-14) 14.2")
    assert (find()["riscv32-esp-elf"].found, find()["riscv32-esp-elf"].place) == ("esp-14", gcc)
    program(gcc, "", status=127)
    assert "cannot be run" in find()["riscv32-esp-elf"].broken
    older = home / "tools/riscv32-esp-elf/esp-13/riscv32-esp-elf/bin/riscv32-esp-elf-gcc"
    program(older, "gcc (crosstool-NG esp-13) 13")  # idf_tools.py exports none but the recommended one
    assert find()["riscv32-esp-elf"].found == ""
    program(machine / "riscv32-esp-elf-gcc", "gcc (crosstool-NG esp-13) 13")
    assert find()["riscv32-esp-elf"].found == "esp-13"
    program(machine / "riscv32-esp-elf-gcc", "gcc (crosstool-NG esp-9) 9")
    assert (find()["riscv32-esp-elf"].found, find()["riscv32-esp-elf"].other) == ("", "esp-9")


def test_a_list_of_tools_that_is_none(cli, checkout):
    idf = clone_idf(checkout)
    for text in ("", "[]", "{}", '{"tools": [1]}', '{"tools": [{"name": "x"}]}', "[" * 100_000):
        write(idf / "tools/tools.json", text)
        result = cli("doctor", "--module", MODULE)
        assert result.status == 2
        assert "tools.json" in result.err


# --- a checkout ------------------------------------------------------------------------------------------


def test_a_fresh_checkout(cli, checkout):
    checks = looked(cli, "--module", MODULE)
    assert checks["idf_commit"]["found"] == "none"
    assert checks["idf_commit"]["mend"] == f"esp-at-tool install --module {MODULE}"
    (checkout.parent / "elsewhere").mkdir()
    os.chdir(checkout.parent / "elsewhere")
    there = looked(cli, "--project", checkout, "--module", MODULE)
    assert there["idf_commit"]["mend"] == f"esp-at-tool install --project {checkout} --module {MODULE}"
    assert cli("doctor", "--project", ".").status == 2


def test_without_a_module(cli, checkout):
    checks = looked(cli)
    assert checks["module"]["level"] == "note"
    assert MODULE in checks["module"]["problem"]
    write(
        checkout / "build/module_info.json", '{"platform":"PLATFORM_ESP32C3","module":"MINI-1","silence":0}'
    )
    assert looked(cli)["module"]["found"] == MODULE
    write(checkout / "build/module_info.json", "{}")
    assert looked(cli)["module_info"]["level"] == "error"


def test_a_checkout_that_is_ready(cli, checkout):
    idf = clone_idf(checkout)
    python = install_python()
    checks = looked(cli, "--module", MODULE, status=0)
    assert checks["idf_submodules"]["found"] == "all"
    assert checks["patches"]["found"] == "none"
    assert "Nothing stands against a build for ESP32C3/MINI-1." in cli("doctor", "-m", MODULE).out
    write(idf / "tools/tools.json", json.dumps(TOOLS))
    checks = looked(cli, "--module", MODULE)
    assert "riscv32-esp-elf esp-14: missing; roms 2024: missing" in checks["idf_tools"]["problem"]
    python.unlink()
    program(python, "", status=1)
    checks = looked(cli, "--module", MODULE)
    assert checks["idf_python"]["found"] == "broken"
    assert checks["idf_python"]["mend"].startswith(f"rm -r {python.parent.parent} && esp-at-tool install")


def test_another_commit_and_missing_submodules(cli, checkout):
    idf = clone_idf(checkout)
    git(idf, "checkout", "-q", "HEAD~1")
    checks = looked(cli, "--module", MODULE)
    assert "the module is built with" in checks["idf_commit"]["problem"]
    git(idf, "checkout", "-q", "-")
    git(idf, "submodule", "--quiet", "deinit", "--force", "--all")
    checks = looked(cli, "--module", MODULE)
    assert "components/lib" in checks["idf_submodules"]["problem"]
    assert checks["idf_submodules"]["mend"] == f"git -C {idf} submodule update --init --recursive"
    (idf / "tools/idf.py").unlink()
    assert "not checked out completely" in looked(cli, "--module", MODULE)["idf_commit"]["problem"]
    other = looked(cli, "--module", MODULE, "--idf", checkout)
    assert "idf_commit" in other
    assert other["idf_commit"]["level"] == "error"


def test_an_extension_that_is_not_there(cli, checkout, monkeypatch, tmp_path):
    write(checkout / "build.py", "at_targets = ['esp32c3']  # AT_EXT_MODULE_CFG\n")
    monkeypatch.setenv("AT_EXT_MODULE_CFG", str(tmp_path / "nowhere"))
    assert looked(cli, "--module", MODULE)["extension"]["level"] == "error"


def test_a_space_in_the_path(cli, checkout, monkeypatch):
    monkeypatch.chdir(checkout.parent)
    checkout.rename(checkout.parent / "my checkout")
    checks = looked(cli, "--project", "my checkout", "--module", MODULE)
    assert (
        "the checkout has a space in its path" in checks["path"]["problem"]
        or "ESP-IDF" in checks["path"]["problem"]
    )
    assert f"--project '{checkout.parent}/my checkout'" in checks["idf_commit"]["mend"]


@pytest.mark.usefixtures("machine")
def test_a_port_that_may_not_be_opened(cli, tmp_path, monkeypatch):
    from esp_at_tools.device.ports import SerialPort

    monkeypatch.chdir(tmp_path)
    problem = "you may not open it: sudo usermod -aG dialout $USER, then log in again"
    monkeypatch.setattr(SerialPort, "problem", property(lambda _: problem))
    port = SerialPort("/dev/ttyUSB0", "CP2102", 0x10C4, 0xEA60)
    monkeypatch.setattr("esp_at_tools.device.ports.serial_ports", lambda: [port])
    serial = looked(cli, status=0)["serial"]
    assert (serial["level"], serial["found"]) == ("warning", "/dev/ttyUSB0")
    assert serial["mend"] == "sudo usermod -aG dialout $USER, then log in again"


# --- patches and clean -------------------------------------------------------------------------------------


def test_patches_are_looked_at(cli, checkout):
    clone_idf(checkout)
    install_python()
    add_patch(checkout)
    assert looked(cli, "--module", MODULE, status=0)["patches"]["found"] == "1 to apply"
    apply_patch(checkout)
    assert looked(cli, "--module", MODULE, status=0)["patches"]["found"] == "1 applied"
    git(checkout / "esp-idf", "checkout", "-q", "README.md")
    stale = looked(cli, "--module", MODULE, status=0)["patches"]
    assert (stale["level"], stale["mend"]) == ("warning", "esp-at-tool clean --patches")
    (checkout / "esp-idf/README.md").write_text("mine\n")
    conflict = looked(cli, "--module", MODULE)["patches"]
    assert "README.md: hunk 1 of 1 at line 1" in conflict["problem"]

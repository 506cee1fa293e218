"""The package as it is installed: its API, its data, its start-up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import builders
import pytest
from conftest import REPOSITORY

import esp_at_tools
from esp_at_tools.catalog.data import data_folder, templates_folder

HEAVY = ("esptool", "cryptography", "jinja2", "yaml", "rich", "zipfile")


def test_every_public_name_loads() -> None:
    for name in esp_at_tools.__all__:
        assert getattr(esp_at_tools, name) is not None
    assert set(esp_at_tools.__all__) <= set(dir(esp_at_tools))


def test_a_module_is_built_in_a_call(tmp_path: Path) -> None:
    definition = esp_at_tools.module("ESP32C3/MINI-1")
    assert definition in esp_at_tools.modules()
    place = tmp_path / "build"
    settings = {"uart_tx_pin": 10, "cfg0": "0,16,0x2800,0x01,2,2,A003"}
    built = esp_at_tools.build_module("esp32c3/mini-1", place, settings=settings)
    assert built.recipe.full_name == definition.full_name
    firmware = esp_at_tools.Firmware.open(place / "customized_partitions" / "mfg_nvs.bin")
    assert firmware.settings() == {**definition.parameters, "uart_tx_pin": 10}
    assert firmware.gatts()["cfg0"] == settings["cfg0"]
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    for wrong in ({"uart_tx_pin": 99}, {"uart_tx": 10}, {"mqtt_ca": "ca.pem"}):
        with pytest.raises(esp_at_tools.InputError):
            esp_at_tools.build_module("ESP32C3/MINI-1", place, settings=wrong)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = esp_at_tools.nonsense


def test_data_folders_are_installed() -> None:
    assert (data_folder() / "chips.csv").is_file()
    assert list(templates_folder().glob("*.j2"))


@pytest.mark.skipif(
    "ESP_AT_EXPECT_INSTALLED" not in os.environ, reason="set in CI, where the wheel is tested"
)
def test_the_tested_package_is_the_installed_one() -> None:
    home = Path(esp_at_tools.__file__).resolve()
    assert "site-packages" in home.parts
    assert (home.parent / "py.typed").is_file()


@pytest.mark.parametrize(
    "code",
    [
        "import esp_at_tools",
        "from esp_at_tools.cli.main import run; run(['--help'])",
        "from esp_at_tools.cli.main import run; run(['--version'])",
        "from esp_at_tools.cli.main import run; run(['modify-bin', '--help'])",
    ],
)
def test_start_up_loads_nothing_heavy(code: str, tmp_path: Path) -> None:
    loaded = f"[m for m in {HEAVY!r} if m in sys.modules]"
    check = f"import sys; {code}; sys.exit(','.join({loaded}) or 0)"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_module_and_program_are_the_same(process) -> None:
    script = Path(sys.executable).parent / "esp-at-tool"
    assert process("--version").out == f"esp-at-tool, version {esp_at_tools.__version__}\n"
    if script.exists():
        done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout == process("--version").out


def test_the_repository_names_no_foreign_place() -> None:
    """No registry host and no path of one machine stands in what is published."""
    if not (REPOSITORY / ".ci" / "run").exists():
        pytest.skip("not a checkout")
    bad = ["py" + "pi.org", "registry.npm" + "js", "/wo" + "rk/", "/ro" + "ot/"]
    for path in REPOSITORY.rglob("*"):
        relative = path.relative_to(REPOSITORY)
        if path.suffix not in {".py", ".md", ".toml", ".csv", ".j2", ".yaml", ""} or not path.is_file():
            continue
        if any(part == "build" or (part[0] == "." and part != ".ci") for part in relative.parts):
            continue
        text = path.read_text("utf-8", errors="replace")
        assert not [word for word in bad if word in text], relative


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "redirection", ["inspect f.bin >&-", "modules list >&-", "inspect f.bin 2>&-", "partition show f.csv >&-"]
)
def test_closed_streams_do_no_harm(tmp_path: Path, redirection: str) -> None:
    (tmp_path / "f.bin").write_bytes(builders.image())
    (tmp_path / "f.csv").write_text(builders.PRIMARY.to_csv())
    done = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m esp_at_tools {redirection}'],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.name != "posix", reason="POSIX has pipes of this kind")
def test_a_reader_that_goes_away_is_no_finding_of_a_check() -> None:
    code = "import sys; sys.stdin.read(); from esp_at_tools.__main__ import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "modules", "show", "ESP32C3/MINI-1", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as program:
        assert program.stdout is not None
        program.stdout.close()
        assert program.stdin is not None
        program.stdin.close()
        assert program.stderr is not None
        said = program.stderr.read()
    assert program.returncode == 141
    assert not said


def test_an_interrupt_at_the_start_shows_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from esp_at_tools.__main__ import main

    seen = []

    class Finder:
        """Sees when the program is imported."""

        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "esp_at_tools.cli.main":
                seen.append(signal.getsignal(signal.SIGINT))

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    monkeypatch.delitem(sys.modules, "esp_at_tools.cli.main", raising=False)
    monkeypatch.setattr(sys, "argv", ["esp-at-tool", "--version"])
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit):
        main()
    assert seen[-1] is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("redirection", "status"), [(">/dev/full", 2), ("2>/dev/full", 0), (">&-", 0), ("2>&- nothing", 2)]
)
def test_an_output_that_cannot_be_written_ends_in_a_status(
    tmp_path: Path, redirection: str, status: int
) -> None:
    csv = tmp_path / "a.csv"
    csv.write_text("key,type,encoding,value\nspace,namespace,,\nnumber,data,u8,7\n")
    program = f'"{sys.executable}" -m esp_at_tools'
    subprocess.run(["/bin/sh", "-c", f"{program} nvs generate a.csv a.bin 0x3000"], cwd=tmp_path, check=True)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{program} nvs dump a.bin --format csv {redirection}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr

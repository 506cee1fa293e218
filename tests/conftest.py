"""What every test may use: the shared test data, and the program run in this process or in its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from idf_standin import StandIn

    from esp_at_tools.firmware.firmware import Firmware

# Random inputs take their time on a busy machine; in continuous integration they are the same every time.
hypothesis.settings.register_profile(
    "project",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
hypothesis.settings.load_profile("project")

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("ESP_AT_TEST_DATA", REPOSITORY.parent / "shared"))
"""Real firmware and the official tree's data; it does not belong to the project."""


def shared_or_skip() -> Path:
    """Return the folder of the shared data, or skip the test where it is absent."""
    if not (SHARED / "firmware").is_dir():
        if os.environ.get("ESP_AT_REQUIRE_TEST_DATA"):
            pytest.fail(f"there is no real firmware in {SHARED}, and ESP_AT_REQUIRE_TEST_DATA is set")
        pytest.skip(f"needs the real firmware in {SHARED}; set ESP_AT_TEST_DATA to its folder")
    return SHARED


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the shared data."""
    return shared_or_skip()


@pytest.fixture(autouse=True)
def _no_terminal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the size of a terminal, which a parallel run hands to its workers."""
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)


@dataclass(frozen=True)
class Result:
    """What a run of the program left."""

    status: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run the program in this process: ``cli("inspect", path, "--json")``."""
    from esp_at_tools.cli.main import run

    def call(*args: object) -> Result:
        capsys.readouterr()
        status = run([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return call


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., Result]:
    """Run the program in a process of its own; not in the checkout, so that the installed package runs."""

    def call(*args: object, **options: object) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "esp_at_tools", *map(str, args)],
            check=False,
            **{"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "cwd": tmp_path, **options},
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call


# --- a checkout that can be compiled ---------------------------------------------------------------------


@pytest.fixture(scope="session")
def remotes(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    """The repositories of the stand-in for ESP-IDF, which no test changes."""
    import idf_standin

    return idf_standin.make_idf(tmp_path_factory.mktemp("standin"))


@pytest.fixture(scope="session")
def installed(remotes: StandIn, tmp_path_factory: pytest.TempPathFactory) -> tuple[StandIn, Path]:
    """The stand-in with its tools, and a checkout with everything installed for MINI-1; tests copy them."""
    import idf_standin

    from esp_at_tools.cli.main import run

    folder = tmp_path_factory.mktemp("installed")
    standin = replace(remotes, tools=folder / "espressif-tools")
    checkout = idf_standin.make_checkout(folder / "esp-at", standin)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in standin.environment().items():
            patch.setenv(name, value)
        assert run(["install", "--project", str(checkout), "--module", "MINI-1", "-q"]) == 0
    return standin, checkout


@pytest.fixture
def standin(installed: tuple[StandIn, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in with tools of this test's own, and the environment for it."""
    shutil.copytree(installed[0].tools, tmp_path / "tools")
    (tmp_path / "tools/record.jsonl").unlink()
    own = replace(installed[0], tools=tmp_path / "tools")
    for name, value in own.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("IDF_PATH", "IDF_PYTHON_ENV_PATH", "AT_EXT_MODULE_CFG", "AT_CUSTOM_COMPONENTS"):
        monkeypatch.delenv(name, raising=False)
    return own


@pytest.fixture
def checkout(
    standin: StandIn, installed: tuple[StandIn, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of the installed checkout, in which the test stands."""
    assert standin.tools.is_dir()
    folder = tmp_path / "esp-at-ü"
    shutil.copytree(installed[1], folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def opened_firmware(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Firmware]:
    """A firmware of each layout, which no test changes."""
    import migrations

    return migrations.open_all(tmp_path_factory.mktemp("migrate"))


@pytest.fixture
def take(opened_firmware: dict[str, Firmware]) -> Callable[..., Firmware]:
    """Gives copies of them, changed as a test wants."""
    import migrations

    return migrations.taker(opened_firmware)

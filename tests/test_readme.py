"""Every command that the two READMEs show runs, and does what the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import builders
import pytest
from conftest import REPOSITORY

README, CHINESE = REPOSITORY / "README.md", REPOSITORY / "README.zh-CN.md"
needs_readme = pytest.mark.skipif(not README.is_file(), reason="the READMEs come with a checkout or an sdist")
COMMAND = re.compile(r"`((?:esp-at-tool) [^`]+)`")


def commands(path: Path) -> list[str]:
    text = path.read_text("utf-8") if path.is_file() else ""
    table = [line for line in text.splitlines() if line.startswith("|")]
    first = [
        line.split("&& .venv/bin/")[-1]
        for line in text.splitlines()
        if "esp-at-tool modify-bin" in line[:150]
    ]
    return list(
        dict.fromkeys([*COMMAND.findall("\n".join(table)), *(x for x in first if x.startswith("esp-at"))])
    )


def fenced(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the README's commands name."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "factory_MINI-1.bin").write_bytes(builders.image())
    (folder / "mfg_nvs.bin").write_bytes(builders.generate(builders.mfg_csv()))
    (folder / "edited.csv").write_text(builders.mfg_csv())
    builders.release(folder / "release")
    (folder / "partition-table.bin").write_bytes(builders.PRIMARY.to_bytes())
    (folder / "partitions.csv").write_text(builders.PRIMARY.to_csv())
    (folder / "ca.pem").write_bytes(builders.certificate(1, ca=True))
    (folder / "device.crt").write_bytes(builders.certificate(2))
    (folder / "device.key").write_bytes(builders.key_pem(2))
    if README.is_file():
        (folder / "product.yaml").write_text(fenced(README, "yaml")[0])
    (folder / "bin").mkdir()
    script = folder / "bin" / "esp-at-tool"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m esp_at_tools "$@"\n')
    script.chmod(0o755)
    return folder


@needs_readme
@pytest.mark.skipif(os.name != "posix", reason="the commands are written for a POSIX shell")
@pytest.mark.parametrize("command", commands(README))
def test_a_command_of_the_readme_runs(workshop: Path, command: str) -> None:
    environment = {**os.environ, "PATH": f"{workshop / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=workshop, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@needs_readme
def test_the_chinese_readme_is_its_equal() -> None:
    assert commands(CHINESE) == commands(README)
    assert len(commands(README)) > 15
    assert fenced(CHINESE, "sh") == fenced(README, "sh")
    assert fenced(CHINESE, "python") == fenced(README, "python")
    uncommented = [re.sub(r" *#.*", "", fenced(path, "yaml")[0]) for path in (README, CHINESE)]
    assert uncommented[0] == uncommented[1]
    titles = [len(re.findall(r"^#+ ", path.read_text("utf-8"), re.MULTILINE)) for path in (README, CHINESE)]
    assert titles[0] == titles[1]


@needs_readme
def test_the_python_example_runs(workshop: Path) -> None:
    code = fenced(README, "python")[0]
    subprocess.run([sys.executable, "-c", code], cwd=workshop, check=True)
    assert (workshop / "out.bin").read_bytes() != (workshop / "factory_MINI-1.bin").read_bytes()

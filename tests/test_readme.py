"""Every command that the two READMEs show runs, and does what the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import builders
import idf_standin
import pytest
from at_simulator import AtModule, PtyModule
from conftest import REPOSITORY
from kconfig_trees import make_trees
from release_server import ADDRESS, serving
from rom_simulator import Loader, PtyBoard

README, CHINESE = REPOSITORY / "README.md", REPOSITORY / "README.zh-CN.md"
needs_readme = pytest.mark.skipif(not README.is_file(), reason="the READMEs come with a checkout or an sdist")
EXPECTED = {"doctor": (0, 1)}
"""Command → exit statuses, where 0 is not the only one: this machine may lack what a build needs."""
COMPILING = re.compile(r"esp-at-tool (?:doctor|install|build --source esp-at|size|component|ci|clean)\b")
"""The commands for a checkout that is compiled."""
COMMAND = re.compile(r"`((?:esp-at-tool) [^`]+)`")


def commands(path: Path) -> list[str]:
    text = path.read_text("utf-8") if path.is_file() else ""
    table = [line for line in text.splitlines() if line.startswith("|")]
    first = [
        line.split("&& .venv/bin/")[-1] for line in text.splitlines() if "esp-at-tool build" in line[:150]
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
    (folder / "old-dump.bin").write_bytes(builders.legacy_image())
    (folder / "mfg_nvs.bin").write_bytes(builders.generate(builders.mfg_csv()))
    (folder / "edited.csv").write_text(builders.mfg_csv())
    builders.release(folder / "release")
    (folder / "partition-table.bin").write_bytes(builders.PRIMARY.to_bytes())
    (folder / "partitions.csv").write_text(builders.PRIMARY.to_csv())
    (folder / "ca.pem").write_bytes(builders.certificate(1, ca=True))
    (folder / "device.crt").write_bytes(builders.certificate(2))
    (folder / "device.key").write_bytes(builders.key_pem(2))
    (folder / "keys").mkdir()
    for number in (1, 2):
        (folder / "keys" / f"{number}.crt").write_bytes(builders.certificate(number + 2))
        (folder / "keys" / f"{number}.key").write_bytes(builders.key_pem(number + 2))
    (folder / "check.txt").write_text("send AT+GMR\nexpect OK\n")
    cloud = folder / "aws"
    cloud.mkdir()
    (cloud / "AmazonRootCA1.pem").write_bytes(builders.certificate(1, ca=True))
    (cloud / "1f2e-certificate.pem.crt").write_bytes(builders.certificate(2))
    (cloud / "1f2e-private.pem.key").write_bytes(builders.key_pem(2))
    (folder / "standin").mkdir()
    idf_standin.make_checkout(folder / "checkout", idf_standin.make_idf(folder / "standin"))
    header = folder / "checkout/components/at/include/esp_at_cmd_register.h"
    header.parent.mkdir(parents=True)
    header.write_text("#define ESP_AT_CMD_SET_INIT_FN(function, priority)\n")
    trees = make_trees(folder)
    trees.project.rename(folder / "esp-at")
    trees.idf.rename(folder / "esp-idf")
    if README.is_file():
        (folder / "product.yaml").write_text(fenced(README, "yaml")[0])
        (folder / "devices.csv").write_text(fenced(README, "csv")[0])
    (folder / "bin").mkdir()
    script = folder / "bin" / "esp-at-tool"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m esp_at_tools "$@"\n')
    script.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def surroundings(workshop: Path) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """A server with a release, and a module on two ports; the environment, and the names of the ports."""
    image = bytearray(builders.image())
    archive = builders.zipped(workshop / "release", workshop / "release.zip").read_bytes()
    with ExitStack() as stack:
        server = stack.enter_context(serving(files={ADDRESS: archive}))
        download = stack.enter_context(PtyBoard(Loader(flash=bytearray(image))))
        at = stack.enter_context(PtyModule(AtModule(image)))
        environment = {
            **os.environ,
            **idf_standin.GIT_ENVIRONMENT,
            "IDF_TOOLS_PATH": str(workshop / "standin" / "espressif-tools"),
            "HOME": str(workshop / "standin"),
            "PATH": f"{workshop / 'bin'}:{os.environ['PATH']}",
            "ESP_AT_CACHE": str(workshop / "cache"),
            "ESP_AT_RELEASE_SERVER": server.url,
            "XDG_STATE_HOME": str(workshop / "state"),
        }
        yield environment, {"/dev/ttyUSB0": download.port, "/dev/ttyUSB1": at.port}


@needs_readme
@pytest.mark.skipif(os.name != "posix", reason="the commands are written for a POSIX shell")
def test_the_commands_of_the_readme_run_one_after_the_other(
    workshop: Path, surroundings: tuple[dict[str, str], dict[str, str]]
) -> None:
    environment, ports = surroundings
    failed = []
    for command in commands(README):
        line = re.sub("|".join(ports), lambda match: ports[match[0]], command)
        if COMPILING.match(line):
            line = re.sub(r" esp-at(?= |$)", " checkout", line)
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=workshop,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in EXPECTED.get(command.split()[1], (0,)):
            failed.append(f"{command}: {done.returncode}: {done.stderr}")
    assert not failed, "\n".join(failed)


@needs_readme
def test_the_chinese_readme_is_its_equal() -> None:
    assert commands(CHINESE) == commands(README)
    assert len(commands(README)) > 40
    assert fenced(CHINESE, "sh") == fenced(README, "sh")
    assert fenced(CHINESE, "python") == fenced(README, "python")
    assert fenced(CHINESE, "csv") == fenced(README, "csv")
    uncommented = [re.sub(r" *#.*", "", fenced(path, "yaml")[0]) for path in (README, CHINESE)]
    assert uncommented[0] == uncommented[1]
    titles = [len(re.findall(r"^#+ ", path.read_text("utf-8"), re.MULTILINE)) for path in (README, CHINESE)]
    assert titles[0] == titles[1]


@needs_readme
def test_the_python_example_runs(workshop: Path) -> None:
    code = fenced(README, "python")[0]
    subprocess.run([sys.executable, "-c", code], cwd=workshop, check=True)
    assert (workshop / "out.bin").read_bytes() != (workshop / "factory_MINI-1.bin").read_bytes()

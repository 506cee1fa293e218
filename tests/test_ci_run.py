"""The steps of a workflow with the program itself, a checkout and what stands for ESP-IDF."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import idf_standin
import pytest
import yaml

TOKENS_IN = "components/at/private_include/at_ota_token.h"
HEADER = "#pragma once\n#define CONFIG_ESP_AT_OTA_TOKEN_ESP32C3_MINI CONFIG_AT_OTA_TOKEN_KEY\n"
TABLE = (
    "#if defined(CONFIG_IDF_TARGET_ESP32C3)\n"
    '    {"MINI-1", CONFIG_ESP_AT_OTA_TOKEN_ESP32C3_MINI, CONFIG_ESP_AT_OTA_SSL_TOKEN_ESP32C3_MINI},\n'
    "#endif\n"
)


@pytest.mark.skipif(os.name != "posix", reason="needs the shell of a runner")
@pytest.mark.parametrize("provider", ["github", "gitlab"])
def test_a_runner_builds_a_module(cli, tmp_path: Path, provider: str) -> None:
    standin = idf_standin.make_idf(tmp_path)
    files = {TOKENS_IN: HEADER, "components/at/src/at_default_config.c": TABLE}
    root = idf_standin.make_checkout(tmp_path / "esp-at", standin, **files)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, script in (
        ("esp-at-tool", f'exec "{sys.executable}" -m esp_at_tools "$@"'),
        ("python", "exit 0"),
        ("sudo", "exit 0"),
        ("apt-get", "exit 0"),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    path = tmp_path / "workflow.yml"
    asked = ("--provider", provider, "--project", root, "--output", path, "-m", "ESP32C3/MINI-1")
    assert cli("ci", "init", *asked).status == 0
    read = yaml.safe_load(path.read_text("utf-8"))
    if provider == "github":
        script = "\n".join(step["run"] for step in read["jobs"]["firmware"]["steps"] if "run" in step)
        kept = next(
            step["with"]["path"].split()
            for step in read["jobs"]["firmware"]["steps"]
            if "upload-artifact" in step.get("uses", "")
        )
    else:
        script = "\n".join(read[".firmware"]["before_script"] + read[".firmware"]["script"])
        kept = read[".firmware"]["artifacts"]["paths"]
    given = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    environment = {
        **given,
        **standin.environment(),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "MODULE": "ESP32C3/MINI-1",
        "ESP_AT_TOOL": "esp-at-tool",
        "AT_OTA_TOKEN_ESP32C3_MINI": "abc123abc123",
    }
    before = (root / TOKENS_IN).stat().st_mtime_ns
    done = subprocess.run(
        [shutil.which("bash") or "sh", "-e", "-c", script],
        cwd=root, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "abc123abc123" not in said
    assert "OTA tokens of AT_OTA_TOKEN_ESP32C3_MINI" in said
    assert (root / TOKENS_IN).read_text() == HEADER
    assert (root / TOKENS_IN).stat().st_mtime_ns > before  # it was there, and is taken out again
    artifacts = {each.relative_to(root).as_posix() for pattern in kept for each in root.glob(pattern)}
    for wanted in (
        "build/esp-at.bin",
        "build/bootloader/bootloader.bin",
        "build/partition_table/partition-table.bin",
        "build/customized_partitions/mfg_nvs.bin",
        "build/factory/factory_MINI-1.bin",
        "build/factory/factory_MINI-1_unfilled.bin",
        "build/download.config",
        "build/module_info.json",
        "sdkconfig",
    ):
        assert wanted in artifacts
    assert not any(re.search(r"\.c$|/\.", each) for each in artifacts)

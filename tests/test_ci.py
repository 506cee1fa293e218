"""``ci init``: the workflows are valid, say what the checkout says, and their steps run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

CSV = "components/customized_partitions/raw_data/factory_param/factory_param_data.csv"
CHIPS = {
    "ESP32C3": ("MINI-1", "ESP32C3-SPI"),
    "ESP32": ("WROOM-32", "WROVER-32"),
    "ESP32C2": ("ESP32C2-2MB",),
}
OWN_FOLDER = ("WROVER-32",)
C_TABLE = "".join(
    f"#if defined(CONFIG_IDF_TARGET_{chip})\n"
    f'    {{"{module}", CONFIG_ESP_AT_OTA_TOKEN_{token}, CONFIG_ESP_AT_OTA_SSL_TOKEN_{token}}},\n#endif\n'
    for chip, module, token in (
        ("ESP32C3", "MINI-1", "ESP32C3_MINI"),
        ("ESP32", "WROOM-32", "WROOM32"),
        ("ESP32C2", "ESP32C2-2MB", "ESP32C2_2MB"),
    )
)
DEFAULTS = """CONFIG_IDF_TARGET="{chip}"
CONFIG_ESPTOOLPY_FLASHSIZE_4MB=y
CONFIG_PARTITION_TABLE_CUSTOM=y
CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="{home}/partitions_at.csv"
CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_FILE="{home}/at_customize.csv"
CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_OFFSET=0x1e000
"""
PRIMARY = """otadata, data, ota, 0xd000, 0x2000
at_customize, 0x40, 0, 0x1E000, 0x42000
ota_0, app, ota_0, 0x60000, 0x1d0000
ota_1, app, ota_1, 0x230000, 0x1d0000
"""
SECONDARY = "mfg_nvs, data, nvs, 0x1f000, 124K\n"


def write(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "esp-at"
    rows = [f"PLATFORM_{chip},{name},,4,-1\n" for chip, names in CHIPS.items() for name in names]
    write(root, CSV, "platform,module_name,description,version,uart_tx_pin\n" + "".join(rows))
    types = "version,data,i8\nmodule_name,data,string\nuart_tx_pin,data,i32\n"
    write(root, CSV.replace("_data.csv", "_type.csv"), types)
    lists = "components/customized_partitions/at_customized_config_dependency.txt"
    write(root, lists, "AT_CUSTOMIZED_PARTITION_TABLE_SUPPORT=y mfg_nvs\n")
    write(root, "components/at/src/at_default_config.c", C_TABLE)
    folders = [(f"{chip.lower()}_default", chip) for chip in CHIPS]
    for folder, chip in [*folders, *((name.lower(), "ESP32") for name in OWN_FOLDER)]:
        home = f"module_config/module_{folder}"
        pin = f"branch:release/v5.4\ncommit:{len(folder):040x}\nrepository:https://host/esp-idf.git\n"
        write(root, f"{home}/IDF_VERSION", pin)
        write(root, f"{home}/sdkconfig.defaults", DEFAULTS.format(chip=chip.lower(), home=home))
        write(root, f"{home}/partitions_at.csv", PRIMARY)
        write(root, f"{home}/at_customize.csv", SECONDARY)
    write(root, "patches/patch_list.ini", "")
    return root


def workflow(cli, project: Path, provider: str, *arguments: str) -> dict[Any, Any]:
    """Write a workflow and return it read."""
    path = project.parent / f"{provider}.yml"
    done = cli("ci", "init", "--provider", provider, "--project", project, "--output", path, *arguments)
    assert (done.status, done.err) == (0, "")
    text = path.read_text("utf-8")
    assert "<%" not in text
    assert "<<" not in text
    assert not any(line != line.rstrip() for line in text.splitlines())
    read = yaml.safe_load(text)
    assert isinstance(read, dict)
    return read


# --- what they say -------------------------------------------------------------------------------


def test_a_matrix_of_github_has_every_module(cli, project):
    job = workflow(cli, project, "github")["jobs"]["firmware"]
    rows = job["strategy"]["matrix"]["include"]
    assert [row["module"] for row in rows] == [f"{chip}/{name}" for chip in CHIPS for name in CHIPS[chip]]
    assert job["strategy"]["fail-fast"] is False
    assert len({row["artifact"] for row in rows}) == len(rows)
    for row in rows:
        assert (project / row["idf-version"]).is_file()
        assert row["patches"] == "patches/**"
        assert row["chip"] == row["module"].split("/")[0].lower()
    assert next(row for row in rows if row["module"] == "ESP32/WROVER-32")["idf-version"] == (
        "module_config/module_wrover-32/IDF_VERSION"
    )


def test_jobs_of_gitlab_have_every_module_and_a_cache_by_their_pin(cli, project):
    read = workflow(cli, project, "gitlab")
    jobs = {name: job for name, job in read.items() if isinstance(job, dict) and "parallel" in job}
    modules = {name: job["parallel"]["matrix"][0]["MODULE"] for name, job in jobs.items()}
    assert modules == {
        "esp32c3": ["ESP32C3/MINI-1", "ESP32C3/ESP32C3-SPI"],
        "esp32": ["ESP32/WROOM-32"],
        "esp32-wrover-32": ["ESP32/WROVER-32"],
        "esp32c2": ["ESP32C2/ESP32C2-2MB"],
    }
    for job in jobs.values():
        assert all((project / path).is_file() for path in job["cache"]["key"]["files"])
        assert job["cache"]["paths"] == ["esp-idf/", ".espressif/"]
        assert job["extends"] == ".firmware"


def test_the_cache_of_github_depends_on_chip_pin_and_patches(cli, project):
    steps = workflow(cli, project, "github")["jobs"]["firmware"]["steps"]
    restore = next(step for step in steps if step.get("id") == "idf")
    save = next(step for step in steps if "cache/save" in step.get("uses", ""))
    assert restore["with"]["path"] == save["with"]["path"] == "esp-idf\n.espressif\n"
    assert "\n" not in restore["with"]["key"]
    for part in (
        "runner.os",
        "matrix.chip",
        "python-version",
        "hashFiles(matrix.idf-version, matrix.patches)",
    ):
        assert part in restore["with"]["key"]


def test_a_module_without_an_idf_version(cli, project):
    (project / "module_config/module_wrover-32/IDF_VERSION").unlink()
    done = cli("ci", "init", "--provider", "github", "--project", project)
    assert done.status == 2
    assert "ESP32/WROVER-32: " in done.err
    assert "module_wrover-32/IDF_VERSION: no such file, and it tells which ESP-IDF" in done.err
    assert "--config-only needs no ESP-IDF" in done.err
    assert not (project / ".github").exists()
    workflow(cli, project, "github", "--module", "MINI-1")
    place = project.parent / "configurations.yml"
    assert (
        cli("ci", "init", "--provider", "gitlab", "--project", project, "--config-only", "-o", place).status
        == 0
    )


def test_patches_of_a_module(cli, project):
    shutil.rmtree(project / "patches")
    rows = workflow(cli, project, "github")["jobs"]["firmware"]["strategy"]["matrix"]["include"]
    assert rows[0]["patches"] == "module_config/module_esp32c3_default/patch/**"


def test_secrets_are_those_of_the_modules(cli, project):
    read = workflow(cli, project, "github", "--module", "esp32c2/esp32c2-2mb", "--module", "MINI-1")
    (step,) = (step for step in read["jobs"]["firmware"]["steps"] if step.get("name") == "Build")
    both = "${{ secrets.AT_OTA_TOKEN_ESP32C2_2MB || secrets.ESP32C2_2MB_TOKEN }}"
    assert step["env"]["AT_OTA_TOKEN_ESP32C2_2MB"] == both
    assert set(step["env"]) == {
        f"AT_OTA_{kind}TOKEN_{name}"
        for kind in ("", "SSL_")
        for name in ("ESP32C2_2MB", "ESP32C3_MINI", "KEY")
    }
    others = [step for step in read["jobs"]["firmware"]["steps"] if step.get("name") != "Build"]
    assert "secrets." not in json.dumps([others, read["jobs"]["firmware"]["env"], read["env"]])


def test_a_module_without_token_passes_no_secrets(cli, project):
    read = workflow(cli, project, "github", "--module", "ESP32C3/ESP32C3-SPI")
    assert "secrets" not in json.dumps(read)


def test_the_requirement(cli, project):
    spec = "esp-at-tool[x] @ git+https://host/a.git@v1"
    for provider, place in (("github", "env"), ("gitlab", "variables")):
        assert workflow(cli, project, provider)[place]["ESP_AT_TOOL"] == "esp-at-tool"
        read = workflow(cli, project, provider, "--install", spec, "--force")
        assert read[place]["ESP_AT_TOOL"] == spec


@pytest.mark.parametrize("provider", ["github", "gitlab"])
@pytest.mark.parametrize("more", [(), ("--config-only",), ("--module", "MINI-1")])
def test_the_schemas_of_the_providers(cli, project, provider, more):
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("needs check-jsonschema, which has the schemas of the providers")
    workflow(cli, project, provider, *more)
    schema = {"github": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci"}[provider]
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, f"{provider}.yml"],
        cwd=project.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# --- where they are written ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "place"),
    [("github", ".github/workflows/esp-at-firmware.yml"), ("gitlab", ".gitlab-ci.yml")],
)
def test_the_place_and_force(cli, project, monkeypatch, provider, place):
    monkeypatch.chdir(project)
    done = cli("ci", "init", "--provider", provider, "--json")
    document = json.loads(done.out)
    assert document["path"] == str(Path(place))
    assert document["modules"] == [f"{chip}/{name}" for chip in CHIPS for name in CHIPS[chip]]
    first = (project / place).read_bytes()
    (project / place).write_text("mine")
    refused = cli("ci", "init", "--provider", provider)
    assert (refused.status, refused.out) == (2, "")
    assert "exists already" in refused.err
    assert "--force" in refused.err
    assert (project / place).read_text() == "mine"
    assert cli("ci", "init", "--provider", provider, "--force").status == 0
    assert (project / place).read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--module", "MINI-2"], "did you mean ESP32C3/MINI-1"),
        (["--install", "a\nb"], "is nothing that pip installs"),
        (["--install", "$HOME"], "is nothing that pip installs"),
        (["--install", '"; rm -rf x'], "is nothing that pip installs"),
        (["--install", "${{ secrets.X }}"], "is nothing that pip installs"),
        (["--install", "--index-url=x"], "is nothing that pip installs"),
        (["--project", "missing"], "is no esp-at checkout"),
        (["--project", "missing", "--config-only"], "is no esp-at checkout"),
        (["--output", "missing/x.yml"], "its folder does not exist"),
    ],
)
def test_what_is_refused_writes_nothing(cli, project, monkeypatch, arguments, says):
    monkeypatch.chdir(project)
    before = sorted(project.rglob("*"))
    done = cli("ci", "init", "--provider", "github", *arguments)
    assert (done.status, done.out) == (2, "")
    assert says in done.err
    assert sorted(project.rglob("*")) == before


def test_a_folder_that_was_made_goes_when_the_workflow_cannot_be_written(cli, project):
    (project / ".github").write_text("a file")
    before = sorted(project.rglob("*"))
    done = cli("ci", "init", "--provider", "github", "--project", project)
    assert (done.status, done.out) == (2, "")
    assert "cannot be made" in done.err
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize("name", ["$(ID)", "A;B", "A'B", "${{X}}", "A&B", "*"])
@pytest.mark.parametrize("more", [(), ("--config-only",)])
def test_a_name_that_a_shell_or_a_workflow_would_read_otherwise(cli, project, name, more):
    with (project / CSV).open("a") as stream:
        stream.write(f"PLATFORM_ESP32C3,{name},,4,-1\n")
    done = cli("ci", "init", "--provider", "github", "--project", project, *more)
    assert (done.status, done.out) == (2, "")
    assert f"{name}': a workflow cannot name this" in done.err.replace('"', "'")
    assert not (project / ".github").exists()


def test_the_definitions_do_for_the_configuration_alone(cli, tmp_path):
    assert cli("ci", "init", "--provider", "gitlab", "--project", tmp_path).status == 2
    done = cli("ci", "init", "--provider", "gitlab", "--project", tmp_path, "--config-only", "-m", "MINI-1")
    assert done.status == 2  # of the ESP32 or of the ESP32-C3
    named = ("-m", "esp32c3/mini-1", "-m", "ESP32/MINI-1")
    done = cli("ci", "init", "--provider", "gitlab", "--project", tmp_path, "--config-only", *named)
    assert done.status == 0
    read = yaml.safe_load((tmp_path / ".gitlab-ci.yml").read_text())
    assert read["configuration"]["variables"]["MODULES"] == "ESP32C3/MINI-1 ESP32/MINI-1"


# --- their steps run -------------------------------------------------------------------------------

STAND_IN = """\
#!/bin/sh
for word in "$(basename "$0")" "$@"; do printf '[%s]' "$word"; done >> "$RECORD"
echo >> "$RECORD"
[ "$1" = build ] && env | grep '^AT_OTA.*=.' | sort >> "$RECORD"
case "$*" in
    build*--config-only*) for last; do :; done; mkdir "$last" ;;
    build*) mkdir -p build/factory && touch build/factory/factory_X.bin build/factory/factory_Y.bin ;;
    inspect*"$BAD"*) exit 1 ;;
esac
exit 0
"""


@dataclass(frozen=True)
class Runner:
    """A stand-in for a machine of a provider: a checkout, and programs that write down their arguments."""

    folder: Path
    programs: Path
    record: Path

    def run(self, script: str, variables: dict[str, str], *, shell: str = "bash", bad: str = "none") -> int:
        environment = {
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "RECORD": str(self.record),
            "BAD": bad,
            **variables,
        }
        found = shutil.which(shell)
        if found is None:
            pytest.skip(f"needs {shell}, as a runner has it")
        return subprocess.run(
            [found, "-e", "-c", script], cwd=self.folder, env=environment, check=False, capture_output=True
        ).returncode

    def recorded(self) -> list[str]:
        return self.record.read_text().splitlines()


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    if os.name != "posix":
        pytest.skip("needs the shell of a runner")
    made = Runner(tmp_path / "runner", tmp_path / "programs", tmp_path / "record")
    made.folder.mkdir()
    made.programs.mkdir()
    for name in ("esp-at-tool", "python", "apt-get"):
        (made.programs / name).write_text(STAND_IN)
        (made.programs / name).chmod(0o755)
    (made.programs / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    (made.programs / "sudo").chmod(0o755)
    return made


SECRETS = {"secrets.AT_OTA_TOKEN_WROOM32": "abc", "secrets.ESP32C2_2MB_TOKEN": "def"}


def evaluated(text: str, context: dict[str, str]) -> str:
    """Return a text of GitHub with its expressions evaluated, as far as they are names and ``||``."""

    def value(match: re.Match[str]) -> str:
        return next((context[name] for name in match[1].split(" || ") if name in context), "")

    return re.sub(r"\$\{\{ (.*?) \}\}", value, text)


def github_steps(read: dict[Any, Any], job: str) -> list[tuple[str, dict[str, str]]]:
    """Return script and variables of each step of a job that runs something."""
    made = read["jobs"][job]
    rows = made.get("strategy", {}).get("matrix", {}).get("include", [{}])
    context = {**SECRETS, **{f"matrix.{name}": text for name, text in rows[0].items()}}
    steps = []
    for step in made["steps"]:
        if "run" in step:
            assert "${{" not in step["run"]  # what comes from outside reaches a shell through variables
            variables = {**read["env"], **made.get("env", {}), **step.get("env", {})}
            steps.append((step["run"], {name: evaluated(text, context) for name, text in variables.items()}))
    return steps


COMMON = [
    "[esp-at-tool][install][--module][ESP32/WROOM-32]",
    "[esp-at-tool][build][--module][ESP32/WROOM-32]",
    "AT_OTA_TOKEN_WROOM32=abc",
    "[esp-at-tool][inspect][--check][build/factory/factory_X.bin]",
    "[esp-at-tool][inspect][--check][build/factory/factory_Y.bin]",
]
PIP = "[python][-m][pip][install][a b]"


def test_the_steps_of_github_run(cli, project, runner):
    read = workflow(cli, project, "github", "-m", "WROOM-32", "-m", "ESP32C2-2MB", "--install", "a b")
    for script, variables in github_steps(read, "firmware"):
        assert runner.run(script, variables) == 0
    said = runner.recorded()
    assert said[0] == PIP
    assert said[1:3] == [line for line in said if line.startswith("[apt-get]")]
    # Every build is given the secrets of all modules, and takes those of its own.
    assert [line for line in said[3:] if line != "AT_OTA_TOKEN_ESP32C2_2MB=def"] == COMMON
    assert len(said) == 3 + len(COMMON) + 1


def test_a_factory_image_with_an_error_fails_the_step_after_all_are_checked(cli, project, runner):
    read = workflow(cli, project, "github", "-m", "WROOM-32")
    *before, (check, variables) = github_steps(read, "firmware")
    assert all(runner.run(*step) == 0 for step in before)
    assert runner.run(check, variables, bad="factory_X") == 1
    assert runner.recorded()[-1].endswith("factory_Y.bin]")


@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.parametrize("bad", ["none", "factory_Y"])
def test_the_script_of_gitlab_runs(cli, project, runner, shell, bad):
    read = workflow(cli, project, "gitlab", "-m", "WROOM-32", "--install", "a b")
    job = {**read[".firmware"], **read["esp32"]}
    variables = {**read["variables"], "MODULE": job["parallel"]["matrix"][0]["MODULE"][0]}
    script = "\n".join(job["before_script"] + job["script"])
    given = {**variables, "AT_OTA_TOKEN_WROOM32": "abc"}
    assert runner.run(script, given, shell=shell, bad=bad) == (bad != "none")
    said = [line for line in runner.recorded() if not line.startswith("[apt-get]")]
    assert said == [PIP, *COMMON]


def test_a_failed_build_ends_the_script(cli, project, runner):
    read = workflow(cli, project, "gitlab", "-m", "WROOM-32")
    (runner.programs / "esp-at-tool").write_text('#!/bin/sh\necho "$1" >> "$RECORD"\n[ "$1" != build ]\n')
    job = read[".firmware"]
    assert runner.run("\n".join(job["script"]), {"MODULE": "ESP32/WROOM-32"}) == 1
    assert runner.recorded() == ["install", "build"]


CONFIGURATIONS = [
    "[esp-at-tool][build][--config-only][--module][ESP32/WROOM-32][--output][firmware/ESP32-WROOM-32]",
    "[esp-at-tool][build][--config-only][--module][ESP32C3/MINI-1][--output][firmware/ESP32C3-MINI-1]",
    "[esp-at-tool][inspect][--check][firmware/ESP32-WROOM-32]",
    "[esp-at-tool][inspect][--check][firmware/ESP32C3-MINI-1]",
]


def configuration_steps(read: dict[Any, Any], provider: str) -> list[tuple[str, dict[str, str]]]:
    if provider == "github":
        return github_steps(read, "configuration")
    job = read["configuration"]
    return [("\n".join(job["script"]), {**read["variables"], **job["variables"]})]


@pytest.mark.parametrize("provider", ["github", "gitlab"])
def test_the_steps_of_the_configuration_run(cli, project, runner, provider):
    more = ("--config-only", "-m", "WROOM-32", "-m", "ESP32C3/MINI-1", "--install", "a b")
    for script, variables in configuration_steps(workflow(cli, project, provider, *more), provider):
        assert runner.run(script, variables) == 0
    assert runner.recorded() == [PIP, *CONFIGURATIONS]


@pytest.mark.parametrize("provider", ["github", "gitlab"])
def test_the_configuration_is_made_by_the_program_itself(cli, project, runner, provider):
    shutil.copytree(project, runner.folder, dirs_exist_ok=True)
    program = runner.programs / "esp-at-tool"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m esp_at_tools "$@"\n')
    path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    more = ("--config-only", "-m", "WROOM-32", "-m", "ESP32C3/MINI-1")
    for script, variables in configuration_steps(workflow(cli, project, provider, *more), provider):
        assert runner.run(script, {**variables, **path}) == 0
    made = sorted(path.name for path in (runner.folder / "firmware").iterdir())
    assert made == ["ESP32-WROOM-32", "ESP32C3-MINI-1"]
    for name in made:
        assert (runner.folder / "firmware" / name / "customized_partitions" / "mfg_nvs.bin").is_file()
        assert (runner.folder / "firmware" / name / "partition_table" / "partition-table.bin").is_file()


def test_the_choices_of_a_missing_option_are_on_its_line(cli):
    done = cli("ci", "init")
    assert done.status == 2
    assert "Choose from: github, gitlab" in done.err
    assert "\\x09" not in done.err

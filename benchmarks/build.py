"""Time of builds without a compiler, as ratios to the official scripts for the same files.

    python benchmarks/build.py [--quick] [--json] [--official TREE]

TREE is an esp-at checkout with its ``esp-idf/``, of which the scripts for partition tables and mfg_nvs are
run as its CMake build runs them; what they make must be what ours makes. Without it the yardstick is one run
of the public NVS generator for each module, which is the smaller part of what the scripts do.

Nothing here passes or fails: numbers depend on the machine and on what else it does, ratios less so.
Each figure is the best of several runs, taken in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from run import best, process

from esp_at_tools.build.at_defaults import with_known_defaults
from esp_at_tools.build.from_definitions import recipe_from_definitions
from esp_at_tools.build.options import Options
from esp_at_tools.build.tree import (
    DEPENDENCIES,
    FS_IMAGE,
    IDF,
    MODULES,
    PARTITIONS,
    SourceTree,
    open_tree,
    read_layers,
)
from esp_at_tools.catalog.factory_params import ModuleRow
from esp_at_tools.catalog.modules import modules
from esp_at_tools.formats.sdkconfig import Sdkconfig

ONE = "ESP32C3/MINI-1"
GENERATED = (
    "partition_table/partition-table.bin", "at_customize.bin",
    "customized_partitions/mfg_nvs.csv", "customized_partitions/mfg_nvs.bin",
)  # fmt: skip
_COUNTER = """import os
with open(os.environ["COUNTED_PROCESSES"], "a") as stream:
    stream.write("x")
"""
"""A ``sitecustomize`` that leaves a mark for each Python process that starts."""


@dataclass(frozen=True)
class Official:
    """The official scripts, in a copy of a checkout that may be written to.

    Attributes:
        folder: the copy.
        tree: the same as this program reads it.
        configs: place of a module → its sdkconfig.
    """

    folder: Path
    tree: SourceTree
    configs: dict[str, Sdkconfig] = field(default_factory=dict)

    @classmethod
    def copy(cls, checkout: Path, folder: Path) -> Official:
        """Copy what the scripts read; not the whole of an ESP-IDF."""
        for part in (PARTITIONS, MODULES, FS_IMAGE):
            if (checkout / part).is_dir():
                shutil.copytree(checkout / part, folder / part)
        for part in ("partition_table", "nvs_flash/nvs_partition_generator"):
            shutil.copytree(checkout / IDF / "components" / part, folder / IDF / "components" / part)
        (folder / "build" / "partition_table").mkdir(parents=True)
        return cls(folder, open_tree(folder))

    def build(self, row: ModuleRow, environment: dict[str, str]) -> None:
        """Run the scripts for one module, as ``components/customized_partitions/CMakeLists.txt`` does."""
        config = self._config(row)
        (self.folder / "sdkconfig").write_text(config.to_text(), "utf-8")
        info = {"platform": row.platform, "module": row.module_name}
        (self.folder / "build" / "module_info.json").write_text(json.dumps(info), "utf-8")
        for command in self._commands(config):
            subprocess.run(
                [sys.executable, *map(str, command)], env=environment, check=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip

    def _config(self, row: ModuleRow) -> Sdkconfig:
        if row.place not in self.configs:  # reading the tree is no part of the race
            self.configs[row.place] = self._read_config(row)
        return self.configs[row.place]

    def _read_config(self, row: ModuleRow) -> Sdkconfig:
        defaults = [layer for _, layer in read_layers(self.tree.defaults(row, silence=False))]
        options = {each.option for each in self.tree.dependencies()}
        return with_known_defaults(defaults, row.chip, sorted(options))

    def _commands(self, config: Sdkconfig) -> list[list[object]]:
        build, home = self.folder / "build", self.folder / PARTITIONS
        tables = self.folder / IDF / "components" / "partition_table" / "gen_esp32part.py"
        primary = self.folder / config.string("PARTITION_TABLE_CUSTOM_FILENAME")
        secondary = self.folder / config.string("AT_CUSTOMIZED_PARTITION_TABLE_FILE")
        md5 = [] if config.is_on("PARTITION_TABLE_MD5") else ["--disable-md5sum"]
        offset = ["--offset", config.get("PARTITION_TABLE_OFFSET")]
        to = [
            "--output_dir", build / "customized_partitions",
            "--flash_args_file", build / "flash_customized_partition_args",
        ]  # fmt: skip
        return [
            [tables, "-q", *md5, *offset, primary, build / GENERATED[0]],
            [tables, "-q", secondary, build / GENERATED[1]],
            [
                home / "at_customized_target_generate.py", "--sdkconfig_file", self.folder / "sdkconfig",
                "--dependency_file", self.folder / DEPENDENCIES, "--partition_file", secondary, *to,
            ],
            [
                home / "at_customized_target_bin_generate.py", "--project_dir", self.folder,
                "--tools_dir", home / "generation_tools", *to,
            ],
        ]  # fmt: skip

    def processes(self, row: ModuleRow, environment: dict[str, str], folder: Path) -> int:
        """Return how many Python processes the scripts start for one module."""
        hooks, counted = folder / "hooks", folder / "counted"
        hooks.mkdir()
        (hooks / "sitecustomize.py").write_text(_COUNTER)
        self.build(row, {**environment, "PYTHONPATH": str(hooks), "COUNTED_PROCESSES": str(counted)})
        return counted.stat().st_size

    def check(self, ours: Path, name: str) -> None:
        """Stop where the two did not make the same."""
        for file in GENERATED:
            theirs = (self.folder / "build" / file).read_bytes()
            theirs = theirs.replace(f"{self.folder}/".encode(), b"")  # the official CSV names absolute paths
            if theirs != (ours / file).read_bytes():
                sys.exit(f"{name}: {file} is not what the official scripts make: it is no race")


def environment_of_scripts() -> dict[str, str]:
    """The environment that ESP-IDF would give its scripts: this Python is the one of its tools."""
    return {**os.environ, "IDF_PYTHON_ENV_PATH": sys.prefix}


def against_scripts(folder: Path, checkout: Path, rounds: int, all_rounds: int) -> dict[str, Any]:
    """Ours from a source tree, against the official scripts of that tree."""
    environment = environment_of_scripts()
    official = Official.copy(checkout, folder / "tree")
    rows = official.tree.modules()
    row = official.tree.module(ONE) if any(each.full_name == ONE for each in rows) else rows[0]
    count = official.processes(row, environment, folder)
    ours = ("-m", "esp_at_tools", "build", "--config-only", "--source", official.folder, "-q")
    one = best(
        {
            "ours": process(*ours, "--module", row.full_name, "--output", "one", cwd=folder),
            "theirs": lambda: official.build(row, environment),
        },
        rounds,
    )
    official.check(folder / "one", row.full_name)

    def all_theirs() -> None:
        for each in rows:
            official.build(each, environment)

    many = best(
        {"ours": process(*ours, "--all", "--output", "many", cwd=folder), "theirs": all_theirs}, all_rounds
    )
    for each in rows:
        official.build(each, environment)
        official.check(folder / "many" / each.full_name.replace("/", "-"), each.full_name)
    return {
        "processes of the official scripts for one module": count,
        "one module of a tree, in ms": one["ours"] * 1e3,
        "one module of a tree: the official scripts / ours": one["theirs"] / one["ours"],
        f"all {len(rows)} modules of a tree, in ms": many["ours"] * 1e3,
        f"all {len(rows)} modules of a tree: the official scripts / ours": many["theirs"] / many["ours"],
    }


def against_generator(folder: Path, rounds: int, all_rounds: int) -> dict[str, Any]:
    """Ours from the built-in definitions, against the public NVS generator alone."""
    names = [each.full_name for each in modules()]
    generators: dict[str, Callable[[], Any]] = {}
    for name in names:
        made = recipe_from_definitions(name, Options()).partitions["mfg_nvs"]
        file = f"{name.replace('/', '-')}.csv"
        (folder / file).write_text(made.csv, "utf-8")
        generators[name] = process(
            "-m", "esp_idf_nvs_partition_gen", "generate", file, "mfg_nvs.bin", len(made.data), cwd=folder
        )

    def all_generators() -> None:
        for generate in generators.values():
            generate()

    ours = ("-m", "esp_at_tools", "build", "-q")
    one = best(
        {
            "click": process("-c", "import click", cwd=folder),
            "ours": process(*ours, "--module", ONE, "--output", "definitions", cwd=folder),
            "theirs": generators[ONE],
        },
        rounds,
    )
    many = best(
        {"ours": process(*ours, "--all", "--output", "all", cwd=folder), "theirs": all_generators}, all_rounds
    )
    return {
        "one module, in ms": one["ours"] * 1e3,
        "one module / import click": one["ours"] / one["click"],
        "one module: one run of the public generator / ours": one["theirs"] / one["ours"],
        f"all {len(names)} modules, in ms": many["ours"] * 1e3,
        f"all {len(names)} modules: {len(names)} runs of the public generator / ours": many["theirs"]
        / many["ours"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it works")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--official",
        type=Path,
        metavar="TREE",
        help="an esp-at checkout with its esp-idf/, to race its scripts",
    )
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rounds, all_rounds = (2, 1) if options.quick else (10, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        figures = against_generator(folder, rounds, all_rounds)
        if options.official:
            figures |= against_scripts(folder, options.official.resolve(), rounds, all_rounds)
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for label, value in figures.items():
        print(f"{value:10.2f}  {label}")


if __name__ == "__main__":
    main()

"""A small but honest ESP-IDF, and checkouts of esp-at for it: Git repositories with submodules and scripts.

``tools/idf_tools.py`` makes a Python environment and tools below ``IDF_TOOLS_PATH`` and tells of them as the
real one does. ``tools/idf.py`` runs in that environment alone, writes down how it was called, speaks like
ninja, gcc and ``check_sizes.py``, and leaves the products of a build, which esptool and the public generators
have made. What they do depends on files of the checkout: an ``#error`` in a ``.c`` of ``main/`` fails,
``main/size.txt`` is the size of the application, ``main/iram.txt`` is what its IRAM lacks, and
``main/slow.txt`` says how many seconds a step takes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import builders

BRANCH = "release/v5.4"
GIT = shutil.which("git") or "git"
MODULES = ("MINI-1", "MINI-2")
GIT_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": "2030-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_COMMITTER_DATE": "2030-01-01T00:00:00Z",
}

IDF_TOOLS = '''\
"""Installs what ESP-IDF needs below IDF_TOOLS_PATH."""
import argparse, json, os, pathlib, sys

HERE = pathlib.Path(__file__).resolve().parent.parent
HOME = pathlib.Path(os.environ.get("IDF_TOOLS_PATH") or pathlib.Path.home() / ".espressif")
NAME = "idf5.4_py%d.%d_env" % sys.version_info[:2]
ENV = pathlib.Path(os.environ.get("IDF_PYTHON_ENV_PATH") or HOME / "python_env" / NAME)

parser = argparse.ArgumentParser()
parser.add_argument("--non-interactive", action="store_true")
commands = parser.add_subparsers(dest="command")
install = commands.add_parser("install")
install.add_argument("--targets", default="all")
commands.add_parser("install-python-env")
export = commands.add_parser("export")
export.add_argument("--format")
args = parser.parse_args()
HOME.mkdir(parents=True, exist_ok=True)
with open(HOME / "record.jsonl", "a") as stream:
    print(json.dumps({"tool": "idf_tools", "args": sys.argv[1:], "env": dict(os.environ)}), file=stream)

if os.environ.get("STANDIN_OFFLINE") and args.command.startswith("install"):
    print("Downloading riscv32-esp-elf-14.2.0.tar.xz")
    print("ERROR: Failed to download, and retry count has expired", file=sys.stderr)
    sys.exit(1)
if args.command == "install":
    print("Installing tools: riscv32-esp-elf for", args.targets)
    for target in args.targets.split(","):
        place = HOME / "tools" / "riscv32-esp-elf" / target
        place.mkdir(parents=True, exist_ok=True)
        (place / "gcc").write_text("a compiler")
elif args.command == "install-python-env":
    if sys.prefix != sys.base_prefix and not ENV.exists():
        print("ERROR: This script was called from a virtual environment, can not create another",
              file=sys.stderr)
        sys.exit(1)
    print("Creating a new Python environment in", ENV)
    (ENV / "bin").mkdir(parents=True, exist_ok=True)
    python = ENV / "bin" / "python"
    python.write_text(
        "#!/bin/sh\\n"
        'if [ "$1 $2" = "-m pip" ]; then echo "$@" >> "%s/pip.txt"; exit 0; fi\\n'
        'if [ "$1" = -c ]; then test -f "%s/pip.txt"; exit; fi\\n'
        'STANDIN_PYTHON=1 exec "%s" "$@"\\n' % (HOME, HOME, sys.executable)
    )
    python.chmod(0o755)
    (ENV / "idf_version.txt").write_text("5.4")
elif args.command == "export":
    if not (HOME / "tools" / "riscv32-esp-elf").is_dir():
        print("ERROR: tool riscv32-esp-elf has no installed versions. Please run 'idf_tools.py install'",
              file=sys.stderr)
        sys.exit(1)
    found = {"OPENOCD_SCRIPTS": str(HOME / "openocd")}
    paths = [str(HOME / "tools" / "riscv32-esp-elf" / "bin")]
    if (ENV / "bin" / "python").exists():
        if os.environ.get("IDF_PYTHON_ENV_PATH") != str(ENV):
            found["IDF_PYTHON_ENV_PATH"] = str(ENV)
        paths.append(str(ENV / "bin"))
    found["ESP_IDF_VERSION"] = "5.4"
    found["PATH"] = os.pathsep.join([*paths, str(HERE / "tools"), "$PATH"])
    for name, value in found.items():
        print(name + "=" + value)
'''

IDF_PY = r'''
"""Builds a project, in appearance."""
import json, os, pathlib, re, shutil, sys, time

if "STANDIN_PYTHON" not in os.environ:
    sys.exit('This usually means that "idf.py" was not spawned within an ESP-IDF shell environment')
IDF = pathlib.Path(__file__).resolve().parent.parent
PROJECT = pathlib.Path.cwd()
BUILD = PROJECT / "build"
PRODUCTS = IDF / "products"
HOME = pathlib.Path(os.environ.get("IDF_TOOLS_PATH") or pathlib.Path.home() / ".espressif")
with open(HOME / "record.jsonl", "a") as stream:
    header = PROJECT / "components/at/private_include/at_ota_token.h"
    record = {"tool": "idf.py", "args": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(),
              "header": header.read_text() if header.exists() else ""}
    print(json.dumps(record), file=stream)

definitions, actions, words = {}, [], list(sys.argv[1:])
while words:
    word = words.pop(0)
    if word.startswith("-D"):
        name, _, value = word[2:].partition("=")
        definitions[name] = value
    elif word in ("-p", "-b", "-C", "-B"):
        words.pop(0)
    elif not word.startswith("-"):
        actions.append(word)


def fail(*lines, status=2):
    for line in lines:
        print(line, file=sys.stderr)
    sys.exit(status)


def text(name):
    path = PROJECT / "main" / name
    return path.read_text() if path.exists() else ""


def module_folder():
    own = PROJECT / "module_config" / ("module_" + os.environ["ESP_AT_MODULE_NAME"].lower())
    platform = os.environ["ESP_AT_PROJECT_PLATFORM"].replace("PLATFORM_", "").lower()
    return own if own.is_dir() else PROJECT / "module_config" / ("module_%s_default" % platform)


def options(path):
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines if line.startswith("CONFIG_"))


def configure():
    target = definitions["IDF_TARGET"]
    cache = BUILD / "CMakeCache.txt"
    if cache.exists() and "IDF_TARGET:STRING=%s\n" % target not in cache.read_text():
        fail("Target settings are not consistent: '%s', and another in CMakeCache.txt" % target)
    BUILD.mkdir(exist_ok=True)
    name = "sdkconfig_silence.defaults" if os.environ["SILENCE"] == "1" else "sdkconfig.defaults"
    found = options(module_folder() / name)
    own = PROJECT / "sdkconfig"
    found.update(options(own))
    found["CONFIG_IDF_TARGET"] = '"%s"' % target
    own.write_text("".join("%s=%s\n" % each for each in sorted(found.items())))
    cache.write_text("IDF_TARGET:STRING=%s\nCMAKE_HOME_DIRECTORY:INTERNAL=%s\n" % (target, PROJECT))
    print("-- Configuring done (" + os.environ["ESP_AT_MODULE_NAME"] + ")", flush=True)


def compile_all():
    sources = sorted((PROJECT / "main").glob("*.c"))
    steps = ["Building C object esp-idf/main/%s.obj" % each.name for each in sources]
    steps += ["Linking CXX executable esp-at.elf", "Generating binary image from built executable"]
    for number, step in enumerate(steps, 1):
        time.sleep(float(text("slow.txt") or 0))
        print("[%d/%d] %s" % (number, len(steps), step), flush=True)
        source = sources[number - 1] if number <= len(sources) else None
        lines = source.read_text().splitlines() if source else []
        line = next((number for number, each in enumerate(lines, 1) if "#error" in each), 0)
        if line:
            said = lines[line - 1]
            fail(
                "FAILED: esp-idf/main/%s.obj " % source.name,
                "riscv32-esp-elf-gcc -DESP_PLATFORM -c %s" % source,
                "%s:%d:2: error: %s" % (source, line, said),
                "    %d | %s" % (line, said),
                "      |  ^~~~~",
                "ninja: build stopped: subcommand failed.",
                "ninja failed with exit code 1, output of the command is in the build/log/idf_py_stderr_1",
            )
        if step.startswith("Linking") and text("iram.txt"):
            fail(
                "FAILED: esp-at.elf ",
                "ld: esp-at.elf section `.iram0.text' will not fit in region `iram0_0_seg'",
                "ld: region `iram0_0_seg' overflowed by %s bytes" % text("iram.txt").strip(),
                "collect2: error: ld returned 1 exit status",
                "ninja: build stopped: subcommand failed.",
            )


def check_size():
    size = int(text("size.txt") or 0) or (PRODUCTS / "esp-at.bin").stat().st_size
    rows = [row.split(",") for row in (module_folder() / "partitions_at.csv").read_text().splitlines()]
    apps = [[cell.strip() for cell in row] for row in rows if len(row) > 4 and row[1].strip() == "app"]
    smallest = min(int(row[4], 0) for row in apps)
    if size <= smallest:
        print("esp-at.bin binary size %#x bytes. Smallest app partition is %#x bytes. %#x bytes (%d%%) free."
              % (size, smallest, smallest - size, 100 * (smallest - size) // smallest))
        return
    lines = ["Error: %s too small for binary esp-at.bin size %#x:"
             % ("app partition is" if len(apps) == 1 else "All app partitions are", size)]
    for name, _, _, offset, space in (row[:5] for row in apps):
        there = int(space, 0)
        lines.append("  - Part '%s' 0/16 @ %s size %#x (overflow %#x)" % (name, offset, there, size - there))
    fail("FAILED: CMakeFiles/app_check_size ", *lines, "ninja: build stopped: subcommand failed.")


def build():
    configure()
    compile_all()
    check_size()
    name = os.environ["ESP_AT_MODULE_NAME"]
    files = json.loads((PRODUCTS / "files.json").read_text())
    for place in files.values():
        (BUILD / place).parent.mkdir(parents=True, exist_ok=True)
        own = PRODUCTS / name / place
        shutil.copyfile(own if own.exists() else PRODUCTS / place, BUILD / place)
    csv = "customized_partitions/mfg_nvs.csv"
    shutil.copyfile(PRODUCTS / name / csv, BUILD / csv)
    (BUILD / "flash_project_args").write_text(
        "--flash_mode dio --flash_freq 40m --flash_size 4MB\n"
        + "".join("%s %s\n" % each for each in files.items())
    )
    shutil.copyfile(PRODUCTS / "flasher_args.json", BUILD / "flasher_args.json")
    if "esp_at_factory_bin" in (PROJECT / "CMakeLists.txt").read_text():
        (BUILD / "factory").mkdir(exist_ok=True)
        unfilled = (PRODUCTS / name / "factory_unfilled.bin").read_bytes()
        (BUILD / ("factory/factory_%s_unfilled.bin" % name)).write_bytes(unfilled)
        (BUILD / ("factory/factory_%s.bin" % name)).write_bytes(unfilled.ljust(4 << 20, b"\xff"))
    print("Project build complete. To flash, run: idf.py flash", flush=True)


def fullclean():
    if BUILD.exists():
        for each in BUILD.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()


def size():
    build()
    print("Total image size: 123456 bytes")


ACTIONS = {"build": build, "all": build, "app": build, "fullclean": fullclean, "size": size,
           "reconfigure": configure, "monitor": lambda: print("--- monitor of", sys.argv)}
for action in actions:
    if action not in ACTIONS:
        fail("ninja: error: unknown target '%s'" % action, status=1)
    ACTIONS[action]()
'''

DEFAULTS = """CONFIG_IDF_TARGET_ESP32C3=y
CONFIG_ESPTOOLPY_FLASHMODE_QIO=y
CONFIG_ESPTOOLPY_FLASHFREQ_40M=y
CONFIG_ESPTOOLPY_FLASHSIZE_4MB=y
CONFIG_PARTITION_TABLE_CUSTOM=y
CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="module_config/module_esp32c3_default/partitions_at.csv"
CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_FILE="module_config/module_esp32c3_default/at_customize.csv"
CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_OFFSET=0x1e000
CONFIG_AT_WS_COMMAND_SUPPORT=y
CONFIG_AT_MQTT_COMMAND_SUPPORT=y
CONFIG_BT_ENABLED=y
"""
RAW = "components/customized_partitions/raw_data"
HOME = "module_config/module_esp32c3_default"
CHECKOUT = {
    "CMakeLists.txt": "project(esp-at)\nadd_custom_target(esp_at_factory_bin ALL)\n",
    "requirements.txt": "pyyaml\n",
    ".gitignore": "build/\nsdkconfig\nsdkconfig.old\n",
    "main/app_main.c": "void app_main(void) {}\n",
    "main/Kconfig": "",
    f"{RAW}/factory_param/factory_param_data.csv": "platform,module_name,description,version,uart_tx_pin\n"
    "PLATFORM_ESP32C3,MINI-1,4MB,4,7\nPLATFORM_ESP32C3,MINI-2,,4,7\n",
    f"{RAW}/factory_param/factory_param_type.csv": "version,data,i8\nmodule_name,data,string\n"
    "uart_tx_pin,data,i32\n",
    "components/customized_partitions/at_customized_config_dependency.txt": (
        "AT_BLE_COMMAND_SUPPORT=y ble_data\n"
        "AT_CUSTOMIZED_PARTITION_TABLE_SUPPORT=y factory_param\n"
        "AT_CUSTOMIZED_PARTITION_TABLE_SUPPORT=y mfg_nvs\n"
    ),
    f"{HOME}/sdkconfig.defaults": DEFAULTS,
    f"{HOME}/sdkconfig_silence.defaults": f"{DEFAULTS}CONFIG_LOG_DEFAULT_LEVEL_NONE=y\n",
    f"{HOME}/partitions_at.csv": "otadata, data, ota, 0xd000, 0x2000\nphy_init, data, phy, 0xf000, 0x1000\n"
    "nvs, data, nvs, 0x10000, 0xE000\nat_customize, 0x40, 0, 0x1E000, 0x42000\n"
    "ota_0, app, ota_0, 0x60000, 0x1d0000\nota_1, app, ota_1, 0x230000, 0x1d0000\n",
    f"{HOME}/at_customize.csv": "mfg_nvs, data, nvs, 0x1f000, 124K\nfatfs, data, fat, 0x47000, 100K\n",
}


def git(folder: Path, *args: str) -> str:
    """Run git in a folder, with nobody's configuration, and return what it says."""
    done = subprocess.run(
        [GIT, "-c", "protocol.file.allow=always", "-c", "commit.gpgsign=false", *args],
        cwd=folder, env={**os.environ, **GIT_ENVIRONMENT}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout.strip()


def write(path: Path, data: str | bytes) -> Path:
    """Write a file, and make its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def commit(folder: Path, message: str = "change") -> str:
    """Commit everything in a repository, which is made if there is none, and return the commit."""
    if not (folder / ".git").exists():
        git(folder, "init", "-q", "-b", BRANCH)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)
    return git(folder, "rev-parse", "HEAD")


@dataclass(frozen=True)
class StandIn:
    """A folder of repositories, and the pinned commit of the one that stands for ESP-IDF.

    Attributes:
        remotes: the folder that ``--mirror`` could name.
        repository: the repository in it.
        commit: the pinned commit; the branch has gone on since.
        newest: the branch's last commit.
        tools: what IDF_TOOLS_PATH is set to.
    """

    remotes: Path
    repository: Path
    commit: str
    newest: str
    tools: Path

    def environment(self) -> dict[str, str]:
        """Return what a run of the program needs in its environment."""
        return {**GIT_ENVIRONMENT, "IDF_TOOLS_PATH": str(self.tools), "HOME": str(self.tools.parent)}

    def records(self, tool: str = "idf.py") -> list[dict]:
        """Return how a tool was called, each time."""
        path = self.tools / "record.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [each for each in map(json.loads, lines) if each["tool"] == tool]


def _products(folder: Path) -> None:
    """Make what a build would leave, by esptool and the public generators."""
    placed = builders.parts()
    for name, data in placed.values():
        write(folder / name, data)
    release = builders.release(folder.parent / "release")
    write(folder / "flasher_args.json", (release / "flasher_args.json").read_bytes())
    write(folder / "files.json", json.dumps({f"{at:#x}": name for at, (name, _) in placed.items()}))
    for module in MODULES:
        csv = builders.mfg_csv().replace("MINI-1", module)
        nvs = builders.generate(csv)
        write(folder / module / "customized_partitions/mfg_nvs.bin", nvs)
        write(folder / module / "customized_partitions/mfg_nvs.csv", csv)
        write(folder / module / "factory_unfilled.bin", builders.image(nvs, filled=False))


def make_idf(folder: Path) -> StandIn:
    """Make the repositories below a folder: ESP-IDF, its submodule, and the submodule of that."""
    remotes = folder / "remotes" / "espressif"
    deep, lib, idf = (remotes / f"{name}.git" for name in ("deep", "esp-lib", "esp-idf"))
    write(deep / "deep.c", "int deep;\n")
    commit(deep)
    write(lib / "lib.c", "int lib;\n")
    commit(lib)
    git(lib, "submodule", "--quiet", "add", "../deep.git", "deep")
    commit(lib)
    write(idf / "README.md", "a stand-in\n")
    write(idf / "tools/idf_tools.py", IDF_TOOLS)
    write(idf / "tools/idf.py", IDF_PY)
    version = "set(IDF_VERSION_MAJOR 5)\nset(IDF_VERSION_MINOR 4)\nset(IDF_VERSION_PATCH 4)\n"
    write(idf / "tools/cmake/version.cmake", version)
    _products(idf / "products")
    shutil.rmtree(idf / "release")
    commit(idf)
    git(idf, "remote", "add", "origin", str(idf))
    git(idf, "submodule", "--quiet", "add", "../esp-lib.git", "components/lib")
    pinned = commit(idf, "pinned")
    write(idf / "later.txt", "the branch goes on\n")
    newest = commit(idf, "later")
    for each in (deep, lib, idf):
        git(each, "config", "uploadpack.allowAnySHA1InWant", "true")
        git(each, "config", "uploadpack.allowFilter", "true")
    return StandIn(remotes, idf, pinned, newest, folder / "espressif-tools")


TOKENS = "components/at/private_include/at_ota_token.h"
"""The header with OTA tokens, which a checkout has after :func:`add_tokens`."""


def add_tokens(checkout: Path) -> Path:
    """Give MINI-1 of a checkout an OTA token, ``AT_OTA_TOKEN_MINI1``, and return the header that keeps it."""
    write(
        checkout / "components/at/src/at_default_config.c",
        "#if defined(CONFIG_IDF_TARGET_ESP32C3)\n"
        '{"MINI-1", CONFIG_ESP_AT_OTA_TOKEN_MINI1, CONFIG_ESP_AT_OTA_SSL_TOKEN_MINI1},\n#endif\n',
    )
    text = '#define CONFIG_ESP_AT_OTA_TOKEN_MINI1 ""\n#define CONFIG_ESP_AT_OTA_SSL_TOKEN_MINI1 ""\n'
    return write(checkout / TOKENS, text)


def start_slow(checkout: Path, action: str) -> subprocess.Popen[str]:
    """Start a build that takes a minute a step in a process of its own, and return when it compiles."""
    write(checkout / "main/slow.txt", "60")
    process = subprocess.Popen(
        [sys.executable, "-m", "esp_at_tools", action], cwd=checkout, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert any("Configuring done" in line for line in process.stdout)
    return process


def add_patch(checkout: Path) -> None:
    """List a patch for the ESP-IDF of a checkout, which is not applied: ``patches/readme.patch``."""
    idf = checkout / "esp-idf"
    (idf / "README.md").write_text("a patched stand-in\n")
    write(checkout / "patches/readme.patch", git(idf, "diff") + "\n")
    git(idf, "checkout", "-q", "README.md")
    write(checkout / "patches/patch_list.ini", "[readme.patch]\npath = esp-idf\n")
    write(checkout / "tools/patch.py", "at_patch_defaults = {'target': ['esp32c3']}  # before_sdkconfig\n")


def apply_patch(checkout: Path) -> None:
    """Apply that patch, as esp-at's own tool does it."""
    git(checkout / "esp-idf", "apply", "../patches/readme.patch")
    write(checkout / "esp-idf/readme.patch", (checkout / "patches/readme.patch").read_bytes())


def make_checkout(folder: Path, standin: StandIn, **changes: str) -> Path:
    """Make a checkout of esp-at whose ``IDF_VERSION`` names the stand-in.

    Args:
        folder: where.
        standin: of :func:`make_idf`.
        changes: more files, or other contents, by path.
    """
    pin = f"branch:{BRANCH}\ncommit:{standin.commit}\nrepository:{standin.repository}\n"
    for path, data in {**CHECKOUT, f"{HOME}/IDF_VERSION": pin, **changes}.items():
        write(folder / path, data)
    commit(folder, "esp-at")
    git(folder, "remote", "add", "origin", "https://example.org/esp-at.git")
    return folder

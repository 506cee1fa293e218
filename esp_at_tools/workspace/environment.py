"""The environment in which a checkout is built, made in memory.

build.py computes it in its own process: the variables that ESP-IDF's ``idf_tools.py`` exports, in which
``PATH`` is put before the user's, then those that tell of the module. Variables of another ESP-IDF that an
``export.sh`` has left in the user's shell are taken out, since idf_tools.py would go by them.

Source: ``setup_env_variables`` and ``build_project`` in ``build.py`` of esp-at v3.4.0.0 and v5.0.1.0;
``get_python_env_path`` and ``action_export`` in ``tools/idf_tools.py`` of ESP-IDF v4.3 to v5.5.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.errors import ExternalToolError
from esp_at_tools.workspace.checkout import Checkout, CheckoutModule
from esp_at_tools.workspace.compile_errors import causes

IDF_TOOLS = Path("tools", "idf_tools.py")
IDF_PY = Path("tools", "idf.py")
TOOLS_PATH = "IDF_TOOLS_PATH"
PYTHON_ENV = "IDF_PYTHON_ENV_PATH"
_OTHERS = ("IDF_PATH", "ESP_IDF_VERSION", "IDF_DEACTIVATE_FILE_PATH", "OPENOCD_SCRIPTS", "ESP_ROM_ELF_DIR")
"""What an ``export.sh`` of ESP-IDF leaves in a shell, beside :data:`PYTHON_ENV`."""
_ENV_NAME = re.compile(r"idf(\d+\.\d+)_py\d+\.\d+_env")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_PLACEHOLDERS = ("$PATH", "%PATH%")
_VERSION_FILE = Path("tools", "cmake", "version.cmake")
_SERIES = re.compile(r"set\(\s*IDF_VERSION_(?:MAJOR|MINOR)\s+(\d+)\s*\)")
_TIMEOUT = 300
OLD_SIGN = "idfSelectedId"
OLD_HINT = (
    "this version of ESP-IDF cannot read what a newer one has left in IDF_TOOLS_PATH: give it a folder of its"
    " own, and install again: IDF_TOOLS_PATH=… esp-at-tool install"
)
_INSTALL = "'esp-at-tool install' installs what is missing; 'esp-at-tool doctor' lists it"


@dataclass(frozen=True)
class Environment:
    """What a build runs in.

    Attributes:
        variables: every variable.
        python: the interpreter of ESP-IDF's own virtual environment.
        idf: the ESP-IDF.
    """

    variables: Mapping[str, str]
    python: Path
    idf: Path


def tools_folder(given: Mapping[str, str]) -> Path:
    """Return where ESP-IDF keeps its tools: ``IDF_TOOLS_PATH``, else ``~/.espressif``."""
    value = given.get(TOOLS_PATH, "")
    return Path(value) if value else Path.home() / ".espressif"


def python_of(folder: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def idf_python(idf: Path, given: Mapping[str, str]) -> Path:
    """Return the interpreter that runs idf_tools.py.

    ESP-IDF has one virtual environment for each version of Python, and idf_tools.py looks for that of the
    interpreter that runs it. So it is this one unless such an environment exists for another alone. In a
    virtual environment of the user's it is the interpreter that this was made with: idf_tools.py makes none
    from within another.

    Args:
        idf: the ESP-IDF.
        given: the environment, see :func:`without_other_idf`.
    """
    named = given.get(PYTHON_ENV, "")
    if named and python_of(Path(named)).exists():
        return python_of(Path(named))
    home, series = tools_folder(given) / "python_env", idf_series(idf)
    own = f"idf{series}_py{sys.version_info[0]}.{sys.version_info[1]}_env"
    if python_of(home / own).exists() or not home.is_dir():
        return base_python()
    others = [python_of(each) for each in sorted(home.glob(f"idf{series}_py*_env"))]
    return next((each for each in reversed(others) if each.exists()), base_python())


def base_python() -> Path:
    """Return this interpreter; in a virtual environment, the one with which it was made."""
    if sys.prefix == sys.base_prefix:
        return Path(sys.executable)
    major, minor = sys.version_info[:2]
    names = ("python.exe",) if sys.platform == "win32" else (f"bin/python{major}.{minor}", "bin/python3")
    found = (Path(sys.base_prefix) / name for name in names)
    return next((each for each in found if each.exists()), Path(sys.executable))


def idf_series(idf: Path) -> str:
    """Return the version of an ESP-IDF, ``5.4``; ``""`` where it cannot be read."""
    try:
        text = (idf / _VERSION_FILE).read_text("utf-8", "replace")
    except OSError:
        return ""
    return ".".join(match[1] for match in _SERIES.finditer(text))


def without_other_idf(given: Mapping[str, str], idf: Path) -> dict[str, str]:
    """Return the user's environment without what an ``export.sh`` of any ESP-IDF has left in it.

    ``IDF_PYTHON_ENV_PATH`` stays where it may belong to this ESP-IDF: a Docker image sets it.
    """
    left = {key: value for key, value in given.items() if key not in _OTHERS}
    match = _ENV_NAME.search(left.get(PYTHON_ENV, ""))
    if not left.get(PYTHON_ENV) or (match and match[1] != idf_series(idf)):
        left.pop(PYTHON_ENV, None)
    return left


def exported(idf: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Return the user's environment with what idf_tools.py exports.

    Raises:
        ExternalToolError: the tools are not installed; the message has what idf_tools.py said.
    """
    base = {**without_other_idf(given, idf), "IDF_PATH": str(idf)}
    python = idf_python(idf, base)
    command = [str(python), str(idf / IDF_TOOLS), "export", "--format=key-value"]
    try:
        done = subprocess.run(  # noqa: S603 - a script of the ESP-IDF that is built with
            command, env=base, cwd=idf, capture_output=True, check=False, timeout=_TIMEOUT,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExternalToolError(
            f"{command[0]}: {idf / IDF_TOOLS} cannot be run: {error}", _INSTALL
        ) from error
    if done.returncode:
        said = (done.stderr + done.stdout).decode("utf-8", "replace").splitlines()
        reasons = "\n  ".join(causes(said))
        raise ExternalToolError(
            f"the tools of {idf} are not installed: {reasons or f'exit status {done.returncode}'}",
            OLD_HINT if OLD_SIGN in reasons else _INSTALL,
        )
    return {**base, **parse_export(done.stdout.decode("utf-8", "surrogateescape"), base.get("PATH", ""))}


def parse_export(text: str, path: str) -> dict[str, str]:
    """Return the variables that ``idf_tools.py export --format=key-value`` prints.

    Args:
        text: what it printed; lines that are no variable are left out.
        path: the user's ``PATH``, for which a placeholder stands in the exported one. build.py keeps the
            placeholder as a folder of that name, and appends the user's.
    """
    found = {}
    for line in text.splitlines():
        match = _VARIABLE.fullmatch(line)
        if match is None:
            continue
        name, value = match.groups()
        if name == "PATH":
            parts = [each for each in value.split(os.pathsep) if each not in _PLACEHOLDERS]
            value = os.pathsep.join([*parts, path] if path else parts)
        found[name] = value
    return found


def build_environment(
    checkout: Checkout, module: CheckoutModule, *, silence: bool, given: Mapping[str, str] | None = None
) -> Environment:
    """Return the environment in which a module of a checkout is built.

    Args:
        checkout: the checkout, whose ESP-IDF is there.
        module: the module.
        silence: the variant without log.
        given: the user's environment; that of this process by default.

    Raises:
        ExternalToolError: the tools or the Python environment of ESP-IDF are not installed.
        InputError: a file of the checkout is wrong.
    """
    own = checkout.environment(module, silence=silence)
    idf = Path(own["IDF_PATH"])
    variables = {**exported(idf, os.environ if given is None else given), **own}
    home = variables.get(PYTHON_ENV, "")
    python = python_of(Path(home)) if home else None
    if python is None or not python.exists():
        where = home or str(tools_folder(variables) / "python_env")
        raise ExternalToolError(f"{where}: ESP-IDF's Python environment is not there", _INSTALL)
    return Environment(variables, python, idf)

"""ESP-IDF's compilers and its Python environment, installed by its own idf_tools.py.

They go where ESP-IDF keeps them for all projects (``IDF_TOOLS_PATH``, else ``~/.espressif``), Python packages
into the virtual environment there: never into the user's, and nothing asks for other rights.

Source: ``install_compilation_env`` in ``build.py`` of esp-at v5.0.1.0.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from esp_at_tools.errors import ExternalToolError
from esp_at_tools.workspace.compile_process import run_followed
from esp_at_tools.workspace.doctor_tools import run_for_text
from esp_at_tools.workspace.environment import (
    IDF_TOOLS,
    OLD_HINT,
    OLD_SIGN,
    PYTHON_ENV,
    exported,
    idf_python,
    python_of,
    without_other_idf,
)
from esp_at_tools.workspace.idf_state import Follow

REQUIREMENTS = "requirements.txt"
ASSETS = "IDF_GITHUB_ASSETS"
CHINESE_ASSETS = "dl.espressif.cn/github_assets"
"""Espressif's own copies of the archives that idf_tools.py downloads, for where GitHub cannot be reached."""
_STAMP = "esp-at-tool-requirements.sha256"
_ERROR = re.compile(r"\b(?:ERROR|error|fatal|FATAL)\b|No module named|Failed to")
_SHOWN = 3
_HINT = (
    "run the same command again: it goes on where it stopped. 'esp-at-tool doctor' checks what it needs;"
    f" where GitHub cannot be reached, {ASSETS}={CHINESE_ASSETS} or --mirror jihulab helps"
)


def install_tools(
    idf: Path, target: str, project: Path, follow: Follow, given: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Install what a build for a chip needs, and return what was done.

    Args:
        idf: the ESP-IDF.
        target: ``esp32c3``.
        project: the checkout, whose ``requirements.txt`` goes into the same Python environment.
        follow: who hears what is going on.
        given: the user's environment; that of this process by default.

    Raises:
        ExternalToolError: idf_tools.py or pip failed; the message has what it said. The same call goes on
            where this one stopped.
    """
    given = os.environ if given is None else given
    base = {**without_other_idf(given, idf), "IDF_PATH": str(idf), "PIP_USER": "no"}
    done = []
    follow.step(f"installing the tools of ESP-IDF for {target}")
    _run(idf, base, follow, "install", f"--targets={target}")
    wanted = _fingerprint([*sorted(idf.glob("tools/requirements*/*.txt")), *sorted(idf.glob("tools/req*.*")),
                           idf / "requirements.txt", project / REQUIREMENTS])  # fmt: skip
    if _stamped(idf, base) == wanted:
        return ()
    follow.step("installing ESP-IDF's Python environment")
    _run(idf, base, follow, "install-python-env")
    done.append("Python environment installed")
    variables = exported(idf, base)
    home = Path(variables.get(PYTHON_ENV, ""))
    if (project / REQUIREMENTS).is_file():
        follow.step("installing the Python packages of esp-at into it")
        command = ["-m", "pip", "install", "--disable-pip-version-check", "-r", str(project / REQUIREMENTS)]
        _finish([str(python_of(home)), *command], project, {**variables, "PIP_USER": "no"}, follow)
    (home / _STAMP).write_text(f"{wanted}\n", "utf-8")
    return tuple(done)


def _run(idf: Path, environment: Mapping[str, str], follow: Follow, *args: str) -> None:
    command = [str(idf_python(idf, environment)), str(idf / IDF_TOOLS), "--non-interactive", *args]
    _finish(command, idf, environment, follow)


def _finish(command: list[str], cwd: Path, environment: Mapping[str, str], follow: Follow) -> None:
    ended = run_followed(command, cwd=cwd, environment=environment, line=follow.line)
    if not ended.status:
        return
    said = [line.strip() for line in ended.lines if _ERROR.search(line)] or [
        line for line in ended.lines if line.strip()
    ]
    what = " ".join(Path(part).name if Path(part).is_absolute() else part for part in command[1:])
    reasons = "\n  ".join(list(dict.fromkeys(said))[-_SHOWN:])
    raise ExternalToolError(
        f"{what}: exit status {ended.status}" + (f"\n  {reasons}" if reasons else ""),
        OLD_HINT if OLD_SIGN in reasons else _HINT,
    )


def _fingerprint(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of the lists of packages that an environment is made of."""
    digest = hashlib.sha256()
    for path in paths:
        if path.is_file():
            data = path.read_bytes()
            digest.update(f"{path.name} {len(data)}\n".encode("utf-8", "surrogateescape") + data)
    return digest.hexdigest()


def _stamped(idf: Path, base: Mapping[str, str]) -> str:
    """Return the fingerprint of the environment that is installed, ``""`` for none or an older one."""
    try:
        home = Path(exported(idf, base).get(PYTHON_ENV, ""))
    except ExternalToolError:
        return ""
    if not python_of(home).exists() or run_for_text([str(python_of(home)), "-c", "import click"])[0]:
        return ""  # idf.py cannot run in it
    try:
        return (home / _STAMP).read_text("utf-8").strip()
    except (OSError, ValueError):
        return ""

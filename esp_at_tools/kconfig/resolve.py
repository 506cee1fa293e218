"""Resolving a full sdkconfig from defaults, as ESP-IDF's build does, without cmake or a compiler."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esp_at_tools.errors import ExternalToolError, FormatError, InputError
from esp_at_tools.files import read_file
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.kconfig.tree import KconfigTree, find_tree

TIMEOUT = 300
"""Seconds that esp-idf-kconfig may take for one tree; it takes about five on a slow machine."""

_MAX_DEFAULTS = 1 << 20
_IGNORED = ("CONFIG_", "srctree", "COMPONENT_SDKCONFIG_RENAMES", "SDKCONFIG_RENAME")
"""Variables of Kconfig, beside all of ``KCONFIG_…``, that are not inherited: they change the result."""
_OFFICIAL_NOTES = re.compile(r"was replaced with|indirectly set|has no prompt", re.ASCII)


@dataclass(frozen=True)
class Resolved:
    """A resolved sdkconfig.

    Attributes:
        text: the file, as ESP-IDF's build writes it.
        warnings: what is questionable: options that the tree does not have, values that were not taken.
        notes: what is only worth knowing, such as old names that were translated.
    """

    text: str
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def config(self) -> Sdkconfig:
        """The options."""
        return Sdkconfig.from_text(self.text, "the resolved sdkconfig")


def resolve_sdkconfig(
    project: Path,
    idf: Path,
    chip: str,
    defaults: Sequence[Path],
    *,
    overlay: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Resolved:
    """Return the full sdkconfig of one module.

    Args:
        project: the esp-at checkout.
        idf: the ESP-IDF; it needs not be installed.
        chip: as ESP-IDF calls it: ``esp32c3``.
        defaults: the module's ``sdkconfig.defaults`` and what is appended to them; of each file the one with
            ``.<chip>`` behind its name follows it, as in ESP-IDF.
        overlay: the user's own options, read last; it may be absent.
        environment: as for :func:`esp_at_tools.kconfig.tree.find_tree`; this process's own if None.

    Raises:
        InputError: a file or folder is missing, or a Kconfig file is broken.
        FormatError: defaults cannot be read; the message has the line.
        ExternalToolError: esp-idf-kconfig ended without an answer.
    """
    environment = os.environ if environment is None else environment
    tree = find_tree(project, idf, chip, environment=environment)
    files = [*defaults, *([overlay] if overlay is not None and overlay.exists() else [])]
    return resolve_all(tree, [files], environment=environment)[0]


def resolve_all(
    tree: KconfigTree,
    jobs: Sequence[Sequence[Path]],
    *,
    environment: Mapping[str, str] | None = None,
) -> list[Resolved]:
    """Return a full sdkconfig for each list of defaults; the tree is parsed only once.

    Raises:
        InputError, FormatError, ExternalToolError: see :func:`resolve_sdkconfig`.
    """
    environment = os.environ if environment is None else environment
    request = {
        "kconfig": str(tree.root),
        "renames": [str(path) for path in tree.renames],
        "jobs": [_texts(files, tree.chip) for files in jobs],
    }
    with kconfig_environment(tree, environment) as variables:
        reply = _ask(request, variables)
    if "error" in reply:
        raise _broken(tree, str(reply["error"]))
    return [_resolved(job) for job in reply["jobs"]]


@contextmanager
def kconfig_environment(tree: KconfigTree, environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Give the environment in which esp-idf-kconfig reads a tree; the files it names exist in the block."""
    with tempfile.TemporaryDirectory(prefix="esp-at-kconfig-") as name:
        kconfigs, projbuilds = Path(name, "kconfigs.in"), Path(name, "kconfigs_projbuild.in")
        kconfigs.write_text(tree.sources(tree.kconfigs), encoding="utf-8")
        projbuilds.write_text(tree.sources(tree.projbuilds), encoding="utf-8")
        inherited = {
            key: value
            for key, value in environment.items()
            if key not in _IGNORED and (not key.startswith("KCONFIG_") or key == "KCONFIG_PARSER_VERSION")
        }
        own = {"PYTHONPATH": _module_path(environment), "PYTHONIOENCODING": "utf-8"}
        yield inherited | tree.environment(kconfigs, projbuilds) | own


def _module_path(environment: Mapping[str, str]) -> str:
    """Return a ``PYTHONPATH`` with which another Python finds this package and what it depends on."""
    package = str(Path(__file__).resolve().parent.parent.parent)
    inherited = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    return os.pathsep.join(dict.fromkeys([*(os.path.abspath(part) for part in inherited), package]))  # noqa: PTH100 - as Python itself takes them


def _texts(files: Sequence[Path], chip: str) -> list[tuple[str, str]]:
    found = []
    for path in files:
        found.append((str(path), _checked(path)))
        special = path.with_name(f"{path.name}.{chip}")
        if special.is_file():
            found.append((str(special), _checked(special)))
    return found


def _checked(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no regular file", "give an sdkconfig.defaults")
    data = read_file(path, "sdkconfig.defaults", _MAX_DEFAULTS)
    Sdkconfig.from_bytes(data, str(path))
    return data.decode("utf-8-sig")


def _ask(request: dict[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    import json

    command = [sys.executable, "-m", "esp_at_tools.kconfig.worker"]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed list of arguments; what a user gives goes to stdin
            command, input=json.dumps(request), capture_output=True, check=False, env=dict(variables),
            encoding="utf-8", errors="replace", timeout=TIMEOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ExternalToolError(
            f"esp-idf-kconfig did not resolve {request['kconfig']} within {TIMEOUT} s",
            "a Kconfig file may run a command that waits",
        ) from error
    except OSError as error:
        raise ExternalToolError(
            f"{sys.executable}: cannot be started: {error.strerror}", "install esp-at-tool again"
        ) from error
    if done.returncode == 0:
        reply: dict[str, Any] = json.loads(done.stdout)
        return reply
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    raise ExternalToolError(
        f"esp-idf-kconfig could not resolve {request['kconfig']}: {last}",
        "install esp-idf-kconfig 3.14 or later; a version that is older lacks what is used",
    )


def _broken(tree: KconfigTree, said: str) -> InputError:
    """Return the error for a tree that cannot be parsed; ``said`` names the file and the line."""
    text = re.sub(r"\s+", " ", said).strip()
    for prefix in ("error: ", "Error: "):
        text = text.removeprefix(prefix)
    return InputError(
        f"the Kconfig tree of {tree.project} and ESP-IDF {tree.idf_version} cannot be read: {text}",
        f"mend that file, or check {tree.idf} out again at the commit that IDF_VERSION names",
    )


def _resolved(job: Mapping[str, Any]) -> Resolved:
    warnings = [_unknown(*entry) for entry in job["unknown"]]
    notes = []
    for message in job["messages"]:
        (notes if _OFFICIAL_NOTES.search(message) else warnings).append(message)
    return Resolved(job["text"], tuple(warnings), tuple(notes))


def _unknown(file: str, option: str, nearest: str) -> str:
    hint = f"; the nearest known one is CONFIG_{nearest}" if nearest else ""
    return f"{file}: there is no option CONFIG_{option} in this Kconfig tree{hint}"


__all__ = ["FormatError", "Resolved", "kconfig_environment", "resolve_all", "resolve_sdkconfig"]

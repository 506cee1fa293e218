"""Building a checkout with its ESP-IDF: sources, patches, environment, idf.py.

Source: ``main``, ``at_submodules_update``, ``at_patch_if_config``, ``at_patch_external_if_config`` and
``build_project`` in ``build.py`` of esp-at v3.4.0.0 and v5.0.1.0.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.errors import ExternalToolError, InputError
from esp_at_tools.files import write_file
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.interrupts import deaf_to_interrupts
from esp_at_tools.workspace import compile_errors
from esp_at_tools.workspace.checkout import IDF, READ_VARIABLES, Checkout, CheckoutModule
from esp_at_tools.workspace.compile_process import run_followed, terminable
from esp_at_tools.workspace.compile_variant import BUILD, SDKCONFIG
from esp_at_tools.workspace.environment import IDF_PY, Environment, tools_folder
from esp_at_tools.workspace.idf import mirrored, obtain, use_existing
from esp_at_tools.workspace.idf_state import Follow, Wanted, look, modified
from esp_at_tools.workspace.patch_list import Patch
from esp_at_tools.workspace.patches import (
    APPLIED,
    CONFLICTING,
    MISSING,
    Ground,
    apply_patches,
    patch_states,
    undo_patches,
)

LOG = "esp-at-tool.log"
"""The log of the last run of idf.py, in the build folder's folder ``log``."""
_MAX_SDKCONFIG = 4 << 20
_VARIABLES = "esp-at-tool.variables.json"
_BROKEN = "spawned within an ESP-IDF shell environment"
"""What idf.py says when a Python package is missing."""


@dataclass(frozen=True)
class Sources:
    """Where ESP-IDF comes from.

    Attributes:
        idf: an ESP-IDF that is there already; None to have one cloned into the checkout.
        mirror: see :func:`esp_at_tools.workspace.idf.mirrored`.
        borrowed: a clone on this machine whose objects are used.
        whole: clone the whole history.
    """

    idf: Path | None = None
    mirror: str = ""
    borrowed: Path | None = None
    whole: bool = False


def check_paths(root: Path, given: Mapping[str, str] | None = None) -> None:
    """Refuse paths with which ESP-IDF's build system cannot work.

    Source: the getting started guide of ESP-IDF v4.3 to v5.5: no spaces, and on Windows no parentheses.

    Raises:
        InputError: one of them has such a character.
    """
    bad = " \t\n()" if os.name == "nt" else " \t\n"
    named = {"the checkout": root, "ESP-IDF's tools": tools_folder(os.environ if given is None else given)}
    for what, path in named.items():
        found = next((char for char in bad if char in str(path)), "")
        if found:
            name = {" ": "a space", "\t": "a tab", "\n": "a line end"}.get(found, repr(found))
            where = (
                "IDF_TOOLS_PATH names their folder" if path != root else "move the checkout to another folder"
            )
            raise InputError(
                f"{path}: the path of {what} has {name} in it, with which ESP-IDF cannot build", where
            )


# --- sources ----------------------------------------------------------------------------------------------


def wanted_idf(checkout: Checkout, module: CheckoutModule, sources: Sources) -> Wanted:
    """Return the ESP-IDF of a module as it shall be.

    Raises:
        InputError: ``IDF_VERSION`` cannot be read or is wrong.
    """
    pin = checkout.idf_pin(module)
    place = mirrored(pin.repository, sources.mirror)
    repository = place if sources.mirror else checkout.redirected(pin.repository)
    return Wanted(
        "ESP-IDF",
        checkout.root / IDF,
        repository,
        pin.branch or pin.tag,
        pin.commit,
        borrowed=sources.borrowed,
        whole=sources.whole,
        submodule=None if sources.mirror else checkout.redirected_submodule,
    )


def synchronise(
    checkout: Checkout, module: CheckoutModule, follow: Follow, sources: Sources | None = None
) -> tuple[str, ...]:
    """Bring ESP-IDF and the other repositories of a module to their commits, and return what was done.

    Raises:
        InputError: something of the user's is in the way; it is left as it is.
        ExternalToolError: git failed; the same call goes on where this one stopped.
    """
    sources = sources or Sources()
    wanted = wanted_idf(checkout, module, sources)
    done = []
    if sources.idf is not None:
        linked = use_existing(wanted, sources.idf)
        done += [f"esp-idf is {linked}"] if linked else []
    else:
        _take_patches_out(checkout, wanted, follow)
        brought = obtain(wanted, follow)
        done += [f"ESP-IDF {brought}"] if brought else []
    for each in checkout.submodules(module):
        place = checkout.root / each.path
        brought = obtain(Wanted(each.name, place, each.repository, each.branch, each.commit), follow)
        done += [f"{each.name} {brought}"] if brought else []
    return tuple(done)


def _take_patches_out(checkout: Checkout, wanted: Wanted, follow: Follow) -> None:
    """Undo esp-at's patches where another commit has to be checked out; the build applies them again."""
    state = look(wanted.place)
    if state.is_link or not state.head or state.is_at(wanted.commit) or not modified(wanted.place):
        return
    listed: dict[tuple[Path, Path], Patch] = {}
    for module in checkout.modules():
        listed |= {(patch.source, patch.path): patch for patch in checkout.patches(module)}
    follow.step("taking esp-at's patches out of ESP-IDF, since another commit is needed")
    states = undo_patches(Ground(checkout.root), listed.values())
    for each in states:
        if each.state in (APPLIED, CONFLICTING):
            follow.line(each.message or f"{each.patch.name} taken out")


def put_patches(
    checkout: Checkout, module: CheckoutModule, environment: Mapping[str, str]
) -> tuple[str, ...]:
    """Apply the patches that a module needs and that are missing, and return their names.

    Raises:
        InputError: one does not fit; the message names the hunk, and nothing is changed.
        ExternalToolError: git failed.
    """
    states = apply_patches(_ground(checkout, environment), checkout.patches(module))
    return tuple(each.patch.name for each in states if each.state == MISSING)


def check_patches(checkout: Checkout, module: CheckoutModule, environment: Mapping[str, str]) -> None:
    """Refuse what a build has made without a patch that it needs: esp-at's own tool leaves such a one out.

    Raises:
        InputError: a patch does not fit.
    """
    for each in patch_states(_ground(checkout, environment), checkout.patches(module)):
        if each.state == CONFLICTING:
            raise InputError(each.message, each.hint)


def _ground(checkout: Checkout, environment: Mapping[str, str]) -> Ground:
    path = checkout.root / SDKCONFIG
    config = Sdkconfig.from_bytes(path.read_bytes()[:_MAX_SDKCONFIG], str(path)) if path.is_file() else None
    return Ground(checkout.root, config=config, environment=environment)


# --- idf.py -----------------------------------------------------------------------------------------------


def idf_command(environment: Environment, module: CheckoutModule, args: Sequence[str]) -> list[str]:
    """Return how idf.py is called, as build.py does it."""
    return [
        str(environment.python), str(environment.idf / IDF_PY), f"-DIDF_TARGET={module.target}", *args,
    ]  # fmt: skip


def compile_module(
    checkout: Checkout,
    module: CheckoutModule,
    environment: Environment,
    line: Callable[[str], None],
    *,
    silence: bool,
    hide: Callable[[str], str] = str,
) -> Path:
    """Run ``idf.py build`` and return its log.

    Args:
        checkout: the checkout, whose sources are there and patched.
        module: the module for which it is prepared.
        environment: of :func:`esp_at_tools.workspace.environment.build_environment`.
        line: gets each line that is printed.
        silence: the variant without log, for what an overflow suggests.
        hide: takes secrets out of a line before it is shown or logged.

    Raises:
        ExternalToolError: the build failed; the message has the first lines that say why, and the log.
    """
    folder = checkout.root / BUILD / "log"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / LOG
    actions = ["reconfigure", "build"] if _environment_changed(folder, environment) else ["build"]
    command = idf_command(environment, module, actions)
    ended = run_followed(
        command, cwd=checkout.root, environment=environment.variables, line=line, log=log, hide=hide
    )
    if ended.status:
        raise failure(checkout, module, ended.lines, log, status=ended.status, silence=silence)
    return log


def _environment_changed(folder: Path, environment: Environment) -> bool:
    """Tell whether variables that CMake reads differ from those of the build before, and keep them.

    ninja does not notice that; it would build without a component that has been added since.
    """
    names = {*READ_VARIABLES, "ESP_AT_PROJECT_BRANCH", "RMAKER_PATH"}
    read = {
        name: value
        for name, value in environment.variables.items()
        if name in names or (name.startswith("AT_") and name.endswith("_SUPPORT"))
    }
    path = folder / _VARIABLES
    before = path.read_text("utf-8", "replace") if path.is_file() else ""
    now = json.dumps(read, sort_keys=True)
    if now != before:
        write_file(path, now.encode())
    return bool(before) and now != before


def failure(
    checkout: Checkout,
    module: CheckoutModule,
    lines: Sequence[str],
    log: Path,
    *,
    status: int,
    silence: bool,
) -> ExternalToolError:
    """Return the error for a build that failed."""
    overflow = compile_errors.find_overflow(lines)
    if overflow is not None:
        from esp_at_tools.workspace.overflow import explain

        return explain(checkout, module, overflow, log, silence=silence)
    reasons = "\n  ".join(compile_errors.causes(lines))
    mend = "'esp-at-tool install' mends ESP-IDF's Python environment; " if _BROKEN in reasons else ""
    return ExternalToolError(
        f"the build of {module.full_name} failed: idf.py ended with exit status {status}\n  {reasons}",
        f"{mend}the whole log: {log}",
    )


def run_interactive(
    checkout: Checkout, module: CheckoutModule, environment: Environment, args: Sequence[str]
) -> int:
    """Run idf.py on this terminal with the user's arguments, and return its exit status.

    Raises:
        ExternalToolError: it cannot be started.
    """
    command = idf_command(environment, module, args)
    try:
        process = subprocess.Popen(  # noqa: S603 - idf.py of the ESP-IDF that is built with
            command, cwd=checkout.root, env=dict(environment.variables)
        )
    except OSError as error:
        raise ExternalToolError(f"{command[0]}: cannot be started: {error.strerror}", "") from error
    try:
        with (
            terminable(),
            deaf_to_interrupts(),
        ):  # the program has got Ctrl-C too, and decides what that means
            return process.wait()
    finally:
        if process.poll() is None:  # this process is being ended, and its callers have to tidy up
            process.terminate()

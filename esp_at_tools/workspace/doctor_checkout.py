"""What a checkout needs for a build of a module: ESP-IDF, its tools, submodules, patches."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from esp_at_tools.build.tree import EXTENSION_VARIABLE
from esp_at_tools.errors import EspAtError, InputError
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.workspace.checkout import IDF, Checkout, CheckoutModule
from esp_at_tools.workspace.doctor import (
    BUILD_SIZE,
    IDF_SIZE,
    TOOLS_SIZE,
    Check,
    Machine,
    disk_checks,
    machine_checks,
    path_checks,
    tools_home,
)
from esp_at_tools.workspace.doctor_system import quoted, this_system
from esp_at_tools.workspace.doctor_tools import TOOLS_JSON, Tool, idf_tools, run_for_text
from esp_at_tools.workspace.environment import (
    IDF_PY,
    PYTHON_ENV,
    idf_python,
    idf_series,
    python_of,
    without_other_idf,
)
from esp_at_tools.workspace.git import Git
from esp_at_tools.workspace.idf_state import State, few, has_files, look, lost_link, modified
from esp_at_tools.workspace.ota_tokens import HEADER, holds_tokens
from esp_at_tools.workspace.patches import (
    APPLIED,
    CONFLICTING,
    INCLUDED,
    MISSING,
    NOT_NEEDED,
    UNDECIDED,
    Ground,
    PatchState,
    patch_states,
)

SDKCONFIG = "sdkconfig"
_SHORT = 10
_SHOWN = 3
_WORDS = {
    APPLIED: "applied", INCLUDED: "in ESP-IDF itself", MISSING: "to apply", CONFLICTING: "conflicting",
    NOT_NEEDED: "not needed", UNDECIDED: "open until there is an sdkconfig",
}  # fmt: skip


@dataclass(frozen=True)
class Patient:
    """What is looked at.

    Attributes:
        checkout: the checkout, None for the machine alone.
        module: the module, None where none is chosen.
        idf: the ESP-IDF that is asked for, None for the one in the checkout.
        given: the environment of the user.
        here: the checkout is the current folder, so that commands need not name it.
    """

    checkout: Checkout | None = None
    module: CheckoutModule | None = None
    idf: Path | None = None
    given: Mapping[str, str] = field(default_factory=lambda: os.environ)
    here: bool = True

    @property
    def idf_place(self) -> Path | None:
        """Where ESP-IDF is or goes."""
        return self.idf or (self.checkout.root / IDF if self.checkout else None)

    def command(self, name: str, *, module: bool = True) -> str:
        """Return a command of this program for this checkout."""
        parts = ["esp-at-tool", name]
        if self.checkout and not self.here:
            parts += ["--project", quoted(self.checkout.root)]
        if module:
            parts += ["--module", self.module.full_name if self.module else "NAME"]
        return " ".join(parts)


def examine(patient: Patient) -> tuple[Check, ...]:
    """Return every check, in the order in which they are mended best.

    Raises:
        InputError: a file of the checkout cannot be read, or is wrong.
    """
    place = patient.idf_place
    idf = place if place and (place / IDF_PY).is_file() else None
    target = patient.module.target if patient.module else ""
    tools = _tools_of(idf, target, patient)
    has_list = bool(idf and (idf / TOOLS_JSON).is_file())
    environment = _environment(idf, patient) if idf else None
    machine = Machine(
        given=patient.given,
        system=this_system(),
        idf=idf,
        tools=tools,
        has_environment=bool(environment and environment.level == "ok"),
        **({"python": idf_python(idf, without_other_idf(patient.given, idf))} if idf else {}),
    )
    found = [*machine_checks(machine)]
    has_git = found[0].level == "ok"
    paths = {"the folder of ESP-IDF's tools": tools_home(patient.given)}
    if place:
        paths["ESP-IDF"] = Path(os.path.realpath(place))
    if patient.checkout:
        paths = {"the checkout": patient.checkout.root, **paths}
    found += path_checks(paths)
    found += _disk(patient, idf, ready=bool(has_list and not _absent(tools)))
    if patient.checkout:
        found += _checkout(patient, patient.checkout)
        found += _left_tokens(patient, patient.checkout)
    if place and has_git:
        found += _idf(patient, place)
    if environment:
        found.append(environment)
    if has_list:
        found.append(_tools(patient, tools))
    if patient.checkout and patient.module and has_git:
        found += _submodules(patient, patient.checkout, patient.module)
        if idf:
            found.append(_patches(patient, patient.checkout, patient.module))
    return tuple(found)


def _disk(patient: Patient, idf: Path | None, *, ready: bool) -> tuple[Check, ...]:
    needs: dict[Path, int] = {}
    if not ready:
        needs[tools_home(patient.given)] = TOOLS_SIZE
    if patient.checkout:
        needs[patient.checkout.root] = BUILD_SIZE + (0 if idf else IDF_SIZE)
    return disk_checks(needs)


# --- the checkout -----------------------------------------------------------------------------------------


def _checkout(patient: Patient, checkout: Checkout) -> Iterator[Check]:
    git = Git(checkout.root)
    try:
        said = git.ask("describe", "--tags", "--always", "--dirty") if git.is_top() else None
    except EspAtError:  # there is no git, which has its own row
        said = None
    version = said.text.strip() if said and not said.status else ""
    if version:
        yield Check("checkout", "esp-at", "a checkout", version)
    else:
        yield Check(
            "checkout", "esp-at", "a Git checkout", "no Git repository", "warning",
            f"{checkout.root}: its version goes into the firmware, and git does not know it",
            "git clone --recursive https://github.com/espressif/esp-at.git",
        )  # fmt: skip
    if patient.module:
        yield Check("module", "module", "one", patient.module.full_name)
    else:
        names = ", ".join(module.full_name for module in checkout.modules())
        yield Check(
            "module", "module", "one", "none chosen", "note",
            f"what depends on the module is not looked at; it is one of {names}",
            patient.command("doctor"),
        )  # fmt: skip
    value = patient.given.get(EXTENSION_VARIABLE, "")
    if value:
        yield _extension(checkout, value)


def _extension(checkout: Checkout, value: str) -> Check:
    title, needed = EXTENSION_VARIABLE, "a folder"
    if checkout.extension is None:
        problem = "this version of esp-at does not know that variable"
        return Check("extension", title, "unset", value, "warning", problem, f"unset {title}")
    if not checkout.extension.is_dir():
        problem = f"{checkout.extension}: is no folder, and is left out"
        return Check("extension", title, needed, value, "error", problem, f"unset {title}, or set it right")
    return Check("extension", title, needed, value)


# --- ESP-IDF ----------------------------------------------------------------------------------------------


def _idf(patient: Patient, place: Path) -> Iterator[Check]:
    pin = patient.checkout.idf_pin(patient.module) if patient.checkout and patient.module else None
    needed = f"{pin.branch or pin.tag}, {pin.commit[:_SHORT]}" if pin else "any commit"
    install = patient.command("install")
    state = look(place)
    if not state.exists:
        problem = f"{place}: ESP-IDF is not there"
        if patient.idf:
            problem, install = f"{place}: no such folder, or an empty one", "name another folder with --idf"
        yield Check("idf_commit", "ESP-IDF", needed, "none", "error", problem, install)
        return
    if lost := lost_link(place):
        mend = f"rm {quoted(place)} && {install}"
        yield Check("idf_commit", "ESP-IDF", needed, "a link to nothing", "error", lost, mend)
        return
    if not state.is_repository:
        yield Check(
            "idf_commit", "ESP-IDF", needed, "no Git clone", "error",
            f"{place}: is no clone of ESP-IDF, so its commit cannot be told",
            f"move it away, then: {install}" if not patient.idf else "name another folder with --idf",
        )  # fmt: skip
        return
    found = f"{idf_series(place)} {state.head[:_SHORT]}".strip()
    if pin and not state.is_at(pin.commit):
        changed = modified(place)
        head = state.head[:_SHORT] or "no commit"
        problem = f"{place}: is at {head}; the module is built with {pin.commit[:_SHORT]}"
        mend = install
        if patient.idf or state.is_link:
            mend = f"git -C {quoted(place)} checkout {pin.commit} && {_update(place)}"
        elif changed:
            problem += f"; changed there: {few(changed)}"
            clean = patient.command("clean", module=False)
            mend = (
                f"keep what you changed (git -C {quoted(place)} stash), then: {clean} --patches && {install}"
            )
        yield Check("idf_commit", "ESP-IDF", needed, found, "error", problem, mend)
    elif not (place / IDF_PY).is_file():
        problem = f"{place / IDF_PY}: no such file, so ESP-IDF is not checked out completely"
        mend = f"git -C {quoted(place)} checkout HEAD -- tools components"
        yield Check("idf_commit", "ESP-IDF", needed, f"{found}, incomplete", "error", problem, mend)
    else:
        yield Check("idf_commit", "ESP-IDF", needed, found)
    yield _idf_submodules(place, state)


def _idf_submodules(place: Path, state: State) -> Check:
    title, needed = "its submodules", "all, in place"
    if not state.missing:
        return Check("idf_submodules", title, needed, "all")
    absent = [path for path in state.missing if not has_files(place / path)]
    mend = f"git -C {quoted(place)} submodule update --init --recursive"
    if absent:
        return Check(
            "idf_submodules",
            title,
            needed,
            f"{len(absent)} missing",
            "error",
            f"{place}: not there: {few(absent)}",
            mend,
        )
    problem = f"{place}: at another commit: {few(state.missing)}"
    return Check("idf_submodules", title, needed, f"{len(state.missing)} differ", "warning", problem, mend)


def _update(place: Path) -> str:
    return f"git -C {quoted(place)} submodule update --init --recursive"


def _environment(idf: Path, patient: Patient) -> Check:
    """Return whether ESP-IDF's Python environment is there and starts."""
    base = without_other_idf(patient.given, idf)
    python = idf_python(idf, base)
    named = base.get(PYTHON_ENV, "")
    numbers = run_for_text([str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])[
        1
    ].strip()
    home = tools_home(patient.given) / "python_env" / f"idf{idf_series(idf)}_py{numbers}_env"
    home = Path(named) if named else home
    program = python_of(home)
    title, needed, install = "its Python environment", "one that starts", patient.command("install")
    if not program.exists():
        problem = f"{home}: ESP-IDF's Python environment is not there"
        return Check("idf_python", title, needed, "none", "error", problem, install)
    if run_for_text([str(program), "-c", "pass"])[0]:
        problem = f"{program} does not start: was the Python that it was made with removed?"
        mend = f"rm -r {quoted(home)} && {install}"
        return Check("idf_python", title, needed, "broken", "error", problem, mend)
    return Check("idf_python", title, needed, home.name)


def _tools_of(idf: Path | None, target: str, patient: Patient) -> tuple[Tool, ...]:
    if idf is None or not (idf / TOOLS_JSON).is_file():
        return ()
    return idf_tools(idf, target, patient.given)


def _absent(tools: tuple[Tool, ...]) -> list[Tool]:
    return [tool for tool in tools if tool.required and not tool.found]


def _tools(patient: Patient, tools: tuple[Tool, ...]) -> Check:
    required = [tool for tool in tools if tool.required]
    absent = _absent(tools)
    title, needed = "its tools", f"{len(required)} tools"
    if not absent:
        return Check("idf_tools", title, needed, "all")
    lines = []
    for tool in absent:
        why = tool.broken or (f"{tool.other} is in PATH, which will not do" if tool.other else "missing")
        lines.append(f"{tool.name} {tool.versions[0] if tool.versions else ''}: {why}")
    problem = f"in {tools_home(patient.given)}: " + "; ".join(lines)
    found = f"{len(required) - len(absent)} of them"
    return Check("idf_tools", title, needed, found, "error", problem, patient.command("install"))


# --- submodules and patches -------------------------------------------------------------------------------


def _submodules(patient: Patient, checkout: Checkout, module: CheckoutModule) -> Iterator[Check]:
    for each in checkout.submodules(module):
        place = checkout.root / each.path
        state = look(place)
        needed = f"{each.branch}, {each.commit[:_SHORT]}"
        row = ("submodule", each.name, needed)
        if not state.exists or not state.is_repository:
            problem = f"{place}: {'is no Git clone' if state.exists else 'is not there'}"
            yield Check(*row, "none", "error", problem, patient.command("install"))
        elif not state.is_at(each.commit):
            problem = f"{place}: is at {state.head[:_SHORT]}"
            yield Check(*row, state.head[:_SHORT], "error", problem, patient.command("install"))
        else:
            yield Check(*row, state.head[:_SHORT])


def _patches(patient: Patient, checkout: Checkout, module: CheckoutModule) -> Check:
    ground = Ground(
        checkout.root,
        idf=patient.idf,
        config=_sdkconfig(checkout),
        environment={**patient.given, **checkout.environment(module, silence=False)},
    )
    title, needed = "patches", "those that fit"
    try:
        states = patch_states(ground, checkout.patches(module))
    except InputError as error:
        return Check("patches", title, needed, "unreadable", "error", error.message, error.hint)
    counts = Counter(_WORDS[state.state] for state in states)
    found = ", ".join(f"{count} {word}" for word, count in counts.items()) or "none"
    conflicts = [state for state in states if state.state == CONFLICTING]
    if conflicts:
        problem = "\n".join(state.message for state in conflicts[:_SHOWN])
        return Check("patches", title, needed, found, "error", problem, conflicts[0].hint)
    return _stale(patient, title, needed, found, states)


def _left_tokens(patient: Patient, checkout: Checkout) -> list[Check]:
    """Return a row if a build that was killed has left OTA tokens in the sources."""
    if not holds_tokens(checkout.root):
        return []
    problem = f"a build was killed while OTA tokens stood in {HEADER}: git would commit them"
    mend = f"{patient.command('clean', module=False)} --patches"
    return [Check("tokens", "OTA tokens", "none", "in the header", "warning", problem, mend)]


def _stale(patient: Patient, title: str, needed: str, found: str, states: tuple[PatchState, ...]) -> Check:
    """Return the row of patches of which none conflicts; some may only look as if they were applied."""
    stale = [state.patch.name for state in states if state.marked and state.state == MISSING]
    if not stale:
        return Check("patches", title, needed, found)
    problem = (
        f"a copy of {few(stale)} lies where esp-at's own tool leaves it once the patch is in, but it is not:"
        " build.py would leave it out"
    )
    return Check(
        "patches",
        title,
        needed,
        found,
        "warning",
        problem,
        f"{patient.command('clean', module=False)} --patches",
    )


def _sdkconfig(checkout: Checkout) -> Sdkconfig | None:
    path = checkout.root / SDKCONFIG
    try:
        return Sdkconfig.from_bytes(path.read_bytes(), str(path)) if path.is_file() else None
    except (OSError, EspAtError):
        return None

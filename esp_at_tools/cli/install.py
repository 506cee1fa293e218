"""``install``: have everything that a module of a checkout is compiled with."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esp_at_tools.cli.choose_module import Chosen, choose
from esp_at_tools.cli.common import PATH, Output, current_output, json_option, talk_options
from esp_at_tools.cli.live import Live
from esp_at_tools.errors import InputError
from esp_at_tools.workspace.checkout import IDF, Checkout

if TYPE_CHECKING:
    from esp_at_tools.workspace.compile import Sources

IDF_VARIABLE = "IDF_PATH"


@click.command("install", short_help="Install ESP-IDF and its tools for a module of a checkout.")
@click.option(
    "--project", type=PATH, default=Path(), metavar="DIR",
    help="The checkout of esp-at.  [default: the current folder]",
)  # fmt: skip
@click.option("--platform", default="", metavar="NAME", help="The platform: ESP32C3.")
@click.option(
    "--module", "-m", "name", default="", metavar="NAME", help="The module: ESP32C3/MINI-1, or MINI-1."
)
@click.option("--silence", is_flag=True, help="The variant without log.")
@click.option(
    "--idf", type=PATH, metavar="DIR",
    help="An ESP-IDF at the pinned commit, to which esp-idf becomes a link.",
)  # fmt: skip
@click.option(
    "--mirror", default="", metavar="URL",
    help="Where ESP-IDF is cloned from: jihulab, a folder of repositories, or a repository esp-idf.git.",
)  # fmt: skip
@click.option(
    "--reference",
    type=PATH,
    metavar="DIR",
    help="A clone of ESP-IDF on this machine, whose objects are used.",
)
@click.option(
    "--whole", is_flag=True,
    help="Clone the whole history, as build.py does: the firmware then calls its ESP-IDF by the last tag.",
)  # fmt: skip
@json_option
@talk_options
def command(
    project: Path,
    platform: str,
    name: str,
    silence: bool,
    idf: Path | None,
    mirror: str,
    reference: Path | None,
    whole: bool,
) -> None:
    """Install what a module of an esp-at checkout is compiled with, and prepare the checkout for it.

    ESP-IDF is cloned into esp-idf/ of the checkout at the commit that the module is built with, and its tools
    and Python packages go where ESP-IDF keeps them (IDF_TOOLS_PATH, else ~/.espressif). Run again
    after an interruption, it keeps what is complete. Without --module the terminal asks, unless the checkout
    is prepared already.
    Nothing is installed into the system; what is missing there is listed with the command for it.
    """
    from esp_at_tools.workspace.compile import Sources, check_paths, synchronise, wanted_idf
    from esp_at_tools.workspace.compile_variant import apply_overlay, switch
    from esp_at_tools.workspace.idf_prerequisites import check_prerequisites
    from esp_at_tools.workspace.idf_tools import ASSETS, CHINESE_ASSETS, install_tools

    talk = current_output()
    checkout = Checkout.open(project)
    check_paths(checkout.root)
    chosen = choose(checkout, name, platform, silence=silence)
    module = chosen.module
    missing = check_prerequisites(os.environ)
    _check_sources(idf, mirror, reference)
    sources = Sources(idf, mirror, reference, whole)
    done: list[str] = []
    with Live(talk) as live:
        live.step(f"{module.full_name}{', silence' if chosen.silence else ''}, in {checkout.root}")
        if idf is None:
            sources = _with_idf_path(talk, checkout, chosen, sources)
        done += synchronise(checkout, module, live.follow, sources)
        given = dict(os.environ)
        if mirror == "jihulab":
            given.setdefault(ASSETS, CHINESE_ASSETS)
        done += install_tools(checkout.root / IDF, module.target, checkout.root, live.follow, given)
        done += switch(checkout, module, silence=chosen.silence)
        done += apply_overlay(checkout, module)
    wanted = wanted_idf(checkout, module, sources)
    if missing.later:
        names = " and ".join(missing.later)
        talk.warn(f"missing: {names}, without which nothing can be built: {missing.command}")
    version = f"{wanted.reference} ({wanted.commit[:10]})"
    _report(talk, checkout, chosen, done, version, missing.later)


def _check_sources(idf: Path | None, mirror: str, reference: Path | None) -> None:
    if idf is not None and (mirror or reference is not None):
        raise InputError(
            f"--idf {idf}: nothing is cloned then, and --mirror and --reference say how to clone",
            "leave one of them out",
        )


def _with_idf_path(talk: Output, checkout: Checkout, chosen: Chosen, sources: Sources) -> Sources:
    """Take the ESP-IDF that ``IDF_PATH`` names if it is the pinned one and the checkout has none."""
    from esp_at_tools.workspace.compile import wanted_idf
    from esp_at_tools.workspace.idf import why_not
    from esp_at_tools.workspace.idf_state import look

    wanted = wanted_idf(checkout, chosen.module, sources)
    named = os.environ.get(IDF_VARIABLE, "")
    if not named or look(wanted.place).exists:
        return sources
    reason = why_not(wanted, Path(named))
    if not reason:
        return replace(sources, idf=Path(named))
    talk.note(f"{IDF_VARIABLE}: {reason}; so {wanted.name} is cloned")
    return sources


def _report(
    talk: Output, checkout: Checkout, chosen: Chosen, done: list[str], idf: str, missing: Sequence[str]
) -> None:
    module = chosen.module
    project = [] if checkout.root == Path.cwd() else ["--project", str(checkout.root)]
    build = shlex.join(["esp-at-tool", "build", *project])
    if talk.json:
        talk.document(
            {
                "schema": 1,
                "project": str(checkout.root),
                "module": module.full_name,
                "silence": chosen.silence,
                "esp_idf": {"path": str(checkout.root / IDF), "version": idf},
                "done": done,
                "missing": list(missing),
                "next": build,
            }
        )
        return
    for each in done:
        talk.result(f"  {each}")
    talk.result(f"{module.full_name} is ready to be built with ESP-IDF {idf}:\n  {build}")

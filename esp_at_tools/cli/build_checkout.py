"""``build`` of an esp-at checkout: one module after the other, with its ESP-IDF."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import click

from esp_at_tools.build.job import Built, Failure
from esp_at_tools.build.options import Options
from esp_at_tools.build.tree import EXTENSION_VARIABLE
from esp_at_tools.cli.build_asked import AskedBuild
from esp_at_tools.cli.build_report import document, print_built, print_table
from esp_at_tools.cli.choose_module import Chosen, choose
from esp_at_tools.cli.common import Output, say
from esp_at_tools.cli.live import Live
from esp_at_tools.errors import EspAtError, InputError
from esp_at_tools.workspace.checkout import Checkout
from esp_at_tools.workspace.compile import (
    Sources,
    check_patches,
    check_paths,
    compile_module,
    put_patches,
    synchronise,
)
from esp_at_tools.workspace.compile_result import check_options, collect
from esp_at_tools.workspace.compile_variant import (
    BUILD,
    apply_overlay,
    switch,
    take_sdkconfig,
    variant_name,
)
from esp_at_tools.workspace.environment import Environment, build_environment
from esp_at_tools.workspace.ota_tokens import with_tokens

_CMAKE = "CMakeLists.txt"


def build_checkout(talk: Output, asked: AskedBuild) -> None:
    """Build the modules of a checkout, and report.

    Raises:
        InputError: something that was asked for is impossible, or something of the user's is in the way.
        ExternalToolError: git, idf_tools.py or idf.py failed.
    """
    checkout = open_checkout(asked.project, asked.options.module_folder)
    if not (checkout.root / _CMAKE).is_file():  # nothing is cloned beside what cannot be compiled
        raise InputError(
            f"{asked.project}: is an esp-at source tree without {_CMAKE}, which cannot be compiled",
            "--config-only makes its configuration; --source with a release gives an application, too",
        )
    _check(asked, checkout)
    modules = _modules(checkout, asked)
    if len(modules) == 1:
        built = _build(talk, checkout, modules[0], asked, _output(checkout, asked.output))
        for warning in built.warnings:
            talk.warn(warning)
        if talk.json:
            talk.document(document([built]))
        else:
            print_built(talk, built)
        return
    if asked.jobs:
        talk.note("the modules of a checkout are compiled one after the other, each on every processor")
    _report_all(talk, _build_all(talk, checkout, modules, asked))


def _check(asked: AskedBuild, checkout: Checkout) -> None:
    check_paths(checkout.root)
    check_options(asked.options, output=_output(checkout, asked.output))
    if asked.dry_run:
        raise InputError(
            "--dry-run: what a compiler makes of a checkout is known when it has run",
            "--config-only --dry-run checks the configuration",
        )


def open_checkout(project: Path, extension: Path | None = None) -> Checkout:
    """Return a checkout with the external module configuration of ``--dir``, else of the environment.

    Raises:
        InputError: it is no checkout, or the folder is none or not known to its version.
    """
    checkout = Checkout.open(project)
    if extension is None:
        return checkout
    if not extension.is_dir():
        raise InputError(f"--dir {extension}: no such folder", "give an external module configuration")
    checkout = Checkout.open(project, {**os.environ, EXTENSION_VARIABLE: os.path.realpath(extension)})
    if checkout.extension is None:
        raise InputError(
            f"--dir {extension}: this version of esp-at knows no external module configuration",
            "v3.3, v3.4 and those from v4.1 on do",
        )
    return checkout


def _output(checkout: Checkout, output: Path | None) -> Path | None:
    """Return the build folder, None for that of the checkout itself."""
    if output is None or os.path.realpath(output) == str(checkout.root / BUILD):
        return None
    return output


def _modules(checkout: Checkout, asked: AskedBuild) -> list[Chosen]:
    silence = asked.options.silence
    if asked.all_modules:
        targets = checkout.targets()
        return [Chosen(each, silence) for each in checkout.modules() if each.target in targets]
    if not asked.names:
        return [choose(checkout, "", silence=silence)]
    found = [choose(checkout, name, silence=silence) for name in asked.names]
    return list(dict.fromkeys(found))


# --- one module -----------------------------------------------------------------------------------------


def prepare(
    talk: Output,
    live: Live,
    checkout: Checkout,
    chosen: Chosen,
    *,
    idf: Path | None = None,
    sdkconfig: Path | None = None,
) -> Environment:
    """Bring sources, patches and environment to what a module needs, as build.py does before each action.

    Args:
        talk: how this run talks.
        live: shows what is done.
        checkout: the checkout.
        chosen: the module.
        idf: an ESP-IDF that is there already, None for the one of the checkout.
        sdkconfig: what takes the place of the ``sdkconfig`` of the checkout, its overlay included.

    Raises:
        InputError: something of the user's is in the way.
        ExternalToolError: git failed, or the tools of ESP-IDF are not installed.
    """
    module, silence = chosen.module, chosen.silence
    for note in synchronise(checkout, module, live.follow, Sources(idf=idf)):
        live.step(note)
    environment = build_environment(checkout, module, silence=silence, given=checkout.given)
    for note in switch(checkout, module, silence=silence):
        live.step(note)
    if sdkconfig is not None:
        notes = take_sdkconfig(checkout, module, sdkconfig)
    else:
        notes = apply_overlay(checkout, module)
    for note in notes:
        live.step(note)
    names = put_patches(checkout, module, environment.variables)
    if names:
        live.step(f"patches applied: {', '.join(names)}")
    if talk.verbose:
        for name in ("IDF_PATH", "IDF_PYTHON_ENV_PATH", "PATH"):
            live.step(f"{name}={environment.variables.get(name, '')}")
    return environment


def _build(talk: Output, checkout: Checkout, chosen: Chosen, asked: AskedBuild, output: Path | None) -> Built:
    module, silence = chosen.module, chosen.silence
    begin = time.time()
    _check_request(checkout, chosen, asked.options)
    with Live(talk) as live:
        live.step(f"{module.full_name}{', silence' if silence else ''}, in {checkout.root}")
        environment = prepare(
            talk, live, checkout, chosen, idf=asked.options.idf, sdkconfig=asked.options.sdkconfig
        )
        with with_tokens(environment.variables, checkout.root, module.platform, module.name) as tokens:
            for warning in tokens.warnings:
                talk.warn(warning)
            if tokens.variables:
                live.step(f"OTA tokens of {', '.join(tokens.variables)}")
            log = compile_module(checkout, module, environment, live.line, silence=silence, hide=tokens.hide)
    check_patches(checkout, module, environment.variables)
    built = collect(checkout, module, asked.options, silence=silence, output=output, since=begin)
    seconds = round(time.time() - begin)
    return replace(built, notes=(*built.notes, f"compiled in {seconds} s; the log is {log}"))


def _check_request(checkout: Checkout, chosen: Chosen, options: Options) -> None:
    """Refuse what the module cannot hold before a compiler works for it, as far as that is known by then."""
    if options.request.is_empty and options.fs_image is None:
        return
    from esp_at_tools.build.customise import customise
    from esp_at_tools.build.from_tree import recipe_from_tree
    from esp_at_tools.build.tree import open_tree

    asked = replace(
        options, silence=chosen.silence, config_only=True, idf=None, flash_size=None, partition_sizes={}
    )
    try:
        recipe = recipe_from_tree(
            open_tree(checkout.root, checkout.extension), chosen.module.full_name, asked
        )
    except EspAtError:  # a tree without mfg_nvs, or one that only its own build understands
        return
    customise(recipe, asked)


# --- several modules -------------------------------------------------------------------------------------


def _build_all(
    talk: Output, checkout: Checkout, modules: Iterable[Chosen], asked: AskedBuild
) -> list[Built | Failure]:
    """Build several modules; one that fails does not stop the others."""
    outcomes: list[Built | Failure] = []
    if asked.output is not None:
        asked.output.mkdir(exist_ok=True)
    last = ""
    for chosen in modules:
        name = chosen.module.full_name
        own = asked.output / name.replace("/", "-") if asked.output is not None else None
        try:
            built = _build(talk, checkout, chosen, asked, own)
        except EspAtError as error:
            outcomes.append(Failure(name, error))
            talk.note(f"{name}: failed: {error.message.splitlines()[0]}")
            continue
        last = variant_name(chosen.module, silence=chosen.silence)
        kept = checkout.root / f"{BUILD}.{last}"
        outcomes.append(built if own else replace(built, output=kept))
    return [_in_place(checkout, each) for each in outcomes]


def _in_place(checkout: Checkout, outcome: Built | Failure) -> Built | Failure:
    """Return a build with the folder in which it is now: ``build``, where no other module came after it."""
    if isinstance(outcome, Built) and not outcome.output.is_dir():
        return replace(outcome, output=checkout.root / BUILD)
    return outcome


def _report_all(talk: Output, outcomes: list[Built | Failure]) -> None:
    from esp_at_tools.cli.main import exit_status

    if talk.json:
        talk.document(document(outcomes))
    else:
        print_table(talk, outcomes)
    failures = [each for each in outcomes if isinstance(each, Failure)]
    for failure in failures:
        hint = f"\n  {failure.error.hint}" if failure.error.hint else ""
        say(f"error: {failure.module}: {failure.error.message}{hint}", err=True)
    if failures:
        raise click.exceptions.Exit(exit_status(failures[0].error))

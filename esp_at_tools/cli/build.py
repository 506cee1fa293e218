"""``build``: make a complete build folder; a checkout is compiled for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import click

from esp_at_tools.build.artefacts import MODULE_INFO
from esp_at_tools.build.folder import check_build_folder
from esp_at_tools.build.job import BuildSource, Built, Failure, Job, check_source
from esp_at_tools.build.options import Options
from esp_at_tools.cli.asked import Asked
from esp_at_tools.cli.build_asked import AskedBuild
from esp_at_tools.cli.build_report import document, print_built, print_table
from esp_at_tools.cli.build_tree import run_job
from esp_at_tools.cli.common import (
    JOBS,
    PATH,
    Output,
    current_output,
    json_option,
    module_dir_option,
    say,
    talk_options,
)
from esp_at_tools.cli.feature_words import FeatureCommand, feature_option
from esp_at_tools.errors import EspAtError, InputError
from esp_at_tools.firmware.request import Request
from esp_at_tools.settings.names import NAMES_HINT

DEFAULT_OUTPUT = Path("build")
_OPTION = "CONFIG_"


@click.command(
    "build",
    cls=FeatureCommand,
    short_help="Make a complete build folder, or compile a checkout of esp-at.",
    epilog=f"For --set and --unset, {NAMES_HINT}.",
)
@click.option(
    "--module", "-m", "names", multiple=True, metavar="NAME",
    help="The module: ESP32C3/MINI-1. Several are built side by side.",
)  # fmt: skip
@click.option("--all", "all_modules", is_flag=True, help="Every module that SOURCE has.")
@click.option(
    "--source", metavar="SOURCE",
    help="A release folder, .zip or full image; an esp-at checkout; v4.1.1.0, latest or recommended for an"
    " official release of the module, or MODULE@VERSION.  [default: a checkout in the current folder, else"
    " the built-in definitions]",
)  # fmt: skip
@click.option("--project", type=PATH, metavar="DIR", help="An esp-at checkout, as --source takes it.")
@click.option(
    "--output", "-o", type=PATH, metavar="DIR",
    help="The build folder; of several modules, the folder with one for each.  [default: build]",
)  # fmt: skip
@click.option("--config-only", is_flag=True, help="The configuration alone, without an application.")
@click.option("--sdkconfig", type=PATH, metavar="FILE", help="The resolved sdkconfig, instead of making it.")
@click.option("--idf", type=PATH, metavar="DIR", help="The ESP-IDF that resolves a checkout's sdkconfig.")
@click.option("--silence", is_flag=True, help="The variant without log.")
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE",
    help="Any setting or GATT row, NAME=@FILE any certificate or key; CONFIG_NAME=VALUE an option of the"
    " sdkconfig. May be repeated.",
)  # fmt: skip
@feature_option
@click.option(
    "--unset",
    "removals",
    multiple=True,
    metavar="NAME",
    help="Leave out a setting, certificate, key or row. May be repeated.",
)
@click.option(
    "--profile", type=PATH, metavar="FILE", help="YAML file with settings and PKI; --set goes before it."
)
@click.option(
    "--pki", type=PATH, metavar="DIR",
    help="Folder of certificates and keys named for what they are: mqtt_ca.pem, client_cert.0.pem, ….",
)  # fmt: skip
@click.option("--fs-image", type=PATH, metavar="DIR", help="Folder whose files become the file system.")
@click.option(
    "--flash", "flash_size", metavar="SIZE", help="Lay the partitions out anew for a flash of 1MB to 16MB."
)
@click.option(
    "--partition", "partitions", multiple=True, metavar="NAME=SIZE",
    help="Give a partition this size: mfg_nvs=256K; 0 removes one. May be repeated.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Allow what is risky; what is impossible stays an error.")
@module_dir_option
@click.option(
    "-j", "--jobs", type=JOBS, metavar="N", help="How many at a time.  [default: as it is quickest]"
)
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be in it; write nothing.")
@json_option
@talk_options
def command(
    names: tuple[str, ...],
    all_modules: bool,
    source: str | None,
    project: Path | None,
    output: Path | None,
    config_only: bool,
    sdkconfig: Path | None,
    idf: Path | None,
    silence: bool,
    assignments: tuple[str, ...],
    features: tuple[str, ...],
    removals: tuple[str, ...],
    profile: Path | None,
    pki: Path | None,
    fs_image: Path | None,
    flash_size: str | None,
    partitions: tuple[str, ...],
    force: bool,
    folder: Path | None,
    jobs: int | None,
    dry_run: bool,
) -> None:
    """Make a complete build folder, named and laid out as the official one.

    From the built-in definitions: the configuration alone (tables, mfg_nvs, sdkconfig.defaults). From a
    release or an image: bootloader and application are taken from it, everything else is made. A checkout of
    esp-at is compiled with its ESP-IDF into its folder build/, one module after the other, unless
    --config-only is given; without --module it is the one that it is prepared for.
    A build that is interrupted leaves the folder of the build before. Of a checkout, --dir is the external
    module configuration, as AT_EXT_MODULE_CFG is.
    """
    talk = current_output()
    given = _source(talk, source, project, folder)
    folder = _module_folder(given, folder)
    options = Options(
        silence=silence,
        config_only=config_only,
        sdkconfig=sdkconfig,
        idf=idf,
        module_folder=folder,
        request=_request(assignments, removals, profile, pki),
        force=force,
        fs_image=fs_image,
        flash_size=_flash_size(flash_size),
        partition_sizes=_partition_sizes(partitions),
        features=features,
        sdkconfig_options=_sdkconfig_options(assignments),
    )
    check_source(given, options)
    asked = AskedBuild(given, names, all_modules, output, options, jobs, dry_run)
    if given.kind != "tree" or config_only:
        _check_inputs(output or DEFAULT_OUTPUT, [given.path, fs_image, pki])
        _make(talk, asked)
        return
    from esp_at_tools.cli.build_checkout import build_checkout

    if output is not None:
        _check_inputs(output, [fs_image, pki])
    build_checkout(talk, asked)


def _make(talk: Output, asked: AskedBuild) -> None:
    """Make build folders without a compiler."""
    source, names, options = asked.source, asked.names, asked.options
    if source.kind == "tree" and not (names or asked.all_modules):
        from esp_at_tools.cli.module_choice import chosen_module

        name, silence = chosen_module(asked.project, None, silence=options.silence)
        names, options = (name,), replace(options, silence=silence)
    modules = _modules(source, names, all_modules=asked.all_modules, folder=options.module_folder)
    target = asked.output or DEFAULT_OUTPUT
    if len(modules) == 1:
        _build_one(talk, Job(source, modules[0], target, options, asked.dry_run))
        return
    several = [Job(source, name, target / _folder_name(name), options, asked.dry_run) for name in modules]
    _build_several(talk, several, target, asked.jobs)


def _build_several(talk: Output, asked: list[Job], target: Path, jobs: int | None) -> None:
    from esp_at_tools.cli.build_many import run_all

    with _parent_of_several(target, dry_run=asked[0].dry_run):
        ready = [_obtained_or_failed(talk, job) for job in asked]
        # Starting processes takes longer than configurations do that are made of definitions alone.
        quick = jobs is None and all(job.source.kind == "definitions" for job in asked)
        outcomes = run_all(ready, 1 if quick else _processes(jobs, len(asked)))
    _report_all(talk, outcomes)


def _build_one(talk: Output, job: Job) -> None:
    check_build_folder(job.output)
    built = run_job(_obtained(talk, job))
    for warning in built.warnings:
        talk.warn(warning)
    if talk.json:
        talk.document(document([built]))
    else:
        print_built(talk, built)


def _report_all(talk: Output, outcomes: list[Built | Failure]) -> None:
    """Report several builds, and leave with the status of the first that failed."""
    from esp_at_tools.cli.main import exit_status

    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    for built in outcomes:
        if isinstance(built, Built):
            for warning in built.warnings:
                talk.warn(f"{built.recipe.full_name}: {warning}")
    if talk.json:
        talk.document(document(outcomes))
    else:
        print_table(talk, outcomes)
    for failure in failures:
        hint = f"\n  {failure.error.hint}" if failure.error.hint else ""
        message = failure.error.message.removeprefix(f"{failure.module}: ")
        say(f"error: {failure.module}: {message}{hint}", err=True)
    if failures:
        raise click.exceptions.Exit(exit_status(failures[0].error))


# --- what was asked for --------------------------------------------------------------------------


def _module_folder(source: BuildSource, folder: Path | None) -> Path | None:
    """Return what ``--dir`` names; of a checkout, the variable of the definitions says nothing."""
    from click.core import ParameterSource

    where = click.get_current_context().get_parameter_source("folder")
    return None if source.kind == "tree" and where is ParameterSource.ENVIRONMENT else folder


def _source(talk: Output, source: str | None, project: Path | None, folder: Path | None) -> BuildSource:
    """Return SOURCE, else the project, else a checkout in the current folder, else the definitions."""
    if source is not None and project is not None:
        raise InputError("--source and --project exclude each other", "give one of them")
    if source is not None:
        if not source:
            raise InputError("--source: the path is empty", "leave it out for the built-in definitions")
        from esp_at_tools.cli.download import release_input

        path = release_input(Path(source), talk, module_folder=folder)
        named = path != Path(source)  # MODULE@VERSION
        return BuildSource("release", path, version=source) if named else BuildSource.of(source)
    if project is not None:
        from esp_at_tools.build.tree import is_source_tree

        if not is_source_tree(project):
            raise InputError(
                f"--project {project}: is no esp-at checkout", "give the folder that has module_config/ in it"
            )
        return BuildSource("tree", project)
    if not Path("components").is_dir():  # most often, and without loading what reads trees
        return BuildSource("definitions")
    from esp_at_tools.build.tree import is_source_tree

    return BuildSource("tree", Path()) if is_source_tree(Path()) else BuildSource("definitions")


def _request(
    assignments: Iterable[str], removals: Iterable[str], profile: Path | None, pki: Path | None
) -> Request:
    """Gather what is put in: an option goes before the profile, and the profile before the PKI folder."""
    asked = Asked()
    for assignment in (each for each in assignments if not each.startswith(_OPTION)):
        asked.take_assignment(assignment)
    for name in removals:
        asked.remove(name)
    request = asked.request
    if profile is not None:
        request.add_profile(profile)
    if pki is not None:
        from esp_at_tools.build.module_build import add_pki_folder

        add_pki_folder(request, pki)
    return request


def _sdkconfig_options(assignments: Iterable[str]) -> dict[str, str]:
    """Return the options of the sdkconfig among what ``--set`` asks for, without ``CONFIG_``."""
    from esp_at_tools.catalog.module_yaml import checked_option

    found: dict[str, str] = {}
    for assignment in assignments:
        if assignment.startswith(_OPTION):
            key, equals, text = assignment.partition("=")
            if not equals:
                raise InputError(f"--set {assignment[:60]}: has no value", "write --set CONFIG_LWIP_IPV6=y")
            name, value = checked_option(key.strip(), text.strip())
            if found.setdefault(name, value) != value:
                raise InputError(f"--set {key}: given twice, with different values", "give it once")
    return found


def _flash_size(text: str | None) -> int | None:
    if text is None:
        return None
    from esp_at_tools.build.planner import parse_flash_size

    return parse_flash_size(text)


def _partition_sizes(texts: Iterable[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for text in texts:
        from esp_at_tools.build.planner import parse_wish

        name, size = parse_wish(text)
        if sizes.setdefault(name, size) != size:
            raise InputError(f"--partition {text}: {name} was given another size before", "give it once")
    return sizes


def _modules(
    source: BuildSource, names: tuple[str, ...], *, all_modules: bool, folder: Path | None
) -> list[str | None]:
    """Return the modules to build by their full names; None for the one that a release is for."""
    if all_modules and names:
        raise InputError("--all and --module exclude each other", "give one of them")
    if source.kind == "release":
        if all_modules:
            raise InputError(f"--all: {source.path} is a firmware for one module", "leave --all out")
        return [*dict.fromkeys(names)] or [None]
    if names:
        return [*dict.fromkeys(_full_name(source, name, folder) for name in names)]
    known = _known(source, folder)
    if all_modules:
        return [*known]
    raise InputError(
        "for which module? --module is missing", f"it is one of {', '.join(known)}; --all builds every one"
    )


def _known(source: BuildSource, folder: Path | None) -> list[str]:
    """Return the modules that a source has."""
    if source.kind == "tree":
        from esp_at_tools.build.tree import open_tree

        return [row.full_name for row in open_tree(source.path or Path()).modules()]
    from esp_at_tools.catalog.modules import modules

    return [each.full_name for each in modules(folder=folder) if source.kind != "official" or each.releases]


def _full_name(source: BuildSource, name: str, folder: Path | None) -> str:
    """Return a module's full name, so that one that is named twice is built once."""
    if source.kind == "tree":
        from esp_at_tools.build.tree import open_tree

        return open_tree(source.path or Path()).module(name).full_name
    from esp_at_tools.catalog.modules import module

    return module(name, folder=folder).full_name


def _check_inputs(target: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse an output that is what is read: its files would be replaced; those of the user's in it stay."""
    place = os.path.realpath(target)
    for path in inputs:
        if path is not None and place == os.path.realpath(path):
            raise InputError(f"--output {target}: is read, too", "give another --output")


# --- official releases ---------------------------------------------------------------------------


def _obtained(talk: Output, job: Job) -> Job:
    """Return the job with the file of its official release, which is downloaded if need be."""
    if job.source.kind != "official" or job.module is None:
        return job
    from esp_at_tools.catalog.release_lookup import find_release
    from esp_at_tools.cli.download import download_progress
    from esp_at_tools.releases.store import obtain

    release = find_release(job.module, job.source.version, module_folder=job.options.module_folder)
    with download_progress(talk, release) as progress:
        path = obtain(release, progress=progress).path
    return replace(job, source=replace(job.source, path=path))


def _obtained_or_failed(talk: Output, job: Job) -> Job | Failure:
    """Do the same for one of several: a release that cannot be had fails alone."""
    try:
        return _obtained(talk, job)
    except EspAtError as error:
        return Failure(job.module or "", error)


# --- several modules -----------------------------------------------------------------------------


def _processes(jobs: int | None, count: int) -> int:
    return min(jobs or os.cpu_count() or 1, count)


def _folder_name(name: str | None) -> str:
    """Return the folder of one of several modules: ``ESP32C3-MINI-1``."""
    return (name or "").strip().upper().removeprefix("PLATFORM_").replace("/", "-")


@contextlib.contextmanager
def _parent_of_several(path: Path, *, dry_run: bool) -> Iterator[None]:
    """Make the folder in which the folders of several modules are; remove it if it stays empty."""
    place = Path(os.path.realpath(path))
    if (place / MODULE_INFO).exists():
        raise InputError(f"--output {path}: is the build folder of one module", "give a folder for several")
    made = not place.is_dir()
    if made:
        check_build_folder(path)
        if not dry_run:
            place.mkdir()
    try:
        yield
    finally:
        if made:
            with contextlib.suppress(OSError):  # it is not empty
                place.rmdir()

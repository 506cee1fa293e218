"""One build from beginning to end: source → recipe → customised → files → folder, and what to say of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from esp_at_tools.build.artefacts import BuiltFile, Part, built_files, parts
from esp_at_tools.build.customise import customise
from esp_at_tools.build.folder import check_build_folder, write_build_folder
from esp_at_tools.build.options import Options
from esp_at_tools.build.recipe import Recipe
from esp_at_tools.errors import EspAtError, InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.flash_map import TableName
from esp_at_tools.formats.partition_table import APP, Partition, PartitionTable
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.modern import ModernLayout

SourceKind = Literal["definitions", "tree", "release", "official"]

_VERSION = re.compile(r"(?:v[0-9]+(?:\.[0-9]+){1,3}|latest|recommended)\Z")


@dataclass(frozen=True)
class BuildSource:
    """What a build is made from.

    Attributes:
        kind: built-in definitions, an esp-at tree, a firmware on disk, an official release.
        path: the tree or the firmware; of an official release, its file once that is there.
        version: of the official release: ``v4.1.1.0``, ``latest``, ``recommended`` or ``MODULE@VERSION``.
    """

    kind: SourceKind
    path: Path | None = None
    version: str = ""

    @classmethod
    def of(cls, text: str) -> BuildSource:
        """Return the source that a user names.

        Args:
            text: a version, ``latest``, ``recommended``, or a path.

        Raises:
            InputError: there is nothing at that path.
        """
        from esp_at_tools.build.tree import is_source_tree

        if _VERSION.match(text):
            return cls("official", version=text)
        path = Path(text)
        try:
            if not path.exists():
                raise InputError(
                    f"--source {text}: no such file or folder",
                    "give an esp-at checkout, a release, an image, v4.1.1.0, latest or recommended",
                )
        except (OSError, ValueError) as error:
            raise InputError(f"--source {text!r}: is no path: {error}", "give a file or a folder") from error
        return cls("tree" if is_source_tree(path) else "release", path)

    @property
    def shown(self) -> str:
        """What people call it."""
        if self.kind == "definitions":
            return "the built-in definitions"
        if self.version and self.path is not None:
            return f"{self.path.name} ({self.version})"
        return self.version or str(self.path)


@dataclass(frozen=True)
class Job:
    """One module to build.

    Attributes:
        source: from what.
        module: ``ESP32C3/MINI-1``; None for the one that a release is for.
        output: the build folder.
        options: what is asked for.
        dry_run: check everything and write nothing.
    """

    source: BuildSource
    module: str | None
    output: Path
    options: Options
    dry_run: bool = False


@dataclass(frozen=True)
class FileEntry:
    """One file of a build folder.

    Attributes:
        path: in the folder, with ``/``.
        size: bytes.
        sha256: lower-case hex.
        offset: where it is flashed, None for what is not.
    """

    path: str
    size: int
    sha256: str
    offset: int | None


@dataclass(frozen=True)
class Fit:
    """How full a partition is when the firmware is flashed.

    Attributes:
        table: which table lists it.
        name: the partition.
        offset: its address, in bytes.
        size: its size, in bytes.
        used: bytes that are written of it; of ``mfg_nvs`` and file systems, that carry something.
    """

    table: TableName
    name: str
    offset: int
    size: int
    used: int

    @property
    def free(self) -> int:
        """Bytes left."""
        return self.size - self.used


@dataclass(frozen=True)
class Built:
    """What was built.

    Attributes:
        recipe: everything but the large contents: without bootloader, application and partitions.
        source: what people call the source.
        output: the build folder.
        written: False after a dry run.
        has_app: whether it is a firmware that runs.
        files: every file, in the order in which they were made.
        partitions: of both tables.
        pki: names of the certificates and keys in it.
        gatt_rows: rows of its GATT table.
        notes: what the user should know.
        warnings: what is questionable.
    """

    recipe: Recipe
    source: str
    output: Path
    written: bool
    has_app: bool
    files: tuple[FileEntry, ...]
    partitions: tuple[Fit, ...]
    pki: tuple[str, ...]
    gatt_rows: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """A build that failed.

    Attributes:
        module: for which module.
        error: why.
    """

    module: str
    error: EspAtError


def run(job: Job) -> Built:
    """Build one module; on an error nothing is written.

    Raises:
        EspAtError: what is asked for is impossible, or cannot be written.
    """
    if not job.dry_run or job.output.parent.is_dir():  # a folder for several may still have to be made
        check_build_folder(job.output)
    check_source(job.source, job.options)
    job = _obtained(job)
    recipe = customise(recipe_of(job), job.options)
    flashed = parts(recipe)
    files = built_files(recipe)
    built = described(job, recipe, flashed, files)
    if not job.dry_run:
        write_build_folder(job.output, files)
    return built


def check_source(source: BuildSource, options: Options) -> None:
    """Refuse features and options of the sdkconfig for what is compiled already, or by something else.

    Raises:
        InputError: the source is not the built-in definitions.
    """
    if source.kind == "definitions" or not (options.features or options.sdkconfig_options):
        return
    word = next(iter(options.features), None)
    option = f"--feature {word}" if word else f"--set CONFIG_{next(iter(options.sdkconfig_options))}"
    if source.kind == "tree":
        raise InputError(
            f"{option}: a checkout has an sdkconfig of its own",
            "'esp-at-tool menuconfig' changes it; 'modules add NAME --from MODULE --feature … --project DIR'"
            " defines a module with it",
        )
    raise InputError(
        f"{option}: the application of {source.shown} is compiled already, with the features that it has",
        "leave it out, or build from an esp-at checkout, which compiles the application",
    )


def recipe_of(job: Job) -> Recipe:
    """Return what the source makes of a module, before it is customised.

    Args:
        job: an official release must have been obtained.

    Raises:
        EspAtError: the source cannot be read, or does not have the module.
    """
    source, options = job.source, job.options
    if source.kind in ("definitions", "tree"):
        if job.module is None:
            raise InputError("no module is named", "--module names one")
        if source.kind == "definitions":
            return _from_definitions(job.module, options)
        return _from_tree(source.path or Path(), job.module, options)
    from esp_at_tools.build.from_release import recipe_from_release

    return recipe_from_release(source.path or Path(), job.module, options)


def _from_definitions(name: str, options: Options) -> Recipe:
    from esp_at_tools.build.from_definitions import recipe_from_definitions

    if options.idf is not None:
        raise InputError(
            f"--idf {options.idf}: the built-in definitions have no Kconfig files to resolve",
            "give an esp-at checkout as --source, or leave it out",
        )
    return recipe_from_definitions(name, options)


def _from_tree(path: Path, name: str, options: Options) -> Recipe:
    from esp_at_tools.build.from_tree import recipe_from_tree

    if not options.config_only:
        raise InputError(
            f"{path}: is an esp-at source tree, whose application has to be compiled",
            "'esp-at-tool build' compiles it; --config-only makes its configuration alone",
        )
    if options.idf is not None and options.sdkconfig is not None:
        raise InputError(
            "--idf and --sdkconfig exclude each other: the one resolves what the other gives", ""
        )
    return recipe_from_tree(path, name, options)


def _obtained(job: Job) -> Job:
    """Return the job with the file of an official release, which is downloaded if it is not there yet."""
    source = job.source
    if source.kind != "official" or source.path is not None:
        return job
    if job.module is None:
        raise InputError(
            f"--source {source.version}: of which module?", "--module names it, e.g. ESP32C3/MINI-1"
        )
    from esp_at_tools.releases.store import release_file

    path = release_file(job.module, source.version, module_folder=job.options.module_folder)
    return replace(job, source=replace(source, path=path))


# --- what to say ---------------------------------------------------------------------------------


def described(job: Job, recipe: Recipe, flashed: tuple[Part, ...], files: Mapping[str, BuiltFile]) -> Built:
    """Return the description of a build.

    Args:
        job: what was asked for.
        recipe: what it was built from, customised.
        flashed: of :func:`esp_at_tools.build.artefacts.parts`.
        files: every file of the build folder, by its path in it.
    """
    from esp_at_tools.build.recipe_flash import open_recipe

    firmware = open_recipe(recipe)
    offsets = {part.file: part.offset for part in flashed}
    return Built(
        recipe=replace(recipe, partitions={}, bootloader=b"", app=b"", sdkconfig="", sdkconfig_defaults=""),
        source=job.source.shown,
        output=job.output,
        written=not job.dry_run,
        has_app=recipe.has_app,
        files=tuple(
            FileEntry(name, len(file.data), hashlib.sha256(file.data).hexdigest(), offsets.get(name))
            for name, file in files.items()
        ),
        partitions=_fits(recipe, flashed, firmware),
        pki=tuple(firmware.pki()),
        gatt_rows=len(firmware.gatts()),
        notes=recipe.notes,
        warnings=(*recipe.warnings, *_unread(job, recipe), *_errors(job, firmware)),
    )


def _errors(job: Job, firmware: Firmware) -> list[str]:
    """Return what ``inspect --check`` would call errors: what a release has already, and is kept."""
    if job.source.kind not in ("release", "official"):
        return []
    from datetime import datetime, timezone

    from esp_at_tools.firmware.checks import run_checks
    from esp_at_tools.firmware.survey import Survey

    checks = run_checks(Survey.of(firmware, datetime.now(timezone.utc)))
    return [
        f"{check['message']} ({check['hint']})" if check["hint"] else str(check["message"])
        for check in checks
        if check["level"] == "error"
    ]


def _unread(job: Job, recipe: Recipe) -> list[str]:
    from esp_at_tools.build.unread import unread_items

    found = unread_items(
        recipe,
        job.options.request.pki,
        defined=job.source.kind == "definitions",
        asked=job.options,
    )
    names = ", ".join(found)
    return [f"the firmware does not read {names}: its options for them are off"] if found else []


def _fits(recipe: Recipe, flashed: tuple[Part, ...], firmware: Firmware) -> tuple[Fit, ...]:
    sizes = {part.offset: len(part.data) for part in flashed}
    tables: dict[TableName, PartitionTable] = {"primary": recipe.primary, "secondary": recipe.secondary}
    return tuple(
        Fit(table, place.name, place.offset, place.size, _used(firmware, place, sizes.get(place.offset, 0)))
        for table, rows in tables.items()
        for place in rows
    )


def _used(firmware: Firmware, place: Partition, written: int) -> int:
    if place.type != APP and place.name == MFG_NVS and written and isinstance(firmware.layout, ModernLayout):
        return place.size - firmware.layout.nvs.usage().free_bytes
    return written

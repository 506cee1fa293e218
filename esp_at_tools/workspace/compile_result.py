"""What a build of a checkout has left, completed to the build folder that every other source gives.

``download.config`` is written as build.py does it. What the ``CMakeLists.txt`` of an older version does not
make (the unfilled factory image) is made here, and settings, certificates and files that are asked for are
put in as into any other build.

Source: ``build_project`` in ``build.py`` of esp-at v5.0.1.0.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from esp_at_tools.build.artefacts import (
    DOWNLOAD_CONFIG,
    FACTORY,
    FLASHER_ARGS,
    MODULE_INFO,
    SDKCONFIG,
    BuiltFile,
    built_files,
    parts,
)
from esp_at_tools.build.customise import customise
from esp_at_tools.build.folder import write_build_folder
from esp_at_tools.build.from_release import recipe_from_release
from esp_at_tools.build.job import BuildSource, Built, Job, described
from esp_at_tools.build.options import Options
from esp_at_tools.errors import ExternalToolError, InputError
from esp_at_tools.files import read_file, replace_files, stage_file, write_file
from esp_at_tools.workspace.checkout import Checkout, CheckoutModule
from esp_at_tools.workspace.compile_variant import BUILD

FLASH_ARGS = "flash_project_args"
_LISTS = (FLASHER_ARGS, DOWNLOAD_CONFIG, MODULE_INFO, SDKCONFIG)
_CLOCK = 2.0
"""Seconds by which the times of a file system and of this process may differ."""


def write_download_config(folder: Path) -> bool:
    """Write ``download.config`` from ``flash_project_args`` as build.py does, and tell whether there was one.

    Raises:
        InputError: it cannot be read or written.
    """
    path = folder / FLASH_ARGS
    if not path.is_file():
        return False
    lines = read_file(path, "list of files to flash").decode().splitlines()
    write_file(folder / DOWNLOAD_CONFIG, " ".join(lines).encode())
    return True


def collect(
    checkout: Checkout,
    module: CheckoutModule,
    options: Options,
    *,
    silence: bool,
    output: Path | None,
    since: float,
) -> Built:
    """Complete the build folder of a checkout after a build, and describe it.

    Args:
        checkout: the checkout.
        module: the module that was built.
        options: ``request``, ``fs_image``, ``flash_size``, ``partition_sizes`` and ``force`` count.
        silence: it is the variant without log.
        output: another folder for what is described; None for ``build/`` of the checkout.
        since: when the build began, as ``time.time()`` gives it: what is older is made anew.

    Raises:
        InputError: what is asked for is impossible; the build folder is as the build has left it.
        ExternalToolError: the build has left no firmware.
    """
    folder = checkout.root / BUILD
    if not write_download_config(folder):
        raise ExternalToolError(f"{folder / FLASH_ARGS}: no such file: idf.py has built no firmware", "")
    own = checkout.root / SDKCONFIG
    if own.is_file():
        write_file(folder / SDKCONFIG, own.read_bytes())
    recipe = replace(
        recipe_from_release(folder, None, Options()),
        platform=module.platform,
        module=module.name,
        description=module.description,
        silence=silence,
    )
    changed = customise(recipe, options)
    files = built_files(changed)
    if output is None:
        _complete(folder, files, since, customised=changed != recipe)
        files = {name: _on_disk(folder, name, file) for name, file in files.items()}
    else:
        write_build_folder(output, files)
    job = Job(BuildSource("tree", checkout.root), module.full_name, output or folder, options)
    return described(job, changed, parts(changed), files)


def check_options(options: Options, *, output: Path | None) -> None:
    """Refuse what cannot be done in the build folder of a checkout itself.

    Raises:
        InputError: the partitions shall be laid out anew in the folder in which CMake keeps its own.
    """
    if output is None and (options.flash_size is not None or options.partition_sizes):
        raise InputError(
            "--flash and --partition: build/ of a checkout holds the partitions of its own tables",
            "give another --output; or define a module with them: esp-at-tool modules add NAME --from MODULE"
            " --flash SIZE --project DIR",
        )


def _complete(folder: Path, files: dict[str, BuiltFile], since: float, *, customised: bool) -> None:
    """Write what the build has not made, and what was asked for."""
    pairs = []
    for name, file in files.items():
        target = folder / name
        if target.exists() and not _is_replaced(target, name, file, since, customised=customised):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        pairs.append((stage_file(target, [file.data], private=file.private), target))
    replace_files(pairs)


def _is_replaced(target: Path, name: str, file: BuiltFile, since: float, *, customised: bool) -> bool:
    """Tell whether a file that is there is replaced: one of before this build, or one with other contents."""
    if name in _LISTS:
        return False
    if customised:
        return target.read_bytes() != file.data
    return name.startswith(f"{FACTORY}/") and target.stat().st_mtime < since - _CLOCK


def _on_disk(folder: Path, name: str, file: BuiltFile) -> BuiltFile:
    path = folder / name
    return BuiltFile(path.read_bytes(), file.private) if path.is_file() else file

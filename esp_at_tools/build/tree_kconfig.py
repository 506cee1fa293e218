"""What makes the sdkconfig of a module of a source tree: an ESP-IDF, Kconfig files, defaults, an overlay.

``build``, ``sdkconfig resolve`` and ``menuconfig`` find all of it here, so that they come to the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.build.tree import EXTENSION_VARIABLE, SourceTree, open_tree
from esp_at_tools.catalog.factory_params import DATA_FILE, ModuleRow
from esp_at_tools.errors import InputError
from esp_at_tools.kconfig.overlay import overlay_path
from esp_at_tools.kconfig.resolve import Resolved, resolve
from esp_at_tools.kconfig.tree import KconfigTree, find_tree

IDF_VARIABLE = "IDF_PATH"
"""The environment variable of ESP-IDF that tells where it is."""

_AT_KCONFIG = Path("main", "Kconfig")
_DEFINITIONS = (DATA_FILE, "modules", "features.yaml")
_EXTENSION_FILE = "sdkconfig.defaults"
_SERIES = re.compile(r"v([0-9]+\.[0-9]+)", re.ASCII)


@dataclass(frozen=True)
class ModuleKconfig:
    """What makes the sdkconfig of one module of a source tree.

    Attributes:
        tree: the Kconfig files.
        name: ``ESP32C3/MINI-1``.
        defaults: the module's, in the order in which they are read.
        overlay: where the user's own options stand, which is read last; it may be absent.
        environment: the variables with which the Kconfig files are read.
        warnings: what is questionable about the ESP-IDF.
    """

    tree: KconfigTree
    name: str
    defaults: tuple[Path, ...]
    overlay: Path
    environment: Mapping[str, str]
    warnings: tuple[str, ...]

    def resolved(self) -> Resolved:
        """Return the sdkconfig.

        Raises:
            InputError, FormatError, ExternalToolError: see
                :func:`esp_at_tools.kconfig.resolve.resolve`.
        """
        return resolve(self.tree, self.defaults, self.overlay, environment=self.environment)


def open_extended(folder: Path, given: Path | None, environment: Mapping[str, str]) -> SourceTree:
    """Return the source tree in a folder, with its external module configuration.

    Args:
        folder: the top of the tree.
        given: the folder of that configuration, which ``--dir`` names; it goes before the variable.
        environment: where ``AT_EXT_MODULE_CFG`` is looked up.

    Raises:
        InputError: there is no such tree or folder, the tree knows no such configuration, or the folder
            given is one of this program's own definitions.
    """
    variable = environment.get(EXTENSION_VARIABLE, "")
    if given is None:
        return open_tree(folder, Path(variable) if variable else None)
    is_own = any((given / name).exists() for name in _DEFINITIONS)
    if is_own and not (given / _EXTENSION_FILE).is_file():
        raise InputError(
            f"--dir {given}: holds definitions of this program, and the modules are those of {folder}",
            f"'modules add --project {folder}' defines a module there; with a checkout, --dir names an"
            f" external module configuration, as {EXTENSION_VARIABLE} does",
        )
    return open_tree(folder, given)


def find_idf(tree: SourceTree, given: Path | None, environment: Mapping[str, str]) -> Path | None:
    """Return the ESP-IDF that resolves a tree's sdkconfig, None where there is none.

    It is the one given, else that of the tree, else what ``IDF_PATH`` names; but a tree without esp-at's own
    Kconfig files, of which no ESP-IDF makes an sdkconfig, takes none from the environment.

    Raises:
        InputError: ``IDF_PATH`` names no folder.
    """
    if given is not None:
        return given
    if tree.idf is not None:
        return tree.idf
    path = environment.get(IDF_VARIABLE, "")
    if not path or not (tree.folder / _AT_KCONFIG).is_file():
        return None
    if not Path(path).is_dir():
        raise InputError(f"{IDF_VARIABLE}: {path}: no such folder", "unset it, or let it name an ESP-IDF")
    return Path(path)


def module_kconfig(
    tree: SourceTree, row: ModuleRow, idf: Path, *, silence: bool, environment: Mapping[str, str]
) -> ModuleKconfig:
    """Return what makes the sdkconfig of a module.

    Args:
        tree: the tree.
        row: the module.
        idf: the ESP-IDF; it need not be installed.
        silence: the variant without log.
        environment: the user's.

    Raises:
        InputError: a file is missing, or there is no such ESP-IDF.
    """
    environment = {**environment, **tree.submodule_variables(row)}
    kconfig = find_tree(tree.folder, idf, row.chip.name, environment=environment)
    return ModuleKconfig(
        tree=kconfig,
        name=row.full_name,
        defaults=tree.defaults(row, silence=silence),
        overlay=overlay_path(tree.folder, row.chip.name, row.module_name),
        environment=environment,
        warnings=_other_series(tree, row, idf, kconfig.idf_version),
    )


def _other_series(tree: SourceTree, row: ModuleRow, idf: Path, version: str) -> tuple[str, ...]:
    """Return a warning where an ESP-IDF is not of the series that the module is built with."""
    try:
        pin = tree.idf_version(row)
    except InputError:  # of a tree without IDF_VERSION nothing is known
        return ()
    wanted = pin.branch or pin.tag
    series = _SERIES.search(wanted)
    if series is None or series[1] == version.rpartition(".")[0]:
        return ()
    return (f"{idf} is ESP-IDF {version}, and {row.full_name} is built with {wanted}: defaults may differ",)

"""The Kconfig tree that ESP-IDF's build system puts together for a project, found without cmake.

Source: ``tools/cmake/{build,component,kconfig,project}.cmake`` and ``tools/kconfig_new`` of ESP-IDF v5.0 to
v5.4. The order of the components is theirs, since it is the order of the menus and of the sdkconfig.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.errors import InputError
from esp_at_tools.files import read_file, unreadable

CUSTOM_COMPONENTS = "AT_CUSTOM_COMPONENTS"
"""Environment variable of esp-at: further component folders, separated by spaces."""
RAINMAKER = "AT_RAINMAKER_SUPPORT"
"""Environment variable of esp-at: it has the components of ESP RainMaker, if they are not elsewhere."""

_RAINMAKER_PATH = "RMAKER_PATH"
_RAINMAKER_COMPONENTS = Path("components", "rainmaker", "esp-rainmaker", "components")
_VERSION_FILE = Path("tools", "cmake", "version.cmake")
_VERSION = re.compile(r"set\(\s*IDF_VERSION_(MAJOR|MINOR|PATCH)\s+([0-9]{1,6})\s*\)", re.ASCII)
_MAX_VERSION_FILE = 1 << 16
_CMAKE = "CMakeLists.txt"
_HINT_IDF = "give the folder of an ESP-IDF: the one with Kconfig, components/ and tools/"


@dataclass(frozen=True)
class KconfigTree:
    """What Kconfig reads for a project and a chip.

    Attributes:
        project: the esp-at checkout.
        idf: the ESP-IDF.
        idf_version: of that: ``5.4.4``.
        chip: as ESP-IDF calls it: ``esp32c3``.
        kconfigs: the components' ``Kconfig``, in the order of their menus.
        projbuilds: the components' ``Kconfig.projbuild``, likewise.
        renames: every ``sdkconfig.rename``, that of ESP-IDF first.
    """

    project: Path
    idf: Path
    idf_version: str
    chip: str
    kconfigs: tuple[Path, ...]
    projbuilds: tuple[Path, ...]
    renames: tuple[Path, ...]

    @property
    def root(self) -> Path:
        """The Kconfig file that leads to all others."""
        return self.idf / "Kconfig"

    def environment(self, kconfigs_file: Path, projbuilds_file: Path) -> dict[str, str]:
        """Return the variables that the Kconfig files ask for.

        Args:
            kconfigs_file: where :meth:`sources` of ``kconfigs`` stands.
            projbuilds_file: where that of ``projbuilds`` stands.
        """
        return {
            "IDF_PATH": str(self.idf),
            "IDF_TARGET": self.chip,
            "IDF_TOOLCHAIN": "gcc",
            "IDF_VERSION": self.idf_version,
            "IDF_INIT_VERSION": self.idf_version,
            "IDF_ENV_FPGA": "",
            "COMPONENT_KCONFIGS_SOURCE_FILE": str(kconfigs_file),
            "COMPONENT_KCONFIGS_PROJBUILD_SOURCE_FILE": str(projbuilds_file),
        }

    @staticmethod
    def sources(files: Iterable[Path]) -> str:
        """Return the Kconfig text that reads these files."""
        return "".join(f'source "{path.as_posix()}"\n' for path in files)


def find_tree(
    project: Path, idf: Path, chip: str, *, environment: Mapping[str, str] | None = None
) -> KconfigTree:
    """Return the Kconfig tree of a project.

    Components are those of ESP-IDF, the project's ``main/``, ``components/`` and ``managed_components/`` (as
    far as they are on disk), the folders that ``AT_CUSTOM_COMPONENTS`` names, and with
    ``AT_RAINMAKER_SUPPORT`` those of ESP RainMaker; a later one takes the place of one of the same name.

    Args:
        project: the esp-at checkout.
        idf: the ESP-IDF.
        chip: as ESP-IDF calls it.
        environment: where those variables are looked up; that of this process if None.

    Raises:
        InputError: the ESP-IDF or a component folder is missing or is none, the ESP-IDF does not know the
            chip, or a path cannot stand in a Kconfig file.
    """
    project, idf = _absolute(project, "checkout of esp-at"), _absolute(idf, "ESP-IDF")
    environment = os.environ if environment is None else environment
    version = idf_version(idf)
    _check_chip(idf, chip)
    found: dict[str, Path] = {}
    for folder in _subfolders(idf / "components"):
        _add(found, folder)
    main = project / "main"
    for place in [*([main] if main.is_dir() else []), *_extra_folders(project, environment)]:
        for folder in _components(place):
            _add(found, folder)
    for name in ("components", "managed_components"):
        if (project / name).is_dir():
            for folder in _components(project / name):
                _add(found, folder)
    components = list(found.values())
    bootloader = [each for each in _subfolders(project / "bootloader_components") if _is_component(each)]
    tree = KconfigTree(
        project=project,
        idf=idf,
        idf_version=version,
        chip=chip,
        kconfigs=_files([*components, *bootloader], "Kconfig"),
        projbuilds=_files([*components, *bootloader], "Kconfig.projbuild"),
        renames=(
            *_files([idf], "sdkconfig.rename"),
            *_files(components, "sdkconfig.rename", f"sdkconfig.rename.{chip}"),
        ),
    )
    for path in (*tree.kconfigs, *tree.projbuilds):
        if any(character in str(path) for character in '"$\n\r'):
            raise InputError(
                f"{str(path)!r}: a path that cannot stand in a Kconfig file", "rename the folder"
            )
    return tree


def idf_version(idf: Path) -> str:
    """Return the version of an ESP-IDF, without suffixes: ``5.4.4``.

    Raises:
        InputError: the folder does not exist, or is no ESP-IDF.
    """
    if not idf.is_dir():
        raise InputError(f"{idf}: no such folder", _HINT_IDF)
    path = idf / _VERSION_FILE
    if not path.is_file() or not (idf / "Kconfig").is_file() or not (idf / "components").is_dir():
        raise InputError(f"{idf}: is no ESP-IDF", _HINT_IDF)
    text = read_file(path, "version of ESP-IDF", _MAX_VERSION_FILE).decode("utf-8", "replace")
    parts = {match[1]: match[2] for match in _VERSION.finditer(text)}
    if len(parts) != 3:
        raise InputError(f"{path}: does not tell the version of ESP-IDF", "check ESP-IDF out again")
    return ".".join(parts[part] for part in ("MAJOR", "MINOR", "PATCH"))


def _check_chip(idf: Path, chip: str) -> None:
    known = sorted(path.name for path in _folders(idf / "components" / "soc") if (path / "include").is_dir())
    if chip in known:
        return
    names = ", ".join(name for name in known if name.startswith("esp"))
    raise InputError(
        f"{idf}: this ESP-IDF {idf_version(idf)} does not know the chip {chip}",
        f"it knows {names}; give the ESP-IDF that IDF_VERSION in the module's folder names",
    )


def _extra_folders(project: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield the folders of ``EXTRA_COMPONENT_DIRS``, as esp-at's ``CMakeLists.txt`` makes it."""
    if RAINMAKER in environment and _RAINMAKER_PATH not in environment:
        folder = project / _RAINMAKER_COMPONENTS
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder, but {RAINMAKER} is set",
                f"check out its submodules, or unset {RAINMAKER}",
            )
        yield folder
    for name in environment.get(CUSTOM_COMPONENTS, "").split():
        folder = project / name  # an absolute one stands for itself
        if not folder.is_dir():
            raise InputError(
                f"{CUSTOM_COMPONENTS}: {folder}: no such folder", "name folders of components, or unset it"
            )
        yield folder


def _components(place: Path) -> Iterator[Path]:
    """Yield the components that a folder is or holds."""
    if (place / _CMAKE).is_file():
        yield place
    else:
        yield from _subfolders(place)


def _add(found: dict[str, Path], folder: Path) -> None:
    """Add a component: one of that name keeps its place in the order, but its files are replaced."""
    if _is_component(folder):
        found[folder.name] = folder


def _is_component(folder: Path) -> bool:
    return not folder.name.startswith(".") and (folder / _CMAKE).is_file()


def _files(folders: Iterable[Path], *names: str) -> tuple[Path, ...]:
    return tuple(folder / name for folder in folders for name in sorted(names) if (folder / name).is_file())


def _subfolders(folder: Path) -> Sequence[Path]:
    return _folders(folder) if folder.is_dir() else ()


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.name)
    except OSError as error:
        raise unreadable(folder, error, "folder") from error


def _absolute(folder: Path, what: str) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", f"give the folder of the {what}")
    return Path(os.path.abspath(folder))  # noqa: PTH100 - links stay, since messages name what was given

"""An esp-at source tree: its modules, and the files from which their configuration is made.

Trees from v3.1.0.0 on are read, which keep settings, certificates and keys in ``mfg_nvs``; older ones are
recognised and refused. Nothing in a tree is trusted: files are bounded, names are checked, and what is
wrong is an error with the file and the line.

Source: ``build.py``, ``CMakeLists.txt`` and ``components/customized_partitions`` of esp-at v3.1.0.0 to
v5.0.1.0.
"""

from __future__ import annotations

import functools
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.build.mfg_nvs import PkiFile, item_keys
from esp_at_tools.build.tree_pins import (
    NamedModule,
    Submodule,
    find_module,
    parse_idf_version,
    parse_submodules,
    unknown_module,
)
from esp_at_tools.catalog.factory_params import DATA_FILE, TYPE_FILE, ModuleRow, read_rows, read_types
from esp_at_tools.catalog.module_yaml import Problem
from esp_at_tools.catalog.releases import IdfPin
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.files import read_file, unreadable
from esp_at_tools.formats.gatts import read_gatts_csv
from esp_at_tools.formats.partition_csv import decode_csv
from esp_at_tools.formats.partition_table import PartitionTable
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.settings.names import BLE_DATA, FACTORY_PARAM

PARTITIONS = Path("components", "customized_partitions")
RAW_DATA = PARTITIONS / "raw_data"
DEPENDENCIES = PARTITIONS / "at_customized_config_dependency.txt"
MODULES = Path("module_config")
FS_IMAGE = Path("components", "fs_image")
IDF = Path("esp-idf")
EXTENSION_VARIABLE = "AT_EXT_MODULE_CFG"
"""The environment variable that names a folder beside the tree which takes the place of some of its files."""
PRIMARY_CSV = "partitions_at.csv"

_LEGACY = (PARTITIONS / "AT_partition_dependency", PARTITIONS / "generation_tools" / "factory_param.py")
_OLDEST = (Path("components", "at", "include", "esp_at.h"), Path("components", "at", "lib"))
_PKI_ENDINGS = (".crt", ".key", ".pem")
_MAX_TEXT = 1 << 20
_MAX_ITEMS = 256
_MAX_NAME = 100
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_DEPENDENCY = re.compile(r"([A-Za-z0-9_]+)=(\S+)\s+(\S+)", re.ASCII)
_APPENDS = re.compile(rf"APPEND\s+SDKCONFIG_DEFAULTS\s+\$ENV\{{{EXTENSION_VARIABLE}\}}")


@dataclass(frozen=True)
class Dependency:
    """A partition or NVS namespace that is there where an option has a value.

    Attributes:
        option: without ``CONFIG_``.
        value: ``y``.
        name: ``ble_data``.
    """

    option: str
    value: str
    name: str

    def holds(self, config: Sdkconfig) -> bool:
        """Whether an sdkconfig has that value.

        esp-at searches the text for it instead; that comes to the same in every sdkconfig that Kconfig
        has written.
        """
        return config.get(self.option) == self.value


def is_source_tree(folder: Path) -> bool:
    """Tell whether a folder is an esp-at source tree of any version."""
    return _is_folder(folder / PARTITIONS) or all(_mode(folder / path) for path in _OLDEST)


def open_tree(folder: Path, extension: Path | None = None) -> SourceTree:
    """Return the source tree in a folder.

    Args:
        folder: the top of the tree.
        extension: what ``AT_EXT_MODULE_CFG`` names, None for nothing.

    Raises:
        InputError: it is no esp-at tree, one that is too old, or the extension is no folder.
    """
    if not is_source_tree(folder):
        hint = "give the top folder of a checkout of esp-at: the one with build.py and module_config/"
        raise InputError(f"{folder}: is no esp-at source tree", hint)
    if not _is_file(folder / DEPENDENCIES):
        if any(_mode(folder / path) for path in (*_LEGACY, *_OLDEST)):
            raise InputError(
                f"{folder}: an esp-at tree before v3.1.0.0, which has no mfg_nvs",
                "give a tree from v3.1.0.0 on; to change a firmware of the older layout, build from its"
                " release or image",
            )
        raise InputError(
            f"{folder / DEPENDENCIES}: no such file", "the tree is not complete: check it out again"
        )
    if not _is_folder(folder / MODULES):
        raise InputError(
            f"{folder / MODULES}: no such folder", "the tree is not complete: check it out again"
        )
    tree = SourceTree(folder, extension)
    if extension is not None:
        tree.check_extension(extension)
    return tree


@dataclass(frozen=True)
class SourceTree:
    """A source tree; use :func:`open_tree`.

    Attributes:
        folder: the top of the tree.
        extension: the folder that ``AT_EXT_MODULE_CFG`` names, None for none.
    """

    folder: Path
    extension: Path | None = None

    # --- modules ------------------------------------------------------------------------------------

    def types(self) -> Mapping[str, str]:
        """Return the NVS type of each factory parameter, in the order in which they are written.

        Raises:
            InputError: the file cannot be read, or is wrong.
        """
        path = self.folder / RAW_DATA / FACTORY_PARAM / TYPE_FILE
        _read(path, "table of types")
        return read_types(path)

    def modules(self) -> tuple[ModuleRow, ...]:
        """Return the modules that can be built, in the order of the table; rows that are wrong are left out.

        Raises:
            InputError: the table or that of the types cannot be read, or is none.
        """
        return tuple(self._rows([]).values())

    def module(self, name: str) -> ModuleRow:
        """Return a module.

        Args:
            name: ``ESP32C3/MINI-1`` or ``PLATFORM_ESP32C3/MINI-1`` in any case, as build.py takes them;
                the part behind the slash alone where only one chip has a module of that name.

        Raises:
            InputError: there is none of that name, there are several, or its row is wrong.
        """
        problems: list[Problem] = []
        rows = self._rows(problems)
        row = self._found(name, rows, problems)
        for problem in problems:
            if problem.place == row.place:
                raise FormatError(f"{problem.place}: {problem.message}", problem.hint)
        if len(row.module_name) > _MAX_NAME:
            raise FormatError(
                f"{row.place}: the name of the module has {len(row.module_name)} characters",
                f"give it at most {_MAX_NAME}: files are named after it",
            )
        missing = [each for each in self.types() if each not in row.parameters]
        if missing:
            raise FormatError(
                f"{self.folder / RAW_DATA / FACTORY_PARAM / DATA_FILE}: has no column {missing[0]}",
                f"{TYPE_FILE} names it: every parameter has a column",
            )
        return row

    def _rows(self, problems: list[Problem]) -> dict[str, ModuleRow]:
        path = self.folder / RAW_DATA / FACTORY_PARAM / DATA_FILE
        _read(path, "table of modules")
        return read_rows(path, self.types(), problems.append)

    def _found(self, name: str, rows: Mapping[str, ModuleRow], problems: list[Problem]) -> ModuleRow:
        row = find_module(name, rows)
        if row is not None:
            return row
        if problems:
            first = problems[0]
            raise FormatError(f"{first.place}: {first.message}", first.hint)
        raise unknown_module(name, rows, self.folder)

    def module_folder(self, row: NamedModule) -> Path:
        """Return the folder of a module's configuration: its own, else that of its chip.

        Raises:
            InputError: there is neither.
        """
        own = self.folder / MODULES / f"module_{row.module_name.lower()}"
        usual = self.folder / MODULES / f"module_{row.platform.removeprefix('PLATFORM_').lower()}_default"
        for folder in (own, usual):
            if _is_folder(folder):
                return folder
        raise InputError(f"{own}: no such folder, nor {usual.name}", f"{row.full_name} needs one of them")

    def defaults(self, row: ModuleRow, *, silence: bool) -> tuple[Path, ...]:
        """Return the files of sdkconfig defaults, of which a later one overrides the earlier ones.

        The extension's file comes after the tree's own, but stands alone in v3.3 and v3.4, as their
        ``CMakeLists.txt`` says.

        Raises:
            InputError: there is none.
        """
        name = "sdkconfig_silence.defaults" if silence else "sdkconfig.defaults"
        own = self.module_folder(row) / name
        more = self.extension / name if self.extension else None
        if more is not None and _is_file(more):
            if not self._appends_defaults():
                return (more,)
            return (own, more)
        if not _is_file(own):
            hint = "leave out --silence" if silence else f"{row.full_name} needs one"
            raise InputError(f"{own}: no such file", hint)
        return (own,)

    def check_extension(self, extension: Path) -> None:
        """Refuse an extension that is no folder, or that the tree knows nothing of.

        Raises:
            InputError: it is one of these.
        """
        if not _is_folder(extension):
            hint = f"{EXTENSION_VARIABLE} names the folder of an external module configuration"
            raise InputError(f"{extension}: no such folder", hint)
        script = self._cmake()
        if script and EXTENSION_VARIABLE not in script:
            raise InputError(
                f"{self.folder}: this version of esp-at knows no {EXTENSION_VARIABLE}",
                "v3.3, v3.4 and those from v4.1 on do; unset it",
            )

    def _appends_defaults(self) -> bool:
        script = self._cmake()
        return not script or bool(_APPENDS.search(script))

    def _cmake(self) -> str:
        """Return the tree's ``CMakeLists.txt``; ``""`` for the data of a tree without its scripts."""
        path = self.folder / "CMakeLists.txt"
        return _read_text(path, "CMakeLists.txt") if _mode(path) else ""

    def idf_version(self, row: NamedModule) -> IdfPin:
        """Return the ESP-IDF with which a module is built.

        Raises:
            InputError: the file ``IDF_VERSION`` cannot be read.
            FormatError: it lacks something, or a value cannot be that of a Git repository.
        """
        path = self._own_or_extended(row, "IDF_VERSION")
        return parse_idf_version(_read_text(path, "IDF_VERSION"), str(path))

    def submodules(self, row: NamedModule) -> tuple[Submodule, ...]:
        """Return the repositories that a module has beside ESP-IDF, as its list has them.

        Raises:
            InputError: the file ``submodules`` cannot be read.
            FormatError: it is not of that form.
        """
        path = self.submodules_file(row)
        return parse_submodules(_read_text(path, "list of submodules"), str(path)) if _mode(path) else ()

    def submodules_file(self, row: NamedModule) -> Path:
        """Return where that list is, or would be."""
        return self._own_or_extended(row, "submodules")

    def submodule_variables(self, row: NamedModule) -> dict[str, str]:
        """Return the variables by which build.py tells of the repositories that a module has beside ESP-IDF.

        ``AT_RAINMAKER_SUPPORT`` for ``[submodule "rainmaker"]``; of those alone that are checked out.

        Raises:
            InputError: the file ``submodules`` cannot be read.
            FormatError: it is not of that form.
        """
        return {
            each.variable: each.variable
            for each in self.submodules(row)
            if each.path and _is_folder(self.folder / each.path)
        }

    def _own_or_extended(self, row: NamedModule, name: str) -> Path:
        """Return a file of a module's configuration, or the extension's where it has one."""
        if self.extension and _is_file(self.extension / name):
            return self.extension / name
        return self.module_folder(row) / name

    @property
    def idf(self) -> Path | None:
        """The ESP-IDF that is checked out in the tree, None where there is none."""
        folder = self.folder / IDF
        return folder if _is_file(folder / "Kconfig") else None

    @property
    def fs_image(self) -> Path | None:
        """The folder whose files the tree puts into the file system, None where there is none."""
        folder = self.folder / FS_IMAGE
        return folder if _is_folder(folder) else None

    # --- tables -------------------------------------------------------------------------------------

    def primary_table(self, path: str, *, offset: int, md5: bool) -> PartitionTable:
        """Return the primary table.

        Args:
            path: what ``CONFIG_PARTITION_TABLE_CUSTOM_FILENAME`` says.
            offset: its address in flash.
            md5: whether it ends with a checksum.

        Raises:
            InputError: the file cannot be read, is wrong, or is not in the tree.
        """
        extended = self.extension is not None and _is_file(self.extension / PRIMARY_CSV)
        home = self.extension if extended and self.extension else self.folder
        return _table(self._inside(home, path), offset, primary=True, md5=md5)

    def secondary_table(self, path: str, *, offset: int) -> PartitionTable:
        """Return the table in ``at_customize``.

        Args:
            path: what ``CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_FILE`` says.
            offset: address of ``at_customize``.

        Raises:
            InputError: as for :meth:`primary_table`.
        """
        file = self._inside(self.folder, path)
        if self.extension is not None:
            extended = self._inside(self.extension, path)
            file = extended if _is_file(extended) else file
        return _table(file, offset, primary=False, md5=True)

    def _inside(self, home: Path, path: str) -> Path:
        parts = Path(path).parts
        if not parts or Path(path).is_absolute() or ".." in parts or "\0" in path:
            raise InputError(
                f"{path[:100]!r} in the sdkconfig is no partition table of {home}",
                "name the CSV by its path in the tree: module_config/…/partitions_at.csv",
            )
        return home.joinpath(*parts)

    # --- what goes into mfg_nvs -----------------------------------------------------------------------

    def dependencies(self) -> tuple[Dependency, ...]:
        """Return which options put which partitions and namespaces into the firmware, in their order.

        Raises:
            InputError: the file cannot be read.
            FormatError: a line is not ``OPTION=VALUE NAME``.
        """
        path = self.folder / DEPENDENCIES
        found = []
        for number, line in enumerate(_read_text(path, "list of dependencies").splitlines(), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            match = _DEPENDENCY.fullmatch(text)
            if match is None or not _NAME.fullmatch(match[3]):
                raise FormatError(
                    f"{path}: line {number}: {text[:60]!r} is no dependency",
                    "write OPTION=y NAME, such as AT_BLE_COMMAND_SUPPORT=y ble_data",
                )
            found.append(Dependency(*match.groups()))
        return tuple(found)

    def pki(self, namespace: str) -> tuple[PkiFile, ...]:
        """Return the certificates or keys for a namespace, sorted by name; their paths are those in the tree.

        A name has a number where there are several. esp-at counts every file of the folder for that, a
        README beside ``server.key`` included, and the firmware then finds no ``server_key``.

        Raises:
            InputError: a file cannot be read, has a name that the CSV cannot hold, or there are too many.
        """
        folder = self.folder / RAW_DATA / namespace
        if not _is_folder(folder):
            return ()
        try:
            names = sorted(path.name for path in folder.iterdir() if path.name.endswith(_PKI_ENDINGS))
        except OSError as error:
            raise unreadable(folder, error, "folder") from error
        if len(names) > _MAX_ITEMS:
            raise InputError(f"{folder}: holds {len(names)} certificates or keys", "leave the needed ones")
        keys = item_keys(namespace, len(names))
        return tuple(self._pki_file(folder / name, key) for name, key in zip(names, keys, strict=True))

    def _pki_file(self, path: Path, key: str) -> PkiFile:
        relative = path.relative_to(self.folder).as_posix()
        if not relative.isprintable():
            raise InputError(f"{relative!r}: a name that cannot stand in a CSV", "rename the file")
        return PkiFile(key, _read(path, "certificate or key"), relative)

    def gatt_rows(self) -> tuple[str, ...]:
        """Return the rows of the GATT table, none where the tree has no table.

        Raises:
            InputError: it cannot be read.
            FormatError: it is no CSV, or has too many rows.
        """
        path = self.folder / RAW_DATA / BLE_DATA / "gatts_data.csv"
        if not _is_folder(path.parent):
            return ()
        try:
            return tuple(read_gatts_csv(_read_text(path, "GATT table")))
        except FormatError as error:
            raise FormatError(f"{path}: {error.message.removeprefix(f'{path}: ')}", error.hint) from error


def read_layers(paths: tuple[Path, ...]) -> Iterator[tuple[str, Sdkconfig]]:
    """Yield the text of each ``sdkconfig.defaults`` and its options.

    Raises:
        InputError: a file cannot be read.
        FormatError: a line is wrong.
    """
    for path in paths:
        text = _read_text(path, "sdkconfig.defaults")
        yield text, Sdkconfig.from_text(text, str(path))


def _mode(path: Path) -> int:
    """Return what a path is, 0 where it is nothing or cannot be looked at."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # a name that is too long, a folder that may not be entered, a NUL
        return 0


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(_mode(path))


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(_mode(path))


def _read(path: Path, what: str) -> bytes:
    """Return the contents of a file of the tree; from a pipe in one nothing would ever come."""
    if _mode(path) and not _is_file(path):
        raise InputError(f"{path}: is no regular file", f"put a {what} there")
    return read_file(path, what, _MAX_TEXT)


def _read_text(path: Path, what: str) -> str:
    data = _read(path, what)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FormatError(f"{path}: line {line}: is not UTF-8", "save it as UTF-8") from error


def _table(path: Path, offset: int, *, primary: bool, md5: bool) -> PartitionTable:
    data = _read(path, "partition table")
    try:
        return _parsed(data, offset, primary, md5)
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", error.hint) from error


@functools.lru_cache(maxsize=64)
def _parsed(data: bytes, offset: int, primary: bool, md5: bool) -> PartitionTable:
    return PartitionTable.from_csv(decode_csv(data), offset_part_table=offset, primary=primary, md5=md5)

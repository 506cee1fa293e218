"""An esp-at checkout as build.py sees it: modules, ESP-IDF, submodules, patches, environment.

Every official version from v2.4 on is read. How the versions differ is found out from the scripts that a
checkout has, not from a number: a branch of one's own behaves as the version that it comes from.

Source: ``build.py``, ``CMakeLists.txt`` and ``tools/patch.py`` of esp-at v2.4.0.0 to v5.0.1.0, and of its
main branch in 2026.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from esp_at_tools.build.tree import EXTENSION_VARIABLE, MODULES, RAW_DATA, SourceTree, is_source_tree
from esp_at_tools.build.tree_pins import Submodule, check_submodule, find_module, unknown_module
from esp_at_tools.catalog.factory_params import DATA_FILE
from esp_at_tools.catalog.releases import IdfPin
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.files import read_file, write_file
from esp_at_tools.settings.names import FACTORY_PARAM
from esp_at_tools.workspace.git import Git
from esp_at_tools.workspace.patch_list import (
    BEFORE,
    LIST_NAME,
    Patch,
    read_common_list,
    read_module_list,
    read_script,
)

IDF = "esp-idf"
"""Where a checkout has its ESP-IDF; ``CMakeLists.txt`` names it too."""
MODULE_INFO = Path("build", "module_info.json")
TABLE = RAW_DATA / FACTORY_PARAM / DATA_FILE
READ_VARIABLES = (EXTENSION_VARIABLE, "AT_CUSTOM_COMPONENTS", "ESP_AT_FIRMWARE_FROM")
"""The variables that the user may set, and that ``build.py`` or ``CMakeLists.txt`` reads."""

_MAX_TEXT = 1 << 20
_TARGETS = re.compile(r"at_targets\s*=\s*\[([^\]]*)\]")
_FIRST_TARGETS = ("esp32", "esp32c3")
"""The chips of v2.4, whose ``build.py`` has no list."""
_EXACT_TARGETS = re.compile(r"target_option\s*=\s*\[|target_option\s*\.split")
_DEFAULT_TARGETS = re.compile(r"'target'\s*:\s*\[([^\]]*)\]")
_QUOTED = re.compile(r"['\"]([^'\"]*)['\"]")

_JIHULAB = "https://jihulab.com/esp-mirror/espressif"
_GITEE = "https://gitee.com/EspressifSystems"
REDIRECTIONS = {
    f"{_JIHULAB}/esp-at": _JIHULAB,
    f"{_JIHULAB}/esp-at.git": _JIHULAB,
    "git@jihulab.com:esp-mirror/espressif/esp-at.git": _JIHULAB,
    f"{_GITEE}/esp-at": _GITEE,
    f"{_GITEE}/esp-at.git": _GITEE,
    "git@gitee.com:EspressifSystems/esp-at.git": _GITEE,
}
"""Where esp-at was cloned from → where its ESP-IDF then comes from."""
_GITEE_SUBMODULES = "https://gitee.com/esp-submodules"


@dataclass(frozen=True)
class CheckoutModule:
    """A module that a checkout can be built for.

    Attributes:
        platform: ``PLATFORM_ESP32C3``.
        name: ``MINI-1``.
        description: what build.py shows for it.
    """

    platform: str
    name: str
    description: str

    @property
    def module_name(self) -> str:
        """Its name, as source trees call it."""
        return self.name

    @property
    def chip_name(self) -> str:
        """``ESP32C3``."""
        return self.platform.replace("PLATFORM_", "")

    @property
    def full_name(self) -> str:
        """``ESP32C3/MINI-1``."""
        return f"{self.chip_name}/{self.name}"

    @property
    def target(self) -> str:
        """``esp32c3``, as ESP-IDF calls the chip."""
        return self.chip_name.lower()


@dataclass(frozen=True)
class ModuleInfo:
    """For which module a checkout is built, as ``build/module_info.json`` says.

    Attributes:
        module: the module.
        silence: without log.
    """

    module: CheckoutModule
    silence: bool


@dataclass(frozen=True)
class Checkout:
    """A checkout; use :meth:`open`.

    Attributes:
        root: its top, without symbolic links, as the build is told.
        given: the environment of the user, of which :data:`READ_VARIABLES` count.
    """

    root: Path
    given: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False, hash=False)

    @classmethod
    def open(cls, folder: Path, environment: Mapping[str, str] | None = None) -> Checkout:
        """Return the checkout in a folder.

        Args:
            folder: its top.
            environment: the user's; that of this process by default.

        Raises:
            InputError: it is no esp-at checkout, or of a version before v2.4.
        """
        if not is_checkout(folder):
            if is_source_tree(folder):
                raise InputError(
                    f"{folder}: an esp-at checkout without {TABLE.name}, as those before v2.4 are",
                    "check out v2.4.0.0 or a newer version",
                )
            raise InputError(
                f"{folder}: is no esp-at checkout",
                "give the folder that has build.py and module_config/ in it: git clone --recursive"
                " https://github.com/espressif/esp-at.git",
            )
        return cls(Path(os.path.realpath(folder)), os.environ if environment is None else environment)

    # --- modules ----------------------------------------------------------------------------------------

    def modules(self) -> tuple[CheckoutModule, ...]:
        """Return the modules in the order of the table; rows that are wrong are left out.

        Raises:
            InputError: the table cannot be read.
            FormatError: it is no table of modules.
        """
        return tuple(module for _, module in self._rows() if module is not None)

    def module(self, name: str) -> CheckoutModule:
        """Return a module.

        Args:
            name: ``ESP32C3/MINI-1`` or ``PLATFORM_ESP32C3/MINI-1`` in any case; the part behind the slash
                alone where only one chip has a module of that name.

        Raises:
            InputError: there is none of that name, there are several, or this version does not build for
                its chip.
        """
        known: dict[str, CheckoutModule] = {}
        for module in self.modules():
            known.setdefault(module.full_name.casefold(), module)
        found = find_module(name, known)
        if found is None:
            wrong = next((line for line, module in self._rows() if module is None), None)
            if wrong is not None:
                raise FormatError(
                    f"{self.root / TABLE}: line {wrong}: is no module", "write PLATFORM_CHIP,NAME,…"
                )
            raise unknown_module(name, known, self.root)
        if found.target not in self.targets():
            raise InputError(
                f"{found.full_name}: this version of esp-at does not build for {found.target}",
                f"it builds for {', '.join(self.targets())}",
            )
        return found

    def targets(self) -> tuple[str, ...]:
        """Return the chips that build.py accepts; without a build.py, those of the modules."""
        script = self._script("build.py")
        if not script:
            return tuple(dict.fromkeys(module.target for module in self.modules()))
        match = _TARGETS.search(script)
        return tuple(_QUOTED.findall(match[1])) if match else _FIRST_TARGETS

    def _rows(self) -> Iterator[tuple[int, CheckoutModule | None]]:
        """Yield line and module of each row that is not empty, None for one that is wrong."""
        path = self.root / TABLE
        reader = csv.reader(io.StringIO(_read_text(path, "table of modules"), newline=""))
        try:
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
        except csv.Error as error:
            raise FormatError(f"{path}: line {reader.line_num}: {error}", "write it as CSV") from error
        rows = [(line, row) for line, row in rows if any(row)]
        header = rows[0][1] if rows else []
        missing = [name for name in ("platform", "module_name", "description") if name not in header]
        if missing:
            raise FormatError(f"{path}: has no column {missing[0]}", "platform,module_name,description,… ")
        places = [header.index(name) for name in ("platform", "module_name", "description")]
        for line, row in rows[1:]:
            cells = [row[place] if place < len(row) else "" for place in places]
            yield line, _module(*cells)

    def module_folder(self, module: CheckoutModule) -> Path:
        """Return the folder of a module's configuration: its own, else that of its chip.

        Raises:
            InputError: there is neither.
        """
        return self._tree.module_folder(module)

    # --- what it is built with -----------------------------------------------------------------------------

    @property
    def extension(self) -> Path | None:
        """The folder that ``AT_EXT_MODULE_CFG`` names, None where it is not set or build.py knows it not."""
        value = self.given.get(EXTENSION_VARIABLE, "")
        return self.root / value if value and EXTENSION_VARIABLE in self._script("build.py") else None

    @property
    def _tree(self) -> SourceTree:
        return SourceTree(self.root, self.extension)

    def idf_pin(self, module: CheckoutModule) -> IdfPin:
        """Return the ESP-IDF with which a module is built.

        Raises:
            InputError: the file ``IDF_VERSION`` cannot be read.
            FormatError: it lacks something, or a value cannot be that of a Git repository.
        """
        return self._tree.idf_version(module)

    def submodules(self, module: CheckoutModule) -> tuple[Submodule, ...]:
        """Return the repositories that a module has beside ESP-IDF, in their order.

        Raises:
            InputError: the list cannot be read.
            FormatError: it lacks something, or a value cannot be that of a Git repository.
        """
        if "at_parse_submodules" not in self._script("build.py", default="at_parse_submodules"):
            return ()
        place = str(self._tree.submodules_file(module))
        return tuple(check_submodule(each, place) for each in self._tree.submodules(module))

    def environment(
        self, module: CheckoutModule, *, silence: bool, idf: Path | None = None
    ) -> dict[str, str]:
        """Return the variables that the build gets beside those of this process.

        Args:
            module: the module.
            silence: without log.
            idf: the ESP-IDF; by default the one in the checkout.

        Raises:
            InputError: the list of submodules cannot be read, or is wrong.
        """
        return {
            "IDF_PATH": str(idf or self.root / IDF),
            **{each.variable: each.variable for each in self.submodules(module)},
            "ESP_AT_PROJECT_PLATFORM": f"PLATFORM_{module.chip_name}",
            "ESP_AT_MODULE_NAME": module.name,
            "ESP_AT_PROJECT_PATH": str(self.root),
            "SILENCE": str(int(silence)),
            **{name: self.given[name] for name in READ_VARIABLES if self.given.get(name)},
        }

    def redirected(self, repository: str) -> str:
        """Return where ESP-IDF is cloned from: from the mirror that esp-at was cloned from, if it was one.

        Raises:
            ExternalToolError: git is not installed.
        """
        mirror = self._mirror()
        return f"{mirror}/{PurePosixPath(repository).name}" if mirror else repository

    def redirected_submodule(self, repository: str) -> str:
        """Return where a submodule of ESP-IDF is cloned from; only Gitee has other addresses for them.

        Raises:
            ExternalToolError: git is not installed.
        """
        if self._mirror() != _GITEE:
            return repository
        return f"{_GITEE_SUBMODULES}/{PurePosixPath(repository).name}"

    def _mirror(self) -> str:
        git = Git(self.root)
        origin = git.origin() if git.is_top() else ""
        known = f"'{origin}'" in self._script("build.py", default=f"'{origin}'")
        return REDIRECTIONS.get(origin, "") if known else ""

    # --- patches -----------------------------------------------------------------------------------------

    def patches(self, module: CheckoutModule) -> tuple[Patch, ...]:
        """Return the patches for a module's chip in the order in which the build applies them.

        Whether the dependencies of each are met is another question: see :meth:`Patch.needed`.

        Raises:
            InputError: a list cannot be read.
            FormatError: it is wrong.
        """
        tool = self._script("tools/patch.py")
        script = self.module_folder(module) / "patch.py"
        if not tool:
            return read_script(script, _read_text(script, "list of patches")) if script.is_file() else ()
        if BEFORE not in tool:
            return self._module_patches(module)
        external = self._common_patches(self.extension / "patch", module, tool) if self.extension else ()
        common = self._common_patches(self.root / "patches", module, tool)
        return (
            *(patch for patch in external if patch.when == BEFORE),
            *sorted(common, key=lambda patch: patch.when != BEFORE),
        )

    def _module_patches(self, module: CheckoutModule) -> tuple[Patch, ...]:
        folder = self.module_folder(module) / "patch"
        if self.extension and (self.extension / "patch").exists():
            folder = self.extension / "patch"
        place = folder / LIST_NAME
        return read_module_list(folder, _read_text(place, "list of patches")) if place.is_file() else ()

    def _common_patches(self, folder: Path, module: CheckoutModule, tool: str) -> tuple[Patch, ...]:
        place = folder / LIST_NAME
        if not place.is_file():
            return ()
        match = _DEFAULT_TARGETS.search(tool)
        return read_common_list(
            folder,
            _read_text(place, "list of patches"),
            module.target,
            exact=bool(_EXACT_TARGETS.search(tool)),
            defaults=tuple(_QUOTED.findall(match[1])) if match else (),
        )

    # --- build/module_info.json -----------------------------------------------------------------------------

    def module_info(self) -> ModuleInfo | None:
        """Return for which module the checkout was built or prepared last, None for nothing yet.

        Raises:
            InputError: ``build/module_info.json`` cannot be read.
            FormatError: it is wrong, or names a module that the checkout has not.
        """
        path = self.root / MODULE_INFO
        if not os.path.lexists(path):
            return None
        hint = "name the module with --module, or delete the file"
        try:
            info = json.loads(_read_text(path, "module_info.json"))
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{path}: is no JSON: {error}", hint) from error
        wanted = ("platform", "module", "silence")
        if not isinstance(info, dict) or any(key not in info for key in wanted):
            raise FormatError(f"{path}: lacks one of {', '.join(wanted)}", hint)
        named = (info["platform"], info["module"])
        found = next((each for each in self.modules() if (each.platform, each.name) == named), None)
        if found is None or info["silence"] not in (0, 1):
            said = f"{info['platform']!s:.40} {info['module']!s:.60}, silence {info['silence']!s:.20}"
            raise FormatError(f"{path}: {said}: is no module of this checkout", hint)
        return ModuleInfo(found, bool(info["silence"]))

    def write_module_info(self, module: CheckoutModule, *, silence: bool) -> Path:
        """Write ``build/module_info.json`` as build.py does, and return its path.

        Raises:
            InputError: it cannot be written.
        """
        path = self.root / MODULE_INFO
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"{path.parent}: cannot be made: {reason}", "check the folder") from error
        info = {
            "platform": module.platform,
            "module": module.name,
            "description": module.description,
            "silence": int(silence),
        }
        write_file(path, json.dumps(info).encode())
        return path

    # --- files -------------------------------------------------------------------------------------------

    def _script(self, name: str, *, default: str = "") -> str:
        """Return the text of one of esp-at's scripts, ``default`` where a checkout has it not."""
        path = self.root / name
        return _script_text(path, path.stat().st_mtime_ns) if path.is_file() else default


def is_checkout(folder: Path) -> bool:
    """Tell whether a folder is an esp-at checkout that can be built: of v2.4 or newer."""
    try:
        return is_source_tree(folder) and (folder / TABLE).is_file() and (folder / MODULES).is_dir()
    except (OSError, ValueError):  # a path that is none
        return False


def _module(platform: str, name: str, description: str) -> CheckoutModule | None:
    """Return the module of a row, None where its names cannot be those of one."""
    upper = platform.upper()
    for part in (upper, name):
        if not part.isascii() or not part.isprintable() or not part.strip(". ") or set(part) & set('/\\" '):
            return None
    return CheckoutModule(upper, name.upper(), description) if upper.startswith("PLATFORM_") else None


@functools.lru_cache(maxsize=16)
def _script_text(path: Path, changed: int) -> str:
    del changed
    return read_file(path, "script", _MAX_TEXT).decode("utf-8", "replace")


def _read_text(path: Path, what: str) -> str:
    if path.exists() and not path.is_file():  # from a pipe nothing would ever come
        raise InputError(f"{path}: is no regular file", f"put a {what} there")
    try:
        return read_file(path, what, _MAX_TEXT).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: is not UTF-8 at byte {error.start}", "save it as UTF-8") from error

"""Workflows that build modules on the runners of GitHub and GitLab, made from ``templates/ci``.

A runner builds one module: it installs this program, ESP-IDF and its tools, or takes these two from the
provider's cache, whose key is made of the file that names the commit of ESP-IDF, and keeps the firmware.
Without ESP-IDF, the configurations of all modules are made by one runner.

Source: chapter "Compile ESP-AT project on the web" of the ESP-AT user guide, ``.github/workflows`` and
``.gitlab/ci`` of esp-at v3.4.0.0 and v5.0.1.0, and the providers' documentation of their workflows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esp_at_tools.catalog.data import templates_folder
from esp_at_tools.errors import InputError
from esp_at_tools.files import made_folders, write_file
from esp_at_tools.workspace.checkout import Checkout, CheckoutModule, is_checkout
from esp_at_tools.workspace.ota_tokens import KEY_VARIABLES, TABLE, alias_of, variables_of

PACKAGE = "esp-at-tool"
"""What pip installs by default."""
PROVIDERS: Mapping[str, Path] = {
    "github": Path(".github", "workflows", "esp-at-firmware.yml"),
    "gitlab": Path(".gitlab-ci.yml"),
}
"""Provider → where it looks for a workflow, from the top of a repository."""

_MAX_MODULES = 200
"""The most that a GitLab matrix takes; one of GitHub takes 256."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]{0,99}", re.ASCII)
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._+-][A-Za-z0-9._+/-]{0,199}", re.ASCII)
_REQUIREMENT = re.compile(r"[A-Za-z0-9./][A-Za-z0-9 ._+/:@=<>!~,;\[\]()'%#&?-]{0,199}", re.ASCII)

_PACKAGES = "bison ccache cmake flex gperf libusb-1.0-0 ninja-build wget"
_SYSTEM = ("apt-get update --quiet", f"apt-get install --yes --quiet --no-install-recommends {_PACKAGES}")
_INSTALL = 'esp-at-tool install --module "$MODULE"'
_BUILD = 'esp-at-tool build --module "$MODULE"'
_CHECK = (
    "failed=",
    "for image in build/factory/factory_*.bin; do",
    '  esp-at-tool inspect --check "$image" || failed="$failed $image"',
    "done",
    'test -z "$failed"',
)
_MAKE_CONFIGURATIONS = (
    "mkdir -p firmware",
    "for module in $MODULES; do",
    '  esp-at-tool build --config-only --module "$module" --output "firmware/$(echo "$module" | tr / -)"',
    "done",
)
_CHECK_CONFIGURATIONS = (
    "failed=",
    "for folder in firmware/*; do",
    '  esp-at-tool inspect --check "$folder" || failed="$failed $folder"',
    "done",
    'test -z "$failed"',
)
_ARTIFACTS = (
    "sdkconfig",
    "build/*.bin",
    "build/*.elf",
    "build/*.map",
    "build/*.json",
    "build/bootloader/*.bin",
    "build/partition_table/*.bin",
    "build/customized_partitions/*",
    "build/custom_ota_binaries/*",
    "build/download.config",
    "build/factory/*",
)


@dataclass(frozen=True)
class CiModule:
    """A module as a workflow names it.

    Attributes:
        full_name: ``ESP32C3/MINI-1``.
        chip: ``esp32c3``.
        idf_version: path of the file that names the commit of its ESP-IDF, from the top of the checkout.
        patches: path of the folder of its patches, which need not exist.
    """

    full_name: str
    chip: str
    idf_version: str = ""
    patches: str = ""

    @property
    def artifact(self) -> str:
        """The name of what its build keeps: ``ESP32C3-MINI-1``."""
        return self.full_name.replace("/", "-")


@dataclass(frozen=True)
class _Token:
    name: str
    alias: str


@dataclass(frozen=True)
class _Group:
    """The modules that share a cache; their names are those of a job's matrix."""

    name: str
    modules: tuple[CiModule, ...]

    @property
    def chip(self) -> str:
        return self.modules[0].chip

    @property
    def idf_version(self) -> str:
        return self.modules[0].idf_version

    @property
    def patches(self) -> str:
        return self.modules[0].patches


@dataclass(frozen=True)
class Workflow:
    """A workflow that can be written.

    Attributes:
        provider: ``github`` or ``gitlab``.
        path: where it will be.
        text: what it says.
        modules: full names of the modules that it builds.
        tokens: the secrets that it passes on.
        folders: those above it that are made where they are missing, from the top.
    """

    provider: str
    path: Path
    text: str
    modules: tuple[str, ...]
    tokens: tuple[str, ...]
    folders: tuple[Path, ...] = ()


def new_workflow(
    provider: str,
    project: Path,
    names: Sequence[str] = (),
    *,
    config_only: bool = False,
    requirement: str = PACKAGE,
    output: Path | None = None,
) -> Workflow:
    """Return a workflow; :func:`write_workflow` writes it.

    Args:
        provider: one of :data:`PROVIDERS`.
        project: the top of an esp-at checkout; for the configuration alone any folder, whose modules are
            then those of the built-in definitions.
        names: the modules; all that there are by default.
        config_only: without ESP-IDF and without an application.
        requirement: what pip installs.
        output: where it will be; where the provider looks for it by default.

    Raises:
        InputError: there is no such module or provider, the project is none, ``IDF_VERSION`` is missing, or
            a name or the requirement has characters that mean something else in a workflow.
    """
    if provider not in PROVIDERS:
        raise InputError(f"{provider!r}: is no provider", f"it is one of {', '.join(PROVIDERS)}")
    if not _REQUIREMENT.fullmatch(requirement):
        raise InputError(
            f"{requirement[:60]!r}: is nothing that pip installs",
            "give a name, a name with a version, a path or an address, without $, quotes and backslashes",
        )
    modules = _modules(project, names, config_only=config_only)
    tokens = [] if config_only else _tokens(project, modules)
    text = _render(
        provider,
        {
            "config_only": config_only,
            "requirement": requirement,
            "modules": modules,
            "count": "1 module" if len(modules) == 1 else f"{len(modules)} modules",
            "groups": _groups(modules),
            "tokens": tokens,
            "system_lines": _SYSTEM,
            "install": _INSTALL,
            "build": _BUILD,
            "make_lines": _MAKE_CONFIGURATIONS,
            "check_lines": _CHECK_CONFIGURATIONS if config_only else _CHECK,
            "artifacts": _ARTIFACTS,
        },
    )
    place = PROVIDERS[provider]
    folders = [project / parent for parent in reversed(place.parents[:-1])] if output is None else []
    return Workflow(
        provider,
        output if output is not None else project / place,
        text,
        tuple(module.full_name for module in modules),
        tuple(token.name for token in tokens),
        tuple(folders),
    )


def write_workflow(workflow: Workflow, *, force: bool = False) -> None:
    """Write a workflow; the folder of the default place is made.

    Args:
        workflow: from :func:`new_workflow`.
        force: replace what stands there.

    Raises:
        InputError: it cannot be written there, or something stands there; nothing was changed.
    """
    path = workflow.path
    if path.exists() and not force:
        hint = "give --force to replace it, or another place as --output"
        if workflow.provider == "gitlab":
            hint += ", which Settings > CI/CD of the project can name"
        raise InputError(f"{path}: exists already", hint)
    with made_folders(workflow.folders):
        write_file(path, workflow.text.encode("utf-8"))


# --- modules -------------------------------------------------------------------------------------


def _modules(project: Path, names: Sequence[str], *, config_only: bool) -> list[CiModule]:
    if is_checkout(project):
        found = _of_checkout(project, names, config_only=config_only)
    elif config_only and project.is_dir():
        found = _of_definitions(names)
    else:
        raise InputError(
            f"{project}: is no esp-at checkout",
            "give one as --project; with --config-only the built-in definitions do without",
        )
    found = list(dict.fromkeys(found))
    if not 0 < len(found) <= _MAX_MODULES:
        raise InputError(f"a workflow builds 1 to {_MAX_MODULES} modules, not {len(found)}", "give fewer")
    for module in found:
        for text, pattern in ((module.full_name, _PLAIN), (module.idf_version, _PLAIN_PATH)):
            if text and not pattern.fullmatch(text):
                raise InputError(
                    f"{text[:60]!r}: a workflow cannot name this",
                    "only letters, digits, dots, hyphens and underscores mean the same everywhere",
                )
    return found


def _of_checkout(project: Path, names: Sequence[str], *, config_only: bool) -> list[CiModule]:
    if config_only:
        from esp_at_tools.build.tree import open_tree

        open_tree(project)  # refuses versions whose configuration cannot be made without compiling
    checkout = Checkout.open(project, {})
    if names:
        wanted = [checkout.module(name) for name in names]
    else:
        wanted = [each for each in checkout.modules() if each.target in checkout.targets()]
    if not config_only:
        for module in wanted:
            _check_pin(checkout, module)
    return [_ci_module(checkout, module) for module in wanted]


def _check_pin(checkout: Checkout, module: CheckoutModule) -> None:
    """Refuse a module for which nothing could be installed on a runner, and whose cache would have no key."""
    try:
        checkout.idf_pin(module)
    except InputError as error:
        raise type(error)(
            f"{module.full_name}: {error.message}, and it tells which ESP-IDF a runner installs",
            f"{error.hint}; --module chooses modules, and --config-only needs no ESP-IDF",
        ) from error


def _ci_module(checkout: Checkout, module: CheckoutModule) -> CiModule:
    folder = checkout.module_folder(module).relative_to(checkout.root)
    idf_version = folder / "IDF_VERSION"
    patches = Path("patches") if (checkout.root / "patches").is_dir() else folder / "patch"
    return CiModule(module.full_name, module.target, idf_version.as_posix(), patches.as_posix())


def _of_definitions(names: Sequence[str]) -> list[CiModule]:
    from esp_at_tools.catalog.modules import module, modules

    wanted = [module(name) for name in names] if names else modules()
    return [CiModule(each.full_name, each.chip.name) for each in wanted]


def _groups(modules: Iterable[CiModule]) -> list[_Group]:
    """Return the modules by what their cache depends on, each group with a name of its own."""
    found: dict[tuple[str, str, str], list[CiModule]] = {}
    for module in modules:
        found.setdefault((module.chip, module.idf_version, module.patches), []).append(module)
    chips = [chip for chip, _, _ in found]
    return [
        _Group(chip if chips.count(chip) == 1 else _folder_name(idf_version, chip), tuple(each))
        for (chip, idf_version, _), each in found.items()
    ]


def _folder_name(idf_version: str, chip: str) -> str:
    """Return ``esp32c2-2mb`` of ``module_config/module_esp32c2-2mb/IDF_VERSION``."""
    name = Path(idf_version).parent.name.removeprefix("module_")
    if name == f"{chip}_default":
        return chip
    return name if name.startswith(chip) else f"{chip}-{name}"


def _tokens(project: Path, modules: Iterable[CiModule]) -> list[_Token]:
    """Return the secrets that the modules can use, those of each module in its turn."""
    if not (project / TABLE).is_file():
        return []
    names = [name for module in modules for name in variables_of(project, *module.full_name.split("/", 1))]
    if not names:
        return []
    return [_Token(name, alias_of(name)) for name in dict.fromkeys([*names, *KEY_VARIABLES])]


# --- text ----------------------------------------------------------------------------------------


def _render(provider: str, values: Mapping[str, Any]) -> str:
    import json

    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701 - YAML, whose values were checked above, is no HTML
        loader=FileSystemLoader(templates_folder() / "ci", encoding="utf-8"),
        undefined=StrictUndefined,
        # GitHub's own expressions stand between double braces.
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = json.dumps  # a JSON string is a YAML one too
    text: str = environment.get_template(f"{provider}.yml.j2").render(values)
    return text

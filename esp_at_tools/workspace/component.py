"""A new component with an AT command of one's own, made from ``templates/component``.

ESP-IDF compiles each folder in ``components/`` of a project, so a component there needs no environment
variable. From esp-at v3.3.0.0 on (v4.0.0.0 excepted) a macro puts its function into a table that esp-at goes
through at its start; in older versions it takes its turn before ``at_custom_init()``.

Source: chapter "Add user-defined AT commands" of the ESP-AT user guide, ``components/at/include``,
``components/at/at_linker.lf`` and ``main/app_main.c`` of esp-at v2.4.0.0 to v5.0.1.0, and
``tools/cmake/project.cmake`` of ESP-IDF v4.3 to v5.4.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.build.artefacts import BuiltFile
from esp_at_tools.build.folder import write_build_folder
from esp_at_tools.build.tree import is_source_tree
from esp_at_tools.catalog.data import data_folder, read_table, templates_folder
from esp_at_tools.errors import InputError
from esp_at_tools.files import check_new_folder, read_head

COMPONENTS = Path("components")
_REGISTER_HEADER = Path("components", "at", "include", "esp_at_cmd_register.h")
_MAIN = Path("main", "app_main.c")
_CUSTOM_INIT = b"at_custom_init()"
_MAX_SOURCE = 1 << 20

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}", re.ASCII)
_COMMAND = re.compile(r"(?:AT)?\+([A-Za-z0-9!%\-./:_]{1,48})", re.ASCII | re.IGNORECASE)
_COMMAND_HINT = "write AT+ and 1 to 48 letters, digits and !%-./:_ behind it: AT+HELLO"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KEYWORDS = _words(
    "auto bool break case char const continue default do double else enum extern false float for goto if"
    " inline int long main nullptr register restrict return short signed sizeof static struct switch"
    " true typedef union unsigned void volatile while"
)
_IDF_COMPONENTS = _words(
    "app_trace app_update asio bootloader bootloader_support bt cbor cmock coap console cxx driver"
    " efuse esp32 esp32c2 esp32c3 esp32c5 esp32c6 esp32c61 esp32h2 esp32s2 esp32s3 esp_adc esp_adc_cal"
    " esp_app_format esp_bootloader_format esp_coex esp_common esp_eth esp_event esp_gdbstub esp_hid"
    " esp_http_client esp_http_server esp_https_ota esp_https_server esp_hw_support esp_ipc esp_lcd"
    " esp_local_ctrl esp_mm esp_netif esp_netif_stack esp_partition esp_phy esp_pm esp_psram esp_ringbuf"
    " esp_rom esp_security esp_serial_slave_link esp_system esp_timer esp_vfs_console"
    " esp_websocket_client esp_wifi espcoredump esptool_py expat fatfs freemodbus freertos hal heap"
    " http_parser idf_test ieee802154 jsmn json libsodium linux log lwip mbedtls mdns mqtt newlib nghttp"
    " nvs_flash nvs_sec_provider openssl openthread partition_table perfmon protobuf_c protocomm pthread"
    " riscv rt sdmmc soc spi_flash spiffs tcp_transport tcpip_adapter tinyusb touch_element ulp unity"
    " usb vfs wear_levelling wifi_provisioning wpa_supplicant xtensa at customized_partitions decoder"
    " fs_image rainmaker main"
)
"""Components of ESP-IDF and esp-at: one of the same name in a project would take their place."""
_IDF_PREFIX = "esp_driver_"


@dataclass(frozen=True)
class NewComponent:
    """A component that can be written.

    Attributes:
        folder: where it will be.
        name: of the component; its files and functions begin with it.
        command: ``AT+HELLO``.
        inside: it is in ``components/`` of a checkout, where the build finds it by itself.
        variable: elsewhere the build finds it by ``AT_CUSTOM_COMPONENTS``; older versions do not.
        files: relative path → contents.
    """

    folder: Path
    name: str
    command: str
    inside: bool
    variable: bool
    files: dict[str, bytes]


def new_component(
    name: str, *, command: str | None = None, project: Path | None = None, parent: Path | None = None
) -> NewComponent:
    """Return a new component; :func:`write_component` writes it.

    Args:
        name: a C identifier that no component of ESP-IDF or esp-at has.
        command: ``AT+HELLO``; ``AT+`` and the name in capitals by default.
        project: an esp-at checkout, for whose version it is made; None for the newest.
        parent: the folder in which its folder will be; ``components`` of the project by default.

    Raises:
        InputError: the name or the command is none or taken, there is no place for it, or the checkout is
            of a version that cannot have it.
    """
    if project is not None and not is_source_tree(project):
        raise InputError(
            f"{project}: is no esp-at checkout",
            "give the top folder of one as --project, or a folder for the component as --dir",
        )
    _check_name(name)
    text = _command(command if command is not None else f"AT+{name.upper()}")
    if project is not None:
        _check_free(name, text, project)
    home = parent if parent is not None else (project or Path()) / COMPONENTS
    folder = home / name
    if home.is_dir() and any(each.name.casefold() == name.casefold() for each in home.iterdir()):
        raise InputError(f"{folder}: exists already", "give the component another name")
    check_new_folder(folder)
    inside = project is not None and _same(home, project / COMPONENTS)
    macro = project is None or _has_macro(project)
    files = _render(name, text, macro=macro, inside=inside)
    return NewComponent(folder, name, f"AT{text}", inside, macro, files)


def write_component(component: NewComponent) -> None:
    """Write a component, all of its files or none.

    Raises:
        InputError: it cannot be written there; nothing was written.
    """
    check_new_folder(component.folder)
    write_build_folder(component.folder, {name: BuiltFile(data) for name, data in component.files.items()})


# --- what may not be -----------------------------------------------------------------------------


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name in _KEYWORDS:
        raise InputError(
            f"{name[:60]!r} is no name for a component",
            "give a C identifier: a letter, then up to 39 letters, digits and underscores",
        )
    lower = name.casefold()
    if lower in _IDF_COMPONENTS or lower.startswith(_IDF_PREFIX):
        raise InputError(
            f"{name}: ESP-IDF or esp-at has a component of that name, whose place it would take",
            f"give another name: my_{lower}"[:60],
        )


def _command(text: str) -> str:
    """Return ``+HELLO`` of ``AT+HELLO``, or refuse it."""
    match = _COMMAND.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{text[:60]!r} is no AT command", _COMMAND_HINT)
    command = f"+{match[1]}"
    path = data_folder() / "at_commands.csv"
    official = {row[0].casefold() for _, row in read_table(path, ("command", "source"))}
    if f"at{command.casefold()}" in official:
        raise InputError(
            f"AT{command}: esp-at has this command itself", "give one that it does not have as --command"
        )
    return command


def _check_free(name: str, command: str, project: Path) -> None:
    """Refuse a name or a command that a component of the checkout has."""
    for folder in (project / COMPONENTS, project / "esp-idf" / "components", project / "managed_components"):
        if not folder.is_dir():
            continue
        for each in sorted(folder.iterdir()):
            if each.name.rpartition("__")[2].casefold() == name.casefold():
                raise InputError(f"{each}: exists already", "give the component another name")
    wanted = f'"{command}"'.casefold().encode("ascii")
    for source in _sources(project):
        if wanted in read_head(source, _MAX_SOURCE, "source file").lower():
            raise InputError(f"AT{command}: {source} has this command", "give another one as --command")


def _sources(project: Path) -> Iterator[Path]:
    """Yield the C files in which the commands of a checkout are defined, as far as their source is public."""
    for pattern in ("*/*.c", "*/*/*.c"):
        for path in sorted((project / COMPONENTS).glob(pattern)):
            if path.is_file():
                yield path


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


# --- versions ------------------------------------------------------------------------------------


def _has_macro(project: Path) -> bool:
    """Tell whether this version of esp-at has ``ESP_AT_CMD_SET_INIT_FN``.

    Raises:
        InputError: it has neither that nor the function that was there before.
    """
    if (project / _REGISTER_HEADER).is_file():
        return True
    main = project / _MAIN
    if main.is_file() and _CUSTOM_INIT in read_head(main, _MAX_SOURCE, "source file"):
        return False
    raise InputError(
        f"{project}: this version of esp-at has no way in for commands that is known here",
        f"{_REGISTER_HEADER.as_posix()} or a call of at_custom_init() in {_MAIN.as_posix()} should be there",
    )


def _render(name: str, command: str, *, macro: bool, inside: bool) -> dict[str, bytes]:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701 - C and CMake, whose values were checked above, are no HTML
        loader=FileSystemLoader(templates_folder() / "component", encoding="utf-8"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    sources = {f"{name}.c": "source.c.j2"}
    if not macro:
        sources[f"{name}_register.c"] = "register.c.j2"
    templates = {
        "CMakeLists.txt": "CMakeLists.txt.j2",
        "README.md": "README.md.j2",
        f"include/{name}.h": "header.h.j2",
        **sources,
    }
    values = {
        "name": name,
        "prefix": name.upper(),
        "command": command,
        "macro": macro,
        "inside": inside,
        "sources": list(sources),
        "kept": f"{name}_at_register" if macro else f"{name}_at_link",
    }
    return {
        path: environment.get_template(template).render(values).encode("utf-8")
        for path, template in templates.items()
    }

"""A small ESP-IDF and a small esp-at checkout, which have of each mechanism of Kconfig one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

IDF_KCONFIG = """\
mainmenu "Small Development Framework"

    orsource "./components/soc/$IDF_TARGET/include/soc/Kconfig.soc_caps.in"

    config IDF_TARGET
        string
        default "$IDF_TARGET"

    config IDF_INIT_VERSION
        string
        default "$IDF_INIT_VERSION"

    config IDF_TOOLCHAIN
        string
        default "$IDF_TOOLCHAIN"

    source "$COMPONENT_KCONFIGS_PROJBUILD_SOURCE_FILE"

    menu "Component config"
        source "$COMPONENT_KCONFIGS_SOURCE_FILE"
    endmenu
"""

SYSTEM_KCONFIG = """\
menu "System"

    config SYS_STACK
        int "Stack size"
        range 512 8192
        default 4096 if SYS_LARGE
        default 1024

    config SYS_LARGE
        bool "Large"
        default n

    config SYS_ADDRESS
        hex "Address"
        default 0x8000

    config SYS_NAME
        string "Name"
        default "small"

    choice SYS_SPEED
        prompt "Speed"
        default SYS_SPEED_SLOW

        config SYS_SPEED_SLOW
            bool "slow"
        config SYS_SPEED_FAST
            bool "fast"
    endchoice

    config SYS_MHZ
        int
        default 240 if SYS_SPEED_FAST
        default 80

    config SYS_DETAIL
        bool "Detail"
        depends on SYS_LARGE
        default y

    rsource "Kconfig.$IDF_TARGET"
endmenu
"""

AT_KCONFIG = """\
menu "AT"
    config AT_ENABLE
        bool "AT commands"
        default y

    config AT_WS_COMMAND_SUPPORT
        bool "WebSocket"
        depends on AT_ENABLE
        select SYS_LARGE

    config AT_SOCKETS
        int "Sockets"
        range 1 16
        default 5
endmenu
"""

DATA_CSV = """\
platform,module_name,description,version
PLATFORM_ESP32C3,MINI-1,"4MB, Wi-Fi + BLE",4
PLATFORM_ESP32C3,TINY,"2MB, Wi-Fi",4
"""


def write(path: Path, text: str) -> Path:
    """Write a file, and make its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@dataclass(frozen=True)
class Trees:
    """Where the two stand.

    Attributes:
        idf: the ESP-IDF.
        project: the checkout.
        defaults: the ``sdkconfig.defaults`` of MINI-1.
    """

    idf: Path
    project: Path
    defaults: Path

    def component(self, place: Path, kconfig: str = "", **files: str) -> Path:
        """Make a component; ``files`` are named with ``__`` for a dot."""
        write(place / "CMakeLists.txt", "idf_component_register()\n")
        if kconfig:
            write(place / "Kconfig", kconfig)
        for name, text in files.items():
            write(place / name.replace("__", "."), text)
        return place


def make_trees(folder: Path) -> Trees:
    """Make both below a folder; in it, there is a blank in the path of the checkout."""
    idf, project = folder / "idf", folder / "my esp-at"
    trees = Trees(idf, project, project / "module_config/module_esp32c3_default/sdkconfig.defaults")
    write(idf / "Kconfig", IDF_KCONFIG)
    write(
        idf / "sdkconfig.rename", "CONFIG_OLD_STACK CONFIG_SYS_STACK\nCONFIG_TINY_SYSTEM !CONFIG_SYS_LARGE\n"
    )
    write(
        idf / "tools/cmake/version.cmake",
        "set(IDF_VERSION_MAJOR 5)\nset(IDF_VERSION_MINOR 4)\nset(IDF_VERSION_PATCH 9)\n",
    )
    for chip in ("esp32c3", "esp32c6"):
        caps = f"config SOC_{chip.upper()}\n    bool\n    default y\n"
        write(idf / f"components/soc/{chip}/include/soc/Kconfig.soc_caps.in", caps)
    trees.component(idf / "components/soc")
    trees.component(
        idf / "components/system",
        SYSTEM_KCONFIG,
        Kconfig__esp32c3='config SYS_C3\n    bool "Only on the C3"\n',
        sdkconfig__rename__esp32c3="CONFIG_ESP32C3_NAME CONFIG_SYS_NAME\n",
    )
    write(idf / "components/no_component/Kconfig", "this is not read\n")
    trees.component(idf / "components/.hidden", "this is not read\n")
    trees.component(project / "main", AT_KCONFIG, sdkconfig__rename="CONFIG_AT_OLD CONFIG_AT_SOCKETS\n")
    trees.component(
        project / "components/customized_partitions",
        Kconfig__projbuild='config AT_TABLE\n    string "Table"\n    default "at.csv"\n',
    )
    partitions = project / "components/customized_partitions"
    write(partitions / "at_customized_config_dependency.txt", "AT_WS_COMMAND_SUPPORT=y wss\n")
    write(partitions / "raw_data/factory_param/factory_param_data.csv", DATA_CSV)
    write(partitions / "raw_data/factory_param/factory_param_type.csv", "version,data,i8\n")
    trees.component(project / "bootloader_components/extra", 'config BOOT_EXTRA\n    bool "Extra"\n')
    write(trees.defaults, "CONFIG_AT_SOCKETS=3\nCONFIG_OLD_STACK=2048\n")
    write(trees.defaults.with_name("sdkconfig_silence.defaults"), "CONFIG_AT_SOCKETS=2\n")
    write(
        trees.defaults.with_name("IDF_VERSION"),
        f"branch:release/v5.4\ncommit:{'0123456789' * 4}\nrepository:https://example.com/idf.git\n",
    )
    return trees

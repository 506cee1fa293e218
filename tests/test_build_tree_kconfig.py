"""The sdkconfig of a source tree: where the ESP-IDF comes from, and what is warned of."""

from __future__ import annotations

import shutil
from pathlib import Path

import kconfig_trees
import pytest
from source_trees import (
    DEFAULTS,
    HOME,
    TREE,
    Made,
    make_tree,
)

from esp_at_tools.build.from_tree import FROM_DEFAULTS
from esp_at_tools.build.tree import open_tree
from esp_at_tools.build.tree_kconfig import find_idf
from esp_at_tools.errors import FormatError, InputError

KCONFIG = """menu "Flash and tables"
    config ESPTOOLPY_FLASHMODE
        string
        default "dio"
    config ESPTOOLPY_FLASHFREQ
        string
        default "20m" if AT_MQTT_COMMAND_SUPPORT
        default "40m"
    config ESPTOOLPY_FLASHSIZE
        string
        default "4MB"
    config PARTITION_TABLE_CUSTOM_FILENAME
        string "Primary table"
        default ""
    config PARTITION_TABLE_OFFSET
        hex "Offset"
        default 0x8000
    config AT_CUSTOMIZED_PARTITION_TABLE_SUPPORT
        bool "Secondary table"
        default y
    config AT_CUSTOMIZED_PARTITION_TABLE_FILE
        string "Secondary table"
        default ""
    config AT_CUSTOMIZED_PARTITION_TABLE_OFFSET
        hex "Offset"
        default 0x20000
    config AT_MQTT_COMMAND_SUPPORT
        bool "MQTT"
        default n
    config AT_MQTT_CLIENT_AUTH_BROKER
        bool "CA"
        default y
        depends on AT_MQTT_COMMAND_SUPPORT
endmenu
"""


@pytest.fixture
def tree(tmp_path: Path) -> Made:
    return make_tree(tmp_path / "tree")


def test_an_esp_idf_resolves_the_sdkconfig(tree: Made, tmp_path: Path) -> None:
    idf = kconfig_trees.make_trees(tmp_path / "kconfig").idf
    tree.write("main/Kconfig.projbuild", KCONFIG)
    tree.write("main/CMakeLists.txt", "")
    recipe = tree.recipe(idf=idf)
    assert recipe.flash.freq == "40m"
    assert "CONFIG_PARTITION_TABLE_OFFSET=0x8000\n" in recipe.sdkconfig
    assert not recipe.sdkconfig_defaults
    assert FROM_DEFAULTS not in recipe.notes
    csv = recipe.partitions["mfg_nvs"].csv
    assert [line for line in csv.splitlines() if ",namespace," in line] == ["factory_param,namespace,,"]
    assert any("no Kconfig file has" in warning for warning in recipe.warnings)
    assert "and ESP32C3/MY-BOARD is built with release/v9.8" not in " ".join(recipe.warnings)
    tree.write(f"{HOME}/IDF_VERSION", TREE[f"{HOME}/IDF_VERSION"].replace("v5.4", "v9.8"))
    assert "and ESP32C3/MY-BOARD is built with release/v9.8" in tree.recipe(idf=idf).warnings[0]
    (tree.folder / HOME / "IDF_VERSION").unlink()
    shutil.copytree(idf, tree.folder / "esp-idf")  # which is taken without being asked for
    tree.write("sdkconfig.overlay/esp32c3-my-board.defaults", "CONFIG_AT_MQTT_COMMAND_SUPPORT=y\n")
    recipe = tree.recipe()
    assert recipe.flash.freq == "20m"
    assert "mqtt_ca,namespace,,\n" in recipe.partitions["mfg_nvs"].csv
    assert "with the options of sdkconfig.overlay/esp32c3-my-board.defaults" in recipe.notes
    assert not [warning for warning in recipe.warnings if "is built with" in warning]


def test_the_users_overlay_counts_without_an_esp_idf_too(tree: Made) -> None:
    tree.write("sdkconfig.overlay/esp32c3-my-board.defaults", "CONFIG_AT_MQTT_COMMAND_SUPPORT=y\n")
    recipe = tree.recipe()
    assert "mqtt_ca,namespace,,\n" in recipe.partitions["mfg_nvs"].csv
    assert recipe.sdkconfig_defaults == f"{DEFAULTS}\nCONFIG_AT_MQTT_COMMAND_SUPPORT=y\n"
    assert recipe.notes[1] == "with the options of sdkconfig.overlay/esp32c3-my-board.defaults"
    assert "mqtt_ca" not in tree.recipe("MY-SPI").partitions["mfg_nvs"].csv


def test_repositories_beside_esp_idf(tree: Made) -> None:
    opened = open_tree(tree.folder)
    row = opened.module("MY-BOARD")
    assert opened.submodule_variables(row) == {}
    text = (
        '[submodule "rainmaker"]\n    path = components/rainmaker/esp-rainmaker\n    url = https://host/%s\n'
    )
    tree.write(f"{HOME}/submodules", text)
    assert opened.submodule_variables(row) == {}
    tree.write("components/rainmaker/esp-rainmaker/README", "")
    assert opened.submodule_variables(row) == {"AT_RAINMAKER_SUPPORT": "AT_RAINMAKER_SUPPORT"}
    for bad in ("path = x\n", "[what]\npath = x\n", "[submodule a\n"):
        tree.write(f"{HOME}/submodules", bad)
        with pytest.raises(FormatError, match="submodules: ") as caught:
            opened.submodule_variables(row)
        assert "write [submodule" in caught.value.hint


def test_where_the_esp_idf_comes_from(tree: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_tree(tree.folder)
    given, named = tmp_path / "given", tmp_path / "named"
    named.mkdir()
    variable = {"IDF_PATH": str(named)}
    assert find_idf(opened, None, {}) is None
    assert find_idf(opened, None, variable) is None, "no ESP-IDF resolves a tree without Kconfig files"
    tree.write("main/Kconfig", KCONFIG)
    assert find_idf(opened, None, variable) == named
    assert find_idf(opened, given, variable) == given
    (tree.folder / "esp-idf").mkdir()
    assert find_idf(opened, None, variable) == named, "an empty folder is no ESP-IDF"
    tree.write("esp-idf/Kconfig", "")
    assert find_idf(opened, None, variable) == tree.folder / "esp-idf"
    assert find_idf(opened, given, variable) == given
    shutil.rmtree(tree.folder / "esp-idf")
    with pytest.raises(InputError, match=r"IDF_PATH: .*nowhere: no such folder"):
        find_idf(opened, None, {"IDF_PATH": str(tmp_path / "nowhere")})
    monkeypatch.setenv("IDF_PATH", str(kconfig_trees.make_trees(tmp_path / "kconfig").idf))
    tree.write("main/CMakeLists.txt", "")
    assert "CONFIG_PARTITION_TABLE_OFFSET=0x8000\n" in tree.recipe().sdkconfig


PATCH = """diff --git a/components/system/Kconfig b/components/system/Kconfig
--- a/components/system/Kconfig
+++ b/components/system/Kconfig
@@ -1,4 +1,4 @@
-menu "System"
+menu "The system"
{blank}
     config SYS_STACK
         int "Stack size"
""".format(blank=" ")


@pytest.fixture
def patched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> kconfig_trees.Trees:
    """A checkout with a patch for the Kconfig files of ESP-IDF, one for its sources, and one for later."""
    for name in ("IDF_PATH", "AT_EXT_MODULE_CFG"):
        monkeypatch.delenv(name, raising=False)
    trees = kconfig_trees.make_trees(tmp_path)
    project = trees.project
    kconfig_trees.write(project / "tools/patch.py", "when = 'before_sdkconfig'\n")
    kconfig_trees.write(
        project / "patches/patch_list.ini",
        "[menu.patch]\npath = esp-idf\n[source.patch]\npath = esp-idf\n"
        "[later.patch]\npath = esp-idf\nwhen = after_sdkconfig\n",
    )
    kconfig_trees.write(project / "patches/menu.patch", PATCH)
    kconfig_trees.write(project / "patches/later.patch", PATCH.replace("The system", "Another"))
    source = PATCH.replace("Kconfig", "CMakeLists.txt").replace('menu "System"', "idf_component_register()")
    kconfig_trees.write(project / "patches/source.patch", source.split("@@")[0] + "@@ -1 +1 @@\n-a\n+b\n")
    return trees


def test_patches_that_change_kconfig_files_are_missed(patched: kconfig_trees.Trees, cli, tmp_path) -> None:
    args = ("sdkconfig", "resolve", "--project", patched.project, "--idf", patched.idf)
    resolve = (*args, "--module", "MINI-1", "-o", tmp_path / "out")
    done = cli(*resolve)
    assert done.status == 0
    assert f"{patched.idf}: not applied to it: menu.patch of the checkout" in done.err
    assert "source.patch" not in done.err
    assert "later.patch" not in done.err
    file = patched.idf / "components/system/Kconfig"
    file.write_text(file.read_text().replace('menu "System"', 'menu "The system"'))
    assert "menu.patch" not in cli(*resolve).err
    kconfig_trees.write(patched.project / "patches/patch_list.ini", "no list")
    done = cli(*resolve)
    assert done.status == 0, "what cannot be told is no reason to stop"
    assert "whether its patches are applied cannot be told" in done.err

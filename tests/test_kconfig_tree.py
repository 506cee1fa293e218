"""Finding the Kconfig files of an ESP-IDF and an esp-at checkout."""

from __future__ import annotations

import pytest
from kconfig_trees import make_trees, write

from esp_at_tools.errors import EspAtError, InputError
from esp_at_tools.kconfig.tree import find_tree, idf_version


@pytest.fixture
def trees(tmp_path):
    return make_trees(tmp_path)


def find(trees, chip="esp32c3", **environment):
    return find_tree(trees.project, trees.idf, chip, environment=environment)


def test_finds_the_files_in_the_order_of_the_official_build(trees):
    tree = find(trees)
    assert tree.idf_version == "5.4.9"
    assert tree.root == trees.idf / "Kconfig"
    assert list(tree.kconfigs) == [
        trees.idf / "components/system/Kconfig",
        trees.project / "main/Kconfig",
        trees.project / "bootloader_components/extra/Kconfig",
    ]
    assert list(tree.projbuilds) == [trees.project / "components/customized_partitions/Kconfig.projbuild"]
    assert list(tree.renames) == [
        trees.idf / "sdkconfig.rename",
        trees.idf / "components/system/sdkconfig.rename.esp32c3",
        trees.project / "main/sdkconfig.rename",
    ]


def test_renames_of_another_chip_are_not_read(trees):
    assert find(trees, "esp32c6").renames[1] == trees.project / "main/sdkconfig.rename"


def test_components_of_the_user(trees, tmp_path):
    alone = trees.component(tmp_path / "alone", "config ALONE\n    bool\n")
    trees.component(trees.project / "more/b", "config B\n    bool\n")
    trees.component(trees.project / "more/a", "config A\n    bool\n")
    trees.component(trees.project / "managed_components/espressif__mdns", "config MDNS\n    bool\n")
    found = find(trees, AT_CUSTOM_COMPONENTS=f"  more   {alone} ").kconfigs
    assert [path.parent.name for path in found] == [
        "system", "main", "a", "b", "alone", "espressif__mdns", "extra",
    ]  # fmt: skip


def test_a_component_of_the_project_takes_the_place_of_one_of_esp_idf(trees):
    trees.component(trees.idf / "components/zlib", "config Z\n    bool\n")
    own = trees.component(trees.project / "components/system", "config OWN\n    bool\n")
    found = find(trees).kconfigs
    assert found[0] == own / "Kconfig"
    assert [path.parent.name for path in found] == ["system", "zlib", "main", "extra"]


def test_rainmaker(trees):
    with pytest.raises(InputError, match="AT_RAINMAKER_SUPPORT is set"):
        find(trees, AT_RAINMAKER_SUPPORT="1")
    trees.component(
        trees.project / "components/rainmaker/esp-rainmaker/components/rmaker", "config R\n    bool\n"
    )
    names = [path.parent.name for path in find(trees, AT_RAINMAKER_SUPPORT="1").kconfigs]
    assert names == ["system", "main", "rmaker", "extra"]
    assert "rmaker" not in [path.parent.name for path in find(trees).kconfigs]


def test_what_is_missing_is_one_message(trees, tmp_path):
    project, idf = trees.project, trees.idf
    for call, said in (
        (lambda: find_tree(project, tmp_path / "no", "esp32c3"), "no: no such folder"),
        (lambda: find_tree(project, project, "esp32c3"), "is no ESP-IDF"),
        (lambda: find_tree(tmp_path / "no", idf, "esp32c3"), "no: no such folder"),
        (lambda: find_tree(project, idf, "esp32p9"), "ESP-IDF 5.4.9 does not know the chip esp32p9"),
        (
            lambda: find(trees, AT_CUSTOM_COMPONENTS="nowhere"),
            "AT_CUSTOM_COMPONENTS: .*nowhere: no such folder",
        ),
    ):
        with pytest.raises(InputError, match=said) as caught:
            call()
        assert caught.value.hint


def test_a_version_that_cannot_be_read(trees):
    assert idf_version(trees.idf) == "5.4.9"
    write(trees.idf / "tools/cmake/version.cmake", "set(IDF_VERSION_MAJOR 5)\n")
    with pytest.raises(InputError, match="does not tell the version"):
        idf_version(trees.idf)


@pytest.mark.parametrize("name", ['a"b', "a$HOME", "a\nb"])
def test_a_folder_whose_name_would_be_read_as_kconfig(trees, name):
    try:
        trees.component(trees.project / "components" / name, "config X\n    bool\n")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(EspAtError, match="cannot stand in a Kconfig file"):
        find(trees)

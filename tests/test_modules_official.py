"""Module definitions come to what the official tree says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from conftest import SHARED

from esp_at_tools.catalog.data import data_folder
from esp_at_tools.catalog.modules import module, modules
from esp_at_tools.catalog.releases import releases

TREE = SHARED / "esp-at" / "v5.0.1.0"
PATHS = (
    "PARTITION_TABLE_CUSTOM_FILENAME",
    "PARTITION_TABLE_FILENAME",
    "AT_CUSTOMIZED_PARTITION_TABLE_FILE",
)
NAMES = tuple(each.full_name for each in modules())
every_module = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="session")
def official(shared: Path) -> dict[str, dict[str, str]]:
    """What the official scripts resolve for each module of esp-at v5.0.1.0."""
    index = shared / "esp-at" / "v5.0.1.0" / "expected" / "index.json"
    return json.loads(index.read_text("utf-8"))


def read_defaults(path: Path) -> dict[str, str]:
    """Return what an sdkconfig or its defaults say: the last line about an option counts."""
    options = {}
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("CONFIG_"):
            name, _, value = line.partition("=")
            options[name.removeprefix("CONFIG_")] = value
        elif line.startswith("# CONFIG_") and line.endswith(" is not set"):
            options[line.split()[1].removeprefix("CONFIG_")] = "n"
    return options


# --- against the official tree --------------------------------------------------------------------------


def test_the_modules_are_the_official_ones(official) -> None:
    assert [each.removeprefix("PLATFORM_") for each in official] == list(NAMES)
    assert len(NAMES) == 23


@every_module
@pytest.mark.parametrize("silence", [False, True], ids=["normal", "silence"])
def test_defaults_are_the_official_ones(official, tmp_path, name: str, silence: bool) -> None:
    folder = TREE / official[f"PLATFORM_{name}"]["module_config"]
    wanted = read_defaults(folder / ("sdkconfig_silence.defaults" if silence else "sdkconfig.defaults"))
    rendered = tmp_path / "sdkconfig.defaults"
    rendered.write_text(module(name, silence=silence).sdkconfig_defaults())
    found = read_defaults(rendered)
    assert rendered.read_text().count("\nCONFIG_") == len(found)  # no option stands there twice
    own = f'"module_config/module_{name.partition("/")[2].lower()}/'
    for path in PATHS:
        assert Path(wanted.pop(path)).name == Path(found[path]).name
        assert found.pop(path).startswith(own)
    assert found == wanted


@every_module
def test_tables_are_the_official_ones(official, name: str) -> None:
    del official
    expected = TREE / "expected" / f"PLATFORM_{name}"
    assert module(name).primary.to_bytes() == (expected / "partition-table.bin").read_bytes()
    assert module(name).secondary.to_bytes() == (expected / "at_customize.bin").read_bytes()


@every_module
def test_flash_and_places_are_the_official_ones(official, name: str) -> None:
    known, wanted = module(name), official[f"PLATFORM_{name}"]
    flash = known.flash
    assert (flash.mode, flash.freq, flash.size_name) == tuple(
        wanted[key] for key in ("flash_mode", "flash_freq", "flash_size")
    )
    assert flash.size == int(wanted["flash_size"].removesuffix("MB")) << 20
    assert hex(known.partition_table_offset) == wanted["partition_table_offset"]
    assert known.options["AT_CUSTOMIZED_PARTITION_TABLE_OFFSET"].value == wanted["at_customize_offset"]
    assert known.primary.md5 == wanted["md5"]
    mfg_nvs = known.secondary.find("mfg_nvs")
    assert mfg_nvs is not None
    assert (hex(mfg_nvs.offset), f"{mfg_nvs.size >> 10}K") == (
        wanted["mfg_nvs_offset"],
        wanted["mfg_nvs_size"],
    )


def test_parameters_are_the_official_ones(official) -> None:
    del official
    raw = TREE / "components" / "customized_partitions" / "raw_data" / "factory_param"
    with (raw / "factory_param_data.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    types = [
        line.split(",")
        for line in (raw / "factory_param_type.csv").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert len(rows) == len(NAMES)
    for row, known in zip(rows, modules(), strict=True):
        assert known.description == row.pop("description")
        assert known.platform == row.pop("platform")
        assert [[name, "data", type_] for name, type_ in known.parameter_types.items()] == types
        assert list(known.parameters) == [name for name, _, _ in types]
        assert {name: str(value) for name, value in known.parameters.items()} == row


def test_the_columns_of_our_table_are_the_official_ones(official) -> None:
    del official
    raw = TREE / "components" / "customized_partitions" / "raw_data" / "factory_param"
    for name in ("factory_param_data.csv",):
        first = (raw / name).read_text("utf-8").splitlines()[0]
        assert (data_folder() / name).read_text("utf-8").splitlines()[0] == first


@every_module
def test_idf_pins_are_the_official_ones(official, name: str) -> None:
    path = TREE / official[f"PLATFORM_{name}"]["module_config"] / "IDF_VERSION"
    lines = dict(line.split(":", 1) for line in path.read_text("utf-8").splitlines() if line)
    pin = module(name).idf
    assert {"branch": pin.branch, "commit": pin.commit, "repository": pin.repository} == lines


def test_submodules_are_the_official_ones(official) -> None:
    for name in NAMES:
        path = TREE / official[f"PLATFORM_{name}"]["module_config"] / "submodules"
        pairs = []
        if path.is_file():
            pairs = [line.split("=", 1) for line in path.read_text("utf-8").splitlines() if "=" in line]
        wanted = {key.strip(): value.strip() for key, value in pairs}
        found = module(name).submodules
        assert len(found) == bool(wanted)
        for each in found:
            assert (each.path, each.repository, each.branch, each.commit) == (
                wanted["path"],
                wanted["url"],
                wanted["branch"],
                wanted["commit"],
            )


@every_module
def test_features_are_what_the_kconfig_resolves(official, name: str) -> None:
    del official
    resolved = read_defaults(TREE / "expected" / f"PLATFORM_{name}" / "sdkconfig")
    features = {**module(name).features}
    from esp_at_tools.catalog.modules import _definitions

    # The option is one of a managed component, which the recorded Kconfig tree does not have.
    features.pop("compressed_ota")
    options = {each: _definitions(None).features[each].option for each in features}
    found = {each: state.is_on for each, state in features.items() if options[each]}
    assert found == {each: resolved.get(options[each], "n") == "y" for each in found}
    assert len(found) > 15


@every_module
def test_namespaces_are_those_of_the_official_partition(official, name: str) -> None:
    del official
    path = TREE / "expected" / f"PLATFORM_{name}" / "mfg_nvs.csv"
    wanted = [line.split(",")[0] for line in path.read_text("utf-8").splitlines() if ",namespace," in line]
    assert list(module(name).mfg_nvs) == wanted


def test_releases_are_the_official_ones(shared) -> None:
    path = shared / "esp-at" / "releases.tsv"
    with path.open(encoding="utf-8", newline="") as stream:
        wanted = {
            (f"PLATFORM_{row['chip'].upper()}", row["version"], row["url"], row["note"] == "recommended")
            for row in csv.DictReader(stream, delimiter="\t")
        }
    assert {(each.platform, each.version, each.address, each.recommended) for each in releases()} == wanted
    assert len(releases()) == len(wanted)
    for each in releases():  # the address names the module too
        plain = each.address.rpartition("/")[2].replace("-", "").replace("_", "").upper()
        assert each.module_name.removesuffix("-1").replace("-", "") in plain
        assert module(f"{each.platform}/{each.module_name}").name == each.module_name

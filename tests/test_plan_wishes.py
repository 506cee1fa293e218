"""Sizes of partitions that no firmware could use, and what is said of those that do not fit."""

from __future__ import annotations

import builders
import pytest

from esp_at_tools.build.customise import customise
from esp_at_tools.build.from_definitions import recipe_from_definitions
from esp_at_tools.build.from_release import recipe_from_release
from esp_at_tools.build.options import Options
from esp_at_tools.build.recipe import Recipe
from esp_at_tools.errors import InputError

K = 1 << 10


def refused(recipe: Recipe, **wishes: int) -> InputError:
    with pytest.raises(InputError) as caught:
        customise(recipe, Options(partition_sizes=wishes))
    return caught.value


@pytest.fixture(scope="module")
def legacy(tmp_path_factory) -> Recipe:
    return recipe_from_release(builders.legacy_release(tmp_path_factory.mktemp("legacy")), None, Options())


@pytest.fixture(scope="module")
def definition() -> Recipe:
    return recipe_from_definitions("ESP32C3/MINI-1", Options())


def test_a_firmware_that_reads_factory_param_gets_no_mfg_nvs(legacy):
    error = refused(legacy, mfg_nvs=256 * K)
    assert "keeps its settings in factory_param" in error.message
    assert "v3.0" in error.hint
    assert "migrate" in error.hint
    other = customise(legacy, Options(partition_sizes={"foo": 64 * K}))
    assert other.secondary.find("foo").size == 64 * K
    assert "factory_param cannot be removed" in refused(legacy, factory_param=0).message


def test_a_firmware_that_reads_mfg_nvs_gets_no_factory_param(definition):
    assert "keeps its settings in mfg_nvs" in refused(definition, factory_param=4 * K).message


def test_a_slot_that_no_application_fits_is_refused(definition):
    error = refused(definition, ota_0=64 * K)
    assert error.message == (
        "ota_0: 64 KB is too small for any application of AT: the smallest official one has 844288 bytes"
    )
    assert error.hint == "give 1408 KB, as one for this chip is likely to need; 832 KB at least"


def test_a_small_slot_is_not_said_to_keep_more_than_it_has(definition):
    said = " ".join(customise(definition, Options(partition_sizes={"ota_0": 1024 * K})).warnings)
    assert "up to 1024 KB instead of 1856 KB" in said
    assert "likely to need 1392 KB" in said
    assert "were kept" not in said


def test_a_partition_that_is_too_large_is_told_how_large_it_can_be(definition):
    error = refused(definition, mfg_nvs=4096 * K)
    assert "smaller" not in error.hint
    most = int(error.hint.partition("mfg_nvs=")[2].partition("K ")[0])
    fits = Options(partition_sizes={"mfg_nvs": most * K})
    assert customise(recipe_from_definitions("ESP32C3/MINI-1", fits), fits).secondary.find("mfg_nvs")
    refused(definition, mfg_nvs=(most + 4) * K)


@pytest.mark.parametrize(
    ("size", "why"), [(0, "mfg_nvs cannot be removed"), (8 * K, "mfg_nvs: 8 KB is too small")]
)
def test_a_build_words_a_size_of_mfg_nvs_as_a_new_module_does(cli, tmp_path, size, why):
    for args in (
        ["build", "-m", "ESP32C3/MINI-1", "-o", tmp_path / "out"],
        ["modules", "add", "MY", "--from", "ESP32C3/MINI-1", "--dir", tmp_path / "mine"],
    ):
        done = cli(*args, "--partition", f"mfg_nvs={size}")
        assert done.status == 2
        assert why in done.err

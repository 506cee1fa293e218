"""Which certificates and keys a firmware does not look for, as far as its sdkconfig or definition tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from esp_at_tools.build.options import Options
from esp_at_tools.build.recipe import Recipe
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.modern import PARTITION as MFG_NVS


def unread_items(
    recipe: Recipe, names: Iterable[str], *, defined: bool, asked: Options | None = None
) -> list[str]:
    """Return the items that the firmware would not read.

    Args:
        recipe: what is built; in the legacy layout its partitions tell what is read, and nothing is returned.
        names: the items to look at.
        defined: whether the recipe comes from the definitions of the catalogue.
        asked: what was asked of the definitions; by default nothing.

    Raises:
        InputError: the definitions cannot be read.
    """
    names, asked = list(names), asked or Options(silence=recipe.silence)
    if not names or MFG_NVS not in recipe.partitions:
        return []
    if recipe.sdkconfig:
        return unread_with(Sdkconfig.from_text(recipe.sdkconfig), names)
    if not defined:
        return []  # the defaults of a Kconfig that nobody has read
    from esp_at_tools.build.from_definitions import defined_module

    read = defined_module(recipe.full_name, asked).mfg_nvs
    options = _options()
    return [name for name in names if _option(options, name) and _known_as(name) not in read]


def unread_with(config: Sdkconfig, names: Iterable[str]) -> list[str]:
    """Return the items that a firmware of the modern layout does not read, compiled with this sdkconfig.

    Raises:
        InputError: the definitions of the catalogue cannot be read.
    """
    options = _options()
    return [name for name in names if (option := _option(options, name)) and not config.is_on(option)]


def _option(options: Mapping[str, str], name: str) -> str:
    return options.get(_known_as(name), "")


def _known_as(name: str) -> str:
    """Return the namespace of an item as the definitions have it: wpa_ent_ca was wpa2_ca before."""
    return PKI_ITEMS[name].group.replace("wpa_ent_", "wpa2_")


def _options() -> dict[str, str]:
    """Return namespace of ``mfg_nvs`` → the option with which a firmware reads it."""
    from esp_at_tools.catalog.data import data_folder
    from esp_at_tools.catalog.features import read_features
    from esp_at_tools.catalog.module_yaml import raise_errors

    features = read_features(data_folder() / "features.yaml", raise_errors)
    return {name: option for feature in features.values() for name, option in feature.mfg_nvs.items()}

"""What an sdkconfig comes to where nothing can resolve it: its own statements, and the known defaults.

Only the options that decide a configuration are known: those on which the contents of ``mfg_nvs`` depend
(their defaults and dependencies stand in ``module_config/features.yaml``), and those of the flash and of
the partition tables, which stand here. Everything else is left to Kconfig.

Sources: ``main/Kconfig`` and ``components/customized_partitions/Kconfig.projbuild`` of esp-at v3.1.0.0 to
v5.0.1.0, which agree in these options; ``components/esptool_py/Kconfig.projbuild``,
``components/partition_table/Kconfig.projbuild`` and ``components/spi_flash/*/Kconfig.flash_freq`` of
ESP-IDF v5.4.4.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

from esp_at_tools.catalog.chips import Chip
from esp_at_tools.catalog.data import data_folder
from esp_at_tools.catalog.features import OFF as FEATURE_OFF
from esp_at_tools.catalog.features import Feature, read_features
from esp_at_tools.catalog.module_yaml import raise_errors
from esp_at_tools.formats.sdkconfig import OFF, ON, Sdkconfig, quoted

PLAIN_DEFAULTS = {
    "PARTITION_TABLE_OFFSET": "0x8000",
    "PARTITION_TABLE_MD5": ON,
    "AT_CUSTOMIZED_PARTITION_TABLE_SUPPORT": ON,
    "AT_CUSTOMIZED_PARTITION_TABLE_FILE": quoted("at_customize.csv"),
    "AT_CUSTOMIZED_PARTITION_TABLE_OFFSET": "0x20000",
}
"""Options of the tables whose default depends on nothing."""

FLASH_MODES = {"QIO": "dio", "QOUT": "dio", "DIO": "dio", "DOUT": "dout", "OPI": "dout"}
"""The choice ESPTOOLPY_FLASHMODE → what the bootloader's header says, as the ROM knows no quad modes."""
DEFAULT_MODE = "dio"

FLASH_FREQS = {
    "120M": "80m", "80M": "80m", "64M": "48m", "60M": "60m", "48M": "48m", "40M": "40m", "32M": "24m",
    "30M": "30m", "26M": "26m", "24M": "24m", "20M": "20m", "16M": "12m", "15M": "20m",
}  # fmt: skip
"""The choice ESPTOOLPY_FLASHFREQ → the frequency in the header."""
DEFAULT_FREQS = {"esp32": "40m", "esp32c2": "60m"}
"""Chip → default frequency in the header, where it is not the usual one."""
USUAL_FREQ = "80m"

FLASH_SIZES = {f"{size}MB": f"{size}MB" for size in (1, 2, 4, 8, 16, 32, 64, 128)}
"""The choice ESPTOOLPY_FLASHSIZE → its text."""
DEFAULT_SIZE = "2MB"


def with_known_defaults(layers: Sequence[Sdkconfig], chip: Chip, options: Iterable[str]) -> Sdkconfig:
    """Return what some ``sdkconfig.defaults`` come to, as far as that is known.

    Args:
        layers: the files in their order; a later one overrides the earlier ones.
        chip: the chip.
        options: the options on which something depends, without ``CONFIG_``.

    Returns:
        The statements, with the options of the flash and of the tables, and those of ``options``
        that are known; an option that its dependencies hide is off, whatever is stated.
    """
    stated = functools.reduce(Sdkconfig.updated, layers, Sdkconfig({}))
    found = {**PLAIN_DEFAULTS, **stated.options, **_flash(layers, stated, chip)}
    if "PARTITION_TABLE_CUSTOM_FILENAME" in found:
        found.setdefault("PARTITION_TABLE_FILENAME", found["PARTITION_TABLE_CUSTOM_FILENAME"])
    known = _known_options()
    for option in options:
        if option in known:
            found[option] = _value(option, stated, chip)
    return Sdkconfig(found)


def _flash(layers: Sequence[Sdkconfig], stated: Sdkconfig, chip: Chip) -> dict[str, str]:
    freq = DEFAULT_FREQS.get(chip.name, USUAL_FREQ)
    choices = (
        ("ESPTOOLPY_FLASHMODE", FLASH_MODES, DEFAULT_MODE),
        ("ESPTOOLPY_FLASHFREQ", FLASH_FREQS, freq),
        ("ESPTOOLPY_FLASHSIZE", FLASH_SIZES, DEFAULT_SIZE),
    )
    return {
        option: quoted(_chosen(layers, stated, f"{option}_", texts, default))
        for option, texts, default in choices
    }


def _chosen(
    layers: Sequence[Sdkconfig], stated: Sdkconfig, prefix: str, texts: Mapping[str, str], default: str
) -> str:
    """Return the text of the member of a choice that was chosen last."""
    for layer in reversed(layers):
        chosen = [
            texts[name.removeprefix(prefix)]
            for name, value in layer.options.items()
            if name.startswith(prefix) and value == ON and name.removeprefix(prefix) in texts
            if stated.is_on(name)
        ]
        if chosen:
            return chosen[-1]
    return default


# --- the options of AT ----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _known_options() -> Mapping[str, tuple[Feature, str | None]]:
    """Return option → its feature, and its default where the feature alone does not decide it."""
    features = read_features(data_folder() / "features.yaml", raise_errors)
    known: dict[str, tuple[Feature, str | None]] = {}
    for feature in features.values():
        known |= {option: (feature, default) for option, default in feature.suboptions.items()}
        if feature.option:
            known[feature.option] = (feature, None)
    return known


@functools.lru_cache(maxsize=1)
def _options_of_features() -> Mapping[str, str]:
    return {feature.name: option for option, (feature, sub) in _known_options().items() if sub is None}


def _value(option: str, stated: Sdkconfig, chip: Chip) -> str:
    """Return what Kconfig makes of an option: off where one that it depends on is, else as stated."""
    feature, default = _known_options()[option]
    needed = [required.partition("=")[0] for required in feature.requires]
    above = [_options_of_features()[name] for name in needed if name in _options_of_features()]
    if default is None:
        default = OFF if feature.default_on(chip.name) in (FEATURE_OFF, "") else ON
    else:
        above.append(feature.option)
    if any(_value(each, stated, chip) != ON for each in above) or not feature.exists_on(chip.name):
        return OFF
    return stated.get(option) or default

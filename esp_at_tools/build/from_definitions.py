"""A build from nothing but the definitions of modules: its configuration, without an application."""

from __future__ import annotations

import dataclasses

from esp_at_tools.build.flash_settings import check_tables, check_target, flash_of, table_offset
from esp_at_tools.build.mfg_nvs import Contents, mfg_nvs
from esp_at_tools.build.options import Options
from esp_at_tools.build.recipe import Recipe
from esp_at_tools.catalog.at_options import unknown_at_option
from esp_at_tools.catalog.features import missing_partitions
from esp_at_tools.catalog.module_model import Module
from esp_at_tools.catalog.modules import features, module
from esp_at_tools.catalog.overlay import Overlay, parse_features
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.files import read_file
from esp_at_tools.formats.partition_checks import MIN_WRITABLE_NVS
from esp_at_tools.formats.partition_table import SECTOR_SIZE, PartitionTable
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.names import BLE_DATA

NO_APP = "no application is in it: --source with a release, an image or an esp-at checkout gives one"
NO_PKI = "no certificates or keys are in it: --pki DIR puts them in"

_MAX_SDKCONFIG = 1 << 22


def recipe_from_definitions(name: str, options: Options) -> Recipe:
    """Return the configuration of a module, from the definitions that come with the program.

    Certificates and keys are none of them. A resolved sdkconfig in ``options`` decides what is in
    ``mfg_nvs``, the settings of the flash, and where the primary table is.

    Args:
        name: as for :func:`esp_at_tools.catalog.modules.module`.
        options: ``silence``, ``module_folder``, ``sdkconfig`` and the size of ``mfg_nvs`` count here.

    Raises:
        InputError: there is no such module, its sdkconfig does not suit it, or ``mfg_nvs`` is too small.
        FormatError: a definition or the sdkconfig is wrong.
    """
    definition = defined_module(name, options)
    recipe = Recipe(
        platform=definition.platform,
        module=definition.name,
        description=definition.description,
        silence=options.silence,
        chip=definition.chip,
        flash=definition.flash,
        table_offset=definition.partition_table_offset,
        primary=definition.primary,
        secondary=definition.secondary,
        warnings=tuple(_unknown(options)),
        notes=(*_choices(definition, options), *((NO_APP,) if options.request.pki else (NO_APP, NO_PKI))),
    )
    has_ble = BLE_DATA in definition.mfg_nvs
    if options.sdkconfig is None:
        recipe = dataclasses.replace(recipe, sdkconfig_defaults=definition.sdkconfig_defaults())
    else:
        recipe, config = _with_sdkconfig(recipe, options)
        has_ble = config.is_on("AT_BLE_COMMAND_SUPPORT")
    contents = Contents({}, definition.parameters, definition.parameter_types, _gatts() if has_ble else ())
    size = options.partition_sizes.get(MFG_NVS, 0)
    if not writable(size):  # which the plan of the partitions refuses, if asked
        size = mfg_nvs_size(recipe.secondary, recipe.full_name)
    return dataclasses.replace(recipe, partitions={MFG_NVS: mfg_nvs(contents, size)})


def defined_module(name: str, options: Options) -> Module:
    """Return a module as it is defined, with the features and options of the sdkconfig that are asked for.

    Raises:
        InputError: there is no such module, feature or state, a feature needs one that is off or has no
            partition, or an sdkconfig is given too.
        FormatError: a definition is wrong.
    """
    silence, folder = options.silence, options.module_folder
    definition = module(name, silence=silence, folder=folder)
    if not options.features and not options.sdkconfig_options:
        return definition
    if options.sdkconfig is not None:
        raise InputError(
            f"--sdkconfig {options.sdkconfig}: says the features and options that it was resolved with",
            "leave out --feature and --set CONFIG_…, or --sdkconfig",
        )
    states = {feature: each.state for feature, each in definition.features.items()}
    known = features(folder)
    asked = parse_features(options.features, known, states, definition.chip.name)
    overlay = Overlay(features=asked, options=options.sdkconfig_options)
    changed = module(name, silence=silence, folder=folder, overlay=overlay)
    for each, state in asked.items():
        for role, names in missing_partitions(known[each], state, changed.primary, changed.secondary):
            if not any(options.partition_sizes.get(partition) for partition in names):
                raise InputError(
                    f"--feature {each}: there is no partition {' or '.join(names)} in the {role} table of"
                    f" {changed.full_name}",
                    "'esp-at-tool modules add' with the same --feature defines a module that has it",
                )
    return changed


def _choices(definition: Module, options: Options) -> list[str]:
    """Return what of a module was asked to be otherwise."""
    words = [word.strip().lstrip("+-").partition("=")[0] for word in options.features]
    said = [f"feature {name} is {definition.features[name].state}" for name in dict.fromkeys(words)]
    return said + [f"CONFIG_{name}={value}" for name, value in options.sdkconfig_options.items()]


def _unknown(options: Options) -> list[str]:
    """Return what is to be said of options that esp-at does not have."""
    found = [each for each in map(unknown_at_option, options.sdkconfig_options) if each is not None]
    return [f"{message} ({hint})" for message, hint in found]


def _with_sdkconfig(recipe: Recipe, options: Options) -> tuple[Recipe, Sdkconfig]:
    text, config = read_sdkconfig(options)
    name = str(options.sdkconfig)
    check_target(config, recipe.chip, name)
    primary = dataclasses.replace(recipe.primary, md5=config.is_on("PARTITION_TABLE_MD5"))
    check_tables(config, primary, name)
    decided = dataclasses.replace(
        recipe,
        flash=flash_of(config, recipe.chip, name),
        table_offset=table_offset(config, name),
        primary=primary,
        sdkconfig=text,
    )
    return decided, config


def _gatts() -> tuple[str, ...]:
    from esp_at_tools.catalog.default_gatts import default_gatt_rows

    return default_gatt_rows()


def read_sdkconfig(options: Options) -> tuple[str, Sdkconfig]:
    """Return the text and the options of the resolved sdkconfig that was given.

    Raises:
        InputError: the file cannot be read.
        FormatError: it is no sdkconfig.
    """
    assert options.sdkconfig is not None  # noqa: S101 - the callers ask first
    data = read_file(options.sdkconfig, "sdkconfig", _MAX_SDKCONFIG)
    config = Sdkconfig.from_bytes(data, str(options.sdkconfig))
    return data.decode(), config


def writable(size: int) -> bool:
    """Tell whether a size, in bytes, is one of an NVS partition that can be written."""
    return size >= MIN_WRITABLE_NVS and size % SECTOR_SIZE == 0


def mfg_nvs_size(secondary: PartitionTable, name: str) -> int:
    """Return the bytes of ``mfg_nvs``.

    Raises:
        FormatError: the secondary table has no such partition.
    """
    found = secondary.find(MFG_NVS)
    if found is None:
        raise FormatError(
            f"the secondary partition table of {name} has no {MFG_NVS}",
            "add one of type data, sub-type nvs: the firmware reads its settings there",
        )
    return found.size

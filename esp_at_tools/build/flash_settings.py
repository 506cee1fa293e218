"""What an sdkconfig decides about the flash: size, mode, frequency, and where the tables are."""

from __future__ import annotations

import re

from esp_at_tools.catalog.chips import Chip
from esp_at_tools.catalog.module_model import Flash
from esp_at_tools.errors import InputError
from esp_at_tools.formats.partition_table import AT_CUSTOMIZE, DATA, PartitionTable
from esp_at_tools.formats.sdkconfig import OFF, Sdkconfig

_SIZE = re.compile(r"([1-9][0-9]{0,2})MB")
_SUPPORT = "AT_CUSTOMIZED_PARTITION_TABLE_SUPPORT"
_COMPRESSED_V2 = ("BOOTLOADER_COMPRESSED_ENABLED", "ENABLE_LEGACY_ESP_BOOTLOADER_PLUS_V2_SUPPORT")
_COMPRESSED_SUBTYPE = 0x22


def flash_of(config: Sdkconfig, chip: Chip, name: str) -> Flash:
    """Return the flash that an sdkconfig is for.

    Args:
        config: a resolved sdkconfig.
        chip: the chip.
        name: of the sdkconfig, for messages.

    Raises:
        InputError: it does not say, or says what the chip cannot have.
    """
    text = config.string("ESPTOOLPY_FLASHSIZE")
    size = _SIZE.fullmatch(text)
    if size is None:
        raise _unknown(name, "ESPTOOLPY_FLASHSIZE", text, "1MB to 128MB")
    mode = config.string("ESPTOOLPY_FLASHMODE")
    if mode not in chip.flash_modes:
        raise _unknown(name, "ESPTOOLPY_FLASHMODE", mode, f"one of {', '.join(chip.flash_modes)}")
    freq = config.string("ESPTOOLPY_FLASHFREQ")
    if freq not in chip.flash_freqs:
        raise _unknown(name, "ESPTOOLPY_FLASHFREQ", freq, f"one of {', '.join(chip.flash_freqs)}")
    return Flash(int(size[1]) << 20, mode, freq)


def table_offset(config: Sdkconfig, name: str) -> int:
    """Return the address of the primary partition table.

    Raises:
        InputError: the sdkconfig does not say it.
    """
    offset = config.number("PARTITION_TABLE_OFFSET")
    if offset is None or offset < 0:
        text = config.get("PARTITION_TABLE_OFFSET") or ""
        raise _unknown(name, "PARTITION_TABLE_OFFSET", text, "an address, 0x8000 as a rule")
    return offset


def check_target(config: Sdkconfig, chip: Chip, name: str) -> None:
    """Refuse an sdkconfig for another chip.

    Raises:
        InputError: it names another.
    """
    target = config.string("IDF_TARGET")
    stated = [
        option.removeprefix("IDF_TARGET_").lower()
        for option, value in config.options.items()
        if value == "y" and re.fullmatch("IDF_TARGET_ESP[0-9A-Z]+", option)
    ]
    other = target if target not in ("", chip.name) else ""
    if not target and stated and chip.name not in stated:
        other = stated[-1]
    if other:
        raise InputError(
            f"{name}: is for {other[:40]}, and the module has an {chip.title}",
            "give the sdkconfig of this module",
        )


def check_tables(config: Sdkconfig, primary: PartitionTable, name: str) -> None:
    """Refuse a primary table that does not have what the sdkconfig says.

    Besides the place of the secondary table this is the rule of ``tools/at_sanity_checker.py`` of esp-at
    v5.0.1.0: compressed updates in the format v2 need a partition of type data, sub-type 0x22.

    Raises:
        InputError: they disagree.
    """
    if config.get(_SUPPORT) == OFF:
        raise InputError(
            f"{name}: CONFIG_{_SUPPORT} is off: the firmware would have no place for its settings",
            "switch it on",
        )
    home = primary.find(AT_CUSTOMIZE)
    offset = config.number("AT_CUSTOMIZED_PARTITION_TABLE_OFFSET")
    if home is not None and offset is not None and offset != home.offset:
        raise InputError(
            f"{name}: CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_OFFSET is {offset:#x}, and the primary partition"
            f" table has {AT_CUSTOMIZE} at {home.offset:#x}",
            "the firmware looks for the secondary table at the one, and it is flashed to the other: make"
            " them agree",
        )
    v2 = all(config.is_on(option) for option in _COMPRESSED_V2)
    if v2 and not primary.of_type(DATA, _COMPRESSED_SUBTYPE):
        raise InputError(
            f"{name}: compressed updates in the format v2 are on, and the primary partition table has no"
            " partition of type data, sub-type 0x22 for them",
            f"add one, or leave out CONFIG_{_COMPRESSED_V2[1]} for the format v3",
        )


def _unknown(name: str, option: str, text: str, known: str) -> InputError:
    what = f"CONFIG_{option} is {text[:40]!r}" if text else f"CONFIG_{option} is missing"
    return InputError(f"{name}: {what}", f"it is {known} in a resolved sdkconfig")

"""What a build folder is made of, whatever it comes from: built-in definitions, a source tree, a release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from esp_at_tools.catalog.chips import Chip
from esp_at_tools.catalog.module_model import Flash
from esp_at_tools.formats.partition_table import PartitionTable


@dataclass(frozen=True)
class UserPartition:
    """The contents of a partition of the secondary table.

    Attributes:
        data: its bytes; what is left of the partition is 0xFF.
        private: whether private keys are in it.
        csv: the text that it was made of and that stands beside it, ``""`` for none.
    """

    data: bytes
    private: bool = False
    csv: str = ""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the contents of a build folder.

    Attributes:
        platform: ``PLATFORM_ESP32C3``.
        module: ``MINI-1``.
        description: what the official list of modules says about it.
        silence: whether it is the variant without log.
        chip: the chip.
        flash: size, mode and frequency.
        table_offset: address of the primary table, in bytes.
        primary: the primary table.
        secondary: the table in ``at_customize``.
        partitions: name → contents of a user partition: ``mfg_nvs``, ``fatfs``, and in the legacy
            layout ``factory_param``, ``client_cert``, …; those that are not named stay blank.
        sdkconfig: text of the resolved ``sdkconfig``, ``""`` where only its defaults are known.
        sdkconfig_defaults: text of the ``sdkconfig.defaults``, ``""`` where there is a resolved one.
        bootloader: the bootloader's image, ``b""`` in a configuration without application.
        app: the application's image, ``b""`` likewise.
        notes: what the user should know about where it comes from and what is not in it.
        warnings: what is questionable about it.
    """

    platform: str
    module: str
    description: str
    silence: bool
    chip: Chip
    flash: Flash
    table_offset: int
    primary: PartitionTable
    secondary: PartitionTable
    partitions: Mapping[str, UserPartition] = field(default_factory=dict)
    sdkconfig: str = ""
    sdkconfig_defaults: str = ""
    bootloader: bytes = b""
    app: bytes = b""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """``ESP32C3/MINI-1``."""
        return f"{self.platform.removeprefix('PLATFORM_')}/{self.module}"

    @property
    def has_app(self) -> bool:
        """Whether it is a firmware that runs, and not the configuration of one."""
        return bool(self.app)

"""What a module definition comes to: everything that is decided for one module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from esp_at_tools.catalog.chips import Chip
from esp_at_tools.catalog.factory_params import Value
from esp_at_tools.catalog.features import OFF, Submodule
from esp_at_tools.catalog.releases import IdfPin, Release
from esp_at_tools.formats.partition_table import PartitionTable

KCONFIG = "Kconfig"
"""The layer of what no definition says: the default in esp-at's Kconfig files."""


@dataclass(frozen=True)
class Flash:
    """The flash that a module has, as its bootloader's header will say.

    Attributes:
        size: bytes.
        mode: ``dio``, ``qio``, ….
        freq: ``40m``, ….
    """

    size: int
    mode: str
    freq: str

    @property
    def size_name(self) -> str:
        """The size as sdkconfig and esptool write it: ``4MB``."""
        return f"{self.size >> 20}MB"


@dataclass(frozen=True)
class Option:
    """One option of the sdkconfig.

    Attributes:
        value: as in an sdkconfig, strings in quotes.
        layer: the layer that says so.
        feature: the feature through which it says so, ``""`` where it names the option itself.
    """

    value: str
    layer: str
    feature: str = ""


@dataclass(frozen=True)
class FeatureState:
    """Whether a feature is in the firmware.

    Attributes:
        state: ``on``, ``off``, or the name of an alternative; ``""`` where nothing says.
        layer: the layer that decides, ``Kconfig`` where none does.
        missing: what it requires that is not there, ``""`` if nothing; it is off then.
        about: what it is.
    """

    state: str
    layer: str
    missing: str
    about: str

    @property
    def is_on(self) -> bool:
        """Whether it is in the firmware."""
        return self.state not in (OFF, "")


@dataclass(frozen=True)
class Module:
    """Everything that is decided for one module.

    Attributes:
        platform: ``PLATFORM_ESP32C3``.
        name: ``MINI-1``.
        chip: the chip.
        description: what the official tools show for it.
        silence: whether it is the variant without log.
        flash: size, mode and frequency.
        parameters: the settings that it leaves the factory with, name → value.
        parameter_types: their NVS types.
        options: option of the sdkconfig, without ``CONFIG_`` → value; others are left to their Kconfig.
        partition_table_offset: where the primary table is in flash.
        primary: the primary table.
        primary_name: name of its file in ``partitions/``.
        secondary: the table in ``at_customize``.
        secondary_name: name of its file.
        mfg_nvs: the namespaces that ``mfg_nvs`` holds, in the official order.
        features: name → state, for all that the chip can have.
        submodules: repositories that must be cloned beside ESP-IDF.
        releases: the official releases, the newest first.
        idf: the ESP-IDF that it is built with.
        layers: the layers from the lowest to the highest.
        sources: ``flash.size``, ``idf``, ``partitions.primary``, … → the layer that says so.
    """

    platform: str
    name: str
    chip: Chip
    description: str
    silence: bool
    flash: Flash
    parameters: Mapping[str, Value]
    parameter_types: Mapping[str, str]
    options: Mapping[str, Option]
    partition_table_offset: int
    primary: PartitionTable
    primary_name: str
    secondary: PartitionTable
    secondary_name: str
    mfg_nvs: tuple[str, ...]
    features: Mapping[str, FeatureState]
    submodules: tuple[Submodule, ...]
    releases: tuple[Release, ...]
    idf: IdfPin
    layers: tuple[str, ...]
    sources: Mapping[str, str]

    @property
    def full_name(self) -> str:
        """``ESP32C3/MINI-1``."""
        return f"{self.platform.removeprefix('PLATFORM_')}/{self.name}"

    @property
    def recommended_release(self) -> Release | None:
        """The release that Espressif recommends, else None."""
        return next((release for release in self.releases if release.recommended), None)

    def sdkconfig_defaults(self) -> str:
        """Return the options as the text of an ``sdkconfig.defaults``, layer by layer, feature by feature."""
        places = {layer: number for number, layer in enumerate(self.layers)}
        groups: dict[tuple[int, str], list[str]] = {}
        for name, option in self.options.items():
            source = f"{option.layer}: {option.feature}" if option.feature else option.layer
            group = groups.setdefault((places.get(option.layer, -1), source), [f"# {source}"])
            group.append(f"CONFIG_{name}={option.value}")
        ordered = sorted(groups, key=lambda key: key[0])  # stable: within a layer as they were said
        return "\n".join("\n".join((*groups[key], "")) for key in ordered)

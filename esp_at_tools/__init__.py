"""Inspect, patch, compare and flash ESP-AT firmware.

The names below are the public API. They load on first use, so that importing the package
costs nothing::

    from esp_at_tools import Firmware

    firmware = Firmware.open("factory_MINI-1.bin")
    firmware.set("uart_baudrate", 921600)
    firmware.set_pki("mqtt_ca", Path("ca.pem").read_bytes())
    firmware.write("out.bin")

    from esp_at_tools import build_module, module

    module("ESP32C3/MINI-1").parameters["uart_tx_pin"]
    build_module("ESP32C3/MINI-1", "build", source="latest", settings={"uart_baudrate": 921600})
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esp_at_tools.build.job import Built as Built
    from esp_at_tools.build.module_build import build_module as build_module
    from esp_at_tools.catalog.chips import Chip as Chip
    from esp_at_tools.catalog.module_model import Module as Module
    from esp_at_tools.catalog.modules import module as module
    from esp_at_tools.catalog.modules import modules as modules
    from esp_at_tools.errors import CheckFailedError as CheckFailedError
    from esp_at_tools.errors import EspAtError as EspAtError
    from esp_at_tools.errors import FormatError as FormatError
    from esp_at_tools.errors import InputError as InputError
    from esp_at_tools.errors import RiskyValueError as RiskyValueError
    from esp_at_tools.firmware.firmware import Firmware as Firmware
    from esp_at_tools.formats.nvs import NvsEntry as NvsEntry
    from esp_at_tools.formats.nvs import NvsPartition as NvsPartition
    from esp_at_tools.formats.partition_table import Partition as Partition
    from esp_at_tools.formats.partition_table import PartitionTable as PartitionTable
    from esp_at_tools.settings.profile import Profile as Profile

__version__ = "0.1.0"

_HOME = {
    "Built": "build.job",
    "CheckFailedError": "errors",
    "Chip": "catalog.chips",
    "EspAtError": "errors",
    "Firmware": "firmware.firmware",
    "FormatError": "errors",
    "InputError": "errors",
    "Module": "catalog.module_model",
    "NvsEntry": "formats.nvs",
    "NvsPartition": "formats.nvs",
    "Partition": "formats.partition_table",
    "PartitionTable": "formats.partition_table",
    "Profile": "settings.profile",
    "RiskyValueError": "errors",
    "build_module": "build.module_build",
    "module": "catalog.modules",
    "modules": "catalog.modules",
}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604 - the names are strings, ruff cannot see it


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)

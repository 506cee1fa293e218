"""What a layout can do, whichever of the two it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from esp_at_tools.errors import InputError
from esp_at_tools.settings.names import SETTINGS

_LATER = ("sys_store",)
"""Settings that came with a later version: v5.0 reads them, v3 and v4 have no use for them."""

LayoutName = Literal["modern", "legacy"]
Value = int | str


class Layout(Protocol):
    """Settings, PKI items and GATT rows of one firmware, by their official names.

    A change is kept in memory; :meth:`contents` gives the partitions as they are now.
    """

    name: LayoutName

    def settings(self) -> dict[str, Value]:
        """Return every setting that is present, in the layout's own order."""

    def pki(self) -> dict[str, bytes]:
        """Return every certificate and key that is present, by name."""

    def gatts(self) -> dict[str, str]:
        """Return the rows of the GATT table, ``cfgN`` → text, by number."""

    def pki_groups(self) -> dict[str, str]:
        """Return the namespace (modern) or partition (legacy) of every PKI item present."""

    def check_holds(self, name: str) -> None:
        """Raise the InputError that says why this firmware has no place for a setting, item or row."""

    def set_setting(self, name: str, value: Value) -> None:
        """Set one setting; one that the layout cannot hold is an InputError that says why."""

    def set_pki(self, name: str, data: bytes) -> None:
        """Set one certificate or key to these bytes."""

    def set_gatt(self, name: str, row: str) -> None:
        """Set one row of the GATT table."""

    def unset(self, name: str) -> None:
        """Remove a setting, PKI item or GATT row."""

    def contents(self) -> Mapping[str, bytes]:
        """Return the contents of the partitions by name, each as long as it was or as it must be."""


def missing_settings(layout: Layout) -> list[str]:
    """Return the settings that every official firmware of a layout has and this one has not."""
    if layout.name == "legacy":
        return []  # its record has fixed fields
    present = layout.settings()
    needed = (name for name, setting in SETTINGS.items() if setting.nvs_type and name not in _LATER)
    return [name for name in needed if name not in present]


def cannot_hold(name: str, layout: str, reason: str, hint: str = "") -> InputError:
    """Return the error for a name that a layout has no place for."""
    return InputError(f"{name}: this firmware's {layout} layout cannot hold it: {reason}", hint)

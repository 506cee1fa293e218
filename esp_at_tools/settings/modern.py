"""The modern layout: everything in the NVS partition ``mfg_nvs`` (AT firmware v3.0 and later)."""

from __future__ import annotations

from collections.abc import Mapping

from esp_at_tools.errors import InputError
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.nvs.model import NvsEntry, NvsType
from esp_at_tools.pki.names import PKI_GROUPS, PKI_ITEMS
from esp_at_tools.settings.layout import LayoutName, Value, cannot_hold
from esp_at_tools.settings.names import BLE_DATA, FACTORY_PARAM, SETTINGS, gatt_row_index

PARTITION = "mfg_nvs"

_ROLES = ("server", "client", "wpa_ent", "wpa2", "mqtt", "https", "wss")
PKI_ORDER = tuple(f"{role}_{kind}" for role in _ROLES for kind in ("cert", "key", "ca"))
"""The namespaces of certificates and keys in the order in which esp-at's build writes them.

Source: ``at_customized_config_dependency.txt`` of esp-at v5.0.1.0.
"""

_SETTING_ORDER = tuple(name for name, setting in SETTINGS.items() if setting.nvs_type)
_GROUP_ORDER = {
    group: tuple(item.name for item in PKI_ITEMS.values() if item.group == group) for group in PKI_GROUPS
}


def _is_pki(entry: NvsEntry) -> bool:
    """Tell whether an entry is a PKI item; the firmware reads one only in its own namespace."""
    item = PKI_ITEMS.get(entry.key)
    return entry.namespace in PKI_GROUPS and (item is None or item.group == entry.namespace)


def _as_bytes(value: Value | bytes) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return value if isinstance(value, bytes) else str(value).encode()


class ModernLayout:
    """Settings, PKI items and GATT rows as entries of ``mfg_nvs``.

    Args:
        nvs: the partition; changes are made in it.
    """

    name: LayoutName = "modern"

    def __init__(self, nvs: NvsPartition) -> None:
        """Work on ``nvs``."""
        self.nvs = nvs

    def _entries(self, namespace: str) -> list[NvsEntry]:
        return [entry for entry in self.nvs.entries if entry.namespace == namespace]

    def settings(self) -> dict[str, Value]:
        """Return the entries of ``factory_param``; unknown ones of a plain type too."""
        return {
            entry.key: entry.value
            for entry in self._entries(FACTORY_PARAM)
            if not isinstance(entry.value, bytes)
        }

    def pki(self) -> dict[str, bytes]:
        """Return every entry of the PKI namespaces that holds bytes or text."""
        return {
            entry.key: _as_bytes(entry.value)
            for entry in self.nvs.entries
            if _is_pki(entry) and not isinstance(entry.value, int)
        }

    def pki_groups(self) -> dict[str, str]:
        """Return the namespace of every PKI item."""
        return {entry.key: entry.namespace for entry in self.nvs.entries if _is_pki(entry)}

    def gatts(self) -> dict[str, str]:
        """Return the entries ``cfgN`` of ``ble_data``, sorted by number."""
        rows = {}
        for entry in self._entries(BLE_DATA):
            index = gatt_row_index(entry.key)
            if index is not None and isinstance(entry.value, str):
                rows[index] = entry.value
        return {f"cfg{index}": rows[index] for index in sorted(rows)}

    def check_holds(self, name: str) -> None:
        """Raise for what only the legacy record has; NVS takes everything else."""
        if name in SETTINGS and not SETTINGS[name].nvs_type:
            raise cannot_hold(name, self.name, "only the older layout has this field", "leave it out")

    def set_setting(self, name: str, value: Value) -> None:
        """Set an entry of ``factory_param``, with the type that it has or the official one."""
        self.check_holds(name)
        nvs_type = self._type_of(name, SETTINGS[name].nvs_type)
        self.nvs.set(FACTORY_PARAM, name, nvs_type, value, order=_SETTING_ORDER)

    def _type_of(self, name: str, official: str) -> NvsType:
        entry = self.nvs.get(FACTORY_PARAM, name)
        if entry is not None and entry.type not in ("string", "blob") and official != "string":
            return entry.type
        return official  # type: ignore[return-value]  # the table of names holds NVS types

    def set_pki(self, name: str, data: bytes) -> None:
        """Set a PKI item as a blob of exactly these bytes."""
        group = PKI_ITEMS[name].group
        self.nvs.set(group, name, "blob", data, order=_GROUP_ORDER[group])

    def set_gatt(self, name: str, row: str) -> None:
        """Set a row of the GATT table."""
        order = tuple(f"cfg{index}" for index in range(256))
        self.nvs.set(BLE_DATA, name, "string", row, order=order)

    def unset(self, name: str) -> None:
        """Remove an entry.

        Raises:
            InputError: there is no such entry.
        """
        if name in SETTINGS:
            namespace = FACTORY_PARAM
        else:
            namespace = PKI_ITEMS[name].group if name in PKI_ITEMS else BLE_DATA
        if not self.nvs.remove(namespace, name):
            raise InputError(f"{name}: is not in this firmware, so it cannot be removed", "leave out --unset")

    def contents(self) -> Mapping[str, bytes]:
        """Return ``mfg_nvs``."""
        return {PARTITION: self.nvs.to_bytes()}

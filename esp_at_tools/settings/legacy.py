"""The legacy layout: one partition per kind of content (AT firmware v1.x to v2.x).

``factory_param`` holds a record of fixed fields, each PKI partition a list of items, ``ble_data``
the GATT table. Which of them exist, and how large they are, is for the partition table to say.
"""

from __future__ import annotations

from collections.abc import Mapping

from esp_at_tools.errors import EspAtError, FormatError, InputError
from esp_at_tools.formats.ble_data import BleData
from esp_at_tools.formats.factory_param import FIELDS, FactoryParam
from esp_at_tools.formats.pki_list import PkiList
from esp_at_tools.pki.names import PKI_GROUPS, PKI_ITEMS
from esp_at_tools.settings.layout import LayoutName, Value, cannot_hold
from esp_at_tools.settings.names import BLE_DATA, FACTORY_PARAM, SETTINGS


class LegacyLayout:
    """Settings, PKI items and GATT rows as the partitions of the legacy layout.

    Args:
        contents: partition name → its bytes.
        sizes: partition name → its size in bytes.

    Raises:
        FormatError: ``factory_param`` is not what it should be.
    """

    name: LayoutName = "legacy"

    def __init__(self, contents: Mapping[str, bytes], sizes: Mapping[str, int]) -> None:
        """Read the partitions; a damaged PKI or GATT partition is an error only once it is changed."""
        self._original = dict(contents)
        self._sizes = dict(sizes)
        self.record = FactoryParam.from_bytes(contents[FACTORY_PARAM])
        self.damaged: dict[str, FormatError] = {}
        """Partitions that cannot be read, and why."""
        self._lists: dict[str, PkiList] = {}
        for group in PKI_GROUPS:
            if group in contents:
                try:
                    self._lists[group] = PkiList.from_bytes(contents[group])
                except FormatError as error:
                    self.damaged[group] = error
        self._ble: BleData | None = None
        if BLE_DATA in contents:
            try:
                self._ble = BleData.from_bytes(contents[BLE_DATA])
            except FormatError as error:
                self.damaged[BLE_DATA] = error

    def settings(self) -> dict[str, Value]:
        """Return the fields that this version of the record holds."""
        values = self.record.values()
        return {name: values[name] for name in SETTINGS if name in values}

    def pki(self) -> dict[str, bytes]:
        """Return the items of all lists, by official name; more than the names tell are numbered on."""
        items = {}
        for group, found in self._lists.items():
            names = {item.index: item.name for item in PKI_ITEMS.values() if item.group == group}
            for index in range(len(found.items)):
                data = found.get(index)
                if data is not None:
                    items[names.get(index, f"{group}.{index}")] = data
        return items

    def pki_groups(self) -> dict[str, str]:
        """Return the partition of every PKI item."""
        return {
            name: PKI_ITEMS[name].group if name in PKI_ITEMS else name.split(".")[0] for name in self.pki()
        }

    def gatts(self) -> dict[str, str]:
        """Return the rows of the GATT table."""
        return {} if self._ble is None else {f"cfg{index}": row for index, row in enumerate(self._ble.rows)}

    def check_holds(self, name: str) -> None:
        """Raise for a setting that the record has no field for, and where there is no sound partition."""
        if name in PKI_ITEMS:
            self._check_partition(name, PKI_ITEMS[name].group)
        elif name not in SETTINGS:
            self._check_partition(name, BLE_DATA)
        elif name not in FIELDS:
            raise cannot_hold(
                name, self.name, "the record has no such field", "it came with the modern layout"
            )
        elif self.record.version not in FIELDS[name].versions:
            reason = f"its record is of version {self.record.version}"
            raise cannot_hold(name, self.name, reason, FIELDS[name].absent)

    def set_setting(self, name: str, value: Value) -> None:
        """Set a field of the record."""
        self.check_holds(name)
        self.record = self.record.replace(**{name: value})

    def set_pki(self, name: str, data: bytes) -> None:
        """Set an item of a list; the list must still fit its partition."""
        item = PKI_ITEMS[name]
        changed = self._list_of(name).set(item.index, data)
        self._fitted(item.group, changed.to_bytes())
        self._lists[item.group] = changed

    def _list_of(self, name: str) -> PkiList:
        group = PKI_ITEMS[name].group
        self._check_partition(name, group)
        return self._lists[group]

    def _check_partition(self, name: str, partition: str) -> None:
        if partition not in self._original and len(self._original) == 1:
            hint = "give the whole image, or the release"
            raise cannot_hold(name, self.name, f"this is its partition {FACTORY_PARAM} alone", hint)
        if partition not in self._original:
            hint = "leave out what only a firmware with its partition can have"
            if name in PKI_ITEMS:
                hint += "; 'pki generate --for SET' makes sets one by one, such as --for mqtt"
            raise cannot_hold(name, self.name, f"its tables list no partition {partition}", hint)
        if partition in self.damaged:
            error = self.damaged[partition]
            raise InputError(f"{name}: partition {partition} is damaged: {error.message}", error.hint)

    def _fitted(self, partition: str, data: bytes) -> bytes:
        size = self._sizes[partition]
        if len(data) > size:
            raise InputError(
                f"{partition}: {len(data)} bytes, but its partition has {size}",
                f"{len(data) - size} bytes too many: use a shorter chain, an EC key or DER form",
            )
        return data

    def set_gatt(self, name: str, row: str) -> None:
        """Set a row of the GATT table, or add the one that follows the last."""
        self._check_partition(name, BLE_DATA)
        changed = (self._ble or BleData()).set_row(int(name.removeprefix("cfg")), row)
        self._fitted(BLE_DATA, changed.to_bytes())
        self._ble = changed

    def unset(self, name: str) -> None:
        """Remove a PKI item or the last GATT row; a field of the record cannot be absent."""
        if name in SETTINGS:
            raise InputError(
                f"{name}: the legacy layout has fixed fields, none can be removed",
                "pins take -1 for none; give the others a value",
            )
        if name in PKI_ITEMS:
            self._unset_pki(name)
        else:
            self._unset_gatt(name)

    def _unset_pki(self, name: str) -> None:
        item = PKI_ITEMS[name]
        items = self._list_of(name)
        if items.get(item.index) is None:
            raise _absent(name)
        self._lists[item.group] = items.remove(item.index)

    def _unset_gatt(self, name: str) -> None:
        self._check_partition(name, BLE_DATA)
        index = int(name.removeprefix("cfg"))
        if self._ble is None or index >= len(self._ble.objects):
            raise _absent(name)
        self._ble = self._ble.remove_row(index)

    def extents(self) -> Mapping[str, int]:
        """Return how many bytes of every partition carry something; of a damaged one, all."""
        extents = {name: len(data) for name, data in self._original.items()}
        extents.update({group: len(found.to_bytes()) for group, found in self._lists.items()})
        if self._ble is not None:
            extents[BLE_DATA] = len(self._ble.to_bytes())
        return extents

    def contents(self) -> Mapping[str, bytes]:
        """Return every partition; one that has not changed, as it was."""
        now: dict[str, bytes] = {FACTORY_PARAM: self.record.to_bytes()}
        now.update({group: found.to_bytes() for group, found in self._lists.items()})
        if self._ble is not None:
            now[BLE_DATA] = self._ble.to_bytes()
        return {name: _as_before(data, now.get(name)) for name, data in self._original.items()}


def _absent(name: str) -> EspAtError:
    return InputError(f"{name}: is not in this firmware, so it cannot be removed", "leave out --unset")


def _as_before(before: bytes, now: bytes | None) -> bytes:
    """Return the partition as it was if its contents are the same; 0xFF may follow them."""
    return before if now is None or before == now or before.rstrip(b"\xff") == now.rstrip(b"\xff") else now

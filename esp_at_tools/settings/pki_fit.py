"""Whether certificates and keys have room in a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from esp_at_tools.errors import InputError
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.pki_list import HEADER, ITEM_HEADER
from esp_at_tools.pki.checks import Finding
from esp_at_tools.pki.collection import CollectedItem
from esp_at_tools.pki.names import PKI_ITEMS

SMALL_MFG_NVS = 112 << 10
"""Bytes of ``mfg_nvs`` in most official modules with 4 MB of flash."""
LARGE_MFG_NVS = 124 << 10
"""Bytes of the largest official ``mfg_nvs``."""
OTHER_ENTRIES = 150
"""NVS entries that the settings and the default GATT table take, rounded up."""
LEGACY_PARTITION = 8 << 10
"""Bytes of an official partition of the layout before v3.0 that holds the items of one kind and set."""


@dataclass(frozen=True)
class Room:
    """What some items take.

    Attributes:
        items: how many there are.
        size: their bytes.
        entries: NVS entries that they take in ``mfg_nvs``; None where they do not fit in the largest.
        small: entries that a partition of 112 K has for them.
        large: entries that one of 124 K has for them.
    """

    items: int
    size: int
    entries: int | None
    small: int
    large: int


def measure(items: Sequence[CollectedItem]) -> Room:
    """Return what the items with an official name take."""
    official = {item.name: item.data for item in items if item.name in PKI_ITEMS}
    small, large = (NvsPartition.empty(size).usage().entries_total for size in (SMALL_MFG_NVS, LARGE_MFG_NVS))
    size = sum(len(data) for data in official.values())
    return Room(len(official), size, _entries(official), small - OTHER_ENTRIES, large - OTHER_ENTRIES)


def _entries(official: Mapping[str, bytes]) -> int | None:
    partition = NvsPartition.empty(LARGE_MFG_NVS)
    try:
        for name, data in official.items():
            partition.set(PKI_ITEMS[name].group, name, "blob", data)
        return partition.usage().entries_used
    except InputError:
        return None


def _legacy_size(items: Sequence[bytes]) -> int:
    return HEADER.size + sum(ITEM_HEADER.size + len(data) + -len(data) % 4 for data in items)


def check_room(items: Sequence[CollectedItem]) -> list[Finding]:
    """Return where the items with an official name do not fit."""
    room = measure(items)
    hint = "EC keys and certificates take half the room of RSA; leave out what the firmware does not use"
    found = []
    if room.entries is None or room.entries > room.large:
        message = (
            f"together {room.size} bytes: more than any official mfg_nvs holds ({LARGE_MFG_NVS >> 10} K)"
        )
        found.append(Finding("pki-total-size", "error", risky=False, message=message, hint=hint))
    elif room.entries > room.small:
        message = f"together {room.size} bytes: more than an mfg_nvs of {SMALL_MFG_NVS >> 10} K holds"
        found.append(Finding("pki-total-size", "warning", risky=False, message=message, hint=hint))
    groups: dict[str, dict[int, bytes]] = {}
    for item in items:
        if item.name in PKI_ITEMS:
            groups.setdefault(PKI_ITEMS[item.name].group, {})[PKI_ITEMS[item.name].index] = item.data
    for group, members in groups.items():
        size = _legacy_size(list(members.values()))
        if size > LEGACY_PARTITION:
            message = (
                f"{group}: takes {size} bytes in firmware before v3.0, whose partition has {LEGACY_PARTITION}"
            )
            found.append(Finding("pki-legacy-size", "info", risky=False, message=message, hint=hint))
    return found

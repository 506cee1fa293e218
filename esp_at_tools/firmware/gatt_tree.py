"""The GATT table as people think of it: services, their characteristics, and descriptors of those.

Numbers and names: Bluetooth Core Specification, volume 3, part G, 3.3 (declarations, properties,
descriptors) and ``esp_gatt_defs.h`` of ESP-IDF v5.4.4 (``ESP_GATT_PERM_*``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esp_at_tools.errors import InputError
from esp_at_tools.formats.gatts import (
    UUID_CHARACTERISTIC,
    UUID_PRIMARY,
    UUID_SECONDARY,
    GattRow,
    parse_row,
)
from esp_at_tools.settings.names import gatt_row_index

_PROPERTIES = (
    "broadcast", "read", "write without response", "write", "notify", "indicate", "signed write", "extended",
)  # fmt: skip
"""Bits of a characteristic's properties, lowest first."""

_PERMISSIONS = {
    0x001: "read",
    0x002: "read encrypted",
    0x004: "read authenticated",
    0x010: "write",
    0x020: "write encrypted",
    0x040: "write authenticated",
    0x080: "write signed",
    0x100: "write signed authenticated",
    0x200: "read authorized",
    0x400: "write authorized",
}

_DESCRIPTORS = {
    0x2900: "extended properties",
    0x2901: "user description",
    0x2902: "client configuration",
    0x2903: "server configuration",
    0x2904: "presentation format",
    0x2905: "aggregate format",
}


def services(rows: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the services of a table, each with its characteristics and their descriptors.

    A row that cannot be read is left out, and what has no parent gets one without a UUID: saying
    what is wrong with a table is for :func:`esp_at_tools.formats.gatts.check_table`.

    Args:
        rows: ``cfgN`` → text.

    Returns:
        Dicts ready for JSON. ``row`` is N; ``uuid`` is ``0xA002`` or the long form with hyphens.
    """
    found: list[dict[str, Any]] = []
    for name, text in rows.items():
        try:
            row = parse_row(text)
        except InputError:
            continue
        _add(found, gatt_row_index(name) or 0, row)
    return found


def _add(found: list[dict[str, Any]], number: int, row: GattRow) -> None:
    uuid = row.short_uuid
    if uuid in (UUID_PRIMARY, UUID_SECONDARY):
        kind = "primary" if uuid == UUID_PRIMARY else "secondary"
        found.append({"row": number, "uuid": uuid_text(row.value), "kind": kind, "characteristics": []})
        return
    if not found:
        found.append({"row": None, "uuid": None, "kind": "primary", "characteristics": []})
    characteristics: list[dict[str, Any]] = found[-1]["characteristics"]
    if uuid == UUID_CHARACTERISTIC:
        bits = int(row.value[:2] or "0", 16)
        properties = [name for bit, name in enumerate(_PROPERTIES) if bits >> bit & 1]
        characteristics.append({"row": number, "uuid": None, "properties": properties, "descriptors": []})
        return
    attribute = _attribute(number, row)
    is_descriptor = uuid is not None and uuid >> 8 == 0x29
    if not characteristics or (not is_descriptor and characteristics[-1]["uuid"] is not None):
        characteristics.append({"row": None, "uuid": None, "properties": [], "descriptors": []})
    if is_descriptor:
        attribute["name"] = _DESCRIPTORS.get(uuid or 0)
        characteristics[-1]["descriptors"].append(attribute)
    else:
        characteristics[-1].update({**attribute, "row": characteristics[-1]["row"], "value_row": number})


def _attribute(number: int, row: GattRow) -> dict[str, Any]:
    return {
        "row": number,
        "uuid": uuid_text(row.uuid),
        "permissions": [name for bit, name in _PERMISSIONS.items() if row.perm & bit],
        "max_length": row.val_max_len,
        "length": row.val_cur_len,
        "value": row.value,
    }


def uuid_text(digits: str) -> str:
    """Return a UUID from its hexadecimal digits as people write it: ``0xA002``, or 8-4-4-4-12 digits."""
    if len(digits) == 32:
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    return f"0x{digits}" if digits else ""

"""What differs between two firmwares in meaning, whatever their form and layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from esp_at_tools.firmware.firmware import Firmware, PkiDigest
from esp_at_tools.firmware.opening import find_bootloader, read_image
from esp_at_tools.formats.app_image import SHA256_SIZE, AppImage
from esp_at_tools.pki.names import PKI_GROUPS
from esp_at_tools.settings.modern import ModernLayout
from esp_at_tools.settings.names import BLE_DATA, FACTORY_PARAM

Area = Literal["firmware", "apps", "partitions", "settings", "pki", "gatts", "nvs"]


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same.

    Attributes:
        area: where it belongs.
        name: the setting, PKI item, GATT row or partition.
        a: the value in the first firmware, None where it is absent.
        b: the value in the second.
    """

    area: Area
    name: str
    a: object
    b: object


@dataclass(frozen=True)
class Comparison:
    """The result of comparing two firmwares.

    Attributes:
        differences: what is not the same, area by area.
        not_compared: areas that one of the two does not tell, e.g. a partition alone has no tables.
    """

    differences: list[Difference]
    not_compared: list[Area]


def compare(a: Firmware, b: Firmware) -> Comparison:
    """Compare two firmwares: chip, layout, applications, bootloader, partitions, settings, PKI and GATT."""
    differences: list[Difference] = []
    skipped: list[Area] = []
    for area, describe in _AREAS.items():
        if not (_tells(a, area) and _tells(b, area)):
            skipped.append(area)
            continue
        first, second = describe(a), describe(b)
        names = [*first, *(name for name in second if name not in first)]
        if area == "firmware":  # what one of the two does not tell is no difference
            names = [name for name in names if name in first and name in second]
        differences.extend(
            Difference(area, name, first.get(name), second.get(name))
            for name in names
            if first.get(name) != second.get(name)
        )
    return Comparison(differences, skipped)


def _tells(firmware: Firmware, area: Area) -> bool:
    """Tell whether a firmware has a place for an area: a partition alone holds but a part of it."""
    if area in ("apps", "partitions"):
        return firmware.map is not None
    return area not in ("pki", "gatts") or firmware.kind != "factory_param"


def _firmware(firmware: Firmware) -> Mapping[str, object]:
    facts: dict[str, object] = {"layout": firmware.layout.name}
    if firmware.chip_name:
        facts["chip"] = firmware.chip_name
    return facts


def _apps(firmware: Firmware) -> Mapping[str, object]:
    apps: dict[str, object] = {}
    if firmware.map is None:
        return apps
    bootloader = find_bootloader(firmware.source, firmware.map)
    if bootloader is not None:
        offset, loader = bootloader
        data = firmware.source.read(offset, loader.size)
        apps["bootloader"] = {"sha256": _bootloader_sha256(data, loader)}
    for partition in firmware.map.primary.apps:
        image = read_image(firmware.source, partition.offset, partition.size)
        if image is None:
            contents = firmware.source.read(partition.offset, partition.size)
            if contents.count(0xFF) < len(contents):
                apps[partition.name] = {"unreadable": True, "sha256": PkiDigest.of(contents).sha256}
        else:
            data = firmware.source.read(partition.offset, image.size)
            desc = image.app_descriptor
            apps[partition.name] = {
                "project_name": desc.project_name if desc else "",
                "version": desc.version if desc else "",
                "sha256": PkiDigest.of(data).sha256,
            }
    return apps


def _bootloader_sha256(data: bytes, image: AppImage) -> str:
    """Return the SHA-256 of a bootloader less its flash settings, which esptool sets when it flashes it."""
    end = image.size - (SHA256_SIZE if image.sha256 is not None else 0)
    return PkiDigest.of(data[:2] + data[4:end]).sha256


def _partitions(firmware: Firmware) -> Mapping[str, object]:
    partitions: dict[str, object] = {}
    for place in firmware.map.places() if firmware.map else ():
        partition = place.partition
        name = f"{partition.name} ({place.table})" if partition.name in partitions else partition.name
        partitions[name] = {
            "table": place.table,
            "type": partition.type_name,
            "subtype": partition.subtype_name,
            "offset": partition.offset,
            "size": partition.size,
            **({"flags": ":".join(partition.flag_names)} if partition.flags else {}),
        }
    return partitions


def _pki(firmware: Firmware) -> Mapping[str, object]:
    return {name: PkiDigest.of(data) for name, data in firmware.pki().items()}


def _other_entries(firmware: Firmware) -> Mapping[str, object]:
    """Return what ``mfg_nvs`` holds beside the settings, PKI items and GATT rows."""
    if not isinstance(firmware.layout, ModernLayout):
        return {}
    known = {*firmware.pki(), *firmware.settings(), *firmware.gatts()}
    spaces = {FACTORY_PARAM, BLE_DATA, *PKI_GROUPS}
    return {
        f"{entry.namespace}/{entry.key}": PkiDigest.of(entry.value)
        if isinstance(entry.value, bytes)
        else entry.value
        for entry in firmware.layout.nvs.entries
        if not (entry.namespace in spaces and entry.key in known)
    }


_AREAS: dict[Area, Callable[[Firmware], Mapping[str, object]]] = {
    "firmware": _firmware,
    "apps": _apps,
    "partitions": _partitions,
    "settings": lambda firmware: firmware.settings(),
    "pki": _pki,
    "gatts": lambda firmware: firmware.gatts(),
    "nvs": _other_entries,
}

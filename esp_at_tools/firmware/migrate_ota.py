"""Whether a device with one firmware can become another by an update over the air, and why not.

Such an update writes an application into a slot, and nothing else: the bootloader, both partition tables
and the parameters stay. A finding that ``blocks`` makes it impossible. The ids are stable:

==========================  ========  =================================================================
id                          level     what was found
==========================  ========  =================================================================
ota-not-known               info      one of the two is a partition alone, and tells nothing
ota-chip                    blocks    the two are for different chips
ota-no-application          blocks    NEW holds no application that can be read
ota-table-offset            blocks    the primary table is at another address
ota-flash-size              blocks    NEW is made for a larger flash (a smaller one: info)
ota-no-slot                 blocks    OLD has one application slot, and no room for a compressed update
ota-no-otadata              blocks    OLD has no ``otadata``, by which the bootloader finds the other slot
ota-app-too-large           blocks    NEW's application fits no slot of OLD
ota-compressed              warning   it goes into OLD as a compressed update only
ota-no-at-customize         blocks    OLD has no ``at_customize``, where NEW looks for its parameters
ota-no-parameters           blocks    NEW reads ``factory_param``, and OLD has ``mfg_nvs``
ota-legacy-parameters       warning   NEW will read OLD's legacy partitions, as firmware without mfg_nvs
ota-renamed                 warning   NEW reads certificates under other names than OLD holds them
ota-secure-version          blocks    NEW's secure version is lower, and OLD uses them
ota-signature               blocks    OLD's application is signed, NEW's is not
ota-chip-revision           warning   NEW needs a later revision of the chip
ota-idf-older               warning   NEW was built with an older ESP-IDF than OLD's bootloader is for
ota-bootloader-stays        info      NEW was built with a newer ESP-IDF; OLD's bootloader starts it
ota-table-differs           warning   NEW's tables place something elsewhere; those of OLD stay
==========================  ========  =================================================================

Sources: ``at_ota_cmd.c``, ``at_compress_ota.c`` and ``at_init.c`` of esp-at v5.0.1.0 (the fallback to the
legacy partitions is in every version from v3.1.0.0 on), and "Bootloader Compatibility" of ESP-IDF v5.4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.flash_map import FlashMap
from esp_at_tools.firmware.survey import AppSlot, find_bootloader, read_slots
from esp_at_tools.formats.app_image import AppImage
from esp_at_tools.formats.partition_table import AT_CUSTOMIZE, DATA, OTA_DATA, Partition
from esp_at_tools.settings.modern import PARTITION as MFG_NVS

Level = Literal["blocks", "warning", "info"]

COMPRESSED_STORAGE = 0x22
"""Subtype of the data partition into which older firmware downloads a compressed update."""


@dataclass(frozen=True)
class OtaFinding:
    """One thing that stands against an update over the air, or that one should know of.

    Attributes:
        id: what was found; stable.
        level: ``blocks`` where it cannot work.
        message: what was found.
        hint: what can be done, may be empty.
    """

    id: str
    level: Level
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Ota:
    """Whether an update over the air is possible.

    Attributes:
        possible: None where one of the two does not tell.
        reasons: the findings, those that block it first.
    """

    possible: bool | None
    reasons: list[OtaFinding]


@dataclass(frozen=True)
class _Two:
    """What is known of the two firmwares.

    Attributes:
        old, new: the firmwares.
        old_map, new_map: their tables.
        slots: the application slots of OLD.
        running: the application that OLD starts.
        app: the application of NEW.
        renamed: old and new names of the items that NEW reads under another name.
    """

    old: Firmware
    new: Firmware
    old_map: FlashMap
    new_map: FlashMap
    slots: tuple[AppSlot, ...]
    running: AppImage | None
    app: AppImage
    renamed: tuple[tuple[str, str], ...]


_Found = Iterator[OtaFinding]


def check_ota(old: Firmware, new: Firmware, renamed: tuple[tuple[str, str], ...] = ()) -> Ota:
    """Tell whether the application of one firmware can be sent over the air to a device with another.

    Args:
        old: the firmware of the device, as it was built or as it was read from the device.
        new: the firmware whose application is sent.
        renamed: old and new names of the certificates and keys that the new one reads under other names.
    """
    if old.map is None or new.map is None:
        which = "OLD" if old.map is None else "NEW"
        message = f"{which} is a partition alone, which tells nothing of tables and applications"
        return Ota(None, [OtaFinding("ota-not-known", "info", message, "give whole images or releases")])
    slots = tuple(read_slots(old.source, old.map))
    app = next((slot.image for slot in read_slots(new.source, new.map) if slot.image), None)
    if app is None:
        finding = OtaFinding("ota-no-application", "blocks", "NEW holds no application that can be read")
        return Ota(False, [finding])
    running = next((slot.image for slot in slots if slot.starts and slot.image), None)
    running = running or next((slot.image for slot in slots if slot.image), None)
    two = _Two(old, new, old.map, new.map, slots, running, app, renamed)
    found = [finding for check in _CHECKS for finding in check(two)]
    found.sort(key=lambda finding: ("blocks", "warning", "info").index(finding.level))
    return Ota(all(finding.level != "blocks" for finding in found), found)


# --- chip, flash and tables ----------------------------------------------------------------------


def _chip(two: _Two) -> _Found:
    old, new = two.old.chip_name, two.new.chip_name
    if old and new and old != new:
        yield OtaFinding("ota-chip", "blocks", f"OLD is for {old}, NEW for {new}")
    if two.running is not None and two.app.min_rev > two.running.min_rev:
        message = f"NEW runs on revision {_revision(two.app)} of the chip and later"
        message += f", OLD on {_revision(two.running)} and later" if two.running.min_rev else ""
        yield OtaFinding("ota-chip-revision", "warning", message, "see which revision the devices have")


def _revision(app: AppImage) -> str:
    return f"v{app.min_rev // 100}.{app.min_rev % 100}"


def _flash(two: _Two) -> _Found:
    old, new = two.old.flash_size, two.new.flash_size
    if old and new > old:
        message = f"NEW is made for {new >> 20} MB of flash, and OLD has {old >> 20} MB"
        yield OtaFinding(
            "ota-flash-size", "blocks", message, "its application stops where the flash is smaller"
        )
    elif new and old > new:
        yield OtaFinding(
            "ota-flash-size", "info", f"NEW is made for {new >> 20} MB of flash, OLD has {old >> 20}"
        )
    if two.old_map.offset != two.new_map.offset:
        message = (
            f"the partition table of OLD is at {two.old_map.offset:#x}, "
            f"and NEW's application looks for it at {two.new_map.offset:#x}"
        )
        yield OtaFinding("ota-table-offset", "blocks", message, _BY_CABLE)


_BY_CABLE = "flash the device over its serial port"


def _tables(two: _Two) -> _Found:
    old, new = two.old_map.primary, two.new_map.primary
    if new.find(AT_CUSTOMIZE) and old.find(AT_CUSTOMIZE) is None:
        message = f"OLD has no partition {AT_CUSTOMIZE}, where NEW looks for its parameters"
        yield OtaFinding("ota-no-at-customize", "blocks", message, _BY_CABLE)
    differing = _differences(two.old_map, two.new_map)
    if differing:
        yield OtaFinding(
            "ota-table-differs",
            "warning",
            f"the tables differ, and those of OLD stay: {'; '.join(differing)}",
            "what NEW needs of them must fit OLD's",
        )


def _differences(old: FlashMap, new: FlashMap) -> list[str]:
    """Return which partitions of either table are not the same, those of the parameters apart."""
    theirs = [
        {
            place.partition.name: place.partition
            for place in places.places()
            if not _holds_parameters(place.partition)
        }
        for places in (old, new)
    ]
    before, after = theirs
    told = []
    for name in dict.fromkeys([*before, *after]):
        was, is_now = before.get(name), after.get(name)
        if was is None:
            told.append(f"{name} is in NEW only")
        elif is_now is None:
            told.append(f"{name} is in OLD only")
        elif (was.offset, was.size) != (is_now.offset, is_now.size):
            told.append(f"{name} {was.offset:#x}+{was.size:#x} → {is_now.offset:#x}+{is_now.size:#x}")
    return told


def _holds_parameters(partition: Partition) -> bool:
    from esp_at_tools.settings.names import LEGACY_PARTITIONS

    return partition.name in (MFG_NVS, *LEGACY_PARTITIONS)


# --- room for the application --------------------------------------------------------------------


def _slots(two: _Two) -> _Found:
    table, size = two.old_map.primary, two.app.signed_size
    slots = [slot.partition for slot in two.slots if slot.partition.is_ota_app]
    storage = table.of_type(DATA, COMPRESSED_STORAGE)
    if not storage and len(slots) < 2:
        has = f"{len(two.slots)} application partition{'' if len(two.slots) == 1 else 's'}"
        message = f"OLD has {has}, and a running application cannot overwrite itself"
        yield OtaFinding("ota-no-slot", "blocks", message, _BY_CABLE)
    if not table.of_type(DATA, OTA_DATA) and not storage:
        message = "OLD has no partition otadata, by which the bootloader finds the other slot"
        yield OtaFinding("ota-no-otadata", "blocks", message, _BY_CABLE)
    rooms = sorted(two.slots, key=lambda slot: slot.partition.size)
    if not rooms:
        return
    largest, smallest = rooms[-1].partition, rooms[0].partition
    if size > largest.size:
        message = f"NEW's application has {size} bytes, and OLD's {largest.name} {largest.size}"
        hint = f"{size - largest.size} bytes too many: leave features out, or {_BY_CABLE}"
        yield OtaFinding("ota-app-too-large", "blocks", message, hint)
    elif storage or size > smallest.size:
        where = storage[0] if storage else smallest
        yield OtaFinding(
            "ota-compressed",
            "warning",
            f"only a compressed update goes into OLD: {where.name} has {where.size} bytes for it, "
            f"and NEW's application {size}",
            "OLD's bootloader must be one that unpacks such updates, and the packed file must fit",
        )


# --- what starts, and what it reads --------------------------------------------------------------


def _security(two: _Two) -> _Found:
    running = two.running
    if running is None:
        return
    before = running.app_descriptor.secure_version if running.app_descriptor else 0
    after = two.app.app_descriptor.secure_version if two.app.app_descriptor else 0
    if after < before:
        message = f"NEW's secure version is {after}, and OLD's {before}: anti-rollback refuses it"
        yield OtaFinding("ota-secure-version", "blocks", message, f"build NEW with {before} or higher")
    if running.signature is not None and two.app.signature is None:
        message = "OLD's application is signed, NEW's is not: a device with Secure Boot refuses it"
        yield OtaFinding("ota-signature", "blocks", message, "sign NEW's application with the same key")


def _bootloader(two: _Two) -> _Found:
    found = find_bootloader(two.old.source, two.old_map)
    loader = found.image.bootloader_descriptor if found and found.image else None
    told = loader.idf_version if loader else _idf(two.running)
    before, after = _numbers(told), _numbers(_idf(two.app))
    if before is None or after is None or before == after:
        return
    versions = f"OLD's with ESP-IDF {told}, NEW's application with {_idf(two.app)}"
    if after < before:
        message = f"the bootloader stays, and it need not start older applications: {versions}"
        yield OtaFinding("ota-idf-older", "warning", message, "try it on one device first")
    else:
        message = f"the bootloader stays; it is made to start newer applications: {versions}"
        yield OtaFinding("ota-bootloader-stays", "info", message, "try it on one device first")


def _idf(app: AppImage | None) -> str:
    return app.app_descriptor.idf_version if app is not None and app.app_descriptor else ""


def _numbers(version: str) -> tuple[int, int] | None:
    """Return major and minor version; ESP8266_RTOS_SDK counts in the same way."""
    match = re.match(r"v([0-9]{1,4})\.([0-9]{1,4})", version)
    return (int(match[1]), int(match[2])) if match else None


def _parameters(two: _Two) -> _Found:
    old, new = two.old.layout.name, two.new.layout.name
    if old == "modern" and new == "legacy":
        message = "NEW's application reads factory_param and its partitions, and OLD's tables list mfg_nvs"
        yield OtaFinding("ota-no-parameters", "blocks", message, _BY_CABLE)
    elif old == "legacy" and new == "modern":
        message = (
            "OLD's tables list no mfg_nvs, and an update does not change them: NEW's application goes on "
            "reading OLD's factory_param and its partitions (AT firmware v3.1 and later does)"
        )
        hint = f"what only mfg_nvs can hold needs the whole OUT: {_BY_CABLE}"
        yield OtaFinding("ota-legacy-parameters", "warning", message, hint)
    if two.renamed:
        pairs = ", ".join(f"{before} → {after}" for before, after in two.renamed)
        message = f"the parameters stay, and NEW's application reads them under other names: {pairs}"
        hint = "write them with AT+SYSMFG after the update, or flash OUT's parameters"
        yield OtaFinding("ota-renamed", "warning", message, hint)


_CHECKS: tuple[Callable[[_Two], _Found], ...] = (
    _chip,
    _flash,
    _tables,
    _slots,
    _security,
    _parameters,
    _bootloader,
)

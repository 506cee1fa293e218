"""The report of ``inspect``: everything that a firmware tells, as plain data ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from esp_at_tools.firmware.checks import run_checks
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.gatt_tree import services
from esp_at_tools.firmware.release import Release
from esp_at_tools.firmware.survey import AppSlot, FlashImage, PkiReading, Survey, used_bytes
from esp_at_tools.formats.app_image import AppImage
from esp_at_tools.formats.partition_table import AT_CUSTOMIZE, SECTOR_SIZE, Partition
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.modern import ModernLayout

SCHEMA = 1


def report(firmware: Firmware, *, now: datetime | None = None) -> dict[str, Any]:
    """Return what a firmware is and what is wrong with it.

    What the input does not tell is None, or an empty list: a partition alone has no tables, no
    bootloader and no application. No byte of a private key is in the report.

    Args:
        firmware: an opened firmware.
        now: the moment at which certificates are judged, with its time zone; the present if None.

    Returns:
        The document of ``inspect --json``; ``schema`` is 1.
    """
    survey = Survey.of(firmware, now or datetime.now(timezone.utc))
    layout = firmware.layout
    return {
        "schema": SCHEMA,
        "input": {
            "path": str(firmware.source.path),
            "kind": firmware.source.kind,
            "size": firmware.source.size,
            "sha256": firmware.source.sha256(),
        },
        "chip": firmware.chip_name or None,
        "layout": layout.name,
        "flash": _flash(survey),
        "partition_table": _table(firmware),
        "bootloader": _bootloader(survey.bootloader),
        "apps": [_app(slot) for slot in survey.apps if slot.image is not None],
        "partitions": _partitions(firmware),
        "nvs": _nvs(firmware),
        "settings": layout.settings(),
        "pki": [_pki_item(reading) for reading in survey.pki],
        "gatts": list(layout.gatts().values()),
        "gatt_services": services(layout.gatts()),
        "checks": run_checks(survey),
    }


def _flash(survey: Survey) -> dict[str, Any]:
    source = survey.firmware.source
    stated = source.flash_settings() if isinstance(source, Release) else {}
    header = survey.bootloader.image if survey.bootloader else None
    return {
        "size": survey.firmware.flash_size or None,
        "mode": stated.get("mode") or (header.flash_mode if header else None),
        "freq": stated.get("freq") or (header.flash_freq if header else None),
    }


def _table(firmware: Firmware) -> dict[str, Any] | None:
    """Return where the tables are and whether they carry a checksum."""
    flash_map = firmware.map
    if flash_map is None:
        return None
    home = flash_map.primary.find(AT_CUSTOMIZE)
    secondary = None
    if flash_map.secondary is not None and home is not None:
        secondary = {"offset": home.offset, "md5": flash_map.secondary.md5}
    return {"offset": flash_map.offset, "md5": flash_map.primary.md5, "secondary": secondary}


def _image(found: FlashImage, image: AppImage) -> dict[str, Any]:
    app, boot, signature = image.app_descriptor, image.bootloader_descriptor, image.signature
    return {
        "offset": found.offset,
        "size": image.signed_size,
        "chip": image.chip,
        "idf_version": (app.idf_version if app else boot.idf_version if boot else "") or None,
        "compile_time": (app.compile_time if app else boot.date_time if boot else "") or None,
        "checksum_ok": image.checksum_ok,
        "sha256_ok": image.sha256_ok,
        "min_chip_revision": image.min_rev,
        "max_chip_revision": image.max_rev,
        "signature": None
        if signature is None
        else {"version": signature.version, "scheme": signature.scheme, "blocks": signature.blocks},
    }


def _bootloader(found: FlashImage | None) -> dict[str, Any] | None:
    if found is None or found.image is None:
        return None
    image = found.image
    header = {"flash_mode": image.flash_mode, "flash_freq": image.flash_freq, "flash_size": image.flash_size}
    return {**_image(found, image), **header}


def _app(slot: AppSlot) -> dict[str, Any]:
    if slot.found is None or slot.found.image is None:
        return {}
    image = slot.found.image
    described = image.app_descriptor
    return {
        "partition": slot.partition.name,
        **_image(slot.found, image),
        "partition_size": slot.partition.size,
        "project_name": (described.project_name if described else "") or None,
        "version": (described.version if described else "") or None,
        "elf_sha256": (described.elf_sha256.strip("0") and described.elf_sha256 if described else "") or None,
        "boots": slot.starts,
    }


def _partitions(firmware: Firmware) -> list[dict[str, Any]]:
    if firmware.map is None:
        return []
    places = list(firmware.map.places())
    used = {
        place.partition: used_bytes(firmware.source, place.partition.offset, place.partition.size)
        for place in places
    }
    inner = [place.partition for place in places if place.table == "secondary"]
    return [
        {
            "table": place.table,
            "name": place.partition.name,
            "type": place.partition.type_name,
            "subtype": place.partition.subtype_name,
            "offset": place.partition.offset,
            "size": place.partition.size,
            "flags": list(place.partition.flag_names),
            "used": _used_inside(place.partition, inner, used)
            if _is_home(firmware, place.partition)
            else used[place.partition],
        }
        for place in places
    ]


def _is_home(firmware: Firmware, partition: Partition) -> bool:
    """Tell whether this is ``at_customize`` with the partitions of the secondary table in it."""
    flash_map = firmware.map
    return (
        flash_map is not None
        and flash_map.secondary is not None
        and partition is flash_map.primary.find(AT_CUSTOMIZE)
    )


def _used_inside(home: Partition, inner: list[Partition], used: Mapping[Partition, int]) -> int:
    return min(SECTOR_SIZE + sum(used[part] for part in inner if home.contains(part)), home.size)


def _nvs(firmware: Firmware) -> dict[str, Any] | None:
    layout = firmware.layout
    if not isinstance(layout, ModernLayout):
        return None
    nvs = layout.nvs
    usage = nvs.usage()
    return {
        "partition": MFG_NVS,
        "version": nvs.version,
        "readable": nvs.opened,
        "keys": len(nvs.entries),
        "entries_used": usage.entries_used,
        "entries_total": usage.entries_total,
    }


def _pki_item(reading: PkiReading) -> dict[str, Any]:
    import hashlib

    info = reading.info
    is_certificate = info is not None and reading.kind != "private_key"
    return {
        "name": reading.name,
        "namespace": reading.group,
        "role": reading.role,
        "kind": reading.kind,
        "format": info.format if info else None,
        "size": len(reading.data),
        "certificates": info.count if info else None,
        "subject": info.subject if info and is_certificate else None,
        "issuer": info.issuer if info and is_certificate else None,
        "serial": info.serial if info and is_certificate else None,
        "not_before": _moment(info.not_before if info else None),
        "not_after": _moment(info.not_after if info else None),
        "key_type": (info.key_type if info else "") or None,
        "signature_hash": (info.signature_hash if info else "") or None,
        "encrypted": info.encrypted if info else None,
        "key_matches_certificate": reading.matches,
        "sha256": hashlib.sha256(reading.data).hexdigest(),
    }


def _moment(moment: datetime | None) -> str | None:
    """Return a moment in UTC as ISO 8601: ``2029-05-31T08:00:00Z``."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None

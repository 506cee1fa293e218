"""A build folder from a firmware that is compiled already: a release, a full image, a dump of a device.

Bootloader and application are taken as they are, tables, settings, certificates and the file system too.
What a device has stored by itself (its Wi-Fi network, which application it starts) is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from esp_at_tools.build.customise import about_flash
from esp_at_tools.build.options import Options
from esp_at_tools.build.other_module import as_other_module
from esp_at_tools.build.recipe import Recipe, UserPartition
from esp_at_tools.catalog.chips import Chip
from esp_at_tools.catalog.module_model import Flash, Module
from esp_at_tools.catalog.modules import module
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.flash_map import FlashMap
from esp_at_tools.firmware.opening import SIZE_UNIT
from esp_at_tools.firmware.release import DOWNLOAD_CONFIG, Release
from esp_at_tools.firmware.source import Source
from esp_at_tools.formats.app_image import AppImage
from esp_at_tools.formats.flash_args import FlashArgs
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.nvs.csv import dump_csv
from esp_at_tools.formats.ota_data import OtaData
from esp_at_tools.formats.partition_table import (
    APP,
    AT_CUSTOMIZE,
    DATA,
    NVS_DATA,
    OTA_DATA,
    Partition,
)
from esp_at_tools.settings.modern import PARTITION as MFG_NVS

_MODULE_INFO = "module_info.json"
_SDKCONFIG = "sdkconfig"
_SDKCONFIG_DEFAULTS = "sdkconfig.defaults"
_PHY = 0x01
_MAX_NAME = 64
_ESP8266_WINDOW = 1 << 20


def recipe_from_release(path: Path, name: str | None, options: Options) -> Recipe:
    """Return what a build folder is made of that takes its application from a compiled firmware.

    Args:
        path: a release folder or its .zip, a build folder, a full flash image, a dump of a device.
        name: the module, ``ESP32C3/MINI-1``; None for the one that the firmware is for.
        options: the silence variant, an sdkconfig beside the release's own and an ESP-IDF are refused:
            the application is compiled already. ``request``, ``fs_image``, ``flash_size`` and
            ``partition_sizes`` are for :func:`esp_at_tools.build.customise.customise`.

    Raises:
        InputError: it is no such firmware, or not for the chip of the module.
    """
    firmware = Firmware.open(path)
    source, flash_map, chip = firmware.source, firmware.map, firmware.chip
    if flash_map is None or flash_map.secondary is None:
        problem = flash_map.problem if flash_map else f"it is the partition {firmware.kind} alone"
        raise InputError(
            f"{path}: a firmware cannot be built from it: {problem or 'it has no secondary partition table'}",
            "give a release folder, its .zip or a full image",
        )
    if chip is None:
        raise InputError(f"{path}: its images do not tell the chip", "give a release that has its bootloader")
    _check_options(source, options)
    _check_sound(firmware, flash_map)
    notes: list[str] = []
    own = str(firmware.settings().get("module_name", ""))
    recipe = Recipe(
        platform=chip.platform,
        module=own,
        description="",
        silence=_is_silent(source),
        chip=chip,
        flash=_flash(firmware, flash_map, chip),
        table_offset=flash_map.offset,
        primary=flash_map.primary,
        secondary=flash_map.secondary,
        partitions=_partitions(firmware, flash_map, chip, notes),
        sdkconfig=_sdkconfig(source, options, chip),
        sdkconfig_defaults=_text(source, _SDKCONFIG_DEFAULTS) if not _text(source, _SDKCONFIG) else "",
        bootloader=b"" if options.config_only else _bootloader(source, flash_map, chip),
        app=b"" if options.config_only else _app(source, flash_map, chip, notes),
    )
    if not recipe.sdkconfig and not recipe.sdkconfig_defaults:
        notes.append("the source has no sdkconfig, so the build has none; --sdkconfig FILE adds it")
    if options.config_only:
        notes.append("no application is in it (--config-only)")
    return _named(replace(recipe, notes=tuple(notes)), name, options)


def _check_options(source: Source, options: Options) -> None:
    """Refuse what only a compiler could do."""
    for option, given in (("--silence", options.silence), ("--idf", options.idf is not None)):
        if given:
            raise InputError(
                f"{option}: the application of {source.path} is compiled already",
                "leave it out, or give another SOURCE",
            )
    if options.sdkconfig is not None and _text(source, _SDKCONFIG):
        raise InputError(
            f"--sdkconfig {options.sdkconfig}: {source.path} has the sdkconfig that it was compiled with",
            "leave it out: another one would not change the application",
        )


def _check_sound(firmware: Firmware, flash_map: FlashMap) -> None:
    found = [*firmware.source.contradictions()]
    found += [problem.message for problem in flash_map.contradictions(firmware.flash_size)]
    if found:
        raise InputError(
            f"{firmware.source.path}: it contradicts itself: {'; '.join(found)}", "download it again"
        )


def _is_silent(source: Source) -> bool:
    import json

    text = _text(source, _MODULE_INFO)
    try:
        info = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{source.path}: {_MODULE_INFO}: is not JSON: {error}", "remove it") from error
    return isinstance(info, dict) and info.get("silence") in (1, True)


def _text(source: Source, name: str) -> str:
    return source.text(name) if isinstance(source, Release) and source.has(name) else ""


def _sdkconfig(source: Source, options: Options, chip: Chip) -> str:
    if options.sdkconfig is None:
        return _text(source, _SDKCONFIG)
    from esp_at_tools.build.flash_settings import check_target
    from esp_at_tools.files import read_file
    from esp_at_tools.formats.sdkconfig import Sdkconfig

    data = read_file(options.sdkconfig, "sdkconfig")
    name = f"--sdkconfig {options.sdkconfig}"
    check_target(Sdkconfig.from_bytes(data, name), chip, name)
    return data.decode()


# --- which module --------------------------------------------------------------------------------


def _named(recipe: Recipe, name: str | None, options: Options) -> Recipe:
    """Return the recipe for the module that is asked for, or described as the one that it is for."""
    own = _known(recipe.full_name, options) if recipe.module else None
    if own is not None:
        text = about_flash(own.description, own.flash.size, recipe.flash.size)
        recipe = replace(recipe, description=text)
    if name is None:
        _check_name(recipe)
        return recipe
    if _is_same(name, recipe):
        return recipe
    return as_other_module(recipe, module(name, folder=options.module_folder), own, options)


def _known(name: str, options: Options) -> Module | None:
    try:
        return module(name, folder=options.module_folder)
    except FormatError:  # a definition is wrong
        raise
    except InputError:  # no module of that name
        return None


def _is_same(name: str, recipe: Recipe) -> bool:
    asked = name.strip().casefold().removeprefix("platform_")
    return bool(recipe.module) and asked in (recipe.full_name.casefold(), recipe.module.casefold())


def _check_name(recipe: Recipe) -> None:
    name = recipe.module
    usual = name.isascii() and name.isprintable() and not set(name) & set('/\\":*?<>| ')
    if not (name and usual and name not in (".", "..") and len(name) <= _MAX_NAME):
        raise InputError(
            f"the firmware says that its module is {name!r}, which cannot name a file",
            "--module says which one it is, e.g. --module ESP32C3/MINI-1",
        )


# --- flash settings ------------------------------------------------------------------------------


def _flash(firmware: Firmware, flash_map: FlashMap, chip: Chip) -> Flash:
    """Return the flash settings that the lists state, else those in the header of the bootloader."""
    source = firmware.source
    header = _image(source, chip.bootloader_offset, flash_map.offset - chip.bootloader_offset)
    stated = dict(source.flash_settings()) if isinstance(source, Release) else {}
    if isinstance(source, Release) and source.has(DOWNLOAD_CONFIG):
        listed = FlashArgs.from_download_config(source.text(DOWNLOAD_CONFIG))
        also = {"mode": listed.flash_mode, "freq": listed.flash_freq, "size": listed.flash_size}
        for key, value in also.items():
            if stated.get(key, "keep") == "keep" and value not in ("", "detect", "keep"):
                stated[key] = value
    stated = {key: value for key, value in stated.items() if value != "keep"}
    mode = stated.get("mode") or (header.flash_mode if header else None)
    freq = stated.get("freq") or (header.flash_freq if header else None)
    text = stated.get("size", "")
    known = text[-2:] in SIZE_UNIT and text[:-2].isdecimal()
    size = int(text[:-2]) * SIZE_UNIT[text[-2:]] if known else firmware.flash_size
    if not size:  # an ESP8266's header does not tell
        size = max(1 << (flash_map.primary.end - 1).bit_length(), 1 << 20)
    if not mode or not freq:
        raise InputError(
            f"{source.path}: neither its lists nor its bootloader tell the flash mode and frequency",
            "give the whole release, with its flasher_args.json or download.config",
        )
    return Flash(size, mode, freq)


# --- bootloader and application ------------------------------------------------------------------


def _image(source: Source, offset: int, limit: int) -> AppImage | None:
    try:
        return AppImage.from_bytes(source.read(offset, limit))
    except FormatError:
        return None


def _is_sound(image: AppImage) -> bool:
    return image.checksum_ok and image.sha256_ok is not False


def _bootloader(source: Source, flash_map: FlashMap, chip: Chip) -> bytes:
    offset = chip.bootloader_offset
    image = _image(source, offset, flash_map.offset - offset)
    if image is None:
        raise InputError(
            f"{source.path}: has no bootloader at {offset:#x}",
            "give a whole release, or --config-only for the configuration alone",
        )
    if not _is_sound(image):  # a new SHA-256 would hide it
        raise InputError(
            f"{source.path}: its bootloader is damaged, so no module will start it", "download it again"
        )
    return _contents(source, offset, image.signed_size)


def _contents(source: Source, offset: int, size: int) -> bytes:
    """Return the file of a release that begins at an address, else so many bytes of flash."""
    name = source.args.files.get(offset) if isinstance(source, Release) else None
    return source.part(name) if isinstance(source, Release) and name else source.read(offset, size)


def _app(source: Source, flash_map: FlashMap, chip: Chip, notes: list[str]) -> bytes:
    """Return the application that would start, or another one if that is damaged.

    It will stand where a blank ``otadata`` makes the bootloader look. That of an ESP8266, whose flash is
    mapped as it is, runs only at the same place in another megabyte.
    """
    home = OtaData.initial().boot_partition(flash_map.primary)
    first, *others = _boot_order(source, flash_map)
    for place in (first, *others):
        image = _image(source, place.offset, place.size)
        if image is None or not _is_sound(image):
            continue
        if chip.image_chip_id is None and home and (place.offset - home.offset) % _ESP8266_WINDOW:
            continue
        if place != first:
            notes.append(f"the application is that of {place.name}: the one in {first.name} is not sound")
        elif place != home:
            notes.append(f"the application is that of {place.name}, which the device would start")
        return _contents(source, place.offset, image.signed_size)
    raise InputError(f"{source.path}: has no sound application", "download it again, or give another SOURCE")


def _boot_order(source: Source, flash_map: FlashMap) -> list[Partition]:
    """Return the applications, first the one that the bootloader tries first."""
    table = flash_map.primary
    state = OtaData.initial()
    for place in table.of_type(DATA, OTA_DATA)[:1]:
        state = OtaData.from_bytes(source.read(place.offset, place.size))
    starts = state.boot_partition(table)
    return sorted(table.apps, key=lambda app: (app != starts, app.offset))


# --- partitions ----------------------------------------------------------------------------------


def _partitions(
    firmware: Firmware, flash_map: FlashMap, chip: Chip, notes: list[str]
) -> dict[str, UserPartition]:
    """Return the contents of the partitions that a build fills, in the order of the release's list."""
    source = firmware.source
    carried = {place.name: place for place in _carried(source, flash_map)}
    if isinstance(source, Release):
        _check_parts_placed(source, flash_map, chip, carried)
        order = list(source.args.files)
        found = sorted(
            (place for place in carried.values() if place.offset in source.args.files),
            key=lambda place: order.index(place.offset),
        )
    else:
        found = [*carried.values()]
    secret = firmware.key_partitions
    partitions = {}
    for place in found:
        data = _user_data(firmware, place)
        if place.name == MFG_NVS:
            partitions[MFG_NVS] = _mfg_nvs(source, place, data, notes, private=MFG_NVS in secret)
        elif data:
            partitions[place.name] = UserPartition(data, place.name in secret)
    return partitions


def _carried(source: Source, flash_map: FlashMap) -> Iterator[Partition]:
    """Yield the partitions whose contents belong to the firmware and not to one device."""
    for place in flash_map.secondary or ():
        yield place
    for place in flash_map.primary:
        own = place.type == DATA and place.subtype in (OTA_DATA, NVS_DATA)
        if place.name == AT_CUSTOMIZE or place.type == APP or own:
            continue
        is_listed = isinstance(source, Release) and place.offset in source.args.files
        if is_listed or (place.type == DATA and place.subtype == _PHY):
            yield place


def _check_parts_placed(
    source: Release, flash_map: FlashMap, chip: Chip, carried: dict[str, Partition]
) -> None:
    """Refuse a release with a part that has no partition of its own: it would get lost."""
    known = {chip.bootloader_offset, flash_map.offset, *(place.offset for place in carried.values())}
    known.update(place.offset for place in flash_map.primary if place.type == APP)
    known.update(place.offset for place in flash_map.primary if place.name == AT_CUSTOMIZE)
    known.update(place.offset for place in flash_map.primary.of_type(DATA, OTA_DATA))
    for offset, name in source.args.files.items():
        if offset not in known:
            raise InputError(
                f"{source.path}: {name} at {offset:#x} begins at no partition that a build fills",
                "give it a partition in one of the tables, or take it off the lists",
            )


def _user_data(firmware: Firmware, place: Partition) -> bytes:
    """Return the contents of a partition; of an image, without the blank flash behind them."""
    source = firmware.source
    if place.name in firmware.places:
        extent = _extents(firmware).get(place.name, place.size)
        data = source.read(place.offset, place.size)
        if not data.strip(b"\xff"):
            return b""
    else:
        data = source.read(place.offset, place.size)
        extent = len(data.rstrip(b"\xff"))
    name = source.args.files.get(place.offset) if isinstance(source, Release) else None
    if isinstance(source, Release) and name and len(source.part(name)) <= place.size:
        return source.part(name)
    return data[:extent]


def _extents(firmware: Firmware) -> Mapping[str, int]:
    """Return how many bytes of the legacy partitions carry something."""
    if firmware.layout.name == "modern":
        return {}
    from esp_at_tools.settings.legacy import LegacyLayout

    assert isinstance(firmware.layout, LegacyLayout)  # noqa: S101 - what its name says
    return firmware.layout.extents()


def _mfg_nvs(
    source: Source, place: Partition, data: bytes, notes: list[str], *, private: bool
) -> UserPartition:
    """Return ``mfg_nvs`` with a CSV that makes it; laid out anew where a device has written to it."""
    data = data.ljust(place.size, b"\xff")
    nvs = NvsPartition.from_bytes(data)
    if not nvs.opened or nvs.loses_entries:
        raise InputError(
            f"{source.path}: its {MFG_NVS} is damaged; see 'esp-at-tool nvs check'", "download it again"
        )
    text = _csv_beside(source, place)
    if text and makes(text, data, nvs.version):
        return UserPartition(data, private, text)
    text = dump_csv(nvs.entries, nvs.namespaces)
    anew = NvsPartition.from_csv(text, place.size, version=nvs.version).to_bytes()
    if anew != data:
        notes.append(f"{MFG_NVS} was laid out anew from the same entries, as the official generator does it")
    return UserPartition(anew.ljust(place.size, b"\xff"), private, text)


def _csv_beside(source: Source, place: Partition) -> str:
    if not isinstance(source, Release):
        return ""
    name = source.args.files[place.offset]
    beside = str(Path(name).with_suffix(".csv").as_posix())
    return source.text(beside) if source.has(beside) else ""


def makes(text: str, data: bytes, version: int) -> bool:
    """Tell whether a CSV that needs no other file makes these bytes of ``mfg_nvs``."""
    try:
        made = NvsPartition.from_csv(text, len(data), version=version, read_file=_no_file)
    except InputError:
        return False
    return made.to_bytes() == data


def _no_file(name: str) -> bytes:
    raise InputError(f"{name}: is a file on another machine", "")

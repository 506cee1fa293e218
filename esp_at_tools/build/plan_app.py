"""Whether an application fits the partition that a module has for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.build.plan_report import LOW, kb, room_for_app
from esp_at_tools.catalog.module_model import Module
from esp_at_tools.catalog.module_yaml import Level
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.files import read_file, read_head
from esp_at_tools.formats.app_image import ESP8266_V2_MAGIC, IMAGE_MAGIC, AppImage
from esp_at_tools.formats.partition_table import Partition

_NO_UPDATE = ("", "off")


@dataclass(frozen=True)
class AppFile:
    """An application and its size.

    Attributes:
        path: the file, image or release that it is from.
        size: bytes that it takes in flash, a signature included.
        chip: ``esp32c3``.
        module: ``MINI-1``, where the firmware says which module it is for, else ``""``.
    """

    path: Path
    size: int
    chip: str
    module: str = ""


@dataclass(frozen=True)
class Fit:
    """How an application fits a module.

    Attributes:
        app: the application.
        module: full name of the module.
        partition: the smallest partition that has to hold it.
    """

    app: AppFile
    module: str
    partition: Partition

    @property
    def left(self) -> int:
        """Bytes that are left; negative where it does not fit."""
        return self.partition.size - self.app.size

    @property
    def level(self) -> Level | None:
        """``error`` where it does not fit, ``warning`` where less than 5 % is left, else None."""
        if self.left < 0:
            return "error"
        return "warning" if self.left * LOW < self.partition.size else None

    @property
    def message(self) -> str:
        """What is to be said."""
        name, room = self.partition.name, kb(self.partition.size)
        if self.left < 0:
            return (
                f"the application of {self.app.path} ({self.app.size} bytes) does not fit {name} of {room}: "
                f"{-self.left} bytes too many"
            )
        part = 100 * self.left / self.partition.size
        return f"the application of {self.app.path} leaves {kb(self.left)} ({part:.1f} %) of {name} of {room}"

    @property
    def hint(self) -> str:
        """What makes room."""
        return (
            "more room: a larger flash (--flash), no second slot or file system; or --silence, features off"
        )


def read_app(path: Path) -> AppFile:
    """Return the application of an ``esp-at.bin``, a full image, a release folder or its ``.zip``.

    Raises:
        InputError: it cannot be read, or there is no application in it.
    """
    if path.is_file() and read_head(path, 1, "application")[:1] in (
        bytes([IMAGE_MAGIC]),
        bytes([ESP8266_V2_MAGIC]),
    ):
        data = read_file(path, "application")
        try:
            image = AppImage.from_bytes(data)
        except FormatError as error:
            raise FormatError(f"{path}: {error.message}", error.hint) from error
        if not image.is_bootloader:
            return AppFile(path, image.size + (image.signature.size if image.signature else 0), image.chip)
    return _from_firmware(path)


def _from_firmware(path: Path) -> AppFile:
    from esp_at_tools.firmware.firmware import Firmware
    from esp_at_tools.firmware.survey import read_slots

    firmware = Firmware.open(path)
    found = firmware.map
    images = [slot for slot in read_slots(firmware.source, found) if slot.image] if found else []
    best = next((slot for slot in images if slot.starts), images[0] if images else None)
    if best is None or best.image is None:
        raise InputError(f"{path}: no application is in it", "give an esp-at.bin, a full image or a release")
    image = best.image
    size = image.size + (image.signature.size if image.signature else 0)
    return AppFile(path, size, image.chip, str(firmware.settings().get("module_name") or ""))


def app_partition(module: Module) -> Partition | None:
    """Return the smallest partition of a module that has to hold its application.

    With updates that are not compressed each slot has to; else the largest one, as the others hold
    the compressed update.
    """
    apps = module.primary.apps
    if not apps:
        return None
    compressed = module.features.get("compressed_ota")
    if compressed is None or compressed.state in _NO_UPDATE:
        return min(apps, key=lambda each: each.size)
    room = room_for_app(module.primary)
    return next(each for each in apps if each.size == room)


def fits(app: AppFile, modules: Iterable[Module]) -> Iterator[Fit]:
    """Yield how an application fits those modules that have its chip."""
    for each in modules:
        partition = app_partition(each)
        if each.chip.name == app.chip and partition is not None:
            yield Fit(app, each.full_name, partition)

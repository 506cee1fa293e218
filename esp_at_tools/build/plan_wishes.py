"""What may be asked of a partition plan, and the kinds of partitions that it tells apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from esp_at_tools.build.plan_report import FILE_SYSTEMS, STORAGE, kb
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.formats.partition_checks import MIN_WRITABLE_NVS
from esp_at_tools.formats.partition_table import (
    APP,
    AT_CUSTOMIZE,
    AT_CUSTOMIZE_TYPE,
    DATA,
    NVS_DATA,
    OTA_APP_MIN,
    OTA_DATA,
    SECTOR_SIZE,
    SUBTYPES,
    Partition,
    PartitionTable,
    encode_name,
)
from esp_at_tools.settings.names import FACTORY_PARAM

FLASH_SIZES = tuple(1 << power for power in range(20, 25))
"""Flash sizes in bytes, 1 to 16 MB: what ESP-AT's modules have."""
MFG_NVS = "mfg_nvs"
SECOND_SLOT = "ota_1"
STORAGE_NAME = "storage"
"""Name of the partition that compressed updates are stored in."""
MIN_FILE_SYSTEM = 100 << 10
"""Bytes of the smallest file system that a plan makes by itself: FAT needs 16 clusters of 4 KB beside its
tables and those of the wear levelling, and the smallest official one has this size."""
MAX_SLOT = 4 << 20
"""Bytes that an application slot grows to at most: the ESP32-C2's MMU maps no more."""
SLOT_STEP = 64 << 10
ASSUMED = (3, 4)
"""Part of the smallest slot that an application of unknown size is taken to need."""
SMALLEST_APP = 844288
"""Bytes of the smallest official application: that of the ESP8266, v2.2.1.0."""
USUAL_MFG_NVS = 60 << 10
"""Bytes of the smallest official ``mfg_nvs``."""


def is_file_system(partition: Partition) -> bool:
    """Tell whether a partition holds a file system."""
    return partition.type == DATA and partition.subtype_name in FILE_SYSTEMS


def is_store(partition: Partition) -> bool:
    """Tell whether a partition holds an update that is to be unpacked, or a slot that is smaller."""
    return partition.type == APP or (partition.type == DATA and partition.subtype == STORAGE)


def new_user(name: str, size: int, others: list[Partition]) -> Partition:
    """Return a new user partition, without a place yet.

    A name that ESP-IDF knows as a kind of data partition gets that kind, ``fatfs`` is a FAT; any other is
    of type 0x40, as the user guide asks, with the first subtype that no other has.
    """
    subtype = SUBTYPES[DATA].get({"fatfs": "fat", MFG_NVS: "nvs"}.get(name, name))
    if subtype is not None:
        return Partition(name, DATA, subtype, 0, size)
    taken = {each.subtype for each in others if each.type == AT_CUSTOMIZE_TYPE} | {0}
    free = next((number for number in range(256) if number not in taken), 0)
    return Partition(name, AT_CUSTOMIZE_TYPE, free, 0, size)


@dataclass(frozen=True)
class Present:
    """The tables as they are.

    Attributes:
        primary: the primary table.
        secondary: the table in ``at_customize``.
        home: ``at_customize``.
        head: what stands before it.
        tail: what stands behind it, in the order of the places.
        users: the partitions in it, in the order of the places.
        slots: the largest application partitions of the tail, all of one size.
        stores: where an update waits to be unpacked: smaller slots, and the storage of compressed ones.
        slot_size: bytes of a slot, 0 without any.
    """

    primary: PartitionTable
    secondary: PartitionTable
    home: Partition
    head: tuple[Partition, ...]
    tail: tuple[Partition, ...]
    users: tuple[Partition, ...]
    slots: tuple[Partition, ...]
    stores: tuple[Partition, ...]
    slot_size: int

    @classmethod
    def of(cls, primary: PartitionTable, secondary: PartitionTable) -> Present:
        """Sort out two tables.

        Raises:
            InputError: the primary one has no ``at_customize``.
        """
        home = primary.find(AT_CUSTOMIZE)
        if home is None:
            raise InputError(
                f"the primary table has no partition {AT_CUSTOMIZE}", "give tables of an ESP-AT firmware"
            )
        rows = sorted(primary, key=lambda each: each.offset)
        tail = tuple(each for each in rows if each.offset > home.offset)
        largest = max((each.size for each in tail if each.type == APP), default=0)
        slots = tuple(each for each in tail if each.type == APP and each.size == largest)
        return cls(
            primary,
            secondary,
            home,
            head=tuple(each for each in primary if each.offset < home.offset),
            tail=tail,
            users=tuple(sorted(secondary, key=lambda each: each.offset)),
            slots=slots,
            stores=tuple(each for each in tail if is_store(each) and each not in slots),
            slot_size=largest,
        )

    def with_second_slot(self) -> Present:
        """Return the tables with a second slot for the updates, as large as the first one.

        Raises:
            InputError: there is no slot, or no partition that tells which of the two is the newer.
        """
        only = self.first_slot
        if only is None or not self.primary.of_type(DATA, OTA_DATA):
            what = "slot" if only is None else "partition of sub-type ota (otadata)"
            raise InputError(
                f"there can be no second slot: the primary table has no {what}",
                "start from a module that is updated over the air",
            )
        first = replace(only, name=SECOND_SLOT[:-1] + "0", subtype=OTA_APP_MIN)
        last = max(self.primary, key=lambda each: each.offset)
        second = replace(first, name=SECOND_SLOT, subtype=OTA_APP_MIN + 1, offset=last.end)
        rows = tuple(first if each == only else each for each in self.primary)
        return Present.of(PartitionTable((*rows, second), self.primary.md5), self.secondary)

    @property
    def settings_name(self) -> str | None:
        """Name of the user partition that the firmware reads its settings from, None where it has none."""
        names = {each.name for each in self.users}
        return next((name for name in (MFG_NVS, FACTORY_PARAM) if name in names), None)

    @property
    def first_slot(self) -> Partition | None:
        """The slot that a firmware leaves the factory in."""
        return min(self.slots, key=lambda each: each.subtype, default=None)


def checked_wishes(now: Present, wishes: Mapping[str, int], app_size: int | None) -> dict[str, int]:
    """Return the wishes, after checking that each can be; without those to remove what is not there.

    Raises:
        InputError: one cannot.
    """
    known = {each.name: each for each in (*now.primary, *now.secondary)}
    for name, size in wishes.items():
        _check_wish(now, name, size, known.get(name), app_size or 0)
    asked = {wishes[each.name] for each in now.slots if wishes.get(each.name)}
    if len(asked) > 1:
        names = ", ".join(each.name for each in now.slots)
        raise InputError(f"{names}: slots of different sizes", "give one size; it counts for all of them")
    return {name: size for name, size in wishes.items() if size or name in known}


def _check_new_name(now: Present, name: str) -> None:
    """Refuse a new user partition with a name that means another kind of partition."""
    if name in (MFG_NVS, FACTORY_PARAM):
        raise _other_layout(now, name)
    if name in SUBTYPES[APP] and name != "test":  # which the user guide takes itself
        what = "an application partition"
    elif name == STORAGE_NAME:
        what = "the partition of compressed updates"
    else:
        return
    raise InputError(
        f"{name} is the name of {what}, and there is none of that name",
        "start from a module that has it, or give a user partition another name",
    )


def _other_layout(now: Present, name: str) -> InputError:
    """Return the error of a partition for settings in a firmware that reads them elsewhere, or nowhere."""
    if (own := now.settings_name) is None:
        return InputError(
            f"{name}: the firmware has no partition of that name to read", "give it another name"
        )
    history = {
        MFG_NVS: f"{MFG_NVS} came with v3.0; 'esp-at-tool migrate' carries {own} to a newer firmware",
        FACTORY_PARAM: f"{FACTORY_PARAM} went with v3.0",
    }
    return InputError(
        f"{name}: the firmware keeps its settings in {own} and would not read it",
        f"{history[name]}; a user partition can have any other name",
    )


def _check_slot(now: Present, name: str, size: int, app_size: int) -> None:
    """Refuse a slot that no application fits."""
    if size % SLOT_STEP:
        raise InputError(f"{name}: {kb(size)} is not a multiple of 64 KB", "slots begin on 64 KB")
    if 0 < size < app_size:
        raise InputError(
            f"{name}: {kb(size)} is too small for the application of {app_size} bytes",
            f"{app_size - size} bytes are missing",
        )
    if 0 < size < SMALLEST_APP and not app_size:
        enough, (numerator, denominator) = -(-SMALLEST_APP // SLOT_STEP) * SLOT_STEP, ASSUMED
        usual = -(-now.slot_size * numerator // denominator // SLOT_STEP) * SLOT_STEP
        raise InputError(
            f"{name}: {kb(size)} is too small for any application of AT: the smallest official one has"
            f" {SMALLEST_APP} bytes",
            f"give {kb(max(usual, enough))}, as one for this chip is likely to need; {kb(enough)} at least",
        )


def _check_wish(now: Present, name: str, size: int, there: Partition | None, app_size: int) -> None:
    try:
        encode_name(name)
    except FormatError as error:
        raise InputError(error.message, error.hint) from error
    if not name.isascii() or not name.replace("_", "").replace("-", "").replace(".", "").isalnum():
        raise InputError(f"{name!r} cannot be the name of a partition", "use letters, digits, - and _")
    if size < 0 or size % SECTOR_SIZE:
        below = max(size, 0) // SECTOR_SIZE * SECTOR_SIZE
        raise InputError(
            f"{name}: {size} bytes are not a multiple of 4 KB",
            f"give {kb(below)} or {kb(below + SECTOR_SIZE)}",
        )
    if there is None and size:
        _check_new_name(now, name)
    if there is not None and there in now.head:
        raise InputError(
            f"{name} keeps its size of {kb(there.size)}: it stands before {AT_CUSTOMIZE}",
            f"the place of {AT_CUSTOMIZE} is compiled into the firmware",
        )
    if there in now.slots:
        _check_slot(now, name, size, app_size)
    first = now.first_slot
    needed = (AT_CUSTOMIZE, now.settings_name or MFG_NVS, first.name if first else "")
    if not size and name in needed:
        raise InputError(f"{name} cannot be removed: the firmware needs it", "give it a size")
    is_nvs = name == MFG_NVS or (there is not None and (there.type, there.subtype) == (DATA, NVS_DATA))
    if is_nvs and 0 < size < MIN_WRITABLE_NVS:
        raise InputError(f"{name}: {kb(size)} is too small for NVS", f"give {kb(MIN_WRITABLE_NVS)} or more")

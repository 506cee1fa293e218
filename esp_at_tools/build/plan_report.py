"""What a partition plan comes to: the tables, what has changed in them, and what is to be said about it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from esp_at_tools.formats.partition_table import APP, AT_CUSTOMIZE, DATA, Partition, PartitionTable

STORAGE = 0x22
"""Subtype of the data partition that compressed updates are stored in (esp-bootloader-plus)."""
FILE_SYSTEMS = ("fat", "spiffs", "littlefs")
"""Subtypes of data partitions that hold a file system."""
LOW = 20
"""A partition of which less than one part in so many is left is nearly full: 5 %."""
Role = Literal["primary", "secondary"]


def kb(size: int) -> str:
    """Return bytes in KB, exactly where they are a multiple: ``1856 KB``, ``1463.3 KB``."""
    return f"{size >> 10} KB" if size % 1024 == 0 else f"{size / 1024:.1f} KB"


@dataclass(frozen=True)
class Change:
    """One partition that is not what it was.

    Attributes:
        table: in which table it is.
        old: what it was, None for a new one.
        new: what it is, None for one that is gone.
    """

    table: Role
    old: Partition | None
    new: Partition | None

    @property
    def name(self) -> str:
        """The partition's name."""
        return (self.new or self.old or Partition("", 0, 0, 0, 0)).name

    def __str__(self) -> str:
        """``ota_0: 1856 KB at 0x60000 → 2880 KB at 0x180000 (+1024 KB)``."""
        if self.old is None or self.new is None:
            each = self.new or self.old
            what = "new" if self.old is None else "removed"
            return f"{self.name}: {what}" + (f", {kb(each.size)} at {each.offset:#x}" if each else "")
        grown = self.new.size - self.old.size
        more = f" ({'+' if grown > 0 else '-'}{kb(abs(grown))})" if grown else " (moved)"
        old, new = (f"{kb(each.size)} at {each.offset:#x}" for each in (self.old, self.new))
        return f"{self.name}: {old} → {new}{more}"


@dataclass(frozen=True)
class Note:
    """Something to say about a plan.

    Attributes:
        level: ``warning`` where the firmware loses something, else ``info``.
        message: what.
        hint: what can be done about it; may be empty.
        lost: name of the feature that the layout has no place for any more, ``""`` for none.
    """

    level: Literal["info", "warning"]
    message: str
    hint: str = ""
    lost: str = ""


@dataclass(frozen=True)
class Plan:
    """A layout of both tables.

    Attributes:
        primary: the primary table.
        secondary: the table in ``at_customize``.
        flash_size: bytes of the flash.
        app_size: bytes of the application, None where that is unknown.
        changes: the partitions that are not what they were, in the order of the tables.
        notes: what is to be said.
    """

    primary: PartitionTable
    secondary: PartitionTable
    flash_size: int
    app_size: int | None
    changes: tuple[Change, ...]
    notes: tuple[Note, ...]

    @property
    def removed(self) -> tuple[str, ...]:
        """Names of the partitions that are gone: features that need them must be off."""
        return tuple(change.name for change in self.changes if change.new is None)

    @property
    def app_room(self) -> int:
        """Bytes that an application may have: those of the partition that it starts from."""
        return room_for_app(self.primary)


def room_for_app(primary: PartitionTable) -> int:
    """Return the bytes that an application may have: the largest application partition's.

    Smaller ones beside it hold compressed updates; slots that are used in turn have the same size.
    """
    return max((each.size for each in primary.apps), default=0)


def room_for_user(primary: PartitionTable, secondary: PartitionTable) -> int:
    """Return the bytes in ``at_customize``, the sector of its table apart, that no partition has."""
    home = primary.find(AT_CUSTOMIZE)
    return home.size - 0x1000 - sum(each.size for each in secondary) if home else 0


def changes_between(old: PartitionTable, new: PartitionTable, role: Role) -> Iterator[Change]:
    """Yield the partitions that differ between two tables, in the order of the new one, gone ones last."""
    for each in new:
        before = old.find(each.name)
        if before != each:
            yield Change(role, before, each)
    for each in old:
        if new.find(each.name) is None:
            yield Change(role, each, None)


def can_update(primary: PartitionTable) -> bool:
    """Tell whether an application can be updated over the air: there is a second place for one."""
    slots = [each for each in primary if each.is_ota_app]
    return bool(slots) and (len(slots) > 1 or bool(primary.of_type(DATA, STORAGE)))


def plan_notes(
    old: PartitionTable,
    primary: PartitionTable,
    secondary: PartitionTable,
    changes: tuple[Change, ...],
    *,
    flash_size: int,
    app_size: int | None,
    needed: int,
    unused: Collection[str],
) -> Iterator[Note]:
    """Yield what is to be said about a layout.

    Args:
        old: the primary table as it was.
        primary: the primary table.
        secondary: the secondary table.
        changes: what has changed.
        flash_size: bytes of the flash.
        app_size: bytes of the application, None where that is unknown.
        needed: bytes that the layout keeps for the application.
        unused: user partitions that nothing uses.
    """
    if can_update(old) and not can_update(primary):
        gone = " and ".join(change.name for change in changes if change.new is None and _is_place(change.old))
        message = f"{gone or 'the second slot'} is gone: the application cannot be updated over the air"
        yield Note("warning", message, "switch the feature ota off, or take a larger flash", "ota")
    for change in changes:
        if change.new is None and change.old is not None and change.table == "secondary":
            yield _lost_user(change.old, unused)
    yield from _room_notes(room_for_app(old), room_for_app(primary), app_size, needed, changed=bool(changes))
    if changes:
        free = room_for_user(primary, secondary)
        yield Note("info", f"{kb(free)} of {AT_CUSTOMIZE} are free for more partitions")
        if left := flash_size - primary.end:
            yield Note("info", f"{kb(left)} at the end of the flash are not used")


def _is_place(partition: Partition | None) -> bool:
    return partition is not None and (
        partition.type == APP or (partition.type, partition.subtype) == (DATA, STORAGE)
    )


def _room_notes(
    before: int, room: int, app_size: int | None, needed: int, *, changed: bool
) -> Iterator[Note]:
    if app_size is not None:
        left = room - app_size
        level: Literal["info", "warning"] = "warning" if left * LOW < room else "info"
        yield Note(level, f"the application of {app_size} bytes leaves {kb(left)} of its {kb(room)}")
    elif room < before:
        kept = f"{kb(needed)} were kept for it at least"
        likely = f"one for this module is likely to need {kb(needed)}"
        yield Note(
            "warning",
            f"an application may have up to {kb(room)} instead of {kb(before)}, and its size is not known: "
            f"{kept if needed <= room else likely}",
            "'modules check --app FILE' tells whether it fits",
        )
    elif changed:
        yield Note("info", f"an application may have up to {kb(room)}")


def _lost_user(gone: Partition, unused: Collection[str]) -> Note:
    if gone.name in unused:
        return Note("info", f"{gone.name} is gone, which nothing uses")
    if gone.type == DATA and gone.subtype_name in FILE_SYSTEMS:
        message = f"{gone.name} is gone: there is no file system"
        return Note("warning", message, "switch the feature fs off", "fs")
    return Note("warning", f"{gone.name} is gone")

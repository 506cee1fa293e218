"""The search for a layout: what may give way, in which order, and where everything stands."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from esp_at_tools.build.plan_report import room_for_app
from esp_at_tools.build.plan_wishes import (
    ASSUMED,
    MAX_SLOT,
    MIN_FILE_SYSTEM,
    SLOT_STEP,
    Present,
    checked_wishes,
    is_file_system,
    new_user,
)
from esp_at_tools.formats.partition_table import (
    AT_CUSTOMIZE,
    SECTOR_SIZE,
    Partition,
    PartitionTable,
    alignment_of,
)

# --- what may give way --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Concession:
    """What a layout gives up.

    Attributes:
        slots: the slots may be as small as the application allows.
        small_fs: file systems may be as small as they can be.
        no_unused_fs: those that nothing uses may go.
        one_slot: only the first slot stays, and no place for an update.
        no_fs: all file systems may go.
    """

    slots: bool = False
    small_fs: bool = False
    no_unused_fs: bool = False
    one_slot: bool = False
    no_fs: bool = False


CONCESSIONS = (
    Concession(),
    Concession(slots=True),
    Concession(slots=True, small_fs=True),
    Concession(slots=True, small_fs=True, no_unused_fs=True),
    Concession(slots=True, one_slot=True),
    Concession(slots=True, one_slot=True, small_fs=True),
    Concession(slots=True, one_slot=True, small_fs=True, no_unused_fs=True),
    Concession(slots=True, one_slot=True, small_fs=True, no_fs=True),
)
"""From nothing to all; the first that fits is taken."""

Tables = tuple[PartitionTable, PartitionTable]


class Job:
    """One layout to be found."""

    def __init__(
        self,
        now: Present,
        flash_size: int,
        old_flash_size: int,
        *,
        app_size: int | None,
        wishes: Mapping[str, int],
        unused: Collection[str],
        second_slot: bool,
    ) -> None:
        """Keep what is asked for, after checking it; see :func:`esp_at_tools.build.planner.plan`."""
        self.now, self.flash_size, self.old_flash_size = now, flash_size, old_flash_size
        self.app_size, self.unused = app_size, unused
        numerator, denominator = ASSUMED
        self.needed = now.slot_size * numerator // denominator if app_size is None else app_size
        self.wishes = checked_wishes(now, wishes, app_size)
        self.keep_slots = second_slot or any(
            wishes.get(each.name) for each in now.slots if each != now.first_slot
        )
        sizes = {each.name: each.size for each in (*now.primary, *now.secondary)}
        as_it_is = all(sizes.get(name) == size for name, size in self.wishes.items())
        removed = any(wishes.get(each.name) == 0 for each in now.tail)
        self.has_more = flash_size > old_flash_size or removed
        self.is_change = second_slot or not as_it_is or flash_size != old_flash_size

    def for_flash(self, flash_size: int) -> Job:
        """Return the same job for another flash."""
        other = copy.copy(self)
        other.flash_size = flash_size
        other.is_change = True
        other.has_more = self.has_more or flash_size > self.old_flash_size
        return other

    def with_wish(self, name: str, size: int) -> Job:
        """Return the same job with another size of a user partition."""
        other = copy.copy(self)
        other.wishes = {**self.wishes, name: size}
        other.is_change = True
        return other

    @property
    def slot_wish(self) -> int | None:
        """The size that is asked for the slots."""
        return next((self.wishes[each.name] for each in self.now.slots if self.wishes.get(each.name)), None)

    def solve(self) -> Tables | None:
        """Return the layout with the fewest concessions, or None."""
        if not self.is_change and self._holds_application(self.now.primary):
            return self.now.primary, self.now.secondary
        return next(filter(None, (self._attempt(each) for each in CONCESSIONS)), None)

    def _holds_application(self, table: PartitionTable) -> bool:
        sizes = [p.size for p in table.apps if p.name not in {each.name for each in self.now.stores}]
        return table.end <= self.flash_size and min(sizes, default=0) >= (self.app_size or 0)

    # One attempt: what stays, how large it is, and where it stands.

    def _attempt(self, concession: Concession) -> Tables | None:
        users = self.users_in(concession)
        tail = self.tail_in(concession)
        found: list[Tables] = []
        for keep_places in (True, False):
            lower = self._fit(tail, self.minimal(users, concession), keep_places, concession)
            if lower is not None:
                found.append(self._improve(tail, users, lower, keep_places, concession))
                if not concession.slots:
                    break
        # Unused room goes before a slot gets smaller, but nothing moves in vain.
        return max(found, key=lambda tables: room_for_app(tables[0]), default=None)

    def tail_in(self, concession: Concession) -> tuple[Partition, ...]:
        first = self.now.first_slot
        gone = {name for name, size in self.wishes.items() if size == 0}
        if concession.one_slot and not self.keep_slots:
            gone |= {each.name for each in (*self.now.slots, *self.now.stores) if each is not first}
        return tuple(each for each in self.now.tail if each.name not in gone)

    def users_in(self, concession: Concession) -> tuple[Partition, ...]:
        """Return the user partitions with the sizes that they have or are asked to have, new ones last."""
        kept = []
        for each in self.now.users:
            size = self.wishes.get(each.name, each.size)
            unused = each.name in self.unused
            if self._may_change(each):
                if concession.no_fs or (concession.no_unused_fs and unused):
                    continue
                if concession.slots and unused:  # before a slot gets smaller for a file system of no use
                    size = min(size, MIN_FILE_SYSTEM)
            if size:
                kept.append(replace(each, size=size))
        known = {each.name for each in (*self.now.users, *self.now.primary)}
        new = [(name, size) for name, size in self.wishes.items() if name not in known]
        for name, size in new:
            kept.append(new_user(name, size, kept))
        return tuple(kept)

    def minimal(self, users: tuple[Partition, ...], concession: Concession) -> tuple[Partition, ...]:
        if not concession.small_fs:
            return users
        return tuple(
            replace(each, size=min(each.size, MIN_FILE_SYSTEM)) if self._may_change(each) else each
            for each in users
        )

    def _may_change(self, each: Partition) -> bool:
        return is_file_system(each) and each.name not in self.wishes

    def slot_range(self, concession: Concession) -> tuple[int, int]:
        """Return the smallest and the largest size of a slot in this attempt."""
        if self.slot_wish is not None:
            return self.slot_wish, self.slot_wish
        smallest = -(-max(self.needed, 1) // SLOT_STEP) * SLOT_STEP
        low = min(smallest, self.now.slot_size) if concession.slots and self.app_size is None else smallest
        if concession.slots:
            return low, max(low, MAX_SLOT if concession.one_slot else self.now.slot_size)
        return max(low, self.now.slot_size), max(low, self.now.slot_size)

    def _fit(
        self, tail: tuple[Partition, ...], users: tuple[Partition, ...], keep: bool, concession: Concession
    ) -> Tables | None:
        """Return the layout with the smallest slots, or None where even that does not fit."""
        low, _ = self.slot_range(concession)
        grown = self._grown_home(concession, keep=keep)
        return self._lay_out(tail, users, low, keep, minimum=grown)

    def _grown_home(self, concession: Concession, *, keep: bool) -> int:
        """Return the size that ``at_customize`` shall have at least."""
        wished = self.wishes.get(AT_CUSTOMIZE)
        if wished is not None:
            return wished
        return self.now.home.size if keep and concession == Concession() else SECTOR_SIZE

    def _improve(
        self,
        tail: tuple[Partition, ...],
        users: tuple[Partition, ...],
        found: Tables,
        keep: bool,
        concession: Concession,
    ) -> Tables:
        """Return the layout with the room that is left put to use."""
        low, high = self.slot_range(concession)
        minimum = self._grown_home(concession, keep=keep)
        small = self.minimal(users, concession)
        free = self.flash_size - found[0].end
        if self.has_more and concession == Concession() and self.slot_wish is None:
            high = self._grown_slot(tail, low, free)
        # First the file systems, back to what they were; then the slots, from the largest size down.
        for each in _between(small, users):
            if (better := self._lay_out(tail, each, low, keep, minimum=minimum)) is not None:
                found, small = better, each
                break
        for slot in range(high // SLOT_STEP * SLOT_STEP, low, -SLOT_STEP):
            if (better := self._lay_out(tail, small, slot, keep, minimum=minimum)) is not None:
                found, low = better, slot
                break
        if (self.has_more or concession.one_slot) and AT_CUSTOMIZE not in self.wishes:
            found = self._with_grown_users(tail, small, low, keep, found)
        return found

    def _grown_slot(self, tail: tuple[Partition, ...], low: int, free: int) -> int:
        """Return the size of a slot when the applications take a half of what is free."""
        parts = [each for each in tail if each in self.now.slots or each in self.now.stores]
        total = sum(each.size for each in parts)
        if not total:
            return low
        grown = self.now.slot_size + free // 2 * self.now.slot_size // total
        return max(low, min(grown // SLOT_STEP * SLOT_STEP, max(MAX_SLOT, self.now.slot_size)))

    def _with_grown_users(
        self, tail: tuple[Partition, ...], users: tuple[Partition, ...], slot: int, keep: bool, found: Tables
    ) -> Tables:
        """Return the layout with ``at_customize`` up to the applications, which move to the flash's end."""
        free = (self.flash_size - found[0].end) // SLOT_STEP * SLOT_STEP
        home = found[0].find(AT_CUSTOMIZE)
        if home is None or not free:
            return found
        growing = [each for each in users if self._may_change(each)]
        step = free // 2 // max(len(growing), 1) // SECTOR_SIZE * SECTOR_SIZE
        larger = tuple(replace(p, size=p.size + step) if p in growing else p for p in users)
        size = home.size + free
        return self._lay_out(tail, larger, slot, keep, minimum=size) or found

    # Places.

    def _lay_out(
        self,
        tail: tuple[Partition, ...],
        users: tuple[Partition, ...],
        slot: int,
        keep: bool,
        *,
        minimum: int,
    ) -> Tables | None:
        """Return the tables for these sizes, or None where they do not fit the flash."""
        start = self.now.home.offset + SECTOR_SIZE
        limit = None
        if AT_CUSTOMIZE in self.wishes:
            limit = self.now.home.offset + self.wishes[AT_CUSTOMIZE]
        placed = place_users(users, start, keep_places=keep)
        end = max((each.end for each in placed), default=start)
        if limit is not None and end > limit:
            return None
        end = max(end, self.now.home.offset + minimum)
        after = self._place_tail(tail, end, slot)
        if after is None or not placed:
            return None
        # What lies between the user partitions and what follows them belongs to at_customize.
        home_end = after[0].offset if after and limit is None else end
        home = replace(self.now.home, size=home_end - self.now.home.offset)
        primary = PartitionTable((*self.now.head, home, *after), self.now.primary.md5)
        return primary, PartitionTable(placed, self.now.secondary.md5)

    def _place_tail(self, tail: tuple[Partition, ...], start: int, slot: int) -> list[Partition] | None:
        """Return what follows ``at_customize`` with its places, or None where it reaches past the flash.

        A store may give up a tenth for a slot that is larger by 64 KB, and gets what alignment leaves.
        """
        for tenths in (10, 9):
            cursor = start
            after: list[Partition] = []
            for each in tail:
                cursor += -cursor % alignment_of(each.type)
                if after and self._is_elastic(after[-1]):
                    after[-1] = replace(after[-1], size=cursor - after[-1].offset)
                size = self.size_in(each, slot, tenths)
                after.append(replace(each, offset=cursor, size=size))
                cursor += size
            if cursor <= self.flash_size:
                if after and self._is_elastic(after[-1]) and self.flash_size - cursor < SLOT_STEP:
                    after[-1] = replace(after[-1], size=self.flash_size - after[-1].offset)
                return after
        return None

    def _is_elastic(self, each: Partition) -> bool:
        return each.name in {store.name for store in self.now.stores} and each.name not in self.wishes

    def size_in(self, each: Partition, slot: int, tenths: int = 10) -> int:
        """Return the size of a partition behind ``at_customize`` beside slots of a size."""
        if each in self.now.slots:
            return slot
        if self._is_elastic(each) and self.now.slot_size:
            share = slot * each.size * tenths // (self.now.slot_size * 10)
            return -(-share // SECTOR_SIZE) * SECTOR_SIZE
        return self.wishes.get(each.name, each.size)


def _between(small: tuple[Partition, ...], large: tuple[Partition, ...]) -> Iterator[tuple[Partition, ...]]:
    """Yield user partitions with file systems from their full size down to the small one."""
    steps = max((b.size - a.size for a, b in zip(small, large, strict=True)), default=0) // SECTOR_SIZE
    for step in range(steps):
        yield tuple(
            replace(a, size=max(a.size, b.size - step * SECTOR_SIZE))
            for a, b in zip(small, large, strict=True)
        )


def place_users(users: tuple[Partition, ...], start: int, *, keep_places: bool) -> tuple[Partition, ...]:
    """Return user partitions with their places, none before ``start``, in the order of their places.

    Those that have a place (an offset) keep it as far as those before them allow; new ones take the first
    gap that is large enough. Without ``keep_places`` all of them stand one behind the other.
    """
    placed: list[Partition] = []
    cursor = start
    for each in users:
        if each.offset or not keep_places:
            step = alignment_of(each.type)
            at = max(cursor, each.offset) if keep_places else cursor
            at += -at % step
            placed.append(replace(each, offset=at))
            cursor = at + each.size
    for each in users:
        if keep_places and not each.offset:
            placed.append(replace(each, offset=_gap(placed, start, each)))
            placed.sort(key=lambda p: p.offset)
    return tuple(placed)


def _gap(placed: list[Partition], start: int, each: Partition) -> int:
    """Return where the first gap for a partition is, behind all others if there is none between."""
    step = alignment_of(each.type)
    at = start
    for other in placed:
        at += -at % step
        if at + each.size <= other.offset:
            return at
        at = other.end
    return at + -at % step

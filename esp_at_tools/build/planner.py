"""Lays the partitions of a module out anew: for another flash size, or for other sizes of some of them.

The rules are those of ESP-AT's user guide (how to customise partitions) and of ESP-IDF: what stands before
``at_customize``, and the place of ``at_customize`` itself, are compiled into the firmware and stay; user
partitions keep name and type; applications begin on 64 KB, data on 4 KB; the user partitions lie inside
``at_customize``, behind the sector of their table.

More flash goes one half to the applications and one half to ``at_customize``, where a file system takes a
half of it and the rest is left to the user. Where there is less, or a partition is asked to be larger,
something has to give way, in a fixed order: unused room, the size of the application slots down to what
the application needs, the file system, the slots of the update, the file system altogether.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from esp_at_tools.build.plan_layout import CONCESSIONS, Job, place_users
from esp_at_tools.build.plan_report import Change, Note, Plan, can_update, changes_between, kb, plan_notes
from esp_at_tools.build.plan_wishes import (
    FLASH_SIZES,
    MFG_NVS,
    SECOND_SLOT,
    SLOT_STEP,
    SMALLEST_APP,
    USUAL_MFG_NVS,
    Present,
    is_file_system,
)
from esp_at_tools.errors import InputError
from esp_at_tools.formats.partition_checks import check_secondary
from esp_at_tools.formats.partition_table import AT_CUSTOMIZE, SECTOR_SIZE, PartitionTable
from esp_at_tools.numbers import format_size, parse_number

__all__ = [
    "FLASH_SIZES",
    "Change",
    "Note",
    "Plan",
    "parse_flash_size",
    "parse_wish",
    "plan",
    "smallest_flash",
]


def plan(
    primary: PartitionTable,
    secondary: PartitionTable,
    *,
    table_offset: int,
    flash_size: int,
    old_flash_size: int | None = None,
    app_size: int | None = None,
    wishes: Mapping[str, int] | None = None,
    unused: Collection[str] = (),
    second_slot: bool = False,
) -> Plan:
    """Lay partitions out anew.

    Args:
        primary: the primary table as it is; it has a partition ``at_customize``.
        secondary: the table in ``at_customize`` as it is.
        table_offset: where the primary table is in flash.
        flash_size: bytes of the flash to fill, one of ``FLASH_SIZES``.
        old_flash_size: bytes of the flash that the tables are for; by default the smallest that holds them.
        app_size: bytes of the application; without it, three quarters of its slot are kept for it.
        wishes: name → bytes: partitions that shall have that size. A slot's size counts for all slots, a
            name that is not there is a new user partition, and 0 removes one.
        unused: user partitions that may go before the slots of the update do: ``fatfs`` in a firmware
            without file system.
        second_slot: there shall be a place for an update: where there is none, a slot ``ota_1`` is added.
            So it is with a wish for ``ota_1``.

    Returns:
        The new tables, what has changed, and what is to be said about it. Where nothing was asked for that
        the tables do not have already, they are the same.

    Raises:
        InputError: it does not fit, with the numbers and what would free space; a wish that cannot be.
    """
    if flash_size not in FLASH_SIZES:
        known = ", ".join(format_size(size) for size in FLASH_SIZES)
        raise InputError(f"{format_size(flash_size)} is not the size of a flash", f"it is one of {known}")
    _check_tables(primary, secondary, table_offset)
    old = old_flash_size or smallest_flash(primary)
    now = Present.of(primary, secondary)
    added = not can_update(primary) and (second_slot or bool((wishes or {}).get(SECOND_SLOT)))
    if added:
        now = now.with_second_slot()
    job = Job(
        now,
        flash_size,
        old,
        app_size=app_size,
        wishes=wishes or {},
        unused=unused,
        second_slot=added,
    )
    found = job.solve()
    if found is None:
        raise _no_room(job)
    _check_tables(*found, table_offset, flash_size)
    return _described(job, (primary, secondary), found)


def _described(
    job: Job, old: tuple[PartitionTable, PartitionTable], new: tuple[PartitionTable, PartitionTable]
) -> Plan:
    """Return the new tables with what has changed, and what is to be said about it."""
    changes = (*changes_between(old[0], new[0], "primary"), *changes_between(old[1], new[1], "secondary"))
    notes = plan_notes(
        old[0],
        *new,
        changes,
        flash_size=job.flash_size,
        app_size=job.app_size,
        needed=job.needed,
        unused=job.unused,
    )
    return Plan(*new, job.flash_size, job.app_size, changes, tuple(notes))


def smallest_flash(primary: PartitionTable) -> int:
    """Return the smallest of ``FLASH_SIZES`` that holds a table, the largest if none does."""
    return next((size for size in FLASH_SIZES if primary.end <= size), FLASH_SIZES[-1])


def parse_flash_size(text: str, what: str = "--flash") -> int:
    """Return the bytes of a flash size: ``8MB``, ``8M``, ``0x800000``.

    Raises:
        InputError: it is none of ``FLASH_SIZES``.
    """
    cleaned = text.strip()
    if cleaned[-2:].casefold() == "mb":
        cleaned = cleaned[:-1]
    try:
        size = parse_number(cleaned, what)
    except InputError:
        size = 0
    if size not in FLASH_SIZES:
        known = ", ".join(f"{each >> 20}MB" for each in FLASH_SIZES)
        raise InputError(f"{what}: {text[:60]!r} is not the size of a flash", f"give one of {known}")
    return size


def parse_wish(text: str, what: str = "--partition") -> tuple[str, int]:
    """Return name and bytes of a wish such as ``mfg_nvs=256K``.

    Raises:
        InputError: it is not NAME=SIZE.
    """
    name, equals, size = text.partition("=")
    name = name.strip()
    if not name or not equals:
        raise InputError(f"{what}: {text[:60]!r} is not NAME=SIZE", f"write {what} mfg_nvs=256K")
    return name, parse_number(size[:-1] if size[-2:].casefold() in ("kb", "mb") else size, f"{what} {name}")


def _check_tables(
    primary: PartitionTable, secondary: PartitionTable, table_offset: int, flash_size: int | None = None
) -> None:
    problems = [
        *primary.validate(offset_part_table=table_offset, flash_size=flash_size),
        *secondary.validate(offset_part_table=0, primary=False),
        *check_secondary(primary, secondary),
    ]
    wrong = next((each for each in problems if each.level == "error"), None)
    if wrong is not None:
        raise InputError(f"the partition tables are wrong: {wrong.message}", "mend them first")


def _no_room(job: Job) -> InputError:
    """Return the error that says by how much it does not fit, and what would free space."""
    last, home = CONCESSIONS[-1], job.now.home
    low, _ = job.slot_range(last)
    users, tail = job.users_in(last), job.tail_in(last)
    placed = place_users(job.minimal(users, last), home.offset + SECTOR_SIZE, keep_places=False)
    end = max((each.end for each in placed), default=home.offset + SECTOR_SIZE)
    end = max(end, home.offset + job.wishes.get(AT_CUSTOMIZE, 0))
    others = sum(job.size_in(p, low) for p in tail if p not in job.now.slots)
    room = job.flash_size - (end + -end % SLOT_STEP) - others
    if AT_CUSTOMIZE in job.wishes and placed and placed[-1].end > home.offset + job.wishes[AT_CUSTOMIZE]:
        wished = job.wishes[AT_CUSTOMIZE]
        missing = placed[-1].end - home.offset - wished
        return InputError(
            f"{AT_CUSTOMIZE}: {kb(wished)} is {kb(missing)} too small for the user partitions",
            f"give it {kb(placed[-1].end - home.offset)} or more",
        )
    count = sum(each in job.now.slots for each in tail)
    missing = low * count - room
    known = f"{job.needed} bytes" if job.app_size is not None else f"{kb(low)} (a guess: it is not known)"
    what = (
        f"{count} slots for an application of {known} do" if count > 1 else f"an application of {known} does"
    )
    left = f"{kb(room)} are left" if room > 0 else f"the user partitions end at {end:#x}"
    message = f"{format_size(job.flash_size)} of flash: {what} not fit: {left}, {kb(missing)} too few"
    remedies = [*_remedies(job, -(-missing // max(count, 1)))]
    return InputError(message, "; ".join(remedies) or "give smaller sizes")


def _most_of_a_wish(job: Job) -> str:
    """Return the largest size that a user partition of the wishes can have, ``""`` if none."""
    now = {each.name: each.size for each in (*job.now.users, *job.now.primary)}
    for name, wished in job.wishes.items():
        if name in {each.name for each in job.now.primary} or wished <= now.get(name, 0):
            continue
        low, high = now.get(name, SECTOR_SIZE) // SECTOR_SIZE, wished // SECTOR_SIZE
        if job.with_wish(name, low * SECTOR_SIZE).solve() is None:
            continue
        while low + 1 < high:  # what fits fits in a smaller size, too
            middle = (low + high) // 2
            fits = job.with_wish(name, middle * SECTOR_SIZE).solve() is not None
            low, high = (middle, high) if fits else (low, middle)
        return f"--partition {name}={low * SECTOR_SIZE >> 10}K is the most that fits"
    return ""


def _remedies(job: Job, each_app: int) -> Iterator[str]:
    """Yield what would free space, with what it frees.

    Args:
        job: what does not fit.
        each_app: by how many bytes an application would have to be smaller.
    """
    if job.needed - each_app >= SMALLEST_APP * 3 // 4:  # no application of AT is smaller than that
        yield f"make the application {kb(each_app)} smaller: --silence, or features off"
    fitting_wish = _most_of_a_wish(job)
    if fitting_wish:
        yield fitting_wish
    for each in job.now.users:
        size = job.wishes.get(each.name, each.size)
        if each.name in job.wishes and fitting_wish:
            continue
        if each.name == MFG_NVS and size > USUAL_MFG_NVS:
            yield f"--partition {MFG_NVS}={USUAL_MFG_NVS >> 10}K frees {kb(size - USUAL_MFG_NVS)}"
        elif size and each.name != MFG_NVS and (not is_file_system(each) or each.name in job.wishes):
            yield f"--partition {each.name}=0 frees {kb(size)}"
    if job.keep_slots:
        freed = job.slot_range(CONCESSIONS[-1])[0]
        yield f"without {SECOND_SLOT}, and so without updates over the air, {kb(freed)} are free"
    larger = (size for size in FLASH_SIZES if size > job.flash_size)
    if fitting := next((size for size in larger if job.for_flash(size).solve()), None):
        yield f"a flash of {format_size(fitting)} has the room"

"""What can be wrong with a partition table whose rows can all be read.

An error is what ``gen_esp32part.py`` of ESP-IDF v5.4.4 refuses, or what keeps the firmware from
starting; a warning is what only later versions refuse, or what is probably a mistake. Each check
stands alone and takes partitions, so that others may use it on what they have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from esp_at_tools.formats.partition_table import (
    APP,
    AT_CUSTOMIZE,
    COREDUMP_DATA,
    DATA,
    DEFAULT_OFFSET,
    FLAGS,
    NVS_DATA,
    OTA_APP_MIN,
    OTA_DATA,
    SECTOR_SIZE,
    SUBTYPES,
    TEE_OTA_DATA,
    TYPES,
    Level,
    Partition,
    PartitionTable,
    TableProblem,
    alignment_of,
)

OTA_DATA_SIZE = 2 * SECTOR_SIZE
"""Bytes of an ``otadata`` partition: two sectors that are written in turn."""
MIN_WRITABLE_NVS = 3 * SECTOR_SIZE
"""Bytes below which later versions of ESP-IDF demand the flag ``readonly`` of an NVS partition."""
_FLASH_LIMIT = 1 << 32


def check_table(
    table: PartitionTable,
    *,
    offset_part_table: int = DEFAULT_OFFSET,
    flash_size: int | None = None,
    primary: bool = True,
) -> list[TableProblem]:
    """Return everything that is wrong with a table by itself.

    Args:
        table: the table.
        offset_part_table: its address; partitions begin in the sector after it.
        flash_size: bytes of the flash, None where that is unknown.
        primary: whether an application has to be in it. A secondary table is checked against the
            primary one by :func:`check_secondary`.
    """
    problems = [
        *check_alignment(table),
        *check_names(table),
        *check_flags(table),
        *check_below_table(table, offset_part_table),
        *check_overlaps(table),
        *check_flash_size(table, flash_size),
        *check_data_sizes(table),
    ]
    return problems + check_apps(table) if primary else problems


def _problem(level: Level, partition: Partition, text: str) -> TableProblem:
    return TableProblem(level, f"{partition.name} at {partition.offset:#x}: {text}", partition.name)


def check_alignment(partitions: Iterable[Partition]) -> list[TableProblem]:
    """Offsets on 64 KB for applications and 4 KB for others; sizes in sectors of 4 KB."""
    problems = []
    for partition in partitions:
        step = alignment_of(partition.type)
        if partition.offset % step:
            problems.append(_problem("error", partition, f"the offset is not a multiple of {step:#x}"))
        if partition.size % SECTOR_SIZE:
            level: Level = "error" if partition.type == APP else "warning"
            text = f"the size {partition.size:#x} is not a multiple of {SECTOR_SIZE:#x}"
            problems.append(_problem(level, partition, text))
    return problems


def check_names(partitions: Iterable[Partition]) -> list[TableProblem]:
    """Names given twice; no name; names of types and subtypes on partitions of others."""
    partitions = tuple(partitions)
    counts = Counter(partition.name for partition in partitions)
    problems = [
        TableProblem("error", f"the name {name!r} is given to {count} partitions", name)
        for name, count in counts.items()
        if count > 1
    ]
    for partition in partitions:
        if not partition.name:
            problems.append(_problem("warning", partition, "the partition has no name"))
        if TYPES.get(partition.name, partition.type) != partition.type:
            problems.append(
                _problem(
                    "warning",
                    partition,
                    f"the name is that of a type, but the partition is {partition.type_name}",
                )
            )
        meant = [
            (type_, names[partition.name]) for type_, names in SUBTYPES.items() if partition.name in names
        ]
        if meant and (partition.type, partition.subtype) not in meant:
            kind = f"{partition.type_name}/{partition.subtype_name}"
            text = f"the name is that of a subtype, but the partition is {kind}"
            problems.append(_problem("warning", partition, text))
    return problems


def check_flags(partitions: Iterable[Partition]) -> list[TableProblem]:
    """Read-only where the firmware has to write; flags that nobody knows."""
    problems = []
    for partition in partitions:
        if partition.readonly and partition.type == DATA and partition.subtype in (OTA_DATA, COREDUMP_DATA):
            text = f"a {partition.subtype_name} partition is always written to and cannot be read-only"
            problems.append(_problem("error", partition, text))
        if partition.flags & ~sum(FLAGS.values()):
            problems.append(
                _problem("warning", partition, f"the flags {partition.flags:#x} are not all known")
            )
    return problems


def check_below_table(partitions: Iterable[Partition], offset_part_table: int) -> list[TableProblem]:
    """Partitions that begin before the end of the table's own sector."""
    first = offset_part_table + SECTOR_SIZE
    return [
        _problem("error", partition, f"the offset is below {first:#x}, where the table's own sector ends")
        for partition in partitions
        if partition.offset < first and not partition.is_fixed
    ]


def check_overlaps(partitions: Iterable[Partition]) -> list[TableProblem]:
    """Partitions that share flash."""
    problems = []
    reaching: Partition | None = None  # of those seen so far, the one that reaches farthest
    for partition in sorted(partitions, key=lambda p: p.offset):
        if reaching is not None and partition.offset < reaching.end:
            text = f"overlaps {reaching.name}, which occupies {reaching.offset:#x} to {reaching.end - 1:#x}"
            problems.append(_problem("error", partition, text))
        if reaching is None or partition.end > reaching.end:
            reaching = partition
    return problems


def check_flash_size(partitions: Iterable[Partition], flash_size: int | None) -> list[TableProblem]:
    """Partitions that reach past the end of the flash (of 4 GB where its size is unknown)."""
    limit = flash_size or _FLASH_LIMIT
    return [
        _problem("error", partition, f"ends at {partition.end:#x}, past the flash of {limit:#x} bytes")
        for partition in partitions
        if partition.end > limit
    ]


def check_data_sizes(table: PartitionTable) -> list[TableProblem]:
    """One otadata of 8 KB at most; NVS large enough to be written to."""
    problems = []
    for subtype, name, level in ((OTA_DATA, "otadata", "error"), (TEE_OTA_DATA, "TEE otadata", "warning")):
        found = table.of_type(DATA, subtype)
        grade: Level = "error" if level == "error" else "warning"
        if len(found) > 1:
            names = ", ".join(partition.name for partition in found)
            problems.append(TableProblem(grade, f"more than one {name} partition: {names}", found[1].name))
        problems += [
            _problem(grade, partition, f"{name} has to be {OTA_DATA_SIZE:#x} bytes, not {partition.size:#x}")
            for partition in found
            if partition.size != OTA_DATA_SIZE
        ]
    problems += [
        _problem("warning", partition, f"NVS below {MIN_WRITABLE_NVS:#x} bytes should have the flag readonly")
        for partition in table.of_type(DATA, NVS_DATA)
        if partition.size < MIN_WRITABLE_NVS and not partition.readonly
    ]
    return problems


def check_apps(table: PartitionTable) -> list[TableProblem]:
    """An application to start, and what the bootloader needs to choose between several."""
    slots = sorted(partition.subtype - OTA_APP_MIN for partition in table.apps if partition.is_ota_app)
    problems = []
    if not table.apps:
        problems.append(TableProblem("error", "no application partition: nothing can be started"))
    if slots and not table.of_type(DATA, OTA_DATA):
        problems.append(
            TableProblem("warning", "ota applications, but no otadata partition to choose between them")
        )
    if slots != list(range(len(slots))):
        listed = ", ".join(f"ota_{slot}" for slot in slots)
        problems.append(TableProblem("warning", f"ota slots do not count up from ota_0: {listed}"))
    return problems


def check_secondary(primary: PartitionTable, secondary: PartitionTable) -> list[TableProblem]:
    """Check ESP-AT's secondary table against the primary one.

    Its partitions lie inside ``at_customize``, after the sector that holds the table itself, and
    must not reach into any other partition.
    """
    home = primary.find(AT_CUSTOMIZE)
    if home is None:
        return [
            TableProblem(
                "error", f"the primary table has no partition {AT_CUSTOMIZE} to hold a secondary one"
            )
        ]
    problems = []
    table = Partition("its own table", home.type, home.subtype, home.offset, SECTOR_SIZE)
    others = [partition for partition in primary if partition is not home]
    for partition in secondary:
        hit = [other for other in (table, *others) if partition.overlaps(other)]
        problems += [
            _problem("error", partition, f"overlaps {other.name} at {other.offset:#x}") for other in hit
        ]
        if not hit and not home.contains(partition):
            text = f"lies outside {AT_CUSTOMIZE}, which occupies {home.offset:#x} to {home.end - 1:#x}"
            problems.append(_problem("warning", partition, text))
        if primary.find(partition.name):
            problems.append(
                _problem("warning", partition, "the primary table has a partition of the same name")
            )
    return problems

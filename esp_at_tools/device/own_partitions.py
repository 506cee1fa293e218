"""The partitions that a connected device itself has, by its own tables."""

from __future__ import annotations

from collections.abc import Iterator

from esp_at_tools.device.esptool_device import Device
from esp_at_tools.errors import DeviceError, FormatError
from esp_at_tools.formats.partition_table import AT_CUSTOMIZE, TABLE_SIZE, Partition, PartitionTable


def own_partitions(device: Device, table_offset: int) -> Iterator[Partition]:
    """Yield the partitions that the device's own tables list; none where there are no sound tables."""
    try:
        primary = PartitionTable.from_bytes(device.read(table_offset, TABLE_SIZE))
    except FormatError:
        return
    yield from primary
    home = primary.find(AT_CUSTOMIZE)
    if home is None or (device.flash_size and home.end > device.flash_size):
        return
    try:
        yield from PartitionTable.from_bytes(device.read(home.offset, TABLE_SIZE))
    except FormatError:
        return


def own_partition(device: Device, table_offset: int, name: str) -> Partition:
    """Return the partition of a name in the device's own tables.

    Raises:
        DeviceError: it has no such partition, or cannot tell.
    """
    if not device.can_compare:
        raise DeviceError(
            f"{device.port}: the ROM of an ESP8266 does not tell where {name} is", "leave out --no-stub"
        )
    own = list(own_partitions(device, table_offset))
    for partition in own:
        if partition.name == name:
            return partition
    listed = f"its tables list {', '.join(part.name for part in own)}" if own else "it has no partition table"
    raise DeviceError(
        f"{device.port}: the module has no partition {name}: {listed}",
        f"flash a whole firmware first, or give the image or release with --only {name}",
    )

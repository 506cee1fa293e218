"""What a partition is to hold, kept on this computer while it is erased and written on the module.

AT+SYSFLASH can only replace a whole partition. When the module loses power between erasing and writing,
what it held is nowhere else: the next run finds it here.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools import files
from esp_at_tools.at_port.client import AtClient, AtError
from esp_at_tools.formats.partition_table import SECTOR_SIZE

_MAC = re.compile(r'"((?:[0-9a-f]{2}:){5}[0-9a-f]{2})"', re.IGNORECASE)
ERASED = 0xFF
MOST_NOT_MEANT = 256
"""Bytes that looking for a module sends, before it fills with :data:`ERASED`."""
_UNSAFE = re.compile(r"[^0-9A-Za-z_-]+")


def state_folder() -> Path:
    """Return the folder for what outlives a run, where the system has such things."""
    for name in ("XDG_STATE_HOME", "LOCALAPPDATA"):
        if os.environ.get(name):
            return Path(os.environ[name]) / "esp-at-tool"
    return Path.home() / ".local" / "state" / "esp-at-tool"


def identity(client: AtClient) -> str:
    """Return a name for the module: its MAC address, else its port's name."""
    try:
        lines = client.command("AT+CIPSTAMAC?").of("CIPSTAMAC")
    except AtError:  # a firmware without Wi-Fi commands
        lines = []
    match = next((match for match in map(_MAC.search, lines) if match), None)
    return _UNSAFE.sub("-", match[1].lower() if match else client.port).strip("-")


@dataclass(frozen=True)
class Interrupted:
    """A write that has not ended.

    Attributes:
        wanted: what the partition was to hold.
        before: what it held; ``b""`` if that is not known.
    """

    wanted: bytes
    before: bytes

    def is_what_it_left(self, now: bytes) -> bool:
        """Tell whether a partition holds what such a write leaves.

        Erasing sets bits: until it ends, every sector has at least the bits of what it held. Writing goes on
        from sector to sector, and clears bits. Something else was put there by other means.
        """
        starts = range(0, len(now), SECTOR_SIZE)
        if all(_has_bits_of(self.before, now, start) for start in starts):
            return True
        other = next((start for start in starts if not _has_bits_of(self.wanted, now, start)), None)
        if other is None:
            return True
        after = now[other + SECTOR_SIZE :]
        return _is_torn(self.wanted, now, other) and after.count(0xFF) == len(after)


def _has_bits_of(contents: bytes, now: bytes, start: int) -> bool:
    if start >= len(contents):
        return False
    size = min(SECTOR_SIZE, len(now) - start)
    bits = int.from_bytes(contents[start : start + size].ljust(size, b"\xff"), "big")
    return int.from_bytes(now[start : start + size], "big") & bits == bits


def _is_torn(wanted: bytes, now: bytes, start: int) -> bool:
    """Tell whether a sector begins as wanted and goes on with what was not meant for it.

    A module that waits for the rest of its data takes for it what a program sends that looks for a module,
    and what that is at another rate.
    """
    pairs = list(zip(now[start : start + SECTOR_SIZE], wanted[start : start + SECTOR_SIZE], strict=True))
    begun = next((at for at, (one, other) in enumerate(pairs) if one != other), len(pairs))
    rest = [(one, other) for one, other in pairs[begun:] if one != ERASED]
    alike = sum(one == other for one, other in rest)
    return len(rest) <= MOST_NOT_MEANT and 2 * alike <= len(rest)


class Recovery:
    """The copies for one module.

    Args:
        name: the module, see :func:`identity`.
    """

    def __init__(self, name: str) -> None:
        """Nothing is written before it is needed."""
        self.folder = state_folder() / "recovery" / name

    def pending(self) -> Mapping[str, Interrupted]:
        """Return name → what is known of the partitions whose writing has not ended."""
        found = sorted(self.folder.glob("*.bin")) if self.folder.is_dir() else []
        return {
            path.stem: Interrupted(files.read_file(path, "partition"), _read_or_nothing(_before(path)))
            for path in found
        }

    @contextlib.contextmanager
    def keep(self, partition: str, wanted: bytes, before: bytes) -> Iterator[None]:
        """Keep a copy until the block has ended without an error.

        Args:
            partition: its name.
            wanted: what it is to hold.
            before: what it holds.

        Raises:
            InputError: it cannot be written; nothing has been done to the module then.
        """
        path = self.folder / f"{partition}.bin"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise files.unreadable(self.folder, error, "folder") from error
        files.write_file(_before(path), before, private=True)
        files.write_file(path, wanted, private=True)
        yield
        self.forget(partition)

    def forget(self, partition: str) -> None:
        """Remove the copy of a partition."""
        path = self.folder / f"{partition}.bin"
        path.unlink(missing_ok=True)
        _before(path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another partition of it may be pending
            self.folder.rmdir()

    def set_aside(self, partition: str) -> Path:
        """Keep the copy of a partition as a file that no later run takes, and return its path."""
        path = self.folder / f"{partition}.bin"
        aside = path.with_suffix(".aside")
        path.replace(aside)
        _before(path).unlink(missing_ok=True)
        return aside


def _before(path: Path) -> Path:
    return path.with_suffix(".before")


def _read_or_nothing(path: Path) -> bytes:
    return files.read_file(path, "partition") if path.is_file() else b""

"""The manifest as a run writes it: lines are appended, or an earlier run's are gone through first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from esp_at_tools import files
from esp_at_tools.batch.manifest import Entry, read_manifest
from esp_at_tools.errors import InputError

_MAX_HEADER = 1 << 12


class ManifestLog:
    """A manifest that is gone on with.

    Where every output that an earlier run tells of is there, new lines are appended to its own. Where
    some devices must be made again, since they failed or a file is gone, a new manifest is written
    aside, and takes the old one's place as soon as it tells as much.

    Args:
        path: the manifest; it need not exist.
        first_line: what a new one begins with.
    """

    def __init__(self, path: Path, first_line: bytes) -> None:
        """Nothing is read or written yet."""
        self._path = path
        self._first_line = first_line
        self._end = 0
        self._last_row = 0
        self._again = False
        self._entries: Iterator[tuple[int, Entry]] = iter(())
        self._aside: Path | None = None
        self._stream: IO[bytes] | None = None

    def survey(self, note: Callable[[Entry], None]) -> None:
        """Read what an earlier run has written: where it ends, and whether something must be made again.

        Args:
            note: is told every device that stays as it is.
        """
        if not self._path.exists() or b"\n" not in files.read_head(self._path, _MAX_HEADER):
            return  # none, or killed while its first line was written
        self._end = len(self._first_line)
        for end, entry in read_manifest(self._path):
            self._end, self._last_row = end, int(entry.row)
            if self._stays(entry):
                note(entry)
            else:
                self._again = True
        self._entries = read_manifest(self._path)

    def _stays(self, entry: Entry) -> bool:
        return entry.ok and all((self._path.parent / name).is_file() for name, _ in entry.outputs)

    @contextlib.contextmanager
    def opened(self, work: Path) -> Iterator[None]:
        """Be open for lines.

        Args:
            work: a folder for a manifest that is written aside.
        """
        try:
            if self._again:
                self._aside = work / self._path.name
            self._stream = self._begun(self._aside or self._path)
            yield
        finally:
            if self._stream is not None:
                self._stream.close()

    def _begun(self, path: Path) -> IO[bytes]:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), files.SECRET_MODE)
        stream = os.fdopen(descriptor, "r+b")
        end = 0 if path == self._aside else self._end
        stream.truncate(end)
        stream.seek(end)
        if not end:
            stream.write(self._first_line)
            stream.flush()
            os.fsync(descriptor)
            files.sync_folder(path.parent)
        return stream

    def is_ahead(self, row: int) -> bool:
        """Tell whether an earlier run got as far as a row."""
        return row <= self._last_row

    @property
    def aside(self) -> bool:
        """Whether a new manifest is written aside, so that lines that stay must be given again."""
        return self._aside is not None

    def next(self, device: Entry) -> Entry | None:
        """Return the line of the next device; None where it has none, or where it must be made again.

        Raises:
            InputError: the manifest is that of another list.
        """
        if not self.is_ahead(int(device.row)):
            return None
        _, entry = next(self._entries, (0, None))
        if entry is None or (entry.row, entry.id) != (device.row, device.id):
            raise InputError(
                f"{self._path}: has not the line of row {device.row} where it should be",
                "restore the manifest from a copy, or begin anew in a new folder",
            )
        return entry if self._stays(entry) else None

    def append(self, lines: bytes, row: int) -> None:
        """Write whole lines and flush them to disk.

        Args:
            lines: of all devices up to a row.
            row: that row.
        """
        stream = self._stream
        assert stream is not None  # noqa: S101 - it is open; tells mypy
        if lines:
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())
        if self._aside is not None and not self.is_ahead(row + 1):
            stream.close()
            self._aside.replace(self._path)
            files.sync_folder(self._path.parent)
            self._aside = None
            self._stream = self._path.open("ab")

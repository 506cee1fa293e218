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
        parted: it is that of a shard, so that a row whose id was corrected may have come or gone.
    """

    def __init__(self, path: Path, first_line: bytes, *, parted: bool = False) -> None:
        """Nothing is read or written yet."""
        self._path = path
        self._first_line = first_line
        self._parted = parted
        self._ahead: Entry | None = None
        self._end = 0
        self._last_row = 0
        self._again = False
        self.has_files = False
        """Whether an output that stays was made of files of its row's own."""
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
        if not files.read_head(self._path, _MAX_HEADER).startswith(self._first_line):
            self._again = True  # it has other columns
        self._end = len(self._first_line)
        for end, entry in read_manifest(self._path):
            self._end, self._last_row = end, int(entry.row)
            if self._stays(entry):
                self.has_files |= bool(entry.files_digest)
                note(entry)
            else:
                self._again = True
        self.rewind()

    def rewind(self) -> None:
        """Begin with the first device again."""
        self._ahead = None
        self._entries = read_manifest(self._path) if self._end else iter(())

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
            InputError: the manifest is that of another list, or the row of an output has changed.
        """
        if not self.is_ahead(int(device.row)):
            return None
        entry = self._entry_of(int(device.row))
        if entry is None:
            if not self._parted:
                raise InputError(
                    f"{self._path}: has not the line of row {device.row} where it should be",
                    "restore the manifest from a copy, or begin anew in a new folder",
                )
            self._again = True
            return None
        if entry.ok and (entry.id, entry.row_digest or device.row_digest) != (device.id, device.row_digest):
            raise self._changed(entry)
        return entry if self._stays(entry) else None

    def _entry_of(self, row: int) -> Entry | None:
        """Return the line of a row, the next or a later one; None if there is none."""
        while True:
            entry = self._ahead or next(self._entries, (0, None))[1]
            self._ahead = None
            if entry is None or int(entry.row) == row:
                return entry
            if int(entry.row) > row:
                self._ahead = entry
                return None
            if entry.ok:
                raise self._changed(entry)

    def _changed(self, entry: Entry) -> InputError:
        return InputError(
            f"{self._path}: row {entry.row}, {entry.id}: has its output, and its row in the list has changed",
            "restore that row (only rows that failed can be corrected), or begin anew in a new folder",
        )

    def check_length(self, rows: int) -> None:
        """Refuse a list that has fewer rows than this manifest tells of.

        Raises:
            InputError: it has.
        """
        if self.is_ahead(rows + 1):
            raise InputError(
                f"{self._path}: tells of row {self._last_row}, and the list has {rows} rows now",
                "correct rows where they stand and leave none out, or begin anew in a new folder",
            )

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

"""The manifest: which device got which file, row by row, and what it is told from others by.

A CSV of one line for each device, in the order of the list. Lines are only ever appended, after the
files that they name are on disk, so that at any moment it is true; a line that was cut off is no line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from esp_at_tools import files
from esp_at_tools.batch.job import Kind
from esp_at_tools.errors import EspAtError, FormatError

MANIFEST = "manifest.csv"
_NAME = re.compile(r"manifest(?:-([1-9][0-9]{0,5})-of-([1-9][0-9]{0,5}))?\.csv\Z")
_MAX_LINE = 1 << 16
_MAX_MESSAGE = 600
_MAX_WARNINGS = 4000
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class Entry(NamedTuple):
    """One device's line.

    Attributes:
        id: the device's id.
        file: its output relative to the folder, ``/`` between the parts; blank where it failed.
        sha256: of that file, lower-case hex.
        status: ``ok`` or ``failed``.
        error: why it failed, beginning with the row.
        row: number of its row in the list of devices, from 1.
        mac: its MAC address as ``aa:bb:cc:dd:ee:ff``, blank if the list has none.
        certificate_sha256: fingerprint of its own certificate (SHA-256 of the DER); several with spaces
            between them.
        certificate_not_after: when the first of them expires, ``2049-12-31T23:59:59Z``.
        row_digest: what tells whether the row has changed since, see
            :func:`esp_at_tools.batch.devices.row_digest`; blank if there is no output.
        files_digest: the same for the contents of the files that are the row's own, see
            :func:`esp_at_tools.batch.own_files.contents_digest`; blank where it has none.
        warnings: what is questionable about it, ``; `` between several.
        mfg_nvs_file: with ``--emit both``, the partition's file.
        mfg_nvs_sha256: of that file.
    """

    id: str
    file: str
    sha256: str
    status: str
    error: str
    row: str
    mac: str = ""
    certificate_sha256: str = ""
    certificate_not_after: str = ""
    row_digest: str = ""
    files_digest: str = ""
    warnings: str = ""
    mfg_nvs_file: str = ""
    mfg_nvs_sha256: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is an output."""
        return self.status == "ok"

    @property
    def outputs(self) -> list[tuple[str, str]]:
        """The files with their digests."""
        both = ((self.file, self.sha256), (self.mfg_nvs_file, self.mfg_nvs_sha256))
        return [(name, digest) for name, digest in both if name]


_COLUMNS = Entry._fields
_ONE_OUTPUT = len(_COLUMNS) - 2
_LATER = ("row_digest", "files_digest", "warnings")
"""Columns that older manifests do not have, or but the first of them."""
_HEADERS = (
    _COLUMNS[:_ONE_OUTPUT],
    _COLUMNS,
    *(
        tuple(name for name in columns if name not in missing)
        for missing in (_LATER[1:], _LATER)
        for columns in (_COLUMNS[:_ONE_OUTPUT], _COLUMNS)
    ),
)
"""The columns of a manifest that can be read."""


def manifest_name(shard: tuple[int, int] | None) -> str:
    """Return the name of a run's manifest: each shard has its own."""
    return MANIFEST if shard is None else f"manifest-{shard[0]}-of-{shard[1]}.csv"


def shard_of_name(name: str) -> tuple[int, int] | None:
    """Return which shard a manifest is of, (1, 1) where there are none; None for another file."""
    match = _NAME.match(name)
    if match is None:
        return None
    return (int(match[1]), int(match[2])) if match[1] else (1, 1)


def header(kinds: tuple[Kind, ...]) -> bytes:
    """Return the first line."""
    return (",".join(_COLUMNS if len(kinds) > 1 else _COLUMNS[:_ONE_OUTPUT]) + "\n").encode()


def encode(entry: Entry, kinds: tuple[Kind, ...]) -> bytes:
    """Return an entry's line."""
    cells = entry if len(kinds) > 1 else entry[:_ONE_OUTPUT]
    line = ",".join(cells)
    if '"' in line or line.count(",") != len(cells) - 1:
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(cells)
        line = text.getvalue()
    return f"{line}\n".encode("utf-8", "backslashreplace")


def told(error: EspAtError, row: int, line: int) -> str:
    """Return an error as a manifest has it: on one line, with its row, and never the contents of a key."""
    text = str(error)
    if "-----BEGIN" in text or "PRIVATE KEY-----" in text:
        text = "a value holds a certificate or a key itself (give the path of its file)"
    text = _on_one_line(text, _MAX_MESSAGE)
    where = f"row {row}" if row == line else f"row {row} (line {line})"
    return f"{where}: {text}"


def told_warnings(warnings: Iterable[str]) -> str:
    """Return warnings as a manifest has them: on one line, and never the contents of a key."""
    sound = (text for text in warnings if "-----BEGIN" not in text)
    return _on_one_line("\n".join(sound), _MAX_WARNINGS)


def _on_one_line(text: str, most: int) -> str:
    return printable("; ".join(part.strip() for part in text.splitlines() if part.strip()), most)


def printable(text: str, most: int = 64) -> str:
    """Return a text without what would disturb a terminal or a line of a CSV, cut where it is long."""
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in text[: most + 1])
    return text if len(text) <= most else text[:most] + "…"


def read_manifest(path: Path) -> Iterator[tuple[int, Entry]]:
    """Return the entries of a manifest, each with the offset at which its line ends.

    A last line without its end was cut off when a run was killed, and is left out.

    Raises:
        InputError: it cannot be read.
        FormatError: it is no manifest, or a line of it is damaged.
    """
    try:
        with path.open("rb") as stream:
            columns = _read_header(path, stream.readline(_MAX_LINE))
            end = len(columns[1])
            number = 1
            while (line := stream.readline(_MAX_LINE)).endswith(b"\n"):
                number += 1
                end += len(line)
                yield end, _entry(path, number, line, columns[0])
            if len(line) == _MAX_LINE:
                raise _damaged(path, number + 1)
    except OSError as error:
        raise files.unreadable(path, error, "manifest") from error


def _read_header(path: Path, line: bytes) -> tuple[tuple[str, ...], bytes]:
    for columns in _HEADERS:
        if line == (",".join(columns) + "\n").encode():
            return columns, line
    raise FormatError(
        f"{path}: is not the manifest of a batch", f"give a {MANIFEST} that 'batch' has written"
    )


def _entry(path: Path, number: int, line: bytes, columns: tuple[str, ...]) -> Entry:
    try:
        cells = next(csv.reader([line.decode("utf-8").removesuffix("\n")], strict=True))
    except (UnicodeDecodeError, csv.Error, StopIteration):
        raise _damaged(path, number) from None
    if len(cells) != len(columns) or cells[3] not in ("ok", "failed") or not cells[5].isdecimal():
        raise _damaged(path, number)
    entry = Entry(*cells) if columns is _HEADERS[0] else Entry(**dict(zip(columns, cells, strict=True)))
    if entry.ok and not (entry.outputs and all(_SHA256.match(digest) for _, digest in entry.outputs)):
        raise _damaged(path, number)
    return entry


def _damaged(path: Path, line: int) -> FormatError:
    return FormatError(f"{path}: line {line} is damaged", "restore the manifest from a copy, or begin anew")

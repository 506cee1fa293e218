"""The ``mfg_nvs.csv`` of a release, kept in step with its ``mfg_nvs.bin``.

Only rows of changed entries change. The official CSV names a file on the machine that built the
release where the entry is a certificate or a key; such a row is replaced by one that holds the
bytes (base64), and stays in front of it as a comment with the SHA-256 of what it stood for. When
the entry gets those bytes again, the row comes back.
"""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass

from esp_at_tools.formats.nvs import NvsEntry, NvsPartition
from esp_at_tools.formats.nvs.csv import dump_csv

_REPLACED = "# replaced by esp-at-tool, sha256 "
_COMMENT = re.compile(re.escape(_REPLACED) + r"([0-9a-f]{64}): (.*)", re.DOTALL)


@dataclass
class _Row:
    """One line of the CSV, or a line and the comment that keeps what it replaced.

    Attributes:
        text: the line with its line end.
        namespace: the namespace that it opens or belongs to; ``""`` for the header and comments.
        key: the key; ``""`` for a line that is no entry.
    """

    text: str
    namespace: str = ""
    key: str = ""


def _rows(text: str) -> list[_Row]:
    rows: list[_Row] = []
    namespace = ""
    for line in text.splitlines(keepends=True):
        fields = [] if line.startswith("#") else next(csv.reader([line]), [])
        if len(fields) >= 2 and fields[1] == "namespace":
            namespace = fields[0]
            rows.append(_Row(line, namespace))
        elif len(fields) >= 2 and fields[1] in ("data", "file") and namespace:
            rows.append(_Row(line, namespace, fields[0]))
        else:
            rows.append(_Row(line))
    return rows


def _value_bytes(entry: NvsEntry) -> bytes:
    value = entry.value
    if isinstance(value, bytes):
        return value
    return str(value).encode("utf-8", "surrogateescape")


def _digest(entry: NvsEntry) -> str:
    return hashlib.sha256(_value_bytes(entry)).hexdigest()


def _comment_for(row: _Row, entry: NvsEntry) -> _Row | None:
    """Return the comment that keeps a row which names a file, None for any other row."""
    if next(csv.reader([row.text]))[1] != "file":
        return None
    return _Row(f"{_REPLACED}{_digest(entry)}: {row.text}", row.namespace)


def _with_value(rows: list[_Row], place: _Row, entry: NvsEntry, end: str) -> list[_Row]:
    """Return ``rows`` with the row for an entry at their end; a comment there may hold its old row."""
    kept = _COMMENT.match(rows[-1].text) if rows else None
    if kept and kept[1] == _digest(entry):
        return [*rows[:-1], _Row(kept[2], place.namespace, place.key)]
    return [*rows, _Row(_line(entry, end), place.namespace, place.key)]


def _line(entry: NvsEntry, end: str) -> str:
    return dump_csv([entry]).splitlines()[-1] + end  # after the header and the namespace


def edit_mfg_csv(text: str, old: NvsPartition, new: NvsPartition) -> str:
    """Return the CSV of a release after its partition has changed.

    Args:
        text: the CSV as it is.
        old: the partition that it describes.
        new: the partition that it shall describe.
    """
    before = {(entry.namespace, entry.key): entry for entry in old.entries}
    after = {(entry.namespace, entry.key): entry for entry in new.entries}
    end = "\r\n" if "\r\n" in text else "\n"
    edited: list[_Row] = []
    described = set()
    for row in _rows(text if not text or text.endswith("\n") else text + end):
        name = (row.namespace, row.key)
        described.add(name)
        was, now = before.get(name), after.get(name)
        if not row.key or was == now:
            edited.append(row)
            continue
        comment = edited.pop() if edited and _COMMENT.match(edited[-1].text) else None
        comment = comment or (_comment_for(row, was) if was is not None else None)
        edited.extend([comment] if comment else [])
        if now is not None:
            edited = _with_value(edited, row, now, end)
    added = [
        entry
        for entry in new.entries
        if (entry.namespace, entry.key) not in before and (entry.namespace, entry.key) not in described
    ]
    _insert_added(edited, added, new, end)
    return "".join(row.text for row in edited)


def _insert_added(rows: list[_Row], added: list[NvsEntry], new: NvsPartition, end: str) -> None:
    """Insert rows for new entries where the partition has them: after the entry that comes before."""
    order = [(entry.namespace, entry.key) for entry in new.entries]
    for entry in added:
        position = order.index((entry.namespace, entry.key))
        previous = order[position - 1] if position else ("", "")
        anchor = previous if previous[0] == entry.namespace else (entry.namespace, "")
        places = [index for index, row in enumerate(rows) if (row.namespace, row.key) == anchor]
        place = _Row("", entry.namespace, entry.key)
        kept = next((index for index, row in enumerate(rows) if _keeps(row, entry)), None)
        if kept is not None:
            rows[: kept + 1] = _with_value(rows[: kept + 1], place, entry, end)
        elif places:
            rows[: places[-1] + 1] = _with_value(rows[: places[-1] + 1], place, entry, end)
        else:
            rows.append(_Row(f"{entry.namespace},namespace,,{end}", entry.namespace))
            rows[:] = _with_value(rows, place, entry, end)


def _keeps(row: _Row, entry: NvsEntry) -> bool:
    """Tell whether a row is the comment left by this entry's removal."""
    kept = _COMMENT.match(row.text)
    return kept is not None and row.namespace == entry.namespace and kept[2].split(",", 1)[0] == entry.key

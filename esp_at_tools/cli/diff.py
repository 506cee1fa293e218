"""``diff``: what differs between two firmwares in meaning."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import click

from esp_at_tools.cli.common import (
    NUMBER,
    PATH,
    current_output,
    input_file,
    is_terminal,
    json_option,
    talk_options,
    wrapped,
)
from esp_at_tools.cli.inspect_view import clean
from esp_at_tools.firmware.compare import Comparison, Difference, compare
from esp_at_tools.firmware.firmware import Firmware, PkiDigest

MAX_SHOWN = 100
"""Most characters of one value that are shown; ``--json`` has all."""
_MIN_ROOM = 20
_PIECE = re.compile(r"[^ ,]*[ ,]*")

_TITLES = {
    "firmware": "Firmware",
    "apps": "Applications",
    "partitions": "Partitions",
    "settings": "Settings",
    "pki": "Certificates and keys",
    "gatts": "GATT rows",
    "nvs": "Other entries of mfg_nvs",
}


@click.command("diff", short_help="Say what differs between two firmwares.")
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option(
    "--partition-table-offset",
    type=NUMBER,
    metavar="N",
    help="Where the table is in both.  [default: 0x8000]",
)
@json_option
@talk_options
def command(a: Path, b: Path, partition_table_offset: int | None) -> None:
    """Say what differs between firmware A and firmware B in meaning.

    Settings, certificates, keys, GATT rows, partitions and applications are compared, whatever the
    form of the two; NAME@VERSION is an official release. The exit status is 1 if anything differs.
    """
    talk = current_output()
    a, b = input_file(a), input_file(b)
    first, second = (Firmware.open(path, partition_table_offset=partition_table_offset) for path in (a, b))
    result = compare(first, second)
    if talk.json:
        talk.document(_document(result, a, b))
    else:
        _print(result, a, b)
    if result.differences:
        raise click.exceptions.Exit(1)


def _document(result: Comparison, a: Path, b: Path) -> dict[str, Any]:
    return {
        "schema": 1,
        "a": str(a),
        "b": str(b),
        "equal": not result.differences,
        "differences": [
            {"area": found.area, "name": found.name, "a": _plain(found.a), "b": _plain(found.b)}
            for found in result.differences
        ],
        "not_compared": result.not_compared,
    }


def _plain(value: object) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _print(result: Comparison, a: Path, b: Path) -> None:
    talk = current_output()
    if not result.differences:
        talk.result(wrapped(f"No difference in meaning between {a} and {b}.", sys.stdout))
    area = ""
    column = max((len(found.name) for found in result.differences), default=0) + 4
    columns = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
    room = None if columns is None else max(columns - column, _MIN_ROOM)
    for found in result.differences:
        if found.area != area:
            area = found.area
            talk.result(f"{_TITLES[area]}:")
        head, *others = _lines(found, room)
        talk.result(f"  {found.name}".ljust(column) + head)
        for line in others:
            talk.result(" " * column + line)
    if result.not_compared:
        text = f"not compared: {', '.join(result.not_compared)} (a partition alone does not tell)"
        talk.note(wrapped(text, sys.stderr))


def _lines(found: Difference, room: int | None) -> list[str]:
    """Return what differs as lines of at most ``room`` characters; as one line for None."""
    parts = _parts(found)
    whole = "; ".join(f"{a} → {b}" for a, b in parts)
    if room is None or len(whole) <= room:
        return [whole]
    lines = []
    for a, b in parts:
        fits = len(a) + len(b) + 3 <= room
        lines += [f"{a} → {b}"] if fits else [*_folded(a, room), *_folded(f"→ {b}", room)]
    return lines


def _folded(text: str, room: int) -> list[str]:
    """Break a text after blanks and commas, and within what is longer than a line; later lines indented."""
    lines = [""]
    for piece in _PIECE.findall(text):
        if lines[-1].strip() and len(lines[-1]) + len(piece.rstrip()) > room:
            lines.append("  ")
        rest = lines.pop() + piece
        while len(rest.rstrip()) > room:
            lines.append(rest[:room])
            rest = "  " + rest[room:]
        lines.append(rest)
    return [line.rstrip() for line in lines if line.strip()]


def _parts(found: Difference) -> list[tuple[str, str]]:
    """Return what differs as texts, old and new; the old one has the name of a field before it."""
    if not (isinstance(found.a, dict) and isinstance(found.b, dict)):
        return [_shown(_value("", found.a), _value("", found.b))]
    keys = [key for key in {**found.a, **found.b} if found.a.get(key) != found.b.get(key)]
    pairs = ((key, _shown(_value(key, found.a.get(key)), _value(key, found.b.get(key)))) for key in keys)
    return [(f"{key} {a}", b) for key, (a, b) in pairs]


def _shown(a: str, b: str) -> tuple[str, str]:
    """Return two texts, of long ones the part where they begin to differ."""
    if max(len(a), len(b)) <= MAX_SHOWN:
        return a, b
    ends = min(len(a), len(b))
    same = next((place for place in range(ends) if a[place] != b[place]), ends)
    start = 0 if same < MAX_SHOWN // 2 else _boundary(a, same - MAX_SHOWN // 5)
    return _excerpt(a, start), _excerpt(b, start)


def _excerpt(text: str, start: int) -> str:
    end = start + MAX_SHOWN
    if not start and len(text) <= end:
        return text
    if len(text) > end:
        end = max(_boundary(text, end), start + MAX_SHOWN // 2)
    before, after = "…" if start else "", "…" if end < len(text) else ""
    return f"{before}{text[start:end].strip()}{after} ({len(text)} characters)"


def _boundary(text: str, place: int) -> int:
    """Return where the word or field begins that is at a place; the place itself where that is far off."""
    start = max(text.rfind(mark, 0, place) for mark in " ,") + 1
    return start if place - start < MAX_SHOWN // 5 else place


def _value(key: str, value: object) -> str:
    if value is None:
        return "absent"
    if isinstance(value, PkiDigest):
        return f"{value.size} bytes, SHA-256 {value.sha256[:12]}…"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(name, part)}" for name, part in value.items())
    if key == "sha256":
        return f"{str(value)[:12]}…"
    return f"{value:#x}" if key in ("offset", "size") else clean(str(value))

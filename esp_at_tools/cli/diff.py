"""``diff``: what differs between two firmwares in meaning."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import click

from esp_at_tools.cli.common import NUMBER, PATH, current_output, input_file, json_option, talk_options
from esp_at_tools.firmware.compare import Comparison, Difference, compare
from esp_at_tools.firmware.firmware import Firmware, PkiDigest

MAX_SHOWN = 100
"""Most characters of one value that are shown; ``--json`` has all."""

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
@click.option("--partition-table-offset", type=NUMBER, metavar="N", help="Where the table is in both.")
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
        talk.result(f"No difference in meaning between {a} and {b}.")
    area = ""
    width = max((len(found.name) for found in result.differences), default=0)
    for found in result.differences:
        if found.area != area:
            area = found.area
            talk.result(f"{_TITLES[area]}:")
        talk.result(f"  {found.name:{width}}  {_text(found)}")
    if result.not_compared:
        talk.note(f"not compared: {', '.join(result.not_compared)} (a partition alone does not tell)")


def _text(found: Difference) -> str:
    if isinstance(found.a, dict) and isinstance(found.b, dict):
        keys = [key for key in {**found.a, **found.b} if found.a.get(key) != found.b.get(key)]
        return "; ".join(
            f"{key} {_value(key, found.a.get(key))} → {_value(key, found.b.get(key))}" for key in keys
        )
    return f"{_value('', found.a)} → {_value('', found.b)}"


def _value(key: str, value: object) -> str:
    if value is None:
        return "absent"
    if isinstance(value, PkiDigest):
        return f"{value.size} bytes, SHA-256 {value.sha256[:12]}…"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(name, part)}" for name, part in value.items())
    if key == "sha256":
        return f"{str(value)[:12]}…"
    text = f"{value:#x}" if key in ("offset", "size") else str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text)} characters)"

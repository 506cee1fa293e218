"""What a request changed, as text and as JSON."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from esp_at_tools.cli.common import Output, wrapped
from esp_at_tools.firmware.firmware import PkiDigest
from esp_at_tools.firmware.modify import Outcome


def shown(value: object) -> str:
    """Return a value for people; of a certificate or key only its size and digest."""
    if value is None:
        return "absent"
    if isinstance(value, PkiDigest):
        return f"{value.size} bytes, SHA-256 {value.sha256[:12]}…"
    return repr(value) if value == "" else str(value)


def print_changes(talk: Output, outcome: Outcome) -> None:
    """Print a line for each name that was asked for."""
    names = [*outcome.unchanged, *(change.name for change in outcome.changes)]
    width = max((len(name) for name in names), default=0)
    for change in outcome.changes:
        line = f"  {change.name:{width}}  {shown(change.old)} → {shown(change.new)}"
        talk.result(wrapped(line, sys.stdout))
    for name in outcome.unchanged:
        talk.result(f"  {name:{width}}  unchanged, it was so already")


def changes_document(outcome: Outcome) -> dict[str, Any]:
    """Return the same for ``--json``."""
    return {
        "changes": [asdict(change) for change in outcome.changes],
        "unchanged": outcome.unchanged,
        "warnings": outcome.warnings,
    }

"""Folders of certificates and keys, and what ``pki check`` says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NOW = "2026-06-01"
"""When ``pki_maker``'s certificates are valid."""


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files by their names, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def checked(cli: Any, *words: object, status: int = 0) -> Any:
    """Return the JSON of ``pki check``, which must end with a status."""
    done = cli("pki", "check", *words, "--at", NOW, "--json")
    assert done.status == status, done.err
    return json.loads(done.out)

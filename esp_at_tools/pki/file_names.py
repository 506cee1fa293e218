"""Which PKI item a file is meant for, by its name.

Accepted are the names of the items (``client_cert.0``), at.py's options (``client_cert0``), and the
names in ``components/customized_partitions/raw_data`` of esp-at (``client_cert/client_cert_00.crt``,
``mqtt_key/mqtt_client.key``), with or without their folders.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from esp_at_tools.pki.names import PKI_GROUPS, PKI_ITEMS

SUFFIXES = (".pem", ".crt", ".cer", ".cert", ".key", ".der", ".txt")
"""Ends of file names that say how, or that, a certificate or key is encoded."""

_NUMBERED = {item.group for item in PKI_ITEMS.values() if item.name != item.group}
_SETS = "|".join(sorted({group.rpartition("_")[0] for group in PKI_GROUPS}, key=len, reverse=True))
_NAME = re.compile(rf"(?P<set>{_SETS})_(?P<part>ca|cert|crt|key|client)(?:[._]?(?P<number>[0-9]{{1,2}}))?")
_SPELLINGS = {"crt": "cert"}
_SERVER = {"key": "server_key", "crt": "server_cert", "cer": "server_cert", "cert": "server_cert"}
"""What ``server.key`` of ``raw_data``, and what stands beside it elsewhere, is for, by its suffix."""
_TRAILING_NUMBER = re.compile(r"[._]([0-9]{1,2})\Z")


def item_by_path(path: PurePath) -> str:
    """Return the item that a file is named for, ``""`` if its name tells none.

    Args:
        path: the file; of its folders, only the last one counts.
    """
    stem = path.name.lower().replace("-", "_").replace(" ", "_")
    suffixes = []
    while stem.endswith(SUFFIXES):
        stem, _, suffix = stem.rpartition(".")
        suffixes.append(suffix)
    folder = path.parent.name.lower()
    if folder in PKI_GROUPS:
        number = _TRAILING_NUMBER.search(stem)
        return _numbered(folder, number[1] if number else "")
    found = _NAME.fullmatch(stem)
    if found is None:
        return next((_SERVER[each] for each in suffixes if each in _SERVER), "") if stem == "server" else ""
    part = _SPELLINGS.get(found["part"], found["part"])
    if part == "client":  # mqtt_client.crt and mqtt_client.key
        part = "key" if "key" in suffixes else "cert" if {"crt", "cer", "cert"} & {*suffixes} else ""
    return _numbered(f"{found['set']}_{part}", found["number"] or "")


def _numbered(group: str, number: str) -> str:
    """Return the item of a group, where there is one of that number; without one, number 0 is not meant."""
    name = f"{group}.{int(number)}" if number and group in _NUMBERED else group
    if number and group not in _NUMBERED and int(number):
        return ""
    return name if name in PKI_ITEMS else ""

"""The names of the certificates and private keys that AT firmware holds, and the sets that they make.

The names are the NVS keys of esp-at's ``mfg_nvs`` partition (``at_customized_config_dependency.txt`` of
esp-at v5.0.1.0). Beside each name stand the option and the short option of at.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

PkiKind = Literal["ca", "certificate", "private_key"]
"""What an item holds: the certificate of an authority, another certificate, or a private key."""


@dataclass(frozen=True)
class PkiItem:
    """One certificate or private key.

    Attributes:
        name: the official NVS key, e.g. ``client_cert.0``.
        group: the NVS namespace, and the partition of the legacy layout, e.g. ``client_cert``.
        index: its place in the legacy partition's item list, from 0.
        kind: what it holds.
        role: the set it belongs to with its partners, e.g. ``client.0``.
        option: the option of ``modify-bin``, ``""`` where at.py has none.
        short: at.py's short spelling of that option.
    """

    name: str
    group: str
    index: int
    kind: PkiKind
    role: str
    option: str
    short: str


_SUFFIX: dict[str, PkiKind] = {"ca": "ca", "cert": "certificate", "key": "private_key"}

# set name, numbered, at.py's abbreviation of the set (None: at.py has no option), of a certificate
_SPELLINGS: tuple[tuple[str, bool, str | None], ...] = (
    ("server", False, "s"),
    ("client", True, "c"),
    ("mqtt", False, "mq"),
    ("wpa_ent", False, "wpaent"),
    ("wpa2", False, "wpa2"),
    ("https", True, None),
    ("wss", True, None),
)
_SHORT_SUFFIX = {"ca": "ca", "cert": "crt", "key": "key"}


def _pki_items() -> dict[str, PkiItem]:
    items = {}
    for set_name, numbered, short in _SPELLINGS:
        for number in ("0", "1") if numbered else ("",):
            role = f"{set_name}.{number}" if numbered else set_name
            for suffix, kind in _SUFFIX.items():
                group = f"{set_name}_{suffix}"
                name = f"{group}.{number}" if numbered else group
                option = "" if short is None else f"--{group.replace('_', '-')}{number}"
                letters = "" if short is None else f"-{short}{_SHORT_SUFFIX[suffix]}{number}"
                items[name] = PkiItem(name, group, int(number or 0), kind, role, option, letters)
    return items


PKI_ITEMS = _pki_items()
"""Every PKI item by name."""

PRIVATE_KEY_MARK = b"PRIVATE KEY-----"
"""Stands in every private key in PEM form."""

PKI_GROUPS = tuple(dict.fromkeys(item.group for item in PKI_ITEMS.values()))
"""The NVS namespaces, and the legacy partitions, of certificates and keys."""

PKI_SETS: dict[str, dict[PkiKind, str]] = {}
"""The sets, ``server``, ``client.0``, …: of each, what the item of each kind is called."""
for _item in PKI_ITEMS.values():
    PKI_SETS.setdefault(_item.role, {})[_item.kind] = _item.name

_MOST_NAMED = 5


def listed(names: Sequence[str]) -> str:
    """Return names for a message: all of them, or the first five and how many more there are."""
    shown = ", ".join(names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown

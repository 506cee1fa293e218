"""What a migration will do, name by name: carried, kept, lost, or not needed any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from esp_at_tools.firmware.firmware import PkiDigest
from esp_at_tools.firmware.request import Request
from esp_at_tools.settings.layout import Value

GATT_TABLE = "gatts"
"""Name of the whole GATT table, which is carried as one."""

Summary = Value | PkiDigest | list[str] | None
"""A value as it may be shown: of a certificate or key its digest, of a GATT table its rows."""


@dataclass(frozen=True)
class Carried:
    """Something that NEW takes over.

    Attributes:
        name: what it is called in NEW.
        old_name: what it was called in OLD.
        value: the value that NEW gets.
        changed: whether NEW had another one, or none.
        note: how the value was converted, ``""`` if it was not.
        official_default: whether OLD's value is what Espressif gave its module, so that perhaps nobody
            chose it; None where that is not known.
    """

    name: str
    old_name: str
    value: Summary
    changed: bool = False
    note: str = ""
    official_default: bool | None = None


@dataclass(frozen=True)
class Lost:
    """Something of OLD that has no place in NEW.

    Attributes:
        name: what it was called in OLD.
        reason: why it has none.
        hint: what can be done about it.
    """

    name: str
    reason: str
    hint: str = ""


@dataclass(frozen=True)
class Kept:
    """Something that stays as NEW has it.

    Attributes:
        name: what it is called in NEW.
        value: NEW's value, None where it has none.
        old: OLD's value, None where it has none.
        why: why it is not carried.
        old_name: what it was called in OLD, ``""`` where that is the same.
    """

    name: str
    value: Summary
    old: Summary
    why: str
    old_name: str = ""


@dataclass
class Plan:
    """What will be asked of NEW, and why.

    Attributes:
        keep: names that stay as NEW has them because the user says so.
        request: the changes to NEW.
        carried: what the request asks for.
        lost: what has no place in NEW.
        kept: what stays as NEW has it, although OLD has something else or nothing.
        unneeded: what has no place in NEW and is not missed: nothing was set there.
        warnings: what is questionable.
    """

    keep: frozenset[str]
    request: Request = field(default_factory=Request)
    carried: list[Carried] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    unneeded: list[Lost] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def drop(self, names: Collection[str], lost: Iterable[Lost]) -> None:
        """Take back what was to be carried, by its name in NEW, and tell why."""
        self.carried = [each for each in self.carried if each.name not in names]
        for name in names:
            self.request.pki.pop(name, None)
        if GATT_TABLE in names:
            self.request.gatt_table = None
        self.lost.extend(lost)

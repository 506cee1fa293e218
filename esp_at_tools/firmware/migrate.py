"""Carry settings, certificates, keys and the GATT table of one firmware into another.

NEW keeps its application, bootloader, tables and identity. What OLD has and NEW has no place for is told,
never dropped in silence. The change itself is one request to :mod:`esp_at_tools.firmware.modify`, so that
values are checked, and the result read back, as for any other change.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from esp_at_tools.errors import InputError, RiskyValueError
from esp_at_tools.firmware.firmware import Firmware, PkiDigest
from esp_at_tools.firmware.migrate_items import (
    application,
    drop_what_has_no_room,
    plan_gatts,
    plan_other_entries,
    plan_pki,
    warn_of_features,
)
from esp_at_tools.firmware.migrate_plan import GATT_TABLE, Carried, Kept, Lost, Plan
from esp_at_tools.firmware.migrate_settings import plan_settings
from esp_at_tools.firmware.modify import Outcome, modify
from esp_at_tools.formats.partition_table import DATA, OTA_DATA
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.modern import ModernLayout
from esp_at_tools.settings.names import NAMES_HINT, SETTINGS, check_name, gatt_row_index

if TYPE_CHECKING:
    from esp_at_tools.firmware.migrate_ota import Ota

__all__ = ["GATT_TABLE", "Carried", "Kept", "Lost", "Migration", "migrate"]

_PHY_INIT = 0x01
_STORES = {
    0x02: "what the module has stored: its Wi-Fi network and what AT+…_DEF and AT+SYSSTORE keep",
    0x81: "files",
    0x82: "files",
    0x83: "files",
}
"""Subtype of a data partition → what it holds."""


@dataclass(frozen=True)
class Migration:
    """What a migration did to NEW, in memory.

    Attributes:
        carried: what NEW has taken over, by its name in NEW.
        lost: what has no place in NEW, by its name in OLD.
        kept: what stays as NEW has it, although OLD has something else or nothing.
        unneeded: what has no place in NEW and is not missed.
        not_carried: partitions of OLD with data of the device itself, and what they hold.
        ota: whether the same could be done over the air.
        outcome: the changes to NEW, and what is questionable about them.
    """

    carried: list[Carried]
    lost: list[Lost]
    kept: list[Kept]
    unneeded: list[Lost]
    not_carried: list[Lost]
    ota: Ota
    outcome: Outcome


def check_keep(name: str) -> str:
    """Return what ``--keep`` names: a setting, a certificate or key, or ``gatts``.

    Raises:
        InputError: it is none of these.
    """
    if name == GATT_TABLE:
        return name
    if name not in SETTINGS and name not in PKI_ITEMS and gatt_row_index(name) is None:
        raise _unknown_name(name)
    if gatt_row_index(name) is not None:
        raise InputError(f"{name}: a GATT table is carried whole or not at all", f"give {GATT_TABLE}")
    return name


def _unknown_name(name: str) -> InputError:
    """Return the error of a name that cannot be kept, with the nearest that can."""
    import difflib

    message = f"--keep {name[:60]}: is not the name of a setting, a certificate or key, nor {GATT_TABLE}"
    meant = name.replace("-", "_").lower()
    if meant.startswith("cfg") or difflib.get_close_matches(meant, [GATT_TABLE], n=1, cutoff=0.7):
        return InputError(message, f"did you mean {GATT_TABLE}?")
    try:
        check_name(name)
    except InputError as error:
        hint = NAMES_HINT.replace("and cfg0, cfg1, …", f"and {GATT_TABLE}")
        return InputError(message, hint if error.hint == NAMES_HINT else error.hint)
    return InputError(message, "")


def migrate(
    old: Firmware,
    new: Firmware,
    *,
    keep: Collection[str] = (),
    force: bool = False,
    now: datetime | None = None,
) -> Migration:
    """Carry what belongs to the product from ``old`` to ``new``, in memory.

    Values that ``old`` has in force and ``new`` can hold are carried, with a warning where they are risky.

    Args:
        old: the firmware, or what was read from a device's flash.
        new: the firmware that takes it over; unchanged when an error is raised before anything is applied.
        keep: names that stay as ``new`` has them: see :func:`check_keep`.
        force: allow risky GATT rows, and a damaged ``mfg_nvs`` of either as far as it can be read.
        now: the time at which certificates must be valid; the present time if None.

    Raises:
        InputError: the chips differ, OLD cannot be read, or a value is impossible for NEW.
        RiskyValueError: ``mfg_nvs`` of either is damaged, or a GATT row is probably a mistake, and ``force``
            is not given.
    """
    plan = Plan(frozenset(check_keep(name) for name in keep))
    _check_chips(old, new, plan)
    _check_readable(old, plan, force=force)
    app = application(new)
    plan_settings(old, new, plan)
    plan_pki(old, new, app, plan)
    plan_gatts(old, new, plan)
    plan_other_entries(old, new, plan)
    drop_what_has_no_room(new, plan)
    warn_of_features(new, app, plan)
    plan.request.sources = dict.fromkeys(plan.request.names(), str(old.source.path))
    ota = _ota(old, new, plan)
    outcome = _modified(new, plan, force=force, now=now)
    return Migration(
        [_as_written(each, new) for each in plan.carried],
        plan.lost,
        plan.kept,
        plan.unneeded,
        list(_own_data(old)),
        ota,
        Outcome(outcome.changes, outcome.unchanged, plan.warnings + outcome.warnings),
    )


def _check_chips(old: Firmware, new: Firmware, plan: Plan) -> None:
    if old.chip_name and new.chip_name and old.chip_name != new.chip_name:
        raise InputError(
            f"{old.source.path} is for {old.chip_name} and {new.source.path} for {new.chip_name}",
            "a migration stays on one chip: GPIOs and parameters mean something else on another",
        )
    for firmware in (old, new):
        if not firmware.chip_name:
            plan.warnings.append(f"{firmware.source.path}: does not tell its chip, so it was not compared")
            return


def _check_readable(old: Firmware, plan: Plan, *, force: bool) -> None:
    """Refuse an OLD whose ``mfg_nvs`` its own firmware could not read."""
    if not isinstance(old.layout, ModernLayout):
        return
    nvs, path = old.layout.nvs, old.source.path
    serious = list(dict.fromkeys(found.message for found in nvs.problems if found.level == "error"))
    found = "; ".join(serious[:3]) or "entries are lost"
    if not nvs.opened:
        raise InputError(f"{path}: mfg_nvs cannot be opened: {found}", "see 'esp-at-tool nvs check'")
    if nvs.loses_entries and not force:
        hint = "see 'esp-at-tool nvs check'; with --force, what the firmware would still read is carried"
        raise RiskyValueError(f"{path}: mfg_nvs is damaged: {found}", hint)
    if nvs.loses_entries:
        plan.warnings.append(f"{path}: mfg_nvs is damaged: {found} (allowed by --force)")


def _modified(new: Firmware, plan: Plan, *, force: bool, now: datetime | None) -> Outcome:
    """Apply the request; what stands against a value can also be answered by leaving NEW's."""
    try:
        return modify(new, plan.request, force=force, now=now, in_force="OLD")
    except InputError as error:
        names = _blamed(error.message, plan)
        if not names:
            raise
        advice = f"{' '.join(f'--keep {name}' for name in names)} leaves NEW's"
        raise type(error)(error.message, f"{error.hint}; {advice}" if error.hint else advice) from error


def _blamed(message: str, plan: Plan) -> list[str]:
    """Return the names to which the lines of an error object: each begins with a name or a role."""
    names: list[str] = []
    asked = plan.request.names()
    for line in message.split("\n"):
        head = re.split(r":| \(", line.strip(), maxsplit=1)[0]
        if "GATT row" in line:
            names.append(GATT_TABLE)
        names += [
            name for name in asked if name == head or (name in PKI_ITEMS and PKI_ITEMS[name].role == head)
        ]
    return list(dict.fromkeys(names))


def _ota(old: Firmware, new: Firmware, plan: Plan) -> Ota:
    from esp_at_tools.firmware.migrate_ota import check_ota

    renamed = tuple((each.old_name, each.name) for each in plan.carried if each.old_name != each.name)
    return check_ota(old, new, renamed)


def _as_written(carried: Carried, new: Firmware) -> Carried:
    """Return what was carried with the value that NEW has now."""
    if carried.name == GATT_TABLE:
        return replace(carried, value=list(new.gatts().values()))
    value = new.get(carried.name)
    return replace(carried, value=PkiDigest.of(value) if isinstance(value, bytes) else value)


def _own_data(old: Firmware) -> Iterator[Lost]:
    """Yield the partitions of OLD that hold what the device itself has stored."""
    for place in old.map.places() if old.map else ():
        partition = place.partition
        is_fixed = partition.type != DATA or partition.subtype in (OTA_DATA, _PHY_INIT)
        if is_fixed or partition.name in old.places:
            continue
        data = old.source.read(partition.offset, partition.size)
        if data.count(0xFF) < len(data):
            what = _STORES.get(partition.subtype, "data")
            hint = f"'esp-at-tool flash' writes OUT and leaves {partition.name} of a device alone"
            yield Lost(partition.name, what, hint)

"""Carry certificates, keys and the GATT table from one firmware to another.

WPA Enterprise: firmware up to v5.0.1.0 reads the namespaces (or partitions) ``wpa2_*``, later firmware
``wpa_ent_*``, unless it was compiled with ``AT_EAP_LEGACY_NAMESPACE_SUPPORT`` (``main/Kconfig`` and
``at_ota_cmd.c`` of esp-at's master branch, July 2026).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace

from esp_at_tools.errors import InputError
from esp_at_tools.firmware.firmware import Firmware, PkiDigest
from esp_at_tools.firmware.migrate_plan import GATT_TABLE, Carried, Kept, Lost, Plan
from esp_at_tools.firmware.opening import read_image
from esp_at_tools.formats.gatts import MAX_READ_VALUE, parse_row
from esp_at_tools.pki.names import PKI_GROUPS, PKI_ITEMS
from esp_at_tools.settings.layout import Layout
from esp_at_tools.settings.legacy import LegacyLayout
from esp_at_tools.settings.modern import ModernLayout
from esp_at_tools.settings.names import BLE_DATA, FACTORY_PARAM, MAX_GATT_ROWS, gatt_row_index

_ENTERPRISE = ("wpa2", "wpa_ent")
_FILLER = b"0123456789"
"""What the official tables of the legacy layout fill long values with, again and again."""
_ROOM_HINT = "use a shorter chain, an EC key or DER form, or remove an item of NEW that nothing needs"


def application(firmware: Firmware) -> bytes:
    """Return the bytes of the first application, none where there is none that can be read."""
    for partition in firmware.map.primary.apps if firmware.map else ():
        image = read_image(firmware.source, partition.offset, partition.size)
        if image is not None:
            return firmware.source.read(partition.offset, image.size)
    return b""


# --- certificates and keys -----------------------------------------------------------------------


def plan_pki(old: Firmware, new: Firmware, app: bytes, plan: Plan) -> None:
    """Add what becomes of the certificates and keys to a plan.

    Args:
        old: the firmware that they come from.
        new: the firmware that they go to.
        app: NEW's application.
        plan: the plan; its settings stand already.
    """
    before, now = old.pki(), new.pki()
    prefix = _enterprise_prefix(new, app)
    taken: set[str] = set()
    for name, data in sorted(before.items(), key=lambda item: _renamed(item[0], prefix) != item[0]):
        target = _renamed(name, prefix)
        digest = PkiDigest.of(data)
        if target not in PKI_ITEMS:
            reason = "it is no certificate or key that AT firmware has a name for"
            plan.lost.append(Lost(name, reason, "save it with 'esp-at-tool nvs dump' if something reads it"))
        elif target in taken:
            is_same = before[target] == data
            reason = f"OLD has {target} too{', which is the same' if is_same else ', which NEW reads'}"
            (plan.unneeded if is_same else plan.lost).append(Lost(name, reason))
        elif target in plan.keep:
            if now.get(target) != data or target != name:
                had, own = _digest(now.get(target)), name if target != name else ""
                plan.kept.append(Kept(target, had, digest, "--keep asks for it", own))
        elif (error := _no_place(new, target)) is not None:
            plan.lost.append(Lost(name, _reason(target, error), error.hint))
        else:
            note = f"was {name}" if target != name else ""
            plan.request.pki[target] = data
            plan.carried.append(Carried(target, name, digest, now.get(target) != data, note))
        taken.add(target)
    plan.kept.extend(
        Kept(name, PkiDigest.of(data), None, _none_in(old)) for name, data in now.items() if name not in taken
    )
    if isinstance(old.layout, LegacyLayout):
        for partition, error in old.layout.damaged.items():
            name = GATT_TABLE if partition == BLE_DATA else partition
            plan.lost.append(
                Lost(name, f"OLD's partition {partition} is damaged: {error.message}", error.hint)
            )


def _none_in(old: Firmware) -> str:
    return "OLD is its settings alone" if old.kind == FACTORY_PARAM else "OLD has none"


def _digest(data: bytes | None) -> PkiDigest | None:
    return None if data is None else PkiDigest.of(data)


def _reason(name: str, error: InputError) -> str:
    return error.message.removeprefix(f"{name}: ").replace("this firmware's", "NEW's")


def _no_place(new: Firmware, name: str) -> InputError | None:
    try:
        new.layout.check_holds(name)
    except InputError as error:
        return error
    return None


def _enterprise_prefix(new: Firmware, app: bytes) -> str:
    """Return what the items of WPA Enterprise are called in NEW, ``""`` where nothing tells.

    What NEW holds tells most, then what its partitions are called, then what its application knows:
    one that knows both names reads the newer ones, unless NEW holds the older.
    """
    held = {*new.layout.pki_groups().values(), *(new.places if new.layout.name == "legacy" else ())}
    for prefix in reversed(_ENTERPRISE):
        if any(group.startswith(f"{prefix}_") for group in held):
            return prefix
    return next((prefix for prefix in reversed(_ENTERPRISE) if _names(app, f"{prefix}_ca")), "")


def _renamed(name: str, prefix: str) -> str:
    """Return the name of an item in NEW."""
    own, _, rest = name.rpartition("_")
    return f"{prefix}_{rest}" if prefix and own in _ENTERPRISE else name


def _names(app: bytes, group: str) -> bool:
    """Tell whether an application has a text of its own for a namespace."""
    return f"{group}\0".encode() in app


# --- room ----------------------------------------------------------------------------------------


def drop_what_has_no_room(new: Firmware, plan: Plan) -> None:
    """Take out of a plan what NEW's partitions have no room for; a certificate and its key go together."""
    layout = copy.deepcopy(new.layout)
    if plan.request.gatt_table is not None and (error := _put_table(layout, plan.request.gatt_table)):
        plan.drop((GATT_TABLE,), [Lost(GATT_TABLE, error.message, error.hint or "remove rows")])
        layout = copy.deepcopy(new.layout)
    try:
        for name, value in plan.request.settings.items():
            layout.set_setting(name, value)
    except InputError:  # an impossible value, which the change itself tells of
        return
    if _put_items(copy.deepcopy(layout), plan.request.pki) is None:
        return
    for names in _units(plan.request.pki):
        trial = copy.deepcopy(layout)
        error = _put_items(trial, {name: plan.request.pki[name] for name in names})
        if error is None:
            layout = trial
            continue
        olds = {each.name: each.old_name for each in plan.carried}
        plan.drop(names, [Lost(olds[name], _reason(name, error), error.hint or _ROOM_HINT) for name in names])
        plan.kept.extend(
            Kept(name, _digest(new.pki().get(name)), None, "OLD's has no room in NEW")
            for name in names
            if name in new.pki()
        )


def _units(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the items that are of use together: a CA, or a certificate and its key."""
    units: dict[tuple[str, bool], list[str]] = {}
    for name in sorted(names, key=list(PKI_ITEMS).index):
        units.setdefault((PKI_ITEMS[name].role, PKI_ITEMS[name].kind == "ca"), []).append(name)
    return [tuple(unit) for unit in units.values()]


def _put_items(layout: Layout, items: Mapping[str, bytes]) -> InputError | None:
    try:
        for name in sorted(items, key=list(PKI_ITEMS).index):
            layout.set_pki(name, items[name])
        layout.contents()
    except InputError as error:
        return error
    return None


def _put_table(layout: Layout, rows: list[str]) -> InputError | None:
    try:
        for name in reversed(layout.gatts()):
            if (gatt_row_index(name) or 0) >= len(rows):
                layout.unset(name)
        for index, row in enumerate(rows):
            layout.set_gatt(f"cfg{index}", row)
        layout.contents()
    except InputError as error:
        return error
    return None


# --- GATT table ----------------------------------------------------------------------------------


def plan_gatts(old: Firmware, new: Firmware, plan: Plan) -> None:
    """Add what becomes of the GATT table to a plan: it is carried whole, or not at all."""
    before, now = old.gatts(), list(new.gatts().values())
    rows: list[str] = []
    for name, row in before.items():
        if name != f"cfg{len(rows)}" or len(rows) == MAX_GATT_ROWS:
            reason = f"OLD has no cfg{len(rows)}, and the firmware reads no row after a gap"
            if len(rows) == MAX_GATT_ROWS:
                reason = f"the firmware reads {MAX_GATT_ROWS} rows"
            plan.lost.append(Lost(name, reason, "number the rows from cfg0 without a gap"))
        else:
            rows.append(row)
    if not rows:
        if now:
            plan.kept.append(Kept(GATT_TABLE, now, None, _none_in(old)))
    elif GATT_TABLE in plan.keep:
        if rows != now:
            plan.kept.append(Kept(GATT_TABLE, now, rows, "--keep asks for it"))
    elif (error := _no_place(new, "cfg0")) is not None:
        hint = "give a NEW with Bluetooth LE, if the product needs it"
        plan.lost.append(Lost(GATT_TABLE, _reason("cfg0", error), hint))
    else:
        table, note = rows, ""
        if old.layout.name != new.layout.name:
            table, note = (
                _without_long_values(rows, plan) if new.layout.name == "modern" else _with_lengths(rows)
            )
        plan.request.gatt_table = table
        plan.carried.append(Carried(GATT_TABLE, GATT_TABLE, table, table != now, note))


def _without_long_values(rows: list[str], plan: Plan) -> tuple[list[str], str]:
    """Return rows without the first values that firmware of the modern layout has no room for.

    The official tables have lost theirs in the same way when the layout changed.
    """
    table = []
    for number, text in enumerate(rows):
        try:
            row = parse_row(text)
        except InputError:  # told when the change is checked
            table.append(text)
            continue
        used = row.value[: 2 * (row.val_cur_len or 0)]
        fits = len(used) <= 2 * MAX_READ_VALUE
        if len(row.value) <= 2 * MAX_READ_VALUE:
            table.append(text)
            continue
        table.append(replace(row, value=used if fits else "").to_text())
        size = len(used) // 2
        if not fits and bytes.fromhex(used) == (_FILLER * size)[:size]:
            plan.unneeded.append(Lost(f"cfg{number}", f"its first value is {size} bytes of filler"))
        elif not fits:
            reason = f"its first value has {size} bytes, and NEW reads at most {MAX_READ_VALUE} of a table"
            plan.lost.append(Lost(f"cfg{number}", reason, "write it at run time with AT+BLEGATTSSETATTR"))
    return table, "" if table == rows else "first values that NEW does not read are left out"


def _with_lengths(rows: list[str]) -> tuple[list[str], str]:
    """Return rows in which no first value is shorter than it says: the legacy layout would read past it.

    The modern layout leaves long first values out, and says their length all the same.
    """
    table = []
    for text in rows:
        try:
            row = parse_row(text)
        except InputError:  # told when the change is checked
            table.append(text)
            continue
        size = len(row.value) // 2
        table.append(replace(row, val_cur_len=size).to_text() if (row.val_cur_len or 0) > size else text)
    return table, "" if table == rows else "val_cur_len is that of the values now"


# --- the rest ------------------------------------------------------------------------------------


def plan_other_entries(old: Firmware, new: Firmware, plan: Plan) -> None:
    """Tell what ``mfg_nvs`` of OLD holds besides, which is not carried."""
    if not isinstance(old.layout, ModernLayout):
        return
    held = new.layout.nvs.entries if isinstance(new.layout, ModernLayout) else ()
    same = {(entry.namespace, entry.key, entry.type, entry.value) for entry in held}
    told = {*old.settings(), *old.pki(), *old.gatts()}
    spaces = {FACTORY_PARAM, BLE_DATA, *PKI_GROUPS}
    for entry in old.layout.nvs.entries:
        if entry.namespace in spaces and entry.key in told:
            continue
        if (entry.namespace, entry.key, entry.type, entry.value) not in same:
            reason = "it is no setting, certificate, key or GATT row of AT firmware"
            hint = (
                "if firmware of your own reads it, add it to NEW's mfg_nvs.csv ('esp-at-tool nvs generate')"
            )
            plan.lost.append(Lost(f"{entry.namespace}/{entry.key}", reason, hint))


def warn_of_features(new: Firmware, app: bytes, plan: Plan) -> None:
    """Warn of what is carried but that NEW's application does not know the namespace of."""
    if not app:
        return
    held = {*new.layout.pki_groups().values(), *([BLE_DATA] if new.gatts() else [])}
    groups = {each.name: BLE_DATA if each.name == GATT_TABLE else "" for each in plan.carried}
    groups.update({name: PKI_ITEMS[name].group for name in groups if name in PKI_ITEMS})
    unknown = [
        name for name, group in groups.items() if group and group not in held and not _names(app, group)
    ]
    if unknown:
        plan.warnings.append(
            f"{', '.join(unknown)}: NEW's application does not know {'it' if len(unknown) == 1 else 'them'}; "
            "only firmware compiled with that feature reads what is carried"
        )

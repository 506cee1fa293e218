"""Carry settings from one firmware to another: which describe the product, and what they mean there.

Sources: ``at_default_config.c`` and ``at_uart_task.c`` of esp-at v2.3.0.0_esp32c3 for the legacy record,
``at_init.c`` of v5.0.1.0 for both layouts.
"""

from __future__ import annotations

from collections.abc import Mapping

from esp_at_tools.errors import InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.migrate_plan import Carried, Kept, Lost, Plan
from esp_at_tools.settings.layout import Value
from esp_at_tools.settings.names import PIN_SETTINGS, SETTINGS
from esp_at_tools.settings.rules import LAST_CHANNEL
from esp_at_tools.settings.uart_rules import CONTROL_PINS, NO_UART

_IDENTITY = {
    "version": "it is the version of NEW's parameters",
    "module_name": "it names the module that NEW is for; 'esp-at-tool modify-bin --module-name' changes it",
    "platform": "it names the chip series that NEW is for",
}
"""Settings that describe the firmware rather than the product → why NEW's stays."""

_UART = ("uart_port", "uart_baudrate", *PIN_SETTINGS)
_COUNTRY = ("country_code", "start_channel", "channel_num")
_NOT_GIVEN = -1
_BYTE_NOT_GIVEN = 0xFF
_LEAST_POWER_OF_VERSION_1 = 10
"""Firmware takes a smaller ``max_tx_power`` of a record of version 1 for none."""
_UNMISSED: Mapping[str, tuple[Value, str]] = {
    "sys_store": (1, "firmware without it stores by default, as this value says"),
    **dict.fromkeys(CONTROL_PINS, (_NOT_GIVEN, "no pin was set")),
}
"""Settings → the value that means nothing where there is no place for it, and why."""


def plan_settings(old: Firmware, new: Firmware, plan: Plan) -> None:
    """Add what becomes of the settings to a plan."""
    before, now = old.settings(), new.settings()
    stays = {**_not_given(old, before), **_other_interface(old, before, new, now)}
    converted = _channels(old, before, new)
    defaults = _official_defaults(old, before)
    for name, raw in before.items():
        value, note = converted.get(name, (raw, ""))
        why = "--keep asks for it" if name in plan.keep else _IDENTITY.get(name) or stays.get(name)
        if name not in SETTINGS:
            if now.get(name) == raw:
                continue
            reason = "it is no setting of AT firmware"
            plan.lost.append(
                Lost(name, reason, "if firmware of your own reads it, add it to NEW's mfg_nvs.csv")
            )
        elif why is not None and (name in now or _has_place(new, name) is None):
            if now.get(name) != raw or name in plan.keep:
                plan.kept.append(Kept(name, now.get(name), raw, why))
        elif (no_place := _has_place(new, name)) is not None:
            _tell_lost(plan, name, raw, no_place)
        else:
            plan.request.settings[name] = value
            default = defaults.get(name)
            plan.carried.append(
                Carried(
                    name,
                    name,
                    value,
                    now.get(name) != value,
                    note,
                    None if default is None else default == raw,
                )
            )
    plan.kept.extend(
        Kept(name, value, None, "OLD has none") for name, value in now.items() if name not in before
    )


def _has_place(new: Firmware, name: str) -> InputError | None:
    """Return why NEW cannot hold a setting, None if it can."""
    try:
        new.layout.check_holds(name)
    except InputError as error:
        return error
    return None


def _tell_lost(plan: Plan, name: str, value: Value, error: InputError) -> None:
    reason = error.message.removeprefix(f"{name}: ").replace("this firmware's", "NEW's")
    if name == "platform":
        plan.unneeded.append(Lost(name, "NEW knows its chip without it"))
    elif name in _UNMISSED and _UNMISSED[name][0] == value:
        plan.unneeded.append(Lost(name, _UNMISSED[name][1]))
    elif name in CONTROL_PINS:
        hint = f"OLD drives GPIO {value} high when it starts; let the board or the host do that"
        plan.lost.append(Lost(name, reason, hint))
    else:
        plan.lost.append(Lost(name, f"{reason}; it was {value}", error.hint))


# --- what OLD leaves to its firmware -------------------------------------------------------------


def _not_given(old: Firmware, values: Mapping[str, Value]) -> dict[str, str]:
    """Return the settings of a legacy record that say nothing, and why: its firmware uses its own values."""
    if old.layout.name != "legacy":
        return {}
    silent = [
        name for name in ("max_tx_power", "uart_port", "uart_baudrate") if values.get(name) == _NOT_GIVEN
    ]
    power = values.get("max_tx_power")
    if values.get("version") == 1 and isinstance(power, int) and power < _LEAST_POWER_OF_VERSION_1:
        silent.append("max_tx_power")
    if _NOT_GIVEN in (values.get("uart_tx_pin"), values.get("uart_rx_pin")):
        silent += ["uart_tx_pin", "uart_rx_pin"]
    found = dict.fromkeys(silent, "OLD does not give it, so its firmware used its built-in value")
    start, last, code = values.get("start_channel"), values.get("channel_num"), values.get("country_code")
    if code == "" or _BYTE_NOT_GIVEN in (start, last):
        found.update(
            dict.fromkeys(_COUNTRY, "OLD does not give country and channels together, so it used none")
        )
    elif isinstance(start, int) and isinstance(last, int) and not 1 <= start <= last <= LAST_CHANNEL:
        why = f"OLD says channels {start} to {last}, which its firmware refused"
        found.update(dict.fromkeys(_COUNTRY, why))
    return found


def _other_interface(
    old: Firmware, before: Mapping[str, Value], new: Firmware, now: Mapping[str, Value]
) -> dict[str, str]:
    """Return the settings of the UART, and why they stay, if only one of the two has its AT port there."""
    uart_of_old, uart_of_new = _has_uart(old, before), _has_uart(new, now)
    if uart_of_old is False and uart_of_new is not False:
        return dict.fromkeys(_UART, "the AT port of OLD is no UART")
    if uart_of_new is False and uart_of_old is not False:
        return dict.fromkeys(_UART, "the AT port of NEW is no UART")
    return {}


def _has_uart(firmware: Firmware, values: Mapping[str, Value]) -> bool | None:
    """Tell whether the AT port is a UART; None in the legacy layout, where -1 means the built-in value."""
    if firmware.layout.name == "legacy":
        return None
    return NO_UART not in (values.get("uart_port"), values.get("uart_baudrate"))


# --- what a value means in the other layout ------------------------------------------------------


def _channels(old: Firmware, values: Mapping[str, Value], new: Firmware) -> dict[str, tuple[Value, str]]:
    """Return ``channel_num`` as the other layout has it: the last channel, or the number of channels."""
    start, number = values.get("start_channel"), values.get("channel_num")
    if old.layout.name == new.layout.name or not isinstance(start, int) or not isinstance(number, int):
        return {}
    if new.layout.name == "modern":
        value, note = number - start + 1, f"was the last channel, {number}; now the number of channels"
    else:
        value, note = start + number - 1, f"was the number of channels, {number}; now the last channel"
    return {"channel_num": (value, note if value != number else "")}


# --- what nobody may have chosen -----------------------------------------------------------------


def _official_defaults(old: Firmware, values: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return the official parameters of OLD's module, none where it is not one that is known."""
    if old.chip is None:
        return {}
    from esp_at_tools.catalog.data import data_folder
    from esp_at_tools.catalog.factory_params import DATA_FILE, TYPE_FILE, read_rows, read_types
    from esp_at_tools.catalog.module_yaml import raise_errors

    folder = data_folder()
    rows = read_rows(folder / DATA_FILE, read_types(folder / TYPE_FILE), raise_errors)
    platform = old.chip.platform.removeprefix("PLATFORM_")
    row = rows.get(f"{platform}/{values.get('module_name')}".casefold())
    # Every official module starts at channel 1, where channel_num means the same in both layouts.
    return row.parameters if row is not None else {}

"""The names of everything that can be changed: settings, PKI items and GATT rows.

The names are the NVS keys of esp-at's ``mfg_nvs`` partition (``factory_param_type.csv`` of
esp-at v5.0.1.0 and ``at_customized_config_dependency.txt``); the older layout's fields are
mapped onto them. Beside each name stand the option and the short option of at.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from esp_at_tools.errors import InputError
from esp_at_tools.pki.names import PKI_GROUPS, PKI_ITEMS

FACTORY_PARAM = "factory_param"
"""NVS namespace of the settings, and name of the legacy 4 KB partition."""

BLE_DATA = "ble_data"
"""NVS namespace of the GATT rows, and name of the legacy partition."""

MAX_GATT_ROWS = 255
"""Most GATT rows that can be addressed by name; the firmware's own limit depends on its version."""


@dataclass(frozen=True)
class Setting:
    """One value of ``factory_param``.

    Attributes:
        name: the official NVS key.
        nvs_type: its NVS type in the modern layout, ``""`` where only the legacy layout has it.
        legacy: the field of the legacy ``factory_param`` record, ``""`` where it has none.
        option: the option of ``modify-bin`` (``--tx-pin``), ``""`` where ``--set`` is the only way.
        short: at.py's short spelling of that option.
        help: one line for ``--help``.
    """

    name: str
    nvs_type: str
    legacy: str
    option: str
    short: str
    help: str

    @property
    def is_text(self) -> bool:
        """Whether the value is a string."""
        return self.nvs_type == "string" or self.name == "platform"


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("version", "i8", "version", "", "", "version of the parameters"),
        Setting("module_name", "string", "module_name", "--module-name", "-mn", "name of the module"),
        Setting(
            "max_tx_power",
            "i8",
            "max_tx_power",
            "--tx-power",
            "-tp",
            "maximum Wi-Fi transmit power, 40 to 84, in units of 0.25 dBm",
        ),
        Setting("country_code", "string", "country_code", "--country-code", "-cc", "Wi-Fi country code"),
        Setting(
            "start_channel", "u8", "start_channel", "--start-channel", "-sc", "first Wi-Fi channel, 1 to 14"
        ),
        Setting(
            "channel_num", "u8", "channel_num", "--channel-number", "-cn", "number of Wi-Fi channels, 1 to 14"
        ),
        Setting("uart_port", "i8", "uart_port", "--uart-num", "-un", "number of the AT command UART"),
        Setting(
            "uart_baudrate", "i32", "uart_baudrate", "--baud", "-b", "baud rate of the AT UART, 80 to 5000000"
        ),
        Setting("uart_tx_pin", "i32", "uart_tx_pin", "--tx-pin", "-tx", "GPIO of the AT UART's TX"),
        Setting("uart_rx_pin", "i32", "uart_rx_pin", "--rx-pin", "-rx", "GPIO of the AT UART's RX"),
        Setting(
            "uart_cts_pin",
            "i32",
            "uart_cts_pin",
            "--cts-pin",
            "-cts",
            "GPIO of the AT UART's CTS, -1 for none",
        ),
        Setting(
            "uart_rts_pin",
            "i32",
            "uart_rts_pin",
            "--rts-pin",
            "-rts",
            "GPIO of the AT UART's RTS, -1 for none",
        ),
        Setting("sys_store", "u8", "", "", "", "default of AT+SYSSTORE, 0 or 1"),
        Setting(
            "platform", "", "platform", "--platform", "-pf", "name of the chip series; legacy layout only"
        ),
        Setting(
            "tx_control_pin",
            "",
            "tx_control_pin",
            "--tx-control-pin",
            "-txctrl",
            "TX control GPIO of an ESP8266 with swapped UART; legacy layout only",
        ),
        Setting(
            "rx_control_pin",
            "",
            "rx_control_pin",
            "--rx-control-pin",
            "-rxctrl",
            "RX control GPIO of an ESP8266 with swapped UART; legacy layout only",
        ),
    )
}
"""Every setting by name, in the official order."""

PIN_SETTINGS = ("uart_tx_pin", "uart_rx_pin", "uart_cts_pin", "uart_rts_pin")
"""The four pins of the AT UART, which must be checked together."""


LEGACY_PARTITIONS = (FACTORY_PARAM, BLE_DATA, *PKI_GROUPS)
"""The partitions of the legacy layout that hold what can be changed."""

NAMES_HINT = f"the names are {', '.join([*SETTINGS, *PKI_ITEMS])} and cfg0, cfg1, …"

_GATT_ROW = re.compile(r"cfg(0|[1-9][0-9]{0,2})\Z")


def gatt_row_index(name: str) -> int | None:
    """Return N for the GATT row name ``cfgN`` (0 to 254), None for any other name."""
    match = _GATT_ROW.match(name)
    index = int(match[1]) if match else MAX_GATT_ROWS
    return index if index < MAX_GATT_ROWS else None


def check_name(name: str) -> str:
    """Return ``name`` if it is a setting, a PKI item or a GATT row.

    Raises:
        InputError: it is none of them; the hint has the nearest known name.
    """
    if name in SETTINGS or name in PKI_ITEMS or gatt_row_index(name) is not None:
        return name
    import difflib

    if re.match(r"cfg[0-9]+\Z", name):
        hint = f"the rows are cfg0 to cfg{MAX_GATT_ROWS - 1}"
        raise InputError(f"{name!r} is not the name of a GATT row", hint)
    known = [*SETTINGS, *PKI_ITEMS, "cfg0"]
    meant = name.replace("-", "_").lower()
    near = [each for each in known if each.split(".")[0] == meant]
    near = near or difflib.get_close_matches(meant, known, n=1)
    hint = f"did you mean {' or '.join(near)}?" if near else NAMES_HINT
    raise InputError(f"{name!r} is not the name of a setting, a PKI item or a GATT row", hint)

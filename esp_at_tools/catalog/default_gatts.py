"""The GATT table of a module with Bluetooth LE that has none of its own.

``module_config/gatts_data.csv`` holds it, in the format of esp-at's file of that name. Source of the facts:
the default services in ESP-AT's user guide and in esp-at v5.0.1.0, which v3.4.0.0 has too.
"""

from __future__ import annotations

import functools

from esp_at_tools.catalog.data import data_folder
from esp_at_tools.errors import FormatError
from esp_at_tools.files import read_file
from esp_at_tools.formats.gatts import check_table, read_gatts_csv

FILE_NAME = "gatts_data.csv"
_MAX_SIZE = 1 << 20


def default_gatt_rows() -> tuple[str, ...]:
    """Return the rows as the strings ``cfg0``, ``cfg1``, … of ``mfg_nvs`` hold them, in order.

    Raises:
        InputError: the table cannot be read.
        FormatError: it is not CSV in UTF-8, has no rows or too many, or the firmware could not build it.
    """
    path = data_folder() / FILE_NAME
    try:
        return _checked(read_file(path, "GATT table", _MAX_SIZE).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8: {error}", "save it as UTF-8") from error
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", error.hint) from error


@functools.lru_cache(maxsize=1)
def _checked(text: str) -> tuple[str, ...]:
    """Return the rows of a table; several modules have the same one."""
    rows = tuple(read_gatts_csv(text))
    if not rows:
        raise FormatError("holds no GATT rows", "begin with a row of uuid 0x2800")
    for found in check_table(rows):
        if found.level == "error":
            raise FormatError(found.message, found.hint)
    return rows

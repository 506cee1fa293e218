"""Wi-Fi country codes that esp_wifi or ISO 3166-1 knows, from ``module_config/countries.csv``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.catalog.data import data_folder, read_table
from esp_at_tools.errors import FormatError

_COLUMNS = ("code", "channels", "source")
_MISTAKEN = {"UK": "GB", "EN": "GB", "UAE": "AE", "EL": "GR", "USA": "US", "CHN": "CN", "ENG": "GB"}


@dataclass(frozen=True)
class Country:
    """One country code.

    Attributes:
        code: two letters, or ``01`` for esp_wifi's world-safe mode.
        channels: highest 2.4 GHz channel that its regulations allow, counted from channel 1; None
            where esp_wifi has no regulations for it.
    """

    code: str
    channels: int | None


def find_country(code: str) -> Country | None:
    """Return the country called ``code``, None if it is not known; upper case matters."""
    return _countries().get(code)


def nearest_code(code: str) -> str:
    """Return the known code that was probably meant by an unknown one, ``""`` if none suggests itself."""
    upper = code.upper()
    if upper in _countries():
        return upper
    return _MISTAKEN.get(upper, "")


@functools.lru_cache(maxsize=1)
def _countries() -> Mapping[str, Country]:
    return load(data_folder())


def load(folder: Path) -> dict[str, Country]:
    """Read ``countries.csv`` of a ``module_config`` folder.

    Raises:
        InputError: the table is missing.
        FormatError: it is wrong; the message names the line.
    """
    path = folder / "countries.csv"
    countries: dict[str, Country] = {}
    for line, (code, channels, source) in read_table(path, _COLUMNS):
        if code in countries or not source or (channels and not channels.isdecimal()):
            hint = "each code once, with its source and a number of channels or none"
            raise FormatError(f"{path}: line {line}: {code!r} is wrong or there twice", hint)
        countries[code] = Country(code, int(channels) if channels else None)
    return countries

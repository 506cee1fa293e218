"""The options of the sdkconfig that are esp-at's own: ``AT_…`` of its Kconfig files.

``at_options.csv`` has those of v3.0.0.0 to v5.0.1.0 and of the master branch of July 2026. A component of the
user's own may have more, so that one which is not among them is no error.
"""

from __future__ import annotations

import functools

from esp_at_tools.catalog.data import data_folder, read_table
from esp_at_tools.catalog.module_yaml import nearest

_PREFIX = "AT_"


@functools.lru_cache(maxsize=1)
def at_options() -> frozenset[str]:
    """Return the options of esp-at, without ``CONFIG_``."""
    return frozenset(row[0] for _, row in read_table(data_folder() / "at_options.csv", ("option",)))


def unknown_at_option(name: str) -> tuple[str, str] | None:
    """Return what is to be said of an option that esp-at does not have: message and hint.

    Args:
        name: an option, without ``CONFIG_``.

    Returns:
        None for one that esp-at has, or that is none of its own.
    """
    if not name.startswith(_PREFIX) or name in at_options():
        return None
    near = nearest(name, sorted(at_options()), cutoff=0.5)
    message = f"CONFIG_{name}: esp-at has no option of that name, so that it decides nothing"
    return message, f"did you mean CONFIG_{near}?" if near else "a component of your own may have it"

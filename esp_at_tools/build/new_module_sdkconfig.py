"""Changing options in the text of an ``sdkconfig.defaults``, and leaving every other line as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping

from esp_at_tools.catalog.features import Feature

_STATEMENT = re.compile(r"CONFIG_([A-Za-z0-9_]+)=.*|# CONFIG_([A-Za-z0-9_]+) is not set", re.ASCII)


def options_of(
    features: Mapping[str, Feature], states: Mapping[str, str], chip: str
) -> dict[str, str | None]:
    """Return what states of features set: option without ``CONFIG_`` → value, None to leave it to Kconfig.

    What only the other states of a feature set is left to Kconfig again.
    """
    found: dict[str, str | None] = {}
    for name, state in states.items():
        feature = features[name]
        own = feature.options(state, chip)
        for other in feature.state_names():
            found |= {option: None for option in feature.options(other, chip) if option not in own}
        found |= own
    return found


def edited(text: str, changes: Mapping[str, str | None], heading: str) -> str:
    """Return an ``sdkconfig.defaults`` with other values.

    An option that it names keeps its line, and is named once; others follow at the end, under a comment.

    Args:
        text: the file.
        changes: option without ``CONFIG_`` → value as there, None to remove it.
        heading: the comment.
    """
    end = "\r\n" if "\r\n" in text else "\n"
    done: set[str] = set()
    lines = []
    for line in text.splitlines(keepends=True):
        match = _STATEMENT.fullmatch(line.strip())
        name = (match[1] or match[2]) if match else ""
        if name not in changes:
            lines.append(line)
            continue
        value = changes[name]
        if value is not None and name not in done:
            bare = line.rstrip("\r\n")
            lines.append(f"CONFIG_{name}={value}{line[len(bare) :] or end}")
        done.add(name)
    more = {name: value for name, value in changes.items() if value is not None and name not in done}
    if more:
        if lines and not lines[-1].endswith(("\n", "\r")):
            lines.append(end)
        lines += [end, f"# {heading}{end}", *(f"CONFIG_{name}={value}{end}" for name, value in more.items())]
    return "".join(lines)

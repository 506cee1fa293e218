"""What a rule finds about a value, and what every rule may look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from esp_at_tools.catalog.chips import Chip
from esp_at_tools.settings.layout import LayoutName, Value

Level = Literal["impossible", "risky", "warning"]


@dataclass(frozen=True)
class RuleFinding:
    """One objection to a value.

    Attributes:
        setting: official name of the setting to which the objection is made.
        level: ``impossible`` (an error), ``risky`` (an error that ``--force`` makes a warning) or
            ``warning``.
        message: what is wrong; it begins with the name of the setting.
        hint: what would be right; may be empty.
    """

    setting: str
    level: Level
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Context:
    """The values that are judged together.

    Attributes:
        values: the settings as they will be.
        changed: the names of those that will be other than they are.
        chip: the chip, None if unknown.
        layout: how the firmware stores them.
        asked: the names that were asked for, those that are so already included.
    """

    values: Mapping[str, Value]
    changed: frozenset[str]
    chip: Chip | None
    layout: LayoutName
    asked: frozenset[str] = frozenset()

    def number(self, name: str) -> int | None:
        """Return a numeric setting, None where it is absent (or is no number)."""
        value = self.values.get(name)
        return value if isinstance(value, int) else None

    def text(self, name: str) -> str:
        """Return a text setting, ``""`` where it is absent."""
        value = self.values.get(name)
        return value if isinstance(value, str) else ""

    def blamed(self, *names: str) -> str:
        """Return which of several settings that contradict each other an objection is made to.

        It is the last that is being changed; where none is, the last.
        """
        return next((name for name in reversed(names) if name in self.changed), names[-1])


def listed(numbers: Iterable[int], most: int = 6) -> str:
    """Return the first numbers for people: ``4, 5, 13, 18, 19, 21 …``."""
    shown = [str(number) for number in numbers]
    return ", ".join(shown[:most]) + (" …" if len(shown) > most else "")

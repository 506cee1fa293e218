"""What a reading of an NVS partition finds wrong, and how much work it may spend."""

from __future__ import annotations

from collections.abc import Callable

from esp_at_tools.formats.nvs.model import (
    ENTRY_SIZE,
    FIRST_ENTRY_OFFSET,
    PAGE_SIZE,
    Level,
    NvsProblem,
)
from esp_at_tools.formats.nvs.read_item import Item

MAX_PROBLEMS = 1000
"""Problems that are kept one by one; of the rest only the number is told."""

WORK_PER_PAGE = 3150
"""Steps of looking for entries that a page is worth, on average: 25 for each of its entries.

A page full of entries that a device has written needs less than half. Only an image made for it, with
thousands of duplicates that hide one another, would need more, up to the square of its size."""
_LEAST_WORK = 200_000


class TooContortedError(Exception):
    """Reading would take out of all proportion long; never leaves the reader."""


class Work:
    """The steps that may still be spent on one partition."""

    def __init__(self, page_count: int) -> None:
        """Allow what a partition of ``page_count`` pages is worth."""
        self._left = max(WORK_PER_PAGE * page_count, _LEAST_WORK)

    def spend(self, steps: int) -> None:
        """Take ``steps`` off.

        Raises:
            TooContortedError: there are not that many left.
        """
        self._left -= steps
        if self._left < 0:
            raise TooContortedError


class Findings:
    """The problems of one partition, in the order in which they are found.

    Attributes:
        lost: whether one of them is an error, that is, whether the firmware loses something.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.lost = False
        self._found: list[tuple[Level, int | None, int | None, str, Item | None]] = []
        self._more = 0

    def add(
        self, level: Level, page: int | None, entry: int | None, text: str, item: Item | None = None
    ) -> None:
        """Note a problem; ``{item}`` in the text stands for the item's name."""
        self.lost = self.lost or level == "error"
        if len(self._found) < MAX_PROBLEMS:
            self._found.append((level, page, entry, text, item))
        else:
            self._more += 1

    def at(self, level: Level, item: Item, text: str) -> None:
        """Note a problem of an item, where the image has it."""
        page, offset = divmod(item.offset, PAGE_SIZE)
        self.add(level, page, (offset - FIRST_ENTRY_OFFSET) // ENTRY_SIZE, text, item)

    def problems(self, describe: Callable[[Item], str]) -> tuple[NvsProblem, ...]:
        """Return the problems in the order of the image, with the items' names filled in."""
        problems = [
            NvsProblem(level, page, entry, text.replace("{item}", describe(item)) if item else text)
            for level, page, entry, text, item in self._found
        ]
        problems.sort(key=lambda problem: (_or_before(problem.page), _or_before(problem.entry)))
        if self._more:
            level: Level = "error" if self.lost else "warning"
            problems.append(NvsProblem(level, None, None, f"{self._more} more problems, not listed"))
        return tuple(problems)


def _or_before(index: int | None) -> int:
    return -1 if index is None else index

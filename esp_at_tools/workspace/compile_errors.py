"""What went wrong in a build, found in what it printed.

Source: messages of GCC, ld, CMake, ninja and Python, and of ``check_sizes.py`` and ``idf.py`` of ESP-IDF v4.3
to v5.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PROGRESS = re.compile(r"\[(\d+)/(\d+)\] (.*)")
_CMAKE = re.compile(r"^CMake Error")
_CAUSES = (
    re.compile(r": (?:fatal )?error: "),
    _CMAKE,
    re.compile(r"undefined reference to|overflowed by|will not fit in region|cannot find -l"),
    re.compile(r"^Error: (?:All |\d+/\d+ )?\S+ partitions? (?:is|are) too small"),
    re.compile(r"^(?:ERROR|Error|error): "),
    re.compile(r"^ninja: error: "),
    re.compile(r"^A fatal error occurred"),
    re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): "),
    re.compile(r"\berror\b", re.IGNORECASE),
)
"""What a line that names a cause looks like, the surest first."""
_MAX_SHOWN = 5
_MAX_WIDTH = 300
_TOO_SMALL = re.compile(
    r"partitions? (?:is|are) too small for binary (\S+) size (0x[0-9a-fA-F]+)(?::| of)", re.ASCII
)
_OVERFLOW = re.compile(r"^\s*- .*?(?:Part '([^']*)'.*)?\(overflow (0x[0-9a-fA-F]+)\)", re.ASCII)
_REGION = re.compile(r"region [`']([\w.]+)' overflowed by (\d+) bytes", re.ASCII)


@dataclass(frozen=True)
class Overflow:
    """An application that does not fit.

    Attributes:
        where: the partition, or the linker's region: ``iram0_0_seg``.
        by: how many bytes too much it has.
        size: bytes of the application, 0 where it was not made.
        is_region: the linker's memory is too small, not a partition.
    """

    where: str
    by: int
    size: int = 0
    is_region: bool = False


def plain(line: str) -> str:
    """Return a line without the sequences by which programs colour it."""
    return _ESCAPES.sub("", line).rstrip()


def progress(line: str) -> tuple[int, int, str] | None:
    """Return how many steps are done, of how many, and which one, of a line of ninja's; None for others."""
    match = _PROGRESS.fullmatch(plain(line))
    return (int(match[1]), int(match[2]), match[3]) if match else None


def causes(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the first lines that name a cause, at most five, else the last lines."""
    texts = [*_with_paragraphs([plain(line) for line in lines])]
    for pattern in _CAUSES:
        found = [text for text in texts if pattern.search(text)]
        if found:
            return tuple(_short(text) for text in dict.fromkeys(found))[:_MAX_SHOWN]
    return tuple(_short(text) for text in texts if text)[-_MAX_SHOWN:]


def _with_paragraphs(texts: Sequence[str]) -> Iterator[str]:
    """Yield lines; of an error of CMake's, the indented lines below it go into the line that heads them."""
    head = ""
    for text in texts:
        if head and (text.startswith("  ") or not text):
            head = f"{head} {text.strip()}".rstrip()
            continue
        if head:
            yield head
        head = text if _CMAKE.match(text) else ""
        if not head:
            yield text
    if head:
        yield head


def _short(text: str) -> str:
    return text if len(text) <= _MAX_WIDTH else f"{text[:_MAX_WIDTH]}…"


def find_overflow(lines: Iterable[str]) -> Overflow | None:
    """Return by how much the application is too large, None where that is not what went wrong."""
    size = 0
    found: list[Overflow] = []
    for line in map(plain, lines):
        if match := _TOO_SMALL.search(line):
            size = int(match[2], 16)
        if match := _OVERFLOW.match(line):
            found.append(Overflow(match[1] or "the application's partition", int(match[2], 16), size))
        if match := _REGION.search(line):
            found.append(Overflow(match[1], int(match[2]), is_region=True))
    return max(found, key=lambda each: each.by, default=None)

"""What a patch touches: its files and hunks, read from the text as ``git diff`` or ``diff -u`` writes it.

git applies patches; this is for what it does not tell: which files to look at, and which hunk a line number
in its messages means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from esp_at_tools.errors import FormatError
from esp_at_tools.files import read_file

_MAX_PATCH = 16 << 20
_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_NULL = "/dev/null"
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
_ESCAPE = re.compile(r'\\([0-7]{3}|[nt"\\])')


@dataclass(frozen=True)
class Hunk:
    """One hunk.

    Attributes:
        number: from 1 on, in its file.
        old_line: the line where it begins before the patch.
        new_line: the same after it.
        header: ``@@ -12,7 +12,8 @@ static int f(void)``.
    """

    number: int
    old_line: int
    new_line: int
    header: str


@dataclass
class TouchedFile:
    """One file of a patch.

    Attributes:
        old: its path before the patch, ``""`` for a new file; relative to the top of the repository for a
            patch that git wrote, else to the folder where it is applied.
        new: its path after it, ``""`` for a file that is deleted.
        by_git: whether ``git diff`` wrote it.
        hunks: its hunks.
    """

    old: str = ""
    new: str = ""
    by_git: bool = False
    hunks: list[Hunk] = field(default_factory=list)

    @property
    def paths(self) -> tuple[str, ...]:
        """Its paths, each once."""
        return tuple(dict.fromkeys(path for path in (self.old, self.new) if path))


def read_diff(path: Path) -> tuple[TouchedFile, ...]:
    """Return the files of a patch, in its order.

    Raises:
        InputError: it cannot be read.
        FormatError: there is no file in it, or a path in it leads out of the tree.
    """
    text = read_file(path, "patch", _MAX_PATCH).decode("utf-8", "surrogateescape")
    files = [each for each in _files(text) if each.paths]
    if not files:
        raise FormatError(f"{path}: is no patch", "make it with 'git diff > NAME.patch'")
    for each in files:
        for name in each.paths:
            if name.startswith("/") or ".." in name.split("/"):
                raise FormatError(f"{path}: {name[:80]!r} leads out of the tree", "make it with 'git diff'")
    return tuple(files)


def _files(text: str) -> list[TouchedFile]:
    found: list[TouchedFile] = []
    left = [0, 0]  # lines of the current hunk that are still to come, before and after the patch
    for line in text.split("\n"):
        if left[0] > 0 or left[1] > 0:
            _count(line, left)
            continue
        if line.startswith("diff --git "):
            found.append(_from_heading(line))
        elif match := _HUNK.match(line):
            if found:
                number = len(found[-1].hunks) + 1
                found[-1].hunks.append(Hunk(number, int(match[1]), int(match[3]), line[:120].rstrip()))
            left = [int(match[2] or 1), int(match[4] or 1)]
        else:
            _take_name(line, found)
    return found


def _count(line: str, left: list[int]) -> None:
    if line[:1] != "+" and line[:1] != "\\":
        left[0] -= 1
    if line[:1] != "-" and line[:1] != "\\":
        left[1] -= 1


def _take_name(line: str, found: list[TouchedFile]) -> None:
    """Take a path from a line outside of the hunks."""
    if line.startswith("--- "):
        if not found or not found[-1].by_git or found[-1].hunks:
            found.append(TouchedFile())
        found[-1].old = _name(line[4:])
    elif not found:
        return
    elif line.startswith("+++ "):
        found[-1].new = _name(line[4:])
    elif line.startswith(("rename from ", "copy from ")):
        found[-1].old = _unquoted(line.split(" from ", 1)[1])
    elif line.startswith(("rename to ", "copy to ")):
        found[-1].new = _unquoted(line.split(" to ", 1)[1])
    elif line.startswith("new file mode "):
        found[-1].old = ""
    elif line.startswith("deleted file mode "):
        found[-1].new = ""


def _from_heading(line: str) -> TouchedFile:
    """Return the file of a ``diff --git a/x b/x``, whose two names are the same unless it is renamed."""
    rest = line[len("diff --git ") :]
    name = _name(rest[: len(rest) // 2]) if len(rest) % 2 else ""
    return TouchedFile(name, name, by_git=True)


def _name(text: str) -> str:
    """Return a path without its first folder (``a/``); ``""`` for none."""
    name = _unquoted(text.split("\t", 1)[0].rstrip())
    return "" if name == _NULL else name.partition("/")[2]


def _unquoted(text: str) -> str:
    if not (text.startswith('"') and text.endswith('"') and len(text) > 1):
        return text
    plain = _ESCAPE.sub(lambda match: _ESCAPES.get(match[1]) or chr(int(match[1], 8)), text[1:-1])
    return plain.encode("latin-1", "replace").decode("utf-8", "surrogateescape")

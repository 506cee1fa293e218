"""What git, pip and idf.py print, shown while they run.

On a terminal, progress (ninja's ``[n/m]``, git's percentages) stays in one line that is written over, and
everything else scrolls above it. Without one, every line is printed but for the percentages between.
"""

from __future__ import annotations

import re
import sys
from typing import IO, final

from esp_at_tools.cli.common import Output, is_terminal, say
from esp_at_tools.workspace.compile_errors import plain, progress
from esp_at_tools.workspace.idf_state import Follow

_PERCENT = re.compile(r"(?<![\d.])\d{1,3}% ?\(")
_DONE = ", done."
_WIDTH = 79


@final
class Live:
    """The output of one run; use it as a context manager, so that the progress line goes at the end.

    Args:
        talk: how this run talks: with ``--json`` nothing of this goes to stdout, with ``--quiet`` nowhere,
            and with ``-v`` every line is kept.
    """

    def __init__(self, talk: Output) -> None:
        """Begin without a progress line."""
        self._talk = talk
        self._stream: IO[str] = sys.stderr if talk.json else sys.stdout
        self._overwrites = is_terminal(self._stream) and not talk.verbose
        self._drawn = False

    def __enter__(self) -> Live:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the progress line."""
        self._wipe()

    @property
    def follow(self) -> Follow:
        """Who hears what is going on in the workspace."""
        return Follow(self.step, self.line, self.warn)

    def step(self, text: str) -> None:
        """Say what begins now."""
        self._say(f"-- {text}")

    def warn(self, text: str) -> None:
        """Say on stderr that something is questionable."""
        self._wipe()
        self._talk.warn(text)

    def line(self, text: str) -> None:
        """Show a line that a program has printed."""
        text = plain(text)
        percent = _PERCENT.search(text)
        if self._overwrites and (percent or progress(text)):
            self._draw(text)
        elif percent is None or _DONE in text or self._talk.verbose:
            self._say(text)

    def _say(self, text: str) -> None:
        self._wipe()
        if not self._talk.quiet:
            say(text, err=self._talk.json)
            self._stream.flush()

    def _draw(self, text: str) -> None:
        if self._talk.quiet:
            return
        import shutil

        width = shutil.get_terminal_size((_WIDTH + 1, 24)).columns - 1
        shown = "".join(char if char.isprintable() else "?" for char in text)[:width]
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write("\r\x1b[K" + shown.encode(encoding, "replace").decode(encoding))
        self._stream.flush()
        self._drawn = True

    def _wipe(self) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False

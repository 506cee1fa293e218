"""How far a batch is, shown while it runs: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from esp_at_tools.batch.run import Progress, Watch
from esp_at_tools.cli.common import Output, is_terminal

_LINE_EVERY = 10.0
_BAR_EVERY = 0.1


@contextmanager
def watched(talk: Output) -> Iterator[Watch]:
    """Give what shows the progress on stderr; ``--quiet`` silences it."""
    if talk.quiet:
        yield lambda _progress: None
    elif is_terminal(sys.stderr):
        with _bar(talk) as watch:
            yield watch
    else:
        yield _Lines(talk)


class _Lines:
    """A line every ten seconds."""

    def __init__(self, talk: Output) -> None:
        self._talk = talk
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Print a line if it is time for one."""
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY:
            self._last = now
            share = 100 * progress.row // max(progress.rows, 1)
            self._talk.note(f"{progress.row} of {progress.rows} rows ({share} %), {described(progress)}")


def described(progress: Progress) -> str:
    """Return rate, remaining time and failures: ``2310 devices/s, 0:41 left, 3 failed``."""
    parts = [f"{progress.rate:.0f} devices/s"]
    if progress.remaining is not None and progress.row < progress.rows:
        parts.append(f"{duration(progress.remaining)} left")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    return ", ".join(parts)


def counted(number: int, noun: str) -> str:
    """Return ``1 device``, ``2 devices``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time as ``0:41`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def _bar(talk: Output) -> Iterator[Watch]:
    from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Bar(*columns, console=talk.console(sys.stderr), auto_refresh=False, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        shown = 0.0

        def watch(progress: Progress) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown >= _BAR_EVERY:
                shown = now
                bar.update(task, total=progress.rows, completed=progress.row, description=described(progress))
                bar.refresh()

        yield watch

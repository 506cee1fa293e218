"""What is happening on serial ports, shown while it happens: bars on a terminal, else lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from esp_at_tools.cli.common import Output, is_terminal
from esp_at_tools.device.esptool_device import Link
from esp_at_tools.device.flashing import Report, Step


@contextmanager
def watched(talk: Output, links: Sequence[Link]) -> Iterator[Report]:
    """Give what shows the steps on stderr: bars on a terminal, else a line for each new step."""
    if talk.quiet:
        yield lambda _step: None
    elif is_terminal(sys.stderr):
        with _bars(talk, links) as report:
            yield report
    else:
        yield _Lines(talk, several=len(links) > 1)


class _Lines:
    """Steps as lines: one whenever a port does something else."""

    def __init__(self, talk: Output, *, several: bool) -> None:
        self._talk = talk
        self._several = several
        self._last: dict[str, str] = {}

    def __call__(self, step: Step) -> None:
        """Print a line if there is something new."""
        if step.name == "said" and not self._talk.verbose:
            return
        if step.name in ("done", "failed") and not self._several:
            return  # the report that follows says it
        if step.name in ("note", "said", "found") or self._last.get(step.port) != step.name:
            text = step.text.removeprefix(f"{step.port}: ")
            said = "esptool: " if step.name == "said" else ""
            self._talk.note(f"{step.port}: {said}{text}")
        if step.name not in ("note", "said"):
            self._last[step.port] = step.name


@contextmanager
def _bars(talk: Output, links: Sequence[Link]) -> Iterator[Report]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = talk.console(sys.stderr)
    columns = (
        TextColumn("{task.fields[port]}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        tasks = {link.port: progress.add_task("waiting", port=link.port, total=None) for link in links}

        def report(step: Step) -> None:
            text = step.text.removeprefix(f"{step.port}: ")
            if step.name in ("note", "said"):
                if step.name == "note" or talk.verbose:
                    progress.print(f"{step.port}: {text}", markup=False, highlight=False)
                return
            ended = step.name in ("done", "failed")
            if step.name == "done":
                text = text.partition(":")[0]  # the report that follows says the rest
            task = tasks[step.port]
            progress.update(task, description=text, total=step.total or None, completed=step.done)
            if ended:
                progress.update(task, total=1, completed=int(step.name == "done"))
                progress.stop_task(task)

        yield report

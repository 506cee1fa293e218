"""Official releases as INPUT, and how far a download is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from esp_at_tools.catalog.release_lookup import find_release
from esp_at_tools.catalog.releases import Release, parse_reference
from esp_at_tools.cli.common import Output, is_terminal
from esp_at_tools.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from esp_at_tools.releases.cache import Progress


def release_input(
    path: Path, talk: Output, *, replaced: bool = False, module_folder: Path | None = None
) -> Path:
    """Return the ``.zip`` of the release that ``NAME@VERSION`` is, or the path itself if it is none.

    Args:
        path: as given.
        talk: where it is said how far a download is.
        replaced: it is to be changed in place, which no release is.
        module_folder: a user's own folder of definitions.

    Raises:
        InputError: there is no such release, or it cannot be had.
    """
    reference = parse_reference(path.as_posix())
    if reference is None:
        return path

    from esp_at_tools.releases.store import obtain

    release = find_release(*reference, module_folder=module_folder)
    if replaced:
        raise InputError(
            f"{path}: an official release is not changed in place", "give --output FILE.zip instead"
        )
    with download_progress(talk, release) as progress:
        obtained = obtain(release, progress=progress)
    if not obtained.cached:
        talk.note(f"{release.full_name} {release.version} is kept as {obtained.path}")
    return obtained.path


@contextlib.contextmanager
def download_progress(talk: Output, release: Release, server: str = "") -> Iterator[Progress]:
    """Give what a download tells how far it is: a bar on a terminal, one line elsewhere."""
    from esp_at_tools.releases.store import address_at

    bar: list[Bar] = []

    def show(done: int, total: int) -> None:
        if talk.quiet:
            return
        if not bar and is_terminal(sys.stderr):
            bar.append(_bar(talk))
            bar[0].start()
            bar[0].add_task(release.file_name, total=None)
        elif not bar and not told:
            told.append(done)
            talk.note(f"downloading {address_at(release, server)}")
        if bar:
            bar[0].update(bar[0].task_ids[0], completed=done, total=total or None)

    told: list[int] = []
    try:
        yield show
    finally:
        if bar:
            bar[0].stop()


def _bar(talk: Output) -> Bar:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(binary_units=True))
    return Progress(*columns, TransferSpeedColumn(), console=talk.console(sys.stderr), transient=True)

"""The options that a user has chosen for a module: kept in the project, read after ``sdkconfig.defaults``.

There is one file for each module, ``sdkconfig.overlay/<chip>-<module>.defaults`` in the checkout, for the
normal and the silent variant alike. It is an ordinary ``sdkconfig.defaults``, which ``menuconfig`` writes and
people may edit, and belongs under version control.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

from esp_at_tools.errors import InputError
from esp_at_tools.files import write_file
from esp_at_tools.formats.sdkconfig import statement

FOLDER = "sdkconfig.overlay"
"""The folder in the checkout that holds the overlays."""

_UNUSUAL = re.compile(r"[^a-z0-9_.-]", re.ASCII)


def overlay_path(project: Path, chip: str, module: str) -> Path:
    """Return where the overlay of a module stands, or will stand: ``…/esp32c3-mini-1.defaults``.

    Args:
        project: the esp-at checkout.
        chip: as ESP-IDF calls it: ``esp32c3``.
        module: the module's name: ``MINI-1``.
    """
    return project / FOLDER / f"{chip}-{_UNUSUAL.sub('_', module.lower())}.defaults"


def write_overlay(path: Path, options: Iterable[tuple[str, str]], module: str) -> None:
    """Write an overlay, sorted by name; without any option there is none, and the file is removed.

    Args:
        path: of :func:`overlay_path`; its folder is made, and removed when it is empty.
        options: name without ``CONFIG_`` and value as an sdkconfig spells it.
        module: ``ESP32C3/MINI-1``, for the first line.

    Raises:
        InputError: it cannot be written or removed.
    """
    lines = [statement(name, value) for name, value in sorted(options)]
    try:
        if lines:
            path.parent.mkdir(exist_ok=True)
        else:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it holds other overlays, or is not there
                path.parent.rmdir()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror}", "make the checkout writable"
        ) from error
    if lines:
        first = f"# Options of {module} that esp-at-tool menuconfig saved; read after sdkconfig.defaults."
        write_file(path, "".join(f"{line}\n" for line in (first, *lines)).encode())

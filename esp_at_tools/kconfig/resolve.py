"""Resolving a full sdkconfig from defaults, as ESP-IDF's build does, without cmake or a compiler."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esp_at_tools.errors import InputError
from esp_at_tools.files import read_file
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.kconfig.library import ask
from esp_at_tools.kconfig.tree import KconfigTree, find_tree

_MAX_DEFAULTS = 1 << 20
_TRANSLATED = " was replaced with "


@dataclass(frozen=True)
class Resolved:
    """A resolved sdkconfig.

    Attributes:
        text: the file, byte for byte as ESP-IDF's build writes it.
        warnings: what is questionable: options that the tree does not have, values that were not taken.
        notes: what is only worth knowing: old names that were translated.
    """

    text: str
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def config(self) -> Sdkconfig:
        """The options."""
        return Sdkconfig.from_text(self.text, "the resolved sdkconfig")


def resolve_sdkconfig(
    project: Path,
    idf: Path,
    chip: str,
    defaults: Sequence[Path],
    *,
    overlay: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Resolved:
    """Return the full sdkconfig of one module.

    Args:
        project: the esp-at checkout.
        idf: the ESP-IDF; it needs not be installed.
        chip: as ESP-IDF calls it: ``esp32c3``.
        defaults: the module's ``sdkconfig.defaults`` and what is appended to them; of each file the one with
            ``.<chip>`` behind its name follows it, as in ESP-IDF.
        overlay: the user's own options, read last; it may be absent.
        environment: as for :func:`esp_at_tools.kconfig.tree.find_tree`; this process's own if None.

    Raises:
        InputError: a file or folder is missing, or a Kconfig file is broken.
        FormatError: defaults cannot be read; the message has the line.
        ExternalToolError: esp-idf-kconfig ended without an answer.
    """
    tree = find_tree(project, idf, chip, environment=environment)
    return resolve_all(tree, [with_overlay(defaults, overlay)], environment=environment)[0]


def resolve_all(
    tree: KconfigTree, jobs: Sequence[Sequence[Path]], *, environment: Mapping[str, str] | None = None
) -> list[Resolved]:
    """Return a full sdkconfig for each list of defaults; the tree is parsed only once.

    Raises:
        InputError, FormatError, ExternalToolError: see :func:`resolve_sdkconfig`.
    """
    request = {"jobs": [read_defaults(files, tree.chip) for files in jobs], "wanted": None}
    reply = ask(tree, request, os.environ if environment is None else environment)
    return [_resolved(job) for job in reply["jobs"]]


def with_overlay(defaults: Sequence[Path], overlay: Path | None) -> list[Path]:
    """Return what is read: the defaults, and an overlay if there is one."""
    return [*defaults, *([overlay] if overlay is not None and overlay.exists() else [])]


def read_defaults(files: Sequence[Path], chip: str) -> list[tuple[str, str]]:
    """Return the name and the text of each file, and of that with ``.<chip>`` behind its name after it.

    Raises:
        InputError: one cannot be read.
        FormatError: one has a line that is none of an ``sdkconfig.defaults``.
    """
    found: list[tuple[str, str]] = []
    for path in files:
        special = path.with_name(f"{path.name}.{chip}")
        both = (path, special) if special.is_file() else (path,)
        found.extend((str(each), _text(each)) for each in both)
    return found


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no regular file", "give an sdkconfig.defaults")
    data = read_file(path, "sdkconfig.defaults", _MAX_DEFAULTS)
    Sdkconfig.from_bytes(data, str(path))
    return data.decode("utf-8-sig")


def _resolved(job: Mapping[str, Any]) -> Resolved:
    messages: list[str] = job["messages"]
    return Resolved(
        job["text"],
        (*_unknown(job["unknown"]), *(each for each in messages if _TRANSLATED not in each)),
        tuple(each for each in messages if _TRANSLATED in each),
    )


def _unknown(found: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Yield one warning for each file that names options which no Kconfig file defines."""
    for file in dict.fromkeys(file for file, _, _ in found):
        options = [
            f"CONFIG_{option}" + (f" (nearest: CONFIG_{near})" if near else "")
            for place, option, near in found
            if place == file
        ]
        yield f"{file}: no Kconfig file has {', '.join(options)}"

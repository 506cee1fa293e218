"""Resolving a full sdkconfig from defaults, as ESP-IDF's build does, without cmake or a compiler."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esp_at_tools.errors import InputError
from esp_at_tools.files import read_file
from esp_at_tools.formats.sdkconfig import OFF, PREFIX, Sdkconfig
from esp_at_tools.kconfig.library import ask
from esp_at_tools.kconfig.tree import KconfigTree

_MAX_DEFAULTS = 1 << 20
_NOTES = (" was replaced with ", "Trying to set symbol ")
"""What marks the library's messages that tell of nothing wrong: official defaults cause them too."""


@dataclass(frozen=True)
class Resolved:
    """A resolved sdkconfig.

    Attributes:
        text: the file, byte for byte as ESP-IDF's build writes it.
        warnings: what is questionable: options that the tree does not have, values that were not taken.
        notes: what is only worth knowing, such as old names that were translated.
    """

    text: str
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def config(self) -> Sdkconfig:
        """The options."""
        return Sdkconfig.from_text(self.text, "the resolved sdkconfig")


def resolve(
    tree: KconfigTree,
    defaults: Sequence[Path],
    overlay: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
) -> Resolved:
    """Return the full sdkconfig of one module; options of the overlay that have no effect are warned of.

    Args:
        tree: of the ESP-IDF, which needs not be installed, and the esp-at checkout.
        defaults: the module's ``sdkconfig.defaults`` and what is appended to them; of each file the one with
            ``.<chip>`` behind its name follows it, as in ESP-IDF.
        overlay: the user's own options, read last; it may be absent.
        environment: as for :func:`esp_at_tools.kconfig.tree.find_tree`; this process's own if None.

    Raises:
        InputError: a file is missing, or a Kconfig file is broken.
        FormatError: defaults cannot be read; the message has the line.
        ExternalToolError: esp-idf-kconfig ended without an answer.
    """
    files = with_overlay(defaults, overlay)
    resolved = resolve_all(tree, [files], environment=environment)[0]
    if overlay is None or overlay not in files:
        return resolved
    return dataclasses.replace(resolved, warnings=(*resolved.warnings, *_without_effect(overlay, resolved)))


def resolve_all(
    tree: KconfigTree, jobs: Sequence[Sequence[Path]], *, environment: Mapping[str, str] | None = None
) -> list[Resolved]:
    """Return a full sdkconfig for each list of defaults; the tree is parsed only once.

    Raises:
        InputError, FormatError, ExternalToolError: see :func:`resolve`.
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
        (*_unknown(job["unknown"]), *(each for each in messages if not _is_note(each))),
        tuple(each for each in messages if _is_note(each)),
    )


def _is_note(message: str) -> bool:
    return any(mark in message for mark in _NOTES)


def _without_effect(overlay: Path, resolved: Resolved) -> Iterator[str]:
    """Yield a warning for each option of an overlay that has another value nevertheless."""
    wanted, config = Sdkconfig.from_text(_text(overlay), str(overlay)), resolved.config
    for name, value in wanted.options.items():
        now = config.get(name)
        same = now == value or (now is None and value == OFF)
        if not same and (wanted.number(name) is None or wanted.number(name) != config.number(name)):
            if any(re.search(rf"(?<!\w)(?:{PREFIX})?{name}\b", warning) for warning in resolved.warnings):
                continue  # it has been said why
            what = "is absent: an option that it depends on is off" if now is None else f"is {now}"
            yield f"{overlay}: CONFIG_{name}={value} has no effect: it {what}"


def _unknown(found: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Yield one warning for each file that names options which no Kconfig file defines."""
    for file in dict.fromkeys(file for file, _, _ in found):
        options = [
            f"CONFIG_{option}" + (f" (nearest: CONFIG_{near})" if near else "")
            for place, option, near in found
            if place == file
        ]
        yield f"{file}: no Kconfig file has {', '.join(options)}"

"""What a file is, told by its content."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from esp_at_tools import files
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.pki.items import MAX_SIZE, Contents, ForeignPkiError, NotPkiError, PkiInfo, describe, load
from esp_at_tools.pki.names import PkiKind

MAX_FILES = 2000
"""Most files of a folder that are looked at: more than any folder of certificates has."""

_NUMBER = re.compile(r"([0-9]{1,18})")


@dataclass(frozen=True)
class Sniffed:
    """A file that was looked at.

    Attributes:
        path: the file.
        data: its bytes.
        contents: its certificates and keys; None where there are none, or they cannot be read.
        info: what the first of them is, likewise.
        problem: why it cannot be used, ``""`` if it can.
        hint: what would be right.
        related: whether it has to do with certificates and keys at all.
        foreign: whether it is sound, but nothing that the firmware can use: a public key, PKCS#12, …
    """

    path: Path
    data: bytes = field(repr=False)
    contents: Contents | None = field(default=None, repr=False)
    info: PkiInfo | None = None
    problem: str = ""
    hint: str = ""
    related: bool = True
    foreign: bool = False

    @property
    def usable(self) -> bool:
        """Whether it holds certificates or a key."""
        return self.info is not None


def sniff(path: Path) -> Sniffed:
    """Return what a file is.

    Raises:
        InputError: it cannot be read.
    """
    data = files.read_head(path, MAX_SIZE + 1, "certificate or key")
    try:
        contents = load(data, path.name)
        return Sniffed(path, data, contents, describe(contents, data))
    except NotPkiError as error:
        return Sniffed(path, data, None, None, _bare(error, path), error.hint, related=False)
    except FormatError as error:
        foreign = isinstance(error, ForeignPkiError)
        hint = error.hint.replace("FILE", shlex.quote(str(path)))
        return Sniffed(path, data, None, None, _bare(error, path), hint, foreign=foreign)


def _bare(error: FormatError, path: Path) -> str:
    return error.message.removeprefix(f"{path.name}: ")


def kind_of(found: Sniffed) -> PkiKind:
    """Return what a usable file is; a certificate without constraints that signed itself is a CA."""
    info = found.info
    if info is None:
        raise ValueError("it is not usable")
    if info.kind == "certificate" and info.is_ca is None and info.subject == info.issuer:
        return "ca"
    return info.kind


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Return what to sort paths by, so that ``d12.crt`` comes before ``d102.crt``."""
    parts = _NUMBER.split(path.as_posix())
    return [(1, int(text), text) if place % 2 else (0, 0, text) for place, text in enumerate(parts)]


def list_files(folder: Path, depth: int = 1) -> list[Path]:
    """Return the files of a folder and of its folders, ``depth`` levels down, in natural order.

    Hidden ones and those that a killed run has left are passed over.

    Raises:
        InputError: it is no folder, cannot be read, or holds more than :data:`MAX_FILES` files.
    """
    try:
        entries = sorted(folder.iterdir(), key=lambda path: natural(Path(path.name)))
    except NotADirectoryError:
        raise InputError(
            f"{folder}: is not a folder", "give the folder of the certificates and keys"
        ) from None
    except (OSError, ValueError) as error:
        failure = error if isinstance(error, OSError) else OSError(str(error))
        raise files.unreadable(folder, failure, "folder") from error
    found: list[Path] = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_file():
            found.append(entry)
        elif depth and entry.is_dir():
            found += list_files(entry, depth - 1)
        if len(found) > MAX_FILES:
            raise InputError(
                f"{folder}: holds more than {MAX_FILES} files", "give the folder of the certificates"
            )
    return found

"""What is to be changed in a firmware, gathered from options, profiles and files before it is checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from esp_at_tools import files
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.settings.layout import Value
from esp_at_tools.settings.names import MAX_GATT_ROWS

if TYPE_CHECKING:
    from esp_at_tools.settings.profile import Profile

MAX_PKI_FILE = 1 << 20
"""Largest certificate or key file that is read, in bytes; no partition holds a larger one."""


@dataclass
class Request:
    """What to change.

    Attributes:
        settings: setting → new value.
        pki: PKI item → the bytes of its file.
        gatts: GATT row → its new text.
        gatt_table: the whole GATT table, row by row; None to leave it.
        unset: names to remove.
        sources: name → the option, profile or file that asked for it, for messages.
        inputs: every file that was read for it; no output may take its place.
    """

    settings: dict[str, Value] = field(default_factory=dict)
    pki: dict[str, bytes] = field(default_factory=dict)
    gatts: dict[str, str] = field(default_factory=dict)
    gatt_table: list[str] | None = None
    unset: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    inputs: list[Path] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for."""
        return not (self.settings or self.pki or self.gatts or self.unset or self.gatt_table is not None)

    def names(self) -> list[str]:
        """Return every name that is asked for, the whole GATT table's rows included."""
        table = [f"cfg{index}" for index in range(len(self.gatt_table or ()))]
        return list(dict.fromkeys([*self.settings, *self.pki, *self.gatts, *table, *self.unset]))

    def add_profile(self, path: Path) -> None:
        """Add what a profile asks for; what is asked for already, or to be removed, stays as it is.

        Raises:
            InputError: the profile, or a file that it names, is wrong.
        """
        from esp_at_tools.settings.profile import Profile

        self.take_profile(Profile.load(path), path)

    def take_profile(self, profile: Profile, path: Path) -> None:
        """Add what a profile asks for that has been read already; see :meth:`add_profile`.

        Args:
            profile: the changes.
            path: where they come from.

        Raises:
            InputError: a file that it names is wrong.
        """
        self.inputs.append(path)
        taken = set(self.names())
        for name, value in profile.settings.items():
            if name not in taken:
                self.settings[name] = value
                self.sources[name] = str(path)
        for name, file in profile.pki.items():
            if name not in taken:
                self.add_pki_file(name, file, f"{path}: {name}")
        if profile.gatts is not None:
            self._add_gatt_table(profile.gatts)

    def _add_gatt_table(self, path: Path) -> None:
        from esp_at_tools.formats.gatts import read_gatts_csv

        self.inputs.append(path)
        try:
            rows = read_gatts_csv(_text(path))
        except FormatError as error:
            raise FormatError(f"{path}: {error.message}", error.hint) from error
        if not 0 < len(rows) <= MAX_GATT_ROWS:
            raise InputError(
                f"{path}: holds {len(rows)} GATT rows",
                f"a table has 1 to {MAX_GATT_ROWS}; --unset cfgN removes rows",
            )
        self.gatt_table = rows
        for index in range(len(rows)):
            self.sources.setdefault(f"cfg{index}", str(path))

    def add_pki_file(self, name: str, path: Path, source: str) -> None:
        """Ask for a certificate or key to become that of a file.

        Args:
            name: the PKI item.
            path: the file.
            source: the option, or the profile and what in it, that names the file.

        Raises:
            InputError: it cannot be read.
        """
        try:
            self.pki[name] = read_pki_file(path)
        except InputError as error:
            raise InputError(f"{source}: {error.message}", error.hint) from error
        self.sources[name] = f"{source} {path}"
        self.inputs.append(path)

    def blamed(self, name: str, message: str) -> str:
        """Return a message about a name that also tells who asked for it."""
        source = self.sources.get(name, name)
        rest = message.removeprefix(f"{name}:")
        if rest == message:
            return f"{source}: {message}"
        return message if name in source.split() else f"{name} ({source}):{rest}"


def read_pki_file(path: Path) -> bytes:
    """Return the bytes of a certificate or key file."""
    return files.read_file(path, "certificate or key in PEM or DER form", MAX_PKI_FILE)


def _text(path: Path) -> str:
    try:
        return files.read_file(path, "GATT table (CSV)", MAX_PKI_FILE).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a text file in UTF-8", "save the table as CSV in UTF-8") from error

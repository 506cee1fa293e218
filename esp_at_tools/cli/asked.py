"""What the options of a command ask for: settings, certificates, keys and GATT rows by name."""

from __future__ import annotations

from pathlib import Path

from esp_at_tools.errors import InputError
from esp_at_tools.firmware.request import Request
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.names import SETTINGS, check_name
from esp_at_tools.settings.rules import parse_value


def option_of(name: str) -> str:
    """Return the option that sets a name."""
    if name in SETTINGS:
        return SETTINGS[name].option
    return PKI_ITEMS[name].option if name in PKI_ITEMS else f"--gatts-{name}"


class Asked:
    """Collects values by name, and refuses two different ones for the same name.

    Attributes:
        request: what has been asked for so far.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.request = Request()
        self._sources: dict[str, str] = {}
        self._values: dict[str, object] = {}

    def take_assignment(self, assignment: str) -> None:
        """Take ``NAME=VALUE``, or ``NAME=@FILE`` for a certificate or key.

        Raises:
            InputError: it is neither, or contradicts what was asked for before.
        """
        name, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"--set {assignment}: has no value", "write --set NAME=VALUE")
        check_name(name)
        source = f"--set {name}"
        if name in PKI_ITEMS and not text.startswith("@"):
            raise InputError(
                f"{source}: {name} is a certificate or key, not a text", f"write --set {name}=@FILE"
            )
        self.take(name, text.removeprefix("@") if name in PKI_ITEMS else text, source)

    def take(self, name: str, text: str, source: str) -> None:
        """Take a value, of a certificate or key the path of its file.

        Args:
            name: the setting, PKI item or GATT row.
            text: the value.
            source: the option that gives it, for messages.

        Raises:
            InputError: no such value, or another was asked for before.
        """
        if name in PKI_ITEMS and not text:
            raise InputError(f"{source}: the path is empty", "give the path of a PEM or DER file")
        value = parse_value(name, text, source) if name in SETTINGS else text
        if self._values.setdefault(name, value) != value:
            raise InputError(
                f"{source}: {name} was already given by {self._sources[name]} with another value",
                "give it once",
            )
        self._sources.setdefault(name, source)
        if name in PKI_ITEMS:
            self.request.add_pki_file(name, Path(text), source)
            return
        if name in SETTINGS:
            self.request.settings[name] = parse_value(name, text, source)
        else:
            self.request.gatts[name] = text
        self.request.sources[name] = source

    def remove(self, name: str) -> None:
        """Take a name that ``--unset`` removes.

        Raises:
            InputError: no such name, or a value was asked for it.
        """
        if name in self._sources:
            raise InputError(
                f"--unset {name} and {self._sources[name]} contradict each other", "give one of them"
            )
        if name not in self.request.unset:
            self.request.unset.append(check_name(name))
            self.request.sources[name] = f"--unset {name}"

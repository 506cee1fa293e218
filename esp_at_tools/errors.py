"""The errors that this package raises on purpose.

Every one carries a message (which file or option, and what is wrong with it) and a hint
(what would be right). Only ``cli/`` turns them into text and exit statuses.
"""

from __future__ import annotations


class EspAtError(Exception):
    """Something that a user can cause and can mend.

    Args:
        message: what is wrong, naming the file, option or value.
        hint: what would be right, or what to try next; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        """Keep the two parts apart, so that callers may lay them out as they like."""
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Both parts on one line."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(EspAtError):
    """A wrong option, value, file or profile: exit status 2."""


class FormatError(InputError):
    """Bytes or text that are not what their format demands: exit status 2."""


class RiskyValueError(InputError):
    """A value that can be written but is probably a mistake; ``--force`` permits it: exit status 2."""


class CheckFailedError(EspAtError):
    """A check, comparison or verification found a problem: exit status 1."""


class DeviceError(EspAtError):
    """A serial port or the device behind it: exit status 3."""


class ExternalToolError(EspAtError):
    """git, cmake, idf.py or another program failed: exit status 4."""

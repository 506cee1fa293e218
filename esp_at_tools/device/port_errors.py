"""What esptool, pyserial and the system say when a port fails, as one message with what to do."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from esp_at_tools.device.ports import permission_hint, serial_ports
from esp_at_tools.errors import DeviceError

BOOT_HINT = (
    "hold its BOOT button (GPIO9 of ESP32-C2, C3, C6; GPIO0 of ESP32, ESP32-S2 and ESP8266) while you press "
    "reset, and check that this is its download port and not its AT port"
)
CABLE_HINT = "check cable and supply, and run it again; a lower rate may help (-b 115200)"

_SAID = (
    (r"Wrong boot mode detected",
     "the board starts its firmware and not its boot loader", BOOT_HINT),
    (r"no sync reply",
     "the board is in its boot loader but does not hear this computer", "check the wire to its RX pin"),
    (r"Failed to connect|Autodetection failed", "nothing answers", BOOT_HINT),
    (r"Unexpected chip|Failed to autodetect",
     "the chip is none that esptool knows", "a newer esptool may know it: pip install --upgrade esptool"),
    (r"MD5 of file does not match|written flash region is empty|Verification failed",
     "what is in flash is not what was written",
     "flash again at a lower rate (-b 115200); if it happens again, supply or flash chip are bad"),
    (r"start stub flasher|Stub flasher",
     "the flasher stub does not start", "try --no-stub, which is slower, or a lower rate (-b 115200)"),
    (r"Failed to set baud rate", "the port does not take this rate", "try another, e.g. -b 115200"),
    (r"Guru Meditation", "the chip crashed while it was written", CABLE_HINT),
    ((r"No serial data|data stream stopped|Packet content|No more data|noise or corruption|SLIP|Timed? ?out"
     r"|doesn't match request|Checksum error|Bad data checksum|Only got \d+ byte"),
     "the connection broke off", CABLE_HINT),
)  # fmt: skip
"""What esptool's message holds → what it means, and what to do."""

_NOT_A_PORT = (errno.ENOTTY, errno.EINVAL, errno.EISDIR)
_GONE = "the port is gone, as when its cable is pulled"


@contextmanager
def explained(port: str) -> Iterator[None]:
    """Turn whatever esptool or a port says that fails into a :class:`DeviceError` that names the port."""
    from esptool.util import FatalError

    try:
        with explained_system(port):
            yield
    except FatalError as error:
        raise _from_esptool(port, error) from error


@contextmanager
def explained_system(port: str, *, opening: bool = False) -> Iterator[None]:
    """Turn what pyserial or the system says of a port into a :class:`DeviceError` that names it.

    Args:
        port: its name.
        opening: it is being opened, so that no error means that it has gone.
    """
    try:
        yield
    except OSError as error:  # pyserial's SerialException is one, too
        if opening or "open" in str(error) or "lock" in str(error):
            raise opening_error(port, error.errno, str(error)) from error
        raise DeviceError(f"{port}: {_GONE}", CABLE_HINT) from error
    except ValueError as error:
        if "invalid URL" not in str(error):
            raise
        raise DeviceError(f"{port}: is no serial port: {error}", _ports_hint()) from error
    except Exception as error:
        # termios.error is no OSError, and there is no termios on Windows to name it by.
        if type(error).__module__ != "termios":
            raise
        if opening:
            raise DeviceError(f"{port}: is no serial port", _ports_hint()) from error
        raise DeviceError(f"{port}: {_GONE}", CABLE_HINT) from error


def _from_esptool(port: str, error: Exception) -> DeviceError:
    text = str(error)
    if "Could not open" in text:
        cause = error.__context__
        return opening_error(port, getattr(cause, "errno", None), str(cause or text))
    for pattern, message, hint in _SAID:
        if re.search(pattern, text):
            return DeviceError(f"{port}: {message}", hint)
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return DeviceError(f"{port}: {first.rstrip('.')}", "run again with -v to see all that esptool says")


def opening_error(port: str, number: int | None, text: str) -> DeviceError:
    """Return why a port cannot be opened.

    Args:
        port: its name.
        number: the system's error number, None where only the text is known (Windows).
        text: what pyserial says.
    """
    if number == errno.ENOENT or "FileNotFoundError" in text or "No such file" in text:
        return DeviceError(f"{port}: there is no such port", _ports_hint())
    if number in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in text or "Access is denied" in text:
        return DeviceError(
            f"{port}: another program has it open", "close it (a serial monitor, another flash) and try again"
        )
    if number in (errno.EACCES, errno.EPERM) or "Permission denied" in text:
        return DeviceError(f"{port}: you may not open it", permission_hint(port))
    if number in _NOT_A_PORT or "Could not configure port" in text:
        return DeviceError(f"{port}: is no serial port", _ports_hint())
    return DeviceError(f"{port}: cannot be opened: {text}", _ports_hint())


def _ports_hint() -> str:
    names = [port.name for port in serial_ports()]
    return f"the ports are {', '.join(names)}" if names else "no serial port is connected"

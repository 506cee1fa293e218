"""A module in its boot loader, through esptool's library: connected, asked, read and written.

esptool talks through one logger per process, and keeps other state there too; so one device at a time
is used in a process (a lock sees to that), and several ports have several processes, see
:mod:`esp_at_tools.device.boards`. Written for esptool 5.0 to 5.6.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from esp_at_tools.device.port_errors import explained
from esp_at_tools.errors import DeviceError
from esp_at_tools.formats.partition_table import SECTOR_SIZE

CONNECT_BAUD = 115200
"""The rate that the boot ROMs are spoken to first."""
DEFAULT_BAUD = 460800
"""The rate for data, that of ``idf.py flash``."""

_ONE_AT_A_TIME = threading.RLock()
_WRITING_AT = re.compile(r"(?:Writing|Reading) (?:at|from) (0x[0-9a-fA-F]+)")

Progress = Callable[[int], None]
"""Takes the bytes that are done."""


@dataclass(frozen=True)
class Link:
    """How to reach a device.

    Attributes:
        port: serial port, or ``socket://HOST:PORT``.
        baud: rate for data.
        stub: whether esptool's flasher stub is loaded, which is quicker and can do more than the ROM.
    """

    port: str
    baud: int = DEFAULT_BAUD
    stub: bool = True


class Device:
    """A device that has answered; make one with :func:`open_device`.

    Attributes:
        port: its port.
        chip: ``esp32c3``.
        title: ``ESP32-C3``.
        mac: ``c4:0a:24:fe:10:01``; ``""`` where it cannot be read, as for the next three.
        revision: of the chip, major * 100 + minor; None if unknown.
        secure_boot: the chip starts signed applications only.
        encrypted: flash encryption is on.
        secure_download: the boot loader is in Secure Download Mode.
        flash_size: bytes of flash, 0 if unknown or before :meth:`prepare`.
    """

    def __init__(self, esp: Any, link: Link, listener: _Listener) -> None:
        """Ask the chip who it is."""
        self._esp = esp
        self._link = link
        self._listener = listener
        self.port = link.port
        self.title: str = esp.CHIP_NAME
        self.chip = re.sub("[-()]", "", self.title.lower())
        self.secure_download = bool(esp.secure_download_mode)
        self.mac, self.revision = "", None
        self.secure_boot = self.encrypted = False
        self.flash_size = 0
        if not self.secure_download:
            self.mac = ":".join(f"{byte:02x}" for byte in esp.read_mac("BASE_MAC"))
            if self.chip != "esp8266":
                self.revision = int(esp.get_chip_revision())
            self.secure_boot = bool(esp.get_secure_boot_enabled())
            self.encrypted = bool(esp.get_flash_encryption_enabled())

    @property
    def wants_stub(self) -> bool:
        """Whether :meth:`prepare` will load the stub."""
        return self._link.stub

    @property
    def has_stub(self) -> bool:
        """Whether esptool's stub runs, and not the ROM."""
        return bool(self._esp.IS_STUB)

    @property
    def can_compare(self) -> bool:
        """Whether contents of flash can be compared and read; the ROM of the ESP8266 cannot."""
        return self.has_stub or self.chip != "esp8266"

    def prepare(self) -> None:
        """Load the stub, change the rate and find out about the flash."""
        from esptool import cmds
        from esptool.util import flash_size_bytes

        with explained(self.port):
            if self._link.stub:
                self._esp = cmds.run_stub(self._esp)
            if self._link.baud != CONNECT_BAUD and self.can_compare:  # an ESP8266's ROM has one rate
                self._esp.change_baud(self._link.baud)
            cmds.attach_flash(self._esp)
            self.flash_size = flash_size_bytes(cmds.detect_flash_size(self._esp)) or 0
            if self.flash_size:
                self._esp.flash_set_parameters(self.flash_size)

    def md5(self, offset: int, size: int) -> str:
        """Return the MD5 of a stretch of flash, lower-case hex."""
        with explained(self.port):
            return str(self._esp.flash_md5sum(offset, size)).lower()

    def read(self, offset: int, size: int, progress: Progress | None = None) -> bytes:
        """Return bytes of flash; esptool's stub sends their MD5 with them, and it is checked.

        Args:
            offset: address.
            size: how many.
            progress: told how many of them are here.
        """

        def told(done: int, *_: object) -> None:
            if progress is not None:
                progress(done)

        with explained(self.port):
            return bytes(self._esp.read_flash(offset, size, told))

    def erase(self, offset: int, size: int) -> None:
        """Erase whole sectors of flash.

        Raises:
            DeviceError: this needs the stub, or went wrong.
        """
        if not self.has_stub:
            raise DeviceError(f"{self.port}: erasing a partition needs the stub", "leave out --no-stub")
        with explained(self.port):
            self._esp.erase_region(offset, size)

    def erase_all(self) -> None:
        """Erase the whole flash."""
        from esptool import cmds

        with explained(self.port):
            if self.has_stub:
                cmds.erase_flash(self._esp)
            elif self.flash_size:
                self._esp.flash_begin(self.flash_size, 0)  # the ROM erases when it is told what will come
            else:
                raise DeviceError(
                    f"{self.port}: the size of its flash is unknown", "erasing needs the stub: omit --no-stub"
                )

    def write(self, runs: Sequence[tuple[int, bytes]], progress: Progress) -> None:
        """Write stretches of flash, and compare each with what is there afterwards.

        Args:
            runs: address and contents, by address, each beginning on a 4 KB boundary.
            progress: told how many bytes are done.
        """
        from esptool import cmds

        def bar(prefix: str) -> None:
            match = _WRITING_AT.search(prefix)
            if match is not None:
                at = int(match[1], 16)
                progress(sum(max(min(at - offset, len(data)), 0) for offset, data in runs))

        with explained(self.port), self._listener.watching(bar):
            cmds.write_flash(self._esp, list(runs))
        progress(sum(len(data) for _, data in runs))

    def erased_by(self, offset: int, size: int) -> tuple[int, int]:
        """Return the stretch that writing erases: whole sectors, and one more on an ESP8266 without stub.

        Its ROM erases the sectors up to the next 64 KB boundary twice as far as it is told;
        ``get_erase_size`` of esptool halves the number, which cannot be exact when it is odd.
        """
        start, end = offset - offset % SECTOR_SIZE, offset + size + -(offset + size) % SECTOR_SIZE
        if not self.has_stub and self.chip == "esp8266":
            sectors = (end - start) // SECTOR_SIZE
            head = min(16 - start // SECTOR_SIZE % 16, sectors)
            if sectors < 2 * head and sectors % 2:
                end += SECTOR_SIZE
        return start, end

    def restart(self) -> None:
        """Let the module start its firmware; that a port has no line for it is no error."""
        from esptool import cmds

        with contextlib.suppress(DeviceError), explained(self.port):
            cmds.reset_chip(self._esp, "hard-reset")


class _Listener:
    """What esptool's logger says, handed on."""

    def __init__(self, said: Callable[[str], None] | None) -> None:
        self._said = said
        self._line = ""
        self.bar: Callable[[str], None] | None = None

    def text(self, text: str, end: str = "\n") -> None:
        if self._said is not None:
            *lines, self._line = (self._line + text + end).split("\n")
            for line in lines:
                if line.strip():
                    self._said(line)

    @contextmanager
    def watching(self, bar: Callable[[str], None]) -> Iterator[None]:
        """Call ``bar`` with the label of esptool's progress bar whenever that moves."""
        self.bar = bar
        try:
            yield
        finally:
            self.bar = None


class _Untraced:
    """Stands for bytes in a trace that nobody reads."""

    def __init__(self, *_: object) -> None:
        """Take what esptool's formatter of hex dumps takes."""

    def __str__(self) -> str:
        """Return nothing."""
        return ""


class _EsptoolLogger:
    """The methods that esptool asks of a logger; :func:`_logger_class` makes one of them."""

    listener: _Listener

    def print(self, *args: object, **kwargs: object) -> None:
        self.listener.text(" ".join(str(arg) for arg in args), str(kwargs.get("end", "\n")))

    def note(self, message: str) -> None:
        self.listener.text(f"note: {message}")

    def warning(self, message: str) -> None:
        self.listener.text(f"warning: {message}")

    def error(self, message: str) -> None:
        self.listener.text(f"error: {message}")

    def stage(self, finish: bool = False) -> None:
        pass

    def progress_bar(
        self, cur_iter: int, total_iters: int, prefix: str = "", suffix: str = "", bar_length: int = 30
    ) -> None:
        del cur_iter, total_iters, suffix, bar_length
        if self.listener.bar is not None:
            self.listener.bar(prefix)

    def set_verbosity(self, verbosity: str) -> None:
        pass


def _logger_class(listener: _Listener) -> Any:
    """Return a class of loggers for esptool, all of which tell the same listener.

    The listener is the class's own, and there is no second base: esptool 5.0 does not take a logger
    but makes its own one an object of the logger's class.
    """
    from esptool.logger import TemplateLogger

    methods = {name: value for name, value in vars(_EsptoolLogger).items() if not name.startswith("__")}
    return type("Logger", (TemplateLogger,), {**methods, "listener": listener})


@contextmanager
def _listening(listener: _Listener) -> Iterator[None]:
    """Make everything that esptool says go to a listener for a while, and nowhere else."""
    from esptool import loader, logger, reset

    holder = getattr(logger, "EspLog", None)  # newer versions keep the logger in it, older ones are it
    with contextlib.ExitStack() as stack:
        if holder is None:
            stack.callback(setattr, logger.log, "__class__", logger.log.__class__)
        else:
            stack.callback(setattr, holder, "instance", holder.instance)
        logger.EsptoolLogger.set_logger(logger.log, _logger_class(listener)())
        # A warning about reset lines goes to the logger that there was when esptool was imported.
        _replace(stack, reset.ResetStrategy, "print_once", staticmethod(listener.text))
        # Hex dumps of all that is sent are made even when nobody wants them: 4 of 5 s of computing time.
        _replace(stack, loader, "HexFormatter", _Untraced)
        yield


def _replace(stack: contextlib.ExitStack, owner: Any, name: str, value: object) -> None:
    """Replace an attribute, if there is one of that name, until the stack unwinds."""
    if hasattr(owner, name):
        stack.callback(setattr, owner, name, vars(owner)[name])
        setattr(owner, name, value)


@contextmanager
def open_device(link: Link, said: Callable[[str], None] | None = None) -> Iterator[Device]:
    """Reset the module on a port into its boot loader and connect to it.

    Args:
        link: how to reach it.
        said: called with every line that esptool says.

    Raises:
        DeviceError: there is no such port, it is in use, nothing answers, …
    """
    with _ONE_AT_A_TIME:
        from esptool import cmds

        listener = _Listener(said)
        with _listening(listener):
            with explained(link.port):
                esp = cmds.detect_chip(link.port, CONNECT_BAUD)
            try:
                with explained(link.port):
                    device = Device(esp, link, listener)
                yield device
            finally:
                with contextlib.suppress(Exception):  # a port that is gone cannot be closed
                    esp._port.close()  # noqa: SLF001 - esptool has no other way

"""A running ESP-AT module made of software: for talking to AT firmware without hardware.

Its AT port is a pseudo-terminal, its flash a full image in memory, with real partition tables and a real
``mfg_nvs``. It answers byte for byte what official firmware v2.2 and v2.3 was recorded to answer to AT,
ATE, AT+GMR, AT+SYSFLASH, AT+SYSLOG and AT+RST, and as v5.0.1.0 does to AT+SYSMFG, AT+UART_CUR,
AT+UART_DEF and AT+RESTORE. From Python::

    module = AtModule(bytearray(Path("factory.bin").read_bytes()), faults=Faults(reset_after=2000))
    with PtyModule(module, piece=1) as board:
        subprocess.run(["esp-at-tool", "at", "-p", board.port, "set", "sys_store=0"], check=True)
    module.commands, module.flash

and from a shell, where the package is installed, until it is interrupted::

    python tests/at_simulator.py --image factory.bin                      # with AT+SYSMFG
    python tests/at_simulator.py --image old.bin --no-sysmfg --flow 3     # says nothing without --flow

Sources: "Basic AT Commands" in the ESP-AT user guide v5.0, recordings of official firmware, the format
strings of its AT library for what the guide leaves open (no quotes around values, length in digits), and
``at_init.c``, ``at_uart_task.c`` and ``at_uart_cmd.c`` of v5.0.1.0 for two things that are easy to get
wrong: AT+SYSMFG works on what the firmware has read of ``mfg_nvs`` when it started, whatever AT+SYSFLASH
has written since; and the rate of the first start is stored and goes before ``uart_baudrate`` from then on.

What is not real: time (see ``latency``), Wi-Fi and Bluetooth, and how NVS spreads entries over its pages.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from esp_at_tools.formats.nvs import NvsEntry, NvsPartition
from esp_at_tools.formats.partition_table import PartitionTable, locate_primary, locate_secondary

SECTOR = 0x1000
NVS_TYPES = ("u8", "i8", "u16", "i16", "u32", "i32", "string", "blob")
"""Type numbers of AT+SYSMFG, from 1 on."""
MAX_VALUE = 8191
"""Longest value of AT+SYSMFG."""
NO_COMMAND, NO_PARTITION, BAD_RANGE = 0x01090000, 0x010A0000, 0x010A0001
WAITS_FOR_RTS = 2
"""From this flow control on, a module says nothing before the host's RTS lets it."""
STARTING = 0.02
"""Seconds from a reset to READY; a real module takes 0.3 to 7."""
NOISE = b"\xf3\x80"
"""What is heard at another rate."""
READY = b"\r\nready\r\n"
OK, ERROR, BUSY = b"\r\nOK\r\n", b"\r\nERROR\r\n", b"\r\nbusy p...\r\n"


@dataclass
class Faults:
    """What goes wrong on the line.

    Attributes:
        reset_after: the module restarts when it has received this many bytes; 0 for never.
        silent_after: it says nothing more after this many bytes; 0 for never.
        hang_up_after: the port goes away when it has received this many bytes; 0 for never.
        messages: system messages that stand before replies, one after the other.
        busy: so many commands are answered ``busy p...`` first, as one that comes while another runs.
        errors: so many commands fail although nothing is wrong with them.
        flip: this byte of what is written with AT+SYSFLASH arrives changed, once; None for none.
        refused: commands that begin with this are answered ``ERROR``, as a write where there is no room.
        damage: what becomes of replies on the way, one after the other: takes one, gives what arrives.
        chatter: this is said without end when nobody asks, as on a log port.
    """

    reset_after: int = 0
    silent_after: int = 0
    hang_up_after: int = 0
    messages: list[bytes] = field(default_factory=list)
    busy: int = 0
    errors: int = 0
    flip: int | None = None
    refused: str = ""
    damage: list[Callable[[bytes], bytes]] = field(default_factory=list)
    chatter: bytes = b""


@dataclass(frozen=True)
class Versions:
    """What AT+GMR says."""

    at: str = "5.0.1.0(e98993f - ESP32C3 - Dec 23 2025 09:03:35)"
    sdk: str = "v5.4.2-354-g98d34e5"
    compile: str = "compile time(9ff1373):Dec 24 2025 11:22:05"
    bin: str = "v5.0.1.0-dev(MINI-1)"


class AtModule:
    """A module that has been started.

    Args:
        flash: what its flash holds; it is changed in place. Its partitions are where its tables say.
        versions: what it calls itself.
        sysmfg: whether it has AT+SYSMFG.
        sysflash: whether it has AT+SYSFLASH.
        hidden: partitions that AT+SYSFLASH does not show.
        strict: its AT+SYSMFG refuses to read past the end of a value; the guide does not say.
        baud: the rate that it has stored (AT+UART_DEF), as every module does when it starts first; its
            ``uart_baudrate`` counts for nothing from then on, until AT+RESTORE.
        flow: its flow control, 0 to 3 as in AT+UART_DEF; 2 and 3 wait for the host's RTS.
        faults: what goes wrong.

    Attributes:
        flash: the flash.
        mac: its MAC address.
        echo: whether commands are said back.
        stored: the UART's settings that it starts with.
        restarts: how often it has started again.
        received, sent: bytes on the line.
        commands: what was sent to it.
    """

    def __init__(
        self,
        flash: bytearray,
        versions: Versions | None = None,
        *,
        sysmfg: bool = True,
        sysflash: bool = True,
        hidden: tuple[str, ...] = (),
        strict: bool = False,
        baud: int = 115200,
        flow: int = 1,
        faults: Faults | None = None,
    ) -> None:
        self.flash, self.versions = flash, versions or Versions()
        self.baud, self.flow, self._strict = baud, flow, strict
        self.stored = (baud, flow)
        self.faults = faults or Faults()
        self.mac = "02:00:00:" + os.urandom(3).hex(":")
        self.echo, self.codes, self.restarts = True, False, 0
        self.received = self.sent = 0
        self.commands: list[str] = []
        _, primary = locate_primary(bytes(flash))
        found = locate_secondary(bytes(flash), primary)
        assert found is not None
        self.partitions: PartitionTable = found[1]
        self._shown = [place for place in self.partitions if place.name not in hidden]
        self._line = b""
        self._wanted = 0
        self._data = b""
        self._take: Callable[[bytes], bytes] | None = None
        self._handlers: dict[str, Callable[[str, str], bytes]] = {
            "AT": lambda *_: OK, "ATE0": self._set_echo, "ATE1": self._set_echo, "AT+GMR": self._gmr,
            "AT+CMD": self._cmd, "AT+RST": lambda *_: OK + self.restart(), "AT+SYSLOG": self._syslog,
            "AT+CIPSTAMAC": lambda *_: f'+CIPSTAMAC:"{self.mac}"\r\n'.encode() + OK,
            "AT+UART_CUR": self._uart, "AT+UART_DEF": self._uart, "AT+RESTORE": self._restore,
        }  # fmt: skip
        if sysflash:
            self._handlers["AT+SYSFLASH"] = self._sysflash
        if sysmfg:
            self._handlers["AT+SYSMFG"] = self._sysmfg
        self._nvs = self._mounted()

    # --- the line ----------------------------------------------------------------------------

    def receive(self, data: bytes) -> bytes:
        """Take what the host has written at once, and return what the module answers."""
        before, self.received = self.received, self.received + len(data)
        limit = self.faults.reset_after
        if limit and before < limit <= self.received:
            self.faults.reset_after = 0
            return self.restart()
        if self.faults.silent_after and self.received > self.faults.silent_after:
            return b""
        answer = self._received(data)
        self.sent += len(answer)
        return answer

    def _received(self, data: bytes) -> bytes:
        if self._take is not None:
            return self._received_data(data)
        line, end, rest = (self._line + data).partition(b"\r\n")
        if not end:
            self._line = line
            return b""
        self._line = b""
        answer = self._command(line.decode("latin-1"))
        if self._take is not None:
            return answer + (self._received_data(rest) if rest else b"")
        return (BUSY + answer) if rest else answer  # what came while it was at work is dropped

    def _received_data(self, data: bytes) -> bytes:
        assert self._take is not None
        self._data += data
        if len(self._data) < self._wanted:
            return b""
        value, self._line = self._data[: self._wanted], self._data[self._wanted :].lstrip(b"\0")
        take, self._take, self._data = self._take, None, b""
        return take(value)

    def _command(self, text: str) -> bytes:
        self.commands.append(text)
        echoed = f"{text}\r\n".encode("latin-1") if self.echo else b""
        said = b"".join(self.faults.messages[:1])
        del self.faults.messages[:1]
        if self.faults.busy:
            self.faults.busy -= 1
            return said + echoed + BUSY + OK
        if self.faults.errors:
            self.faults.errors -= 1
            return said + echoed + ERROR
        match = re.fullmatch(r"(AT(?:E[01]|\+[A-Z_]+)?)(\?|=.*)?", text, re.IGNORECASE | re.DOTALL)
        handler = self._handlers.get(match[1].upper()) if match else None
        if handler is None or match is None:
            return said + echoed + self._error(NO_COMMAND)
        if self.faults.refused and text.startswith(self.faults.refused):
            return said + echoed + ERROR
        return said + echoed + self._damaged(handler(match[1].upper(), match[2] or ""))

    def _damaged(self, answer: bytes) -> bytes:
        return self.faults.damage.pop(0)(answer) if self.faults.damage else answer

    def _error(self, code: int) -> bytes:
        return (f"ERR CODE:{code:#010x}\r\n".encode() if self.codes else b"") + ERROR

    def restart(self) -> bytes:
        """Begin anew, as after AT+RST or a loss of power."""
        self.restarts += 1
        self.echo, self.codes = True, False
        self.baud, self.flow = self.stored
        self._line, self._data, self._take = b"", b"", None
        self._nvs = self._mounted()
        return READY

    def _mounted(self) -> NvsPartition | None:
        """Return ``mfg_nvs`` as the firmware reads it once, when it starts, for AT+SYSMFG."""
        place = self.partitions.find("mfg_nvs")
        return NvsPartition.from_bytes(bytes(self.flash[place.offset : place.end])) if place else None

    def _factory_baud(self) -> int:
        """Return ``uart_baudrate`` as it stands in flash, or what the firmware takes instead."""
        nvs, place = self._mounted(), self.partitions.find("factory_param")
        entry = nvs.get("factory_param", "uart_baudrate") if nvs else None
        if entry is not None and isinstance(entry.value, int):
            return entry.value
        return int.from_bytes(self.flash[place.offset + 12 :][:4], "little") if place else 115200

    def _wait_for(self, size: int, take: Callable[[bytes], bytes]) -> bytes:
        self._wanted, self._take, self._data = size, take, b""
        return b">"

    # --- commands ----------------------------------------------------------------------------

    def _set_echo(self, name: str, _: str) -> bytes:
        self.echo = name == "ATE1"
        return OK

    def _gmr(self, *_: str) -> bytes:
        said = self.versions
        lines = (f"AT version:{said.at}", f"SDK version:{said.sdk}", said.compile, f"Bin version:{said.bin}")
        return "".join(f"{line}\r\n" for line in lines).encode() + OK

    def _cmd(self, *_: str) -> bytes:
        lines = (f'+CMD:{number},"{name}",0,1,1,1' for number, name in enumerate(self._handlers))
        return "".join(f"{line}\r\n" for line in lines).encode() + OK

    def _syslog(self, _: str, rest: str) -> bytes:
        self.codes = rest == "=1"
        return OK

    def _uart(self, name: str, rest: str) -> bytes:
        now = (self.baud, self.flow)
        if rest == "?":
            rate, flow = self.stored if name.endswith("DEF") else now
            return f"{name[2:]}:{rate},8,1,0,{flow}\r\n".encode() + OK
        match = re.fullmatch(r"=([0-9]{2,7}),8,1,0,([0-3])", rest)
        if match is None or not 80 <= int(match[1]) <= 5_000_000:
            return self._error(BAD_RANGE)
        self.baud, self.flow = int(match[1]), int(match[2])
        if name.endswith("DEF"):
            self.stored = (self.baud, self.flow)
        return OK

    def _restore(self, *_: str) -> bytes:
        self.stored = (self._factory_baud(), 1)
        return OK + self.restart()

    def _sysflash(self, _: str, rest: str) -> bytes:
        if rest == "?":
            rows = (
                f'+SYSFLASH:"{each.name}",{each.type},{each.subtype},{each.offset:#x},{each.size:#x}\r\n'
                for each in self._shown
            )
            return "".join(rows).encode() + OK
        match = re.fullmatch(r'=([012]),"([^"]*)"(?:,(\w+),(\w+))?', rest)
        place = next((each for each in self._shown if match and each.name == match[2]), None)
        if match is None or place is None:
            return self._error(NO_PARTITION)
        if match[3] is None:
            if match[1] != "0":
                return self._error(NO_COMMAND)
            self.flash[place.offset : place.end] = b"\xff" * place.size
            return OK
        offset, size = int(match[3], 0), int(match[4], 0)
        start = place.offset + offset
        if match[1] == "1":  # too long is accepted, too, and refused when all is there
            return self._wait_for(size, lambda data: self._program(start, data, place.end))
        if offset + size > place.size or (match[1] == "0" and (offset % SECTOR or size % SECTOR)):
            return self._error(BAD_RANGE)
        if match[1] == "0":
            self.flash[start : start + size] = b"\xff" * size
            return OK
        return f"+SYSFLASH:{size},".encode() + bytes(self.flash[start : start + size]) + b"\r\nOK\r\n"

    def _program(self, start: int, data: bytes, end: int) -> bytes:
        if start + len(data) > end:
            return ERROR
        for position, byte in enumerate(data):
            self.flash[start + position] &= byte  # flash can only clear bits
        if self.faults.flip is not None and data:
            self.flash[start + self.faults.flip % len(data)] ^= 1
            self.faults.flip = None
        return OK

    def _sysmfg(self, _: str, rest: str) -> bytes:
        place = self.partitions.find("mfg_nvs")
        if place is None or (nvs := self._nvs) is None:
            return self._error(NO_PARTITION)
        if rest in ("?", "=1"):
            names = (name for name in nvs.namespaces if any(e.namespace == name for e in nvs.entries))
            return "".join(f'+SYSMFG:"{name}"\r\n' for name in names).encode() + OK
        match = re.fullmatch(r'=([012]),"([^"]*)"(?:,"([^"]*)")?(?:,(-?\w+),(-?\w+))?', rest)
        if match is None:
            return self._error(BAD_RANGE)
        operation, namespace, key = match[1], match[2], match[3]
        if operation == "2" and key and match[4]:
            return self._write(nvs, namespace, key, int(match[4]), int(match[5]))
        entries = [e for e in nvs.entries if e.namespace == namespace and key in (None, e.key)]
        if not entries or operation == "2":
            return self._error(BAD_RANGE)
        if operation == "0":
            for entry in entries:
                nvs.remove(entry.namespace, entry.key)
            return self._store(nvs)
        if key is None:
            rows = (f'+SYSMFG:"{namespace}","{e.key}",{_number(e)}\r\n' for e in entries)
            return "".join(rows).encode() + OK
        start, length = (int(match[4]), int(match[5])) if match[4] else (0, MAX_VALUE)
        if self._strict and match[4] and start + length > _size(entries[0]):
            return self._error(BAD_RANGE)
        return _value_row(entries[0], start, length) + OK

    def _write(self, nvs: NvsPartition, namespace: str, key: str, number: int, value: int) -> bytes:
        if not 1 <= number <= len(NVS_TYPES):
            return self._error(BAD_RANGE)
        kind = NVS_TYPES[number - 1]
        if number <= 6:
            return self._set(nvs, namespace, key, kind, value)
        if not 1 <= value <= MAX_VALUE:
            return self._error(BAD_RANGE)
        return self._wait_for(value, lambda data: self._set(nvs, namespace, key, kind, data))

    def _set(self, nvs: NvsPartition, namespace: str, key: str, kind: str, value: int | bytes) -> bytes:
        if kind == "string" and isinstance(value, bytes):
            value = value.decode("utf-8", "surrogateescape")  # type: ignore[assignment]
        try:
            changed = nvs.copy()
            changed.set(namespace, key, kind, value)
            return self._store(changed)
        except Exception:  # noqa: BLE001 - whatever it is, a module says no more than this
            return self._error(BAD_RANGE)

    def _store(self, nvs: NvsPartition) -> bytes:
        place = self.partitions.find("mfg_nvs")
        assert place is not None
        self.flash[place.offset : place.end] = nvs.to_bytes()
        self._nvs = nvs
        return OK


def _number(entry: NvsEntry) -> int:
    return NVS_TYPES.index(entry.type) + 1


def _size(entry: NvsEntry) -> int:
    return len(entry.value if isinstance(entry.value, bytes) else str(entry.value).encode())


def _value_row(entry: NvsEntry, start: int, length: int) -> bytes:
    head = f'+SYSMFG:"{entry.namespace}","{entry.key}",{_number(entry)},'
    if isinstance(entry.value, int):
        return f"{head}{len(str(entry.value))},{entry.value}\r\n".encode()
    data = entry.value if isinstance(entry.value, bytes) else entry.value.encode("utf-8", "surrogateescape")
    data = data[start : start + length]
    return f"{head}{len(data)},".encode() + data + b"\r\n"


class PtyModule:
    """A module at the other end of a pseudo-terminal; ``port`` is what to open.

    Use it as a context manager. What is said at another rate than the module's is noise to both.

    Args:
        module: the module.
        piece: the answers arrive in pieces of so many bytes; 0 for whole.
        latency: seconds before every answer.
    """

    def __init__(self, module: AtModule, *, piece: int = 0, latency: float = 0.0) -> None:
        self.module, self._piece, self._latency = module, piece, latency
        self._master, self._slave = os.openpty()
        self._open = True
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> PtyModule:  # noqa: PYI034 - Self is not in Python 3.10
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        os.close(self._wake)
        os.close(self._waker)

    def hang_up(self) -> None:
        """Unplug it: the port is gone."""
        os.write(self._waker, b".")
        self._thread.join()
        self._close()

    def _close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._slave)
            os.close(self._master)

    def _serve(self) -> None:
        chatter = self.module.faults.chatter
        while True:
            ready, _, _ = select.select([self._master, self._wake], [], [], 0.01 if chatter else None)
            if self._wake in ready:
                return
            if not ready:
                self._send(chatter)
                continue
            data = os.read(self._master, 1 << 16)
            if self._rate() != self.module.baud:
                self._send(NOISE[: len(data)])
                continue
            answer = self.module.receive(data)
            if 0 < self.module.faults.hang_up_after < self.module.received:
                self._close()
                return
            if self.module.flow >= WAITS_FOR_RTS and not self._has_flow_control():
                continue  # nobody lets it send
            if answer:
                time.sleep(self._latency)
            ready = answer.endswith(READY)
            for piece in self._pieces(answer.removesuffix(READY)):
                self._send(piece)
            if ready:
                time.sleep(STARTING)
                self._send(READY if self._rate() == self.module.baud else NOISE)

    def _has_flow_control(self) -> bool:
        return bool(termios.tcgetattr(self._slave)[2] & termios.CRTSCTS)

    def _pieces(self, answer: bytes) -> Iterable[bytes]:
        if not self._piece:
            return [answer]
        return [answer[at : at + self._piece] for at in range(0, len(answer), self._piece)]

    def _send(self, data: bytes) -> None:
        while data:
            ready, _, _ = select.select([self._wake], [self._master], [])
            if ready:  # it is unplugged while nobody listens
                return
            data = data[os.write(self._master, data) :]

    def _rate(self) -> int:
        """Return the rate that the host has set, in bits a second."""
        speed = termios.tcgetattr(self._slave)[4]
        return next((int(name[1:]) for name in _RATES if getattr(termios, name) == speed), 0)


_RATES = tuple(name for name in dir(termios) if re.fullmatch(r"B[0-9]+", name) and name != "B0")


def main(argv: list[str] | None = None) -> int:
    """Serve one module until interrupted; its flash is written back to the file at the end."""
    parser = argparse.ArgumentParser(
        description="A running ESP-AT module, made of software. It prints the name of its AT port, and serves"
        " it until it is interrupted (Ctrl-C, SIGTERM); its flash is written back to the file then."
    )
    parser.add_argument("--image", type=Path, required=True, metavar="FILE", help="full flash image")
    parser.add_argument("--no-sysmfg", action="store_true", help="a firmware without AT+SYSMFG")
    parser.add_argument("--no-sysflash", action="store_true", help="a firmware without AT+SYSFLASH")
    parser.add_argument("--baud", type=int, default=115200, help="the rate that it has stored (%(default)s)")
    parser.add_argument(
        "--flow",
        type=int,
        default=1,
        choices=range(4),
        help="its flow control; 2 and 3 wait for the host's RTS",
    )
    parser.add_argument("--latency", type=float, default=0, metavar="SECONDS", help="before every answer")
    parser.add_argument("--piece", type=int, default=0, metavar="BYTES", help="answers come in such pieces")
    parser.add_argument(
        "--reset-after", type=int, default=0, metavar="BYTES", help="it loses power once then"
    )
    options = parser.parse_args(argv)
    module = AtModule(
        bytearray(options.image.read_bytes()), sysmfg=not options.no_sysmfg, baud=options.baud,
        sysflash=not options.no_sysflash, flow=options.flow, faults=Faults(reset_after=options.reset_after),
    )  # fmt: skip
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        PtyModule(module, piece=options.piece, latency=options.latency) as served,
        contextlib.suppress(KeyboardInterrupt),
    ):
        sys.stdout.write(f"{served.port}\n")
        sys.stdout.flush()
        threading.Event().wait()
    options.image.write_bytes(module.flash)
    return 0


if __name__ == "__main__":
    sys.exit(main())

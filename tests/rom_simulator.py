"""A board in its boot loader, made of software: for flashing without hardware.

It speaks the serial protocol of the chips' boot ROMs (and of esptool's stub) on one side and keeps a
flash on the other, so that esptool or any other program for that protocol works with it unmodified.
From Python::

    with PtyBoard(Loader("esp32c3", flash_size=4 << 20)) as board:
        subprocess.run(["esptool", "--port", board.port, "--no-stub", "flash-id"], check=True)
    board.loader.flash[0x8000:0x8C00]

and from a shell, until it is interrupted::

    python tests/rom_simulator.py --chip esp32c3 --flash flash.bin            # a pseudo-terminal
    python tests/rom_simulator.py --chip esp32 --flash flash.bin --socket     # socket://localhost:PORT

Sources: "Serial Protocol" in the documentation of esptool (``docs/en/advanced-topics``), its
``loader.py`` and ``targets/`` for what hosts send and expect (versions 5.0 to 5.6), and recordings of
the ROMs of an ESP32 and an ESP32-C3. From the recordings come the parts that no document has: the
value of a response is that of the last SYNC or READ_REG, the last two of the four status bytes are
whatever was in the buffer before, an unknown command is answered by eight SYNC responses with error
5, and reading flash leaves its traces in the SPI registers.

What is not real: time, the electrical side (DTR and RTS do nothing, it is always in its loader),
writing to RAM. The code of the stub is taken and not run; the loader then behaves as the stub does.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import signal
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import rom_chips as op
from rom_chips import CHIPS, SECURE_COMMANDS, STUB_COMMANDS, mac_registers
from rom_ports import PortGoneError, PtyBoard, SocketBoard

SECTOR = 0x1000
BLOCK_SECTORS = 16
END, ESC, ESC_END, ESC_ESC = b"\xc0", b"\xdb", b"\xdb\xdc", b"\xdb\xdd"

REQUEST = struct.Struct("<BBHI")
"""Direction (0), command, size of the data, checksum; then the data."""
RESPONSE = struct.Struct("<BBHI")
"""Direction (1), command, size of the data, value; then the data, which ends with the status."""

SYNC_VALUE = 0x20120707
CHECKSUM_SEED = 0xEF
ERROR_PARAMETER, ERROR_FORMAT, ERROR_RESULT, ERROR_CHECKSUM, ERROR_DEFLATE = 0x01, 0x05, 0x06, 0x07, 0x0B
SPI_READ_ID, SPI_READ = 0x9F, 0x03
MAX_BLOCK = 0x4000
BOOT_LOG = b"rst:0x1 (POWERON),boot:0xc (SPI_FAST_FLASH_BOOT)\r\nSPIWP:0xee\r\n"
"""What a chip says that starts its firmware."""
SIZE_CODE_1MB = 0x14
"""Third byte of a flash chip's id: the size as a power of two."""


@dataclass
class Faults:
    """What goes wrong; the counts are of the data packets written, the first being 1.

    Attributes:
        silent: never answers, as a chip that is not in its loader.
        silent_from: no answer any more from this packet on: the cable is pulled.
        hang_up_from: the port itself goes away at this packet.
        garble: this packet arrives damaged, once.
        garble_from: every packet from this one on arrives damaged.
        reset_from: at this packet the chip resets and starts its firmware, which says so.
        weak_cell: address of a byte in flash that does not keep what is written to it.
    """

    silent: bool = False
    silent_from: int = 0
    hang_up_from: int = 0
    garble: int = 0
    garble_from: int = 0
    reset_from: int = 0
    weak_cell: int | None = None


@dataclass
class _Download:
    """A write under way: where it goes, and what has come."""

    offset: int
    block_size: int
    position: int
    inflate: zlib._Decompress
    sequence: int = -1


class Loader:
    """The boot loader of one chip with its flash: bytes in, bytes out.

    Args:
        chip: a name of :data:`CHIPS`.
        flash_size: bytes of flash, a power of two from 256 KB on.
        flash: what is in it at first; blank without.
        mac: the MAC address of the board.
        faults: what goes wrong.
        secure_boot: the eFuse is burnt.
        encryption: flash encryption is on.
        secure_download: the loader is in Secure Download Mode.

    Attributes:
        flash: the contents, to be looked at and changed at any time.
        baud: the rate that the host has set last.
        running_stub: the stub has been loaded; set it to False to reset the board.
        left: the loader was told to start the application.
        received: bytes that have come in.
        packets: data packets that have come in.
        log: the commands that have come in.
    """

    def __init__(
        self,
        chip: str = "esp32c3",
        flash_size: int = 4 << 20,
        flash: bytes | bytearray = b"",
        mac: bytes = b"\xc4\x0a\x24\xfe\x10\x01",
        faults: Faults | None = None,
        *,
        secure_boot: bool = False,
        encryption: bool = False,
        secure_download: bool = False,
    ) -> None:
        self.model = CHIPS[chip]
        self.chip = chip
        self.flash = flash if isinstance(flash, bytearray) else bytearray(flash)
        self.flash.extend(b"\xff" * (flash_size - len(self.flash)))
        self.faults = faults or Faults()
        self.baud, self.received, self.packets = 115200, 0, 0
        self.running_stub = self.left = False
        self.secure_download = secure_download
        self.log: list[int] = []
        self._value = 0
        self._status = bytearray(64)  # the buffer that responses are made in
        self._download: _Download | None = None
        self._reading: Iterator[bytes] | None = None
        self._line = bytearray()
        base, usr, usr2, self._w0 = self.model.spi
        self._spi_cmd, self._usr, self._usr2, self._w0 = base, base + usr, base + usr2, base + self._w0
        self.registers = {
            **self.model.registers, **mac_registers(chip, mac),
            self._usr: self.model.spi_idle, self._usr2: 0x70000000,
        }  # fmt: skip
        fuses = ((secure_boot, self.model.secure_boot), (encryption, self.model.crypt_cnt))
        for burnt, (register, mask) in fuses:
            if burnt:
                self.registers[register] = self.registers.get(register, 0) | mask

    # --- the line ----------------------------------------------------------------------------

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the host and return the bytes that answer them.

        Raises:
            PortGoneError: the fault ``hang_up_from`` has come.
        """
        self.received += len(data)
        self._line += data
        answer = b""
        while (start := self._line.find(END)) >= 0 and (end := self._line.find(END, start + 1)) >= 0:
            packet = bytes(self._line[start + 1 : end])
            del self._line[: end + 1 if packet else end]
            if packet and not self.faults.silent:
                answer += self._packet(packet.replace(ESC_END, END).replace(ESC_ESC, ESC))
        return answer

    def _packet(self, packet: bytes) -> bytes:
        if self._reading is not None and len(packet) == 4:  # the host acknowledges what it has read
            return next(self._reading, b"")
        if len(packet) < REQUEST.size or packet[0] != 0:
            return b""
        _, command, size, checksum = REQUEST.unpack_from(packet)
        data = packet[REQUEST.size :]
        self.log.append(command)
        known = STUB_COMMANDS if self.running_stub else self.model.commands
        if self.secure_download:
            known &= SECURE_COMMANDS
        if size != len(data) or command not in known:
            return 8 * self._respond(op.SYNC, error=ERROR_FORMAT)
        if command in (op.FLASH_DATA, op.DEFL_DATA):
            self.packets += 1
            if 0 < self.faults.hang_up_from <= self.packets:
                raise PortGoneError
            if 0 < self.faults.silent_from <= self.packets:
                self.faults.silent = True
                return b""
            if 0 < self.faults.reset_from <= self.packets:
                self.faults.silent, self.running_stub = True, False
                return BOOT_LOG
            if self.packets == self.faults.garble or 0 < self.faults.garble_from <= self.packets:
                checksum ^= 0x01
        try:
            return _HANDLERS[command](self, data, checksum & 0xFF)
        except (struct.error, ValueError):
            return self._respond(command, error=ERROR_PARAMETER)

    def _respond(self, command: int, data: bytes = b"", error: int | None = None) -> bytes:
        """Return a response; it is made in a buffer that keeps what was in it before."""
        status = bytes(2) if error is None else bytes((1, error))
        body = data + status
        if self.running_stub:
            return _frame(RESPONSE.pack(1, command, len(body), self._value) + body)
        size = len(data) + self.model.status_size
        self._status.extend(bytes(max(size - len(self._status), 0)))
        self._status[: len(body)] = body
        return _frame(RESPONSE.pack(1, command, size, self._value) + self._status[:size])

    # --- commands ----------------------------------------------------------------------------

    def _sync(self, _data: bytes, _checksum: int) -> bytes:
        self._value = 0 if self.running_stub else SYNC_VALUE
        return 8 * self._respond(op.SYNC)

    def _read_reg(self, data: bytes, _checksum: int) -> bytes:
        (address,) = struct.unpack("<I", data)
        self._value = self.registers.get(address, 0)
        return self._respond(op.READ_REG)

    def _write_reg(self, data: bytes, _checksum: int) -> bytes:
        for at in range(0, len(data), 16):
            address, value, mask, _delay = struct.unpack_from("<IIII", data, at)
            self.registers[address] = self.registers.get(address, 0) & ~mask | value & mask
            if address == self._spi_cmd:
                self._run_spi_command()
        return self._respond(op.WRITE_REG)

    def _run_spi_command(self) -> None:
        """Do what the SPI controller does when it is told to send a command; only the id is answered."""
        self.registers[self._spi_cmd] = 0
        if self.registers[self._usr2] & 0xFF == SPI_READ_ID:
            size_code = SIZE_CODE_1MB + (len(self.flash) >> 20).bit_length() - 1
            self.registers[self._w0] = 0xC8 | 0x40 << 8 | size_code << 16

    def _leave_traces(self) -> None:
        """Set the SPI registers as the ROM leaves them when it has read flash."""
        if not self.running_stub and self.model.spi_idle:
            self.registers[self._usr] = self.model.spi_idle & 0xFF | 0xD0000000
            self.registers[self._usr2] = 0x70000000 | SPI_READ

    def _security_info(self, _data: bytes, _checksum: int) -> bytes:
        if self.model.security_info is None:
            return self._respond(op.GET_SECURITY_INFO, error=0xFF)
        info = bytearray(self.model.security_info)
        flags = (self._burnt(self.model.secure_boot), False, self.secure_download)
        info[0] |= sum(bit << at for at, bit in enumerate(flags))
        info[4] = int(self._burnt(self.model.crypt_cnt))
        return self._respond(op.GET_SECURITY_INFO, bytes(info))

    def _burnt(self, fuse: tuple[int, int]) -> bool:
        return bool(self.registers.get(fuse[0], 0) & fuse[1])

    def _change_baud(self, data: bytes, _checksum: int) -> bytes:
        self.baud = struct.unpack_from("<I", data)[0]
        return self._respond(op.CHANGE_BAUDRATE)

    def _begin(self, data: bytes, command: int) -> bytes:
        size, _blocks, block_size, offset = struct.unpack_from("<IIII", data)
        if not self.running_stub and len(data) != 4 * self.model.begin_words:
            return self._respond(command, error=ERROR_PARAMETER)
        if offset + size > len(self.flash) or block_size > MAX_BLOCK:
            return self._respond(command, error=ERROR_RESULT)
        self._erase(offset, size)
        self._download = _Download(offset, block_size, offset, zlib.decompressobj())
        return self._respond(command)

    def _erase(self, offset: int, size: int) -> None:
        first, sectors = offset // SECTOR, -(-size // SECTOR)
        if self.chip == "esp8266" and not self.running_stub:
            # Its ROM forgets that it has erased the sectors up to the next block, and erases as many again.
            sectors += min(sectors, BLOCK_SECTORS - first % BLOCK_SECTORS)
        last = min((first + sectors) * SECTOR, len(self.flash))
        self.flash[first * SECTOR : last] = b"\xff" * (last - first * SECTOR)

    def _flash_data(self, data: bytes, checksum: int) -> bytes:
        size, sequence = struct.unpack_from("<II", data)
        block = data[16:]
        if self._download is None or size != len(block):
            return self._respond(op.FLASH_DATA, error=ERROR_PARAMETER)
        if _xor(block) != checksum:
            return self._respond(op.FLASH_DATA, error=ERROR_CHECKSUM)
        self._program(self._download.offset + sequence * self._download.block_size, block)
        self._leave_traces()
        return self._respond(op.FLASH_DATA)

    def _program(self, offset: int, data: bytes) -> None:
        """Write as flash does: bits can be cleared and not set."""
        data = data[: max(len(self.flash) - offset, 0)]
        end = offset + len(data)
        old = self.flash[offset:end]
        if old.count(0xFF) < len(old):
            both = int.from_bytes(old, "little") & int.from_bytes(data, "little")
            data = both.to_bytes(len(old), "little")
        self.flash[offset:end] = data
        weak = self.faults.weak_cell
        if weak is not None and offset <= weak < end:
            self.flash[weak] = 0xFF if self.flash[weak] != 0xFF else 0x7F

    def _defl_data(self, data: bytes, checksum: int) -> bytes:
        size, sequence = struct.unpack_from("<II", data)
        block, download = data[16:], self._download
        if download is None or size != len(block):
            return self._respond(op.DEFL_DATA, error=ERROR_PARAMETER)
        if _xor(block) != checksum:
            return self._respond(op.DEFL_DATA, error=ERROR_CHECKSUM)
        if sequence > download.sequence:  # not one that is sent again
            try:
                plain = download.inflate.decompress(block)
            except zlib.error:
                return self._respond(op.DEFL_DATA, error=ERROR_DEFLATE)
            self._program(download.position, plain)
            download.position += len(plain)
            download.sequence = sequence
        return self._respond(op.DEFL_DATA)

    def _leave(self, command: int, data: bytes) -> bytes:
        if len(data) >= 4 and struct.unpack_from("<I", data)[0] == 0:
            self.left = True
        return self._respond(command)

    def _md5(self, data: bytes, _checksum: int) -> bytes:
        offset, size, _, _ = struct.unpack("<IIII", data)
        digest = hashlib.md5(self.flash[offset : offset + size], usedforsecurity=False).digest()
        self._leave_traces()
        return self._respond(op.SPI_FLASH_MD5, digest if self.running_stub else digest.hex().encode())

    def _read_slow(self, data: bytes, _checksum: int) -> bytes:
        offset, size = struct.unpack("<II", data)
        if size > 64 or offset + size > len(self.flash):
            return self._respond(op.READ_FLASH_SLOW, error=ERROR_PARAMETER)
        self._leave_traces()
        return self._respond(op.READ_FLASH_SLOW, bytes(self.flash[offset : offset + size]).ljust(64, b"\0"))

    def _mem_end(self, data: bytes, _checksum: int) -> bytes:
        stay, entry = struct.unpack("<II", data)
        answer = self._respond(op.MEM_END)
        if stay or not entry:
            return answer
        self.running_stub, self._value = True, 0
        return answer + _frame(b"OHAI")

    def _erase_flash(self, _data: bytes, _checksum: int) -> bytes:
        self._erase(0, len(self.flash))
        return self._respond(op.ERASE_FLASH)

    def _erase_region(self, data: bytes, _checksum: int) -> bytes:
        offset, size = struct.unpack("<II", data)
        if offset % SECTOR or size % SECTOR or offset + size > len(self.flash):
            return self._respond(op.ERASE_REGION, error=ERROR_PARAMETER)
        self._erase(offset, size)
        return self._respond(op.ERASE_REGION)

    def _read_flash(self, data: bytes, _checksum: int) -> bytes:
        offset, size, packet, _unacknowledged = struct.unpack("<IIII", data)
        wanted = bytes(self.flash[offset : offset + size])
        pieces = [_frame(wanted[at : at + packet]) for at in range(0, size, packet)]
        digest = _frame(hashlib.md5(wanted, usedforsecurity=False).digest())
        self._reading = iter([*pieces[1:], digest])
        return self._respond(op.READ_FLASH) + pieces[0]


_HANDLERS: dict[int, Callable[[Loader, bytes, int], bytes]] = {
    op.SYNC: Loader._sync, op.READ_REG: Loader._read_reg, op.WRITE_REG: Loader._write_reg,
    op.SPI_ATTACH: lambda self, *_: self._respond(op.SPI_ATTACH),
    op.SPI_SET_PARAMS: lambda self, *_: self._respond(op.SPI_SET_PARAMS),
    op.MEM_BEGIN: lambda self, *_: self._respond(op.MEM_BEGIN),
    op.MEM_DATA: lambda self, *_: self._respond(op.MEM_DATA),
    op.MEM_END: Loader._mem_end, op.GET_SECURITY_INFO: Loader._security_info,
    op.CHANGE_BAUDRATE: Loader._change_baud, op.READ_FLASH_SLOW: Loader._read_slow,
    op.FLASH_BEGIN: lambda self, data, _: self._begin(data, op.FLASH_BEGIN),
    op.FLASH_DATA: Loader._flash_data,
    op.FLASH_END: lambda self, data, _: self._leave(op.FLASH_END, data),
    op.DEFL_BEGIN: lambda self, data, _: self._begin(data, op.DEFL_BEGIN), op.DEFL_DATA: Loader._defl_data,
    op.DEFL_END: lambda self, data, _: self._leave(op.DEFL_END, data),
    op.SPI_FLASH_MD5: Loader._md5, op.ERASE_FLASH: Loader._erase_flash,
    op.ERASE_REGION: Loader._erase_region, op.READ_FLASH: Loader._read_flash,
}  # fmt: skip


def _frame(packet: bytes) -> bytes:
    return END + packet.replace(ESC, ESC_ESC).replace(END, ESC_END) + END


def _xor(data: bytes) -> int:
    value = CHECKSUM_SEED
    for byte in data:
        value ^= byte
    return value


def main(argv: list[str] | None = None) -> int:
    """Serve one board until interrupted; its flash is written back to the file at the end."""
    parser = argparse.ArgumentParser(
        description="A board in its boot loader, made of software. It prints the name of its port, and serves"
        " it until it is interrupted (Ctrl-C, SIGTERM); its flash is written back to the file then."
    )
    parser.add_argument("--chip", choices=CHIPS, default="esp32c3", help="(%(default)s)")
    parser.add_argument(
        "--flash", type=Path, required=True, metavar="FILE", help="file with the flash; made if missing"
    )
    parser.add_argument("--size", type=int, default=4, metavar="MB", help="of flash (%(default)s)")
    parser.add_argument("--mac", default="c4:0a:24:fe:10:01", help="its MAC address (%(default)s)")
    parser.add_argument("--timed", action="store_true", help="bytes take the time that they take on a wire")
    parser.add_argument("--socket", action="store_true", help="a TCP port instead of a pseudo-terminal")
    parser.add_argument("--secure-boot", action="store_true", help="the eFuse of secure boot is burnt")
    parser.add_argument("--encryption", action="store_true", help="flash encryption is on")
    options = parser.parse_args(argv)
    flash = options.flash.read_bytes() if options.flash.exists() else b""
    loader = Loader(
        options.chip, options.size << 20, flash, bytes.fromhex(options.mac.replace(":", "")),
        secure_boot=options.secure_boot, encryption=options.encryption,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plugged = SocketBoard(loader) if options.socket else PtyBoard(loader, timed=options.timed)
    with plugged as board, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(f"{board.port}\n")
        sys.stdout.flush()
        threading.Event().wait()
    options.flash.write_bytes(loader.flash)
    return 0


if __name__ == "__main__":
    sys.exit(main())

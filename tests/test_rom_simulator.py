"""The simulated board answers as real ROMs do, and esptool works with it unmodified."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import rom_chips as op
from rom_simulator import CHIPS, Faults, Loader, PortGoneError, PtyBoard, SocketBoard

RECORDINGS = {
    # the recording, the chip, and the MAC address of its board
    "rom-esp32c3.jsonl": ("esp32c3", "c40a24fe1001"),
    "rom-esp32.jsonl": ("esp32", "100100c40a24"),
}
SYNC_DATA = bytes.fromhex("07071220") + b"\x55" * 32
DATA = bytes(range(256)) * 24

needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


def request(command: int, data: bytes = b"", checksum: int = 0) -> bytes:
    packet = struct.pack("<BBHI", 0, command, len(data), checksum) + data
    return b"\xc0" + packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"


def exchanges(path: Path) -> list[tuple[bytes, bytes]]:
    """What the host said and what the chip said to it, in turns."""
    turns: list[tuple[bytes, bytes]] = []
    host, chip = b"", b""
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record["dir"] == "-":
            continue
        data = bytes.fromhex(record["hex"]) if "hex" in record else record["text"].encode("latin-1")
        if record["dir"] == ">":
            if chip:
                turns.append((host, chip))
                host, chip = b"", b""
            host += data
        else:
            chip += data
    return [*turns, (host, chip)]


@pytest.mark.parametrize("name", RECORDINGS)
def test_answers_are_those_of_the_real_rom(shared, name):
    chip, mac = RECORDINGS[name]
    loader = Loader(chip, mac=bytes.fromhex(mac))
    turns = exchanges(shared / "serial" / name)
    assert len(turns) > 100
    for number, (host, answer) in enumerate(turns):
        assert loader.receive(host).hex() == answer.hex(), f"turn {number}: {host.hex()}"


def esptool(port: str, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "esptool", "--port", port, *map(str, words)],
        check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_pty
@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("stub", [True, False], ids=["stub", "rom"])
def test_esptool_writes_and_reads_every_chip(tmp_path, chip, stub):
    source, read = tmp_path / "in.bin", tmp_path / "out.bin"
    source.write_bytes(DATA)
    with PtyBoard(Loader(chip, flash=b"\0" * 0x20000, flash_size=2 << 20)) as board:
        words = [] if stub else ["--no-stub"]
        out = esptool(board.port, *words, "write-flash", "0x10000", source)
        assert "Hash of data verified" in out or (chip, stub) == ("esp8266", False)
        flash = board.loader.flash
        assert flash[0x10000 : 0x10000 + len(DATA)] == DATA
        assert flash[0xFFFF] == 0  # the sector before is as it was
        assert flash[0x10000 + len(DATA) : 0x12000].count(0xFF) == 0x2000 - len(DATA)
        if (chip, stub) != ("esp8266", False):
            esptool(board.port, *words, "read-flash", "0x10100", "0x1200", read)
            assert read.read_bytes() == flash[0x10100:0x11300]


def test_socket_serves_esptool():
    with SocketBoard(Loader("esp32c3", flash_size=8 << 20)) as board:
        out = esptool(board.port, "--no-stub", "flash-id")
    assert "ESP32-C3" in out
    assert "Detected flash size: 8MB" in out
    assert "c4:0a:24:fe:10:01" in out


def test_flash_keeps_cleared_bits_until_it_is_erased():
    loader = Loader(flash=b"\x0f" * 0x3000, flash_size=1 << 20)
    loader.receive(request(op.FLASH_BEGIN, struct.pack("<5I", 0, 1, 4, 0x1000, 0)))
    data = struct.pack("<IIII", 4, 0, 0, 0) + b"\x3c\xff\xf0\x0f"
    answer = loader.receive(request(op.FLASH_DATA, data, 0xEF ^ 0x3C ^ 0xFF ^ 0xF0 ^ 0x0F))
    assert answer[9:11] == b"\0\0"
    assert loader.flash[0x1000:0x1005] == b"\x0c\x0f\x00\x0f\x0f"
    loader.receive(request(op.FLASH_BEGIN, struct.pack("<5I", 4, 1, 4, 0x1000, 0)))
    assert loader.flash[0x0FFE:0x1002] == b"\x0f\x0f\xff\xff"
    assert loader.flash[0x1FFF:0x2001] == b"\xff\x0f"


def test_wrong_checksum_is_refused():
    loader = Loader()
    loader.receive(request(op.FLASH_BEGIN, struct.pack("<5I", 4, 1, 4, 0, 0)))
    answer = loader.receive(request(op.FLASH_DATA, struct.pack("<IIII", 4, 0, 0, 0) + b"abcd", 1))
    assert answer[9:11] == b"\x01\x07"
    assert loader.flash[:4] == b"\xff" * 4


def test_secure_download_mode_knows_few_commands():
    loader = Loader(secure_download=True)
    assert loader.receive(request(op.READ_REG, b"\0" * 4)).count(b"\x01\x05") == 8
    info = loader.receive(request(op.GET_SECURITY_INFO))
    assert info[9] == 1 << 2


def test_faults():
    silent = Loader(faults=Faults(silent=True))
    assert silent.receive(request(op.SYNC, SYNC_DATA)) == b""
    pulled = Loader(faults=Faults(hang_up_from=1))
    with pytest.raises(PortGoneError):
        pulled.receive(request(op.FLASH_DATA, b"\0" * 16))
    weak = Loader(faults=Faults(weak_cell=2))
    weak.receive(request(op.FLASH_BEGIN, struct.pack("<5I", 4, 1, 4, 0, 0)))
    weak.receive(request(op.FLASH_DATA, struct.pack("<IIII", 4, 0, 0, 0) + b"aaaa", 0xEF))
    assert weak.flash[:4] == b"aa\xffa"


@pytest.mark.parametrize("junk", [b"\xc0\xc0", b"\xc0\x00\xc0", b"noise", b"\xc0" + b"\0" * 8 + b"\xc0"])
def test_noise_on_the_line_is_survived(junk):
    loader = Loader()
    loader.receive(junk)
    assert loader.receive(b"\xc0" + request(op.SYNC, SYNC_DATA)).count(b"\xc0") >= 16

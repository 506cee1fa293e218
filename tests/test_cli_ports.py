"""``ports``: what is connected, and what answers."""

from __future__ import annotations

import json

import builders
import pytest
from at_simulator import AtModule, PtyModule
from rom_simulator import Loader, PtyBoard

from esp_at_tools.cli import ports
from esp_at_tools.device.ports import SerialPort, usb_serial_devices


@pytest.fixture
def connected(monkeypatch):
    """Say which ports the computer has."""
    return lambda *found: monkeypatch.setattr(ports, "serial_ports", lambda: list(found))


def test_ids_are_known(cli, connected):
    connected(
        SerialPort("/dev/ttyACM0", "USB JTAG/serial debug unit", 0x303A, 0x1001),
        SerialPort("/dev/ttyUSB0", "Quad", 0x1234, 0x5678),
        SerialPort("/dev/ttyS0", "", None, None),
    )
    done = cli("ports")
    assert done.status == 0, done.err
    assert "/dev/ttyACM0  USB-Serial-JTAG of the chip (303a:1001)" in done.out
    assert "an adapter that is not known (1234:5678)" in done.out
    assert "ttyS0" not in done.out
    assert "/dev/ttyS0  not on USB" in cli("ports", "--all").out
    rows = json.loads(cli("ports", "--json").out)["ports"]
    assert [row["may_be_module"] for row in rows] == [True, False]


def test_nothing_connected(cli, connected):
    connected()
    assert "No serial port on USB" in cli("ports").out
    assert json.loads(cli("ports", "--json").out) == {"schema": 1, "ports": []}


def test_a_port_that_one_may_not_open(cli, connected, monkeypatch, tmp_path):
    path = tmp_path / "ttyUSB0"
    path.touch()
    monkeypatch.setattr("esp_at_tools.device.ports.os.access", lambda *_: False)
    connected(SerialPort(str(path), "x", 0x10C4, 0xEA60))
    done = cli("ports")
    assert "you may not open it" in done.out


def test_probe_tells_the_ports_apart(cli, connected):
    image = builders.image()
    with PtyModule(AtModule(bytearray(image))) as module, PtyBoard(Loader(flash=bytearray(image))) as board:
        connected(
            SerialPort(module.port, "one", 0x10C4, 0xEA60),
            SerialPort(board.port, "other", 0x1A86, 0x7523),
            SerialPort("/dev/no-such-port", "gone", 0x1A86, 0x7523),
        )
        done = cli("ports", "--probe", "--reset", "--json")
        assert done.status == 0, done.err
        at, download, gone = (row["probe"] for row in json.loads(done.out)["ports"])
        assert (at["role"], at["chip"], at["baud"]) == ("at", "esp32c3", 115200)
        assert (download["role"], download["chip"]) == ("download", "esp32c3")
        assert download["mac"]
        assert gone["role"] == "unknown"
        assert "no such port" in gone["detail"]
        text = cli("ports", "--probe")
        assert "AT port: for 'esp-at-tool at'; MINI-1 v5.0.1.0-dev, esp32c3, 115200 baud" in text.out
        assert "--reset asks for a boot loader too" in text.out


def test_reset_needs_probe(cli):
    assert cli("ports", "--reset").status == 2


def test_the_table_of_ids_is_sound():
    assert usb_serial_devices()[0x303A, 0x1001].espressif
    assert not usb_serial_devices()[0x10C4, 0xEA60].espressif

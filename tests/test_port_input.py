"""A module on a port is as good an INPUT as a file."""

from __future__ import annotations

import json

import builders
import pytest
from rom_simulator import Loader, PtyBoard, SocketBoard

from esp_at_tools.firmware.opening import held


@pytest.fixture(autouse=True)
def nothing_held():
    held.clear()
    yield
    held.clear()


@pytest.mark.parametrize("kind", [PtyBoard, SocketBoard])
def test_inspect(cli, kind):
    image = builders.image()
    with kind(Loader(flash=bytearray(image))) as board:
        done = cli("inspect", f"port:{board.port}", "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["input"]["kind"] == "image"
    assert found["settings"]["module_name"] == "MINI-1"


def test_diff_and_modify(cli, tmp_path):
    image = tmp_path / "image.bin"
    image.write_bytes(builders.image())
    output = tmp_path / "changed.bin"
    with PtyBoard(Loader(flash=bytearray(image.read_bytes()))) as board:
        name = f"port:{board.port}"
        assert cli("diff", name, image).status == 0
        done = cli("modify-bin", "--input", name, "--output", output, "--baud", "921600")
        assert done.status == 0, done.err
        assert cli("diff", name, output).status == 1
        assert board.loader.flash == image.read_bytes()
        refused = cli("modify-bin", "--input", name, "--in-place", "--baud", "921600")
    assert refused.status == 2
    assert "at set" in refused.err


def test_migrate_what_a_module_holds(cli, tmp_path):
    """A device of the older layout, read from its port, into a newer release."""
    new = tmp_path / "new.bin"
    new.write_bytes(builders.image())
    old = tmp_path / "old.bin"
    old.write_bytes(builders.legacy_image())
    changed = tmp_path / "changed.bin"
    assert cli("modify-bin", "--input", old, "-o", changed, "--baud", "57600").status == 0
    with PtyBoard(Loader(flash=bytearray(changed.read_bytes()))) as board:
        name = f"port:{board.port}"
        done = cli("migrate", name, new, "-o", tmp_path / "out.bin", "--json")
        assert done.status == 0, done.err
        into = cli("migrate", changed, name, "-o", tmp_path / "into.bin", "--json")
        assert board.loader.flash == changed.read_bytes()
    assert json.loads(done.out)["old"] == name
    carried = json.loads(cli("inspect", tmp_path / "out.bin", "--json").out)
    assert carried["settings"]["uart_baudrate"] == 57600
    assert carried["layout"] == "modern"
    assert into.status == 0, into.err


def test_wrong_ports(cli):
    assert "names no port" in cli("inspect", "port:").err
    done = cli("inspect", "port:/dev/no-such-port")
    assert done.status == 3
    assert "there is no such port" in done.err

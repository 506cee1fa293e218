"""``at`` against simulated modules: what is asked for reaches their flash, whatever happens on the way."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import builders
import pytest
from at_modules import KINDS, Plug, held, impatient_host, plugs

from esp_at_tools.firmware.firmware import Firmware


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    """Where the program keeps what must outlive a run."""
    return impatient_host(tmp_path, monkeypatch)


@pytest.fixture
def plug() -> Iterator[Plug]:
    yield from plugs()


@pytest.fixture
def certificate(tmp_path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(builders.certificate())
    return path


# --- asking --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_info(cli, plug, kind):
    board = plug(kind)
    done = cli("at", "-p", board.port, "info", "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert (found["module"], found["chip"]) == ("MINI-1", "esp32c3")
    assert found["way"] == ("sysmfg" if kind == "sysmfg" else "sysflash")
    assert found["layout"] == ("legacy" if kind == "legacy" else "modern")
    assert "AT+GMR" in found["commands"]
    text = cli("at", "info", "-p", board.port)
    assert text.status == 0
    assert "115200 baud" in text.out


@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_the_module_holds(cli, plug, kind, tmp_path):
    board = plug(kind, piece=7)
    done = cli("at", "-p", board.port, "get", "--json")
    assert done.status == 0, done.err
    found, firmware = json.loads(done.out), held(board, tmp_path)
    assert found["settings"] == firmware.settings()
    assert {item["name"] for item in found["pki"]} == set(firmware.pki())
    assert found["gatts"] == firmware.gatts()


def test_one_value_and_what_is_not_there(cli, plug):
    board = plug()
    done = cli("at", "-p", board.port, "get", "uart_baudrate", "uart_tx_pin")
    assert done.out.splitlines() == ["uart_baudrate=115200", "uart_tx_pin=7"]
    done = cli("at", "-p", board.port, "get", "wss_ca.0")
    assert done.status == 2
    assert "not on the module" in done.err
    done = cli("at", "-p", board.port, "get", "nonsense")
    assert done.status == 2


# --- changing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_set_reaches_the_flash_and_nothing_else(cli, plug, kind, tmp_path, certificate):
    board = plug(kind)
    before = held(board, tmp_path)
    done = cli("at", "-p", board.port, "set", "uart_baudrate=921600", f"mqtt_ca=@{certificate}", "--json")
    assert done.status == 0, done.err
    after = held(board, tmp_path)
    assert after.get("uart_baudrate") == 921600
    assert after.get("mqtt_ca") == certificate.read_bytes()
    assert {c["name"] for c in json.loads(done.out)["changes"]} == {"uart_baudrate", "mqtt_ca"}
    assert {**after.settings(), "uart_baudrate": before.get("uart_baudrate")} == before.settings()
    assert {n: d for n, d in after.pki().items() if n != "mqtt_ca"} == {
        n: d for n, d in before.pki().items() if n != "mqtt_ca"
    }
    again = cli("at", "-p", board.port, "set", "uart_baudrate=921600", f"mqtt_ca=@{certificate}")
    assert again.status == 0
    assert again.out.count("unchanged") == 2


def test_a_written_certificate_comes_back(cli, plug, certificate, tmp_path):
    board = plug()
    assert cli("at", "-p", board.port, "set", f"mqtt_ca=@{certificate}").status == 0
    output = tmp_path / "back.pem"
    done = cli("at", "-p", board.port, "get", "mqtt_ca", "-o", output)
    assert done.status == 0, done.err
    assert output.read_bytes() == certificate.read_bytes()


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("size", [1, 1023, 1024, 1025, 2048, 8191])
def test_values_of_every_length_are_read_whole(cli, plug, tmp_path, size, strict):
    board = plug(strict=strict)
    value = bytes(range(33, 33 + 64)) * 128
    board.module.receive(f'AT+SYSMFG=2,"mqtt_ca","mqtt_ca",8,{size}\r\n'.encode())
    assert board.module.receive(value[:size]).endswith(b"OK\r\n")
    output = tmp_path / "back"
    done = cli("at", "-p", board.port, "get", "mqtt_ca", "-o", output)
    assert done.status == 0, done.err
    assert output.read_bytes() == value[:size]
    assert cli("at", "-p", board.port, "set", "sys_store=0").status == 0


def test_a_private_key_is_written_and_never_shown(cli, plug, tmp_path):
    key = tmp_path / "device.key"
    key.write_bytes(builders.key_pem())
    board = plug()
    done = cli("at", "-p", board.port, "set", f"mqtt_key=@{key}", "--force")
    assert done.status == 0, done.err
    shown = cli("at", "-p", board.port, "get")
    secret = key.read_text().splitlines()[1]
    assert secret not in done.out + done.err + shown.out + shown.err
    assert "mqtt_key=" in shown.out
    output = tmp_path / "back.key"
    assert cli("at", "-p", board.port, "get", "mqtt_key", "-o", output).status == 0
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def test_unset_removes(cli, plug, tmp_path, certificate):
    board = plug()
    assert cli("at", "-p", board.port, "set", f"mqtt_ca=@{certificate}").status == 0
    assert "mqtt_ca" in held(board, tmp_path).pki()
    done = cli("at", "-p", board.port, "set", "--unset", "mqtt_ca")
    assert done.status == 0, done.err
    assert "mqtt_ca" not in held(board, tmp_path).pki()


@pytest.mark.parametrize(
    ("asked", "status"), [("uart_baudrate=1", 2), ("uart_tx_pin=99", 2), ("country_code=QQ", 2), ("x", 2)]
)
def test_what_is_impossible_or_risky_is_not_sent(cli, plug, asked, status):
    board = plug()
    before = bytes(board.module.flash)
    done = cli("at", "-p", board.port, "set", asked)
    assert done.status == status
    assert board.module.flash == before


@pytest.mark.parametrize("kind", KINDS)
def test_gatt_rows_and_whole_tables(cli, plug, kind, tmp_path):
    board = plug(kind)
    rows = held(board, tmp_path).gatts()
    if rows:
        done = cli("at", "-p", board.port, "set", "cfg2=2,16,0xC300,0x01,1,1,31")
        assert done.status == 0, done.err
        assert held(board, tmp_path).gatts() == {**rows, "cfg2": "2,16,0xC300,0x01,1,1,31"}
    table = tmp_path / "gatts.csv"
    table.write_text("0,16,0x2800,0x01,2,2,A002\n1,16,0x2803,0x01,1,1,02\n2,16,0xC300,0x01,1,1,32\n")
    profile = tmp_path / "profile.yaml"
    profile.write_text("gatts: gatts.csv\nsettings:\n  channel_num: 12\n")
    done = cli("at", "-p", board.port, "set", "--profile", profile)
    assert done.status == 0, done.err
    firmware = held(board, tmp_path)
    assert list(firmware.gatts().values()) == table.read_text().split()
    assert firmware.get("channel_num") == 12
    assert "unchanged" in cli("at", "-p", board.port, "set", "--profile", profile).out


@pytest.mark.parametrize("kind", KINDS)
def test_a_rate_is_that_of_the_next_start(cli, plug, kind):
    """The rate of its first start is stored, and goes before the one of the factory."""
    board = plug(kind)
    done = cli("at", "-p", board.port, "set", "uart_baudrate=460800")
    assert done.status == 0, done.err
    assert "that the module had stored (AT+UART_DEF) goes before it, and is changed, too" in done.err
    assert (board.module.baud, board.module.stored) == (115200, (460800, 1))
    done = cli("at", "-p", board.port, "set", "uart_baudrate=921600", "--restart", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["restarted"] is True
    assert board.module.baud == 921600
    back = cli("at", "-p", board.port, "-b", "921600", "set", "uart_baudrate=115200", "--restart")
    assert back.status == 0, back.err
    assert board.module.baud == 115200


def test_a_rate_is_stored_even_where_the_entry_is_right(cli, plug):
    board = plug(baud=230400)
    done = cli("at", "-p", board.port, "set", "uart_baudrate=115200")
    assert done.status == 0, done.err
    assert "unchanged" in done.out
    assert board.module.stored == (115200, 1)


def test_a_module_that_has_the_new_rate_already_is_found(cli, plug):
    board = plug(baud=300)
    done = cli("at", "-p", board.port, "-b", "115200", "set", "uart_baudrate=300")
    assert done.status == 0, done.err


def test_restart_is_done_when_asked_for(cli, plug):
    board = plug()
    done = cli("at", "-p", board.port, "set", "sys_store=0", "--restart")
    assert done.status == 0, done.err
    assert board.module.restarts == 1


def test_bytes_on_the_wire_for_a_baud_rate(plug):
    from esp_at_tools.at_port.changing import change
    from esp_at_tools.at_port.contents import Running
    from esp_at_tools.at_port.finding import connect
    from esp_at_tools.firmware.request import Request

    board = plug()
    seen = []
    client = connect(board.port, trace=lambda _way, data: seen.append(data))
    change(Running.ask(client), Request(settings={"uart_baudrate": 921600}))
    used = len(b"".join(seen))
    client.wire.close()
    assert used * 30 < builders.FLASH_SIZE
    assert 100 < used < 4096


# --- whole partitions ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sysmfg", "sysflash"])
def test_push_replaces_the_partition(cli, plug, kind, tmp_path):
    changed = tmp_path / "target.bin"
    source = tmp_path / "source.bin"
    source.write_bytes(builders.image())
    assert cli("modify-bin", "--input", source, "--output", changed, "--baud", "460800").status == 0
    board = plug(kind)
    done = cli("at", "-p", board.port, "push", changed)
    assert done.status == 0, done.err
    assert board.module.flash == changed.read_bytes()
    again = cli("at", "-p", board.port, "push", changed)
    assert "holds all of it already" in again.out


def test_push_of_the_legacy_layout(cli, plug, tmp_path):
    source, changed = tmp_path / "source.bin", tmp_path / "target.bin"
    source.write_bytes(builders.legacy_image())
    assert cli("modify-bin", "--input", source, "--output", changed, "--baud", "460800").status == 0
    board = plug("legacy")
    assert cli("at", "-p", board.port, "push", changed).status == 0
    assert board.module.flash == changed.read_bytes()


def test_push_of_a_larger_partition(cli, plug, tmp_path):
    larger = tmp_path / "mfg_nvs.bin"
    larger.write_bytes(builders.generate(builders.mfg_csv(), size=2 * builders.MFG_SIZE))
    board = plug()
    assert cli("at", "-p", board.port, "push", larger).status == 0
    full = tmp_path / "full.bin"
    lines = "".join(f"more{number},data,string,{'x' * 1000}\n" for number in range(60))
    full.write_bytes(builders.generate(f"{builders.mfg_csv()}{lines}", size=2 * builders.MFG_SIZE))
    scattered = bytearray(full.read_bytes())
    assert len(bytes(scattered).rstrip(b"\xff")) < builders.MFG_SIZE
    scattered[builders.MFG_SIZE : builders.MFG_SIZE + 0x1000] = scattered[
        :0x1000
    ]  # the first page is elsewhere
    scattered[:0x1000] = b"\xff" * 0x1000
    full.write_bytes(scattered)
    done = cli("at", "-p", board.port, "push", full)
    assert done.status == 0, done.err
    firmware = held(board, tmp_path)
    assert firmware.get("module_name") == "MINI-1"
    assert len(firmware.layout.nvs.entries) == len(Firmware.open(full).layout.nvs.entries)
    too_full = tmp_path / "too_full.bin"
    lines = "".join(f"more{number},data,string,{'x' * 1000}\n" for number in range(160))
    too_full.write_bytes(builders.generate(f"{builders.mfg_csv()}{lines}", size=2 * builders.MFG_SIZE))
    before = bytes(board.module.flash)
    done = cli("at", "-p", board.port, "push", too_full)
    assert done.status == 2
    assert "too_full.bin" in done.err
    assert board.module.flash == before


def test_a_module_that_must_restart_may_have_another_rate_then(cli, plug, tmp_path):
    board = plug()
    assert cli("at", "-p", board.port, "set", "uart_baudrate=460800", "module_name=OTHER").status == 0
    source = tmp_path / "source.bin"
    source.write_bytes(builders.image())
    done = cli("at", "-p", board.port, "push", source, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["restarted"] is True
    assert board.module.baud == 460800
    assert held(board, tmp_path).get("module_name") == "MINI-1"


def test_push_entry_by_entry_where_no_partition_is_shown(cli, plug, tmp_path, certificate):
    source, changed = tmp_path / "source.bin", tmp_path / "target.bin"
    source.write_bytes(builders.image())
    assert cli("modify-bin", "--input", source, "--output", changed, "--baud", "460800").status == 0
    board = plug(hidden=("mfg_nvs",))
    assert cli("at", "-p", board.port, "set", f"mqtt_ca=@{certificate}").status == 0
    done = cli("at", "-p", board.port, "push", changed, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["written"] == ["mqtt_ca", "uart_baudrate"]
    assert "goes before 460800" in done.err
    firmware = held(board, tmp_path)
    assert (firmware.get("uart_baudrate"), firmware.get("mqtt_ca")) == (
        460800,
        Firmware.open(changed).get("mqtt_ca"),
    )
    assert "holds all of it already" in cli("at", "-p", board.port, "push", changed).out


def test_push_of_another_layout_is_refused(cli, plug, tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(builders.legacy_image())
    board = plug()
    done = cli("at", "-p", board.port, "push", source)
    assert done.status == 2
    assert "migrate" in done.err

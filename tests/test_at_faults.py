"""``at`` while things go wrong: lines, modules, ports; what is done is what was read back."""

from __future__ import annotations

import copy
import fcntl
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import builders
import pytest
import serial
from at_modules import KINDS, Plug, contents, held, impatient_host, plugs
from at_simulator import Faults

from esp_at_tools.at_port import client
from esp_at_tools.at_port.recovery import Interrupted


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    """Where the program keeps what must outlive a run."""
    return impatient_host(tmp_path, monkeypatch)


@pytest.fixture
def plug() -> Iterator[Plug]:
    yield from plugs()


@pytest.fixture
def asked(tmp_path) -> tuple[str, ...]:
    path = tmp_path / "ca.pem"
    path.write_bytes(builders.certificate())
    return ("set", "uart_baudrate=921600", f"mqtt_ca=@{path}")


@pytest.fixture
def changed(cli, tmp_path) -> Path:
    """The image of the modern modules, with another rate."""
    source, path = tmp_path / "source.bin", tmp_path / "target.bin"
    source.write_bytes(builders.image())
    assert cli("modify-bin", "--input", source, "--output", path, "--baud", "460800").status == 0
    return path


def more(noise: bytes) -> Callable[[bytes], bytes]:
    """Put bytes into a reply."""
    return lambda answer: answer[: _inside(answer)] + noise + answer[_inside(answer) :]


def less(answer: bytes) -> bytes:
    """Lose a byte of a reply."""
    return answer[: _inside(answer)] + answer[_inside(answer) + 1 :]


def _inside(answer: bytes) -> int:
    return min(len(answer) // 2, 100)


# --- the line ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sysmfg", "legacy"])
@pytest.mark.parametrize(
    ("faults", "options"),
    [
        ({"messages": [b'+STA_CONNECTED:"1"\r\n', b"WIFI DISCONNECT\r\n", b"busy\r\n"]}, {"piece": 5}),
        ({"busy": 3}, {}),
        ({"flip": 5}, {}),
        ({}, {"echo": False}),
        ({}, {"latency": 0.005}),
        ({}, {"piece": 1}),
        ({"damage": [bytes, more(b"\xf3"), bytes, more(b"\x00"), bytes, more(b"\r\n\xff"), less, less]}, {}),
    ],
    ids=["messages", "busy", "flipped", "no echo", "latency", "byte by byte", "noise"],
)
def test_a_line_as_lines_are(cli, plug, kind, faults, options, tmp_path, asked):
    board, quiet = plug(kind, faults=Faults(**copy.deepcopy(faults)), **options), plug(kind)
    done = cli("at", "-p", board.port, *asked)
    for _ in range(4):  # noise may end a run, and the next goes on
        if done.status == 0 or "damage" not in faults:
            break
        assert done.status == 3, done.err
        done = cli("at", "-p", board.port, *asked)
    assert done.status == 0, done.err
    assert cli("at", "-p", quiet.port, *asked).status == 0
    assert contents(board, tmp_path) == contents(quiet, tmp_path)


@pytest.mark.parametrize("echo", [True, False])
def test_a_late_reply_is_not_taken_for_that_of_the_next_command(cli, plug, monkeypatch, echo):
    """The reply to the first AT comes when it was asked again, and that to the second after AT+GMR."""
    monkeypatch.setattr(client, "PRESENT_TIMEOUT", 0.2)
    monkeypatch.setattr(client, "TIMEOUT", 5.0)
    board = plug(latency=0.25, echo=echo)
    done = cli("at", "-p", board.port, "get", "uart_baudrate")
    assert done.status == 0, done.err
    assert done.out == "uart_baudrate=115200\n"


def test_noise_in_an_answer_is_not_taken_for_the_answer(cli, plug):
    for before in range(12):
        board = plug(faults=Faults(damage=[bytes] * before + [more(b"7")]))
        done = cli("at", "-p", board.port, "get", "uart_baudrate", "module_name")
        assert done.status in (0, 3)
        if not done.status:
            assert done.out.splitlines() in (
                ["uart_baudrate=115200", "module_name=MINI-1"],
                ["module_name=MINI-1", "uart_baudrate=115200"],
            )


@pytest.mark.parametrize("what", [more(b"x"), less])
@pytest.mark.parametrize("kind", ["sysmfg", "legacy"])
def test_data_of_a_wrong_length_is_asked_for_again(cli, plug, kind, what, tmp_path, asked):
    board = plug(kind)
    assert cli("at", "-p", board.port, *asked).status == 0
    wanted, image = held(board, tmp_path).get("mqtt_ca"), bytes(board.module.flash)
    board.module.commands.clear()
    output = tmp_path / "back.pem"
    assert cli("at", "-p", board.port, "get", "mqtt_ca", "-o", output).status == 0
    answered = [text for text in board.module.commands if kind == "sysmfg" or "SYSMFG" not in text]
    reading = [at for at, text in enumerate(answered) if '"mqtt_ca"' in text and not text.endswith('"')]
    assert reading
    for at in reading:
        noisy = plug(kind, faults=Faults(damage=[bytes] * at + [what]))
        noisy.module.flash[:] = image
        noisy.module.restart()
        done = cli("at", "-p", noisy.port, "get", "mqtt_ca", "-o", output)
        assert done.status == 0, done.err
        assert not noisy.module.faults.damage
        assert output.read_bytes() == wanted


def test_a_legacy_partition_that_was_misread_is_not_written_back(cli, plug):
    board = plug("legacy")
    assert cli("at", "-p", board.port, "set", "channel_num=11").status == 0
    reads = [at for at, text in enumerate(board.module.commands) if text.startswith("AT+SYSFLASH=2")]
    noisy = plug(
        "legacy", faults=Faults(damage=[bytes] * reads[0] + [lambda said: said.replace(b"MINI", b"MINA")])
    )
    before = bytes(noisy.module.flash)
    done = cli("at", "-p", noisy.port, "set", "channel_num=11")
    assert done.status == 3
    assert "was read twice and was not the same; nothing was written" in done.err
    assert noisy.module.flash == before


def test_a_port_that_never_stops_talking_is_given_up(cli, plug, monkeypatch):
    monkeypatch.setattr(client, "LONGEST_REPLY", 1024)
    board = plug(faults=Faults(chatter=b"I (1234) wifi: state\n", silent_after=1))
    start = time.monotonic()
    done = cli("at", "-p", board.port, "-b", "115200", "info")
    assert done.status == 3
    assert "no AT firmware answers" in done.err
    assert time.monotonic() - start < 20


def test_flow_control(cli, plug):
    board = plug(flow=3)
    deaf = cli("at", "-p", board.port, "-b", "115200", "info")
    assert deaf.status == 3
    assert "with flow control wired, --flow" in deaf.err
    done = cli("at", "-p", board.port, "-b", "115200", "--flow", "set", "sys_store=0")
    assert done.status == 0, done.err


def test_a_module_that_falls_silent(cli, plug):
    done = cli("at", "-p", plug(faults=Faults(silent_after=60)).port, "get", "uart_baudrate")
    assert done.status == 3
    assert "no answer to" in done.err


def test_another_rate_is_found(cli, plug):
    done = cli("at", "-p", plug(baud=921600).port, "info")
    assert done.status == 0, done.err
    assert "answers at 921600" in done.err


def test_a_module_that_waits_for_data_is_caught(cli, plug):
    board = plug("legacy", echo=False)
    before = bytes(board.module.flash)
    board.module.receive(b'AT+SYSFLASH=1,"mqtt_ca",0,99999\r\n')
    done = cli("at", "-p", board.port, "-b", "115200", "info")
    assert done.status == 0, done.err
    assert "perhaps it waits for data" in done.err
    assert board.module.flash == before


def test_nobody_there(cli, plug):
    done = cli("at", "-p", plug(baud=19200).port, "-b", "9600", "info")
    assert done.status == 3
    assert "no AT firmware answers at 9600 baud" in done.err


# --- the port ------------------------------------------------------------------------------------


def test_no_such_port(cli):
    done = cli("at", "-p", "/dev/no-such-port", "info")
    assert done.status == 3
    assert "there is no such port" in done.err


def test_a_port_that_another_program_has(cli, plug):
    board = plug()
    descriptor = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        done = cli("at", "-p", board.port, "info")
    finally:
        os.close(descriptor)
    assert done.status == 3
    assert "another program has it open" in done.err


def test_a_port_that_is_none(cli, tmp_path):
    (tmp_path / "file").touch()
    for port in ("/dev/null", tmp_path / "file", tmp_path, "foo://bar"):
        done = cli("at", "-p", port, "info")
        assert (done.status, "is no serial port" in done.err) == (3, True), done.err


def test_a_port_that_goes_away(cli, plug):
    board = plug(faults=Faults(hang_up_after=60))
    done = cli("at", "-p", board.port, "get")
    assert done.status == 3
    assert "the port is gone" in done.err


def test_a_module_that_takes_no_data(cli, plug, monkeypatch):
    def stuck(*_: object) -> int:
        raise serial.SerialTimeoutException("Write timeout")

    board = plug()
    monkeypatch.setattr(serial.Serial, "write", stuck)
    done = cli("at", "-p", board.port, "--flow", "info")
    assert done.status == 3
    assert "the module takes no data" in done.err
    assert "CTS" in done.err


@pytest.mark.parametrize("rate", ["12", "0", "-5", "5000001", "fast"])
def test_a_rate_that_the_port_does_not_take(cli, plug, rate):
    done = cli("at", "-p", plug().port, "-b", rate, "info")
    assert done.status == 2
    assert "--baud" in done.err
    assert "give 80 to 5000000" in done.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_port_that_one_may_not_open(plug):
    board = plug()
    program = (
        "import os, sys, grp, serial.tools.list_ports\n"
        "from esp_at_tools.at_port.wire import Wire\n"
        "from esp_at_tools.errors import DeviceError\n"
        "import esp_at_tools.device.ports\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n    Wire(sys.argv[1], 115200)\n"
        "except DeviceError as error:\n    print(error.message, error.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, board.port], check=True, capture_output=True, text=True
    )
    assert "you may not open it" in done.stdout


@pytest.mark.parametrize("words", [["info"], ["get"], ["set", "sys_store=0"], ["set", "sys_store=7000"]])
def test_ports_are_closed_however_it_ends(cli, plug, words):
    board = plug(faults=Faults(silent_after=0 if words == ["info"] else 90))
    before = set(Path("/proc/self/fd").iterdir())
    cli("at", "-p", board.port, *words)
    assert set(Path("/proc/self/fd").iterdir()) == before


# --- resets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.8, 0.9, 0.97])
def test_after_a_reset_the_same_command_reaches_the_same_state(
    cli, plug, kind, share, tmp_path, asked, state
):
    whole = plug(kind)
    assert cli("at", "-p", whole.port, *asked).status == 0
    board = plug(kind, faults=Faults(reset_after=int(whole.module.received * share)))
    first = cli("at", "-p", board.port, *asked)
    assert first.status in (0, 3), first.err
    if first.status:
        assert "Written" not in first.out
        assert "restarted" in first.err or "no answer" in first.err
    second = cli("at", "-p", board.port, *asked)
    assert second.status == 0, second.err
    assert contents(board, tmp_path) == contents(whole, tmp_path)
    assert board.module.stored == whole.module.stored
    assert not list(state.rglob("*.bin"))


@pytest.mark.parametrize("kind", ["sysmfg", "sysflash"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_push_again_after_a_reset(cli, plug, kind, share, changed):
    whole = plug(kind)
    assert cli("at", "-p", whole.port, "push", changed).status == 0
    board = plug(kind, faults=Faults(reset_after=int(whole.module.received * share)))
    assert cli("at", "-p", board.port, "push", changed).status == 3
    assert cli("at", "-p", board.port, "push", changed).status == 0
    assert board.module.flash == changed.read_bytes()


def test_set_after_a_push_that_was_interrupted(cli, plug, changed, tmp_path, state):
    """The firmware still has the entries of before in memory; they must not be written over the new ones."""
    whole = plug()
    assert cli("at", "-p", whole.port, "push", changed).status == 0
    board = plug(faults=Faults(silent_after=int(whole.module.received * 0.6)))
    assert cli("at", "-p", board.port, "push", changed).status == 3
    board.module.faults.silent_after = 0
    done = cli("at", "-p", board.port, "-b", "115200", "set", "sys_store=0")
    assert done.status == 0, done.err
    assert "an earlier write of it was interrupted; it is complete now" in done.err
    firmware = held(board, tmp_path)
    assert (firmware.get("uart_baudrate"), firmware.get("sys_store")) == (460800, 0)
    assert not list(state.rglob("*.bin"))


def test_the_copy_of_an_interrupted_write_is_for_its_owner_only(cli, plug, state):
    whole = plug("sysflash")
    assert cli("at", "-p", whole.port, "set", "sys_store=0").status == 0
    board = plug("sysflash", faults=Faults(reset_after=int(whole.module.received * 0.9)))
    assert cli("at", "-p", board.port, "set", "sys_store=0").status == 3
    copies = list(state.rglob("mfg_nvs.*"))
    assert {copy.suffix for copy in copies} == {".bin", ".before"}
    assert {stat.S_IMODE(copy.stat().st_mode) for copy in copies} == {0o600}
    assert stat.S_IMODE(copies[0].parent.stat().st_mode) == 0o700
    done = cli("at", "-p", board.port, "set", "sys_store=0")
    assert done.status == 0
    assert "mfg_nvs: an earlier write of it was interrupted; it is complete now" in done.err


@pytest.mark.parametrize("kind", ["sysflash", "legacy"])
def test_what_was_flashed_since_is_not_undone(cli, plug, kind, tmp_path, state):
    whole = plug(kind)
    assert cli("at", "-p", whole.port, "set", "channel_num=11").status == 0
    board = plug(kind, faults=Faults(reset_after=int(whole.module.received * 0.9)))
    assert cli("at", "-p", board.port, "set", "channel_num=11").status == 3
    assert cli("at", "-p", whole.port, "set", "channel_num=12").status == 0
    board.module.flash[:] = whole.module.flash  # as if with esptool
    board.module.restart()
    done = cli("at", "-p", board.port, "set", "max_tx_power=60")
    assert done.status == 0, done.err
    assert "something else was written since" in done.err
    firmware = held(board, tmp_path)
    assert (firmware.get("channel_num"), firmware.get("max_tx_power")) == (12, 60)
    assert not list(state.rglob("*.bin"))
    (aside,) = state.rglob("*.aside")
    assert str(aside) in done.err


def test_what_an_interrupted_write_leaves():
    old, new, blank = (bytes((number,)) * 0x1000 for number in (0x55, 0x33, 0xFF))
    write = Interrupted(wanted=new * 3 + blank, before=old * 4)
    begun, junk = new[:100], b"AT\r\n" * 20
    for now in (
        old * 4,  # not begun
        blank * 2 + old * 2,  # erasing
        blank + (old[:-1] + b"\xff") + old * 2,
        blank * 4,
        new + begun.ljust(0x1000, b"\xff") + blank * 2,  # writing
        new + (begun + junk).ljust(0x1000, b"\xff") + blank * 2,  # and somebody looked for the module
        new * 3 + blank,  # reading back
    ):
        assert write.is_what_it_left(now)
    for now in (
        bytes(0x4000),
        (new[:-1] + b"\x00") + new * 2 + blank,  # complete, and something else
        new + blank + new + old,
        new + (begun + bytes(1000)).ljust(0x1000, b"\xff") + blank * 2,
    ):
        assert not write.is_what_it_left(now)


def test_nothing_is_undone_where_nothing_was_done(cli, plug, state, tmp_path):
    whole = plug("sysflash")
    assert cli("at", "-p", whole.port, "set", "channel_num=11").status == 0
    erasing = next(
        sum(len(each) + 2 for each in whole.module.commands[:number])
        for number, command in enumerate(whole.module.commands)
        if command.startswith("AT+SYSFLASH=0")
    )
    board = plug("sysflash", faults=Faults(reset_after=erasing + 3))
    assert cli("at", "-p", board.port, "set", "channel_num=11").status == 3
    assert list(state.rglob("*.bin"))
    assert cli("at", "-p", board.port, "set", "sys_store=0").status == 0
    firmware = held(board, tmp_path)
    assert (firmware.get("channel_num"), firmware.get("sys_store")) == (13, 0)
    assert not list(state.rglob("*.bin"))


# --- what a module does not take -----------------------------------------------------------------


def test_no_room_for_an_entry_and_the_partition_is_replaced(cli, plug, tmp_path, asked):
    board, other = plug(faults=Faults(refused='AT+SYSMFG=2,"mqtt_ca"')), plug()
    done = cli("at", "-p", board.port, *asked, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["restarted"] is True
    assert cli("at", "-p", other.port, *asked).status == 0
    assert contents(board, tmp_path) == contents(other, tmp_path)


def test_no_room_and_no_other_way(cli, plug, tmp_path, asked):
    board = plug(faults=Faults(refused='AT+SYSMFG=2,"mqtt_ca"'), hidden=("mfg_nvs",))
    before = held(board, tmp_path).pki()
    done = cli("at", "-p", board.port, *asked)
    assert done.status == 3
    assert "does not take mqtt_ca" in done.err
    assert "uart_baudrate is written" in done.err
    assert "Written" not in done.out
    assert held(board, tmp_path).pki() == before


def test_a_value_that_sysmfg_cannot_carry(cli, plug, tmp_path):
    big = tmp_path / "chain.pem"
    big.write_bytes(builders.certificate() * 18)
    board = plug()
    done = cli("at", "-p", board.port, "set", f"mqtt_ca=@{big}", "--force")
    assert done.status == 0, done.err
    assert held(board, tmp_path).get("mqtt_ca") == big.read_bytes()
    assert board.module.restarts == 1
    hidden = plug(hidden=("mfg_nvs",))
    before = bytes(hidden.module.flash)
    done = cli("at", "-p", hidden.port, "set", f"mqtt_ca=@{big}", "--force")
    assert done.status == 2
    assert "1 to 8191 bytes" in done.err
    assert hidden.module.flash == before


def test_a_firmware_that_gives_no_access(cli, plug):
    board = plug(sysmfg=False, sysflash=False)
    done = cli("at", "-p", board.port, "get")
    assert done.status == 3
    assert "gives no access" in done.err
    done = cli("at", "-p", board.port, "info")
    assert done.status == 0, done.err
    assert "MINI-1" in done.out
    assert "cannot be reached" in done.out


def test_damaged_lists_of_a_legacy_module(cli, plug):
    board = plug("legacy")
    place = board.module.partitions.find("mqtt_ca")
    board.module.flash[place.offset : place.offset + 64] = bytes(64)
    found = json.loads(cli("at", "-p", board.port, "get", "--json").out)
    assert found["settings"]["module_name"] == "MINI-1"
    names = {item["name"] for item in found["pki"]}
    assert "mqtt_cert" in names
    assert "mqtt_ca" not in names
    done = cli("at", "-p", board.port, "set", "uart_baudrate=921600")
    assert done.status == 0, done.err

"""``at`` against simulated modules: what is asked for reaches their flash, whatever happens on the way."""

from __future__ import annotations

import json
import os
import pty
import select
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import builders
import pytest
from at_simulator import AtModule, Faults, PtyModule, Versions

from esp_at_tools.firmware.firmware import Firmware

LEGACY = Versions(
    "2.3.0.0(e98993f - ESP32C3 - Dec 23 2021 09:03:35)", "v4.3.1", "compile time(9):Dec 24", "2.3.0(MINI-1)"
)
KINDS = {
    "sysmfg": lambda: (builders.image(), {}),
    "sysflash": lambda: (builders.image(), {"sysmfg": False}),
    "legacy": lambda: (builders.legacy_image(), {"sysmfg": False, "versions": LEGACY}),
}


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    """Where the program keeps what must outlive a run."""
    folder = tmp_path / "state"
    folder.mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture
def plug() -> Iterator[Callable[..., PtyModule]]:
    """Plug in a module: ``plug("sysmfg", faults=…)``."""
    with ExitStack() as stack:

        def make(
            kind: str = "sysmfg", *, piece: int = 0, latency: float = 0.0, **options: object
        ) -> PtyModule:
            image, given = KINDS[kind]()
            module = AtModule(bytearray(image), **{**given, **options})  # type: ignore[arg-type]
            return stack.enter_context(PtyModule(module, piece=piece, latency=latency))

        yield make


def held(module: PtyModule, folder: Path) -> Firmware:
    path = folder / f"flash-{time.monotonic_ns()}.bin"
    path.write_bytes(module.module.flash)
    return Firmware.open(path)


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


def test_restart_is_done_when_asked_for(cli, plug):
    board = plug()
    done = cli("at", "-p", board.port, "set", "sys_store=0", "--restart")
    assert done.status == 0, done.err
    assert board.module.restarts == 1


def test_bytes_on_the_wire_for_a_baud_rate(plug):
    from esp_at_tools.at_port.changing import change
    from esp_at_tools.at_port.contents import Running
    from esp_at_tools.at_port.finding import connect
    from esp_at_tools.firmware.modify import Request

    board = plug()
    client = connect(board.port)
    change(Running.ask(client), Request(settings={"uart_baudrate": 921600}))
    used = client.wire.sent + client.wire.received
    client.wire.close()
    assert used * 30 < builders.FLASH_SIZE
    assert used < 4096


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sysmfg", "legacy"])
@pytest.mark.parametrize(
    "faults",
    [
        Faults(messages=[b'+STA_CONNECTED:"1"\r\n', b"WIFI DISCONNECT\r\n", b"busy\r\n"]),
        Faults(busy=3),
        Faults(flip=5),
    ],
    ids=["messages", "busy", "flipped"],
)
def test_a_noisy_line(cli, plug, kind, faults, tmp_path, certificate):
    board = plug(kind, faults=faults, piece=5)
    done = cli("at", "-p", board.port, "set", "uart_baudrate=921600", f"mqtt_ca=@{certificate}")
    assert done.status == 0, done.err
    assert held(board, tmp_path).get("uart_baudrate") == 921600
    assert held(board, tmp_path).get("mqtt_ca") == certificate.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97])
def test_after_a_reset_the_same_command_reaches_the_same_state(
    cli, plug, kind, share, tmp_path, certificate, state
):
    asked = ("set", "uart_baudrate=921600", f"mqtt_ca=@{certificate}")
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
    reached, wanted = held(board, tmp_path), held(whole, tmp_path)
    assert (reached.settings(), reached.pki(), reached.gatts()) == (
        wanted.settings(), wanted.pki(), wanted.gatts(),
    )  # fmt: skip
    assert not list(state.rglob("*.bin"))


def test_the_copy_of_an_interrupted_write_is_for_its_owner_only(cli, plug, state):
    whole = plug("sysflash")
    assert cli("at", "-p", whole.port, "set", "sys_store=0").status == 0
    board = plug("sysflash", faults=Faults(reset_after=int(whole.module.received * 0.9)))
    assert cli("at", "-p", board.port, "set", "sys_store=0").status == 3
    (copy,) = state.rglob("mfg_nvs.bin")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    done = cli("at", "-p", board.port, "set", "sys_store=0")
    assert done.status == 0
    assert "mfg_nvs: an earlier write of it was interrupted; it is complete now" in done.err


def test_a_module_that_falls_silent(cli, plug):
    board = plug(faults=Faults(silent_after=60))
    done = cli("at", "-p", board.port, "get", "uart_baudrate")
    assert done.status == 3
    assert "no answer to" in done.err


def test_another_rate_is_found(cli, plug):
    board = plug(baud=921600)
    done = cli("at", "-p", board.port, "info")
    assert done.status == 0, done.err
    assert "answers at 921600" in done.err


def test_a_module_that_waits_for_data_is_caught(cli, plug):
    board = plug("legacy")
    before = bytes(board.module.flash)
    board.module.echo = False
    board.module.receive(b'AT+SYSFLASH=1,"mqtt_ca",0,99999\r\n')
    done = cli("at", "-p", board.port, "-b", "115200", "info")
    assert done.status == 0, done.err
    assert "perhaps it waits for data" in done.err
    assert board.module.flash == before


def test_nobody_there(cli, plug):
    board = plug(baud=19200)
    done = cli("at", "-p", board.port, "-b", "9600", "info")
    assert done.status == 3
    assert "no AT firmware answers at 9600 baud" in done.err


def test_no_such_port(cli):
    done = cli("at", "-p", "/dev/no-such-port", "info")
    assert done.status == 3
    assert "there is no such port" in done.err


def test_a_firmware_that_gives_no_access(cli, plug):
    board = plug(sysmfg=False, sysflash=False)
    done = cli("at", "-p", board.port, "get")
    assert done.status == 3
    assert "gives no access" in done.err


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


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_push_again_after_a_reset(cli, plug, tmp_path, share):
    source, changed = tmp_path / "source.bin", tmp_path / "target.bin"
    source.write_bytes(builders.image())
    assert cli("modify-bin", "--input", source, "--output", changed, "--baud", "460800").status == 0
    whole = plug("sysflash")
    assert cli("at", "-p", whole.port, "push", changed).status == 0
    board = plug("sysflash", faults=Faults(reset_after=int(whole.module.received * share)))
    assert cli("at", "-p", board.port, "push", changed).status == 3
    assert cli("at", "-p", board.port, "push", changed).status == 0
    assert board.module.flash == changed.read_bytes()


def test_push_of_another_layout_is_refused(cli, plug, tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(builders.legacy_image())
    board = plug()
    done = cli("at", "-p", board.port, "push", source)
    assert done.status == 2
    assert "migrate" in done.err


# --- by hand -------------------------------------------------------------------------------------


def test_run(cli, plug, tmp_path):
    board = plug()
    script = tmp_path / "check.txt"
    script.write_text(
        "# a check\nsend AT+GMR\nexpect /Bin version:v5/\nexpect OK\ntimeout 0.3\nsend AT\nexpect OK\n"
    )
    done = cli("at", "-p", board.port, "run", script)
    assert done.status == 0, done.err
    script.write_text("timeout 0.3\nsend AT+GMR\nexpect FAIL\n")
    done = cli("at", "-p", board.port, "run", script)
    assert done.status == 1
    assert "line 3: FAIL did not come" in done.err
    assert "Bin version" in done.err


def test_run_sends_data(cli, plug, tmp_path):
    board = plug()
    (tmp_path / "value").write_bytes(b"ab")
    script = tmp_path / "write.txt"
    script.write_text('send AT+SYSMFG=2,"test","key",8,4\nexpect >\nfile value\nhex 00 ff\nexpect OK\n')
    done = cli("at", "-p", board.port, "run", script)
    assert done.status == 0, done.err
    assert board.module.receive(b'AT+SYSMFG=1,"test","key"\r\n').endswith(b"8,4,ab\x00\xff\r\n\r\nOK\r\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no step"),
        ("sent AT\n", "line 1: 'sent' is no step"),
        ("send AT\nexpect\n", "line 2: nothing is expected"),
        ("expect /(/\n", "no regular expression"),
        ("wait long\n", "no number of seconds"),
        ("hex 0\n", "not hexadecimal"),
        ("file no-such-file\n", "no such file"),
    ],
)
def test_wrong_scripts(cli, tmp_path, text, said):
    script = tmp_path / "script.txt"
    script.write_text(text)
    done = cli("at", "-p", "/dev/no-such-port", "run", script)
    assert done.status == 2
    assert said in done.err


def run_console(port: str, keys: bytes, *options: str, home: Path) -> str:
    """Run the console in a terminal, type keys, and return what is on the screen."""
    master, slave = pty.openpty()
    environment = {**os.environ, "XDG_STATE_HOME": str(home), "TERM": "xterm"}
    program = subprocess.Popen(
        [sys.executable, "-m", "esp_at_tools", "at", "-p", port, "console", *options],
        stdin=slave, stdout=slave, stderr=slave, env=environment,
    )  # fmt: skip
    os.close(slave)
    screen = b""
    pending = [keys[:-1], keys[-1:]] if keys.endswith(b"\x04") else [keys]
    end = time.monotonic() + 20
    while program.poll() is None and time.monotonic() < end:
        ready, _, _ = select.select([master], [], [], 0.7)
        if ready:
            try:
                screen += os.read(master, 4096)
            except OSError:
                break
        elif pending:
            os.write(master, pending.pop(0))
    program.wait(timeout=10)
    os.close(master)
    return screen.decode("utf-8", "replace")


def test_console_in_a_terminal(plug, tmp_path):
    board = plug()
    log = tmp_path / "session.log"
    screen = run_console(
        board.port, b"AT+GM\t\r:hex 41 54 0d 0a\r:what\r\x04", "--log", str(log), home=tmp_path
    )
    assert "Bin version:v5.0.1.0-dev(MINI-1)" in screen  # Tab has completed the command
    assert ":what: is no word of the console" in screen
    assert "> AT+GMR\\r\\n" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert (tmp_path / "esp-at-tool" / "history").exists()


def test_console_of_a_pipe(process, plug):
    board = plug()
    done = process("at", "-p", board.port, "console", input="AT+GMR\nAT\n", stdin=None)
    assert done.status == 0, done.err
    assert "AT version:5.0.1.0" in done.out
    assert done.out.count("OK") == 2

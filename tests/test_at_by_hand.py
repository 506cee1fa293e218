"""``at run`` and ``at console`` against simulated modules."""

from __future__ import annotations

import json
import os
import pty
import select
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from at_modules import Plug, plugs


@pytest.fixture
def plug() -> Iterator[Plug]:
    yield from plugs()


def test_run(cli, plug, tmp_path):
    board = plug()
    script = tmp_path / "check.txt"
    script.write_text(
        "# a check\nsend AT+GMR\nexpect /Bin version:v5/\nexpect OK\ntimeout 0.3\nsend AT\nexpect OK\n"
    )
    done = cli("at", "-p", board.port, "run", script)
    assert done.status == 0, done.err
    assert json.loads(cli("at", "-p", board.port, "run", script, "--json").out)["steps"] == 6
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


def test_console_when_the_port_goes_away(plug, tmp_path):
    board = plug()
    master, slave = pty.openpty()
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm"}
    program = subprocess.Popen(
        [sys.executable, "-m", "esp_at_tools", "at", "-p", board.port, "console"],
        stdin=slave, stdout=slave, stderr=subprocess.PIPE, env=environment, text=True,
    )  # fmt: skip
    os.close(slave)
    assert program.stderr is not None
    while "Ctrl-D to leave" not in program.stderr.readline():
        pass
    time.sleep(0.3)  # it waits for a line now
    board.hang_up()
    assert program.wait(timeout=10) == 3
    assert "the port is gone" in program.stderr.read()
    program.stderr.close()
    os.close(master)


def test_a_wrong_line_from_a_pipe_ends_it(process, plug):
    done = process("at", "-p", plug().port, "console", input="AT\n:what\nAT+GMR\n", stdin=None)
    assert done.status == 2
    assert ":what: is no word of the console" in done.err
    assert "AT version" not in done.out

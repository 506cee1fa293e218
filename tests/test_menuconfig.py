"""``menuconfig``, driven by keys in a pseudo-terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest
from kconfig_trees import make_trees, write

from esp_at_tools.errors import ExternalToolError, InputError
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.kconfig import menuconfig
from esp_at_tools.kconfig.overlay import overlay_path, write_overlay
from esp_at_tools.kconfig.tree import find_tree

PATIENCE = 30
"""Seconds to wait for something to appear on a busy machine."""

_ESCAPE = re.compile(
    rb"\x1b(?:\[[0-9;?<>=]*[a-zA-Z]|[()][A-Z0-9]|\][^\x07\x1b]*(?:\x07|\x1b\\)|P[^\x1b]*\x1b\\|.)"
)


@pytest.fixture
def trees(tmp_path, monkeypatch):
    for name in ("IDF_PATH", "AT_EXT_MODULE_CFG", "AT_CUSTOM_COMPONENTS", "AT_RAINMAKER_SUPPORT"):
        monkeypatch.delenv(name, raising=False)
    return make_trees(tmp_path)


@pytest.fixture
def overlay(trees):
    return overlay_path(trees.project, "esp32c3", "MINI-1")


class Terminal:
    """A terminal of 100 columns in which a program runs."""

    def __init__(self, *command: object) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self._main, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=inner, stdout=inner, stderr=inner, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(inner)
        os.set_blocking(self._main, False)
        self._new = b""
        self.all = b""

    def read(self) -> str:
        """Return what has been printed since the last key, without escape sequences."""
        try:
            while part := os.read(self._main, 65536):
                self._new += part
                self.all += part
        except OSError:  # nothing more now, or the program has ended
            pass
        return _ESCAPE.sub(b"", self._new).decode("utf-8", "replace")

    def wait(self, text: str) -> None:
        """Wait until a text appears."""
        end = time.monotonic() + PATIENCE
        while text not in self.read():
            assert time.monotonic() < end, f"{text!r} did not appear, but {self.read()[-3000:]!r}"
            time.sleep(0.02)

    def press(self, keys: str, then: str = "") -> None:
        """Press keys, and wait for what shall appear."""
        time.sleep(0.3)  # what is on the screen may still be waiting for its focus
        self.read()
        self._new = b""
        os.write(self._main, keys.encode())
        if then:
            self.wait(then)

    def end(self) -> int:
        """Return the exit status when the program has ended."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < end, self.read()[-3000:]
            self.read()
            time.sleep(0.02)
        self.read()
        os.close(self._main)
        return self.process.returncode


@pytest.fixture
def start(trees):
    """Start ``menuconfig`` in a terminal, and wait for its menu."""
    pytest.importorskip("pty", reason="needs pseudo-terminals")
    running = []

    def call(*args):
        where = ("--project", trees.project, "--idf", trees.idf, "--module", "ESP32C3/MINI-1")
        terminal = Terminal(sys.executable, "-m", "esp_at_tools", "menuconfig", *where, *args)
        running.append(terminal.process)
        terminal.wait("Component config")
        return terminal

    yield call
    for process in running:
        if process.poll() is None:
            process.kill()
            process.wait()


def search(terminal, option, prompt):
    """Go to an option by its name."""
    terminal.press("/", "Search symbols")
    terminal.press(option, option)
    terminal.press("\r", prompt)


def save_and_quit(terminal):
    terminal.press("q", "Save configuration?")
    terminal.press("y")
    return terminal.end()


def test_what_differs_is_kept_and_what_is_set_back_leaves(start, cli, trees, overlay, tmp_path):
    write(overlay, "CONFIG_AT_SOCKETS=9\n")
    terminal = start()
    search(terminal, "AT_WS_COMMAND_SUPPORT", "WebSocket")
    terminal.press(" ", "[*]")
    search(terminal, "AT_SOCKETS", "(9)")
    terminal.press("\r", "Range")
    terminal.press("\x15")
    terminal.press("3", "3")
    terminal.press("\r", "(3)")
    assert save_and_quit(terminal) == 0
    said = terminal.read()
    assert "Traceback" not in said
    assert "NOTE" not in said
    for shown in ("CONFIG_AT_SOCKETS", "CONFIG_SYS_LARGE", "CONFIG_SYS_DETAIL", "1 option differs"):
        assert shown in said
    assert overlay.read_text() == (
        "# Options of ESP32C3/MINI-1 that esp-at-tool menuconfig saved; read after sdkconfig.defaults.\n"
        "CONFIG_AT_WS_COMMAND_SUPPORT=y\n"
    )
    out = tmp_path / "out"
    where = ("--project", trees.project, "--idf", trees.idf, "--module", "ESP32C3/MINI-1", "-o", out)
    assert cli("sdkconfig", "resolve", *where).status == 0
    config = Sdkconfig.from_bytes(out.read_bytes())
    assert (config.number("AT_SOCKETS"), config.is_on("SYS_LARGE")) == (3, True)


def test_quitting_without_saving_changes_nothing(start, overlay):
    write(overlay, "CONFIG_AT_SOCKETS=9\n")
    terminal = start()
    search(terminal, "AT_WS_COMMAND_SUPPORT", "WebSocket")
    terminal.press(" ", "[*]")
    terminal.press("q", "Save configuration?")
    terminal.press("n")
    assert terminal.end() == 0
    assert "Nothing was saved" in terminal.read()
    assert overlay.read_text() == "CONFIG_AT_SOCKETS=9\n"


def test_a_minimal_configuration_stays_in_the_current_folder(start, overlay, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "textual.py").write_text("raise SystemExit(9)")  # no module is looked for there
    terminal = start()
    search(terminal, "AT_WS_COMMAND_SUPPORT", "WebSocket")
    terminal.press(" ", "[*]")
    terminal.press("d", "Save minimal configuration")
    terminal.press("mine.defaults\r", "Saved minimal config")
    terminal.press("q", "Save configuration?")
    terminal.press("n")
    assert terminal.end() == 0
    assert "CONFIG_AT_WS_COMMAND_SUPPORT=y\n" in (tmp_path / "mine.defaults").read_text()
    assert not overlay.exists()


def test_the_module_is_asked_for(trees, tmp_path):
    pytest.importorskip("pty", reason="needs pseudo-terminals")
    where = ("--project", trees.project, "--idf", trees.idf)
    terminal = Terminal(
        sys.executable, "-m", "esp_at_tools", "sdkconfig", "resolve", *where, "-o", tmp_path / "out"
    )
    terminal.wait("Number")
    assert "1. PLATFORM_ESP32C3" in terminal.read()
    terminal.press("1\r", "2. TINY  (2MB, Wi-Fi)")
    terminal.press("9\r", "not in the range")
    terminal.press("2\r", "Silence mode")
    terminal.press("y\r")
    assert terminal.end() == 0
    assert "CONFIG_AT_SOCKETS=2\n" in (tmp_path / "out").read_text()
    assert "of ESP32C3/TINY" in " ".join(terminal.read().split())
    assert not (trees.project / "build").exists(), "what was answered is not kept: nothing was built"


def test_without_a_terminal(process, trees, overlay):
    result = process(
        "menuconfig", "--project", trees.project, "--idf", trees.idf, "--module", "ESP32C3/MINI-1"
    )
    assert result.status == 2
    assert "menuconfig needs a terminal" in result.err
    assert str(overlay) in result.err


def test_a_menuconfig_that_fails_is_an_external_tool(trees, overlay, tmp_path):
    write(overlay, "CONFIG_AT_SOCKETS=9\n")
    write(tmp_path / "esp_menuconfig/__init__.py", "")
    write(tmp_path / "esp_menuconfig/__main__.py", "raise SystemExit(3)\n")
    with pytest.raises(ExternalToolError, match="exit status 3"):
        edit(trees, overlay, PYTHONPATH=str(tmp_path))
    assert overlay.read_text() == "CONFIG_AT_SOCKETS=9\n"


# --- what a session leaves, with a menuconfig that only writes ----------------------------------------------


def edit(trees, overlay, **environment):
    tree = find_tree(trees.project, trees.idf, "esp32c3", environment={})
    environment = {**os.environ, **environment}
    return menuconfig.edit(tree, [trees.defaults], overlay, "ESP32C3/MINI-1", environment=environment)


@pytest.fixture
def choose(trees, overlay, tmp_path):
    """Let a user choose some lines; they take effect as they would in the menu."""
    write(tmp_path / "esp_menuconfig/__init__.py", "")
    write(
        tmp_path / "esp_menuconfig/__main__.py",
        "import os\n"
        "from esp_kconfiglib.core import Kconfig\n"
        "tree = Kconfig(os.environ['IDF_PATH'] + '/Kconfig')\n"
        "tree.load_config()\n"
        "tree.load_config(os.environ['CHOSEN'], replace=False)\n"
        "tree.write_config()\n",
    )

    def call(text):
        chosen = write(tmp_path / "chosen", text)
        return edit(trees, overlay, PYTHONPATH=str(tmp_path), CHOSEN=str(chosen))

    return call


def test_a_session_that_changes_nothing_writes_nothing(choose, overlay):
    assert not choose("CONFIG_AT_SOCKETS=3\n").saved
    assert not overlay.parent.exists()


def test_the_last_option_that_is_set_back_removes_the_file(choose, overlay):
    edited = choose("CONFIG_SYS_SPEED_FAST=y\n")
    assert edited.overlay == (("SYS_SPEED_FAST", "y"),)
    assert ("SYS_MHZ", "80", "240") in edited.changes
    assert overlay.exists()
    edited = choose("CONFIG_SYS_SPEED_SLOW=y\n")
    assert edited.overlay == ()
    assert not overlay.parent.exists()


def test_options_that_nobody_knows_stay(choose, overlay):
    write(overlay, "CONFIG_OF_A_MANAGED_COMPONENT=7\nCONFIG_AT_OLD=9\n# mine\nCONFIG_SYS_LARGE=n\n")
    edited = choose("CONFIG_SYS_ADDRESS=0x10\n")
    assert Sdkconfig.from_text(overlay.read_text()).options == {
        "AT_SOCKETS": "9",
        "OF_A_MANAGED_COMPONENT": "7",
        "SYS_ADDRESS": "0x10",
    }
    assert [each for each in edited.warnings if "OF_A_MANAGED_COMPONENT" in each]


# --- the file ----------------------------------------------------------------------------------------------


def test_where_the_overlay_stands(tmp_path):
    folder = tmp_path / "sdkconfig.overlay"
    assert overlay_path(tmp_path, "esp32c3", "MINI-1") == folder / "esp32c3-mini-1.defaults"
    assert overlay_path(tmp_path, "esp32", "A/../B c") == folder / "esp32-a_.._b_c.defaults"


def test_an_overlay_is_sorted_and_others_stay(tmp_path):
    path, other = (overlay_path(tmp_path, "esp32", name) for name in ("A", "B"))
    write_overlay(path, [("Z", "y"), ("A", '"x"')], "ESP32/A")
    write_overlay(other, [("A", "n")], "ESP32/B")
    assert path.read_text().splitlines()[1:] == ['CONFIG_A="x"', "CONFIG_Z=y"]
    write_overlay(path, [], "ESP32/A")
    write_overlay(path, [], "ESP32/A")
    assert [each.name for each in path.parent.iterdir()] == ["esp32-b.defaults"]


def test_an_overlay_that_cannot_be_written(tmp_path):
    write(tmp_path / "sdkconfig.overlay", "a file\n")
    with pytest.raises(InputError, match="cannot be written"):
        write_overlay(overlay_path(tmp_path, "esp32", "A"), [("A", "y")], "ESP32/A")

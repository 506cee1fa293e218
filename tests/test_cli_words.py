"""Options that several commands have: one spelling, one wording."""

from __future__ import annotations

import re
import sys

import builders
import click
import pytest

from esp_at_tools.cli import common
from esp_at_tools.cli.main import program


def helped(cli, *command: str) -> str:
    done = cli(*command, "--help")
    assert done.status == 0
    return " ".join(done.out.split())


@pytest.mark.parametrize(
    "command",
    [
        ("inspect",), ("modify-bin",), ("batch",), ("pki", "check"), ("partition", "show"),
        ("read-flash",), ("erase-flash",),
    ],
)  # fmt: skip
def test_the_place_of_the_table(cli, command):
    assert "Where the partition table is. [default: 0x8000]" in helped(cli, *command)


@pytest.mark.parametrize("command", [("inspect",), ("modify-bin",), ("batch",), ("pki", "check")])
def test_the_module_has_a_short_option(cli, command):
    assert "-m, --module NAME" in helped(cli, *command)


def test_the_short_option_is_the_module(cli, tmp_path):
    (tmp_path / "mfg_nvs.bin").write_bytes(builders.generate(builders.mfg_csv()))
    asked = (tmp_path / "mfg_nvs.bin", "--tx-pin", "99", "--dry-run")
    done = cli("modify-bin", "-m", "ESP32C3/MINI-1", "--input", *asked)
    assert "ESP32-C3 has no GPIO 99" in done.err
    assert "-m, --module" not in done.err


def test_several_ports_are_not_promised_at_once(cli):
    assert "may be repeated for several" in helped(cli, "erase-flash")
    assert "side by side" not in helped(cli, "erase-flash")


def test_how_many_at_a_time(cli):
    assert "How many at a time." in helped(cli, "batch")
    assert "How many at a time." in helped(cli, "build")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("erase-flash", "-b", "fast"), "give 80 to 5000000, such as 115200"),
        (("pki", "generate", "x", "--days", "?"), "give 1 to 36500"),
        (("build", "-j", "0"), "--jobs 0: is no number of processes\n  give 1 to 256"),
        (("build", "-j", "1.5"), "--jobs: '1.5' is not a number\n  give 1 to 256"),
        (("batch", "-j", "1K"), "--jobs 1K: is no number of processes\n  give 1 to 256"),
        (("at", "--baud", "0", "info"), "--baud 0: is no rate of a serial port\n  give 80 to 5000000"),
        (("at", "info", "-b", "x"), "--baud: 'x' is not a number\n  give 80 to 5000000"),
        (("flash", "-b", "79"), "--baud 79: is no rate"),
        (("nvs", "generate", "x", "y", "4G"), "SIZE: '4G' is not a number"),
    ],
)
def test_numbers_that_are_no_sizes(cli, arguments, hint):
    done = cli(*arguments)
    assert done.status == 2
    assert hint in done.err


def test_a_narrow_terminal_breaks_between_words(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    text = f"{'word ' * 20}/a/path/that-is/{'long' * 20} end"
    common.Output().warn(text)
    assert capsys.readouterr().err == f"warning: {text}\n"
    monkeypatch.setattr(common, "is_terminal", lambda _stream: True)
    common.Output().warn(text)
    lines = capsys.readouterr().err.splitlines()
    assert " ".join(line.strip() for line in lines) == f"warning: {text}"
    assert all(len(line) <= 60 or " " not in line.strip() for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])
    assert common.wrapped("short\n  as it  is", sys.stdout) == "short\n  as it  is"


def test_tables_end_where_their_text_ends(cli, tmp_path):
    (tmp_path / "x.bin").write_bytes(builders.generate(builders.mfg_csv()))
    for command in (("nvs", "dump", tmp_path / "x.bin"), ("fetch", "--list")):
        done = cli(*command)
        assert done.status == 0
        lines = done.out.splitlines()
        assert len(lines) > 5
        assert [line for line in lines if line != line.rstrip()] == []


def every_option(command=program, path=()):
    """Yield each option of each command with the words that call it."""
    context = click.Context(command)
    for option in command.params:
        if isinstance(option, click.Option):
            yield " ".join((*path, max(option.opts, key=len))), option
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        yield from every_option(command.get_command(context, name), (*path, name))


def test_help_says_what_may_be_repeated_and_where_a_table_is_looked_for():
    options = dict(every_option())
    assert len(options) > 300
    repeated = {name: option.help for name, option in options.items() if option.multiple}
    once = ("VALUE", "ROW", "FILE")  # at.py's own, which must not be given with two values
    silent = [
        name
        for name, text in repeated.items()
        if not re.search("repeated|[Ss]everal|one for each|all of them", text or "")
        and not (name.startswith("modify-bin") and options[name].metavar in once)
    ]
    assert silent == []
    table = {option.help for name, option in options.items() if name.endswith("--partition-table-offset")}
    assert all(text.endswith("[default: 0x8000]") for text in table)

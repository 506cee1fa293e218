"""Options of the sdkconfig that esp-at does not have."""

from __future__ import annotations

import pytest

from esp_at_tools.catalog.at_options import at_options, unknown_at_option
from esp_at_tools.catalog.module_checks import check_definitions
from esp_at_tools.catalog.modules import modules


def test_all_options_of_the_definitions_are_known():
    used = {name for module in modules() for name in module.options if name.startswith("AT_")}
    assert len(used) > 20
    assert used <= at_options()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("AT_WS_COMAND_SUPPORT", "did you mean CONFIG_AT_WS_COMMAND_SUPPORT?"),
        ("AT_NONSENSE", ""),
    ],
)
def test_one_that_is_not_is_told(name, near):
    message, hint = unknown_at_option(name)
    assert message.startswith(f"CONFIG_{name}: esp-at has no option")
    assert near in hint


@pytest.mark.parametrize("name", ["AT_WS_COMMAND_SUPPORT", "LWIP_NONSENSE", "BT_NONSENSE"])
def test_others_are_not(name):
    assert unknown_at_option(name) is None


@pytest.mark.parametrize("option", ["CONFIG_AT_NONSENSE", "CONFIG_AT_WS_COMAND_SUPPORT"])
def test_it_is_told_where_it_is_set(cli, tmp_path, option):
    told = f"warning: {option}: esp-at has no option of that name"
    args = ("--set", f"{option}=n", "--dir", tmp_path / "mine")
    added = cli("modules", "add", "MY", "--from", "ESP32C3/MINI-1", *args)
    assert added.status == 0
    assert told in added.err
    checked = cli("modules", "check", "--dir", tmp_path / "mine")
    assert checked.status == 0
    assert f"{option}: esp-at has no option" in checked.out
    built = cli("build", "-m", "ESP32C3/MINI-1", "--set", f"{option}=n", "-o", tmp_path / "out")
    assert built.status == 0
    assert told in built.err


def test_the_definitions_of_the_program_have_none():
    assert [each for each in check_definitions().problems if "no option" in each.message] == []

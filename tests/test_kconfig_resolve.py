"""Resolving an sdkconfig over a small ESP-IDF and a small esp-at checkout."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kconfig_trees import make_trees, write

from esp_at_tools.errors import ExternalToolError, FormatError, InputError
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.kconfig import library
from esp_at_tools.kconfig.library import ask, kconfig_environment
from esp_at_tools.kconfig.resolve import resolve, resolve_all
from esp_at_tools.kconfig.tree import find_tree


@pytest.fixture(scope="module")
def common(tmp_path_factory):
    """Trees that no test changes."""
    return make_trees(tmp_path_factory.mktemp("trees"))


@pytest.fixture
def trees(tmp_path):
    return make_trees(tmp_path)


def run(trees, *defaults, overlay=None, chip="esp32c3", **environment):
    environment = {**os.environ, **environment}
    tree = find_tree(trees.project, trees.idf, chip, environment=environment)
    return resolve(tree, defaults or [trees.defaults], overlay, environment=environment)


def test_defaults_of_kconfig_and_of_the_module_make_the_whole(common):
    resolved = run(common)
    config = resolved.config
    assert resolved.text.startswith(
        "#\n# Automatically generated file. DO NOT EDIT.\n"
        "# Espressif IoT Development Framework (ESP-IDF) 5.4.9 Project Configuration\n#\n"
    )
    assert config.number("AT_SOCKETS") == 3
    assert config.number("SYS_STACK") == 2048, "the old name of the module's defaults is translated"
    assert config.number("SYS_ADDRESS") == 0x8000
    assert config.string("IDF_TARGET") == "esp32c3"
    assert config.string("IDF_INIT_VERSION") == "5.4.9"
    assert config.string("AT_TABLE") == "at.csv"
    assert config.is_on("SOC_ESP32C3")
    assert config.get("SYS_C3") == config.get("BOOT_EXTRA") == "n"
    assert config.deprecated == {
        "AT_OLD": "3",
        "ESP32C3_NAME": '"small"',
        "OLD_STACK": "2048",
        "TINY_SYSTEM": "y",
    }
    assert resolved.warnings == ()
    assert [note for note in resolved.notes if "CONFIG_OLD_STACK was replaced with CONFIG_SYS_STACK" in note]


def test_the_bytes_are_those_of_kconfgen(common, tmp_path):
    more = write(
        tmp_path / "more",
        'CONFIG_SYS_LARGE=y\nCONFIG_SYS_DETAIL=\nCONFIG_SYS_SPEED_FAST=y\nCONFIG_SYS_NAME="a\\"b # c"\n'
        "CONFIG_SYS_ADDRESS=0x10\n# CONFIG_AT_ENABLE is not set\nCONFIG_UNKNOWN=1\n",
    )
    tree = find_tree(common.project, common.idf, "esp32c3", environment={})
    with kconfig_environment(tree, os.environ) as (folder, variables):
        out = folder / "out"
        arguments = [f"--defaults={path}" for path in (common.defaults, more)]
        renames = ";".join(str(path) for path in tree.renames[1:])
        subprocess.run(
            [
                *(sys.executable, "-m", "kconfgen", "--list-separator=semicolon", f"--kconfig={tree.root}"),
                *(f"--sdkconfig-rename={tree.renames[0]}", *arguments, "--output", "config", str(out)),
            ],
            check=True,
            capture_output=True,
            env={**variables, "COMPONENT_SDKCONFIG_RENAMES": renames},
            cwd=folder,
        )
        expected = out.read_text(encoding="utf-8")
    assert run(common, common.defaults, more).text == expected


def test_layers_in_their_order(trees, tmp_path):
    write(
        trees.defaults.with_name("sdkconfig.defaults.esp32c3"), "CONFIG_AT_SOCKETS=4\nCONFIG_SYS_STACK=600\n"
    )
    write(trees.defaults.with_name("sdkconfig.defaults.esp32c6"), "CONFIG_AT_SOCKETS=9\n")
    external = write(tmp_path / "sdkconfig.defaults", 'CONFIG_SYS_STACK=700\nCONFIG_SYS_NAME="external"\n')
    overlay = write(tmp_path / "overlay", '\ufeffCONFIG_SYS_NAME="mine"\r\n')
    config = run(trees, trees.defaults, external, overlay=overlay).config
    assert config.number("AT_SOCKETS") == 4, "the file for the chip follows its sdkconfig.defaults"
    assert config.number("SYS_STACK") == 700
    assert config.string("SYS_NAME") == "mine"
    assert run(trees, overlay=tmp_path / "absent").config.number("AT_SOCKETS") == 4


def test_several_in_one_go_are_as_each_alone(common, tmp_path):
    jobs = [
        [common.defaults],
        [write(tmp_path / "a", "CONFIG_AT_WS_COMMAND_SUPPORT=y\nCONFIG_SYS_SPEED_FAST=y\nCONFIG_BAD=1\n")],
        [write(tmp_path / "b", "# CONFIG_AT_ENABLE is not set\nCONFIG_SYS_STACK=99999\n")],
        [common.defaults],
        [],
    ]
    tree = find_tree(common.project, common.idf, "esp32c3", environment={})
    together = resolve_all(tree, jobs)
    for number in (0, 2):
        assert together[number] == resolve_all(tree, [jobs[number]])[0]
    assert together[0] == together[3]
    assert together[1].config.number("SYS_STACK") == 4096, "selected SYS_LARGE gives another default"
    assert together[1].config.number("SYS_MHZ") == 240
    assert together[4].config.number("AT_SOCKETS") == 5


def test_chips_have_their_own_files(trees):
    write(trees.idf / "components/system/Kconfig.esp32c6", 'config SYS_C6\n    bool "Only on the C6"\n')
    config = run(trees, chip="esp32c6").config
    assert config.get("SYS_C3") is None
    assert config.get("SYS_C6") == "n"
    assert config.is_on("SOC_ESP32C6")


def test_components_of_the_user_add_options(trees):
    trees.component(trees.project / "more/a", 'config MORE_A\n    bool "More"\n    default y\n')
    trees.component(trees.project / "managed_components/mdns", 'config MDNS\n    int "mDNS"\n    default 7\n')
    config = run(trees, AT_CUSTOM_COMPONENTS="more").config
    assert config.is_on("MORE_A")
    assert config.number("MDNS") == 7
    assert run(trees).config.get("MORE_A") is None


def test_unknown_options_are_one_warning_per_file_with_the_nearest_name(common, tmp_path):
    first = write(
        tmp_path / "first", "CONFIG_AT_SOCKET=3\nCONFIG_QQQ=1\n# CONFIG_AT_WS_COMAND_SUPPORT is not set\n"
    )
    second = write(tmp_path / "second", "CONFIG_SYS_STAK=3\n")
    sockets = "CONFIG_AT_SOCKET (nearest: CONFIG_AT_SOCKETS)"
    websocket = "CONFIG_AT_WS_COMAND_SUPPORT (nearest: CONFIG_AT_WS_COMMAND_SUPPORT)"
    assert run(common, first, second).warnings == (
        f"{first}: no Kconfig file has {sockets}, CONFIG_QQQ, {websocket}",
        f"{second}: no Kconfig file has CONFIG_SYS_STAK (nearest: CONFIG_SYS_STACK)",
    )


def test_values_that_kconfig_refuses_are_warnings(common, tmp_path):
    bad = write(
        tmp_path / "bad",
        "CONFIG_SYS_STACK=99999\nCONFIG_SYS_LARGE=7\nCONFIG_SYS_NAME=7\nCONFIG_AT_SOCKETS=y\n",
    )
    resolved = run(common, bad)
    said = "\n".join(resolved.warnings)
    for expected in ("99999 on the int symbol SYS_STACK", f"{bad}:2: '7' is not a valid value", "SYS_NAME",
                     "'y' is invalid for AT_SOCKETS"):  # fmt: skip
        assert expected in said
    assert resolved.config.number("SYS_STACK") == 1024
    assert len(resolved.warnings) == 4


def test_options_of_an_overlay_without_effect_are_named(common, tmp_path):
    overlay = write(
        tmp_path / "overlay",
        "CONFIG_SYS_MHZ=1\nCONFIG_SYS_DETAIL=y\nCONFIG_SYS_SPEED_SLOW=n\nCONFIG_SYS_ADDRESS=32768\n"
        "CONFIG_AT_SOCKETS=7\nCONFIG_AT_OLD=8\nCONFIG_QQQ=1\n",
    )
    warnings = run(common, overlay=overlay).warnings
    assert f"{overlay}: CONFIG_SYS_MHZ=1 has no effect: it is 80" in warnings
    assert (
        f"{overlay}: CONFIG_SYS_DETAIL=y has no effect: it is absent: an option that it depends on is off"
        in (warnings)
    )
    assert f"{overlay}: CONFIG_AT_SOCKETS=7 has no effect: it is 8" in warnings
    assert not [each for each in warnings if "SYS_ADDRESS" in each and "no effect" in each]
    assert len([each for each in warnings if "QQQ" in each]) == 1


def test_the_environment_of_kconfig_does_not_leak_in_or_out(common):
    before = dict(os.environ)
    usual = run(common)
    odd = run(
        common,
        CONFIG_="X_",
        srctree="/nowhere",
        KCONFIG_CONFIG_HEADER="x",
        KCONFIG_DEFAULTS_POLICY="interactive",
        KCONFIG_REPORT_VERBOSITY="verbose",
        IDF_TARGET="esp32",
        IDF_VERSION="9",
        IDF_PATH="/nowhere",
    )
    assert odd == usual
    assert dict(os.environ) == before


def test_nothing_is_printed(common, capfd):
    run(common)
    assert capfd.readouterr() == ("", "")


def test_a_module_in_the_current_folder_is_not_imported(common, tmp_path, monkeypatch):
    write(tmp_path / "json.py", "raise SystemExit(7)\n")
    monkeypatch.chdir(tmp_path)
    assert run(common).config.number("AT_SOCKETS") == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("config X\n    nonsense\n", "main/Kconfig"),
        ('menu "open"\nconfig X\n    bool\n', "Kconfig"),
        ('source "nowhere/Kconfig"\n', "nowhere/Kconfig"),
        ("config A\n    bool\n    default y if B\nconfig B\n    bool\n    default y if A\n", "A"),
        ('rsource "Kconfig"\n', "Kconfig"),
    ],
)
def test_a_broken_kconfig_is_one_message(trees, text, said):
    write(trees.project / "main/Kconfig", text)
    with pytest.raises(InputError) as caught:
        run(trees)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert "Traceback" not in caught.value.message
    assert caught.value.hint


def test_a_kconfig_that_is_not_text(trees):
    (trees.project / "main/Kconfig").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"main/Kconfig|utf-8"):
        run(trees)


def test_a_broken_rename_file_is_one_message(trees):
    write(trees.project / "main/sdkconfig.rename", "CONFIG_A\n")
    with pytest.raises(InputError, match=r"main/sdkconfig.rename \(line 1\)"):
        run(trees)


def test_defaults_that_cannot_be_read(common, tmp_path):
    with pytest.raises(InputError, match="absent: no such file"):
        run(common, tmp_path / "absent")
    with pytest.raises(InputError, match="is no regular file"):
        run(common, tmp_path)
    bad = write(tmp_path / "bad", "CONFIG_A=y\nhello\n")
    with pytest.raises(FormatError, match=r"bad, line 2: cannot be read: 'hello'"):
        run(common, bad)
    with pytest.raises(FormatError, match=r"bad, line 2"):
        run(common, overlay=bad)


def test_a_library_that_fails_is_an_external_tool(common, tmp_path):
    write(tmp_path / "esp_kconfiglib/__init__.py", "raise ImportError('too old')\n")
    with pytest.raises(ExternalToolError, match="too old"):
        run(common, PYTHONPATH=str(tmp_path))


def test_a_kconfig_that_waits(trees, monkeypatch):
    monkeypatch.setattr(library, "TIMEOUT", 1.5)
    write(trees.project / "main/Kconfig", "x := $(shell,sleep 60)\nconfig X\n    bool\n    default y\n")
    with pytest.raises((ExternalToolError, InputError)):  # parsers from 2 on know no shell
        run(trees)


# --- the smallest overlay ----------------------------------------------------------------------------------


def smallest(trees, wanted):
    tree = find_tree(trees.project, trees.idf, "esp32c3", environment={})
    job = [[str(trees.defaults), trees.defaults.read_text()]]
    return dict(ask(tree, {"jobs": [job], "wanted": wanted}, os.environ)["overlay"])


@pytest.mark.parametrize(
    ("chosen", "kept"),
    [
        ({}, {}),
        ({"AT_SOCKETS": "3"}, {}),
        ({"AT_SOCKETS": "9"}, {"AT_SOCKETS": "9"}),
        ({"AT_WS_COMMAND_SUPPORT": "y"}, {"AT_WS_COMMAND_SUPPORT": "y"}),
        (
            {"AT_WS_COMMAND_SUPPORT": "y", "SYS_DETAIL": "n"},
            {"AT_WS_COMMAND_SUPPORT": "y", "SYS_DETAIL": "n"},
        ),
        ({"SYS_SPEED_FAST": "y"}, {"SYS_SPEED_FAST": "y"}),
        ({"SYS_SPEED_FAST": "y", "SYS_SPEED_SLOW": "n", "SYS_MHZ": "240"}, {"SYS_SPEED_FAST": "y"}),
        ({"AT_ENABLE": "n"}, {"AT_ENABLE": "n"}),
        ({"SYS_NAME": '"a\\"b"', "SYS_ADDRESS": "0x10"}, {"SYS_NAME": '"a\\"b"', "SYS_ADDRESS": "0x10"}),
    ],
)
def test_only_what_was_chosen_is_in_the_smallest_overlay(common, tmp_path, chosen, kept):
    overlay = write(tmp_path / "chosen", Sdkconfig(chosen).to_text())
    assert smallest(common, run(common, overlay=overlay).text) == kept


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "AT_ENABLE": st.sampled_from("yn"),
            "AT_WS_COMMAND_SUPPORT": st.sampled_from("yn"),
            "AT_SOCKETS": st.integers(1, 16).map(str),
            "SYS_LARGE": st.sampled_from("yn"),
            "SYS_DETAIL": st.sampled_from("yn"),
            "SYS_STACK": st.integers(512, 8192).map(str),
            "SYS_SPEED_FAST": st.sampled_from("yn"),
        },
    )
)
def test_the_smallest_overlay_leads_to_the_same_options(common, tmp_path, chosen):
    wanted = run(common, overlay=write(tmp_path / "chosen", Sdkconfig(chosen).to_text()))
    kept = smallest(common, wanted.text)
    tree = find_tree(common.project, common.idf, "esp32c3", environment={})
    less = [{other: kept[other] for other in kept if other != name} for name in kept]
    jobs = [
        [common.defaults, write(tmp_path / f"overlay{number}", Sdkconfig(overlay).to_text())]
        for number, overlay in enumerate([kept, *less])
    ]
    again, *fewer = (each.config.options for each in resolve_all(tree, jobs))
    assert again == wanted.config.options
    assert wanted.config.options not in fewer
    assert kept.items() <= chosen.items()

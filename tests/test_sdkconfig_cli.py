"""``sdkconfig resolve`` and ``sdkconfig diff``."""

from __future__ import annotations

import json

import pytest
from kconfig_trees import make_trees, write

from esp_at_tools.formats.sdkconfig import Sdkconfig


@pytest.fixture
def trees(tmp_path, monkeypatch):
    for name in ("IDF_PATH", "AT_EXT_MODULE_CFG", "AT_CUSTOM_COMPONENTS", "AT_RAINMAKER_SUPPORT"):
        monkeypatch.delenv(name, raising=False)
    return make_trees(tmp_path)


@pytest.fixture
def resolve(cli, trees, tmp_path):
    """Run ``sdkconfig resolve`` with what it needs; give the result and the options that were written."""

    def call(*args, idf=True, module="ESP32C3/MINI-1"):
        output = tmp_path / "out"
        where = ["--idf", trees.idf] if idf else []
        result = cli(
            "sdkconfig",
            "resolve",
            "--project",
            trees.project,
            *where,
            "--module",
            module,
            "-o",
            output,
            *args,
        )
        return result, Sdkconfig.from_bytes(output.read_bytes()).options if output.exists() else None

    return call


def test_resolve_writes_the_whole_sdkconfig(resolve, trees, tmp_path):
    result, options = resolve()
    assert result.status == 0
    assert options["AT_SOCKETS"] == "3"
    assert options["SYS_STACK"] == "2048"
    assert result.out.split() == (
        f"{tmp_path / 'out'}: {len(options)} options of ESP32C3/MINI-1, from ESP-IDF 5.4.9".split()
    )
    assert result.err == ""
    assert not (trees.project / "sdkconfig.overlay").exists()


def test_resolve_json(resolve, trees, tmp_path):
    write(trees.defaults, "CONFIG_AT_SOCKET=3\n")
    result, options = resolve("--json")
    document = json.loads(result.out)
    warning = f"{trees.defaults}: no Kconfig file has CONFIG_AT_SOCKET (nearest: CONFIG_AT_SOCKETS)"
    assert document == {
        "schema": 1,
        "module": "ESP32C3/MINI-1",
        "chip": "esp32c3",
        "idf": str(trees.idf),
        "idf_version": "5.4.9",
        "files": [str(trees.defaults)],
        "overlay": None,
        "output": str(tmp_path / "out"),
        "options": len(options),
        "warnings": [warning],
        "notes": [],
    }
    assert result.err == f"warning: {warning}\n"


def test_silence_external_module_and_overlay(resolve, trees, tmp_path, monkeypatch):
    assert resolve("--silence")[1]["AT_SOCKETS"] == "2"
    write(tmp_path / "external/sdkconfig.defaults", "CONFIG_AT_SOCKETS=11\nCONFIG_SYS_STACK=700\n")
    monkeypatch.setenv("AT_EXT_MODULE_CFG", str(tmp_path / "external"))
    options = resolve()[1]
    assert (options["AT_SOCKETS"], options["SYS_STACK"]) == ("11", "700")
    overlay = write(trees.project / "sdkconfig.overlay/esp32c3-mini-1.defaults", "CONFIG_SYS_STACK=800\n")
    result, options = resolve()
    assert (options["AT_SOCKETS"], options["SYS_STACK"]) == ("11", "800")
    assert str(overlay) in result.out
    assert json.loads(resolve("--json")[0].out)["overlay"] == str(overlay)
    assert resolve(module="esp32c3/tiny")[1]["SYS_STACK"] == "700", "another module has another overlay"


def test_an_external_module_that_is_given(resolve, tmp_path, monkeypatch):
    write(tmp_path / "external/sdkconfig.defaults", "CONFIG_AT_SOCKETS=11\n")
    monkeypatch.setenv("AT_EXT_MODULE_CFG", str(tmp_path / "nowhere"))
    assert resolve("--dir", tmp_path / "external")[1]["AT_SOCKETS"] == "11"


def test_the_module_that_the_checkout_was_built_for(cli, trees, tmp_path):
    def call(*args):
        output = tmp_path / "out"
        output.unlink(missing_ok=True)
        done = cli(
            "sdkconfig", "resolve", "--project", trees.project, "--idf", trees.idf, "-o", output, *args
        )
        return done, Sdkconfig.from_bytes(output.read_bytes()).options if output.exists() else None

    result, options = call()
    assert (result.status, options) == (2, None)
    assert "--module is missing" in result.err
    assert "it is one of ESP32C3/MINI-1, ESP32C3/TINY" in result.err
    info = {"platform": "PLATFORM_ESP32C3", "module": "TINY", "description": "", "silence": 1}
    place = write(trees.project / "build/module_info.json", json.dumps(info))
    result, options = call()
    assert "of ESP32C3/TINY" in " ".join(result.out.split())
    assert options["AT_SOCKETS"] == "2", "the silent variant"
    assert call("--module", "MINI-1")[1]["AT_SOCKETS"] == "3", "what is named counts, and its variant"
    write(place, json.dumps({**info, "module": "GONE"}))
    result, options = call()
    assert (result.status, options) == (2, None)
    assert "is no module of this checkout" in result.err


def test_where_esp_idf_is_looked_for(resolve, trees, monkeypatch, tmp_path):
    result, options = resolve(idf=False)
    assert (result.status, options) == (2, None)
    assert "esp-idf: no such folder" in result.err
    assert "--idf DIR or IDF_PATH" in result.err
    monkeypatch.setenv("IDF_PATH", str(trees.idf))
    assert resolve(idf=False)[0].status == 0
    monkeypatch.setenv("IDF_PATH", str(tmp_path / "nowhere"))
    assert "nowhere: no such folder" in resolve(idf=False)[0].err
    (trees.project / "esp-idf").symlink_to(trees.idf)
    result, _ = resolve("--json", idf=False)
    assert json.loads(result.out)["idf"] == str(trees.project / "esp-idf")


def test_an_esp_idf_of_another_series_is_warned_of(resolve, trees):
    place = trees.defaults.with_name("IDF_VERSION")
    write(place, place.read_text().replace("v5.4", "v5.1"))
    result, _ = resolve()
    assert result.status == 0
    assert f"{trees.idf} is ESP-IDF 5.4.9, and ESP32C3/MINI-1 is built with release/v5.1" in result.err
    write(place, place.read_text().replace("release/v5.1", "my-branch"))
    assert resolve()[0].err == ""
    place.unlink()
    assert resolve()[0].status == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"module": "ESP32C3/MINI"}, "did you mean ESP32C3/MINI-1"),
        ({"module": "nonsense"}, "is not the name of a module"),
    ],
)
def test_resolve_of_what_is_not_there(resolve, change, said):
    result, options = resolve(**change)
    assert (result.status, options) == (2, None)
    assert said in result.err


def test_a_broken_kconfig_leaves_the_output_alone(resolve, trees, tmp_path):
    write(tmp_path / "out", "CONFIG_MINE=y\n")
    write(trees.project / "main/Kconfig", "config X\n    nonsense\n")
    result, options = resolve()
    assert result.status == 2
    assert options == {"MINE": "y"}
    assert "main/Kconfig" in result.err
    assert len(result.err.splitlines()) == 2


def test_notes_are_for_those_who_ask(resolve):
    assert "was replaced with" not in resolve()[0].err
    assert "CONFIG_OLD_STACK was replaced with CONFIG_SYS_STACK" in resolve("-v")[0].err


# --- diff --------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path):
    a = write(tmp_path / "a", 'CONFIG_SAME=y\nCONFIG_LEVEL=1\nCONFIG_NAME="x"\nCONFIG_ONLY_A=y\n')
    b = write(
        tmp_path / "b", 'CONFIG_SAME=y\nCONFIG_LEVEL=2\nCONFIG_NAME="\x1b[31m"\n# CONFIG_ONLY_B is not set\n'
    )
    return a, b


def test_diff(cli, two):
    result = cli("sdkconfig", "diff", *two)
    assert result.status == 1
    assert result.out.splitlines() == [
        "CONFIG_LEVEL  1 → 2",
        'CONFIG_NAME  "x" → "\\x1b[31m"',
        "CONFIG_ONLY_A  y → absent",
        "CONFIG_ONLY_B  absent → n",
    ]
    assert cli("sdkconfig", "diff", *two, "-q").out == ""


def test_diff_of_what_both_name(cli, two):
    result = cli("sdkconfig", "diff", "--common", *two)
    assert [line.split()[0] for line in result.out.splitlines()] == ["CONFIG_LEVEL", "CONFIG_NAME"]
    write(two[1], "CONFIG_SAME=y\nCONFIG_OTHER=y\n")
    assert cli("sdkconfig", "diff", "--common", *two).status == 0


def test_diff_json(cli, two):
    a, b = two
    document = json.loads(cli("sdkconfig", "diff", a, b, "--json").out)
    assert document["equal"] is False
    assert document["differences"][0] == {"name": "LEVEL", "a": "1", "b": "2"}
    assert document["differences"][2] == {"name": "ONLY_A", "a": "y", "b": None}
    same = cli("sdkconfig", "diff", a, a, "--json")
    assert (same.status, json.loads(same.out)["differences"]) == (0, [])


def test_diff_of_the_same(cli, two):
    result = cli("sdkconfig", "diff", two[0], two[0])
    assert result.status == 0
    assert result.out.startswith("No option differs")


def test_diff_of_folders(cli, two, tmp_path):
    a, b = two
    write(tmp_path / "release/sdkconfig", a.read_text())
    write(tmp_path / "release/sdkconfig.defaults", b.read_text())
    write(tmp_path / "built/sdkconfig.defaults", b.read_text())
    assert cli("sdkconfig", "diff", tmp_path / "release", a).status == 0
    assert cli("sdkconfig", "diff", tmp_path / "built", b).status == 0
    (tmp_path / "empty").mkdir()
    result = cli("sdkconfig", "diff", tmp_path / "empty", a)
    assert result.status == 2
    assert "holds no sdkconfig" in result.err


def test_diff_of_what_cannot_be_read(cli, two, tmp_path):
    write(tmp_path / "bad", "CONFIG_A=y\nnonsense\n")
    result = cli("sdkconfig", "diff", two[0], tmp_path / "bad")
    assert result.status == 2
    assert "bad, line 2" in result.err
    assert cli("sdkconfig", "diff", two[0], tmp_path / "absent").status == 2

"""OTA tokens: from the environment into esp-at's header while a build runs, and nowhere else."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from esp_at_tools.errors import InputError
from esp_at_tools.workspace.ota_tokens import (
    HEADER,
    TABLE,
    OtaTokens,
    apply,
    find_tokens,
    holds_tokens,
    remove_tokens,
    variables_of,
    with_tokens,
)

C_TABLE = """\
static const module_t s_modules[] = {
#if defined(CONFIG_IDF_TARGET_ESP32)
    {"WROOM-32",   CONFIG_ESP_AT_OTA_TOKEN_WROOM32,  CONFIG_ESP_AT_OTA_SSL_TOKEN_WROOM32 },   // default
    {"MINI-1",     CONFIG_ESP_AT_OTA_TOKEN_ESP32_MINI_1, CONFIG_ESP_AT_OTA_SSL_TOKEN_ESP32_MINI_1},
    {"ESP32-D2WD", NULL,  NULL },
#endif
#if defined(CONFIG_IDF_TARGET_ESP32C3)
    {"MINI-1",     CONFIG_ESP_AT_OTA_TOKEN_ESP32C3_MINI, CONFIG_ESP_AT_OTA_SSL_TOKEN_ESP32C3_MINI },
#elif defined(CONFIG_IDF_TARGET_ESP32C2)
    {"ESP32C2-2MB", CONFIG_ESP_AT_OTA_TOKEN_ESP32C2_2MB, CONFIG_ESP_AT_OTA_SSL_TOKEN_ESP32C2_2MB},
#endif
    {"NOWHERE", CONFIG_ESP_AT_OTA_TOKEN_NOWHERE, NULL},
};
"""
NAMES = ("WROOM32", "ESP32_MINI_1", "ESP32C3_MINI", "ESP32C2_2MB")
C_HEADER = "#pragma once\n#define CONFIG_ESP_AT_OTA_TOKEN_DEFAULT CONFIG_AT_OTA_TOKEN_KEY\n" + "".join(
    f"#define CONFIG_ESP_AT_OTA_{kind}TOKEN_{name} CONFIG_ESP_AT_OTA_TOKEN_DEFAULT\n"
    for name in NAMES
    for kind in ("", "SSL_")
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, text in ((TABLE, C_TABLE), (HEADER, C_HEADER)):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
        (tmp_path / path).chmod(0o644)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("environment", "module", "macros"),
    [
        ({"AT_OTA_TOKEN_WROOM32": "abc"}, "ESP32/WROOM-32", {"WROOM32": "abc", "SSL WROOM32": "abc"}),
        ({"AT_OTA_SSL_TOKEN_WROOM32": "abc"}, "ESP32/WROOM-32", {"SSL WROOM32": "abc"}),
        (
            {"AT_OTA_TOKEN_ESP32C3_MINI": "abc", "AT_OTA_SSL_TOKEN_ESP32C3_MINI": "def\n"},
            "PLATFORM_ESP32C3/mini-1",
            {"ESP32C3_MINI": "abc", "SSL ESP32C3_MINI": "def"},
        ),
        (
            {"ESP32C2_2MB_TOKEN": "abc"},
            "ESP32C2/ESP32C2-2MB",
            {"ESP32C2_2MB": "abc", "SSL ESP32C2_2MB": "abc"},
        ),
        ({"AT_OTA_TOKEN_KEY": "abc"}, "ESP32/MINI-1", {"ESP32_MINI_1": "abc", "SSL ESP32_MINI_1": "abc"}),
        (
            {"AT_OTA_TOKEN_KEY": "abc", "AT_OTA_TOKEN_WROOM32": "def"},
            "ESP32/WROOM-32",
            {"WROOM32": "def", "SSL WROOM32": "def"},
        ),
        ({"AT_OTA_TOKEN_KEY": "abc"}, "ESP32/ESP32-D2WD", {}),
        ({"AT_OTA_TOKEN_WROOM32": " \n"}, "ESP32/WROOM-32", {}),
        ({"AT_OTA_TOKEN_WROOM32": "abc"}, "ESP32C3/MINI-1", {}),
        ({"GITHUB_TOKEN": "abc", "WROOM32_TOKEN": "abc"}, "ESP32/WROOM-32", {}),
        ({"AT_OTA_TOKEN_NOWHERE": "abc"}, "ESP32/NOWHERE", {}),
    ],
)
def test_which_variables_a_module_takes(root, environment, module, macros):
    found = find_tokens(environment, root, *module.split("/"))
    short = {name.removeprefix("CONFIG_ESP_AT_OTA_"): token for name, token in found.macros.items()}
    assert {
        name.replace("SSL_TOKEN_", "SSL ").removeprefix("TOKEN_"): token for name, token in short.items()
    } == macros
    assert bool(found.variables) == bool(macros)
    assert set(found.variables) <= set(environment)


def test_the_variables_of_a_module(root):
    assert variables_of(root, "ESP32C3", "MINI-1") == (
        "AT_OTA_TOKEN_ESP32C3_MINI",
        "AT_OTA_SSL_TOKEN_ESP32C3_MINI",
    )
    assert variables_of(root, "ESP32", "ESP32-D2WD") == ()
    assert variables_of(root, "ESP32", "UNHEARD-OF") == ()


def test_a_token_of_another_module_is_unused_and_an_unknown_one_a_warning(root):
    environment = {"AT_OTA_TOKEN_ESP32C3_MINI": "secret1", "AT_OTA_SSL_TOKEN_WROM32": "secret2"}
    found = find_tokens(environment, root, "ESP32", "WROOM-32")
    assert found.unused == ("AT_OTA_TOKEN_ESP32C3_MINI",)
    (warning,) = found.warnings
    assert "AT_OTA_SSL_TOKEN_WROM32" in warning
    assert "did you mean AT_OTA_SSL_TOKEN_WROOM32?" in warning
    assert "secret" not in warning


@pytest.mark.parametrize("token", ['a"b', "a\\b", "a b", "a\nb", "é", "x" * 101, "a;b", "$(id)"])
def test_what_no_token_has_is_refused_without_showing_it(root, token):
    with pytest.raises(InputError) as error:
        find_tokens({"AT_OTA_TOKEN_WROOM32": token}, root, "ESP32", "WROOM-32")
    assert "AT_OTA_TOKEN_WROOM32" in error.value.message
    assert token not in str(error.value)


def test_two_variables_that_disagree(root):
    environment = {"AT_OTA_TOKEN_ESP32C2_2MB": "abc", "ESP32C2_2MB_TOKEN": "def"}
    with pytest.raises(InputError, match=r"AT_OTA_TOKEN_ESP32C2_2MB and ESP32C2_2MB_TOKEN hold different"):
        find_tokens(environment, root, "ESP32C2", "ESP32C2-2MB")
    assert find_tokens(dict.fromkeys(environment, "abc"), root, "ESP32C2", "ESP32C2-2MB").macros


def test_a_checkout_without_the_files(tmp_path):
    assert find_tokens({"ESP32_FLASHER_TOKEN": "abc"}, tmp_path, "ESP32", "WROOM-32") == OtaTokens()
    with pytest.raises(InputError, match=r"at_default_config\.c: no such file"):
        find_tokens({"AT_OTA_TOKEN_WROOM32": "abc"}, tmp_path, "ESP32", "WROOM-32")
    with apply(tmp_path, OtaTokens()):
        pass


def test_the_header_has_the_tokens_while_the_block_runs(root):
    header = root / HEADER
    tokens = find_tokens({"AT_OTA_TOKEN_WROOM32": "abc123"}, root, "ESP32", "WROOM-32")
    old = header.stat().st_mtime_ns
    os.utime(header, ns=(old - 10**9, old - 10**9))
    with apply(root, tokens):
        inside = header.read_text()
        assert inside.startswith(C_HEADER)
        assert '#define CONFIG_ESP_AT_OTA_TOKEN_WROOM32 "abc123"' in inside
        assert mode(header) == 0o600
        compiled = header.stat().st_mtime_ns
        assert [path.name for path in header.parent.iterdir()] == [header.name]
    assert header.read_text() == C_HEADER
    assert mode(header) == 0o644
    assert header.stat().st_mtime_ns >= compiled > old - 10**9
    assert [path.name for path in header.parent.iterdir()] == [header.name]


def test_without_tokens_the_header_is_not_touched(root):
    before = (root / HEADER).stat()
    with apply(root, OtaTokens()):
        pass
    after = (root / HEADER).stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_the_header_is_restored_when_the_build_fails(root):
    tokens = find_tokens({"AT_OTA_TOKEN_WROOM32": "abc123"}, root, "ESP32", "WROOM-32")
    with pytest.raises(KeyboardInterrupt), apply(root, tokens):
        raise KeyboardInterrupt
    assert (root / HEADER).read_text() == C_HEADER


def test_both_in_one(root):
    with with_tokens({"AT_OTA_TOKEN_WROOM32": "abc123"}, root, "ESP32", "WROOM-32") as tokens:
        assert tokens.variables == ("AT_OTA_TOKEN_WROOM32",)
        assert "abc123" in (root / HEADER).read_text()
    assert (root / HEADER).read_text() == C_HEADER


def test_what_a_killed_build_left_is_taken_out(root):
    tokens = find_tokens({"AT_OTA_TOKEN_WROOM32": "abc123"}, root, "ESP32", "WROOM-32")
    with apply(root, tokens):
        left = (root / HEADER).read_bytes()
    (root / HEADER).write_bytes(left)
    with apply(root, OtaTokens()):
        assert (root / HEADER).read_text() == C_HEADER
    (root / HEADER).write_bytes(left)
    with apply(root, tokens):
        assert (root / HEADER).read_bytes() == left
    (root / HEADER).write_bytes(left)
    (root / HEADER).chmod(0o600)
    assert holds_tokens(root)
    assert remove_tokens(root)
    assert not holds_tokens(root)
    assert not remove_tokens(root)
    umask = os.umask(0)
    os.umask(umask)
    assert mode(root / HEADER) == 0o666 & ~umask


def test_an_edit_of_the_header_during_a_build_is_kept(root):
    tokens = find_tokens({"AT_OTA_TOKEN_WROOM32": "abc123"}, root, "ESP32", "WROOM-32")
    with apply(root, tokens):
        text = (root / HEADER).read_text()
        (root / HEADER).write_text("// edited\n" + text)
    assert (root / HEADER).read_text() == "// edited\n" + C_HEADER


def test_a_token_does_not_show(root):
    environment = {"AT_OTA_TOKEN_WROOM32": "abc123", "AT_OTA_SSL_TOKEN_WROOM32": "def456"}
    tokens = find_tokens(environment, root, "ESP32", "WROOM-32")
    assert "abc123" not in repr(tokens)
    line = 'at_ota_token.h:9: warning: "abc123" "def456"'
    assert tokens.hide(line) == 'at_ota_token.h:9: warning: "***" "***"'


def test_the_compiler_sees_the_tokens_of_the_module_alone(root):
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("needs gcc, to see what the compiler sees")
    tokens = find_tokens({"AT_OTA_TOKEN_ESP32C3_MINI": "abc123"}, root, "ESP32C3", "MINI-1")
    source = '#include "at_ota_token.h"\n' + "".join(
        f"{name}=CONFIG_ESP_AT_OTA_{kind}TOKEN_{name}\n" for name in NAMES for kind in ("", "SSL_")
    )
    with apply(root, tokens):
        seen = subprocess.run(
            [gcc, "-E", "-P", "-Wall", "-Werror", f"-I{(root / HEADER).parent}", "-"],
            input=source, capture_output=True, text=True, check=True,
        ).stdout.split()  # fmt: skip
    assert seen == [
        f"{name}={chr(34) + 'abc123' + chr(34) if name == 'ESP32C3_MINI' else 'CONFIG_AT_OTA_TOKEN_KEY'}"
        for name in NAMES
        for _ in range(2)
    ]

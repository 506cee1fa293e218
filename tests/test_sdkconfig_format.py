"""Reading an sdkconfig and an sdkconfig.defaults."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.errors import EspAtError, FormatError
from esp_at_tools.formats.sdkconfig import Sdkconfig, difference, quoted, statement, unquoted

_names = st.from_regex(r"[A-Z0-9_]{1,12}", fullmatch=True)
_texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n"), max_size=20)
_values = st.one_of(
    st.sampled_from(["y", "n"]),
    st.integers().map(str),
    st.integers(0, 1 << 40).map(hex),
    _texts.map(quoted),
)
_options = st.dictionaries(_names, _values, max_size=8)


def test_reads_a_resolved_sdkconfig():
    config = Sdkconfig.from_text(
        "#\n# Automatically generated file. DO NOT EDIT.\n#\n"
        "# default:\nCONFIG_SOC_UART_SUPPORTED=y\n"
        "# CONFIG_AT_WS_COMMAND_SUPPORT is not set\n"
        "CONFIG_PARTITION_TABLE_OFFSET=0x8000\n"
        "CONFIG_XTAL_FREQ=40\nCONFIG_CORE=-1\n"
        'CONFIG_APP_PROJECT_VER="v5.0.1.0"\n'
        "# end of AT\n"
        "\n# Deprecated options for backward compatibility\n"
        "CONFIG_ESP32_OLD=7\n# CONFIG_ESP32_OFF is not set\nCONFIG_XTAL_FREQ=26\n"
        "# End of deprecated options\n"
    )
    assert config.options == {
        "SOC_UART_SUPPORTED": "y",
        "AT_WS_COMMAND_SUPPORT": "n",
        "PARTITION_TABLE_OFFSET": "0x8000",
        "XTAL_FREQ": "40",
        "CORE": "-1",
        "APP_PROJECT_VER": '"v5.0.1.0"',
    }
    assert config.is_on("SOC_UART_SUPPORTED")
    assert not config.is_on("AT_WS_COMMAND_SUPPORT")
    assert not config.is_on("NOWHERE")
    assert config.number("PARTITION_TABLE_OFFSET") == 0x8000
    assert config.number("CORE") == -1
    assert config.number("XTAL_FREQ") == 40, "the current name counts, not the deprecated one"
    assert config.number("ESP32_OLD") == 7
    assert config.get("ESP32_OFF") == "n"
    assert config.string("APP_PROJECT_VER") == "v5.0.1.0"
    assert config.string("NOWHERE", "absent") == "absent"


def test_deprecated_names_after_the_block_are_current_again():
    config = Sdkconfig.from_text(
        "# Deprecated options for backward compatibility\nCONFIG_A=1\n"
        "# End of deprecated options\nCONFIG_B=2\n"
    )
    assert config.options == {"B": "2"}
    assert config.deprecated == {"A": "1"}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("CONFIG_X=n", "n"),
        ("CONFIG_X=", "n"),
        ("CONFIG_X=   # nothing", "n"),
        ("# CONFIG_X is not set", "n"),
        ("CONFIG_X=no", "n"),
        ("CONFIG_X=yes", "y"),
        ("  CONFIG_X=y \t", "y"),
        ("CONFIG_X=40 # MHz", "40"),
        ("CONFIG_X=1.5", "1.5"),
        ("CONFIG_X=2e-3", "2e-3"),
        ("CONFIG_X=0xABcd", "0xABcd"),
        ("CONFIG_X=1F", "1F"),
        ('CONFIG_X=""', '""'),
        ('CONFIG_X="a # b"', '"a # b"'),
        ('CONFIG_X="a" # b', '"a"'),
        ('CONFIG_X="a\\"b\\\\"', '"a\\"b\\\\"'),
        ('CONFIG_X="Zürich\u2028\x0b"', '"Zürich\u2028\x0b"'),
    ],
)
def test_values(line, value):
    assert Sdkconfig.from_text(f"# first\n{line}\n").options == {"X": value}


@pytest.mark.parametrize(
    "line", ["#CONFIG_X is not set", "## CONFIG_X=y", "# CONFIG_X=y", "# X is not set", ""]
)
def test_comments(line):
    assert Sdkconfig.from_text(line).options == {}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hello", "cannot be read: 'hello'"),
        ("X=y", "cannot be read"),
        ("CONFIG_=y", "cannot be read"),
        ("CONFIG_X", "cannot be read"),
        ("CONFIG_X =y", "cannot be read"),
        ("CONFIG_Ü=y", "cannot be read"),
        ("CONFIG_X=maybe", "'maybe' is no value"),
        ("CONFIG_X=y y", "'y y' is no value"),
        ('CONFIG_X="open', "not closed"),
        ('CONFIG_X="open\\"', "not closed"),
        ('CONFIG_X="a" b', "more follows"),
        ("CONFIG_X='a'", "is no value"),
        ("CONFIG_X=" + "z" * 999, "…"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(line, said):
    with pytest.raises(FormatError) as caught:
        Sdkconfig.from_text(f"CONFIG_A=y\r\n\r\n{line}\r\nCONFIG_B=y\r\n", "my.defaults")
    assert caught.value.message.startswith("my.defaults, line 3: ")
    assert said in caught.value.message
    assert len(caught.value.message) < 200
    assert caught.value.hint


def test_bytes_that_are_not_utf8():
    with pytest.raises(FormatError, match="sdkconfig, line 2: is not UTF-8"):
        Sdkconfig.from_bytes(b"CONFIG_A=y\nCONFIG_B=\xff\n")
    assert Sdkconfig.from_bytes(b"\xef\xbb\xbfCONFIG_A=y\n").options == {"A": "y"}


def test_the_last_statement_counts():
    text = "CONFIG_A=y\nCONFIG_B=1\n# CONFIG_A is not set\nCONFIG_B=2\n"
    assert Sdkconfig.from_text(text).options == {"A": "n", "B": "2"}


@pytest.mark.parametrize("value", ["y", '"12"', "1.5", "abc", "9" * 5000, "0x"])
def test_what_is_no_integer(value):
    assert Sdkconfig({"X": value}).number("X") is None


def test_difference_tells_absent_from_off_and_knows_old_names():
    a = Sdkconfig({"SAME": "1", "OFF": "n", "GONE": "y", "OLD": "5", "OLDER": "5"})
    b = Sdkconfig({"SAME": "1", "NEW": '"x"', "OFF": "y"}, {"OLD": "5", "OLDER": "6"})
    assert difference(a, b) == [
        ("GONE", "y", None),
        ("NEW", None, '"x"'),
        ("OFF", "n", "y"),
        ("OLDER", "5", "6"),
    ]


@given(_options, _options)
def test_laws_of_update_and_difference(first, second):
    a, b = Sdkconfig(first), Sdkconfig(second)
    both = a.updated(b)
    assert both.updated(b) == both
    assert a.updated(Sdkconfig({})) == a
    assert difference(a, a) == []
    assert difference(b, a) == [(name, new, old) for name, old, new in difference(a, b)]
    patch = Sdkconfig({name: new for name, _, new in difference(a, both) if new is not None})
    assert a.updated(patch).options == both.options


@given(_options, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["", "\ufeff"]))
def test_what_is_written_is_read_again(options, line_end, mark):
    config = Sdkconfig(options)
    text = mark + config.to_text().replace("\n", line_end)
    assert Sdkconfig.from_text(text) == config
    assert list(Sdkconfig.from_text(text).options) == list(options)


@given(_texts)
def test_text_survives_its_quotes(text):
    assert unquoted(quoted(text)) == text
    assert Sdkconfig.from_text(statement("X", quoted(text))).string("X") == text


@given(st.integers(-(10**18), 10**18))
def test_integers(number):
    assert Sdkconfig({"X": str(number)}).number("X") == number
    assert Sdkconfig({"X": hex(number)}).number("X") == number


@settings(max_examples=200)
@given(
    st.one_of(
        st.text(max_size=80),
        st.lists(
            st.sampled_from(["CONFIG_", "A", "=", '"', "\\", "#", " ", "\n", "y", "0x", " is not set"])
        ).map("".join),
    )
)
def test_any_text_is_read_or_refused(text):
    try:
        config = Sdkconfig.from_text(text)
    except EspAtError as error:
        assert "line" in error.message  # noqa: PT017 - most texts are refused, and none has to be
    else:
        assert Sdkconfig.from_text(config.to_text()).options == config.options


def test_long_lines_take_linear_time():
    for line in (
        'CONFIG_X="' + "\\" * 300_001,
        "CONFIG_X=1" + " " * 300_000 + "y",
        "CONFIG_X=" + "1" * 300_000 + "z",
    ):
        with pytest.raises(FormatError):
            Sdkconfig.from_text(line)


def test_real_files(shared):
    folder = shared / "esp-at" / "v5.0.1.0"
    defaults = Sdkconfig.from_bytes(
        (folder / "module_config/module_esp32c3_default/sdkconfig.defaults").read_bytes()
    )
    resolved = Sdkconfig.from_bytes((folder / "expected/PLATFORM_ESP32C3/MINI-1/sdkconfig").read_bytes())
    assert defaults.is_on("AT_ENABLE")
    assert resolved.number("PARTITION_TABLE_OFFSET") == 0x8000
    assert resolved.deprecated
    assert not set(resolved.deprecated) & set(resolved.options)
    for name in ("PARTITION_TABLE_CUSTOM_FILENAME", "APP_PROJECT_VER", "AT_PROCESS_TASK_STACK_SIZE"):
        assert resolved.get(name) == defaults.get(name)

"""Profiles: what they may say, and the error for everything else."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esp_at_tools.errors import InputError
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.names import SETTINGS
from esp_at_tools.settings.profile import MAX_PROFILE_SIZE, Profile, ProfileTemplate


@pytest.fixture
def write(tmp_path):
    def write_profile(content: str | bytes) -> Path:
        path = tmp_path / "product.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_profile


def test_the_profile_of_the_documentation(write, tmp_path):
    path = write("""\
settings:
  uart_baudrate: 921600
  uart_tx_pin: 17
  country_code: US
pki:
  mqtt_ca: certs/ca.pem          # relative to the profile
  client_cert.0: certs/dev.crt
gatts: gatts_data.csv            # the whole table
""")
    assert Profile.load(path) == Profile(
        settings={"uart_baudrate": 921600, "uart_tx_pin": 17, "country_code": "US"},
        pki={"mqtt_ca": tmp_path / "certs/ca.pem", "client_cert.0": tmp_path / "certs/dev.crt"},
        gatts=tmp_path / "gatts_data.csv",
    )


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("4096", 4096),
        ("0x1000", 4096),
        ("4K", 4096),
        ('"4K"', 4096),
        ("'115200'", 115200),
        ("-1", -1),
        ("0", 0),
        ("0xFF  # comment", 255),
        ("!!int 5", None),
        ("99999999999", 99999999999),  # for the rules to refuse
    ],
)
def test_numbers(write, written: str, value: int | None):
    path = write(f"settings:\n  uart_baudrate: {written}\n")
    if value is None:
        with pytest.raises(InputError):
            Profile.load(path)
    else:
        assert Profile.load(path).settings == {"uart_baudrate": value}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("US", "US"),
        ("'NO'", "NO"),
        ('"01"', "01"),
        ("WROOM-02", "WROOM-02"),
        ("' x '", " x "),
        ("''", ""),
        ("模组", "模组"),
    ],
)
def test_texts(write, written: str, value: str):
    assert Profile.load(write(f"settings:\n  module_name: {written}\n")).settings == {"module_name": value}


def test_json_is_a_profile_too(write, tmp_path):
    document = {
        "settings": {"uart_tx_pin": 17, "module_name": "模\U0001f600/\t"},
        "pki": {"mqtt_ca": "a b.pem"},
    }
    wanted = Profile({"uart_tx_pin": 17, "module_name": "模\U0001f600/\t"}, {"mqtt_ca": tmp_path / "a b.pem"})
    for ascii_only in (False, True):
        for indent in (None, 2, "\t"):
            assert Profile.load(write(json.dumps(document, indent=indent, ensure_ascii=ascii_only))) == wanted


@pytest.mark.parametrize(
    "content", ["settings:\n", "settings: {}\npki:\n", "\ufeffsettings:\r\n", "---\npki: ~\n...\n"]
)
def test_sections_may_be_empty(write, content: str):
    assert Profile.load(write(content)) == Profile()


def test_an_absolute_path_stays(write, tmp_path):
    other = tmp_path / "elsewhere" / "ca.pem"
    assert Profile.load(write(f"pki: {{mqtt_ca: {other}}}")).pki == {"mqtt_ca": other}


def test_paths_are_absolute_even_from_a_relative_profile(write, tmp_path, monkeypatch):
    write("gatts: rows.csv")
    monkeypatch.chdir(tmp_path)
    assert Profile.load(Path("product.yaml")).gatts == tmp_path / "rows.csv"


WRONG = [
    # content, part of the message, part of the hint
    ("", "is empty", "settings:"),
    ("# nothing\n", "is empty", "settings:"),
    ("---\n", "is empty", "settings:"),
    ("just text\n", "is not a profile", "settings:"),
    ("- settings\n", "is not a profile", "settings:"),
    ("42\n", "is not a profile", ""),
    (b"settings: \xff\n", "not UTF-8", "UTF-8"),
    ("settings:\n".encode("utf-16"), "not UTF-8", "UTF-8"),
    (b"settings:\0\n", "not YAML", ""),
    (b"\x7fELF\x01", "not YAML", ""),
    ("setting:\n  version: 1\n", "line 1: unknown key 'setting'", "did you mean settings?"),
    ("x: 1\n", "unknown key 'x'", "settings, pki, gatts"),
    ("uart_tx_pin: 4\n", "line 1: unknown key", "belongs under settings:"),
    ("mqtt_ca: 4\n", "unknown key", "belongs under pki:"),
    (
        "settings:\n  version: 1\n  uart_tx_pim: 4\n",
        "line 3: unknown key 'uart_tx_pim'",
        "did you mean uart_tx_pin?",
    ),
    ("settings:\n  baud: 115200\n", "line 2: unknown key 'baud'", "did you mean uart_baudrate?"),
    ("settings:\n  tx-pin: 4\n", "unknown key 'tx-pin'", "did you mean uart_tx_pin?"),
    ("settings:\n  colour: red\n", "unknown key 'colour'", "the names are version,"),
    ("settings:\n  mqtt_ca: a.pem\n", "unknown key 'mqtt_ca' in settings", "belongs under pki:"),
    ("settings:\n  cfg0: a\n", "unknown key 'cfg0'", "gatts:"),
    ("pki:\n  mqtt_key2: a\n", "unknown key 'mqtt_key2' in pki", "did you mean mqtt_key?"),
    ("pki:\n  client-ca0: a\n", "unknown key 'client-ca0'", "did you mean client_ca.0?"),
    ("pki:\n  zzz: a\n", "unknown key 'zzz'", "the names are server_ca"),
    ("pki:\n  country_code: a\n", "unknown key", "belongs under settings:"),
    ("settings: 5\n", "line 1: settings must hold", "name: value"),
    ("pki: [a]\n", "line 1: pki must hold", "name: value"),
    (
        "settings:\n  uart_tx_pin: [1]\n",
        "line 2: uart_tx_pin: must be one value, not a list",
        "number or a text",
    ),
    ("settings:\n  uart_tx_pin: {a: 1, b: 2}\n", "must be one value, not a mapping", ""),
    ("settings:\n  uart_tx_pin: yes\n", "'yes' is not a whole number", "4096"),
    ("settings:\n  uart_tx_pin: 1.5\n", "'1.5' is not a whole number", "4096"),
    ("settings:\n  uart_tx_pin: 1e3\n", "'1e3' is not a number", "4096"),
    ("settings:\n  uart_tx_pin: 017\n", "for an octal number", "leading zeros"),
    ("settings:\n  uart_tx_pin: 1:30\n", "'1:30' is not a number", "4096"),
    ("settings:\n  uart_tx_pin: 1_0\n", "'1_0' is not a number", "4096"),
    ("settings:\n  uart_tx_pin: 2024-01-01\n", "is not a whole number", "4096"),
    ("settings:\n  uart_tx_pin: seven\n", "line 2: uart_tx_pin: 'seven' is not a number", "4096"),
    ("settings:\n  uart_tx_pin:\n", "line 2: uart_tx_pin: has no value", "leave the line out"),
    (
        "settings:\n  country_code: NO\n",
        "line 2: country_code: YAML takes 'NO' for a truth value",
        "quote it: 'NO'",
    ),
    ("settings:\n  country_code: 01\n", "YAML takes '01' for a number", "quote it: '01'"),
    ("settings:\n  module_name: 1.0\n", "YAML takes '1.0' for a number", "quote it: '1.0'"),
    ("settings:\n  module_name: 2024-01-01\n", "for a date", "quote it"),
    ("settings:\n  module_name: ~\n", "has no value", ""),
    ("settings:\n  module_name: =\n", "for something else than text", "quote it"),
    ("settings:\n  module_name: {serial}\n", "for a mapping", "quote it: '{serial}'"),
    ("settings:\n  version: 1\n  version: 1\n", "line 3: 'version' again, first in line 2", "give it once"),
    (
        "settings:\n  version: 1\nsettings:\n  version: 2\n",
        "line 3: 'settings' again, first in line 1",
        "once",
    ),
    ('{"settings": {"version": 1, "version": 2}}', "'version' again", "once"),
    ("pki:\n  mqtt_ca: ''\n", "line 2: mqtt_ca: has no path", "relative"),
    ("pki:\n  mqtt_ca:\n", "line 2: mqtt_ca: has no value", ""),
    ('pki:\n  mqtt_ca: "a\\0b"\n', "has no path", ""),
    ("gatts:\n", "line 1: gatts: has no value", ""),
    ("gatts: [a.csv]\n", "gatts: must be one value, not a list", ""),
    ("settings: &a\n  version: 1\n", "line 1: an anchor or alias", "itself"),
    ("settings:\n  version: &a 1\n  sys_store: *a\n", "line 2: an anchor or alias", "itself"),
    ("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "an anchor or alias", "itself"),
    ("settings:\n  <<: {version: 1}\n", "unknown key '<<'", ""),
    ("settings: !!python/object/apply:os.system ['true']\n", "the tag", "without a tag"),
    ("settings: !!python/name:os.system\n", "the tag", "without a tag"),
    ("settings:\n  module_name: !!binary aGk=\n", "line 2: the tag", "without a tag"),
    ("settings:\n  module_name: ! x\n", "the tag", "without a tag"),
    ("settings:\n\tversion: 1\n", "line 2, column 1: not YAML", "indent with spaces"),
    ("settings:\n  version: 1\n version: 2\n", "line 3", ""),
    ("settings: [\n", "not YAML", ""),
    ('settings: "\n', "not YAML", ""),
    ("settings: {version: 1\n", "not YAML", ""),
    ("@settings\n", "not YAML", ""),
    ("%YAML 9.9\n---\nsettings:\n", "not YAML", ""),
    ("settings:\n---\npki:\n", "line 2: a second document", "leave out"),
    ("? [a]\n: b\n", "line 1: a list or mapping as a name", "name: value"),
    ('settings: {module_name: "\\UFFFFFFFF"}\n', "not YAML", ""),
    ('settings: {module_name: "\\U00110000"}\n', "not YAML", ""),
    ("settings: {a: {b: {c: {d: 1}}}}\n", "nested too deep", "two levels"),
    ("[" * 60_000, "nested too deep", "two levels"),
    ("{" * 60_000, "nested too deep", "two levels"),
    ("- " * 30_000, "nested too deep", "two levels"),
    ("!" * 60_000, "the tag", "without a tag"),
    ("'" + "\\n" * 30_000, "not YAML", ""),
    ("settings: {" + "".join(f"k{i}: v, " for i in range(5000)), "", ""),
    ("x" * (MAX_PROFILE_SIZE + 1), "larger than", "profile"),
]


@pytest.mark.parametrize(("content", "message", "hint"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_profile_is_an_error_that_says_what_would_be_right(write, content, message: str, hint: str):
    path = write(content)
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        Profile.load(path)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert str(path) in caught.value.message
    assert len(str(caught.value)) < 1000
    assert time.process_time() - start < 5


def test_a_missing_profile_is_an_input_error(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(InputError, match=r"no such file|is a folder"):
            Profile.load(path)


def test_columns_are_filled_in(write, tmp_path):
    template = ProfileTemplate.load(
        write("""\
settings:
  module_name: 'dev-{serial}'
  uart_baudrate: '{baud}'
  country_code: US
pki: {mqtt_ca: 'certs/{serial}/{{ca}}.pem'}
gatts: '{table name}.csv'
""")
    )
    assert template.columns == {"serial", "baud", "table name"}
    row = {"serial": "A7", "baud": "9600", "table name": "rows", "other": "x"}
    assert template.fill(row) == Profile(
        {"module_name": "dev-A7", "uart_baudrate": 9600, "country_code": "US"},
        {"mqtt_ca": tmp_path / "certs/A7/{ca}.pem"},
        tmp_path / "rows.csv",
    )
    with pytest.raises(InputError, match="no column 'baud'") as caught:
        template.fill({"serial": "A7", "bauds": "9600"})
    assert caught.value.hint == "did you mean bauds?"
    with pytest.raises(InputError, match="uart_baudrate: 'fast' is not a number"):
        template.fill({**row, "baud": "fast"})
    with pytest.raises(InputError, match=r"uart_baudrate: '\{baud\}' is not a number"):
        template.fill(None)


def test_braces_mean_nothing_without_a_row(write):
    path = write("settings: {module_name: 'a{{b}}{c}'}")
    assert Profile.load(path).settings == {"module_name": "a{{b}}{c}"}


def load_any(folder: Path, data: bytes) -> Profile | None:
    path = folder / "any.yaml"
    path.write_bytes(data)
    try:
        return Profile.load(path)
    except InputError:
        return None


any_profile = settings(
    deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = (
    "settings pki gatts uart_tx_pin country_code NO 0x1 : [ ] { } , ' \" &a *a !! ! | > --- ... % # \\ ~ <<"
)
pieces = st.sampled_from([*WORDS.split(), "\n", "\n  ", ": ", "- ", "? ", "\t", "\u2028"])


@any_profile
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_profile_or_an_input_error(tmp_path, data: bytes):
    load_any(tmp_path, data)


@any_profile
@given(text=st.lists(pieces | st.text(max_size=3), max_size=30).map("".join))
def test_any_text_is_a_profile_or_an_input_error(tmp_path, text: str):
    load_any(tmp_path, text.encode("utf-8", "surrogatepass"))


plain_text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
profiles = st.fixed_dictionaries(
    {},
    optional={
        "settings": st.fixed_dictionaries(
            {},
            optional={
                n: plain_text if s.is_text else st.integers(-(1 << 40), 1 << 40) for n, s in SETTINGS.items()
            },
        ),
        "pki": st.dictionaries(st.sampled_from(list(PKI_ITEMS)), plain_text, max_size=5),
        "gatts": plain_text,
    },
)


@any_profile
@given(document=profiles.filter(bool), as_json=st.booleans())
def test_what_is_written_is_read(tmp_path, document, as_json: bool):
    import yaml

    text = json.dumps(document) if as_json else yaml.safe_dump(document, allow_unicode=True)
    profile = load_any(tmp_path, text.encode())
    assert profile is not None
    assert profile.settings == document.get("settings", {})
    assert profile.pki == {name: tmp_path / text for name, text in document.get("pki", {}).items()}
    assert profile.gatts == (tmp_path / document["gatts"] if "gatts" in document else None)

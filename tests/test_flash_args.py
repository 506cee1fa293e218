"""flasher_args.json and download.config: the official ones to the letter, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.flash_args import FlashArgs, FlashPart

CONFIG = "--flash_mode dio --flash_freq 40m --flash_size 4MB 0x0 boot/a.bin 0x1F000 b.bin"


def document(**changes):
    """A small flasher_args.json as text."""
    value = {
        "write_flash_args": ["--flash_mode", "dio", "--flash_size", "4MB", "--flash_freq", "40m"],
        "flash_settings": {"flash_mode": "dio", "flash_size": "4MB", "flash_freq": "40m"},
        "flash_files": {"0x0": "boot/a.bin", "0x1F000": "b.bin"},
        "bootloader": {"offset": "0x0", "file": "boot/a.bin", "encrypted": "false"},
        "extra_esptool_args": {
            "after": "hard_reset",
            "before": "default_reset",
            "stub": True,
            "chip": "esp32c3",
        },
    }
    value.update(changes)
    return json.dumps({key: content for key, content in value.items() if content is not None})


# --- the official ones ------------------------------------------------------------------------------


def test_official_lists_are_written_back_to_the_letter(shared):
    for name, read, write in (
        ("flasher_args.json", FlashArgs.from_json, FlashArgs.to_json),
        ("download.config", FlashArgs.from_download_config, FlashArgs.to_download_config),
    ):
        files = list(shared.glob(f"firmware/*/{name}"))
        assert len(files) == 4
        for file in files:
            assert write(read(file.read_text())).encode() == file.read_bytes(), file


def test_both_official_lists_name_the_same_files(shared):
    for folder in (path for path in shared.glob("firmware/*") if path.is_dir()):
        listed = FlashArgs.from_json((folder / "flasher_args.json").read_text())
        config = FlashArgs.from_download_config((folder / "download.config").read_text())
        assert dict(listed.files) == dict(config.files)
        assert all((folder / file).is_file() for file in listed.files.values())
        assert all(part.name for part in listed.parts)
        assert (listed.flash_mode, listed.flash_freq) == (config.flash_mode, config.flash_freq)


def test_what_an_official_list_says(shared):
    args = FlashArgs.from_json((shared / "firmware/ESP32-C3-MINI-1-V2.3.0.0/flasher_args.json").read_text())
    assert (args.chip, args.flash_size, args.stub) == ("esp32c3", "detect", True)
    assert list(args.files)[:3] == [0x8000, 0xD000, 0xF000]
    assert args.find("ble_data") == FlashPart(
        0x1F000, "customized_partitions/ble_data.bin", "ble_data", False, "0x1F000"
    )
    assert args.find("nothing") is None
    old = FlashArgs.from_json((shared / "firmware/ESP8266-AT-V2.2.1.0/flasher_args.json").read_text())
    assert (old.chip, old.stub, old.find("app").encrypted) == ("", None, None)


# --- made in code ---------------------------------------------------------------------------------------


def test_json_is_written_as_esp_idf_writes_it():
    args = FlashArgs(
        (FlashPart(0, "boot/loader.bin", "bootloader", False), FlashPart(0x60000, "esp-at.bin", "app", True)),
        "dio", "80m", "2MB", "esp32c2", stub=False,
    )  # fmt: skip
    assert args.to_json() == (
        "{\n"
        '    "write_flash_args" : [ "--flash_mode", "dio",\n'
        '                           "--flash_size", "2MB",\n'
        '                           "--flash_freq", "80m" ],\n'
        '    "flash_settings" : {\n'
        '        "flash_mode": "dio",\n'
        '        "flash_size": "2MB",\n'
        '        "flash_freq": "80m"\n'
        "    },\n"
        '    "flash_files" : {\n'
        '        "0x0" : "boot/loader.bin",\n'
        '        "0x60000" : "esp-at.bin"\n'
        "    },\n"
        '    "bootloader" : { "offset" : "0x0", "file" : "boot/loader.bin", "encrypted" : "false" },\n'
        '    "app" : { "offset" : "0x60000", "file" : "esp-at.bin", "encrypted" : "true" },\n'
        '    "extra_esptool_args" : {\n'
        '        "after"  : "hard_reset",\n'
        '        "before" : "default_reset",\n'
        '        "stub"   : false,\n'
        '        "chip"   : "esp32c2"\n'
        "    }\n"
        "}\n"
    )


def test_config_is_one_line():
    args = FlashArgs.from_download_config(CONFIG.replace(" 0x", "\n0x") + "\n")
    assert args.files == {0: "boot/a.bin", 0x1F000: "b.bin"}
    assert args.to_download_config() == CONFIG


def test_hyphens_of_newer_esp_idf_are_kept():
    config = CONFIG.replace("flash_", "flash-")
    assert FlashArgs.from_download_config(config).to_download_config() == config
    args = FlashArgs.from_json(document(write_flash_args=["--flash-mode", "dio"], flash_settings=None))
    assert (args.flash_mode, args.flash_size, args.hyphens) == ("dio", "", True)
    assert '"--flash-freq"' in args.to_json()


def test_a_part_can_be_added():
    args = FlashArgs.from_json(document())
    more = args.with_part(FlashPart(0x30000, "c/d.bin", "mqtt_ca", False))
    assert list(more.files.items())[-1] == (0x30000, "c/d.bin")
    assert FlashArgs.from_json(more.to_json()) == more
    with pytest.raises(FormatError, match=r"both b.bin and x.bin belong at 0x1f000"):
        args.with_part(FlashPart(0x1F000, "x.bin"))
    with pytest.raises(FormatError, match=r"not one inside its folder"):
        args.with_part(FlashPart(0x40000, "../x.bin"))


def test_settings_may_be_absent():
    args = FlashArgs.from_json('{"flash_files": {"4096": "a.bin"}}')
    assert (args.flash_mode, args.chip, args.files) == ("", "", {4096: "a.bin"})
    assert args.to_download_config() == "4096 a.bin"
    assert FlashArgs.from_download_config("0x0 a.bin").flash_size == ""


# --- what is refused ----------------------------------------------------------------------------------------

BAD_PATHS = [
    "", "/etc/passwd", "../a.bin", "a/../../b.bin", "a/..", ".", "./a.bin", "a//b.bin", "a/", "C:/a.bin",
    "C:a.bin", "a.bin:stream", "\\\\server\\a", "..\\a.bin", "a\0b", "a\nb", "a\x1fb", 'a"b', "x" * 5000,
    "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_that_lead_elsewhere_are_refused(path):
    for changes in ({"flash_files": {"0x0": path}}, {"app": {"offset": "0x0", "file": path}}):
        with pytest.raises(FormatError, match=r"not one inside its folder|path of a file belongs"):
            FlashArgs.from_json(document(**changes))
    if path.split() == [path]:
        with pytest.raises(FormatError, match=r"not one inside its folder|path of a file belongs"):
            FlashArgs.from_download_config(f"0x0 {path}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("--flash_mode dio", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("9" * 10_000, "is not JSON|document is not"),
        ("[]", "the document is not a JSON object"),
        ("{}", "flash_files is not a JSON object"),
        (document(flash_files=[]), "flash_files is not a JSON object"),
        (document(flash_files={}), "names no file"),
        (document(flash_files={"0x0": 5}), "5 stands where the path"),
        (document(flash_files={"0xZ": "a.bin"}), "'0xZ' stands where an address"),
        (document(flash_files={"": "a.bin"}), "'' stands where an address"),
        (document(flash_files={"-1": "a.bin"}), "'-1' stands where an address"),
        (document(flash_files={"0x100000000": "a.bin"}), "out of range"),
        (document(flash_files={"0xa": "a.bin", "0xA": "b.bin"}), "both a.bin and b.bin belong at 0xa"),
        (document(flash_files={"0xa": "a.bin", "10": "b.bin"}), "both a.bin and b.bin belong at 0xa"),
        (document(flash_settings=7), "flash_settings is not a JSON object"),
        (document(flash_settings={"flash_mode": 7}), "flash_mode is 7"),
        (document(flash_settings={"flash_mode": "dio --erase-all"}), "flash_mode is 'dio --erase-all'"),
        (document(extra_esptool_args="x"), "extra_esptool_args is not"),
        (document(extra_esptool_args={"chip": ["esp32"]}), "chip is"),
        (document(app={"offset": 0, "file": "a.bin"}), "0 stands where an address"),
    ],
)
def test_json_that_is_refused(text, message):
    with pytest.raises(FormatError, match=message):
        FlashArgs.from_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no file"),
        ("--flash_mode dio", "names no file"),
        ("0x0", "'0x0' at its end has nothing after it"),
        ("0x0 a.bin 0x1000", "'0x1000' at its end"),
        ("--flash_mode", "'--flash_mode' at its end"),
        ("--erase-all yes 0x0 a.bin", "option '--erase-all' is unknown"),
        ("--flash_mode dio --flash-mode qio 0x0 a.bin", "'--flash-mode' is unknown or given twice"),
        ("0x0 a.bin b.bin c.bin", "'b.bin' stands where an address"),
        ("0x0 a.bin 0x00 b.bin", "both a.bin and b.bin belong at 0x0"),
        ("--flash_size ; 0x0 a.bin", "flash_size is ';'"),
        ("PK\x03\x04 a.bin", "stands where an address"),
    ],
)
def test_config_that_is_refused(text, message):
    with pytest.raises(FormatError, match=message):
        FlashArgs.from_download_config(text)


def test_a_path_with_a_space_stands_in_json_alone():
    args = FlashArgs.from_json(document(flash_files={"0x0": "my file.bin"}))
    assert FlashArgs.from_json(args.to_json()) == args
    with pytest.raises(FormatError, match="holds a space"):
        args.to_download_config()


# --- round trips and noise --------------------------------------------------------------------------------

words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
file_names = st.text(
    st.characters(codec="utf-8", exclude_characters='/:\\"', min_codepoint=0x20), min_size=1, max_size=9
)
paths = st.lists(file_names.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3).map(
    "/".join
)
part_names = st.text(max_size=6).filter(
    lambda name: name not in ("flash_settings", "flash_files", "extra_esptool_args", "write_flash_args")
)
parts = st.builds(FlashPart, st.integers(0, 0xFFFFFFFF), paths, part_names, st.booleans())
lists = st.builds(
    FlashArgs,
    st.lists(parts, min_size=1, max_size=6, unique_by=(lambda p: p.offset, lambda p: p.name)).map(tuple),
    words, words, words, words, words, words, st.none() | st.booleans(), st.booleans(),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(lists)
def test_json_round_trip(value):
    text = value.to_json()
    if any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        return
    read = FlashArgs.from_json(text)
    # A part without a name has no entry of its own, and with it goes whether it is encrypted.
    assert [(p.offset, p.file, p.name, p.encrypted if p.name else None) for p in value.parts] == [
        (p.offset, p.file, p.name, p.encrypted) for p in read.parts
    ]
    assert read.to_json() == text
    assert (read.chip, read.stub, read.hyphens) == (value.chip, value.stub, value.hyphens)


@settings(max_examples=150, deadline=None)
@given(lists)
def test_config_round_trip(value):
    try:
        text = value.to_download_config()
    except FormatError:
        return
    read = FlashArgs.from_download_config(text)
    assert read.files == value.files
    assert read.to_download_config() == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["0x0", "a.bin"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["offset", "file", "flash_mode", "0x0", "chip", "encrypted"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
keys = st.sampled_from(["flash_files", "flash_settings", "extra_esptool_args", "write_flash_args", "app"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(keys, json_values), st.text(max_size=60))
def test_any_text_gives_a_list_or_our_error(value, text):
    for source in (document(**value), json.dumps(value), text):
        read_or_refuse(FlashArgs.from_json, source)
    read_or_refuse(FlashArgs.from_download_config, text)


def read_or_refuse(read, text):
    try:
        read(text).to_json()
    except FormatError as error:
        assert len(error.message) < 1000  # noqa: PT017 - most noise is refused


def test_large_inputs_take_no_time():
    with pytest.raises(FormatError):
        FlashArgs.from_json("[" * (16 << 20))
    with pytest.raises(FormatError):
        FlashArgs.from_download_config("x" * (16 << 20))
    with pytest.raises(FormatError):
        FlashArgs.from_download_config("0 a " * (4 << 20))

"""The simulated module answers as real firmware did when it was recorded, byte for byte."""

from __future__ import annotations

import json
import re

import pytest
from at_simulator import AtModule, Faults, Versions

from esp_at_tools.firmware.opening import open_source

RECORDINGS = {
    "at-esp32c3-v2.3.0.0.jsonl": "ESP32-C3-MINI-1-V2.3.0.0",
    "at-esp32-v2.2.0.0.jsonl": "ESP32-WROOM-32-V2.2.0.0",
}
UNKNOWN = (b"AT+CMD", b"AT+SYSTIMESTAMP", b"AT+SYSRAM", b"AT+CW", b"AT+RFPOWER", b"AT+SYSSTORE", b"AT+UART",
           b"AT+RESTORE")  # fmt: skip
"""Commands of the recordings that the simulated module has not, or whose answer depends on the module."""


def recorded(path):
    for line in path.read_text().splitlines():
        row = json.loads(line)
        data = row["text"].encode("latin-1") if "text" in row else bytes.fromhex(row.get("hex", ""))
        yield row["dir"], data


def versions(rows):
    text = next(data for way, data in rows if way == "<" and b"AT version" in data).decode()
    return Versions(*re.search(
        r"AT version:(.*)\r\nSDK version:(.*)\r\n(compile time.*)\r\nBin version:(.*)\r\n", text
    ).groups())  # fmt: skip


@pytest.mark.parametrize("name", RECORDINGS)
def test_recording(shared, name):
    rows = list(recorded(shared / "serial" / name))
    source = open_source(shared / "firmware" / RECORDINGS[name])
    module = AtModule(bytearray(source.read(0, 4 << 20)), versions(rows), sysmfg=False)
    compared = 0
    for number, (way, sent) in enumerate(rows):
        if way != ">":
            continue
        said = module.receive(sent or bytes(99_999))  # which the recording only describes
        answer = b"".join(data for back, data in rows[number + 1 : number + 2] if back == "<")
        if sent.startswith(b"AT+RESTORE"):
            module.restart()
        if not sent.startswith(UNKNOWN):
            assert said == re.sub(rb"\+STA_[A-Z]+:.*\r\n|\0\Z", b"", answer), sent
            compared += 1
    assert compared > 30


def test_a_deaf_module_hears_again_when_it_has_all_bytes(image_module):
    module = image_module()
    assert module.receive(b'AT+SYSFLASH=1,"fatfs",0,999999\r\n').endswith(b">")
    assert module.receive(b"AT\r\n") == b""
    assert module.receive(b"\xff" * 999_995) == b"\r\nERROR\r\n"
    assert module.receive(b"AT\r\n").endswith(b"OK\r\n")


@pytest.fixture
def image_module():
    import builders

    return lambda **options: AtModule(bytearray(builders.image()), **options)


def test_values_of_every_type_are_stored_and_read(image_module):
    module = image_module()
    module.receive(b"ATE0\r\n")
    for number, value in enumerate((200, -100, 60_000, -30_000, 4_000_000_000, -2_000_000_000), start=1):
        assert (
            module.receive(f'AT+SYSMFG=2,"test","k{number}",{number},{value}\r\n'.encode()) == b"\r\nOK\r\n"
        )
        said = module.receive(f'AT+SYSMFG=1,"test","k{number}"\r\n'.encode())
        assert said == f'+SYSMFG:"test","k{number}",{number},{len(str(value))},{value}\r\n\r\nOK\r\n'.encode()
    assert module.receive(b'AT+SYSMFG=2,"test","blob",8,6\r\n') == b">"
    assert module.receive(b"a\r\nOK\x00") == b"\r\nOK\r\n"
    assert module.receive(b'AT+SYSMFG=1,"test","blob",1,3\r\n') == (
        b'+SYSMFG:"test","blob",8,3,\r\nO\r\n\r\nOK\r\n'
    )
    assert b'+SYSMFG:"test","blob",8\r\n' in module.receive(b'AT+SYSMFG=1,"test"\r\n')
    assert module.receive(b'AT+SYSMFG=0,"test"\r\n') == b"\r\nOK\r\n"
    assert b"test" not in module.receive(b"AT+SYSMFG?\r\n")


def test_a_restart_in_the_middle_of_a_command(image_module):
    module = image_module(faults=Faults(reset_after=30))
    assert module.receive(b'AT+SYSFLASH=1,"mfg_nvs",0,4096\r\n') == b"\r\nready\r\n"
    assert module.receive(b"AT\r\n") == b"AT\r\n\r\nOK\r\n"

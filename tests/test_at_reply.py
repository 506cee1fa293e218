"""Replies are read alike, however their bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.at_port.reply import MAX_LINE, Event, Parser

REPLY = (
    b'+STA_CONNECTED:"10:13:46:bf:31:50"\r\nAT+X\r\n'
    b"+SYSFLASH:9,a\r\nOK\r\n\xff\x00\r\nOK\r\n"
    b'+SYSMFG:"ns","key",8,4,\r\n>+\r\n\r\nERR CODE:0x010a0000\r\n\r\nERROR\r\nready\r\nbusy p...\r\n'
    b'+SYSMFG:"ns","key",7\r\n+SYSMFG:"ns","key",1,1,3\r\n+SYSFLASH:"fatfs",1,129,0x47000,0x19000\r\n>'
)
EVENTS = [
    Event("line", '+STA_CONNECTED:"10:13:46:bf:31:50"'),
    Event("line", "AT+X"),
    Event("data", "+SYSFLASH:9,", b"a\r\nOK\r\n\xff\x00", ok=True),
    Event("closing", "OK", ok=True),
    Event("data", '+SYSMFG:"ns","key",8,4,', b"\r\n>+", ok=True),
    Event("line", ""),
    Event("code", "ERR CODE:0x010a0000", code=0x010A0000),
    Event("line", ""),
    Event("closing", "ERROR", ok=False),
    Event("ready", "ready"),
    Event("busy", "busy p..."),
    Event("line", '+SYSMFG:"ns","key",7'),
    Event("line", '+SYSMFG:"ns","key",1,1,3'),
    Event("line", '+SYSFLASH:"fatfs",1,129,0x47000,0x19000'),
    Event("prompt"),
]


def read(*pieces: bytes) -> list[Event]:
    parser = Parser()
    return [event for piece in pieces for event in parser.feed(piece, prompt=True)]


@pytest.mark.parametrize("at", range(len(REPLY) + 1))
def test_split_at_every_byte(at):
    assert read(REPLY[:at], REPLY[at:]) == EVENTS


def test_byte_by_byte():
    assert read(*(REPLY[at : at + 1] for at in range(len(REPLY)))) == EVENTS


@pytest.mark.parametrize("data", [b"ab", b"abc", b"abcde", b"abcdef"])
def test_data_of_another_length_is_not_whole(data):
    (found,) = [event for event in read(b"+SYSFLASH:4," + data + b"\r\nOK\r\n") if event.kind == "data"]
    assert not found.ok


def test_without_a_question_for_data_there_is_no_prompt():
    parser = Parser()
    assert list(parser.feed(b">\r\nOK\r\n")) == [Event("line", ">"), Event("closing", "OK", ok=True)]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.binary(max_size=60), max_size=12))
def test_anything_may_arrive(pieces):
    once = read(b"".join(pieces))
    assert read(*pieces) == once


def test_noise_without_line_ends_is_not_kept():
    parser = Parser()
    for _ in range(100):
        assert not list(parser.feed(b"\xf3" * 4096))
    assert len(parser.rest) <= MAX_LINE + 4096

"""The legacy PKI item list, against real partitions and any bytes."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.errors import EspAtError, FormatError, InputError
from esp_at_tools.formats.pki_list import MAX_ITEM_SIZE, TYPE_CERTIFICATE, TYPE_KEY, PkiList, PkiListItem

GROUPS = ("client_ca", "client_cert", "client_key", "mqtt_ca", "mqtt_cert", "mqtt_key",
          "server_ca", "server_cert", "server_key")  # fmt: skip
RELEASES = ("ESP32-C3-MINI-1-V2.3.0.0", "ESP32-WROOM-32-V2.2.0.0", "ESP8266-AT-V2.2.1.0")


def packed(
    *items: tuple[int, int, bytes], magic: int = 0xF1F1, count: int | None = None, extra: int = 0
) -> bytes:
    """A list made by hand."""
    body = b"".join(
        struct.pack("<BBH", type_, id_, len(data)) + data + b"\xff" * (-len(data) % 4)
        for type_, id_, data in items
    )
    return struct.pack("<HHI", magic, len(items) if count is None else count, len(body) + extra) + body


@pytest.fixture(scope="session")
def real(shared):
    files = [
        path
        for release in RELEASES
        for group in GROUPS
        if (path := shared / "firmware" / release / "customized_partitions" / f"{group}.bin").exists()
    ]
    assert len(files) == 24
    return {f"{path.parent.parent.name}/{path.stem}": path.read_bytes() for path in files}


def test_real_lists_round_trip(real):
    for name, data in real.items():
        parsed = PkiList.from_bytes(data)
        assert len(parsed.items) == (2 if "client" in name else 1), name
        assert [item.type for item in parsed.items] == [TYPE_CERTIFICATE] * len(parsed.items), name
        assert [item.id for item in parsed.items] == list(range(len(parsed.items))), name
        assert all(item.data.startswith(b"-----BEGIN ") for item in parsed.items), name
        assert all(item.data.endswith(b"-----\n") for item in parsed.items), name
        assert parsed.to_bytes() == data, name
        assert PkiList.from_bytes(data.ljust(0x2000, b"\xff")) == parsed, name


def test_real_lists_change_and_reverse(real):
    for data in real.values():
        before = PkiList.from_bytes(data)
        for index in range(len(before.items)):
            after = before.set(index, b"new")
            assert after.get(index) == b"new"
            assert [after.get(i) for i in range(3) if i != index] == [
                before.get(i) for i in range(3) if i != index
            ]
            assert after.set(index, before.items[index].data).to_bytes() == data
            assert before.remove(index).set(index, before.items[index].data).to_bytes() == data


def test_bytes_are_as_at_pki_writes_them():
    made = PkiList().set(0, b"abcde").set(1, b"wxyz")
    expected = bytes.fromhex("f1f1 0200 14000000") + b"\x02\0\x05\0abcde\xff\xff\xff" + b"\x02\1\x04\0wxyz"
    assert made.to_bytes() == expected == packed((2, 0, b"abcde"), (2, 1, b"wxyz"))


def test_types_found_are_kept():
    before = PkiList.from_bytes(packed((3, 0, b"abc"), (3, 1, b"def")))
    assert [item.type for item in before.set(0, b"x").set(2, b"y").items] == [3, 3, 3]
    assert [item.id for item in before.set(3, b"y").items] == [0, 1, 2, 3]
    assert PkiList().set(0, b"x", TYPE_KEY).items == (PkiListItem(3, 0, b"x", b"\xff" * 3),)


def test_mixed_types_number_their_own_kind():
    before = PkiList.from_bytes(packed((1, 0, b"abc"), (2, 0, b"def")))
    assert [(item.type, item.id) for item in before.set(2, b"x").items] == [(1, 0), (2, 0), (2, 1)]


def test_places_do_not_move():
    both = PkiList().set(0, b"zero").set(1, b"one")
    second = both.remove(0)
    assert (second.get(0), second.get(1)) == (None, b"one")
    assert second.to_bytes() == packed((2, 0, b""), (2, 1, b"one"))
    assert PkiList().set(1, b"one").to_bytes() == second.to_bytes()
    assert both.remove(1).to_bytes() == packed((2, 0, b"zero"))
    assert second.remove(1) == PkiList()
    assert PkiList.from_bytes(second.to_bytes()) == second


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff" * 0x2000])
def test_blank_partition_is_an_empty_list(data):
    assert PkiList.from_bytes(data) == PkiList()
    assert PkiList().to_bytes() == b""
    assert PkiList().get(0) is None


def test_last_padding_may_be_missing():
    data = bytes.fromhex("f1f1 0100 05000000 02000100") + b"x"
    before = PkiList.from_bytes(data + b"\0leftover")
    assert before.to_bytes() == data
    grown = before.set(1, b"y").to_bytes()
    assert grown == packed((2, 0, b"x"), (2, 1, b"y"))


def test_odd_padding_is_kept():
    data = packed((2, 0, b"x"), (2, 1, b"y")).replace(b"x\xff\xff\xff", b"x\0\1\2")
    before = PkiList.from_bytes(data)
    assert before.to_bytes() == data
    assert b"x\0\1\2" in before.set(1, b"z").to_bytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xf1\xf1\1", "3 bytes"),
        (bytes(8), "starts with 0x0000"),
        (b"-----BEGIN CERTIFICATE-----\n", "starts with 0x2d2d"),
        (packed((2, 0, b"abcd"), extra=1), "announces 9 bytes of items where there are 8"),
        (packed((2, 0, b"abcd"), extra=1) + b"\xff", "1 bytes follow its 1 items"),
        (packed((2, 0, b"abcd"), count=2), "announces 2 items and ends after 1"),
        (packed((2, 0, b"abcd"), count=0), "8 bytes follow its 0 items"),
        (struct.pack("<HHI", 0xF1F1, 1, 0xFFFFFFFF) + b"\xff" * 100, "announces 4294967295 bytes"),
        (packed((2, 0, b"abcd")).replace(b"\4\0ab", b"\5\0ab"), "item 0 of 5 bytes goes past"),
    ],
)
def test_what_is_no_list(data, message):
    with pytest.raises(FormatError, match=message) as caught:
        PkiList.from_bytes(data)
    assert caught.value.hint


def test_what_cannot_be_stored():
    with pytest.raises(InputError, match="0 bytes"):
        PkiList().set(0, b"")
    with pytest.raises(InputError, match="65536 bytes"):
        PkiList().set(0, bytes(MAX_ITEM_SIZE + 1))
    for index in (-1, 127):
        with pytest.raises(InputError, match="no such place"):
            PkiList().set(index, b"x")
    with pytest.raises(InputError, match="there is none"):
        PkiList().remove(0)


ITEMS = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=9)), min_size=1, max_size=5
)


@settings(max_examples=200, deadline=None)
@given(ITEMS, st.integers(0, 6), st.binary(min_size=1, max_size=9), st.binary(max_size=5))
def test_any_list_survives(items, index, data, rest):
    raw = packed(*items)
    before = PkiList.from_bytes(raw + rest)
    assert before.to_bytes() == raw
    after = PkiList.from_bytes(before.set(index, data).to_bytes())
    assert after.get(index) == data
    assert [after.get(i) for i in range(9) if i != index] == [before.get(i) for i in range(9) if i != index]
    assert before.set(index, data).remove(index).get(index) is None


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.binary(max_size=64), st.binary(max_size=64).map(lambda b: b"\xf1\xf1" + b)))
def test_only_our_errors(data):
    with contextlib.suppress(EspAtError):
        parsed = PkiList.from_bytes(data)
        assert PkiList.from_bytes(parsed.to_bytes()) == parsed


def test_byte_flips_of_a_real_list(real):
    data = real["ESP8266-AT-V2.2.1.0/client_key"]
    for offset in [*range(16), *range(1680, 1700), *range(len(data) - 8, len(data))]:
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[offset] ^= flip
            with contextlib.suppress(EspAtError):
                assert PkiList.from_bytes(bytes(damaged)).to_bytes() == bytes(damaged)

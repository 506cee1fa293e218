"""A partition from a template has the bytes that laying it out anew gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nvs_oracle import official

from esp_at_tools.errors import InputError
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.nvs.template import NvsTemplate, spans

SIZE = 0x6000
KEYS = [("a", "blob"), ("a", "text"), ("b", "number"), ("b", "other")]
FILL = st.lists(st.integers(0, 700), max_size=12)
BLOB = st.integers(0, 9000)


def partition(fill: list[int], values: list[int | bytes], version: int = 2) -> NvsPartition:
    """A partition with these values between others that fill pages."""
    made = NvsPartition.empty(SIZE, version=version)
    blob, text, number, other = values
    for place, size in enumerate(fill[::2]):
        made.set("a", f"before{place}", "blob", b"x" * size)
    made.set("a", "blob", "blob", blob)
    made.set("a", "text", "string", text.decode())
    for place, size in enumerate(fill[1::2]):
        made.set("b", f"between{place}", "string", "y" * size)
    made.set("b", "number", "i32", number)
    made.set("b", "other", "blob", other)
    return made


def other_value(data: st.DataObject, value: bytes, *, text: bool) -> bytes:
    """Another value of as many entries."""
    most = 32 * spans(value, text=text) - text
    size = data.draw(st.integers(max(most - 31, 0), max(most, 0)))
    return bytes(data.draw(st.integers(97, 122)) for _ in range(1)) * size


@settings(max_examples=120)
@given(
    data=st.data(), fill=FILL, one=BLOB, two=st.integers(0, 3000), three=BLOB, version=st.sampled_from([1, 2])
)
def test_other_values_of_the_same_length_in_entries(data, fill, one, two, three, version):
    if version == 1:
        one, three = one % 1984, three % 1984
    first = [b"1" * one, b"2" * two, -5, b"3" * three]
    try:
        image = partition(fill, first, version).to_bytes()
    except InputError:  # it does not fit
        return
    template = NvsTemplate(image, KEYS)
    assert template.render(first) == image
    second = [other_value(data, value, text=place == 1) if isinstance(value, bytes) else 7
              for place, value in enumerate(first)]  # fmt: skip
    assert template.render(second) == partition(fill, second, version).to_bytes()


def test_the_public_generators_bytes(tmp_path):
    rows = ["key,type,encoding,value", "a,namespace,,", "blob,data,hex2bin,{}", "text,data,string,{}",
            "b,namespace,,", "number,data,i32,{}", "other,data,binary,{}"]  # fmt: skip
    csv = "\n".join(rows) + "\n"
    template = NvsTemplate(official(tmp_path, csv.format("ab" * 5000, "t" * 100, 1, "z" * 33), SIZE), KEYS)
    wanted = official(tmp_path, csv.format("cd" * 4993, "s" * 96, -9, "y" * 64), SIZE)
    assert template.render([b"\xcd" * 4993, b"s" * 96, -9, b"y" * 64]) == wanted


def test_what_a_template_cannot_do_is_refused():
    image = partition([], [b"1" * 100, b"text", 1, b"3"]).to_bytes()
    template = NvsTemplate(image, KEYS)
    for value in (b"", b"1" * 96, b"1" * 129):
        with pytest.raises(ValueError, match="another number"):
            template.render([value, b"text", 1, b"3"])
    with pytest.raises(ValueError, match="exactly once"):
        NvsTemplate(image, [("a", "absent")])
    with pytest.raises(ValueError, match="fresh"):
        NvsTemplate(image[:66] + b"\0" + image[67:], KEYS)
    with pytest.raises(ValueError, match="fresh"):
        NvsTemplate(image[:66] + b"\xff" + image[67:], KEYS)

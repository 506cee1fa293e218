"""``mfg_nvs`` as a build makes it: the CSV alone gives the same bytes to the public generator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import builders
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.build.mfg_nvs import Contents, PkiFile, item_keys, mfg_nvs, to_csv
from esp_at_tools.errors import EspAtError, FormatError, InputError
from esp_at_tools.formats.nvs import NvsPartition

SIZE = 0x8000
PLAIN = Contents(
    parameters={"version": 4, "module_name": "MINI-1", "uart_tx_pin": -1},
    types={"version": "i8", "module_name": "string", "uart_tx_pin": "i32"},
)


def entries(data: bytes) -> list[tuple[str, str, object]]:
    """What the firmware reads, in order."""
    return [(each.namespace, each.key, each.value) for each in NvsPartition.from_bytes(data).entries]


def test_parameters_alone() -> None:
    made = mfg_nvs(PLAIN, SIZE)
    assert made.csv == (
        "key,type,encoding,value\n"
        "factory_param,namespace,,\n"
        "version,data,i8,4\n"
        'module_name,data,string,"MINI-1"\n'
        "uart_tx_pin,data,i32,-1\n"
    )
    assert made.data == builders.generate(made.csv, SIZE)
    assert not made.private


def test_everything_in_the_official_order(tmp_path: Path) -> None:
    (tmp_path / "a.crt").write_bytes(b"\x00\xff certificate")
    pki = {
        "client_cert": (PkiFile("client_cert.0", b"\x00\xff certificate", "a.crt"),),
        "client_ca": (),
        "mqtt_ca": (PkiFile("mqtt_ca", bytes(range(256)) * 20),),
    }
    made = mfg_nvs(replace(PLAIN, pki=pki, gatts=("0,16,0x2800,0x01,2,2,A002",)), SIZE)
    assert [line.partition(",")[0] for line in made.csv.splitlines()] == [
        "key", "client_cert", "client_cert.0", "mqtt_ca", "mqtt_ca",
        "factory_param", "version", "module_name", "uart_tx_pin", "ble_data", "cfg0",
    ]  # fmt: skip
    assert "client_cert.0,file,binary,a.crt\n" in made.csv
    assert 'cfg0,data,string,"0,16,0x2800,0x01,2,2,A002"\n' in made.csv
    assert made.data == builders.generate(made.csv, SIZE, tmp_path)
    assert entries(made.data)[:2] == [
        ("client_cert", "client_cert.0", b"\x00\xff certificate"),
        ("mqtt_ca", "mqtt_ca", bytes(range(256)) * 20),
    ]


def test_quotes_and_commas_come_through() -> None:
    awkward = 'a "quoted", comma'
    contents = replace(
        PLAIN,
        pki={"server_ca": (PkiFile("server_ca", b"x", 'certs/my "own", ca.pem'),)},
        parameters={**PLAIN.parameters, "module_name": awkward},
        gatts=(awkward, '"', "#", ""),
    )
    made = mfg_nvs(contents, SIZE)
    found = entries(made.data)
    assert ("factory_param", "module_name", awkward) in found
    assert [value for namespace, _, value in found if namespace == "ble_data"] == [awkward, '"', "#", ""]
    wanted = {'certs/my "own", ca.pem': b"x"}
    again = NvsPartition.from_csv(made.csv, SIZE, read_file=wanted.__getitem__)
    assert again.to_bytes() == made.data


@pytest.mark.parametrize(
    ("namespace", "count", "keys"),
    [
        ("server_cert", 1, ("server_cert",)),
        ("client_cert", 2, ("client_cert.0", "client_cert.1")),
        ("https_ca", 3, ("https_ca.0", "https_ca.1", "https_ca.2")),
        ("mqtt_ca", 0, ()),
    ],
)
def test_keys_have_numbers_where_there_are_several(namespace: str, count: int, keys: tuple[str, ...]) -> None:
    assert item_keys(namespace, count) == keys


@pytest.mark.parametrize(
    ("namespace", "data", "private"),
    [
        ("server_cert", b"-----BEGIN CERTIFICATE-----", False),
        ("server_key", b"\x30\x82 a key in DER form", True),
        ("server_cert", b"-----BEGIN RSA PRIVATE KEY-----", True),
    ],
)
def test_private_keys_are_known(namespace: str, data: bytes, private: bool) -> None:
    contents = replace(PLAIN, pki={namespace: (PkiFile(namespace, data),)})
    assert mfg_nvs(contents, SIZE).private is private


def test_what_does_not_fit_says_how_much_it_needs() -> None:
    items = tuple(PkiFile(f"client_cert.{number}", bytes([number]) * 1700) for number in range(40))
    contents = replace(PLAIN, pki={"client_cert": items})
    with pytest.raises(InputError) as caught:
        mfg_nvs(contents, 0x4000)
    text = caught.value.message
    assert text.startswith("mfg_nvs: needs ")
    assert text.endswith("and has 4 (16384 bytes)")
    pages = int(text.split()[2])
    assert f"({pages * 4096} bytes)" in text
    assert f"--partition mfg_nvs={pages * 4}K" in caught.value.hint
    assert "elliptic curves" in caught.value.hint
    assert len(mfg_nvs(contents, pages * 4096).data) == pages * 4096
    with pytest.raises(InputError):
        mfg_nvs(contents, (pages - 1) * 4096)


@pytest.mark.parametrize("size", [0, -4096, 100, 0x3100, 1 << 40])
def test_impossible_sizes(size: int) -> None:
    with pytest.raises(InputError, match=r"^mfg_nvs: a partition of -?\d+ bytes"):
        mfg_nvs(PLAIN, size)


def test_values_that_nvs_cannot_hold() -> None:
    with pytest.raises(FormatError, match=r"mfg_nvs\.csv, line 2, key 'a_namespace_of_17': the key is 17"):
        mfg_nvs(replace(PLAIN, pki={"a_namespace_of_17": (PkiFile("a", b""),)}), SIZE)
    with pytest.raises(FormatError, match=r"key 'version': the value does not fit in i8"):
        mfg_nvs(replace(PLAIN, parameters={"version": 400}), SIZE)


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x17F, exclude_categories=("Cc",)), max_size=40)
CONTENTS = st.builds(
    Contents,
    pki=st.dictionaries(
        st.sampled_from(["server_ca", "client_key", "mqtt_cert"]),
        st.lists(st.binary(max_size=5000), max_size=2).map(
            lambda items: tuple(PkiFile(f"item.{number}", data) for number, data in enumerate(items))
        ),
    ),
    parameters=st.fixed_dictionaries(
        {"version": st.integers(-128, 127), "module_name": TEXT, "sys_store": st.integers(0, 255)}
    ),
    types=st.just({"version": "i8", "module_name": "string", "sys_store": "u8"}),
    gatts=st.lists(TEXT, max_size=5).map(tuple),
)


@given(contents=CONTENTS)
@settings(max_examples=60)
def test_the_csv_alone_gives_the_same_bytes(contents: Contents) -> None:
    made = mfg_nvs(contents, 0x10000)
    assert made.csv == to_csv(contents)
    assert NvsPartition.from_csv(made.csv, 0x10000).to_bytes() == made.data
    if "blob_base64" not in made.csv:  # ours, for cells that the public generator does not read
        assert builders.generate(made.csv, 0x10000) == made.data
    values = [file.data for items in contents.pki.values() for file in items]
    values += [*contents.parameters.values(), *contents.gatts]
    assert [value for _, _, value in entries(made.data)] == values


@given(
    key=st.text(max_size=20), data=st.binary(max_size=9000), text=st.text(max_size=50), size=st.integers(1, 9)
)
@settings(max_examples=60)
def test_any_contents_are_made_or_refused(key: str, data: bytes, text: str, size: int) -> None:
    contents = Contents(
        {key: (PkiFile(key, data),)}, {"a": text, "b": 1}, {"a": "string", "b": "u8"}, (text,)
    )
    try:
        made = mfg_nvs(contents, size * 4096)
    except EspAtError:
        return
    assert len(made.data) == (size * 4096 if size != 2 else 4096)  # of two pages the generator writes one

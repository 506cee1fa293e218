"""The quick way of making a device against ``modify`` itself: the same bytes, or the same refusal."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import batches
import builders
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.batch.job import Job
from esp_at_tools.batch.maker import Maker
from esp_at_tools.errors import EspAtError

NOW = dt.datetime.now(dt.timezone.utc)
PROFILE = """
settings: {uart_rx_pin: 5, uart_cts_pin: -1, country_code: '{country}'}
pki: {mqtt_ca: keys/ca.crt, mqtt_cert: 'keys/{mqtt}.crt', mqtt_key: 'keys/{mqtt}.key'}
"""
CELLS = {
    "module_name": ["MINI-1", "a", "name", "x" * 31, "x" * 32, "x" * 60, "WROOM-5V2L", "é", "x" * 4000],
    "max_tx_power": ["78", "40", "39", "200", "0x50"],
    "country_code": ["CN", "US", "XX", "USA"],
    "channel_num": ["13", "11", "14", "15"],
    "uart_port": ["0", "1", "2", "-1"],
    "uart_baudrate": ["115200", "9600", "79", "fast"],
    "uart_tx_pin": ["7", "5", "10", "99", "-1"],
    "uart_rts_pin": ["4", "7", "-1"],
    "sys_store": ["1", "0", "2"],
    "client_ca.0": ["keys/ca.crt", "keys/same-ca.crt", "keys/1.crt"],
    "client_cert.0": [
        "keys/1.crt",
        "keys/2.crt",
        "keys/same.crt",
        "keys/1.der",
        "keys/old.crt",
        "keys/1.key",
        "no",
    ],
    "client_key.0": ["keys/1.key", "keys/2.key", "keys/same.key", "keys/1.crt"],
    "cfg1": [batches.GATTS[1], "1,16,0x2803,0x01,1,1,08", "1,16", "1,16,0x2803,0x01,1,1,0A"],
    "cfg3": ["3,16,0xC301,0x01,1,1,31", "3,16,0x2803,0x01,1,1,02"],
    "cfg5": ["5,16,0x2800,0x01,2,2,A003"],
    "country": ["CN", "DE", "JP", "US", "X1"],
    "mqtt": ["1", "2", "3"],
}
IDENTITIES = [("keys/1.crt", "keys/1.key"), ("keys/2.crt", "keys/2.key"), ("keys/1.crt", "keys/2.key")]


@st.composite
def rows(draw) -> dict[str, str]:
    """A few columns, of which most rows are right."""
    names = draw(st.lists(st.sampled_from(list(CELLS)[:-2]), unique=True, max_size=4))
    row = {name: CELLS[name][min(draw(st.integers(0, 6)), draw(st.integers(0, 3)), len(CELLS[name]) - 1)]
           for name in names}  # fmt: skip
    if draw(st.booleans()):
        row |= zip(("client_cert.0", "client_key.0"), draw(st.sampled_from(IDENTITIES)), strict=True)
    row |= {"country": draw(st.sampled_from(CELLS["country"])), "mqtt": draw(st.sampled_from(CELLS["mqtt"]))}
    return {name: row[name] for name in CELLS if name in row}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("maker")
    batches.make(folder, 1)
    (folder / "image.bin").write_bytes(builders.image(batches.mfg_nvs(builders.MFG_SIZE)))
    (folder / "keys/ca.crt").write_bytes(builders.certificate(30, ca=True))
    (folder / "keys/same-ca.crt").write_bytes(batches.shared_pki()["client_ca.0"])
    (folder / "keys/same.crt").write_bytes(batches.shared_pki()["client_cert.0"])
    (folder / "keys/same.key").write_bytes(batches.shared_pki()["client_key.0"])
    (folder / "keys/1.der").write_bytes(builders.certificate(1, der=True))
    (folder / "keys/old.crt").write_bytes(builders.certificate(1, days=(-9, -1)))
    (folder / "profile.yaml").write_text(PROFILE)
    return folder


def made(maker: Maker, row: dict[str, str]) -> object:
    try:
        found = maker.make(row)
    except EspAtError as error:
        return type(error), error.message, error.hint
    outputs = {kind: b"".join(chunks) for kind, chunks in found.outputs.items()}
    return outputs, found.certificates, found.not_after


@pytest.mark.parametrize("profile", [False, True])
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["in.bin", "image.bin"])
def test_the_quick_way_is_no_other(folder, profile, force, name):
    kinds = ("mfg_nvs",) if name == "in.bin" else ("image", "mfg_nvs")
    path = folder / "profile.yaml" if profile else None
    job = Job(
        folder / name, folder, folder, NOW, kinds, path, force, "" if name == "image.bin" else "esp32c3"
    )
    quick, slow = Maker(job), Maker(job)
    slow._quick = False

    right = 0

    @settings(max_examples=60)
    @given(row=rows())
    def same(row):
        nonlocal right
        first, second = made(quick, row), made(quick, row)
        assert first == second == made(slow, row)
        right += isinstance(first[0], dict)

    same()
    assert right > 5


def test_what_is_usual_takes_the_quick_way(folder, monkeypatch):
    maker = Maker(Job(folder / "in.bin", folder, folder, NOW, ("mfg_nvs",)))
    devices = [batches.device(number) for number in range(30)]
    for row in devices:
        maker.make(row)
    monkeypatch.setattr(Maker, "_slowly", None)
    for row in devices:
        maker.make(row)

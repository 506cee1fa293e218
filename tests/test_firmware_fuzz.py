"""Damaged and hostile firmware: only errors of ours come out, in bounded time and memory."""

from __future__ import annotations

import functools
import io
import random
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import builders
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esp_at_tools.errors import EspAtError
from esp_at_tools.firmware.compare import compare
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.modify import modify
from esp_at_tools.firmware.request import Request
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.partition_table import Partition, PartitionTable

EXAMPLES = settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
APP, HOME, NVS_SIZE = 0x10000, 0x20000, 0x4000
ROW = "0,16,0x2800,0x01,2,2,A002"


def small_image(parameters: dict[str, bytes]) -> bytes:
    """An image of some 200 KB: bootloader, tables, application, parameters."""
    secondary, flash, at = [], bytearray(b"\xff" * HOME), HOME + 0x1000
    for name, data in parameters.items():
        size = -(-len(data) // 0x1000) * 0x1000
        secondary.append(Partition(name, 0x40, len(secondary), at, size))
        flash.extend(b"\xff" * (at + size - len(flash)))
        flash[at : at + len(data)] = data
        at += size
    home = Partition("at_customize", 0x40, 0, HOME, at - HOME)
    primary = PartitionTable((Partition("ota_0", 0, 0x10, APP, 0x10000), home))
    pieces = {
        0: builders.esp_image(app=False),
        0x8000: primary.to_bytes(),
        APP: builders.esp_image(),
        HOME: PartitionTable(tuple(secondary)).to_bytes(),
    }
    for place, data in pieces.items():
        flash[place : place + len(data)] = data
    return bytes(flash)


@functools.cache
def modern() -> bytes:
    rows = f'ble_data,namespace,,\ncfg0,data,string,"{ROW}"\nmqtt_ca,namespace,,\nmqtt_ca,data,base64,AAAA\n'
    return small_image({"mfg_nvs": NvsPartition.from_csv(builders.mfg_csv(rows), NVS_SIZE).to_bytes()})


@functools.cache
def legacy() -> bytes:
    lists = {"client_cert": builders.pki_list(b"one", b"two"), "mqtt_ca": builders.pki_list(b"ca")}
    return small_image({"factory_param": builders.factory_param(), "ble_data": builders.ble_data(), **lists})


def release_parts(image: bytes) -> dict[str, bytes]:
    """The files of a release made of an image."""
    pieces = {
        "boot.bin": (0, 0x2000),
        "table.bin": (0x8000, 0xC00),
        "at_customize.bin": (HOME, 0xC00),
        "esp-at.bin": (APP, 0x2000),
        "mfg_nvs.bin": (HOME + 0x1000, len(image) - HOME - 0x1000),
    }
    files = {name: image[at : at + size] for name, (at, size) in pieces.items()}
    words = " ".join(f"{at:#x} {name}" for name, (at, _) in pieces.items())
    files["download.config"] = f"--flash_mode dio --flash_freq 40m --flash_size 4MB {words}".encode()
    files["mfg_nvs.csv"] = builders.mfg_csv().encode()
    return files


@functools.cache
def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in release_parts(modern()).items():
            out.writestr(zipfile.ZipInfo(f"r/{name}"), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def use(path: Path, target: Path) -> bool:
    """Open, read all, change, write and compare; tell whether all of it was possible."""
    firmware = None
    try:
        firmware = Firmware.open(path)
        firmware.settings(), firmware.pki(), firmware.gatts()
        assert compare(firmware, firmware).differences == []
        request = Request(settings={"uart_baudrate": 9600, "uart_tx_pin": 10}, gatts={"cfg0": ROW})
        outcome = modify(firmware, request, force=True)
        firmware.write(target)
        assert Firmware.open(target).get("uart_baudrate") == 9600
        assert {change.name for change in outcome.changes} <= {"uart_baudrate", "uart_tx_pin", "cfg0"}
    except EspAtError as error:
        if not error.message or "bug" in error.hint:  # what was written did not read back as asked
            raise AssertionError(str(error)) from error
        return False
    return True


@pytest.fixture
def places(tmp_path):
    """Where an example may put its input and output; emptied by whoever uses it."""
    return tmp_path / "in", tmp_path / "out"


def attempt(places: tuple[Path, Path], data: bytes) -> bool:
    source, target = places
    source.write_bytes(data)
    try:
        return use(source, target)
    finally:
        target.unlink(missing_ok=True)


def flips(image: bytes) -> st.SearchStrategy[bytes]:
    """Damage where it matters: the tables, the headers and the parameters."""
    size = len(image)
    regions = [(0, 0x100), (0x8000, 0x8060), (APP, APP + 0x200), (HOME, HOME + 0x80), (HOME + 0x1000, size)]
    offsets = st.one_of(*(st.integers(low, high - 1) for low, high in regions))
    damage = st.lists(st.tuples(offsets, st.binary(min_size=1, max_size=4)), min_size=1, max_size=6)

    def apply(changes: list[tuple[int, bytes]]) -> bytes:
        flash = bytearray(image)
        for offset, data in changes:
            flash[offset : offset + len(data)] = data
        return bytes(flash)

    return damage.map(apply)


def test_the_undamaged_ones_work(places):
    for data in (modern(), legacy(), archive()):
        assert attempt(places, data)


@EXAMPLES
@given(data=st.data())
def test_damaged_images(places, data):
    image = data.draw(st.sampled_from(["modern", "legacy"]))
    attempt(places, data.draw(flips(modern() if image == "modern" else legacy())))


@EXAMPLES
@given(size=st.integers(0, 0x26000), legacy_image=st.booleans())
def test_truncated_images(places, size, legacy_image):
    image = legacy() if legacy_image else modern()
    whole = size >= len(image)
    assert attempt(places, image[:size]) <= (whole or size > HOME + 0x1000)


@EXAMPLES
@given(data=st.data())
def test_damaged_archives(places, data):
    damaged = bytearray(archive())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(
            st.one_of(st.integers(0, len(damaged) - 1), st.integers(len(damaged) - 600, len(damaged) - 1))
        )
        damaged[at] = data.draw(st.integers(0, 255))
    attempt(
        places,
        bytes(damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged),
    )


WORDS = st.sampled_from(
    [
        *("0x8000", "0x0", "-1", "0xffffffff", "0x1fffff", "16777215", "4MB", "--flash_size", "null"),
        *("table.bin", "../in", "mfg_nvs.bin", "/dev/zero", "nothing", '"flash_files"', "\0", "é", "\x85"),
        *'{}[]":,\\',
    ]
)


@EXAMPLES
@given(data=st.data())
def test_damaged_releases(places, data):
    """A list of parts, a CSV or a part that is not what it should be."""
    source, target = places
    source.mkdir(exist_ok=True)
    files = release_parts(modern())
    if data.draw(st.booleans()):
        files["flasher_args.json"] = b'{"flash_files": {"0x8000": "table.bin", "0x10000": "esp-at.bin"}}'
    name = data.draw(st.sampled_from(sorted(files)))
    text = files[name].decode("latin-1")
    at = data.draw(st.integers(0, len(text)))
    words = data.draw(st.lists(WORDS, max_size=6))
    files[name] = (text[:at] + " ".join(words) + text[data.draw(st.integers(at, len(text))) :]).encode(
        "latin-1"
    )
    if data.draw(st.booleans()):
        del files[data.draw(st.sampled_from(sorted(files)))]
    for old in source.iterdir():
        old.unlink()
    for path, contents in files.items():
        (source / path).write_bytes(contents)
    try:
        use(source, target)
    finally:
        import shutil

        shutil.rmtree(target, ignore_errors=True)


BEGINNINGS = st.sampled_from(
    [
        *(b"", b"\xe9", b"\xe9\x03\x02\x20", b"\xea", b"\xaa\x50", b"\xfc\xfc\x03", b"\xf1\xf1", b"\x7fELF"),
        *(b"PK\3\4", b"PK\5\6", b"\xfe\xff\xff\xff\0\0\0\0\xfe"),
        *(b"\xff" * 0x8000 + b"\xaa\x50", b"\xff" * 0x1000 + b"\xe9\1"),
    ]
)


@EXAMPLES
@given(beginning=BEGINNINGS, rest=st.binary(max_size=9000), fill=st.sampled_from([0, 1000, 0x9000]))
def test_anything_else(places, beginning, rest, fill):
    attempt(places, beginning + rest + b"\xff" * fill)


# --- large ones ------------------------------------------------------------------------------------------

N = 16 << 20
ROW_BYTES = Partition("ota_0", 0, 0x10, 0x10000, 0x100000).to_bytes()
NO_APP = PartitionTable((Partition("x", 1, 2, 0x10000, 0x1000),), md5=False).to_bytes()


def large_nvs() -> bytes:
    """An image whose mfg_nvs takes all of 16 MB and is full of blank but active pages."""
    secondary = PartitionTable((Partition("mfg_nvs", 1, 2, HOME + 0x1000, N - HOME - 0x1000),)).to_bytes()
    home = Partition("at_customize", 0x40, 0, HOME, N - HOME)
    flash = bytearray(modern()[:HOME].ljust(N, b"\xff"))
    primary = PartitionTable((Partition("ota_0", 0, 0x10, APP, 0x10000), home)).to_bytes()
    flash[0x8000 : 0x8000 + len(primary)] = primary
    flash[HOME : HOME + len(secondary)] = secondary
    page = modern()[HOME + 0x1000 : HOME + 0x2000]
    flash[HOME + 0x1000 :] = page * ((N - HOME - 0x1000) // 0x1000)
    return bytes(flash)


LARGE = {
    "random": lambda: random.Random(1).randbytes(N),
    "marks of tables": lambda: b"\xaa\x50" * (N // 2),
    "rows without end": lambda: ROW_BYTES * (N // 32),
    "tables without an application": lambda: NO_APP.ljust(4096, b"\xff") * (N // 4096),
    "marks of images": lambda: b"\xe9" * N,
    "a modern image": lambda: builders.image().ljust(N, b"\xff"),
    "an mfg_nvs of 16 MB": large_nvs,
}

MEASURE = """
import sys
from pathlib import Path
from esp_at_tools.cli.main import run
status = run(["modify-bin", "-in", sys.argv[1], "-o", sys.argv[2], "-b", "9600", "--force", "-q"])
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(status, peak.split()[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of memory")
@pytest.mark.parametrize("name", LARGE)
def test_16_megabytes_of_anything(tmp_path, name):
    (tmp_path / "in").write_bytes(LARGE[name]())
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / "in", tmp_path / "out"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    status, peak = map(int, done.stdout.split())
    assert status in (0, 2), done.stderr
    assert "internal error" not in done.stderr
    assert (tmp_path / "out").exists() == (status == 0)
    assert peak < (400 << 10 if name == "an mfg_nvs of 16 MB" else 64 << 10)
    assert time.monotonic() - begin < 60

"""The public generator in this process, and random CSVs for it and ours."""

from __future__ import annotations

import base64
import io
import os
import random
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

from esp_idf_nvs_partition_gen import nvs_partition_gen as generator
from hypothesis import strategies as st

from esp_at_tools.errors import EspAtError
from esp_at_tools.files import read_file
from esp_at_tools.formats.nvs import NvsKeys, NvsPartition

HEADER = "key,type,encoding,value\n"
INTEGERS = {f"{sign}{bits}": (sign == "i", bits) for sign in "ui" for bits in (8, 16, 32, 64)}
BLOBS = ("hex2bin", "base64", "binary")


class _Silent:
    """The generator's log, without output; ``die`` ends the run as the original does."""

    def __getattr__(self, _name):
        return lambda *_args, **_options: None

    def die(self, *_args, **_options):
        raise SystemExit(1)


def official(folder: Path, text: str, size: int | str, *, version: int = 2, keys: NvsKeys | None = None):
    """Return what the public generator makes of a CSV, None where it refuses or crashes.

    Its own ``generate`` runs, with ``folder`` as the current folder.
    """
    source, target = folder / "official.csv", folder / "official.bin"
    source.write_text(text, encoding="utf-8", newline="")
    target.unlink(missing_ok=True)
    options = SimpleNamespace(
        input=[str(source)], output=str(target), size=str(size), version=version, outdir=str(folder)
    )
    secret = keys.encryption + keys.tweak if keys else None
    log, generator.log = generator.log, _Silent()
    here = Path.cwd()
    os.chdir(folder)
    try:
        generator.generate(options, is_encr_enabled=keys is not None, encr_key=secret)
    except (Exception, SystemExit):  # noqa: BLE001 - it crashes in many ways
        return None
    finally:
        os.chdir(here)
        generator.log = log
    return target.read_bytes()


def ours(folder: Path, text: str, size: int, *, version: int = 2, keys: NvsKeys | None = None):
    """Return what this package makes of a CSV, or the error with which it refuses."""
    try:
        return NvsPartition.from_csv(
            text, size, version=version, read_file=lambda name: read_file(folder / name), keys=keys
        ).to_bytes()
    except EspAtError as error:
        return error


def old_generator(text: str, size: int, *, version: int = 2) -> bytes:
    """Return what generators before esp-idf-nvs-partition-gen 0.1.7 make of simple rows.

    They gave the spare pages a header each, and marked all of them full.
    """
    code = {1: generator.Page.VERSION1, 2: generator.Page.VERSION2}[version]
    nvs = generator.NVS(io.BytesIO(), size - 4096, code)
    for line in text.splitlines()[1:]:
        key, kind, encoding, value = line.split(",", 3)
        generator.write_entry(nvs, key, kind, encoding, value)
    with suppress(generator.InsufficientSizeError):
        while True:
            nvs.create_new_page()
    nvs.size = None
    nvs.create_new_page(is_rsrv_page=True)
    return bytes(nvs.get_binary_data())


def quoted(cell: str) -> str:
    """Return a CSV cell."""
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\n\r') or cell.startswith("#") else cell


_ALPHABET = "abcXYZ 0189,;'\"#=/é日🙂"


def _text(seed: int, size: int, alphabet: str = _ALPHABET) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=size))


sizes = st.one_of(
    st.integers(0, 70),
    st.integers(0, 1900),
    st.sampled_from([0, 31, 32, 33, 1983, 1984, 1985, 3904, 3936, 3967]),
    st.integers(2000, 9000),
)
seeds = st.integers(0, 1 << 30)


@st.composite
def integer_cells(draw) -> tuple[str, str]:
    """An encoding and a value in its range."""
    encoding = draw(st.sampled_from(list(INTEGERS)))
    signed, bits = INTEGERS[encoding]
    low = -(1 << (bits - 1)) if signed else 0
    return encoding, str(draw(st.integers(low, low + (1 << bits) - 1)))


@st.composite
def varied_cells(draw) -> tuple[str, str]:
    """An encoding of variable length and a value for it."""
    encoding = draw(st.sampled_from(["string", "string", *BLOBS, "blob_fill", "blob_sz_fill"]))
    size, seed = draw(sizes), draw(seeds)
    if encoding.startswith("blob"):
        value = _text(seed, min(size, draw(st.integers(0, 40))))
        return f"{encoding}({len(value.encode()) + size};0x{seed & 0xFF:02x})", value
    if encoding == "string":
        return encoding, _text(seed, min(size, 3900) // 2)
    if encoding == "binary":
        return encoding, _text(seed, size, "abc,\"# '09\t")
    data = random.Random(seed).randbytes(size)
    return encoding, data.hex() if encoding == "hex2bin" else base64.b64encode(data).decode()


@st.composite
def csvs(draw) -> str:
    """A CSV that is well formed; it may be too large for its partition."""
    rows = ["space0,namespace,,"]
    count = draw(st.sampled_from([3, 10, 40, 140]))
    cells = draw(st.lists(st.one_of(integer_cells(), varied_cells()), max_size=count))
    for number, (encoding, value) in enumerate(cells):
        if draw(st.integers(0, 9)) == 0:
            rows.append(f"space{number},namespace,,")
        rows.append(f"key{number},data,{encoding},{quoted(value)}")
    return HEADER + "\n".join(rows) + "\n"


_KEYS = [
    *("a", "a", "b", "x" * 15, "x" * 16, "é", "日本語日本", "🙂🙂🙂", "é" * 8, "", "#k"),
    *("sta.ssid", "sta.pswd", "sta.pmk", "ap.ssid", "ap.passwd", "ap.authmode"),
]
_ENCODINGS = [
    *(*INTEGERS, "string", "binary", "hex2bin", "base64", "STRING", "U8", "Hex2Bin", "BASE64", "", "u9"),
    *("blob_fill(3)", "blob_fill(4;0x20)junk", "blob_sz_fill(4;0xzz)", "blob_fill(1;0x20)"),
]
_VALUES = [
    *("", "0", "1", " 7 ", "+5", "1_0", "-1", "300", "0x10", "abc", "616", "6162", "YQ==", "YQ=", "é日"),
    *("#x", 'say "x", y', "two\nlines", "two\r\n#lines", "missing.bin"),
]


@st.composite
def hostile_csvs(draw) -> str:
    """A CSV in which anything may be wrong."""

    def row(line) -> str:
        key, kind, encoding, value, cut = line
        cells = [quoted(key), kind, encoding, quoted(value)]
        return ",".join(cells[:cut] if cut < len(cells) else [*cells, *["surplus"] * (cut - 4)])

    kinds = st.sampled_from(["data"] * 9 + ["namespace", "file", "Data", ""])
    lines = st.tuples(
        st.one_of(st.sampled_from(_KEYS), st.text("abc", min_size=1, max_size=6)), kinds,
        st.sampled_from(_ENCODINGS), st.sampled_from(_VALUES), st.sampled_from([4] * 12 + [1, 2, 3, 5]),
    )  # fmt: skip
    plain = st.sampled_from(
        ["n,namespace,,", "m,namespace", "# a comment", "", ",,,", '# "', "n,namespace,,"]
    )
    body = draw(st.lists(st.one_of(lines.map(row), plain), max_size=8))
    header = draw(st.sampled_from([HEADER] * 12 + ["", "\n", "value,key,encoding,type\n", "key,type\n"]))
    start = draw(st.sampled_from(["n,namespace,,\n"] * 9 + [""]))
    return header + start + draw(st.sampled_from(["\n", "\n", "\r\n"])).join(body)

"""What the tests of batches share: a firmware, identities of devices, lists of them, and what came out."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import builders

from esp_at_tools.formats.nvs import NvsPartition

SIZE = 0x8000
IDENTITIES = 40
GATTS = (
    "0,16,0x2800,0x01,2,2,A002",
    "1,16,0x2803,0x01,1,1,02",
    "2,16,0xC300,0x01,1,1,30",
)


def mfg_csv(pki: Mapping[str, bytes] | None = None) -> str:
    """The CSV of a partition with settings, three GATT rows, and these items in this order."""
    rows = ["ble_data,namespace,,"]
    rows += [f'cfg{number},data,string,"{row}"' for number, row in enumerate(GATTS)]
    for group in dict.fromkeys(name.split(".")[0] for name in pki or {}):
        rows.append(f"{group},namespace,,")
        rows += [
            f"{name},data,hex2bin,{data.hex()}"
            for name, data in (pki or {}).items()
            if name.split(".")[0] == group
        ]
    return builders.mfg_csv("\n".join(rows) + "\n")


@functools.cache
def shared_pki() -> dict[str, bytes]:
    """What the input has."""
    return {
        "client_ca.0": builders.certificate(90, ca=True),
        "client_cert.0": builders.certificate(91),
        "client_key.0": builders.key_pem(91),
        "mqtt_ca": builders.certificate(90, ca=True),
    }


def mfg_nvs(size: int = SIZE) -> bytes:
    """A partition."""
    return builders.generate(mfg_csv(shared_pki()), size)


def make(folder: Path, rows: int, *, mac: bool = True, data: bytes | None = None) -> Path:
    """Write an input, identities, and a list of devices; return the list."""
    (folder / "keys").mkdir()
    (folder / "in.bin").write_bytes(data or mfg_nvs())
    for number in range(IDENTITIES):
        (folder / "keys" / f"{number}.crt").write_bytes(builders.certificate(number))
        (folder / "keys" / f"{number}.key").write_bytes(builders.key_pem(number))
    return write_list(folder / "devices.csv", [device(number, mac=mac) for number in range(rows)])


def device(number: int, *, mac: bool = True, **others: str) -> dict[str, str]:
    """A row of the list."""
    address = {"mac": (0xC40A24000000 + number).to_bytes(6, "big").hex(":")} if mac else {}
    identity = number % IDENTITIES
    return {
        "id": f"dev-{number:05}",
        **address,
        "module_name": f"name {number}",
        "client_cert.0": f"keys/{identity}.crt",
        "client_key.0": f"keys/{identity}.key",
        **others,
    }


def write_list(path: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    """Write a CSV; the columns are those of all rows."""
    rows = list(rows)
    columns = dict.fromkeys(column for row in rows for column in row)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def manifest(path: Path) -> list[dict[str, str]]:
    """The lines of a manifest, or of that of a folder."""
    path = path / "manifest.csv" if path.is_dir() else path
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))


def tree(folder: Path) -> dict[str, str]:
    """Everything in a folder, by name, as digests."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in builders.tree(folder).items()}


def expected(folder: Path, row: Mapping[str, str]) -> str:
    """The CSV that a device's partition is made of."""
    pki = dict(shared_pki())
    pki |= {name: (folder / text).read_bytes() for name, text in row.items() if name in pki}
    return mfg_csv(pki).replace(
        "module_name,data,string,MINI-1", f"module_name,data,string,{row['module_name']}"
    )


def generated(folder: Path, row: Mapping[str, str]) -> tuple[bytes, bytes]:
    """A device's partition as ``nvs generate`` and as the public generator make it."""
    text = expected(folder, row)
    return NvsPartition.from_csv(text, SIZE).to_bytes(), builders.generate(text, SIZE)

"""``mfg_nvs.csv`` and ``mfg_nvs.bin``: certificates, keys, factory parameters and the GATT table.

Both are what esp-at's own build makes of the same inputs, byte for byte; the CSV is written as data, not
spliced, so that a quotation mark in a value spoils nothing.

Source: ``components/customized_partitions/generation_tools/mfg_nvs.py`` of esp-at v5.0.1.0, which has not
changed in what it does since v3.1.0.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from esp_at_tools.build.recipe import UserPartition
from esp_at_tools.catalog.factory_params import Value
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.nvs.csv import COLUMNS, entry_row
from esp_at_tools.formats.nvs.model import PAGE_SIZE, NvsEntry
from esp_at_tools.formats.nvs.writer import MAX_PARTITION_SIZE, usable_pages
from esp_at_tools.pki.names import PRIVATE_KEY_MARK
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.names import BLE_DATA, FACTORY_PARAM

CSV_NAME = f"{MFG_NVS}.csv"
_KEYS_ENDING = "_key"
"""Ends the name of every namespace of private keys."""
_MARGIN = 4
"""By how much a partition for which the contents are measured is larger than the contents alone."""


@dataclass(frozen=True)
class PkiFile:
    """One certificate or private key.

    Attributes:
        key: its NVS key: ``server_cert``, ``client_cert.0``.
        data: the contents of its file, which are stored as they are.
        path: what the CSV names as its file, relative to the source tree; ``""`` puts the contents
            themselves into the CSV.
    """

    key: str
    data: bytes
    path: str = ""


@dataclass(frozen=True)
class Contents:
    """What ``mfg_nvs`` holds when a module leaves the factory.

    Attributes:
        pki: NVS namespace → its certificates or keys, in their order.
        parameters: factory parameter → value, in the order of the types.
        types: parameter → NVS type.
        gatts: the rows of the GATT table; none in a firmware without Bluetooth LE.
    """

    pki: Mapping[str, tuple[PkiFile, ...]] = field(default_factory=dict)
    parameters: Mapping[str, Value] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    gatts: tuple[str, ...] = ()


def item_keys(namespace: str, count: int) -> tuple[str, ...]:
    """Return the NVS keys of the files of a namespace: its own name, or with a number where there are more.

    Args:
        namespace: ``client_cert``.
        count: how many files it has.
    """
    if count == 1:
        return (namespace,)
    return tuple(f"{namespace}.{number}" for number in range(count))


def to_csv(contents: Contents) -> str:
    """Return the CSV, with ``file`` rows for what names a path and the bytes themselves for the rest."""
    return "".join(f"{row}\n" for row in _rows(contents))


def _rows(contents: Contents) -> Iterator[str]:
    yield ",".join(COLUMNS)
    for namespace, files in contents.pki.items():
        if files:
            yield f"{namespace},namespace,,"
        for file in files:
            if file.path:
                yield f"{file.key},file,binary,{_cell(file.path)}"
            else:
                yield entry_row(NvsEntry(namespace, file.key, "blob", file.data))
    yield f"{FACTORY_PARAM},namespace,,"
    for name, value in contents.parameters.items():
        yield _setting_row(name, contents.types[name], value)
    if contents.gatts:
        yield f"{BLE_DATA},namespace,,"
        for number, row in enumerate(contents.gatts):
            yield _string_row(BLE_DATA, f"cfg{number}", row)


def _setting_row(name: str, nvs_type: str, value: Value) -> str:
    if nvs_type == "string":
        return _string_row(FACTORY_PARAM, name, str(value))
    return f"{name},data,{nvs_type},{value}"


def _string_row(namespace: str, key: str, value: str) -> str:
    """Return the row of a string, which the official CSV always quotes."""
    row = entry_row(NvsEntry(namespace, key, "string", value))
    head, mark, cell = row.partition(",data,string,")
    return f'{head}{mark}"{cell}"' if mark and not cell.startswith('"') else row


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"') else text


def mfg_nvs(contents: Contents, size: int) -> UserPartition:
    """Return the partition and the CSV that it was made of.

    Args:
        contents: what goes in.
        size: bytes of the partition.

    Raises:
        InputError: it does not fit, or no NVS partition can have that size.
        FormatError: something that NVS cannot hold; the message names the row.
    """
    text = to_csv(contents)
    files = {file.path: file.data for items in contents.pki.values() for file in items if file.path}
    try:
        usable_pages(size)
        partition = _made(text, size, files)
    except FormatError:
        raise
    except InputError as error:
        raise _too_small(text, size, files, error) from error
    return UserPartition(partition.to_bytes(), _has_keys(contents), text)


def _made(text: str, size: int, files: Mapping[str, bytes]) -> NvsPartition:
    return NvsPartition.from_csv(text, size, read_file=files.__getitem__, name=CSV_NAME)


def _has_keys(contents: Contents) -> bool:
    return any(
        namespace.endswith(_KEYS_ENDING) or PRIVATE_KEY_MARK in file.data
        for namespace, files in contents.pki.items()
        for file in files
    )


def _too_small(text: str, size: int, files: Mapping[str, bytes], error: InputError) -> InputError:
    """Return the error that says how much room the contents need."""
    if size % PAGE_SIZE or size <= 0 or size > MAX_PARTITION_SIZE:
        return InputError(
            f"{MFG_NVS}: {error.message}",
            f"give it a multiple of {PAGE_SIZE} bytes in the secondary partition table",
        )
    known = len(text) + sum(map(len, files.values()))
    roomy = min(max(known * _MARGIN // PAGE_SIZE * PAGE_SIZE, size * 2), MAX_PARTITION_SIZE)
    try:
        image = _made(text, roomy, files).to_bytes()
    except InputError:  # nothing is large enough, or one value is impossible by itself
        return InputError(f"{MFG_NVS}: {error.message}", error.hint)
    pages = sum(image[start : start + 4] != b"\xff" * 4 for start in range(0, roomy, PAGE_SIZE)) + 1
    has = size // PAGE_SIZE
    return InputError(
        f"{MFG_NVS}: needs {pages} pages of {PAGE_SIZE} bytes ({pages * PAGE_SIZE} bytes), one of which stays"
        f" free for the firmware, and has {has} ({size} bytes)",
        f"make the partition larger (--partition {MFG_NVS}={pages * PAGE_SIZE >> 10}K), or the contents"
        " smaller: shorter certificates, keys on elliptic curves",
    )

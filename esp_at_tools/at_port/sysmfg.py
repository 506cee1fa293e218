"""AT+SYSMFG: the entries of ``mfg_nvs``, read, written and erased one by one.

Source: "AT+SYSMFG" in the ESP-AT user guide v5.0; the longest value, 8191 bytes, is the limit in the AT
library of v5.0.1.0.
"""

from __future__ import annotations

import re
from functools import partial

from esp_at_tools.at_port.client import FLASH_TIMEOUT, AtClient, AtError, GarbledError, repeated
from esp_at_tools.errors import InputError
from esp_at_tools.formats.nvs.model import NvsEntry, NvsType

TYPES: tuple[NvsType, ...] = ("u8", "i8", "u16", "i16", "u32", "i32", "string", "blob")
"""Type numbers, from 1 on."""
MAX_VALUE = 8191
"""Longest string or blob, in bytes."""
READ_SIZE = 1024
"""Bytes of a value that are read at once."""

_NAMESPACE = re.compile(r'"(?P<name>[^"]*)"')
_KEY = re.compile(r'"(?P<namespace>[^"]*)","(?P<key>[^"]*)",(?P<type>[1-8])')
_INTEGER = re.compile(r'"[^"]*","[^"]*",(?P<type>[1-6]),[0-9]+,(?P<value>-?[0-9]{1,10})')


def has_sysmfg(client: AtClient) -> bool:
    """Tell whether the firmware has AT+SYSMFG and its parameters in ``mfg_nvs``."""
    try:
        client.command("AT+SYSMFG?")
    except AtError:
        return False
    return True


def read_namespaces(client: AtClient) -> tuple[str, ...]:
    """Return the names of the namespaces that hold something."""
    found = repeated(lambda: _rows(client, "AT+SYSMFG?", _NAMESPACE, "the namespaces of mfg_nvs"))
    return tuple(dict.fromkeys(match["name"] for match in found))


def read_keys(client: AtClient, namespace: str) -> dict[str, NvsType]:
    """Return the keys of a namespace and their types; none where there is no such namespace."""
    try:
        found = repeated(lambda: _rows(client, f'AT+SYSMFG=1,"{namespace}"', _KEY, namespace))
    except AtError:
        return {}
    return {match["key"]: TYPES[int(match["type"]) - 1] for match in found if match["namespace"] == namespace}


def _rows(client: AtClient, command: str, row: re.Pattern[str], what: str) -> list[re.Match[str]]:
    """Ask a question that is answered by rows, and take each apart."""
    found = []
    for line in client.command(command).of("SYSMFG"):
        match = row.fullmatch(line)
        if match is None:
            raise GarbledError(client.port, what)
        found.append(match)
    return found


def read_entry(client: AtClient, namespace: str, key: str, kind: NvsType) -> NvsEntry:
    """Return one entry.

    Args:
        client: the module.
        namespace: its namespace.
        key: its key.
        kind: its type, as :func:`read_keys` gives it.

    Raises:
        DeviceError: the reply is not one to this question.
    """
    if kind not in ("string", "blob"):
        return repeated(lambda: _read_integer(client, namespace, key, kind))
    data = _read_value(client, namespace, key)
    if kind == "string":
        return NvsEntry(namespace, key, kind, data.rstrip(b"\0").decode("utf-8", "surrogateescape"))
    return NvsEntry(namespace, key, kind, data)


def _read_value(client: AtClient, namespace: str, key: str) -> bytes:
    """Read piece by piece; where the firmware refuses a piece that the value does not fill, all at once."""
    data, asked = b"", f'AT+SYSMFG=1,"{namespace}","{key}"'
    try:
        while len(data) <= MAX_VALUE:
            command = f"{asked},{len(data)},{READ_SIZE}"
            piece = repeated(partial(_read_piece, client, namespace, key, command))
            data += piece
            if len(piece) < READ_SIZE:
                break
    except AtError:
        return repeated(partial(_read_piece, client, namespace, key, asked))
    return data


def _read_integer(client: AtClient, namespace: str, key: str, kind: NvsType) -> NvsEntry:
    found = _rows(client, f'AT+SYSMFG=1,"{namespace}","{key}"', _INTEGER, f"{namespace} {key}")
    if len(found) != 1 or TYPES[int(found[0]["type"]) - 1] != kind:
        raise GarbledError(client.port, f"{namespace} {key}")
    return NvsEntry(namespace, key, kind, int(found[0]["value"]))


def _read_piece(client: AtClient, namespace: str, key: str, command: str) -> bytes:
    reply = client.command(command)
    head = f'+SYSMFG:"{namespace}","{key}",'
    values = [value for said, value in reply.values if said.startswith(head)]
    if len(values) != 1 or not reply.whole:
        raise GarbledError(client.port, f"{namespace} {key}")
    return values[0]


def carries(entry: NvsEntry) -> bool:
    """Tell whether AT+SYSMFG can write an entry: it knows no 64-bit numbers, and no empty or long values."""
    return entry.type in TYPES and (isinstance(entry.value, int) or 0 < len(_bytes_of(entry)) <= MAX_VALUE)


def _bytes_of(entry: NvsEntry) -> bytes:
    assert not isinstance(entry.value, int)  # noqa: S101 - only asked of text and bytes
    return entry.value if isinstance(entry.value, bytes) else entry.value.encode("utf-8", "surrogateescape")


def write_entry(client: AtClient, entry: NvsEntry) -> None:
    """Write one entry; another type under the same key is replaced.

    Raises:
        InputError: a value that this command cannot carry.
        AtError: the module refuses it: no room, or a value that its type does not hold.
    """
    if not carries(entry):
        raise InputError(
            f"{entry.key}: AT+SYSMFG takes numbers of up to 32 bits, and 1 to {MAX_VALUE} bytes",
            "leave it out, or change the image and flash it",
        )
    command = f'AT+SYSMFG=2,"{entry.namespace}","{entry.key}",{TYPES.index(entry.type) + 1}'
    if isinstance(entry.value, int):
        client.command(f"{command},{entry.value}", timeout=FLASH_TIMEOUT)
        return
    value = _bytes_of(entry)
    client.command(f"{command},{len(value)}", value, timeout=FLASH_TIMEOUT)


def erase_entry(client: AtClient, namespace: str, key: str) -> None:
    """Erase one entry."""
    client.command(f'AT+SYSMFG=0,"{namespace}","{key}"', timeout=FLASH_TIMEOUT)

"""AT+SYSMFG: the entries of ``mfg_nvs``, read, written and erased one by one.

Source: "AT+SYSMFG" in the ESP-AT user guide v5.0; the longest value, 8191 bytes, is the limit in the AT
library of v5.0.1.0.
"""

from __future__ import annotations

import re

from esp_at_tools.at_port.client import FLASH_TIMEOUT, AtClient, AtError
from esp_at_tools.errors import DeviceError, InputError
from esp_at_tools.formats.nvs.model import NvsEntry, NvsType

TYPES: tuple[NvsType, ...] = ("u8", "i8", "u16", "i16", "u32", "i32", "string", "blob")
"""Type numbers, from 1 on."""
MAX_VALUE = 8191
"""Longest string or blob, in bytes."""
READ_SIZE = 1024
"""Bytes of a value that are read at once."""

_NAMESPACE = re.compile(r'"(?P<name>[^"]*)"')
_KEY = re.compile(r'"(?P<namespace>[^"]*)","(?P<key>[^"]*)",(?P<type>[1-8])')
_INTEGER = re.compile(r'"[^"]*","[^"]*",(?P<type>[1-6]),[0-9]+,(?P<value>-?[0-9]+)')


def has_sysmfg(client: AtClient) -> bool:
    """Tell whether the firmware has AT+SYSMFG and its parameters in ``mfg_nvs``."""
    try:
        client.command("AT+SYSMFG?")
    except AtError:
        return False
    return True


def read_namespaces(client: AtClient) -> tuple[str, ...]:
    """Return the names of the namespaces that hold something."""
    found = map(_NAMESPACE.fullmatch, client.command("AT+SYSMFG?").of("SYSMFG"))
    return tuple(dict.fromkeys(match["name"] for match in found if match))


def read_keys(client: AtClient, namespace: str) -> dict[str, NvsType]:
    """Return the keys of a namespace and their types; none where there is no such namespace."""
    try:
        lines = client.command(f'AT+SYSMFG=1,"{namespace}"').of("SYSMFG")
    except AtError:
        return {}
    found = (match for match in map(_KEY.fullmatch, lines) if match and match["namespace"] == namespace)
    return {match["key"]: TYPES[int(match["type"]) - 1] for match in found}


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
        lines = client.command(f'AT+SYSMFG=1,"{namespace}","{key}"').of("SYSMFG")
        match = next((match for match in map(_INTEGER.fullmatch, lines) if match), None)
        if match is None or TYPES[int(match["type"]) - 1] != kind:
            raise _garbled(client, namespace, key)
        return NvsEntry(namespace, key, kind, int(match["value"]))
    data = b""
    while len(data) <= MAX_VALUE:
        piece = _read_piece(client, namespace, key, len(data))
        data += piece
        if len(piece) < READ_SIZE:
            break
    if kind == "string":
        return NvsEntry(namespace, key, kind, data.rstrip(b"\0").decode("utf-8", "surrogateescape"))
    return NvsEntry(namespace, key, kind, data)


def _read_piece(client: AtClient, namespace: str, key: str, offset: int) -> bytes:
    try:
        reply = client.command(f'AT+SYSMFG=1,"{namespace}","{key}",{offset},{READ_SIZE}')
    except AtError:
        if offset:  # it ended just there
            return b""
        raise
    head = f'+SYSMFG:"{namespace}","{key}",'
    values = [value for said, value in reply.values if said.startswith(head)]
    if len(values) != 1 or len(values[0]) > READ_SIZE:
        raise _garbled(client, namespace, key)
    return values[0]


def _garbled(client: AtClient, namespace: str, key: str) -> DeviceError:
    return DeviceError(
        f"{client.port}: the reply about {namespace} {key} cannot be read",
        "bytes are lost on the way: a lower rate, or flow control (--flow), may help",
    )


def write_entry(client: AtClient, entry: NvsEntry) -> None:
    """Write one entry; another type under the same key is replaced.

    Raises:
        InputError: a value that this command cannot carry.
        AtError: the module refuses it: no room, or a value that its type does not hold.
    """
    where = f'"{entry.namespace}","{entry.key}"'
    number = TYPES.index(entry.type) + 1 if entry.type in TYPES else 0
    if not number:
        raise InputError(f"{entry.key}: AT+SYSMFG knows no type {entry.type}", "use 'at push'")
    if isinstance(entry.value, int):
        client.command(f"AT+SYSMFG=2,{where},{number},{entry.value}", timeout=FLASH_TIMEOUT)
        return
    value = entry.value if isinstance(entry.value, bytes) else entry.value.encode("utf-8", "surrogateescape")
    if not 0 < len(value) <= MAX_VALUE:
        raise InputError(
            f"{entry.key}: AT+SYSMFG takes 1 to {MAX_VALUE} bytes, this has {len(value)}", "use 'at push'"
        )
    client.command(f"AT+SYSMFG=2,{where},{number},{len(value)}", value, timeout=FLASH_TIMEOUT)


def erase_entry(client: AtClient, namespace: str, key: str) -> None:
    """Erase one entry."""
    client.command(f'AT+SYSMFG=0,"{namespace}","{key}"', timeout=FLASH_TIMEOUT)

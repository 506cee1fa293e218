"""What both renderings of ``inspect`` show, worked out of the report: blocks of the map, units, wording.

Nothing here knows a terminal or HTML. Texts from a firmware are untrusted: every one that is shown
goes through :func:`clean`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from esp_at_tools.numbers import format_size

Report = Mapping[str, Any]
Kind = Literal["system", "app", "data", "at", "files", "free"]

SECTOR = 0x1000
AT_CUSTOMIZE = "at_customize"

KIND_NAMES: dict[Kind, str] = {
    "app": "application",
    "data": "data",
    "at": "ESP-AT",
    "files": "file system",
    "system": "start-up",
}
"""Kinds of blocks that a legend explains."""

INPUT_NAMES = {
    "image": "flash image",
    "release": "release",
    "mfg_nvs": "partition mfg_nvs alone",
    "factory_param": "partition factory_param alone",
}
PKI_KINDS = {"ca": "CA", "certificate": "certificate", "private_key": "private key"}


def clean(text: object, *, ascii_only: bool = False) -> str:
    r"""Return text from a firmware so that it can be shown: what is no visible character, escaped.

    Control and escape characters, line separators, invisible and direction-changing characters and
    lone surrogates come out as ``\x1b`` or ``\u202e``, so that they cannot act on a terminal.

    Args:
        text: anything; ``str()`` of it is shown.
        ascii_only: escape everything but ASCII.
    """
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(_visible(char, ascii_only=ascii_only) for char in shown)


def _visible(char: str, *, ascii_only: bool) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if char.isprintable() and not (ascii_only and code > 0x7F) and not unicodedata.combining(char):
        return char
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def chip_title(report: Report) -> str:
    """Return the chip as Espressif writes it; ``""`` where it is unknown."""
    from esp_at_tools.catalog.chips import find_chip

    name = report["chip"] or ""
    chip = find_chip(name) if name else None
    return chip.title if chip else name


def flash_words(flash: Mapping[str, Any]) -> list[str]:
    """Return the mode and the frequency of the flash in words: ``DIO``, ``40 MHz``."""
    words = [str(flash["mode"]).upper()] if flash["mode"] else []
    return [*words, f"{str(flash['freq']).rstrip('m')} MHz"] if flash["freq"] else words


def percent(used: int, size: int) -> int:
    """Return the share in per cent; 100 only for all of it, and 0 only for nothing."""
    if not size or used <= 0:
        return 0
    return 100 if used >= size else min(max(round(100 * used / size), 1), 99)


# --- the map ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A piece of flash in the map.

    Attributes:
        name: what is there.
        kind: what sort of thing, for its colour.
        offset: its address.
        size: bytes.
        used: bytes that hold something; None where that means nothing.
        depth: 1 inside ``at_customize``, else 0.
        detail: one more thing to say, e.g. its type; may be empty.
    """

    name: str
    kind: Kind
    offset: int
    size: int
    used: int | None
    depth: int = 0
    detail: str = ""

    @property
    def end(self) -> int:
        """First address after it."""
        return self.offset + self.size

    @property
    def is_home(self) -> bool:
        """Whether this is ``at_customize``, inside which other blocks lie."""
        return self.name == AT_CUSTOMIZE and self.depth == 0

    def tooltip(self) -> str:
        """Return everything about the block in one line."""
        parts = [f"{self.name}: {self.offset:#x} to {self.end - 1:#x}", format_size(self.size)]
        if self.used is not None:
            parts.append(f"{format_size(self.used)} used, {percent(self.used, self.size)} %")
        return ", ".join([*parts, self.detail] if self.detail else parts)


def flash_size(report: Report) -> int:
    """Return the bytes of flash that the map covers; 0 without tables."""
    ends = [part["offset"] + part["size"] for part in report["partitions"]]
    return max([report["flash"]["size"] or 0, *ends]) if ends else 0


def blocks(report: Report) -> list[Block]:
    """Return the flash from address 0 to its end, block after block, gaps included.

    What lies inside ``at_customize`` follows it with depth 1. Blocks of tables that contradict
    themselves may overlap.
    """
    if not report["partitions"]:
        return []
    outer = [
        *_system_blocks(report),
        *(_block(part) for part in report["partitions"] if _is_outer(report, part)),
    ]
    inner = _inner_blocks(report)
    result: list[Block] = []
    for block in _with_gaps(outer, 0, flash_size(report), depth=0):
        result.append(block)
        if block.is_home and inner:
            result += _with_gaps(inner, block.offset, block.end, depth=1)
            inner = []
    return result


def _inner_blocks(report: Report) -> list[Block]:
    """Return what lies inside ``at_customize``: the secondary table and its partitions."""
    found = [_block(part, 1) for part in report["partitions"] if not _is_outer(report, part)]
    table = report["partition_table"]["secondary"]
    if table is not None:
        found.append(Block("secondary table", "system", table["offset"], SECTOR, None, 1))
    return found


def _system_blocks(report: Report) -> Iterator[Block]:
    table = report["partition_table"]
    bootloader = report["bootloader"]
    if bootloader is not None:
        room = table["offset"] - bootloader["offset"]
        if room > 0:
            yield Block("bootloader", "system", bootloader["offset"], room, bootloader["size"])
    yield Block("partition table", "system", table["offset"], SECTOR, None)


def _is_outer(report: Report, part: Mapping[str, Any]) -> bool:
    """Tell whether a partition is drawn beside ``at_customize`` rather than in it."""
    if part["table"] == "primary":
        return True
    homes = [
        home for home in report["partitions"] if home["table"] == "primary" and home["name"] == AT_CUSTOMIZE
    ]
    return not any(
        home["offset"] <= part["offset"] and part["offset"] + part["size"] <= home["offset"] + home["size"]
        for home in homes
    )


def _block(part: Mapping[str, Any], depth: int = 0) -> Block:
    detail = f"{part['type']}/{part['subtype']}"
    used = None if part["name"] == AT_CUSTOMIZE and depth == 0 else part["used"]
    return Block(part["name"], _kind(part), part["offset"], part["size"], used, depth, detail)


def _kind(part: Mapping[str, Any]) -> Kind:
    if part["name"] == "mfg_nvs" or part["type"] == "0x40":
        return "at"
    if part["subtype"] in ("fat", "spiffs", "littlefs"):
        return "files"
    return {"app": "app", "data": "data"}.get(part["type"], "at")  # type: ignore[return-value]  # both are kinds


def _with_gaps(found: list[Block], start: int, end: int, *, depth: int) -> list[Block]:
    result: list[Block] = []
    reached = start
    for block in sorted(found, key=lambda block: (block.offset, -block.size)):
        if block.offset > reached:
            result.append(Block("free", "free", reached, block.offset - reached, None, depth))
        result.append(block)
        reached = max(reached, block.end)
    if end > reached:
        result.append(Block("free", "free", reached, end - reached, None, depth))
    return result


# --- settings -----------------------------------------------------------------------------------


def setting_meaning(name: str, value: object, settings: Mapping[str, Any]) -> str:
    """Return a setting's value in words and units; ``""`` where it speaks for itself."""
    if not isinstance(value, int):
        return ""
    if name.endswith("_pin"):
        return "not used" if value == -1 else f"GPIO {value}"
    if name == "max_tx_power":
        return f"{value / 4:g} dBm"
    if name == "uart_port":
        return "no UART: the AT port is SDIO, SPI or a socket" if value == -1 else f"UART {value}"
    if name == "uart_baudrate":
        return "baud" if value > 0 else ""
    if name == "channel_num":
        start = settings.get("start_channel")
        last = start + value - 1 if isinstance(start, int) else 0
        return f"channels {start} to {last}" if isinstance(start, int) and last >= start else ""
    if name == "sys_store":
        return {0: "not stored by default", 1: "stored by default"}.get(value, "")
    return ""


# --- certificates and keys ----------------------------------------------------------------------


def pki_roles(report: Report) -> dict[str, list[Mapping[str, Any]]]:
    """Return the items by role, for the page: CA, certificate and key of ``server``, of ``client.0``, …."""
    roles: dict[str, list[Mapping[str, Any]]] = {}
    for item in report["pki"]:
        roles.setdefault(item["role"], []).append(item)
    return roles


def partner_text(item: Mapping[str, Any], report: Report) -> str:
    """Return in words whether a key or certificate has its partner; the key's entry tells of both."""
    partners = {each["kind"]: each["name"] for each in report["pki"] if each["role"] == item["role"]}
    if item["kind"] == "certificate":
        return "" if "private_key" in partners else "no private key"
    if item["kind"] == "ca":
        return ""
    certificate = partners.get("certificate")
    if certificate is None:
        return "no certificate"
    matches = item["key_matches_certificate"]
    return "" if matches is None else f"{'belongs' if matches else 'does NOT belong'} to {certificate}"


def common_name(subject: str | None) -> str:
    """Return the CN of a subject as RFC 4514 writes it, the whole subject where it has none."""
    for part in _rdns(subject or ""):
        if part.upper().startswith("CN="):
            return _ESCAPED.sub(r"\1", part[3:])
    return subject or ""


_ESCAPED = re.compile(r"\\([ \"#+,;<=>\\])")


def _rdns(subject: str) -> Iterator[str]:
    """Split a subject at the commas that separate its parts; a backslash keeps one from doing so."""
    part = ""
    escaped = False
    for char in subject:
        if char == "," and not escaped:
            yield part.strip()
            part = ""
        else:
            part += char
        escaped = char == "\\" and not escaped
    yield part.strip()


def day(moment: str | None) -> str:
    """Return the date of an ISO 8601 moment."""
    return (moment or "")[:10]


def issuer_text(item: Mapping[str, Any]) -> str:
    """Return by whom a certificate is signed: ``self-signed`` or ``by`` the issuer's CN."""
    if not item["issuer"]:
        return ""
    return "self-signed" if item["issuer"] == item["subject"] else f"by {common_name(item['issuer'])}"


def pki_facts(item: Mapping[str, Any]) -> list[str]:
    """Return what there is to say of an item beside its subject, in short words."""
    facts = []
    if item["not_before"] and item["not_after"]:
        facts.append(f"{day(item['not_before'])} to {day(item['not_after'])}")
    facts += [item["key_type"] or "", (item["format"] or "unreadable").upper(), format_size(item["size"])]
    if (item["certificates"] or 0) > 1:
        facts.append(f"{item['certificates']} certificates")
    if item["encrypted"]:
        facts.append("needs a password")
    return [fact for fact in facts if fact]


# --- Bluetooth services -------------------------------------------------------------------------

MAX_SHOWN_VALUE = 20
"""Bytes of an attribute's value that are shown."""


def attribute_facts(attribute: Mapping[str, Any]) -> list[str]:
    """Return an attribute's permissions, lengths and value in short words."""
    if "permissions" not in attribute:
        return []
    facts = ["perm " + ("/".join(attribute["permissions"]) or "none")]
    if attribute["max_length"] is not None:
        facts.append(f"{attribute['max_length']} B")
    if attribute["value"]:
        facts.append(value_text(attribute["value"]))
    return facts


def value_text(digits: str) -> str:
    """Return a value as text where it is printable ASCII, else in hex; a long one cut, with its size."""
    raw = bytes.fromhex(digits)
    shown = raw[:MAX_SHOWN_VALUE]
    more = f"… ({len(raw)} bytes)" if len(raw) > len(shown) else ""
    if all(0x20 <= byte < 0x7F for byte in raw):
        return f'"{shown.decode("ascii")}"{more}'
    return f"0x{shown.hex()}{more}"


# --- applications, checks -----------------------------------------------------------------------


def image_lines(image: Mapping[str, Any]) -> list[str]:
    """Return where an image lies, and when and with what it was built."""
    size = f"{format_size(image['size'])} at {image['offset']:#x}"
    if image.get("partition_size"):
        size += f", {percent(image['size'], image['partition_size'])} % of its partition"
    lines = [size + (", starts next" if image.get("boots") else "")]
    kit = "ESP8266_RTOS_SDK" if image["chip"] == "esp8266" else "ESP-IDF"
    built = [f"built {image['compile_time']}"] if image["compile_time"] else []
    built += [f"with {kit} {image['idf_version']}"] if image["idf_version"] else []
    return [*lines, " ".join(built)] if built else lines


def verdicts(image: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Return what the checksum and SHA-256 of an image say: (wording, whether it is good)."""
    found = [("checksum right" if image["checksum_ok"] else "checksum WRONG", bool(image["checksum_ok"]))]
    if image["sha256_ok"] is not None:
        found.append(("SHA-256 right" if image["sha256_ok"] else "SHA-256 WRONG", bool(image["sha256_ok"])))
    return found


def tally(report: Report) -> str:
    """Return how many checks found something: ``1 error, 2 warnings, 1 remark``."""
    words = {"error": "error", "warning": "warning", "info": "remark"}
    counts = {level: sum(check["level"] == level for check in report["checks"]) for level in words}
    parts = [f"{count} {words[level]}{'s' * (count != 1)}" for level, count in counts.items() if count]
    return ", ".join(parts) or "all passed"


def nvs_text(nvs: Mapping[str, Any]) -> str:
    """Return in a sentence how full ``mfg_nvs`` is."""
    used, total = nvs["entries_used"], nvs["entries_total"]
    share = f"{used} of {total} entries used ({percent(used, total)} %)"
    return f"{nvs['partition']}: {nvs['keys']} keys, {share}, NVS version {nvs['version']}"


_MAX_MODULE = 40
"""Characters of the module's name in the headline; the settings have all of it."""


def headline(report: Report) -> str:
    """Return what this firmware is, in one line."""
    app = next((app for app in report["apps"] if app.get("boots")), None) or next(iter(report["apps"]), None)
    name = " ".join(part for part in (app["project_name"], app["version"]) if part) if app else ""
    module = str(report["settings"].get("module_name") or "")
    module = module if len(module) <= _MAX_MODULE else module[: _MAX_MODULE - 3] + "..."
    chip = chip_title(report)
    target = f"{chip} ({module})" if chip and module else chip or module
    what = name or ("ESP-AT parameters" if not report["partitions"] else "ESP-AT firmware")
    return f"{what} for {target}" if target else what

"""An application that does not fit: by how much, and what would make room.

What a feature takes is read from the map that the linker has left, else from the AT library of the checkout;
what the silence variant saves, from the two variants of that library. These are figures of this very build,
and only estimates of what is saved: what several features share stays as long as one of them is on.

Source: the format of GNU ld's map, of ``ar`` archives, and of ELF32 (TIS ELF specification 1.2); names of
archives and objects in ESP-IDF v4.3 to v5.5 and esp-at v2.4.0.0 to v5.0.1.0.
"""

from __future__ import annotations

import re
import shlex
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.build.tree import open_tree
from esp_at_tools.errors import EspAtError, ExternalToolError
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.numbers import format_size
from esp_at_tools.workspace.checkout import Checkout, CheckoutModule
from esp_at_tools.workspace.compile_errors import Overflow
from esp_at_tools.workspace.compile_variant import BUILD, SDKCONFIG

MAP = "esp-at.map"
_PARTS = {
    "ble": r"lib(?:bt|btdm_app|ble_app|nimble)\.a|at_(?:nimble_ble|bleCmd|ble_\w+)\.",
    "ble_hid": r"at_blehid|libesp_hid\.a",
    "blufi": r"at_blufi|blufi\w*\.c\.obj",
    "classic_bluetooth": r"at_btCmd\.|at_a2dp",
    "spp": r"at_spp|btc_spp|bta_jv",
    "mqtt": r"libmqtt\.a|at_mqtt",
    "http": r"libesp_http_client\.a|at_http",
    "websocket": r"websocket",
    "web_server": r"libesp_http_server\.a|web_server",
    "ota": r"at_ota|libesp_https_ota\.a",
    "mdns": r"mdns",
    "wps": r"wps",
    "smartconfig": r"smartconfig",
    "eap": r"(?:^|\W)eap_|at_eap",
    "fs": r"libfatfs\.a|at_fs\.|littlefs",
    "driver": r"at_driver",
    "ethernet": r"libesp_eth\.a|at_eth",
    "ping": r"at_ping",
    "rainmaker": r"rmaker|rainmaker",
}
"""Feature → which objects, as ``libmqtt.a(mqtt_client.c.obj)``, are there for it alone."""
_PIECE = re.compile(rb"\s0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+\S*?([^/\s]+\.a)\((\S+?)\)", re.ASCII)
_MEMORY_MAP = b"Linker script and memory map"
_MAX_MAP = 256 << 20
_MAX_LIBRARY = 64 << 20
_MEMBER = 60
_ELF = struct.Struct("<4sBBB9xHHIIIIIHHHHHH")
_SECTION = struct.Struct("<IIIIII16x")
_ALLOCATED, _NO_BITS = 2, 8
_WORTH = 512
_SHOWN = 6
_LARGER = {"1MB": "2MB", "2MB": "4MB", "4MB": "8MB", "8MB": "16MB"}


@dataclass(frozen=True)
class Saving:
    """What would make room.

    Attributes:
        what: what to do.
        size: how many bytes that saves, about.
    """

    what: str
    size: int


def explain(
    checkout: Checkout, module: CheckoutModule, overflow: Overflow, log: Path, *, silence: bool
) -> ExternalToolError:
    """Return the error that says by how much an application is too large, and what would make room.

    Args:
        checkout: the checkout, as the build has left it.
        module: the module.
        overflow: what the build said.
        log: its log.
        silence: it was the variant without log.
    """
    by = f"{format_size(overflow.by)} ({overflow.by} bytes)"
    if overflow.is_region:
        message = (
            f"{module.full_name} does not fit its memory: the linker's region {overflow.where} lacks {by}"
        )
    else:
        size = f", {overflow.size} bytes," if overflow.size else ""
        message = (
            f"the application of {module.full_name}{size} does not fit its partition {overflow.where}:"
            f" {by} too much"
        )
    lines = [*_what_saves(checkout, module, silence=silence)]
    project = shlex.quote(str(checkout.root))
    lines.append(
        f"menuconfig switches options off: esp-at-tool menuconfig --project {project}"
        f" --module {module.full_name}"
    )
    if not overflow.is_region:
        lines += _more_room(checkout, module, project)
    lines.append(f"the whole log: {log}")
    return ExternalToolError(message, "\n  ".join(lines))


def _what_saves(checkout: Checkout, module: CheckoutModule, *, silence: bool) -> Iterator[str]:
    found = savings(checkout, module, silence=silence)
    if found:
        yield "what would make room, about:"
    for each in found:
        yield f"  {format_size(each.size):>9}  {each.what}"


def _more_room(checkout: Checkout, module: CheckoutModule, project: str) -> Iterator[str]:
    """Yield the command that lays the partitions out for the next larger flash."""
    path = checkout.root / SDKCONFIG
    try:
        flash = Sdkconfig.from_bytes(path.read_bytes(), str(path)).string("ESPTOOLPY_FLASHSIZE", "4MB")
    except (OSError, EspAtError):
        flash = "4MB"
    larger = _LARGER.get(flash)
    try:
        open_tree(checkout.root)
    except EspAtError:  # one before v3.1, to which 'modules add' does not write
        return
    if larger is None:
        return
    name = module.full_name
    yield f"or lay the partitions out for a module with {larger} of flash:"
    yield f"  esp-at-tool modules add {name}-{larger} --from {name} --flash {larger} --project {project}"


def savings(checkout: Checkout, module: CheckoutModule, *, silence: bool) -> tuple[Saving, ...]:
    """Return what saves most, the largest first.

    Args:
        checkout: the checkout, as the build has left it.
        module: the module.
        silence: it is the variant without log already.
    """
    pieces = map_pieces(checkout.root / BUILD / MAP) or library_pieces(
        library(checkout, module, silence=silence)
    )
    found = list(_features(checkout, pieces))
    if not silence:
        quiet = sum(library_pieces(library(checkout, module, silence=True)).values())
        loud = sum(library_pieces(library(checkout, module, silence=False)).values())
        if 0 < quiet < loud:
            found.append(Saving("--silence, the variant without log (the AT library alone)", loud - quiet))
    return tuple(sorted(found, key=lambda each: -each.size)[:_SHOWN])


def _features(checkout: Checkout, pieces: Mapping[str, int]) -> Iterator[Saving]:
    from esp_at_tools.catalog.data import data_folder
    from esp_at_tools.catalog.features import read_features

    path = checkout.root / SDKCONFIG
    try:
        config = Sdkconfig.from_bytes(path.read_bytes(), str(path))
        features = read_features(data_folder() / "features.yaml", lambda _: None)
    except (OSError, EspAtError):
        return
    for name, pattern in _PARTS.items():
        feature = features.get(name)
        if feature is None or not feature.option or not config.is_on(feature.option):
            continue
        size = sum(size for piece, size in pieces.items() if re.search(pattern, piece))
        if size >= _WORTH:
            yield Saving(f"CONFIG_{feature.option}, {feature.about}", size)


# --- sizes -------------------------------------------------------------------------------------------------


def map_pieces(path: Path) -> dict[str, int]:
    """Return bytes of each object in a linker's map, ``libmqtt.a(mqtt_client.c.obj)``; ``{}`` for no map."""
    found: Counter[str] = Counter()
    try:
        if path.stat().st_size > _MAX_MAP:
            return {}
        data = path.read_bytes()
    except OSError:
        return {}
    begin = data.find(_MEMORY_MAP)  # before it stands what the linker has left out
    for match in _PIECE.finditer(data, max(begin, 0)):
        if int(match[1], 16):  # debug information has no address
            archive, member = (match[group].decode("ascii", "replace") for group in (3, 4))
            found[f"{archive}({member})"] += int(match[2], 16)
    return dict(found)


def library(checkout: Checkout, module: CheckoutModule, *, silence: bool) -> Path:
    """Return the AT library of a chip."""
    end = "_silence" if silence else ""
    return checkout.root / "components/at/lib" / f"lib{module.target}_at_core{end}.a"


def library_pieces(path: Path) -> dict[str, int]:
    """Return bytes of flash and RAM that each object of an archive takes if all of it is linked."""
    try:
        if path.stat().st_size > _MAX_LIBRARY:
            return {}
        data = path.read_bytes()
    except OSError:
        return {}
    return {f"{path.name}({name})": _loaded(member) for name, member in _members(data)}


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of each object of an ``ar`` archive."""
    names = b""
    place = 8 if data.startswith(b"!<arch>\n") else len(data)
    while place + _MEMBER <= len(data):
        name, text = data[place : place + 16].rstrip(), data[place + 48 : place + 58].strip()
        if not text.isdigit():
            return
        member = data[place + _MEMBER : place + _MEMBER + int(text)]
        if name == b"//":
            names = member
        elif name[:1] == b"/" and name[1:].isdigit():
            yield names[int(name[1:]) :].split(b"/")[0].decode("ascii", "replace"), member
        elif name not in (b"/", b"/SYM64/"):
            yield name.rstrip(b"/").decode("ascii", "replace"), member
        place += _MEMBER + int(text) + int(text) % 2


def _loaded(member: bytes) -> int:
    """Return bytes of the sections of an ELF32 object that are loaded, less those that are zero."""
    if len(member) < _ELF.size or member[:6] != b"\x7fELF\x01\x01":
        return 0
    fields = _ELF.unpack_from(member)
    offset, size, count = fields[9], fields[14], fields[15]
    total = 0
    for number in range(count):
        place = offset + number * size
        if size < _SECTION.size or place + _SECTION.size > len(member):
            return total
        _, kind, flags, _, _, length = _SECTION.unpack_from(member, place)
        if flags & _ALLOCATED and kind != _NO_BITS:
            total += length
    return total

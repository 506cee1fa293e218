"""Which file is flashed where: ``flasher_args.json`` and ``download.config``.

Source of the formats: ``components/esptool_py/flasher_args.json.in`` of ESP-IDF v5.4.4 and of
ESP8266_RTOS_SDK v3.4; ``download.config`` is ``flash_project_args`` on one line, as esp-at's
``build.py`` writes it. Both name each file by a path relative to the folder that they stand in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from esp_at_tools.errors import FormatError

MAX_TEXT = 1 << 20
"""Most characters in a list; the official ones have a few thousand."""

_SETTINGS = ("flash_mode", "flash_size", "flash_freq")
_OPTION_ORDER = ("flash_mode", "flash_freq", "flash_size")
_NOT_PARTS = ("flash_settings", "flash_files", "extra_esptool_args", "write_flash_args")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z")
_OFFSET = re.compile(r"(?:0[xX](?P<hex>[0-9a-fA-F]{1,16})|(?P<dec>[0-9]{1,20}))\Z")
_MAX_PATH = 4096
_HINT = "give the file as the build wrote it"


@dataclass(frozen=True)
class FlashPart:
    """One file and its place.

    Attributes:
        offset: address in flash, in bytes.
        file: path relative to the list's folder, parts joined by ``/``.
        name: what the list calls it, e.g. ``partition_table``; ``""`` in a ``download.config``.
        encrypted: whether it is encrypted while it is flashed; None where the list says nothing.
        offset_text: how the list spells the offset; ``""`` for lower-case hex.
    """

    offset: int
    file: str
    name: str = ""
    encrypted: bool | None = None
    offset_text: str = ""

    @property
    def address(self) -> str:
        """The offset as the list spells it: ``0x1f000``."""
        return self.offset_text or f"{self.offset:#x}"


@dataclass(frozen=True)
class FlashArgs:
    """A list of parts and how to flash them.

    Attributes:
        parts: in the order of the list; no two at one offset.
        flash_mode: ``dio``; ``""`` where the list does not say, as for the next three.
        flash_freq: ``40m``.
        flash_size: ``4MB``; ``detect`` or ``keep`` where esptool is to find out.
        chip: ``esp32c3``; never in a ``download.config``, nor for ESP8266.
        after: what to do after flashing, ``hard_reset``.
        before: what to do before, ``default_reset``.
        stub: whether esptool loads its stub; None where the list does not say.
        hyphens: whether options are spelled ``--flash-mode``, as ESP-IDF does from v6.0 on.
    """

    parts: tuple[FlashPart, ...]
    flash_mode: str = ""
    flash_freq: str = ""
    flash_size: str = ""
    chip: str = ""
    after: str = "hard_reset"
    before: str = "default_reset"
    stub: bool | None = None
    hyphens: bool = False

    @cached_property
    def files(self) -> Mapping[int, str]:
        """Offset → path, in the order of the list."""
        return {part.offset: part.file for part in self.parts}

    def find(self, name: str) -> FlashPart | None:
        """Return the part that the list calls so, or None."""
        return next((part for part in self.parts if part.name == name), None)

    def with_part(self, part: FlashPart) -> FlashArgs:
        """Return the same list with one more part at its end.

        Raises:
            FormatError: something is at that offset already, or the path is not a relative one.
        """
        check_path(part.file)
        return replace(self, parts=_checked((*self.parts, part)))

    @classmethod
    def from_json(cls, text: str) -> FlashArgs:
        """Read a ``flasher_args.json``.

        Raises:
            FormatError: it is not JSON, has no ``flash_files``, two files at one offset, or a path that
                leads out of its folder.
        """
        _check_length(text)
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"is not JSON: {error}", _HINT) from error
        document = _mapping(document, "the document")
        named = _named_parts(document)
        parts = []
        for address, file in _mapping(document.get("flash_files"), "flash_files").items():
            offset, path = parse_offset(address), check_path(file)
            name, encrypted = named.get((offset, path), ("", None))
            parts.append(FlashPart(offset, path, name, encrypted, _spelling(address, offset)))
        settings = _json_settings(document)
        extra = _mapping(document.get("extra_esptool_args", {}), "extra_esptool_args")
        stub = extra.get("stub")
        return cls(
            _checked(parts),
            flash_mode=settings["flash_mode"],
            flash_freq=settings["flash_freq"],
            flash_size=settings["flash_size"],
            chip=_word(extra.get("chip", ""), "chip"),
            after=_word(extra.get("after", ""), "after"),
            before=_word(extra.get("before", ""), "before"),
            stub=stub if isinstance(stub, bool) else None,
            hyphens=any(
                isinstance(option, str) and option[:8] == "--flash-" for option in _options(document)
            ),
        )

    def to_json(self) -> str:
        """Return the list as ESP-IDF writes its ``flasher_args.json``, to the letter."""
        settings = {name: _quote(getattr(self, name)) for name in _SETTINGS}
        options = [f"{_quote(self._option(name))}, {value}" for name, value in settings.items()]
        extra = {"after": _quote(self.after), "before": _quote(self.before)}
        if self.stub is not None:
            extra["stub"] = json.dumps(self.stub)
        if self.chip:
            extra["chip"] = _quote(self.chip)
        lines = [
            "{",
            '    "write_flash_args" : [ ' + (",\n" + " " * 27).join(options) + " ],",
            '    "flash_settings" : {',
            ",\n".join(f'        "{name}": {value}' for name, value in settings.items()),
            "    },",
            '    "flash_files" : {',
            ",\n".join(f"        {_quote(part.address)} : {_quote(part.file)}" for part in self.parts),
            "    },",
            *(f"    {_part_entry(part)}," for part in self.parts if part.name),
            '    "extra_esptool_args" : {',
            ",\n".join(f'        "{name}"'.ljust(17) + f": {value}" for name, value in extra.items()),
            "    }",
            "}",
        ]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_download_config(cls, text: str) -> FlashArgs:
        """Read a ``download.config`` or a ``flash_project_args``: esptool's options, then offsets and files.

        Raises:
            FormatError: an option that is none of ``--flash_mode``, ``--flash_freq`` and
                ``--flash_size``, an offset without a file, two files at one offset, or a path that
                leads out of its folder.
        """
        _check_length(text)
        words = iter(text.split())
        settings: dict[str, str] = {}
        parts = []
        hyphens = False
        for word in words:
            value = next(words, None)
            if value is None:
                raise FormatError(f"{_shown(word)} at its end has nothing after it", _HINT)
            if word.startswith("-"):
                name = word.lstrip("-").replace("-", "_")
                if name not in _SETTINGS or name in settings:
                    raise FormatError(
                        f"option {_shown(word)} is unknown or given twice", f"known are {_known_options()}"
                    )
                settings[name] = _word(value, name)
                hyphens |= "-" in word.lstrip("-")
            else:
                offset = parse_offset(word)
                parts.append(FlashPart(offset, check_path(value), offset_text=_spelling(word, offset)))
        mode, freq, size = (settings.get(name, "") for name in _OPTION_ORDER)
        return cls(_checked(parts), flash_mode=mode, flash_freq=freq, flash_size=size, hyphens=hyphens)

    def to_download_config(self) -> str:
        """Return the list as esp-at's build writes its ``download.config``: one line without an end.

        Raises:
            FormatError: a path with a space in it, for which that form has no way.
        """
        for part in self.parts:
            if part.file.split() != [part.file]:
                raise FormatError(
                    f"path {part.file!r} holds a space", "download.config has no way to write that"
                )
        options = [
            f"{self._option(name)} {getattr(self, name)}" for name in _OPTION_ORDER if getattr(self, name)
        ]
        return " ".join([*options, *(f"{part.address} {part.file}" for part in self.parts)])

    def _option(self, name: str) -> str:
        return "--" + (name.replace("_", "-") if self.hyphens else name)


def _check_length(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise FormatError(
            f"{len(text)} characters are no list of files to flash", f"there are at most {MAX_TEXT}"
        )


def _known_options() -> str:
    return ", ".join(f"--{name}" for name in _OPTION_ORDER)


def _part_entry(part: FlashPart) -> str:
    encrypted = "" if part.encrypted is None else f', "encrypted" : "{json.dumps(part.encrypted)}"'
    place = f'"offset" : {_quote(part.address)}, "file" : {_quote(part.file)}'
    return f"{_quote(part.name)} : {{ {place}{encrypted} }}"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def parse_offset(text: object) -> int:
    """Return an offset of such a list, ``0x1F000`` or decimal.

    Raises:
        FormatError: it is none, or does not fit 32 bits.
    """
    match = _OFFSET.match(text) if isinstance(text, str) else None
    if match is None:
        raise FormatError(f"{_shown(text)} stands where an address belongs", "an address is written 0x1f000")
    offset = int(match["hex"], 16) if match["hex"] else int(match["dec"])
    if offset >= 1 << 32:
        raise FormatError(f"address {text} is out of range", "flash addresses have 32 bits")
    return offset


def _spelling(text: str, offset: int) -> str:
    return "" if text == f"{offset:#x}" else text


def check_path(path: object) -> str:
    """Return a path of such a list, if it stays inside the list's folder on every system.

    Raises:
        FormatError: it is absolute, has a drive, ``..``, a backslash, an empty part or a control
            character, or is no text at all.
    """
    if not isinstance(path, str) or not path or len(path) > _MAX_PATH:
        raise FormatError(f"{_shown(path)} stands where the path of a file belongs", _HINT)
    bad = any(part in ("", ".", "..") for part in path.split("/"))
    if bad or any(c in ':\\"' or ord(c) < 0x20 or 0xD800 <= ord(c) <= 0xDFFF for c in path):
        raise FormatError(
            f"path {_shown(path)} is not one inside its folder",
            "paths are relative, without '..', drive letters and backslashes",
        )
    return path


def _checked(parts: Iterable[FlashPart]) -> tuple[FlashPart, ...]:
    seen: dict[int, str] = {}
    parts = tuple(parts)
    for part in parts:
        if part.offset in seen:
            raise FormatError(f"both {seen[part.offset]} and {part.file} belong at {part.offset:#x}", _HINT)
        seen[part.offset] = part.file
    if not parts:
        raise FormatError("names no file to flash", _HINT)
    return parts


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FormatError(f"{what} is not a JSON object", _HINT)
    return value


def _word(value: Any, what: str) -> str:
    if isinstance(value, str) and (not value or _WORD.match(value)):
        return value
    raise FormatError(f"{what} is {_shown(value)}", f"{what} is one word")


def _options(document: Mapping[str, Any]) -> list[Any]:
    options = document.get("write_flash_args", [])
    return options if isinstance(options, list) else []


def _json_settings(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the flash settings: from their own object, or from esptool's options where that is missing."""
    options = [str(option).lstrip("-").replace("-", "_") for option in _options(document)]
    values = _options(document)[1:]
    stated = {option: value for option, value in zip(options, values) if option in _SETTINGS}  # noqa: B905 - shifted by one
    stated.update(_mapping(document.get("flash_settings", {}), "flash_settings"))
    return {name: _word(stated.get(name, ""), name) for name in _SETTINGS}


def _named_parts(document: Mapping[str, Any]) -> dict[tuple[int, str], tuple[str, bool | None]]:
    """Return place and path → name and whether it is encrypted, of the entries that have them."""
    named: dict[tuple[int, str], tuple[str, bool | None]] = {}
    for name, value in document.items():
        if name in _NOT_PARTS or not isinstance(value, dict) or not {"offset", "file"} <= value.keys():
            continue
        encrypted = {"true": True, "false": False}.get(str(value.get("encrypted")).lower())
        named.setdefault((parse_offset(value["offset"]), check_path(value["file"])), (name, encrypted))
    return named

"""The entry of a module in esp-at's own list of modules, which decides its OTA token.

``components/at/src/at_default_config.c`` has the list, a block for each chip; the firmware takes the
name of its module from there and the token with which AT+CIUPDATE asks the server. The tokens' macros
stand in ``components/at/private_include/at_ota_token.h``. A module that is not listed runs with the
name and the token of the first one of its chip.

Source: these files of esp-at v3.1.0.0 to v5.0.1.0, and the user guide on adding a module.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SOURCE = "components/at/src/at_default_config.c"
HEADER = "components/at/private_include/at_ota_token.h"

_LIST = re.compile(r"at_module_info(?:_t)?\s+\w*module_info\s*\[\s*\]\s*=\s*\{")
_BEGIN = r"[ \t]*#[ \t]*(?:if|elif)(?:def[ \t]+|[ \t]+defined[ \t]*\(?[ \t]*)CONFIG_IDF_TARGET_{}\b[^\n]*\n"
_NEXT = re.compile(r"^[ \t]*#[ \t]*(?:elif|else|endif)\b", re.MULTILINE)
_TOKEN = "CONFIG_ESP_AT_OTA_TOKEN_"  # noqa: S105 - the name of a macro
_SSL_TOKEN = "CONFIG_ESP_AT_OTA_SSL_TOKEN_"  # noqa: S105 - likewise


@dataclass(frozen=True)
class OtaEntry:
    """The two sources with a module's entry.

    Attributes:
        source: text of ``at_default_config.c``.
        header: text of ``at_ota_token.h``; the same as before for a module without OTA.

    Both are the same as before where the module is listed already.
    """

    source: str
    header: str


def with_entry(source: str, header: str, *, module: str, chip: str, ota: bool) -> OtaEntry | None:
    """Return the sources with the entry of a module, None where they have no list for its chip.

    Args:
        source: text of ``at_default_config.c``.
        header: text of ``at_ota_token.h``, ``""`` where there is none.
        module: ``MY-BOARD``.
        chip: ``esp32c3``.
        ota: whether it is updated over the air; without, it has no token.
    """
    target = chip.upper()
    listed = _LIST.search(source)
    if listed is None:
        return None
    if re.search(rf'\{{\s*"{re.escape(module)}"\s*,', source[listed.end() :]):
        return OtaEntry(source, header)
    at = _end_of_block(source, target, listed.end(), source.find("\n};", listed.end()))
    if at is None:
        return None
    if not ota:
        return OtaEntry(_inserted(source, at, f'    {{"{module}", NULL, NULL}},'), header)
    macro = _free_name(header, module, target)
    place = _end_of_block(header, target, 0, len(header))
    if place is None:
        return None
    width = len(_SSL_TOKEN + macro) + 2
    lines = [
        f"#define {_TOKEN + macro:<{width}}{_TOKEN}DEFAULT",
        f"#define {_SSL_TOKEN + macro:<{width}}{_SSL_TOKEN}DEFAULT",
    ]
    entry = f'    {{"{module}", {_TOKEN}{macro}, {_SSL_TOKEN}{macro}}},'
    return OtaEntry(_inserted(source, at, entry), _inserted(header, place, *lines))


def _end_of_block(text: str, target: str, start: int, limit: int) -> int | None:
    """Return where the block of a chip ends: the beginning of the directive that closes it."""
    begin = re.compile(_BEGIN.format(target), re.MULTILINE).search(text, start)
    if begin is None or (limit >= 0 and begin.start() > limit):
        return None
    closing = _NEXT.search(text, begin.end())
    return closing.start() if closing else None


def _inserted(text: str, at: int, *lines: str) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    return text[:at] + "".join(line + end for line in lines) + text[at:]


def _free_name(header: str, module: str, target: str) -> str:
    """Return the part of a macro's name that stands for a module, and that no other one has."""
    own = re.sub(r"[^A-Z0-9]", "_", module.upper())
    if own == "DEFAULT" or re.search(rf"\b{_TOKEN}{own}\b", header):
        own = f"{target}_{own}"
    number, name = 2, own
    while re.search(rf"\b{_TOKEN}{name}\b", header):
        name, number = f"{own}_{number}", number + 1
    return name

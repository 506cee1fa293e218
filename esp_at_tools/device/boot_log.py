"""What a module says on its log port while it starts, and what that means.

Sources: messages of ``components/bootloader_support`` and ``components/esp_system`` of ESP-IDF v5.4.4, of the
boot ROMs, and recordings of official firmware v2.2 and v2.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RESET = re.compile(r"^rst:0x[0-9a-f]+ |^ *rst cause:[0-9]+", re.MULTILINE)
_RESTARTS = 3
"""So many starts in a few seconds are a loop."""

_TROUBLE: tuple[tuple[str, str, str], ...] = (
    (r"waiting for download|boot:0x[0-9a-f]+ \((?:DOWNLOAD|USB/UART)[^)]*\)",
     "it is in its boot loader: a strapping pin says so", "release the BOOT button; see to GPIO0 or GPIO9"),
    (r"Brownout detector", "its supply breaks down while it starts", "give it a stronger supply"),
    (r"requires (?:chip|efuse blk) rev", "the firmware is for another revision of the chip",
     "give a firmware for this revision"),
    (r"invalid header: 0x|flash read err", "there is no bootloader where the chip looks for one",
     "flash the whole firmware, for this chip, with the right flash mode"),
    (r"Failed to verify partition table|load partition table error",
     "its partition table is damaged or missing", "flash the whole firmware"),
    (r"No bootable app partitions", "no application can be started", "flash the whole firmware"),
    (r"Image hash failed|Checksum failed|image corrupted|has invalid magic byte",
     "its application is damaged", "flash again with --verify"),
    (r"signature|secure boot check fail", "its secure boot refuses the firmware", "give a signed firmware"),
    (r"Guru Meditation Error|abort\(\) was called|assert failed|Fatal exception", "the firmware crashes",
     "check that it is the firmware of this module"),
)  # fmt: skip
"""What the log holds → what it means, and what to do; the first that fits counts."""
_STARTED = re.compile(r"module_name:|^ready\r?$|at param mode|Loaded app from partition", re.MULTILINE)
_MODULE = re.compile(r"module_name: ?([^\s,]+)")


@dataclass(frozen=True)
class Boot:
    """How a start went, as far as a log tells.

    Attributes:
        started: whether the firmware runs; None where the log does not tell.
        reason: why not, or what tells it.
        hint: what to do about it.
        module: the module's name, where the firmware says it.
        trouble: the line that tells the trouble.
    """

    started: bool | None
    reason: str
    hint: str = ""
    module: str = ""
    trouble: str = ""


def judge_boot_log(text: str) -> Boot:
    """Say whether a log shows a firmware that has started.

    Args:
        text: all that came from the reset on.
    """
    plain = _COLOUR.sub("", text)
    for pattern, reason, hint in _TROUBLE:
        match = re.search(pattern, plain)
        if match is not None:
            start = plain.rfind("\n", 0, match.start()) + 1
            line = plain[start:].splitlines()[0].strip()
            return Boot(False, reason, hint, trouble=line)
    if len(_RESET.findall(plain)) >= _RESTARTS:
        return Boot(False, "it restarts again and again", "check supply, flash mode and flash size")
    module = _MODULE.search(plain)
    if _STARTED.search(plain):
        return Boot(True, "the firmware has started", module=module[1] if module else "")
    if not plain.strip():
        return Boot(
            None, "nothing was said on this port", "a silent firmware, or not the log port: give --at-port"
        )
    return Boot(None, "the log does not tell whether the firmware has started", "give --at-port")

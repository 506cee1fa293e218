"""Everything that ``inspect`` checks, as one table of small functions.

A finding is an ``error`` only where something certainly fails: the chip does not start, the firmware
loses an entry, a certificate cannot be used. What is questionable is a ``warning``, what is only worth
knowing an ``info``. The ids are stable:

=============================  =======  ==================================================================
id                             level    what was found
=============================  =======  ==================================================================
bootloader-missing             error    no bootloader where the boot ROM looks (a warning in a release without
                                        application: a configuration alone)
bootloader-damaged             error    something else, or a part of one, stands there
bootloader-offset              error    it is not where this chip's boot ROM looks
bootloader-checksum            error    its checksum byte is wrong
bootloader-sha256              error    its appended SHA-256 is wrong
bootloader-too-large           error    it reaches into the partition table
app-missing                    error    no application at all (a warning in a release: nothing to start)
app-damaged                    error    the application that starts cannot be read (another: warning)
app-checksum, app-sha256       error    the same is wrong of an application that starts (another: warning)
app-too-large                  error    an application reaches past its partition
ota-slot-blank                 warning  otadata selects a blank slot; the bootloader goes on to another
chip-mismatch                  error    bootloader, application or flasher_args.json name different chips
chip-unsupported               warning  ESP-AT does not support this chip
flash-size                     warning  the bootloader's header states another flash than the image has
partition-overlap              error    partitions that share flash
partition-past-flash           error    a partition that ends past the flash
partition-below-table          error    a partition before the end of the partition table
partition-alignment            varies   offsets and sizes that are no multiples of what they must be
partition-name                 varies   names given twice, no name, misleading names
partition-flags                varies   read-only where the firmware writes; unknown flags
partition-size                 varies   otadata or NVS of an unsuitable size
partition-apps                 varies   no application partition, or slots that do not count up
partition-secondary            varies   the secondary table against the primary one
secondary-table-missing        warning  ``at_customize`` holds no secondary table, or a damaged one
partition-damaged              error    a certificate or GATT partition that the firmware cannot read
nvs-problem                    varies   what the firmware loses of ``mfg_nvs``, or copes with
nvs-nearly-full                warning  few entries of ``mfg_nvs`` are left
settings-missing               warning  settings that every official firmware has are not there
setting-NAME                   warning  a rule that the value of this setting breaks
pins-not-checked               info     the chip is not known
pki-…                          varies   see :mod:`esp_at_tools.pki.checks`; validity is at most a warning
gatt-…                         varies   see :func:`esp_at_tools.formats.gatts.check_table`
secure-boot-signature          info     an image carries a Secure Boot signature
release-part-too-large         error    a file is larger than the partition that it is flashed to
release-part-overlap           error    files that overwrite each other
release-part-misplaced         warning  a file is flashed to no beginning of a partition
release-lists-differ           warning  download.config and flasher_args.json do not say the same
release-list-unreadable        warning  one of the two cannot be read
factory-image-differs          warning  a merged image is not what the parts make
mfg-csv-differs                warning  mfg_nvs.csv does not describe mfg_nvs.bin
factory-param-copy-stale       warning  factory_param_MODULE.bin differs from factory_param.bin
=============================  =======  ==================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from esp_at_tools.firmware.release_checks import RELEASE_CHECKS, Found
from esp_at_tools.firmware.survey import AppSlot, FlashImage, Survey
from esp_at_tools.formats import gatts, partition_checks
from esp_at_tools.formats.partition_table import AT_CUSTOMIZE, PartitionTable, TableProblem
from esp_at_tools.settings.layout import missing_settings
from esp_at_tools.settings.legacy import LegacyLayout
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.modern import ModernLayout
from esp_at_tools.settings.names import PIN_SETTINGS, SETTINGS

if TYPE_CHECKING:
    from esp_at_tools.pki.collection import CollectedItem

Level = Literal["error", "warning", "info"]
LEVELS: tuple[Level, ...] = ("error", "warning", "info")

MAX_NVS_FINDINGS = 20
"""Most problems of one NVS partition that are told one by one; ``nvs check`` tells all."""
NEARLY_FULL = 0.95
"""Share of the entries from which an NVS partition is called nearly full."""


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        id: which check; stable, see the module's table.
        level: how bad it is.
        message: what is wrong.
        hint: what would be right; may be empty.
    """

    id: str
    level: Level
    message: str
    hint: str = ""


def run_checks(survey: Survey) -> list[dict[str, Any]]:
    """Return what all checks find, errors first, then warnings, then what is only worth knowing."""
    found = [Finding(*each) for check in CHECKS for each in check(survey)]
    unique = dict.fromkeys(found)
    return [asdict(finding) for level in LEVELS for finding in unique if finding.level == level]


# --- bootloader and applications ----------------------------------------------------------------


def _bootloader(survey: Survey) -> Iterator[Found]:
    if survey.firmware.map is None:
        return
    found, chip = survey.bootloader, survey.firmware.chip
    if found is None:
        where = f" at {chip.bootloader_offset:#x}" if chip else ""
        is_configuration = survey.firmware.kind == "release" and not any(slot.found for slot in survey.apps)
        yield (
            "bootloader-missing",
            "warning" if is_configuration else "error",
            f"there is no bootloader{where}: the chip cannot start",
            "flash it too",
        )
    elif found.image is None:
        message = f"the bootloader at {found.offset:#x} cannot be read: {found.problem}"
        yield "bootloader-damaged", "error", message, "download the firmware again"
    else:
        yield from _image("bootloader", "bootloader", found, "error")
        if chip is not None and found.offset != chip.bootloader_offset:
            right = f"{chip.title} looks for it at {chip.bootloader_offset:#x}"
            message = f"the bootloader is at {found.offset:#x}, and {right}"
            yield "bootloader-offset", "error", message, "place it there"


def _image(prefix: str, name: str, found: FlashImage, level: Level) -> Iterator[Found]:
    """Judge an image that can be read; ``level`` is for what keeps it from starting."""
    image = found.image
    if image is None:
        return
    again = "download the firmware again, or build it again"
    if not image.checksum_ok:
        yield f"{prefix}-checksum", level, f"{name}: its checksum is wrong, so it is damaged", again
    if image.sha256_ok is False:
        yield (
            f"{prefix}-sha256",
            level,
            f"{name}: its SHA-256 is wrong, so it is damaged or was changed",
            again,
        )
    if image.signed_size > found.room:
        excess = image.signed_size - found.room
        message = f"{name}: has {image.signed_size} bytes, {excess} more than its place holds"
        yield f"{prefix}-too-large", "error", message, "use another partition table"


def _applications(survey: Survey) -> Iterator[Found]:
    if survey.firmware.map is None:
        return
    if not any(slot.found for slot in survey.apps):
        level: Level = "warning" if survey.firmware.kind == "release" else "error"
        yield (
            "app-missing",
            level,
            "there is no application: nothing can be started",
            "give the whole firmware",
        )
        return
    for slot in survey.apps:
        yield from _slot(slot, survey.apps)


def _slot(slot: AppSlot, slots: Iterable[AppSlot]) -> Iterator[Found]:
    name = slot.partition.name
    is_last = not any(other.image for other in slots if other is not slot)
    level: Level = "error" if slot.starts or is_last else "warning"
    if slot.found is None:
        if slot.starts:
            message = f"{name}: is to start next and is blank; the bootloader goes on to another slot"
            yield "ota-slot-blank", "warning", message, "erase otadata"
    elif slot.found.image is None:
        yield (
            "app-damaged",
            level,
            f"{name}: its application cannot be read: {slot.found.problem}",
            "flash it again",
        )
    else:
        yield from _image("app", name, slot.found, level)


def _chips(survey: Survey) -> Iterator[Found]:
    told = {}
    if survey.bootloader is not None and survey.bootloader.image is not None:
        told["the bootloader"] = survey.bootloader.image.chip
    told.update({slot.partition.name: slot.image.chip for slot in survey.apps if slot.image})
    chips = dict.fromkeys(told.values())
    if len(chips) > 1:
        words = ", ".join(f"{name} is for {chip}" for name, chip in told.items())
        yield (
            "chip-mismatch",
            "error",
            f"{words}: they do not run on one chip",
            "take all parts from one firmware",
        )
    if chips and survey.firmware.chip is None:
        yield "chip-unsupported", "warning", f"ESP-AT does not support the chip {next(iter(chips))}", ""


def _flash_size(survey: Survey) -> Iterator[Found]:
    header = survey.bootloader.image if survey.bootloader else None
    trusted = header is not None and header.chip != "esp8266"  # an official image of 2 MB states 256 KB
    stated = header.flash_bytes if header and trusted else None
    size = survey.firmware.flash_size
    if stated and survey.firmware.kind == "image" and stated != size:
        message = f"the bootloader's header states {stated:#x} bytes of flash, and the image has {size:#x}"
        yield "flash-size", "warning", message, "what lies past the stated size cannot be used"


def _signatures(survey: Survey) -> Iterator[Found]:
    images = [("bootloader", survey.bootloader.image)] if survey.bootloader else []
    images += [(slot.partition.name, slot.image) for slot in survey.apps]
    for name, image in images:
        if image is not None and image.signature is not None:
            found = image.signature
            kind = f"Secure Boot V{found.version} signature ({found.scheme})"
            message = f"{name}: carries a {kind}, which was not verified"
            yield "secure-boot-signature", "info", message, ""


# --- partition tables ---------------------------------------------------------------------------


def _tables(survey: Survey) -> Iterator[Found]:
    flash_map = survey.firmware.map
    if flash_map is None:
        return
    size = survey.firmware.flash_size or None
    primary, secondary = flash_map.primary, flash_map.secondary
    yield from _table(primary, size)
    below = partition_checks.check_below_table(primary, flash_map.offset)
    yield from _told("partition-below-table", below)
    yield from _told("partition-apps", partition_checks.check_apps(primary))
    if secondary is not None:
        yield from _table(secondary, size)
        yield from _told("partition-secondary", partition_checks.check_secondary(primary, secondary))
    elif primary.find(AT_CUSTOMIZE):
        why = flash_map.problem or "nothing is there"
        message = f"there is no secondary partition table in {AT_CUSTOMIZE}: {why}"
        yield "secondary-table-missing", "warning", message, "at_customize.bin belongs there"


def _table(table: PartitionTable, flash_size: int | None) -> Iterator[Found]:
    yield from _told("partition-overlap", partition_checks.check_overlaps(table))
    yield from _told("partition-past-flash", partition_checks.check_flash_size(table, flash_size))
    yield from _told("partition-alignment", partition_checks.check_alignment(table))
    yield from _told("partition-name", partition_checks.check_names(table))
    yield from _told("partition-flags", partition_checks.check_flags(table))
    yield from _told("partition-size", partition_checks.check_data_sizes(table))


def _told(id_: str, problems: Iterable[TableProblem]) -> Iterator[Found]:
    for problem in problems:
        yield id_, problem.level, problem.message, ""


def _partitions(survey: Survey) -> Iterator[Found]:
    layout = survey.firmware.layout
    if isinstance(layout, LegacyLayout):
        for name, error in layout.damaged.items():
            yield "partition-damaged", "error", f"{name}: {error.message}", error.hint


# --- parameters ---------------------------------------------------------------------------------


def _nvs(survey: Survey) -> Iterator[Found]:
    layout = survey.firmware.layout
    if not isinstance(layout, ModernLayout):
        return
    problems = sorted(layout.nvs.problems, key=lambda problem: LEVELS.index(problem.level))
    for problem in problems[:MAX_NVS_FINDINGS]:
        where = "" if problem.page is None else f", page {problem.page}"
        where += "" if problem.entry is None else f", entry {problem.entry}"
        yield "nvs-problem", problem.level, f"{MFG_NVS}{where}: {problem.message}", ""
    rest = problems[MAX_NVS_FINDINGS:]
    if rest:
        message = f"{MFG_NVS}: {len(rest)} more problems"
        yield "nvs-problem", rest[0].level, message, "'esp-at-tool nvs check' tells all"
    usage = layout.nvs.usage()
    if usage.entries_total and usage.entries_used >= NEARLY_FULL * usage.entries_total:
        left = max(usage.entries_total - usage.entries_used, 0)
        message = f"{MFG_NVS}: {left} of {usage.entries_total} entries are left"
        yield "nvs-nearly-full", "warning", message, "EC keys and DER certificates take less room"


def _settings(survey: Survey) -> Iterator[Found]:
    from esp_at_tools.settings.rules import check_settings

    firmware = survey.firmware
    values = {name: value for name, value in firmware.layout.settings().items() if name in SETTINGS}
    missing = missing_settings(firmware.layout) if values else []
    if not values or missing:
        what = f"{', '.join(missing)} are not there" if missing else "there are no settings"
        yield "settings-missing", "warning", f"{what}: the firmware uses its built-in values", ""
    for found in check_settings(values, values, firmware.chip, layout=firmware.layout.name):
        yield f"setting-{found.setting.replace('_', '-')}", "warning", found.message, found.hint
    if firmware.chip is None and any(name in values for name in PIN_SETTINGS):
        message = "the pins were not checked, because the chip is not known"
        yield "pins-not-checked", "info", message, "--chip or --module tells it"


def _pki(survey: Survey) -> Iterator[Found]:
    if not survey.pki:
        return
    from esp_at_tools.firmware.tls_limits import tls_support
    from esp_at_tools.pki.collection import check_collection

    tls, problem = tls_support(survey.firmware.source)
    if problem:
        hint = "certificates are judged as for the official firmware"
        yield "pki-sdkconfig", "info", f"sdkconfig: cannot be read: {problem}", hint
    for each in check_collection(pki_collection(survey), now=survey.now, tls=tls):
        found = each.finding
        yield found.id, _softened(found.id, found.level), found.message, found.hint


def pki_collection(survey: Survey) -> list[CollectedItem]:
    """Return the certificates and keys of a firmware as the checks of them take them."""
    from esp_at_tools.pki.collection import CollectedItem

    return [CollectedItem(item.name, item.kind, item.role, item.data) for item in survey.pki]


_AT_MOST_WARNING = frozenset({"pki-expired", "pki-not-yet-valid"})
"""Whether these matter depends on the peer and on whether the device knows the time."""


def _softened(id_: str, level: Level) -> Level:
    return "warning" if level == "error" and id_ in _AT_MOST_WARNING else level


def _gatts(survey: Survey) -> Iterator[Found]:
    layout = survey.firmware.layout
    for found in gatts.check_table(list(layout.gatts().values()), layout.name):
        yield found.id, found.level, found.message, found.hint


CHECKS: tuple[Callable[[Survey], Iterator[Found]], ...] = (
    _tables,
    _bootloader,
    _applications,
    _chips,
    _flash_size,
    _partitions,
    _nvs,
    _settings,
    _pki,
    _gatts,
    *RELEASE_CHECKS,
    _signatures,
)
"""All checks, in the order in which their findings of one level stand."""

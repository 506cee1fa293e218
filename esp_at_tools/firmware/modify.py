"""Change a firmware as one request: check everything first, then change, and say what changed.

A value that is impossible is refused, one that is risky needs ``force``; what the firmware already
has is not refused, except that a changed pin is checked against the unchanged ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from esp_at_tools.errors import InputError, RiskyValueError
from esp_at_tools.firmware.firmware import Change, Firmware
from esp_at_tools.firmware.flash_map import FlashMap
from esp_at_tools.firmware.opening import find_images
from esp_at_tools.firmware.request import Request
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.layout import Value, missing_settings
from esp_at_tools.settings.modern import PKI_ORDER, ModernLayout
from esp_at_tools.settings.names import gatt_row_index
from esp_at_tools.settings.rules import RuleFinding, check_settings

if TYPE_CHECKING:
    from esp_at_tools.formats.nvs import NvsPartition
    from esp_at_tools.pki.checks import Finding
    from esp_at_tools.pki.tls_support import TlsSupport

CHANNELS = ("start_channel", "channel_num")


@dataclass(frozen=True)
class Outcome:
    """What a request did.

    Attributes:
        changes: what differs from before, old → new.
        unchanged: names that already were as asked.
        warnings: what is questionable; with ``force``, also what would have been refused without.
    """

    changes: list[Change]
    unchanged: list[str]
    warnings: list[str]


@dataclass
class _Findings:
    """Collects what is impossible, risky or only worth saying."""

    impossible: list[tuple[str, str]] = field(default_factory=list)
    risky: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, level: str, message: str, hint: str) -> None:
        if level == "impossible":
            self.impossible.append((message, hint))
        elif level == "risky":
            self.risky.append((message, hint))
        else:
            self.warnings.append(f"{message} ({hint})" if hint else message)

    def take(self, others: _Findings, in_force: str) -> None:
        """Add other objections; what is risky is only worth saying where another firmware has it in force."""
        self.impossible += others.impossible
        self.warnings += others.warnings
        if not in_force:
            self.risky += others.risky
            return
        for message, hint in others.risky:
            self.warnings.append(f"{message} ({in_force} has it so{f'; {hint}' if hint else ''})")

    def decide(self, *, force: bool) -> list[str]:
        """Return the warnings, or raise what stands against the request."""
        if self.impossible:
            raise InputError(*_joined(self.impossible))
        if self.risky and not force:
            message, hint = _joined(self.risky)
            if "--force" not in hint:
                joint = " " if hint.endswith("?") else "; " if hint else ""
                hint = f"{hint}{joint}--force allows it all the same"
            raise RiskyValueError(message, hint)
        return self.warnings + [f"{message} (allowed by --force)" for message, _ in self.risky]


def _joined(findings: list[tuple[str, str]]) -> tuple[str, str]:
    """Return several objections as one: each on a line of its own, with its hint where that differs."""
    if len(findings) == 1:
        return findings[0]
    hints = {hint for _, hint in findings}
    if len(hints) == 1:
        return "\n  ".join(dict.fromkeys(message for message, _ in findings)), hints.pop()
    lines = (f"{message} ({hint})" if hint else message for message, hint in findings)
    return "\n  ".join(dict.fromkeys(lines)), ""


def modify(
    firmware: Firmware,
    request: Request,
    *,
    force: bool = False,
    now: datetime | None = None,
    tls: TlsSupport | None = None,
    in_force: str = "",
) -> Outcome:
    """Check a request and apply it to ``firmware``, in memory.

    Args:
        firmware: the firmware; unchanged when an error is raised before anything is applied.
        request: what to change.
        force: allow what is risky, and a damaged ``mfg_nvs`` as far as the firmware would read it.
        now: the time at which certificates must be valid; the present time if None.
        tls: what the firmware's TLS library accepts; if None, what ``firmware`` says of it.
        in_force: what another firmware is called that has these settings, certificates and keys already: what
            is risky about them is a warning then.

    Raises:
        InputError: something is impossible: a value, a name that the layout cannot hold, no room.
        RiskyValueError: something is probably a mistake, and ``force`` is not given.
    """
    findings = _Findings()
    _check_firmware(firmware, findings)
    _check_held(firmware, request, findings)
    if not findings.impossible:
        values = _Findings()
        _check_changed_settings(firmware, request, values)
        _check_changed_pki(firmware, request, values, now or datetime.now(timezone.utc), tls)
        findings.take(values, in_force)
        _check_changed_gatts(firmware, request, findings)
    warnings = findings.decide(force=force)
    _apply(firmware, request)
    warnings += firmware.source.remarks(firmware.patches())
    missing = [name for name in missing_settings(firmware.layout) if name in request.unset]
    warnings += [f"{name}: the firmware will use its built-in value" for name in missing]
    changes = firmware.changes()
    changed = {change.name for change in changes}
    return Outcome(changes, [name for name in request.names() if name not in changed], warnings)


def check_firmware(firmware: Firmware, *, force: bool = False) -> list[str]:
    """Check whether a firmware can be changed at all, as :func:`modify` does first.

    Returns:
        The warnings.

    Raises:
        InputError: its tables contradict themselves, or its ``mfg_nvs`` cannot be opened.
        RiskyValueError: its ``mfg_nvs`` has lost entries, and ``force`` is not given.
    """
    findings = _Findings()
    _check_firmware(firmware, findings)
    return findings.decide(force=force)


def _check_firmware(firmware: Firmware, findings: _Findings) -> None:
    """Refuse tables that contradict themselves, and an ``mfg_nvs`` that has lost entries."""
    path = firmware.source.path
    upon_each_other = firmware.source.contradictions()
    if upon_each_other:
        findings.add(
            "impossible", f"{path}: {'; '.join(upon_each_other)}", "give the release as it was built"
        )
    if firmware.map is not None:
        contradictions = [found.message for found in firmware.map.contradictions(firmware.flash_size)]
        if contradictions:
            findings.add(
                "impossible",
                f"{path}: its partition tables contradict themselves: {'; '.join(contradictions)}",
                "such an image cannot be changed safely; download it again",
            )
        _check_images(firmware, firmware.map, findings)
    if isinstance(firmware.layout, ModernLayout):
        _check_nvs(path, firmware.layout.nvs, findings)


def _check_images(firmware: Firmware, flash_map: FlashMap, findings: _Findings) -> None:
    """Warn of a bootloader or application that the module will not start."""
    for what, image in zip(
        ("bootloader", "application"), find_images(firmware.source, flash_map), strict=True
    ):
        if image is not None and not (image.checksum_ok if image.sha256_ok is None else image.sha256_ok):
            findings.warnings.append(
                f"{firmware.source.path}: its {what} is damaged, so no module will start it "
                "(see 'esp-at-tool inspect --check'; download it again)"
            )


def _check_nvs(path: Path, nvs: NvsPartition, findings: _Findings) -> None:
    serious = list(dict.fromkeys(found.message for found in nvs.problems if found.level == "error"))
    found = "; ".join(serious[:3])
    if not nvs.opened:
        hint = "no firmware can read it; give a firmware with a sound one"
        findings.add("impossible", f"{path}: mfg_nvs cannot be opened: {found or 'no free page'}", hint)
    elif nvs.loses_entries:
        findings.add(
            "risky",
            f"{path}: mfg_nvs is damaged: {found or 'entries are lost'}",
            "see 'esp-at-tool nvs check'; with --force, what the firmware would still read is kept",
        )


def _check_held(firmware: Firmware, request: Request, findings: _Findings) -> None:
    """Refuse what this firmware has no place for; of several for which the same helps, tell once."""
    alike: dict[str, list[tuple[str, InputError]]] = {}
    for name in request.names():
        error = None if name in request.unset else _cannot_hold(firmware, name)
        if error is not None:
            alike.setdefault(error.hint, []).append((name, error))
    for hint, held in alike.items():
        if len(held) < _MANY_HELD:
            for name, error in held:
                findings.add("impossible", request.blamed(name, error.message), hint)
            continue
        names = ", ".join(name for name, _ in held)
        sources = {request.sources.get(name, name) for name, _ in held}
        source = f" ({sources.pop()})" if len(sources) == 1 else ""
        message = f"{names}{source}: this firmware's {firmware.layout.name} layout cannot hold these"
        findings.add("impossible", message, hint)


_MANY_HELD = 3
"""As many names that the firmware has no place for, for the same reason, are told in one message."""


def _cannot_hold(firmware: Firmware, name: str) -> InputError | None:
    try:
        firmware.layout.check_holds(name)
    except InputError as error:
        return error
    return None


def _check_changed_settings(firmware: Firmware, request: Request, findings: _Findings) -> None:
    for found in judge_settings(firmware, firmware.settings(), request.settings, request.unset):
        findings.add(found.level, request.blamed(found.setting, found.message), found.hint)


def judge_settings(
    firmware: Firmware, current: Mapping[str, Value], asked: Mapping[str, Value], unset: Sequence[str] = ()
) -> list[RuleFinding]:
    """Judge the settings of a request.

    Args:
        firmware: what they are for.
        current: its settings as they are.
        asked: the new values, those that are so already included.
        unset: the names that are removed.
    """
    changed = {name: value for name, value in asked.items() if current.get(name) != value}
    if "country_code" in changed:  # channels that are asked for with it are judged with it
        changed.update({name: asked[name] for name in CHANNELS if name in asked})
    kept = {name: value for name, value in current.items() if name not in unset}
    return check_settings(changed, kept, firmware.chip, layout=firmware.layout.name)


def _check_changed_pki(
    firmware: Firmware, request: Request, findings: _Findings, now: datetime, tls: TlsSupport | None
) -> None:
    current = firmware.pki()
    changed = {name: data for name, data in request.pki.items() if current.get(name) != data}
    if not changed:
        return
    from esp_at_tools.firmware.tls_limits import tls_support
    from esp_at_tools.pki.collection import CollectedItem, check_collection

    after = {name: data for name, data in {**current, **changed}.items() if name not in request.unset}
    titles = {
        name: f"{name} ({request.sources[name]})" if name in request.sources and name in changed else name
        for name in after
    }
    items = [
        CollectedItem.official(name, data, name=titles[name])
        for name, data in after.items()
        if name in PKI_ITEMS
    ]
    judged = {titles[name] for name in changed if name in titles}
    tls = tls or tls_support(firmware.source)[0]
    for each in check_collection(items, now=now, tls=tls, changed=judged):
        _add_pki(findings, each.finding)
    eap = [name for name in changed if PKI_ITEMS[name].role.startswith("wpa")]
    if eap and firmware.layout.name == "modern":
        what = "it" if len(eap) == 1 else "them"
        findings.warnings.append(f"{', '.join(eap)}: only firmware compiled with EAP support reads {what}")


def _add_pki(findings: _Findings, found: Finding) -> None:
    level = "risky" if found.risky else {"error": "impossible"}.get(found.level, found.level)
    if level != "info":
        findings.add(level, found.message, found.hint)


def _check_changed_gatts(firmware: Firmware, request: Request, findings: _Findings) -> None:
    rows = firmware.gatts()
    wanted, removed = _wanted_rows(request), _removed_rows(firmware, request)
    changed = {name: row for name, row in wanted.items() if rows.get(name) != row}
    if not changed and not removed:
        return
    after = sorted(({*rows, *wanted} - {*removed}), key=_row_number)
    if firmware.layout.name == "modern":
        _check_row_numbers(sorted(rows, key=_row_number), after, [*changed, *removed], request, findings)
    if not changed:
        return
    from esp_at_tools.formats.gatts import check_table

    table = [wanted.get(name, rows.get(name, "")) for name in after]
    for found in check_table(table[: _first_gap(after)], firmware.layout.name):
        name = after[found.row]
        if name in changed:
            message = request.blamed(name, found.message)
            findings.add("risky" if found.level == "error" else found.level, message, found.hint)


def _check_row_numbers(
    before: list[str], after: list[str], touched: list[str], request: Request, findings: _Findings
) -> None:
    """Refuse to leave rows behind a gap, where the firmware does not look for them."""
    gap = _first_gap(after)
    if gap == len(after) or after[gap:] == before[_first_gap(before) :]:
        return
    lost = f"{after[gap]} to {after[-1]}" if gap < len(after) - 1 else after[gap]
    findings.add(
        "risky",
        request.blamed(touched[0], f"without cfg{gap}, the firmware does not read {lost}"),
        "the rows of a GATT table are numbered from cfg0 without a gap",
    )


def _first_gap(names: list[str]) -> int:
    """Return how many names, of rows in their order, there are before the first gap."""
    return next((place for place, name in enumerate(names) if _row_number(name) != place), len(names))


def _row_number(name: str) -> int:
    return gatt_row_index(name) or 0


def _wanted_rows(request: Request) -> dict[str, str]:
    """Return the rows that are asked for, in order: those of a whole table, and single ones over them."""
    table = {f"cfg{index}": row for index, row in enumerate(request.gatt_table or ())}
    rows = {**table, **request.gatts}
    return {name: rows[name] for name in sorted(rows, key=_row_number)}


def _removed_rows(firmware: Firmware, request: Request) -> list[str]:
    """Return the rows that go: from the last to the first, as the legacy layout demands."""
    removed = {name for name in request.unset if gatt_row_index(name) is not None}
    if request.gatt_table is not None:
        removed.update(name for name in firmware.gatts() if name not in _wanted_rows(request))
    return sorted(removed, key=_row_number, reverse=True)


def _apply(firmware: Firmware, request: Request) -> None:
    """Change the firmware in memory; removals first, so that they make room."""
    removed_rows = _removed_rows(firmware, request)
    for name in [*(name for name in request.unset if name not in removed_rows), *removed_rows]:
        with _blaming(request, name):
            firmware.unset(name)
    for name, value in {**request.settings, **_wanted_rows(request)}.items():
        with _blaming(request, name):
            if firmware.get(name) != value:
                firmware.set(name, value)
    # Whatever the order of the options, new namespaces come in that of the official build.
    for name in sorted(request.pki, key=_official_place):
        data = request.pki[name]
        with _blaming(request, name):
            if firmware.get(name) != data:
                firmware.set_pki(name, data)
    _check_room(firmware)


def _official_place(name: str) -> tuple[int, int]:
    item = PKI_ITEMS[name]
    return PKI_ORDER.index(item.group), item.index


@contextlib.contextmanager
def _blaming(request: Request, name: str) -> Iterator[None]:
    """Let an error tell who asked for the change."""
    try:
        yield
    except InputError as error:
        raise InputError(request.blamed(name, error.message), error.hint) from error


def _check_room(firmware: Firmware) -> None:
    """Lay the partitions out: what does not fit is told before anything is written."""
    try:
        firmware.layout.contents()
    except InputError as error:
        raise InputError(
            f"{firmware.source.path}: {error.message}",
            "remove an item, or use a shorter chain, an EC key or DER form",
        ) from error

"""Writing a plan to one device: refuse, compare, write what differs, verify, report."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from esp_at_tools.device.esptool_device import Device, Link, open_device
from esp_at_tools.device.own_partitions import own_partition, own_partitions
from esp_at_tools.device.plan import FlashPlan, Segment
from esp_at_tools.errors import DeviceError, EspAtError
from esp_at_tools.formats.app_image import AppImage
from esp_at_tools.formats.partition_table import SECTOR_SIZE
from esp_at_tools.numbers import format_size

if TYPE_CHECKING:
    from esp_at_tools.batch.ledger import State
    from esp_at_tools.device.allotment import Allotment

BLOCK_SIZE = 0x10000
"""Bytes that are compared at once."""
FEW_BLOCKS = 8
"""Up to so many different blocks of a segment are looked at sector by sector; more are a new content."""

StepName = Literal[
    "connect", "found", "erase", "compare", "read", "write", "verify", "note", "said", "done", "failed"
]


@dataclass(frozen=True)
class Step:
    """What is happening on a port.

    Attributes:
        port: the port.
        name: what is done; ``said`` is what esptool itself says.
        text: for people.
        done: bytes done.
        total: bytes to do, 0 where that is not known.
    """

    port: str
    name: StepName
    text: str = ""
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Written:
    """What became of a segment.

    Attributes:
        name: what lies there.
        offset: its address.
        size: its bytes.
        sha256: of these bytes.
        written: how many were written; the others were so already.
    """

    name: str
    offset: int
    size: int
    sha256: str
    written: int


@dataclass(frozen=True)
class Receipt:
    """What happened on one port.

    Attributes:
        port: the port.
        chip: ``esp32c3``; ``""`` where nothing answered, as for the next.
        mac: MAC address of the module.
        flash_size: bytes of its flash, 0 if unknown.
        segments: what was to be written, and what was.
        kept: names of the device's own partitions that were left alone.
        verified: whether everything was compared once more at the end.
        image: the file that was written.
        image_sha256: of it, as ``inspect`` gives it.
        started: when, in UTC.
        seconds: how long it took.
        error: what went wrong, ``""`` if nothing did.
        hint: what to do about it.
    """

    port: str
    chip: str = ""
    mac: str = ""
    flash_size: int = 0
    segments: tuple[Written, ...] = ()
    kept: tuple[str, ...] = ()
    verified: bool = False
    image: str = ""
    image_sha256: str = ""
    started: str = ""
    seconds: float = 0.0
    error: str = ""
    hint: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything was done."""
        return not self.error

    @property
    def bytes_written(self) -> int:
        """Bytes that were written."""
        return sum(segment.written for segment in self.segments)


Report = Callable[[Step], None]


def flash_board(order: FlashPlan | Allotment, link: Link, report: Report, *, verify: bool = False) -> Receipt:
    """Write a plan, or the device's own image of a folder, to the device on one port.

    Nothing is raised for what goes wrong with the device; the receipt says it.
    """
    session = _Session(order, link, report)
    started, at = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        session.run(verify=verify)
    except EspAtError as error:
        report(Step(link.port, "failed", error.message))
        session.receipt = replace(session.receipt, error=error.message, hint=error.hint)
    seconds = round(time.monotonic() - started, 3)
    receipt = replace(session.receipt, started=at, seconds=seconds)
    if receipt.ok:
        report(Step(link.port, "done", summary(receipt)))
    return receipt


def summary(receipt: Receipt) -> str:
    """Return what was done, in a line for people."""
    skipped = sum(segment.size for segment in receipt.segments) - receipt.bytes_written
    rest = f", {format_size(skipped)} needed no writing" if skipped > 0 else ""
    checked = ", verified" if receipt.verified else ""
    return f"done in {receipt.seconds:.1f} s: {format_size(receipt.bytes_written)} written{rest}{checked}"


@dataclass
class _Session:
    """One device being flashed."""

    order: FlashPlan | Allotment
    link: Link
    report: Report
    receipt: Receipt = field(init=False)

    def __post_init__(self) -> None:
        self.receipt = Receipt(self.link.port)
        self._has_written = False

    def step(self, name: StepName, text: str = "", done: int = 0, total: int = 0) -> None:
        self.report(Step(self.link.port, name, text, done, total))

    def run(self, *, verify: bool) -> None:
        self.step("connect", "connecting")
        with open_device(self.link, lambda line: self.step("said", line)) as device:
            self.receipt = replace(self.receipt, chip=device.chip, mac=device.mac)
            if isinstance(self.order, FlashPlan):
                self._flash(device, self.order, verify=verify)
                return
            try:
                plan = self.order.plan_for(device.mac, self.link.port)
            except EspAtError:
                device.restart()
                raise
            self.step("note", f"{device.mac} gets {plan.path.name}")
            try:
                self._flash(device, plan, verify=verify)
            except EspAtError:
                state: State = "failed" if self._has_written else "returned"
                self.order.finished(device.mac, plan, self.link.port, state)
                raise
            self.order.finished(device.mac, plan, self.link.port, "done")

    def _flash(self, device: Device, plan: FlashPlan, *, verify: bool) -> None:
        self.receipt = replace(self.receipt, image=str(plan.path), image_sha256=plan.sha256)
        try:
            check_device(plan, device, verify=verify)
            device.prepare()
            self.receipt = replace(self.receipt, flash_size=device.flash_size)
            self.step("found", _found(device))
            check_flash_size(plan, device)
            plan = self._settled(plan, device)
            changes = self._changes(plan, device)
            _check_erasing(plan, device, changes)
        except EspAtError:
            device.restart()  # nothing was changed; it can go on with what it has
            raise
        self._write(device, changes)
        if verify:
            self._verify(plan, device)
        device.restart()

    def _settled(self, plan: FlashPlan, device: Device) -> FlashPlan:
        """Return the plan with what only the device can tell: where its partitions are."""
        if plan.loose is not None:
            plan = plan.placed(own_partition(device, plan.table_offset, plan.loose[0]))
        if plan.kept and device.can_compare:
            own = set(own_partitions(device, plan.table_offset))
            lost = [part for part in plan.kept if part not in own]
            if lost:
                names = ", ".join(part.name for part in lost)
                why = "its flash was laid out differently" if own else "it has no partition table yet"
                self.step("note", f"nothing of {names} to keep on this module: {why}")
                plan = plan.without_keeping(lost)
        self.receipt = replace(self.receipt, kept=tuple(part.name for part in plan.kept))
        check_flash_size(plan, device)
        return plan

    def _changes(self, plan: FlashPlan, device: Device) -> list[tuple[Segment, list[tuple[int, bytes]]]]:
        """Return each segment with the stretches of it that have to be written."""
        digest: Callable[[int, int], str] | None = None
        if plan.erase:
            self.step("erase", "erasing the whole flash")
            device.erase_all()
            digest = _blank_md5
        elif device.can_compare:
            digest = self._counted(device, plan.size)
        return [(segment, changed_runs(segment, digest)) for segment in plan.segments]

    def _counted(self, device: Device, total: int) -> Callable[[int, int], str]:
        """Return the device's MD5 of a stretch, with a report of how much has been compared."""
        done = 0

        def digest(offset: int, size: int) -> str:
            nonlocal done
            self.step("compare", "comparing", min(done, total), total)
            done += size
            return device.md5(offset, size)

        return digest

    def _write(self, device: Device, changes: Sequence[tuple[Segment, list[tuple[int, bytes]]]]) -> None:
        runs = [run for _, own in changes for run in own]
        total = sum(len(data) for _, data in runs)
        if runs:
            self._has_written = True
            self.step("write", f"writing {format_size(total)}", 0, total)
            device.write(runs, lambda done: self.step("write", f"writing {format_size(total)}", done, total))
        self.receipt = replace(self.receipt, segments=tuple(_written(*change) for change in changes))

    def _verify(self, plan: FlashPlan, device: Device) -> None:
        done = 0
        for segment in plan.segments:
            self.step("verify", "verifying", done, plan.size)
            if device.md5(segment.offset, segment.size) != _md5(segment.data):
                raise DeviceError(
                    f"{self.link.port}: {segment.name} at {segment.offset:#x} is not what was written",
                    "flash again at a lower rate (-b 115200), or check supply and flash chip",
                )
            done += segment.size
        self.receipt = replace(self.receipt, verified=True)


def _found(device: Device) -> str:
    size = f", {format_size(device.flash_size)} of flash" if device.flash_size else ""
    return f"{device.title}{size}, MAC {device.mac}"


def _written(segment: Segment, runs: list[tuple[int, bytes]]) -> Written:
    count = sum(min(offset + len(data), segment.end) - offset for offset, data in runs)
    return Written(segment.name, segment.offset, segment.size, segment.sha256, count)


# --- what a device may not be --------------------------------------------------------------------


def check_device(plan: FlashPlan, device: Device, *, verify: bool = False) -> None:
    """Refuse a device that the plan is not for.

    Raises:
        DeviceError: another chip, an older revision, or secure boot or flash encryption that the
            firmware is not made for.
    """
    where = device.port
    if plan.chip and plan.chip != device.chip:
        raise DeviceError(
            f"{where}: is an {device.title}, and {plan.path} is a firmware for {plan.chip}",
            f"give the firmware for {device.chip}, or the port of another module",
        )
    if device.secure_download:
        raise DeviceError(
            f"{where}: the chip is in Secure Download Mode, which lets nobody compare or read its flash",
            "update it over the air (AT+CIUPDATE, AT+USEROTA), or with esptool and its manual",
        )
    for name, image in plan.images:
        problem = revision_problem(image, device)
        if problem:
            raise DeviceError(
                f"{where}: {name} needs a chip of revision {problem}", "give a firmware for this revision"
            )
    if device.secure_boot and (plan.unsigned or plan.erase):
        what = f"{', '.join(plan.unsigned)} in {plan.path} has no signature" if plan.unsigned else "--erase"
        raise DeviceError(
            f"{where}: the chip has secure boot on, and {what}: it would never start again",
            "give a signed firmware; what is no code can be written alone: --only mfg_nvs",
        )
    if device.encrypted and (plan.protected or plan.erase):
        what = ", ".join(plan.protected) or "the flash"
        raise DeviceError(
            f"{where}: the chip has flash encryption on, and {what} would be written as plain text",
            "write encrypted contents with esptool; what is plain text can be written alone: --only mfg_nvs",
        )
    if verify and device.chip == "esp8266" and not device.wants_stub:
        raise DeviceError(
            f"{where}: the ROM of an ESP8266 cannot verify", "leave out --no-stub, or leave out --verify"
        )


def revision_problem(image: AppImage, device: Device) -> str:
    """Return the chip revision that an image needs, ``""`` where the device has it (or does not tell)."""
    if device.revision is None:
        return ""
    major, minor = divmod(device.revision, 100)
    has = f", and this is v{major}.{minor}"
    if image.max_rev == 0 or (image.max_rev == 0xFFFF and not image.min_rev and image.legacy_min_rev):
        have = minor if device.chip == "esp32c3" else major
        return f"{image.legacy_min_rev} or newer{has}" if have < image.legacy_min_rev else ""
    if device.revision < image.min_rev:
        return f"v{image.min_rev // 100}.{image.min_rev % 100} or newer{has}"
    if device.revision > image.max_rev:
        return f"v{image.max_rev // 100}.{image.max_rev % 100} or older{has}"
    return ""


def check_flash_size(plan: FlashPlan, device: Device) -> None:
    """Refuse a device with less flash than the firmware needs.

    Raises:
        DeviceError: it has less.
    """
    if 0 < device.flash_size < plan.flash_needed:
        raise DeviceError(
            f"{device.port}: has {format_size(device.flash_size)} of flash, and {plan.path} needs "
            f"{format_size(plan.flash_needed)}",
            "give a firmware for a module with this flash",
        )


def _check_erasing(
    plan: FlashPlan, device: Device, changes: Sequence[tuple[Segment, list[tuple[int, bytes]]]]
) -> None:
    """Refuse to write where that would erase another partition that is not written after it."""
    if plan.erase:
        return
    for segment, runs in changes:
        for offset, data in runs:
            after, end = offset + len(data), device.erased_by(offset, len(data))[1]
            if end == after or any(other.offset <= after < other.end for other in plan.segments):
                continue
            for part in plan.partitions:
                if part.offset < end and after < part.end and not part.offset < after:
                    raise DeviceError(
                        f"{device.port}: without stub an ESP8266 erases 4 KB behind {segment.name}, too, "
                        f"which would damage {part.name}",
                        "leave out --no-stub, or erase everything with --erase",
                    )


# --- what differs --------------------------------------------------------------------------------


def changed_runs(segment: Segment, digest: Callable[[int, int], str] | None) -> list[tuple[int, bytes]]:
    """Return the stretches of a segment, in whole sectors, that differ from what is in flash.

    64 KB are compared at once. Where few of these blocks differ, their sectors are compared one by
    one; where a block is blank in flash, only its sectors that are to hold something are written.

    Args:
        segment: what shall be there.
        digest: gives the MD5 of a stretch of flash (address, size); None where that is impossible, so
            that everything is written.
    """
    data = segment.data + b"\xff" * (-segment.size % SECTOR_SIZE)
    if digest is None:
        return [(segment.offset, data)] if data else []
    sectors: set[int] = set()
    unknown = []
    for at in range(0, len(data), BLOCK_SIZE):
        block = data[at : at + BLOCK_SIZE]
        there = digest(segment.offset + at, len(block))
        if there == _md5(block):
            continue
        inside = range(at, at + len(block), SECTOR_SIZE)
        if there == _blank_md5(0, len(block)):
            sectors |= {sector for sector in inside if not _is_blank(data[sector : sector + SECTOR_SIZE])}
        else:
            unknown.append(inside)
    for inside in unknown:
        sectors |= {
            sector
            for sector in inside
            if len(unknown) > FEW_BLOCKS
            or digest(segment.offset + sector, SECTOR_SIZE) != _md5(data[sector : sector + SECTOR_SIZE])
        }
    return [(segment.offset + start, data[start:end]) for start, end in _joined(sectors)]


def _joined(sectors: set[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for sector in sorted(sectors):
        if runs and runs[-1][1] == sector:
            runs[-1] = (runs[-1][0], sector + SECTOR_SIZE)
        else:
            runs.append((sector, sector + SECTOR_SIZE))
    return runs


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _blank_md5(_offset: int, size: int) -> str:
    return _md5(b"\xff" * size)


def _is_blank(data: bytes) -> bool:
    return data.count(0xFF) == len(data)

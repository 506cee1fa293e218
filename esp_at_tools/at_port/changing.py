"""The settings, certificates, keys and GATT rows of a running module, changed.

A firmware with AT+SYSMFG is changed entry by entry; what that command cannot carry, or refuses for want of
room, goes over AT+SYSFLASH, as everything does with an older firmware: the whole partition is erased and
written. Either way what was written is read back and compared.

A firmware with AT+SYSMFG reads ``mfg_nvs`` once, when it starts: replaced by AT+SYSFLASH, AT+SYSMFG would
show the old entries and damage the new ones. So the module is restarted then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from esp_at_tools.at_port.client import AtError
from esp_at_tools.at_port.contents import Progress, Running, namespace_of, silent
from esp_at_tools.at_port.recovery import Recovery, identity
from esp_at_tools.at_port.sysflash import replace_partition
from esp_at_tools.at_port.sysmfg import (
    carries,
    erase_entry,
    read_entry,
    read_keys,
    read_namespaces,
    write_entry,
)
from esp_at_tools.at_port.uart import read_uart, restart, store_rate
from esp_at_tools.catalog.chips import find_chip
from esp_at_tools.errors import CheckFailedError, DeviceError, EspAtError, InputError
from esp_at_tools.firmware.firmware import Change, Firmware
from esp_at_tools.firmware.modify import Outcome, modify
from esp_at_tools.firmware.request import Request
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.nvs.model import NvsEntry
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.modern import ModernLayout

BAUD = "uart_baudrate"
_LOST_HINT = "run it again; a lower rate, or flow control (--flow), may help"


@dataclass(frozen=True)
class Pushed:
    """What :func:`push` has done.

    Attributes:
        written: the partitions that were written, or the entries where the module shows no partition.
        restarted: whether the module was restarted, as it had to be.
        warnings: what is worth knowing.
    """

    written: list[str]
    restarted: bool
    warnings: list[str]


# --- single values -------------------------------------------------------------------------------


def change(
    module: Running, request: Request, *, force: bool = False, progress: Progress = silent
) -> tuple[Outcome, bool]:
    """Change a module as asked, after the same checks as for a file.

    Returns:
        What was changed, every change read back from the module; and whether it was restarted.

    Raises:
        InputError: something is impossible; nothing was written.
        RiskyValueError: something is risky, and ``force`` is not given; nothing was written.
        DeviceError: the module failed on the way; run again, what is done already is not done anew.
        CheckFailedError: it does not hold what was written.
    """
    module.check_access()
    work = _Work(module, progress)
    remarks, restarted = work.complete()
    if module.way == "sysmfg":
        outcome, by_partition = work.change_entries(request, force=force)
        restarted |= by_partition
    else:
        outcome = work.change_partitions(request, force=force)
    rate = request.settings.get(BAUD)
    if isinstance(rate, int):
        stored = store_rate(module.client, rate)
        if stored:
            remarks.append(
                f"{BAUD}: the rate {stored} that the module had stored (AT+UART_DEF) goes before it, and is"
                " changed, too"
            )
    return replace(outcome, warnings=[*outcome.warnings, *remarks]), restarted


class _Work:
    """Changes one module."""

    def __init__(self, module: Running, progress: Progress) -> None:
        self._module, self._client, self._told = module, module.client, progress
        self._recovery = Recovery(identity(module.client))

    def complete(self) -> tuple[list[str], bool]:
        """Write anew what an earlier run has not finished writing.

        Returns:
            What is worth knowing, and whether the module was restarted.
        """
        remarks, stale = [], False
        for name, interrupted in self._recovery.pending().items():
            if name not in self._module.partitions:
                continue
            now = self._module.read_partition(name, self._told)
            if now == interrupted.before:  # nothing had been done to it
                self._recovery.forget(name)
                continue
            if not interrupted.is_what_it_left(now):
                aside = self._recovery.set_aside(name)
                remarks.append(
                    f"{name}: an earlier write of it was interrupted, and something else was written since;"
                    f" what it was to hold is kept in {aside}"
                )
                continue
            if now == interrupted.wanted:
                self._recovery.forget(name)
            else:
                self.replace_partitions({name: interrupted.wanted}, {name: now})
            remarks.append(f"{name}: an earlier write of it was interrupted; it is complete now")
            stale = True
        return remarks, stale and self.restart_if_stale()

    def restart_if_stale(self) -> bool:
        """Restart a module whose AT+SYSMFG would not see what AT+SYSFLASH has written."""
        if self._module.way != "sysmfg":
            return False
        self._told("restarting", 0, 0)
        restart(self._client)
        return True

    # --- entry by entry ----------------------------------------------------------------------

    def change_entries(self, request: Request, *, force: bool) -> tuple[Outcome, bool]:
        """Change entries; return what was changed, and whether it took AT+SYSFLASH and a restart."""
        firmware = self._module.read(request.names(), self._told)
        outcome = modify(firmware, request, force=force)
        wanted = {each.name: _entry_of(firmware, each) for each in outcome.changes}
        can_replace = MFG_NVS in self._module.partitions
        if can_replace and not all(entry is None or carries(entry) for entry in wanted.values()):
            self.change_partitions(request, force=force)
            return outcome, self.restart_if_stale()
        done: list[str] = []
        for name, entry in wanted.items():
            self._told(f"writing {name}", len(done), len(wanted))
            try:
                self.write_entry(namespace_of(name), name, entry)
            except AtError as error:
                if not can_replace:
                    raise self._refused(name, error, done) from error
                try:
                    self.change_partitions(request, force=force)
                except InputError as reason:
                    raise self._refused(name, reason, done) from error
                return outcome, self.restart_if_stale()
            done.append(name)
        return outcome, False

    def _refused(self, name: str, error: EspAtError, done: Sequence[str]) -> DeviceError:
        written = f"; {', '.join(done)} is written" if done else ""
        return DeviceError(
            f"{self._client.port}: the module does not take {name}: {error.message}{written}",
            "probably its mfg_nvs is full: remove an item (--unset), or use a shorter chain",
        )

    def write_entry(self, namespace: str, key: str, wanted: NvsEntry | None) -> None:
        """Write or, for None, erase an entry, and see that the module has it so."""
        if wanted is not None:
            write_entry(self._client, wanted)
        else:
            erase_entry(self._client, namespace, key)
        keys = read_keys(self._client, namespace)
        now = read_entry(self._client, namespace, key, keys[key]) if key in keys else None
        if now != wanted:
            raise CheckFailedError(
                f"{self._client.port}: {key} does not read back as it was written", _LOST_HINT
            )

    # --- whole partitions --------------------------------------------------------------------

    def change_partitions(self, request: Request, *, force: bool) -> Outcome:
        """Change a firmware whose parameters are replaced partition by partition."""
        module = self._module
        before = module.read_partitions(request.names(), self._told)
        firmware = module.from_partitions(before)
        outcome = modify(firmware, request, force=force)
        wanted = {patch.name: patch.data for patch in firmware.patches()}
        if module.layout == "legacy":
            self._check_again(before, wanted)
        self.replace_partitions(wanted, before)
        return outcome

    def _check_again(self, before: Mapping[str, bytes], names: Iterable[str]) -> None:
        """Read once more what is changed and written back: no checksum tells of a byte that arrived wrong."""
        for name in names:
            if self._module.read_partition(name, self._told) != before[name]:
                raise DeviceError(
                    f"{self._client.port}: {name} was read twice and was not the same; nothing was written",
                    "bytes are changed on the way: a lower rate, or flow control (--flow), may help",
                )

    def replace_partitions(self, wanted: Mapping[str, bytes], before: Mapping[str, bytes]) -> None:
        """Erase and write partitions; a copy of each is kept until it reads back."""
        for name, data in wanted.items():
            place = self._module.partitions[name]
            whole = data.ljust(place.size, b"\xff")
            with self._recovery.keep(name, whole, before[name]):
                replace_partition(self._client, place, whole, self._writing(name, place.size))

    def _writing(self, name: str, size: int) -> Callable[[int], None]:
        return lambda done: self._told(f"writing {name}", done, size)

    # --- a whole firmware --------------------------------------------------------------------

    def push_partitions(self, wanted: Mapping[str, bytes]) -> tuple[list[str], bool]:
        """Make partitions hold these; return what was written, and whether the module was restarted."""
        module = self._module
        before = {name: module.read_partition(name, self._told) for name in wanted}
        pending = [name for name in self._recovery.pending() if name in wanted]
        differing = {
            name: data
            for name, data in wanted.items()
            if before[name] != data.ljust(module.partitions[name].size, b"\xff")
        }
        self.replace_partitions(differing, before)
        restarted = bool(differing or pending) and self.restart_if_stale()
        for name in pending:  # what an earlier run wanted is wanted no more
            self._recovery.forget(name)
        return list(differing), restarted

    def push_entries(self, nvs: NvsPartition) -> list[str]:
        """Make ``mfg_nvs`` hold these entries and no others, one by one; return those that were written."""
        wanted = {(entry.namespace, entry.key): entry for entry in nvs.entries}
        refused = next((entry.key for entry in wanted.values() if not carries(entry)), "")
        if refused:
            raise InputError(
                f"{refused}: AT+SYSMFG cannot carry it, and AT+SYSFLASH does not show mfg_nvs",
                "flash it instead: 'esp-at-tool flash --only mfg_nvs'",
            )
        found = {
            (namespace, key): read_entry(self._client, namespace, key, kind)
            for namespace in read_namespaces(self._client)
            for key, kind in read_keys(self._client, namespace).items()
        }
        removed = [place for place in found if place not in wanted]
        changed = [place for place, entry in wanted.items() if found.get(place) != entry]
        for number, (namespace, key) in enumerate([*removed, *changed]):
            self._told(f"writing {key}", number, len(removed) + len(changed))
            self.write_entry(namespace, key, wanted.get((namespace, key)))
        return [key for _, key in [*removed, *changed]]


def _entry_of(firmware: Firmware, change: Change) -> NvsEntry | None:
    """Return what an entry is to be, None for one that is removed."""
    assert isinstance(firmware.layout, ModernLayout)  # noqa: S101 - SYSMFG has no other
    return firmware.layout.nvs.get(namespace_of(change.name), change.name)


# --- a whole firmware ----------------------------------------------------------------------------


def push(module: Running, firmware: Firmware, progress: Progress = silent) -> Pushed:
    """Replace a module's parameters by those of a firmware; what is so already is left alone.

    Raises:
        InputError: it is a firmware for another chip or layout, or does not fit; nothing was written.
        DeviceError: the module failed on the way; run it again.
        CheckFailedError: it does not hold what was written.
    """
    module.check_access()
    _check_kind(module, firmware)
    work = _Work(module, progress)
    restarted = False
    if module.way == "sysmfg" and MFG_NVS not in module.partitions:
        assert isinstance(firmware.layout, ModernLayout)  # noqa: S101 - that of the module
        written = work.push_entries(firmware.layout.nvs)
    else:
        written, restarted = work.push_partitions(_pushable(module, firmware))
    return Pushed(written, restarted, _remarks(module, firmware))


def _remarks(module: Running, firmware: Firmware) -> list[str]:
    """Return what keeps the module from using what was written."""
    rate, stored = firmware.get(BAUD), read_uart(module.client)
    if stored is None or not isinstance(rate, int) or stored.rate in (rate, 0):
        return []
    own = f"the module has stored the rate {stored.rate} (AT+UART_DEF), which goes before {rate}"
    return [f"{BAUD}: {own} ('at set {BAUD}={rate}' changes it)"]


def _check_kind(module: Running, firmware: Firmware) -> None:
    where, port = firmware.source.path, module.client.port
    chip = find_chip(module.info.chip)
    if firmware.chip_name and chip is not None and firmware.chip_name != chip.name:
        raise InputError(
            f"{where}: is for {firmware.chip_name}, and the module on {port} is an {chip.title}",
            "give a firmware for this chip",
        )
    if firmware.layout.name != module.layout:
        raise InputError(
            f"{where}: has the {firmware.layout.name} layout, the module on {port} the {module.layout} one",
            "'esp-at-tool migrate' carries settings from one to the other",
        )


def _pushable(module: Running, firmware: Firmware) -> dict[str, bytes]:
    """Return partition → what it is to hold, of the module's size or smaller."""
    found, path = {}, firmware.source.path
    for name, data in firmware.layout.contents().items():
        place, used = module.partitions.get(name), data.rstrip(b"\xff")
        if place is None:
            raise InputError(
                f"{path}: {name} has no partition on the module, or AT+SYSFLASH does not show it",
                "flash it instead: 'esp-at-tool flash --only'",
            )
        if len(used) > place.size and isinstance(firmware.layout, ModernLayout):
            used = _laid_out(firmware, firmware.layout.nvs, place.size)
        if len(used) > place.size:
            raise InputError(
                f"{path}: {name} has {len(used)} bytes, its partition on the module {place.size}",
                "give contents that are made for this module's partition table",
            )
        found[name] = used
    return found


def _laid_out(firmware: Firmware, nvs: NvsPartition, size: int) -> bytes:
    """Lay the entries out anew in a smaller partition."""
    smaller = NvsPartition.empty(size)
    try:
        for entry in nvs.entries:
            smaller.set(entry.namespace, entry.key, entry.type, entry.value)
        return smaller.to_bytes()
    except InputError as error:
        raise InputError(f"{firmware.source.path}: {error.message} on the module", error.hint) from error

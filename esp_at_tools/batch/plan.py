"""What is found out before the first device: whether everything that all of them share is right."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from esp_at_tools import files
from esp_at_tools.batch.devices import Devices
from esp_at_tools.batch.folder import State
from esp_at_tools.batch.job import KINDS, Emit, Job, Kind, emitted, flash_image
from esp_at_tools.errors import InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.modify import check_firmware
from esp_at_tools.firmware.request import Request
from esp_at_tools.settings.profile import ProfileTemplate


@dataclass(frozen=True)
class Options:
    """What a user asks for.

    Attributes:
        input: the firmware.
        devices: the list of devices.
        output: the folder.
        profile: changes for all devices, with ``{column}`` for what is a device's own.
        emit: what is written for each device; None for ``mfg_nvs``, or ``image`` of the legacy layout.
        processes: how many work at once; 0 for one for each CPU.
        shard: which part of how many, (1, 4) for the first of four; None for all.
        resume: go on with an interrupted run.
        unique_certificates: refuse a certificate that another device has.
        force: allow what is risky.
        chip: see :class:`esp_at_tools.batch.job.Job`, as the next two.
        partition_table_offset: where the table is.
        parameter_offset: where the parameters are.
    """

    input: Path
    devices: Path
    output: Path
    profile: Path | None = None
    emit: Emit | None = None
    processes: int = 0
    shard: tuple[int, int] | None = None
    resume: bool = False
    unique_certificates: bool = False
    force: bool = False
    chip: str = ""
    partition_table_offset: int | None = None
    parameter_offset: int | None = None


@dataclass(frozen=True)
class Plan:
    """What was found out before the first device."""

    devices: Devices
    emit: Emit
    kinds: tuple[Kind, ...]
    state: State
    warnings: list[str]
    output_size: int
    template: ProfileTemplate | None

    @classmethod
    def of(cls, options: Options) -> Plan:
        """Look at everything that all devices share.

        Raises:
            InputError: something of it is wrong.
        """
        template = ProfileTemplate.load(options.profile) if options.profile else None
        used = template.columns if template else frozenset()
        fixed = Request()
        if template is not None:
            fixed.take_profile(template.split()[0].fill({}), template.path)
        devices = Devices.open(options.devices, used, options.profile)
        job = Job(
            options.input, Path(), Path(), datetime.now(timezone.utc), (), None, options.force,
            options.chip, options.partition_table_offset, options.parameter_offset,
        )  # fmt: skip
        firmware = job.open_firmware()
        emit = emitted(firmware, options.emit)
        _check_names(firmware, devices, template)
        warnings = check_firmware(firmware, force=options.force)
        whole = flash_image(firmware) if emit != "mfg_nvs" else b""
        state = State(
            input=firmware.source.sha256(),
            devices=devices.sha256,
            profile=_profile_digest(options.profile, fixed),
            options=f"force={options.force} chip={firmware.chip_name} table={options.partition_table_offset} "
            f"parameters={options.parameter_offset}",
            rows=devices.rows,
            emit=emit,
            unique_certificates=options.unique_certificates,
            shards=options.shard[1] if options.shard else 1,
        )
        size = len(whole) + sum(place.size for place in firmware.places.values())
        return cls(devices, emit, KINDS[emit], state, warnings, size, template)


def _check_names(firmware: Firmware, devices: Devices, template: ProfileTemplate | None) -> None:
    """Refuse what the firmware has no place for, and a batch that asks for nothing."""
    names = {name: f"{devices.path}: column {name}" for name in devices.names}
    if template is not None:
        names |= {name: f"{template.path}: {name}" for name in template.names}
    if not names and (template is None or "gatts" not in template.root.entries):
        raise InputError(
            f"{devices.path}: has no column that changes anything",
            "add columns named as settings or PKI items, or a --profile",
        )
    for name, source in names.items():
        _check_holds(firmware, name, source)


def _check_holds(firmware: Firmware, name: str, source: str) -> None:
    try:
        firmware.layout.check_holds(name)
    except InputError as error:
        raise InputError(f"{source}: {error.message}", error.hint) from error


def _profile_digest(path: Path | None, fixed: Request) -> str:
    """Return the SHA-256 of a profile with the files that it names for all devices."""
    if path is None:
        return ""
    digest = hashlib.sha256(files.read_file(path, "profile"))
    for name, data in sorted(fixed.pki.items()):
        digest.update(f"\0{name}\0{len(data)}\0".encode() + data)
    for row in fixed.gatt_table or ():
        digest.update(f"\0{row}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()

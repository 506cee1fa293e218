"""One device after the other: what is asked for it, whether that is right, and its bytes.

Every value goes through the rules of ``modify-bin``. The first device, and every one against which
something stands, is made by :func:`esp_at_tools.firmware.modify.modify` itself, with its messages. The
others take the quick way: the same rules are asked about what differs from row to row, and the partition
is written from a template, since its layout depends only on how many entries each value takes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from esp_at_tools.batch.devices import is_name
from esp_at_tools.batch.job import Job, Kind, flash_image
from esp_at_tools.batch.own_files import GATTS, OwnFiles, contents_digest, read_small
from esp_at_tools.batch.pki_judge import SOURCE, ItemVerdict, PkiJudge
from esp_at_tools.errors import EspAtError, InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.modify import judge_settings, modify
from esp_at_tools.firmware.request import Request, read_pki_file
from esp_at_tools.firmware.source import FileSource, Patch, patched_chunks
from esp_at_tools.firmware.tls_limits import tls_support
from esp_at_tools.formats.nvs.template import NvsTemplate, spans
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.layout import Layout, Value
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.modern import ModernLayout
from esp_at_tools.settings.names import BLE_DATA, FACTORY_PARAM, SETTINGS, gatt_row_index
from esp_at_tools.settings.profile import Profile, ProfileTemplate
from esp_at_tools.settings.rules import RuleFinding, parse_value

Chunks = list["bytes | memoryview"]

_MAX_TEMPLATES = 256
"""Layouts that are kept, of some 20 KB each."""
_MAX_VERDICTS = 4096
_MAX_PATH = 4096
_CERTIFICATES = tuple(name for name, item in PKI_ITEMS.items() if item.kind == "certificate")

_Key = TypeVar("_Key")
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Made:
    """One device's outputs.

    Attributes:
        outputs: what becomes of each file.
        certificates: SHA-256 of the DER of the device's own certificates, lower-case hex, each once, with
            the name of the item that it is.
        not_after: when the first of them expires.
        warnings: what is questionable.
        files_digest: of the contents of its own files, see
            :func:`esp_at_tools.batch.own_files.contents_digest`.
    """

    outputs: dict[Kind, Chunks]
    certificates: dict[str, str] = field(default_factory=dict)
    not_after: datetime | None = None
    warnings: tuple[str, ...] = ()
    files_digest: str = ""


@dataclass
class _Own:
    """What one row asks for: columns first, then what it makes of the profile."""

    settings: dict[str, Value] = field(default_factory=dict)
    gatts: dict[str, str] = field(default_factory=dict)
    pki: dict[str, bytes] = field(default_factory=dict)


class _Verdict(NamedTuple):
    """Whether nothing stands against some settings or GATT rows, and what is questionable about them."""

    allowed: bool
    warnings: tuple[RuleFinding, ...] = ()
    texts: tuple[str, ...] = ()


_SOUND = _Verdict(allowed=True)


class Maker:
    """Makes the outputs of devices.

    Args:
        job: what they have in common.

    Raises:
        InputError: the firmware, the profile, or a file that the profile names for all is wrong.
    """

    def __init__(self, job: Job) -> None:
        """Open the firmware, and read what is the same for all devices."""
        self._job = job
        self._firmware = job.open_firmware()
        self._image = flash_image(self._firmware) if "image" in job.kinds else b""
        self._opened = self._firmware.opened
        self._tls = tls_support(self._firmware.source)[0]
        self._judge = PkiJudge(job.now, self._tls)
        self._root = f"{job.folder}/" if os.sep == "/" else ""
        self._held: set[str] = set()
        self._profile = ProfileTemplate.load(job.profile) if job.profile else None
        self._columns = self._profile.columns if self._profile else frozenset()
        self._files = OwnFiles(job.folder, self._profile)
        fixed = Request()
        self._varying: ProfileTemplate | None = None
        self._quick = isinstance(self._firmware.layout, ModernLayout)
        if self._profile is not None:
            same, varying = self._profile.split()
            fixed.take_profile(same.fill({}), self._profile.path)
            self._varying = varying if varying.columns else None
            self._quick &= "gatts" not in varying.root.entries
        self._fixed = fixed
        self._templates: dict[tuple[tuple[str, int], ...], NvsTemplate] = {}
        self._settings_verdicts: dict[tuple[tuple[str, Value], ...], _Verdict] = {}
        self._gatt_verdicts: dict[tuple[tuple[str, str], ...], _Verdict] = {}
        self._questioned = False
        """Whether anything was questionable about a row's own settings or GATT rows yet."""

    def make(self, row: Mapping[str, str], *, thorough: bool = False) -> Made:
        """Return the outputs of one device.

        Args:
            row: its texts by column.
            thorough: take the slow way, which tells all warnings.

        Raises:
            EspAtError: something stands against it; the message says what.
        """
        self._check_row(row)
        own = self._own(row) if self._quick else None
        if own is None:
            return self._slowly(row, None)
        verdicts = {name: self._judge.item(name, data) for name, data in own.pki.items()}
        if thorough or not self._allowed(own, verdicts):
            return self._slowly(row, own)
        warnings = self._warnings(row, own, verdicts)
        partition = self._rendered(own)
        if partition is None:
            return replace(self._slowly(row, own), warnings=warnings)
        certificates, not_after = _identity(own.pki, verdicts)
        digest = contents_digest(own.pki)
        return Made(self._outputs(partition), certificates, not_after, warnings, digest)

    def _warnings(
        self, row: Mapping[str, str], own: _Own, verdicts: Mapping[str, ItemVerdict]
    ) -> tuple[str, ...]:
        """Return what is questionable about what is a row's own, in the words of ``modify-bin``."""
        found: list[str] = []
        for finding in self._settings_verdict(own.settings).warnings if self._questioned else ():
            name, text = finding.setting, finding.message
            source = f"column {name}" if row.get(name) else str(self._job.profile)
            text = Request(sources={name: source}).blamed(name, text)
            found.append(f"{text} ({finding.hint})" if finding.hint else text)
        if self._questioned and own.gatts:
            found += self._gatts_verdict(own.gatts).texts
        for name, verdict in verdicts.items():
            if verdict.warnings and self._opened.pki.get(name) != own.pki[name]:
                path = self._files.paths(row)[name]
                of = f"column {name}" if name in row else f"{self._job.profile}: {name}"
                found += (text.replace(SOURCE, f"{of} {path}") for text in verdict.warnings)
        return tuple(found)

    def _check_row(self, row: Mapping[str, str]) -> None:
        """Refuse blank cells where something must stand, and contents where a path must."""
        columns = self._columns
        for column in columns:
            if not row.get(column):
                raise InputError(f"column {column} is blank, and the profile uses it", "fill the cell")
        for name, text in row.items():
            if name in PKI_ITEMS:
                _check_path(name, text)
            elif name in columns and len(text) > _MAX_PATH:
                raise InputError(f"column {name} has {len(text)} characters", f"at most {_MAX_PATH}")

    # --- what is asked for ---------------------------------------------------------------------

    def _own(self, row: Mapping[str, str]) -> _Own | None:
        """Return what a row asks for; None where it cannot be read, so that the slow way tells why."""
        own = _Own()
        try:
            for name, text in row.items():
                if name in SETTINGS:
                    own.settings[name] = parse_value(name, text)
                elif name in PKI_ITEMS:
                    own.pki[name] = read_small(self._path(text))
                elif gatt_row_index(name) is not None:
                    own.gatts[name] = text
            if self._varying is not None:
                filled = self._varying.fill(row)
                for name, value in filled.settings.items():
                    own.settings.setdefault(name, value)
                for name, path in filled.pki.items():
                    if name not in own.pki:
                        own.pki[name] = read_small(str(path))
            for name in (*own.settings, *own.pki, *own.gatts):
                if name not in self._held:
                    self._firmware.layout.check_holds(name)
                    self._held.add(name)
        except (EspAtError, OSError, ValueError):
            return None
        return own

    def _path(self, text: str) -> str:
        """Return the path that a cell stands for; :class:`pathlib.Path` would take ten times as long."""
        if self._root and text[0] != "/":
            return self._root + text
        return str(self._job.folder / text)

    def _request(self, row: Mapping[str, str]) -> Request:
        """Return what a row and the profile ask for, in the official order."""
        request = Request()
        for name, text in row.items():
            if not is_name(name):
                continue
            source = f"column {name}"
            if name in PKI_ITEMS:
                path = self._job.folder / text
                _check_kind(source, path)
                request.add_pki_file(name, path, source)
                continue
            if name in SETTINGS:
                request.settings[name] = parse_value(name, text, source)
            else:
                request.gatts[name] = text
            request.sources[name] = source
        if self._profile is not None:
            profile = self._profile.fill(row)
            for name, path in profile.pki.items():
                _check_path(name, str(path))
                _check_kind(name, path)
            request.take_profile(self._unless_fixed(profile, request), self._profile.path)
            for name, data in self._fixed.pki.items():
                if name not in request.pki:
                    request.pki[name] = data
                    request.sources[name] = self._fixed.sources[name]
        request.settings = {name: request.settings[name] for name in SETTINGS if name in request.settings}
        request.pki = {name: request.pki[name] for name in PKI_ITEMS if name in request.pki}
        return request

    def _unless_fixed(self, profile: Profile, request: Request) -> Profile:
        """Return a profile without the files that were read already, once for all devices."""
        pki = {name: path for name, path in profile.pki.items() if name not in self._fixed.pki}
        gatts = profile.gatts
        if self._fixed.gatt_table is not None:
            gatts, request.gatt_table = None, list(self._fixed.gatt_table)
            rows = ((name, text) for name, text in self._fixed.sources.items() if name.startswith("cfg"))
            request.sources.update(rows)
        return Profile(profile.settings, pki, gatts)

    # --- whether it is right -------------------------------------------------------------------

    def _allowed(self, own: _Own, verdicts: Mapping[str, ItemVerdict]) -> bool:
        """Tell whether no rule stands against a row; what needs ``--force`` goes the slow way too."""
        current = self._opened.pki
        asked = {**self._fixed.pki, **own.pki}
        changed = [name for name, data in asked.items() if current.get(name) != data]
        for name in changed:
            verdict = verdicts.get(name) or self._judge.item(name, asked[name])
            if verdict.refused:
                return False
        return (
            self._settings_verdict(own.settings).allowed
            and self._gatts_verdict(own.gatts).allowed
            and not self._judge.sets_refused(changed, {**current, **asked})
        )

    def _settings_verdict(self, own: Mapping[str, Value]) -> _Verdict:
        key = tuple(own.items())
        verdict = self._settings_verdicts.get(key)
        if verdict is None:
            asked = {**self._fixed.settings, **own}
            findings = judge_settings(self._firmware, self._opened.settings, asked)
            mine = tuple(found for found in findings if found.level == "warning" and found.setting in own)
            verdict = _Verdict(all(found.level == "warning" for found in findings), mine)
            self._questioned |= bool(mine)
            _keep(self._settings_verdicts, key, verdict, _MAX_VERDICTS)
        return verdict

    def _gatts_verdict(self, own: Mapping[str, str]) -> _Verdict:
        if not own and self._fixed.gatt_table is None:
            return _SOUND
        key = tuple(own.items())
        verdict = self._gatt_verdicts.get(key)
        if verdict is None:
            sources = {name: f"column {name}" for name in own}
            request = Request(gatts=dict(own), gatt_table=self._fixed.gatt_table, sources=sources)
            try:
                warnings = modify(self._copy(), request, now=self._job.now).warnings
                mine = (text for text in warnings if any(source in text for source in sources.values()))
                verdict = _Verdict(allowed=True, texts=tuple(mine))
                self._questioned |= bool(verdict.texts)
            except EspAtError:
                verdict = _Verdict(allowed=False)
            _keep(self._gatt_verdicts, key, verdict, _MAX_VERDICTS)
        return verdict

    # --- its bytes -----------------------------------------------------------------------------

    def _copy(self) -> Firmware:
        """Return the firmware as it was opened, without its images, which are checked once for all."""
        firmware, layout = self._firmware, self._firmware.layout
        fresh: Layout
        if isinstance(layout, ModernLayout):
            fresh = ModernLayout(layout.nvs.copy())
        else:
            from esp_at_tools.settings.legacy import LegacyLayout

            places = firmware.places.items()
            contents = {name: firmware.source.read(place.offset, place.size) for name, place in places}
            fresh = LegacyLayout(contents, {name: place.size for name, place in places})
        source = FileSource(firmware.source.path, b"", firmware.kind)
        return Firmware(source, fresh, firmware.places, None, firmware.chip_name, firmware.flash_size)

    def _slowly(self, row: Mapping[str, str], own: _Own | None) -> Made:
        """Make a device as ``modify-bin`` does; remember the layout that came out of it."""
        request = self._request(row)
        firmware = self._copy()
        outcome = modify(firmware, request, force=self._job.force, now=self._job.now, tls=self._tls)
        if own is not None:
            self._remember(own, firmware)
        mine = {
            name: data
            for name, data in request.pki.items()
            if name not in self._fixed.pki or row.get(name) is not None
        }
        verdicts = {name: self._judge.item(name, data) for name, data in mine.items()}
        certificates, not_after = _identity(mine, verdicts)
        table = self._files.paths(row).get(GATTS) if self._varying is not None else None
        digest = contents_digest({**mine, GATTS: read_pki_file(table)} if table is not None else mine)
        return Made(self._outputs_of(firmware), certificates, not_after, tuple(outcome.warnings), digest)

    def _outputs_of(self, firmware: Firmware) -> dict[Kind, Chunks]:
        outputs: dict[Kind, Chunks] = {}
        if "image" in self._job.kinds:
            outputs["image"] = patched_chunks(self._image, firmware.patches())
        if "mfg_nvs" in self._job.kinds:
            outputs["mfg_nvs"] = [firmware.layout.contents()[MFG_NVS]]
        return outputs

    def _outputs(self, partition: bytes) -> dict[Kind, Chunks]:
        outputs: dict[Kind, Chunks] = {}
        if "image" in self._job.kinds:
            place = self._firmware.places[MFG_NVS]
            patch = Patch(MFG_NVS, place.offset, place.size, partition)
            same = self._image[place.offset : place.offset + place.size] == partition
            outputs["image"] = [self._image] if same else patched_chunks(self._image, [patch])
        if "mfg_nvs" in self._job.kinds:
            outputs["mfg_nvs"] = [partition]
        return outputs

    def _shape(self, own: _Own) -> tuple[tuple[tuple[str, int], ...], list[int | bytes]]:
        """Return what the layout depends on, and the values that differ from the input's."""
        shape: list[tuple[str, int]] = []
        values: list[int | bytes] = []
        opened = self._opened
        texts: tuple[tuple[Mapping[str, Value], Mapping[str, Value]], ...] = (
            (own.settings, opened.settings),
            (own.gatts, opened.gatts),
        )
        for asked, current in texts:
            for name, value in asked.items():
                if current.get(name) == value:
                    shape.append((name, -1))
                    continue
                stored = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
                values.append(stored)
                shape.append((name, spans(stored, text=True)))
        for name, data in own.pki.items():
            if opened.pki.get(name) == data:
                shape.append((name, -1))
            else:
                values.append(data)
                shape.append((name, spans(data)))
        return tuple(shape), values

    def _rendered(self, own: _Own) -> bytes | None:
        shape, values = self._shape(own)
        template = self._templates.get(shape)
        return None if template is None else template.render(values)

    def _remember(self, own: _Own, firmware: Firmware) -> None:
        """Keep the layout of a device, since others will have the same."""
        shape, values = self._shape(own)
        if shape in self._templates or not isinstance(firmware.layout, ModernLayout):
            return
        image = firmware.layout.contents()[MFG_NVS]
        try:
            template = NvsTemplate(image, [_place_of(name) for name, size in shape if size >= 0])
            if template.render(values) != image:
                return
        except ValueError:
            return
        _keep(self._templates, shape, template, _MAX_TEMPLATES)


def _place_of(name: str) -> tuple[str, str]:
    """Return the namespace and key of a name."""
    if name in SETTINGS:
        return FACTORY_PARAM, name
    return (PKI_ITEMS[name].group if name in PKI_ITEMS else BLE_DATA), name


def _identity(
    pki: Mapping[str, bytes], verdicts: Mapping[str, ItemVerdict]
) -> tuple[dict[str, str], datetime | None]:
    """Return the fingerprints of a device's own certificates, and when the first of them expires."""
    found = [(name, verdicts[name]) for name in _CERTIFICATES if name in pki]
    ends = [verdict.not_after for _, verdict in found if verdict.not_after is not None]
    prints: dict[str, str] = {}
    for name, verdict in found:
        if verdict.fingerprint:
            prints.setdefault(verdict.fingerprint, name)
    return prints, min(ends, default=None)


def _check_path(name: str, text: str) -> None:
    """Refuse what is no path of a certificate or key, without repeating it: it may be the key itself."""
    if not text:
        raise InputError(f"column {name} is blank", "give the path of the device's own file")
    if "-----BEGIN" in text or "\n" in text or len(text) > _MAX_PATH:
        raise InputError(f"{name}: holds the contents of a file where its path should be", "give the path")
    if "\0" in text:
        raise InputError(f"{name}: the path holds a NUL", "give the path of a PEM or DER file")


def _check_kind(source: str, path: Path) -> None:
    """Refuse a pipe or device, for which a run would wait without end, and a path as Windows writes it."""
    exists = path.exists()
    if not exists and os.sep == "/" and "\\" in str(path):
        raise InputError(f"{source}: {path}: no such file", "write / between the parts of the path")
    if exists and not path.is_file() and not path.is_dir():
        raise InputError(
            f"{source}: {path}: is a pipe, socket or device", "give the path of a PEM or DER file"
        )


def _keep(table: dict[_Key, _Item], key: _Key, value: _Item, most: int) -> None:
    """Add to a table that begins anew when it is full."""
    if len(table) >= most:
        table.clear()
    table[key] = value

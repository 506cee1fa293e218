"""A recipe seen as flash, so that what changes a firmware changes a recipe too."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from esp_at_tools.build.artefacts import Part, parts
from esp_at_tools.build.recipe import Recipe, UserPartition
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.source import Flash, Kind, Patch, PendingOutput
from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.nvs.csv import dump_csv, parse_csv
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.modern import PKI_ORDER
from esp_at_tools.settings.names import BLE_DATA, FACTORY_PARAM


class RecipeFlash:
    """The parts of a recipe in memory, as a source of a firmware; nothing is written through it.

    Args:
        recipe: what it is made of.

    Raises:
        InputError: a part does not fit its place; see :func:`esp_at_tools.build.artefacts.parts`.
    """

    kind: Kind = "release"

    def __init__(self, recipe: Recipe) -> None:
        """Lay the parts out."""
        self.path = Path(recipe.full_name)
        self._recipe = recipe
        self._parts: tuple[Part, ...] = parts(recipe)

    @property
    def size(self) -> int:
        """Bytes of all parts together."""
        return sum(len(part.data) for part in self._parts)

    @property
    def end(self) -> int:
        """First address after all parts."""
        return max(part.offset + len(part.data) for part in self._parts)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of flash; 0xFF between the parts."""
        result = bytearray(b"\xff" * size)
        for part in self._parts:
            first, last = max(part.offset, offset), min(part.offset + len(part.data), offset + size)
            if first < last:
                result[first - offset : last - offset] = part.data[first - part.offset : last - part.offset]
        return bytes(result)

    def sha256(self) -> str:
        """Return the SHA-256 of the parts with their addresses."""
        digest = hashlib.sha256()
        for part in sorted(self._parts, key=lambda part: part.offset):
            digest.update(part.offset.to_bytes(4, "little") + part.data)
        return digest.hexdigest()

    def stated_flash_size(self) -> str:
        """Return the flash size: ``4MB``."""
        return self._recipe.flash.size_name

    def contradictions(self) -> list[str]:
        """Return nothing: parts that do not fit have been refused."""
        return []

    def remarks(self, patches: list[Patch]) -> list[str]:
        """Return nothing: there are no other files."""
        del patches
        return []

    def output(self, path: Path, patches: Iterable[Patch], *, secret: Collection[int]) -> PendingOutput:
        """Refuse: a build folder is written by :mod:`esp_at_tools.build.folder`."""
        del patches, secret
        raise InputError(f"{path}: a recipe is not written", "write its build folder")

    def reread(self, pending: PendingOutput) -> Flash:
        """Return this flash: nothing has been written."""
        del pending
        return self


def open_recipe(recipe: Recipe) -> Firmware:
    """Return a recipe as a firmware that can be changed in memory.

    Raises:
        InputError: it is contradictory, or has no parameters.
    """
    try:
        return Firmware.of_source(
            RecipeFlash(recipe), chip=recipe.chip.name, partition_table_offset=recipe.table_offset
        )
    except FormatError as error:
        raise FormatError(f"{recipe.full_name}: {error.message}", error.hint) from error


def changed_recipe(recipe: Recipe, firmware: Firmware) -> Recipe:
    """Return a recipe with what has changed in its firmware.

    Args:
        recipe: what the firmware was opened from.
        firmware: see :func:`open_recipe`.

    Raises:
        InputError: the contents of a partition do not fit it.
    """
    partitions = dict(recipe.partitions)
    secret = firmware.key_partitions
    for patch in firmware.patches():
        before = partitions.get(patch.name, UserPartition(b""))
        data, csv = _changed_mfg_nvs(before, patch) if patch.name == MFG_NVS else (patch.data, "")
        partitions[patch.name] = UserPartition(data, patch.name in secret, csv)
    return replace(recipe, partitions=partitions)


def _changed_mfg_nvs(before: UserPartition, patch: Patch) -> tuple[bytes, str]:
    """Return the changed ``mfg_nvs``, new namespaces in their official place, and its CSV."""
    old, new = NvsPartition.from_bytes(before.data), NvsPartition.from_bytes(patch.data)
    text = _edited_csv(before.csv, old, new)
    order = sorted(new.namespaces, key=_rank)
    kept = [name for name in order if name in old.namespaces]
    if order == [*new.namespaces] or kept != [*old.namespaces]:
        return patch.data, text
    ordered = dump_csv(new.entries, order)
    data = (
        NvsPartition.from_csv(ordered, patch.size, version=new.version).to_bytes().ljust(patch.size, b"\xff")
    )
    moved = _blocks_in_order(text, order)
    return data, moved if _describes(moved, NvsPartition.from_bytes(data)) else ordered


def _rank(namespace: str) -> int:
    """Return the place of a namespace: certificate, key and CA of each role, then the settings."""
    known = [*PKI_ORDER, FACTORY_PARAM, BLE_DATA]
    return known.index(namespace) if namespace in known else len(known)


def _edited_csv(text: str, old: NvsPartition, new: NvsPartition) -> str:
    """Return the CSV of the changed partition: the old one edited, or one that is made of the entries."""
    if text:
        from esp_at_tools.firmware.mfg_csv import edit_mfg_csv

        with contextlib.suppress(FormatError):  # rows that cannot be edited one by one
            edited = edit_mfg_csv(text, old, new)
            if _describes(edited, new):
                return edited
    return dump_csv(new.entries, new.namespaces)


def _describes(text: str, nvs: NvsPartition) -> bool:
    """Tell whether a CSV has the entries of a partition, in their order."""
    try:
        records = parse_csv(text, read_file=lambda _: b"").records
    except FormatError:
        return False
    names = {record.namespace_index: record.key.decode() for record in records if record.kind == "namespace"}
    found = [
        (names[record.namespace_index], record.key.decode()) for record in records if record.kind == "entry"
    ]
    return found == [(entry.namespace, entry.key) for entry in nvs.entries]


def _blocks_in_order(text: str, order: list[str]) -> str:
    """Return a CSV with the rows of its namespaces in another order."""
    head, *blocks = re.split(r"^(?=[^,#\"\n]+,namespace,)", text, flags=re.MULTILINE)
    places = {name: place for place, name in enumerate(order)}
    return head + "".join(sorted(blocks, key=lambda block: places.get(block.split(",", 1)[0], len(places))))

"""The files of one or more folders of module definitions, read but not yet put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from esp_at_tools.catalog.chips import chips
from esp_at_tools.catalog.factory_params import DATA_FILE, TYPE_FILE, ModuleRow, read_rows, read_types
from esp_at_tools.catalog.features import Feature, read_features
from esp_at_tools.catalog.module_yaml import (
    Layer,
    Problem,
    Report,
    read_layer,
    unknown_hint,
)
from esp_at_tools.catalog.releases import IdfPin, read_idf_pins
from esp_at_tools.errors import InputError

BASE = "base"
"""The lowest layer."""
LAYERS = "modules"
"""Folder of the layers."""
TABLES = "partitions"
"""Folder of the partition tables."""
_FILES = (DATA_FILE, TYPE_FILE, "features.yaml", "idf.yaml")
_KINDS = (".yaml", ".yml", ".csv")


def files_of(folder: Path) -> list[Path]:
    """Return the files in the places of definitions, in a fixed order, those that are not read included."""
    places = (folder, folder / TABLES, folder / LAYERS, *sorted((folder / LAYERS).glob("*/")))
    return [
        path
        for place in places
        for path in sorted(place.glob("*"))
        if path.suffix.casefold() in _KINDS and path.is_file()
    ]


@dataclass(frozen=True)
class Definitions:
    """What the files of some folders say.

    Attributes:
        folders: the folders, from the lowest to the highest.
        rows: ``esp32c3/mini-1`` → the row of a module.
        types: parameter → NVS type.
        features: name → feature.
        pins: name → ESP-IDF.
        files: ``base``, ``esp32c3``, ``esp32c3/mini-1`` → the layers of that name.
        tables: name → file of a partition table.
    """

    folders: tuple[Path, ...]
    rows: Mapping[str, ModuleRow]
    types: Mapping[str, str]
    features: Mapping[str, Feature]
    pins: Mapping[str, IdfPin]
    files: Mapping[str, tuple[Layer, ...]]
    tables: Mapping[str, Path]


@dataclass
class _Found:
    rows: dict[str, ModuleRow] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    features: dict[str, Feature] = field(default_factory=dict)
    pins: dict[str, IdfPin] = field(default_factory=dict)
    files: dict[str, tuple[Layer, ...]] = field(default_factory=dict)
    tables: dict[str, Path] = field(default_factory=dict)


def load_definitions(folders: tuple[Path, ...], report: Report) -> Definitions:
    """Read the files of several folders; a later folder adds to the earlier ones, or overrides them.

    Args:
        folders: each with any of ``factory_param_data.csv``, ``factory_param_type.csv``,
            ``features.yaml``, ``idf.yaml``, ``modules/`` and ``partitions/``.
        report: is told of every problem.

    Raises:
        InputError: a folder does not exist, or has none of these.
    """
    found = _Found()
    for folder in folders:
        _check_folder(folder)
        _read_tables(folder, found, report)
        if (folder / "features.yaml").is_file():
            found.features |= read_features(folder / "features.yaml", report)
        if (folder / "idf.yaml").is_file():
            found.pins |= read_idf_pins(folder / "idf.yaml", report)
        found.tables |= {path.stem: path for path in sorted((folder / TABLES).glob("*.csv"))}
    for number, folder in enumerate(folders):
        _read_layers(folder, found, report, own=number > 0)
        if number > 0:
            _report_unread(folder, report)
    return Definitions(
        folders, found.rows, found.types, found.features, found.pins, found.files, found.tables
    )


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", "give a folder of module definitions")
    if not any((folder / name).exists() for name in (*_FILES, LAYERS, TABLES)):
        raise InputError(f"{folder}: holds no module definitions", f"put {DATA_FILE} or {LAYERS}/ into it")


def _read_tables(folder: Path, found: _Found, report: Report) -> None:
    try:
        if (folder / TYPE_FILE).is_file():
            found.types |= read_types(folder / TYPE_FILE)
        if (folder / DATA_FILE).is_file():
            found.rows |= read_rows(folder / DATA_FILE, found.types, report)
    except InputError as error:
        place, _, message = error.message.rpartition(": ")
        report(Problem("error", place, message, error.hint))


def _report_unread(folder: Path, report: Report) -> None:
    """Report files that look like definitions and stand where none is read."""
    for path in files_of(folder):
        if path.parent == folder:
            read, hint = path.name in _FILES, unknown_hint(path.name, _FILES, "files")
        elif path.parent == folder / TABLES:
            read, hint = path.suffix == ".csv", "a partition table is a .csv"
        else:
            read, hint = path.suffix == ".yaml", "a layer is a .yaml"
        if not read:
            report(Problem("warning", str(path), "this file is not read", hint))


def _read_layers(folder: Path, found: _Found, report: Report, *, own: bool) -> None:
    home = folder / LAYERS
    suffix = f" ({folder.name})" if own else ""
    chip_names = tuple(chip.name for chip in chips())
    for path in sorted(home.glob("*.yaml")):
        _add(found, path.stem.casefold(), read_layer(path, f"{path.stem}{suffix}", report), report)
    for inner in sorted(path for path in home.glob("*") if path.is_dir()):
        chip = inner.name.casefold()
        if chip not in chip_names:
            hint = unknown_hint(inner.name, chip_names, "chips")
            report(Problem("error", str(inner), "is not the folder of a chip", hint))
            continue
        for path in sorted(inner.glob("*.yaml")):
            key = f"{chip}/{path.stem.casefold()}"
            row = found.rows.get(key)
            name = row.full_name if row else f"{chip.upper()}/{path.stem}"
            _add(found, key, read_layer(path, f"{name}{suffix}", report), report)


def _add(found: _Found, key: str, layer: Layer, report: Report) -> None:
    lower = found.files.get(key, ())
    if lower and lower[-1].path.parent == layer.path.parent:
        twin = lower[-1].path.name
        report(Problem("error", str(layer.path), f"is the same name as {twin} in another case", "keep one"))
    found.files[key] = (*lower, layer)

"""A new module as files of the user's own folder of definitions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from esp_at_tools.build.new_module import Base, Decision, Wanted, checked_name, decide
from esp_at_tools.build.new_module_files import NewFiles, is_written, read_table_file, table_csv, with_row
from esp_at_tools.catalog.data import data_folder
from esp_at_tools.catalog.factory_params import DATA_FILE
from esp_at_tools.catalog.module_model import Module
from esp_at_tools.catalog.modules import features, module, modules
from esp_at_tools.catalog.overlay import Overlay
from esp_at_tools.errors import InputError
from esp_at_tools.numbers import format_size

_IDENTITY = ("platform", "module_name", "description")


def new_in_folder(like: str, wanted: Wanted, folder: Path) -> tuple[Decision, Module, NewFiles]:
    """Return what a new module comes to, and the files that define it in a folder.

    Args:
        like: the module that it is made from: one that comes with the program, or one of the folder.
        wanted: what is asked for.
        folder: the user's own folder of definitions; it may not exist yet, or be empty.

    Raises:
        InputError: see :func:`esp_at_tools.build.new_module.decide`; the name or a file exists already.
        FormatError: a definition in the folder is wrong.
    """
    known = folder if _has_definitions(folder) else None
    parent = module(like, folder=known)
    base = base_of(parent, known)
    name = checked_name(wanted.name, base.chip)
    key = f"{parent.platform.removeprefix('PLATFORM_')}/{name}"
    if key.casefold() in {each.full_name.casefold() for each in modules(folder=known)}:
        raise InputError(f"{key} exists already", "give another name; 'modules show' shows what it is")
    decision = decide(base, wanted)
    made = module(parent.full_name, folder=known, overlay=overlay_of(decision, base))
    return decision, made, _files(decision, parent, folder)


def _has_definitions(folder: Path) -> bool:
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"--dir {folder}: is not a folder", "give the folder of your own definitions")
    names = (DATA_FILE, "factory_param_type.csv", "features.yaml", "idf.yaml", "modules", "partitions")
    return any((folder / name).exists() for name in names)


def base_of(parent: Module, folder: Path | None) -> Base:
    """Return a defined module as what a new one is made from."""
    return Base(
        full_name=parent.full_name,
        chip=parent.chip,
        description=parent.description,
        parameters=parent.parameters,
        types=parent.parameter_types,
        features=features(folder),
        states={name: each.state for name, each in parent.features.items()},
        flash_size=parent.flash.size,
        table_offset=parent.partition_table_offset,
        primary=parent.primary,
        secondary=parent.secondary,
    )


def overlay_of(decision: Decision, base: Base) -> Overlay:
    """Return a decision as an overlay of the base, which resolves to the new module."""
    plan = decision.plan
    primary, secondary = _new_tables(decision)
    return Overlay(
        name=decision.name,
        description=decision.description,
        features=decision.features,
        options=decision.options,
        parameters=decision.parameters,
        flash={} if decision.flash_size == base.flash_size else {"size": f"{decision.flash_size >> 20}MB"},
        primary=plan.primary if plan and primary else None,
        secondary=plan.secondary if plan and secondary else None,
        primary_name=primary,
        secondary_name=secondary,
    )


def _new_tables(decision: Decision) -> tuple[str, str]:
    """Return the names of the tables that are new, ``""`` for one that stays."""
    changed = {change.table for change in decision.plan.changes} if decision.plan else set()
    stem = decision.name.lower()
    return (
        f"{stem}-partitions" if "primary" in changed else "",
        f"{stem}-at-customize" if "secondary" in changed else "",
    )


def _files(decision: Decision, parent: Module, folder: Path) -> NewFiles:
    new: dict[str, bytes] = {}
    changed: dict[str, bytes] = {}
    row = {
        "platform": decision.platform,
        "module_name": decision.name,
        "description": decision.description,
        **{k: v for k, v in parent.parameters.items() if k not in _IDENTITY},
        **decision.parameters,
    }
    table = folder / DATA_FILE
    if table.exists():
        changed[DATA_FILE] = with_row(read_table_file(table), table, row)
    else:
        header = (data_folder() / DATA_FILE).read_bytes().splitlines()[0] + b"\n"
        new[DATA_FILE] = with_row(header, table, row)
    new[f"modules/{parent.chip.name}/{decision.name}.yaml"] = _layer(decision, parent).encode()
    primary, secondary = _new_tables(decision)
    if decision.plan and primary:
        heading = f"{format_size(decision.flash_size)}, {decision.full_name}"
        new[f"partitions/{primary}.csv"] = table_csv(decision.plan.primary, heading)
    if decision.plan and secondary:
        heading = f"inside at_customize of {decision.full_name}"
        new[f"partitions/{secondary}.csv"] = table_csv(decision.plan.secondary, heading)
    for name, content in new.items():
        is_written(folder / name, content)
    return NewFiles(folder, new, changed)


def _layer(decision: Decision, parent: Module) -> str:
    lines = [f"# {decision.description}"] if decision.description else []
    lines.append(f"like: {parent.name}")
    if decision.flash_size != parent.flash.size:
        lines += ["", "flash:", f"  size: {decision.flash_size >> 20}MB"]
    primary, secondary = _new_tables(decision)
    if primary or secondary:
        lines += ["", "partitions:"]
        lines += [
            f"  {role}: {name}" for role, name in (("primary", primary), ("secondary", secondary)) if name
        ]
    lines += _mapping("features", decision.features)
    lines += _mapping("options", decision.options)
    return "\n".join(lines) + "\n"


def _mapping(key: str, values: Mapping[str, str]) -> Iterator[str]:
    if values:
        yield ""
        yield f"{key}:"
        for name, value in values.items():
            yield f"  {name}: {value}"

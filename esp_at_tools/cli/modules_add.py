"""``modules add``: a new module, in a folder of the user's own or in a checkout of esp-at."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esp_at_tools.cli.common import (
    MODULE_DIR,
    PATH,
    Output,
    current_output,
    input_file,
    json_option,
    talk_options,
)
from esp_at_tools.cli.feature_words import FeatureCommand, feature_option
from esp_at_tools.errors import InputError

if TYPE_CHECKING:
    from esp_at_tools.build.new_module import Decision
    from esp_at_tools.build.new_module_files import NewFiles
    from esp_at_tools.catalog.module_model import Module
    from esp_at_tools.formats.partition_table import PartitionTable


@click.command("add", cls=FeatureCommand, short_help="Define a new module, made from one that exists.")
@click.argument("name")
@click.option("--from", "like", required=True, metavar="NAME", help="The module that it is made from.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter, such as uart_tx_pin=17, or an option of the sdkconfig, such as CONFIG_LWIP_IPV6=y."
    " May be repeated.",
)
@feature_option
@click.option(
    "--flash", metavar="SIZE", help="Another flash size, 1MB to 16MB: lays the partitions out anew."
)
@click.option(
    "--partition",
    "partitions",
    multiple=True,
    metavar="NAME=SIZE",
    help="The size of a partition, such as mfg_nvs=256K; a new user partition; or 0 to remove one."
    " May be repeated.",
)
@click.option("--app", type=PATH, metavar="FILE", help="An application, image or release that has to fit.")
@click.option("--description", metavar="TEXT", help="What lists of modules say about it.")
@click.option("--force", is_flag=True, help="Allow what is risky; what is impossible stays an error.")
@click.option(
    "--dir",
    "folder",
    type=PATH,
    metavar="DIR",
    help=f"Your own folder of definitions, made if there is none.  [environment: {MODULE_DIR}]",
)
@click.option("--project", type=PATH, metavar="CHECKOUT", help="A checkout of esp-at, in its own layout.")
@click.option("--dry-run", is_flag=True, help="Say what would be written; write nothing.")
@json_option
@talk_options
def add(
    name: str,
    like: str,
    settings: tuple[str, ...],
    features: tuple[str, ...],
    flash: str | None,
    partitions: tuple[str, ...],
    app: Path | None,
    description: str | None,
    force: bool,
    folder: Path | None,
    project: Path | None,
    dry_run: bool,
) -> None:
    """Define module NAME, made from another one, in --dir or in an esp-at --project.

    What differs from the other module is written, and nothing that exists is overwritten: --dir gets a row
    in factory_param_data.csv, a file in modules/ and, for another layout, tables in partitions/; --project
    gets a row in its table, a folder in module_config/ and an entry in its list of OTA tokens, as the user
    guide asks. All files are written, or none.
    """
    from esp_at_tools.build.new_module import Wanted
    from esp_at_tools.build.new_module_files import write_files
    from esp_at_tools.build.new_module_folder import new_in_folder
    from esp_at_tools.build.new_module_project import new_in_project
    from esp_at_tools.build.plan_app import read_app
    from esp_at_tools.build.planner import parse_flash_size

    folder = _place(folder, project)
    wanted = Wanted(
        name=name,
        settings=settings,
        features=features,
        flash_size=None if flash is None else parse_flash_size(flash),
        partitions=_partitions(partitions),
        app_size=None if app is None else read_app(input_file(app)).size,
        description=description,
        force=force,
    )
    made: Module | None = None
    if folder is not None:
        decision, made, written = new_in_folder(like, wanted, folder)
    else:
        assert project is not None  # noqa: S101 - one of the two is given
        decision, written = new_in_project(like, wanted, project)
    if not dry_run:
        write_files(written)
    _tell(current_output(), decision, written, made, dry_run=dry_run)


def _place(folder: Path | None, project: Path | None) -> Path | None:
    import os

    if folder is not None and project is not None:
        raise InputError("--dir and --project exclude each other", "give one of them")
    if folder is None and project is None:
        named = os.environ.get(MODULE_DIR)
        if not named:
            raise InputError(
                "no place for the new module",
                "give --dir FOLDER for definitions of your own, or --project CHECKOUT",
            )
        return Path(named)
    return folder


def _partitions(texts: tuple[str, ...]) -> dict[str, int]:
    from esp_at_tools.build.planner import parse_wish

    found: dict[str, int] = {}
    for text in texts:
        name, size = parse_wish(text)
        if found.setdefault(name, size) != size:
            raise InputError(f"--partition {name}: given twice, with different sizes", "give it once")
    return found


# --- the report ---------------------------------------------------------------------------------------


def _tell(talk: Output, decision: Decision, written: NewFiles, made: Module | None, *, dry_run: bool) -> None:
    notes = (*decision.notes, *written.notes)
    for warning in (*decision.warnings, *written.warnings):
        talk.warn(warning)
    if talk.json:
        talk.document(_document(decision, written, made, dry_run=dry_run))
        return
    talk.result(f"{decision.full_name}: {decision.description or 'no description'}")
    lines = [f"{name}: {value}" for name, value in (*decision.parameters.items(), *decision.features.items())]
    lines += [f"CONFIG_{name}: {value}" for name, value in decision.options.items()]
    lines += [str(change) for change in decision.plan.changes] if decision.plan else []
    for line in lines:
        talk.result(f"  {line}")
    for note in notes:
        talk.result(f"  {note}")
    for name in decision.unchanged:
        talk.result(f"  {name}: is so already")
    would = "would be " if dry_run else ""
    for name in written.new:
        talk.result(f"{would}written: {written.root / name}")
    for name in written.changed:
        talk.result(f"{would}added to: {written.root / name}")


def _document(decision: Decision, written: NewFiles, made: Module | None, *, dry_run: bool) -> dict[str, Any]:
    plan = decision.plan
    return {
        "schema": 1,
        "name": decision.full_name,
        "platform": decision.platform,
        "module_name": decision.name,
        "description": decision.description,
        "dry_run": dry_run,
        "flash_size": decision.flash_size,
        "parameters": dict(decision.parameters),
        "features": dict(decision.features),
        "options": dict(decision.options),
        "unchanged": list(decision.unchanged),
        "partition_changes": [
            {
                "table": change.table,
                "name": change.name,
                "old": None if change.old is None else asdict(change.old),
                "new": None if change.new is None else asdict(change.new),
            }
            for change in (plan.changes if plan else ())
        ],
        "partitions": _partition_rows(plan.primary, plan.secondary)
        if plan
        else _partition_rows(made.primary, made.secondary)
        if made
        else None,
        "notes": [*decision.notes, *written.notes],
        "warnings": [*decision.warnings, *written.warnings],
        "written": [str(written.root / name) for name in written.new],
        "added_to": [str(written.root / name) for name in written.changed],
    }


def _partition_rows(primary: PartitionTable, secondary: PartitionTable) -> list[dict[str, Any]]:
    return [
        {"table": role, **asdict(each)}
        for role, table in (("primary", primary), ("secondary", secondary))
        for each in table
    ]

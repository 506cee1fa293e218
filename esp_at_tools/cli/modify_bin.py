"""``modify-bin``: change settings, certificates, keys and GATT rows in a released firmware."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from esp_at_tools import files
from esp_at_tools.cli.asked import Asked, option_of
from esp_at_tools.cli.changes import changes_document, print_changes
from esp_at_tools.cli.common import (
    PATH,
    Output,
    chip_name,
    current_output,
    given_as_folder,
    input_file,
    input_options,
    json_option,
    module_dir_option,
    talk_options,
)
from esp_at_tools.cli.flash_hint import flash_lines
from esp_at_tools.errors import InputError
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.modify import Outcome, modify
from esp_at_tools.firmware.request import Request
from esp_at_tools.firmware.source import Patch, StagedFile
from esp_at_tools.numbers import format_size
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.names import NAMES_HINT, SETTINGS

F = TypeVar("F", bound=Callable[..., Any])

AT_PY_GATT_ROWS = 31
"""at.py has options for cfg0 to cfg30; ``--set cfgN=…`` takes any row."""
DEFAULT_OUTPUT = "target.bin"


_KINDS = {"ca": "CA certificate", "certificate": "certificate", "private_key": "private key"}


def _value_options(command: F) -> F:
    """Add an option for every setting, PKI item and GATT row that at.py has one for."""
    rows = [(f"--gatts-cfg{n}", f"-cfg{n}", f"cfg{n}", n > 0) for n in range(AT_PY_GATT_ROWS)]
    for option, short, name, hidden in reversed(rows):
        text = "Row N of the GATT table; the same for N = 1 to 30, and with --set for any row."
        command = _option(option, short, name, "ROW", text, hidden=hidden)(command)
    for item in reversed(PKI_ITEMS.values()):
        if item.option:
            text = f"PEM or DER file of the {_KINDS[item.kind]} {item.name}."
            command = _option(item.option, item.short, item.name, "FILE", text)(command)
    for setting in reversed(SETTINGS.values()):
        if setting.option:
            text = setting.help[0].upper() + setting.help[1:] + "."
            command = _option(setting.option, setting.short, setting.name, "VALUE", text)(command)
    return command


def _option(
    option: str, short: str, name: str, metavar: str, text: str, *, hidden: bool = False
) -> Callable[[F], F]:
    names = (option, short, _parameter(name))
    return click.option(*names, metavar=metavar, multiple=True, help=text, hidden=hidden)


def _parameter(name: str) -> str:
    """Return a name as a Python identifier (``client_ca.0`` → ``client_ca__0``)."""
    return name.replace(".", "__")


class _AtPyCommand(click.Command):
    """Takes options as at.py's parser does, and refuses what click would silently misread."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read ``-o=FILE`` as ``-o FILE``; ``-output FILE`` is not ``-o utput``."""
        options = {name for param in self.params for name in param.opts}
        separated: list[str] = []
        for arg in args:
            name, equals, value = arg.partition("=")
            if len(name) == 2 and equals and name in options:
                separated += [name, value]
                continue
            long_name = f"-{name}".replace("_", "-")
            if name[:1] == "-" and name not in options and long_name in options:
                raise click.UsageError(f"there is no option {name}; did you mean -{name}?", ctx)
            separated.append(arg)
        return super().parse_args(ctx, separated)


@click.command(
    "modify-bin",
    cls=_AtPyCommand,
    short_help="Change settings, certificates, keys and GATT rows.",
    epilog=f"For --set and --unset, {NAMES_HINT}.",
)
@click.option(
    "--input",
    "-in",
    "input_path",
    type=PATH,
    required=True,
    metavar="INPUT",
    help="Full flash image, mfg_nvs.bin, factory_param.bin, release folder or .zip; "
    "or an official release as NAME@VERSION, such as ESP32C3/MINI-1@latest.",
)
@click.option(
    "--output",
    "-o",
    type=PATH,
    metavar="OUT",
    help=f"Where to write the changed firmware.  [default: {DEFAULT_OUTPUT}]",
)
@click.option("--in-place", is_flag=True, help="Replace INPUT itself.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change any setting or GATT row, or NAME=@FILE any certificate or key. May be repeated.",
)
@click.option(
    "--unset",
    "removals",
    multiple=True,
    metavar="NAME",
    help="Remove a setting, certificate, key or row. May be repeated.",
)
@click.option(
    "--profile", type=PATH, metavar="FILE", help="YAML file with the same changes; options go before it."
)
@click.option("--dry-run", is_flag=True, help="Say what would change; write nothing.")
@click.option("--force", is_flag=True, help="Allow what is risky; what is impossible stays an error.")
@click.option(
    "--mfg-nvs-output", type=PATH, metavar="FILE", help="Write the changed mfg_nvs partition alone, too."
)
@click.option(
    "--partitions-output", type=PATH, metavar="DIR", help="Write every changed partition alone, too."
)
@input_options
@module_dir_option
@_value_options
@json_option
@talk_options
def command(
    input_path: Path,
    output: Path | None,
    in_place: bool,
    assignments: tuple[str, ...],
    removals: tuple[str, ...],
    profile: Path | None,
    dry_run: bool,
    force: bool,
    mfg_nvs_output: Path | None,
    partitions_output: Path | None,
    chip: str,
    module: str,
    folder: Path | None,
    partition_table_offset: int | None,
    parameter_offset: int | None,
    **values: tuple[str, ...],
) -> None:
    """Change settings, certificates, keys and GATT rows in a released firmware.

    What was not asked for keeps its value, and everything outside the partitions that had to
    change stays byte-identical. The result is read back before it takes its place.
    """
    talk = current_output()
    request = _request(values, assignments, removals, profile)
    input_path = input_file(input_path, replaced=in_place)
    target = _target(input_path, output, in_place=in_place)
    firmware = Firmware.open(
        input_path,
        chip=chip_name(chip, module, folder),
        partition_table_offset=partition_table_offset,
        parameter_offset=parameter_offset,
    )
    outcome = modify(firmware, request, force=force)
    patches = firmware.patches()
    extra = _extra_outputs(firmware, patches, mfg_nvs_output, partitions_output)
    new_folder = partitions_output if partitions_output and not partitions_output.exists() else None
    _check_outputs(firmware, [target, *(output.path for output in extra)], new_folder, request.inputs)
    if not dry_run:
        _write(firmware, target, extra, new_folder)
    for finding in outcome.warnings:
        talk.warn(finding)
    if talk.json:
        talk.document(_document(firmware, outcome, patches, None if dry_run else target, extra))
    else:
        _print_report(talk, firmware, outcome, patches, None if dry_run else target, extra)


def _target(input_path: Path, output: Path | None, *, in_place: bool) -> Path:
    """Return the path to write to."""
    if in_place:
        if output is not None:
            raise InputError("--in-place and --output exclude each other", "give one of them")
        return input_path
    target = output or Path(DEFAULT_OUTPUT)
    if _is_same(target, input_path):
        raise InputError(f"--output {target}: is the input itself", "use --in-place to replace it")
    return target


def _is_same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except (OSError, ValueError):  # one is not there, or cannot be
        return False


# --- what was asked for --------------------------------------------------------------------------


def _request(
    values: Mapping[str, tuple[str, ...]],
    assignments: Iterable[str],
    removals: Iterable[str],
    profile: Path | None,
) -> Request:
    """Gather the changes from the options and the profile; an option goes before the profile."""
    asked = Asked()
    for parameter, texts in values.items():
        name = parameter.replace("__", ".")
        for text in texts:
            asked.take(name, text, option_of(name))
    for assignment in assignments:
        asked.take_assignment(assignment)
    for name in removals:
        asked.remove(name)
    request = asked.request
    if profile is not None:
        request.add_profile(profile)
    if request.is_empty:
        raise InputError(
            "nothing to change was asked for", "name a change, e.g. --baud 921600 or --profile FILE"
        )
    return request


# --- writing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Extra:
    """A file that holds one partition alone."""

    partition: str
    path: Path
    data: bytes


def _extra_outputs(
    firmware: Firmware, patches: list[Patch], mfg_nvs_output: Path | None, partitions_output: Path | None
) -> list[_Extra]:
    """Return the files that ``--mfg-nvs-output`` and ``--partitions-output`` ask for."""
    extra = []
    if mfg_nvs_output is not None:
        contents = firmware.layout.contents()
        if MFG_NVS not in contents:
            raise InputError(
                "--mfg-nvs-output: this firmware has the legacy layout, without mfg_nvs",
                "use --partitions-output DIR",
            )
        extra.append(_Extra(MFG_NVS, mfg_nvs_output, contents[MFG_NVS]))
    if partitions_output is not None:
        if not partitions_output.is_dir():
            files.check_new_folder(partitions_output)
        extra += [
            _Extra(patch.name, partitions_output / f"{patch.name}.bin", patch.padded) for patch in patches
        ]
    return extra


def _check_outputs(
    firmware: Firmware, paths: list[Path], new_folder: Path | None, inputs: Iterable[Path]
) -> None:
    """Refuse outputs that cannot be written, or would overwrite each other or what was read.

    Args:
        firmware: the input.
        paths: the output, and the files that hold one partition alone.
        new_folder: a folder that will be made for those.
        inputs: other files that were read.
    """
    source = firmware.source.path
    target, *extra = paths
    in_place = _is_same(target, source)
    if not in_place:
        if given_as_folder(target) and not source.is_dir():
            raise InputError(f"--output {target}/: is written as a folder", "give the path of a file")
        (files.check_new_folder if source.is_dir() else files.check_output)(target)
    for path in extra:
        if path.parent != new_folder:
            files.check_output(path)
        if source.is_dir() and source.resolve() in path.resolve().parents:
            raise InputError(f"{path}: lies inside the input {source}", "give an output outside of it")
    _check_distinct([*paths, *([new_folder] if new_folder else [])])
    for path in extra if in_place else paths:
        read = next((given for given in (source, *inputs) if _is_same(path, given)), None)
        if read is not None:
            raise InputError(f"{path}: is an output and an input at once", "give another output path")


def _write(firmware: Firmware, target: Path, extra: list[_Extra], made: Path | None) -> None:
    """Write all outputs: each is complete on disk before the first takes its place."""
    secret = firmware.key_partitions
    with files.written_together(made, private=bool(secret)) as pending:
        for output in extra:
            place = files.check_output(output.path)
            staged = files.stage_file(place, [output.data], private=output.partition in secret)
            pending.append(StagedFile(place, staged))
        # The last: as long as INPUT is as it was, the same command does the same again.
        pending.append(firmware.stage(target))


def _check_distinct(paths: list[Path]) -> None:
    resolved = [path.resolve() for path in paths]
    for path, place in zip(paths, resolved, strict=True):
        if resolved.count(place) > 1:
            raise InputError(f"{path}: two outputs have this path", "give each output a path of its own")


# --- reporting -----------------------------------------------------------------------------------


def _print_report(
    talk: Output,
    firmware: Firmware,
    outcome: Outcome,
    patches: list[Patch],
    target: Path | None,
    extra: list[_Extra],
) -> None:
    print_changes(talk, outcome)
    if target is None:
        names = ", ".join(f"{patch.name} ({format_size(patch.size)})" for patch in patches) or "nothing"
        talk.result(f"Dry run: nothing was written; this would change {names}.")
        return
    form = {"release": "a folder" if target.is_dir() else "a .zip"}.get(firmware.kind, "")
    talk.result(f"Written and read back: {target}{f' ({form}, as the input)' if form else ''}")
    for line in flash_lines(firmware, target, patches, {output.partition: output.path for output in extra}):
        talk.result(line)


def _document(
    firmware: Firmware, outcome: Outcome, patches: list[Patch], target: Path | None, extra: list[_Extra]
) -> dict[str, Any]:
    written = {} if target is None else {output.partition: str(output.path) for output in extra}
    return {
        "schema": 1,
        "input": str(firmware.source.path),
        "output": None if target is None else str(target),
        "dry_run": target is None,
        "chip": firmware.chip_name,
        "layout": firmware.layout.name,
        **changes_document(outcome),
        "partitions": [
            {
                "name": patch.name,
                "offset": patch.offset,
                "size": patch.size,
                "file": written.get(patch.name),
            }
            for patch in patches
        ],
    }

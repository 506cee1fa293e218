"""``batch``: one firmware for each device of a list; ``batch verify``: prove what came out."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from esp_at_tools.batch.folder import LEDGER
from esp_at_tools.batch.job import Emit
from esp_at_tools.batch.run import MAX_FAILURES, MAX_WARNINGS, Options, Summary, run_batch
from esp_at_tools.batch.verify import MAX_PROBLEMS, Proof, verify
from esp_at_tools.cli.batch_progress import counted, described, duration, watched
from esp_at_tools.cli.common import (
    JOBS,
    PATH,
    Output,
    chip_name,
    current_output,
    input_options,
    json_option,
    say,
    talk_options,
)
from esp_at_tools.errors import CheckFailedError, InputError

if TYPE_CHECKING:
    _Choice = click.Choice[str]
else:
    _Choice = click.Choice  # before click 8.2 it could not be subscripted

_SHOWN = 20
"""Failures and problems that are printed for people; ``--json`` and the manifest have more."""
_SHARD = re.compile(r"([0-9]{1,6})/([0-9]{1,6})\Z")


class _EmitType(_Choice):
    """Names with an underscore, which click tells with a hyphen, as if they were options."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name, or fail with a usage error."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is none of {', '.join(self.choices)}", param, ctx)


@click.group("batch", invoke_without_command=True, short_help="Make one firmware for each device of a list.")
@click.option(
    "--input",
    "-in",
    "input_path",
    type=PATH,
    metavar="INPUT",
    help="Full flash image, mfg_nvs.bin, release folder or .zip: what all devices share.",
)
@click.option(
    "--devices", type=PATH, metavar="FILE", help="The list: CSV, or JSON lines; a row for each device."
)
@click.option("--output", "-o", type=PATH, metavar="DIR", help="Folder for the outputs and manifest.csv.")
@click.option(
    "--profile",
    type=PATH,
    metavar="FILE",
    help="YAML file with changes for all devices; {column} in a value stands for the row's cell.",
)
@click.option(
    "--emit",
    type=_EmitType(["mfg_nvs", "image", "both"]),
    metavar="[mfg_nvs|image|both]",
    help="What to write for each device.  [default: mfg_nvs; image for the legacy layout]",
)
@click.option(
    "-j",
    "--jobs",
    "processes",
    type=JOBS,
    metavar="N",
    help="How many at a time.  [default: one for each CPU]",
)
@click.option("--shard", metavar="I/N", help="Make part I of N only, chosen by the ids: 1/4 to 4/4.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run; what failed is tried again.")
@click.option("--unique-certificates", is_flag=True, help="Refuse a certificate that another device has.")
@click.option("--force", is_flag=True, help="Allow what is risky; what is impossible stays an error.")
@input_options
@json_option
@talk_options
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:
    """Make one firmware for each device of a list.

    The list's column id names the outputs; its other columns are settings, GATT rows (cfg0, …), or
    certificates and keys, which are paths of files relative to the list. A column wins over the profile.
    A column mac is checked; one whose name begins with _ or # is ignored. A row that is wrong fails alone,
    is named in manifest.csv, and makes the exit status 1.

    Whether its issuer signed a certificate is looked at for the first device alone: 'pki check' does that
    for whole folders.

    The outputs hold private keys: they are for their owner only.
    """
    if ctx.invoked_subcommand is not None:
        given = [name for name, value in values.items() if value not in (None, False, "")]
        if given:
            raise click.UsageError(f"options of 'batch' do not go with {ctx.invoked_subcommand!r}", ctx)
        return
    _run(_options(ctx, values))


def _options(ctx: click.Context, values: dict[str, Any]) -> Options:
    for name, option in (("input_path", "--input"), ("devices", "--devices"), ("output", "--output")):
        if values[name] is None:
            raise click.UsageError(f"Missing option '{option}'.", ctx)
    return Options(
        input=values["input_path"],
        devices=values["devices"],
        output=values["output"],
        profile=values["profile"],
        emit=cast("Emit | None", values["emit"]),
        processes=values["processes"] or 0,
        shard=_shard(values["shard"]),
        resume=values["resume"],
        unique_certificates=values["unique_certificates"],
        force=values["force"],
        chip=chip_name(values["chip"], values["module"]),
        partition_table_offset=values["partition_table_offset"],
        parameter_offset=values["parameter_offset"],
    )


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = _SHARD.match(text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    hint = "write 1/4 to 4/4 for four parts"
    if match and number > count > 0:
        raise InputError(f"--shard {text}: {number} is more than {count}", hint)
    if not 1 <= number <= count:
        raise InputError(f"--shard {text}: is not I/N", hint)
    return (number, count) if count > 1 else None


def _run(options: Options) -> None:
    talk = current_output()
    try:
        with watched(talk) as watch:
            summary = run_batch(options, watch)
    except KeyboardInterrupt:
        talk.note(f"stopped; the same command with --resume goes on ({options.output})")
        raise
    _warn(talk, summary)
    if talk.json:
        talk.document(_document(options, summary))
    else:
        _print(talk, options, summary)
    failed = summary.progress.failed
    if failed and talk.quiet:
        say(f"error: {counted(failed, 'device')} failed: see {summary.manifest}", err=True)
    if failed:
        click.get_current_context().exit(1)


def _warn(talk: Output, summary: Summary) -> None:
    for warning in summary.warnings:
        talk.warn(warning)
    shown = summary.device_warnings[:_SHOWN]
    for device in shown:
        for text in device.warnings:
            talk.warn(f"row {device.row}, {device.id}: {text}")
    more = summary.warned - len(shown)
    if more:
        talk.warn(
            f"… and {counted(more, 'more device')} with warnings: column warnings of {summary.manifest}"
        )


def _told_warnings(summary: Summary) -> list[str]:
    told = [f"row {device.row}: {text}" for device in summary.device_warnings for text in device.warnings]
    return told[:MAX_WARNINGS]


def _document(options: Options, summary: Summary) -> dict[str, Any]:
    progress = summary.progress
    return {
        "schema": 1,
        "input": str(options.input),
        "devices": str(options.devices),
        "output": str(options.output),
        "manifest": str(summary.manifest),
        "emit": summary.emit,
        "shard": f"{options.shard[0]}/{options.shard[1]}" if options.shard else None,
        "rows": progress.rows,
        "written": progress.done,
        "kept": progress.kept,
        "failed": progress.failed,
        "failures": [asdict(failure) for failure in summary.failures],
        "warnings": [*summary.warnings, *_told_warnings(summary)],
        "devices_with_warnings": summary.warned,
    }


def _print(talk: Output, options: Options, summary: Summary) -> None:
    progress = summary.progress
    for failure in summary.failures[:_SHOWN]:
        talk.result(f"failed: {failure.id or '(no id)'}: {failure.error}")
    if progress.failed > _SHOWN:
        talk.result(f"… and {progress.failed - _SHOWN} more, see {summary.manifest}")
    kept = f", {progress.kept} were there already" if progress.kept else ""
    shard = f" of shard {options.shard[0]}/{options.shard[1]}" if options.shard else ""
    talk.result(
        f"{counted(progress.done, 'device')}{shard} written to {options.output}{kept}, "
        f"{progress.failed} failed ({duration(progress.seconds)}, {described(progress).split(',')[0]})"
    )
    if progress.failed > MAX_FAILURES // 2 and not progress.done + progress.kept:
        talk.note("every device failed: is something wrong that all share?")
    talk.result(f"Manifest: {summary.manifest}")


@command.command("verify", short_help="Prove folders against their manifests.")
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="MANIFEST|DIR…")
@click.option(
    "--unique-certificates",
    is_flag=True,
    help="No two devices may have one certificate, even where the batch allowed it.",
)
@click.option(
    "--allow-failed", is_flag=True, help="Devices that failed when the batch was made are no problem."
)
@json_option
@talk_options
def verify_command(paths: tuple[Path, ...], unique_certificates: bool, allow_failed: bool) -> None:
    """Prove folders against their manifests.

    Every device of the list has its output, every file is there with its SHA-256, nothing else is, all
    shards are complete, and no id, MAC address (or certificate) is there twice in all of them together.
    Exit status 1 says that something is wrong.
    """
    talk = current_output()
    proof = verify(paths, unique_certificates=unique_certificates, allow_failed=allow_failed)
    if talk.json:
        talk.document(_proof(proof))
    else:
        _print_proof(talk, proof, allow_failed=allow_failed)
    if not proof.ok:
        click.get_current_context().exit(1)


def _proof(proof: Proof) -> dict[str, Any]:
    return {
        "schema": 1,
        "ok": proof.ok,
        "manifests": [str(path) for path in proof.manifests],
        "devices": proof.devices,
        "failed": proof.failed,
        "files": proof.files,
        "written": proof.written,
        "problems": [asdict(problem) for problem in proof.problems],
        "problem_count": proof.problem_count,
    }


def _print_proof(talk: Output, proof: Proof, *, allow_failed: bool) -> None:
    for problem in proof.problems[:MAX_PROBLEMS]:
        talk.result(f"{problem.message}  [{problem.id}]")
    if proof.problem_count > len(proof.problems):
        talk.result(f"… and {proof.problem_count - len(proof.problems)} more")
    if proof.written is not None:
        talk.result(f"{proof.written} of {proof.devices} written to modules ({LEDGER})")
    if proof.ok:
        failed = f" {_without(proof)}, as --allow-failed allows." if proof.failed else ""
        has = f"{counted(proof.devices, 'device')}, {counted(proof.files, 'file')}"
        talk.result(f"{has}: all as told, none twice.{failed}")
    else:
        where = counted(proof.devices + proof.failed, "device")
        raise CheckFailedError(
            f"{counted(proof.problem_count, 'problem')} in {where}",
            _way_out(proof, allow_failed=allow_failed),
        )


def _without(proof: Proof) -> str:
    return f"{counted(proof.failed, 'device')} failed and {'has' if proof.failed == 1 else 'have'} no output"


def _way_out(proof: Proof, *, allow_failed: bool) -> str:
    """Return what to do where the problems themselves do not say it."""
    hints = []
    if proof.failed and not allow_failed:
        hints.append(
            f"{_without(proof)}: correct the list and go on with 'batch --resume'; or --allow-failed"
        )
    if proof.missing_shards:
        number, count = proof.missing_shards[0]
        hints.append(f"give the folder of shard {number} as well, or make it with --shard {number}/{count}")
    return "; ".join(hints)

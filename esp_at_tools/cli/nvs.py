"""``nvs``: generate, dump and check NVS partitions."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from esp_at_tools import files
from esp_at_tools.cli.common import (
    NUMBER,
    PATH,
    Output,
    current_output,
    given_as_folder,
    json_option,
    talk_options,
    wrapped,
)
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.firmware.identify import not_nvs
from esp_at_tools.firmware.source import StagedFile
from esp_at_tools.formats.nvs import NvsEntry, NvsKeys, NvsPartition, NvsProblem
from esp_at_tools.formats.nvs.crypto import entries_are_readable
from esp_at_tools.formats.nvs.csv import decode_csv, dump_csv
from esp_at_tools.formats.nvs.writer import usable_pages

_READ_WRITE_SIZE = 0x3000
_MAX_WARNINGS = 20
"""Problems that ``dump`` repeats on stderr; ``check`` shows all."""
_MAX_SHOWN = 200
"""Characters of a string in the table."""
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")

_keys_option = click.option("--keys", type=PATH, metavar="FILE", help="The NVS keys of an encrypted image.")


@click.group("nvs", short_help="Generate, dump and check NVS partitions.")
@talk_options
def command() -> None:
    """Generate, dump and check NVS partitions, such as mfg_nvs."""


@command.command("generate", short_help="Make a partition of a CSV.")
@click.argument("csv", type=PATH)
@click.argument("out", type=PATH)
@click.argument("size", type=NUMBER)
@click.option("--nvs-version", type=click.Choice(["1", "2"]), default="2", show_default=True,
              help="Format version; 1 has no blobs over 1984 bytes.")  # fmt: skip
@click.option("--encrypt", is_flag=True, help="Encrypt the entries (XTS-AES).")
@click.option("--keys", type=PATH, metavar="FILE", help="Encrypt with these keys.")
@click.option("--new-keys", type=PATH, metavar="FILE", help="Encrypt with new keys, and write them to FILE.")
@json_option
@talk_options
def generate(
    csv: Path,
    out: Path,
    size: int,
    nvs_version: str,
    keys: Path | None,
    new_keys: Path | None,
    *,
    encrypt: bool,
) -> None:
    """Make the NVS partition OUT of CSV, byte for byte as esp-idf-nvs-partition-gen 0.3.0 does.

    SIZE is the partition's, such as 0x1F000 or 124K; one page of it stays free. Files that the CSV names
    are looked for in the current folder.
    """
    talk = current_output()
    _check_key_options(keys, new_keys, encrypt=encrypt)
    _check_outputs(csv, out, keys, new_keys)
    _check_size(size)
    nvs_keys = _read_keys(keys) if keys else NvsKeys.generate() if new_keys else None
    text = decode_csv(files.read_file(csv, "CSV"), str(csv))
    try:
        partition = NvsPartition.from_csv(
            text,
            size,
            version=int(nvs_version),
            read_file=lambda name: _read_named(Path(name), csv, out),
            keys=nvs_keys,
            name=str(csv),
        )
    except FormatError:  # it names the CSV and the line
        raise
    except InputError as error:
        raise InputError(f"{csv}: {error.message}", error.hint) from error
    data = partition.to_bytes()
    private = nvs_keys is None and _holds_private_keys(partition.entries)
    outputs = [(out, data, private)]
    if new_keys and nvs_keys:  # before the image, which is of no use without them
        outputs.insert(0, (new_keys, nvs_keys.to_bytes(), True))
    _write_all(outputs)
    _report_generated(talk, partition, csv, out, new_keys)


def _check_size(size: int) -> None:
    try:
        usable_pages(size)
    except InputError as error:
        raise InputError(f"SIZE: {error.message}", error.hint) from error


def _read_named(path: Path, csv: Path, out: Path) -> bytes:
    """Return the contents of a file that a row of the CSV names."""
    _check_distinct(out, path, f"a file that {csv} names")
    return files.read_file(path, "file that the CSV names")


def _check_key_options(keys: Path | None, new_keys: Path | None, *, encrypt: bool) -> None:
    if encrypt and (keys is None) == (new_keys is None):
        raise InputError(
            "--encrypt needs either --keys or --new-keys",
            "give --keys FILE for keys that exist, or --new-keys FILE for new ones",
        )
    if not encrypt and (keys or new_keys):
        option = "--keys" if keys else "--new-keys"
        raise InputError(f"{option} has no use without --encrypt", f"add --encrypt, or leave out {option}")


def _check_outputs(csv: Path, out: Path, keys: Path | None, new_keys: Path | None) -> None:
    """Refuse outputs that would destroy something, as far as the options tell."""
    target = _file_output(out)
    _check_distinct(out, csv, "the CSV itself")
    if keys:
        _check_distinct(out, keys, "the keys of --keys")
    if new_keys:
        keys_target = files.check_output(new_keys)
        if keys_target == target:
            raise InputError(f"{new_keys}: is the output too", "give the keys a file of their own")
        if keys_target.exists():
            raise InputError(
                f"{new_keys}: exists; new keys would replace what is in it",
                "give --keys to use the keys in it, or another path for new ones",
            )


def _file_output(path: Path) -> Path:
    """Return the real path of an output that is a file; see :func:`esp_at_tools.files.check_output`."""
    if given_as_folder(path):
        raise InputError(f"{path}/: is written as a folder", "give the path of a file")
    return files.check_output(path)


def _check_distinct(out: Path, given: Path, what: str) -> None:
    """Refuse an output that is one of the inputs, under whatever name."""
    try:
        same = out.samefile(given)
    except (OSError, ValueError):  # one is not there, or cannot be
        same = False
    if same:
        also = "" if str(out) == str(given) else f" ({given})"
        raise InputError(f"{out}: is {what}{also}", "give another output path")


def _write_all(outputs: list[tuple[Path, bytes, bool]]) -> None:
    """Write all files or, on an error, none."""
    with files.written_together() as pending:
        for path, data, private in outputs:
            target = files.check_output(path)
            pending.append(StagedFile(target, files.stage_file(target, [data], private=private)))


def _report_generated(
    talk: Output, partition: NvsPartition, csv: Path, out: Path, new_keys: Path | None
) -> None:
    warnings = [problem.message for problem in partition.problems if problem.level == "warning"]
    if not partition.entries:
        warnings.insert(0, f"{csv}: has no keys, so that the partition is empty")
    if partition.size < _READ_WRITE_SIZE:
        warnings.append(
            f"a partition of {partition.size} bytes must be marked readonly in the partition table; "
            f"otherwise the firmware needs at least 0x{_READ_WRITE_SIZE:x} bytes"
        )
    for warning in warnings:
        talk.warn(warning)
    usage = partition.usage()
    if talk.json:
        talk.document({
            "output": str(out),
            "size": partition.size,
            "version": partition.version,
            "encrypted": partition.encrypted,
            "keys": str(new_keys) if new_keys else None,
            "entries": len(partition.entries),
            "namespaces": len(partition.namespaces),
            "usage": _usage(partition),
            "warnings": warnings,
        })  # fmt: skip
        return
    talk.result(
        f"{out}: {partition.size} bytes, NVS version {partition.version}"
        + (", encrypted" if partition.encrypted else "")
        + f"; {_keys_and_namespaces(partition)}, "
        f"{usage.entries_used} of {usage.entries_total} entries used"
    )
    if new_keys:
        talk.result(f"{new_keys}: the new keys; whoever has them can read the partition")


@command.command("dump", short_help="Show what the firmware reads from an image.")
@click.argument("image", type=PATH)
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]),
              help="table for people (the default), csv for 'nvs generate', json.")  # fmt: skip
@click.option("-o", "--output", type=PATH, metavar="FILE",
              help="Write csv or json to FILE, for its owner only if a private key is in it.")  # fmt: skip
@_keys_option
@json_option
@talk_options
def dump(image: Path, form: str | None, output: Path | None, keys: Path | None) -> None:
    """Show what the firmware would read from IMAGE, the image of an NVS partition.

    The table shows of blobs, certificates and keys what they are; csv and json hold all values. What is
    wrong with the image goes to stderr; 'nvs check' makes an exit status of it.
    """
    talk = current_output()
    if talk.json and form not in (None, "json"):
        raise InputError(f"--json and --format {form} contradict each other", "give one of the two")
    form = "json" if talk.json else form
    if output is not None:
        _dump_to(talk, image, output, form, keys)
        return
    talk.json = form == "json"
    partition = _open(image, keys, talk)
    if talk.json:
        talk.document(_dump_document(partition))
    elif form == "csv":
        click.echo(dump_csv(partition.entries, partition.namespaces).encode(), nl=False)
    elif not talk.quiet:
        _print_table(talk, image, partition)
    _warn_of_problems(talk, partition.problems)


def _dump_document(partition: NvsPartition) -> dict[str, Any]:
    return {
        "schema": 1,
        "entries": [_entry_document(entry) for entry in partition.entries],
        "problems": [_problem_document(problem) for problem in partition.problems],
    }


def _dump_to(talk: Output, image: Path, output: Path, form: str | None, keys: Path | None) -> None:
    """Write a dump to a file."""
    if form not in ("csv", "json"):
        raise InputError("--output: the table is for the terminal", "add --format csv or --format json")
    target = _file_output(output)
    _check_distinct(output, image, "the image itself")
    if keys:
        _check_distinct(output, keys, "the keys of --keys")
    partition = _open(image, keys, talk)
    if form == "csv":
        text = dump_csv(partition.entries, partition.namespaces)
    else:
        text = json.dumps(_dump_document(partition), indent=2) + "\n"
    secret = _holds_private_keys(partition.entries)
    files.write_file(target, text.encode(), private=secret)
    _warn_of_problems(talk, partition.problems)
    if talk.json:
        talk.document({"schema": 1, "output": str(output), "format": form, "private_keys": secret})
        return
    owner = "; private keys are in it" if secret else ""
    talk.result(f"written: {output} ({_keys_and_namespaces(partition)}{owner})")


@command.command("check", short_help="Report what is wrong with an image.")
@click.argument("image", type=PATH)
@_keys_option
@json_option
@talk_options
def check(image: Path, keys: Path | None) -> None:
    """Report what is wrong with IMAGE, and what the firmware makes of it.

    The exit status is 1 if the firmware loses or cannot read something.
    """
    talk = current_output()
    partition = _open(image, keys, talk)
    errors = sum(problem.level == "error" for problem in partition.problems)
    if talk.json:
        talk.document({
            "problems": [_problem_document(problem) for problem in partition.problems],
            "opened": partition.opened,
            "loses_entries": partition.loses_entries,
            "version": partition.version,
            "size": partition.size,
            "keys": len(partition.entries),
            "usage": _usage(partition),
        })  # fmt: skip
    else:
        for run in _runs(partition.problems):
            talk.result(f"{run[0].level}: {_where(run)}{run[0].message}")
        talk.result(f"{image}: {_summary(partition)}; {_counted(errors, 'error') if errors else 'no errors'}")
    if errors:
        click.get_current_context().exit(1)


def _open(image: Path, keys: Path | None, talk: Output) -> NvsPartition:
    """Read an image, or say what the file is instead."""
    data = files.read_file(image, "binary NVS image")
    mistaken = not_nvs(str(image), data)
    if mistaken:
        raise mistaken
    try:
        partition = NvsPartition.from_bytes(data, keys=_read_keys(keys) if keys else None)
    except FormatError as error:
        raise FormatError(f"{image}: {error.message}", error.hint) from error
    if keys is None and entries_are_readable(data) is False:
        talk.warn(f"{image}: not one entry has a correct CRC: it looks encrypted; give its keys with --keys")
    return partition


def _read_keys(path: Path) -> NvsKeys:
    try:
        return NvsKeys.from_bytes(files.read_file(path, "keys file"))
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", error.hint) from error


def _holds_private_keys(entries: Iterable[NvsEntry]) -> bool:
    return any(entry.namespace.endswith("_key") or b"PRIVATE KEY" in _raw(entry) for entry in entries)


def _raw(entry: NvsEntry) -> bytes:
    if isinstance(entry.value, str):
        return entry.value.encode("utf-8", "surrogateescape")
    return entry.value if isinstance(entry.value, bytes) else b""


def _entry_document(entry: NvsEntry) -> dict[str, Any]:
    value = entry.value.hex() if isinstance(entry.value, bytes) else entry.value
    return {"namespace": entry.namespace, "key": entry.key, "type": entry.type, "value": value}


def _problem_document(problem: NvsProblem) -> dict[str, Any]:
    return {
        "level": problem.level,
        "page": problem.page,
        "entry": problem.entry,
        "message": problem.message,
    }


def _usage(partition: NvsPartition) -> dict[str, int]:
    usage = partition.usage()
    return {
        "entries_used": usage.entries_used,
        "entries_total": usage.entries_total,
        "free_bytes": usage.free_bytes,
    }


def _runs(problems: Iterable[NvsProblem]) -> list[list[NvsProblem]]:
    """Group what is said alike of whole pages that follow one another."""
    runs: list[list[NvsProblem]] = []
    for problem in problems:
        last = runs[-1][-1] if runs else None
        page = last.page if last and last.entry is None else None
        if last and page is not None and problem == replace(last, page=page + 1):
            runs[-1].append(problem)
        else:
            runs.append([problem])
    return runs


def _where(run: list[NvsProblem]) -> str:
    first, last = run[0], run[-1]
    if first.page is None:
        return ""
    if len(run) > 1:
        return f"pages {first.page} to {last.page}, each: "
    return f"page {first.page}" + (": " if first.entry is None else f", entry {first.entry}: ")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _keys_and_namespaces(partition: NvsPartition) -> str:
    return f"{_counted(len(partition.entries), 'key')} in {_counted(len(partition.namespaces), 'namespace')}"


def _summary(partition: NvsPartition) -> str:
    if not partition.opened:
        return f"{partition.size} bytes; the firmware does not open it"
    usage = partition.usage()
    return (
        f"{partition.size} bytes, NVS version {partition.version}; {_keys_and_namespaces(partition)}, "
        f"{usage.entries_used} of {usage.entries_total} entries used"
    )


def _warn_of_problems(talk: Output, problems: tuple[NvsProblem, ...]) -> None:
    """Repeat what is wrong on stderr; what costs nothing only with ``-v``."""
    told = _runs(problem for problem in problems if problem.level != "info" or talk.verbose)
    for run in told[:_MAX_WARNINGS]:
        text = f"{_where(run)}{run[0].message}"
        if run[0].level == "info":
            talk.note(f"note: {text}")
        else:
            talk.warn(text)
    if len(told) > _MAX_WARNINGS:
        more = sum(map(len, told[_MAX_WARNINGS:]))
        talk.warn(f"and {more} more; 'esp-at-tool nvs check' shows them all")


def _print_table(talk: Output, image: Path, partition: NvsPartition) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("namespace", no_wrap=True)
    table.add_column("key", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("value", overflow="fold")
    namespace = None
    for entry in partition.entries:
        first = _printable(entry.namespace) if entry.namespace != namespace else ""
        namespace = entry.namespace
        table.add_row(first, _printable(entry.key), entry.type, _shown(entry))
    if partition.entries:
        talk.table(table)
        talk.result("")
    talk.result(wrapped(f"{_printable(str(image))}: {_summary(partition)}", sys.stdout))


def _shown(entry: NvsEntry) -> str:
    """Return a value for the table: of certificates, keys and blobs what they are, not what they hold."""
    if isinstance(entry.value, int):
        return str(entry.value)
    data = _raw(entry)
    labels = sorted({match[1].decode() for match in _PEM.finditer(data)})
    if labels:
        return f"PEM {' and '.join(map(_kind, labels))}, {len(data)} bytes"
    if isinstance(entry.value, bytes):
        return f"{_blob_kind(entry.namespace, data)}, {len(data)} bytes"
    text = _printable(entry.value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}… ({len(data)} bytes)"


def _kind(label: str) -> str:
    """Return a PEM label in plain words: ``RSA PRIVATE KEY`` is a private key."""
    return "private key" if label.endswith("PRIVATE KEY") else label.lower()


def _blob_kind(namespace: str, data: bytes) -> str:
    if data[:2] in (b"\x30\x82", b"\x30\x81"):  # a DER SEQUENCE with a length of its own
        return "DER private key" if namespace.endswith("_key") else "DER"
    return "blob"


def _printable(text: str) -> str:
    return "".join(_escaped(text))


def _escaped(text: str) -> Iterator[str]:
    """Make what a terminal could act on visible."""
    for character in text:
        if character.isprintable():
            yield character
        elif 0xDC80 <= ord(character) <= 0xDCFF:
            yield f"\\x{ord(character) - 0xDC00:02x}"
        else:
            yield character.encode("unicode_escape").decode()

"""What ``build`` says: a report of one build, a table of several, and the JSON document of either."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from esp_at_tools.build.job import Built, Failure, Fit
from esp_at_tools.cli.common import Output, is_terminal
from esp_at_tools.cli.feature_words import FEATURE, written
from esp_at_tools.cli.flash_hint import PORT
from esp_at_tools.cli.inspect_view import clean
from esp_at_tools.formats.partition_table import APP
from esp_at_tools.numbers import format_size
from esp_at_tools.pki.names import PKI_SETS
from esp_at_tools.settings.modern import PARTITION as MFG_NVS
from esp_at_tools.settings.names import FACTORY_PARAM

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDE = 10_000
_MAX_NAMES = 4
_PARTITION = "partition "
"""What a note begins with that says what happens to a partition."""
_OF_ANOTHER_SOURCE = ("--source", "--project", "--idf")
"""Options whose values are left out when another source is named."""


# --- JSON ----------------------------------------------------------------------------------------


def document(outcomes: Iterable[Built | Failure]) -> dict[str, Any]:
    """Return the JSON document of one or several builds."""
    from esp_at_tools.cli.main import exit_status

    outcomes = list(outcomes)
    return {
        "schema": 1,
        "builds": [_build(each) for each in outcomes if isinstance(each, Built)],
        "errors": [
            {
                "module": each.module,
                "message": each.error.message,
                "hint": each.error.hint,
                "status": exit_status(each.error),
            }
            for each in outcomes
            if isinstance(each, Failure)
        ],
    }


def _build(built: Built) -> dict[str, Any]:
    recipe = built.recipe
    return {
        "module": recipe.full_name,
        "platform": recipe.platform,
        "module_name": recipe.module,
        "description": recipe.description,
        "silence": recipe.silence,
        "chip": recipe.chip.name,
        "flash": asdict(recipe.flash),
        "source": built.source,
        "output": str(built.output) if built.written else None,
        "dry_run": not built.written,
        "application": built.has_app,
        "files": [_file(asdict(file)) for file in built.files],
        "partitions": [{**asdict(each), "free": each.free} for each in built.partitions],
        "pki": list(built.pki),
        "gatt_rows": built.gatt_rows,
        "notes": list(built.notes),
        "warnings": list(built.warnings),
    }


def _file(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if value is not None}


# --- one build -----------------------------------------------------------------------------------


def print_built(talk: Output, built: Built) -> None:
    """Print what a build holds and what it does not, and what to do next."""
    width = talk.console().width if is_terminal(sys.stdout) else _WIDE
    for line in _lines_of(built):
        _print_wrapped(talk, line, width)


def _wrapped(line: str, width: int) -> list[str]:
    """Return a line in as many as it takes; commands and rows of the table stay whole."""
    if line.startswith(" ") or len(line) <= width:
        return [line]
    import textwrap

    return textwrap.wrap(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _lines_of(built: Built) -> Iterator[str]:
    recipe = built.recipe
    silent = ", silence" if recipe.silence else ""
    about = f": {recipe.description}" if recipe.description else ""
    yield f"{recipe.full_name}{silent}{about}"
    flash = recipe.flash
    yield f"from {built.source}, for {format_size(flash.size)} of flash ({flash.mode}, {flash.freq})"
    yield ""
    for file in built.files:
        place = "" if file.offset is None else f"{file.offset:#010x}"
        yield f"  {place:10}  {format_size(file.size):>9}  {file.path}"
    yield ""
    yield from _contents(built)
    yield from _notes(built.notes)
    yield from _next_step(built)


def _contents(built: Built) -> Iterator[str]:
    app = _app_fit(built)
    if app is None:
        yield "application: none"
    else:
        used, free = format_size(app.used), format_size(app.free)
        yield f"application: {used}; {free} of its partition {app.name} free"
    sets = ", ".join(_sets(built.pki))
    yield f"certificates and keys: {f'{len(built.pki)} ({sets})' if built.pki else 'none'}"
    yield f"GATT table: {f'{built.gatt_rows} rows' if built.gatt_rows else 'none'}"
    for fit in built.partitions:
        if fit.name == MFG_NVS:
            yield f"{MFG_NVS}: {format_size(fit.size)}, {format_size(fit.free)} of it free"


def _sets(names: Sequence[str]) -> list[str]:
    """Return ``mqtt`` for a CA, certificate and key, and the items of sets that are not whole by name."""
    whole = {role: set(items.values()) for role, items in PKI_SETS.items() if {*items.values()} <= {*names}}
    of_a_set = {name: role for role, items in whole.items() for name in items}
    return list(dict.fromkeys(of_a_set.get(name, name) for name in names))


def _notes(notes: Sequence[str]) -> Iterator[str]:
    """Yield the notes; what happens to the partitions as a table."""
    moved = [note.removeprefix(_PARTITION) for note in notes if note.startswith(_PARTITION)]
    if moved:
        yield "partitions:"
        yield from (f"  {each}" for each in moved)
    yield from (f"note: {note}" for note in notes if not note.startswith(_PARTITION))


def _app_fit(built: Built) -> Fit | None:
    """Return the partition of the application, None where there is no application."""
    names = {place.name for place in built.recipe.primary if place.type == APP}
    return next((fit for fit in built.partitions if fit.name in names and fit.used), None)


def _next_step(built: Built) -> Iterator[str]:
    yield ""
    if not built.written:
        yield "Dry run: nothing was written."
        return
    total = format_size(sum(file.size for file in built.files))
    yield f"Written: {built.output} ({len(built.files)} files, {total})"
    folder = str(built.output)
    if built.has_app:
        yield "Flash it:"
        yield f"  {shlex.join(['esp-at-tool', 'flash', folder, '-p', PORT])}"
        return
    settings = MFG_NVS if any(fit.name == MFG_NVS for fit in built.partitions) else FACTORY_PARAM
    yield "Flash the settings to a module that has a firmware with these partitions:"
    yield f"  {shlex.join(['esp-at-tool', 'flash', folder, '--only', settings, '-p', PORT])}"
    if again := _with_release(written(click.get_current_context()), built.recipe.full_name):
        yield "Or make a whole firmware of it, with the application of a release:"
        yield f"  {shlex.join(['esp-at-tool', 'build', *again, '--source', 'RELEASE'])}"


def _with_release(arguments: Sequence[str], module: str) -> list[str]:
    """Return the arguments that make the same of a release; none where no release can have that."""
    kept: list[str] = []
    names_module = False
    words = iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option in ("--silence", FEATURE) or (option == "--set" and value.startswith("CONFIG_")):
            return []
        if option in _OF_ANOTHER_SOURCE:
            if not equals:
                next(words, None)
            continue
        if word == "--config-only":
            continue
        names_module = names_module or option == "--module" or word.startswith("-m")
        kept.append(word)
        if word == "--set":
            kept.append(next(words, ""))
            if kept[-1].startswith("CONFIG_"):
                return []
    return kept if names_module else ["--module", module, *kept]


# --- several builds ------------------------------------------------------------------------------


def print_table(talk: Output, outcomes: Sequence[Built | Failure]) -> None:
    """Print a line for each build, and below the table what is to be said of several at once."""
    if talk.quiet:
        return
    console = talk.console(width=None if is_terminal(sys.stdout) else _WIDE)
    built = [each for each in outcomes if isinstance(each, Built)]
    sources = {each.source for each in built}
    if built:
        what = f"from {sources.pop()}, " if len(sources) == 1 else ""
        _print_wrapped(talk, f"{what}into {built[0].output.parent}", console.width)
    echo = click.echo if is_terminal(sys.stdout) else talk.result  # which would show colours as text
    for line in _table_lines(console, outcomes):
        echo(line)
    for note, modules in _shared_notes(built):
        whom = "all" if len(modules) == len(built) > 1 else _names(modules)
        _print_wrapped(talk, f"note: {note} ({whom})", console.width)
    failed = len(outcomes) - len(built)
    done = "built" if all(each.written for each in built) else "checked, nothing was written"
    talk.result(f"{len(built)} {done}" + (f", {failed} failed" if failed else ""))


def _print_wrapped(talk: Output, text: str, width: int) -> None:
    for row in _wrapped(text, width):
        talk.result(row)


def _table_lines(console: Console, outcomes: Sequence[Built | Failure]) -> list[str]:
    several = len({each.source for each in outcomes if isinstance(each, Built)}) > 1
    table = _table("Module", "Files", "Size", "App free", "PKI", "Folder", *(("Source",) if several else ()))
    for each in outcomes:
        if isinstance(each, Failure):
            table.add_row(each.module, "", "", "", "", "FAILED")
        else:
            table.add_row(*(clean(cell) for cell in _row(each)[: len(table.columns)]))
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        right = column in ("Files", "Size", "App free", "PKI")
        wraps = column in ("Folder", "Source")
        table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=not wraps)
    return table


def _row(built: Built) -> tuple[str, ...]:
    app = _app_fit(built)
    return (
        built.recipe.full_name,
        str(len(built.files)),
        format_size(sum(file.size for file in built.files)),
        format_size(app.free) if app else "no app",
        str(len(built.pki) or "none"),
        built.output.name,
        built.source,
    )


def _shared_notes(built: Iterable[Built]) -> list[tuple[str, list[str]]]:
    notes: dict[str, list[str]] = {}
    for each in built:
        for note in each.notes:
            notes.setdefault(note, []).append(each.recipe.full_name)
    return list(notes.items())


def _names(modules: Sequence[str]) -> str:
    shown = ", ".join(modules[:_MAX_NAMES])
    return f"{shown} and {len(modules) - _MAX_NAMES} more" if len(modules) > _MAX_NAMES else shown

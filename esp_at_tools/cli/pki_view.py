"""What ``pki check`` shows people."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from esp_at_tools.cli.common import Output, is_terminal, say
from esp_at_tools.cli.inspect_view import clean, common_name
from esp_at_tools.cli.pki_inputs import are_firmware
from esp_at_tools.pki.items import LEVELS
from esp_at_tools.pki.names import listed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from esp_at_tools.cli.pki_inputs import Checked
    from esp_at_tools.pki.collection import CollectedItem

_UNLIMITED = 10_000
_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}
_SIGNS = {"error": "✗", "warning": "!", "info": "·"}
_PLAIN_SIGNS = {"error": "x", "warning": "!", "info": "-"}
_STATES = {
    "trusted": "{}",
    "wrong-signature": "not {}: bad signature",
    "another-key": "not {}: another key",
    "not-an-issuer": "{}, which may not sign",
    "path-length": "{}, but the chain is too long",
    "unknown-issuer": "a CA that is not here",
    "too-long": "a CA that is too far away",
}


def print_checked(talk: Output, checked: Sequence[Checked], now: datetime, *, dated: bool) -> None:
    """Print what was checked and found; ``--quiet`` leaves errors and warnings, on stderr."""
    if talk.quiet:
        for one in checked:
            for level, _, message, hint, _ in _lines(one, _in_full(one)):
                if level != "info":
                    say(f"{level}: {message}" + (f" ({hint})" if hint else ""), err=True)
        return
    # Lines for other programs are as long as they must be.
    unlimited = "COLUMNS" not in os.environ and not is_terminal(sys.stdout)
    console = talk.console(width=_UNLIMITED if unlimited else None)
    for one in checked:
        _print_one(console, one, verbose=bool(talk.verbose))
        console.print()
    levels = [each.finding.level for one in checked for each in one.findings]
    words = [f"{levels.count(level)} {level}{'s' if levels.count(level) > 1 else ''}" for level in LEVELS
             if level in levels]  # fmt: skip
    at = f" for {now:%Y-%m-%d %H:%M} UTC" if dated else ""
    console.print(f"checked{at}: {', '.join(words) or 'no problem found'}")


def _in_full(one: Checked) -> Callable[[str], str]:
    """Return what calls an item by its file, and anything else by the input that it is in."""
    files = {item.name: str(item.path) for item in one.items if item.path}
    several = {path for path, count in Counter(files.values()).items() if count > 1}

    def called(about: str) -> str:
        path = files.get(about)
        if path is not None:
            return f"{path}: {about}" if path in several else path
        if one.kind == "folder":
            inside = one.path / about
            return str(inside) if inside.is_file() else f"{one.path}: {about}".removesuffix(": folder")
        return about if one.kind == "files" else f"{one.path}: {about}"

    return called


def _lines(one: Checked, called: Callable[[str], str] = str) -> Iterator[tuple[str, str, str, str, int]]:
    """Yield level, id, message and hint of the findings; one line for all items of which the same is true.

    The last one says how many they are.
    """
    together: dict[tuple[str, str, str, str], list[str]] = {}
    for each in one.findings:
        rest = each.finding.message.removeprefix(f"{each.about}: ")
        key = (each.finding.level, each.finding.id, rest, each.finding.hint)
        bare = rest == each.finding.message and called is str  # it says itself what it is about
        together.setdefault(key, []).append("" if bare else called(each.about))
    for (level, id_, rest, hint), names in together.items():
        about = listed([name for name in names if name])
        yield level, id_, f"{about}: {rest}" if about else rest, hint, len(names)


def _print_one(console: Console, one: Checked, *, verbose: bool) -> None:
    from rich.padding import Padding
    from rich.text import Text

    console.print(Text(clean(one.title), "bold"))
    if one.sdkconfig:
        console.print(Text(f"limits of the firmware: {clean(one.sdkconfig)}", "dim"))
    if one.items:
        _print_table(console, _table(one))
    for text in _notes(one):
        console.print(Text(text, "dim"))
    plain = console.options.ascii_only or not console.is_terminal
    hidden = 0
    for level, id_, message, hint, count in _lines(one):
        if level == "info" and not verbose:
            hidden += count
            continue
        sign = (_PLAIN_SIGNS if plain else _SIGNS)[level]
        line = Text().append(f"{sign} {level}: ", style=_COLOURS[level]).append(clean(message))
        console.print(Padding(line.append(f"  [{id_}]", style="dim"), (0, 0, 0, 0), expand=False))
        if hint:
            console.print(Padding(Text(clean(hint), "dim"), (0, 0, 0, 4), expand=False))
    if hidden:
        console.print(Text(f"{hidden} more worth knowing: -v tells", "dim"))


def _print_table(console: Console, table: Table) -> None:
    """Print a table without blanks at the ends of its lines where nobody watches."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        console.print(line.rstrip(), soft_wrap=True)


def _table(one: Checked) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("Name", "What", "Key", "Valid until", "Belongs to"):
        table.add_column(name, overflow="fold", no_wrap=name in ("Key", "Valid until"))
    worst = _worst(one)
    for item in one.items:
        info = one.infos.get((item.name, item.kind))
        until = f"{info.not_after:%Y-%m-%d}" if info and info.not_after else ""
        table.add_row(
            clean(item.name),
            clean(_what(one, item)),
            info.key_type if info else "",
            until,
            clean(", ".join(_together(one, item))),
            style=_COLOURS.get(worst.get(item.name, ""), ""),
        )
    return table


def _worst(one: Checked) -> dict[str, str]:
    worst: dict[str, str] = {}
    for each in one.findings:
        if each.finding.level != "info":
            worst.setdefault(each.about, each.finding.level)
    return worst


def _what(one: Checked, item: CollectedItem) -> str:
    info = one.infos.get((item.name, item.kind))
    if info is None:
        return "cannot be read"
    if info.kind == "private_key":
        return "private key" + (", locked" if info.encrypted else "")
    names = common_name(info.subject) or "(no name)"
    return f"CA {names}" if item.kind == "ca" else names


def _together(one: Checked, item: CollectedItem) -> Iterator[str]:
    if item.kind == "private_key":
        partner, matches = one.partner(item), one.matches(item)
        if partner is not None and matches is not None:
            yield partner.name if matches else f"not {partner.name}"
    fact = one.facts.get(item.name)
    if fact is not None and item.kind == "certificate":
        way = fact.chain
        if way is None or way.state == "unknown-issuer":
            info = one.infos.get((item.name, item.kind))
            alone = info is not None and info.count == 1 and info.subject == info.issuer
            yield "itself" if alone else _STATES["unknown-issuer"]
        else:
            yield _STATES[way.state].format(listed(fact.ends_at) or common_name(way.issuer))


def _notes(one: Checked) -> Iterator[str]:
    if one.partition:
        used, total = one.partition
        yield f"mfg_nvs: {used} of {total} entries used ({used * 100 // max(total, 1)} %)"
    if one.room:
        text = f"{one.room.items} items, {one.room.size} bytes"
        if one.room.entries is not None:
            share = one.room.entries * 100 // one.room.small
            text += f": {share} % of what an mfg_nvs of 112 K has for them"
        yield text
    if one.passed_over:
        files = "file is" if one.passed_over == 1 else "files are"
        yield f"{one.passed_over} {files} no certificate or key"
    if one.firmware:
        them = "them by themselves" if one.firmware > 1 else "it by itself"
        yield f"{are_firmware(one.firmware)}: give {them}"

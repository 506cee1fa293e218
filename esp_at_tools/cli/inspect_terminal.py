"""``inspect`` on a terminal: the picture of the flash, then everything else, at any width.

Without a terminal the same text comes without colour; where the encoding is not UTF-8, in ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from esp_at_tools.cli import inspect_view as view
from esp_at_tools.cli.inspect_picture import Look, Picture, legend
from esp_at_tools.cli.inspect_view import Report
from esp_at_tools.formats.partition_table import MAX_NAME
from esp_at_tools.numbers import format_size

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree

SIDE_BY_SIDE = 150
"""Columns from which the map stands beside the application and settings."""
ONE_LINE = 110
"""Columns from which a certificate takes one line."""
_LEVEL_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}

_Render = Callable[[Look, Report], Iterator["RenderableType"]]


def print_report(console: Console, report: Report) -> None:
    """Print everything that ``inspect`` found.

    Args:
        console: where to; its width and encoding decide on the form.
        report: see :func:`esp_at_tools.firmware.report.report`.
    """
    look = Look(
        console.options.ascii_only, console.width, console.color_system is not None and not console.no_color
    )
    if console.legacy_windows:  # colours are calls there, which cannot be captured
        _print_all(console, look, report)
        return
    with console.capture() as capture:
        _print_all(console, look, report)
    console.file.write(_BLANKS_AT_END.sub(r"\1", capture.get()))
    console.file.flush()


_BLANKS_AT_END = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$", re.MULTILINE)


def _print_all(console: Console, look: Look, report: Report) -> None:
    _print_headline(console, look, report)
    sections: tuple[tuple[str, _Render], ...] = _SECTIONS
    if console.width >= SIDE_BY_SIDE and report["partitions"]:
        console.print(_side_by_side(replace(look, width=(console.width - 3) // 2), report))
        sections = _WIDE_SECTIONS
    for title, render in sections:
        for part in _section(look, title, render(look, report)):
            console.print(part)


def _side_by_side(half: Look, report: Report) -> RenderableType:
    """Return the map and the table of partitions on the left, what is in them on the right."""
    from rich.console import Group

    left = [*_section(half, "Flash", _flash(half, report)),
            *_section(half, "Partitions", _partitions(half, report))]  # fmt: skip
    right = [*_section(half, "Application", _applications(half, report)),
             *_section(half, "Settings", _settings(half, report)),
             *_section(half, "Bluetooth services", _gatts(half, report))]  # fmt: skip
    return _columns(Group(*left), Group(*right), half.width)


def _columns(left: RenderableType, right: RenderableType, width: int) -> RenderableType:
    from rich.table import Table

    grid = Table.grid(padding=(0, 3, 0, 0), pad_edge=False)
    grid.add_column(width=width)
    grid.add_column(width=width)
    grid.add_row(left, right)
    return grid


def _section(look: Look, title: str, parts: Iterable[RenderableType]) -> list[RenderableType]:
    """Return a section under its heading, nothing for an empty one."""
    from rich.padding import Padding
    from rich.text import Text

    body = list(parts)
    if not body:
        return []
    line = look.sign("─") * max(look.width - len(title) - 4, 0)
    heading = Text.assemble(
        (look.sign("──") + " ", "dim"), (title, "bold"), (" " + line, "dim"), no_wrap=True
    )
    heading.truncate(look.width)
    return [Text(""), heading, *(Padding(part, (0, 0, 0, 2)) for part in body)]


def _print_headline(console: Console, look: Look, report: Report) -> None:
    from rich.text import Text

    source = report["input"]
    flash = report["flash"]
    facts = [look.clean(source["path"]), view.INPUT_NAMES[source["kind"]], format_size(source["size"])]
    if source["kind"] not in ("mfg_nvs", "factory_param"):
        facts.append(f"{report['layout']} layout")
    flash_facts = [format_size(flash["size"])] if flash["size"] else []
    flash_facts += view.flash_words(flash)
    console.print(Text(look.clean(view.headline(report)), style="bold"))
    console.print(Text(look.sign(" · ").join(facts)))
    if flash_facts:
        console.print(Text(look.sign(" · ").join(["flash: " + flash_facts[0], *flash_facts[1:]])))
    console.print(Text(f"SHA-256 {source['sha256']}", style="dim"))
    worst = next((check["level"] for check in report["checks"]), "")
    style = {"error": "bold red", "warning": "yellow"}.get(worst, "green")
    console.print(Text(f"checks: {view.tally(report)}", style=style))


def _flash(look: Look, report: Report) -> Iterator[RenderableType]:
    found = view.blocks(report)
    if not found:
        return
    yield Picture(look, found, look.width - 2).render()
    yield legend(look, found, view.flash_size(report))


# --- the rest -----------------------------------------------------------------------------------


def _grid(*columns: Mapping[str, Any]) -> Table:
    """Return a table without lines; each column is folded, never cut."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(overflow="fold", **column)
    return table


def _partitions(look: Look, report: Report) -> Iterator[RenderableType]:
    if not report["partitions"]:
        return
    from rich.cells import cell_len
    from rich.text import Text

    right = {"justify": "right", "no_wrap": True}
    longest = max(cell_len(look.clean(part["name"])) for part in report["partitions"])
    table = _grid({"min_width": min(longest, MAX_NAME)}, {}, {}, right, right, right, {})
    table.add_row(
        *(Text(title, "dim") for title in ("name", "type", "table", "offset", "size", "used", "flags"))
    )
    for part in report["partitions"]:
        table.add_row(
            Text(look.clean(part["name"]), "bold" if part["table"] == "primary" else ""),
            Text(f"{part['type']}/{part['subtype']}"),
            Text(part["table"], "dim"),
            f"{part['offset']:#x}",
            format_size(part["size"]),
            format_size(part["used"]) if part["used"] else Text("blank", "dim"),
            Text(", ".join(part["flags"])),
        )
    yield table


def _applications(look: Look, report: Report) -> Iterator[RenderableType]:
    from rich.text import Text

    images = [(app["partition"], app) for app in report["apps"]]
    if report["bootloader"] is not None:
        images.insert(0, ("bootloader", report["bootloader"]))
    if not images:
        return
    table = _grid({"style": "bold"}, {"ratio": 1})
    for name, image in images:
        table.add_row(Text(look.clean(name)), Text("\n").join(_image_lines(look, image)))
    yield table


def _image_lines(look: Look, image: Mapping[str, Any]) -> Iterator[Text]:
    from rich.text import Text

    what = " ".join(part for part in (image.get("project_name"), image.get("version")) if part)
    if what:
        yield Text(look.clean(what), "bold")
    for line in view.image_lines(image):
        yield Text(look.clean(line))
    text = Text()
    for words, good in view.verdicts(image):
        text.append(look.sign("✔ " if good else "✘ "), "green" if good else "bold red")
        text.append(words + "  ", "" if good else "bold red")
    if image["signature"]:
        text.append(f"signed for Secure Boot V{image['signature']['version']}")
    yield text


def _settings(look: Look, report: Report) -> Iterator[RenderableType]:
    from rich.text import Text

    settings = report["settings"]
    if settings:
        table = _grid({}, {}, {"style": "dim"})
        for name, value in settings.items():
            shown = Text(look.clean(value) or '""', "bold")
            table.add_row(Text(look.clean(name)), shown, Text(view.setting_meaning(name, value, settings)))
        yield table
    if report["nvs"] is not None:
        yield Text(look.clean(view.nvs_text(report["nvs"])), "dim")


def _pki(look: Look, report: Report) -> Iterator[RenderableType]:
    from rich.text import Text

    name = {"style": "bold", "no_wrap": True}
    wide = look.width >= ONE_LINE
    table = _grid(name, {"no_wrap": True}, *([{}, {}] if wide else [{"ratio": 1}]))
    for item in report["pki"]:
        subject, facts = _subject(look, item), _facts(look, item, report)
        cells = [subject, facts] if wide else [Text("\n").join(part for part in (subject, facts) if part)]
        table.add_row(Text(look.clean(item["name"])), Text(view.PKI_KINDS[item["kind"]], "dim"), *cells)
    if table.row_count:
        yield table


def _subject(look: Look, item: Mapping[str, Any]) -> Text:
    from rich.text import Text

    if item["subject"] is None:
        return Text()
    text = Text(look.clean(view.common_name(item["subject"])) or "(no subject)")
    return text.append(f"  {look.clean(view.issuer_text(item))}", "dim")


def _facts(look: Look, item: Mapping[str, Any], report: Report) -> Text:
    from rich.text import Text

    text = Text().append(look.sign(" · ").join(look.clean(fact) for fact in view.pki_facts(item)), "dim")
    partner = look.clean(view.partner_text(item, report))
    if partner:
        style = {True: "green", False: "bold red", None: "dim"}[item["key_matches_certificate"]]
        mark = {True: "✔ ", False: "✘ ", None: ""}[item["key_matches_certificate"]]
        text.append("  ").append(look.sign(mark) + partner, style)
    return text


def _gatts(look: Look, report: Report) -> Iterator[RenderableType]:
    for service in report["gatt_services"]:
        yield _service_tree(look, service)


def _service_tree(look: Look, service: Mapping[str, Any]) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    title = Text(look.clean(service["uuid"] or "no UUID"), "bold")
    title.append(" service" if service["kind"] == "primary" else " secondary service", "not bold")
    tree = Tree(title, guide_style="dim")
    for characteristic in service["characteristics"]:
        line = Text(look.clean(characteristic["uuid"] or "no value"), "bold")
        line.append("  " + (", ".join(characteristic["properties"]) or "no properties"), "not bold")
        branch = tree.add(line.append(_attribute(look, characteristic), "dim not bold"))
        for descriptor in characteristic["descriptors"]:
            text = Text(look.clean(descriptor["uuid"]))
            branch.add(
                text.append(f"  {descriptor['name'] or 'descriptor'}").append(
                    _attribute(look, descriptor), "dim"
                )
            )
    return tree


def _attribute(look: Look, attribute: Mapping[str, Any]) -> str:
    return "".join(look.sign(" · ") + look.sign(fact) for fact in view.attribute_facts(attribute))


def _checks(look: Look, report: Report) -> Iterator[RenderableType]:
    from rich.text import Text

    if not report["checks"]:
        yield Text(look.sign("✔ every check passed"), "green")
        return
    table = _grid({"no_wrap": True}, {"ratio": 1})
    for check in report["checks"]:
        message = Text(look.clean(check["message"])).append(f"  {check['id']}", "dim")
        if check["hint"]:
            message.append("\n" + look.sign("→ ") + look.clean(check["hint"]), "dim")
        table.add_row(Text(check["level"], _LEVEL_STYLES[check["level"]]), message)
    yield table


_SECTIONS: tuple[tuple[str, _Render], ...] = (
    ("Flash", _flash),
    ("Partitions", _partitions),
    ("Application", _applications),
    ("Settings", _settings),
    ("Certificates and keys", _pki),
    ("Bluetooth services", _gatts),
    ("Checks", _checks),
)
_WIDE_SECTIONS: tuple[tuple[str, _Render], ...] = (("Certificates and keys", _pki), ("Checks", _checks))

"""``inspect --html``: one page with everything, which needs no network and no script.

The same report gives the same bytes: there is no date and no path of this machine in it. Everything
from the firmware is cleaned of control characters and escaped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from esp_at_tools.catalog.data import templates_folder
from esp_at_tools.cli import inspect_view as view
from esp_at_tools.cli.inspect_view import Block, Report, clean
from esp_at_tools.numbers import format_size

WIDTH = 360
"""Units across the map; a phone shows one unit as one pixel."""
SPREAD = 340
"""Units over which the flash is spread, before the least height is applied."""
LEAST_HEIGHT = 18
_BAR_LEFT, _BAR_WIDTH = 56, 120
_GAP = 2
_INSET = 5
_MAX_LABEL = 17


def render(report: Report) -> str:
    """Return the page.

    Args:
        report: see :func:`esp_at_tools.firmware.report.report`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(templates_folder(), encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_cleaned,
    )
    found = view.blocks(report)
    kinds = {block.kind for block in found}
    levels = {check["level"] for check in report["checks"]}
    page: str = environment.get_template("inspect.html.j2").render(
        report=report,
        view=view,
        size=format_size,
        headline=view.headline(report),
        facts=_facts(report),
        tally=view.tally(report),
        worst=next((level for level in ("error", "warning") if level in levels), "good"),
        map=_map(found) if found else None,
        kinds=[(kind, name) for kind, name in view.KIND_NAMES.items() if kind in kinds],
        pki_kinds=view.PKI_KINDS,
    )
    return page


def _cleaned(value: Any) -> Any:
    """Clean what a template prints; what is markup already has been cleaned inside."""
    from markupsafe import Markup

    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _facts(report: Report) -> list[str]:
    source, flash = report["input"], report["flash"]
    facts = [Path(source["path"]).name, view.INPUT_NAMES[source["kind"]], format_size(source["size"])]
    facts.append(f"{report['layout']} layout")
    facts += [f"{format_size(flash['size'])} flash"] if flash["size"] else []
    return [fact for fact in [*facts, *view.flash_words(flash)] if fact]


# --- the map ------------------------------------------------------------------------------------


def _map(found: list[Block]) -> dict[str, Any]:
    """Return the geometry of the map: a bar for every block, one below the other."""
    end = max(block.end for block in found)
    digits = max(len(f"{end:x}"), 6) + 2
    bars: list[dict[str, Any]] = []
    home: dict[str, Any] | None = None
    y = 4.0
    for index, block in enumerate(found):
        has_inside = block.is_home and any(inner.depth for inner in found[index + 1 : index + 2])
        if home is not None and not block.depth:
            y = _close(home, y)
            home = None
        height = LEAST_HEIGHT if has_inside else max(SPREAD * block.size / end, LEAST_HEIGHT)
        bars.append(_bar(block, y, height, digits))
        if has_inside:
            home = bars[-1]
            home["home"] = True
        y = round(y + height + _GAP, 1)
    if home is not None:
        y = _close(home, y)
    return {"width": WIDTH, "height": round(y + 14), "bars": bars, "end": f"{end:#0{digits}x}"}


def _close(home: dict[str, Any], y: float) -> float:
    """Draw the frame of ``at_customize`` around what lies in it, down to ``y``."""
    home["height"] = round(y + _INSET - home["y"] - _GAP, 1)
    return round(y + _INSET, 1)


def _bar(block: Block, y: float, height: float, digits: int) -> dict[str, Any]:
    inset = _INSET * block.depth
    width = _BAR_WIDTH - 2 * inset
    share = 1.0 if block.used is None else min(block.used / block.size, 1)
    filled = round(max(width * share, 1.5), 1) if share else 0
    label = clean(block.name)
    amount = format_size(block.size)
    if block.used is not None:
        amount += f" · {view.percent(block.used, block.size)} %" if block.used else " · blank"
    return {
        "kind": block.kind,
        "home": False,
        "x": _BAR_LEFT + inset,
        "y": y,
        "width": width,
        "height": round(height, 1),
        "filled": filled,
        "address": f"{block.offset:#0{digits}x}",
        "text_x": _BAR_LEFT + _BAR_WIDTH + 8 + 9 * block.depth,
        "text_y": round(y + 13, 1),
        "label": label if len(label) <= _MAX_LABEL else label[: _MAX_LABEL - 1] + "…",
        "amount": amount,
        "title": block.tooltip(),
    }

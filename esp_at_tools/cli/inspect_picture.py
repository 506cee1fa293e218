"""The picture of the flash in characters: proportional, small partitions kept visible, with a legend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from esp_at_tools.cli import inspect_view as view
from esp_at_tools.cli.inspect_view import Block, clean, percent
from esp_at_tools.numbers import format_size

if TYPE_CHECKING:
    from rich.text import Text

MAP_LINES = 16
"""Lines over which the flash is spread; every block has at least one."""
_MAP_WIDTH = (12, 60)
_NAME_WIDTH = 24

_COLOURS: dict[view.Kind, str] = {
    "system": "magenta", "app": "blue", "data": "cyan", "at": "green", "files": "yellow", "free": "dim",
}  # fmt: skip
_ASCII_SIGNS = {
    "█": "#", "░": ".", "─": "-", "│": "|", "╭": ".", "╮": ".", "╰": "'", "╯": "'", "┌": ".", "┐": ".",
    "└": "'", "┘": "'", "·": "-", "✔": "+", "✘": "x", "→": "->", "…": "...",
}  # fmt: skip
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True)
class Look:
    """How to write on this console.

    Attributes:
        ascii_only: the encoding has no line drawing.
        width: columns to fill.
        coloured: there are colours.
    """

    ascii_only: bool
    width: int
    coloured: bool

    def sign(self, text: str) -> str:
        """Return our own text in what the encoding can show."""
        if not self.ascii_only:
            return text
        return clean("".join(_ASCII_SIGNS.get(char, char) for char in text), ascii_only=True)

    def clean(self, text: object) -> str:
        """Return text of the firmware so that it can be shown."""
        return clean(text, ascii_only=self.ascii_only)


def legend(look: Look, found: list[Block], size: int) -> Text:
    """Return what the signs and colours of the picture mean.

    Args:
        look: how to write.
        found: the blocks.
        size: bytes that the picture covers.
    """
    from rich.text import Text

    unit = format_size(-(-size // MAP_LINES))
    text = Text().append(look.sign(f"█ used  ░ blank  one line: {unit}, or one partition"), "dim")
    if look.coloured:
        kinds = {block.kind for block in found}
        text.append("\n")
        for kind, name in view.KIND_NAMES.items():
            if kind in kinds:
                text.append(look.sign("█"), _COLOURS[kind]).append(f" {name}   ")
    return text


class Picture:
    """The map, line by line.

    Args:
        look: how to write.
        found: the blocks.
        width: columns that it may take.
    """

    def __init__(self, look: Look, found: list[Block], width: int) -> None:
        from rich.cells import cell_len

        self._look = look
        self._blocks = found
        self._end = max(block.end for block in found)
        self._digits = max(len(f"{self._end:x}"), 6)
        self._names = [self._name(block) for block in found]
        self._name_width = min(max(cell_len(name) for name in self._names), _NAME_WIDTH)
        taken = self._digits + 2 + 1 + 2 + 1 + self._name_width + 9 + 9 + 6
        self._map_width = min(max(width - taken, _MAP_WIDTH[0]), _MAP_WIDTH[1])

    def _name(self, block: Block) -> str:
        return "  " * block.depth + self._look.clean(block.name)

    def render(self) -> Text:
        """Return the picture."""
        from rich.text import Text

        lines = [self._frame("╭", "╮")]
        unit = max(self._end // MAP_LINES, 1)
        for index, (block, name) in enumerate(zip(self._blocks, self._names, strict=True)):
            has_inside = block.is_home and any(inner.depth for inner in self._blocks[index + 1 : index + 2])
            height = 1 if has_inside else max(round(block.size / unit), 1)
            for row in range(height):
                line = Text().append(self._address(block.offset) if row == 0 else self._address(None), "dim")
                line.append(" ").append(self._cells(block, row, height, open_home=has_inside))
                lines.append(line.append_text(self._label(block, name)) if row == 0 else line)
            if block.depth and (index + 1 == len(self._blocks) or not self._blocks[index + 1].depth):
                lines.append(self._closed_home())
        lines.append(self._frame("╰", "╯", self._end))
        return Text("\n").join(lines)

    def _frame(self, left: str, right: str, offset: int | None = None) -> Text:
        from rich.text import Text

        line = left + "─" * self._map_width + right
        return Text().append(f"{self._address(offset)} {self._look.sign(line)}", "dim")

    def _address(self, offset: int | None) -> str:
        return " " * (self._digits + 2) if offset is None else f"{offset:#0{self._digits + 2}x}"

    def _closed_home(self) -> Text:
        from rich.text import Text

        sign = self._look.sign
        line = Text(" " * (self._digits + 3))
        line.append(sign("│"), "dim").append(sign("└" + "─" * (self._map_width - 2) + "┘"), _COLOURS["at"])
        return line.append(sign("│"), "dim")

    def _cells(self, block: Block, row: int, height: int, *, open_home: bool) -> Text:
        """Return one line of a block between the sides of the frame."""
        from rich.text import Text

        sign, colour = self._look.sign, _COLOURS[block.kind]
        text = Text().append(sign("│"), "dim")
        if open_home:
            text.append(sign("┌" + "─" * (self._map_width - 2) + "┐"), colour)
        else:
            width = self._map_width - 2 * block.depth
            cells = self._filled(block, row, height, width)
            side = sign("│") * block.depth
            text.append(side, _COLOURS["at"]).append_text(cells).append(side, _COLOURS["at"])
        return text.append(sign("│"), "dim")

    def _filled(self, block: Block, row: int, height: int, width: int) -> Text:
        from rich.text import Text

        if block.kind == "free":
            return Text(" " * width)
        colour = _COLOURS[block.kind]
        if block.used is None:
            return Text(self._look.sign("█") * width, colour)
        share = min(block.used / block.size, 1) * height - row
        eighths = round(max(min(share, 1), 0) * width * 8)
        if block.used and row == 0:
            eighths = max(eighths, 8 if self._look.ascii_only else 2)
        whole, part = divmod(eighths, 8)
        text = Text().append(self._look.sign("█") * whole, colour)
        if part and not self._look.ascii_only:
            text.append(_EIGHTHS[part], colour)
            whole += 1
        return text.append(self._look.sign("░") * (width - whole), f"dim {colour}")

    def _label(self, block: Block, name: str) -> Text:
        from rich.cells import cell_len, set_cell_size
        from rich.text import Text

        if cell_len(name) > self._name_width:
            more = self._look.sign("…")
            name = set_cell_size(name, self._name_width - len(more)) + more
        style = "dim" if block.kind == "free" else "" if block.depth else "bold"
        text = Text(" ").append(set_cell_size(name, self._name_width), style)
        text.append(f"{format_size(block.size):>9}", "dim" if block.kind == "free" else "")
        if block.used is not None:
            used = (
                f"{format_size(block.used):>9} {percent(block.used, block.size):>3} %"
                if block.used
                else "    blank"
            )
            text.append(used, "dim")
        return text

"""Tables for people: aligned columns, and colours where a command's `style` has any: on a terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.core.management.base import OutputWrapper

from ..redaction import printable

Style = Callable[[str], str]


@dataclass(frozen=True)
class Line:
    """One line of a table; `style` paints it."""

    cells: Sequence[str | int]
    style: Style = str


def write_table(out: OutputWrapper, headings: Sequence[str], lines: Sequence[Line], heading_style: Style) -> None:
    """Write the lines under their headings, numbers to the right. Control characters are escaped."""
    texts = [[printable(str(cell)) for cell in line.cells] for line in lines]
    widths = [max(map(len, column)) for column in zip(headings, *texts, strict=True)]
    numeric = [all(isinstance(line.cells[column], int) for line in lines) for column in range(len(headings))]

    def write(cells: Sequence[str], style: Style) -> None:
        aligned = (
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(cells, widths, numeric, strict=True)
        )
        text = "  ".join(aligned).rstrip()
        out.write(style(text))

    write(headings, heading_style)
    for line, cells in zip(lines, texts, strict=True):
        write(cells, line.style)

"""Positions of the bars in a chart. The templates draw them, as SVG without a style or a script."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from .activity import Day


@dataclass(frozen=True)
class Bar:
    """One day, in the units of the chart's view box; y grows downward."""

    day: date
    allowed: int
    refused: int
    x: float
    width: float
    allowed_y: float
    allowed_height: float
    refused_y: float
    refused_height: float
    has_more: bool

    @property
    def more_y(self) -> float:
        """Where the bar is broken, to show that not all requests were counted."""
        return round(min(self.allowed_y, self.refused_y) + 6, 2)


@dataclass(frozen=True)
class Chart:
    """Bars of uses with the refusals on top, scaled to the highest."""

    width: int
    height: int
    top: int
    bars: Sequence[Bar]

    @property
    def is_empty(self) -> bool:
        return not any(bar.allowed or bar.refused for bar in self.bars)


def chart(days: Sequence[Day], width: int, height: int, gap: float) -> Chart:
    """Return a chart of that many units with one bar for each day."""
    top = round_up(max((day.allowed + day.refused for day in days), default=0))
    step = width / max(len(days), 1)
    bars = []
    for position, day in enumerate(days):
        allowed, refused = (round(height * count / top, 2) for count in (day.allowed, day.refused))
        x = round(position * step + gap / 2, 2)
        bars.append(
            Bar(day.day, day.allowed, day.refused, x, round(step - gap, 2),
                round(height - allowed, 2), allowed, round(height - allowed - refused, 2), refused,
                day.has_more)
        )  # fmt: skip
    return Chart(width, height, top, bars)


def round_up(highest: int) -> int:
    """Return the next number that looks well on an axis: 1, 2, 4, 5 or 10 times a power of ten."""
    scale = 1
    while True:
        for factor in (1, 2, 4, 5):
            if highest <= factor * scale:
                return factor * scale
        scale *= 10

"""The results as an SVG bar chart, drawn by hand so that nothing needs installing to make it."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tests.benchmarks.guards import FLOOR, OURS, REFERENCE

Result = Mapping[str, Any]

WIDTH, LABELS, FIGURES, BAR, GAP = 760, 210, 130, 18, 8
# A bar this many times the reference's is cut off, with its figure beside it: it would flatten all others.
CUT = 2.5

_CAPTION = "µs per request (median), what is written after the response included; shorter is better"

# Readable on a light and on a dark page.
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600 } .quiet { fill: #57606a }
  .peer { fill: #8c959f } .floor { fill: #d0d7de } .ours { fill: #1a7f37 } .cut { stroke: #ffffff; stroke-width: 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #8d96a0 }
    .peer { fill: #6e7681 } .floor { fill: #484f58 } .ours { fill: #3fb950 } .cut { stroke: #0d1117 }
  }
"""


def chart(results: Sequence[Result], engines: Mapping[str, str]) -> str:
    """Return an SVG with a bar per guard and engine: a request with a good key, at the largest number of keys."""
    keys = max(result["keys"] or 0 for result in results)
    parts: list[str] = []
    height = 12
    for engine, description in engines.items():
        lines = [result for result in results if result["engine"] == engine and _is_drawn(result, keys)]
        if not lines:
            continue
        parts.append(f'<text class="title" x="8" y="{height + 14}">{escape(description)}, {keys:,} keys</text>')
        height += 28
        parts += _bars(lines, height)
        height += len(lines) * (BAR + GAP) + 16
    parts.append(f'<text class="quiet" x="8" y="{height}">{escape(_CAPTION)}</text>')
    height += 12
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    )
    opening += ' role="img" aria-label="Time per request of each guard">'
    return "\n".join([opening, f"<style>{_STYLE}</style>", *parts, "</svg>", ""])


def _is_drawn(result: Result, keys: int) -> bool:
    if result["audit_rows_before"] or result["case"] != "good key":
        return False
    return bool(result["guard"] == FLOOR.name or result["keys"] == keys)


def _bars(lines: Sequence[Result], top: int) -> list[str]:
    longest = max(line["price_us"] for line in lines)
    reference = next((line["price_us"] for line in lines if line["guard"] == REFERENCE.name), longest)
    limit = min(longest, reference * CUT)
    scale = (WIDTH - LABELS - FIGURES) / limit
    parts = []
    for number, line in enumerate(lines):
        y = top + number * (BAR + GAP)
        length = min(line["price_us"], limit) * scale
        kind = {FLOOR.name: "floor", OURS.name: "ours"}.get(line["guard"], "peer")
        audited = ", audited" if (line["audited"] or 0) >= 1 else ""
        parts.append(f'<text x="{LABELS - 8}" y="{y + 14}" text-anchor="end">{escape(line["guard"])}</text>')
        parts.append(f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>')
        if line["price_us"] > limit:
            x = LABELS + length - 24
            parts.append(f'<line class="cut" x1="{x - 4:.1f}" y1="{y + BAR + 2}" x2="{x + 6:.1f}" y2="{y - 2}"/>')
        parts.append(f'<text x="{LABELS + length + 6:.1f}" y="{y + 14}">{line["price_us"]:,.0f}{audited}</text>')
    return parts

"""Draws curves over steps as an SVG: lines, with bands for intervals, on two axes with round numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from data.text.printable import printable
from rl.drawing.axis import nice_ticks, tick_text
from rl.drawing.marks import LIGHT
from rl.drawing.marks import number as n

WIDTH, HEIGHT = 440, 190
LEFT, RIGHT, TOP, BOTTOM = 54, 10, 10, 24
"""Room around the curves, in pixels."""
_TEXT = "#4A525C"
STYLE = ".braid-chart text{font:11px 'DejaVu Sans',Helvetica,Arial,sans-serif}"
"""Style sheet of every chart; it styles its own class only."""

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One curve of a chart."""

    label: str
    colour: str
    points: tuple[Point, ...]
    """(step, value), ascending by step."""
    band: tuple[tuple[float, float], ...] = ()
    """(low, high) at every point; () without intervals."""
    dash: str = ""
    """Dashes of the line, as in SVG; "" is solid."""


def render_lines(lines: Sequence[Line], *, title: str) -> str:
    """An SVG document of 440 x 190 pixels. A line of one point is drawn as a dot."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    ys += [value for line in lines for pair in line.band for value in pair]
    low_x, high_x = _limits(xs)
    low_y, high_y = _limits(ys)

    def place(x: float, y: float) -> str:
        across = LEFT + (WIDTH - LEFT - RIGHT) * (x - low_x) / (high_x - low_x)
        up = TOP + (HEIGHT - TOP - BOTTOM) * (high_y - y) / (high_y - low_y)
        return f"{n(across)} {n(up)}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="braid-chart" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(_spoken(lines, title))}" '
        f'data-x="{low_x:g} {high_x:g} {LEFT} {WIDTH - RIGHT}">',
        f"<style>{STYLE}</style>",
    ]
    for value in nice_ticks(low_y, high_y, 4):
        _, y = place(low_x, value).split()
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="{LIGHT}" stroke-width="0.6"/>')
        end = f'fill="{_TEXT}" text-anchor="end"'
        parts.append(f'<text x="{LEFT - 5}" y="{float(y) + 4:g}" {end}>{tick_text(value)}</text>')
    for value in nice_ticks(low_x, high_x, 6):
        x, _ = place(value, low_y).split()
        middle = f'fill="{_TEXT}" text-anchor="middle"'
        parts.append(f'<text x="{x}" y="{HEIGHT - 8}" {middle}>{tick_text(value)}</text>')
    for line in lines:
        if line.band:
            pairs = list(zip(line.points, line.band, strict=True))
            around = [place(x, high) for (x, _), (_, high) in pairs]
            around += [place(x, low) for (x, _), (low, _) in reversed(pairs)]
            parts.append(f'<path d="M{"L".join(around)}Z" fill="{line.colour}" fill-opacity="0.15"/>')
    for line in lines:
        parts.append(_curve(line, [place(x, y) for x, y in line.points]))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _curve(line: Line, places: Sequence[str]) -> str:
    if len(places) == 1:
        x, y = places[0].split()
        return f'<circle cx="{x}" cy="{y}" r="3" fill="{line.colour}"/>'
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    return f'<path d="M{"L".join(places)}" fill="none" stroke="{line.colour}" stroke-width="1.6"{dash}/>'


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis that shows all values: never one point, and from 0 where the values come near it."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if 0 < low < 0.4 * high:
        low = 0.0
    if low == high:
        low, high = (low - 0.5 * abs(low), high + 0.5 * abs(high)) if low else (0.0, 1.0)
    return low, high


def _spoken(lines: Sequence[Line], title: str) -> str:
    """The picture in words: first and last value of every line."""
    ends = [
        f"{line.label} from {tick_text(line.points[0][1])} to {tick_text(line.points[-1][1])}"
        for line in lines
        if line.points
    ]
    return printable(f"{title}: {'; '.join(ends) or 'no values'}")

"""Draws an episode as a waterfall: a row is a thread, a bar a call, placed by sampled tokens or by seconds.

Dark outlines are the critical path by tokens; a dashed bar was cancelled or failed. Ticks below a bar
are improbable tokens (below one half; the higher, the less probable), the strip above it scored steps: green
is right, red wrong, and a shade between them a score. Red triangles are violations.
Equal episodes give equal bytes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape

from data.episodes.trajectory import Call, StopReason, Violation
from data.text.printable import printable
from rl.drawing.axis import nice_ticks, tick_text
from rl.drawing.layout import Block
from rl.drawing.marks import FAULT, GREY, INK, LIGHT, thread_colour
from rl.drawing.marks import number as n

WIDTH, GUTTER, MARGIN = 940, 104, 12
ROW, BAR, TOP, AXIS = 30, 14, 8, 24
"""Heights in pixels: a row, its bar, room above the bar for steps, room below the rows for the axis."""
MOST_ROWS = 48
"""Most threads that are drawn; more would not be told apart."""
_LETTER = 6.6
"""Width of a character of the font, in pixels."""
STYLE = (
    ".braid-waterfall text{font:11px 'DejaVu Sans',Helvetica,Arial,sans-serif;white-space:pre}"
    ".braid-waterfall .on{fill:#fff}"
)
"""Style sheet of every waterfall; it styles its own class only."""


class Clock(StrEnum):
    """What the horizontal axis counts."""

    TOKENS = "tokens"
    """Sampled tokens along the critical path."""
    SECONDS = "seconds"
    """Measured seconds since the episode began."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMark:
    """A scored step: output tokens `start:stop` of a call."""

    call: int
    start: int
    stop: int
    value: float
    """From 0 (wrong) to 1 (right)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scale:
    """Places on the axis, in pixels."""

    end: float
    clock: Clock

    def x(self, value: float) -> float:
        return GUTTER + (WIDTH - GUTTER - MARGIN) * (value / self.end if self.end > 0 else 0.0)

    def span(self, block: Block) -> tuple[float, float]:
        """Left and right end of a call's bar."""
        if self.clock is Clock.TOKENS:
            return self.x(block.start), self.x(block.stop)
        return self.x(block.call.started_s), self.x(block.call.finished_s)


def render_waterfall(
    blocks: Sequence[Block],
    clock: Clock,
    *,
    title: str,
    steps: Sequence[StepMark] = (),
    violations: Sequence[Violation] = (),
) -> str:
    """An SVG document of 940 pixels' width."""
    drawn = [block for block in blocks if block.lane < MOST_ROWS]
    ends = [block.stop if clock is Clock.TOKENS else block.call.finished_s for block in drawn]
    scale = _Scale(end=float(max(ends, default=0)), clock=clock)
    rows = 1 + max((block.lane for block in drawn), default=0)
    height = rows * ROW + AXIS
    label = escape(printable(f"{title}, by {clock.value}"))
    hidden = len({block.lane for block in blocks}) - len({block.lane for block in drawn})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="braid-waterfall" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">',
        f"<style>{STYLE}</style>",
        *_axis(scale, rows),
        *_names(drawn),
        *_edges(drawn, blocks, scale),
        *(part for block in drawn for part in _bar(block, scale)),
        *(_step(step, blocks, scale) for step in steps if blocks[step.call].lane < MOST_ROWS),
        *(_violation(found, blocks, scale) for found in violations if blocks[found.call].lane < MOST_ROWS),
    ]
    if hidden:
        parts.append(f'<text x="{MARGIN}" y="{height - 6}" fill="{FAULT}">{hidden} more threads</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _y(block: Block) -> float:
    """Upper edge of a call's bar."""
    return block.lane * ROW + TOP


def _axis(scale: _Scale, rows: int) -> list[str]:
    bottom = rows * ROW
    unit = "tokens" if scale.clock is Clock.TOKENS else "s"
    parts = []
    for value in nice_ticks(0.0, scale.end, 8):
        x = n(scale.x(value))
        anchor = ' text-anchor="middle"'
        parts.append(
            f'<path d="M{x} 0V{bottom}" stroke="{LIGHT}" stroke-width="0.6" stroke-dasharray="2 4"/>'
        )
        parts.append(f'<text x="{x}" y="{bottom + 15}" fill="{GREY_TEXT}"{anchor}>{tick_text(value)}</text>')
    parts.append(f'<text x="{MARGIN}" y="{bottom + 15}" fill="{GREY_TEXT}">{unit}</text>')
    return parts


GREY_TEXT = "#5B6470"
"""Grey that is dark enough for small text on white."""


def _names(blocks: Sequence[Block]) -> list[str]:
    """Name of each row: the role of its thread's first call."""
    first: dict[int, Block] = {}
    for block in blocks:
        first.setdefault(block.lane, block)
    return [
        f'<text x="{MARGIN}" y="{n(_y(block) + 11)}" fill="{thread_colour(block.call.thread)}">'
        f"{escape(_short(_name(block.call), (GUTTER - MARGIN) / _LETTER))}</text>"
        for block in first.values()
    ]


def _name(call: Call) -> str:
    return printable(call.role if call.thread == 0 else f"{call.role} {call.thread}")


def _short(text: str, room: float) -> str:
    return text if len(text) <= room else text[: max(0, int(room) - 1)] + "…"


def _edges(drawn: Sequence[Block], blocks: Sequence[Block], scale: _Scale) -> list[str]:
    parts = []
    for block in drawn:
        for edge in block.call.after:
            source = blocks[edge.call]
            if source.lane == block.lane or source.lane >= MOST_ROWS:
                continue
            x, y = scale.span(source)[1], _y(source) + BAR / 2
            to_x, to_y = scale.span(block)[0], _y(block) + BAR / 2
            dark = source.critical and block.critical
            stroke = f'stroke="{INK if dark else LIGHT}" stroke-width="{1.4 if dark else 1}"'
            parts.append(f'<path d="M{n(x)} {n(y)}V{n(to_y)}H{n(to_x)}" fill="none" {stroke}/>')
    return parts


def _bar(block: Block, scale: _Scale) -> list[str]:
    left, right = scale.span(block)
    width, y, call = max(1.5, right - left), _y(block), block.call
    colour = thread_colour(call.thread)
    ended = call.stop in (StopReason.ABORT, StopReason.ERROR)
    fill = f'fill="#fff" stroke="{colour}" stroke-dasharray="3 2"' if ended else f'fill="{colour}"'
    outline = f' stroke="{INK}" stroke-width="2"' if block.critical and not ended else ""
    seconds = f"{call.finished_s - call.started_s:.2f} s"
    faults = f", {block.faults}" if block.faults else ""
    hint = escape(printable(f"call {call.index}: {block.caption}, {seconds}{faults}"))
    parts = [
        f'<g><title>{hint}</title><rect x="{n(left)}" y="{n(y)}" width="{n(width)}" height="{BAR}" rx="2" '
        f"{fill}{outline}/>"
    ]
    text = _short(str(len(call.output)), (width - 4) / _LETTER)
    if text and "…" not in text:
        looks = f'fill="{colour}"' if ended else 'class="on"'
        parts.append(f'<text x="{n(left + 3)}" y="{n(y + 11)}" {looks}>{text}</text>')
    parts.append(_improbable(call, left, width, y + BAR + 1) + "</g>")
    return parts


def _improbable(call: Call, left: float, width: float, y: float) -> str:
    """Ticks below a bar, at most one a pixel: the least probable token there."""
    heights: dict[int, float] = {}
    for index, logprob in enumerate(call.logprobs):
        if logprob < math.log(0.5):
            x = round(left + width * (index + 0.5) / len(call.logprobs))
            heights[x] = max(heights.get(x, 0.0), 6 * min(1.0, -logprob / 5))
    if not heights:
        return ""
    path = "".join(f"M{x} {n(y)}v{n(height)}" for x, height in sorted(heights.items()))
    return f'<path d="{path}" stroke="{GREY}" stroke-width="1"/>'


def _within(block: Block, scale: _Scale) -> Callable[[float], float]:
    """A function from a position in a call's output to its place on the axis."""
    left, right = scale.span(block)
    size = max(1, len(block.call.output))
    return lambda position: left + (right - left) * position / size


def _step(step: StepMark, blocks: Sequence[Block], scale: _Scale) -> str:
    block = blocks[step.call]
    place = _within(block, scale)
    left, right = place(step.start), place(step.stop)
    hint = f"step {step.start}-{step.stop} of call {step.call}: {step.value:g}"
    return (
        f'<rect x="{n(left)}" y="{n(_y(block) - 6)}" width="{n(max(1.0, right - left - 1))}" height="4" '
        f'fill="{step_colour(step.value)}"><title>{hint}</title></rect>'
    )


def step_colour(value: float) -> str:
    """From red at 0 over amber to green at 1; values outside are clipped."""
    share = min(1.0, max(0.0, value))
    red, amber, green = (190, 30, 45), (216, 150, 20), (16, 124, 65)
    low, high, part = (red, amber, 2 * share) if share < 0.5 else (amber, green, 2 * share - 1)
    return "#" + "".join(f"{round(a + (b - a) * part):02X}" for a, b in zip(low, high, strict=True))


def _violation(found: Violation, blocks: Sequence[Block], scale: _Scale) -> str:
    block = blocks[found.call]
    x = _within(block, scale)(len(block.call.output) if found.position is None else found.position)
    y = _y(block) + BAR + 8
    words = found.kind.value.replace("_", " ") + (f": {found.detail}" if found.detail else "")
    return (
        f'<path d="M{n(x)} {n(y - 8)}l5 9h-10z" fill="{FAULT}">'
        f"<title>{escape(printable(words))}</title></path>"
    )

"""Draws one episode as an SVG: calls as boxes along the critical-path axis, forks and joins as edges.

A row is a thread; the width of a box is the number of tokens its call sampled, but never too small to read.
Forced tokens are grey, tokens copied from another call italic, sampled ones in the colour of their thread and
paler where they were less probable. The answer is marked and the longest path dark. Equal episodes give equal
bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from data.episodes.topology import critical_tokens
from data.episodes.trajectory import EdgeKind, Episode
from data.text.printable import printable
from rl.drawing.layout import Block, Decode, Origin, Piece, blocks, text_columns, wrap
from rl.drawing.marks import FAULT, GREY, INK, LIGHT, MARK, ROOT_COLOUR, thread_colour
from rl.drawing.marks import number as n
from rl.drawing.text import headline

FONT, CAPTION_FONT = 11, 10
CHARACTER, CAPTION_CHARACTER, TITLE_CHARACTER = 0.602 * FONT, 0.62 * CAPTION_FONT, 8.0
"""Widths of a character in pixels. The first is that of DejaVu Sans Mono and, within 1%, of the usual
monospaced fonts; the others are means of a proportional font, rounded up.
"""
LINE, PAD, GAP, LANE_GAP, MARGIN = 14, 7, 38, 12, 16
CAPTION, TITLE, LEGEND = 15, 30, 30
NARROWEST = 150
MOST_LINES, LAST_LINES = 14, 4
WIDEST_TOKEN = 9.0
"""Largest width of a sampled token, in pixels."""

STYLE = (
    ".braid-episode text{white-space:pre;font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace;"
    f"font-size:{FONT}px}}"
    f".braid-episode .braid-sans{{font-family:'DejaVu Sans',Helvetica,Arial,sans-serif;"
    f"font-size:{CAPTION_FONT}px}}"
    ".braid-copied{font-style:italic}.braid-answer{font-weight:bold}"
)
"""Style sheet of every picture. It styles its own classes only, since a page may hold many pictures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A block with its rectangle in pixels."""

    block: Block
    x: float
    y: float
    width: float
    height: float
    lines: tuple[tuple[Piece, ...], ...]

    @property
    def right(self) -> float:
        """x coordinate where outgoing edges start."""
        return self.x + self.width

    @property
    def middle(self) -> float:
        """y coordinate where edges start and end."""
        return self.y + CAPTION + 8


def render_svg(episode: Episode, decode: Decode, *, width: int = 1000, shade: bool = True) -> str:
    """An SVG document, about `width` pixels wide. `shade` makes improbable sampled tokens paler."""
    boxes = _boxes(episode, blocks(episode, decode), width)
    right = max((box.right for box in boxes), default=float(width - MARGIN)) + MARGIN
    bottom = max((box.y + box.height for box in boxes), default=float(MARGIN + TITLE)) + LEGEND
    plain_title = printable(f"{episode.protocol}: {headline(episode)}")
    title = escape(plain_title)
    needed = max(TITLE_CHARACTER * text_columns(plain_title), _legend_width()) + 2 * MARGIN
    right = max(right, needed)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="braid-episode" '
        f'width="{n(right)}" height="{n(bottom)}" '
        f'viewBox="0 0 {n(right)} {n(bottom)}" role="img" aria-label="{title}">',
        f"<style>{STYLE}</style>",
        '<rect width="100%" height="100%" fill="#FFFFFF"/>',
        f'<text class="braid-sans" x="{MARGIN}" y="{MARGIN + 4}" style="font-size:12px;font-weight:bold" '
        f'fill="{INK}">{title}</text>',
        *_edges(boxes),
        *(part for box in boxes for part in _box(box, shade=shade)),
        *_legend(bottom - 12),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _boxes(episode: Episode, items: Sequence[Block], width: int) -> list[Box]:
    """Boxes with positions: left to right along the edges, top to bottom by thread."""
    scale = _scale(episode, width)
    spans: list[tuple[float, float]] = []
    for block in items:
        x = max((spans[edge.call][1] + GAP for edge in block.call.after), default=float(MARGIN))
        spans.append((x, x + max(NARROWEST, _caption_width(block), scale * len(block.call.output))))
    texts = [
        _shorten(wrap(block.pieces, int((right - x - 2 * PAD) / CHARACTER)))
        for block, (x, right) in zip(items, spans, strict=True)
    ]
    heights = [CAPTION + LINE * len(lines) + PAD for lines in texts]
    tops: dict[int, float] = {}
    y = float(MARGIN + TITLE - 8)
    for lane in sorted({block.lane for block in items}):
        tops[lane] = y
        y += LANE_GAP + max(h for block, h in zip(items, heights, strict=True) if block.lane == lane)
    return [
        Box(block=block, x=x, y=tops[block.lane], width=right - x, height=height, lines=lines)
        for block, (x, right), lines, height in zip(items, spans, texts, heights, strict=True)
    ]


def _caption_width(block: Block) -> float:
    """Width that caption and faults need, in pixels."""
    faults = f" {block.faults}" if block.faults else ""
    return CAPTION_CHARACTER * text_columns(block.caption + faults) + 2 * PAD


def _scale(episode: Episode, width: int) -> float:
    """Pixels per sampled token, such that the critical path and its gaps fill the width."""
    level: list[int] = []
    for call in episode.calls:
        level.append(max((level[edge.call] + 1 for edge in call.after), default=0))
    room = width - 2 * MARGIN - GAP * max(level, default=0)
    return min(WIDEST_TOKEN, max(0, room) / max(1, critical_tokens(episode)))


def _shorten(lines: list[list[Piece]]) -> tuple[tuple[Piece, ...], ...]:
    """The lines, or beginning and end of a long text."""
    if len(lines) > MOST_LINES:
        left_out = len(lines) - MOST_LINES + 1
        note = f"… {left_out} lines …"
        row = [Piece(text=note, gap=True, origin=Origin.FORCED, thread=0)]
        lines = [*lines[: MOST_LINES - LAST_LINES - 1], row, *lines[-LAST_LINES:]]
    return tuple(tuple(line) for line in lines)


def _edges(boxes: Sequence[Box]) -> list[str]:
    """SVG paths of the edges, pale ones first: the critical path lies on top."""
    drawn: list[tuple[bool, str]] = []
    for box in boxes:
        for edge in box.block.call.after:
            source = boxes[edge.call]
            dark = source.block.critical and box.block.critical and source.block.stop == box.block.start
            waits = edge.kind is EdgeKind.NEXT and not dark
            stroke = f'stroke="{INK if dark else LIGHT}" stroke-width="{2 if dark else 1.3}"'
            dash = ' stroke-dasharray="3 4"' if waits else ""
            drawn.append((dark, f'<path d="{_curve(source, box)}" fill="none" {stroke}{dash}/>'))
    return [path for _, path in sorted(drawn, key=lambda item: item[0])]


def _curve(source: Box, target: Box) -> str:
    """Path of an edge: straight on in the row of its source, then across in the gap before its target."""
    bend, middle = target.x - GAP, target.x - GAP / 2
    start, end = n(source.middle), n(target.middle)
    across = f"{n(middle)} {start} {n(middle)} {end} {n(target.x)} {end}"
    return f"M{n(source.right)} {start}H{n(max(bend, source.right))}C{across}"


def _box(box: Box, *, shade: bool) -> list[str]:
    block = box.block
    colour = thread_colour(block.call.thread)
    stroke, weight = (INK, 1.8) if block.critical else (LIGHT, 1.2)
    faults = f'<tspan dx="8" fill="{FAULT}">{escape(block.faults)}</tspan>' if block.faults else ""
    parts = [
        f'<rect x="{n(box.x)}" y="{n(box.y)}" width="{n(box.width)}" height="{n(box.height)}" rx="4" '
        f'fill="#FFFFFF" stroke="{stroke}" stroke-width="{weight}"/>',
        f'<text class="braid-sans" x="{n(box.x + PAD)}" y="{n(box.y + CAPTION - 3)}" fill="{colour}">'
        f"{escape(printable(block.caption))}{faults}</text>",
    ]
    for row, line in enumerate(box.lines):
        parts.extend(_line(line, box.x + PAD, box.y + CAPTION + LINE * (row + 1) - 3, shade=shade))
    return parts


def _line(line: Sequence[Piece], x: float, baseline: float, *, shade: bool) -> list[str]:
    """One row of text. Runs that look alike share an element, which is placed by its column."""
    column = 0
    placed: list[tuple[Piece, int, str]] = []
    for index, piece in enumerate(line):
        text = (" " if piece.gap and index else "") + piece.text
        placed.append((piece, column, text))
        column += text_columns(text)
    marks, runs = [], []
    for (css, fill, opacity, answer), group in groupby(placed, key=lambda item: _looks(item[0], shade)):
        members = list(group)
        start = members[0][1]
        text = "".join(text for _, _, text in members)
        bare = text.lstrip(" ")
        start += len(text) - len(bare)
        if answer:
            marks.append(
                f'<rect x="{n(x + CHARACTER * start - 2)}" y="{n(baseline - 10)}" '
                f'width="{n(CHARACTER * text_columns(bare) + 4)}" height="{LINE - 1}" rx="2" fill="{MARK}"/>'
            )
        faded = f' fill-opacity="{opacity:g}"' if opacity < 1 else ""
        css_class = f' class="{css}"' if css else ""
        runs.append(
            f'<tspan{css_class} x="{n(x + CHARACTER * start)}" fill="{fill}"{faded}>{escape(bare)}</tspan>'
        )
    return [*marks, f'<text y="{n(baseline)}">{"".join(runs)}</text>']


def _looks(piece: Piece, shade: bool) -> tuple[str, str, float, bool]:
    """(css class, colour, opacity, marked as answer) of a token."""
    if piece.origin is Origin.FORCED:
        return "", GREY, 1.0, False
    if piece.origin is Origin.COPIED:
        return "braid-copied", thread_colour(piece.thread), 0.75, False
    opacity = 1.0
    if shade and piece.logprob is not None and not piece.answer:
        # Five shades: more cannot be distinguished, and runs stay long.
        opacity = 0.5 + 0.125 * round(4 * 2.718281828 ** min(0.0, piece.logprob))
    return "braid-answer" if piece.answer else "", thread_colour(piece.thread), opacity, piece.answer


LEGEND_WORDS = (
    ("forced", f'fill="{GREY}"'),
    ("copied from another call", f'class="braid-copied" fill="{ROOT_COLOUR}" fill-opacity="0.75"'),
    ("sampled (paler: less probable)", f'fill="{ROOT_COLOUR}"'),
    ("answer", f'class="braid-answer" fill="{ROOT_COLOUR}"'),
    ("dark outline: critical path", f'fill="{INK}"'),
)
"""Words of the legend, each with its SVG attributes."""


def _legend_width() -> float:
    return CHARACTER * (sum(len(text) + 3 for text, _ in LEGEND_WORDS) - 3)


def _legend(y: float) -> list[str]:
    parts, x = [], float(MARGIN)
    for text, looks in LEGEND_WORDS:
        if text == "answer":
            parts.append(
                f'<rect x="{n(x - 2)}" y="{n(y - 10)}" width="{n(CHARACTER * len(text) + 4)}" '
                f'height="{LINE - 1}" rx="2" fill="{MARK}"/>'
            )
        parts.append(f'<text x="{n(x)}" y="{n(y)}"><tspan {looks}>{escape(text)}</tspan></text>')
        x += CHARACTER * (len(text) + 3)
    return parts

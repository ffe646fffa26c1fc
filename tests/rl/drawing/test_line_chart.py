"""Charts: where points lie, worked out by hand."""

import xml.etree.ElementTree as ElementTree

from rl.drawing.line_chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, render_lines

SVG = "{http://www.w3.org/2000/svg}"


def paths(svg: str, colour: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [p.get("d", "") for p in root.iter(f"{SVG}path") if colour in (p.get("stroke"), p.get("fill"))]


def test_a_line_spans_the_axes() -> None:
    line = Line(label="reward", colour="#000001", points=((0, 0.0), (5, 1.0), (10, 2.0)))
    svg = render_lines([line], title="Reward")
    middle = f"{(LEFT + WIDTH - RIGHT) // 2} {(TOP + HEIGHT - BOTTOM) // 2}"
    assert paths(svg, "#000001") == [f"M{LEFT} {HEIGHT - BOTTOM}L{middle}L{WIDTH - RIGHT} {TOP}"]
    assert ElementTree.fromstring(svg).get("aria-label") == "Reward: reward from 0 to 2"


def test_bands_dots_and_hostile_labels() -> None:
    band = Line(
        label='"><script>', colour="#000001", points=((0, 1.0), (1, 2.0)), band=((0.5, 1.5), (1.0, 3.0))
    )
    dot = Line(label="dot", colour="#000002", points=((1, 1.0),))
    svg = render_lines([band, dot], title="\x1b[2J")
    assert len(paths(svg, "#000001")) == 2
    root = ElementTree.fromstring(svg)
    assert len(list(root.iter(f"{SVG}circle"))) == 1
    assert root.get("aria-label") == '\\x1b[2J: "><script> from 1 to 2; dot from 1 to 1'


def test_flat_and_empty() -> None:
    flat = Line(label="flat", colour="#000001", points=((1, 3.0), (2, 3.0)))
    height = (TOP + HEIGHT - BOTTOM) // 2
    assert paths(render_lines([flat], title="t"), "#000001") == [f"M{LEFT} {height}L{WIDTH - RIGHT} {height}"]
    assert "no values" in render_lines([], title="t")

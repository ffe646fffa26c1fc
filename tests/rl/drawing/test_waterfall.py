"""The waterfall of an episode: places worked out by hand."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace

import pytest
from episodes import call, episode

from data.episodes.trajectory import Episode, StopReason, VersionSpan, Violation, ViolationKind
from rl.drawing.layout import blocks
from rl.drawing.waterfall import GUTTER, MARGIN, ROW, WIDTH, Clock, StepMark, render_waterfall, step_colour

SVG = "{http://www.w3.org/2000/svg}"


def decode(ids: Sequence[int]) -> str:
    return " ".join(f"<b>{index}</b>" for index in ids)


def forked(stop: StopReason = StopReason.STOP) -> Episode:
    """A root of 10 tokens, children of 30 and 60, and 30 more: 100 on the critical path, 1 s a call."""
    calls = [
        call(0, 0, 10),
        call(1, 1, 30, after=(0,), stop=stop),
        call(2, 2, 60, after=(0,)),
        call(3, 0, 30, after=(1, 2)),
    ]
    starts = (0.0, 1.0, 1.0, 3.0)
    return episode(
        [
            replace(
                made,
                started_s=start,
                finished_s=start + 1,
                logprobs=(-0.1, -4.0, *(-0.1,) * (len(made.output) - 2)),
                versions=(VersionSpan(version=0, start=0, stop=len(made.output)),),
            )
            for made, start in zip(calls, starts, strict=True)
        ]
    )


def bars(svg: str) -> list[dict[str, float]]:
    """Place of each bar: as a share of the axis, and its row."""
    root, room = ElementTree.fromstring(svg), WIDTH - GUTTER - MARGIN
    found = [rect for rect in root.iter(f"{SVG}rect") if rect.get("height") == "14"]
    return [
        {
            "left": (float(rect.get("x", 0)) - GUTTER) / room,
            "right": (float(rect.get("x", 0)) + float(rect.get("width", 0)) - GUTTER) / room,
            "row": float(rect.get("y", 0)) // ROW,
        }
        for rect in found
    ]


@pytest.mark.parametrize(
    ("clock", "places"),
    [
        (Clock.TOKENS, [(0, 0.1), (0.1, 0.4), (0.1, 0.7), (0.7, 1)]),
        (Clock.SECONDS, [(0, 0.25), (0.25, 0.5), (0.25, 0.5), (0.75, 1)]),
    ],
)
def test_places_on_both_clocks(clock: Clock, places: list[tuple[float, float]]) -> None:
    found = bars(render_waterfall(blocks(forked(), decode), clock, title="t"))
    assert [(bar["left"], bar["right"]) for bar in found] == [
        pytest.approx(place, abs=1e-3) for place in places
    ]
    assert [bar["row"] for bar in found] == [0, 1, 2, 0]


def test_marks_on_the_bars() -> None:
    svg = render_waterfall(
        blocks(forked(StopReason.ABORT), decode),
        Clock.TOKENS,
        title="<script>",
        steps=[StepMark(call=2, start=0, stop=30, value=0.0)],
        violations=[Violation(kind=ViolationKind.CYCLE, call=1, position=15, detail="\x1b[31m & more")],
    )
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == "<script>, by tokens"
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert "cycle: \\x1b[31m & more" in titles and "step 0-30 of call 2: 0" in titles
    (step,) = [rect for rect in root.iter(f"{SVG}rect") if rect.get("height") == "4"]
    assert step.get("fill") == step_colour(0) == "#BE1E2D"
    # Half of a call of 60% of the axis.
    assert float(step.get("width", 0)) == pytest.approx(0.3 * (WIDTH - GUTTER - MARGIN) - 1, abs=0.1)
    dashed = [rect for rect in root.iter(f"{SVG}rect") if rect.get("stroke-dasharray")]
    assert len(dashed) == 1  # the cancelled child
    ticks = [path.get("d", "") for path in root.iter(f"{SVG}path") if "v" in path.get("d", "")]
    assert len(ticks) == 4 and all(path.count("M") == 1 for path in ticks)  # one improbable token a call


def test_step_colours() -> None:
    assert step_colour(1) == "#107C41" == step_colour(3)
    assert step_colour(0.5) == "#D89614"


def test_an_episode_without_calls() -> None:
    assert bars(render_waterfall([], Clock.SECONDS, title="none")) == []

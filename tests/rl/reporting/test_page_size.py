"""What a report leaves out so that it can be sent: large episodes, and the text of many calls."""

from pathlib import Path

import pytest
from recorded_lab import whole_run

from data.episodes.trajectory import Call, StopReason
from rl.drawing.layout import Block, Origin, Piece
from rl.reporting import call_texts as texts
from rl.reporting import render
from rl.reporting.call_texts import call_texts
from rl.reporting.gather import gather_run
from rl.reporting.page_size import within_bytes


@pytest.mark.parametrize(
    ("sizes", "most", "shown"),
    [
        ((5, 1, 9, 5), 11, [True, True, False, True]),
        ((5, 1, 9, 5), 10, [True, True, False, False]),
        ((5, 5), 4, [False, False]),
        ((), 4, []),
        ((3, 2, 1), 6, [True, True, True]),
    ],
)
def test_the_smallest_come_first(sizes: tuple[int, ...], most: int, shown: list[bool]) -> None:
    assert within_bytes(sizes, most) == shown


def block(index: int, size: int, *, critical: bool) -> Block:
    call = Call(
        index=index, thread=index, role="solo", context=(), output=(), logprobs=(), versions=(),
        stop=StopReason.STOP, after=(), num_trained=0,
    )  # fmt: skip
    pieces = (Piece(text="x", gap=True, origin=Origin.SAMPLED, thread=index, logprob=-0.1),) * size
    return Block(
        call=call, start=0, stop=size, lane=0, critical=critical, caption="", faults="", pieces=pieces
    )


def test_calls_on_the_critical_path_have_their_text_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MOST_OF_EPISODE", 1_000)
    blocks = [
        block(0, 500, critical=False), block(1, 900, critical=True), block(2, 300, critical=False),
        block(3, 100, critical=False), block(4, 200, critical=True),
    ]  # fmt: skip
    found = call_texts(blocks)
    assert [each.call.index for each, _ in found] == [0, 1, 2, 3, 4], "their order stays"
    # 600 of call 1 and 200 of call 4 leave 200: too few for calls 0 and 2, enough for call 3.
    assert [runs is not None for _, runs in found] == [False, True, False, True, True]


def test_a_page_without_room_has_headlines_and_says_how_to_see_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [gather_run(whole_run(tmp_path), "mine")]
    whole = render.render_report(runs)
    assert "Left out, so that" not in whole and whole.count("by tokens") > 5
    monkeypatch.setattr(render, "EPISODES_BYTES", 0)
    page = render.render_report(runs)
    assert page.count("by tokens") == 0
    assert page.count("Left out, so that this page stays small") == whole.count("by tokens")
    best = runs[0].stages[1].told[0]
    assert f"best: episode {best.shown.episode.id} of record/step-000001" in page
    assert f"braid show RUN --episode {best.shown.episode.id} --in rl/record/step-000001" in page
    monkeypatch.setattr(render, "EPISODES_BYTES", len(whole) // 4)
    some = render.render_report(runs)
    assert 0 < some.count("by tokens") < whole.count("by tokens")

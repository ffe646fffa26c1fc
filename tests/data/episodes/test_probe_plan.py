"""Places of probes, by hand, and what an episode with probes must be."""

from dataclasses import replace

import pytest
from episodes import call, episode

from data.episodes.probe_plan import Place, Places, ProbePlan, Thought, block_ends, probe_places
from data.episodes.topology import probe_tokens, total_tokens
from data.episodes.trajectory import Forced, Probe, Ref
from data.episodes.wire import decode_episode, encode_episode
from data.errors import TrajectoryError

FORKED = [Thought(call=0, tokens=12, joined=False), Thought(call=3, tokens=5, joined=True)]


def plan(places: Places = "blocks", *, block_tokens: int = 8, most_blocks: int = 8) -> ProbePlan:
    return ProbePlan(
        answers=2, answer_tokens=4, places=places, block_tokens=block_tokens, most_blocks=most_blocks
    )


@pytest.mark.parametrize(
    ("places", "found"),
    [
        ("blocks", [(0, 0), (0, 8), (0, 12), (3, 0), (3, 5)]),
        ("joins", [(0, 12), (3, 0)]),
        ("ends", [(0, 0), (3, 5)]),
    ],
)
def test_the_places_of_the_example(places: Places, found: list[Place]) -> None:
    assert probe_places(FORKED, plan(places)) == found


def test_a_root_that_thinks_nothing_before_or_behind_a_fork() -> None:
    silent = [replace(thought, tokens=0) for thought in FORKED]
    assert probe_places(silent, plan()) == [(0, 0), (3, 0)]
    assert probe_places(silent, plan("joins")) == [(0, 0), (3, 0)]
    assert probe_places(silent[:1], plan("ends")) == [(0, 0)] and probe_places([], plan("ends")) == []
    # Two joins: the value behind the first results is not asked for again before the second.
    twice = [*FORKED, Thought(call=6, tokens=0, joined=True)]
    assert probe_places(twice, plan("joins")) == [(0, 12), (3, 0), (3, 5), (6, 0)]
    # A call that goes on without results begins where the one before it has ended.
    on = [FORKED[0], Thought(call=1, tokens=3, joined=False)]
    assert probe_places(on, plan()) == [(0, 0), (0, 8), (0, 12), (1, 3)]


def test_a_longer_thought_has_longer_blocks() -> None:
    assert block_ends(20, plan(block_tokens=4)) == [4, 8, 12, 16, 20]
    assert block_ends(20, plan(block_tokens=4, most_blocks=2)) == [12, 20]
    assert block_ends(20, plan(block_tokens=4, most_blocks=1)) == [20]
    assert block_ends(0, plan()) == []


def test_probes_are_recorded_and_counted_apart() -> None:
    probe = Probe(
        call=replace(
            call(1, 0, (7, 8)), role="probe", num_trained=0, logprobs=(),
            context=(Forced(ids=(3,)), Ref(call=0, start=0, stop=2)),
        ),
        of=0, stop=2, answer=(7,),
    )  # fmt: skip
    whole = replace(episode([call(0, 0, 5)]), probes=(probe,))
    assert (total_tokens(whole), probe_tokens(whole)) == (5, 2)
    assert decode_episode(encode_episode(whole)) == whole
    assert "probes" not in encode_episode(episode([call(0, 0, 5)]))
    for broken in (
        replace(probe, of=1), replace(probe, stop=6), replace(probe, call=replace(probe.call, index=2)),
        replace(probe, call=replace(probe.call, num_trained=1)),
        replace(probe, call=replace(probe.call, context=(Ref(call=1, start=0, stop=1),))),
    ):  # fmt: skip
        with pytest.raises(TrajectoryError, match="probe 0"):
            replace(whole, probes=(broken,))

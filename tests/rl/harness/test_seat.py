"""SEAT's threshold on recorded rounds: what each came to, and what a stop would have cost."""

import pytest
from protocol_lab import build, drive, ids, scripted

from rl.evaluation.eflops import ClockedCall
from rl.evaluation.strategies.entropy_threshold import Round
from rl.evaluation.strategies.sample import Sample
from rl.harness.seat import calibrated, votes_of
from rollout.protocols.rounds import Rounds


def test_rounds_are_read_from_a_recorded_episode() -> None:
    lines = {
        ((0,), 0): "1 <answer> 5 <eos>",
        ((1,), 0): "<giveup> <eos>",
        ((2,), 0): "1 1 <answer> 5 <eos>",
        ((3,), 0): "<answer> 6 <eos>",
    }
    protocol = build("rounds", widths=(2, 2), final="vote")
    assert isinstance(protocol, Rounds)
    first, second = votes_of(protocol, drive(protocol, scripted(lines)))
    assert first == ([ids("5"), None], [ids("5"), None], 4)
    # The second round begins when the first has ended, at tick 4.
    assert second == ([ids("5"), ids("6")], [ids("5"), ids("6")], 4 + 5)


def test_a_stop_saves_the_rounds_behind_it() -> None:
    def recorded(*rounds: Round) -> list[tuple[Sample, list[Round]]]:
        calls = tuple(ClockedCall(context=(1,), begin=10 * n, length=10) for n in range(len(rounds)))
        sample = Sample(answer="5", correct=rounds[-1].correct, calls=calls, seconds=4.0, mean_logprob=None)
        return [(sample, list(rounds))]

    agreed = recorded(Round(entropy=0.0, correct=True, end=10), Round(entropy=0.0, correct=True, end=20))
    late = recorded(Round(entropy=0.7, correct=False, end=10), Round(entropy=0.0, correct=True, end=20))
    found = calibrated("x", {"a": agreed, "b": agreed, "c": late, "d": late}, None)
    # At 0.7 the late ones would be wrong, so the threshold is 0: the agreed stop after round one.
    assert found.correct.tolist() == [1, 1, 1, 1]
    assert found.costs["total_tokens"].tolist() == [10, 10, 20, 20]
    assert found.costs["critical_seconds"].tolist() == pytest.approx([2, 2, 4, 4])

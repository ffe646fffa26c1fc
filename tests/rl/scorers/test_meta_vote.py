"""Which judgements vote, by the scores of a model that judges them."""

import pytest

from rewards.score import Opinion, StepScore
from rl.scorers.meta_vote import kept, meta_score


@pytest.mark.parametrize(
    ("scores", "keep", "found"),
    [
        ([0.2, 0.9, 0.5, 0.7], 2, [1, 3]),
        ([0.5, 0.5, 0.5], 1, [0]),
        ([None, 0.0, None, 0.1], 3, [0, 1, 3]),
        ([None, None], 1, [0]),
    ],
)
def test_the_best_are_kept_in_their_order(scores: list[float | None], keep: int, found: list[int]) -> None:
    assert kept(range(len(scores)), scores, keep) == found


@pytest.mark.parametrize(("values", "score"), [((0.5,), 0.5), ((0.2, 0.4), 0.3), ((), None)])
def test_the_score_of_a_judgement(values: tuple[float, ...], score: float | None) -> None:
    opinion = tuple(StepScore(call=0, start=0, stop=1, value=value) for value in values)
    assert meta_score(opinion) == (score if score is None else pytest.approx(score))


def test_no_opinion_is_no_score() -> None:
    reason: Opinion = "its process died"
    assert meta_score(reason) is None

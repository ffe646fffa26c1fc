"""Terms that grade the episodes of a problem together."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from episodes import call, episode

from data.episodes.trajectory import Episode, Forced, ThreadOutcome
from data.errors import ConfigError
from data.tasks.countdown import Countdown
from data.tasks.problem import Problem
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rewards.compose import TERMS, compose
from rewards.score import Judged, Score, Ungraded
from rewards.terms.correct import CorrectParams
from rewards.terms.format import FormatParams

TASK = Countdown()
CODEC = Codec(build_tokenizer(TASK.words(), numbers=99, digits=False))
PROBLEM = Problem("p", "countdown", {"numbers": [10, 9, 4, 2], "target": 44})
RIGHT, WRONG = "9 * 4 10 - 2 36 + 8", "9 * 4 10 - 2 36 - 8"


def written(length: int, answer: str, outcome: ThreadOutcome = ThreadOutcome.RETURNED) -> Episode:
    """One call of so many tokens."""
    return episode((call(0, 0, length),), outcomes={0: outcome}, answer=(Forced(ids=CODEC.encode(answer)),))


class RankTerm:
    """The share of the other episodes that are longer."""

    def __init__(self, params: Any) -> None:
        self.groups: list[int] = []

    async def score_group(self, judged: Sequence[Judged]) -> Sequence[Score]:
        await asyncio.sleep(0)
        sizes = [len(each.episode.calls[0].output) for each in judged]
        self.groups.append(len(sizes))
        if max(sizes) > 99:
            raise ConfigError("one is too long to compare")
        if max(sizes) > 49:
            return []
        return [Score(value=sum(size < other for other in sizes) / (len(sizes) - 1)) for size in sizes]


@pytest.fixture
def term(monkeypatch: pytest.MonkeyPatch) -> RankTerm:
    """Stands under the name `format`."""
    made = RankTerm(None)
    monkeypatch.setitem(TERMS, "format", lambda params: made)
    return made


def graded(*episodes: Episode, first: int = 0) -> list[Score]:
    """By the answer (1 or -0.5), and twice by the rank among the others."""
    reward = compose([CorrectParams(name="correct"), FormatParams(name="format", weight=2.0)], TASK, CODEC)
    return list(reward.group(PROBLEM, episodes, first=first))


def test_it_sees_all_episodes_that_ended_at_once(term: RankTerm) -> None:
    """20, 10 and 20 tokens: only the second has longer ones beside it, both of them."""
    failed = written(5, RIGHT, ThreadOutcome.FAILED)
    scores = graded(written(20, RIGHT), written(10, WRONG), failed, written(20, WRONG))
    assert term.groups == [3]
    assert [score.value for score in scores] == [1.0, -0.5 + 2.0, None, -0.5]
    assert scores[1].components == {"correct": -0.5, "format": 2.0}
    assert scores[2].ungraded is Ungraded.EPISODE


def test_it_sees_the_first_ones_again_where_a_group_goes_on(term: RankTerm) -> None:
    """10, 20 and 10 tokens; the first has its score already. The third has one longer beside it, of two."""
    scores = graded(written(10, RIGHT), written(20, RIGHT), written(10, WRONG), first=1)
    assert term.groups == [3] and [score.value for score in scores] == [1.0, -0.5 + 2.0 * 0.5]


def test_it_is_not_asked_about_nothing(term: RankTerm) -> None:
    failed = written(5, RIGHT, ThreadOutcome.FAILED)
    assert [score.ungraded for score in graded(failed, failed)] == [Ungraded.EPISODE] * 2
    assert term.groups == []


@pytest.mark.parametrize(
    ("length", "reason"), [(100, "one is too long to compare"), (50, "gave 0 scores for 2 episodes")]
)
def test_where_it_cannot_grade_every_episode_says_so(term: RankTerm, length: int, reason: str) -> None:
    scores = graded(written(length, RIGHT), written(10, WRONG))
    assert [(score.value, score.failed_terms) for score in scores] == [(None, ("format",))] * 2
    assert all(f"format: {reason}" in score.reason for score in scores)

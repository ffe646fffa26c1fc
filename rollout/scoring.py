"""The seam between episodes and a scorer: who runs an episode is given one, or none.

In a run the scorer is an actor (`rl.runtime.scorer_desk`), behind it a pool of reward models; in one process
it is any object with this method (`rl.scorers.local`).
"""

import math
from dataclasses import dataclass
from typing import Protocol

from data.tasks.problem import Problem
from rollout.commands import ScoredText

TextScores = tuple[tuple[float, ...], ...]
"""For each text the scores of its steps, 0 (wrong) to 1 (right), at least one each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRequest:
    """What a scorer is asked: how good texts about one problem are."""

    problem: Problem | None
    """The problem, for a scorer that knows right from wrong by it; a reward model reads the texts alone."""
    texts: tuple[ScoredText, ...]


class Scorer(Protocol):
    """Whoever says how good texts are."""

    async def score(self, request: ScoreRequest) -> TextScores | str:
        """The scores of all texts, or why there are none; the thread that asked then ends as FAILED.

        Raises RewardError when it can score nothing any more, which ends the run.
        """
        ...


class ConstantScorer:
    """A scorer that finds every text equally good: what a search costs without any guidance."""

    def __init__(self, score: float = 0.5) -> None:
        assert 0.0 <= score <= 1.0
        self._score = score

    async def score(self, request: ScoreRequest) -> TextScores | str:
        """The same score for every text."""
        return ((self._score,),) * len(request.texts)


def fault(request: ScoreRequest, scores: TextScores) -> str:
    """What is wrong with a scorer's answer; "" when nothing is."""
    if len(scores) != len(request.texts):
        return f"the scorer scored {len(scores)} of {len(request.texts)} texts"
    values = [value for each in scores for value in each]
    if not all(scores) or not all(math.isfinite(value) and 0.0 <= value <= 1.0 for value in values):
        return "the scorer gave a text no score, or one outside 0 to 1"
    return ""

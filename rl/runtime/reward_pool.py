"""Pools of reward workers and of scorers.

    controller -- score(group) --> scorers, where a term takes their opinion --> reward workers --> controller

An episode that a scorer cannot score has no opinion, and the terms that take it cannot grade it. An episode
that cannot be graded is ungraded, which is not a reward of 0.
"""

from collections.abc import Callable, Sequence
from typing import Any

from data.episodes.trajectory import Episode
from data.tasks.problem import Problem
from rewards.score import Opinion, Score
from rl.runtime.worker_pool import Trade, WorkerPool

Report = Callable[[str, str], None]
"""(kind, message) of a fault that the run survives."""
REWARDS: Trade[Score] = Trade(
    name="reward",
    failed=lambda reason, kind: Score(value=None, reason=reason, ungraded=kind),
    is_good=lambda score: score.value is not None,
    remedy="for a slow start raise reward_start_seconds",
)
SCORERS: Trade[Opinion] = Trade(
    name="scorer",
    failed=lambda reason, kind: reason,
    is_good=lambda opinion: not isinstance(opinion, str),
    remedy="for a slow start raise scorer.start_seconds",
    portions="score_portions",
    ahead=8,
    waiting=1,
)


class RewardPool(WorkerPool[Score]):
    """Scores groups on reward workers, after the scorers where there are any."""

    def __init__(
        self,
        start: Callable[[], Any],
        *,
        workers: int,
        seconds: float,
        start_seconds: float,
        report: Report = lambda kind, what: None,
        scorers: WorkerPool[Opinion] | None = None,
    ) -> None:
        """As `WorkerPool`, of actors of `rewards.actor.RewardWorker`."""
        super().__init__(
            REWARDS, start, workers=workers, seconds=seconds, start_seconds=start_seconds, report=report
        )
        self._scorers = scorers

    async def score(self, problem: Problem, episodes: Sequence[Episode], reference: Any) -> list[Score]:
        """[G] the score of each episode, in order; `reference`: the same group in Ray's object store.

        Raises RewardError when workers die again and again.
        """
        if self._scorers is None:
            return await self.results(problem, episodes, reference)
        self._scorers.report = self.report
        opinions = await self._scorers.results(problem, episodes, reference)
        return await self.results(problem, episodes, reference, opinions)

    def close(self) -> None:
        """End all workers and scorers."""
        super().close()
        if self._scorers is not None:
            self._scorers.close()

"""Scores from a process of their own, which may die, raise or hang. What it cannot score is ungraded, which
is not a reward of 0.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from data.problem import Problem
from data.trajectory import Episode
from rewards.score import Score

_TRIES = 2
"""For one episode: the first death of a worker may have been another episode's doing, or nobody's."""


class RewardDesk:
    """Takes groups to a reward worker, and starts another when that one is gone."""

    def __init__(
        self, start: Callable[[], Any], *, seconds: float, report: Callable[[str, str], None]
    ) -> None:
        """`start` makes an actor (see `rewards.actor`); `seconds`: the longest that scoring may take."""
        self._start, self._seconds, self._report = start, seconds, report
        self._actor = start()

    async def score(self, problem: Problem, episodes: Sequence[Episode], reference: Any) -> list[Score]:
        """[G] one score an episode. `reference` is theirs in the object store.

        Where the group cannot be scored as one, its episodes are, one by one, so that a single bad one does
        not spoil the others.
        """
        scores = await self._ask(problem, reference)
        if isinstance(scores, list):
            return scores
        return [await self._score_one(problem, ray.put([episode])) for episode in episodes]

    def close(self) -> None:
        """Ends the worker."""
        ray.kill(self._actor)

    async def _score_one(self, problem: Problem, reference: Any) -> Score:
        reason = ""
        for _ in range(_TRIES):
            scores = await self._ask(problem, reference)
            if isinstance(scores, list):
                return scores[0]
            reason = scores
        return Score(value=None, reason=reason)

    async def _ask(self, problem: Problem, episodes: Any) -> list[Score] | str:
        """The scores, or why there are none."""
        actor = self._actor
        try:
            answer = actor.score_group.remote(problem, episodes)
            scores: list[Score] = await asyncio.wait_for(answer, self._seconds)
            return scores
        except TimeoutError:
            return self._replace(actor, f"no answer within {self._seconds:g} s")
        except RayActorError:
            return self._replace(actor, "its process died")
        except ObjectLostError:
            return "the node that held the episodes is gone"
        except RayTaskError as error:
            what = f"raised {error.cause!r}"
            self._report("reward", f"scoring of {problem.id} {what}")
            return what

    def _replace(self, failed: Any, what: str) -> str:
        if self._actor is failed:
            self._report("reward", f"the reward worker is replaced: {what}")
            ray.kill(failed)
            self._actor = self._start()
        return what

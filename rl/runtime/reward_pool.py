"""Scores from processes of their own, which may die, raise or hang. What it cannot score is ungraded, which
is not a reward of 0.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from data.episodes.trajectory import Episode
from data.tasks.problem import Problem
from rewards.score import Score

_TRIES = 2
"""For one episode: the first death of a worker may have been another episode's doing, or nobody's."""


class RewardPool:
    """Takes groups to reward workers, one at a time to each, and starts another when one is gone."""

    def __init__(
        self,
        start: Callable[[], Any],
        *,
        workers: int,
        seconds: float,
        report: Callable[[str, str], None] = lambda kind, what: None,
    ) -> None:
        """`start` makes an actor (see `rewards.actor`); `seconds`: the longest that scoring a group may take,
        from when a worker has it.
        """
        self._start, self._seconds = start, seconds
        self.report = report
        """(kind, what): told of every fault."""
        self._actors = {start() for _ in range(workers)}
        self._free: asyncio.Queue[Any] = asyncio.Queue()
        for actor in self._actors:
            self._free.put_nowait(actor)

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
        """Ends the workers."""
        for actor in self._actors:
            ray.kill(actor)

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
        actor = await self._free.get()
        try:
            answer = actor.score_group.remote(problem, episodes)
            scores: list[Score] = await asyncio.wait_for(answer, self._seconds)
            return scores
        except TimeoutError:
            what = f"no answer within {self._seconds:g} s"
            actor = self._replace(actor, what)
        except RayActorError:
            what = "its process died"
            actor = self._replace(actor, what)
        except ObjectLostError:
            what = "the node that held the episodes is gone"
        except RayTaskError as error:
            what = f"raised {error.cause!r}"
            self.report("reward", f"scoring of {problem.id} {what}")
        finally:
            self._free.put_nowait(actor)
        return what

    def _replace(self, failed: Any, what: str) -> Any:
        self.report("reward", f"a reward worker is replaced: {what}")
        ray.kill(failed)
        self._actors.remove(failed)
        actor = self._start()
        self._actors.add(actor)
        return actor

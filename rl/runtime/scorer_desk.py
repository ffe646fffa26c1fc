"""The desk between episodes and scorers: an actor that engines ask while episodes run.

    engine 0 --\\
                >-- score(request) --> desk -- one request after the other --> scorer workers
    engine 1 --/

Behind it stands a pool like the reward workers': a scorer that dies, hangs or is late is replaced, and its
request is tried once more. When the desk itself dies, Ray starts it anew and sends it the open requests
again.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError

from data.errors import ConfigError, RewardError
from rl.config.scorer import ScorerConfig
from rl.runtime.worker_pool import Trade, WorkerPool
from rollout.scoring import ScoreRequest, TextScores

_AGAIN_S = 1.0
"""Seconds until a desk that has died is asked for faults again."""
TEXT_SCORERS: Trade[TextScores | str] = Trade(
    name="scorer",
    failed=lambda reason, kind: reason,
    is_good=lambda scores: not isinstance(scores, str),
    remedy="for a slow start raise scorer.start_seconds",
    method="score_texts",
)


class ScorerDesk:
    """Class of the actor, undecorated so that it is typed and can run in-process."""

    def __init__(self, start: Callable[[], Any], config: ScorerConfig) -> None:
        """`start`: makes an actor with `ready` and `score_texts` (`rl.scorers`)."""
        self._faults: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._pool = WorkerPool(
            TEXT_SCORERS,
            start,
            workers=config.workers,
            seconds=config.seconds,
            start_seconds=config.start_seconds,
            report=lambda kind, message: self._faults.put_nowait((kind, message)),
        )

    async def score(self, request: ScoreRequest) -> TextScores | str:
        """The scores of all texts, or why there are none. Raises RewardError when no scorer comes up."""
        if request.problem is None:
            return "the episode does not say which problem it is about"
        try:
            (scores,) = await self._pool.results(request.problem, [request], [request])
        except ConfigError as error:
            # Its weights do not fit: no other process would do better.
            raise RewardError(str(error)) from None
        return scores

    async def next_fault(self) -> tuple[str, str]:
        """Wait for (kind, message) of the next fault that the scorers survive."""
        return await self._faults.get()


ScorerDeskActor = ray.remote(ScorerDesk)
"""`ScorerDeskActor.options(...).remote(start, config)`; all methods share one event loop."""


class HostedDesk:
    """A desk in its process, as the driver holds it."""

    def __init__(
        self,
        start: Callable[[], Any],
        config: ScorerConfig,
        options: Mapping[str, Any],
        report: Callable[[str, str], None],
    ) -> None:
        """Arguments as for `ScorerDesk`. `options`: Ray options of its process; `report`: called with (kind,
        message) of every fault.
        """
        self.actor: Any = ScorerDeskActor.options(
            **options, max_restarts=-1, max_task_retries=-1, max_concurrency=1000
        ).remote(start, config)
        self._watching = asyncio.create_task(self._watch(report))

    def close(self, *, lost: bool = False) -> None:
        """End the desk and its scorers. `lost`: the cluster is gone, and they with it."""
        self._watching.cancel()
        if not lost:
            ray.kill(self.actor)

    async def _watch(self, report: Callable[[str, str], None]) -> None:
        while True:
            try:
                # Not asked again by Ray: it would report the desk's end as a task that failed.
                kind, message = await self.actor.next_fault.options(max_task_retries=0).remote()
            except RayError:
                # The desk is being started anew, or the cluster is gone, and `close` ends this.
                await asyncio.sleep(_AGAIN_S)
                continue
            report(kind, message)

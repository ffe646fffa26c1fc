"""Pool of training processes, kept from stage to stage: starting one takes seconds of imports."""

from collections.abc import Sequence
from typing import Any

import ray

from rl.runtime.placement import Placement
from rl.runtime.rank_worker import RankActor


class RankPool:
    """Lends actors to one stage at a time. Only a rank that was alone is kept: several have joined a process
    group, which they would have to leave as one.
    """

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._kept: Any = None

    def acquire(self, number: int) -> list[Any]:
        """-> actors in order of rank. If a kept actor has died meanwhile, its first call raises."""
        if number == 1 and self._kept is not None:
            actor, self._kept = self._kept, None
            return [actor]
        self.close()
        return [RankActor.options(**self._placement.rank(rank)).remote() for rank in range(number)]

    def release(self, actors: Sequence[Any]) -> None:
        """Call it after a stage that ended well. After a failure call `close_ranks` instead."""
        if len(actors) > 1:
            close_ranks(actors)
            return
        self.close()
        (self._kept,) = actors
        self._kept.release.remote()

    def close(self) -> None:
        """End the process that is kept."""
        if self._kept is not None:
            close_ranks([self._kept])
            self._kept = None


def close_ranks(actors: Sequence[Any]) -> None:
    """Kill all ranks at once: the others would wait forever for a lost one."""
    for actor in actors:
        ray.kill(actor)

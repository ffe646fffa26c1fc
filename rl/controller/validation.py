"""Validation beside the training: begun when weights are out, and ended before the next ones may come."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from rl.config.stages import RlStage
from rl.tracking.metrics import read_metrics

Measures = dict[str, float]


class Validation:
    """One at a time."""

    def __init__(self, measure: Callable[[], Awaitable[Measures]], found: Callable[[Measures], None]) -> None:
        """`found` hears the measures as soon as they are there."""
        self._measure, self._found = measure, found
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Of the weights that are out now."""
        assert self._task is None, "end() first"
        self._task = asyncio.create_task(self._run())

    async def end(self) -> float:
        """Returns when none is at work. -> seconds that took. Raises whatever the validation raised."""
        began = time.monotonic()
        if self._task is not None:
            task, self._task = self._task, None
            await task
        return time.monotonic() - began

    async def cancel(self) -> None:
        """Nobody waits for it any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        began = time.monotonic()
        measures = await self._measure()
        self._found(measures | {"time/validation_s": time.monotonic() - began})


def is_due(stage: RlStage, step: int) -> bool:
    """Whether the weights after so many steps are to be validated."""
    every = stage.validate_every
    return every > 0 and (step % every == 0 or step == stage.steps)


def is_known(metrics: Path, stage: str, step: int) -> bool:
    """Whether they have been, before the run was killed."""
    return any(row["step"] == step and "validation/accuracy" in row for row in read_metrics(metrics, stage))

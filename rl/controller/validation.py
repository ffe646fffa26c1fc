"""Validation during training: it starts after a weight sync and ends before the next one."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from data.tasks.problem import Problem
from rl.config.stages import RlStage
from rl.controller.rollouts import PromptOf, roll_out
from rl.controller.seams import EpisodeRunner, Rewards
from rl.evaluation.outcomes import Outcome, outcome_of
from rl.evaluation.summary import summarise
from rl.tracking.metrics import read_metrics
from rollout.protocols import AnyParams

Measures = dict[str, float]


class Validation:
    """Runs one validation at a time, as a background task."""

    def __init__(
        self, measure: Callable[[], Awaitable[Measures]], on_result: Callable[[Measures], None]
    ) -> None:
        """`on_result` is called with the metrics as soon as they are known."""
        self._measure, self._on_result = measure, on_result
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start validating the weights that the engines have now."""
        assert self._task is None, "wait() first"
        self._task = asyncio.create_task(self._run())

    async def wait(self) -> float:
        """Wait for the running validation, if there is one, and raise its error. -> seconds waited."""
        began = time.monotonic()
        if self._task is not None:
            task, self._task = self._task, None
            await task
        return time.monotonic() - began

    async def cancel(self) -> None:
        """Cancel the running validation, if there is one."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        began = time.monotonic()
        measures = await self._measure()
        self._on_result(measures | {"time/validation_s": time.monotonic() - began})


def is_due(stage: RlStage, step: int) -> bool:
    """Whether the weights after `step` steps are to be validated."""
    every = stage.validate_every
    return every > 0 and (step % every == 0 or step == stage.steps)


def is_known(metrics: Path, stage_name: str, step: int) -> bool:
    """Whether `metrics` already holds the validation of that step, from before a resume."""
    return any(
        row["step"] == step and "validation/accuracy" in row for row in read_metrics(metrics, stage_name)
    )


async def validation_metrics(
    engines: EpisodeRunner,
    rewards: Rewards,
    params: AnyParams,
    problems: Sequence[Problem],
    prompt_of: PromptOf,
    stage: RlStage,
    *,
    seed: int,
) -> Measures:
    """Roll out the validation problems at the training temperature. -> accuracy and cost."""
    outcomes: list[Outcome] = []
    await roll_out(
        engines,
        rewards,
        params,
        problems,
        prompt_of,
        samples=stage.validation_samples,
        temperature=stage.temperature,
        seed=seed,
        on_episode=lambda done: outcomes.append(
            outcome_of(done.episode, sample=done.sample, score=done.score)
        ),
    )
    measures = summarise(outcomes, critical_budgets=(), bootstrap_samples=100, seed=0)
    return {
        "validation/accuracy": measures.accuracy,
        "validation/critical_tokens": measures.critical_tokens,
        "validation/total_tokens": measures.total_tokens,
        "validation/threads": measures.threads,
    }

"""Roll out a set of problems on the engines and score them: validation and evaluation."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from data.episodes.trajectory import Episode
from data.tasks.problem import Problem
from rewards.score import Score
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec


class Engines(Protocol):
    """What runs groups of episodes: `rl.runtime.engine_pool.EnginePool`, or what stands in for it."""

    async def run_group(self, params: AnyParams, specs: Sequence[EpisodeSpec]) -> tuple[list[Episode], Any]:
        """-> (episodes, their object reference, for whoever scores them)."""


Encode = Callable[[Problem], tuple[int, ...]]
"""Prompt ids of a problem."""


def group_specs(
    problem: Problem, prompt: tuple[int, ...], *, group: int, samples: int, temperature: float, seed: int
) -> list[EpisodeSpec]:
    """The G episodes of one problem."""
    return [
        EpisodeSpec(
            group=group,
            sample=sample,
            problem=problem.id,
            prompt=prompt,
            temperature=temperature,
            run_seed=seed,
        )
        for sample in range(samples)
    ]


async def roll_out(
    engines: Engines,
    rewards: Any,
    params: AnyParams,
    problems: Sequence[Problem],
    encode: Encode,
    *,
    samples: int,
    temperature: float,
    seed: int,
    live_groups: int = 256,
    on_group: Callable[[], None] = lambda: None,
) -> list[tuple[Episode, Score]]:
    """Every problem `samples` times, in the order of the problems. `rewards` is a `RewardPool`."""
    room = asyncio.Semaphore(live_groups)

    async def one(group: int, problem: Problem) -> list[tuple[Episode, Score]]:
        async with room:
            specs = group_specs(
                problem, encode(problem), group=group, samples=samples, temperature=temperature, seed=seed
            )
            episodes, reference = await engines.run_group(params, specs)
            scores = await rewards.score(problem, episodes, reference)
            on_group()
            return list(zip(episodes, scores, strict=True))

    groups = await asyncio.gather(*(one(group, problem) for group, problem in enumerate(problems)))
    return [pair for group in groups for pair in group]

"""Roll out a set of problems on the engines and score them: validation and evaluation."""

import asyncio
from collections.abc import Callable, Sequence

from data.episodes.trajectory import Episode
from data.tasks.problem import Problem
from rewards.score import Score
from rl.controller.seams import EpisodeRunner, Rewards
from rl.scored_group import episode_id
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec
from rollout.seeds import episode_seed

Encode = Callable[[Problem], tuple[int, ...]]
"""Prompt ids of a problem."""


def group_specs(
    problem: Problem,
    prompt: tuple[int, ...],
    *,
    group_index: int,
    samples: int,
    temperature: float,
    seed: int,
) -> list[EpisodeSpec]:
    """[samples] specifications of the episodes of one group."""
    return [
        EpisodeSpec(
            id=episode_id(group_index, sample),
            problem_id=problem.id,
            prompt=prompt,
            temperature=temperature,
            seed=episode_seed(seed, group_index, sample),
        )
        for sample in range(samples)
    ]


async def roll_out(
    engines: EpisodeRunner,
    rewards: Rewards,
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
    """Roll out and score every problem `samples` times, with at most `live_groups` problems at once.

    `on_group` is called after each problem. -> (episode, score) pairs in the order of the problems.
    """
    room = asyncio.Semaphore(live_groups)

    async def one(group_index: int, problem: Problem) -> list[tuple[Episode, Score]]:
        async with room:
            specs = group_specs(
                problem,
                encode(problem),
                group_index=group_index,
                samples=samples,
                temperature=temperature,
                seed=seed,
            )
            episodes, reference = await engines.run_group(params, specs)
            scores = await rewards.score(problem, episodes, reference)
            on_group()
            return list(zip(episodes, scores, strict=True))

    groups = await asyncio.gather(*(one(index, problem) for index, problem in enumerate(problems)))
    return [pair for group in groups for pair in group]

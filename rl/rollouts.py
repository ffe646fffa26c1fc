"""Roll out a set of problems on the fleet and score them: validation and evaluation."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from data.problem import Problem
from data.trajectory import Episode
from rewards.score import Score
from rl.evaluation.outcomes import Outcome, outcome_of
from rollout.protocols import AnyParams
from rollout.runner import EpisodeTask


class Engines(Protocol):
    """What runs groups of episodes: `rl.fleet.Fleet`, or what stands in for it."""

    async def run_group(self, params: AnyParams, tasks: Sequence[EpisodeTask]) -> tuple[list[Episode], Any]:
        """-> (episodes, their object reference, for whoever scores them)."""


Encode = Callable[[Problem], tuple[int, ...]]
"""Prompt ids of a problem."""


def purpose_seed(seed: int, purpose: str) -> int:
    """A run seed of its own for each purpose, so that evaluation never replays training's random numbers."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=7).digest(), "big")


def group_tasks(
    problem: Problem, prompt: tuple[int, ...], *, group: int, samples: int, temperature: float, seed: int
) -> list[EpisodeTask]:
    """The G episodes of one problem."""
    return [
        EpisodeTask(
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
    fleet: Engines,
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
    """Every problem `samples` times, in the order of the problems. `rewards` is a `RewardDesk`."""
    room = asyncio.Semaphore(live_groups)

    async def one(group: int, problem: Problem) -> list[tuple[Episode, Score]]:
        async with room:
            tasks = group_tasks(
                problem, encode(problem), group=group, samples=samples, temperature=temperature, seed=seed
            )
            episodes, reference = await fleet.run_group(params, tasks)
            scores = await rewards.score(problem, episodes, reference)
            on_group()
            return list(zip(episodes, scores, strict=True))

    groups = await asyncio.gather(*(one(group, problem) for group, problem in enumerate(problems)))
    return [pair for group in groups for pair in group]


def outcomes_of(pairs: Sequence[tuple[Episode, Score]]) -> list[Outcome]:
    """What evaluation keeps of each episode."""
    return [
        outcome_of(episode, sample=int(episode.id.rsplit("/", 1)[1]), correct=score.correct)
        for episode, score in pairs
    ]

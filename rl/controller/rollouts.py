"""Validation and evaluation roll out a set of problems on the engines and score the episodes."""

import asyncio
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from data.episodes.probe_plan import ProbePlan
from data.episodes.trajectory import Episode
from data.tasks.problem import Problem
from data.text.prompt import Prompt
from rewards.score import Score
from rl.controller.seams import EpisodeRunner, Rewards
from rl.scored_group import episode_id
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec
from rollout.seeds import episode_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredEpisode:
    """One finished episode with its score."""

    sample: int
    """Index of the episode among the samples of its problem."""
    episode: Episode
    """The episode, with every token."""
    score: Score
    """Its score, without a value where it could not be graded."""


PromptOf = Callable[[Problem], Prompt]
"""The prompt of a problem."""


def group_specs(
    problem: Problem,
    prompt: Prompt,
    *,
    group_index: int,
    samples: int,
    temperature: float,
    seed: int,
    probes: ProbePlan | None = None,
) -> list[EpisodeSpec]:
    """[samples] specifications of the episodes of a group. `probes`: answers that are forced out of each."""
    return [
        EpisodeSpec(
            id=episode_id(group_index, sample),
            problem_id=problem.id,
            problem=problem,
            prompt=prompt,
            temperature=temperature,
            seed=episode_seed(seed, group_index, sample),
            probes=probes,
        )
        for sample in range(samples)
    ]


async def roll_out(
    engines: EpisodeRunner,
    rewards: Rewards,
    params: AnyParams,
    problems: Sequence[Problem],
    prompt_of: PromptOf,
    *,
    samples: int,
    temperature: float,
    seed: int,
    on_episode: Callable[[ScoredEpisode], None],
    probes: ProbePlan | None = None,
    skip: Container[tuple[str, int]] = (),
    live_episodes: int = 2048,
) -> None:
    """Roll out and score every problem `samples` times, except the (problem id, sample) pairs in `skip`.

    `on_episode` is called after each episode, in the order in which they finish. Seeds depend on the indices
    of problem and sample alone, so what is skipped changes no other episode. At most `live_episodes` run at
    once. Raises whatever the engines, the rewards or `on_episode` raise, after cancelling the other episodes.
    """
    room = asyncio.Semaphore(live_episodes)

    async def one(problem: Problem, sample: int, spec: EpisodeSpec) -> None:
        async with room:
            episodes, reference = await engines.run_group(params, [spec])
            (score,) = await rewards.score(problem, episodes, reference)
            on_episode(ScoredEpisode(sample=sample, episode=episodes[0], score=score))

    tasks = []
    for index, problem in enumerate(problems):
        specs = group_specs(
            problem,
            prompt_of(problem),
            group_index=index,
            samples=samples,
            temperature=temperature,
            seed=seed,
            probes=probes,
        )
        for sample, spec in enumerate(specs):
            if (problem.id, sample) not in skip:
                tasks.append(asyncio.create_task(one(problem, sample, spec)))
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

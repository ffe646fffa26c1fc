"""Engines, learner and rewards that take no time, to measure what the controller itself costs.

They implement the types of `rl.controller.seams`; controller, admission, publishing, ledger and checkpoints
are the real ones.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from data.checksum import file_checksum
from data.episodes.trajectory import Episode
from data.tasks.problem import Problem
from rewards.score import Score
from rl.controller.seams import EpisodesReference, Text
from rl.runtime.services import Factories, RunEngines, Site
from rl.scored_group import ScoredGroup, group_index_of
from rl.simulation.simulated import replayed
from rl.storage.checkpoints import Checkpoint, write_checkpoint
from rollout.engines.base import EngineRequest, EngineResult, PublishReport
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec


def free_sides(pool: Sequence[Sequence[Episode]], folder: Path, on_step: Callable[[int], None]) -> Factories:
    """Factories of a run whose groups are those of `pool`, in turns; `on_step` is called with the number of
    calls of every step. Weights are published in `folder`.
    """

    async def start_engines(site: Site) -> RunEngines:
        return FreeEngines(pool, folder)

    async def start_learner(site: Site, *arguments: object) -> FreeLearner:
        return FreeLearner(on_step)

    return Factories(engines=start_engines, learner=start_learner, rewards=lambda site, stage: FreeRewards())


class FreeEngines:
    """Engines that return prepared episodes at once."""

    def __init__(self, pool: Sequence[Sequence[Episode]], folder: Path) -> None:
        self._pool, self._folder, self._version = pool, folder, 0

    def new_file(self) -> Path:
        """Always the same path: no engine reads it."""
        return self._folder / "weights"

    def occupancy(self) -> dict[str, float]:
        """No metrics: there are no engines."""
        return {}

    async def run_group(
        self,
        params: AnyParams,
        specs: Sequence[EpisodeSpec],
        on_move: Callable[[str], None] = lambda engine: None,
    ) -> tuple[list[Episode], EpisodesReference]:
        """-> prepared episodes, as if sampled for these specs."""
        await asyncio.sleep(0)
        group = self._pool[group_index_of(specs[0].id) % len(self._pool)]
        return [replayed(one, spec, self._version) for one, spec in zip(group, specs, strict=True)], None

    async def publish(self, path: Path, version: int, checksum: str) -> list[PublishReport]:
        """The version is all that changes."""
        self._version = version
        return []

    async def canary(self, requests: Sequence[EngineRequest]) -> list[list[EngineResult]]:
        """No answers: there are no engines."""
        return []

    async def load(self, model_dir: Path, version: int) -> None:
        """The version is all that changes."""
        self._version = version

    def use_scorer(self, scorer: object | None) -> None:
        """No episode asks one: all have ended."""

    async def close(self) -> None:
        """There is nothing to end."""

    def abandon(self) -> None:
        """There is nothing to end."""


class FreeLearner:
    """A learner that trains nothing; `on_step` is called with the number of calls of every step."""

    def __init__(self, on_step: Callable[[int], None]) -> None:
        self._on_step = on_step

    async def step(self, step: int, groups: Sequence[ScoredGroup]) -> dict[str, float]:
        """Count the calls. -> no metrics."""
        self._on_step(sum(len(episode.calls) for group in groups for episode in group.episodes))
        return {}

    async def logprobs(self, texts: Sequence[Text], rounds: bool) -> list[list[float]]:
        """Zeros: no engine checks them."""
        return [[0.0] * len(output) for _, output in texts]

    async def publish(self, path: Path) -> str:
        """Write an empty file. -> its checksum."""
        path.touch()
        return file_checksum(path)

    async def checkpoint(self, checkpoint: Checkpoint) -> None:
        """A checkpoint with an empty file of weights."""
        write_checkpoint(checkpoint, lambda folder: (folder / "model.safetensors").touch())

    async def flush(self) -> None:
        """Every checkpoint is complete already."""

    async def load(self, directory: Path) -> None:
        """There is nothing to load."""

    def release(self) -> None:
        """There is no pool to return to."""

    def close(self) -> None:
        """There is nothing to end."""


class FreeRewards:
    """Scores that give every group signal: its first episode is the good one."""

    report: Callable[[str, str], None]

    def close(self) -> None:
        """There is nothing to end."""

    async def score(
        self, problem: Problem, episodes: Sequence[Episode], reference: EpisodesReference
    ) -> list[Score]:
        """[G] scores; the first episode gets 1."""
        return [
            Score(value=float(not index), components={"correct": float(not index)}, correct=not index)
            for index, _ in enumerate(episodes)
        ]

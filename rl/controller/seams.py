"""Protocol types of the engines, the learner and the reward workers, as the controller uses them.

    Engines   `rl.runtime.engine_pool.EnginePool`, or simulated engines
    Learner   `rl.runtime.learner_group.LearnerGroup`, or a simulated learner
    Rewards   `rl.runtime.reward_pool.RewardPool`

Arguments are positional, so that implementations choose their own names.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from data.episodes.trajectory import Episode
from data.tasks.problem import Problem
from rewards.score import Score
from rl.scored_group import ScoredGroup
from rl.storage.checkpoints import Checkpoint
from rollout.engines.base import EngineRequest, EngineResult, PublishReport
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec

Text = tuple[tuple[int, ...], tuple[int, ...]]
"""(context, output) of one call, as token ids."""
EpisodesReference = object
"""Handle of a group's episodes in the object store. The engines return it and the reward workers read it, so
that the episodes do not travel through the controller a second time.
"""


class EpisodeRunner(Protocol):
    """Engines as validation and evaluation use them: they run groups of episodes."""

    async def run_group(
        self, params: AnyParams, specs: Sequence[EpisodeSpec], /
    ) -> tuple[list[Episode], EpisodesReference]:
        """Run the episodes of one group. -> (episodes in the order of the specs, their handle)."""


class Engines(EpisodeRunner, Protocol):
    """Engines as the reinforcement loop uses them: they also take new weights while episodes run."""

    async def run_group(
        self,
        params: AnyParams,
        specs: Sequence[EpisodeSpec],
        on_move: Callable[[str], None] = ...,
        /,
    ) -> tuple[list[Episode], EpisodesReference]:
        """Run the episodes of one group. `on_move` is called with the name of the engine whenever the group
        continues on another engine. Raises EngineError when engines die one after the other.
        """

    def new_file(self) -> Path:
        """A fresh path where the learner writes the next weights."""

    async def publish(self, path: Path, version: int, checksum: str, /) -> Sequence[PublishReport]:
        """Load the weights at `path` into every engine. -> a report of each engine that was up.

        Raises PublishError when an engine refuses them.
        """

    async def canary(self, requests: Sequence[EngineRequest], /) -> Sequence[Sequence[EngineResult]]:
        """Send the same requests to every engine that is up. -> the answers of each."""

    def occupancy(self) -> dict[str, float]:
        """Metrics of engine load since the last call."""


class Learner(Protocol):
    """The ranks that train, as one object. Every method raises LearnerLost when a rank dies or hangs."""

    async def step(self, step: int, groups: Sequence[ScoredGroup], /) -> dict[str, float]:
        """Train one batch. -> metrics."""

    async def publish(self, path: Path, /) -> str:
        """Write the weights as safetensors. -> checksum of the file."""

    async def logprobs(self, texts: Sequence[Text], rounds: bool, /) -> list[list[float]]:
        """Log-probabilities of each text's output under the weights as engines have them, at temperature 1.
        `rounds`: computed with the engines' rounding as well.
        """

    async def checkpoint(self, checkpoint: Checkpoint, /) -> None:
        """Copy the state; it is written while training goes on. Raises StorageError when the write before it
        failed.
        """

    async def flush(self) -> None:
        """Return when the last checkpoint is complete on disk. Raises StorageError when it failed."""

    async def load(self, directory: Path, /) -> None:
        """Restore the state of a checkpoint."""

    def release(self) -> None:
        """Return the processes to the pool for the next stage."""

    def close(self) -> None:
        """End the processes at once."""


class Rewards(Protocol):
    """The reward workers, as one object."""

    async def score(
        self, problem: Problem, episodes: Sequence[Episode], reference: EpisodesReference, /
    ) -> Sequence[Score]:
        """[G] one score for each episode; ungraded where scoring failed."""

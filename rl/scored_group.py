"""The learner's input: groups of scored episodes, in the order of consumption."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from data.episodes.trajectory import Episode
from rewards.compose import at_step
from rewards.score import Score
from rl.algorithms.advantages.filtering import has_signal
from rl.config.algorithm import Algorithm


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredGroup:
    """G finished episodes of one problem with their scores."""

    index: int
    """Index in the stage's order: the sampler's position."""
    problem_id: str
    episodes: tuple[Episode, ...]
    scores: tuple[Score, ...]

    @property
    def rewards(self) -> list[float | None]:
        """[G] None where an episode could not be graded."""
        return [score.value for score in self.scores]

    def with_schedule(self, factors: Mapping[str, float]) -> "ScoredGroup":
        """The group with the rewards of a training step, by that step's schedule factors (`factors_at`)."""
        return replace(self, scores=tuple(at_step(score, factors) for score in self.scores))

    def has_signal(self, algorithm: Algorithm) -> bool:
        """Whether one of its trained tokens can have an advantage other than zero."""
        return has_signal(
            self.episodes,
            self.scores,
            estimator=algorithm.advantage,
            credit=algorithm.credit,
            roles=algorithm.roles,
            critic=algorithm.critic is not None,
        )


def episode_id(group_index: int, sample: int) -> str:
    """`GROUP/SAMPLE`, the id of a sampled episode."""
    return f"{group_index}/{sample}"


def group_index_of(episode_id: str) -> int:
    """Index of the group that an episode belongs to, from its id."""
    return int(episode_id.split("/")[0])


def sample_of(episode_id: str) -> int:
    """Index of an episode among its group's samples, from its id."""
    return int(episode_id.rsplit("/", 1)[1])

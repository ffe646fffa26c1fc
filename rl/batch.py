"""What the controller hands to the learner: groups of scored episodes, in the order of consumption."""

from dataclasses import dataclass

from data.trajectory import Episode
from rewards.score import Score


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredGroup:
    """G finished episodes of one problem with their scores."""

    index: int
    """Place in the run's order: the sampler's position."""
    problem: str
    episodes: tuple[Episode, ...]
    scores: tuple[Score, ...]

    @property
    def rewards(self) -> list[float | None]:
        """[G] None where an episode could not be graded."""
        return [score.value for score in self.scores]

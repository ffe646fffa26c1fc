"""What a report says of a run, as plain data: gathering fills these classes, rendering only reads them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from data.episodes.trajectory import Episode
from data.ledger.queries import LongEpisode, Mishap
from data.steps.step import LabelledStep
from rewards.score import Placed
from rl.drawing.layout import Block
from rl.evaluation.bootstrap import Interval
from rl.evaluation.scaling_fit import ScalingFit


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """A line of a table of two columns."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupScores:
    """What the ledger knows of the rewards of one group."""

    step: int | None
    """Step that trained it; None for a group that was left out."""
    graded: int
    """Number of episodes with a reward."""
    reward: float | None
    """Mean reward of the graded episodes."""
    correct: float | None
    """Share of right answers among those that could be checked."""
    spread: float
    """Highest minus lowest reward; 0 for a group whose rewards are all equal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMean:
    """Mean over the groups of one or more steps in a row."""

    step: float
    """Middle of the steps."""
    mean: float
    interval: Interval
    """95% bootstrap interval over groups."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A recorded episode with what is known of it."""

    episode: Episode
    place: str
    """File that holds it, relative to the stage's folder, such as "record/step-000012"."""
    reward: float | None = None
    correct: bool | None = None
    reason: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Contribution of each reward term."""
    placed: tuple[Placed, ...] = ()
    """Rewards of calls and steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """An episode chosen for the page, with its problem and the labels of its steps."""

    stage: str
    why: str
    """Reason of the choice, such as "best"."""
    shown: Shown
    blocks: tuple[Block, ...] = ()
    """Its calls with their text and their place on the token clock."""
    problem: str = ""
    """Text of the problem; "" where the run cannot tell it."""
    steps: tuple[LabelledStep, ...] = ()
    """Exactly labelled steps; () where the task has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RlPart:
    """What only stages of reinforcement learning have."""

    rewards: tuple[StepMean, ...] = ()
    accuracy: tuple[StepMean, ...] = ()
    without_signal: tuple[tuple[float, float], ...] = ()
    """(step, share of its groups whose rewards are all equal)."""
    groups: Mapping[str, int] = field(default_factory=dict)
    """Number of groups by state of the ledger."""
    staleness: Mapping[int, int] = field(default_factory=dict)
    """Staleness -> sampled tokens."""
    waits: Mapping[str, float] = field(default_factory=dict)
    """Shares of the time by what the controller waited for (`rl.evaluation.bottleneck`)."""
    advice: str = ""
    scaling: ScalingFit | None = None
    """ScaleRL's fit of held-out accuracy over steps; None with too few validations."""
    longest: tuple[LongEpisode, ...] = ()
    """Episodes with the longest critical path."""
    costs: tuple[Fact, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """One problem whose answers differ between two checkpoints."""

    problem_id: str
    before: float
    """Share of right answers, by the earlier checkpoint."""
    after: float
    tokens_before: float
    """Mean total tokens of its episodes."""
    tokens_after: float
    told: tuple[Told, ...] = ()
    """Its first episode by each checkpoint, where both were kept whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two checkpoints on the same problems."""

    stage: str
    """Name of the evaluation stage."""
    first: str
    second: str
    kept_right: int
    """Problems that both solve in more than half of their samples."""
    gained: int
    lost: int
    kept_wrong: int
    points: float
    """Change of accuracy in percentage points, paired by problem."""
    interval: Interval
    examples: tuple[Changed, ...] = ()
    """Problems that changed most, gains first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePart:
    """One stage of a run."""

    name: str
    kind: str
    state: str
    """"done", "running or stopped", or "not begun"."""
    steps: int
    """Steps in the metrics."""
    records: tuple[Mapping[str, Any], ...] = ()
    """Its records of `metrics.jsonl`, thinned out where there are very many."""
    rl: RlPart | None = None
    mishaps: tuple[Mishap, ...] = ()
    """Resumes, restarts and faults."""
    told: tuple[Told, ...] = ()
    """Episodes chosen for the page."""
    chosen_from: str = ""
    """Which episodes the chosen ones are from, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPart:
    """Everything that a report says of one run."""

    label: str
    """Name by which the page calls it: the folder's, made unique."""
    path: str
    recipe: Mapping[str, Any]
    """The recipe as the run keeps it."""
    facts: tuple[Fact, ...] = ()
    changed: tuple[Mishap, ...] = ()
    """Keys that a resume changed, and what befell the run between its stages."""
    settings: tuple[Fact, ...] = ()
    """Keys whose value is not the default."""
    stages: tuple[StagePart, ...] = ()
    summary: Mapping[str, Any] | None = None
    """The content of summary.json."""
    comparisons: tuple[Comparison, ...] = ()
    gaps: tuple[str, ...] = ()
    """What could not be read, and why."""


def told_in(run: RunPart) -> Iterator[Told]:
    """Every episode that the page of a run shows, in its order."""
    for stage in run.stages:
        yield from stage.told
    for comparison in run.comparisons:
        for row in comparison.examples:
            yield from row.told


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A recipe key whose value differs between runs."""

    key: str
    values: tuple[str, ...]
    """One for each run."""

"""The record of one evaluated episode: summaries, tables and pictures are computed from these alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from data.episodes.monitors import Observed, observe
from data.episodes.topology import (
    critical_seconds,
    critical_tokens,
    depth,
    probe_tokens,
    scorer_tokens,
    total_tokens,
    unique_width,
    width,
)
from data.episodes.trajectory import Episode, ThreadOutcome
from rewards.score import Score

MOST_ATTEMPTS = 3
"""Runs of one episode, over all resumes: grading that always fails must not be repeated forever."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What an endpoint tells of an answer, which comes as text without ids."""

    answer: str | None
    """The answer in the form in which votes compare it; None without one."""
    prompt_tokens: int
    """Tokens of the prompt, as the endpoint counts them."""
    mean_logprob: float | None
    """Mean log-probability of the sampled tokens; None when the endpoint does not tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Cost of one episode, and whether its answer was right."""

    problem_id: str
    """Id of the problem that the episode worked on."""
    sample: int
    """Index of the episode among its problem's samples."""
    correct: bool | None
    """Whether the answer is right; None if it could not be graded. Such an episode counts for cost only."""
    total_tokens: int
    """Sampled tokens of all calls."""
    critical_tokens: int
    """Sampled tokens on the longest path."""
    critical_seconds: float
    """Measured seconds on the path that takes longest."""
    threads: int
    """Threads opened beside the root."""
    unique_threads: int
    """Threads beside the root with different context: duplicates search the same space."""
    forked: bool
    """Whether any thread was opened beside the root."""
    depth: int
    """Depth of the deepest thread; 0 when nothing forked."""
    violations: Mapping[str, int] = field(default_factory=dict)
    """Number of protocol violations by `ViolationKind` value."""
    outcome: ThreadOutcome
    """How the root thread ended."""
    answered: bool
    """Whether the episode gave an answer, right or wrong."""
    observed: Observed | None = None
    """Results of the monitors; None in a record from before they existed."""
    reward: float | None = None
    """The reward at full weights; None if it could not be computed."""
    reason: str = ""
    """Reason of the reward, or why there is none."""
    scorer_tokens: int = 0
    """Tokens that a scorer read while the episode ran; no part of `total_tokens`."""
    probe_tokens: int = 0
    """Tokens of answers that were forced after it had ended; no part of `total_tokens`."""
    regret: float | None = None
    """Mean of 1 - J over the tokens of its thought; None where no answers were forced behind its blocks."""
    attempts: int = 1
    """Number of times the episode was run: a resume repeats one that failed or could not be graded."""
    said: Said | None = None
    """What an endpoint told; None for an episode, which has every token."""

    @property
    def to_redo(self) -> bool:
        """Whether a resume runs the episode again: it has no grade or the engine failed one of its calls."""
        failed = ThreadOutcome.FAILED
        children = self.observed.children if self.observed is not None else {}
        lost = self.correct is None or self.outcome is failed or failed.value in children
        return lost and self.attempts < MOST_ATTEMPTS


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Outcomes of one checkpoint on one set of problems."""

    sampled: tuple[Outcome, ...]
    """Outcomes at the evaluation's temperature; one or more samples for each problem."""
    greedy: tuple[Outcome, ...] = ()
    """Outcomes at temperature 0, one for each problem; empty when that was not evaluated."""


def outcome_of(episode: Episode, *, sample: int, score: Score, attempts: int = 1) -> Outcome:
    """The record of a finished episode and its score."""
    threads = width(episode)
    return Outcome(
        problem_id=episode.problem_id,
        sample=sample,
        correct=score.correct,
        total_tokens=total_tokens(episode),
        critical_tokens=critical_tokens(episode),
        critical_seconds=critical_seconds(episode),
        threads=threads,
        unique_threads=unique_width(episode),
        forked=threads > 0,
        depth=depth(episode),
        violations=dict(sorted(Counter(violation.kind.value for violation in episode.violations).items())),
        outcome=episode.outcome,
        answered=episode.answer is not None,
        observed=observe(episode),
        reward=score.value,
        reason=score.reason,
        scorer_tokens=scorer_tokens(episode),
        probe_tokens=probe_tokens(episode),
        regret=score.regret,
        attempts=attempts,
    )


def outcome_to_dict(outcome: Outcome) -> dict[str, Any]:
    """The outcome as plain JSON values, in the order of its fields."""
    record = {item.name: getattr(outcome, item.name) for item in fields(Outcome)}
    observed = None if outcome.observed is None else asdict(outcome.observed)
    said = record.pop("said")
    return (
        record
        | ({} if said is None else {"said": asdict(said)})
        | {
            "violations": dict(outcome.violations),
            "outcome": outcome.outcome.value,
            "observed": observed,
        }
    )


def outcome_from_dict(record: Mapping[str, Any]) -> Outcome:
    """Inverse of `outcome_to_dict`. KeyError, TypeError or ValueError for a record of another shape."""
    seen = record.get("observed")
    observed = None if seen is None else Observed(**seen)
    told = record.get("said")
    said = None if told is None else Said(**told)
    return Outcome(
        **{**record, "outcome": ThreadOutcome(record["outcome"]), "observed": observed, "said": said}
    )


def by_problem(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes by problem id, in the order of ids and samples: no result depends on the order of arrival."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda item: (item.problem_id, item.sample)):
        groups.setdefault(outcome.problem_id, []).append(outcome)
    return groups

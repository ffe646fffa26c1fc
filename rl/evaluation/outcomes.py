"""One record per evaluated episode: all that summaries, tables and pictures are computed from.

Example line of an outcomes file:
    {"problem_id": "37-10-9-4-2", "sample": 0, "correct": true, "total_tokens": 310, ...}
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from data.episodes.monitors import Observed, observe
from data.episodes.topology import critical_seconds, critical_tokens, depth, total_tokens, unique_width, width
from data.episodes.trajectory import Episode, ThreadOutcome
from data.errors import ConfigError
from data.whole_file import json_line, whole_file
from rewards.score import Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one episode cost and whether it was right."""

    problem_id: str
    """Id of the problem that the episode worked on."""
    sample: int
    """Which of the problem's samples."""
    correct: bool | None
    """None: could not be graded. Such an episode counts for cost, never for accuracy."""
    total_tokens: int
    """Sampled tokens of all calls."""
    critical_tokens: int
    """Sampled tokens on the longest path."""
    critical_seconds: float
    """The same on measured time, seconds."""
    threads: int
    """Threads opened beside the root."""
    unique_threads: int
    """How many of them were given different text: duplicates search the same space."""
    forked: bool
    depth: int
    """Of the deepest thread; 0 when nothing forked."""
    violations: Mapping[str, int] = field(default_factory=dict)
    """Number of protocol violations by `ViolationKind` value."""
    outcome: ThreadOutcome
    """How the root thread ended."""
    answered: bool
    """Whether it claimed an answer, right or wrong."""
    observed: Observed | None = None
    """What the monitors saw; None in a record that is older than they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One checkpoint on one set of problems."""

    sampled: tuple[Outcome, ...]
    """At the evaluation's temperature; one or more samples for each problem."""
    greedy: tuple[Outcome, ...] = ()
    """At temperature 0, one for each problem; empty when that was not evaluated."""


def outcome_of(episode: Episode, *, sample: int, correct: bool | None) -> Outcome:
    """The record of a finished episode; `correct` is None when it could not be graded."""
    threads = width(episode)
    return Outcome(
        problem_id=episode.problem_id,
        sample=sample,
        correct=correct,
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
    )


def outcome_to_dict(outcome: Outcome) -> dict[str, Any]:
    """Plain JSON values, in the order of the fields."""
    record = {item.name: getattr(outcome, item.name) for item in fields(Outcome)}
    observed = None if outcome.observed is None else asdict(outcome.observed)
    return record | {
        "violations": dict(outcome.violations),
        "outcome": outcome.outcome.value,
        "observed": observed,
    }


def outcome_from_dict(record: Mapping[str, Any]) -> Outcome:
    """Inverse of `outcome_to_dict`. KeyError, TypeError or ValueError for a record of another shape."""
    seen = record.get("observed")
    observed = None if seen is None else Observed(**seen)
    return Outcome(**{**record, "outcome": ThreadOutcome(record["outcome"]), "observed": observed})


def save_outcomes(path: Path, outcomes: Iterable[Outcome]) -> None:
    """JSON lines, one outcome a line; written whole or not at all."""
    with whole_file(path) as file:
        for outcome in outcomes:
            file.write(json_line(outcome_to_dict(outcome)))


def load_outcomes(path: Path) -> list[Outcome]:
    """Raises ConfigError naming file and line when the file is missing or a line is not an outcome."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; evaluate first, or give the path of an outcomes file")
    outcomes = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            outcomes.append(outcome_from_dict(json.loads(line)))
        except (KeyError, TypeError, ValueError) as error:
            where = f"{path}, line {number}"
            raise ConfigError(f"{where}: not an evaluation outcome ({error}); evaluate again") from error
    return outcomes


def by_problem(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Grouped by problem, in the order of ids and samples, so that no result depends on arrival order."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda item: (item.problem_id, item.sample)):
        groups.setdefault(outcome.problem_id, []).append(outcome)
    return groups


def outcomes_of(pairs: Sequence[tuple[Episode, Score]]) -> list[Outcome]:
    """What evaluation keeps of each episode."""
    return [
        outcome_of(episode, sample=int(episode.id.rsplit("/", 1)[1]), correct=score.correct)
        for episode, score in pairs
    ]

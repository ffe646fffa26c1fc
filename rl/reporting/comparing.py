"""What changed on the same problems from one evaluated checkpoint to the next."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from rl.config.stages import START
from rl.evaluation.outcome_file import episodes_file, load_outcomes
from rl.evaluation.outcomes import Outcome, by_problem
from rl.evaluation.summary import gain, paired
from rl.reporting.contents import Changed, Comparison, Shown
from rl.reporting.gaps import Gaps
from rl.reporting.recorded import read_shown
from rl.reporting.telling import Teller
from rl.scored_group import sample_of

MOST_EXAMPLES = 3
"""Most examples of problems gained, and of problems lost."""
_RESAMPLES = 2000


def compare_checkpoints(
    stages: Sequence[Mapping[str, Any]], teller: Teller, gaps: Gaps
) -> tuple[Comparison, ...]:
    """All evaluation stages' comparisons; `stages` are the recipe's, as JSON values.

    A stage whose files are missing, incomplete or damaged is left out, with a message.
    """
    trained = [START, *(str(stage["name"]) for stage in stages if stage["kind"] in ("sft", "rl"))]
    found: list[Comparison] = []
    for stage in stages:
        folder = teller.directory.path / "stages" / str(stage["name"])
        if stage["kind"] != "eval" or not folder.is_dir():
            continue
        checkpoints = [name for name in trained if name in stage.get("checkpoints", ())]
        for first, second in pairwise(checkpoints):
            made = gaps.attempt(lambda: _compare(folder, first, second, teller), None)  # noqa: B023
            found += [] if made is None else [made]
    return tuple(found)


def _compare(folder: Path, first: str, second: str, teller: Teller) -> Comparison:
    files = [folder / f"{name}.sampled.jsonl" for name in (first, second)]
    before, after = (load_outcomes(file) for file in files)
    change = gain(before, after, bootstrap_samples=_RESAMPLES, seed=0)
    rows = changes(before, after)
    solved = [(row.before > 0.5, row.after > 0.5) for row in rows]
    kept = [_firsts(file) for file in files]
    wanted = _examples(rows, kept=kept[0].keys() & kept[1].keys())
    return Comparison(
        stage=folder.name,
        first=first,
        second=second,
        kept_right=solved.count((True, True)),
        gained=solved.count((False, True)),
        lost=solved.count((True, False)),
        kept_wrong=solved.count((False, False)),
        points=change.points,
        interval=change.interval,
        examples=tuple(
            replace(
                row,
                told=tuple(
                    teller.tell(folder.name, f"after {name}", side[row.problem_id])
                    for name, side in zip((first, second), kept, strict=True)
                    if row.problem_id in side
                ),
            )
            for row in wanted
        ),
    )


def changes(before: Sequence[Outcome], after: Sequence[Outcome]) -> list[Changed]:
    """One row for each problem that both sides could grade, by id.

    Raises ConfigError for two sides with different problems.
    """
    sides = [by_problem(side) for side in paired(before, after)]
    return [
        Changed(
            problem_id=problem,
            before=_share(sides[0][problem]),
            after=_share(sides[1][problem]),
            tokens_before=_tokens(sides[0][problem]),
            tokens_after=_tokens(sides[1][problem]),
        )
        for problem in sorted(sides[0])
    ]


def _share(outcomes: Sequence[Outcome]) -> float:
    return sum(outcome.correct is True for outcome in outcomes) / len(outcomes)


def _tokens(outcomes: Sequence[Outcome]) -> float:
    return sum(outcome.total_tokens for outcome in outcomes) / len(outcomes)


def _examples(rows: Sequence[Changed], kept: Set[str]) -> list[Changed]:
    """Problems that changed most, gains first; among equals those whose episodes were kept."""

    def most(sign: int) -> list[Changed]:
        changed = [row for row in rows if sign * (row.after - row.before) > 0]
        changed.sort(key=lambda row: (-abs(row.after - row.before), row.problem_id not in kept))
        return changed[:MOST_EXAMPLES]

    return [*most(1), *most(-1)]


def _firsts(file: Path) -> dict[str, Shown]:
    """Problem id -> its first episode, of those that the evaluation kept whole."""
    path = episodes_file(file)
    kept = read_shown(path) if path.is_file() else ()
    return {shown.episode.problem_id: shown for shown in kept if sample_of(shown.episode.id) == 0}

"""Checks of a task's verifier on the recipe's own problems, through the real verifier processes.

A gold answer given as the answer must be correct. Where it is no answer (tests of a program, instructions, a
function of the user's own), a made-up answer must be graded at all.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data.tasks.base import Task
from data.tasks.dataset.loading import Loaded
from data.tasks.problem import Problem, load_problems
from data.tasks.registry import build_task
from rewards.verifiers.base import Outcome, OutcomeKind, Sample, VerifierParams
from rewards.verifiers.process import VerifierPool
from rl.config.base import ConfigIssue
from rl.config.recipe import Recipe
from rl.config.task import SPLITS, DatasetTask, JudgeTask, TaskConfig
from rl.preflight.check_result import CheckResult
from rl.problems import Datasets

MOST_GOLDS = 500
"""Problems of a split whose gold answers are tried; of more, a sample."""
MOST_MADE_UP = 20
"""Problems of a split that a made-up answer is tried on."""
MADE_UP = "42"
_SHOWN = 5
_GRADED = (OutcomeKind.CORRECT, OutcomeKind.WRONG, OutcomeKind.ANSWER_UNPARSABLE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A problem as a verifier sees it, and where it stands."""

    where: str
    question: str
    gold: tuple[str, ...]
    problem: Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What trying a verifier on some rows gave."""

    rows: int
    failures: tuple[tuple[Row, Outcome], ...]

    @property
    def share(self) -> float:
        """Share of the rows that passed."""
        return 1 - len(self.failures) / self.rows


def check_verifiers(recipe: Recipe, datasets: Datasets | None = None) -> Iterator[CheckResult]:
    """Every verifier of the recipe starts and grades its own task's problems, of rows those that are kept.

    `datasets`: those that another check has read.

    Raises ConfigError listing rows, when too few of them pass.
    """
    datasets = datasets or Datasets(recipe)
    configs = dict.fromkeys((recipe.task, *(recipe.task_of(stage) for stage in recipe.stages)))
    for config in configs:
        if config.verifier is None:
            continue
        task = build_task(config.params)
        with VerifierPool(config.verifier) as pool:
            if refused := pool.wait():
                raise _fail(recipe, config.verifier, refused, "correct what the reason names")
            for split, rows in _rows(config, task, datasets).items():
                tried = try_rows(pool, config.verifier, task, rows)
                if tried.share < config.verifier.gold_share:
                    raise _refused(recipe, config.verifier, split, tried)
                also = f"; not {listed(tried)}" if tried.failures else ""
                found = f"{split}: {passed(config.verifier, tried)}{also}"
                yield CheckResult(about=f"{config.verifier.name} verifier", found=found)


def try_rows(pool: VerifierPool, params: VerifierParams, task: Task, rows: Sequence[Row]) -> Tried:
    """Verify gold answers against themselves, or made-up answers. One alternative that passes is enough."""
    most = MOST_GOLDS if params.verifies_gold else MOST_MADE_UP
    chosen = list(rows) if len(rows) <= most else random.Random("braid/golds").sample(list(rows), most)
    samples = [(row, answer) for row in chosen for answer in _answers(params, row)]
    outcomes = pool.verify(
        [
            Sample(question=row.question, answer=answer, gold=row.gold, fields=task.fields(row.problem))
            for row, answer in samples
        ]
    )
    best: dict[str, tuple[Row, Outcome]] = {}
    for (row, _), outcome in zip(samples, outcomes, strict=True):
        if row.where not in best or _passes(params, row, outcome):
            best[row.where] = row, outcome
    failures = [pair for pair in best.values() if not _passes(params, *pair)]
    return Tried(rows=len(chosen), failures=tuple(failures))


def _passes(params: VerifierParams, row: Row, outcome: Outcome) -> bool:
    """A gold answer must be correct; a made-up one, where a row has no gold, must be graded."""
    if params.verifies_gold and row.gold:
        return outcome.kind is OutcomeKind.CORRECT
    return outcome.kind in _GRADED


def _answers(params: VerifierParams, row: Row) -> tuple[str, ...]:
    if not params.verifies_gold:
        return (row.gold[0] if row.gold else MADE_UP,)
    return row.gold or (MADE_UP,)


def _rows(config: TaskConfig, task: Task, datasets: Datasets) -> dict[str, list[Row]]:
    """Rows of each split that is in files, or the first problems of one that is made."""
    found: dict[str, list[tuple[str, Problem]]] = {}
    if isinstance(config, DatasetTask):
        return {split: dataset_rows(part, task) for split, part in datasets.splits(config).items()}
    if isinstance(config, JudgeTask) and config.params.stage is not None:
        return {}  # its problems are made by the run
    for split in SPLITS:
        file, count = config.file(split), min(config.num_problems(split), MOST_GOLDS)
        problems = load_problems(file) if file is not None else task.problems(split, count, 0)
        found[split] = [(f"{file or split}, problem {problem.id}", problem) for problem in problems]
    return {
        split: [
            Row(where=where, question=task.prompt(problem).text, gold=task.gold(problem), problem=problem)
            for where, problem in problems
        ]
        for split, problems in found.items()
        if problems
    }


def dataset_rows(loaded: Loaded, task: Task) -> list[Row]:
    """The rows of a split of a data set."""
    return [
        Row(
            where=placed.where,
            question=task.prompt(placed.problem).text,
            gold=task.gold(placed.problem),
            problem=placed.problem,
        )
        for placed in loaded.problems
    ]


def _refused(recipe: Recipe, params: VerifierParams, split: str, tried: Tried) -> Exception:
    few = f"fewer than {params.gold_share:.0%}"
    reason = f"{passed(params, tried)} ({split}), {few}: {listed(tried)}"
    remedy = "take the verifier that fits the answers, correct the rows, or lower task.verifier.gold_share"
    return _fail(recipe, params, reason, remedy)


def listed(tried: Tried) -> str:
    """The first rows that failed, each with its gold answer and the reason."""
    lines = []
    for row, outcome in tried.failures[:_SHOWN]:
        gold = f"{row.gold[0][:40]!r}: " if row.gold else ""
        lines.append(f"{row.where} ({gold}{outcome.reason or outcome.kind.value})")
    more = len(tried.failures) - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more else "")


def passed(params: VerifierParams, tried: Tried) -> str:
    """How many rows passed, as one phrase."""
    what = "gold answers verify against themselves" if params.verifies_gold else "rows can be graded"
    return f"{tried.rows - len(tried.failures)} of {tried.rows} {what}"


def _fail(recipe: Recipe, params: VerifierParams, reason: str, remedy: str) -> Exception:
    issue = ConfigIssue(key="task.verifier", value=params.name, reason=reason, remedy=remedy)
    return issue.error(recipe.source)

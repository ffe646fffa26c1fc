"""Task `judge`: say of each step of a recorded solution whether it is right.

    problem  one labelled solution: the steps that end in one call of an episode, or a row of a file
    prompt   `question` of the problem and the steps
    answer   the verdicts, `1 right, 2 wrong` (`verdicts`)
    check    whether they fit the labels, by `marks`; the share of full marks is `marks` itself
Labels come from any way of labelling: exact ones, a consensus, people, published data sets. Solutions of one
problem are in one split, so a judge is measured on problems that it has not seen.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from data.errors import ConfigError
from data.params import CONTENT
from data.steps.formats.files import read_steps
from data.steps.formats.row import WRONG_BELOW, StepRow
from data.steps.step import NO_ERROR
from data.tasks.base import HeldOutParams, Split, Task, split_of
from data.tasks.judge.marks import MARKS, Mark
from data.tasks.judge.question import JudgeFormat, question
from data.tasks.judge.verdicts import first_error, read_verdicts, up_to_error, written
from data.tasks.problem import Problem
from data.text.prompt import Prompt

NAME = "judge"


class JudgeParams(HeldOutParams):
    """Origin of the labelled solutions, and what is asked of them."""

    stage: str | None = Field(default=None, max_length=40)
    """Earlier label_steps stage of this run whose labels are the truth."""
    file: Path | None = Field(default=None, json_schema_extra=CONTENT)
    """File of labelled steps, in any format that `braid steps` reads, relative to the recipe."""
    test_file: Path | None = Field(default=None, json_schema_extra=CONTENT)
    """File of labelled steps for the test split, such as ProcessBench's, in place of `test_percent`."""
    format: JudgeFormat = JudgeFormat()
    """Format of question and answer."""
    marks: Mark = "all"
    """What makes verdicts right. all: the verdict on every labelled step. first_error: the place of the first
    wrong step. share, f1: as all, and the term `verifier_score` gives a part for those that fit in part: the
    share of the steps, or the F1 of the steps called wrong.
    """


class JudgeSteps(Task):
    """The task of judging the steps of solutions."""

    name = NAME
    Params = JudgeParams

    def __init__(self, params: JudgeParams) -> None:
        """`params` names the labels; those of a stage are given as its file (`rl.problems`)."""
        self.params = params

    def problems(self, split: Split, n: int, seed: int) -> list[Problem]:
        """At most n problems of a split, in the order of the rows, whatever the seed. Few labels may leave a
        held-out split without any.

        Raises:
            ConfigError: there is none to train on, or the labels cannot be read.
        """
        apart = split == "test" and self.params.test_file is not None
        file = self.params.test_file if apart else self.params.file
        if file is None:
            raise ConfigError(
                f"task judge: the labels are those of stage {self.params.stage!r}, which is not done yet\n"
                "  fix: finish it first, or give a file of labels"
            )
        if not n:
            return []
        _, rows = read_steps(file)
        found = [
            made for made in judged_problems(rows, self.params) if apart or self._split_of(made) == split
        ]
        if not found and split == "train":
            raise ConfigError(
                f"{file}: has no labelled solution to train on\n"
                "  fix: give more of them, or lower task.params.validation_percent and test_percent"
            )
        return found[:n]

    def prompt(self, problem: Problem) -> Prompt:
        """The question about problem and steps."""
        fields = problem.fields
        return Prompt(question(self.params.format, fields["problem"], fields["context"], fields["steps"]))

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether the verdicts earn full marks."""
        return self.marks(problem, answer) == 1.0

    def marks(self, problem: Problem, answer: str) -> float | None:
        """The share of full marks; None when the verdicts cannot be read."""
        labels = self._labels(problem)
        verdicts = read_verdicts(answer, len(labels), self.params.format.until)
        return None if verdicts is None else MARKS[self.params.marks](verdicts, labels)

    def gold(self, problem: Problem) -> tuple[str, ...]:
        """The verdicts that the labels are; none where a step that is to be judged has no label."""
        labels = self._labels(problem)
        error = first_error(labels)
        stop = len(labels) if error == NO_ERROR or self.params.format.until == "all" else error + 1
        known = [label for label in labels[:stop] if label is not None]
        return (written(known),) if len(known) == stop else ()

    def key(self, problem: Problem) -> str:
        """The text of the whole question."""
        return self.prompt(problem).text

    def validate(self, problem: Problem) -> None:
        """Raises ConfigError for a problem of another task, or one without labelled steps."""
        fields = problem.fields
        steps, labels = fields.get("steps"), fields.get("labels")
        if problem.task != self.name:
            raise ConfigError(f"problem {problem.id!r}: belongs to task {problem.task!r}, not {self.name!r}")
        if not isinstance(fields.get("problem"), str) or not isinstance(fields.get("context"), str):
            raise ConfigError(f"problem {problem.id!r}: `problem` and `context` must be texts")
        if (
            not isinstance(steps, list)
            or not isinstance(labels, list)
            or len(steps) != len(labels)
            or not all(isinstance(step, str) for step in steps)
            or not all(label in (True, False, None) for label in labels)
            or set(labels) <= {None}
        ):
            raise ConfigError(
                f"problem {problem.id!r}: needs `steps`, a list of texts, and `labels`, for each of them "
                "true, false or null, not all null"
            )

    def _labels(self, problem: Problem) -> tuple[bool | None, ...]:
        labels: Sequence[bool | None] = problem.fields["labels"]
        return up_to_error(labels) if self.params.format.until == "first_error" else tuple(labels)

    def _split_of(self, problem: Problem) -> Split:
        """By the text of the problem alone: other solutions of it are in the same split."""
        params, key = self.params, " ".join(problem.fields["problem"].casefold().split())
        test_percent = 0 if params.test_file is not None else params.test_percent
        return split_of(key, validation_percent=params.validation_percent, test_percent=test_percent)


def judged_problems(rows: Sequence[StepRow], params: JudgeParams) -> Iterator[Problem]:
    """The problems of labelled rows: those with a label, of at most `most_steps` steps. A last step that a
    limit cut off is left out.
    """
    seen: dict[str, int] = {}
    for row in rows:
        stop = len(row.steps) - row.cut_off
        if not any(label is not None for label in row.labels[:stop]) or stop > params.format.most_steps:
            continue
        again = seen[row.id] = seen.get(row.id, -1) + 1
        labels = [None if label is None else label >= WRONG_BELOW for label in row.labels[:stop]]
        yield judged_problem(
            row.id if not again else f"{row.id}#{again}", judged_fields(row, stop) | {"labels": labels}
        )


def judged_fields(row: StepRow, stop: int) -> dict[str, Any]:
    """Fields of the problem to judge the first `stop` steps of a row, labels apart."""
    own = row.question or row.prompt
    return {
        "problem": own,
        # What the first call of an episode reads is the problem itself, laid out.
        "context": row.prompt if row.question and row.call else "",
        "steps": list(row.steps[:stop]),
    }


def judged_problem(id: str, fields: Mapping[str, Any]) -> Problem:
    """A problem of this task."""
    return Problem("".join(each if each.isprintable() else "?" for each in id), NAME, fields)

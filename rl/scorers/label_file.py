"""File with the labels of a stage's steps, one row for each call in which steps end: JSON Lines.

    {"id": "5f0c.../0", "prompt": "<solo> 41 10 9 4 2 <think>", "question": "41 10 9 4 2",
     "completions": ["9 * 4 10 2 36", ...], "labels": [0.75, null, ...], "problem": "cd-9-4",
     "episode": "5f0c...", "call": 0, "first": 7, "ids": [...], "stops": [6, ...], "cut_off": false,
     "outcomes": [[true, false], ...], "truth": {"valid": [true, ...], "reachable": [...]}}
The keys `prompt`, `completions` and `labels` are TRL's, so that `braid steps` and other tools read it too.
Two stages that label the same episodes have rows of the same id.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import xxhash

from data.episodes.trajectory import Episode
from data.errors import ConfigError
from data.steps.formats.row import StepRow
from data.steps.label import cut_steps, label_episode
from data.steps.step import Step, StepKind
from data.tasks.base import Task
from data.tasks.labelled import StepLabelledTask
from data.tasks.problem import Problem
from data.text.codec import Codec
from data.whole_file import json_line, whole_file
from rl.scorers.monte_carlo import Outcomes
from rl.scorers.target_rows import JudgedCall

LABELS = "labels.jsonl"
"""Name of the file in the stage's folder."""
Truth = dict[str, tuple[bool | None, ...]]
"""Claim ("valid", "reachable") -> what is exactly known of each step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRow:
    """The steps that end in one call. [S] sequences have one entry for each."""

    problem: str
    episode: str
    """Digest of the episode's problem and tokens."""
    call: int
    prompt: str
    """Text of the call's context."""
    question: str = ""
    """Text of the problem alone."""
    first: int
    """Number of ids of the context."""
    ids: tuple[int, ...]
    """Ids of the context and the output."""
    steps: tuple[str, ...]
    stops: tuple[int, ...]
    """[S] output token behind each step."""
    labels: tuple[float | None, ...]
    cut_off: bool = False
    """Whether a limit ended the last step, which then has no label."""
    answer_correct: bool | None = None
    outcomes: tuple[Outcomes | None, ...] = ()
    """[S] completions behind each step; None where there are none. () of other labellings."""
    truth: Truth | None = None
    """What the task exactly knows; None where it knows nothing of steps."""

    @property
    def id(self) -> str:
        """The row's name, equal in all labellings of the same episodes."""
        return f"{self.episode}/{self.call}"

    @property
    def is_labelled(self) -> bool:
        """Whether any step has a label."""
        return any(label is not None for label in self.labels)

    @property
    def step_row(self) -> StepRow:
        """The row as `data.steps` counts and writes it."""
        return StepRow(
            id=self.id,
            prompt=self.prompt,
            steps=self.steps,
            labels=self.labels,
            answer_correct=self.answer_correct,
            cut_off=self.cut_off,
            question=self.question,
            call=self.call,
        )

    def judged(self) -> JudgedCall:
        """What a reward model learns: each label at its step's last token."""
        ends = zip(self.stops, self.labels, strict=True)
        targets = {stop - 1: label for stop, label in ends if label is not None}
        return JudgedCall.of(self.problem, self.id, self.ids, self.first, targets)

    def line(self) -> dict[str, Any]:
        """The row of the file."""
        found: dict[str, Any] = {"id": self.id, "prompt": self.prompt, "question": self.question}
        found["completions"] = self.steps
        for name in ("labels", "problem", "episode", "call", "first", "ids", "stops", "cut_off"):
            found[name] = getattr(self, name)
        for name in ("answer_correct", "outcomes", "truth"):
            if getattr(self, name) not in (None, ()):
                found[name] = getattr(self, name)
        return found

    @classmethod
    def of(cls, line: dict[str, Any]) -> Self:
        """The row of a line. Raises KeyError or TypeError for another line."""
        truth, outcomes = line.get("truth"), line.get("outcomes", ())
        return cls(
            steps=tuple(line["completions"]),
            outcomes=tuple(None if each is None else tuple(each) for each in outcomes),
            truth=None if truth is None else {claim: tuple(known) for claim, known in truth.items()},
            answer_correct=line.get("answer_correct"),
            problem=line["problem"],
            episode=line["episode"],
            call=line["call"],
            prompt=line["prompt"],
            question=line["question"],
            first=line["first"],
            cut_off=line["cut_off"],
            ids=tuple(line["ids"]),
            stops=tuple(line["stops"]),
            labels=tuple(line["labels"]),
        )


def write_labels(path: Path, rows: Iterable[LabelRow]) -> None:
    """Writes the file whole or not at all. Equal rows give equal files."""
    with whole_file(path) as file:
        for row in rows:
            file.write(json_line(row.line()))


def read_labels(path: Path) -> list[LabelRow]:
    """All rows. Raises ConfigError, naming the row, for a file that no stage of label_steps wrote."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror})\n  fix: finish the stage that labels steps first"
        ) from error
    found: list[LabelRow] = []
    for number, line in enumerate(lines):
        try:
            found.append(LabelRow.of(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path}, row {number}: is none of a stage of kind: label_steps ({error!r})\n"
                "  fix: give the labels.jsonl of such a stage"
            ) from error
    return found


def unlabelled_rows(
    task: Task, problem: Problem, episode: Episode, codec: Codec, kind: StepKind
) -> list[LabelRow]:
    """The rows of an episode without labels, with the truth where the task knows it."""
    by_call: dict[int, list[Step]] = {}
    for step in cut_steps(task, episode, codec, kind):
        by_call.setdefault(step.call, []).append(step)
    truth = _truth(task, problem, episode, codec, kind)
    digest = episode_digest(episode)
    rows: list[LabelRow] = []
    for index, steps in by_call.items():
        context = episode.context_ids(episode.calls[index])
        rows.append(
            LabelRow(
                problem=problem.id,
                episode=digest,
                call=index,
                prompt="".join(codec.pieces(context)).strip(),
                question=task.prompt(problem).text,
                first=len(context),
                ids=context + episode.calls[index].output,
                steps=tuple(step.text for step in steps),
                stops=tuple(step.stop for step in steps),
                labels=(None,) * len(steps),
                cut_off=steps[-1].cut_off,
                truth=truth.get(index),
            )
        )
    return rows


def with_labels(row: LabelRow, labels: Sequence[float | None], **changes: Any) -> LabelRow:
    """The row with these labels. A step that a limit cut off gets none."""
    given = (*labels[:-1], None) if row.cut_off else tuple(labels)
    return replace(row, labels=given, **changes)


def episode_digest(episode: Episode) -> str:
    """Sixteen digits that equal episodes share, wherever they are recorded."""
    said = [episode.problem_id, *([call.thread, *call.output] for call in episode.calls)]
    return xxhash.xxh3_64_hexdigest(json.dumps(said).encode())


def _truth(task: Task, problem: Problem, episode: Episode, codec: Codec, kind: StepKind) -> dict[int, Truth]:
    """Call -> what the task exactly knows of the steps that end in it."""
    if not isinstance(task, StepLabelledTask):
        return {}
    claims: dict[int, list[tuple[bool | None, bool | None]]] = {}
    for found in label_episode(task, problem, episode, codec, kind):
        claims.setdefault(found.step.call, []).append((found.label.valid, found.label.reachable))
    return {
        call: {"valid": tuple(valid for valid, _ in known), "reachable": tuple(led for _, led in known)}
        for call, known in claims.items()
    }

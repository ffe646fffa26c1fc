"""Steps of a stage's recorded episodes, labelled exactly where the task can, as rows of `data.steps.formats`.

Lines and paragraphs give one row for each call: its prompt is the context, all that the model saw. Calls and
threads give one row for each episode, behind the problem's own prompt.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

from data.episodes.trajectory import Episode
from data.episodes.wire import read_episodes
from data.errors import ConfigError
from data.steps.cut import CUTTERS
from data.steps.formats.row import RIGHT, WRONG, StepRow
from data.steps.label import join_lines, label_lines
from data.steps.step import UNLABELLED, LabelledStep, StepKind
from data.tasks.base import Task
from data.tasks.labelled import StepLabelledTask
from data.tasks.problem import Problem, load_problems
from data.tasks.registry import build_task
from data.text.codec import Codec, load_codec
from rl.config import Recipe
from rl.config.stages import StageConfig
from rl.config.task import SPLITS, DatasetTask, JudgeTask
from rl.evaluation.outcome_file import read_contents
from rl.problems import load_dataset, make_problems
from rl.scored_group import sample_of
from rl.scorers.judged_problems import labelled_problems
from rl.storage.files import read_object
from rl.storage.rollout_record import RECORD
from rl.storage.run_directory import RunDirectory

Claim = Literal["valid", "reachable"]
"""Which part of a label is written."""
_EPISODES = ".episodes.jsonl.gz"


@dataclass(kw_only=True, slots=True)
class StageSteps:
    """What was cut of a stage's record."""

    rows: list[StepRow] = field(default_factory=list)
    episodes: int = 0
    calls: int = 0
    kinds: Counter[StepKind] = field(default_factory=Counter)
    """Number of steps of every kind that the task can be cut into."""
    unknown: int = 0
    """Episodes on problems that the run does not have; they are left out."""

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {kind.value}s" for kind, count in sorted(self.kinds.items()))
        left = f" ({self.unknown} episodes on unknown problems left out)" if self.unknown else ""
        return f"episodes      {self.episodes} of {self.calls} calls: {counts}{left}"


def stage_steps(run: Path, stage_name: str, kind: StepKind | None, claim: Claim) -> StageSteps:
    """The rows of a stage, cut into steps of this kind; None: lines where the task knows them, else
    paragraphs.

    Raises:
        ConfigError: there is no such stage, it has no recorded episodes, or the task has no lines.
    """
    directory = RunDirectory(run)
    recipe = directory.recipe()
    stage = _stage(recipe, stage_name, run)
    task = build_task(recipe.task_of(stage).params)
    labels_steps = isinstance(task, StepLabelledTask)
    if kind is StepKind.LINE and not labels_steps:
        raise ConfigError(
            f"--cut line: the task {task.name} does not say what a line of a search is\n"
            "  fix: cut it into paragraphs, calls or threads"
        )
    kind = kind or (StepKind.LINE if labels_steps else StepKind.PARAGRAPH)
    files = _record_files(directory.path / "stages" / stage_name)
    codec = load_codec(directory.start)
    problems = stage_problems(recipe, directory, stage, codec)
    found = StageSteps()
    for file in files:
        correct = _graded(file)
        for episode in read_episodes(file):
            problem = problems.get(episode.problem_id)
            if problem is None:
                found.unknown += 1
                continue
            found.episodes += 1
            found.calls += len(episode.calls)
            steps = _steps(found.kinds, task, problem, episode, codec, kind)
            right = correct.get(episode.id, _checked(task, problem, episode, codec))
            name = f"{file.name.removesuffix(_EPISODES)}/{episode.id}"
            found.rows += _rows(name, task, problem, episode, codec, steps, claim, right)
    return found


def _steps(
    kinds: Counter[StepKind], task: Task, problem: Problem, episode: Episode, codec: Codec, kind: StepKind
) -> list[LabelledStep]:
    """Steps of this kind, with labels where the task knows them; the steps of all kinds are counted."""
    cut = {each: cutter(episode, codec) for each, cutter in CUTTERS.items()}
    kinds.update({each: len(steps) for each, steps in cut.items()})
    if not isinstance(task, StepLabelledTask):
        return [LabelledStep(step=step, label=UNLABELLED) for step in cut[kind]]
    lines = label_lines(task, problem, episode, codec)
    kinds[StepKind.LINE] += len(lines)
    return lines if kind is StepKind.LINE else join_lines(cut[kind], episode, lines)


def _rows(
    name: str,
    task: Task,
    problem: Problem,
    episode: Episode,
    codec: Codec,
    steps: Sequence[LabelledStep],
    claim: Claim,
    right: bool | None,
) -> Iterator[StepRow]:
    def row(id: str, prompt: str, held: Sequence[LabelledStep]) -> StepRow:
        return StepRow(
            id=id,
            prompt=prompt,
            steps=tuple(each.step.text for each in held),
            labels=tuple(_written(getattr(each.label, claim)) for each in held),
            answer_correct=right,
            source=task.name,
            cut_off=held[-1].step.cut_off,
        )

    if not steps:
        return
    if steps[0].step.kind in (StepKind.CALL, StepKind.THREAD):
        yield row(name, task.prompt(problem).text, steps)
        return
    for index, group in groupby(steps, key=lambda each: each.step.call):
        context = "".join(codec.pieces(episode.context_ids(episode.calls[index])))
        yield row(f"{name}/{index}", context.strip(), list(group))


def _written(claim: bool | None) -> float | None:
    return None if claim is None else RIGHT if claim else WRONG


def _stage(recipe: Recipe, name: str, run: Path) -> StageConfig:
    for stage in recipe.stages:
        if stage.name == name:
            return stage
    known = ", ".join(stage.name for stage in recipe.stages)
    raise ConfigError(f"--stage {name}: {run} has no such stage\n  fix: name one of {known}")


def _record_files(folder: Path) -> list[Path]:
    found = sorted([*folder.glob(f"{RECORD}/*{_EPISODES}"), *folder.glob(f"*{_EPISODES}")])
    if not found:
        raise ConfigError(
            f"{folder}: holds no recorded episodes\n  fix: name an rl stage, or an evaluation that keeps "
            "episodes whole (keep_episodes), and run it first"
        )
    return found


def stage_problems(
    recipe: Recipe, directory: RunDirectory, stage: StageConfig, codec: Codec
) -> dict[str, Problem]:
    """All problems that the stage can have worked on, by id."""
    config, found = recipe.task_of(stage), dict[str, Problem]()
    is_own = config != recipe.task
    if isinstance(config, DatasetTask) and is_own:
        loaded = load_dataset(recipe, config, codec)
        return {row.problem.id: row.problem for part in loaded.values() for row in part.problems}
    for split in SPLITS:
        saved = directory.problems(split)
        if not is_own:
            problems = load_problems(saved) if saved.exists() else []
        elif isinstance(config, JudgeTask):
            problems = labelled_problems(config, directory, split) if config.has(split) else []
        else:
            assert not isinstance(config, DatasetTask)
            problems = make_problems(build_task(config.params), config, split) if config.has(split) else []
        found |= {problem.id: problem for problem in problems}
    return found


def _graded(file: Path) -> Mapping[str, bool | None]:
    """Episode id -> whether its answer was right, as it was recorded; {} where there is no such record."""
    name = file.name.removesuffix(_EPISODES)
    scores, outcomes = file.with_name(f"{name}.scores.json"), file.with_name(f"{name}.jsonl")
    if scores.is_file():
        rows = read_object(scores, scores=dict)["scores"]
        return {id: row.get("correct") for id, row in rows.items() if isinstance(row, dict)}
    if not outcomes.is_file():
        return {}
    graded = read_contents(outcomes).outcomes
    return {
        episode.id: graded[episode.problem_id, sample_of(episode.id)].correct
        for episode in read_episodes(file)
        if (episode.problem_id, sample_of(episode.id)) in graded
    }


def _checked(task: Task, problem: Problem, episode: Episode, codec: Codec) -> bool | None:
    """The task's own check, where it is one that labels steps; None elsewhere."""
    if not isinstance(task, StepLabelledTask):
        return None
    ids = episode.answer_ids()
    return ids is not None and task.check(problem, "".join(codec.pieces(ids)).strip())

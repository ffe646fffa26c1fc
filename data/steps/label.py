"""Exact labels of an episode's steps, on a task that can label them.

Lines are labelled by the task, each call with the lines that its context shows. A longer step is labelled by
the lines in it: it is valid when all that claim something are, and it leads where its last line leads.
"""

from collections.abc import Sequence

from data.episodes.trajectory import Call, Episode
from data.steps.cut import CUTTERS, cut_lines
from data.steps.output_text import Speller
from data.steps.search_lines import shown_ranges
from data.steps.step import UNLABELLED, LabelledStep, Step, StepKind, StepLabel
from data.tasks.base import Task
from data.tasks.labelled import StepLabelledTask
from data.tasks.problem import Problem


def cut_steps(task: Task, episode: Episode, speller: Speller, kind: StepKind) -> list[Step]:
    """All steps of this kind; lines only of a task that says what a line is."""
    if kind is not StepKind.LINE:
        return CUTTERS[kind](episode, speller)
    assert isinstance(task, StepLabelledTask), f"task {task.name} has no lines"
    return cut_lines(episode, speller, task.step_ranges)


def label_episode(
    task: StepLabelledTask, problem: Problem, episode: Episode, speller: Speller, kind: StepKind
) -> list[LabelledStep]:
    """All steps of this kind with their labels."""
    lines = label_lines(task, problem, episode, speller)
    return lines if kind is StepKind.LINE else join_lines(CUTTERS[kind](episode, speller), episode, lines)


def join_lines(steps: Sequence[Step], episode: Episode, lines: Sequence[LabelledStep]) -> list[LabelledStep]:
    """Longer steps, labelled by the lines in them."""
    return [LabelledStep(step=step, label=_joined(_inside(step, episode, lines))) for step in steps]


def label_lines(
    task: StepLabelledTask, problem: Problem, episode: Episode, speller: Speller
) -> list[LabelledStep]:
    """All lines with their labels. A line that is cut off says nothing yet: it has none."""
    by_call: dict[int, list[Step]] = {}
    for step in cut_lines(episode, speller, task.step_ranges):
        by_call.setdefault(step.call, []).append(step)
    found: list[LabelledStep] = []
    for index, steps in by_call.items():
        before = shown_lines(task, episode, episode.calls[index], speller)
        labels = task.label_steps(problem, before, [step.text for step in steps])
        found += [
            LabelledStep(step=step, label=UNLABELLED if step.cut_off else label)
            for step, label in zip(steps, labels, strict=True)
        ]
    return found


def shown_lines(task: StepLabelledTask, episode: Episode, call: Call, speller: Speller) -> list[str]:
    """Lines that the context of a call shows."""
    text = "".join(speller.pieces(episode.context_ids(call)))
    return [text[start:stop].strip() for start, stop in shown_ranges(text, task.step_ranges)]


def _inside(step: Step, episode: Episode, lines: Sequence[LabelledStep]) -> list[StepLabel]:
    """Labels of the lines in a longer step."""
    thread = episode.calls[step.call].thread
    return [
        line.label
        for line in lines
        if (
            episode.calls[line.step.call].thread == thread
            if step.kind is StepKind.THREAD
            else line.step.call == step.call and step.start <= line.step.start < step.stop
        )
    ]


def _joined(labels: Sequence[StepLabel]) -> StepLabel:
    valid = [label.valid for label in labels if label.valid is not None]
    led = [label.reachable for label in labels if label.reachable is not None]
    return StepLabel(valid=all(valid) if valid else None, reachable=led[-1] if led else None)

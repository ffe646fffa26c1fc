"""An episode cut into steps of one kind, in the order of its calls."""

from collections.abc import Callable

from data.episodes.trajectory import Episode, StopReason
from data.steps.output_text import OutputText, Speller, output_text
from data.steps.paragraphs import paragraph_ranges
from data.steps.search_lines import CutSegment, line_ranges
from data.steps.step import Range, Step, StepKind


def cut_lines(episode: Episode, speller: Speller, cut_segment: CutSegment) -> list[Step]:
    """Lines of the search; `cut_segment` is the task's (`StepLabelledTask.step_ranges`)."""
    return _cut(episode, speller, lambda text: line_ranges(text, cut_segment), StepKind.LINE)


def cut_paragraphs(episode: Episode, speller: Speller) -> list[Step]:
    """Paragraphs of every call."""
    return _cut(episode, speller, paragraph_ranges, StepKind.PARAGRAPH)


def cut_calls(episode: Episode, speller: Speller) -> list[Step]:
    """Every call that sampled text."""
    return _cut(episode, speller, lambda text: [(0, len(text))], StepKind.CALL)


def cut_threads(episode: Episode, speller: Speller) -> list[Step]:
    """Every thread that sampled text. It is cut off when its last call is."""
    texts: dict[int, list[Step]] = {}
    for step in cut_calls(episode, speller):
        texts.setdefault(episode.calls[step.call].thread, []).append(step)
    return [
        Step(
            call=steps[-1].call,
            start=steps[-1].start,
            stop=steps[-1].stop,
            text="\n".join(step.text for step in steps),
            kind=StepKind.THREAD,
            cut_off=steps[-1].cut_off,
        )
        for steps in texts.values()
    ]


def _cut(
    episode: Episode, speller: Speller, ranges: Callable[[str], list[Range]], kind: StepKind
) -> list[Step]:
    steps: list[Step] = []
    for call in episode.calls:
        if call.stop is not StopReason.ERROR:
            said: OutputText = output_text(call, speller)
            steps += said.steps(ranges(said.text), kind)
    return steps


CUTTERS: dict[StepKind, Callable[[Episode, Speller], list[Step]]] = {
    StepKind.PARAGRAPH: cut_paragraphs,
    StepKind.CALL: cut_calls,
    StepKind.THREAD: cut_threads,
}
"""Kinds of steps that every task has; what a line is, a task must say."""

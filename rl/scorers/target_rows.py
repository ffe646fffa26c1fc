"""Rows of a reward model: recorded calls, with a target at the last token of each step. Pure Python.

steps    the task's exact label of each step (`data.steps.label`); steps that make no claim have no target
outcome  whether the answer is right, at the last token of the root thread
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from data.episodes.trajectory import Episode
from data.forests.rows import TargetRow
from data.steps.label import label_episode
from data.steps.step import StepKind
from data.tasks.labelled import StepLabelledTask
from data.tasks.problem import Problem
from data.text.codec import Codec

Claim = Literal["valid", "reachable"]


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedCall:
    """One call with its targets."""

    problem_id: str
    episode_id: str
    row: TargetRow

    @classmethod
    def of(
        cls,
        problem_id: str,
        episode_id: str,
        ids: tuple[int, ...],
        first: int,
        targets: Mapping[int, float],
    ) -> Self:
        """`targets`: by place in the output, which begins at `first`."""
        places = range(len(ids) - first)
        row = TargetRow(
            ids=ids,
            first=first,
            weights=tuple(float(place in targets) for place in places),
            targets=tuple(targets.get(place, 0.0) for place in places),
        )
        return cls(problem_id=problem_id, episode_id=episode_id, row=row)

    @property
    def places(self) -> list[int]:
        """Places in the output that have a target."""
        return [place for place, weight in enumerate(self.row.weights) if weight]


def step_calls(
    task: StepLabelledTask, problem: Problem, episode: Episode, codec: Codec, kind: StepKind, claim: Claim
) -> list[JudgedCall]:
    """Each call in which a step with a label ends."""
    ends: dict[int, dict[int, float]] = {}
    for found in label_episode(task, problem, episode, codec, kind):
        label = getattr(found.label, claim)
        if label is not None:
            ends.setdefault(found.step.call, {})[found.step.stop - 1] = float(label)
    return [_judged(episode, call, targets) for call, targets in ends.items()]


def outcome_call(episode: Episode, *, correct: bool) -> list[JudgedCall]:
    """The last call of the root thread; none where it sampled nothing."""
    last = [call for call in episode.calls if call.thread == 0 and call.output][-1:]
    return [_judged(episode, call.index, {len(call.output) - 1: float(correct)}) for call in last]


def _judged(episode: Episode, index: int, targets: Mapping[int, float]) -> JudgedCall:
    call = episode.calls[index]
    context = episode.context_ids(call)
    return JudgedCall.of(episode.problem_id, episode.id, context + call.output, len(context), targets)

"""Process rewards from exact labels: is each step of the thought right, and can the goal still be reached?

Only tasks that label their own steps have it (`data.tasks.labelled`). A step that makes no claim is left out.
`aggregate` says what the labels become (rewards.process.aggregation): one value for the episode, or a reward
for each step, credited to the tokens of its call up to the step's end.

Example (`label: reachable`, `difference`): a thread reaches dead ends with its second and third step and is
back on a way to the goal with the fourth. Labels 1, 0, 0, 1; the problem itself counts as 1, so the rewards
are 0, -1, 0, 1.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from data.episodes.trajectory import Episode
from data.steps.label import label_episode
from data.steps.step import LabelledStep, Step, StepKind
from data.tasks.labelled import StepLabelledTask
from rewards.process.aggregation import AGGREGATES, differences, pure_rewards
from rewards.score import Judged, Score, StepReward
from rewards.term import TermParams
from rewards.verifiers.verdict import UngradableError

Aggregate = Literal["last", "min", "mean", "prod", "each", "difference", "pure"]


class ProcessParams(TermParams):
    """Which labels count, and how they become rewards."""

    needs_step_labels: ClassVar[bool] = True

    name: Literal["process"]
    """Name of the reward term."""
    step: Literal["line", "paragraph", "call", "thread"] = "line"
    """How an episode is cut into steps."""
    label: Literal["valid", "reachable"] = "reachable"
    """valid: the step is right by itself. reachable: the goal can still be reached from where it leads."""
    aggregate: Aggregate = "difference"
    """One value for the episode (last, min, mean, prod) or one for each step (each, difference, pure)."""
    right: float = Field(default=1.0, ge=-1e6, le=1e6)
    """Score of a step whose label is true; with `difference` also that of the problem before any step."""
    wrong: float = Field(default=0.0, ge=-1e6, le=1e6)
    """Score of a step whose label is false."""
    unlabelled: float | None = Field(default=None, ge=-1e6, le=1e6)
    """Score of a step that makes no claim, such as text outside the task's grammar; null leaves it out. With
    a low one a policy cannot escape the labels by writing what cannot be labelled.
    """
    temperature: float = Field(default=0.1, gt=0, le=1e6)
    """Temperature of `pure`; the lower, the more only the worst step counts."""
    most_steps: int = Field(default=256, ge=1, le=1_000_000)
    """Steps of an episode that are scored, from the first; writing more of them earns nothing."""


def thread_differences(episode: Episode, scored: Sequence[tuple[Step, float]], before: float) -> list[float]:
    """[n] what each step added to the score of its own line of thought.

    A call goes on from the score of the call before it in its thread, a thread from that of the call which
    opened it, and the root from `before`.
    """
    opened_by = [thread.opened_by for thread in episode.threads]
    at_end: dict[int, float] = {}
    of_thread: dict[int, float] = {}
    found: dict[int, float] = {}
    for call in episode.calls:
        opener = opened_by[call.thread]
        start = of_thread.get(call.thread, before if opener is None else at_end[opener])
        mine = [place for place, (step, _) in enumerate(scored) if step.call == call.index]
        added = differences([scored[place][1] for place in mine], start)
        found.update(zip(mine, added, strict=True))
        at_end[call.index] = of_thread[call.thread] = scored[mine[-1]][1] if mine else start
    return [found[place] for place in range(len(scored))]


class ProcessTerm:
    """Rewards from the task's labels of the steps."""

    def __init__(self, params: ProcessParams) -> None:
        self._params = params

    def __call__(self, judged: Judged) -> Score:
        """One value, or a reward for each labelled step."""
        params, task = self._params, judged.task
        if not isinstance(task, StepLabelledTask):
            raise UngradableError(f"task {task.name} does not label steps")
        labelled = label_episode(task, judged.problem, judged.episode, judged.codec, StepKind(params.step))
        scored = self._scored(labelled)[: params.most_steps]
        scores = [score for _, score in scored]
        claims = [getattr(found.label, params.label) for found in labelled]
        claimed = len(claims) - claims.count(None)
        reason = f"{claimed} of {len(claims)} steps labelled, {claims.count(False)} wrong"
        if params.aggregate in AGGREGATES:
            value = AGGREGATES[params.aggregate](scores) if scores else 0.0
            return Score(value=value, components={"process": value}, reason=reason)
        rewards = {
            "each": lambda: scores,
            "pure": lambda: pure_rewards(scores, params.temperature),
            "difference": lambda: thread_differences(judged.episode, scored, params.right),
        }[params.aggregate]()
        steps = tuple(
            StepReward(call=step.call, start=step.start, stop=step.stop, value=value)
            for (step, _), value in zip(scored, rewards, strict=True)
        )
        return Score(value=0.0, components={"process": 0.0}, steps=steps, reason=reason)

    def _scored(self, labelled: Sequence[LabelledStep]) -> list[tuple[Step, float]]:
        """Steps that count, with their scores."""
        params = self._params
        scores = {True: params.right, False: params.wrong, None: params.unlabelled}
        found = [(found.step, scores[getattr(found.label, params.label)]) for found in labelled]
        return [(step, score) for step, score in found if score is not None]

"""Process rewards: is each step of the thought right, and can the goal still be reached?

`source: labels` takes the exact labels of a task that labels its own steps (`data.tasks.labelled`); a step
that makes no claim is left out. `source: scorer` takes what the recipe's scorer says of each step, 0 to 1.
`aggregate` says what the labels become: one value (data.steps.aggregates), or a reward (rewards.process)
for each step, credited to the tokens of its call up to the step's end.

Example (`label: reachable`, `difference`): a thread reaches dead ends with its second and third step and is
back on a way to the goal with the fourth. Labels 1, 0, 0, 1; the problem itself counts as 1, so the rewards
are 0, -1, 0, 1.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from data.episodes.trajectory import Episode
from data.steps.aggregates import AGGREGATES
from data.steps.label import label_episode
from data.steps.output_text import output_text
from data.steps.step import Step, StepKind
from data.tasks.labelled import StepLabelledTask
from rewards.process.aggregation import differences, pure_rewards
from rewards.process.guards import count_answers, without_padding
from rewards.process.joins import join_progress, rewards_of_joins
from rewards.score import CallReward, Judged, Score, StepReward, StepScore
from rewards.term import TermParams
from rewards.verifiers.verdict import UngradableError

_Scored = Sequence[tuple[Step | StepScore, float]]
"""Steps with their scores, in order."""
Aggregate = Literal["last", "min", "mean", "prod", "each", "difference", "pure", "join"]


class ProcessParams(TermParams):
    """Which labels count, and how they become rewards."""

    name: Literal["process"]
    """Name of the reward term."""
    source: Literal["labels", "scorer"] = "labels"
    """Who judges the steps: the task, by exact labels, or the recipe's `scorer`, as it was trained to."""
    step: Literal["line", "paragraph", "call", "thread"] = "line"
    """How an episode is cut into steps that the task labels."""
    label: Literal["valid", "reachable"] = "reachable"
    """valid: the step is right by itself. reachable: the goal can still be reached from where it leads."""
    aggregate: Aggregate = "difference"
    """One value for the episode (last, min, mean, prod), one for each step (each, difference, pure), or what
    the results of joined threads were worth, for every call of these (join).
    """
    right: float = Field(default=1.0, ge=-1e6, le=1e6)
    """Score of a step that is right, by its label or with a scorer's 1; with `difference` also that of the
    problem before any step.
    """
    wrong: float = Field(default=0.0, ge=-1e6, le=1e6)
    """Score of a step that is wrong, by its label or with a scorer's 0; in between it is linear."""
    unlabelled: float | None = Field(default=None, ge=-1e6, le=1e6)
    """Score of a step that makes no claim, such as text outside the task's grammar; null leaves it out. With
    a low one a policy cannot escape the labels by writing what cannot be labelled.
    """
    temperature: float = Field(default=0.1, gt=0, le=1e6)
    """Temperature of `pure`; the lower, the more only the worst step counts."""
    most_steps: int = Field(default=256, ge=1, le=1_000_000)
    """Steps of an episode that are scored, from the first; writing more of them earns nothing. The program
    cuts and counts them, whatever numbers a text gives its steps.
    """
    most_step_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    """Tokens of a step; a longer one counts as wrong. null: any number."""
    answer_marks: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    r"""What begins an answer, such as `\boxed{`. Where one thread begins several, all steps of the episode
    count as wrong: another problem, solved and appended, earns nothing.
    """

    @property
    def takes_step_labels(self) -> bool:
        return self.source == "labels"

    @property
    def takes_scorer(self) -> bool:
        return self.source == "scorer"

    @property
    def rewards_steps(self) -> bool:
        return self.aggregate in ("each", "difference", "pure")


def thread_differences(episode: Episode, scored: _Scored, before: float) -> list[float]:
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


def thread_rewards(episode: Episode, scored: _Scored, before: float) -> tuple[CallReward, ...]:
    """The progress of each join, for every call of the threads whose results were read."""
    scores: dict[int, list[float]] = {}
    for step, score in scored:
        scores.setdefault(step.call, []).append(score)
    return rewards_of_joins(episode, join_progress(episode, scores, before))


class ProcessTerm:
    """Rewards from the task's labels of the steps."""

    def __init__(self, params: ProcessParams) -> None:
        self._params = params

    def __call__(self, judged: Judged) -> Score:
        """One value, or a reward for each step that counts."""
        params = self._params
        counted, reason = (self._by_scorer if params.source == "scorer" else self._by_labels)(judged)
        scored, said = self._guarded(judged, counted[: params.most_steps])
        scores, reason = [score for _, score in scored], reason + said
        if params.aggregate in AGGREGATES:
            value = AGGREGATES[params.aggregate](scores) if scores else 0.0
            return Score(value=value, components={"process": value}, reason=reason)
        if params.aggregate == "join":
            calls = thread_rewards(judged.episode, scored, params.right)
            return Score(value=0.0, components={"process": 0.0}, calls=calls, reason=reason)
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

    def _guarded(self, judged: Judged, scored: _Scored) -> tuple[_Scored, str]:
        """The scores behind the guards, and what these say."""
        params, episode = self._params, judged.episode
        answers: dict[int, int] = {}
        for call in episode.calls if params.answer_marks else ():
            answers.setdefault(call.thread, 0)
            answers[call.thread] += count_answers(output_text(call, judged.codec).text, params.answer_marks)
        most = max(answers.values(), default=0)
        if most > 1:
            return [(step, params.wrong) for step, _ in scored], f"; a thread begins {most} answers"
        scores = without_padding(
            [score for _, score in scored],
            [step.stop - step.start for step, _ in scored],
            params.most_step_tokens,
            params.wrong,
        )
        return [(step, score) for (step, _), score in zip(scored, scores, strict=True)], ""

    def _by_labels(self, judged: Judged) -> tuple[_Scored, str]:
        """Steps that count, with their scores by the task's labels, and the counts of the labels."""
        params, task = self._params, judged.task
        if not isinstance(task, StepLabelledTask):
            raise UngradableError(f"task {task.name} does not label steps")
        labelled = label_episode(task, judged.problem, judged.episode, judged.codec, StepKind(params.step))
        scores = {True: params.right, False: params.wrong, None: params.unlabelled}
        claims = [getattr(found.label, params.label) for found in labelled]
        found = [(step.step, scores[claim]) for step, claim in zip(labelled, claims, strict=True)]
        claimed = len(claims) - claims.count(None)
        reason = f"{claimed} of {len(claims)} steps labelled, {claims.count(False)} wrong"
        return [(step, score) for step, score in found if score is not None], reason

    def _by_scorer(self, judged: Judged) -> tuple[_Scored, str]:
        """All steps, with their scores by the recipe's scorer."""
        params, opinion = self._params, judged.opinion
        if isinstance(opinion, str):
            raise UngradableError(f"the scorer has no opinion: {opinion}")
        span = params.right - params.wrong
        return [(step, params.wrong + span * step.value) for step in opinion], f"{len(opinion)} steps scored"

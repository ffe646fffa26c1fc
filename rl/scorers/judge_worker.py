"""A judge as a scorer: says of each step of an episode how probable it is that it would be called right.

No token is sampled. The judge, trained to give its verdicts without words, reads the question about a call's
steps and, behind it, verdicts that call every step before this one right. Its score of the step is

    p(right) / (p(right) + p(wrong))

of the tokens of the next verdict: the probability that the first error is not here, if it is not before. One
pass covers one episode; its verdicts share question and beginning in a forest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from data.episodes.trajectory import Episode, Forced
from data.forests.rows import Row
from data.forests.split import split_rows
from data.params import Params
from data.steps.formats.row import StepRow
from data.steps.label import cut_steps
from data.steps.step import Step, StepKind
from data.tasks.judge.question import JudgeFormat
from data.tasks.judge.task import JudgeParams, JudgeSteps, judged_fields, judged_problem
from data.tasks.judge.verdicts import written
from data.tasks.problem import Problem
from data.tasks.registry import build_task
from data.text.codec import load_codec
from data.text.prompt import Prompt
from rewards.score import Opinion, StepScore
from rl.scorers.portions import portions
from rollout.protocols import AnyParams, build_protocol
from rollout.protocols.shared.base import Continue


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeWorkerSettings:
    """Who judges, and how it is asked."""

    model_dir: Path
    tokenizer_dir: Path
    protocol: AnyParams
    """Protocol that it was trained with: one call, whose answer is the verdicts."""
    format: JudgeFormat
    step: StepKind
    forest_tokens: int


class JudgeWorker:
    """Scores groups with one judge."""

    def __init__(self, settings: JudgeWorkerSettings, task: Params) -> None:
        """`task`: parameters of the task whose solutions are judged."""
        from rl.learner.collectives import limit_threads
        from rl.learner.judge_model import load_judge

        limit_threads(1, 1)
        self._settings, self._task = settings, build_task(task)
        self._judged = JudgeSteps(JudgeParams(format=settings.format))
        self._codec = load_codec(settings.tokenizer_dir)
        self._protocol = build_protocol(settings.protocol, self._codec)
        self._model = load_judge(settings.model_dir, self._codec.size)

    def ready(self) -> None:
        """Return once the model is loaded; the pool waits with a separate limit."""

    def score_group(self, problem: Problem, episodes: Sequence[Episode], first: int = 0) -> Iterator[Opinion]:
        """The opinions of the episodes from index `first` on, in order, each as soon as it is known."""
        for episode in episodes[first:]:
            yield self._opinion(problem, episode)

    def score_portions(
        self, problem: Problem, episodes: Sequence[Episode], first: int, ahead: int
    ) -> Iterator[list[Opinion]]:
        """As `score_group`, in lists, the first of them empty: `rl.scorers.portions`."""
        yield from portions(self.score_group(problem, episodes, first), ahead)

    def _opinion(self, problem: Problem, episode: Episode) -> Opinion:
        from rl.learner.judge_model import verdict_scores

        by_call: dict[int, list[Step]] = {}
        for step in cut_steps(self._task, episode, self._codec, self._settings.step):
            by_call.setdefault(step.call, []).append(step)
        rows: list[Row] = []
        for index, steps in by_call.items():
            if len(steps) > self._settings.format.most_steps:
                return (
                    f"a call has more steps than the judge's most_steps = {self._settings.format.most_steps}"
                )
            rows += self.rows(problem, episode, index, steps)
        if any(len(row) > self._settings.forest_tokens for row in rows):
            return f"a question is longer than scorer.forest_tokens = {self._settings.forest_tokens}"
        scores: dict[int, float] = {}
        pairs = {id(right): (right, wrong) for right, wrong in zip(rows[::2], rows[1::2], strict=True)}
        for part in split_rows(rows[::2], self._settings.forest_tokens // 2):
            found = verdict_scores(self._model, [pairs[id(row)] for row in part])
            scores |= {id(row): score for row, score in zip(part, found, strict=True)}
        flat = [scores[id(row)] for row in rows[::2]]
        steps = [step for of_call in by_call.values() for step in of_call]
        return tuple(
            StepScore(call=step.call, start=step.start, stop=step.stop, value=value)
            for step, value in zip(steps, flat, strict=True)
        )

    def rows(self, problem: Problem, episode: Episode, index: int, steps: Sequence[Step]) -> list[Row]:
        """Two rows for each step of a call: the verdicts up to it, with right and with wrong at the end."""
        row = StepRow(
            id="judged",
            prompt="".join(self._codec.pieces(episode.context_ids(episode.calls[index]))).strip(),
            question=self._task.prompt(problem).text,
            call=index,
            steps=tuple(step.text for step in steps),
            labels=(None,) * len(steps),
        )
        asked = self._asked(self._judged.prompt(judged_problem(row.id, judged_fields(row, len(steps)))))
        rows: list[Row] = []
        for place in range(len(steps)):
            right, wrong = (self._said((*(True,) * place, verdict)) for verdict in (True, False))
            shared = sum(
                1 for _ in takewhile(lambda both: both[0] == both[1], zip(right, wrong, strict=False))
            )
            rows += [_row(asked, said, shared) for said in (right, wrong)]
        return rows

    def _asked(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of the judge's question."""
        opened = self._protocol.open(prompt)
        assert isinstance(opened, Continue), "the cross-checks ask for a protocol of one call"
        return sum((span.ids for span in opened.ask.context if isinstance(span, Forced)), ())

    def _said(self, verdicts: Sequence[bool]) -> tuple[int, ...]:
        """The ids of an answer that breaks off behind the last of these verdicts."""
        *begins, text = self._protocol.answer.words(written(verdicts))
        word = written(verdicts[-1:]).split()[-1]
        return self._protocol.say(*begins, text[: text.rindex(word) + len(word)])


def _row(asked: tuple[int, ...], said: tuple[int, ...], shared: int) -> Row:
    """A question and what is said, with weight on the tokens behind the first `shared`."""
    weights = (*(0.0,) * shared, *(1.0,) * (len(said) - shared))
    return Row(ids=asked + said, first=len(asked), weights=weights)

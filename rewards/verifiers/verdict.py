"""Whether an episode's answer is right, by the task's verifier or its own check."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from data.episodes.trajectory import Episode, ThreadOutcome
from data.errors import BraidError, ConfigError, TrajectoryError
from data.tasks.base import Task
from data.tasks.problem import Problem
from data.text.codec import Codec
from rewards.verifiers.base import Outcome, OutcomeKind, Sample, fault, graded, no_answer, no_gold
from rewards.verifiers.process import VerifierPool


class Verdict(StrEnum):
    """What an answer turned out to be."""

    CORRECT = "correct"
    """An answer was given, and it is right."""
    WRONG = "wrong"
    """An answer was given, and it is wrong or malformed."""
    NONE = "none"
    """No answer was given: the model gave up, was cut off, or did not follow the protocol."""


class UngradableError(BraidError):
    """An episode that ended through no fault of the model, so that it gets no reward at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """The verdict on an answer, and what is known besides."""

    verdict: Verdict | None
    """None when the answer could not be checked."""
    outcome: OutcomeKind | None
    """Outcome of the verifier, or of the task's own check; None when no answer was given."""
    share: float | None = None
    """Share of full marks, 0 to 1; None when the answer could not be checked."""
    reason: str = ""
    """Explanation of the verdict, or of its absence."""
    ended: bool = True
    """False when the engine failed or the episode was cancelled: then it has no reward at all."""


_VERDICTS = {
    OutcomeKind.CORRECT: Verdict.CORRECT,
    OutcomeKind.WRONG: Verdict.WRONG,
    OutcomeKind.ANSWER_UNPARSABLE: Verdict.NONE,
}
"""Outcomes that are verdicts; with the other two nothing is graded."""


class Judge:
    """Judges episodes of one task by its verifier, or by the task's own check where it has none."""

    def __init__(self, task: Task, codec: Codec | None, pool: VerifierPool | None = None) -> None:
        """`codec` reads the answers of episodes; texts need none. `pool`: None is the task's own check."""
        self._task, self._codec, self._pool = task, codec, pool

    def ready(self) -> None:
        """Wait until the verifier's processes have started."""
        if self._pool is not None:
            self._pool.wait()

    def judge(self, problem: Problem, episode: Episode) -> Judgement:
        """The judgement on one episode."""
        return next(self.judge_all(problem, (episode,)))

    def judge_all(self, problem: Problem, episodes: Sequence[Episode]) -> Iterator[Judgement]:
        """The judgement on each episode of a problem, in order, each as soon as it is known."""
        yield from self._judged(problem, [self._answer(episode) for episode in episodes])

    def judge_probes(self, problem: Problem, episode: Episode) -> Iterator[Judgement]:
        """The judgement on each answer that was forced out of an episode, in order."""
        yield from self._judged(problem, [self._text(probe.answer) for probe in episode.probes])

    def judge_texts(self, problem: Problem, answers: Sequence[str | None]) -> Iterator[Judgement]:
        """The judgement on each answer that is text already; None is no answer."""
        none = Judgement(verdict=Verdict.NONE, outcome=None, share=0.0)
        yield from self._judged(problem, [none if answer is None else answer for answer in answers])

    def _judged(self, problem: Problem, answers: Sequence[str | Judgement]) -> Iterator[Judgement]:
        outcomes = self._outcomes(problem, [answer for answer in answers if isinstance(answer, str)])
        for answer in answers:
            yield judgement_of(next(outcomes)) if isinstance(answer, str) else answer

    def _answer(self, episode: Episode) -> str | Judgement:
        """Text of an episode's answer, or the judgement where it has none."""
        if episode.outcome in (ThreadOutcome.FAILED, ThreadOutcome.CANCELLED):
            reason = f"the episode was {episode.outcome.value}"
            return Judgement(verdict=None, outcome=None, reason=reason, ended=False)
        return self._text(episode.answer_ids())

    def _text(self, ids: tuple[int, ...] | None) -> str | Judgement:
        """Text of an answer, or the judgement where there is none."""
        if ids is None:
            return Judgement(verdict=Verdict.NONE, outcome=None, share=0.0)
        assert self._codec is not None, "episodes need a tokenizer"
        try:
            return self._codec.decode(ids)
        except TrajectoryError as error:
            # Sampling an id that stands for nothing is the model's doing, as any other wrong answer is.
            return judgement_of(graded(False, str(error)))

    def _outcomes(self, problem: Problem, answers: Sequence[str]) -> Iterator[Outcome]:
        if self._pool is None:
            yield from (self._checked(problem, answer) for answer in answers)
            return
        task = self._task
        gold, question, fields = task.gold(problem), task.prompt(problem).text, task.fields(problem)
        samples = [Sample(question=question, answer=answer, gold=gold, fields=fields) for answer in answers]
        yield from self._pool.verify(samples)

    def _checked(self, problem: Problem, answer: str) -> Outcome:
        """The outcome of the task's own check."""
        try:
            marks = self._task.marks(problem, answer)
        except ConfigError as error:
            return no_gold(str(error))
        except BraidError as error:
            return fault(str(error))
        if marks is None:
            return no_answer("the answer cannot be read")
        return graded(marks == 1.0, score=marks)


def judgement_of(outcome: Outcome) -> Judgement:
    """The judgement that an outcome stands for: an answer that cannot be read counts as none."""
    verdict = _VERDICTS.get(outcome.kind)
    share = None if verdict is None else outcome.score or 0.0
    reason = f"the answer could not be checked ({outcome.reason})" if verdict is None else outcome.reason
    return Judgement(verdict=verdict, outcome=outcome.kind, share=share, reason=reason)

"""The questions of a running episode to the scorer: open, answered, and withdrawn."""

from dataclasses import dataclass

from data.episodes.trajectory import Scoring, StopReason
from rollout.call_table import CallTable
from rollout.commands import Score, ScoredText, ScoreResult, Withdraw
from rollout.threads import LiveThread

WITHDRAWN = "withdrawn"
"""Why a question has no scores whose thread was stopped before the answer came."""


@dataclass(kw_only=True, slots=True)
class _Question:
    """One question of a thread; `scoring` once it is over."""

    thread: LiveThread
    calls: tuple[int, ...]
    scoring: Scoring | None = None

    def end(self, result: ScoreResult) -> Scoring:
        """Record how it ended."""
        self.scoring = Scoring(
            thread=self.thread.index,
            calls=self.calls,
            scores=result.scores,
            failure=result.failure,
            started_s=result.started_s,
            finished_s=result.finished_s,
        )
        return self.scoring


class ScoringTable:
    """All questions of one episode by index."""

    def __init__(self, calls: CallTable) -> None:
        self._calls = calls
        self._questions: list[_Question] = []

    def ask(self, thread: LiveThread, calls: tuple[int, ...]) -> Score:
        """The command that asks for the texts of finished calls."""
        assert calls, "a question is about at least one call"
        index, number = len(self._questions), sum(q.thread is thread for q in self._questions)
        self._questions.append(_Question(thread=thread, calls=calls))
        return Score(scoring=index, texts=tuple(map(self._text, calls)), path=thread.path, number=number)

    def finish(self, index: int, result: ScoreResult) -> LiveThread:
        """Record the answer to an open question. -> the thread that waits for it."""
        question = self._questions[index]
        assert question.scoring is None, "a question has one answer"
        assert result.failure or len(result.scores) == len(question.calls), "scores for every text"
        question.thread.scorings.append(question.end(result))
        return question.thread

    def withdraw(self, thread: LiveThread) -> list[Withdraw]:
        """Commands that give up a thread's open question."""
        commands = []
        for index, question in enumerate(self._questions):
            if question.thread is thread and question.scoring is None:
                question.end(ScoreResult(scores=(), failure=WITHDRAWN))
                commands.append(Withdraw(scoring=index))
        return commands

    def finished(self) -> list[Scoring]:
        """All questions of an episode that has ended, in the order in which they were asked."""
        scorings = [question.scoring for question in self._questions if question.scoring is not None]
        assert len(scorings) == len(self._questions), "a question is open"
        return scorings

    def _text(self, index: int) -> ScoredText:
        call = self._calls.calls[index]
        assert call is not None, "a call is scored after it has come back"
        return ScoredText(
            context=self._calls.resolve(call.context),
            output=call.output,
            ended=call.stop is StopReason.STOP,
        )

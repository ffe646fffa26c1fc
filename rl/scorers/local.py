"""A scorer in the process of those who ask it, for an evaluation or a server without Ray."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Protocol

from data.tasks.problem import Problem
from rollout.scoring import ScoreRequest, TextScores


class TextWorker(Protocol):
    """Who scores texts: `ScorerWorker`, `LabelWorker`."""

    def score_texts(
        self, problem: Problem, requests: Sequence[ScoreRequest], first: int = 0
    ) -> Iterator[TextScores | str]:
        """The scores of each request from index `first` on, in order."""
        ...


class LocalScorer:
    """A worker as episodes ask it; one question at a time, in a thread, so that sampling goes on."""

    def __init__(self, worker: TextWorker) -> None:
        self._worker, self._busy = worker, asyncio.Lock()

    async def score(self, request: ScoreRequest) -> TextScores | str:
        """The scores of all texts, or why there are none."""
        if request.problem is None:
            return "the episode does not say which problem it is about"
        async with self._busy:
            return await asyncio.to_thread(self._answer, request.problem, request)

    def _answer(self, problem: Problem, request: ScoreRequest) -> TextScores | str:
        return next(iter(self._worker.score_texts(problem, [request])))

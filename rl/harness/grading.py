"""Grades of an evaluation without Ray: one thread beside the event loop asks the verifier's processes."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from data.episodes.trajectory import Episode
from data.tasks.problem import Problem
from data.text.codec import Codec
from rewards.compose import compose
from rewards.score import Score
from rewards.terms.correct import CorrectParams
from rewards.verifiers.process import VerifierPool
from rewards.verifiers.verdict import Judge, Judgement
from rl.harness.exam import Exam

T = TypeVar("T")


class Grader:
    """Implements `rl.controller.seams.Rewards` with the one reward "is it right"; a context manager."""

    def __init__(self, exam: Exam, codec: Codec | None) -> None:
        """`codec` reads the answers of episodes; None: answers come as text."""
        self._pool = None if exam.verifier is None else VerifierPool(exam.verifier)
        self._judge = Judge(exam.task, codec, self._pool)
        self._reward = (
            None if codec is None else compose([CorrectParams(name="correct")], exam.task, codec, self._pool)
        )
        # A pool of verifiers is for one thread, and a slow verifier must not stop the engine.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grader")

    async def score(
        self, problem: Problem, episodes: Sequence[Episode], reference: object = None, /
    ) -> list[Score]:
        """[G] the score of each episode; ungraded where the verifier failed."""
        assert self._reward is not None, "episodes need a tokenizer"
        reward = self._reward
        return await self._asked(lambda: list(reward.group(problem, episodes)))

    async def judge(self, problem: Problem, answer: str | None) -> Judgement:
        """The judgement on an answer that is text; None is no answer."""
        return await self._asked(lambda: next(self._judge.judge_texts(problem, [answer])))

    async def _asked(self, ask: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, ask)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._pool is not None:
            self._pool.close()

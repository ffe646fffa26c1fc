"""Whether an episode's answer is right, by the task's own checker."""

from enum import StrEnum

from data.episodes.trajectory import Episode, ThreadOutcome
from data.errors import BraidError
from data.tasks.base import Task
from data.tasks.problem import Problem
from data.text.codec import Codec


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


def judge(task: Task, problem: Problem, episode: Episode, codec: Codec) -> Verdict:
    """The verdict on an episode's answer.

    Raises:
        UngradableError: the engine failed or the episode was cancelled before it could answer.
        BraidError: the answer cannot be decoded, or the problem itself is broken (`Task.check`).
    """
    if episode.outcome in (ThreadOutcome.FAILED, ThreadOutcome.CANCELLED):
        raise UngradableError(f"the episode was {episode.outcome.value}")
    ids = episode.answer_ids()
    if ids is None:
        return Verdict.NONE
    return Verdict.CORRECT if task.check(problem, codec.decode(ids)) else Verdict.WRONG

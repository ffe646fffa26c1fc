"""A Ray actor that scores episodes apart from the engines, so that a slow verifier never stalls sampling."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import ray

from data.episodes.trajectory import Episode
from data.params import Params
from data.tasks.problem import Problem
from data.tasks.registry import build_task
from data.text.codec import load_codec
from rewards.compose import RewardConfig, compose
from rewards.score import Opinion, Score
from rewards.verifiers.base import VerifierParams
from rewards.verifiers.process import VerifierPool


class RewardWorker:
    """Scores groups with the terms of a recipe; undecorated, so that it can be typed and used in-process."""

    def __init__(
        self,
        terms: Sequence[RewardConfig],
        task: Params,
        tokenizer_dir: Path,
        verifier: VerifierParams | None = None,
    ) -> None:
        """`verifier`: parameters of the task's verifier; None: the task's own check."""
        pool = None if verifier is None else VerifierPool(verifier)
        self._reward = compose(terms, build_task(task), load_codec(tokenizer_dir), pool)

    def ready(self) -> None:
        """Return once worker and verifier have started; the reward pool waits with a separate limit."""
        self._reward.ready()

    def score_group(
        self,
        problem: Problem,
        episodes: Sequence[Episode],
        first: int = 0,
        opinions: Sequence[Opinion] | None = None,
    ) -> Iterator[Score]:
        """Score the episodes from index `first` on, in order, each as soon as it is known.

        `opinions`: a scorer's, one for each episode of the group; None: no scorer was asked.
        """
        yield from self._reward.group(problem, episodes, opinions, first)


RewardActor = ray.remote(RewardWorker)
"""The actor class: `RewardActor.options(...).remote(terms, task, tokenizer_dir, verifier)`."""

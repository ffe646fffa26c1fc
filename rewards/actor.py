"""A Ray actor that scores episodes apart from the engines, so that a slow verifier never stalls sampling."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import ray

from data.episodes.trajectory import Episode
from data.tasks.problem import Problem
from data.tasks.registry import TaskParams, build_task
from data.text.codec import load_codec
from rewards.compose import RewardConfig, compose
from rewards.score import Score


class RewardWorker:
    """Scores groups with the terms of a recipe; undecorated, so that it can be typed and used in-process."""

    def __init__(self, terms: Sequence[RewardConfig], task: TaskParams, tokenizer_dir: Path) -> None:
        self._score = compose(terms, build_task(task), load_codec(tokenizer_dir))

    def ready(self) -> None:
        """Return once the worker has started; the reward pool waits for it with a separate limit."""

    def score_group(self, problem: Problem, episodes: Sequence[Episode], first: int = 0) -> Iterator[Score]:
        """Score the episodes from index `first` on, in order, each as soon as it is known."""
        for episode in episodes[first:]:
            yield self._score(problem, episode)


RewardActor = ray.remote(RewardWorker)
"""The actor class: `RewardActor.options(...).remote(terms, task, tokenizer_dir)`."""

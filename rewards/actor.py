"""A Ray actor that scores groups off the engine's process, so that a slow verifier never stalls decoding."""

from collections.abc import Sequence
from pathlib import Path

import ray

from data.episodes.trajectory import Episode
from data.tasks.problem import Problem
from data.tasks.registry import TaskParams, build_task
from data.text.tokenizer import load_codec
from rewards.compose import RewardConfig, compose
from rewards.score import Score


class RewardWorker:
    """Stateless beside its terms; undecorated so that it can be typed and tested in-process."""

    def __init__(self, terms: Sequence[RewardConfig], task: TaskParams, tokenizer_dir: Path) -> None:
        self._score = compose(terms, build_task(task), load_codec(tokenizer_dir))

    def score_group(self, problem: Problem, episodes: Sequence[Episode]) -> list[Score]:
        """[G] one score an episode, in their order."""
        return [self._score(problem, episode) for episode in episodes]


RewardActor = ray.remote(RewardWorker)
"""`RewardActor.options(...).remote(terms, task, tokenizer_dir)`."""

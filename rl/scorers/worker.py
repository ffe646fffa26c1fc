"""A scorer's process: says how right the steps of an episode are, or of texts of episodes that still run.
Undecorated, so that it can be used in-process; torch is imported where it starts.

One pass covers one episode: its calls share their prefixes in a forest, and a score does not depend on which
episodes are scored beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.episodes.trajectory import Episode
from data.errors import ConfigError
from data.forests.rows import TargetRow
from data.forests.split import split_rows
from data.params import Params
from data.steps.label import cut_steps
from data.steps.step import StepKind
from data.tasks.base import Task
from data.tasks.problem import Problem
from data.tasks.registry import build_task
from data.text.codec import Codec, load_codec
from rewards.score import Opinion, StepScore
from rl.scorers.portions import portions
from rl.scorers.target_rows import JudgedCall
from rl.scorers.texts import as_episode, ends_in_output
from rollout.scoring import ScoreRequest, TextScores


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerSettings:
    """What a scorer scores, and with which weights."""

    model_dir: Path
    tokenizer_dir: Path
    target: Literal["steps", "outcome"]
    step: StepKind
    forest_tokens: int


class ScorerWorker:
    """Scores groups with one reward model."""

    def __init__(self, settings: ScorerSettings, task: Params) -> None:
        """`task`: parameters of the task, which says what a line is."""
        from rl.learner.collectives import limit_threads
        from rl.learner.scorer_model import load_scorer

        limit_threads(1, 1)
        self._settings, self._task = settings, build_task(task)
        self._codec = load_codec(settings.tokenizer_dir)
        self._model = load_scorer(settings.model_dir, settings.target)
        rows = self._model.get_input_embeddings().weight.shape[0]
        if rows < self._codec.size:
            raise ConfigError(
                f"{settings.model_dir}: has {rows} embeddings, the run's tokenizer {self._codec.size} ids\n"
                "  fix: take a reward model of the same tokenizer as the policy's"
            )

    def ready(self) -> None:
        """Return once the model is loaded; the pool waits with a separate limit."""

    def score_group(self, problem: Problem, episodes: Sequence[Episode], first: int = 0) -> Iterator[Opinion]:
        """The opinions of the episodes from index `first` on, in order, each as soon as it is known."""
        for episode in episodes[first:]:
            yield self._opinion(episode)

    def score_portions(
        self, problem: Problem, episodes: Sequence[Episode], first: int, ahead: int
    ) -> Iterator[list[Opinion]]:
        """As `score_group`, in lists, the first of them empty: `rl.scorers.portions`."""
        yield from portions(self.score_group(problem, episodes, first), ahead)

    def score_texts(
        self, problem: Problem, requests: Sequence[ScoreRequest], first: int = 0
    ) -> Iterator[TextScores | str]:
        """The scores of each request from index `first` on, in order: one pass over its texts, which share
        their beginnings.
        """
        for request in requests[first:]:
            yield self._text_scores(request)

    def _text_scores(self, request: ScoreRequest) -> TextScores | str:
        settings, ends = self._settings, dict[int, list[int]]()
        if settings.target == "steps":
            found = scored_steps(self._task, as_episode(request.texts), self._codec, settings)
            ends = {index: [stop for _, stop in places] for index, places in found.items()}
        rows = [
            JudgedCall.of(
                "",
                "",
                text.context + text.output,
                len(text.context),
                dict.fromkeys(ends_in_output(text, ends.get(index, [])), 0.0),
            ).row
            for index, text in enumerate(request.texts)
        ]
        scores = self._scores(rows)
        return scores if isinstance(scores, str) else tuple(map(tuple, scores))

    def _scores(self, rows: Sequence[TargetRow]) -> list[list[float]] | str:
        """[rows][places] the model's score at every place with weight, or why there is none."""
        from rl.learner.scorer_model import scores_of

        if any(len(row) > self._settings.forest_tokens for row in rows):
            return f"a call is longer than scorer.forest_tokens = {self._settings.forest_tokens}"
        scores: dict[int, list[float]] = {}
        for part in split_rows(rows, self._settings.forest_tokens):
            scores |= {id(row): found for row, found in zip(part, scores_of(self._model, part), strict=True)}
        return [scores[id(row)] for row in rows]

    def _opinion(self, episode: Episode) -> Opinion:
        steps = scored_steps(self._task, episode, self._codec, self._settings)
        calls = [
            JudgedCall.of(
                episode.problem_id,
                episode.id,
                episode.context_ids(episode.calls[index]) + episode.calls[index].output,
                len(episode.context_ids(episode.calls[index])),
                {stop - 1: 0.0 for _, stop in ends},
            ).row
            for index, ends in steps.items()
        ]
        scores = self._scores(calls)
        if isinstance(scores, str):
            return scores
        return tuple(
            StepScore(call=index, start=start, stop=stop, value=value)
            for (index, ends), found in zip(steps.items(), scores, strict=True)
            for (start, stop), value in zip(ends, found, strict=True)
        )


def scored_steps(
    task: Task, episode: Episode, codec: Codec, settings: ScorerSettings
) -> dict[int, list[tuple[int, int]]]:
    """Call -> (first token, token behind the last) of each step that ends in it, in order."""
    if settings.target == "outcome":
        last = [call for call in episode.calls if call.thread == 0 and call.output][-1:]
        return {call.index: [(0, len(call.output))] for call in last}
    found: dict[int, list[tuple[int, int]]] = {}
    for step in cut_steps(task, episode, codec, settings.step):
        found.setdefault(step.call, []).append((step.start, step.stop))
    return found

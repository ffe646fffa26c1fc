"""A scorer that knows the truth: the task's exact labels of the steps. No model is asked.

It tells what a search could do with a perfect reward model, and makes searches exact in tests.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from data.params import Params
from data.steps.label import label_lines
from data.steps.step import StepLabel
from data.tasks.labelled import StepLabelledTask
from data.tasks.problem import Problem
from data.tasks.registry import build_task
from data.text.codec import load_codec
from rl.scorers.texts import as_episode
from rollout.scoring import ScoreRequest, TextScores

Claim = Literal["valid", "reachable", "both"]
UNKNOWN = 0.5
"""Score of a text of which nothing is known yet, such as half a line."""


class LabelWorker:
    """Scores texts by the labels of their lines: 1 for a right one, 0 for a wrong one."""

    def __init__(self, claim: Claim, task: Params, tokenizer_dir: Path) -> None:
        """`task`: parameters of a task that labels its steps."""
        self._claim, self._codec = claim, load_codec(tokenizer_dir)
        built = build_task(task)
        assert isinstance(built, StepLabelledTask), "the cross-checks ask for it"
        self._task = built

    def ready(self) -> None:
        """Return at once: there is nothing to load."""

    def score_texts(
        self, problem: Problem, requests: Sequence[ScoreRequest], first: int = 0
    ) -> Iterator[TextScores | str]:
        """The scores of each request from index `first` on, in order."""
        for request in requests[first:]:
            yield self._scores(problem, request)

    def _scores(self, problem: Problem, request: ScoreRequest) -> TextScores:
        episode = as_episode(request.texts)
        lines: dict[int, list[tuple[int, float]]] = {}
        for found in label_lines(self._task, problem, episode, self._codec):
            score = self._score(found.label)
            if score is not None:
                lines.setdefault(found.step.call, []).append((found.step.stop, score))
        scores: list[tuple[float, ...]] = []
        for index, text in enumerate(request.texts):
            known = lines.get(index, [])
            new = tuple(score for stop, score in known if stop > len(text.context))
            # Without a line that ends in the output, the text is as good as it was before.
            scores.append(new or (known[-1][1] if known else UNKNOWN,))
        return tuple(scores)

    def _score(self, label: StepLabel) -> float | None:
        if self._claim == "both":
            known = [claim for claim in (label.valid, label.reachable) if claim is not None]
            return float(all(known)) if known else None
        claim = label.valid if self._claim == "valid" else label.reachable
        return None if claim is None else float(claim)

"""Section `scorer`: who says in a run how good steps and texts are."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from data.params import CONTENT, MAY_CHANGE, Params
from data.tasks.judge.question import JudgeFormat

ScorerTarget = Literal["steps", "outcome"]
CLASSIFIERS: dict[ScorerTarget, tuple[str, int]] = {
    "steps": ("ForTokenClassification", 2),
    "outcome": ("ForSequenceClassification", 1),
}
"""What a reward model scores -> the end of its architecture's name in `transformers`, and its labels."""


class ScorerConfig(Params):
    """A reward model beside the engines, on the CPU of the driver's machine. Reward terms take its opinion of
    each step (`process`, `source: scorer`), and protocols that search ask it while their episodes run.

    Example: `scorer: {stage: prm}`, of a stage of `kind: reward_model` that comes before its users.
    """

    stage: str | None = None
    """Stage of this run whose weights it has: a reward model, which scores what it was trained on, or a judge
    that was trained (sft or rl on task `judge`) to give its verdicts without words. Its score of a step is
    the probability of the verdict right against that of wrong; only reward terms can ask it.
    """
    path: Path | None = Field(default=None, json_schema_extra=CONTENT)
    """Directory of a token classification model (target: steps), or of a sequence classification model with
    one label (target: outcome), with the policy's tokenizer; relative to the recipe.
    """
    judge: JudgeFormat | None = None
    """The language model in `path` is a judge of this format (`{words: none}`), not a reward model."""
    labels: Literal["valid", "reachable", "both"] | None = None
    """No model: the exact labels of a task that labels its steps, for protocols that search. Lines of a text
    score 1 or 0 by this label, or by both together.
    """
    target: ScorerTarget = "steps"
    """What the model in `path` scores: each step, or the whole answer at the end of the root thread (of a
    searching protocol's text: at its end).
    """
    step: Literal["line", "paragraph", "call", "thread"] = "line"
    """Steps that the model in `path`, or a judge, scores."""
    forest_tokens: int = Field(default=4096, ge=32, le=2**31)
    """Most distinct tokens of one pass over an episode; a longer call has no opinion."""
    workers: int = Field(default=1, ge=1, le=4_096, json_schema_extra=MAY_CHANGE)
    """Processes that score; each takes one group at a time."""
    seconds: float = Field(default=60.0, gt=0, le=1e7)
    """Seconds that scoring one episode may take; an episode that takes longer has no opinion."""
    start_seconds: float = Field(default=600.0, gt=0, le=1e7, json_schema_extra=MAY_CHANGE)
    """Seconds that a scorer may take to start before it is replaced."""

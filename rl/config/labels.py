"""Ways in which a stage of `kind: label_steps` labels steps."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from data.params import CONTENT, Params
from data.tasks.judge.question import JudgeFormat


class MonteCarloLabels(Params):
    """A step is as good as what is sampled behind it: the share of completions that end with a right answer.

    Source: Math-Shepherd (arXiv 2312.08935); `search: binary` as in OmegaPRM (arXiv 2406.06592).
    """

    kind: Literal["monte_carlo"]
    """Completions of each step by a model of this run, graded by the task's verifier."""
    completions: int = Field(default=8, ge=1, le=1_024)
    """k: completions of each step."""
    checkpoint: str | None = None
    """Earlier sft or rl stage that completes, or `start`; null: the last that was trained."""
    temperature: float = Field(default=1.0, gt=0, le=4)
    """Sampling temperature of the completions."""
    search: Literal["all", "binary"] = "all"
    """all: complete every step. binary: look for the first step of a call behind which nothing is right any
    more, with about log2 of the number of steps; where the recorded answer is right there is none to look
    for. Nothing is said of the steps behind it.
    """
    estimate: Literal["soft", "hard"] = "soft"
    """soft: the share itself. hard: 1 where any completion is right, else 0."""


class JudgeLabels(Params):
    """A language model of this run is asked of each solution which of its steps are right. The label of a
    step is the share of the verdicts on it that say right. A stage of task `judge` trains such a model.
    """

    kind: Literal["judge"]
    """Verdicts of a model of this run, which must be a pretrained one."""
    completions: int = Field(default=1, ge=1, le=1_024)
    """Judgements of each solution; one whose verdicts cannot be read does not count."""
    checkpoint: str | None = None
    """Earlier sft or rl stage that judges, or `start`; null: the last that was trained. One that was trained
    on task `judge` is asked with that stage's protocol and format.
    """
    path: Path | None = Field(default=None, json_schema_extra=CONTENT)
    """Directory of the weights that judge, in place of a checkpoint: with the architecture and tokenizer of
    the run's model, such as an export of another run, in one file model.safetensors.
    """
    format: JudgeFormat | None = None
    """Format of question and answer, for a judge that no stage of this run trained; null: its defaults."""
    temperature: float = Field(default=1.0, ge=0, le=4)
    """Sampling temperature of the verdicts."""
    meta: str | None = None
    """Earlier reward_model stage that was trained on whether judgements are right (`target: outcome` on
    episodes of task `judge`); of each solution's judgements those with its best scores vote.
    """
    keep: int | None = Field(default=None, ge=1, le=1_024)
    """Judgements that `meta` keeps; null: the better half of `completions`."""
    max_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    """Sampled tokens of one judgement, words included, for a judge that no stage of this run trained; null:
    1,024.
    """


class ConsensusLabels(Params):
    """Only the calls in which several labellings see the same first error (arXiv 2501.07301, Qwen)."""

    kind: Literal["consensus"]
    """Hard labels of what other stages agree on."""
    stages: tuple[str, ...] = Field(min_length=2, max_length=16)
    """Earlier label_steps stages that labelled the same episodes."""


class FileLabels(Params):
    """Labels of people or other programs, matched to the recorded steps by prompt and text."""

    kind: Literal["file"]
    """Labels that a file holds, in any format that `braid steps` reads."""
    path: Path = Field(json_schema_extra=CONTENT)
    """File of labelled steps, relative to the recipe; `braid steps RUN --stage NAME --out FILE` writes one to
    fill in.
    """


LabelSource = Annotated[
    MonteCarloLabels | JudgeLabels | ConsensusLabels | FileLabels, Field(discriminator="kind")
]
SAMPLED = MonteCarloLabels | JudgeLabels
"""Ways that need engines."""

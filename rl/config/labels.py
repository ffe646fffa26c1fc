"""Ways in which a stage of `kind: label_steps` labels steps."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from data.params import CONTENT, Params


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
    """A language model of this run is asked of each step whether it is right. The label is the share of its
    verdicts that say so.
    """

    kind: Literal["judge"]
    """Verdicts of a model of this run, which must be a pretrained one."""
    completions: int = Field(default=1, ge=1, le=1_024)
    """Verdicts on each step; one that cannot be read does not count."""
    checkpoint: str | None = None
    """Earlier sft or rl stage that judges, or `start`; null: the last that was trained."""
    temperature: float = Field(default=1.0, ge=0, le=4)
    """Sampling temperature of the verdicts."""
    max_tokens: int = Field(default=256, ge=1, le=10_000_000)
    """Sampled tokens of one verdict, with the words before it."""


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

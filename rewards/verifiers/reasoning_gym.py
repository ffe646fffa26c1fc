"""Answers to questions of `reasoning-gym`, scored by the library's own scorer of their data set.

Scores lie between 0 and 1, and only 1 is correct: several scorers give something for an answer that can be
read, and a part for one that contains the right answer. Scorers give model text to sympy and worse, which is
what the killable process is for.

A row has the fields of task `reasoning_gym`, or the library's own: `question`, `answer` and `metadata` with
`source_dataset`, as an object or as JSON.
"""

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from data.errors import ConfigError
from rewards.verifiers.base import Outcome, Sample, VerifierParams, fault, graded, no_answer, no_gold

if TYPE_CHECKING:
    from data.tasks.reasoning_gym.library import Item

CORRECT_FROM = 1 - 1e-6


class ReasoningGymParams(VerifierParams):
    """No keys of its own; the row names its data set."""

    name: Literal["reasoning_gym"]
    """Name of the verifier."""


class ReasoningGymVerifier:
    """The library's score; correct at full marks."""

    def __init__(self, params: ReasoningGymParams) -> None:
        from data.tasks.reasoning_gym.library import names

        self._names = frozenset(names())  # imports all data sets, once

    def __call__(self, sample: Sample) -> Outcome:
        """Score the answer as the data set does."""
        from data.tasks.reasoning_gym.scoring import score

        try:
            name, settings, item = _read(sample)
        except (ConfigError, ValueError, LookupError, TypeError) as error:
            return no_gold(f"the row is no question of reasoning-gym ({type(error).__name__}: {error})")
        if name not in self._names:
            return no_gold(f"reasoning-gym has no data set {name!r} that can be used")
        if not sample.answer.strip():
            return no_answer("the answer is empty")
        value = score(name, settings, sample.answer.strip(), item)
        if not math.isfinite(value):
            return fault(f"the scorer of {name} gave {value}")
        value = min(1.0, max(0.0, value))
        return graded(value >= CORRECT_FROM, f"{name}: {value:.3g} of 1", score=value)


def _read(sample: Sample) -> "tuple[str, dict[str, Any], Item]":
    """(data set, its settings, the item). Raises ConfigError, ValueError, LookupError or TypeError."""
    from data.tasks.reasoning_gym.library import Item
    from data.tasks.reasoning_gym.task import read_item

    fields = sample.fields
    if "dataset" in fields:
        settings, item = read_item(fields, "the row")
        return str(fields["dataset"]), settings, item
    metadata = fields["metadata"]
    metadata = json.loads(metadata) if isinstance(metadata, str) else metadata
    if not isinstance(metadata, Mapping):
        raise TypeError("metadata is no object")
    gold = fields["answer"] if "answer" in fields else sample.gold[0]
    question = str(fields.get("question", sample.question))
    return str(metadata["source_dataset"]), {}, Item(question=question, gold=str(gold), metadata=metadata)

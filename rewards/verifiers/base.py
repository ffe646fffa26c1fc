"""What a verifier is given and what it returns. All verifiers: rewards.verifiers.registry.

A verifier compares one answer with the gold answers of its problem, in a child process that is killed when it
is late (rewards.verifiers.process). Its outcome is one of five, and only the first two are rewards:

    correct, wrong       the answer was read and compared
    answer_unparsable    it could not be read, which counts as giving no answer
    gold_unparsable      the problem's own gold answer could not be read: nobody's answer can be graded
    fault                the verifier was late, raised, or its process died
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from pydantic import Field

from data.params import MAY_CHANGE, Params


class OutcomeKind(StrEnum):
    """What became of one answer."""

    CORRECT = "correct"
    """The answer was read, and it is right."""
    WRONG = "wrong"
    """The answer was read, and it is wrong."""
    ANSWER_UNPARSABLE = "answer_unparsable"
    """The answer could not be read; a reward counts it as no answer."""
    GOLD_UNPARSABLE = "gold_unparsable"
    """The gold answer could not be read, so nothing can be graded."""
    FAULT = "fault"
    """The verifier was late, raised an exception, or its process or sandbox failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One answer to be verified."""

    question: str
    """Text of the problem's prompt."""
    answer: str
    """Text of the answer, as the answer format extracted it."""
    gold: tuple[str, ...] = ()
    """Accepted answers: one that equals any of them is right."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The problem's other columns (JSON values)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The result for one answer."""

    kind: OutcomeKind
    score: float | None = None
    """Share of full marks, 0 to 1; 1.0 and 0.0 where the verifier knows no more than that. None: no grade."""
    reason: str = ""
    """Explanation in a few words."""


def graded(correct: bool, reason: str = "", *, score: float | None = None) -> Outcome:
    """The outcome of an answer that was read."""
    kind = OutcomeKind.CORRECT if correct else OutcomeKind.WRONG
    return Outcome(kind=kind, score=float(correct) if score is None else score, reason=reason)


def no_answer(reason: str) -> Outcome:
    """The outcome of an answer that cannot be read."""
    return Outcome(kind=OutcomeKind.ANSWER_UNPARSABLE, reason=reason)


def no_gold(reason: str) -> Outcome:
    """The outcome where the gold answer cannot be read."""
    return Outcome(kind=OutcomeKind.GOLD_UNPARSABLE, reason=reason)


def fault(reason: str) -> Outcome:
    """The outcome where the verifier failed."""
    return Outcome(kind=OutcomeKind.FAULT, reason=reason)


def best_of(sample: Sample, compare: Callable[[str], Outcome]) -> Outcome:
    """The best outcome over the gold answers, `compare(gold)` each, the first correct one ending the search.

    correct > wrong (highest score) > answer_unparsable > gold_unparsable: one gold answer that can be read is
    enough to grade.
    """
    if not sample.gold:
        return no_gold("the problem has no gold answer")
    outcomes: list[Outcome] = []
    for gold in sample.gold:
        outcome = compare(gold)
        if outcome.kind is OutcomeKind.CORRECT:
            return outcome
        outcomes.append(outcome)
    return max(outcomes, key=lambda outcome: (-_RANKS.index(outcome.kind), outcome.score or 0.0))


_RANKS = tuple(OutcomeKind)


class Verifier(Protocol):
    """A verifier, built once per child process from its parameters."""

    def __call__(self, sample: Sample, /) -> Outcome:
        """The outcome for one answer; an exception becomes a fault."""


class VerifierParams(Params):
    """Keys of every verifier; each adds its own and a literal `name`."""

    name: str
    """Name of the verifier."""
    seconds: float = Field(default=5.0, gt=0, le=3600, json_schema_extra=MAY_CHANGE)
    """Hard limit for one answer. A verifier that is late is killed, and the answer is ungraded."""
    max_characters: int = Field(default=20_000, ge=1, le=10_000_000)
    """Longest answer that is read; a longer one counts as no answer."""
    memory_gb: float = Field(default=4.0, gt=0, le=1024, json_schema_extra=MAY_CHANGE)
    """Limit on the address space of a verifier process in GiB."""
    processes: int = Field(default=2, ge=1, le=256, json_schema_extra=MAY_CHANGE)
    """Verifier processes of each reward worker, which work on a group's answers side by side."""

    gold_share: float = Field(default=0.95, ge=0, le=1, json_schema_extra=MAY_CHANGE)
    """Least share of gold answers that must verify against themselves, or the recipe is refused."""

    verifies_gold: ClassVar[bool] = True
    """Whether a gold answer given as the answer must be correct, which `braid check` tries."""


def too_long(sample: Sample, params: VerifierParams) -> Outcome | None:
    """The outcome of an answer beyond `max_characters`; None for one that may be read."""
    length = len(sample.answer)
    if length <= params.max_characters:
        return None
    return no_answer(
        f"the answer has {length} characters, more than max_characters ({params.max_characters})"
    )

"""Penalty for breaking the protocol. The episode lists its violations, so no protocol is needed here."""

from typing import Literal

from pydantic import Field

from rewards.score import Judged, Score
from rewards.term import TermParams


class FormatParams(TermParams):
    """How much a violation costs."""

    name: Literal["format"]
    """Name of the reward term."""
    penalty: float = Field(default=0.1, ge=0, le=1e6)
    """Subtracted once when there is any violation, however many."""


class FormatTerm:
    """0 for an episode without violations, else -penalty."""

    def __init__(self, params: FormatParams) -> None:
        self._penalty = params.penalty

    def __call__(self, judged: Judged) -> Score:
        """0, or minus the penalty, with the kinds of violations as the reason."""
        if not judged.episode.violations:
            return Score(value=0.0, components={"format": 0.0}, reason="well-formed")
        kinds = dict.fromkeys(violation.kind.value for violation in judged.episode.violations)
        value = -self._penalty
        return Score(value=value, components={"format": value}, reason=f"violations: {', '.join(kinds)}")

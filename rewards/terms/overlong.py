"""A charge on length that grows over a buffer before the limit: DAPO's soft overlong punishment.

Source: DAPO (arXiv 2503.14476, equation 13), whose limit is 20,480 tokens and whose buffer 4,096. There L
is the length of one response; here it is the number of tokens that all calls, or the longest path, sampled.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from data.episodes.topology import critical_tokens, total_tokens
from rewards.score import Judged, Score
from rewards.term import TermParams


def overlong_penalty(tokens: int, *, max_tokens: int, buffer: int) -> float:
    """With L tokens: 0 while L <= max_tokens - buffer, then (max_tokens - buffer - L) / buffer while
    L <= max_tokens, then -1.

    Example (20,480 and 4,096): 16,384 tokens cost nothing, 17,408 cost 1,024 / 4,096 = 0.25, 20,480 and more
    cost 1.
    """
    free = max_tokens - buffer
    if tokens <= free:
        return 0.0
    return (free - tokens) / buffer if tokens <= max_tokens else -1.0


class OverlongParams(TermParams):
    """Length from which an episode is charged, and how length is measured."""

    name: Literal["overlong"]
    """Name of the reward term."""
    max_tokens: int = Field(default=20_480, ge=1, le=1_000_000_000)
    """Sampled tokens at which the charge is 1, and stays so."""
    buffer: int = Field(default=4_096, ge=0, le=1_000_000_000)
    """Tokens before `max_tokens` over which the charge grows from 0; 0: no slope, only the limit."""
    measure: Literal["total", "critical"] = "total"
    """Measure of length: the tokens of all calls, or those of the longest path."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.buffer > self.max_tokens:
            raise ValueError(
                f"buffer ({self.buffer}) must not be above max_tokens ({self.max_tokens}), "
                "or an empty episode is charged"
            )
        return self


class OverlongTerm:
    """Charge for length beyond a free range."""

    def __init__(self, params: OverlongParams) -> None:
        self._params = params

    def __call__(self, judged: Judged) -> Score:
        """The charge, between -1 and 0."""
        params = self._params
        tokens = (
            total_tokens(judged.episode) if params.measure == "total" else critical_tokens(judged.episode)
        )
        value = overlong_penalty(tokens, max_tokens=params.max_tokens, buffer=params.buffer)
        free = params.max_tokens - params.buffer
        return Score(
            value=value,
            components={"overlong": value},
            reason=f"{tokens} {params.measure} tokens, {free} free",
        )

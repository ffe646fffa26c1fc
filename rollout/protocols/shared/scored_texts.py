"""Base of searches whose texts grow by steps that a scorer judges: settings, and the choice of an answer.

A text is what a `sequential` thread writes, so a model trained on its demonstrations can be searched.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from data.episodes.trajectory import Scoring
from data.steps.aggregates import Aggregate
from rollout.protocols.shared.answers import ANSWER_TAGS
from rollout.protocols.shared.base import (
    Encoder,
    ForkingParams,
    ProtocolParams,
    Return,
    Role,
    ThinkingProtocol,
    ThreadResult,
)
from rollout.protocols.shared.chains import SOLO, SOLO_TAGS, returned_by
from rollout.protocols.shared.step_cut import step_stops
from rollout.protocols.shared.voting import vote


class ScoredTextParams(ForkingParams):
    """Recipe section of a search."""

    width: int = Field(default=4, ge=1, le=65_536)
    """Texts that grow at once; those beyond `budgets.width` do not run."""
    chain_tokens: int = Field(default=440, ge=1, le=10_000_000)
    """Most sampled tokens of one text, all its steps together."""
    aggregate: Aggregate = "last"
    """One value of the scores of a text's steps (`data.steps.aggregates`)."""
    pick: Literal["vote", "best"] = "vote"
    """Answer: the one with the largest sum of its texts' values, or that of the best text."""

    @property
    def takes_scorer(self) -> bool:
        return True

    has_rounds: ClassVar[bool] = True
    """Whether texts grow in rounds, each of which needs all of them."""

    @model_validator(mode="after")
    def _waits_for_all(self) -> Self:
        if self.has_rounds and self.wait != "all":
            raise ValueError("a search chooses among all texts of a round: it needs wait: all")
        return self


class StepParams(ScoredTextParams):
    """Recipe section of a search whose texts grow by steps of their own length."""

    step_tokens: int = Field(default=256, ge=1, le=10_000_000)
    """Most sampled tokens of one step."""
    step_end: str | None = None
    """Text that ends a step, such as an empty line or a tag; left out: every step has `step_tokens`."""
    steps: int = Field(default=25, ge=1, le=65_536)
    """Most steps of a text; the last one runs to the text's end."""

    @property
    def stops_at_text(self) -> bool:
        return self.step_end is not None


class ScoredTexts(ThinkingProtocol):
    """Base class of `TreeSearch`, whose texts grow in rounds, and of `StepChains`, whose texts grow alone."""

    handles_needs: ClassVar[bool] = True
    roles: ClassVar[dict[str, Role]] = {"chain": SOLO}
    role_tags: ClassVar[tuple[str, ...]] = ("<solo>", "<think>")

    _params: ScoredTextParams

    def __init__(self, params: ProtocolParams, encoder: Encoder) -> None:
        super().__init__(params, encoder)
        end = self._params.step_end if isinstance(self._params, StepParams) else None
        self._step_stops = step_stops(self._tags.stops(), end, encoder)

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        return SOLO_TAGS

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return ANSWER_TAGS

    def picked(self, results: tuple[ThreadResult, ...], values: Sequence[float]) -> Return:
        """The root's answer, by the values of finished texts; none when there is no text."""
        if self._params.pick == "vote":
            return returned_by(results, vote([self.given(result) for result in results], values))
        return returned_by(results, max(range(len(results)), key=values.__getitem__, default=None))


def scores_by_call(scorings: Sequence[Scoring]) -> dict[int, tuple[float, ...]]:
    """Scores of the steps of each call that was scored."""
    return {
        call: scores
        for scoring in scorings
        for call, scores in zip(scoring.calls, scoring.scores, strict=True)
    }

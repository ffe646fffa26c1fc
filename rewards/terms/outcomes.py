"""A penalty for how threads ended: cut off, malformed, out of budget.

Source: this project; the published systems end the episode, drop the child or discard the sample.

A price is set by a thread's outcome, or by the limit that ended it; the limit takes precedence.

Example: children {truncated: 0.05, budget: 0.1, width: 0.02}, root {truncated: 0.5}. Of five children one
returned, one was cut off (0.05), two were refused for width (0.02 each, not 0.1) and one ran out of
total_tokens (0.1); the root returned: -(0.05 + 0.04 + 0.1) = -0.19.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from data.episodes.trajectory import Limit, Thread, ThreadOutcome
from rewards.score import Judged, Score
from rewards.term import TermParams

ENDINGS = tuple(ending.value for kind in (ThreadOutcome, Limit) for ending in kind)
"""Names that can have a price; no outcome has the name of a limit."""
Price = Annotated[float, Field(ge=0, le=1e6)]
_CUT_SHORT = ("truncated", "malformed", "budget")
_UNGRADED = ("failed", "cancelled")


def price(thread: Thread, prices: Mapping[str, float]) -> float:
    """What this thread's end costs: by its limit if that has a price, else by its outcome, else 0."""
    if thread.limit is not None and thread.limit.value in prices:
        return prices[thread.limit.value]
    return prices.get(thread.outcome.value, 0.0)


def outcome_penalty(
    threads: Sequence[Thread], *, children: Mapping[str, float], root: Mapping[str, float], clip: float
) -> float:
    """-min(sum of all threads' prices, clip); `threads` of an episode, the root first."""
    charged = price(threads[0], root) + sum(price(thread, children) for thread in threads[1:])
    return -min(charged, clip) if charged else 0.0


class OutcomesParams(TermParams):
    """Prices by outcome (returned, truncated, malformed, budget, cancelled, failed,
    child_failed) or by limit (width, depth, total_tokens, critical_tokens, seconds, call, context).
    """

    name: Literal["outcomes"]
    """Name of the reward term."""
    children: dict[str, Price] = Field(default=dict.fromkeys(_CUT_SHORT, 0.05))
    """Price of each thread beside the root, by ending. Endings that are not named are free."""
    root: dict[str, Price] = Field(default=dict.fromkeys((*_CUT_SHORT, "child_failed"), 0.5))
    """Price of the root thread, by ending. Endings that are not named are free."""
    clip: float = Field(default=1.0, gt=0, le=1e6)
    """Largest charge of an episode, before `weight`."""

    @model_validator(mode="after")
    def _can_be_charged(self) -> Self:
        for name in (*self.children, *self.root):
            if name not in ENDINGS:
                raise ValueError(f"{name!r} is not an ending; choose from {', '.join(ENDINGS)}")
        for name in _UNGRADED:
            if name in self.root:
                raise ValueError(
                    f"root.{name} would never be charged: an episode whose root ended so is the "
                    "engine's fault and gets no reward at all"
                )
        return self


class OutcomesTerm:
    """Charge for how threads ended."""

    def __init__(self, params: OutcomesParams) -> None:
        self._params = params

    def __call__(self, judged: Judged) -> Score:
        """The charge, at most 0."""
        params = self._params
        value = outcome_penalty(
            judged.episode.threads, children=params.children, root=params.root, clip=params.clip
        )
        charged = [t for t in judged.episode.threads if price(t, params.children if t.index else params.root)]
        names = dict.fromkeys((t.limit or t.outcome).value for t in charged)
        reason = f"{len(charged)} threads charged: {', '.join(names)}" if charged else "no ending is charged"
        return Score(value=value, components={"outcomes": value}, reason=reason)

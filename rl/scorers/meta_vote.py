"""The better part of several judgements, by the scores of a model that judges judgements.

Source: meta reward model of SPCT (arXiv 2504.02495): the better half of k sampled judgements votes.
"""

from collections.abc import Sequence
from typing import TypeVar

from rewards.score import Opinion

T = TypeVar("T")


def meta_score(opinion: Opinion) -> float | None:
    """What a scorer says of a whole judgement: its mean score; None where it says nothing."""
    if isinstance(opinion, str) or not opinion:
        return None
    return sum(step.value for step in opinion) / len(opinion)


def kept(judgements: Sequence[T], scores: Sequence[float | None], keep: int) -> list[T]:
    """The `keep` judgements with the best scores, in their order; of equal ones the earlier. One without a
    score comes behind all others.
    """
    places = sorted(
        range(len(judgements)), key=lambda place: (scores[place] is None, -(scores[place] or 0.0))
    )
    return [judgements[place] for place in sorted(places[:keep])]

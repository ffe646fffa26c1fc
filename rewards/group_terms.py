"""Terms that grade the episodes of a problem together, all such terms at the same time."""

import asyncio
from collections.abc import Mapping, Sequence

from data.errors import BraidError
from rewards.score import GroupTerm, Judged, RewardTerm, Score


async def score_together(
    terms: Mapping[str, GroupTerm], judged: Sequence[Judged | None]
) -> list[dict[str, Score]]:
    """[n] term -> its score of each episode; {} for one that did not end (None), which no term sees.

    A term that cannot grade them gives every episode a score without a value, and its reason.
    """
    ended = [each for each in judged if each is not None]
    if not ended:
        return [{} for _ in judged]
    graded = await asyncio.gather(*(_graded(term, ended) for term in terms.values()))
    by_episode = zip(*graded, strict=True)
    return [{} if each is None else dict(zip(terms, next(by_episode), strict=True)) for each in judged]


def score_alone(term: RewardTerm | GroupTerm, judged: Judged) -> Score:
    """Score that a term of either kind gives one episode alone. Raises BraidError when it cannot grade it."""
    if not isinstance(term, GroupTerm):
        return term(judged)
    (score,) = asyncio.run(_asked(term, judged))
    return score


async def _asked(term: GroupTerm, judged: Judged) -> Sequence[Score]:
    return await term.score_group([judged])


async def _graded(term: GroupTerm, judged: Sequence[Judged]) -> Sequence[Score]:
    try:
        scores = await term.score_group(judged)
    except BraidError as error:
        return [Score(value=None, reason=str(error))] * len(judged)
    if len(scores) != len(judged):
        reason = f"gave {len(scores)} scores for {len(judged)} episodes"
        return [Score(value=None, reason=reason)] * len(judged)
    return scores

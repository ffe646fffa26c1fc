"""Which episodes a report shows: best, worst, median and most wasteful, and the ones with violations.

Episodes are ordered by reward, equal ones by cost: best is the cheapest of the highest reward, worst the
dearest of the lowest. An episode without a reward is only chosen for its violations.
"""

from collections.abc import Sequence

from data.episodes.topology import critical_tokens, total_tokens
from data.episodes.trajectory import ThreadOutcome
from rl.reporting.contents import Shown
from rl.reporting.waste import wasted_tokens

MOST_VIOLATIONS = 4
"""Most examples of violations: one of each kind, the most frequent first."""


def choose(found: Sequence[Shown]) -> list[tuple[str, Shown]]:
    """(why, episode) of the episodes to show; none is chosen twice."""
    chosen: list[tuple[str, Shown]] = []
    left = list(found)

    def take(why: str, ordered: list[Shown]) -> None:
        if ordered:
            chosen.append((why, ordered[0]))
            left.remove(ordered[0])

    take("best", sorted(_graded(left), key=lambda shown: (-_reward(shown), critical_tokens(shown.episode))))
    take("worst", sorted(_graded(left), key=lambda shown: (_reward(shown), -total_tokens(shown.episode))))
    take("median", _middle(sorted(_graded(left), key=lambda shown: (_reward(shown), shown.episode.id))))
    take("most wasteful", sorted(_graded(left), key=lambda shown: -_waste(shown)))
    for kind in _kinds(left)[:MOST_VIOLATIONS]:
        take(f"violation: {kind.replace('_', ' ')}", [shown for shown in left if kind in _broken(shown)])
    return chosen


def _graded(found: Sequence[Shown]) -> list[Shown]:
    return [shown for shown in found if shown.reward is not None]


def _reward(shown: Shown) -> float:
    assert shown.reward is not None, "only graded episodes are ordered"
    return shown.reward


def _waste(shown: Shown) -> int:
    return wasted_tokens(shown.episode, correct=shown.correct)


def _middle(ordered: list[Shown]) -> list[Shown]:
    return ordered[(len(ordered) - 1) // 2 :][:1]


def _broken(shown: Shown) -> set[str]:
    """Kinds of violations, and of ends of the root, that an example is wanted of."""
    kinds = {violation.kind.value for violation in shown.episode.violations}
    return kinds if shown.episode.outcome is not ThreadOutcome.TRUNCATED else kinds | {"truncated"}


def _kinds(found: Sequence[Shown]) -> list[str]:
    """All kinds, the most frequent first."""
    counts: dict[str, int] = {}
    for shown in found:
        for kind in sorted(_broken(shown)):
            counts[kind] = counts.get(kind, 0) + 1
    return sorted(counts, key=lambda kind: (-counts[kind], kind))

"""Credit assignment: which advantage each call of an episode gets.

    broadcast   every call gets the episode's advantage (GRPO as published by APR, ThreadWeaver, Parallel-R1)
    child       the root's calls get the episode's advantage; a child's calls, and those of all threads below
                it, get the child's own, from its contribution c:

        c = (R - b) / k   when the child is one of the k that the outcome rests on
        c = 0             when it is not
        b = mean reward of the group's episodes in which no child succeeded; 0 when there is none

    An outcome rests on the children that reported success and whose result contains the answer; when no
    single result does (the answer was made of parts, or there is none), on all that reported success.
    The children's advantages are computed from the c of all children of a group, by the same estimator
    as those of the episodes (rl.algorithms.advantages.estimators); with "group_std":
        A = (c - mean) / (std + eps)   over all children of the group

`R - b` estimates, from the group, the cost of losing the children's success: with k = 1 it is
leave-one-child-out, with more it is divided, as the Shapley value divides a win that any one of k players
brings about. A wrong answer has R < b, so only the children that claimed it get a negative
contribution. An advantage broadcast over n children is one part signal and n - 1 parts the luck of siblings.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from data.episodes.trajectory import Episode, Ref
from rl.algorithms.advantages.estimator import Estimator
from rl.algorithms.advantages.estimators import ESTIMATORS

Credit = Literal["broadcast", "child"]


def call_advantages(
    groups: Sequence[tuple[Sequence[Episode], Sequence[float | None]]], *, estimator: str, credit: Credit
) -> list[list[list[float]]]:
    """[P][G][calls] one advantage per call, for groups of episodes and their rewards.

    `estimator`: a name in rl.algorithms.advantages.estimators. It sees the rewards of the batch, [P][G];
    under child credit it also sees the contributions of the batch, [P][children of all G episodes].
    """
    return credited(groups, ESTIMATORS[estimator], credit)


def credited(
    groups: Sequence[tuple[Sequence[Episode], Sequence[float | None]]], estimate: Estimator, credit: Credit
) -> list[list[list[float]]]:
    """`call_advantages` with any function from values to advantages."""
    whole = estimate([rewards for _, rewards in groups])
    if credit == "broadcast":
        return [
            [[value] * len(episode.calls) for episode, value in zip(episodes, values, strict=True)]
            for (episodes, _), values in zip(groups, whole, strict=True)
        ]
    contributions = [child_contributions(episodes, rewards) for episodes, rewards in groups]
    of_children = estimate([[c for found in of_group for c in found.values()] for of_group in contributions])
    advantages: list[list[list[float]]] = []
    for (episodes, _), values, of_group, estimates in zip(
        groups, whole, contributions, of_children, strict=True
    ):
        following = iter(estimates)
        of_child = [{child: next(following) for child in found} for found in of_group]
        advantages.append([_per_call(*given) for given in zip(episodes, values, of_child, strict=True)])
    return advantages


def _per_call(episode: Episode, value: float, of_child: Mapping[int, float]) -> list[float]:
    """[calls] the episode's advantage for the root's calls, a child's for its own and those below it."""
    of_thread = [value if child is None else of_child[child] for child in child_of_root(episode)]
    return [of_thread[call.thread] for call in episode.calls]


def child_contributions(
    episodes: Sequence[Episode], rewards: Sequence[float | None]
) -> list[dict[int, float | None]]:
    """[G] c of every child of the root, by its thread; None throughout an episode that was not graded.

    Example (two episodes; three children of which two succeeded, R = 1; two of which none did, R = 0):
        b = 0; [{1: 0.5, 2: 0.0, 3: 0.5}, {1: 0.0, 2: 0.0}]
    """
    children = [[t for t in episode.threads if t.parent == 0] for episode in episodes]
    barren = [
        reward
        for found, reward in zip(children, rewards, strict=True)
        if reward is not None and not any(child.success for child in found)
    ]
    baseline = math.fsum(barren) / len(barren) if barren else 0.0
    contributions: list[dict[int, float | None]] = []
    for episode, found, reward in zip(episodes, children, rewards, strict=True):
        winners = _winners(episode, [child.index for child in found if child.success])
        contributions.append(
            {
                child.index: None if reward is None
                else (reward - baseline) / len(winners) if child.index in winners else 0.0
                for child in found
            }
        )  # fmt: skip
    return contributions


def _winners(episode: Episode, successful: Sequence[int]) -> list[int]:
    """The children among `successful` that the outcome rests on."""
    answer = episode.answer_ids()
    if answer is None:
        return list(successful)
    returned_ids = {child: _returned_ids(episode, child) for child in successful}
    return [child for child in successful if _contains(returned_ids[child], answer)] or list(successful)


def _returned_ids(episode: Episode, child: int) -> tuple[int, ...]:
    """Token ids that a child returned: the ranges of its outputs that the root's contexts refer to."""
    spans = {
        span
        for call in episode.calls
        if call.thread == 0
        for span in call.context
        if isinstance(span, Ref) and episode.calls[span.call].thread == child
    }
    ordered: list[Ref] = sorted(spans, key=lambda span: (span.call, span.start))
    return episode.resolve(tuple(ordered))


def _contains(ids: Sequence[int], part: Sequence[int]) -> bool:
    return any(tuple(ids[i : i + len(part)]) == tuple(part) for i in range(len(ids) - len(part) + 1))


def child_of_root(episode: Episode) -> list[int | None]:
    """[threads] the child of the root that each thread is or lies below; None for the root."""
    owner: list[int | None] = []
    for thread in episode.threads:
        if thread.parent is None:
            owner.append(None)
        else:
            owner.append(thread.index if thread.parent == 0 else owner[thread.parent])
    return owner

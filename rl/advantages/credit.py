"""Who of an episode's threads gets which advantage.

    broadcast   every call gets the episode's advantage (GRPO as published by APR, ThreadWeaver, Parallel-R1)
    child       the root's calls get the episode's advantage; a child's calls, and those of all threads below
                it, get the child's own, from its contribution c:

        c = (R - b) / k   when the child is one of the k that the outcome rests on
        c = 0             when it is not
        b = mean reward of the group's episodes in which no child succeeded; 0 when there is none

    An outcome rests on the children that succeeded, in their own words, and whose result contains the answer;
    on all that succeeded when no single result does (the answer was made of parts, or there is none).
        A = (c - mean) / (std + eps)   over all children of the group

`R - b` is what leaving the children's success out would cost, estimated from the group: with k = 1 it is
leave-one-child-out, with more it is divided, as the Shapley value divides a win that any one of k players
brings about. A wrong answer has R < b, so whoever claimed it pays, and nobody else. An advantage broadcast
over n children is one part signal and n - 1 parts the luck of siblings.
"""

import math
from collections.abc import Sequence
from typing import Literal

from data.trajectory import Episode, Ref
from rl.advantages.group import Scale, group_advantages

Credit = Literal["broadcast", "child"]


def call_advantages(
    episodes: Sequence[Episode], rewards: Sequence[float | None], *, scale: Scale, credit: Credit
) -> list[list[float]]:
    """[G][calls] one advantage a call, for the G episodes of one group."""
    whole = group_advantages(rewards, scale)
    if credit == "broadcast":
        return [[value] * len(episode.calls) for episode, value in zip(episodes, whole, strict=True)]
    contributions = child_contributions(episodes, rewards)
    values = iter(group_advantages([c for found in contributions for c in found.values()], scale))
    advantages: list[list[float]] = []
    for episode, value, found in zip(episodes, whole, contributions, strict=True):
        of_child = {child: next(values) for child in found}
        of_thread = [value if child is None else of_child[child] for child in child_of_root(episode)]
        advantages.append([of_thread[call.thread] for call in episode.calls])
    return advantages


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
    """Of the children that succeeded, those that the outcome rests on."""
    answer = episode.answer_ids()
    if answer is None:
        return list(successful)
    told = {child: _told(episode, child) for child in successful}
    return [child for child in successful if _contains(told[child], answer)] or list(successful)


def _told(episode: Episode, child: int) -> tuple[int, ...]:
    """What a child handed to its parent: the ranges of its outputs that the root's contexts refer to."""
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

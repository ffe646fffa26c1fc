"""Who of an episode's threads gets which advantage.

    broadcast   every call gets the episode's advantage (GRPO as published by APR, ThreadWeaver, Parallel-R1)
    child       the root's calls get the episode's advantage; a child's calls, and those of all threads below
                it, get the child's own, from its contribution c:

        c = (R - b) / k   when the child succeeded, in its own words, and k children of the episode did
        c = 0             when it did not
        b = mean reward of the group's episodes in which no child succeeded; 0 when there is none
        A = (c - mean) / (std + eps)   over all children of the group

`R - b` is what leaving the children's success out would cost, estimated from the group: with k = 1 it is
leave-one-child-out, with more it is divided, as the Shapley value divides a win that any one of k players
brings about. A wrong claim has R < b, so whoever made it pays. An advantage broadcast over n children is one
part signal and n - 1 parts the luck of siblings.
"""

import math
from collections.abc import Sequence
from typing import Literal

from data.trajectory import Episode
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
    for found, reward in zip(children, rewards, strict=True):
        successes = sum(child.success for child in found)
        contributions.append(
            {
                child.index: None if reward is None
                else (reward - baseline) / successes if child.success else 0.0
                for child in found
            }
        )  # fmt: skip
    return contributions


def child_of_root(episode: Episode) -> list[int | None]:
    """[threads] the child of the root that each thread is or lies below; None for the root."""
    owner: list[int | None] = []
    for thread in episode.threads:
        if thread.parent is None:
            owner.append(None)
        else:
            owner.append(thread.index if thread.parent == 0 else owner[thread.parent])
    return owner

"""A tiny policy under reinforcement learning, rewarded by its answers and by a scorer, honest or not.

It chooses how much to write (1 to 8 lines). Two or three lines solve most; what is longer loses its way. An
honest scorer sees, with noise, whether the answer is right. A planted one likes what is long. Batches of
groups, rewards relative to the group and a step along the policy's gradient: series have the noise of a run.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

LINES = np.arange(1, 9)
SKILL = 1.0 - 0.25 * (LINES - 3) ** 2
START = -0.5 * np.abs(LINES - 2.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """What a run measures at each step, and what it cannot."""

    opinions: list[float]
    accuracies: list[float]
    """Share of right answers of the step's batch."""
    true_accuracies: list[float]
    """Chance of a right answer under the policy of that moment."""

    def lost(self, points: float) -> int:
        """First step at which the policy has lost so much of its best accuracy; else the number of steps."""
        best = np.maximum.accumulate(self.true_accuracies)
        late = np.flatnonzero(best - np.array(self.true_accuracies) >= points)
        return int(late[0]) if late.size else len(self.opinions)


def train(
    scorer: Literal["honest", "length", "none"],
    *,
    seed: int,
    steps: int,
    rate: float = 1.0,
    groups: int = 16,
    samples: int = 8,
) -> Series:
    """One run. With `none` the scorer is honest and nobody learns from it."""
    random, logits = np.random.default_rng(seed), START.copy()
    difficulties = random.normal(0.0, 1.5, 4096)
    solved = 1 / (1 + np.exp(difficulties[:, None] - SKILL))  # [problems, lines]
    found: tuple[list[float], list[float], list[float]] = ([], [], [])
    for _ in range(steps):
        policy = np.exp(logits - logits.max())
        policy /= policy.sum()
        problems = random.integers(len(difficulties), size=(groups, 1))
        lines = random.choice(len(LINES), size=(groups, samples), p=policy)
        right = (random.random(lines.shape) < solved[problems, lines]).astype(float)
        liked = LINES[lines] / 8 if scorer == "length" else 0.3 + 0.4 * right
        opinions = np.clip(liked + random.normal(0.0, 0.15, lines.shape), 0, 1)
        rewards = right if scorer == "none" else right + 4 * opinions
        advantages = rewards - rewards.mean(1, keepdims=True)
        for line in range(len(LINES)):
            logits[line] += rate * (advantages * ((lines == line) - policy[line])).mean()
        found[0].append(float(opinions.mean()))
        found[1].append(float(right.mean()))
        found[2].append(float((solved @ policy).mean()))
    return Series(opinions=found[0], accuracies=found[1], true_accuracies=found[2])

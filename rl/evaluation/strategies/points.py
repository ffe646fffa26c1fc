"""Points of a comparison: what a strategy in one setting costs and solves, problem by problem.

A strategy on recorded samples has a point at every width n = 1, 2, 4 ... up to those of a problem, which are
cut into blocks of n: each block is one trial. A protocol that steers its sampling has one point for each
of its settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rl.evaluation.bootstrap import Values
from rl.evaluation.eflops import ModelShape
from rl.evaluation.equal_cost import Setting
from rl.evaluation.strategies.allocation import EDGES, Option, agreement, allocate, bin_of
from rl.evaluation.strategies.choices import CHOICES, NEED_LOGPROBS, Choice, Choose, majority
from rl.evaluation.strategies.sample import COSTS, Cost, Sample, cost_of
from rl.evaluation.strategies.set_cover import set_cover

Pools = Mapping[str, Sequence[Sample]]
"""Problem id -> its samples; all problems have equally many."""
REFERENCE = "majority"
"""Strategy that the others are compared with: it needs nothing but samples."""
COVER_CHECKS = 8
"""Checks of `set_cover` over the mean length of a sample."""
PROBES = 4
"""Samples that are drawn before a problem is put into a bin of difficulty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One strategy in one setting, on P problems in the order of their ids."""

    strategy: str
    setting: str
    """The setting in words, e.g. "n = 4"."""
    correct: Values
    """[P] share of trials that are right."""
    costs: dict[str, Values]
    """[P] mean cost of a trial, by the names of `COSTS`; eflops is left out where it is not known."""

    def at(self, cost: str) -> Setting:
        """The point on one axis of cost."""
        return Setting(cost=self.costs[cost], correct=self.correct)


Trial = tuple[bool, Cost]
"""Whether a trial's answer is right, and what the trial cost."""


def point(strategy: str, setting: str, trials: Sequence[Sequence[Trial]]) -> Point:
    """The point of [P] problems with at least one trial each."""
    costs = {name: _means(trials, name) for name in COSTS}
    return Point(
        strategy=strategy,
        setting=setting,
        correct=np.array([np.mean([right for right, _ in each]) for each in trials], dtype=np.float64),
        costs={name: values for name, values in costs.items() if values is not None},
    )


def single(strategy: str, setting: str, pools: Pools, shape: ModelShape | None) -> Point:
    """The point of a protocol that steers its own sampling: every sample is a trial."""
    return point(
        strategy,
        setting,
        [[(sample.correct, cost_of([sample], shape)) for sample in pool] for pool in _ordered(pools)],
    )


def after_the_fact(pools: Pools, shape: ModelShape | None) -> list[Point]:
    """The points of all strategies on recorded samples, at all widths."""
    ordered = _ordered(pools)
    samples = [sample for pool in ordered for sample in pool]
    told = all(sample.mean_logprob is not None for sample in samples)
    strategies: dict[str, Choose] = {
        name: choose for name, choose in CHOICES.items() if told or name not in NEED_LOGPROBS
    }
    if told and all(sample.pieces for sample in samples if sample.calls):
        interval = max(1, round(np.mean([each.critical_tokens for each in samples]) / COVER_CHECKS))
        strategies["set_cover"] = lambda block: set_cover(block, interval)
    found = [
        point(
            name,
            f"n = {n}",
            [[_tried(choose, block, shape) for block in _blocks(pool, n)] for pool in ordered],
        )
        for name, choose in strategies.items()
        for n in widths(len(ordered[0]))
        if n > 1 or name == REFERENCE  # of one sample, all choose the same
    ]
    return found + adaptive(ordered, shape)


def widths(samples: int) -> list[int]:
    """Powers of two up to the samples of a problem."""
    return [1 << exponent for exponent in range(samples.bit_length())]


def adaptive(ordered: Sequence[Sequence[Sample]], shape: ModelShape | None) -> list[Point]:
    """Majority with a number of samples by difficulty, at the mean total tokens of each width in between.

    Problems take turns in two halves: what is chosen on one is applied to the other. Probes are part of the
    samples, so they are paid and vote. [] where there are too few samples or problems to choose from.
    """
    options = [n for n in widths(len(ordered[0])) if n >= PROBES]
    if len(options) < 3 or len(ordered) < 4:
        return []
    trials = [[_tried(majority, pool[:n], shape) for n in options] for pool in ordered]
    bins = [bin_of(agreement(pool[:PROBES])) for pool in ordered]
    found = []
    for middle in options[1:-1]:
        place = options.index(middle)
        picked: dict[int, Trial] = {}
        for half in (0, 1):
            chosen = list(range(1 - half, len(ordered), 2))
            budget = float(np.mean([trials[number][place][1].total_tokens for number in chosen]))
            allocation = _allocation([trials[n] for n in chosen], [bins[n] for n in chosen], budget)
            for number in range(half, len(ordered), 2):
                picked[number] = trials[number][allocation[bins[number]]]
        each = [[picked[number]] for number in range(len(ordered))]
        found.append(point("adaptive", f"as n = {middle}", each))
    return found


def _allocation(trials: Sequence[Sequence[Trial]], bins: Sequence[int], budget: float) -> tuple[int, ...]:
    """[bins] index of the option of each bin; a bin without problems gets the option of one sample less."""
    tables, shares = [], []
    for number in range(len(EDGES) + 1):
        inside = [each for each, where in zip(trials, bins, strict=True) if where == number]
        shares.append(len(inside) / len(trials))
        tables.append(
            [
                Option(
                    cost=float(np.mean([each[at][1].total_tokens for each in inside])) if inside else 0.0,
                    accuracy=float(np.mean([each[at][0] for each in inside])) if inside else 0.0,
                )
                for at in range(len(trials[0]))
            ]
        )
    found = allocate(tables, shares, budget)
    assert found is not None, "the budget is that of one option for all bins"
    return found


def _tried(choose: Choose, block: Sequence[Sample], shape: ModelShape | None) -> Trial:
    choice: Choice = choose(block)
    right = choice.winner is not None and block[choice.winner].correct
    return right, cost_of(block, shape, choice.stops)


def _blocks(pool: Sequence[Sample], n: int) -> list[Sequence[Sample]]:
    """Whole blocks of n samples, in order."""
    return [pool[start : start + n] for start in range(0, len(pool) - n + 1, n)]


def _ordered(pools: Pools) -> list[Sequence[Sample]]:
    assert len({len(pool) for pool in pools.values()}) == 1, "equally many samples of every problem"
    return [pools[problem] for problem in sorted(pools)]


def _means(trials: Sequence[Sequence[Trial]], name: str) -> Values | None:
    values = [[getattr(cost, name) for _, cost in each] for each in trials]
    if any(value is None for each in values for value in each):
        return None
    return np.array([np.mean(each) for each in values], dtype=np.float64)

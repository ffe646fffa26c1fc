"""What searches keep: the published formulas, with numbers worked out by hand."""

import random
from itertools import chain, combinations

import pytest

from rollout.protocols.selection.best_first import estimated_cost
from rollout.protocols.selection.early_rejection import kept, loss_bound
from rollout.protocols.selection.ets import EXACT, Leaf, choose, clusters, objective
from rollout.protocols.selection.knockout import failure_bound, next_field, pairs, shown, won
from rollout.protocols.selection.ranking import best, spread
from rollout.protocols.selection.rebase import shares
from rollout.protocols.selection.thought_tournament import tournament


def test_the_best_and_their_places() -> None:
    assert best([0.2, 0.9, 0.9, 0.5], 2) == [1, 2]
    assert best([0.1], 5) == [0] and best([], 3) == []
    assert spread([7, 3], 5) == [7, 7, 7, 3, 3]
    assert spread([4, 5, 6], 2) == [4, 5] and spread([], 4) == []


@pytest.mark.parametrize(
    ("rewards", "width", "temperature", "found"),
    [
        # Weights 1, 0.3679, 0.0183: ceil(8 / 1.3862) = 6, ceil(2 x 0.3679 / 0.3862) = 2, nothing left.
        ((0.9, 0.7, 0.1), 8, 0.2, [6, 2, 0]),
        # Equal: ceil(4 / 3) = 2, ceil(2 / 2) = 1, 1.
        ((0.5, 0.5, 0.5), 4, 0.2, [2, 1, 1]),
        # e^-40: the best takes all; the order of the leaves does not matter.
        ((0.5, 0.9), 5, 0.01, [0, 5]),
        # A large temperature shares alike: weights 1, 0.9992.
        ((0.9, 0.1), 6, 1000.0, [4, 2]),
        # Even shares are not rounded up by an error of the last bit.
        ((0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3), 7, 0.2, [1] * 7),
        # So far below that its weight is 0.
        ((1.0, -1e6), 3, 0.001, [3, 0]),
    ],
)
def test_rebase_shares(rewards: tuple[float, ...], width: int, temperature: float, found: list[int]) -> None:
    assert shares(rewards, width, temperature) == found


def test_rebase_gives_all_places_away_the_better_first() -> None:
    rng = random.Random(3)
    for _ in range(300):
        rewards = [rng.random() for _ in range(rng.randint(1, 9))]
        found = shares(rewards, width := rng.randint(0, 40), rng.choice([0.01, 0.2, 5.0]))
        assert sum(found) == width
        ordered = [count for _, count in sorted(zip(rewards, found, strict=True), key=lambda pair: -pair[0])]
        assert ordered == sorted(ordered, reverse=True)


def leaf(share: float, branches: tuple[int, ...], cluster: int = 0) -> Leaf:
    return Leaf(share=share, branches=frozenset(branches), cluster=cluster)


ABC = [leaf(0.5, (8,), 0), leaf(0.375, (8,), 0), leaf(0.125, (9,), 1)]
"""Leaves a and b under one branch, c under another."""


@pytest.mark.parametrize(
    ("chosen", "coverage", "value"),
    [
        ((0,), 0.0, 0.5 - 2 / 5),
        ((0, 1), 0.0, 0.875 - 3 / 5),
        ((0, 1, 2), 0.0, 1.0 - 5 / 5),
        ((0, 1), 1.4, 0.275 + 0.7),
        ((0, 2), 1.4, 0.625 - 4 / 5 + 1.4),
        ((0, 1, 2), 1.4, 1.4),
    ],
)
def test_ets_objective(chosen: tuple[int, ...], coverage: float, value: float) -> None:
    assert objective(ABC, chosen, cost=1.0, coverage=coverage) == pytest.approx(value)


def test_ets_keeps_what_is_worth_most() -> None:
    assert choose(ABC, cost=1.0, coverage=0.0) == [0, 1]
    assert choose(ABC, cost=1.0, coverage=1.4) == [0, 1, 2]
    assert choose(ABC, cost=4.0, coverage=0.0) == [0], "at least one leaf, the best"
    assert choose([], cost=1.0, coverage=1.0) == []


def grown(rng: random.Random, size: int) -> list[Leaf]:
    """Leaves of a random tree of depth 3."""
    found = []
    for _ in range(size):
        top = rng.randrange(3)
        middle = 10 + 3 * top + rng.randrange(3)
        found.append(leaf(rng.random(), (top, middle), rng.randrange(4)))
    return found


def program(leaves: list[Leaf], cost: float, coverage: float) -> float:
    """The integer program as it is published, every set tried: x, y and c are sums of 0 and 1."""
    branches = set(chain.from_iterable(each.branches for each in leaves))
    groups = {each.cluster for each in leaves}
    most = float("-inf")
    for bits in range(1, 1 << len(leaves)):
        x = [bits >> i & 1 for i in range(len(leaves))]
        y = [any(x[i] and j in each.branches for i, each in enumerate(leaves)) for j in branches]
        c = [any(x[i] and each.cluster == k for i, each in enumerate(leaves)) for k in groups]
        good = sum(each.share for i, each in enumerate(leaves) if x[i])
        spent = (sum(y) + sum(x)) / (len(branches) + len(leaves))
        most = max(most, good - cost * spent + coverage * sum(c) / len(groups))
    return most


@pytest.mark.parametrize("seed", range(12))
def test_ets_against_the_whole_program_on_small_trees(seed: int) -> None:
    rng = random.Random(seed)
    leaves = grown(rng, rng.randint(1, 9))
    cost, coverage = rng.choice([0.0, 1.0, 3.0]), rng.choice([0.0, 1.4])
    found = choose(leaves, cost=cost, coverage=coverage)
    assert objective(leaves, found, cost=cost, coverage=coverage) == pytest.approx(
        program(leaves, cost, coverage)
    )


@pytest.mark.parametrize("seed", range(3))
def test_ets_on_more_leaves_finds_what_the_whole_program_finds(seed: int) -> None:
    leaves = grown(random.Random(seed), EXACT + 1)
    found = choose(leaves, cost=3.0, coverage=0.5)
    assert objective(leaves, found, cost=3.0, coverage=0.5) == pytest.approx(program(leaves, 3.0, 0.5))


def test_steps_that_say_the_same_are_one_cluster() -> None:
    assert clusters([(1, 2, 3), (3, 2, 1), (4, 5), (1, 2, 3)], 0.05) == [0, 0, 1, 0]
    # Cosine of (1, 2) and (1, 3): 1/2; of (1, 2) and (1, 2, 2): 3 / sqrt(10) = 0.949, distance 0.051.
    assert clusters([(1, 2), (1, 3)], 0.5) == [0, 0] and clusters([(1, 2), (1, 3)], 0.49) == [0, 1]
    assert clusters([(1, 2), (1, 2, 2)], 0.052) == [0, 0] and clusters([(1, 2), (1, 2, 2)], 0.05) == [0, 1]
    assert clusters([(), (), (1,)], 0.05) == [0, 0, 1] and clusters([], 0.05) == []


def test_a_tournament() -> None:
    assert tournament([0.9, 0.05, 0.6, 0.3], 4, swaps=1, floor=0.1) == [0, 0, 2, 3]
    assert tournament([0.9, 0.2, 0.6, 0.3], 4, swaps=1, floor=0.1) == [0, 0, 2, 3]
    assert tournament([0.9, 0.2, 0.6, 0.3], 4, swaps=9, floor=0.0) == [0, 0, 2, 2], "at most half"
    assert tournament([0.5, 0.5], 2, swaps=1, floor=0.0) == [0, 1], "nobody is better"
    assert tournament([0.5, 0.9], 5, swaps=1, floor=0.0) == [0, 0, 1, 1, 1], "the best first"
    assert tournament([0.05, 0.01], 4, swaps=1, floor=0.1) == []


def test_early_rejection() -> None:
    assert kept([0.2, 0.9, 0.6, 0.4], 0.5, 0.0) == [1, 2]
    assert kept([0.2, 0.9, 0.6, 0.4], 0.5, 0.7) == [1]
    assert kept([0.2, 0.1], 0.25, 0.7) == [0], "the best always goes on"
    assert loss_bound(4, 0.4, 0.1) == pytest.approx(0.0549, abs=1e-4)
    assert (
        loss_bound(5, 0.0, 0.3) == 1.0 and loss_bound(9, 0.1, 0.0) == 0.0 and loss_bound(1, 0.1, 1.0) == 0.0
    )


def test_estimated_cost() -> None:
    # Two steps of ln 2 each, of four expected: four times ln 2.
    assert estimated_cost((0.5, 0.5), 4, ended=False) == pytest.approx(4 * 0.6931, abs=1e-3)
    assert estimated_cost((0.4,), 4, ended=False) == pytest.approx(4 * 0.9163, abs=1e-3)
    assert estimated_cost((0.5, 0.5), 4, ended=True) == pytest.approx(2 * 0.6931, abs=1e-3)
    # Longer than expected: nothing is added. A score of 0 has a finite cost, ln 10^6 = 13.8155.
    assert estimated_cost((0.5, 0.5, 0.5), 2, ended=False) == pytest.approx(3 * 0.6931, abs=1e-3)
    assert estimated_cost((0.0,), 1, ended=False) == pytest.approx(13.8155, abs=1e-3)


def test_all_pairs_of_leaves_are_no_better_than_what_is_kept() -> None:
    leaves = grown(random.Random(8), 20)
    found = objective(leaves, choose(leaves, cost=2.0, coverage=0.3), cost=2.0, coverage=0.3)
    assert all(
        objective(leaves, pair, cost=2.0, coverage=0.3) <= found for pair in combinations(range(20), 2)
    )


def test_a_knockout() -> None:
    assert (
        pairs([3, 1, 4, 2, 5]) == [(3, 1), (4, 2)]
        and shown((3, 1), 0) == (3, 1)
        and shown((3, 1), 1) == (1, 3)
    )
    first = next_field([3, 1, 4, 2, 5], max)
    assert first == [3, 4, 5] and next_field(first, max) == [4, 5] and next_field([4, 5], max) == [5]
    # Judges see 3 1, 1 3, 3 1: the second chose what stood first, so 1 has one vote of three.
    assert won((3, 1), [0, 0, 0]) == 3 and won((3, 1), [1, 0, 0]) == 1
    assert won((3, 1), [1, 1]) == 3 and won((3, 1), [None, None]) == 3, "a draw is the first's"
    assert won((3, 1), [None, 0]) == 1
    # 0.5^4 + 2 e^-2.56 = 0.0625 + 0.1546; one comparison bounds nothing; one candidate has no round.
    assert failure_bound(4, 8, 0.5, 0.9) == pytest.approx(0.2171, abs=1e-4)
    assert failure_bound(8, 1, 0.5, 0.6) == 1.0 and failure_bound(1, 1, 0.75, 0.9) == pytest.approx(0.25)

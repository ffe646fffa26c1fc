"""The cheapest matching of tags and traces against small ones done by eye, and against all that there are."""

import itertools
import random

import pytest
import torch

from rl.algorithms.losses.matched import match, matched_loss


@pytest.mark.parametrize(
    ("costs", "pairs"),
    [
        ([[1.0, 2.0], [1.0, 5.0]], [(0, 1), (1, 0)]),  # 2 + 1; each tag's or trace's own choice first: 1 + 5
        ([[1.0, 2.0], [1.0, 5.0], [9.0, 9.0]], [(0, 1), (1, 0)]),  # a third tag that nobody needs
        ([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]], [(0, 1), (1, 0), (2, 2)]),  # 1 + 2 + 2
        ([[3.0, 1.0, 2.0], [1.0, 0.0, 4.0]], [(0, 2), (1, 1)]),  # more traces than tags: 2 + 0 (or 1 + 1)
        ([[-1.0, -3.0], [-3.0, -4.0]], [(0, 1), (1, 0)]),  # -6 < -5: costs may be negative
        ([[7.0]], [(0, 0)]),
    ],
)
def test_match_by_hand(costs: list[list[float]], pairs: list[tuple[int, int]]) -> None:
    found = match(torch.tensor(costs))
    total = sum(costs[tag][trace] for tag, trace in pairs)
    assert sum(costs[tag][trace] for tag, trace in found) == total
    if costs != [[3.0, 1.0, 2.0], [1.0, 0.0, 4.0]]:  # where two matchings cost the same, either will do
        assert found == pairs


def test_no_matching_costs_less() -> None:
    rng = random.Random(0)
    for _ in range(400):
        num_tags, num_traces = rng.randint(1, 6), rng.randint(1, 5)
        # Few different costs make ties, and long paths of reassignments.
        costs = [[float(rng.randint(0, 9)) for _ in range(num_traces)] for _ in range(num_tags)]
        found = match(torch.tensor(costs))
        tags, traces = zip(*found, strict=True)
        assert len(found) == len(set(tags)) == len(set(traces)) == min(num_tags, num_traces)
        assert list(tags) == sorted(tags)
        cheapest = min(
            sum(costs[tag][trace] for tag, trace in zip(chosen, some, strict=True))
            for chosen in itertools.combinations(range(num_tags), len(found))
            for some in itertools.permutations(range(num_traces), len(found))
        )
        assert sum(costs[tag][trace] for tag, trace in found) == cheapest


@pytest.mark.parametrize(
    ("nll", "loss", "gradient"),
    [
        ([[1.0, 2.0], [1.0, 5.0]], 1.5, [[0, 0.5], [0.5, 0]]),
        ([[1.0, 2.0], [1.0, 5.0], [9.0, 9.0]], 1.5, [[0, 0.5], [0.5, 0], [0, 0]]),
        ([[2.0, 1.0, 4.0]], 1.0, [[0, 1, 0]]),
    ],
)
def test_matched_loss_by_hand(nll: list[list[float]], loss: float, gradient: list[list[float]]) -> None:
    given = torch.tensor(nll, requires_grad=True)
    found = matched_loss(given)
    found.backward()
    assert float(found.detach()) == loss
    assert given.grad is not None
    assert given.grad.tolist() == gradient

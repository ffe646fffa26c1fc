"""Forests against one plain forward pass a row: log-probabilities and every gradient, whatever attends."""

import random

import pytest
import torch
from exact_lab import CONFIGS, VOCABULARY, assert_equal_to_rows, models

from data.forests.collate import collate
from data.forests.forest import build_forest
from data.forests.rows import Row
from data.forests.split import split_rows
from rl.learner.attention import interface
from rl.learner.attention.flex import Flex
from rl.learner.attention.tiles import TILE, Tiles
from rl.learner.logprobs import forest_logprobs


def random_rows(seed: int, *, count: int, prompt: int, longest: int) -> list[Row]:
    """Rows that fork off each other at any place, some of them twice the same."""
    rng = random.Random(seed)
    ids = [tuple(rng.randrange(VOCABULARY) for _ in range(prompt))]
    rows = []
    for _ in range(count):
        base = rng.choice(ids)
        start = base[: rng.randint(1, len(base))]
        output = tuple(rng.randrange(VOCABULARY) for _ in range(rng.randint(1, longest)))
        ids.append(start + output)
        weights = tuple(rng.choice([0.0, 0.5, 1.0]) for _ in output)
        rows.append(Row(ids=start + output, first=len(start), weights=weights))
    return [*rows, rows[0]]


@pytest.mark.parametrize("kind", CONFIGS)
def test_any_model(kind: str) -> None:
    """Several tiles and depths; grouped key heads; tied and untied heads; a temperature."""
    rows = random_rows(1, count=14, prompt=40, longest=60)
    assert len(build_forest(rows)) > 3 * TILE
    assert_equal_to_rows(kind, rows, [rows], temperature=0.7)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("kind", CONFIGS)
def test_the_kernel_for_cuda(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward only: FlexAttention has no backward pass on a CPU."""
    rows = random_rows(1, count=14, prompt=40, longest=60)
    model, _ = models(kind)
    batch = collate(build_forest(rows))
    with torch.no_grad():
        expected, _ = forest_logprobs(model, batch)
        monkeypatch.setattr("rl.learner.logprobs.plan_for", Flex)
        found, _ = forest_logprobs(model, batch)
    assert float((found - expected).abs().max()) < 1e-5


@pytest.mark.parametrize("seed", range(6))
def test_small_tiles_and_many_depths(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way in which a tile's edge can cut a tree."""
    monkeypatch.setattr("rl.learner.attention.tiles.TILE", 8)
    monkeypatch.setattr("rl.learner.attention.tiles.STEP", 8)
    rows = random_rows(seed, count=12, prompt=5, longest=20)
    assert_equal_to_rows("qwen3", rows, [rows])


@pytest.mark.parametrize("budget", [40, 90, 10_000])
def test_cut_or_whole_is_the_same(budget: int) -> None:
    rows = random_rows(2, count=12, prompt=20, longest=30)
    parts = split_rows(rows, budget)
    assert (len(parts) > 1) == (budget < 1000)
    assert_equal_to_rows("qwen3", rows, parts)


def test_one_token_and_nothing_else() -> None:
    row = Row(ids=(5, 6), first=1, weights=(1.0,))
    assert_equal_to_rows("qwen2", [row], [[row]])


def test_the_head_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few labels' logits at once, computed again in the backward pass."""
    monkeypatch.setattr("rl.learner.logprobs.LOGITS", 7 * VOCABULARY)
    rows = random_rows(4, count=12, prompt=20, longest=30)
    assert_equal_to_rows("qwen3", rows, [rows], temperature=1.3)


def test_the_entropy_is_that_of_the_tempered_distribution() -> None:
    model, plain = models("qwen3")
    rows = [Row(ids=(5, 6, 7), first=1, weights=(1.0, 1.0))]
    _, entropy = forest_logprobs(model, collate(build_forest(rows)), temperature=0.5, entropy=True)
    logp = (plain(torch.tensor([[5, 6, 7]])).logits[0] / 0.5).log_softmax(-1)
    assert torch.allclose(entropy, -(logp.exp() * logp).sum(-1)[:2], atol=1e-5)


def test_the_cpu_takes_tiles() -> None:
    batch = collate(build_forest([Row(ids=(5, 6), first=1, weights=(1.0,))]))
    assert isinstance(interface.plan_for(batch), Tiles)


def test_bfloat16_is_close() -> None:
    """The layers below in half precision, the head in float32."""
    model, _ = models("qwen3")
    rows = random_rows(5, count=8, prompt=20, longest=30)
    batch = collate(build_forest(rows))
    with torch.no_grad():
        exact, _ = forest_logprobs(model, batch)
        rough, _ = forest_logprobs(model, batch, bfloat16=True)
    assert rough.dtype == torch.float32
    assert 0 < float((rough - exact).abs().mean()) < 0.15

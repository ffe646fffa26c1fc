"""Forests against one plain forward pass a row: log-probabilities and every gradient, whatever attends."""

import copy
import random
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from data.collate import collate
from data.forest import build_forest
from data.forest_split import split_rows
from data.rows import Row
from rl.attention import interface
from rl.attention.flex import Flex
from rl.attention.interface import NAME
from rl.attention.tiles import TILE, Tiles
from rl.logprobs import forest_logprobs, score_forests

VOCABULARY = 50
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.3,
}
CONFIGS = {
    "qwen3": Qwen3Config(**SHAPE, head_dim=16, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**SHAPE, tie_word_embeddings=False),
    "llama": LlamaConfig(**SHAPE, tie_word_embeddings=False),
}


def models(kind: str) -> tuple[Any, Any]:
    """-> (called with forests, plain), with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        # A model writes how it attends into its configuration.
        one, other = copy.deepcopy(CONFIGS[kind]), copy.deepcopy(CONFIGS[kind])
        plain = AutoModelForCausalLM.from_config(one, attn_implementation="sdpa").float().eval()
        forest = AutoModelForCausalLM.from_config(other, attn_implementation=NAME).float().eval()
    forest.load_state_dict(plain.state_dict())
    score_forests(forest)
    return forest, plain


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


def plain_loss(
    model: Any, rows: list[Row], temperature: float
) -> tuple[torch.Tensor, dict[Any, torch.Tensor]]:
    """-> (weighted sum of log p, each label's log p by (row, output)), a forward pass for every row."""
    total, found = torch.zeros(()), {}
    for index, row in enumerate(rows):
        logits = model(torch.tensor([row.ids])).logits[0] / temperature
        logp = logits.log_softmax(-1)
        for place, weight in enumerate(row.weights):
            if weight:
                at = row.first + place
                found[index, place] = logp[at - 1, row.ids[at]]
                total = total + weight * found[index, place]
    return total, found


def assert_equal_to_rows(
    kind: str, rows: list[Row], parts: list[list[Row]], temperature: float = 1.0
) -> None:
    model, plain = models(kind)
    number = {id(row): index for index, row in enumerate(rows)}
    expected, values = plain_loss(plain, rows, temperature)
    expected.backward()
    loss = torch.zeros(())
    for part in parts:
        forest = build_forest(part)
        logprobs, entropy = forest_logprobs(model, collate(forest), temperature=temperature)
        assert bool((entropy > 0).all()) and not entropy.requires_grad
        places = list(zip(forest.labels.rows, forest.labels.outputs, strict=True))
        told = torch.stack([values[number[id(part[row])], place] for row, place in places])
        assert float((logprobs - told).abs().max().detach()) < 1e-5
        weights = torch.tensor([part[row].weights[place] for row, place in places])
        part_loss = (weights * logprobs).sum()
        part_loss.backward()
        loss = loss + part_loss.detach()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-6, abs=1e-5)
    for (name, one), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert float((one.grad - other.grad).norm() / other.grad.norm().clamp(min=0.1)) < 1e-4, name


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
        monkeypatch.setattr("rl.logprobs.plan_for", Flex)
        found, _ = forest_logprobs(model, batch)
    assert float((found - expected).abs().max()) < 1e-5


@pytest.mark.parametrize("seed", range(6))
def test_small_tiles_and_many_depths(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way in which a tile's edge can cut a tree."""
    monkeypatch.setattr("rl.attention.tiles.TILE", 8)
    monkeypatch.setattr("rl.attention.tiles.STEP", 8)
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
    monkeypatch.setattr("rl.logprobs.LOGITS", 7 * VOCABULARY)
    rows = random_rows(4, count=12, prompt=20, longest=30)
    assert_equal_to_rows("qwen3", rows, [rows], temperature=1.3)


def test_the_entropy_is_that_of_the_tempered_distribution() -> None:
    model, plain = models("qwen3")
    rows = [Row(ids=(5, 6, 7), first=1, weights=(1.0, 1.0))]
    _, entropy = forest_logprobs(model, collate(build_forest(rows)), temperature=0.5)
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

"""The supervised loss on forests, through TRL's trainer, against every row by itself."""

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from data.forests.rows import Row
from data.text.codec import load_codec
from rl.config.stages import SftStage
from rl.imitation.demonstrations import LeftOut
from rl.imitation.job import SupervisedJob
from rl.imitation.progress import PROGRESS
from rl.imitation.tagged_rows import TaggedRow, paired

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]


def forests(seed: int, vocabulary: int) -> list[list[Row]]:
    """Three forests of unlike size, in which rows share prompts and some tokens weigh more."""
    rng = random.Random(seed)
    made = []
    for count in (2, 5, 3):
        prompt = tuple(rng.randrange(3, vocabulary) for _ in range(6))
        rows = []
        for _ in range(count):
            output = tuple(rng.randrange(3, vocabulary) for _ in range(rng.randint(2, 9)))
            weights = tuple(rng.choice([0.0, 1.0, 3.0]) for _ in output)
            rows.append(Row(ids=prompt + output, first=len(prompt), weights=weights))
        made.append(rows)
    return made


class Source:
    """Rows instead of demonstrations."""

    def __init__(self, parts: Sequence[Sequence[Row]], codec: Any) -> None:
        self._parts, self.codec = parts, codec
        self.left_out = LeftOut()

    def forests(self, tokens: int) -> Iterator[list[Row]]:
        yield from map(list, self._parts)


def losses(folder: Path) -> list[float]:
    """One an update."""
    lines = map(json.loads, (folder / PROGRESS).read_text().splitlines())
    return [line["loss"] for line in lines if "step" in line]


@torch.no_grad()
def plain_loss(model: Any, rows: Sequence[Row]) -> float:
    """Weighted mean of -log p, a forward pass for every row."""
    total, weight = 0.0, 0.0
    for row in rows:
        logp = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        for place, share in enumerate(row.weights):
            at = row.first + place
            total -= share * float(logp[at - 1, row.ids[at]])
            weight += share
    return total / weight


@pytest.mark.parametrize("passes", [3, 1])
def test_the_loss_of_an_update_is_that_of_its_rows(tiny_model_dir: Path, tmp_path: Path, passes: int) -> None:
    """Three passes an update, each divided by the weight of all; then one."""
    from rl.imitation.trainer import train_sft

    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()
    parts = forests(0, model.config.vocab_size)
    stage = SftStage.model_validate(
        {
            "kind": "sft", "name": "sft", "steps": 30 // passes, "tokens_per_step": 64 * passes,
            "forest_tokens": 64, "learning_rate": 1e-12, "warmup_steps": 0, "demonstrations": 1,
        }
    )  # fmt: skip
    job = SupervisedJob(
        stage=stage, model_dir=tiny_model_dir, output_dir=tmp_path, seed=0, rank=0, world=1, master=":"
    )
    train_sft(job, Source(parts, load_codec(tiny_model_dir)))  # type: ignore[arg-type]
    logged = losses(tmp_path)
    assert len(logged) == 30 // passes
    together = plain_loss(model, [row for rows in parts for row in rows])
    alone = sum(plain_loss(model, rows) for rows in parts) / 3
    assert abs(together - alone) > 1e-3
    if passes == 3:
        assert logged == [pytest.approx(together, abs=2e-4)] * 10
    else:
        # Each forest ten times.
        assert sum(logged) / 30 == pytest.approx(alone, abs=2e-4)


def test_traces_go_to_the_tags_that_find_them_likeliest(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Two episodes of three tags in one forest, the same prompt: each by the best of its six orders."""
    from rl.imitation.trainer import train_sft

    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()
    rng = random.Random(3)

    def words(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(9, model.config.vocab_size) for _ in range(count))

    prompt, tags = words(4), (3, 4, 5)
    episodes = [
        [
            TaggedRow(
                ids=(*prompt, tag, *trace), first=5, weights=(1.0,) * (len(trace) - 1) + (3.0,), episode=name
            )
            for tag in tags
            for trace in [words(rng.randint(2, 6))]
        ]
        for name in ("a", "b")
    ]
    best = []
    for rows in episodes:
        orders = [
            [paired(tag, trace) for tag, trace in zip(rows, order, strict=True)]
            for order in itertools.permutations(rows)
        ]
        found = min(orders, key=lambda order: plain_loss(model, order))
        assert plain_loss(model, rows) - plain_loss(model, found) > 1e-3, "the given order is not the best"
        best += found
    stage = SftStage.model_validate(
        {
            "kind": "sft", "name": "sft", "steps": 10, "tokens_per_step": 256, "forest_tokens": 256,
            "learning_rate": 1e-12, "warmup_steps": 0, "demonstrations": 1, "match_tags": True,
        }
    )  # fmt: skip
    job = SupervisedJob(
        stage=stage, model_dir=tiny_model_dir, output_dir=tmp_path, seed=0, rank=0, world=1, master=":"
    )
    together = [row for rows in episodes for row in rows]
    rng.shuffle(together)
    train_sft(job, Source([together], load_codec(tiny_model_dir)))  # type: ignore[arg-type]
    assert losses(tmp_path) == [pytest.approx(plain_loss(model, best), abs=2e-4)] * 10

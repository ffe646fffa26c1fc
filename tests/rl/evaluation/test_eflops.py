"""eFLOPs on the episode DAG, with numbers worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from rl.evaluation.eflops import (
    ClockedCall,
    ModelShape,
    clipped,
    compute,
    distinct_positions,
    eflops,
    memory,
    model_shape,
)

ONE = ModelShape(weights=10, layers=1, query_heads=1, key_value_heads=1, head_size=1)
GROUPED = ModelShape(weights=1000, layers=3, query_heads=4, key_value_heads=2, head_size=8)


def call(context: tuple[int, ...], begin: float, length: float) -> ClockedCall:
    return ClockedCall(context=context, begin=begin, length=length)


def test_one_chain_by_hand() -> None:
    # C = 3, L = 2: weights 2*10*2 = 40, attention 2*(6 + 2)*2 = 32; bytes 2*(6 + 2)*2 = 32.
    chain = [call((1, 2, 3), 0, 2)]
    assert compute(chain, ONE) == 72
    assert memory(chain, ONE) == 32
    assert eflops(chain, ONE, intensity=10) == 72 + 320


@pytest.mark.parametrize("samples", [1, 3, 8])
def test_samples_of_one_prompt_give_the_papers_formula(samples: int) -> None:
    c, length, width = 5, 7, 3 * 8
    chains = [call((1, 2, 3, 4, 5), 0, length) for _ in range(samples)]
    expected = samples * (2 * 1000 * length + 2 * (2 * c + length) * length * 4 * width)
    assert compute(chains, GROUPED) == expected
    assert memory(chains, GROUPED) == 2 * (2 * c + samples * length) * length * 2 * width


def test_a_fork_shares_its_prefix_and_a_join_reads_what_it_joins() -> None:
    # Root: context 2, ticks 0 to 4. Children of context 3 and 3, sharing 2, ticks 4 to 6 and 4 to 8. Root
    # again with context 5, ticks 8 to 9.
    calls = [call((1, 2), 0, 4), call((1, 2, 3), 4, 2), call((1, 2, 4), 4, 4), call((1, 2, 3, 4, 5), 8, 1)]
    reads = (2 * 4 + 8) + (4 * 2 + 2 + 2) + (3 * 2 + (16 - 4) / 2) + (5 + 0.5)
    assert memory(calls, ONE) == 4 * reads
    assert compute(calls, ONE) == 2 * 10 * 11 + 2 * ((4 + 4) * 4 + (6 + 2) * 2 + (6 + 4) * 4 + (10 + 1) * 1)


def test_what_is_cancelled_is_paid_until_then() -> None:
    calls = [call((1,), 0, 5), call((1, 2), 5, 5)]
    assert clipped(calls, 7) == [call((1,), 0, 5), call((1, 2), 5, 2)]
    assert clipped(calls, 5) == [call((1,), 0, 5)]
    assert clipped(calls, 3) == [call((1,), 0, 3)]


def test_a_trie_counts_shared_prefixes_once() -> None:
    assert distinct_positions([(1, 2, 3), (1, 2, 4), (1, 2)]) == 4
    assert distinct_positions([(1, 2), (2, 1)]) == 4
    assert distinct_positions([()]) == 0


def test_the_shape_is_read_from_the_models_files(tmp_path: Path) -> None:
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float32)}, tmp_path / "x.safetensors")
    config = {"num_attention_heads": 4, "num_hidden_layers": 2, "hidden_size": 32, "num_key_value_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_shape(tmp_path) == ModelShape(
        weights=17, layers=2, query_heads=4, key_value_heads=2, head_size=8
    )

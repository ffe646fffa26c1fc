"""Forests of the episodes that every protocol can produce, whatever a model says, against their calls."""

import random

import pytest
from exact_lab import VOCABULARY, assert_equal_to_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_lab import IDS, babble, build, drive

from data.forests.forest import build_forest
from data.forests.rows import call_row
from data.forests.split import split_rows
from rollout.protocols import PROTOCOLS


def test_the_words_of_all_protocols_fit_into_the_models() -> None:
    assert max(IDS.values()) < VOCABULARY


@pytest.mark.parametrize("name", PROTOCOLS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_group_of_episodes_equals_its_calls(name: str, seed: int) -> None:
    """Two episodes of one prompt: log-probabilities, loss and every gradient, whole and cut."""
    rng = random.Random(seed)
    bounds = {"total_tokens": 160, "width": 4}
    episodes = [drive(build(name, budgets=bounds), babble(rng), pick=rng.randrange) for _ in range(2)]
    rows = [
        call_row(episode, call, weight=rng.choice([0.5, 1.0]))
        for episode in episodes
        for call in episode.calls
        if call.num_trained
    ]
    if not rows:
        return
    assert_equal_to_rows("qwen3", rows, [rows])
    parts = split_rows(rows, max(8, len(build_forest(rows)) // 2))
    assert_equal_to_rows("qwen3", rows, parts)

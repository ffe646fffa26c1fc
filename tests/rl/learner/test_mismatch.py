"""Figures of the mismatch by hand, and through a learner."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from forest_lab import make_groups, row_logprobs
from transformers import AutoModelForCausalLM

from data.episodes.trajectory import Episode
from rl.config.stages import RlStage
from rl.learner.learner import Learner
from rl.learner.mismatch import mismatch_metrics, mismatch_sums
from rl.learner.settings import LearnerSettings


def test_by_hand() -> None:
    """98 tokens agree, one is off by 0.1, one by -0.5: the 99th of 100 is the one of 0.1."""
    learner = torch.tensor([-1.0] * 98 + [-0.9, -1.5])
    sums = mismatch_sums(learner, torch.full((100,), -1.0))
    found = mismatch_metrics(sums)
    assert found["mismatch_mean"] == pytest.approx(0.6 / 100)
    assert 0.1 <= found["mismatch_p99"] <= 0.1 * 10 ** (1 / 40) + 1e-9
    k3 = (math.exp(0.1) - 1.1) + (math.exp(-0.5) - 0.5)
    assert found["mismatch_kl"] == pytest.approx(k3 / 100)
    twice = mismatch_metrics(sums + sums)  # two ranks with equal tokens
    assert twice == pytest.approx(found)


def test_nothing_sampled_is_no_figure() -> None:
    assert mismatch_metrics(mismatch_sums(torch.zeros(0), torch.zeros(0))) == {}


@torch.no_grad()
def test_the_step_measures_tokens_of_its_own_weights(tiny_model_dir: Path) -> None:
    """Recorded values moved by 0.25: seen in tokens of the step's version, not measured in older ones."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()

    def recorded(episode: Episode, by: float, version: int) -> Episode:
        calls = []
        for call in episode.calls:
            exact = row_logprobs(model, episode.context_ids(call), call.output, 1.0) + by
            spans = tuple(replace(span, version=version) for span in call.versions)
            calls.append(replace(call, logprobs=tuple(exact.tolist()), versions=spans))
        return replace(episode, calls=tuple(calls))

    stage = RlStage(
        name="rl", kind="rl", steps=5, groups_per_step=2, samples_per_group=2, learning_rate=1e-3,
        forest_tokens=64,
    )  # fmt: skip
    groups = make_groups(tiny_model_dir, [[1.0, 0.0], [0.0, 1.0]])

    def measured(by: float, version: int) -> dict[str, float]:
        moved = [
            replace(group, episodes=tuple(recorded(one, by, version) for one in group.episodes))
            for group in groups
        ]
        with torch.enable_grad():
            metrics = Learner(tiny_model_dir, LearnerSettings(stage=stage, max_tokens=64)).step(3, moved)
        return {name: value for name, value in metrics.items() if name.startswith("mismatch")}

    assert measured(0.25, 2) == {}
    same, shifted = measured(0.0, 3), measured(0.25, 3)
    assert same["mismatch_p99"] < 1e-4 and same["mismatch_kl"] < 1e-8
    assert shifted["mismatch_mean"] == pytest.approx(0.25, abs=1e-4)
    assert shifted["mismatch_kl"] == pytest.approx(math.exp(-0.25) - 0.75, abs=1e-4)

"""Every named algorithm through the learner: it trains, and how its rows are cut changes nothing."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from forest_lab import REWARDS, graded_groups, make_groups, save
from pydantic import ValidationError

from rl.algorithms.losses.value import value_loss
from rl.config.algorithm import PRESETS, Algorithm, AlgorithmName
from rl.config.stages import RlStage
from rl.learner.critic import CriticLearner, explained_variance
from rl.learner.learner import Learner
from rl.learner.settings import LearnerSettings
from rl.learner.training_rows import critic_credit

COMPOSED: dict[str, dict[str, Any]] = {
    "decoupled": {"proximal": "recomputed", "corrections": [{"name": "truncate", "cap": None}]},
    "icepop": {"proximal": "recomputed", "corrections": [{"name": "mask"}]},
    "masked sequences": {
        "proximal": "recomputed",
        "corrections": [{"name": "mask", "lower": 0.0, "upper": 3.0, "level": "sequence"}],
    },
    "a-3po": {"proximal": "interpolated", "corrections": [{"name": "truncate", "level": "sequence_mean"}]},
    "off-policy mask": {"corrections": [{"name": "off_policy_mask", "delta": 0.01}]},
    "dppo": {"loss": "dppo_tv", "tv_delta": 0.01},
    "dual clip": {"dual_clip": 3.0},
    "parents only": {"roles": ["thread"]},
    "child credit": {"credit": "child"},
    "critic of calls": {"name": "ppo", "critic": {"level": "call", "lam": 0.9, "warmup_steps": 0}},
}


def learner(model_dir: Path, algorithm: dict[str, Any], **given: Any) -> Learner:
    stage = {
        "kind": "rl", "name": "rl", "steps": 10, "groups_per_step": 4, "samples_per_group": 3,
        "learning_rate": 1e-3, "forest_tokens": 512, "max_grad_norm": 1e6, **given,
    }  # fmt: skip
    config = RlStage.model_validate({**stage, "algorithm": algorithm})
    return Learner(model_dir, LearnerSettings(stage=config, max_tokens=64))


def flat_weights(made: Learner) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in made.weights().values()])


@pytest.mark.parametrize("name", [*PRESETS, *COMPOSED])
def test_it_trains_and_forests_may_be_cut_anywhere(tiny_model_dir: Path, name: str) -> None:
    algorithm = COMPOSED.get(name, {"name": name})
    groups = make_groups(tiny_model_dir, REWARDS)
    whole = learner(tiny_model_dir, algorithm)
    start = flat_weights(whole).clone()
    step = 6 if name == "ppo" else 0  # after the critic's warm-up
    expected = whole.step(step, groups)
    assert expected["updates"] == 1 and expected["skipped_updates"] == 0
    assert not torch.equal(flat_weights(whole), start)
    cut = learner(tiny_model_dir, algorithm, forest_tokens=32)
    found = cut.step(step, groups)
    # No child of these episodes succeeds, so `child` trains roots alone: nothing there to cut.
    assert found["forest_tokens"] > expected["forest_tokens"] or name == "child credit"
    for key in ("loss", "gradient_norm", "clipped_share", "correction"):
        assert found[key] == pytest.approx(expected[key], rel=1e-3, abs=1e-6), key


def test_presets_are_the_named_ones() -> None:
    assert set(PRESETS) == set(AlgorithmName.__args__)  # type: ignore[attr-defined]
    for name in PRESETS:
        assert Algorithm.model_validate({"name": name}).name == name
    # What a recipe says goes before what the name stands for.
    mine = Algorithm.model_validate({"name": "dapo", "clip_high": 0.5})
    assert (mine.clip_high, mine.clip_low, mine.aggregation) == (0.5, 0.2, "token")
    with pytest.raises(ValidationError, match="clip_high"):
        Algorithm.model_validate({"name": "dapo", "clip_high": -1})


def test_sequence_masks_leave_out_whole_episodes(tiny_model_dir: Path) -> None:
    """Nothing is left within (1, 1.0001): no correction weight, no policy gradient."""
    narrow = {"name": "mask", "lower": 1.00005, "upper": 1.0001, "level": "sequence"}
    made = learner(tiny_model_dir, {"proximal": "recomputed", "corrections": [narrow]})
    metrics = made.step(0, make_groups(tiny_model_dir, REWARDS))
    assert metrics["correction"] == 0.0 and metrics["gradient_norm"] == 0.0


def test_the_clipped_value_loss_by_hand() -> None:
    values = torch.tensor([0.9, 0.6, 0.2, 1.5], requires_grad=True)
    old, returns = torch.tensor([0.5, 0.5, 0.5, 0.5]), torch.tensor([1.0, 1.0, 1.0, 1.0])
    loss = value_loss(values, old, returns, clip=0.2)
    # (0.7 - 1)^2 > (0.9 - 1)^2; inside: (0.6 - 1)^2; (0.2 - 1)^2 > (0.3 - 1)^2; (1.5 - 1)^2 > (0.7 - 1)^2
    assert loss.tolist() == pytest.approx([0.045, 0.08, 0.32, 0.125])
    loss.sum().backward()
    # The first went too far towards its return already; the third and fourth are pulled back.
    assert values.grad is not None and values.grad.tolist() == pytest.approx([0.0, -0.4, -0.8, 0.5])
    plain = value_loss(values.detach(), old, returns, clip=None)
    assert plain.tolist() == pytest.approx([0.005, 0.08, 0.32, 0.125])


def test_explained_variance_by_hand() -> None:
    assert explained_variance([0.0, 1.0], [0.0, 1.0]) == 1.0
    assert explained_variance([0.5, 0.5], [0.0, 1.0]) == 0.0
    # Var(G) = 1/4, errors 0.25 and -0.25: 1 - (1/16) / (1/4)
    assert explained_variance([0.25, 0.75], [0.0, 1.0]) == pytest.approx(0.75)
    assert explained_variance([0.1, 0.2], [1.0, 1.0]) == 0.0


@pytest.mark.medium
def test_the_critic_learns_what_episodes_are_worth(tiny_model_dir: Path) -> None:
    """The same batch again and again: its values approach its returns, and the policy waits for it."""
    critic = {"warmup_steps": 30, "learning_rate": 3e-3, "value_clip": None}
    made = learner(tiny_model_dir, {"name": "ppo", "critic": critic})
    start = flat_weights(made).clone()
    groups = graded_groups(tiny_model_dir, seed=1)
    metrics = [made.step(step, groups) for step in range(30)]
    assert torch.equal(flat_weights(made), start)
    assert metrics[0]["explained_variance"] == pytest.approx(0.0, abs=1e-6)
    assert metrics[-1]["explained_variance"] > 0.6
    assert metrics[-1]["value_loss"] < 0.4 * metrics[0]["value_loss"]
    made.step(30, groups)
    assert not torch.equal(flat_weights(made), start)


def test_a_critic_of_calls_learns_from_each_call_alike(tiny_model_dir: Path) -> None:
    rewards = [1.0, 0.5, -2.0]
    groups = make_groups(tiny_model_dir, [rewards])
    critic = {"level": "call", "warmup_steps": 0, "value_clip": None}
    found = learner(tiny_model_dir, {"name": "ppo", "critic": critic}).step(0, groups)
    # A fresh critic says 0 everywhere: half of the mean square of the calls' returns, R each, is lost.
    calls = [sum(call.num_trained > 0 for call in episode.calls) for episode in groups[0].episodes]
    lost = sum(n * reward**2 for n, reward in zip(calls, rewards, strict=True)) / (2 * sum(calls))
    assert found["value_loss"] == pytest.approx(lost, rel=1e-5) and found["explained_variance"] == 0.0


@pytest.mark.parametrize("level", ["token", "call"])
def test_a_saved_critic_goes_on(tiny_model_dir: Path, tmp_path: Path, level: str) -> None:
    algorithm = {"name": "ppo", "critic": {"warmup_steps": 0, "level": level}}
    first, groups = learner(tiny_model_dir, algorithm), graded_groups(tiny_model_dir, seed=1)
    first.step(0, groups)
    save(first, tmp_path)
    second = learner(tiny_model_dir, algorithm)
    second.load(tmp_path)
    assert second.step(1, groups) == first.step(1, groups)
    assert torch.equal(flat_weights(first), flat_weights(second))


def test_an_ungraded_episode_teaches_the_critic_nothing(tiny_model_dir: Path) -> None:
    groups = make_groups(tiny_model_dir, [[1.0, None, 0.0]])
    algorithm = Algorithm.model_validate({"name": "ppo", "critic": {"whiten": False}})
    assert algorithm.critic is not None
    values = [[[[0.25] * call.num_trained for call in e.calls] for e in group.episodes] for group in groups]
    credit = critic_credit(groups, algorithm.critic, values)
    assert credit.returns is not None
    graded, ungraded, wrong = credit.advantages[0]
    assert {value for call in graded for value in call} == {0.75}
    assert {value for call in wrong for value in call} == {-0.25}
    assert {value for call in ungraded for value in call} == {0.0}
    assert credit.returns[0][1] == values[0][1]


def test_whitening_keeps_infinite_advantages_visible(tiny_model_dir: Path) -> None:
    """One critic value of +inf and one of -inf: every graded advantage is NaN, an ungraded one stays 0."""
    groups = make_groups(tiny_model_dir, [[1.0, None, 0.0]])
    algorithm = Algorithm.model_validate({"name": "ppo", "critic": {"whiten": True}})
    assert algorithm.critic is not None
    values = [
        [[[value] * call.num_trained for call in e.calls]
         for e, value in zip(group.episodes, (math.inf, 0.0, -math.inf), strict=True)]
        for group in groups
    ]  # fmt: skip
    credit = critic_credit(groups, algorithm.critic, values)
    graded, ungraded, wrong = credit.advantages[0]
    assert all(math.isnan(value) for episode in (graded, wrong) for call in episode for value in call)
    assert {value for call in ungraded for value in call} == {0.0}


def test_an_update_with_infinite_critic_values_is_skipped(tiny_model_dir: Path) -> None:
    made = learner(tiny_model_dir, {"name": "ppo", "critic": {"warmup_steps": 0, "whiten": True}})
    assert made.critic is not None
    with torch.no_grad():
        made.critic.head.weight.fill_(3e38)
    start = flat_weights(made).clone()
    metrics = made.step(0, make_groups(tiny_model_dir, REWARDS))
    assert metrics["updates"] == 0
    assert metrics["skipped_updates"] == 1 and metrics["critic_skipped_updates"] == 1
    assert torch.equal(flat_weights(made), start)


def test_a_fresh_critic_says_nothing(tiny_model_dir: Path) -> None:
    algorithm = Algorithm.model_validate({"name": "ppo"})
    assert algorithm.critic is not None
    critic = CriticLearner(tiny_model_dir, algorithm.critic, torch.device("cpu"), bfloat16=False)
    assert not critic.head.weight.any() and not critic.head.bias.any()

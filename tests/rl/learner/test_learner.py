"""The learner against references that share nothing with it: one row a forward pass, and TRL's own loss."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forest_lab import PAD, REWARDS, make_groups, row_logprobs, save
from transformers import AutoModelForCausalLM

from rl.config.stages import RlStage
from rl.learner.learner import Learner
from rl.learner.settings import LearnerSettings
from rl.scored_group import ScoredGroup

MAX_TOKENS = 64


def settings(**given: Any) -> LearnerSettings:
    algorithm = {"aggregation": "token", **given.pop("algorithm", {})}
    stage = {
        "kind": "rl",
        "name": "rl",
        "steps": 10,
        "groups_per_step": 4,
        "samples_per_group": 3,
        "learning_rate": 1e-3,
        "max_grad_norm": 1e6,
        "forest_tokens": 64,
        **given,
    }
    return LearnerSettings(
        stage=RlStage.model_validate({**stage, "algorithm": algorithm}), max_tokens=MAX_TOKENS
    )


def gradients_of_step(learner: Learner, groups: Sequence[ScoredGroup]) -> tuple[dict[str, float], list[Any]]:
    """-> (metrics, gradients of the one update), the weights left alone."""
    taken: list[Any] = []

    def take() -> None:
        taken.extend(parameter.grad.clone() for parameter in learner.model.parameters())

    learner.optimizer.step = take  # type: ignore[method-assign]
    return learner.step(0, groups), taken


def independent_loss(
    model: Any, reference: Any, groups: Sequence[ScoredGroup], config: LearnerSettings
) -> torch.Tensor:
    """The objective token by token in plain Python, a forward pass for every call. Nothing shared."""
    stage, algorithm = config.stage, config.stage.algorithm
    episodes = [(group, i) for group in groups for i in range(len(group.episodes))]
    all_trained = sum(call.num_trained for group, i in episodes for call in group.episodes[i].calls)
    total = torch.zeros(())
    for group, i in episodes:
        values = [score.value for score in group.scores]
        known = [value for value in values if value is not None]
        mean = sum(known) / len(known)
        spread = math.sqrt(sum((value - mean) ** 2 for value in known) / (len(known) - 1)) + 1e-6
        value = values[i]
        advantage = (
            0.0 if value is None else (value - mean) / (spread if algorithm.advantage == "group_std" else 1)
        )
        episode = group.episodes[i]
        for call in episode.calls:
            context = episode.context_ids(call)
            logprobs = row_logprobs(model, context, call.output, stage.temperature)
            with torch.no_grad():
                start = row_logprobs(reference, context, call.output, stage.temperature)
            weight = {
                "token": 1 / all_trained,
                "sequence": 1 / (len(episodes) * sum(c.num_trained for c in episode.calls)),
                "call": 1 / (len(episodes) * len(episode.calls) * call.num_trained),
                "constant": 1 / (len(episodes) * MAX_TOKENS),
            }[algorithm.aggregation]
            for t in range(call.num_trained):
                ratio = (logprobs[t] - call.logprobs[t]).exp()
                low, high = 1 - algorithm.clip_low, 1 + algorithm.clip_high
                clipped = min(max(float(ratio.detach()), low), high)
                # Where the clipped branch is the smaller one it is a constant: no gradient.
                smaller = float(ratio.detach()) * advantage > clipped * advantage
                total = total - weight * (clipped * advantage if smaller else ratio * advantage)
                difference = start[t] - logprobs[t]
                total = total + algorithm.kl_coef * weight * (difference.exp() - difference - 1)
    return total


def relative(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """Largest |found - expected| / |expected| of any tensor, in norms."""
    return max(float((a - b).norm() / b.norm().clamp(min=1e-6)) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("algorithm", "temperature"),
    [
        ({"aggregation": "token"}, 1.0),
        ({"aggregation": "sequence", "clip_high": 0.28}, 0.7),
        ({"aggregation": "call", "kl_coef": 0.05}, 1.0),
        ({"aggregation": "constant", "advantage": "group_mean"}, 1.0),
    ],
)
def test_forests_equal_one_row_a_forward_pass(
    tiny_model_dir: Path, algorithm: dict[str, Any], temperature: float
) -> None:
    """Loss and every gradient."""
    config = settings(algorithm=algorithm, temperature=temperature)
    groups = make_groups(tiny_model_dir, REWARDS, temperature=temperature)
    learner = Learner(tiny_model_dir, config)
    if learner.reference is not None:  # the policy has moved away from where it began
        with torch.no_grad():
            for parameter in learner.reference.parameters():
                parameter.mul_(1.01)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    start = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    start.load_state_dict((learner.reference or learner.model).state_dict())
    expected = independent_loss(model, start, groups, config)
    expected.backward()
    metrics, found = gradients_of_step(learner, groups)
    assert 0.05 < metrics["clipped_share"] < 0.8  # or the clip was not tested
    assert (metrics.get("reference_kl", 0.0) > 1e-4) == (algorithm.get("kl_coef", 0) > 0)
    assert metrics["loss"] == pytest.approx(float(expected.detach()), rel=1e-4, abs=1e-6)
    assert relative(found, [parameter.grad for parameter in model.parameters()]) < 1e-4


def test_how_rows_are_cut_into_forests_changes_nothing(tiny_model_dir: Path) -> None:
    groups = make_groups(tiny_model_dir, REWARDS)
    together, expected = gradients_of_step(Learner(tiny_model_dir, settings(forest_tokens=512)), groups)
    alone, found = gradients_of_step(Learner(tiny_model_dir, settings(forest_tokens=32)), groups)
    assert together["row_tokens"] == alone["row_tokens"]
    assert together["forest_tokens"] < alone["forest_tokens"] < alone["row_tokens"]
    assert alone["loss"] == pytest.approx(together["loss"], rel=1e-4)
    assert relative(found, expected) < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("aggregation", "trl_name"), [("sequence", "grpo"), ("token", "bnpo")])
def test_loss_and_gradients_equal_those_of_trl(
    tiny_model_dir: Path, tmp_path: Path, aggregation: str, trl_name: str
) -> None:
    """One call an episode is what TRL knows; its advantages are given, its loss and masks are its own."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from rl.algorithms.advantages.group import group_advantages

    groups = make_groups(tiny_model_dir, [[1.0, 0.0, -0.5], [0.0, 0.25, 1.0]], calls=1)
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(
            output_dir=str(tmp_path), loss_type=trl_name, beta=0.0, epsilon=0.2, use_cpu=True, bf16=False,
            num_generations=3, per_device_train_batch_size=3, gradient_accumulation_steps=1, report_to=[],
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_dict({"prompt": ["1"]}),
        processing_class=AutoTokenizer.from_pretrained(tiny_model_dir),
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    calls = [(episode, episode.calls[0]) for group in groups for episode in group.episodes]
    width = max(len(call.output) for _, call in calls)

    def padded(values: Sequence[Any], fill: float) -> list[Any]:
        return [*values, *[fill] * (width - len(values))]

    inputs = {
        "prompt_ids": torch.tensor([episode.context_ids(call) for episode, call in calls]),
        "prompt_mask": torch.ones(len(calls), 5, dtype=torch.long),
        "completion_ids": torch.tensor([padded(call.output, PAD) for _, call in calls]),
        # Our one untrained token has no place in TRL's batch either.
        "completion_mask": torch.tensor([padded([1] * call.num_trained, 0) for _, call in calls]),
        "old_per_token_logps": torch.tensor([padded(call.logprobs, 0.0) for _, call in calls]),
        "advantages": torch.tensor([a for group in groups for a in group_advantages(group.rewards, "std")]),
    }
    trainer.model.train()
    expected = trainer._compute_loss(trainer.model, inputs)
    expected.backward()
    learner = Learner(tiny_model_dir, settings(algorithm={"aggregation": aggregation}))
    metrics, found = gradients_of_step(learner, groups)
    assert metrics["loss"] == pytest.approx(float(expected.detach()), rel=1e-4)
    assert relative(found, [parameter.grad for parameter in trainer.model.parameters()]) < 1e-4


def weights_of(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.weights().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.medium
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 6.0}], ids=["all", "lora"])
def test_a_saved_learner_goes_on_as_if_it_had_never_stopped(
    tiny_model_dir: Path, tmp_path: Path, optimizer: str, lora: dict[str, Any] | None
) -> None:
    """Weights, moments and rates, bit for bit, and without a pickle."""
    config = settings(
        warmup_steps=2, final_learning_rate_fraction=0.1, weight_decay=0.1, optimizer=optimizer, lora=lora
    )
    batches = [make_groups(tiny_model_dir, REWARDS, seed=seed) for seed in range(4)]
    whole = Learner(tiny_model_dir, config)
    metrics = [whole.step(step, batch) for step, batch in enumerate(batches)]
    first = Learner(tiny_model_dir, config)
    for step in range(2):
        first.step(step, batches[step])
    save(first, tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    second = Learner(tiny_model_dir, config)
    second.load(tmp_path)
    assert equal(weights_of(first), weights_of(second))
    assert second.updates == 2
    assert [second.step(step, batches[step]) for step in (2, 3)] == metrics[2:]
    assert equal(weights_of(second), weights_of(whole))
    fresh = Learner(tiny_model_dir, config)
    fresh.model.load_state_dict(first.model.state_dict())
    fresh.step(2, batches[2])
    second_again = Learner(tiny_model_dir, config)
    second_again.load(tmp_path)
    second_again.step(2, batches[2])
    assert not equal(weights_of(fresh), weights_of(second_again))  # moments matter, so they were restored


def test_minibatches_are_updates_in_the_order_of_the_groups(tiny_model_dir: Path) -> None:
    rewards = [REWARDS[0], REWARDS[1], REWARDS[2], REWARDS[0]]
    groups = make_groups(tiny_model_dir, rewards)
    both = Learner(tiny_model_dir, settings(minibatches=2))
    metrics = both.step(0, groups)
    halves = Learner(tiny_model_dir, settings())
    for half in (groups[:2], groups[2:]):
        halves.step(0, half)
    assert metrics["updates"] == both.updates == halves.updates == 2
    assert equal(weights_of(both), weights_of(halves))
    reverse = Learner(tiny_model_dir, settings())
    for half in (groups[2:], groups[:2]):
        reverse.step(0, half)
    assert not equal(weights_of(both), weights_of(reverse))


def test_a_batch_without_signal_makes_no_update(tiny_model_dir: Path) -> None:
    """Weight decay and momentum must not move the weights either."""
    learner = Learner(tiny_model_dir, settings(weight_decay=0.1))
    learner.step(0, make_groups(tiny_model_dir, REWARDS))
    before = weights_of(learner)
    metrics = learner.step(1, make_groups(tiny_model_dir, [[0.5] * 3, [None] * 3, [1.0, None, None]]))
    assert metrics["updates"] == 0 and learner.updates == 1
    assert all(math.isfinite(value) for value in metrics.values())
    assert equal(weights_of(learner), before)


@pytest.mark.parametrize("poison", [math.nan, -math.inf])
def test_a_broken_gradient_is_left_out_and_counted(tiny_model_dir: Path, poison: float) -> None:
    """As from an engine that reports nonsense for one token: the step is lost, the run is not."""
    learner = Learner(tiny_model_dir, settings())
    groups = make_groups(tiny_model_dir, REWARDS)
    before = weights_of(learner)
    episode = groups[0].episodes[0]
    broken = replace(episode.calls[0], logprobs=(poison, *episode.calls[0].logprobs[1:]))
    bad = replace(episode, calls=(broken, *episode.calls[1:]))
    poisoned = [replace(groups[0], episodes=(bad, *groups[0].episodes[1:])), *groups[1:]]
    metrics = learner.step(0, poisoned)
    assert metrics["skipped_updates"] == 1 and metrics["updates"] == learner.updates == 0
    assert equal(weights_of(learner), before)
    metrics = learner.step(1, groups)
    assert metrics["skipped_updates"] == 0
    assert all(bool(tensor.isfinite().all()) for tensor in learner.weights().values())
    assert not equal(weights_of(learner), before)


def test_the_canary_half_is_the_same_model(tiny_model_dir: Path) -> None:
    """`logprobs` is one row's plain forward, whatever the stage samples at."""
    learner = Learner(tiny_model_dir, settings(temperature=0.5))
    context, output = (5, 9, 11), (12, 13, 14, 2)
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
        expected = row_logprobs(plain, context, output, 1.0)
    found = learner.logprobs([(context, output), (context, output[:2])])
    assert found == [
        pytest.approx(expected.tolist(), abs=1e-5),
        pytest.approx(expected[:2].tolist(), abs=1e-5),
    ]

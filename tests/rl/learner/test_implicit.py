"""The implicit reward model in the learner, against plain forward passes of single rows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forest_lab import REWARDS, make_groups, row_logprobs, save
from transformers import AutoModelForCausalLM

from rewards.score import Score
from rl.config.lora import Lora
from rl.config.stages import RlStage
from rl.learner.implicit import ImplicitLearner, prediction_metrics
from rl.learner.learner import Learner
from rl.learner.lora import adapter_tensors, add_adapters, load_adapters, merged_weights
from rl.learner.settings import LearnerSettings
from rl.scored_group import ScoredGroup

BETA = 0.05
IMPLICIT = {"beta": BETA, "learning_rate": 3e-2, "lora": {"rank": 4}}


def learner(model_dir: Path, algorithm: dict[str, Any] | None = None, **given: Any) -> Learner:
    stage = {
        "kind": "rl", "name": "rl", "steps": 10, "groups_per_step": 4, "samples_per_group": 3,
        "learning_rate": 1e-3, "forest_tokens": 512, **given,
    }  # fmt: skip
    whole = {"name": "prime", "implicit": IMPLICIT, **(algorithm or {})}
    config = RlStage.model_validate({**stage, "algorithm": whole})
    return Learner(model_dir, LearnerSettings(stage=config, max_tokens=64))


def implicit_of(made: Learner) -> ImplicitLearner:
    assert made.implicit is not None
    return made.implicit


def flat(nested: Any) -> list[float]:
    return [value for group in nested for episode in group for call in episode for value in call]


def row_ratios(model: Any, base: Any, groups: Sequence[ScoredGroup]) -> list[list[Any]]:
    """[episodes][calls] log-ratios of the trained tokens, by a plain forward pass for each model and call."""
    found = []
    for episode in (episode for group in groups for episode in group.episodes):
        found.append([])
        for call in episode.calls:
            context = episode.context_ids(call)
            own = row_logprobs(model, context, call.output, 1.0)[: call.num_trained]
            with torch.no_grad():
                other = row_logprobs(base, context, call.output, 1.0)[: call.num_trained]
            found[-1].append(own - other)
    return found


def test_token_rewards_are_those_of_single_rows(tiny_model_dir: Path) -> None:
    """They equal those of the merged weights in `transformers` alone; sampling was at temperature 0.7."""
    groups = make_groups(tiny_model_dir, REWARDS)
    made = learner(tiny_model_dir, temperature=0.7, forest_tokens=64)
    first = implicit_of(made).step(groups)
    assert set(flat(first.rewards)) == {0.0}, "it begins as the reference"
    assert first.metrics["implicit/loss"] == pytest.approx(0.693147, abs=1e-6)
    assert first.metrics["implicit/accuracy"] == 0.5 == first.metrics["implicit/in_group"]
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    model.load_state_dict(merged_weights(implicit_of(made).model), strict=False)
    with torch.no_grad():
        expected = [BETA * torch.cat(calls) for calls in row_ratios(model, base, groups)]
    second = implicit_of(made).step(groups)
    found = flat(second.rewards)
    assert max(map(abs, found)) > 1e-3
    assert found == pytest.approx(torch.cat(expected).tolist(), abs=1e-5)
    assert second.metrics["implicit/reward"] == pytest.approx(sum(found) / len(found))
    assert first.metrics["implicit/version"] == 0 and second.metrics["implicit/version"] == 1


@pytest.mark.medium
@pytest.mark.parametrize("budget", [32, 512])
def test_the_update_has_the_gradient_of_the_loss_of_single_rows(tiny_model_dir: Path, budget: int) -> None:
    """Autograd through plain forward passes and the sums of whole episodes, adapters by peft."""
    groups = make_groups(tiny_model_dir, REWARDS)
    made = implicit_of(learner(tiny_model_dir, forest_tokens=budget))
    made.step(groups)
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    add_adapters(model, Lora(rank=4), seed=0)
    load_adapters(model, adapter_tensors(made.model))
    sums = torch.stack([BETA * torch.cat(calls).sum() for calls in row_ratios(model, base, groups)])
    outcomes = [score.correct for group in groups for score in group.scores]
    known = [index for index, outcome in enumerate(outcomes) if outcome is not None]
    assert len(known) == len(outcomes) - 1
    right = torch.tensor([float(bool(outcomes[index])) for index in known])
    s = torch.sigmoid(sums[known])
    loss = -(right * s.log() + (1 - right) * (1 - s).log()).mean()
    loss.backward()
    expected = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    found: dict[str, Any] = {}

    def take() -> None:
        found.update({n: p.grad.clone() for n, p in made.model.named_parameters() if p.requires_grad})

    made.optimizer.step = take  # type: ignore[method-assign, assignment]
    metrics = made.step(groups).metrics
    assert metrics["implicit/loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert found.keys() == expected.keys() and found
    for name, grad in found.items():
        size = expected[name].norm().clamp(min=1e-8)
        assert float((grad - expected[name]).norm() / size) < 1e-4, name


def test_it_learns_which_episodes_are_right(tiny_model_dir: Path) -> None:
    groups = make_groups(tiny_model_dir, REWARDS)
    made = implicit_of(learner(tiny_model_dir))
    curve = [made.step(groups).metrics for _ in range(7)]
    assert curve[-1]["implicit/loss"] < 0.5 * curve[0]["implicit/loss"]
    assert curve[-1]["implicit/in_group"] == 1.0 and curve[-1]["implicit/accuracy"] > 0.8
    assert sum(row["implicit/skipped_updates"] for row in curve) == 0


def decided(groups: Sequence[ScoredGroup]) -> list[ScoredGroup]:
    """The same with 50 as the first token of the last call of right episodes, and 51 of wrong ones."""
    return [
        replace(group, episodes=tuple(
            replace(episode, calls=(*episode.calls[:-1], replace(
                episode.calls[-1], output=(50 if score.correct else 51, *episode.calls[-1].output[1:])
            )))
            for episode, score in zip(group.episodes, group.scores, strict=True)
        ))
        for group in groups
    ]  # fmt: skip


@pytest.mark.medium
def test_outcomes_alone_show_which_token_decides(tiny_model_dir: Path) -> None:
    """On episodes that it has not seen, each batch being scored before it is learned."""
    made = implicit_of(learner(tiny_model_dir, forest_tokens=2048))
    for seed in range(8):
        groups = make_groups(tiny_model_dir, [[1.0, 0.0] * 3] * 4, seed=seed, calls=2)
        found = made.step(decided(groups))
    assert found.metrics["implicit/in_group"] > 0.8
    first, rest = 0.0, []
    for episode in (episode for of_group in found.rewards for episode in of_group):
        first += abs(episode[-1][0]) / 24
        rest += [abs(value) for call in episode[:-1] for value in call] + list(map(abs, episode[-1][1:]))
    assert first > 3 * sum(rest) / len(rest)


def test_token_rewards_reach_the_policy_and_training_goes_on_from_a_checkpoint_to_the_bit(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    batches = [make_groups(tiny_model_dir, REWARDS, seed=seed) for seed in range(3)]
    going, plain = learner(tiny_model_dir), learner(tiny_model_dir, {"implicit": None})
    for step, groups in enumerate(batches[:2]):
        assert going.step(step, groups)["updates"] == 1
        assert not any(name.startswith("implicit/") for name in plain.step(step, groups))
    mine, theirs = going.weights(), plain.weights()
    assert any(not torch.equal(mine[name], theirs[name]) for name in mine)
    save(going, tmp_path)
    again = learner(tiny_model_dir)
    again.load(tmp_path)
    for step, groups in enumerate(batches[2:], start=2):
        assert again.step(step, groups) == going.step(step, groups)
    kept, found = going.weights(), again.weights()
    assert all(torch.equal(kept[name], found[name]) for name in kept)
    last, other = implicit_of(going).tensors(), implicit_of(again).tensors()
    assert last.keys() == other.keys() and all(torch.equal(last[name], other[name]) for name in last)
    assert int(last["updates"]) == 3


@pytest.mark.parametrize(
    "given", [{"lora": {"rank": 2}, "minibatches": 2}, {"weights": "bfloat16", "precision": "bfloat16"}]
)
def test_it_stands_beside_every_kind_of_policy(tiny_model_dir: Path, given: dict[str, Any]) -> None:
    made = learner(tiny_model_dir, **given)
    for step in range(2):
        metrics = made.step(step, make_groups(tiny_model_dir, REWARDS[:2]))
    assert metrics["updates"] > 0 and metrics["implicit/version"] == 1
    assert metrics["implicit/loss"] < 0.69


def test_roles_that_are_not_trained_have_no_part_in_it(tiny_model_dir: Path) -> None:
    made = implicit_of(learner(tiny_model_dir, {"roles": ["other"]}))
    found = made.step(make_groups(tiny_model_dir, REWARDS))
    assert set(flat(found.rewards)) == {0.0} and found.metrics["implicit/loss"] == 0.0
    assert made.updates == 0


def test_predictions_by_hand() -> None:
    """First group: 1 and -1 right, 0 and 2 wrong: of the four pairs one is in order. Second: two pairs, both
    in order, and an unknown answer. Right sides of 0: yes, no, half, no; yes, yes, no.
    """

    def group(*correct: bool | None) -> ScoredGroup:
        scores = tuple(Score(value=0.0, correct=each) for each in correct)
        return ScoredGroup(index=0, problem_id="p", episodes=(), scores=scores)

    groups = [group(True, True, False, False), group(True, False, None, False)]
    found = prediction_metrics(groups, [1.0, -1.0, 0.0, 2.0, 0.5, -0.5, 9.0, 0.25])
    assert found["implicit/accuracy"] == pytest.approx(3.5 / 7)
    assert found["implicit/in_group"] == pytest.approx((1 + 2) / (4 + 2))
    assert prediction_metrics([group(None)], [1.0]) == {}

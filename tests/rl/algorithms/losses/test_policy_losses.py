"""Policy losses against numbers worked out in the comments, and against TRL's own."""

import math
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rl.algorithms.losses.aggregation import call_weights
from rl.algorithms.losses.cispo import cispo_loss
from rl.algorithms.losses.clip import clip_loss
from rl.algorithms.losses.dppo_tv import dppo_tv_loss
from rl.algorithms.losses.kl import k3
from rl.algorithms.losses.likelihood import likelihood_loss
from rl.algorithms.losses.sequence_clip import sequence_clip_loss
from rl.algorithms.losses.token_loss import TokenLoss


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def check(loss: Callable[[torch.Tensor], TokenLoss], logprobs: torch.Tensor, expected: list[Any]) -> None:
    """`expected`: (value, gradient with respect to the log-probability, clipped) of each token."""
    logprobs = logprobs.clone().requires_grad_()
    result = loss(logprobs)
    result.values.sum().backward()
    assert logprobs.grad is not None
    values, gradients, clipped = zip(*expected, strict=True)
    assert result.values.tolist() == pytest.approx(values, rel=1e-9, abs=1e-12)
    assert logprobs.grad.tolist() == pytest.approx(gradients, rel=1e-9, abs=1e-12)
    assert result.clipped.tolist() == list(clipped)
    assert not result.clipped.requires_grad


def test_clip_by_hand() -> None:
    proximal = torch.full((6,), -1.0, dtype=torch.float64)
    logprobs = proximal + column(1.1, 1.5, 0.5, 0.5, 1.5, 1.5).log()
    advantages = column(2, 2, 2, -1, -1, 0)
    check(
        lambda logp: clip_loss(logp, proximal, advantages, clip_low=0.2, clip_high=0.28, dual_clip=None),
        logprobs,
        [
            (-2.2, -2.2, False),  # inside: -r A, and so is the gradient
            (-2.56, 0, True),  # likely enough already: -1.28 * 2
            (-1.0, -1.0, False),  # min takes 0.5 * 2 over 0.8 * 2: still pulled up
            (0.8, 0, True),  # unlikely enough already: -(0.8 * -1)
            (1.5, 1.5, False),  # min takes -1.5 over -1.28: still pushed down
            (0, 0, False),  # no advantage, nothing to cut off
        ],
    )


def test_dual_clip_by_hand() -> None:
    proximal = torch.full((4,), -2.0, dtype=torch.float64)
    logprobs = proximal + column(5, 2, 5, 0.5).log()
    advantages = column(-1, -1, 2, -1)
    check(
        lambda logp: clip_loss(logp, proximal, advantages, clip_low=0.2, clip_high=0.28, dual_clip=3.0),
        logprobs,
        [
            (3.0, 0, True),  # max(min(-5, -1.28), 3 * -1) = -3; 5.0 without the dual clip
            (2.0, 2.0, False),  # max(-2, -3)
            (-2.56, 0, True),  # A > 0: the first clip alone, -1.28 * 2, not -3 * 2
            (0.8, 0, True),  # max(-0.8, -3): the first clip had cut it already
        ],
    )


def test_sequence_clip_by_hand() -> None:
    # Four sequences of two tokens. Log-ratios (0.0010, -0.0004), (0.0010, 0), (0.0010, 0), (-0.0010, 0):
    # means 0.0003, 0.0005, 0.0005 and -0.0005; bounds 1 - 3e-4 and 1 + 4e-4.
    proximal = torch.full((8,), -3.0, dtype=torch.float64)
    logprobs = proximal + column(1e-3, -4e-4, 1e-3, 0, 1e-3, 0, -1e-3, 0)
    means = column(3e-4, 3e-4, 5e-4, 5e-4, 5e-4, 5e-4, -5e-4, -5e-4)
    advantages = column(1, 1, 1, 1, -1, -1, -1, -1)
    inside, above = math.exp(3e-4), math.exp(5e-4)

    def loss(logp: torch.Tensor) -> TokenLoss:
        return sequence_clip_loss(logp, proximal, advantages, means, clip_low=3e-4, clip_high=4e-4)

    check(
        loss,
        logprobs,
        [
            *[(-inside, -inside, False)] * 2,  # every token with the sequence's ratio
            *[(-1.0004, 0, True)] * 2,  # both: also the second, whose own ratio is 1
            *[(above, above, False)] * 2,  # too likely, and pushed down
            *[(0.9997, 0, True)] * 2,
        ],
    )
    alone = clip_loss(logprobs, proximal, advantages, clip_low=3e-4, clip_high=4e-4, dual_clip=None)
    assert alone.clipped.tolist() == [True, False, True, False, False, False, True, False]
    logprobs, proximal, means = (tensor.float() for tensor in (logprobs - 20, proximal - 20, means))
    advantages = advantages.float()
    assert loss(logprobs).values[:2].tolist() == pytest.approx([-inside] * 2, abs=1.2e-7)  # 23 has 1.9e-6


def test_cispo_by_hand() -> None:
    logprobs = column(-0.5, -2.0, -1.0, -1.0)
    proximal = logprobs - column(8, 0.1, 1.5, 8).log()
    advantages = column(2, -1, 1, 0)
    check(
        lambda logp: cispo_loss(logp, proximal, advantages, cap_low=None, cap_high=5.0),
        logprobs,
        [
            (5.0, -10.0, True),  # -5 * 2 * -0.5; the weight is 5, not 8
            (-0.2, 0.1, False),  # -0.1 * -1 * -2
            (1.5, -1.5, False),  # PPO would cut this one off
            (0, 0, False),
        ],
    )
    check(
        lambda logp: cispo_loss(logp, proximal, advantages, cap_low=0.5, cap_high=1.2),
        logprobs,
        [
            (1.2, -2.4, True),  # -1.2 * 2 * -0.5
            (-1.0, 0.5, True),  # raised to 0.5: -0.5 * -1 * -2
            (1.2, -1.2, True),
            (0, 0, False),
        ],
    )


def test_likelihood_by_hand() -> None:
    check(
        lambda logp: likelihood_loss(logp, column(2, -1, 0)),
        column(-0.5, -2.0, -7.0),
        [(1.0, -2.0, False), (-2.0, 1.0, False), (0, 0, False)],
    )


def test_the_likelihood_has_the_gradient_of_a_ratio_to_itself() -> None:
    """PAPO: d/dlogp of -A exp(logp - sg(logp)) is -A exp(0), as that of -A logp; so is PPO's first update."""
    logprobs, advantages = column(-0.5, -2.0, -7.0), column(2, -1, 0.5)
    gradients = []
    for loss in (
        lambda logp: likelihood_loss(logp, advantages).values,
        lambda logp: -advantages * (logp - logp.detach()).exp(),
        lambda logp: (
            clip_loss(logp, logp.detach(), advantages, clip_low=0.2, clip_high=0.2, dual_clip=None).values
        ),
    ):
        at = logprobs.clone().requires_grad_()
        loss(at).sum().backward()
        assert at.grad is not None
        gradients.append(at.grad.tolist())
    assert gradients == [[-2.0, 1.0, -0.5]] * 3


def test_dppo_tv_by_hand() -> None:
    before = column(0.1, 0.1, 0.001, 0.76, 0.5, 0.5, 0.5, 0.5)
    after = column(0.4, 0.4, 0.002, 0.97, 0.25, 0.25, 0.69, 0.35)
    advantages = column(1, -1, 1, 1, -1, 1, 1, -1)
    check(
        lambda logp: dppo_tv_loss(logp, before.log(), advantages, delta=0.2),
        after.log(),
        [
            (-4.0, 0, True),  # 0.3 too likely
            (4.0, 4.0, False),  # as far, but on its way back
            (-2.0, -2.0, False),  # ratio 2, probability as good as unmoved
            (-0.97 / 0.76, 0, True),  # ratio 1.276, probability 0.21 higher
            (0.5, 0, True),  # 0.25 too unlikely
            (-0.5, -0.5, False),  # on its way back
            (-1.38, -1.38, False),  # 0.19 is inside
            (0.7, 0.7, False),  # and so is -0.15
        ],
    )
    ppo = clip_loss(after.log(), before.log(), advantages, clip_low=0.2, clip_high=0.28, dual_clip=None)
    assert ppo.clipped.tolist() == [True, False, True, False, True, False, True, True]  # another region


LENGTHS = (6, 3, 1, 4)
MAX_TOKENS = 8
BETA = 0.3


def trl_loss(logprobs: torch.Tensor, given: dict[str, torch.Tensor], **settings: Any) -> torch.Tensor:
    """TRL's `GRPOTrainer._compute_loss` on [B, T] log-probabilities, in place of those of a model."""
    from trl import GRPOTrainer

    beta = settings.pop("beta", 0.0)
    args = SimpleNamespace(
        delta=settings.pop("delta", None), use_bias_correction_kl=False, steps_per_generation=1
    )
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None),
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, **_: x),
        model=SimpleNamespace(training=True),
        args=args,
        beta=beta,
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=MAX_TOKENS,
        _entropy_bonus_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        **{"importance_sampling_level": "token", "epsilon_low": 0.2, "epsilon_high": 0.28, **settings},
    )
    mask = given["mask"].long()
    ids = torch.zeros_like(mask)
    inputs = {
        "prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1] + 1,
        "completion_ids": ids, "completion_mask": mask,
        "advantages": given["advantages"], "old_per_token_logps": given["old"],
        "ref_per_token_logps": given["reference"], "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    return GRPOTrainer._compute_loss(trainer, None, inputs)


CLIP = {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": None}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("settings", "loss", "aggregation"),
    [
        ({"loss_type": "grpo"}, "clip", "sequence"),
        ({"loss_type": "bnpo"}, "clip", "token"),
        ({"loss_type": "dapo"}, "clip", "token"),
        ({"loss_type": "dr_grpo"}, "clip", "constant"),
        ({"loss_type": "grpo", "delta": 1.5}, "dual", "sequence"),
        ({"loss_type": "grpo", "beta": BETA}, "clip", "sequence"),
        (
            {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_high": 0.05},
            "sequence",
            "sequence",
        ),
        ({"loss_type": "cispo", "epsilon_high": 1.3}, "cispo", "token"),
    ],
)
def test_losses_and_gradients_equal_those_of_trl(
    settings: dict[str, Any], loss: str, aggregation: Any
) -> None:
    torch.manual_seed(0)
    size = (len(LENGTHS), max(LENGTHS))
    mask = torch.arange(size[1]) < torch.tensor(LENGTHS)[:, None]
    logprobs = (-1 - torch.rand(size, dtype=torch.float64)).requires_grad_()
    old = logprobs.detach() + 0.4 * torch.randn(size, dtype=torch.float64)
    reference = old + 0.2 * torch.randn(size, dtype=torch.float64)
    advantages = column(1.0, -1.5, 0.5, -0.25)
    given = {"mask": mask, "old": old, "reference": reference, "advantages": advantages}
    expected = trl_loss(logprobs, given, **settings)
    (expected_gradient,) = torch.autograd.grad(expected, logprobs)

    flat, proximal, against = logprobs[mask], old[mask], reference[mask]
    of_token = advantages[:, None].expand(size)[mask]
    counts = torch.tensor(LENGTHS)
    means = torch.cat([part.mean().expand(len(part)) for part in (flat - proximal).detach().split(LENGTHS)])
    result = {
        "clip": lambda: clip_loss(flat, proximal, of_token, **CLIP),
        "dual": lambda: clip_loss(flat, proximal, of_token, **{**CLIP, "dual_clip": 1.5}),
        "cispo": lambda: cispo_loss(flat, proximal, of_token, cap_low=None, cap_high=1.3),
        "sequence": lambda: sequence_clip_loss(flat, proximal, of_token, means, clip_low=0.2, clip_high=0.05),
    }[loss]()
    weights = call_weights([[count] for count in LENGTHS], aggregation, max_tokens=MAX_TOKENS)
    of_episode = torch.tensor(weights, dtype=torch.float64)[:, 0].repeat_interleave(counts)
    values = result.values + (BETA * k3(flat, against) if "beta" in settings else 0.0)
    found = (values * of_episode).sum()
    (gradient,) = torch.autograd.grad(found, logprobs)
    assert 0 < int(result.clipped.sum()) < len(flat)  # or the clip was not tested
    assert float(found) == pytest.approx(float(expected), rel=1e-9)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-9, atol=1e-12)

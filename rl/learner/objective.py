"""The policy loss of an algorithm: formula, denominator of the ratio, corrections. Pure functions.

    L = sum_t w_t c_t (l_t + k KL_t)      w: aggregation, c: corrections, l: the loss of a token

Ratios and corrections of whole sequences are computed from all their tokens before the first of them is
trained: a sequence may be spread over forests and ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rl.algorithms.corrections.interpolate import interpolated_proximal
from rl.algorithms.corrections.mask import mask
from rl.algorithms.corrections.off_policy_mask import off_policy_mask
from rl.algorithms.corrections.truncate import truncate
from rl.algorithms.losses.cispo import cispo_loss
from rl.algorithms.losses.clip import clip_loss
from rl.algorithms.losses.dppo_tv import dppo_tv_loss
from rl.algorithms.losses.kl import KL
from rl.algorithms.losses.likelihood import likelihood_loss
from rl.algorithms.losses.sequence_clip import sequence_clip_loss
from rl.algorithms.losses.token_loss import TokenLoss
from rl.config.algorithm import (
    Algorithm,
    Correction,
    MaskCorrection,
    OffPolicyMaskCorrection,
    TruncateCorrection,
)
from rl.learner.policy_rows import LabelTensors


def needs_current_logprobs(algorithm: Algorithm) -> bool:
    """Whether the current policy's log-probabilities of the whole update are needed before any is trained."""
    moving = algorithm.proximal == "interpolated" and bool(algorithm.corrections)
    masked = any(isinstance(correction, OffPolicyMaskCorrection) for correction in algorithm.corrections)
    return algorithm.loss == "sequence_clip" or moving or masked


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """`loss` is a sum with all denominators in it, differentiable; the rest are sums over the labels."""

    loss: torch.Tensor
    clipped: torch.Tensor
    """Labels whose gradient the trust region cut off."""
    divergence: torch.Tensor
    """r - 1 - log r of the current policy against the behaviour policy."""
    reference_kl: torch.Tensor
    corrected: torch.Tensor
    """Sum of the corrections' weights; the number of labels without any."""
    max_ratio: torch.Tensor


def policy_objective(
    algorithm: Algorithm,
    label_tensors: LabelTensors,
    logprobs: torch.Tensor,
    *,
    proximal: torch.Tensor,
    sequence_ratio: torch.Tensor | None,
    corrections: torch.Tensor,
    reference: torch.Tensor | None,
) -> Objective:
    """All [L]. `proximal`: see `proximal_logprobs`; `sequence_ratio`: mean log(current / proximal) of the
    label's sequence, where the loss needs it; `corrections`: see `correction_weights`; `reference`:
    log-probabilities of the frozen start, where the recipe asks for a KL term.
    """
    token = _token_loss(algorithm, label_tensors, logprobs, proximal, sequence_ratio)
    values = token.values
    kl = torch.zeros_like(values)
    if reference is not None:
        kl = KL[algorithm.kl_estimator](logprobs, reference)
    loss = (label_tensors.weights * (corrections * values + algorithm.kl_coef * kl)).sum()
    with torch.no_grad():
        log_ratio = logprobs - label_tensors.behaviour
        return Objective(
            loss=loss,
            clipped=token.clipped.float().sum(),
            divergence=(log_ratio.exp() - 1.0 - log_ratio).sum(),
            reference_kl=kl.sum(),
            corrected=corrections.sum(),
            max_ratio=log_ratio.exp().max(),
        )


def _token_loss(
    algorithm: Algorithm,
    label_tensors: LabelTensors,
    logprobs: torch.Tensor,
    proximal: torch.Tensor,
    sequence_ratio: torch.Tensor | None,
) -> TokenLoss:
    low, high, advantages = algorithm.clip_low, algorithm.clip_high, label_tensors.advantages
    if algorithm.loss == "clip":
        dual = algorithm.dual_clip
        return clip_loss(logprobs, proximal, advantages, clip_low=low, clip_high=high, dual_clip=dual)
    if algorithm.loss == "sequence_clip":
        assert sequence_ratio is not None
        return sequence_clip_loss(
            logprobs, proximal, advantages, sequence_ratio, clip_low=low, clip_high=high
        )
    if algorithm.loss == "cispo":
        return cispo_loss(
            logprobs, proximal, advantages, cap_low=1.0 - low if low < 1.0 else None, cap_high=1.0 + high
        )
    if algorithm.loss == "dppo_tv":
        return dppo_tv_loss(logprobs, proximal, advantages, delta=algorithm.tv_delta)
    return likelihood_loss(logprobs, advantages)


def proximal_logprobs(
    algorithm: Algorithm,
    label_tensors: LabelTensors,
    *,
    current: torch.Tensor,
    recomputed: torch.Tensor | None,
    step: int,
) -> torch.Tensor:
    """[L] log-probabilities in the denominator of ratios. `current`: those of the policy being trained,
    detached; `recomputed`: those at the start of the step, where the recipe asks for them.
    """
    if algorithm.proximal == "recomputed":
        assert recomputed is not None
        return recomputed
    if algorithm.proximal == "interpolated":
        # The step began with the weights of version `step` and makes the next version.
        return interpolated_proximal(
            label_tensors.behaviour,
            current,
            label_tensors.versions,
            current_version=step + 1,
            proximal_version=step,
        )
    return label_tensors.behaviour


def correction_weights(
    corrections: Sequence[Correction],
    *,
    proximal: torch.Tensor,
    current: torch.Tensor | None,
    behaviour: torch.Tensor,
    advantages: torch.Tensor,
    sequences: torch.Tensor,
) -> torch.Tensor:
    """[N] product of the corrections. Denominators stay those of all tokens: tokens that are left out do not
    increase the weight of the rest.
    """
    log_ratio = proximal - behaviour
    weights = torch.ones_like(log_ratio)
    for correction in corrections:
        if isinstance(correction, TruncateCorrection):
            weights = weights * truncate(log_ratio, sequences, cap=correction.cap, level=correction.level)
        elif isinstance(correction, MaskCorrection):
            weights = weights * mask(
                log_ratio,
                sequences,
                lower=correction.lower,
                upper=correction.upper,
                level=correction.level,
                keep_ratio=correction.keep_ratio,
            )
        else:
            assert current is not None
            moved = current - behaviour
            weights = weights * off_policy_mask(moved, sequences, advantages, delta=correction.delta)
    return weights

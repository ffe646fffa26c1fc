"""Levels of an importance ratio: a token, a sequence, or the average token of a sequence.

    token           rho of the token
    sequence        product of rho over the sequence: its importance weight
    sequence_mean   the n-th root of that, of n tokens: the geometric mean

The variance of the product grows with the length; geometric means of sequences of any length can be compared.
"""

from __future__ import annotations  # recipes name levels, and must not import torch

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Level = Literal["token", "sequence", "sequence_mean"]


def at_level(log_ratio: torch.Tensor, sequences: torch.Tensor, level: Level) -> torch.Tensor:
    """[N] log-ratios of tokens, [N] int64 sequence of each -> [N] log-ratio at that level, detached.

    A log-ratio that is not finite counts as 0, since it does not measure how far the policies are apart.
    It stays in the denominator of the mean.

    Example (sequences 0, 0, 1): [0.2, 0.4, -1.0] -> sequence [0.6, 0.6, -1.0], mean [0.3, 0.3, -1.0]
    """
    finite = log_ratio.detach().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    if level == "token":
        return finite
    total = sum_of_sequence(finite, sequences)
    return total if level == "sequence" else total / sequences.bincount()[sequences]


def sum_of_sequence(values: torch.Tensor, sequences: torch.Tensor) -> torch.Tensor:
    """[N], [N] int64 -> [N] sum over all tokens of the token's sequence."""
    count = sequences.bincount().numel()
    return values.new_zeros(count).index_add(0, sequences, values)[sequences]

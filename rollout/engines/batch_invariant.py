"""Linear layers whose result for a row does not depend on how many other rows share the batch.

A matrix product chooses its kernel, and with it the order of the sum over K, by the number of rows: on the
CPUs tried, float32 rows have equal results for every count from 16 up and differ in the last bits below. So a
batch is padded to `MIN_ROWS` rows; where a probe at start-up shows that this is not enough (bfloat16 at some
shapes), it is cut into blocks of `BLOCK_ROWS` rows instead. Both are as fast as the plain product for batches
of at least that size.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn.functional import linear, pad

MIN_ROWS = 16
BLOCK_ROWS = 64
_LARGE, _HUGE = 1 << 20, 1 << 24
"""Sizes of a weight from which fewer row counts are tried: a trial takes seconds, then tens of seconds."""

Linear = Callable[[Any, Any, Any], Any]
"""(x [..., K], weight [N, K], bias [N] | None) -> [..., N]."""


def padded_linear(x: Any, weight: Any, bias: Any, min_rows: int = MIN_ROWS) -> Any:
    """`linear` on at least `min_rows` rows; the padding is removed afterwards. x [..., K] -> [..., N]."""
    if x.dim() != 2:
        return padded_linear(x.reshape(-1, x.shape[-1]), weight, bias, min_rows).unflatten(0, x.shape[:-1])
    rows = x.shape[0]
    if rows >= min_rows:
        return linear(x, weight, bias)
    return linear(pad(x, (0, 0, 0, min_rows - rows)), weight, bias)[:rows]


def blocked_linear(x: Any, weight: Any, bias: Any, block_rows: int = BLOCK_ROWS) -> Any:
    """`linear` on exactly `block_rows` rows at a time, the last block padded. x [..., K] -> [..., N]."""
    if x.dim() != 2:
        return blocked_linear(x.reshape(-1, x.shape[-1]), weight, bias, block_rows).unflatten(0, x.shape[:-1])
    rows = x.shape[0]
    blocks = -(-rows // block_rows)
    x = pad(x, (0, 0, 0, blocks * block_rows - rows))
    if blocks == 1:
        return linear(x, weight, bias)[:rows]
    return torch.cat([linear(block, weight, bias) for block in x.split(block_rows)])[:rows]


def is_row_invariant(product: Linear, weight: Any, row_counts: list[int]) -> bool:
    """Whether `product` gives a row the same bits at every row count and at both ends of the batch."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(max(row_counts), weight.shape[1], generator=generator).to(weight.dtype)
    reference = product(x, weight, None)
    for rows in row_counts:
        if not torch.equal(product(x[:rows], weight, None), reference[:rows]):
            return False
        if not torch.equal(product(x[:rows].flip(0), weight, None).flip(0), reference[:rows]):
            return False
    return True


def trial_counts(size: int, max_rows: int) -> list[int]:
    """Row counts on which a product with a weight of `size` numbers is tried: all small ones, and both sides
    of powers of two above. The output layer of a real vocabulary is tried on the latter alone, up to 257.
    """
    counts = {1, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 127, 129, 256, 257}
    if size <= _HUGE:
        counts |= {*range(1, 81), 96, 192, 255, 384, 511, 512, 513, 777, 1024}
    if size <= _LARGE or max_rows <= 1024:
        counts.add(max_rows)
    return sorted(count for count in counts if count <= max_rows)


def choose_linear(weight: Any, max_rows: int) -> Linear:
    """The cheapest invariant product for a weight [N, K], by trial on this machine, up to `max_rows` rows."""
    if is_row_invariant(padded_linear, weight, trial_counts(weight.numel(), max_rows)):
        return padded_linear
    return partial(blocked_linear, block_rows=BLOCK_ROWS)

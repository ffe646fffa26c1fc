"""Mismatch of engine and learner: what the two say of the same tokens under the same weights.

    d = log p(learner) - log p(engine)      over trained tokens sampled by the weights a step begins with
    mean |d|, the 99th percentile of |d|, and k3 = exp(d) - 1 - d, whose mean estimates KL(engine || learner)

The learner's values are those of the step's first update, from before it. With staleness 0 these are all its
tokens; with more, the newest ones (older tokens also differ by what was learnt since, see
`learner/policy_kl`). Percentiles are read from a histogram, so that ranks can add theirs.
"""

import torch

_LOWEST, _BINS_PER_DECADE, _BINS = 1e-8, 40, 400
"""Bins of |d| from 1e-8 to 100; neighbours differ by 10^(1/40), 6%."""


def no_mismatch() -> torch.Tensor:
    """The sums of no tokens."""
    return torch.zeros(_BINS + 3, dtype=torch.float64)


def mismatch_sums(logprobs: torch.Tensor, behaviour: torch.Tensor) -> torch.Tensor:
    """[_BINS + 3] counts by |d|, then tokens, sum of |d|, sum of k3. logprobs, behaviour: [L]."""
    difference = (logprobs - behaviour).double()
    size = difference.abs()
    place = (size.clamp(min=_LOWEST) / _LOWEST).log10() * _BINS_PER_DECADE
    counts = torch.bincount(place.long().clamp(0, _BINS - 1), minlength=_BINS).double()
    k3 = difference.exp() - 1.0 - difference
    totals = torch.stack([torch.ones_like(size).sum(), size.sum(), k3.sum()])
    return torch.cat([counts, totals]).cpu()


def mismatch_metrics(sums: torch.Tensor) -> dict[str, float]:
    """`mismatch_mean`, `mismatch_p99` (upper edge of its bin), `mismatch_kl` (nats); {} without tokens."""
    counts, (tokens, size, k3) = sums[:_BINS], sums[_BINS:].tolist()
    if not tokens:
        return {}
    place = int(torch.searchsorted(counts.cumsum(0), 0.99 * tokens))
    edge = _LOWEST * 10.0 ** ((place + 1) / _BINS_PER_DECADE)
    return {"mismatch_mean": size / tokens, "mismatch_p99": edge, "mismatch_kl": k3 / tokens}

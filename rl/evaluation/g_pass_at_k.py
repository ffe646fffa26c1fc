"""G-Pass@k: the chance that at least a share tau of k samples is right.

From n >= k samples of which c are right (hypergeometric, so unbiased):
    G-Pass@k_tau = sum over j from ceil(tau k) to c of C(c, j) C(n - c, k - j) / C(n, k)
    mG-Pass@k    = (2 / k) sum over i from ceil(k / 2) + 1 to k of G-Pass@k_(i / k)
tau -> 0 is pass@k, tau = 1 asks that all k are right. Source: Liu et al., Are Your LLMs Capable of Stable
Reasoning? (arXiv 2412.13147), equations 2 to 4.
"""

from math import ceil, comb


def g_pass_at_k(samples: int, correct: int, k: int, tau: float) -> float:
    """G-Pass@k of one problem with `correct` right answers among `samples`, for 0 < tau <= 1.

    Example: g_pass_at_k(4, 2, 2, 1.0) = C(2, 2) C(2, 0) / C(4, 2) = 1/6.
    """
    assert 0 <= correct <= samples and 1 <= k <= samples and 0 < tau <= 1, f"G-Pass@{k} at {tau}"
    # 0.3 * 10 is 3.0000000000000004 in floating point, and asks for 3.
    return _at_least(samples, correct, k, ceil(tau * k - 1e-9))


def mean_g_pass_at_k(samples: int, correct: int, k: int) -> float:
    """mG-Pass@k of one problem: the mean over the shares above one half; k >= 2, since k = 1 has none.

    Example: mean_g_pass_at_k(4, 3, 4): of i = 3 and 4 the first is sure, the second impossible: 2/4 * 1.
    """
    assert 0 <= correct <= samples and 2 <= k <= samples, f"mG-Pass@{k} of {correct}/{samples}"
    shares = range(ceil(k / 2) + 1, k + 1)
    return 2 / k * sum(_at_least(samples, correct, k, needed) for needed in shares)


def _at_least(samples: int, correct: int, k: int, needed: int) -> float:
    """Chance that `needed` or more of k samples, drawn without replacement, are right."""
    hits = range(needed, min(correct, k) + 1)
    return sum(comb(correct, j) * comb(samples - correct, k - j) for j in hits) / comb(samples, k)

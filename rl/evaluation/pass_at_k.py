"""pass@k: the chance that at least one of k samples is right.

Unbiased estimator from n >= k samples of which c are right:
    pass@k = 1 - C(n - c, k) / C(n, k)
Source: Chen et al., Evaluating Large Language Models Trained on Code (arXiv:2107.03374), equation 1.
(The plug-in 1 - (1 - c/n)^k is biased low: it draws with replacement.)
"""

from math import comb


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Of `samples` answers to one problem `correct` were right. Integers are exact, so nothing can overflow.

    Example: pass_at_k(4, 1, 2) = 1 - C(3, 2)/C(4, 2) = 1 - 3/6 = 0.5.
    """
    assert 0 <= correct <= samples and 1 <= k <= samples, f"pass@{k} of {correct}/{samples}"
    return 1 - comb(samples - correct, k) / comb(samples, k)


def reported_k(samples: int) -> list[int]:
    """Powers of two up to `samples`; none for a single sample, where pass@1 is the accuracy."""
    return [] if samples < 2 else [1 << exponent for exponent in range(samples.bit_length())]

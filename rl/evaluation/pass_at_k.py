"""pass@k: the chance that at least one of k samples is right.

Unbiased estimator from n >= k samples of which c are right:
    pass@k = 1 - C(n - c, k) / C(n, k)
Source: Chen et al., Evaluating Large Language Models Trained on Code (arXiv:2107.03374), equation 1.
(The estimate 1 - (1 - c/n)^k would be too low: it draws with replacement.)
"""

from math import comb


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """pass@k of one problem with `correct` right answers among `samples`. Integers are exact at any size.

    Example: pass_at_k(4, 1, 2) = 1 - C(3, 2)/C(4, 2) = 1 - 3/6 = 0.5.
    """
    assert 0 <= correct <= samples and 1 <= k <= samples, f"pass@{k} of {correct}/{samples}"
    return 1 - comb(samples - correct, k) / comb(samples, k)


def reported_k(samples: int) -> list[int]:
    """The values of k: powers of two up to `samples`; none for one sample (pass@1 is the accuracy)."""
    return [] if samples < 2 else [1 << exponent for exponent in range(samples.bit_length())]

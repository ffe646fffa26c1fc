"""Reward of each token by an implicit reward model: a log-ratio of two language models.

    r_t = beta * (log pi(y_t | ...) - log pi_ref(y_t | ...))

pi is a language model that is trained on outcomes alone (rl.algorithms.losses.implicit_outcome), pi_ref the
frozen model that it began as. Trained so, the sum of r_t is the logit of a right outcome, and r_t is what the
token adds to it (arXiv 2412.01981; PRIME, arXiv 2502.01456): a value for each token, and no label for any.

Example: beta 0.5, pi gives a token 0.4 and pi_ref 0.1: 0.5 * log 4 = 0.693. A token that pi finds less
probable than pi_ref has a negative reward, and while pi is pi_ref all are 0.
"""

from collections.abc import Sequence


def log_ratio_rewards(logprobs: Sequence[float], reference: Sequence[float], *, beta: float) -> list[float]:
    """[T] rewards, from the log-probabilities of the tokens under pi and pi_ref, [T] each."""
    return [beta * (own - other) for own, other in zip(logprobs, reference, strict=True)]

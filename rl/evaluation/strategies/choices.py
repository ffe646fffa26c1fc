"""Which of n samples answers, and when the others are stopped. Sources, each in one line:

    majority         most samples give it: self-consistency (arXiv 2203.11171)
    confidence       the same, each vote weighed with the mean probability of its tokens (the same paper)
    inverse_entropy  each vote weighed with 1 / H; H: mean -log p of the sampled tokens, whose expectation is
                     the entropy (The Sequential Edge, arXiv 2511.02309)
    shortest         an answer of c samples of mean length l scores c / log l: Shortest Majority Vote
                     (arXiv 2502.12215)
    best_of_n        the sample with the highest mean probability that has an answer
    first_finish     the sample that answers first, the others are cancelled: short-1@k (arXiv 2505.17813)

In a tie the earlier sample wins. Samples without an answer have no vote, but are paid.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rl.evaluation.strategies.sample import Sample
from rollout.protocols.shared.voting import vote

LEAST_ENTROPY = 1e-6
"""Entropy in nats that a vote is weighed with at the least: a certain sample has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Outcome of a strategy on the samples of one problem."""

    winner: int | None
    """Index of the sample whose answer is given; None: no answer."""
    stops: tuple[float, ...] | None = None
    """[n] tick of the token clock at which each sample is cancelled; None: all run to their end."""


Choose = Callable[[Sequence[Sample]], Choice]


def majority(samples: Sequence[Sample]) -> Choice:
    """The answer that most samples give."""
    return Choice(winner=vote([sample.answer for sample in samples]))


def confidence(samples: Sequence[Sample]) -> Choice:
    """A vote weighed with the mean probability of a sample's tokens."""
    weights = [math.exp(_mean_logprob(sample)) for sample in samples]
    return Choice(winner=vote([sample.answer for sample in samples], weights))


def inverse_entropy(samples: Sequence[Sample]) -> Choice:
    """A vote weighed with one over the estimated entropy of a sample's tokens."""
    weights = [1 / max(-_mean_logprob(sample), LEAST_ENTROPY) for sample in samples]
    return Choice(winner=vote([sample.answer for sample in samples], weights))


def shortest(samples: Sequence[Sample]) -> Choice:
    """The answer with the most votes per logarithm of its samples' mean length."""
    lengths: dict[str, list[float]] = {}
    for sample in samples:
        if sample.answer is not None:
            lengths.setdefault(sample.answer, []).append(sample.critical_tokens)
    # log(1) = 0: an answer of one token counts as one of two.
    scores = {a: len(of) / math.log(max(2.0, sum(of) / len(of))) for a, of in lengths.items()}
    best = max(scores, key=scores.__getitem__, default=None)
    return Choice(winner=next((n for n, s in enumerate(samples) if s.answer == best and best), None))


def best_of_n(samples: Sequence[Sample]) -> Choice:
    """The sample with the highest mean probability among those that answer."""
    answered = [number for number, sample in enumerate(samples) if sample.answer is not None]
    return Choice(winner=max(answered, key=lambda n: _mean_logprob(samples[n]), default=None))


def first_finish(samples: Sequence[Sample]) -> Choice:
    """The sample that answers first; without one, all run to their end."""
    answered = [number for number, sample in enumerate(samples) if sample.answer is not None]
    if not answered:
        return Choice(winner=None)
    winner = min(answered, key=lambda number: samples[number].critical_tokens)
    return Choice(winner=winner, stops=(samples[winner].critical_tokens,) * len(samples))


def _mean_logprob(sample: Sample) -> float:
    assert sample.mean_logprob is not None, "asked for only where the source tells"
    return sample.mean_logprob


CHOICES: dict[str, Choose] = {
    "majority": majority,
    "confidence": confidence,
    "inverse_entropy": inverse_entropy,
    "shortest": shortest,
    "best_of_n": best_of_n,
    "first_finish": first_finish,
}
"""Strategies by name, in the order of tables."""
NEED_LOGPROBS = frozenset({"confidence", "inverse_entropy", "best_of_n", "set_cover"})
"""Strategies that need log-probabilities, which not every endpoint gives."""

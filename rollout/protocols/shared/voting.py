"""Votes over answers, and how far a set of answers agrees. Pure functions on answers.

Two answers are equal when their ids are (with `answer.normalise`: the normal forms of their texts); None is a
thread that gave no answer. Sources:
    majority          argmax_a sum_i [a_i = a]               self-consistency (arXiv 2203.11171), section 2
    confidence        argmax_a sum_i w_i [a_i = a],          the same paper's "weighted sum, normalised":
                      w = exp((1/K) sum_k ln p(t_k))         probability of the K tokens, per token
    semantic entropy  H = - sum_c p_c ln p_c, in nats        arXiv 2302.09664, in its discrete form; SEAT
                      p_c: share of the answers in class c   (arXiv 2507.06829) stops by it

Here the classes are sets of equal answers: no model is asked what means the same.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

Answer = tuple[int, ...] | str
"""An answer as votes compare it: its ids, or a normal form of its text."""


def vote(answers: Sequence[Answer | None], weights: Sequence[float] | None = None) -> int | None:
    """Index of the first answer that equals the winner; None when there is no answer. Without `weights` every
    answer counts 1. Of several with the same total, the earliest wins.
    """
    totals = _totals(answers, weights)
    if not totals:
        return None
    # `max` keeps the first of equals, and totals stand in the order of first appearance.
    return answers.index(max(totals, key=totals.__getitem__))


def settled(
    answers: Sequence[Answer | None], running: Collection[int], weights: Sequence[float] | None = None
) -> bool:
    """Whether no answers at the places `running` (None so far) can change the winning answer any more.

    An answer still to come weighs at most 1.
    """
    if not running:
        return True
    winner = vote(answers, weights)
    if winner is None:
        return False
    totals = _totals(answers, weights)
    first = {answer: answers.index(answer) for answer in totals}
    challengers = [(total, first[answer]) for answer, total in totals.items() if first[answer] != winner]
    best = totals[answers[winner] or ""]
    return all(
        (best, -winner) > (total + len(running), -min(index, *running))
        for total, index in (*challengers, (0.0, len(answers)))
    )


def mean_probability(logprobs: Sequence[float]) -> float:
    """exp of the mean log-probability: how likely a token was, on (geometric) average; 1 without tokens.

    A demonstration was never sampled: it has no log-probabilities, and every vote in it weighs 1.
    """
    return math.exp(math.fsum(logprobs) / len(logprobs)) if logprobs else 1.0


def semantic_entropy(answers: Sequence[Answer | None]) -> float:
    """Entropy H over the classes of equal answers, in nats: 0 when all agree, ln n when all n differ.

    Each thread without an answer is a class of its own.
    """
    silent = sum(answer is None for answer in answers)
    sizes = [*Counter(answer for answer in answers if answer is not None).values(), *[1] * silent]
    return math.fsum(-size / len(answers) * math.log(size / len(answers)) for size in sizes)


def secretary_stops(entropies: Sequence[float], rounds: int) -> bool:
    """The classical rule of optimal stopping, on entropies (lower is better), after each of `rounds` rounds.

    Watch the first n / e of n rounds, at least one; stop at the first later one that is at least as good as
    all before it. SEAT names the idea; its own constants are not known here.
    """
    watched = max(1, math.floor(rounds / math.e))
    return len(entropies) > watched and math.inf > entropies[-1] <= min(entropies[:-1])


def _totals(answers: Sequence[Answer | None], weights: Sequence[float] | None) -> dict[Answer, float]:
    """Sum of weights per answer, in the order of first appearance."""
    votes: dict[Answer, list[float]] = defaultdict(list)
    for index, answer in enumerate(answers):
        if answer is not None:
            votes[answer].append(1.0 if weights is None else weights[index])
    return {answer: math.fsum(each) for answer, each in votes.items()}

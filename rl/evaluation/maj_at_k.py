"""maj@k (cons@k): the chance that the answer which most of k samples give is right.

Exact over all draws of k of the n samples, where others resample: with answers in classes of sizes s_a, each
class a that is right contributes
    sum over m of C(s_a, m) W(k - m, m) / C(n, k),   W: ways in which no other class has more than m,
each way divided by the number of classes that have m: of equals the earliest wins, which in a random order is
each with the same chance. Samples without an answer have no vote.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from math import comb


def maj_at_k(answers: Sequence[Hashable | None], correct: Mapping[Hashable, bool], k: int) -> float:
    """maj@k of one problem.

    Args:
        answers: [n] the samples' answers in the form in which votes compare them; None is no answer.
        correct: whether each answer is right.

    Example: of 5, 5, 6 with 5 right, two samples are {5, 5}, or twice {5, 6}, a tie: (1 + 2 * 1/2) / 3 = 2/3.
    """
    assert 1 <= k <= len(answers), f"maj@{k} of {len(answers)} samples"
    sizes = Counter(answer for answer in answers if answer is not None)
    silent = sum(answer is None for answer in answers)
    won = 0.0
    for answer, size in sizes.items():
        if correct[answer]:
            others = [count for other, count in sizes.items() if other != answer]
            won += sum(
                comb(size, votes) * _shared(others, silent, k - votes, votes)
                for votes in range(1, min(size, k) + 1)
            )
    return won / comb(len(answers), k)


def _shared(others: Sequence[int], silent: int, drawn: int, most: int) -> float:
    """Ways to draw from the other classes and the silent, none of them with more than `most` votes, each
    divided by the number of classes that have as many.
    """
    # ways[(drawn so far, classes with `most` votes)]
    ways: dict[tuple[int, int], int] = {(0, 0): 1}
    for size in others:
        grown: dict[tuple[int, int], int] = {}
        for (count, ties), number in ways.items():
            for votes in range(min(size, most, drawn - count) + 1):
                key = count + votes, ties + (votes == most)
                grown[key] = grown.get(key, 0) + number * comb(size, votes)
        ways = grown
    return sum(
        number * comb(silent, drawn - count) / (ties + 1)
        for (count, ties), number in ways.items()
        if drawn - count <= silent
    )

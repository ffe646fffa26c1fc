"""The best of several, and places shared out among them: what beam search keeps and duplicates."""

from collections.abc import Sequence


def best(values: Sequence[float], count: int) -> list[int]:
    """Indices of the `count` largest values, the largest first; of equals the earliest.

    Example: the best two of 0.2, 0.9, 0.9, 0.5 are 1 and 2.
    """
    return sorted(range(len(values)), key=lambda index: -values[index])[:count]


def spread(kept: Sequence[int], places: int) -> list[int]:
    """[places] the kept ones, each as often as another; the first of them once more where it does not divide.

    Example: 7 and 3 in five places are 7, 7, 7, 3, 3.
    """
    if not kept:
        return []
    each, over = divmod(places, len(kept))
    return [index for number, index in enumerate(kept) for _ in range(each + (number < over))]

"""Guards of process rewards against what policies learn to please a judge of steps. Pure functions.

    padding        a step longer than `most_tokens` counts as wrong
    many answers   where one thread begins more than one answer, such as that of a solved problem appended to
                   its own, all steps of the episode count as wrong (arXiv 2512.03244)
    many steps     only the first `most_steps` count; the program cuts and counts them, whatever numbers the
                   text gives its steps

Example: steps of 5, 40 and 6 tokens with scores 0.9, 1, 0.8, `most_tokens` 32, `wrong` 0: 0.9, 0, 0.8.
"""

from collections.abc import Sequence


def without_padding(
    scores: Sequence[float], lengths: Sequence[int], most_tokens: int | None, wrong: float
) -> list[float]:
    """[n] the score of each step; of one longer than `most_tokens` at most `wrong`."""
    if most_tokens is None:
        return list(scores)
    return [
        score if length <= most_tokens else min(score, wrong)
        for score, length in zip(scores, lengths, strict=True)
    ]


def count_answers(text: str, marks: Sequence[str]) -> int:
    """How often a text begins an answer, by the mark that it has most often: one answer may have several."""
    return max((text.count(mark) for mark in marks), default=0)

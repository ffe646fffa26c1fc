"""Texts of running episodes, cut into steps as finished episodes are.

A step may begin in one call and end in the next, so a text is cut as a whole, context included; what counts
are the steps that end in its output.
"""

from collections.abc import Sequence

from data.episodes.trajectory import Call, Episode, StopReason, Thread, ThreadOutcome
from rollout.commands import ScoredText


def as_episode(texts: Sequence[ScoredText]) -> Episode:
    """An episode whose call number i has sampled the whole of text i, in a thread of its own."""
    ended = {True: StopReason.STOP, False: StopReason.LENGTH}
    return Episode(
        id="texts",
        problem_id="texts",
        protocol="texts",
        calls=tuple(
            Call(
                index=index,
                thread=index + 1,
                role="text",
                context=(),
                output=text.context + text.output,
                logprobs=(),
                versions=(),
                stop=ended[text.ended],
                after=(),
                num_trained=0,
            )
            for index, text in enumerate(texts)
        ),
        threads=(
            Thread(index=0, parent=None, key=0, opened_by=None, depth=0, outcome=ThreadOutcome.RETURNED),
            *(
                Thread(
                    index=index + 1,
                    parent=0,
                    key=index,
                    opened_by=None,
                    depth=1,
                    outcome=ThreadOutcome.RETURNED,
                )
                for index in range(len(texts))
            ),
        ),
        answer=None,
    )


def ends_in_output(text: ScoredText, ends: Sequence[int]) -> list[int]:
    """Places in the output of the last tokens of steps; its last token where no step ends in it. `ends`: the
    places behind the last tokens of all steps of the whole text.
    """
    first = len(text.context)
    return [end - 1 - first for end in ends if end > first] or [max(0, len(text.output) - 1)]

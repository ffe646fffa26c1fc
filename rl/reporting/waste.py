"""Tokens of an episode on which its right answer does not rest.

An answer rests on the call it stands in, on every call whose text that call's context shows, and so on. What
threads sampled beside that was for nothing; so was everything when the answer is wrong or missing.
"""

from data.episodes.topology import total_tokens
from data.episodes.trajectory import Episode, Ref, Span


def wasted_tokens(episode: Episode, *, correct: bool | None) -> int:
    """Sampled tokens of calls that a right answer does not rest on; all of them without a right answer.

    Example: a root of 4 tokens forks children of 6 and 9, and answers in a call of 2 tokens that shows the
    root's text and the second child's: 6 tokens are wasted.
    """
    if correct is not True or episode.answer is None:
        return total_tokens(episode)
    used: set[int] = set()
    pending = _calls(episode.answer)
    while pending:
        index = pending.pop()
        if index not in used:
            used.add(index)
            pending += _calls(episode.calls[index].context)
    return sum(len(call.output) for call in episode.calls if call.index not in used)


def _calls(spans: tuple[Span, ...]) -> list[int]:
    return [span.call for span in spans if isinstance(span, Ref)]

"""Compaction of a round's drafts into a message of bounded length for the next round. Pure functions.

Every function takes the drafts of a round in their order, and returns what goes into the message, in order.
`bound` limits the message: the parts and the separators between them, `gap` ids each.
    answers      PaCoRe (arXiv 2601.05593): the drafts' conclusions, sorted by length and shuffled by a seed
    last_tokens  the end of every draft, as long as an equal share of the message allows
    top          PDR (arXiv 2510.01123), "shared top-k": the conclusions of the k most confident drafts
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from data.episodes.trajectory import Forced, Ref, Span


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """Contribution of one draft."""

    spans: tuple[Span, ...]
    ids: tuple[int, ...]
    """Token ids that `spans` stand for."""
    confidence: float = 1.0


def answers(drafts: Sequence[Draft], bound: int, gap: int, seed: int) -> list[tuple[Span, ...]]:
    """All drafts that fit, in an order that depends on their text but not on their order."""
    order = sorted(drafts, key=lambda draft: (len(draft.ids), draft.ids))
    random.Random(repr((seed, [draft.ids for draft in order]))).shuffle(order)
    return _fitting(order, bound, gap)


def top(drafts: Sequence[Draft], bound: int, gap: int, keep: int) -> list[tuple[Span, ...]]:
    """The `keep` most confident, the best first; of equals the earlier."""
    return _fitting(sorted(drafts, key=lambda draft: -draft.confidence)[:keep], bound, gap)


def last_tokens(drafts: Sequence[Draft], bound: int, gap: int) -> list[tuple[Span, ...]]:
    """The same number of ids of each draft; when there is not room for one of each, of the first ones."""
    shown = drafts[: (bound + gap) // (1 + gap)]
    if not shown:
        return []
    share = (bound - gap * (len(shown) - 1)) // len(shown)
    return [tail(draft.spans, share) for draft in shown]


def tail(spans: Sequence[Span], size: int) -> tuple[Span, ...]:
    """The last `size` ids that spans stand for."""
    kept: list[Span] = []
    for span in reversed(spans):
        take = min(size, len(span))
        if take:
            end = Ref(call=span.call, start=span.stop - take, stop=span.stop) if isinstance(span, Ref) else (
                Forced(ids=span.ids[-take:])
            )  # fmt: skip
            kept.insert(0, end)
        size -= take
    return tuple(kept)


def _fitting(drafts: Sequence[Draft], bound: int, gap: int) -> list[tuple[Span, ...]]:
    """Parts, each whole, that still fit when their turn comes."""
    kept: list[tuple[Span, ...]] = []
    used = -gap
    for draft in drafts:
        if used + gap + len(draft.ids) <= bound:
            used += gap + len(draft.ids)
            kept.append(draft.spans)
    return kept

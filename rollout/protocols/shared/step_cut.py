"""Where a step of a text ends: the stops of its call, and the same cut in a text that is already there."""

from collections.abc import Sequence
from itertools import accumulate

from data.errors import ConfigError
from rollout.protocols.shared.base import Encoder, Stops


def step_stops(stops: Stops, step_end: str | None, encoder: Encoder) -> Stops:
    """`stops`, and what ends a step. Raises ConfigError for a tokenizer of words and several words."""
    if step_end is None:
        return stops
    if encoder.words_only:
        ids = encoder.encode(step_end)
        if len(ids) != 1:
            raise ConfigError(
                f"protocol.step_end {step_end!r}: is {len(ids)} words; this tokenizer stops at single ones\n"
                "  fix: give one word or tag, or leave it out, so that every step has step_tokens"
            )
        return Stops(ids=(*stops.ids, *ids))
    index = encoder.tag(step_end)
    if index is None:
        return Stops(ids=stops.ids, texts=(*stops.texts, step_end))
    return Stops(ids=(*stops.ids, index))


def cut_at_stop(text: Sequence[int], stops: Stops, encoder: Encoder) -> tuple[int, ...]:
    """The beginning of a text that an engine with these stops would sample; the stop is part of it."""
    ends = [place + 1 for place, index in enumerate(text) if index in stops.ids]
    for stop in stops.texts:
        read = accumulate(encoder.pieces(text))
        ends += [place + 1 for place, said in enumerate(read) if stop in said]
    return tuple(text[: min(ends)]) if ends else tuple(text)

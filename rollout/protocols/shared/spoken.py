"""Text of a thread that was sampled in several calls, read as one.

A chain that is sampled in short calls may be cut anywhere: inside an answer, or inside a tag that is ordinary
text. So its calls are joined before tags are looked for, and what is found is mapped back to the calls.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from data.episodes.trajectory import Call, Forced, Ref, Span
from rollout.protocols.shared.actions import Return
from rollout.protocols.shared.answers import AnswerFormat
from rollout.protocols.shared.tags import Tags


def spoken(calls: Sequence[Call]) -> Call:
    """One call with the outputs of all calls and the last one's stop. It is not part of any episode."""
    output = tuple(token for call in calls for token in call.output)
    return replace(calls[-1], output=output, logprobs=(), versions=())


def placed(spans: tuple[Span, ...], calls: Sequence[Call]) -> tuple[Span, ...]:
    """Spans of `spoken(calls)` as spans of the calls themselves."""
    found: list[Span] = []
    for span in spans:
        if isinstance(span, Forced):
            found.append(span)
            continue
        start = 0
        for call in calls:
            first, last = max(span.start, start), min(span.stop, start + len(call.output))
            if first < last:
                found.append(Ref(call=call.index, start=first - start, stop=last - start))
            start += len(call.output)
    return tuple(found)


def in_last_call(end: Return, calls: Sequence[Call]) -> Return:
    """An end that was read off `spoken(calls)`: where things stand in the calls themselves."""
    before = sum(len(call.output) for call in calls[:-1])
    places = [None if note.position is None else note.position - before for note in end.notes]
    notes = tuple(
        # What stands in an earlier call is noted without its place.
        replace(note, position=None if place is None or place < 0 else place)
        for note, place in zip(end.notes, places, strict=True)
    )
    return replace(end, value=None if end.value is None else placed(end.value, calls), notes=notes)


def ids_of(spans: Sequence[Span], calls: Sequence[Call]) -> tuple[int, ...]:
    """Ids of spans; every reference is to one of `calls`."""
    outputs = {call.index: call.output for call in calls}
    return tuple(
        token
        for span in spans
        for token in (span.ids if isinstance(span, Forced) else outputs[span.call][span.start : span.stop])
    )


def logprobs_of(spans: Sequence[Span], calls: Sequence[Call]) -> tuple[float, ...]:
    """Log-probabilities of the sampled ids among the ids of spans."""
    sampled = {call.index: call.logprobs for call in calls}
    return tuple(
        logprob
        for span in spans
        if isinstance(span, Ref)
        for logprob in sampled[span.call][span.start : span.stop]
    )


def written_answer(tags: Tags, answer: AnswerFormat, calls: Sequence[Call]) -> tuple[Span, ...] | None:
    """The answer as far as a thread has written it: the last one that is complete, that is, with another tag,
    further text or the end of the sequence behind it. None: there is none yet.

    So a chain may answer for the time being, think on, and answer again: `<answer> 5 <think> ... <answer> 6`
    is read as 5 until the 6 is complete.
    """
    if not calls:
        return None
    reading = tags.read(spoken(calls))
    if not answer.tags:
        text = reading.text(None, None)
        found = answer.config.find(text)
        done = found is not None and (found[1] < len(text) or reading.ending is not None)
        return placed(reading.cut(None, *found), calls) if found is not None and done else None
    for left, right in reversed(list(pairwise(reading.marks))):
        body = answer.between(reading, left, right)
        if body:
            return placed(body, calls)
    return None

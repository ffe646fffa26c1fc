"""Answers that a thread is made to give in the middle of its thought: where, how, and what it said."""

from data.episodes.trajectory import Call, Span, StopReason
from rollout.protocols.shared.actions import Ask
from rollout.protocols.shared.base import ThinkingProtocol


def thought_of(protocol: ThinkingProtocol, call: Call) -> int:
    """Number of leading output tokens of one of the root's calls in which it thinks, before it forks, joins
    or answers.
    """
    tags = protocol.params.forks_at
    assert tags is not None, f"{protocol.name} cannot be made to answer"
    reading = protocol.tags.read(call)
    return min([protocol.answer.begins(reading), *(mark.start for mark in reading.all(*tags))])


def probe_ask(protocol: ThinkingProtocol, context: tuple[Span, ...], max_tokens: int) -> Ask:
    """The call that completes an answer which is begun for it behind `context`; it carries no loss."""
    return Ask(
        role="probe",
        context=(*context, *protocol.forced(protocol.answer.opening)),
        stops=protocol.tags.stops(),
        max_tokens=max_tokens,
        trained=0,
    )


def forced_answer(protocol: ThinkingProtocol, call: Call) -> tuple[Span, ...] | None:
    """The answer that such a call gave; None when it gave none or, with tags, was cut off."""
    cut = protocol.answer.tags and call.stop is StopReason.LENGTH
    return None if cut else protocol.answer.completed(protocol.tags.read(call)).value

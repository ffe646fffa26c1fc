"""How protocols with tagged endings read the end of a call."""

from data.trajectory import Call, Ref, ThreadOutcome, ViolationKind
from rollout.protocols.base import Note, Return


def end_with_answer(call: Call, answer_tag: int, giveup_tag: int) -> Return:
    """Reads `... <answer> BODY <eos>` or `... <giveup> <eos>`; anything else is a typed violation.

    The last answer tag counts. An answered call returns a reference to BODY; a call that gave up returns
    None.
    """
    output = call.output
    end = len(output) - 1
    if len(output) >= 2 and output[end - 1] == giveup_tag:
        return Return(outcome=ThreadOutcome.RETURNED, value=None)
    starts = [position for position, token in enumerate(output) if token == answer_tag]
    if not starts or starts[-1] + 1 == end:
        note = Note(
            kind=ViolationKind.MALFORMED_ANSWER, position=end, detail="ends without an answer or a give-up"
        )
        return Return(outcome=ThreadOutcome.MALFORMED, value=None, notes=(note,))
    return Return(
        outcome=ThreadOutcome.RETURNED, value=(Ref(call=call.index, start=starts[-1] + 1, stop=end),)
    )

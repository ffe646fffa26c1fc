"""How protocols with tagged endings read the end of a call."""

from data.trajectory import ThreadOutcome, ViolationKind
from rollout.protocols.base import EOS, Reading, Return, malformed


def end_with_answer(reading: Reading, answer: str, giveup: str) -> Return:
    """Reads `... <answer> BODY <eos>` or `... <giveup> <eos>`; anything else is a typed violation.

    The last answer tag counts. An answered call returns a reference to BODY; a call that gave up returns
    None.
    """
    gave_up = reading.last(giveup)
    if gave_up is not None and gave_up.stop == reading.end and reading.ending == EOS:
        return Return(outcome=ThreadOutcome.RETURNED, value=None)
    mark = reading.last(answer)
    body = () if mark is None or reading.ending != EOS else reading.after(mark)
    if not body:
        return malformed(ViolationKind.MALFORMED_ANSWER, reading.end, "ends without an answer or a give-up")
    return Return(outcome=ThreadOutcome.RETURNED, value=body, success=True)

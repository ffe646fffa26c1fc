"""Readers of tagged endings of a call."""

from data.episodes.trajectory import ThreadOutcome, ViolationKind
from rollout.protocols.shared.base import EOS, Reading, Return, malformed


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


def end_with_result(reading: Reading, found: str, nothing: str) -> Return:
    """Reads `... <found> RESULT <eos>` or `... <nothing> <eos>`, the end of a child; the returned value
    includes the tag.
    """
    failed, succeeded = reading.last(nothing), reading.last(found)
    if failed is not None and failed.stop == reading.end:
        return Return(outcome=ThreadOutcome.RETURNED, value=reading.from_(failed))
    if succeeded is None or not reading.after(succeeded):
        return malformed(ViolationKind.MALFORMED_RETURN, reading.end, "ends without a result")
    return Return(outcome=ThreadOutcome.RETURNED, value=reading.from_(succeeded), success=True)


def says_found(reading: Reading, found: str, nothing: str) -> bool:
    """Whether the thread's last verdict is success: `... <found> RESULT`."""
    verdicts = reading.all(found, nothing)
    if not verdicts or verdicts[-1].tag == nothing:
        return False
    following = next((mark for mark in reading.marks if mark.start >= verdicts[-1].stop), None)
    return bool(reading.text(verdicts[-1], following).strip())

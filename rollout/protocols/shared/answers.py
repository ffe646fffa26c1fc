"""Where an answer or a result stands in sampled text, and how a demonstration writes it."""

from data.episodes.trajectory import Span, ThreadOutcome, ViolationKind
from rollout.protocols.shared.actions import Return, malformed
from rollout.protocols.shared.tags import EOS, Mark, Reading

ANSWER_TAGS = ("<answer>", "<giveup>")
"""Tags in front of an answer, and instead of one."""
RESULT_TAGS = ("<found>", "<nothing>")
"""Tags in front of what a child has found, and instead of it."""


class AnswerFormat:
    """Answers behind a tag: `... <answer> BODY <eos>` or `... <giveup> <eos>`."""

    def end(self, reading: Reading) -> Return:
        """The end of a thread, as its finished call says; a typed violation when that is no ending.

        The last answer tag counts. An answered call returns a reference to BODY; a call that gave up returns
        None.
        """
        answer, giveup = ANSWER_TAGS
        gave_up = reading.last(giveup)
        if gave_up is not None and gave_up.stop == reading.end and reading.ending == EOS:
            return Return(outcome=ThreadOutcome.RETURNED, value=None)
        mark = reading.last(answer)
        body = () if mark is None or reading.ending != EOS else reading.after(mark)
        if not body:
            detail = "ends without an answer or a give-up"
            return malformed(ViolationKind.MALFORMED_ANSWER, reading.end, detail)
        return Return(outcome=ThreadOutcome.RETURNED, value=body, success=True)

    def announced(self, reading: Reading) -> bool:
        """Whether the text says anywhere that it answers or gives up."""
        return bool(reading.all(*ANSWER_TAGS))

    def between(self, reading: Reading, left: Mark, right: Mark) -> tuple[Span, ...]:
        """The answer between two neighbouring tags; () when there is none."""
        return reading.between(left, right) if left.tag == ANSWER_TAGS[0] else ()

    def words(self, solution: str | None) -> tuple[str, ...]:
        """Text of an answer, or of none, in a demonstration."""
        return (ANSWER_TAGS[1],) if solution is None else (ANSWER_TAGS[0], solution)


class ResultFormat:
    """Results behind a tag: `... <found> RESULT <eos>` or `... <nothing> <eos>`."""

    nothing = RESULT_TAGS[1]
    """Text that a parent reads for a child without a result."""

    def end(self, reading: Reading) -> Return:
        """The end of a child, as its finished call says; the returned value includes the tag."""
        failed, succeeded = (reading.last(tag) for tag in reversed(RESULT_TAGS))
        if failed is not None and failed.stop == reading.end:
            return Return(outcome=ThreadOutcome.RETURNED, value=reading.from_(failed))
        if succeeded is None or not reading.after(succeeded):
            return malformed(ViolationKind.MALFORMED_RETURN, reading.end, "ends without a result")
        return Return(outcome=ThreadOutcome.RETURNED, value=reading.from_(succeeded), success=True)

    def says_found(self, reading: Reading) -> bool:
        """Whether the thread's last verdict is success: `... <found> RESULT`."""
        verdicts = reading.all(*RESULT_TAGS)
        if not verdicts or verdicts[-1].tag == self.nothing:
            return False
        following = next((mark for mark in reading.marks if mark.start >= verdicts[-1].stop), None)
        return bool(reading.text(verdicts[-1], following).strip())

    def words(self, solution: str | None) -> tuple[str, ...]:
        """Text of a result, or of none, in a demonstration."""
        return (self.nothing,) if solution is None else (RESULT_TAGS[0], solution)

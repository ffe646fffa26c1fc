"""Where an answer or a result stands in sampled text, and how a demonstration writes it."""

from collections.abc import Sequence

from data.episodes.trajectory import Span, ThreadOutcome, ViolationKind
from data.text.answer_format import AnswerFormatConfig
from data.text.answers import up_to_closing
from rollout.protocols.shared.actions import Return, malformed
from rollout.protocols.shared.tag_text import closing
from rollout.protocols.shared.tags import EOS, Mark, Reading

ANSWER_TAGS = ("<answer>", "<giveup>")
"""Tags in front of an answer, and instead of one."""
RESULT_TAGS = ("<found>", "<nothing>")
"""Tags in front of what a child has found, and instead of it."""


class AnswerFormat:
    """How a thread that solves the problem writes its answer, by the recipe's `answer`."""

    def __init__(self, config: AnswerFormatConfig, tags: tuple[str, str] = ANSWER_TAGS) -> None:
        """`tags`: in front of an answer, and instead of one, with `kind: tags`."""
        self.config = config
        self.tags = tags if config.kind == "tags" and config.scope == "whole" else ()
        """Tags that the format needs; () for a format that is text."""
        self._found, self._none = tags

    def end(self, reading: Reading) -> Return:
        """The end of a thread, as its finished call says; a typed violation when that is no ending.

        The last answer counts. An answered call returns a reference to it; a call that gave up returns None.
        """
        if reading.ending == EOS and self.gave_up(reading):
            return Return(outcome=ThreadOutcome.RETURNED, value=None)
        body = self.body(reading) if reading.ending == EOS else ()
        if not body:
            detail = "ends without an answer or a give-up"
            return malformed(ViolationKind.MALFORMED_ANSWER, reading.end, detail)
        return Return(outcome=ThreadOutcome.RETURNED, value=body, success=True)

    def gave_up(self, reading: Reading) -> bool:
        """Whether the text ends with the tag that stands instead of an answer."""
        mark = reading.last(self._none) if self.tags else None
        return mark is not None and (mark.stop == reading.end or not reading.text(mark, None).strip())

    def body(self, reading: Reading) -> tuple[Span, ...]:
        """The answer in a text; () when it has none."""
        if self.tags:
            mark = reading.last(self._found)
            return () if mark is None else self._behind(reading, mark, None)
        found = self.config.find(reading.text(None, None))
        return () if found is None else reading.cut(None, *found)

    def begins(self, reading: Reading) -> int:
        """Number of leading output tokens that think: up to the first answer tag, or to the end of thinking
        or the line that holds the answer; all of a text that does not answer.
        """
        if self.tags:
            return min([reading.end, *(mark.start for mark in reading.all(*self.tags))])
        text = reading.text(None, None)
        if self.config.scope == "after_think":
            closed = text.find("</think>")
            return reading.end if closed < 0 else reading.tokens_before(closed)
        # A thought that goes on may well seem to end with a number.
        answers = self.config.form.is_marked or reading.ending == EOS
        found = self.config.find(text) if answers else None
        return reading.end if found is None else reading.tokens_before(text.rfind("\n", 0, found[0]) + 1)

    @property
    def opening(self) -> str:
        """Text that begins an answer for a thread which only completes it."""
        if self.tags:
            return self._found
        closed = "\n</think>" if self.config.scope == "after_think" else ""
        return f"{closed}\n\n{self.config.form.opens(self.config)}"

    def completed(self, reading: Reading) -> Return:
        """The end of a thread whose call completes `opening`: up to the next tag, or as the format reads."""
        if self.tags:
            following = reading.marks[0] if reading.marks else None
            body = self._behind(reading, None, following)
        else:
            text = self.opening + reading.text(None, None)
            found, begun = self.config.find(text), len(self.opening)
            inside = found is not None and found[0] >= begun
            body = reading.cut(None, found[0] - begun, found[1] - begun) if found and inside else ()
        if not body:
            return malformed(ViolationKind.MALFORMED_ANSWER, reading.end, "a forced answer is empty")
        return Return(outcome=ThreadOutcome.RETURNED, value=body, success=True)

    def announced(self, reading: Reading) -> bool:
        """Whether the text says anywhere that it answers or gives up; never in a format without a mark of its
        own, such as the last number.
        """
        if self.tags:
            return bool(reading.all(*self.tags))
        return self.config.form.is_marked and self.config.find(reading.text(None, None)) is not None

    def between(self, reading: Reading, left: Mark, right: Mark) -> tuple[Span, ...]:
        """The answer between two neighbouring tags; () when there is none."""
        return self._behind(reading, left, right) if left.tag == self._found else ()

    def words(self, solution: str | None, said: Sequence[str] = ()) -> tuple[str, ...]:
        """Text of an answer, or of none, in a demonstration, behind what it has `said`.

        It is () where that says the answer already: "7 + 5 = 12" ends with its last number.
        """
        if self.config.kind == "tags":
            return (self._none,) if solution is None else (self._found, solution)
        if solution is None:
            return ("I found no answer.",)
        return () if self._is_said(solution, said) else (self.config.form.write(solution, self.config),)

    def _is_said(self, solution: str, said: Sequence[str]) -> bool:
        """Whether texts end with the answer, in a format without a mark for it."""
        text = " ".join(said).rstrip()
        found = None if self.config.form.is_marked else self.config.find(text)
        return found is not None and found[1] == len(text) and text[slice(*found)] == solution

    def phrase(self) -> str:
        """Instruction for a model: how to write it."""
        if self.config.kind == "tags":
            return (
                f"End with {self._found} and the final answer, and nothing behind it; or with {self._none} "
                "if you cannot find one."
            )
        return self.config.form.ask(self.config)

    def _behind(self, reading: Reading, left: Mark | None, right: Mark | None) -> tuple[Span, ...]:
        """The text behind a tag. Of exact text, blank text is none, and a closing tag ends it."""
        if reading.encoder.words_only:
            return reading.between(left, right)
        text = reading.text(left, right)
        tag = closing(self._found[1:-1])
        if tag in text:
            found = up_to_closing(text, 0, tag)
            return () if found is None else reading.cut(left, *found)
        return reading.between(left, right) if text.strip() else ()


class ResultFormat(AnswerFormat):
    """How a child writes what it returns, by the recipe's `result`; with tags the value includes the tag."""

    def __init__(self, config: AnswerFormatConfig) -> None:
        super().__init__(config, RESULT_TAGS)

    @property
    def nothing(self) -> str:
        """Text that a parent reads for a child without a result."""
        return self._none if self.tags else "(no result)"

    def end(self, reading: Reading) -> Return:
        """The end of a child, as its finished call says; a typed violation when that is no ending."""
        if self.tags:
            failed, succeeded = reading.last(self._none), reading.last(self._found)
            if failed is not None and self.gave_up(reading):
                return Return(outcome=ThreadOutcome.RETURNED, value=reading.from_(failed))
            value = reading.from_(succeeded) if succeeded is not None and self.body(reading) else ()
        else:
            value = self.body(reading)
        if not value:
            return malformed(ViolationKind.MALFORMED_RETURN, reading.end, "ends without a result")
        return Return(outcome=ThreadOutcome.RETURNED, value=value, success=True)

    def says_found(self, reading: Reading) -> bool:
        """Whether the thread's last verdict is success."""
        if not self.tags:
            return bool(self.body(reading))
        verdicts = reading.all(*RESULT_TAGS)
        if not verdicts or verdicts[-1].tag == self._none:
            return False
        following = next((mark for mark in reading.marks if mark.start >= verdicts[-1].stop), None)
        return bool(reading.text(verdicts[-1], following).strip())

    def words(self, solution: str | None, said: Sequence[str] = ()) -> tuple[str, ...]:
        if solution is None and self.config.kind != "tags":
            return (self.nothing,)
        return super().words(solution, said)

    def phrase(self) -> str:
        if self.config.kind == "tags":
            return f"End with {self._found} and your result, or with {self._none} if there is none."
        return super().phrase().replace("final answer", "result")

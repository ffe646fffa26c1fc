"""Splitting of a published text of `outlined_threads` into calls."""

from rollout.protocols.shared.dialects import Dialect
from rollout.protocols.shared.flat_text import SaidCall, TextCursor
from rollout.protocols.shared.tag_text import closing, opening


class OutlinedText:
    """A published text of `outlined_threads` in one dialect, split into its calls."""

    def __init__(self, cursor: TextCursor, dialect: Dialect, depth: int) -> None:
        """`depth`: most levels of nested blocks."""
        self._cursor = cursor
        self._dialect = dialect
        self._depth = depth
        self._calls: list[SaidCall] = []

    def calls(self) -> list[SaidCall]:
        """All calls, parents and children in the order of the text."""
        think = self._dialect.think
        if think is not None and self._cursor.next_is(opening(think)):
            self._cursor.expect(opening(think))
        self._thread(())
        return self._calls

    def _thread(self, path: tuple[int, ...]) -> None:
        dialect, cursor = self._dialect, self._cursor
        outlined, closed = closing(dialect.outlines), closing(dialect.thread)
        ends = (*((outlined,) if len(path) < dialect.depth else ()), *((closed,) if path else ()))
        children = 0
        while True:
            said, end = cursor.until(*ends)
            if end is None and path:
                raise cursor.error(f"thread {list(path)} is not closed by {closed}")
            self._calls.append(SaidCall(path=path, says=said if path or end else cursor.ended(said)))
            if end != outlined:
                return
            if len(path) >= self._depth:
                raise cursor.error(f"blocks nest deeper than {self._depth}, the dialect's or budgets.depth")
            children = self._threads(path, children, said)

    def _threads(self, path: tuple[int, ...], children: int, said: str) -> int:
        """Read the threads of one block and what follows. -> number of children so far."""
        dialect, cursor = self._dialect, self._cursor
        outlines = said.rpartition(opening(dialect.outlines))[2]
        numbers = cursor.indexes_in(outlines, [opening(item) for item in dialect.items])
        if not numbers:
            raise cursor.error("no outline before this has a number")
        for number in numbers:
            cursor.expect(opening(dialect.thread))
            cursor.expect_index(number)
            self._thread((*path, children))
            children += 1
        if cursor.next_is(opening(dialect.thread)):
            raise cursor.error(f"a thread more than the {len(numbers)} outlines")
        if dialect.conclusion is not None:
            cursor.expect(opening(dialect.conclusion))
        cursor.skip(dialect.after)
        return children

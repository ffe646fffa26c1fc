"""Published flat texts as transcripts, and back.

Data sets and papers show a parallel thought as one text, as its last call sees it. `unflatten` splits such a
text into the calls that the protocol would have made; `rollout.transcript.read_transcript` makes the DAG of
them. A flat text does not tell who was cancelled or begun anew, so only episodes without either survive the
way there and back.
"""

import re
from collections.abc import Sequence

from data.episodes.trajectory import Episode
from data.errors import TrajectoryError
from rollout.protocols.outlined_threads import OutlinedThreads
from rollout.protocols.parallel_paths import ParallelPaths, ParallelPathsParams
from rollout.protocols.shared.base import EOS, Encoder, ThinkingProtocol
from rollout.protocols.shared.markup import closing, opening, read_index, spell_index
from rollout.transcript import SaidCall, Transcript, spell


def unflatten(text: str, protocol: ThinkingProtocol, *, prompt: str = "") -> Transcript:
    """The calls of a published text, which begins behind the prompt.

    Raises TrajectoryError, with the place, for text that does not fit the format: a thread that is missing,
    too many, not closed or not in its place. What a model may write wrongly inside a call is left for the
    protocol to judge.
    """
    cursor = _Cursor(text.strip().removesuffix(EOS), protocol.tags_of(protocol.params))
    if isinstance(protocol, OutlinedThreads):
        calls = _Outlined(cursor, protocol).calls()
    elif isinstance(protocol, ParallelPaths):
        calls = _paths(cursor, protocol)
    else:
        raise TrajectoryError(f"flat text: {protocol.name} has no published flat format")
    return Transcript(protocol=protocol.name, prompt=prompt, calls=tuple(calls))


def flatten(episode: Episode, prompt: str, encoder: Encoder) -> str:
    """What the last call of the root saw and said, without the prompt and the end of the sequence.

    Raises TrajectoryError when the episode does not begin with this prompt.
    """
    last = next((call for call in reversed(episode.calls) if call.thread == 0), None)
    if last is None:
        return ""
    text = spell((*episode.context_ids(last), *last.output), encoder)
    if not text.startswith(prompt):
        raise TrajectoryError(f"flat text: episode {episode.id} does not begin with {prompt!r}")
    return text.removeprefix(prompt).removesuffix(EOS).strip()


class _Cursor:
    """A place in the text, which only moves on."""

    def __init__(self, text: str, tags: Sequence[str]) -> None:
        self._text = text
        self._at = 0
        self._tag = re.compile("|".join(map(re.escape, sorted(tags, key=len, reverse=True))))

    def until(self, *tags: str) -> tuple[str, str | None]:
        """The text up to and including the first of these tags; all that is left and None without one."""
        found = (match for match in self._tag.finditer(self._text, self._at) if match.group() in tags)
        match = next(found, None)
        start, self._at = self._at, len(self._text) if match is None else match.end()
        return self._text[start : self._at].strip(), None if match is None else match.group()

    def next_is(self, tag: str) -> bool:
        """Whether this tag comes next, spaces aside."""
        return self._text.startswith(tag, self._past_spaces())

    def expect(self, tag: str) -> None:
        """Moves behind a tag that must come next."""
        if not self.next_is(tag):
            raise self.error(f"{tag} should come next")
        self._at = self._past_spaces() + len(tag)

    def expect_index(self, number: str) -> None:
        """Moves behind a number and its colon that must come next."""
        found = read_index(self._text[self._at :])
        if found is None or spell_index(found[0]) != number:
            raise self.error(f"thread {number}: should come next")
        self._at += found[1]

    def indexes_in(self, said: str, tags: Sequence[str]) -> list[str]:
        """The numbers behind these tags, each once."""
        found = (
            read_index(said[match.end() :]) for match in self._tag.finditer(said) if match.group() in tags
        )
        return list(dict.fromkeys(spell_index(number[0]) for number in found if number is not None))

    def error(self, what: str) -> TrajectoryError:
        at = self._past_spaces()
        line = self._text.count("\n", 0, at) + 1
        column = at - (self._text.rfind("\n", 0, at) + 1) + 1
        rest = self._text[at : at + 40]
        found = f"found {rest!r}" if rest else "the text ends"
        return TrajectoryError(f"flat text, line {line}, column {column}: {what}; {found}")

    def _past_spaces(self) -> int:
        rest = self._text[self._at :]
        return self._at + len(rest) - len(rest.lstrip())


class _Outlined:
    """A text of `outlined_threads`, in the protocol's dialect."""

    def __init__(self, cursor: _Cursor, protocol: OutlinedThreads) -> None:
        self._cursor = cursor
        self._dialect = protocol.dialect
        self._depth = min(protocol.dialect.depth, protocol.params.budgets.depth)
        self._calls: list[SaidCall] = []

    def calls(self) -> list[SaidCall]:
        """All of them, parents and children in the order in which they speak."""
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
            self._calls.append(SaidCall(path=path, says=said if path or end else f"{said} {EOS}".strip()))
            if end != outlined:
                return
            if len(path) >= self._depth:
                raise cursor.error(f"blocks nest deeper than {self._depth}, the dialect's or budgets.depth")
            children = self._threads(path, children, said)

    def _threads(self, path: tuple[int, ...], children: int, said: str) -> int:
        """The threads of one block and the way on; how many children there are now."""
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
        return children


def _paths(cursor: _Cursor, protocol: ParallelPaths) -> list[SaidCall]:
    """A text of `parallel_paths`."""
    params = protocol.params
    assert isinstance(params, ParallelPathsParams)
    fixed = params.width == "fixed"
    calls: list[SaidCall] = []
    children = 0
    while True:
        said, fork = cursor.until("<Parallel>" if fixed else "<Path>")
        calls.append(SaidCall(path=(), says=said if fork else f"{said} {EOS}".strip()))
        if fork is None:
            return calls
        first = children
        while cursor.next_is("<Path>") or (not fixed and children == first):
            if fixed or children > first:
                cursor.expect("<Path>")
            said, closed = cursor.until("</Path>")
            if closed is None:
                raise cursor.error("a path is not closed by </Path>")
            calls.append(SaidCall(path=(children,), says=said))
            children += 1
        if fixed and children - first != params.paths:
            raise cursor.error(f"{children - first} paths before this, where `paths` is {params.paths}")
        cursor.expect("</Parallel>")
        cursor.expect("<Summary>")
        said, closed = cursor.until("</Summary>")
        if closed is None:
            raise cursor.error("a summary is not closed by </Summary>")
        calls.append(SaidCall(path=(), says=said))

"""Where the structural tags of a protocol stand in sampled ids, whether a tag is one token or ordinary text.

A tag that the tokenizer has as one token is found by its id. Any other is text: it is searched for in what
the ids spell, so a tag that is split over tokens is found too, and so is one that shares a token with its
neighbours (`">\\n"`). Nothing is evaluated and nothing is tokenised twice: what stands between two tags is a
reference to the sampled ids; only the rest of a token that a tag takes part of is encoded again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from typing import Protocol as Interface

from data.episodes.trajectory import Call, Forced, Ref, Span, StopReason
from data.text.piece import Piece
from data.text.prompt import Message

_NUMBERED = re.compile(r"\s*([0-9]{1,6})\s*:")
_DOT_OF_INDEX = re.compile(r"(?<=[0-9])\.(?=[0-9][0-9.]*\s*:)")
_MOST_TEXTS = 4096
"""Most encodings that one protocol caches."""

EOS = "<eos>"
"""How readings name the end of a sequence; what a model calls its own token does not matter here."""


class Encoder(Interface):
    """What a protocol needs of a tokenizer (`data.text.codec.Codec` has it)."""

    @property
    def eos(self) -> int:
        """The end of the sequence that demonstrations write."""
        ...

    @property
    def ends(self) -> tuple[int, ...]:
        """Every id that ends a call; `eos` is the first."""
        ...

    @property
    def words_only(self) -> bool:
        """Whether its text is words separated by single spaces, without line breaks and glued colons."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of text that continues another; no structure is found in it, unless it is of words only."""
        ...

    @property
    def opening(self) -> tuple[int, ...]:
        """Ids that a text without a chat template begins with; () for most."""
        ...

    @property
    def has_template(self) -> bool:
        """Whether there is a chat template."""
        ...

    def encode_pieces(self, pieces: Sequence[Piece], *, continues: bool = False) -> tuple[int, ...]:
        """Ids of a whole text, or of one that continues another; structure is matched in pieces that are."""
        ...

    def chat(self, messages: Sequence[Message], arguments: Mapping[str, Any] | None = None) -> list[Piece]:
        """The chat template over a conversation; contents of messages are text, its own words structure."""
        ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """[T] what each id adds to the text."""
        ...

    def tag(self, tag: str) -> int | None:
        """The id of a tag that is one token; None when it is ordinary text."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Stops:
    """Stops of a call: token ids, and strings for tags that are ordinary text."""

    ids: tuple[int, ...]
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A tag in an output: ids `start:stop` hold it, with `head` before and `tail` behind it in the same
    tokens.
    """

    tag: str
    start: int
    stop: int
    head: str = ""
    tail: str = ""


class Tags:
    """The tags of one protocol in one tokenizer."""

    def __init__(self, names: Sequence[str], encoder: Encoder) -> None:
        self._encoder = encoder
        self._ids = {name: encoder.tag(name) for name in names}
        self._names = {index: name for name, index in self._ids.items() if index is not None}
        self._names.update(dict.fromkeys(encoder.ends, EOS))
        self._pattern = _any_of([name for name, index in self._ids.items() if index is None])
        self._singles = _any_of([name for name, index in self._ids.items() if index is not None])
        # Not functools.lru_cache: a protocol is sent to other processes, and that cannot be pickled.
        self._written: dict[str, tuple[int, ...]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._ids

    def ids(self, name: str) -> tuple[int, ...]:
        """A tag as forced ids. KeyError for one that the protocol did not declare."""
        index = self._ids[name]
        return (index,) if index is not None else self._encoder.encode(name)

    def write(self, text: str) -> tuple[int, ...]:
        """Ids of text with tags in it. For a tokenizer of words, line breaks become spaces, and a colon and
        the dots of a number in front of it ("1.2:") stand alone.
        """
        # Protocols force the same few texts in every call.
        ids = self._written.get(text)
        if ids is None:
            if len(self._written) >= _MOST_TEXTS:
                self._written.clear()
            ids = self._written[text] = self._write(text)
        return ids

    def _write(self, text: str) -> tuple[int, ...]:
        if self._encoder.words_only and (":" in text or "\n" in text):
            text = " ".join(_DOT_OF_INDEX.sub(" . ", text).replace(":", " : ").split())
        if self._singles is None:
            return self._encoder.encode(text)
        ids: list[int] = []
        for piece in self._singles.split(text):
            if piece in self._ids:
                ids += self.ids(piece)
            elif piece and not (self._encoder.words_only and piece.isspace()):
                ids += self._encoder.encode(piece.strip() if self._encoder.words_only else piece)
        return tuple(ids)

    def stops(self, *names: str) -> Stops:
        """The end of the sequence, and these tags."""
        ids = (self._ids[name] for name in names)
        texts = tuple(name for name in names if self._ids[name] is None)
        return Stops(ids=(*self._encoder.ends, *(index for index in ids if index is not None)), texts=texts)

    def read(self, call: Call) -> "Reading":
        """A finished call with its tags found."""
        return Reading(call=call, marks=self.marks(call.output), encoder=self._encoder)

    def marks(self, output: Sequence[int]) -> tuple[Mark, ...]:
        """All tags in order, the end of the sequence included."""
        found = [
            Mark(tag=self._names[token], start=position, stop=position + 1)
            for position, token in enumerate(output)
            if token in self._names
        ]
        if self._pattern is not None:
            found += self._text_marks(self._pattern, output)
            found.sort(key=lambda mark: (mark.start, mark.stop))
        return tuple(found)

    def _text_marks(self, pattern: "re.Pattern[str]", output: Sequence[int]) -> list[Mark]:
        pieces = self._encoder.pieces(output)
        ends: list[int] = []
        for piece in pieces:
            ends.append((ends[-1] if ends else 0) + len(piece))
        marks: list[Mark] = []
        start = 0
        text = "".join(pieces)
        for match in pattern.finditer(text):
            while ends[start] <= match.start():
                start += 1
            stop = start
            while ends[stop] < match.end():
                stop += 1
            head = text[ends[start] - len(pieces[start]) : match.start()]
            tail = text[match.end() : ends[stop]]
            marks.append(Mark(tag=match.group(), start=start, stop=stop + 1, head=head, tail=tail))
        return marks


def _any_of(names: Sequence[str]) -> "re.Pattern[str] | None":
    """Matches any of them, the longest where several begin; a group, so that `split` keeps them."""
    if not names:
        return None
    return re.compile(f"({'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One call's output and the tags in it."""

    call: Call
    marks: tuple[Mark, ...]
    encoder: Encoder

    @property
    def size(self) -> int:
        """[T] ids of the output."""
        return len(self.call.output)

    @property
    def ending(self) -> str | None:
        """The tag that ended the call (EOS for the end of the sequence); None when it was cut off."""
        if self.call.stop is not StopReason.STOP or not self.marks:
            return None
        return self.marks[-1].tag if self.marks[-1].stop == self.size else None

    @property
    def end(self) -> int:
        """Where the text ends: before the end of the sequence, if that was sampled."""
        return self.size - 1 if self.ending == EOS else self.size

    def all(self, *tags: str) -> tuple[Mark, ...]:
        """Marks of these tags, in order."""
        return tuple(mark for mark in self.marks if mark.tag in tags)

    def last(self, tag: str) -> Mark | None:
        """The last mark of a tag, or None."""
        return next((mark for mark in reversed(self.marks) if mark.tag == tag), None)

    def before(self, mark: Mark) -> tuple[Span, ...]:
        """Everything in front of a tag."""
        return self.between(None, mark)

    def after(self, mark: Mark) -> tuple[Span, ...]:
        """Everything behind a tag, without the end of the sequence."""
        return self.between(mark, None)

    def from_(self, mark: Mark) -> tuple[Span, ...]:
        """A tag and everything behind it, without the end of the sequence."""
        return self._ref(mark.start, self.end)

    def whole(self) -> tuple[Span, ...]:
        """The output without the end of the sequence."""
        return self._ref(0, self.end)

    def between(self, left: Mark | None, right: Mark | None) -> tuple[Span, ...]:
        """Text between two tags (None: the beginning, the end) as spans; () when it is empty.

        A token that a tag shares with its neighbour cannot be referred to in part: that part is encoded
        again.
        """
        start = 0 if left is None else left.stop
        stop = self.end if right is None else right.start
        if left is not None and right is not None and start > stop:
            # Both tags in one token.
            return self._encoded(self.text(left, right))
        return (
            *self._encoded("" if left is None else left.tail),
            *self._ref(start, stop),
            *self._encoded("" if right is None else right.head),
        )

    def text(self, left: Mark | None, right: Mark | None) -> str:
        """The text between two tags."""
        return "".join(piece for piece, _ in self._pieces(left, right))

    def tokens_before(self, stop: int) -> int:
        """Number of leading ids that spell nothing behind the first `stop` characters of the text."""
        end = 0
        for place, piece in enumerate(self._texts[: self.end]):
            end += len(piece)
            if end > stop:
                return place
        return self.end

    def cut(self, left: Mark | None, start: int, stop: int) -> tuple[Span, ...]:
        """Characters `start:stop` of the text behind a tag, as spans.

        A token that reaches beyond them by white space alone is taken whole; the rest of any other torn token
        is encoded again.
        """
        spans: list[Span] = []
        first: int | None = None
        end = 0
        waiting: int | None = None
        """Where ids stand that begin a character which a later id ends."""
        for piece, place in self._pieces(left, None):
            begin, end = end, end + len(piece)
            if not piece and place is not None:
                waiting = place if waiting is None else waiting
                continue
            inner = piece[max(start - begin, 0) : max(stop - begin, 0)]
            inside = begin >= start and end <= stop
            whole = place is not None and (inside or inner.strip() == piece.strip() != "")
            if whole and first is None:
                first = place if waiting is None else waiting
            if not whole or end >= stop:
                if first is not None and place is not None:
                    spans += self._ref(first, place + 1 if whole else place if waiting is None else waiting)
                    first = None
                if not whole:
                    spans += self._encoded(inner)
            waiting = None
            if end >= stop:
                break
        return tuple(spans)

    def numbered(self, left: Mark | None, right: Mark | None) -> tuple[str | None, tuple[Span, ...]]:
        """Read `i : WORDS` between two tags. -> (index, normalised, or None; the words)."""
        pieces = self._pieces(left, right)
        match = _NUMBERED.match("".join(piece for piece, _ in pieces))
        if match is None:
            return None, self.between(left, right)
        taken = match.end()
        while pieces and taken >= len(pieces[0][0]):
            taken -= len(pieces.pop(0)[0])
        torn = pieces.pop(0)[0][taken:] if taken else ""
        places = [place for _, place in pieces if place is not None]
        words = self._ref(places[0], places[-1] + 1) if places else ()
        shared = "".join(piece for piece, place in pieces if place is None)
        return str(int(match[1])), (*self._encoded(torn), *words, *self._encoded(shared))

    def _pieces(self, left: Mark | None, right: Mark | None) -> list[tuple[str, int | None]]:
        """Texts between two tags, each with the position of its id; None for a part of an id."""
        start = 0 if left is None else left.stop
        stop = self.end if right is None else right.start
        pieces = self._texts
        if left is not None and right is not None and start > stop:
            piece = pieces[right.start]
            return [(piece[len(piece) - len(left.tail) : len(right.head)], None)]
        inner = zip(pieces[start:stop], range(start, stop), strict=True)
        return [
            ("" if left is None else left.tail, None),
            *inner,
            ("" if right is None else right.head, None),
        ]

    @cached_property
    def _texts(self) -> list[str]:
        """[T] of the whole output: what an id adds to the text depends on those in front of it."""
        return self.encoder.pieces(self.call.output)

    def _ref(self, start: int, stop: int) -> tuple[Span, ...]:
        return (Ref(call=self.call.index, start=start, stop=stop),) if start < stop else ()

    def _encoded(self, text: str) -> tuple[Span, ...]:
        # A sign for broken bytes stands for an earlier id, which is referred to: it is not written again.
        text = text.replace("\ufffd", "")
        return (Forced(ids=self.encoder.encode(text)),) if text.strip() else ()


def length(spans: Sequence[Span]) -> int:
    """Token ids that spans stand for."""
    return sum(len(span) for span in spans)

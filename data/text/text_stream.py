"""Text of ids that arrive bit by bit: what each adds. All additions together are the text of all ids."""

import codecs
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol


class TextStream(Protocol):
    """The text of one call while it is sampled."""

    def push(self, ids: Sequence[int], *, last: bool = False) -> str:
        """Text that new ids add. A character of several ids comes with the last of them; `last`: no more ids
        follow, so that an incomplete one becomes a replacement sign.
        """
        ...


class ByteStream:
    """A stream of ids that are bytes of UTF-8."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, ids: Sequence[int], *, last: bool = False) -> str:
        """Text that new ids add."""
        return self._decoder.decode(b"".join(map(self._bytes, ids)), last)


class WordStream:
    """A stream of ids that are words with single spaces between them, some of them tags."""

    def __init__(self, tags: Mapping[int, str], decode_run: Callable[[list[int]], str]) -> None:
        """`tags`: ids that stand for themselves; `decode_run`: the text of ids that are none of these."""
        self._tags, self._decode_run = tags, decode_run
        self._run: list[int] = []
        self._told = ""
        """Text of the run that has been told."""
        self._begun = False

    def push(self, ids: Sequence[int], *, last: bool = False) -> str:
        """Text that new ids add."""
        added = []
        for index in ids:
            apart = " " if self._begun and (index in self._tags or not self._run) else ""
            if index in self._tags:
                self._run, self._told = [], ""
                added.append(apart + self._tags[index])
            else:
                self._run.append(index)
                text = self._decode_run(self._run)
                added.append(apart + text[len(self._told) :])
                self._told = text
            self._begun = True
        return "".join(added)

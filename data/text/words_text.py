"""Text of a tokenizer of whole words: words separated by single spaces.

For such text
    decode(encode(a)) == a           and           decode(encode(a) + encode(b)) == a + " " + b
so pieces may be encoded separately and concatenated as ids.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from data.errors import ConfigError
from data.text.structure import Structure
from data.text.text_stream import WordStream


class WordsText:
    """Ids of words and back."""

    def __init__(self, tokenizer: Any, structure: Structure, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name
        self._anchor: list[int] = tokenizer.encode("1", add_special_tokens=False)[-1:]
        self._pieces: dict[int, str] = {}
        self._strips = {
            index: structure.texts[index] for index, (left, _) in structure.strips.items() if left
        }
        """Tokens that swallow the space before them (ours do): decoding must put it back."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of words. Raises ConfigError for a word that the vocabulary lacks."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        if self._tokenizer.unk_token_id is not None and self._tokenizer.unk_token_id in ids:
            unknown = [word for word in text.split() if self._is_unknown(word)] or [text]
            raise ConfigError(
                f"{self._name}: has no token for {unknown[0]!r} (in {text[:80]!r}); build the tokenizer with "
                "all words and numbers of its task and protocols"
            )
        return tuple(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Words with single spaces between them."""
        pieces: list[str] = []
        for strips, run in groupby(ids, key=self._strips.__contains__):
            run_ids = list(run)
            if strips:
                pieces += [self._strips[index] for index in run_ids]
            else:
                pieces.append(self._decode_run(run_ids))
        return " ".join(pieces)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """[T] what each id adds to the text, its space included."""
        for index in set(ids) - self._pieces.keys():
            # Decoded after an anchor token: alone, the space that a token begins with is dropped.
            both = self._decode_run([*self._anchor, index])
            self._pieces[index] = both.removeprefix(self._decode_run(self._anchor))
        return [self._pieces[index] for index in ids]

    def stream(self) -> WordStream:
        """The text of ids that arrive bit by bit."""
        return WordStream(self._strips, self._decode_run)

    def token(self, word: str) -> int | None:
        """The id of a word that is one token; None for any other."""
        ids = self._tokenizer.encode(word, add_special_tokens=False) if word else []
        return int(ids[0]) if len(ids) == 1 and ids[0] != self._tokenizer.unk_token_id else None

    def _decode_run(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _is_unknown(self, word: str) -> bool:
        return self._tokenizer.unk_token_id in self._tokenizer.encode(word, add_special_tokens=False)

"""Tokenizers: built from a task's words, or of a pretrained model, with `Codec` as the interface to both.

All text of tasks and protocols is words separated by single spaces. For such text, with any tokenizer,
`Codec` promises
    decode(encode(a)) == a           and           decode(encode(a) + encode(b)) == a + " " + b
so pieces may be encoded separately and concatenated as ids.
"""

import json
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from data.errors import ConfigError, TrajectoryError

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
_SPACE = "▁"
"""How Metaspace writes the space in front of a word."""
_MULTIPLE = 64
"""Vocabularies are padded to a multiple of this: matrix sizes that every kernel likes."""


def build_tokenizer(words: Sequence[str], *, numbers: int, digits: bool) -> Any:
    """A word-level tokenizer for a model trained from random weights.

    Args:
        words: the task's words and the protocols' tags; each becomes one token (repeats are dropped).
        numbers: largest number that must have a token: "1".."numbers" become tokens. Ignored with `digits`.
        digits: write numbers digit by digit instead: ten tokens for a first digit, ten for a later one.

    Returns:
        A transformers.PreTrainedTokenizerFast, which `save_pretrained` and `AutoTokenizer` round-trip. Ids:
        0 `<pad>`, 1 `<eos>`, 2 `<unk>`, then numbers, words, and reserved ones up to a multiple of 64.

    Raises:
        ConfigError: a word that cannot be one token (empty, spaced, or taken for a number).
    """
    from transformers import PreTrainedTokenizerFast

    if digits:
        numerals = [*(f"{_SPACE}{digit}" for digit in range(10)), *map(str, range(10))]
    else:
        numerals = [f"{_SPACE}{number}" for number in range(1, numbers + 1)]
    tokens = [PAD, EOS, UNKNOWN, *numerals]
    for word in dict.fromkeys(words):
        _require_word(word, digits)
        if _SPACE + word in numerals or word in tokens:
            raise ConfigError(f"tokenizer: the word {word!r} is a token already; rename it")
        tokens.append(_SPACE + word)
    tokens += [f"{_SPACE}<reserved{index}>" for index in range(-len(tokens) % _MULTIPLE)]

    vocabulary = {token: index for index, token in enumerate(tokens)}
    assert len(vocabulary) == len(tokens), "tokens are distinct"
    core = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token=UNKNOWN))
    split_words = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    if digits:
        # A first digit keeps its space, "▁3" "7"; pre_tokenizers.Digits would spend a token on the space.
        one_digit = pre_tokenizers.Split(Regex(f"{_SPACE}?[0-9]"), behavior="isolated")
        core.pre_tokenizer = pre_tokenizers.Sequence([split_words, one_digit])
    else:
        core.pre_tokenizer = split_words
    # The three special tokens are stored without the space that every other word carries.
    spaced = [decoders.Replace(special, _SPACE + special) for special in (PAD, EOS, UNKNOWN)]
    core.decoder = decoders.Sequence(
        [*spaced, decoders.Metaspace(replacement=_SPACE, prepend_scheme="always")]
    )
    core.add_special_tokens([AddedToken(text, lstrip=True, normalized=False) for text in (PAD, EOS, UNKNOWN)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def add_structural_tokens(tokenizer: Any, tags: Sequence[str]) -> int:
    """Add each tag as one token to a pretrained tokenizer, in place.

    Returns:
        How many were new: when not 0, the model's embedding needs rows for them (`resize_token_embeddings`).
    """
    known = tokenizer.get_added_vocab()
    size = len(tokenizer)
    for tag in tags:
        if tag not in known and not _is_one_word(tokenizer, tag):
            # Tags that are words match whole words only, so that "join" leaves "joined" alone.
            whole = tag.isalnum()
            tokenizer.add_tokens(AddedToken(tag, lstrip=True, single_word=whole, normalized=False))
    return len(tokenizer) - size


def _is_one_word(tokenizer: Any, tag: str) -> bool:
    """Whether a plain vocabulary entry will do, as in a tokenizer of `build_tokenizer`, whose model has
    learned it: not one such as "|", which is another token when a space precedes it.
    """
    bare, spaced = (tokenizer.encode(text, add_special_tokens=False) for text in (tag, f" {tag}"))
    return len(bare) == 1 and bare == spaced and bare[0] != tokenizer.unk_token_id


def load_codec(path: str | os.PathLike[str]) -> "Codec":
    """The codec of a saved model or tokenizer directory (or a hub name). Code in the repository is never run.

    Raises:
        ConfigError: there is no tokenizer there.
    """
    try:
        if _is_plain(Path(path)):
            from transformers import PreTrainedTokenizerFast

            tokenizer = PreTrainedTokenizerFast.from_pretrained(os.fspath(path))
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(os.fspath(path), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: holds no tokenizer that transformers can load ({error}); name a directory with "
            "tokenizer.json and tokenizer_config.json"
        ) from error
    return Codec(tokenizer)


def _is_plain(path: Path) -> bool:
    """Whether the directory asks for no tokenizer class of its own. `AutoTokenizer` would find the same one,
    but imports torch first: seconds, for processes that need nothing else of it.
    """
    try:
        config = json.loads((path / "tokenizer_config.json").read_text())
    except (OSError, ValueError):
        return False
    return config.get("tokenizer_class") == "TokenizersBackend" and (path / "tokenizer.json").is_file()


class Codec:
    """Text to ids and back, exactly; the module docstring has the guarantees."""

    def __init__(self, tokenizer: Any) -> None:
        """Wraps a transformers tokenizer.

        Raises:
            ConfigError: it has no end-of-sequence token.
        """
        self.tokenizer = tokenizer
        self.name = str(getattr(tokenizer, "name_or_path", "") or "tokenizer")
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                f"{self.name}: has no end-of-sequence token; set eos_token in tokenizer_config.json"
            )
        self.eos = int(tokenizer.eos_token_id)
        self.pad = int(tokenizer.pad_token_id) if tokenizer.pad_token_id is not None else self.eos
        self.size = len(tokenizer)
        """Number of ids; a model's embedding may be larger, never smaller."""
        # Most pretrained tokenizers glue pieces together ("1" "1" -> "11"): then each gets a space in front.
        probe = tokenizer.encode("1", add_special_tokens=False)
        self._space = "" if " " in tokenizer.decode([*probe, *probe]).strip() else " "
        self.words_only = not self._space
        """Whether text is words separated by single spaces, as in a tokenizer of `build_tokenizer`."""
        self._anchor: list[int] = probe[-1:]
        self._pieces: dict[int, str] = {}
        self._tags: dict[str, int | None] = {}
        added = tokenizer.added_tokens_decoder.items()
        self._strips = {int(index): str(token.content) for index, token in added if token.lstrip}
        """Tokens that swallow the space before them (ours do): decoding must put it back."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a piece of text; no special tokens are added.

        Raises:
            ConfigError: the vocabulary lacks a word, which is named. Never `<unk>` in silence.
        """
        if not text:
            return ()
        ids: list[int] = self.tokenizer.encode(self._space + text, add_special_tokens=False)
        if self.tokenizer.unk_token_id is not None and self.tokenizer.unk_token_id in ids:
            unknown = [word for word in text.split() if self._is_unknown(word)] or [text]
            raise ConfigError(
                f"{self.name}: has no token for {unknown[0]!r} (in {text[:80]!r}); build the tokenizer with "
                "all words and numbers of its task and protocols"
            )
        return tuple(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text that ids stand for, special tokens included.

        Raises:
            TrajectoryError: an id outside the vocabulary (models may have more rows than tokens).
        """
        wrong = next((index for index in ids if not 0 <= index < self.size), None)
        if wrong is not None:
            raise TrajectoryError(f"{self.name}: id {wrong} is not in the vocabulary of {self.size} tokens")
        pieces: list[str] = []
        for strips, run in groupby(ids, key=self._strips.__contains__):
            run_ids = list(run)
            if strips:
                pieces += [self._space + self._strips[index] for index in run_ids]
            else:
                pieces.append(self._decode_run(run_ids))
        # Pieces carry their own leading space, or the tokenizer removed it from each.
        return "".join(pieces).removeprefix(" ") if self._space else " ".join(pieces)

    def token(self, tag: str) -> int:
        """The id of a tag that controls a protocol.

        Raises:
            ConfigError: the tag is not exactly one token.
        """
        added: dict[str, int] = self.tokenizer.get_added_vocab()
        if tag in added:
            return int(added[tag])
        ids = self.tokenizer.encode(self._space + tag, add_special_tokens=False) if tag else []
        if len(ids) != 1 or ids[0] == self.tokenizer.unk_token_id:
            found = f"{len(ids)} tokens" if len(ids) != 1 else "unknown"
            raise ConfigError(
                f"{self.name}: the structural tag {tag!r} is {found} here, but an engine can only stop on "
                "one token; add it (`model.tags: add`) or start from a model that has it"
            )
        return int(ids[0])

    def tag(self, tag: str) -> int | None:
        """The id of a tag that is one token; None when it is ordinary text here."""
        if tag not in self._tags:
            try:
                self._tags[tag] = self.token(tag)
            except ConfigError:
                self._tags[tag] = None
        return self._tags[tag]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """[T] what each id adds to the text; a part of a character is a replacement sign."""
        for index in set(ids) - self._pieces.keys():
            # Decoded after an anchor token: alone, some tokenizers drop the space that a token begins with.
            both = self._decode_run([*self._anchor, index])
            self._pieces[index] = both.removeprefix(self._decode_run(self._anchor))
        return [self._pieces[index] for index in ids]

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes a normal Hugging Face tokenizer; `load_codec` and AutoTokenizer read it."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(os.fspath(directory))

    def _decode_run(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _is_unknown(self, word: str) -> bool:
        return self.tokenizer.unk_token_id in self.tokenizer.encode(
            self._space + word, add_special_tokens=False
        )


def _require_word(word: str, digits: bool) -> None:
    if not word or word.split() != [word] or _SPACE in word:
        raise ConfigError(f"tokenizer: {word!r} cannot be one token: words are not empty and hold no spaces")
    if digits and any(character in "0123456789" for character in word):
        raise ConfigError(
            f"tokenizer: the word {word!r} holds a digit, and digits are tokens here; rename it"
        )

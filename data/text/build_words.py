"""A word-level tokenizer for models trained from random weights: built from the words of a task."""

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from data.errors import ConfigError

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


def _require_word(word: str, digits: bool) -> None:
    if not word or word.split() != [word] or _SPACE in word:
        raise ConfigError(f"tokenizer: {word!r} cannot be one token: words are not empty and hold no spaces")
    if digits and any(character in "0123456789" for character in word):
        raise ConfigError(
            f"tokenizer: the word {word!r} holds a digit, and digits are tokens here; rename it"
        )

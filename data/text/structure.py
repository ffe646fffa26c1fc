"""Structure of a tokenizer: tokens that are no text, such as `<|im_end|>` and the tags of a protocol.

Every added token is structure, special or not (Qwen's `<think>` is not special), but for runs of white space,
which some tokenizers keep as added tokens to write indented code in fewer ids.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, models

from data.errors import ConfigError

SPACE = "▁"
"""How SentencePiece writes a space."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """The structural tokens of one tokenizer."""

    texts: Mapping[int, str]
    """id -> its text."""
    ids: Mapping[str, int]
    """text -> its id."""
    strips: Mapping[int, tuple[bool, bool]]
    """ids that swallow white space: (before them, behind them)."""
    pattern: "re.Pattern[str] | None"
    """Matches any of them, the longest where several begin; None when there is none."""


def is_white(content: str) -> bool:
    """Whether an added token is a run of white space, thus text."""
    return not content.replace(SPACE, " ").strip()


def structure_of(tokenizer: Any) -> Structure:
    """The structural tokens of a transformers tokenizer."""
    added = {int(index): token for index, token in tokenizer.added_tokens_decoder.items()}
    found = {index: token for index, token in added.items() if not is_white(str(token.content))}
    texts = {index: str(token.content) for index, token in found.items()}
    strips = {
        index: (bool(token.lstrip), bool(token.rstrip))
        for index, token in found.items()
        if token.lstrip or token.rstrip
    }
    patterns = [_pattern(token) for token in sorted(found.values(), key=lambda token: -len(token.content))]
    return Structure(
        texts=texts,
        ids={text: index for index, text in texts.items()},
        strips=strips,
        pattern=re.compile("|".join(patterns)) if patterns else None,
    )


def _pattern(token: Any) -> str:
    escaped = re.escape(str(token.content))
    return rf"(?<!\w){escaped}(?!\w)" if token.single_word else escaped


def is_words_only(tokenizer: Any) -> bool:
    """Whether the tokenizer knows whole words only, as one of `build_tokenizer` does."""
    return isinstance(tokenizer.backend_tokenizer.model, models.WordLevel)


def add_structural_tokens(tokenizer: Any, tags: Sequence[str]) -> int:
    """Add each tag as one token, in place. For a pretrained tokenizer the token is the tag and nothing else:
    spaces around it stay text.

    Returns:
        How many were new: when not 0, the model needs embedding rows for them (spare ones are taken first).

    Raises:
        ConfigError: a tag that is ordinary text of one character, or the same token as another tag.
    """
    tags = list(dict.fromkeys(tags))
    size = len(tokenizer)
    known = tokenizer.get_added_vocab()
    words = is_words_only(tokenizer)
    for tag in tags:
        if tag in known or (words and _is_one_word(tokenizer, tag)):
            continue
        if not words and len(tag) < 2:
            raise ConfigError(
                f"the tag {tag!r} is ordinary text of the tokenizer, so it cannot be a token of its own\n"
                "  fix: set model.tags: text"
            )
        # Tags that are words match whole words only, so that "join" leaves "joined" alone.
        token = AddedToken(tag, lstrip=words, single_word=tag.isalnum(), normalized=False)
        tokenizer.add_tokens(token)
    if not words:
        _require_distinct(tokenizer, tags)
    return len(tokenizer) - size


def _require_distinct(tokenizer: Any, tags: Sequence[str]) -> None:
    added: dict[str, int] = tokenizer.get_added_vocab()
    owners: dict[int, str] = {}
    for tag in tags:
        other = owners.setdefault(added[tag], tag)
        if other != tag:
            raise ConfigError(f"the tags {other!r} and {tag!r} are one token here; rename one of them")


def _is_one_word(tokenizer: Any, tag: str) -> bool:
    """Whether a plain vocabulary entry will do: the model has learned it."""
    ids = tokenizer.encode(tag, add_special_tokens=False)
    return len(ids) == 1 and ids[0] != tokenizer.unk_token_id

"""The codec of a model: text to ids and back, with the tokenizer's structure and its chat template.

A tokenizer of whole words (`data.text.build_words`) has words with single spaces (`data.text.words_text`);
any other has exact text (`data.text.exact_text`).
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import ConfigError, TrajectoryError
from data.text.chat import has_template, prefix_preserving, render_chat
from data.text.exact_text import ExactText
from data.text.piece import Piece
from data.text.prompt import Message
from data.text.structure import is_words_only, structure_of
from data.text.text_stream import TextStream
from data.text.words_text import WordsText
from data.whole_file import write_json

GENERATION_CONFIG = "generation_config.json"


class Codec:
    """Text to ids and back."""

    def __init__(self, tokenizer: Any, ends: Sequence[int] = ()) -> None:
        """Wraps a transformers tokenizer. `ends`: ids that end a call besides its end-of-sequence token.

        Raises:
            ConfigError: it has no end-of-sequence token, an end is no token, or its ids do not keep text.
        """
        self.tokenizer = tokenizer
        self.name = str(getattr(tokenizer, "name_or_path", "") or "tokenizer")
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                f"{self.name}: has no end-of-sequence token; set eos_token in tokenizer_config.json"
            )
        self.eos = int(tokenizer.eos_token_id)
        """The end that demonstrations write."""
        self.ends = tuple(dict.fromkeys((self.eos, *ends)))
        """Every id that ends a call; `eos` is the first."""
        self.pad = int(tokenizer.pad_token_id) if tokenizer.pad_token_id is not None else self.eos
        added = [int(index) for index in tokenizer.added_tokens_decoder]
        self.size = max([len(tokenizer), *(index + 1 for index in added)])
        """Number of ids; a model's embedding may be larger, never smaller."""
        wrong = next((end for end in self.ends if not 0 <= end < self.size), None)
        if wrong is not None:
            raise ConfigError(
                f"{self.name}: {GENERATION_CONFIG} has eos_token_id {wrong}, but the tokenizer has "
                f"{self.size} ids\n  fix: correct {GENERATION_CONFIG}, or take the tokenizer of this model"
            )
        self._structure = structure_of(tokenizer)
        self.words_only = is_words_only(tokenizer)
        """Whether text is words separated by single spaces, as in a tokenizer of `build_tokenizer`."""
        kind = WordsText if self.words_only else ExactText
        self._text = kind(tokenizer, self._structure, self.name)

    @property
    def opening(self) -> tuple[int, ...]:
        """The ids that the tokenizer itself puts in front of a text (Llama's begin-of-text); () for most. A
        chat template writes its own.
        """
        bare: list[int] = self.tokenizer.encode("", add_special_tokens=True)
        return tuple(index for index in bare if index != self.eos or index == self.tokenizer.bos_token_id)

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return has_template(self.tokenizer)

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a piece of text that continues another; a pretrained tokenizer finds no structure in it.

        Raises:
            ConfigError: the vocabulary lacks a word or character, which is named. Never `<unk>` in silence.
        """
        return self._text.encode(text) if text else ()

    def encode_pieces(self, pieces: Sequence[Piece], *, continues: bool = False) -> tuple[int, ...]:
        """Ids of a whole text, as the tokenizer itself gives them; structure is matched in those pieces only
        that are structure. `continues`: the text follows another one.

        Raises:
            ConfigError: as `encode`; or the text begins with two begin-of-sequence tokens.
        """
        if isinstance(self._text, WordsText):
            return tuple(index for piece in pieces for index in self.encode(piece.text.strip()))
        text, allowed = "", list[tuple[int, int]]()
        for piece in pieces:
            start, text = len(text), text + piece.text
            if piece.structure and allowed and allowed[-1][1] == start:
                allowed[-1] = (allowed[-1][0], len(text))
            elif piece.structure:
                allowed.append((start, len(text)))
        ids = self._text.encode_joined(text, allowed, continues=continues)
        begin = self.tokenizer.bos_token_id
        if begin is not None and ids[:2] == (begin, begin):
            raise ConfigError(
                f"{self.name}: the text begins with {self.tokenizer.bos_token} twice ({text[:80]!r})\n"
                "  fix: take it out of the chat template or of what stands before the first message"
            )
        return ids

    def keeps_turns(self, arguments: Mapping[str, Any] | None = None) -> bool:
        """Whether the chat template leaves earlier turns of the assistant as they were sampled; see
        `data.text.chat.prefix_preserving`.
        """
        return prefix_preserving(self.tokenizer, self.name, arguments or {})

    def chat(self, messages: Sequence[Message], arguments: Mapping[str, Any] | None = None) -> list[Piece]:
        """The tokenizer's chat template over a conversation, up to where the assistant speaks; contents of
        messages are text, the template's own words structure.

        Raises:
            ConfigError: there is no template, it refuses the conversation, or it changes a message.
        """
        return render_chat(self.tokenizer, self.name, messages, arguments or {})

    def decode(self, ids: Sequence[int]) -> str:
        """The text that ids stand for, special tokens included.

        Raises:
            TrajectoryError: an id outside the vocabulary (models may have more rows than tokens).
        """
        wrong = next((index for index in ids if not 0 <= index < self.size), None)
        if wrong is not None:
            raise TrajectoryError(f"{self.name}: id {wrong} is not in the vocabulary of {self.size} tokens")
        return self._text.decode(ids)

    def token(self, tag: str) -> int:
        """The id of a tag that controls a protocol.

        Raises:
            ConfigError: the tag is not exactly one token.
        """
        index = self.tag(tag)
        if index is None:
            raise ConfigError(
                f"{self.name}: the structural tag {tag!r} is not one token here, but an engine can only stop "
                "on one token; add it (`model.tags: add`) or start from a model that has it"
            )
        return index

    def tag(self, tag: str) -> int | None:
        """The id of a tag that is one token; None when it is ordinary text here."""
        index = self._structure.ids.get(tag)
        if index is None and isinstance(self._text, WordsText):
            return self._text.token(tag)
        return index

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """[T] what each id adds to the text; "" for an id that begins a character which a later one ends."""
        return self._text.pieces(ids)

    def stream(self) -> TextStream:
        """The text of ids that arrive bit by bit; all of it together is what `decode` gives."""
        return self._text.stream()

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes a normal Hugging Face tokenizer; `load_codec` and AutoTokenizer read it."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(os.fspath(folder))
        if len(self.ends) > 1 and not (folder / GENERATION_CONFIG).exists():
            write_json(folder / GENERATION_CONFIG, {"eos_token_id": list(self.ends)})


def load_codec(path: str | os.PathLike[str]) -> Codec:
    """The codec of a saved model or tokenizer directory (or a hub name). Code in the repository is never run.

    Raises:
        ConfigError: there is no tokenizer there, or none that keeps text.
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
    return Codec(tokenizer, model_ends(Path(path)))


def model_ends(directory: Path) -> tuple[int, ...]:
    """The ids of `eos_token_id` in a model's generation_config.json, which may be one or a list.

    Raises ConfigError for anything else.
    """
    file = directory / GENERATION_CONFIG
    if not file.is_file():
        return ()
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})\n  fix: copy the model again") from error
    ends = found if isinstance(found, list) else [] if found is None else [found]
    if not all(isinstance(end, int) and not isinstance(end, bool) for end in ends):
        raise ConfigError(
            f"{file}: eos_token_id is {found!r}\n  fix: write a token id, or a list of token ids"
        )
    return tuple(ends)


def _is_plain(path: Path) -> bool:
    """Whether the directory asks for no tokenizer class of its own. `AutoTokenizer` would find the same one,
    but imports torch first: seconds, for processes that need nothing else of it.
    """
    try:
        config = json.loads((path / "tokenizer_config.json").read_text())
    except (OSError, ValueError):
        return False
    return config.get("tokenizer_class") == "TokenizersBackend" and (path / "tokenizer.json").is_file()
